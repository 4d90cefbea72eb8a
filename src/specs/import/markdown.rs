//! The little of Markdown that documents of specs consist of: headings, list items, paragraphs.

/// Upper bound on the blocks of a document.
const MAX_BLOCKS: usize = 5_000;

/// A block of a document, as text without emphasis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A heading with its level, from 1.
    Heading(usize, String),
    /// An item of a list, with its continuation lines.
    Item(String),
    /// A paragraph.
    Paragraph(String),
}

impl Block {
    pub(super) fn text(&self) -> &str {
        match self {
            Block::Heading(_, text) | Block::Item(text) | Block::Paragraph(text) => text,
        }
    }
}

/// Returns the blocks of a document. Code blocks, tables and comments are left out.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let (mut is_code, mut is_comment, mut continues) = (false, false, false);
    for line in text.lines() {
        let trimmed = line.trim();
        if found.len() >= MAX_BLOCKS {
            break;
        }
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            is_code = !is_code;
            continues = false;
            continue;
        }
        if is_code {
            continue;
        }
        if is_comment || trimmed.starts_with("<!--") {
            is_comment = !trimmed.contains("-->");
            continue;
        }
        if trimmed.is_empty() || trimmed.starts_with('|') || trimmed.chars().all(|c| c == '-') {
            continues = false;
            continue;
        }
        let level = trimmed.bytes().take_while(|b| *b == b'#').count();
        if (1..=6).contains(&level) && trimmed[level..].starts_with(' ') {
            found.push(Block::Heading(level, plain(&trimmed[level..])));
            continues = false;
        } else if let Some(item) = item(trimmed) {
            found.push(Block::Item(plain(item)));
            continues = true;
        } else {
            match found.last_mut() {
                Some(Block::Item(text) | Block::Paragraph(text)) if continues => {
                    text.push(' ');
                    text.push_str(&plain(trimmed));
                }
                _ => found.push(Block::Paragraph(plain(trimmed))),
            }
            continues = true;
        }
    }
    found
}

/// Returns the text of a list item: `- a`, `* a`, `1. a`.
fn item(line: &str) -> Option<&str> {
    let numbered = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = (numbered.len() < line.len()).then_some(numbered).and_then(|rest| rest.strip_prefix(". "));
    ["- ", "* ", "+ "].iter().find_map(|mark| line.strip_prefix(mark)).or(numbered).map(str::trim)
}

/// Removes emphasis.
fn plain(text: &str) -> String {
    text.replace("**", "").replace("__", "").trim().to_owned()
}
