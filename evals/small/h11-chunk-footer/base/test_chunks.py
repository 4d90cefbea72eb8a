import unittest

import h11


def body_of(pieces):
    connection = h11.Connection(our_role=h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    body = b""
    for piece in pieces:
        connection.receive_data(piece)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.EndOfMessage):
                return body
            body += bytes(event.data)
    raise AssertionError("the message did not end")


class Chunks(unittest.TestCase):
    def test_whole(self):
        self.assertEqual(body_of([b"5\r\nhello\r\n0\r\n\r\n"]), b"hello")

    def test_byte_by_byte(self):
        data = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        self.assertEqual(body_of([data[i : i + 1] for i in range(len(data))]), b"abcde")
