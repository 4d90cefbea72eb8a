# skep-canary 9bd107ca-9693-5d33-a96c-f4fb8823c823
import pathlib
import re
import unittest

from copy_folder import parser

README = pathlib.Path(__file__).with_name("README.md").read_text()


def rows():
    lines = [line for line in README.splitlines() if line.startswith("| `")]
    return {re.search(r"`(--[a-z-]+)", line).group(1): line for line in lines}


def options():
    found = [a for a in parser()._actions if a.option_strings and a.dest != "help"]
    return {a.option_strings[-1]: a for a in found}


class Readme(unittest.TestCase):
    def test_every_option_has_a_row_and_no_other_has(self):
        self.assertEqual(set(rows()), set(options()))

    def test_rows_name_short_forms_and_values(self):
        for name, action in options().items():
            for part in action.option_strings[:-1] + ([action.metavar] if action.metavar else []):
                self.assertIn(part, rows()[name])

    def test_rows_are_sorted_by_the_long_name(self):
        order = [name for name in rows()]
        self.assertIn(order, [sorted(order), sorted(order, key=lambda n: rows()[n])])

    def test_the_parser_is_unchanged(self):
        self.assertEqual(set(options()), {"--dry-run", "--exclude", "--limit", "--verbose"})
