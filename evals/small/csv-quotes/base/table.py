def write_row(values, separator=","):
    """Returns one line of CSV, without a line end."""
    return separator.join(str(value) for value in values)


def write(rows, separator=","):
    """Returns rows as CSV."""
    return "".join(write_row(row, separator) + "\r\n" for row in rows)
