//! Reads and writes commits as bytes, so that equal content always gets an equal id. Validates commit ids and branch
//! names.

use super::Git;
use crate::domain::Sha;
use crate::ports::{PortError, PortResult};
use std::path::Path;

/// Upper bound on a commit message, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The parts of a commit that are needed to recreate it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitParts {
    /// Tree.
    pub tree: Sha,
    /// Parents.
    pub parents: Vec<Sha>,
    /// Author line after `author `, byte for byte.
    pub author: Vec<u8>,
    /// Commit time, in seconds since the epoch.
    pub committed_at: i64,
    /// `encoding` header.
    pub encoding: Option<Vec<u8>>,
    /// Message.
    pub message: Vec<u8>,
}

impl CommitParts {
    /// Parses a commit object.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|w| w == b"\n\n")?;
        let (mut tree, mut author, mut committed_at, mut encoding) = (None, None, 0, None);
        let mut parents = Vec::new();
        for line in bytes[..end].split(|b| *b == b'\n') {
            let Some(space) = line.iter().position(|b| *b == b' ') else { continue };
            let (key, value) = (&line[..space], &line[space + 1..]);
            let sha = || String::from_utf8(value.to_vec()).ok().map(Sha);
            match key {
                b"tree" => tree = sha(),
                b"parent" => parents.extend(sha()),
                b"author" => author = Some(value.to_vec()),
                b"committer" => committed_at = seconds(value).unwrap_or(0),
                b"encoding" => encoding = Some(value.to_vec()),
                _ => {}
            }
        }
        Some(Self { tree: tree?, parents, author: author?, committed_at, encoding, message: bytes[end + 2..].to_vec() })
    }
}

/// Parses the seconds of `Name <address> seconds zone`.
fn seconds(signature: &[u8]) -> Option<i64> {
    let after = signature.iter().rposition(|b| *b == b'>')?;
    std::str::from_utf8(&signature[after + 1..]).ok()?.split_whitespace().next()?.parse().ok()
}

/// Writes a commit and returns its id. Skep is the committer, at a time derived from the parent's rather than from a
/// clock, so that repeating it yields the same commit. Without `author`, Skep is the author too.
///
/// # Errors
/// When git cannot write it.
pub async fn write_commit(
    git: &Git,
    mirror: &Path,
    tree: &Sha,
    parent: (&Sha, i64),
    author: Option<(&[u8], Option<&[u8]>)>,
    message: &[u8],
) -> PortResult<Sha> {
    let identity = format!("{} {} +0000", git.identity().signature(), parent.1.saturating_add(1).max(0));
    let mut bytes = format!("tree {tree}\nparent {}\nauthor ", parent.0).into_bytes();
    let (by, encoding) = author.unwrap_or((identity.as_bytes(), None));
    bytes.extend_from_slice(by);
    bytes.extend_from_slice(format!("\ncommitter {identity}\n").as_bytes());
    if let Some(encoding) = encoding {
        bytes.extend_from_slice(b"encoding ");
        bytes.extend_from_slice(encoding);
        bytes.push(b'\n');
    }
    bytes.push(b'\n');
    let message = &message[..message.len().min(MAX_MESSAGE_BYTES)];
    bytes.extend(message.iter().filter(|b| **b != 0));
    if author.is_none() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    let sha = git
        .call(mirror)
        .args(["hash-object", "-t", "commit", "-w", "--stdin"])
        .stdin(bytes)
        .output_line("write a commit")
        .await?;
    let sha = Sha(sha);
    check_sha(&sha)?;
    Ok(sha)
}

/// Checks that a text is a full SHA-1 commit id.
///
/// # Errors
/// Permanent when it is not.
pub fn check_sha(sha: &Sha) -> PortResult<()> {
    let text = sha.as_str();
    let valid = text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if valid {
        Ok(())
    } else {
        let text: String = text.chars().take(80).collect();
        Err(PortError::permanent(format!("{text:?} is not a full SHA-1 commit id"), "use 40 lower-case hex digits"))
    }
}

/// Checks a branch name against the rules of `git check-ref-format` and some stricter ones.
///
/// # Errors
/// Permanent when it is invalid.
pub fn check_branch(name: &str) -> PortResult<()> {
    let part_ok = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let valid = (1..=200).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
        && name != "HEAD"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
        && name.split('/').all(part_ok);
    if valid {
        Ok(())
    } else {
        let name: String = name.chars().take(200).collect();
        Err(PortError::permanent(
            format!("{name:?} is not a valid branch name"),
            "use letters, digits, '-', '_', '.' and '/'",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitParts, check_branch};

    #[test]
    fn parses_a_commit() {
        let raw = b"tree 1\nparent 2\nparent 3\nauthor A > B <a> 5 +0100\ncommitter C <c> 77 -0230\nencoding x\ngpgsig a\n b\n\nhi\n\nyou";
        let parts = CommitParts::parse(raw).unwrap();
        assert_eq!(parts.parents.len(), 2);
        assert_eq!(parts.author, b"A > B <a> 5 +0100");
        assert_eq!((parts.committed_at, parts.message.as_slice()), (77, &b"hi\n\nyou"[..]));
    }

    #[test]
    fn branch_names() {
        for good in ["main", "skep/a-1", "skep/a-1-task/3", "release/1.0", "ümlaut"] {
            assert!(check_branch(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a b", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a.", "@", "a@{b", "a\nb", "a:b",
            "HEAD",
        ] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
    }
}
