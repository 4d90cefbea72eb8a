//! Text that nearly occurs in a file: whole lines that differ only in what models get wrong when they copy.

/// How a text was found that does not occur exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Blanks at the ends of lines, typographic quotes, dashes and spaces.
    Characters,
    /// The indentation of all its lines, too.
    Indentation,
}

/// The only place where a text nearly occurs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Near {
    /// Bytes of the file that it replaces.
    pub range: std::ops::Range<usize>,
    /// The replacement, with the indentation of the file.
    pub new: String,
    /// What differs.
    pub difference: Difference,
}

/// Upper bound of the comparisons of lines in one search; a larger file is only searched exactly.
const MAX_COMPARISONS: usize = 20_000_000;

/// Finds the only place where the lines of `old` occur but for differences that cannot change what is meant. Returns
/// `None` if there is none, or more than one.
pub(super) fn find(text: &str, old: &str, new: &str) -> Option<Near> {
    let lines = lines(text);
    let wanted: Vec<&str> = old.lines().collect();
    if wanted.iter().all(|line| line.trim().is_empty())
        || wanted.len() > lines.len()
        || wanted.len().saturating_mul(lines.len()) > MAX_COMPARISONS
    {
        return None;
    }
    let (characters, indentation) = (|line: &str| plain(line), |line: &str| plain(line.trim_start()));
    if let Some(at) = only(&lines, &wanted, characters) {
        return Some(near(&lines, at, wanted.len(), old, new.to_owned(), Difference::Characters));
    }
    let at = only(&lines, &wanted, indentation)?;
    let (from, to) = shift(&lines[at..at + wanted.len()], &wanted)?;
    Some(near(&lines, at, wanted.len(), old, indented(new, from, to)?, Difference::Indentation))
}

/// A line of the file: where it begins, its text, and the length of its line ending.
type Line<'a> = (usize, &'a str, usize);

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    let line = |whole: &'_ str| whole.strip_suffix('\n').map_or(whole, |l| l.strip_suffix('\r').unwrap_or(l)).len();
    text.split_inclusive('\n')
        .map(|whole| {
            let begin = at;
            at += whole.len();
            let len = line(whole);
            (begin, &whole[..len], whole.len() - len)
        })
        .collect()
}

fn near(lines: &[Line<'_>], at: usize, count: usize, old: &str, new: String, difference: Difference) -> Near {
    let (last, line, ending) = lines[at + count - 1];
    let (ending, new) = match (old.ends_with('\n'), ending) {
        (false, _) => (0, new),
        // The file ends without a line ending, and stays so.
        (true, 0) => (0, new.strip_suffix('\n').unwrap_or(&new).to_owned()),
        (true, ending) => (ending, new),
    };
    Near { range: lines[at].0..last + line.len() + ending, new, difference }
}

/// Returns where `wanted` occurs, line by line under `key`, if that is in one place only.
fn only(lines: &[Line<'_>], wanted: &[&str], key: impl Fn(&str) -> String) -> Option<usize> {
    let keys: Vec<String> = lines.iter().map(|(_, line, _)| key(line)).collect();
    let wanted: Vec<String> = wanted.iter().map(|line| key(line)).collect();
    let mut places = keys.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted);
    let (at, _) = places.next()?;
    places.next().is_none().then_some(at)
}

/// Returns a line without blanks at its end, and with the plain forms of typographic characters.
fn plain(line: &str) -> String {
    let plain = |c| match c {
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{2007}' | '\u{202f}' => ' ',
        other => other,
    };
    line.trim_end().chars().map(plain).collect()
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// Returns the indentation that `wanted` has too much and the one the file has instead, if they are the same for all
/// lines.
fn shift<'a>(found: &[Line<'a>], wanted: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let mut pairs = found.iter().zip(wanted).filter(|(_, w)| !w.trim().is_empty());
    let ((_, line, _), want) = pairs.next()?;
    let (mut have, mut wish) = (indent(line), indent(want));
    // The common end is the indentation within the text.
    while let (Some(a), Some(b)) = (have.chars().last(), wish.chars().last())
        && a == b
    {
        (have, wish) = (&have[..have.len() - 1], &wish[..wish.len() - 1]);
    }
    pairs
        .all(|((_, line, _), want)| {
            indent(line).strip_prefix(have).zip(indent(want).strip_prefix(wish)).is_some_and(|(a, b)| a == b)
        })
        .then_some((wish, have))
}

/// Moves every line of `text` from one indentation to the other; `None` = a line has less than that.
fn indented(text: &str, from: &str, to: &str) -> Option<String> {
    let mut moved = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            moved.push_str(line);
        } else {
            moved.push_str(to);
            moved.push_str(line.strip_prefix(from)?);
        }
    }
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, old: &str, new: &str) -> Option<(String, Difference)> {
        let near = find(text, old, new)?;
        Some((format!("{}{}{}", &text[..near.range.start], near.new, &text[near.range.end..]), near.difference))
    }

    #[test]
    fn blanks_and_typography_do_not_matter() {
        let (text, difference) = replaced("a = 1  \nb = “x”\nc\n", "a = 1\nb = \"x\"\n", "a = 2\nb = 'x'\n").unwrap();
        assert_eq!((text.as_str(), difference), ("a = 2\nb = 'x'\nc\n", Difference::Characters));
        assert_eq!(replaced("a\t\nb\nc", "a \nb\n", "").unwrap().0, "c");
        assert_eq!(replaced("c\nb\t", "b\n", "d\n").unwrap().0, "c\nd");
    }

    #[test]
    fn another_indentation_of_all_lines_is_carried_over() {
        let text = "class A:\n    def f(self):\n        return 1\n\n    x = 2\n";
        let (after, difference) =
            replaced(text, "def f(self):\n    return 1\n", "def f(self):\n    if x:\n        return 2\n").unwrap();
        assert_eq!(after, "class A:\n    def f(self):\n        if x:\n            return 2\n\n    x = 2\n");
        assert_eq!(difference, Difference::Indentation);
        assert_eq!(
            replaced("\tif a {\n\t\tb\n\t}\n", "if a {\n\tb\n}", "if a {\n\tc\n}").unwrap().0,
            "\tif a {\n\t\tc\n\t}\n"
        );
        assert_eq!(replaced("a\n  b\n", "    a\n      b", "    a\n      c").unwrap().0, "a\n  c\n");
    }

    #[test]
    fn what_is_in_doubt_is_not_found() {
        assert_eq!(find("f()\n  g()\n f()\n  g()\n", "f()\n g()", "x"), None, "two places");
        assert_eq!(find("a\n  b\n", "a\n    b", "x"), None, "the indentation differs within the text");
        assert_eq!(find("a  b\n", "a b", "x"), None, "blanks inside a line matter");
        assert_eq!(find("a\n\n\nb\n", "\n\n", "x"), None, "only blank lines");
        assert_eq!(find("  a\n", "    a", "b"), None, "the new text cannot be moved");
        assert_eq!(find("", "a", "b"), None);
    }

    #[test]
    fn line_endings_of_the_file_are_not_touched() {
        assert_eq!(replaced("a \r\nb\r\n", "a\r\n", "c\r\n").unwrap().0, "c\r\nb\r\n");
    }
}
