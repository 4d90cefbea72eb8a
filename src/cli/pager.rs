//! Diffs on a terminal: in color, and through the user's pager.

use std::io::Write;
use std::process::{Command, Stdio};

/// Colors the lines of a diff.
pub fn painted(diff: &str, color: bool) -> String {
    if !color {
        return diff.to_owned();
    }
    let mut out = String::with_capacity(diff.len() + diff.len() / 8);
    for line in diff.split_inclusive('\n') {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let code = match text {
            _ if text.starts_with("+++") || text.starts_with("---") || text.starts_with("diff ") => "\x1b[1m",
            _ if text.starts_with("@@") => "\x1b[36m",
            _ if text.starts_with('+') => "\x1b[32m",
            _ if text.starts_with('-') => "\x1b[31m",
            _ => "",
        };
        match code {
            "" => out.push_str(line),
            code => out.push_str(&format!("{code}{text}\x1b[0m{end}")),
        }
    }
    out
}

/// Shows a text in the user's pager; returns whether there is one.
pub fn show(text: &str) -> bool {
    let wanted = ["SKEP_PAGER", "PAGER"].into_iter().find_map(std::env::var_os);
    let wanted = wanted.map_or_else(|| "less".to_owned(), |pager| pager.to_string_lossy().into_owned());
    if matches!(wanted.trim(), "" | "cat") {
        return false;
    }
    // As git does: a shell takes the command apart, and less keeps colors and ends at once if the text fits.
    let mut pager = Command::new("sh");
    pager.arg("-c").arg(&wanted).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        pager.env("LESS", "FRX");
    }
    let Ok(mut child) = pager.spawn() else { return false };
    if let Some(mut input) = child.stdin.take() {
        // A pager that is left early reads no more.
        let _left = input.write_all(text.as_bytes());
    }
    // The shell reports 127 for a pager that is not installed.
    child.wait().is_ok_and(|status| status.code() != Some(127))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_and_deletions_are_told_apart() {
        let diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n c\n";
        assert_eq!(painted(diff, false), diff);
        let shown = painted(diff, true);
        assert!(shown.contains("\x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n c\n"), "{shown}");
        assert!(shown.contains("\x1b[1m--- a/x\x1b[0m\n"), "{shown}");
    }
}
