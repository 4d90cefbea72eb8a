//! Cleans the log of a job of GitHub Actions, or of Forgejo's or Gitea's: without times, colors, and what follows the last error.

use crate::platform::terminal_text;

/// Returns the log up to its last error; the steps that clean up after it say nothing.
pub(super) fn clean(log: &[u8]) -> String {
    let text = terminal_text::sanitize(log);
    let lines: Vec<&str> = text.lines().map(without_time).collect();
    let end = lines.iter().rposition(|line| line.starts_with("##[error]")).map_or(lines.len(), |last| last + 1);
    let mut clean = String::new();
    for line in &lines[..end] {
        let (kind, rest) = line.strip_prefix("##[").and_then(|l| l.split_once(']')).unwrap_or(("", line));
        match kind {
            "endgroup" | "debug" => continue,
            // The exit code alone is not an error to look for.
            "error" if !rest.starts_with("Process completed with exit code") => clean.push_str("Error: "),
            "warning" => clean.push_str("Warning: "),
            _ => {}
        }
        clean.push_str(rest);
        clean.push('\n');
    }
    clean
}

/// Removes the time at the start of each line: `2026-01-01T10:00:00.1234567Z `.
fn without_time(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}').trim_end();
    let is_time = |word: &str| {
        (20..=30).contains(&word.len())
            && word.as_bytes()[10] == b'T'
            && word.ends_with('Z')
            && word.bytes().all(|b| b.is_ascii_digit() || b"-:.TZ".contains(&b))
    };
    match line.split_once(' ') {
        Some((word, rest)) if is_time(word) => rest,
        None if is_time(line) => "",
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_log_ends_with_its_last_error_and_has_no_times() {
        let log = "\u{feff}2026-01-01T10:00:00.1234567Z ##[group]Run make\n\
            2026-01-01T10:00:00.2234567Z \u{1b}[36;1mmake test\u{1b}[0m\n\
            2026-01-01T10:00:00.2234567Z ##[endgroup]\n\
            2026-01-01T10:00:01.0000000Z FAILED tests/a.py::b\n\
            2026-01-01T10:00:01.0000000Z \n\
            2026-01-01T10:00:01.1000000Z ##[error]a.py is wrong\n\
            2026-01-01T10:00:01.2000000Z ##[error]Process completed with exit code 2.\n\
            2026-01-01T10:00:02.0000000Z Post job cleanup.\n";
        assert_eq!(
            clean(log.as_bytes()),
            "Run make\nmake test\nFAILED tests/a.py::b\n\nError: a.py is wrong\nProcess completed with exit code 2.\n"
        );
        assert_eq!(clean(b"no time\nat all"), "no time\nat all\n");
        assert_eq!(clean(&[0xff, b'\n', 0]), "\u{fffd}\n");
    }
}
