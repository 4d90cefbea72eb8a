# skep-canary 3762706b-537f-56f4-97fa-27011addee7d
import ast
import pathlib
import subprocess
import sys
import unittest

import money
import shop

HERE = pathlib.Path(__file__).parent


def defined(name):
    tree = ast.parse((HERE / name).read_text())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


class Modules(unittest.TestCase):
    def test_money_has_the_functions(self):
        self.assertEqual(defined("money.py"), {"to_cents", "to_text", "discounted"})

    def test_shop_has_the_invoice_only(self):
        self.assertEqual(defined("shop.py"), {"Invoice"})

    def test_the_old_names_still_work(self):
        for name in ("to_cents", "to_text", "discounted"):
            self.assertIs(getattr(shop, name), getattr(money, name))

    def test_money_stands_alone(self):
        code = "import sys, money; sys.exit('shop' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=HERE).returncode, 0)

    def test_behaviour(self):
        self.assertEqual([money.to_cents(t) for t in ("0", "7.", "0.05")], [0, 700, 5])
        self.assertEqual([money.discounted(c, p) for c, p in ((999, 10), (1, 50), (0, 5))], [899, 0, 0])
        for text in ("", "x", "1.234", "-1", "1.x"):
            with self.assertRaises(ValueError):
                money.to_cents(text)
