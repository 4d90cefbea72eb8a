//! Forms in which a secret value may appear in output: verbatim, and in the encodings that programs apply to text.

use super::escape;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Shorter forms are not searched for, because they also occur in harmless text.
pub(super) const FORM_BYTES_MIN: usize = 8;
/// Longer values are searched for in pieces of this size, so that a stream never holds back much.
const PIECE_BYTES: usize = 1024;
/// Lines of a value (a key file has many) are searched for separately from this length on, because logs are cut at line
/// ends.
const LINE_BYTES_MIN: usize = 16;

/// Returns every form of a value to search for.
pub(super) fn forms(value: &str) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let value = value.trim();
    pieces(value).for_each(|piece| add_forms(piece, &mut all));
    if value.contains('\n') {
        let lines = value.lines().map(str::trim);
        for line in lines.filter(|l| l.len() >= LINE_BYTES_MIN && !l.starts_with("-----")) {
            pieces(line).for_each(|piece| add_forms(piece, &mut all));
        }
    }
    all.retain(|form| form.len() >= FORM_BYTES_MIN);
    all
}

/// Splits a value into pieces of about the same size, so that none of them is short.
fn pieces(value: &str) -> impl Iterator<Item = &[u8]> {
    let count = value.len().div_ceil(PIECE_BYTES).max(1);
    let pieces = value.as_bytes().chunks(value.len().div_ceil(count).max(1));
    pieces.filter(|piece| piece.len() >= FORM_BYTES_MIN)
}

fn add_forms(piece: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    all.insert(piece.to_vec());
    all.insert(piece.iter().rev().copied().collect());
    base64(piece, all);
    let hex: String = piece.iter().fold(String::with_capacity(piece.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    all.insert(hex.to_ascii_uppercase().into_bytes());
    all.insert(hex.into_bytes());
    percent(piece, all);
    if let Ok(text) = std::str::from_utf8(piece) {
        all.insert(text.chars().rev().collect::<String>().into_bytes());
        all.extend(escape::forms(text).map(String::into_bytes));
    }
}

/// Adds the base64 forms of a piece of a longer text, for each of the three offsets of a byte in a group. The
/// characters at the edges also depend on the neighbouring bytes and are left out, so padding does not matter.
fn base64(piece: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    for before in 0..3 {
        let padded = [&[0; 2][..before], piece].concat();
        let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for engine in [STANDARD, URL_SAFE] {
            let text = engine.encode(&padded);
            all.extend(text.get(first..end).map(|inner| inner.as_bytes().to_vec()));
        }
    }
}

/// Adds the percent-encodings that libraries produce: upper-case and lower-case digits, spaces as `+`, every byte
/// encoded.
fn percent(piece: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    let encode = |is_literal: &dyn Fn(u8) -> bool, plus: bool| {
        let mut text = String::with_capacity(piece.len() * 3);
        for byte in piece {
            match byte {
                b' ' if plus => text.push('+'),
                byte if is_literal(*byte) => text.push(char::from(*byte)),
                // Writing to a String cannot fail.
                byte => drop(write!(text, "%{byte:02X}")),
            }
        }
        text
    };
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    // The characters that JavaScript's `encodeURI` and paths leave unencoded.
    let in_path = |b: u8| unreserved(b) || b"!#$&'()*+,/:;=?@".contains(&b);
    for text in [
        encode(&unreserved, false),
        encode(&unreserved, true),
        encode(&|b| unreserved(b) || b"!'()*".contains(&b), false),
        encode(&in_path, false),
        encode(&|_| false, false),
    ] {
        all.insert(lower_case_digits(&text).into_bytes());
        all.insert(text.into_bytes());
    }
}

/// Converts `%2F` to `%2f`.
fn lower_case_digits(text: &str) -> String {
    let mut left = 0;
    let lower = |c: char| {
        if c == '%' {
            left = 2;
            return c;
        }
        let is_digit = left > 0;
        left = left.max(1) - 1;
        if is_digit { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_at_every_alignment_with_any_neighbours() {
        let value = "s3cr3t/v+lue!";
        let forms = forms(value);
        for before in 0..7 {
            for after in 0..4 {
                let text = format!("{}{value}{}", "x".repeat(before), "é".repeat(after));
                for engine in [STANDARD, URL_SAFE] {
                    let encoded = engine.encode(&text);
                    let found = forms.iter().any(|f| encoded.as_bytes().windows(f.len()).any(|w| w == f));
                    assert!(found, "{before} {after} {encoded}");
                }
            }
        }
    }

    #[test]
    fn common_encodings_are_among_the_forms() {
        let forms = forms("pa ss/\"w\u{e9}&rd%");
        for form in [
            "pa ss/\"w\u{e9}&rd%",
            "%dr&\u{e9}w\"/ss ap",
            "pa%20ss%2F%22w%C3%A9%26rd%25",
            "pa%20ss%2f%22w%c3%a9%26rd%25",
            "pa+ss%2F%22w%C3%A9%26rd%25",
            "pa ss/\\\"w\u{e9}&rd%",
            "pa ss/\\\\\\\"w\u{e9}&rd%",
            "pa ss/&quot;w\u{e9}&amp;rd%",
            "70612073732f2277c3a926726425",
            "70612073732F2277C3A926726425",
        ] {
            assert!(forms.contains(form.as_bytes()), "{form}");
        }
        assert!(super::forms("short").is_empty());
    }
}
