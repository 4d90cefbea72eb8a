import unittest

from shop import Invoice, discounted, to_cents, to_text


class Shop(unittest.TestCase):
    def test_amounts(self):
        self.assertEqual([to_cents(t) for t in ("1", "1.5", "12.50")], [100, 150, 1250])
        self.assertEqual(to_text(1205), "12.05")

    def test_discounts(self):
        self.assertEqual(discounted(999, 10), 899)

    def test_invoice(self):
        invoice = Invoice()
        invoice.add("tea", "3.50")
        invoice.add("cup", "10.00", 25)
        self.assertEqual(invoice.total(), "11.00")
