import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).with_name("count.py")


def run(*args):
    return subprocess.run([sys.executable, PROGRAM, *args], capture_output=True, text=True)


class Count(unittest.TestCase):
    def test_text(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a.txt")
            path.write_text("one two\nthree\n")
            self.assertEqual(run(str(path)).stdout, "2 3 14 %s\n" % path)
