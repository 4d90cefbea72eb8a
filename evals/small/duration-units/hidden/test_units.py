# skep-canary ee9df143-4f46-5b3c-96a1-f5c60deb1ea4
import unittest

from duration import parse, text


class Durations(unittest.TestCase):
    def test_days_and_several_units(self):
        cases = {"2d": 172800, "1h30m": 5400, "2d 4h": 187200, " 1d2h3m4s ": 93784, "1m 0s": 60}
        for given, seconds in cases.items():
            self.assertEqual(parse(given), seconds, given)

    def test_the_order_and_repetitions_are_checked(self):
        for given in ["30m1h", "1h1h", "1h 30", "h", "1 h", "1h,30m"]:
            with self.assertRaises(ValueError, msg=given):
                parse(given)

    def test_text(self):
        cases = {0: "0s", 59: "59s", 60: "1m", 5400: "1h30m", 86400: "1d", 93784: "1d2h3m4s"}
        for seconds, expected in cases.items():
            self.assertEqual(text(seconds), expected)

    def test_round_trip(self):
        for seconds in range(0, 200000, 997):
            self.assertEqual(parse(text(seconds)), seconds)

    def test_negative_durations(self):
        with self.assertRaises(ValueError):
            text(-1)
