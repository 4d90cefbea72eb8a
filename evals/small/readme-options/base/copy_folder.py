#!/usr/bin/env python3
"""Copies a folder.

usage: copy.py [options] FROM TO
"""

import argparse


def parser():
    p = argparse.ArgumentParser(prog="copy.py")
    p.add_argument("source", metavar="FROM")
    p.add_argument("target", metavar="TO")
    p.add_argument("-n", "--dry-run", action="store_true", help="only print what would be copied")
    p.add_argument("--exclude", metavar="PATTERN", action="append", help="leave out matching files; repeatable")
    p.add_argument("--limit", metavar="SIZE", help="stop after this many bytes, such as 10M")
    p.add_argument("-v", "--verbose", action="store_true", help="print each file")
    return p
