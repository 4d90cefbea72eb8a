# skep-canary 5c31aa17-0f08-5421-b576-a6fa05119a6e
import unittest

from intervals import merge, total


class Cases(unittest.TestCase):
    def test_unsorted(self):
        self.assertEqual(merge([(8, 9), (3, 6), (1, 4)]), [(1, 6), (8, 9)])

    def test_contained(self):
        self.assertEqual(merge([(1, 10), (2, 3), (4, 5)]), [(1, 10)])

    def test_touching(self):
        self.assertEqual(merge([(1, 2), (2, 3)]), [(1, 3)])

    def test_empty(self):
        self.assertEqual(merge([(5, 5), (1, 2), (7, 6)]), [(1, 2)])
        self.assertEqual(total([]), 0)

    def test_the_argument_is_not_changed(self):
        given = [(3, 4), (1, 2)]
        merge(given)
        self.assertEqual(given, [(3, 4), (1, 2)])

    def test_generators(self):
        self.assertEqual(total((n, n + 2) for n in (4, 0, 1)), 5)
