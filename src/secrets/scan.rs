//! Scans outgoing commits for secrets: added lines, commit messages and file names.
//!
//! Live values are searched for everywhere. Text that only looks like a secret is reported in added lines alone, and
//! only if its format is certain, because stopping a push must be worth a person's time.

use super::registry;
use super::shape::{self, Sure};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Maximum number of reported findings of one scan. The first one already stops the push.
const FOUND_MAX: usize = 20;
/// Added lines are collected up to this size, so that a value over several lines is seen whole.
const BLOCK_BYTES_MAX: usize = 256 * 1024;
/// End of a full block that is scanned again with the next block. No form is longer.
const OVERLAP_BYTES: usize = 16 * 1024;

/// A secret that must not be pushed: its location and kind, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `path:line`, with the abbreviated commit id.
    pub place: String,
    /// `the secret NAME`, or the kind of secret it looks like.
    pub what: String,
    /// Identifies this finding at this path, so that a person can accept it. The value cannot be derived from it: a
    /// live value enters it by name only, and any other value is long and random.
    pub mark: String,
}

/// Scans a stream of `git log -p` without storing it.
#[derive(Debug, Default)]
pub struct OutgoingScan {
    line: Vec<u8>,
    commit: String,
    path: String,
    /// Remaining old and new lines of the current hunk.
    hunk: (u64, u64),
    next_line: u64,
    block: Vec<u8>,
    /// Offset of each line in the block, and its line number.
    lines: Vec<(usize, u64)>,
    found: Vec<Found>,
}

impl OutgoingScan {
    /// Prefix of a commit id in the scanned text, which `git log --format` must print.
    pub const COMMIT: &'static str = "skep-commit ";

    /// Adds a chunk of the text.
    pub fn push(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            // An unterminated line is processed in parts with the same line number.
            let is_whole = part.ends_with(b"\n");
            if is_whole || self.line.len() >= BLOCK_BYTES_MAX {
                let line = std::mem::take(&mut self.line);
                self.take(&line, is_whole);
            }
        }
    }

    /// Ends the scan and returns the findings without duplicates.
    pub fn finish(mut self) -> Vec<Found> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take(&line, true);
        }
        self.search(true);
        self.found
    }

    fn take(&mut self, line: &[u8], is_whole: bool) {
        if self.hunk == (0, 0) {
            return self.outside(line);
        }
        let (sign, text) = line.split_first().map_or((b' ', line), |(sign, text)| (*sign, text));
        match sign {
            b'+' => {
                self.lines.push((self.block.len(), self.next_line));
                self.block.extend_from_slice(text);
                if is_whole {
                    self.hunk.1 = self.hunk.1.saturating_sub(1);
                    self.next_line += 1;
                } else {
                    // The rest of it follows as a separate line.
                    self.line.push(b'+');
                }
            }
            b'-' => {
                self.search(true);
                self.hunk.0 = self.hunk.0.saturating_sub(u64::from(is_whole));
                if !is_whole {
                    self.line.push(b'-');
                }
            }
            // "\ No newline at end of file" is not a line of the file.
            b'\\' => {}
            _ => {
                self.search(true);
                self.hunk = (self.hunk.0.saturating_sub(1), self.hunk.1.saturating_sub(1));
                self.next_line += 1;
            }
        }
        if self.block.len() > BLOCK_BYTES_MAX {
            self.search(false);
        }
        if self.hunk == (0, 0) {
            self.search(true);
        }
    }

    /// Handles a line outside hunks: a commit, its message, the names of a file.
    fn outside(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        if let Some(id) = text.strip_prefix(Self::COMMIT) {
            self.commit = id.chars().take(12).collect();
            self.path = "the commit message".to_owned();
        } else if let Some(path) = text.strip_prefix("+++ ") {
            self.path = path.trim_matches('"').trim_start_matches("b/").trim_end().to_owned();
        } else if let Some(hunk) = hunk_of(text) {
            (self.hunk, self.next_line) = hunk;
            return;
        }
        let patterns = registry::now();
        if let Some(hit) = patterns.find(line, 0) {
            let name = hit.name.to_owned();
            self.report("its name or message".to_owned(), format!("the secret {name}"), &name, b"");
        }
    }

    /// Scans the block. Unless `all` is set, its end is kept and scanned again with the next block.
    fn search(&mut self, all: bool) {
        if self.block.is_empty() {
            self.lines.clear();
            return;
        }
        let block = std::mem::take(&mut self.block);
        let lines = std::mem::take(&mut self.lines);
        let place = |at: usize| {
            let n = lines.partition_point(|(start, _)| *start <= at);
            n.checked_sub(1).and_then(|n| lines.get(n)).map_or(0, |(_, number)| *number)
        };
        let patterns = registry::now();
        let mut at = 0;
        while let Some(hit) = patterns.find(&block, at) {
            self.report(place(hit.start).to_string(), format!("the secret {}", hit.name), hit.name, b"");
            at = hit.end;
        }
        for hit in shape::find(&block, Sure::Yes) {
            let what = format!("what looks like a secret ({})", hit.rule);
            self.report(place(hit.start).to_string(), what, hit.rule, &block[hit.start..hit.end]);
        }
        if !all {
            let keep = block.len().saturating_sub(OVERLAP_BYTES);
            self.lines = lines.iter().map(|(start, n)| (start.saturating_sub(keep), *n)).collect();
            let first = self.lines.iter().rposition(|(start, _)| *start == 0).unwrap_or(0);
            self.lines.drain(..first);
            self.block = block[keep..].to_vec();
        }
    }

    fn report(&mut self, line: String, what: String, rule: &str, value: &[u8]) {
        let mut hash = Sha256::new();
        for part in [rule.as_bytes(), self.path.as_bytes(), value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mark = hash.finalize().iter().take(12).fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        if self.found.len() < FOUND_MAX && self.found.iter().all(|f| f.mark != mark) {
            let path = super::redact(&self.path).into_owned();
            let path: String = path.chars().filter(|c| !c.is_control()).take(300).collect();
            self.found.push(Found { place: format!("{path}:{line} in commit {}", self.commit), what, mark });
        }
    }
}

/// Parses `@@ -1,2 +3,4 @@` into the numbers of old and new lines and the number of the first new line.
fn hunk_of(text: &str) -> Option<((u64, u64), u64)> {
    let mut words = text.strip_prefix("@@ -")?.split(' ');
    let count = |word: &str| match word.split_once(',') {
        Some((start, count)) => Some((start.parse::<u64>().ok()?, count.parse::<u64>().ok()?)),
        None => Some((word.parse().ok()?, 1)),
    };
    let (_, old) = count(words.next()?)?;
    let (start, new) = count(words.next()?.strip_prefix('+')?)?;
    Some(((old, new), start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Secret, register};

    fn scan(text: &str, step: usize) -> Vec<Found> {
        let mut scan = OutgoingScan::default();
        text.as_bytes().chunks(step).for_each(|piece| scan.push(piece));
        scan.finish()
    }

    #[test]
    fn added_lines_are_searched_and_the_others_are_not() {
        let _live = register("DB", &Secret::new("hunter2hunter2"));
        let token = format!("ghp_{}", "A1b2C3d4E5f6".repeat(3));
        let text = format!(
            "skep-commit 0123456789abcdef\nTake it out\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n\
             @@ -3,2 +3,3 @@ fn hunter\n-old hunter2hunter2\n ctx hunter2hunter2 {token}\n+new\n+{token}\n\
             diff --git a/y b/y\nnew file mode 100644\n--- /dev/null\n+++ \"b/y y\"\n@@ -0,0 +1 @@\n+++ b/not-a-path\n\
             skep-commit feedfeedfeedfeed\nit says aHVudGVyMmh1bnRlcjI=\n\n--- a/x\n+++ b/x\n@@ -9 +9 @@\n-a\n+b\n"
        );
        for step in [1, 7, 1 << 20] {
            let found = scan(&text, step);
            let reported: Vec<_> = found.iter().map(|f| (f.place.as_str(), f.what.as_str())).collect();
            let want = [
                ("x:5 in commit 0123456789ab", "what looks like a secret (github-token)"),
                ("the commit message:its name or message in commit feedfeedfeed", "the secret DB"),
            ];
            assert_eq!(reported, want, "{step}");
            assert!(!format!("{found:?}").contains("A1b2"));
        }
    }

    #[test]
    fn a_value_across_lines_or_blocks_is_seen() {
        let _live = register("LONG", &Secret::new("0123456789abcdefghij"));
        let filler = "y".repeat(BLOCK_BYTES_MAX - 10);
        let text = format!("skep-commit 1\n+++ b/x\n@@ -0,0 +1 @@\n+{filler}0123456789abcdefghij{filler}\n");
        assert_eq!(scan(&text, 4096).len(), 1);
        let key = format!("-----BEGIN PRIVATE {}-----\n+{}\n", "KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC1a");
        let text = format!("skep-commit 1\n+++ b/k\n@@ -0,0 +1,2 @@\n+{key}");
        assert_eq!(scan(&text, 3)[0].what, "what looks like a secret (private-key)");
    }
}
