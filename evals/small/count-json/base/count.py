#!/usr/bin/env python3
"""Counts lines, words and bytes of files."""

import sys


def count(data):
    return {"lines": data.count(b"\n"), "words": len(data.split()), "bytes": len(data)}


def main(args):
    for path in args:
        with open(path, "rb") as file:
            found = count(file.read())
        print("%d %d %d %s" % (found["lines"], found["words"], found["bytes"], path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
