//! Text from outside in a prompt: it can be printed as a marked data block and in no other way.
//!
//! Invariant: no template, however it is written, prints such a text bare, and none is ever read as a template.

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The longest name of a block, in characters.
const NAME_CHARS_MAX: usize = 120;

/// A text from outside, capped and with nothing hidden in it.
pub(super) struct Outside(String);

impl Outside {
    /// Text of at most `most` bytes: of a longer one the beginning and the end, and what is left out is said between them.
    /// Characters nobody can see (controls, turned reading direction, tags) are spelled out.
    pub(super) fn new(text: &str, most: usize) -> Self {
        let near = text.len().min(most.saturating_mul(2));
        if near < text.len() {
            // What is hidden takes more room spelled out, never less: the halves are more than will be shown.
            let head = visible(&text[..text.floor_char_boundary(most)]);
            let tail = visible(&text[text.ceil_char_boundary(text.len() - most)..]);
            return Self(ends(&head, &tail, most, text.len() - most));
        }
        let whole = visible(text);
        match whole.len() <= most {
            true => Self(whole),
            false => Self(ends(&whole, &whole, most, whole.len() - most)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn holds(&self, boundary: &str) -> bool {
        self.0.contains(boundary)
    }
}

/// The beginning of `head` and the end of `tail`, two thirds and one third of `most` bytes.
fn ends(head: &str, tail: &str, most: usize, left_out: usize) -> String {
    let from = &head[..head.floor_char_boundary(most / 3 * 2)];
    let to = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(most / 3))..];
    format!("{from}\n[… about {left_out} bytes are left out here …]\n{to}")
}

/// The text with every character spelled out that would not be seen as what it is.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let hidden = match c {
            '\n' | '\t' => false,
            '\r' => chars.peek() != Some(&'\n'),
            // Marks of width nothing, of direction, and the tags that spell words nobody sees.
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
            '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}' => true,
            c => c.is_control(),
        };
        match (hidden, c) {
            (true, c) => out.extend(c.escape_unicode()),
            (false, '\r') => {}
            (false, c) => out.push(c),
        }
    }
    out
}

// What a template does with the value itself (joins, prints of lists, JSON) gets these words, never the text.
const BARE: &str = "[a text from outside, which only the filter `data` prints]";

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BARE)
    }
}

impl Object for Outside {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn is_true(self: &Arc<Self>) -> bool {
        !self.0.trim().is_empty()
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BARE)
    }
}

/// The mark of one prompt's data blocks: derived from all that goes in, so that the same order gives the same prompt, and in none of
/// the texts, so that no block can be closed from within.
pub(super) fn boundary(seed: &[u8], texts: &[Arc<Outside>]) -> String {
    let mut digest = Sha256::new();
    digest.update(seed);
    for text in texts {
        digest.update((text.0.len() as u64).to_le_bytes());
        digest.update(text.0.as_bytes());
    }
    let mut state = digest.finalize();
    loop {
        let mut mark = String::with_capacity(24);
        for byte in &state[..12] {
            // Writing to a string does not fail.
            let _infallible = write!(mark, "{byte:02x}");
        }
        if !texts.iter().any(|t| t.holds(&mark)) {
            return mark;
        }
        state = Sha256::digest(state);
    }
}

/// The filter `data(NAME)`: a text from outside as a block with the prompt's boundary.
pub(super) fn data(state: &State, value: &Value, name: &str) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("there is nothing to print as {name:?} here")));
    }
    let Some(text) = value.downcast_object_ref::<Outside>() else {
        let why = "`data` is for texts from outside; this value is the template's own";
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    };
    let boundary = state.lookup("boundary").and_then(|b| b.as_str().map(str::to_owned)).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, "there is no boundary here: the system text has no data")
    })?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || " ._/-".contains(*c);
    let name: String = name.chars().filter(plain).take(NAME_CHARS_MAX).collect();
    let end = if text.0.ends_with('\n') { "" } else { "\n" };
    Ok(format!("<data id=\"{boundary}\" name=\"{name}\">\n{}{end}</data {boundary}>", text.0).into())
}

/// Prints a value, unless it is a text from outside.
pub(super) fn print(out: &mut minijinja::Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.downcast_object_ref::<Outside>().is_some() {
        let why = "this text is from outside: print it with the filter `data(\"NAME\")`";
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    minijinja::escape_formatter(out, state, value)
}
