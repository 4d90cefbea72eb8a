# skep-canary 1947f6d6-83dc-50b1-a627-6b8be9616230
import json
import pathlib
import tempfile
import unittest

from test_count import run


class Json(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.a = pathlib.Path(self.folder.name, "a.txt")
        self.b = pathlib.Path(self.folder.name, "b \u00e9.txt")
        self.a.write_bytes(b"one two\nthree\n")
        self.b.write_bytes(b"x")

    def test_files_and_total(self):
        for args in [("--json", self.a, self.b), (self.a, "--json", self.b)]:
            found = json.loads(run(*map(str, args)).stdout)
            self.assertEqual(
                found["files"],
                [
                    {"path": str(self.a), "lines": 2, "words": 3, "bytes": 14},
                    {"path": str(self.b), "lines": 0, "words": 1, "bytes": 1},
                ],
            )
            self.assertEqual(found["total"], {"lines": 2, "words": 4, "bytes": 15})

    def test_no_files(self):
        self.assertEqual(json.loads(run("--json").stdout), {"files": [], "total": {"lines": 0, "words": 0, "bytes": 0}})

    def test_missing_files_are_reported_and_the_others_counted(self):
        for flag in [(), ("--json",)]:
            ended = run(*flag, str(self.a), "missing.txt", str(self.b))
            self.assertEqual(ended.returncode, 1)
            self.assertIn("missing.txt", ended.stderr)
            self.assertNotIn("Traceback", ended.stderr)
            self.assertIn("a.txt", ended.stdout)
            self.assertIn("14", ended.stdout)
        self.assertEqual(len(json.loads(ended.stdout)["files"]), 2)

    def test_text_is_as_before(self):
        self.assertEqual(run(str(self.a)).stdout, "2 3 14 %s\n" % self.a)
