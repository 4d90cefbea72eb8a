//! `search`: a regular expression over the files of the worktree, by ripgrep's libraries.

use super::walk::{Next, walk};
use super::{Spec, folder, object};
use crate::domain::policy::glob;
use crate::platform::rooted_fs::{EntryKind, RootedDir};
use grep_regex::RegexMatcherBuilder;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// What an expression may cost: its length, and the memory of its compiled forms.
const PATTERN_BYTES_MAX: usize = 1_000;
const REGEX_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Larger files are passed over and counted.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What is shown: matches in one file, matches in all, bytes of all, characters of a line, lines around a match.
const IN_FILE_MAX: usize = 40;
const MATCHES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 40 * 1024;
const LINE_CHARS_MAX: usize = 300;
const CONTEXT_MAX: usize = 5;
/// How long one search may take.
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
        about: "Searches text files for a regular expression (Rust syntax, line by line). Gives path:line: text.",
        schema: object(
            json!({
                "pattern": {"type": "string"},
                "path": {"type": "string", "description": "A file or folder; the whole worktree when not given."},
                "glob": {"type": "string", "description": "Only paths like this: **/*.rs"},
                "ignore_case": {"type": "boolean"},
                "literal": {"type": "boolean", "description": "Take the pattern as plain text."},
                "context": {"type": "integer", "minimum": 0, "maximum": CONTEXT_MAX, "description": "Lines around each match."},
            }),
            &["pattern"],
        ),
    }
}

pub(super) fn search(tree: &RootedDir, args: &Args) -> Result<String, String> {
    if args.pattern.is_empty() || args.pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern must have 1 to {PATTERN_BYTES_MAX} bytes"));
    }
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(args.ignore_case)
        .fixed_strings(args.literal)
        .line_terminator(Some(b'\n'))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build(&args.pattern)
        .map_err(|e| format!("the pattern is not usable: {e}; literal = true takes it as plain text"))?;
    let only = args.glob.as_deref().map(glob).transpose()?.map(|g| g.compile_matcher());
    let root = folder(args.path.as_deref())?;
    let mut searcher = SearcherBuilder::new()
        .line_number(true)
        .binary_detection(BinaryDetection::quit(0))
        .before_context(args.context.min(CONTEXT_MAX))
        .after_context(args.context.min(CONTEXT_MAX))
        .build();
    let mut found = Found::default();
    let started = Instant::now();
    let mut look = |path: &str| {
        // A file that goes or changes its kind meanwhile is none.
        let Ok(bytes) = tree.read(path, FILE_BYTES_MAX) else { return };
        found.begin(path);
        // The sink has no error of its own.
        let _ended = searcher.search_slice(&matcher, &bytes, &mut found);
    };
    let (mut large, mut slow) = (0, false);
    let whole = match is_file(tree, root) {
        true => {
            look(root);
            true
        }
        false => walk(tree, root, &mut |path, entry, _| {
            if entry.kind == EntryKind::File && only.as_ref().is_none_or(|g| g.is_match(path)) {
                match entry.size > FILE_BYTES_MAX {
                    true => large += 1,
                    false => look(path),
                }
            }
            slow = started.elapsed() > LIMIT;
            if slow { Next::Stop } else { Next::On }
        })?,
    };
    let mut text = format!("{} matching lines in {} files", found.matches, found.files);
    if found.full() {
        text.push_str("; not all are shown: narrow it by path or glob");
    }
    if slow {
        text.push_str(&format!("; stopped after {} s: narrow it by path or glob", LIMIT.as_secs()));
    } else if !whole {
        text.push_str("; the worktree is too large to be searched whole: narrow it by path");
    }
    if large > 0 {
        text.push_str(&format!("; {large} files over 1 MiB were passed over"));
    }
    Ok(format!("{text}\n{}", found.text))
}

fn is_file(tree: &RootedDir, path: &str) -> bool {
    !path.is_empty() && tree.size(path).is_ok()
}

/// What was found so far.
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
        self.matches > MATCHES_MAX || self.text.len() > TEXT_BYTES_MAX
    }
    fn show(&mut self, line: Option<u64>, mark: char, bytes: &[u8]) {
        if self.full() || self.in_file > IN_FILE_MAX {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let cut: String = text.chars().take(LINE_CHARS_MAX).collect();
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
        Ok(self.in_file <= 10 * IN_FILE_MAX)
    }

    fn context(&mut self, _searcher: &Searcher, context: &SinkContext<'_>) -> Result<bool, Self::Error> {
        self.show(context.line_number(), '-', context.bytes());
        Ok(true)
    }
}
