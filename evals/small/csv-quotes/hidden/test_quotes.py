# skep-canary c65b1582-0259-5440-963f-05fdf242d5da
import csv
import io
import unittest

from table import write, write_row


class Quotes(unittest.TestCase):
    def test_separators_and_quotes(self):
        self.assertEqual(write_row(["a,b", 'say "x"', "c"]), '"a,b","say ""x""",c')

    def test_other_separators(self):
        self.assertEqual(write_row(["a,b", "c;d"], ";"), 'a,b;"c;d"')

    def test_none_is_empty(self):
        self.assertEqual(write_row([None, "", 0]), ",,0")

    def test_outer_blanks_are_quoted(self):
        self.assertEqual(write_row([" a", "b ", "c d"]), '" a","b ",c d')

    def test_round_trip(self):
        rows = [["a\nb", 'c"', ",", "d\r\n", ""], ["plain", "1", "x y", ";", "'"]]
        self.assertEqual(list(csv.reader(io.StringIO(write(rows), newline=""))), rows)
