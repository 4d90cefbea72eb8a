//! `search`: matches a regular expression against the files of the worktree, with ripgrep's libraries.

use super::walk::{Next, walk};
use super::{Spec, folder, object};
use crate::domain::policy::PathPattern;
use crate::platform::rooted_fs::{EntryKind, RootedDir};
use grep_regex::RegexMatcherBuilder;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// Upper bounds of an expression: its length, and the memory of its compiled forms.
const MAX_PATTERN_BYTES: usize = 1_000;
const MAX_REGEX_BYTES: usize = 2 * 1024 * 1024;
/// Larger files are skipped and counted.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Upper bounds of the result: matches per file, matches, bytes, characters of a line, lines around a match.
const MAX_MATCHES_PER_FILE: usize = 40;
const MAX_MATCHES: usize = 200;
const MAX_TEXT_BYTES: usize = 40 * 1024;
const MAX_LINE_CHARS: usize = 300;
const MAX_CONTEXT: usize = 5;
/// Time limit of one search.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    literal: bool,
    #[serde(default)]
    context: usize,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "search",
        description: "Searches text files for a regular expression (Rust syntax, matched line by line). Returns path:line: text.",
        schema: object(
            json!({
                "pattern": {"type": "string"},
                "path": {"type": "string", "description": "File or folder to search. Default: the whole worktree."},
                "glob": {"type": "string", "description": "Search only paths that match this glob, such as **/*.rs."},
                "ignore_case": {"type": "boolean"},
                "literal": {"type": "boolean", "description": "Treat the pattern as plain text."},
                "context": {"type": "integer", "minimum": 0, "maximum": MAX_CONTEXT, "description": "Lines to show before and after each match."},
            }),
            &["pattern"],
        ),
    }
}

pub(super) fn search(tree: &RootedDir, args: &Args) -> Result<String, String> {
    if args.pattern.is_empty() || args.pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("the pattern must have 1 to {MAX_PATTERN_BYTES} bytes"));
    }
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(args.ignore_case)
        .fixed_strings(args.literal)
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build(&args.pattern)
        .map_err(|e| format!("invalid pattern: {e}. Set literal = true to search for it as plain text"))?;
    let only = args.glob.as_deref().map(PathPattern::new).transpose()?;
    let root = folder(args.path.as_deref())?;
    let mut searcher = SearcherBuilder::new()
        .line_number(true)
        .binary_detection(BinaryDetection::quit(0))
        .before_context(args.context.min(MAX_CONTEXT))
        .after_context(args.context.min(MAX_CONTEXT))
        .build();
    let mut found = Found::default();
    let started = Instant::now();
    let mut search_file = |path: &str| {
        // The file was deleted or replaced meanwhile.
        let Ok(bytes) = tree.read(path, MAX_FILE_BYTES) else { return };
        found.begin(path);
        // The sink never fails.
        let _ended = searcher.search_slice(&matcher, &bytes, &mut found);
    };
    let (mut large, mut slow) = (0, false);
    let whole = match is_file(tree, root) {
        true => {
            search_file(root);
            true
        }
        false => walk(tree, root, &mut |path, entry, _| {
            if entry.kind == EntryKind::File && only.as_ref().is_none_or(|g| g.matches(path)) {
                match entry.size > MAX_FILE_BYTES {
                    true => large += 1,
                    false => search_file(path),
                }
            }
            slow = started.elapsed() > LIMIT;
            if slow { Next::Stop } else { Next::Enter }
        })?,
    };
    let mut text = format!("{} matching lines in {} files", found.matches, found.files);
    if found.full() {
        text.push_str("; not all are shown. Narrow the search with path or glob");
    }
    if slow {
        text.push_str(&format!("; stopped after {} s. Narrow the search with path or glob", LIMIT.as_secs()));
    } else if !whole {
        text.push_str("; the worktree is too large to search completely. Narrow the search with path");
    }
    if large > 0 {
        text.push_str(&format!("; {large} files over 1 MiB were skipped"));
    }
    Ok(format!("{text}\n{}", found.text))
}

fn is_file(tree: &RootedDir, path: &str) -> bool {
    !path.is_empty() && tree.size(path).is_ok()
}

/// Matches so far.
#[derive(Default)]
struct Found {
    path: String,
    text: String,
    in_file: usize,
    matches: usize,
    files: usize,
}

impl Found {
    fn begin(&mut self, path: &str) {
        self.path = path.to_owned();
        self.in_file = 0;
    }
    fn full(&self) -> bool {
        self.matches > MAX_MATCHES || self.text.len() > MAX_TEXT_BYTES
    }
    fn show(&mut self, line: Option<u64>, mark: char, bytes: &[u8]) {
        if self.full() || self.in_file > MAX_MATCHES_PER_FILE {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let cut: String = text.chars().take(MAX_LINE_CHARS).collect();
        let more = if cut.len() < text.len() { " […]" } else { "" };
        self.text.push_str(&format!("{}{mark}{}{mark} {cut}{more}\n", self.path, line.unwrap_or(0)));
    }
}

impl Sink for &mut Found {
    type Error = std::io::Error;

    fn matched(&mut self, _searcher: &Searcher, found: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        self.files += usize::from(self.in_file == 0);
        self.in_file += 1;
        self.matches += 1;
        self.show(found.line_number(), ':', found.bytes());
        Ok(self.in_file <= 10 * MAX_MATCHES_PER_FILE)
    }

    fn context(&mut self, _searcher: &Searcher, context: &SinkContext<'_>) -> Result<bool, Self::Error> {
        self.show(context.line_number(), '-', context.bytes());
        Ok(true)
    }
}
