# skep-canary 2894d5a7-d738-516d-b933-6185750a03b4
import unittest

import h11
from test_chunks import body_of


class Footers(unittest.TestCase):
    def refused(self, pieces):
        with self.assertRaises(h11.RemoteProtocolError):
            body_of(pieces)

    def test_other_bytes_after_a_chunk(self):
        self.refused([b"5\r\nhelloXX0\r\n\r\n"])

    def test_only_one_byte_is_wrong(self):
        self.refused([b"5\r\nhello\rX0\r\n\r\n"])
        self.refused([b"5\r\nhelloX\n0\r\n\r\n"])

    def test_split_footer(self):
        self.refused([b"5\r\nhello\r", b"X0\r\n\r\n"])
        self.assertEqual(body_of([b"5\r\nhello\r", b"\n0\r\n\r\n"]), b"hello")
