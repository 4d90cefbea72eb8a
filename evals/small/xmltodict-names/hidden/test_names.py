# skep-canary 09006de2-2b5e-5880-8084-504be9606219
import unittest

import xmltodict


class Names(unittest.TestCase):
    def refused(self, value):
        with self.assertRaises(ValueError):
            xmltodict.unparse(value, full_document=False)

    def test_element_names_with_blanks(self):
        for name in ["a b", "a\tb", "a\nb"]:
            self.refused({name: "1"})

    def test_element_names_with_markup(self):
        for name in ["a/b", 'a"b', "a'b", "a=b", "?a", "!a", "<a"]:
            self.refused({name: "1"})

    def test_attribute_names(self):
        for name in ["@a b", "@a/b", '@a"b', "@a=b", "@?a", "@<a"]:
            self.refused({"e": {name: "1"}})

    def test_namespace_prefixes(self):
        self.refused({"e": {"@xmlns": {"a b": "urn:x"}}})

    def test_ordinary_names_still_work(self):
        value = {"a-b.c:d": {"@x_1": "1", "#text": "t"}}
        self.assertEqual(xmltodict.unparse(value, full_document=False), '<a-b.c:d x_1="1">t</a-b.c:d>')
