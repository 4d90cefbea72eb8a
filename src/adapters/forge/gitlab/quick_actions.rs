//! Keeps GitLab from carrying out commands in what Skep writes.
//!
//! GitLab carries out lines such as `/merge` or `/close` in a comment or a description, with the rights of its author,
//! and Skep quotes texts of others.

/// Escapes each line that GitLab could read as a command. In Markdown, the line looks the same, except in a block of code.
pub(super) fn defused(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    // GitLab removes carriage returns before it looks for commands.
    for (at, line) in text.replace('\r', "").split('\n').enumerate() {
        if at > 0 {
            safe.push('\n');
        }
        if is_command(line) {
            let indent = line.len() - line.trim_start().len();
            safe.push_str(&line[..indent]);
            safe.push('\\');
            safe.push_str(&line[indent..]);
        } else {
            safe.push_str(line);
        }
    }
    safe
}

/// Returns whether a line starts like a command: a slash and one word. The names of commands are known to GitLab only.
fn is_command(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix('/') else { return false };
    let name = rest.split(char::is_whitespace).next().unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::defused;

    #[test]
    fn only_lines_that_look_like_a_command_are_escaped() {
        for (text, safe) in [
            ("/merge", "\\/merge"),
            ("fine\n/close now\n", "fine\n\\/close now\n"),
            ("fine\n\r/MERGE\r\n", "fine\n\\/MERGE\n"),
            ("  /label ~x", "  \\/label ~x"),
            ("/usr/bin/make failed", "/usr/bin/make failed"),
            ("see /merge", "see /merge"),
            ("`/skep approve`", "`/skep approve`"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(defused(text), safe);
        }
    }
}
