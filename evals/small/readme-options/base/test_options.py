import unittest

from copy_folder import parser


class Options(unittest.TestCase):
    def test_defaults(self):
        args = parser().parse_args(["a", "b"])
        self.assertEqual((args.source, args.target, args.dry_run), ("a", "b", False))
