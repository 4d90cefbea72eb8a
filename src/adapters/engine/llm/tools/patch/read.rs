//! Parser for patches as models write them: a unified diff (git's, too), or the `*** Begin Patch` form.
//!
//! The counts in `@@ -a,b +c,d @@` are often wrong and are ignored: a line's first character says what it is, and the
//! position of a hunk follows from its lines, not from its numbers.

use crate::domain::change::quoted_path::unquoted;

/// Upper bounds of the files and hunks in one patch.
const MAX_FILES: usize = 100;
const MAX_HUNKS: usize = 1_000;
/// What is wrong with a name in quotes.
const NOT_UTF8: &str = "quotes a file name that is not UTF-8";

/// Change of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Path before the change; `None` = the file is created.
    pub from: Option<String>,
    /// Path after the change; `None` = the file is deleted.
    pub to: Option<String>,
    /// Hunks, in file order.
    pub hunks: Vec<Hunk>,
}

/// Adjacent lines of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hunk {
    /// First line according to the patch, starting at 1 (0 = before the first line).
    pub line: Option<usize>,
    /// Lines that come somewhere before the hunk in the file.
    pub under: Vec<String>,
    /// Lines without their newline. A carriage return stays, because it may be what the patch changes.
    pub lines: Vec<(Side, String)>,
    /// Whether the old, or the new, file ends with this hunk and without a final newline.
    pub no_newline_at_end: (bool, bool),
    /// Whether the hunk reaches the end of the file.
    pub at_end: bool,
}

/// File that a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Both,
    Old,
    New,
}

impl Hunk {
    /// Lines that must occur in the old file.
    pub(super) fn old(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|(side, _)| *side != Side::New).map(|(_, line)| line.as_str())
    }
}

/// Parses a patch.
///
/// # Errors
/// Names the invalid line and what is expected.
pub(super) fn patch(text: &str) -> Result<Vec<Change>, String> {
    let lines = text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line)).collect();
    let reader = Reader { lines, at: 0, hunks: 0 };
    let changes = match reader.lines.iter().position(|l| l.trim_end() == "*** Begin Patch") {
        Some(begin) => Reader { at: begin + 1, ..reader }.envelope()?,
        None => reader.unified()?,
    };
    match changes.len() {
        0 => {
            Err("the patch contains no file; send a unified diff, or the form *** Begin Patch … *** End Patch"
                .to_owned())
        }
        n if n > MAX_FILES => Err(format!("the patch changes {n} files; the limit is {MAX_FILES}")),
        _ => Ok(changes),
    }
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
    hunks: usize,
}

impl<'a> Reader<'a> {
    /// Returns the next line without a carriage return at its end.
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).map(|line| line.strip_suffix('\r').unwrap_or(line))
    }

    fn wrong(&self, what: &str) -> String {
        let line: String = self.peek().unwrap_or_default().chars().take(80).collect();
        format!("line {} of the patch, {line:?}, {what}", self.at + 1)
    }

    /// Parses the `*** Begin Patch` form: sections that name their operation.
    fn envelope(mut self) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        while let Some(line) = self.peek() {
            let named = |key: &str| line.strip_prefix(key).map(|path| path.trim().to_owned());
            if changes.len() > MAX_FILES || line.trim_end() == "*** End Patch" {
                break;
            } else if let Some(path) = named("*** Add File:") {
                self.at += 1;
                let mut hunk = self.body(false)?;
                hunk.line = Some(0);
                if hunk.lines.iter().any(|(side, _)| *side != Side::New) {
                    return Err(format!("every line of the new file {path:?} must start with '+'"));
                }
                changes.push(Change { from: None, to: Some(path), hunks: vec![hunk] });
            } else if let Some(path) = named("*** Delete File:") {
                self.at += 1;
                changes.push(Change { from: Some(path), to: None, hunks: vec![] });
            } else if let Some(path) = named("*** Update File:") {
                self.at += 1;
                let moved = self.peek().and_then(|l| l.strip_prefix("*** Move to:")).map(|to| to.trim().to_owned());
                self.at += usize::from(moved.is_some());
                let hunks = self.updates()?;
                changes.push(Change { to: Some(moved.unwrap_or_else(|| path.clone())), from: Some(path), hunks });
            } else if line.trim().is_empty() {
                self.at += 1;
            } else {
                return Err(self.wrong("is not *** Update File:, *** Add File:, *** Delete File: or *** End Patch"));
            }
        }
        Ok(changes)
    }

    /// Parses the hunks of an updated file. Each follows `@@`, with or without a heading line; the first may omit it.
    fn updates(&mut self) -> Result<Vec<Hunk>, String> {
        let mut hunks = Vec::new();
        while self.peek().is_some_and(|l| !l.starts_with("*** ")) {
            let (mut under, mut number) = (Vec::new(), None);
            while let Some(heading) = self.peek().and_then(|l| l.strip_prefix("@@")) {
                number = number.or_else(|| numbered(heading));
                let heading = heading.trim().trim_end_matches("@@").trim();
                if numbered(heading).is_none() && !heading.is_empty() {
                    under.push(heading.to_owned());
                }
                self.at += 1;
            }
            let hunk = self.body(false)?;
            if !hunk.lines.is_empty() {
                hunks.push(Hunk { under, line: number, ..hunk });
            }
        }
        Ok(hunks)
    }

    /// Parses a unified diff, with or without git headers. Text before the first file is ignored.
    fn unified(mut self) -> Result<Vec<Change>, String> {
        let mut changes: Vec<Change> = Vec::new();
        // Whether the last change started with a `diff --git` line and may still receive its names.
        let mut git = false;
        while let Some(line) = self.peek() {
            if changes.len() > MAX_FILES {
                break;
            }
            let open = changes.last_mut().filter(|_| git);
            if let Some(names) = line.strip_prefix("diff --git ") {
                let same = same_name(names);
                changes.push(Change { from: same.clone(), to: same, hunks: vec![] });
                git = true;
            } else if self.is_file_head() {
                let (from, to) = self.names()?;
                self.at += 2;
                match open {
                    Some(change) => (change.from, change.to) = (from, to),
                    None => changes.push(Change { from, to, hunks: vec![] }),
                }
                git = false;
                let hunks = self.hunks()?;
                if let Some(change) = changes.last_mut() {
                    change.hunks = hunks;
                }
                continue;
            } else if let Some(change) = open {
                if let Some(name) = line.strip_prefix("rename from ") {
                    change.from = Some(plain_name(name).ok_or_else(|| self.wrong(NOT_UTF8))?);
                } else if let Some(name) = line.strip_prefix("rename to ") {
                    change.to = Some(plain_name(name).ok_or_else(|| self.wrong(NOT_UTF8))?);
                } else if let Some(mode) = line.strip_prefix("new file mode ") {
                    check_mode(mode.trim())?;
                    change.from = None;
                } else if line.starts_with("deleted file mode ") {
                    change.to = None;
                } else if ["old mode ", "new mode ", "copy from ", "copy to ", "Binary files ", "GIT binary patch"]
                    .iter()
                    .any(|k| line.starts_with(k))
                {
                    return Err(
                        self.wrong("is not supported: a patch cannot change modes, copy files or contain binary ones")
                    );
                } else if !line.starts_with("index ") && !line.contains("similarity index ") && !line.trim().is_empty()
                {
                    return Err(self.wrong("is not a valid diff header line"));
                }
            } else if !changes.is_empty() && !line.trim().is_empty() && !line.starts_with("```") {
                return Err(self.wrong("is not part of a diff"));
            }
            self.at += 1;
        }
        match changes.iter().all(|c| c.from.is_some() || c.to.is_some()) {
            true => Ok(changes),
            false => Err("a file in the patch has no name; give every file its --- and +++ lines".to_owned()),
        }
    }

    /// Returns whether the `---` and `+++` lines of a file follow. A removed line may look like the first of them, so
    /// the hunk after them counts, too.
    fn is_file_head(&self) -> bool {
        let at = |n: usize| self.lines.get(self.at + n).copied().unwrap_or_default();
        at(0).starts_with("--- ") && at(1).starts_with("+++ ") && (at(2).starts_with("@@") || at(2).trim().is_empty())
    }

    fn names(&self) -> Result<(Option<String>, Option<String>), String> {
        let name = |n: usize| -> Result<String, String> {
            let whole = self.lines.get(self.at + n).map_or("", |l| &l[4..]);
            plain_name(whole.split('\t').next().unwrap_or_default())
                .ok_or_else(|| format!("line {} of the patch {NOT_UTF8}", self.at + n + 1))
        };
        let (old, new) = (name(0)?, name(1)?);
        let (old, new) = (old.as_str(), new.as_str());
        let none = |name: &str| name == "/dev/null";
        let prefixed = (none(old) || old.starts_with("a/")) && (none(new) || new.starts_with("b/"));
        let path = |name: &str| (!none(name)).then(|| if prefixed { name[2..].to_owned() } else { name.to_owned() });
        Ok((path(old), path(new)))
    }

    fn hunks(&mut self) -> Result<Vec<Hunk>, String> {
        let mut hunks = Vec::new();
        while let Some(heading) = self.peek().and_then(|l| l.strip_prefix("@@")) {
            let line = numbered(heading);
            self.at += 1;
            hunks.push(Hunk { line, ..self.body(true)? });
        }
        Ok(hunks)
    }

    /// Parses the lines of one hunk, up to the next heading.
    fn body(&mut self, unified: bool) -> Result<Hunk, String> {
        self.hunks += 1;
        if self.hunks > MAX_HUNKS {
            return Err(format!("the patch has more than {MAX_HUNKS} hunks; send it in parts"));
        }
        let mut hunk = Hunk::default();
        // Empty lines at the end: context lines without their leading space, or only a gap before the next section.
        let mut blank = 0;
        while let Some(line) = self.peek() {
            if line.trim_end() == "*** End of File" {
                hunk.at_end = true;
                self.at += 1;
                break;
            }
            let over = match unified {
                true => line.starts_with("diff --git ") || line.starts_with("```") || self.is_file_head(),
                false => line.starts_with("*** "),
            };
            if over || line.starts_with("@@") {
                break;
            }
            let whole = self.lines.get(self.at).copied().unwrap_or_default();
            let (side, text) = match (line.as_bytes().first(), whole.get(1..)) {
                (Some(b' '), Some(text)) => (Side::Both, text),
                (Some(b'-'), Some(text)) => (Side::Old, text),
                (Some(b'+'), Some(text)) => (Side::New, text),
                (Some(b'\\'), _) => {
                    match hunk.lines.last() {
                        Some((Side::Old, _)) => hunk.no_newline_at_end.0 = true,
                        Some((Side::New, _)) => hunk.no_newline_at_end.1 = true,
                        _ => hunk.no_newline_at_end = (true, true),
                    }
                    self.at += 1;
                    continue;
                }
                (None, _) => {
                    blank += 1;
                    self.at += 1;
                    continue;
                }
                _ => return Err(self.wrong("must start with ' ', '+', '-' or '@@'")),
            };
            hunk.lines.extend((0..std::mem::take(&mut blank)).map(|_| (Side::Both, String::new())));
            hunk.lines.push((side, text.to_owned()));
            self.at += 1;
        }
        Ok(hunk)
    }
}

/// Parses the old line number in ` -12,3 +12,4 @@ …`.
fn numbered(heading: &str) -> Option<usize> {
    let rest = heading.trim_start().strip_prefix('-')?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// Parses the path in `a/PATH b/PATH` if both are the same.
fn same_name(names: &str) -> Option<String> {
    let (old, new) = names.split_at_checked(names.len() / 2)?;
    let (old, new) = (plain_name(old)?, plain_name(new)?);
    let (old, new) = (old.strip_prefix("a/")?, new.strip_prefix("b/")?);
    (old == new).then(|| old.to_owned())
}

/// Resolves the quotes in which git puts a name with unusual characters; `None` = the name is not UTF-8.
fn plain_name(name: &str) -> Option<String> {
    let name = name.trim();
    match name.strip_prefix('"') {
        None => Some(name.to_owned()),
        Some(quoted) => quoted.strip_suffix('"').and_then(unquoted),
    }
}

fn check_mode(mode: &str) -> Result<(), String> {
    match mode {
        "100644" => Ok(()),
        "100755" => Err("a patch cannot create executable files; leave the mode out".to_owned()),
        _ => Err(format!("cannot create a file with mode {mode}; only regular files are supported")),
    }
}
