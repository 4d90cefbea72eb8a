//! Parses unified diffs as git writes them. Total: any bytes parse, and what is not a diff is left out.

use crate::domain::change::quoted_path::unquoted;

/// Changes of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileDiff<'a> {
    /// Path; may contain any character.
    pub path: String,
    /// What happened besides changed lines: `new file`, `deleted`, `mode 100755`, `binary`.
    pub flags: Vec<String>,
    /// Hunks.
    pub hunks: Vec<Hunk<'a>>,
}

/// Consecutive lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hunk<'a> {
    /// Text after the ranges: the function that the hunk is in.
    pub context: &'a str,
    /// Lines.
    pub lines: Vec<Line<'a>>,
}

/// Line of a hunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Kind.
    pub kind: LineKind,
    /// Number in the old file; 0 for an added line.
    pub old: u64,
    /// Number in the new file; 0 for a removed line.
    pub new: u64,
    /// Text without the sign.
    pub text: &'a str,
}

/// Kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// In both files.
    Same,
    /// Only in the new file.
    Added,
    /// Only in the old file.
    Removed,
    /// A remark of git: no newline at the end of the file.
    Remark,
}

impl FileDiff<'_> {
    /// Returns the number of lines.
    pub fn lines(&self) -> usize {
        self.hunks.iter().map(|hunk| hunk.lines.len()).sum()
    }
    /// Returns how many lines were added and removed.
    pub fn counts(&self) -> (usize, usize) {
        let of = |kind| self.hunks.iter().flat_map(|h| &h.lines).filter(|l| l.kind == kind).count();
        (of(LineKind::Added), of(LineKind::Removed))
    }
}

/// Parses a diff.
pub fn parse(text: &str) -> Vec<FileDiff<'_>> {
    let mut files: Vec<FileDiff<'_>> = Vec::new();
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        if let Some(names) = line.strip_prefix("diff --git ") {
            files.push(FileDiff { path: path_of(names), ..FileDiff::default() });
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        if let Some(ranges) = line.strip_prefix("@@ -") {
            let Some((mut range, context)) = Range::parse(ranges) else { continue };
            let mut hunk = Hunk { context: context.trim(), lines: Vec::new() };
            // The ranges say how many lines belong to the hunk: a line that looks like a header is content.
            while range.old_left > 0 || range.new_left > 0 {
                let Some(line) = lines.next() else { break };
                hunk.lines.push(range.take(line));
            }
            if let Some(remark) = lines.next_if(|line| line.starts_with("\\ ")) {
                hunk.lines.push(Line { kind: LineKind::Remark, old: 0, new: 0, text: &remark[2..] });
            }
            file.hunks.push(hunk);
        } else if file.hunks.is_empty() {
            file.flags.extend(flag(line));
        }
    }
    files
}

/// Position in a hunk.
struct Range {
    old: u64,
    new: u64,
    old_left: u64,
    new_left: u64,
}

impl Range {
    /// Parses `1,2 +3,4 @@ context`.
    fn parse(text: &str) -> Option<(Range, &str)> {
        let (ranges, context) = text.split_once(" @@")?;
        let (old, new) = ranges.split_once(" +")?;
        let part = |text: &str| {
            let (start, count) = text.split_once(',').unwrap_or((text, "1"));
            Some((start.parse::<u64>().ok()?, count.parse::<u64>().ok()?))
        };
        let ((old, old_left), (new, new_left)) = (part(old)?, part(new)?);
        Some((Range { old, new, old_left, new_left }, context))
    }

    fn take<'a>(&mut self, line: &'a str) -> Line<'a> {
        let (kind, text) = match line.as_bytes().first() {
            Some(b'+') => (LineKind::Added, &line[1..]),
            Some(b'-') => (LineKind::Removed, &line[1..]),
            Some(b'\\') => (LineKind::Remark, line[1..].trim_start()),
            Some(b' ') => (LineKind::Same, &line[1..]),
            _ => (LineKind::Same, line),
        };
        let taken = Line {
            kind,
            old: if matches!(kind, LineKind::Same | LineKind::Removed) { self.old } else { 0 },
            new: if matches!(kind, LineKind::Same | LineKind::Added) { self.new } else { 0 },
            text,
        };
        if taken.old > 0 || kind == LineKind::Removed {
            self.old = self.old.saturating_add(1);
            self.old_left = self.old_left.saturating_sub(1);
        }
        if taken.new > 0 || kind == LineKind::Added {
            self.new = self.new.saturating_add(1);
            self.new_left = self.new_left.saturating_sub(1);
        }
        // A hunk that starts at line 0 of both files is not one of git's; it must still end.
        if kind == LineKind::Same && taken.old == 0 && taken.new == 0 {
            self.old_left = self.old_left.saturating_sub(1);
            self.new_left = self.new_left.saturating_sub(1);
        }
        taken
    }
}

/// Returns the path in `a/PATH b/PATH`. Both are the same, because renames are not detected.
fn path_of(names: &str) -> String {
    let half = names.len().saturating_sub(1) / 2;
    let first = names.get(..half).unwrap_or(names);
    match first.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(quoted) => {
            let path = quoted.strip_prefix("a/").unwrap_or(quoted);
            unquoted(path).unwrap_or_else(|| path.to_owned())
        }
        None => first.strip_prefix("a/").unwrap_or(first).to_owned(),
    }
}

fn flag(line: &str) -> Option<String> {
    let mode = |mode: &str| match mode {
        "120000" => " symbolic link".to_owned(),
        "160000" => " submodule".to_owned(),
        "100755" => " executable".to_owned(),
        _ => String::new(),
    };
    let word = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    if let Some(rest) = line.strip_prefix("new file mode ") {
        return Some(format!("new{}", mode(&word(rest))));
    }
    if let Some(rest) = line.strip_prefix("deleted file mode ") {
        return Some(format!("deleted{}", mode(&word(rest))));
    }
    if let Some(rest) = line.strip_prefix("new mode ") {
        return Some(format!("mode is now {}", word(rest)));
    }
    (line.starts_with("Binary files ") || line.starts_with("GIT binary patch")).then(|| "binary".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATCH: &str = "diff --git a/a.txt b/a.txt\nindex 1..2 100644\n--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,3 @@ fn f()\n \
        one\n-two\n+2\n+diff --git a/evil b/evil\n\\ No newline at end of file\n\
        diff --git \"a/\\303\\251 \\\"x\" \"b/\\303\\251 \\\"x\"\nnew file mode 120000\n--- /dev/null\n+++ x\n@@ -0,0 +1 @@\n+y\n\
        diff --git a/b.png b/b.png\ndeleted file mode 100644\nBinary files a/b.png and /dev/null differ\n";

    #[test]
    fn files_hunks_and_lines_are_found() {
        let files = parse(PATCH);
        let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["a.txt", "é \"x", "b.png"]);
        let kinds: Vec<(LineKind, u64, u64)> = files[0].hunks[0].lines.iter().map(|l| (l.kind, l.old, l.new)).collect();
        let expected = [
            (LineKind::Same, 1, 1),
            (LineKind::Removed, 2, 0),
            (LineKind::Added, 0, 2),
            (LineKind::Added, 0, 3),
            (LineKind::Remark, 0, 0),
        ];
        assert_eq!(kinds, expected);
        assert_eq!((files[0].hunks[0].context, files[0].counts()), ("fn f()", (2, 1)));
        assert_eq!(files[1].flags, ["new symbolic link"]);
        assert_eq!(files[2].flags, ["deleted", "binary"]);
    }

    proptest! {
        #[test]
        fn any_text_parses(text in "(diff --git a/x b/x\n|@@ -[0-9]{1,20}(,[0-9]{1,20})? \\+[0-9]{1,3},[0-9]{1,20} @@\n|[ +\\\\-]?\\PC{0,6}\n){0,40}") {
            let files = parse(&text);
            let lines: usize = files.iter().map(FileDiff::lines).sum();
            prop_assert!(lines <= text.split('\n').count());
        }
    }
}
