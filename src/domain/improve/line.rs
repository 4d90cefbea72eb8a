//! Finds the line of an output that says what failed.

/// Upper bound on the lines that are read, from the end.
const MAX_LINES: usize = 500;
/// Upper bound on the characters of a line that are read.
const MAX_CHARS: usize = 1_000;

/// Forms of lines, the most telling first. A form in lower case fits any case.
const FORMS: &[&[Form]] = &[
    &[Form::Contains("error[E")],
    &[Form::Contains("error TS")],
    &[Form::Contains("panicked at")],
    &[Form::EndOfTraceback],
    &[Form::Begins("FAILED "), Form::Contains("--- FAIL"), Form::Contains("... FAILED")],
    &[Form::Contains("AssertionError")],
    &[Form::Begins("npm ERR!"), Form::Begins("npm error")],
    &[Form::Contains("fatal:")],
    &[Form::Contains("no space left")],
    &[Form::Contains("permission denied")],
    &[Form::Contains("could not resolve"), Form::Contains("name resolution")],
    &[Form::Contains("timed out")],
];

/// Beginnings of lines that only say that something failed.
const EMPTY: &[&str] =
    &["npm ERR! A complete log", "npm ERR!     ", "npm error A complete log", "error: could not compile"];

#[derive(Clone, Copy)]
enum Form {
    Begins(&'static str),
    Contains(&'static str),
    /// The last line of a Python traceback, which names the exception.
    EndOfTraceback,
}

/// Returns the line that says most about a failure: the first of the most telling form, else the last that is not
/// empty.
pub fn telling_line(text: &str) -> &str {
    let mut lines: Vec<&str> = text.lines().rev().take(MAX_LINES).map(cut).filter(|l| !l.trim().is_empty()).collect();
    lines.reverse();
    for forms in FORMS {
        if let Some(line) = (0..lines.len()).find_map(|at| forms.iter().find_map(|form| form.found(&lines, at))) {
            return line.trim();
        }
    }
    lines.last().map_or("", |line| line.trim())
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(MAX_CHARS).map_or(line, |(end, _)| line.get(..end).unwrap_or(line))
}

impl Form {
    fn found<'t>(self, lines: &[&'t str], at: usize) -> Option<&'t str> {
        let line: &'t str = lines.get(at).copied()?;
        let is_telling = || !EMPTY.iter().any(|empty| line.trim_start().starts_with(empty));
        match self {
            Form::Begins(form) => (line.trim_start().starts_with(form) && is_telling()).then_some(line),
            Form::Contains(form) if form.bytes().any(|b| b.is_ascii_uppercase()) => {
                (line.contains(form) && is_telling()).then_some(line)
            }
            Form::Contains(form) => (line.to_ascii_lowercase().contains(form) && is_telling()).then_some(line),
            Form::EndOfTraceback => {
                let start = line.trim_start().starts_with("Traceback (most recent call last)");
                let indent = line.len() - line.trim_start().len();
                let is_end = |l: &&&str| l.len() - l.trim_start().len() <= indent;
                lines.get(at + 1..)?.iter().find(is_end).filter(|_| start).copied()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::telling_line;

    #[test]
    fn the_most_telling_line_is_found() {
        let rustc =
            "   Compiling a v0.1.0\nerror[E0308]: mismatched types\n --> src/lib.rs:1:1\nerror: could not compile `a`";
        let python = "ran 2 tests\nTraceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    \
                      import yaml\nModuleNotFoundError: No module named 'yaml'\nmake: *** [test] Error 1";
        let pytest = "E   assert 1 == 2\nFAILED tests/test_a.py::test_sum - AssertionError: 1\n1 failed in 0.12s";
        let npm = "npm ERR! code ENOENT\nnpm ERR! A complete log of this run can be found in: /tmp/x";
        for (text, line) in [
            (rustc, "error[E0308]: mismatched types"),
            (python, "ModuleNotFoundError: No module named 'yaml'"),
            (pytest, "FAILED tests/test_a.py::test_sum - AssertionError: 1"),
            (npm, "npm ERR! code ENOENT"),
            ("--- FAIL: TestSum (0.00s)\nFAIL\nexit status 1", "--- FAIL: TestSum (0.00s)"),
            ("test sum ... FAILED\n\nfailures:", "test sum ... FAILED"),
            ("cp: x: No space left on device\ndone", "cp: x: No space left on device"),
            ("one\n\ntwo\n   \n", "two"),
            ("", ""),
        ] {
            assert_eq!(telling_line(text), line, "{text}");
        }
    }

    #[test]
    fn long_output_is_read_from_its_end() {
        let text = format!("fatal: too early\n{}last", "x\n".repeat(600));
        assert_eq!(telling_line(&text), "last");
        assert_eq!(telling_line(&"ü".repeat(5_000)).chars().count(), 1_000);
    }
}
