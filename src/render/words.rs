//! Which words differ between removed lines and the added lines that follow them.

use super::diff::{Line, LineKind};
use similar::{ChangeTag, TextDiff};
use std::ops::Range;
use std::time::Instant;

/// Bytes of a line above which its words are not compared.
const MAX_BYTES: usize = 1_000;
/// How alike two lines must be for their words to be worth marking.
const MIN_RATIO: f32 = 0.4;

/// Byte ranges of a line.
pub type Marks = Vec<Range<usize>>;

/// Returns the changed words of each line: removed lines are compared with the added lines that follow them, as long as
/// `may_compare` allows it. A comparison ends at `until`.
pub fn marks(lines: &[Line<'_>], until: Option<Instant>, mut may_compare: impl FnMut() -> bool) -> Vec<Marks> {
    let mut marks: Vec<Marks> = vec![Vec::new(); lines.len()];
    for (removed, added) in blocks(lines) {
        for (old, new) in removed.zip(added) {
            if !may_compare() {
                return marks;
            }
            let (a, b) = (lines[old].text, lines[new].text);
            if a.len().max(b.len()) <= MAX_BYTES {
                (marks[old], marks[new]) = between(a, b, until);
            }
        }
    }
    marks
}

/// Returns the runs of removed lines with the runs of added lines that follow them.
pub fn blocks(lines: &[Line<'_>]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    let run = |from: usize, kind| lines[from..].iter().take_while(|l| l.kind == kind).count();
    while at < lines.len() {
        let removed = run(at, LineKind::Removed);
        let added = run(at + removed, LineKind::Added);
        if removed + added > 0 {
            found.push((at..at + removed, at + removed..at + removed + added));
        }
        at += (removed + added).max(1);
    }
    found
}

/// Returns the byte ranges of the words that differ; none if the lines have too little in common.
pub fn between(a: &str, b: &str, until: Option<Instant>) -> (Marks, Marks) {
    let mut config = TextDiff::configure();
    if let Some(until) = until {
        config.deadline(until);
    }
    let diff = config.diff_words(a, b);
    if diff.ratio() < MIN_RATIO {
        return (Vec::new(), Vec::new());
    }
    let (mut old, mut new): (Marks, Marks) = (Vec::new(), Vec::new());
    let (mut old_at, mut new_at) = (0, 0);
    let add = |marks: &mut Marks, range: Range<usize>| match marks.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => marks.push(range),
    };
    for change in diff.iter_all_changes() {
        let len = change.value().len();
        match change.tag() {
            ChangeTag::Equal => (old_at, new_at) = (old_at + len, new_at + len),
            ChangeTag::Delete => {
                add(&mut old, old_at..old_at + len);
                old_at += len;
            }
            ChangeTag::Insert => {
                add(&mut new, new_at..new_at + len);
                new_at += len;
            }
        }
    }
    (old, new)
}
