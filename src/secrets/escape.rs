//! Escapes that programs apply when they print text: JSON, string literals, HTML and XML, shells.

use std::fmt::Write;

/// How a program escapes text.
struct Escape {
    /// Characters that are replaced, with their replacements.
    special: &'static [(char, &'static str)],
    /// What becomes of characters outside ASCII.
    other: Other,
}

/// What becomes of characters outside ASCII.
#[derive(Clone, Copy)]
enum Other {
    /// They stay.
    Literal,
    /// `\u00e9`, as UTF-16.
    Utf16,
    /// `\u00E9`, as UTF-16.
    UpperUtf16,
    /// `\u{e9}`.
    Braced,
    /// `\xe9`, or `\u20ac` above one byte.
    HexChar,
    /// `\xE9`, or `\u20AC` above one byte.
    UpperHexChar,
    /// `\xc3\xa9`, as UTF-8.
    HexBytes,
    /// `\303\251`, as UTF-8.
    Octal,
    /// `&#233;`.
    Decimal,
    /// `&#xe9;`.
    HexEntity,
    /// `&#xE9;`.
    UpperHexEntity,
}

/// What every JSON writer escapes.
const JSON: &[(char, &str)] = &[('\\', r"\\"), ('"', "\\\""), ('\n', r"\n"), ('\r', r"\r"), ('\t', r"\t")];

const ESCAPES: &[Escape] = &[
    // JavaScript, Rust; Python and Java with all of Unicode escaped; PHP, which escapes the slash.
    Escape { special: JSON, other: Other::Literal },
    Escape { special: JSON, other: Other::Utf16 },
    Escape { special: JSON, other: Other::UpperUtf16 },
    Escape { special: &[('\\', r"\\"), ('"', "\\\""), ('/', r"\/"), ('\n', r"\n")], other: Other::Literal },
    Escape { special: &[('\\', r"\\"), ('"', "\\\""), ('/', r"\/"), ('\n', r"\n")], other: Other::Utf16 },
    // Go and Rails; Gson; PHP with every JSON_HEX flag; System.Text.Json.
    Escape {
        special: &[('\\', r"\\"), ('"', "\\\""), ('&', r"\u0026"), ('<', r"\u003c"), ('>', r"\u003e"), ('\n', r"\n")],
        other: Other::Literal,
    },
    Escape {
        special: &[
            ('\\', r"\\"),
            ('"', "\\\""),
            ('&', r"\u0026"),
            ('<', r"\u003c"),
            ('>', r"\u003e"),
            ('=', r"\u003d"),
            ('\'', r"\u0027"),
            ('\n', r"\n"),
        ],
        other: Other::Literal,
    },
    Escape {
        special: &[
            ('\\', r"\\"),
            ('"', r"\u0022"),
            ('&', r"\u0026"),
            ('<', r"\u003C"),
            ('>', r"\u003E"),
            ('\'', r"\u0027"),
            ('/', r"\/"),
            ('\n', r"\n"),
        ],
        other: Other::Utf16,
    },
    Escape {
        special: &[
            ('\\', r"\\"),
            ('"', r"\u0022"),
            ('&', r"\u0026"),
            ('<', r"\u003C"),
            ('>', r"\u003E"),
            ('\'', r"\u0027"),
            ('+', r"\u002B"),
            ('`', r"\u0060"),
            ('\n', r"\n"),
        ],
        other: Other::UpperUtf16,
    },
    // String literals: Rust; Python's str and bytes; C and git.
    Escape { special: &[('\\', r"\\"), ('"', "\\\""), ('\'', r"\'"), ('\n', r"\n")], other: Other::Braced },
    Escape { special: &[('\\', r"\\"), ('\'', r"\'"), ('\n', r"\n")], other: Other::Literal },
    Escape { special: &[('\\', r"\\"), ('\n', r"\n")], other: Other::HexChar },
    Escape { special: &[('\\', r"\\"), ('\n', r"\n")], other: Other::HexBytes },
    Escape { special: &[('\\', r"\\"), ('\'', r"\'"), ('\n', r"\n")], other: Other::HexBytes },
    Escape { special: JSON, other: Other::Octal },
    Escape { special: &[('\\', r"\\"), ('\'', r"\'"), ('\n', r"\n")], other: Other::Octal },
    // PyYAML; properties of Java.
    Escape { special: JSON, other: Other::UpperHexChar },
    Escape {
        special: &[
            ('\\', r"\\"),
            ('=', r"\="),
            (':', r"\:"),
            ('#', r"\#"),
            ('!', r"\!"),
            ('\n', r"\n"),
            ('\r', r"\r"),
            ('\t', r"\t"),
        ],
        other: Other::UpperUtf16,
    },
    // HTML and XML: the usual names; Python; Go and Jinja; Mustache; XML serializers.
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")], other: Other::Literal },
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")], other: Other::Decimal },
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")], other: Other::Literal },
    Escape {
        special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#x27;")],
        other: Other::Literal,
    },
    Escape {
        special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")],
        other: Other::Literal,
    },
    Escape {
        special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#039;")],
        other: Other::Literal,
    },
    Escape {
        special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")],
        other: Other::Literal,
    },
    Escape {
        special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
        other: Other::Literal,
    },
    Escape {
        special: &[
            ('&', "&amp;"),
            ('<', "&lt;"),
            ('>', "&gt;"),
            ('"', "&quot;"),
            ('\'', "&#39;"),
            ('/', "&#x2F;"),
            ('`', "&#x60;"),
            ('=', "&#x3D;"),
        ],
        other: Other::Literal,
    },
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")], other: Other::Decimal },
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")], other: Other::HexEntity },
    Escape { special: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")], other: Other::UpperHexEntity },
    // Shells: within single quotes, closed and opened again; within double quotes.
    Escape { special: &[('\'', r"'\''")], other: Other::Literal },
    Escape { special: &[('\'', r#"'"'"'"#)], other: Other::Literal },
    Escape { special: &[('\\', r"\\"), ('"', "\\\""), ('$', r"\$"), ('`', r"\`")], other: Other::Literal },
];

/// Returns the escaped forms of a text, and the JSON forms as they appear in JSON once more. Without special characters
/// they are all the text itself.
pub(super) fn forms(text: &str) -> impl Iterator<Item = String> {
    let once: Vec<String> = ESCAPES.iter().map(|escape| escape.apply(text)).chain([backslashed(text)]).collect();
    let json = Escape { special: JSON, other: Other::Literal };
    let twice: Vec<String> = once.iter().map(|form| json.apply(form)).collect();
    once.into_iter().chain(twice)
}

/// Returns a text with a backslash before every character that has a meaning in a shell, as `printf %q` does.
fn backslashed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+,-./:=@_".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl Escape {
    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() * 2);
        for c in text.chars() {
            match self.special.iter().find(|(special, _)| *special == c) {
                Some((_, replacement)) => out.push_str(replacement),
                None if c.is_ascii() => out.push(c),
                None => self.other.apply(c, &mut out),
            }
        }
        out
    }
}

impl Other {
    fn apply(self, c: char, out: &mut String) {
        let code = u32::from(c);
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).bytes();
        let mut utf16 = [0; 2];
        // Writing to a String cannot fail.
        let _ = match self {
            Other::Literal => write!(out, "{c}"),
            Other::Utf16 => c.encode_utf16(&mut utf16).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
            Other::UpperUtf16 => c.encode_utf16(&mut utf16).iter().try_for_each(|unit| write!(out, "\\u{unit:04X}")),
            Other::Braced => write!(out, "\\u{{{code:x}}}"),
            Other::HexChar if code <= 0xff => write!(out, "\\x{code:02x}"),
            Other::HexChar if code <= 0xffff => write!(out, "\\u{code:04x}"),
            Other::HexChar => write!(out, "\\U{code:08x}"),
            Other::UpperHexChar if code <= 0xff => write!(out, "\\x{code:02X}"),
            Other::UpperHexChar if code <= 0xffff => write!(out, "\\u{code:04X}"),
            Other::UpperHexChar => write!(out, "\\U{code:08X}"),
            Other::HexBytes => bytes.into_iter().try_for_each(|byte| write!(out, "\\x{byte:02x}")),
            Other::Octal => bytes.into_iter().try_for_each(|byte| write!(out, "\\{byte:03o}")),
            Other::Decimal => write!(out, "&#{code};"),
            Other::HexEntity => write!(out, "&#x{code:x};"),
            Other::UpperHexEntity => write!(out, "&#x{code:X};"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What programs print for the value `pä"ss'&<w>/$x€\y`, as observed.
    const PRINTED: &[(&str, &str)] = &[
        ("python json.dumps", r#"p\u00e4\"ss'&<w>/$x\u20ac\\y"#),
        ("python json.dumps twice", r#"p\\u00e4\\\"ss'&<w>/$x\\u20ac\\\\y"#),
        ("go json.Marshal", r#"pä\"ss'\u0026\u003cw\u003e/$x€\\y"#),
        ("php json_encode", r#"p\u00e4\"ss'&<w>\/$x\u20ac\\y"#),
        ("javascript JSON.stringify", r#"pä\"ss'&<w>/$x€\\y"#),
        ("gson", r#"pä\"ss\u0027\u0026\u003cw\u003e/$x€\\y"#),
        ("system.text.json", r#"p\u00E4\u0022ss\u0027\u0026\u003Cw\u003E/$x\u20AC\\y"#),
        ("rust escape_default", r#"p\u{e4}\"ss\'&<w>/$x\u{20ac}\\y"#),
        ("python ascii()", r#"p\xe4"ss'&<w>/$x\u20ac\\y"#),
        ("python bytes", r#"p\xc3\xa4"ss\'&<w>/$x\xe2\x82\xac\\y"#),
        ("pyyaml", r#"p\xE4\"ss'&<w>/$x\u20AC\\y"#),
        ("java properties", r#"p\u00E4"ss'&<w>/$x\u20AC\\y"#),
        ("git quoted", r#"p\303\244\"ss'&<w>/$x\342\202\254\\y"#),
        ("bash $'…'", r#"p\303\244"ss\'&<w>/$x\342\202\254\\y"#),
        ("python html.escape", r#"pä&quot;ss&#x27;&amp;&lt;w&gt;/$x€\y"#),
        ("go html.EscapeString", r#"pä&#34;ss&#39;&amp;&lt;w&gt;/$x€\y"#),
        ("php htmlspecialchars", r#"pä&quot;ss&#039;&amp;&lt;w&gt;/$x€\y"#),
        ("mustache", r#"pä&quot;ss&#39;&amp;&lt;w&gt;&#x2F;$x€\y"#),
        ("xmlcharrefreplace", r#"p&#228;"ss'&amp;&lt;w&gt;/$x&#8364;\y"#),
        ("shlex.quote", r#"pä"ss'"'"'&<w>/$x€\y"#),
        ("shell single quotes", r#"pä"ss'\''&<w>/$x€\y"#),
        ("shell double quotes", r#"pä\"ss'&<w>/\$x€\\y"#),
        ("bash printf %q", r#"pä\"ss\'\&\<w\>/\$x€\\y"#),
    ];

    #[test]
    fn what_programs_print_is_among_the_forms() {
        let forms: BTreeSet<String> = forms("pä\"ss'&<w>/$x€\\y").collect();
        let missing: Vec<_> = PRINTED.iter().filter(|(_, form)| !forms.contains(*form)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn separators_in_properties_of_java_are_escaped() {
        assert!(forms("a=b:c#d!\u{e9}").any(|form| form == r"a\=b\:c\#d\!\u00E9"));
    }

    #[test]
    fn a_value_without_special_characters_has_one_form() {
        assert_eq!(forms("ghp_0123456789abcdef").collect::<BTreeSet<_>>().len(), 1);
    }

    #[test]
    fn characters_beyond_the_basic_plane_become_surrogates() {
        assert!(forms("k\u{1f511}").any(|form| form == r"k\ud83d\udd11"));
    }
}
