//! The lines of a diff, and comments on them, which become the reason of a decline.
//!
//! Invariant: pure. A comment stays in the console until a decline that was confirmed takes it along.

use super::state::{Dialog, Diff, DiffFile, DiffLine, Field, Purpose, Request, Screen, State};
use super::{text, view};
use crate::render::diff::{self, LineKind};
use crate::render::words;

/// Pairs of lines whose words are compared, in all files of a diff.
const MAX_COMPARED: usize = 2_000;

/// Parses a diff into lines that may be drawn.
pub fn files(patch: &str) -> Vec<DiffFile> {
    let mut compared = 0;
    let mut may_compare = || {
        compared += 1;
        compared <= MAX_COMPARED
    };
    let mut files = Vec::new();
    for file in diff::parse(patch) {
        let mut lines = Vec::with_capacity(file.lines());
        for hunk in &file.hunks {
            let context = text::verbatim(hunk.context);
            lines.push(DiffLine { old: 0, new: 0, sign: '@', text: context, marks: Vec::new() });
            let marks = words::marks(&hunk.lines, None, &mut may_compare);
            lines.extend(hunk.lines.iter().zip(marks).map(|(line, marks)| {
                let sign = match line.kind {
                    LineKind::Same => ' ',
                    LineKind::Added => '+',
                    LineKind::Removed => '-',
                    LineKind::Remark => '\\',
                };
                let (text, marks) = drawn(line.text, &marks);
                DiffLine { old: line.old, new: line.new, sign, text, marks }
            }));
        }
        let counts = file.counts();
        files.push(DiffFile { path: text::verbatim(&file.path), counts, flags: file.flags.join(", "), lines });
    }
    files
}

/// Returns a line as it may be drawn, with its marks where they are then.
fn drawn(line: &str, marks: &words::Marks) -> (String, words::Marks) {
    if marks.is_empty() {
        return (text::verbatim(line), Vec::new());
    }
    let (mut out, mut moved, mut from) = (String::new(), Vec::new(), 0);
    for marked in marks {
        out.push_str(&text::verbatim(&line[from..marked.start]));
        let start = out.len();
        out.push_str(&text::verbatim(&line[marked.clone()]));
        moved.push(start..out.len());
        from = marked.end;
    }
    out.push_str(&text::verbatim(&line[from..]));
    (out, moved)
}

fn selected(diff: &Diff) -> Option<&DiffFile> {
    diff.files.as_ref()?.get(diff.file)
}

/// Moves the selected line, and the text with it.
pub fn move_line(state: &mut State, by: isize) {
    let height = view::diff_height(state);
    let Some(diff) = &mut state.diff else { return };
    let len = diff.files.as_ref().and_then(|files| files.get(diff.file)).map_or(0, |file| file.lines.len());
    diff.line = diff.line.saturating_add_signed(by).min(len.saturating_sub(1));
    state.scroll = state.scroll.clamp(diff.line.saturating_sub(height.saturating_sub(1)), diff.line);
}

/// Keeps the selected line on the screen.
pub fn clamp(state: &mut State) {
    let (height, first) = (view::diff_height(state), state.scroll);
    if let Some(diff) = state.diff.as_mut().filter(|_| state.screen == Screen::Diff) {
        diff.line = diff.line.clamp(first, first.saturating_add(height.saturating_sub(1)));
    }
}

/// Begins a comment on the selected line.
pub fn begin(state: &mut State) -> Vec<Request> {
    let is_asked = |code: &str| ["approve_merge", "approve_diff"].contains(&code);
    if !state.asked().is_some_and(|asked| is_asked(&asked.asked.code)) {
        state.fail("Nothing here waits for your decision, so there is nothing to comment on.");
        return Vec::new();
    }
    let line = state.diff.as_ref().and_then(|diff| {
        let file = selected(diff)?;
        let line = file.lines.get(diff.line).filter(|line| line.new > 0)?.new;
        let text = diff.comments.get(&(file.path.clone(), line)).cloned().unwrap_or_default();
        Some((line, Field { label: format!("{}:{line}", file.path), text, is_optional: true }))
    });
    match line {
        Some((line, field)) => state.dialog = Some(Dialog::Write(field, Purpose::Comment(line))),
        None => state.notify("Choose a line of the new file with ↑ and ↓."),
    }
    Vec::new()
}

/// Stores a comment; an empty one removes it.
pub fn store(state: &mut State, line: u64, text: &str) {
    let Some(diff) = &mut state.diff else { return };
    let Some(path) = selected(diff).map(|file| file.path.clone()) else { return };
    match text.is_empty() {
        true => diff.comments.remove(&(path, line)),
        false => diff.comments.insert((path, line), text.to_owned()),
    };
    let count = diff.comments.len() as u64;
    state.notify(format!("{}. A decline (d) takes it along.", crate::render::count(count, "comment")));
}

/// Lets a decline take the comments along, if they are about the commits that are declined.
pub fn join(state: &State, dialog: Dialog) -> Dialog {
    let (mut field, mut act) = match dialog {
        Dialog::Write(field, Purpose::Text(act)) if act.body.no && act.name == "approve" => (field, act),
        other => return other,
    };
    let is_same = |diff: &Diff| diff.run == act.run && state.subject().is_some_and(|run| run.head == diff.head);
    let comments = state.diff.as_ref().filter(|diff| is_same(diff)).into_iter().flat_map(|diff| &diff.comments);
    let comments: Vec<String> = comments.map(|((path, line), text)| format!("{path}:{line}: {text}")).collect();
    if !comments.is_empty() {
        let count = crate::render::count(comments.len() as u64, "comment");
        (field.is_optional, field.label) = (true, format!("What else should be different? ({count} go with it)"));
        act.comments = comments;
    }
    Dialog::Write(field, Purpose::Text(act))
}
