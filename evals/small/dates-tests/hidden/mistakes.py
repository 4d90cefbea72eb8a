# skep-canary 59c84103-1b78-57f9-ad0b-221bf024807e
"""Runs the project's tests against the correct module and against modules with one mistake each."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
MISTAKES = [
    ("year % 100 != 0 or ", ""),
    (" or year % 400 == 0", ""),
    ("(4, 6, 9, 11)", "(4, 6, 9)"),
    ("29 if is_leap(year) else 28", "28"),
    ("1 <= month <= 12", "month <= 12"),
    ("1 <= month <= 12", "1 <= month <= 13"),
    ("1 <= day <= days_in_month(year, month)", "1 <= day"),
    ("1 <= day <= days_in_month(year, month)", "day <= days_in_month(year, month)"),
    ("return year, month + 1, 1", "return year, month + 1, day"),
    ("return year + 1, 1, 1", "return year, 1, 1"),
]
SOURCE = """def is_leap(year):
    \"\"\"Returns whether a year of the Gregorian calendar is a leap year.\"\"\"
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year, month):
    \"\"\"Returns the number of days of a month, 1 to 12.\"\"\"
    if not 1 <= month <= 12:
        raise ValueError("invalid month: %r" % month)
    if month == 2:
        return 29 if is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def next_day(year, month, day):
    \"\"\"Returns the day after another one.\"\"\"
    if not 1 <= day <= days_in_month(year, month):
        raise ValueError("invalid day: %r" % day)
    if day < days_in_month(year, month):
        return year, month, day + 1
    if month < 12:
        return year, month + 1, 1
    return year + 1, 1, 1
"""


def passes(source):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "test_dates.py", folder)
        pathlib.Path(folder, "dates.py").write_text(source)
        command = [sys.executable, "-m", "unittest", "-q", "test_dates"]
        return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


caught = 0
if not passes(SOURCE):
    sys.exit("the tests fail although the module is correct")
for correct, wrong in MISTAKES:
    assert correct in SOURCE
    if passes(SOURCE.replace(correct, wrong)):
        sys.exit("the tests do not notice %r in place of %r" % (wrong, correct))
    caught += 1
print("%d mistakes caught" % caught)
