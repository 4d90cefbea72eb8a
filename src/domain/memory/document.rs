//! Sections of a repository's Markdown documents, as rows that point to them. They are read at the base of a run and
//! ranked with the stored rows, so they are never out of date and there is nothing to forget.

use super::{Citation, Memory, MemoryId, MemoryKind, MemoryState, one_line};
use crate::domain::id::{Principal, Timestamp};
use crate::domain::project::ProjectName;

/// Upper bound on the documents of a project that are read.
pub const MAX_DOCUMENTS: usize = 40;
/// Upper bound on their sections.
pub const MAX_SECTIONS: usize = 500;
/// Upper bound on the characters of a section that are quoted.
const MAX_TEXT_CHARS: usize = 300;
/// Deepest level of headings that begin a section.
const MAX_DEPTH: usize = 3;

/// Returns whether a file is a document: a README at the root, or Markdown in `docs/`. Files with instructions for
/// agents are not: prompts contain them anyway.
pub fn is_document(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let is_markdown = lower.ends_with(".md");
    let is_readme = !lower.contains('/') && lower.starts_with("readme");
    let is_in_docs = lower.starts_with("docs/") || lower.starts_with("doc/");
    is_markdown && (is_readme || is_in_docs) && !lower.ends_with("contributing.md")
}

/// Returns the sections of a document, each with its headings and its beginning.
pub fn sections(project: &ProjectName, path: &str, text: &str, now: Timestamp) -> Vec<Memory> {
    let lines: Vec<&str> = text.lines().collect();
    let mut headings: Vec<(usize, String)> = Vec::new();
    let mut starts: Vec<(usize, String)> = Vec::new();
    let mut is_code = false;
    for (index, line) in lines.iter().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            is_code = !is_code;
        }
        let depth = line.bytes().take_while(|b| *b == b'#').count();
        let title = line.get(depth..).and_then(|rest| rest.strip_prefix(' ')).map(str::trim);
        let Some(title) = title.filter(|t| !t.is_empty() && !is_code && (1..=MAX_DEPTH).contains(&depth)) else {
            continue;
        };
        headings.retain(|(above, _)| *above < depth);
        headings.push((depth, one_line(title, 60)));
        let names: Vec<&str> = headings.iter().map(|(_, name)| name.as_str()).collect();
        starts.push((index, names.join(" > ")));
    }
    let ends = starts.iter().skip(1).map(|(index, _)| *index).chain([lines.len()]);
    let section = |((start, name), end): (&(usize, String), usize)| {
        let body = lines.get(start + 1..end).unwrap_or_default().join(" ");
        let body = one_line(&body, MAX_TEXT_CHARS);
        (!body.is_empty()).then(|| Memory {
            id: MemoryId::of(project, MemoryKind::Document, &format!("{path}\n{name}")),
            project: project.clone(),
            kind: MemoryKind::Document,
            state: MemoryState::Live,
            author: Principal::skep(),
            step: None,
            title: one_line(&format!("{path}: {name}"), Memory::MAX_TITLE_CHARS),
            body,
            cites: vec![Citation::of_lines(path, (*start, *start), &lines)],
            run: None,
            seq: 0,
            created_at: now,
            seen_at: now,
            ends_at: Memory::end(MemoryKind::Document, now, now),
        })
    };
    starts.iter().zip(ends).filter_map(section).take(MAX_SECTIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_their_headings_and_their_beginning() {
        let text = "# Tool\nIt works.\n\n## Install\n```sh\n# not a heading\n```\n### On Linux\nUse apt.\n## Empty\n";
        let project = ProjectName::from_text("p");
        let found = sections(&project, "docs/a.md", text, Timestamp(0));
        let shown: Vec<(&str, &str)> = found.iter().map(|m| (m.title.as_str(), m.body.as_str())).collect();
        let expected = [
            ("docs/a.md: Tool", "It works."),
            ("docs/a.md: Tool > Install", "```sh # not a heading ```"),
            ("docs/a.md: Tool > Install > On Linux", "Use apt."),
        ];
        assert_eq!(shown, expected);
        assert_eq!(found[2].cites[0].text(), "docs/a.md:8");
    }

    #[test]
    fn only_documents_are_read() {
        for path in ["README.md", "readme.de.md", "docs/a.md", "docs/x/y.md"] {
            assert!(is_document(path), "{path}");
        }
        for path in ["src/README.md", "AGENTS.md", "CONTRIBUTING.md", "docs/CONTRIBUTING.md", "docs/a.txt", "a.md"] {
            assert!(!is_document(path), "{path}");
        }
    }
}
