def merge(intervals):
    """Merges overlapping intervals [start, end) and returns them in order."""
    result = []
    for start, end in intervals:
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result


def total(intervals):
    """Returns the length that the intervals cover together."""
    return sum(end - start for start, end in merge(intervals))
