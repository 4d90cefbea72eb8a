import re

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse(text):
    """Returns the seconds of a duration such as 90s, 5m or 2h."""
    match = re.fullmatch(r"(\d+)([smh])", text)
    if not match:
        raise ValueError("invalid duration: %r" % text)
    return int(match.group(1)) * UNITS[match.group(2)]
