//! Finding where the hunks of a patch stand in a file, exactly, and what the file is after them.

use super::read::{Hunk, Side};
use std::fmt::Write as _;

/// Comparisons of lines for one file: files and hunks of many equal lines would take for ever.
const COMPARED_MAX: usize = 4_000_000;
/// Places named when there are several.
const PLACES_SHOWN: usize = 8;
/// Lines shown of what stands there instead, and the longest of them.
const LINES_SHOWN: usize = 12;
const LINE_CHARS_MAX: usize = 160;

/// The file after all hunks, in their order. Its line ends, and whether it ends in one, stay what they were where the patch does not say
/// otherwise.
///
/// # Errors
/// Which hunk does not fit, and what stands there.
pub(super) fn apply(text: &str, hunks: &[Hunk]) -> Result<String, String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let crlf = text.contains("\r\n") && lines.iter().all(|l| l.ends_with("\r\n") || !l.ends_with('\n'));
    let end = if crlf { "\r\n" } else { "\n" };
    let mut file = File { lines: &lines, compared: 0 };
    let mut out = String::with_capacity(text.len());
    let put = |out: &mut String, line: &str, end: &str| {
        // The file's last line may have had no end; nothing follows it without one.
        if !out.is_empty() && !out.ends_with('\n') {
            out.push_str(end);
        }
        out.push_str(line);
    };
    let (mut at, mut open) = (0, None);
    for (n, hunk) in hunks.iter().enumerate() {
        let place = file.place(hunk, at).map_err(|why| {
            let said = hunk.line.map(|l| format!(" (@@ -{l})")).unwrap_or_default();
            format!("hunk {}{said} {why}", n + 1)
        })?;
        lines[at..place].iter().for_each(|line| put(&mut out, line, end));
        at = place;
        for (side, line) in &hunk.lines {
            match side {
                Side::Both => put(&mut out, lines.get(at).copied().unwrap_or_default(), end),
                Side::Old => {}
                Side::New => put(&mut out, &format!("{line}{end}"), end),
            }
            at += usize::from(*side != Side::New);
        }
        if at == lines.len() {
            open = match hunk.open {
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

/// A line without its end.
fn bare(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

struct File<'a> {
    lines: &'a [&'a str],
    compared: usize,
}

impl File<'_> {
    /// Where a hunk begins, from line `from` on: in the one place where its lines stand, or of several where it says.
    fn place(&mut self, hunk: &Hunk, from: usize) -> Result<usize, String> {
        let mut from = from;
        for heading in &hunk.under {
            let found = self.lines[from..].iter().position(|l| bare(l).trim() == heading.trim());
            from += 1 + found.ok_or_else(|| format!("stands under {:?}, and no line is that", short(heading)))?;
        }
        let old: Vec<&str> = hunk.old().collect();
        let last = self.lines.len();
        if old.is_empty() {
            return match hunk.line {
                _ if hunk.at_end => Ok(last),
                Some(line) if (from..=last).contains(&line) => Ok(line),
                Some(line) => Err(format!("is to be put in after line {line}, which the file has not; it has {last}")),
                None if !hunk.under.is_empty() || last == 0 => Ok(from),
                None => Err("has no line that is there already: give it some, to say where it belongs".to_owned()),
            };
        }
        let mut found = Vec::new();
        for at in from..(last + 1).saturating_sub(old.len()) {
            let fits = (!hunk.at_end || at + old.len() == last) && self.is_at(&old, at)?;
            if fits {
                found.push(at);
                // Under a line it was told, the first place is the one that is meant.
                if !hunk.under.is_empty() || found.len() > PLACES_SHOWN && hunk.line.is_none() {
                    break;
                }
            }
        }
        let said = hunk.line.map(|l| l.saturating_sub(1));
        match found.as_slice() {
            [at] => Ok(*at),
            [] => Err(self.instead(&old, from, said)),
            many => match said.filter(|at| many.contains(at)) {
                Some(at) => Ok(at),
                None => {
                    let places: Vec<String> = many.iter().take(PLACES_SHOWN).map(|at| (at + 1).to_string()).collect();
                    let s = if many.len() > PLACES_SHOWN { " and more" } else { "" };
                    Err(format!("fits at several lines ({}{s}): give it more of what stands around", places.join(", ")))
                }
            },
        }
    }

    /// Whether the lines stand at `at`.
    fn is_at(&mut self, old: &[&str], at: usize) -> Result<bool, String> {
        let same = old.iter().zip(&self.lines[at..]).take_while(|(want, line)| **want == bare(line)).count();
        self.compared += same + 1;
        match self.compared > COMPARED_MAX {
            true => Err("repeats itself too often to be looked for: give it fewer lines, or use write".to_owned()),
            false => Ok(same == old.len()),
        }
    }

    /// What stands where most of the hunk's lines are: the first that differs, and the text around it.
    fn instead(&mut self, old: &[&str], from: usize, said: Option<usize>) -> String {
        let mut best = (0, from);
        for at in from..self.lines.len() {
            self.compared += old.len();
            if self.compared > COMPARED_MAX {
                break;
            }
            let same = old.iter().zip(&self.lines[at..]).filter(|(want, line)| **want == bare(line)).count();
            let nearer = |at: usize| said.map_or(at, |said| at.abs_diff(said));
            if same > best.0 || same == best.0 && same > 0 && nearer(at) < nearer(best.1) {
                best = (same, at);
            }
        }
        let (same, at) = best;
        if same == 0 {
            let first = short(old.first().unwrap_or(&""));
            return format!(
                "does not fit: none of its lines stands there (the first is {first:?}); read the file again"
            );
        }
        let there = &self.lines[at..self.lines.len().min(at + old.len())];
        let differs = old.iter().zip(there).position(|(want, line)| *want != bare(line)).unwrap_or(there.len());
        let want = short(old.get(differs).unwrap_or(&""));
        let shown = differs.saturating_sub(LINES_SHOWN / 2);
        let mut text = match there.get(differs) {
            Some(line) => format!(
                "does not fit: it wants {want:?} at line {}, where {:?} stands",
                at + differs + 1,
                short(bare(line))
            ),
            None => format!("does not fit: it wants {want:?} after the last line, {}", self.lines.len()),
        };
        text.push_str(". The file has there:\n");
        for (n, line) in there.iter().enumerate().skip(shown).take(LINES_SHOWN) {
            let _written = writeln!(text, "{}\t{}", at + n + 1, short(bare(line)));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn short(line: &str) -> String {
    let cut: String = line.chars().take(LINE_CHARS_MAX).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
