import unittest

from table import write


class Write(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(write([["a", 1], ["b", 2]]), "a,1\r\nb,2\r\n")

    def test_separator(self):
        self.assertEqual(write([["a", "b"]], ";"), "a;b\r\n")
