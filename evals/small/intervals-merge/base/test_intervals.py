import unittest

from intervals import merge, total


class Merge(unittest.TestCase):
    def test_overlapping(self):
        self.assertEqual(merge([(1, 4), (3, 6), (8, 9)]), [(1, 6), (8, 9)])

    def test_total(self):
        self.assertEqual(total([(1, 4), (3, 6), (8, 9)]), 6)
