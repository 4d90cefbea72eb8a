import unittest

from duration import parse


class Parse(unittest.TestCase):
    def test_one_unit(self):
        self.assertEqual([parse(t) for t in ("90s", "5m", "2h", "0s")], [90, 300, 7200, 0])

    def test_errors(self):
        for text in ["", "5", "m", "-1s", "1.5h", "5x"]:
            with self.assertRaises(ValueError):
                parse(text)
