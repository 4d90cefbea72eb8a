//! Citations: the lines of a file that a row is about. They are compared when the row is used, so that a row about code
//! that has changed is never given.

use super::digest;
use serde::{Deserialize, Serialize};

/// Lines before and after a cited line that belong to it.
const AROUND: usize = 1;
/// Hex digits of the digest of lines.
const DIGITS: usize = 16;
/// Upper bound on the lines of a file that are searched for lines that moved.
const MAX_LINES: usize = 50_000;

/// Lines of a file, or a file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Citation {
    /// The path from the root of the repository.
    pub path: String,
    /// The first line, from 1; 0 = the file as a whole, which only has to exist.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from: u32,
    /// The last line; 0 = the file as a whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub to: u32,
    /// Sixteen hex digits of the SHA-256 of the lines, with white space squeezed; empty for a file as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

fn is_zero(line: &u32) -> bool {
    *line == 0
}

impl Citation {
    /// Returns the citation of a file as a whole.
    pub fn of_file(path: &str) -> Citation {
        Citation { path: path.to_owned(), from: 0, to: 0, digest: String::new() }
    }

    /// Returns the citation of a line with its neighbours. Without such a line, or if the lines are empty, the file is
    /// cited as a whole.
    pub fn of_line(path: &str, line: u64, text: &str) -> Citation {
        let lines: Vec<&str> = text.lines().collect();
        let Some(index) = usize::try_from(line).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < lines.len()) else {
            return Citation::of_file(path);
        };
        let (first, last) = (index.saturating_sub(AROUND), (index + AROUND).min(lines.len() - 1));
        Self::of_lines(path, (first, last), &lines)
    }

    /// Returns the citation of the lines with the indexes `first` to `last`.
    pub fn of_lines(path: &str, (first, last): (usize, usize), lines: &[&str]) -> Citation {
        let squeezed = squeeze(lines.get(first..=last).unwrap_or_default());
        let number = |index: usize| u32::try_from(index + 1).ok();
        match (number(first), number(last)) {
            (Some(from), Some(to)) if !squeezed.is_empty() => {
                Citation { path: path.to_owned(), from, to, digest: digest(&squeezed, DIGITS) }
            }
            _ => Citation::of_file(path),
        }
    }

    /// Returns the citation with the lines where they are in `text`, the file's content now; `None` = they are not there.
    /// Lines that moved are found; of several places, the nearest is taken.
    pub fn locate(&self, text: &str) -> Option<Citation> {
        if self.from == 0 {
            return Some(self.clone());
        }
        let lines: Vec<&str> = text.lines().take(MAX_LINES).collect();
        let (first, count) = (self.from as usize - 1, (self.to.checked_sub(self.from)? as usize) + 1);
        let is_here = |at: &usize| {
            let here = lines.get(*at..at.saturating_add(count)).unwrap_or_default();
            !here.is_empty() && digest(&squeeze(here), DIGITS) == self.digest
        };
        let at = Some(first).filter(is_here).or_else(|| {
            let mut places: Vec<usize> = (0..lines.len().saturating_sub(count - 1)).collect();
            places.sort_by_key(|at| (at.abs_diff(first), *at));
            places.into_iter().find(is_here)
        })?;
        let number = |index: usize| u32::try_from(index).ok();
        Some(Citation { from: number(at + 1)?, to: number(at + count)?, ..self.clone() })
    }

    /// Returns the citation as text: `src/parse.rs:40-52`, or the path alone.
    pub fn text(&self) -> String {
        let path = super::one_line(&self.path, 200);
        match (self.from, self.to) {
            (0, _) => path,
            (from, to) if from == to => format!("{path}:{from}"),
            (from, to) => format!("{path}:{from}-{to}"),
        }
    }
}

/// Returns lines with each run of white space as one space, so that a new indentation changes nothing. Lines that are
/// empty do not count.
fn squeeze(lines: &[&str]) -> String {
    let squeezed = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    squeezed.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "one\ntwo\n  three  x\nfour\nfive\nsix\n";

    #[test]
    fn cited_lines_are_found_where_they_are() {
        let cite = Citation::of_line("a.rs", 3, TEXT);
        assert_eq!((cite.from, cite.to, cite.text().as_str()), (2, 4, "a.rs:2-4"));
        assert_eq!(cite.locate(TEXT), Some(cite.clone()));
        let indented = "one\n\ttwo\n\tthree x\n\tfour\n";
        assert_eq!(cite.locate(indented), Some(cite.clone()), "white space does not count");
        let moved = cite.locate(&format!("new\nnew\n{TEXT}")).unwrap();
        assert_eq!((moved.from, moved.to), (4, 6));
    }

    #[test]
    fn lines_that_changed_are_gone() {
        let cite = Citation::of_line("a.rs", 3, TEXT);
        for changed in [TEXT.replace("three", "3"), TEXT.replace("two\n", ""), String::new(), "two".to_owned()] {
            assert_eq!(cite.locate(&changed), None, "{changed:?}");
        }
        let first = Citation::of_line("a.rs", 1, TEXT);
        assert_eq!((first.from, first.to), (1, 2));
        assert_eq!(first.locate("one\n"), None);
    }

    #[test]
    fn the_nearest_of_several_places_is_taken() {
        let text = "x\ny\nz\n-\n-\nx\ny\nz\n-\nx\ny\nz\n";
        let cite = Citation::of_line("a", 7, text);
        let pushed = format!("+\n{text}");
        assert_eq!(cite.locate(&pushed).map(|c| (c.from, c.to)), Some((7, 9)));
    }

    #[test]
    fn a_line_that_is_not_there_cites_the_file() {
        for (line, text) in [(0, TEXT), (99, TEXT), (u64::MAX, TEXT), (1, ""), (2, "\n\n\n")] {
            let cite = Citation::of_line("a.rs", line, text);
            assert_eq!(cite, Citation::of_file("a.rs"), "{line} {text:?}");
            assert_eq!(cite.locate("anything"), Some(cite.clone()));
        }
    }
}
