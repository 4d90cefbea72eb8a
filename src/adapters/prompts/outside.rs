//! Untrusted text in a prompt: it can only be printed as a marked data block.
//!
//! Invariant: no template can print such a text without markers, and none is ever parsed as a template.

use crate::domain::is_hidden;
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Upper bound of a block's name, in characters.
const MAX_NAME_CHARS: usize = 120;

/// Untrusted text, bounded and without invisible characters.
pub(super) struct Outside(String);

impl Outside {
    /// Creates a text of at most `max_bytes`. A longer text keeps its beginning and end, with a note in between that
    /// states how much is missing. Invisible characters (controls, text direction, tags) are escaped.
    pub(super) fn new(text: &str, max_bytes: usize) -> Self {
        let near = text.len().min(max_bytes.saturating_mul(2));
        if near < text.len() {
            // Escaping only makes a text longer, so these halves are at least what will be shown.
            let head = visible(&text[..text.floor_char_boundary(max_bytes)]);
            let tail = visible(&text[text.ceil_char_boundary(text.len() - max_bytes)..]);
            return Self(ends(&head, &tail, max_bytes, text.len() - max_bytes));
        }
        let whole = visible(text);
        match whole.len() <= max_bytes {
            true => Self(whole),
            false => Self(ends(&whole, &whole, max_bytes, whole.len() - max_bytes)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn holds(&self, boundary: &str) -> bool {
        self.0.contains(boundary)
    }
}

/// Joins the beginning of `head` and the end of `tail`, two thirds and one third of `max_bytes`.
fn ends(head: &str, tail: &str, max_bytes: usize, omitted: usize) -> String {
    let from = &head[..head.floor_char_boundary(max_bytes / 3 * 2)];
    let to = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(max_bytes / 3))..];
    format!("{from}\n[… about {omitted} bytes omitted …]\n{to}")
}

/// Escapes every character that is invisible or misleading.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let hidden = match c {
            '\n' | '\t' => false,
            '\r' => chars.peek() != Some(&'\n'),
            c => is_hidden(c),
        };
        match (hidden, c) {
            (true, c) => out.extend(c.escape_unicode()),
            (false, '\r') => {}
            (false, c) => out.push(c),
        }
    }
    out
}

// Text that a template gets if it uses the value directly (joins, lists, JSON).
const PLACEHOLDER: &str = "[untrusted text, printed only by the filter `data`]";

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
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
        f.write_str(PLACEHOLDER)
    }
}

/// Returns the marker of a prompt's data blocks: derived from all texts, so that the same order gives the same prompt,
/// and contained in none of them, so that no block can be closed from within.
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
            // Writing to a string never fails.
            let _infallible = write!(mark, "{byte:02x}");
        }
        if !texts.iter().any(|t| t.holds(&mark)) {
            return mark;
        }
        state = Sha256::digest(state);
    }
}

/// Prints untrusted text as a block with the prompt's boundary: the filter `data(NAME)`.
pub(super) fn data(state: &State, value: &Value, name: &str) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("nothing to print as {name:?}")));
    }
    let Some(text) = value.downcast_object_ref::<Outside>() else {
        let why = "`data` is for untrusted text; this value is trusted";
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    };
    let boundary = state
        .lookup("boundary")
        .and_then(|b| b.as_str().map(str::to_owned))
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "no boundary here: a system prompt has no data"))?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || " ._/-".contains(*c);
    let name: String = name.chars().filter(plain).take(MAX_NAME_CHARS).collect();
    let end = if text.0.ends_with('\n') { "" } else { "\n" };
    Ok(format!("<data id=\"{boundary}\" name=\"{name}\">\n{}{end}</data {boundary}>", text.0).into())
}

/// Prints a value, unless it is untrusted text.
pub(super) fn print(out: &mut minijinja::Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.downcast_object_ref::<Outside>().is_some() {
        let why = "untrusted text must be printed with the filter `data(\"NAME\")`";
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    minijinja::escape_formatter(out, state, value)
}
