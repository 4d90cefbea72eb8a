def is_leap(year):
    """Returns whether a year of the Gregorian calendar is a leap year."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year, month):
    """Returns the number of days of a month, 1 to 12."""
    if not 1 <= month <= 12:
        raise ValueError("invalid month: %r" % month)
    if month == 2:
        return 29 if is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def next_day(year, month, day):
    """Returns the day after another one."""
    if not 1 <= day <= days_in_month(year, month):
        raise ValueError("invalid day: %r" % day)
    if day < days_in_month(year, month):
        return year, month, day + 1
    if month < 12:
        return year, month + 1, 1
    return year + 1, 1, 1
