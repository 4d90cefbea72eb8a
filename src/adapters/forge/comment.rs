//! Comments on changes: their size, the hidden markers of those that Skep writes, and those that answer a block.

use crate::domain::change::UnblockComment;
use crate::domain::command;
use crate::ports::Comment;

/// Upper bound on a text, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Upper bound on a comment on a remote forge, in bytes: GitHub accepts 65,536 characters.
const MAX_COMMENT_BYTES: usize = 60 * 1024;

/// Begins the hidden line at the end of each comment of Skep.
const MARKER_START: &str = "<!-- skep:";

/// Returns the hidden line at the end of the comment of an effect.
pub(super) fn hidden(marker: &str) -> String {
    format!("<!-- {} -->", marker.replace("--", "-"))
}

/// Returns a comment as a remote forge stores it.
pub(super) fn whole(text: &str, hidden: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_COMMENT_BYTES)];
    format!("{}\n\n{hidden}", text.trim_end())
}

/// Returns whether a comment ends with a marker of Skep.
pub(super) fn is_marked(body: &str) -> bool {
    body.trim_end().lines().next_back().is_some_and(|line| line.starts_with(MARKER_START))
}

/// Shortens a text that a person wrote to this many bytes, at a character boundary.
pub(super) fn shortened(text: Option<&str>, max_bytes: usize) -> String {
    let text = text.unwrap_or_default().trim();
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}

/// Truncates a text to the limit, at a character boundary.
pub(super) fn truncated(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// Parses `UNBLOCK #b3 answer` or `unblock #3`, if a person wrote it.
pub(super) fn parse_unblock(comment: &Comment) -> Option<UnblockComment> {
    if !comment.by.is_person() || comment.marker.is_some() {
        return None;
    }
    let (block, answer) = command::parse_unblock(&comment.text)?;
    Some(UnblockComment { comment: comment.id, block, by: comment.by.clone(), text: truncated(answer) })
}

#[cfg(test)]
mod tests {
    use super::parse_unblock;
    use crate::domain::{Principal, Timestamp};
    use crate::ports::Comment;

    fn read(by: &str, text: &str) -> Option<(u32, String)> {
        let by = Principal::from(by);
        let comment = Comment { id: 1, by, at: Timestamp(0), text: text.to_owned(), marker: None };
        parse_unblock(&comment).map(|u| (u.block.0, u.text))
    }

    #[test]
    fn only_a_comment_by_a_person_that_starts_with_the_command_unblocks() {
        assert_eq!(read("local:a", "UNBLOCK #b3 use Postgres"), Some((3, "use Postgres".into())));
        assert_eq!(read("local:a", "  unblock  #12: yes\nand no"), Some((12, "yes\nand no".into())));
        assert_eq!(read("local:a", "UnBlock #B1"), Some((1, String::new())));
        for text in [
            "please UNBLOCK #b3",
            "UNBLOCK b3",
            "UNBLOCK #bx",
            "UNBLOCK #3x",
            "UNBLOCK#3",
            "UNBLOCKED #3",
            "> UNBLOCK #b3",
            "ünblöck #3",
            "UNBLOCK #b99999999999",
        ] {
            assert_eq!(read("local:a", text), None, "{text}");
        }
        assert_eq!(read("skep", "UNBLOCK #b3"), None);
    }
}
