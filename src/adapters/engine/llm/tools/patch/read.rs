//! Reading a patch as models write it: a unified diff (git's, too), or the `*** Begin Patch` form.
//!
//! The counts in `@@ -a,b +c,d @@` are often wrong and are not needed: a line's first character says what it is. Where a hunk belongs is
//! decided by its lines, not by its numbers.

/// Files and hunks of one patch.
const FILES_MAX: usize = 100;
const HUNKS_MAX: usize = 1_000;

/// What becomes of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Its path before; `None` = it is made.
    pub from: Option<String>,
    /// Its path afterwards; `None` = it is deleted.
    pub to: Option<String>,
    /// Its hunks, in the order of the file.
    pub hunks: Vec<Hunk>,
}

/// Lines that stand together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hunk {
    /// The line it says it begins at, from 1 (0 = before the first).
    pub line: Option<usize>,
    /// Lines that come before it in the file, somewhere.
    pub under: Vec<String>,
    /// Its lines, without their ends.
    pub lines: Vec<(Side, String)>,
    /// Whether it says that the old, or the new, file ends with it and without a line end.
    pub open: (bool, bool),
    /// Whether it says that it reaches to the end of the file.
    pub at_end: bool,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Both,
    Old,
    New,
}

impl Hunk {
    /// The lines it wants to find.
    pub(super) fn old(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|(side, _)| *side != Side::New).map(|(_, line)| line.as_str())
    }
}

/// Reads it.
///
/// # Errors
/// Which line is not one of a patch, and what is expected.
pub(super) fn patch(text: &str) -> Result<Vec<Change>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let reader = Reader { lines, at: 0, hunks: 0 };
    let changes = match reader.lines.iter().position(|l| l.trim_end() == "*** Begin Patch") {
        Some(begin) => Reader { at: begin + 1, ..reader }.envelope()?,
        None => reader.unified()?,
    };
    match changes.len() {
        0 => Err("there is no file in it: send a unified diff, or the form *** Begin Patch … *** End Patch".to_owned()),
        n if n > FILES_MAX => Err(format!("it changes {n} files; at most {FILES_MAX} at once")),
        _ => Ok(changes),
    }
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
    hunks: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> String {
        let line: String = self.peek().unwrap_or_default().chars().take(80).collect();
        format!("line {} of the patch, {line:?}, {what}", self.at + 1)
    }

    /// `*** Begin Patch`: sections that name what they do.
    fn envelope(mut self) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        while let Some(line) = self.peek() {
            let named = |key: &str| line.strip_prefix(key).map(|path| path.trim().to_owned());
            if changes.len() > FILES_MAX || line.trim_end() == "*** End Patch" {
                break;
            } else if let Some(path) = named("*** Add File:") {
                self.at += 1;
                let mut hunk = self.body(false)?;
                hunk.line = Some(0);
                if hunk.lines.iter().any(|(side, _)| *side != Side::New) {
                    return Err(format!("every line of the new file {path:?} must begin with '+'"));
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
                return Err(self.wrong("is none of *** Update File:, *** Add File:, *** Delete File:, *** End Patch"));
            }
        }
        Ok(changes)
    }

    /// The hunks of an updated file: each after `@@`, with or without a line it stands under; the first may do without.
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

    /// A unified diff, of git or without it; what stands before the first file is not looked at.
    fn unified(mut self) -> Result<Vec<Change>, String> {
        let mut changes: Vec<Change> = Vec::new();
        // Whether the change last pushed was begun by a `diff --git` line and may still be told its names.
        let mut git = false;
        while let Some(line) = self.peek() {
            if changes.len() > FILES_MAX {
                break;
            }
            let open = changes.last_mut().filter(|_| git);
            if let Some(names) = line.strip_prefix("diff --git ") {
                let same = same_name(names).map(str::to_owned);
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
                let rest = |key: &str| line.strip_prefix(key).map(|path| path.trim().to_owned());
                if let Some(path) = rest("rename from ") {
                    change.from = Some(path);
                } else if let Some(path) = rest("rename to ") {
                    change.to = Some(path);
                } else if let Some(mode) = rest("new file mode ") {
                    ordinary(&mode)?;
                    change.from = None;
                } else if line.starts_with("deleted file mode ") {
                    change.to = None;
                } else if ["old mode ", "new mode ", "copy from ", "copy to ", "Binary files ", "GIT binary patch"]
                    .iter()
                    .any(|k| line.starts_with(k))
                {
                    return Err(self.wrong("is not done by this tool: modes, copies and binary files are for `run`"));
                } else if !line.starts_with("index ") && !line.contains("similarity index ") && !line.trim().is_empty()
                {
                    return Err(self.wrong("is not a line of a diff's head"));
                }
            } else if !changes.is_empty() && !line.trim().is_empty() && !line.starts_with("```") {
                return Err(self.wrong("is not part of a diff"));
            }
            self.at += 1;
        }
        match changes.iter().all(|c| c.from.is_some() || c.to.is_some()) {
            true => Ok(changes),
            false => Err("a file in it has no name: give each its --- and +++ lines".to_owned()),
        }
    }

    /// Whether a file's `---` and `+++` stand here. A removed line may look like the first of them, so the hunk after them counts, too.
    fn is_file_head(&self) -> bool {
        let at = |n: usize| self.lines.get(self.at + n).copied().unwrap_or_default();
        at(0).starts_with("--- ") && at(1).starts_with("+++ ") && (at(2).starts_with("@@") || at(2).trim().is_empty())
    }

    fn names(&self) -> Result<(Option<String>, Option<String>), String> {
        let name = |n: usize| -> Result<&'a str, String> {
            let whole = self.lines.get(self.at + n).map_or("", |l| &l[4..]);
            match whole.split('\t').next().unwrap_or_default().trim_end() {
                quoted if quoted.starts_with('"') => Err(self.wrong("names a file in quotes: write the path as it is")),
                name => Ok(name),
            }
        };
        let (old, new) = (name(0)?, name(1)?);
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

    /// The lines of one hunk, to the next heading.
    fn body(&mut self, unified: bool) -> Result<Hunk, String> {
        self.hunks += 1;
        if self.hunks > HUNKS_MAX {
            return Err(format!("it has more than {HUNKS_MAX} hunks; send it in parts"));
        }
        let mut hunk = Hunk::default();
        // Empty lines at the end: lines of the file without their blank, or only the space before what follows.
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
            let (side, text) = match (line.as_bytes().first(), line.get(1..)) {
                (Some(b' '), Some(text)) => (Side::Both, text),
                (Some(b'-'), Some(text)) => (Side::Old, text),
                (Some(b'+'), Some(text)) => (Side::New, text),
                (Some(b'\\'), _) => {
                    match hunk.lines.last() {
                        Some((Side::Old, _)) => hunk.open.0 = true,
                        Some((Side::New, _)) => hunk.open.1 = true,
                        _ => hunk.open = (true, true),
                    }
                    self.at += 1;
                    continue;
                }
                (None, _) => {
                    blank += 1;
                    self.at += 1;
                    continue;
                }
                _ => return Err(self.wrong("begins with none of ' ', '+', '-' and '@@'")),
            };
            hunk.lines.extend((0..std::mem::take(&mut blank)).map(|_| (Side::Both, String::new())));
            hunk.lines.push((side, text.strip_suffix('\r').unwrap_or(text).to_owned()));
            self.at += 1;
        }
        Ok(hunk)
    }
}

/// The old line in ` -12,3 +12,4 @@ …`.
fn numbered(heading: &str) -> Option<usize> {
    let rest = heading.trim_start().strip_prefix('-')?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// The path in `a/PATH b/PATH`, when both are the same.
fn same_name(names: &str) -> Option<&str> {
    let (old, new) = names.split_at_checked(names.len() / 2)?;
    let (old, new) = (old.strip_prefix("a/")?, new.strip_prefix(" b/")?);
    (old == new).then_some(old)
}

fn ordinary(mode: &str) -> Result<(), String> {
    match mode {
        "100644" => Ok(()),
        "100755" => Err("this tool makes no executable files: leave the mode out, then chmod with `run`".to_owned()),
        _ => Err(format!("a file of mode {mode} is not made: only ordinary files are")),
    }
}
