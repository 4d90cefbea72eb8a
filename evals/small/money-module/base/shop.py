"""A shop: prices, discounts and invoices."""


def to_cents(text):
    """Reads an amount such as 12.50."""
    whole, _, part = text.partition(".")
    if not whole.isdigit() or len(part) > 2 or (part and not part.isdigit()):
        raise ValueError("invalid amount: %r" % text)
    return int(whole) * 100 + int(part.ljust(2, "0") or 0)


def to_text(cents):
    """Writes an amount such as 12.50."""
    return "%d.%02d" % divmod(cents, 100)


def discounted(cents, percent):
    """Subtracts a discount, rounded in the customer's favour."""
    return cents - -(-cents * percent // 100)


class Invoice:
    """Lines with an amount each."""

    def __init__(self):
        self.lines = []

    def add(self, name, amount, percent=0):
        self.lines.append((name, discounted(to_cents(amount), percent)))

    def total(self):
        return to_text(sum(cents for _, cents in self.lines))
