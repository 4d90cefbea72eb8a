//! Reader of specs: bounded YAML, errors with line, column and the nearest key.

use super::{MAX_BYTES, SpecFile, rules};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, RenderOptions, SnippetMode};
use std::fmt;

/// Upper bound on the problems that are reported at once.
const MAX_PROBLEMS: usize = 20;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// Line, from 1; 0 = the file as a whole.
    pub line: u64,
    /// Column, from 1; 0 = the line as a whole.
    pub column: u64,
    /// What is wrong, and how to fix it.
    pub what: String,
}

impl SpecProblem {
    pub(super) fn new(at: Location, what: impl Into<String>) -> SpecProblem {
        // An unknown location is line 0, column 0.
        SpecProblem { line: at.line(), column: at.column(), what: what.into() }
    }
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.what),
            (line, 0) => write!(f, "line {line}: {}", self.what),
            (line, column) => write!(f, "line {line}, column {column}: {}", self.what),
        }
    }
}

/// Reads a spec.
///
/// # Errors
///
/// Returns what is wrong with it: the first error of form, or every violated rule.
pub fn parse(text: &str) -> Result<SpecFile, Vec<SpecProblem>> {
    if text.len() > MAX_BYTES {
        let what = format!(
            "the spec has {} bytes; the limit is {MAX_BYTES}: refer to files of the repository for details",
            text.len()
        );
        return Err(vec![SpecProblem { line: 0, column: 0, what }]);
    }
    // A spec needs none of what makes YAML dangerous. The limits leave room for any real one.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            max_events: 4_096,
            max_nodes: 2_048,
            max_depth: 16,
            max_documents: 1,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_total_scalar_bytes: MAX_BYTES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        // A number or `true` is not a text unless it is quoted, as for every other reader of YAML.
        no_schema: true,
        with_snippet: false,
    };
    let file: SpecFile = serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![problem(&error)])?;
    let mut problems = rules::violations(&file);
    problems.truncate(MAX_PROBLEMS);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

fn problem(error: &Error) -> SpecProblem {
    let error = error.without_snippet();
    let what = match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{}` occurs twice", brief(key)),
        Error::QuotingRequired { value, .. } => format!("`{}` is not a text; put it in quotes", brief(value)),
        Error::Budget { .. } => {
            "the file uses more of YAML than a spec needs (anchors, aliases, several documents, deep nesting); \
             write plain keys and values"
                .to_owned()
        }
        other => described(other),
    };
    SpecProblem::new(error.location().unwrap_or(Location::UNKNOWN), what)
}

/// Returns the words of the YAML reader, without the location, which is reported beside them.
fn described(error: &Error) -> String {
    let mut options = RenderOptions::default();
    options.snippets = SnippetMode::Off;
    let text = error.render_with_options(options);
    let text = text.lines().next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    brief(&text[..end])
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let key = brief(key);
    let all = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let nearest = known.iter().min_by_key(|k| strsim::damerau_levenshtein(&key, k));
    match nearest.filter(|k| strsim::damerau_levenshtein(&key, k) <= k.len().max(4) / 2) {
        Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`? Known keys: {all}"),
        None => format!("unknown key `{key}`. Known keys: {all}"),
    }
}

/// Shortens a text of the file for an error, on one line.
pub(super) fn brief(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    clean.trim().to_owned()
}
