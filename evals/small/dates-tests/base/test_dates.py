import unittest

from dates import next_day


class NextDay(unittest.TestCase):
    def test_within_a_month(self):
        self.assertEqual(next_day(2024, 5, 6), (2024, 5, 7))
