//! Drafts of specs from documents of other tools: a feature of Spec Kit, a change of OpenSpec, a GitHub issue.
//!
//! Those documents describe; they name no commands. So every imported criterion is judged, until a person adds a command
//! to it. What does not fit is listed in the draft, never dropped silently.

mod markdown;

use super::rules;
use crate::domain::Spec;
use markdown::{Block, blocks};
use std::fmt::Write as _;

/// Upper bounds on what a draft repeats, which keep it within that of a spec.
const MAX_GOAL_BYTES: usize = 20 * 1024;
const MAX_GOAL_CHARS: usize = 8_000;
const MAX_COMMENTS: usize = 20;
const MAX_COMMENT_CHARS: usize = 100;

/// A draft of a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The document it comes from.
    pub source: String,
    /// Name of the spec.
    pub id: String,
    /// Title.
    pub title: String,
    /// Goal.
    pub goal: String,
    /// Criteria: id and text.
    pub criteria: Vec<(String, String)>,
    /// Questions that the document leaves open.
    pub questions: Vec<String>,
}

impl Draft {
    /// Returns an empty draft whose name is derived from that of the document.
    fn new(source: &str, name: &str) -> Draft {
        // Spec Kit numbers its folders: 003-json-output.
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('-');
        Draft { source: source.to_owned(), id: slug(name), ..Draft::default() }
    }

    /// Adds a criterion under a name that no other has.
    fn add(&mut self, name: &str, text: &str) {
        let stem = slug(name);
        let taken = |id: &str| self.criteria.iter().any(|(other, _)| other == id);
        let numbered = (2..).map(|n| format!("{}-{n}", stem.chars().take(36).collect::<String>()));
        let id = std::iter::once(stem.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(stem);
        self.criteria.push((id, text.to_owned()));
    }

    /// Returns the criteria that a spec has no room for.
    pub fn beyond(&self) -> &[(String, String)] {
        self.criteria.get(Spec::MAX_CRITERIA..).unwrap_or_default()
    }

    /// Returns the draft as a spec in YAML, with comments on what is left to do.
    pub fn yaml(&self) -> String {
        let mut text = format!("# Imported from {}.\n", one_line(&self.source, 200));
        text.push_str("# Add a `command` to every criterion that can be tested; the reviewer judges the others.\n");
        for question in self.questions.iter().take(MAX_COMMENTS) {
            let _infallible = writeln!(text, "# Open question: {}", one_line(question, MAX_COMMENT_CHARS));
        }
        let title = if self.title.trim().is_empty() { &self.id } else { &self.title };
        let goal = if self.goal.trim().is_empty() { title } else { &self.goal };
        let _infallible = writeln!(
            text,
            "spec: 1\nid: {}\ntitle: {}\ngoal: |2\n{}\nacceptance:",
            scalar(&self.id),
            quoted(&one_line(title, rules::MAX_TITLE_CHARS)),
            indented(goal)
        );
        for (id, criterion) in self.criteria.iter().take(Spec::MAX_CRITERIA) {
            let criterion = quoted(&one_line(criterion, rules::MAX_CRITERION_CHARS));
            let _infallible = writeln!(text, "  - id: {}\n    text: {criterion}", scalar(id));
        }
        if !self.beyond().is_empty() {
            let _infallible = writeln!(
                text,
                "# A spec has at most {} criteria. Merge these into the others, or write a second spec:",
                Spec::MAX_CRITERIA
            );
        }
        for (_, criterion) in self.beyond().iter().take(MAX_COMMENTS) {
            let _infallible = writeln!(text, "# - {}", one_line(criterion, MAX_COMMENT_CHARS));
        }
        text
    }
}

/// Drafts a spec from the `spec.md` of a feature of Spec Kit: its user stories and functional requirements become the
/// goal, its acceptance scenarios and success criteria the criteria.
pub fn spec_kit(folder: &str, spec: &str) -> Draft {
    let mut draft = Draft::new(&format!("{folder}/spec.md"), folder.rsplit('/').next().unwrap_or(folder));
    let (mut story, mut number) = (String::new(), 0);
    for block in blocks(spec) {
        open_questions(&mut draft, block.text());
        match block {
            Block::Heading(1, text) => draft.title = after_colon(&text).to_owned(),
            Block::Heading(_, text) if text.starts_with("User Story") => {
                number += 1;
                story = format!("us{number}");
                let _infallible = writeln!(draft.goal, "{}\n", after_dash(&text));
            }
            Block::Heading(2, _) => story.clear(),
            Block::Heading(..) => {}
            Block::Item(text) if text.starts_with("SC-") => {
                draft.add(text.get(..6).unwrap_or("sc"), after_colon(&text))
            }
            Block::Item(text) if text.starts_with("FR-") => {
                let _infallible = writeln!(draft.goal, "- {}", after_colon(&text));
            }
            Block::Item(text) if !story.is_empty() && text.starts_with("Given") => draft.add(&story, &text),
            Block::Item(_) => {}
            Block::Paragraph(text) if !story.is_empty() && !is_label(&text) => {
                let _infallible = writeln!(draft.goal, "{text}\n");
            }
            Block::Paragraph(_) => {}
        }
    }
    draft
}

/// Drafts a spec from a change of OpenSpec: its proposal becomes the goal, and each scenario of an added or modified
/// requirement a criterion; so does each removed requirement.
pub fn open_spec(folder: &str, proposal: &str, deltas: &[String]) -> Draft {
    let mut draft = Draft::new(&format!("{folder}/proposal.md"), folder.rsplit('/').next().unwrap_or(folder));
    let mut section = String::new();
    for block in blocks(proposal) {
        match block {
            Block::Heading(1, text) => draft.title = after_colon(&text).to_owned(),
            Block::Heading(_, text) => section = text,
            Block::Paragraph(text) if matches!(section.as_str(), "Why" | "What Changes") => {
                let _infallible = writeln!(draft.goal, "{text}\n");
            }
            Block::Item(text) if section == "What Changes" => {
                let _infallible = writeln!(draft.goal, "- {text}");
            }
            _ => {}
        }
    }
    for delta in deltas {
        let (mut is_removed, mut scenario) = (false, None::<(String, String)>);
        let mut all = Vec::new();
        for block in blocks(delta) {
            match block {
                Block::Heading(2, text) => is_removed = text.starts_with("REMOVED"),
                Block::Heading(3, text) => {
                    all.extend(scenario.take());
                    let name = after_colon(&text);
                    if is_removed {
                        all.push((format!("no-{name}"), format!("This no longer holds: {name}")));
                    }
                }
                Block::Heading(4, text) if !is_removed => {
                    all.extend(scenario.take());
                    let name = after_colon(&text).to_owned();
                    scenario = Some((name.clone(), name));
                }
                Block::Item(step) => {
                    if let Some((_, text)) = &mut scenario {
                        let _infallible = write!(text, "{} {step}", if text.contains(';') { "," } else { ";" });
                    }
                }
                _ => {}
            }
        }
        all.extend(scenario);
        all.iter().for_each(|(name, text)| draft.add(name, text));
    }
    draft
}

/// Drafts a spec from a GitHub issue: its body becomes the goal. The criteria are the items of its task lists and of
/// the sections whose heading contains "acceptance".
pub fn issue(source: &str, title: &str, body: &str) -> Draft {
    let mut draft = Draft { title: title.trim().to_owned(), goal: body.trim().to_owned(), ..Draft::new(source, title) };
    let mut is_acceptance = false;
    for block in blocks(body) {
        open_questions(&mut draft, block.text());
        match block {
            Block::Heading(_, text) => is_acceptance = text.to_lowercase().contains("acceptance"),
            Block::Item(text) => {
                let task = ["[ ] ", "[x] ", "[X] "].iter().find_map(|mark| text.strip_prefix(mark));
                if let Some(text) = task.or(is_acceptance.then_some(&*text)) {
                    let name: String = text.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
                    draft.add(&name, text);
                }
            }
            Block::Paragraph(_) => {}
        }
    }
    draft
}

/// Records the questions that Spec Kit marks in a text.
fn open_questions(draft: &mut Draft, text: &str) {
    for marked in text.split("[NEEDS CLARIFICATION").skip(1) {
        let question = marked.split(']').next().unwrap_or_default();
        draft.questions.push(question.trim_start_matches(':').trim().to_owned());
    }
}

/// Returns whether a paragraph only introduces what follows it.
fn is_label(text: &str) -> bool {
    text.ends_with(':')
}

fn after_colon(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, rest)| rest).trim()
}

/// Returns the name of a user story: `User Story 1 - Print JSON (Priority: P1)`.
fn after_dash(text: &str) -> &str {
    let name = text.split_once(" - ").map_or(text, |(_, rest)| rest);
    name.split(" (Priority").next().unwrap_or(name).trim()
}

/// Returns a name of lower-case letters, digits and hyphens.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() >= rules::MAX_ID_CHARS {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "criterion".to_owned() } else { slug.to_owned() }
}

/// Returns a text as one line of at most `max` characters.
fn one_line(text: &str, max: usize) -> String {
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>();
    let line = line.join(" ");
    match line.chars().count() > max {
        true => line.chars().take(max - 1).chain(['…']).collect(),
        false => line,
    }
}

/// Returns a YAML string. A string of JSON is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns a name as a YAML string, in quotes only if a reader would take it for a number or a boolean.
fn scalar(name: &str) -> String {
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&name);
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_word {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// Returns the lines of a block scalar that is indented by two, as far as a draft has room for them.
fn indented(text: &str) -> String {
    let text: String = text.trim().chars().take(MAX_GOAL_CHARS).collect();
    let mut block = String::new();
    for line in text.lines() {
        let line = line.replace(|c: char| c.is_control(), " ");
        let line = line.trim_end();
        let left = MAX_GOAL_BYTES.saturating_sub(block.len());
        block.push_str(if line.is_empty() { "" } else { "  " });
        block.push_str(&line[..line.floor_char_boundary(left)]);
        block.push('\n');
        if line.len() > left {
            break;
        }
    }
    block.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
