import unittest

import xmltodict


class Unparse(unittest.TestCase):
    def test_elements_and_attributes(self):
        text = xmltodict.unparse({"a": {"@x": "1", "b": ["2", "3"]}}, full_document=False)
        self.assertEqual(text, '<a x="1"><b>2</b><b>3</b></a>')

    def test_text_is_escaped(self):
        self.assertEqual(xmltodict.unparse({"a": "<&>"}, full_document=False), "<a>&lt;&amp;&gt;</a>")


if __name__ == "__main__":
    unittest.main()
