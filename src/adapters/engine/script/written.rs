//! Parser of a script (TOML), strict.
//!
//! ```toml
//! [[turn]]
//! step = "develop"        # explore, plan, develop, review
//! task = "parser"         # only for this task
//! try = 1                 # only at this try
//! round = 2               # only in this round of the run
//! note_from = "checks"    # only with a note from there (checks, review, conflict, answer, refused, scout)
//! no_note_from = "checks" # only without one
//! patch_has = "text"      # review: only if the patch contains this text
//! patch_lacks = "text"    # review: only if it does not
//! say = ["a line"]        # lines shown live
//! wait_ms = 500           # total pause while they appear
//! tokens = 900            # charged usage
//! cost_micros = 2700
//! edit = [                # exactly one of write, append, replace, delete each
//!     { write = "path", content = "whole file" }, { append = "path", content = "more" },
//!     { replace = "path", old = "once in it", new = "instead" }, { delete = "path" },
//! ]
//! done = "summary"        # exactly one of: done; tasks; verdict (with findings, summary, criteria); notes; question; fail
//! to = "scout"            # with a question
//! ```
//!
//! Debug builds, and only those, know three more ends for tests of supervision: `panic = "why"`, `hang = true`, `exit =
//! 1`.

use crate::domain::{AskedTo, CriterionVerdict, Finding, Order, Step, TaskSpec, Verdict};
use crate::platform::rooted_fs;
use crate::ports::engine::StepOutcome;
use serde::Deserialize;

/// Upper bound of a script, and of a file it edits, in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// Upper bounds of turns, edits per turn, and lines per turn.
const MAX_TURNS: usize = 200;
const MAX_EDITS: usize = 100;
const MAX_LINES: usize = 100;
/// Upper bound of the pause in one turn.
const MAX_WAIT_MS: u64 = 60_000;

/// Script.
#[derive(Clone, Debug)]
pub struct Script {
    turns: Vec<Turn>,
}

/// Turn of a script.
#[derive(Clone, Debug)]
pub struct Turn {
    when: When,
    /// Lines shown live.
    pub say: Vec<String>,
    /// Total pause in milliseconds.
    pub wait_ms: u64,
    /// Charged tokens.
    pub tokens: u64,
    /// Charged cost in micro-USD.
    pub cost_micros: u64,
    /// Edits, in order.
    pub edits: Vec<Edit>,
    /// End of the turn.
    pub act: Act,
}

/// End of a turn.
#[derive(Clone, Debug)]
pub enum Act {
    /// Ends with an outcome.
    Outcome(StepOutcome),
    /// Panics.
    #[cfg(any(test, debug_assertions))]
    Panic(String),
    /// Never ends.
    #[cfg(any(test, debug_assertions))]
    Hang,
    /// Ends the whole process, as if it had been killed.
    #[cfg(any(test, debug_assertions))]
    Exit(i32),
}

/// Edit with its position.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Line of its turn in the script.
    pub line: usize,
    /// Change it makes.
    pub change: Change,
}

/// Change to one file. Paths are validated.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes a whole file.
    Write { path: String, content: String },
    /// Appends to a file.
    Append { path: String, content: String },
    /// Replaces a text that occurs once in the file.
    Replace { path: String, old: String, new: String },
    /// Deletes a file.
    Delete { path: String },
}

#[derive(Clone, Debug, Deserialize)]
struct When {
    step: Step,
    task: Option<String>,
    #[serde(rename = "try")]
    try_number: Option<u32>,
    round: Option<u32>,
    note_from: Option<String>,
    no_note_from: Option<String>,
    patch_has: Option<String>,
    patch_lacks: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    turn: Vec<toml::Spanned<RawTurn>>,
}

// `flatten` would accept unknown keys, so the fields are repeated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTurn {
    step: Step,
    task: Option<String>,
    #[serde(rename = "try")]
    try_number: Option<u32>,
    round: Option<u32>,
    note_from: Option<String>,
    no_note_from: Option<String>,
    patch_has: Option<String>,
    patch_lacks: Option<String>,
    #[serde(default)]
    say: Vec<String>,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    tokens: u64,
    #[serde(default)]
    cost_micros: u64,
    #[serde(default)]
    edit: Vec<RawEdit>,
    done: Option<String>,
    tasks: Option<Vec<RawTask>>,
    verdict: Option<Verdict>,
    findings: Option<Vec<RawFinding>>,
    summary: Option<String>,
    criteria: Option<Vec<RawCriterion>>,
    notes: Option<String>,
    question: Option<String>,
    to: Option<AskedTo>,
    fail: Option<String>,
    #[cfg(any(test, debug_assertions))]
    panic: Option<String>,
    #[cfg(any(test, debug_assertions))]
    hang: Option<bool>,
    #[cfg(any(test, debug_assertions))]
    exit: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEdit {
    write: Option<String>,
    append: Option<String>,
    replace: Option<String>,
    delete: Option<String>,
    content: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTask {
    name: String,
    title: String,
    text: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFinding {
    #[serde(default)]
    path: String,
    #[serde(default)]
    line: u64,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCriterion {
    id: String,
    met: bool,
    #[serde(default)]
    why: String,
}

/// Parses a script.
///
/// # Errors
/// `, line N: key: the problem and the fix`.
pub fn parse(text: &str) -> Result<Script, String> {
    let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let raw: RawScript = toml::from_str(text).map_err(|e| {
        let position = e.span().map_or(String::new(), |s| format!(", line {}", line(s.start)));
        format!("{position}: {}", e.message().trim().replace('\n', " "))
    })?;
    if raw.turn.is_empty() || raw.turn.len() > MAX_TURNS {
        return Err(format!(": it has {} turns; 1 to {MAX_TURNS} are allowed", raw.turn.len()));
    }
    let mut turns = Vec::new();
    for spanned in raw.turn {
        let at = line(spanned.span().start);
        turns.push(turn(at, spanned.into_inner()).map_err(|why| format!(", line {at}: {why}"))?);
    }
    Ok(Script { turns })
}

fn turn(line: usize, raw: RawTurn) -> Result<Turn, String> {
    if raw.edit.len() > MAX_EDITS || raw.say.len() > MAX_LINES {
        return Err(format!("a turn may have at most {MAX_EDITS} edits and {MAX_LINES} lines"));
    }
    if raw.wait_ms > MAX_WAIT_MS {
        return Err(format!("wait_ms: {} is too long; the limit is {MAX_WAIT_MS}", raw.wait_ms));
    }
    if !raw.edit.is_empty() && raw.step != Step::Develop {
        return Err(format!("edit: only the develop step edits, not {}", raw.step.name()));
    }
    if raw.task.is_some() && raw.step != Step::Develop {
        return Err(format!("task: only the develop step has a task, not {}", raw.step.name()));
    }
    if (raw.patch_has.is_some() || raw.patch_lacks.is_some()) && raw.step != Step::Review {
        return Err(format!("patch_has, patch_lacks: only the review step has a patch, not {}", raw.step.name()));
    }
    if raw.verdict.is_none() && (raw.findings.is_some() || raw.summary.is_some() || raw.criteria.is_some()) {
        return Err("findings, summary and criteria are only allowed with a verdict".to_owned());
    }
    if raw.to.is_some() && raw.question.is_none() {
        return Err("to is only allowed with a question".to_owned());
    }
    let findings = raw.findings.unwrap_or_default();
    let finding = |f: RawFinding| Finding { path: f.path, line: f.line, text: f.text };
    let criteria = raw.criteria.unwrap_or_default();
    let criterion = |c: RawCriterion| CriterionVerdict { id: c.id, met: c.met, why: c.why };
    let task = |t: RawTask| TaskSpec { name: t.name, title: t.title, text: t.text, needs: t.needs, paths: t.paths };
    let ends = [
        raw.done.map(|summary| (Some(Step::Develop), Act::Outcome(StepOutcome::Edited { summary }))),
        raw.tasks.map(|t| (Some(Step::Plan), Act::Outcome(StepOutcome::Tasks(t.into_iter().map(task).collect())))),
        raw.verdict.map(|verdict| {
            let findings = findings.into_iter().map(finding).collect();
            let criteria = criteria.into_iter().map(criterion).collect();
            let summary = raw.summary.unwrap_or_default();
            (Some(Step::Review), Act::Outcome(StepOutcome::Judged { verdict, findings, summary, criteria }))
        }),
        raw.notes.map(|text| (Some(Step::Explore), Act::Outcome(StepOutcome::Notes(text)))),
        raw.question
            .map(|question| (None, Act::Outcome(StepOutcome::Asked { question, to: raw.to.unwrap_or_default() }))),
        raw.fail.map(|text| (None, Act::Outcome(StepOutcome::Failed(text)))),
        #[cfg(any(test, debug_assertions))]
        raw.panic.map(|text| (None, Act::Panic(text))),
        #[cfg(any(test, debug_assertions))]
        raw.hang.filter(|h| *h).map(|_| (None, Act::Hang)),
        #[cfg(any(test, debug_assertions))]
        raw.exit.map(|code| (None, Act::Exit(code))),
    ];
    let mut ends = ends.into_iter().flatten();
    let (Some((only, act)), None) = (ends.next(), ends.next()) else {
        return Err("a turn ends with exactly one of done, tasks, verdict, notes, question, fail".to_owned());
    };
    if let Some(step) = only.filter(|s| *s != raw.step) {
        return Err(format!("its end is for the {} step, not for {}", step.name(), raw.step.name()));
    }
    let edits: Result<_, String> = raw.edit.into_iter().map(|e| Ok(Edit { line, change: change(e)? })).collect();
    let (step, task, try_number, round) = (raw.step, raw.task, raw.try_number, raw.round);
    let (note_from, no_note_from, patch_has, patch_lacks) =
        (raw.note_from, raw.no_note_from, raw.patch_has, raw.patch_lacks);
    Ok(Turn {
        when: When { step, task, try_number, round, note_from, no_note_from, patch_has, patch_lacks },
        say: raw.say,
        wait_ms: raw.wait_ms,
        tokens: raw.tokens,
        cost_micros: raw.cost_micros,
        edits: edits?,
        act,
    })
}

fn change(raw: RawEdit) -> Result<Change, String> {
    let RawEdit { write, append, replace, delete, content, old, new } = raw;
    let change = match (write, append, replace, delete, content, old, new) {
        (Some(path), None, None, None, Some(content), None, None) => Change::Write { path, content },
        (None, Some(path), None, None, Some(content), None, None) => Change::Append { path, content },
        (None, None, Some(path), None, None, Some(old), Some(new)) if !old.is_empty() => {
            Change::Replace { path, old, new }
        }
        (None, None, None, Some(path), None, None, None) => Change::Delete { path },
        _ => {
            return Err(
                "edit: each is one of { write, content }, { append, content }, { replace, old, new }, { delete }"
                    .into(),
            );
        }
    };
    rooted_fs::check(change.path()).map_err(|why| format!("edit: {why}"))?;
    // In any spelling, because some file systems ignore case.
    if change.path().split('/').any(|name| name.eq_ignore_ascii_case(".git")) {
        return Err(format!("edit: {:?} is inside .git", change.path()));
    }
    Ok(change)
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Change::Write { path, .. }
            | Change::Append { path, .. }
            | Change::Replace { path, .. }
            | Change::Delete { path } => path,
        }
    }
}

impl Edit {
    /// Describes the edit in one line, for live output.
    pub fn describe(&self) -> String {
        let verb = match self.change {
            Change::Write { .. } => "writes",
            Change::Append { .. } => "adds to",
            Change::Replace { .. } => "edits",
            Change::Delete { .. } => "deletes",
        };
        format!("{verb} {}", self.change.path())
    }
}

impl Script {
    /// Returns the first turn that matches, with its number.
    pub fn turn(&self, order: &Order, patch: &str) -> Option<(usize, &Turn)> {
        self.turns.iter().enumerate().find(|(_, t)| t.matches(order, patch)).map(|(i, t)| (i + 1, t))
    }
}

impl Turn {
    /// Returns whether all conditions of the turn hold for an order.
    pub fn matches(&self, order: &Order, patch: &str) -> bool {
        let w = &self.when;
        let task = order.task.as_ref().map(|t| t.spec.name.as_str());
        let has_note_from = |from: &String| order.notes.iter().any(|n| n.source.name() == *from);
        w.step == order.step
            && w.task.as_deref().is_none_or(|t| task == Some(t))
            && w.try_number.is_none_or(|n| n == order.try_number)
            && w.round.is_none_or(|n| n == order.round)
            && w.note_from.as_ref().is_none_or(has_note_from)
            && !w.no_note_from.as_ref().is_some_and(has_note_from)
            && w.patch_has.as_deref().is_none_or(|text| patch.contains(text))
            && !w.patch_lacks.as_deref().is_some_and(|text| patch.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_names_its_line() {
        let wrong = [
            ("", "missing field `turn`"),
            ("[[turn]]\nstep = \"develop\"", "line 1: a turn ends with exactly one of"),
            ("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nfail = \"y\"", "exactly one of"),
            ("[[turn]]\nstep = \"develop\"\nhang = false", "exactly one of"),
            ("\n[[turn]]\nstep = \"plan\"\ndone = \"x\"", "line 2: its end is for the develop step, not for plan"),
            ("[[turn]]\nstep = \"walk\"\ndone = \"x\"", "line 2: unknown variant `walk`"),
            ("[[turn]]\nstep = \"develop\"\ndoen = \"x\"", "line 3: unknown field `doen`"),
            ("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nwait_ms = 60001", "wait_ms"),
            ("[[turn]]\nstep = \"review\"\nfail = \"x\"\nedit = [{delete = \"a\"}]", "only the develop step edits"),
            ("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{write = \"a\"}]", "each is one of"),
            ("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{delete = \"../a\"}]", "leads outside"),
            ("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{delete = \"/a\"}]", "must be relative"),
            (
                "[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{write = \"a/.GIT/config\", content = \"\"}]",
                "inside .git",
            ),
        ];
        for (text, part) in wrong {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error:?}");
        }
    }
}
