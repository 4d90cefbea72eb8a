//! Applies hunks to a file: finds the exact position of each and builds the new content.

use super::read::{Hunk, Side};
use std::fmt::Write as _;

/// Upper bound of line comparisons per file: many equal lines would make the search quadratic.
const MAX_COMPARISONS: usize = 4_000_000;
/// Upper bound of the positions named if a hunk fits at several.
const MAX_POSITIONS: usize = 8;
/// Upper bounds of the lines shown at a mismatch, and of each of them.
const MAX_SHOWN_LINES: usize = 12;
const MAX_LINE_CHARS: usize = 160;

/// Returns the file after all hunks, in order. Line endings and the final newline are preserved unless the patch
/// changes them: an added line keeps its carriage return, see [`Endings`].
///
/// # Errors
/// Names the hunk that does not match and shows the lines in the file.
pub(super) fn apply(text: &str, hunks: &[Hunk]) -> Result<String, String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let crlf = text.contains("\r\n") && lines.iter().all(|l| l.ends_with("\r\n") || !l.ends_with('\n'));
    let end = if crlf { "\r\n" } else { "\n" };
    let mut file = File { lines: &lines, compared: 0 };
    let mut out = String::with_capacity(text.len());
    let put = |out: &mut String, line: &str, end: &str| {
        // The file's last line may lack a newline; a line that follows needs one.
        if !out.is_empty() && !out.ends_with('\n') {
            out.push_str(end);
        }
        out.push_str(line);
    };
    let mut positions = Vec::with_capacity(hunks.len());
    for (n, hunk) in hunks.iter().enumerate() {
        let from = positions.last().zip(n.checked_sub(1).and_then(|n| hunks.get(n)));
        let from = from.map_or(0, |(at, before)| at + before.old().count());
        positions.push(file.position(hunk, from).map_err(|why| {
            let heading = hunk.line.map(|l| format!(" (@@ -{l})")).unwrap_or_default();
            format!("hunk {}{heading} {why}", n + 1)
        })?);
    }
    let endings = Endings::of(&lines, hunks, &positions);
    let (mut at, mut open) = (0, None);
    for (hunk, position) in hunks.iter().zip(positions) {
        lines[at..position].iter().for_each(|line| put(&mut out, line, end));
        at = position;
        for (side, line) in &hunk.lines {
            match side {
                Side::Both => put(&mut out, lines.get(at).copied().unwrap_or_default(), end),
                Side::Old => {}
                Side::New => put(&mut out, &endings.added(line, end), end),
            }
            at += usize::from(*side != Side::New);
        }
        if at == lines.len() {
            open = match hunk.no_newline_at_end {
                (_, true) => Some(true),
                (true, false) => Some(false),
                _ => None,
            };
        }
    }
    lines[at..].iter().for_each(|line| put(&mut out, line, end));
    let open = open.unwrap_or(!text.is_empty() && !text.ends_with('\n'));
    match (open, out.ends_with('\n')) {
        (true, true) => out.truncate(bare(&out).len()),
        (false, false) if !out.is_empty() => out.push_str(end),
        _ => {}
    }
    Ok(out)
}

/// What the carriage returns of a patch mean, judged by the lines that it has in common with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endings {
    /// Those lines end in the patch as they do in the file, with carriage returns: added lines are taken as written.
    AsWritten,
    /// Those lines have carriage returns only in the patch, so it got them on its way here.
    Foreign,
    /// Those lines have none in the patch, which may only leave them out.
    LeftOut,
}

impl Endings {
    fn of(lines: &[&str], hunks: &[Hunk], positions: &[usize]) -> Endings {
        let mut found = Endings::LeftOut;
        for (hunk, position) in hunks.iter().zip(positions) {
            let existing = lines.get(*position..).unwrap_or_default();
            for (_, line) in hunk.old().zip(existing).filter(|(want, _)| want.ends_with('\r')) {
                if line.ends_with("\r\n") {
                    return Endings::AsWritten;
                }
                found = Endings::Foreign;
            }
        }
        found
    }

    /// Returns an added line with its ending; `end` is that of the file.
    fn added(self, line: &str, end: &str) -> String {
        match self {
            Endings::Foreign => format!("{}{end}", bare(line)),
            Endings::LeftOut if !line.ends_with('\r') => format!("{line}{end}"),
            Endings::AsWritten | Endings::LeftOut => format!("{line}\n"),
        }
    }
}

/// Returns a line without its line ending.
fn bare(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

struct File<'a> {
    lines: &'a [&'a str],
    compared: usize,
}

impl File<'_> {
    /// Returns the position of a hunk at or after line `from`: the only position where its lines match, or the one it
    /// names if there are several.
    fn position(&mut self, hunk: &Hunk, from: usize) -> Result<usize, String> {
        let mut from = from;
        for heading in &hunk.under {
            let found = self.lines[from..].iter().position(|l| bare(l).trim() == heading.trim());
            from += 1 + found.ok_or_else(|| format!("belongs below {:?}, but no line matches that", short(heading)))?;
        }
        let old: Vec<&str> = hunk.old().collect();
        let last = self.lines.len();
        if old.is_empty() {
            return match hunk.line {
                _ if hunk.at_end => Ok(last),
                Some(line) if (from..=last).contains(&line) => Ok(line),
                Some(line) => Err(format!("inserts after line {line}, but the file has only {last} lines")),
                None if !hunk.under.is_empty() || last == 0 => Ok(from),
                None => Err("has no context lines; add some to show where it belongs".to_owned()),
            };
        }
        let mut found = Vec::new();
        for at in from..(last + 1).saturating_sub(old.len()) {
            let fits = (!hunk.at_end || at + old.len() == last) && self.is_at(&old, at)?;
            if fits {
                found.push(at);
                // Below a heading line, the first match is meant.
                if !hunk.under.is_empty() || found.len() > MAX_POSITIONS && hunk.line.is_none() {
                    break;
                }
            }
        }
        let named = hunk.line.map(|l| l.saturating_sub(1));
        let exact = |at: &usize| {
            old.iter().zip(&self.lines[*at..]).all(|(want, line)| *want == line.strip_suffix('\n').unwrap_or(line))
        };
        if found.len() > 1 && found.iter().any(exact) {
            found.retain(exact);
        }
        match found.as_slice() {
            [at] => Ok(*at),
            [] => Err(self.mismatch(&old, from, named)),
            many => match named.filter(|at| many.contains(at)) {
                Some(at) => Ok(at),
                None => {
                    let positions: Vec<String> =
                        many.iter().take(MAX_POSITIONS).map(|at| (at + 1).to_string()).collect();
                    let s = if many.len() > MAX_POSITIONS { " and more" } else { "" };
                    Err(format!("matches at several lines ({}{s}); add more context lines", positions.join(", ")))
                }
            },
        }
    }

    /// Returns whether the lines match at `at`.
    fn is_at(&mut self, old: &[&str], at: usize) -> Result<bool, String> {
        let same = old.iter().zip(&self.lines[at..]).take_while(|(want, line)| bare(want) == bare(line)).count();
        self.compared += same + 1;
        match self.compared > MAX_COMPARISONS {
            true => Err("is too repetitive to locate; send fewer lines, or use write".to_owned()),
            false => Ok(same == old.len()),
        }
    }

    /// Describes the position where most lines match: the first line that differs, and the text around it.
    fn mismatch(&mut self, old: &[&str], from: usize, named: Option<usize>) -> String {
        let mut best = (0, from);
        for at in from..self.lines.len() {
            self.compared += old.len();
            if self.compared > MAX_COMPARISONS {
                break;
            }
            let same = old.iter().zip(&self.lines[at..]).filter(|(want, line)| bare(want) == bare(line)).count();
            let distance = |at: usize| named.map_or(at, |named| at.abs_diff(named));
            if same > best.0 || same == best.0 && same > 0 && distance(at) < distance(best.1) {
                best = (same, at);
            }
        }
        let (same, at) = best;
        if same == 0 {
            let first = short(bare(old.first().unwrap_or(&"")));
            return format!(
                "does not match: none of its lines is in the file (the first is {first:?}); read the file again"
            );
        }
        let existing = &self.lines[at..self.lines.len().min(at + old.len())];
        let differs =
            old.iter().zip(existing).position(|(want, line)| bare(want) != bare(line)).unwrap_or(existing.len());
        let expected = short(bare(old.get(differs).unwrap_or(&"")));
        let shown = differs.saturating_sub(MAX_SHOWN_LINES / 2);
        let mut text = match existing.get(differs) {
            Some(line) => format!(
                "does not match: expected {expected:?} at line {}, found {:?}",
                at + differs + 1,
                short(bare(line))
            ),
            None => format!("does not match: expected {expected:?} after the last line, {}", self.lines.len()),
        };
        text.push_str(". Lines in the file:\n");
        for (n, line) in existing.iter().enumerate().skip(shown).take(MAX_SHOWN_LINES) {
            let _written = writeln!(text, "{}\t{}", at + n + 1, short(bare(line)));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn short(line: &str) -> String {
    let cut: String = line.chars().take(MAX_LINE_CHARS).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
