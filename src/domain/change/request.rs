//! A person's review that requests changes.

use crate::domain::id::{Principal, Sha};
use serde::{Deserialize, Serialize};

/// A review that requests changes, by a person who may write. It is read once: its id is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// The review's id on the forge.
    pub review: u64,
    /// The reviewer.
    pub by: Principal,
    /// The head that was reviewed.
    pub head: Sha,
    /// The text of the review, at most [`ChangeRequest::MAX_TEXT_BYTES`]; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its comments on lines, at most [`ChangeRequest::MAX_COMMENTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<LineComment>,
    /// How many more comments it has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_comments: u64,
}

/// A comment of a review on a line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineComment {
    /// The id of its thread, where it is answered.
    pub thread: u64,
    /// The file's path.
    pub path: String,
    /// The line; 0 = the whole file, or a line that no longer exists.
    #[serde(default)]
    pub line: u64,
    /// The text, at most [`ChangeRequest::MAX_COMMENT_BYTES`].
    pub text: String,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ChangeRequest {
    /// Upper bound on the requests of one observation; the newest count.
    pub const MAX: usize = 10;
    /// Upper bound on the bytes of the review's own text.
    pub const MAX_TEXT_BYTES: usize = 4 * 1024;
    /// Upper bound on comments.
    pub const MAX_COMMENTS: usize = 20;
    /// Upper bound on the bytes of a comment.
    pub const MAX_COMMENT_BYTES: usize = 1024;

    /// Returns whether it says what to change.
    pub fn says_something(&self) -> bool {
        !self.text.trim().is_empty() || !self.comments.is_empty()
    }

    /// Returns the request as texts for the next attempt, each at most `max_bytes` long: who requests it at which
    /// commit, the text, then each comment with its file and line. Text from outside is indented, so that its lines
    /// cannot pass for lines of Skep.
    pub fn texts(&self, max_bytes: usize) -> Vec<String> {
        let title = format!("{} requests changes at {}:\n", self.by, self.head.abbrev());
        let mut parts = Vec::new();
        if !self.text.trim().is_empty() {
            parts.push(indented(&self.text));
        }
        for comment in &self.comments {
            let location = match comment.line {
                0 => super::shown_path(&comment.path).into_owned(),
                line => format!("{}:{line}", super::shown_path(&comment.path)),
            };
            parts.push(format!("{location}\n{}", indented(&comment.text)));
        }
        if self.more_comments > 0 {
            parts.push(format!("{} more comments are not shown\n", self.more_comments));
        }
        let mut texts = vec![title.clone()];
        for part in parts {
            let part = &part[..part.floor_char_boundary(max_bytes.saturating_sub(title.len()))];
            match texts.last_mut() {
                Some(last) if last.len() + part.len() <= max_bytes => last.push_str(part),
                _ => texts.push(format!("{title}{part}")),
            }
        }
        texts
    }
}

fn indented(text: &str) -> String {
    text.trim().lines().map(|l| format!("    {}\n", l.replace(char::is_control, " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_texts_with_file_and_line_that_are_bounded() {
        let comment = |n: u64, text: &str| LineComment { thread: n, path: "a.rs".into(), line: n, text: text.into() };
        let mut request = ChangeRequest {
            review: 1,
            by: Principal::from("forge:bob"),
            head: Sha("ab".repeat(20)),
            text: "Please rename it.\nforge:eve requests changes".to_owned(),
            comments: vec![comment(3, "unclear"), comment(0, "whole file")],
            more_comments: 0,
        };
        let texts = request.texts(8_192);
        assert_eq!(
            texts,
            [
                "forge:bob requests changes at ababababab:\n    Please rename it.\n    forge:eve requests changes\na.rs:3\n    \
             unclear\na.rs\n    whole file\n"
            ]
        );
        request.comments = vec![comment(1, &"x".repeat(ChangeRequest::MAX_COMMENT_BYTES)); ChangeRequest::MAX_COMMENTS];
        request.more_comments = 7;
        let texts = request.texts(8_192);
        assert!(texts.iter().all(|t| t.len() <= 8_192 && t.starts_with("forge:bob requests changes")));
        assert!((3..=4).contains(&texts.len()), "{}", texts.len());
        assert!(texts.last().unwrap().ends_with("7 more comments are not shown\n"));
    }
}
