//! Cleans the log of a job, which GitLab calls its trace: without times, colors and the marks of its sections.

use crate::platform::terminal_text;

/// Returns the log up to its last error; the steps that clean up after it say nothing.
pub(super) fn clean(log: &[u8]) -> String {
    let text = terminal_text::sanitize(log);
    let lines: Vec<&str> = text.lines().map(without_time).filter(|line| !is_section_mark(line)).collect();
    let end = lines.iter().rposition(|line| line.starts_with("ERROR: Job failed")).map_or(lines.len(), |last| last + 1);
    let mut clean = String::new();
    for line in &lines[..end] {
        clean.push_str(line);
        clean.push('\n');
    }
    clean
}

/// Returns whether a line marks a section: `section_start:1560896352:my_section[collapsed=true]`.
fn is_section_mark(line: &str) -> bool {
    ["section_start:", "section_end:"].iter().any(|mark| {
        line.strip_prefix(mark)
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(time, _)| !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Removes the time and the stream at the start of a line: `2026-01-01T10:00:00.123456Z 01O `.
fn without_time(line: &str) -> &str {
    let is_time = |word: &str| {
        (20..=30).contains(&word.len())
            && word.as_bytes()[10] == b'T'
            && word.ends_with('Z')
            && word.bytes().all(|b| b.is_ascii_digit() || b"-:.TZ".contains(&b))
    };
    let rest = match line.split_once(' ') {
        Some((word, rest)) if is_time(word) => rest,
        _ => return line.trim_end(),
    };
    let stream = rest.as_bytes();
    let has_stream = stream.len() >= 4
        && stream[..2].iter().all(u8::is_ascii_hexdigit)
        && matches!(stream[2], b'O' | b'E')
        && matches!(stream[3], b' ' | b'+');
    if has_stream { rest[4..].trim_end() } else { rest.trim_end() }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_log_ends_with_its_error_and_has_no_marks_and_times() {
        let log = "section_start:1560896352:step_script[collapsed=true]\r\u{1b}[0K\u{1b}[32;1m$ make test\u{1b}[0;m\n\
            2026-01-01T10:00:01.000000Z 01O FAILED tests/a.py::b\n\
            2026-01-01T10:00:01.000000Z 01E+plain\n\
            section_end:1560896353:step_script\r\u{1b}[0K\n\
            \u{1b}[31;1mERROR: Job failed: exit code 2\u{1b}[0;m\n\
            Cleaning up project directory\n";
        assert_eq!(
            clean(log.as_bytes()),
            "$ make test\nFAILED tests/a.py::b\nplain\n\nERROR: Job failed: exit code 2\n"
        );
        assert_eq!(clean(b"no time\nat all"), "no time\nat all\n");
        assert_eq!(clean(b"section_start:x\n"), "section_start:x\n");
    }
}
