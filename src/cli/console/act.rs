//! Acts of a person: what each answer to a question does, what has to be written for it, and what was seen.
//!
//! Invariant: pure. Every act is confirmed before it is sent.

use super::selection::Question;
use super::state::{Act, Dialog, Field, Purpose, Seen};
use super::text;
use crate::cli::text::short_sha;
use crate::cli::{amounts, answers};
use crate::http::rest::wire::{Action, Answer, AnswerKind, BudgetScope, Escalation, RaiseShared, Run};

/// Longest title of a run in a question.
const MAX_TITLE_CHARS: usize = 60;

/// Keys of answers, and the words for them.
const KEYS: &[(char, &str)] = &[
    ('a', "approve"),
    ('d', "decline"),
    ('u', "answer"),
    ('r', "continue"),
    ('m', "give more"),
    ('s', "skip"),
    ('x', "end the run"),
];

/// Returns the key of an answer and the words for it.
fn key_of(kind: AnswerKind) -> (char, &'static str) {
    let at = match kind {
        AnswerKind::Approve => 0,
        AnswerKind::Decline => 1,
        AnswerKind::Reply => 2,
        AnswerKind::Continue => 3,
        AnswerKind::Raise | AnswerKind::RaiseShared => 4,
        AnswerKind::Skip => 5,
        AnswerKind::Stop => 6,
    };
    KEYS.get(at).copied().unwrap_or((' ', ""))
}

/// Returns whether a key may answer a question.
pub fn is_key(key: char) -> bool {
    KEYS.iter().any(|(k, _)| *k == key)
}

/// Returns the keys that answer a question, each with the words for it.
pub fn keys(asked: &Escalation) -> Vec<(char, &'static str)> {
    let mut keys: Vec<(char, &'static str)> = Vec::new();
    for answer in &asked.answers {
        let key = key_of(answer.kind);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Returns the dialog that begins the answer of a key; `None` if the question has no such answer.
pub fn answer(question: Question<'_>, key: char) -> Option<Dialog> {
    let Question { run, asked } = question;
    let answer = asked.answers.iter().find(|answer| key_of(answer.kind).0 == key)?;
    let title = title(run);
    let effect = text::line(&answer.effect);
    let act = |what: String, done, name| Act {
        run: run.id.clone(),
        what,
        done,
        name,
        body: Box::new(Action { block: Some(asked.block.clone()), ..Action::default() }),
        raise: None,
        seen: Seen::of(run, Some(&asked.block)),
        comments: Vec::new(),
    };
    let write = |label: &str, is_optional, purpose| {
        Dialog::Write(Field { label: label.to_owned(), text: String::new(), is_optional }, purpose)
    };
    Some(match answer.kind {
        AnswerKind::Approve => {
            Dialog::Confirm(act(format!("approve {} of “{title}”", subject(run, asked)), "Approved", "approve"))
        }
        AnswerKind::Decline => {
            let mut act = act(format!("decline {} of “{title}”", subject(run, asked)), "Declined", "approve");
            act.body.no = true;
            write("What should be different?", !answer.needs_text, Purpose::Text(act))
        }
        AnswerKind::Continue => Dialog::Confirm(act(format!("continue “{title}” ({effect})"), "Continued", "unblock")),
        AnswerKind::Reply => {
            let act = act(format!("answer “{title}”"), "Answered", "unblock");
            write(if asked.code == "question" { "Your answer:" } else { "Hint:" }, false, Purpose::Text(act))
        }
        AnswerKind::Raise => {
            let act = act(format!("give more to “{title}”"), "Raised", "unblock");
            let field = Field { label: "How much more?".to_owned(), text: answers::amount(answer), is_optional: false };
            Dialog::Write(field, Purpose::Amount(act))
        }
        AnswerKind::RaiseShared => {
            let mut act = act(format!("raise the shared budget for “{title}” ({effect})"), "Raised", "unblock");
            act.raise = Some(shared(run, answer));
            Dialog::Confirm(act)
        }
        AnswerKind::Skip => {
            let mut act = act(format!("skip this in “{title}” ({effect})"), "Skipped", "unblock");
            act.body.skip = true;
            Dialog::Confirm(act)
        }
        AnswerKind::Stop => {
            let mut act = act(format!("end “{title}” undelivered"), "Ended", "unblock");
            act.body.no = true;
            write("Why?", !answer.needs_text, Purpose::Text(act))
        }
    })
}

fn shared(run: &Run, answer: &Answer) -> RaiseShared {
    let scope = answer.scope.unwrap_or(BudgetScope::Project);
    RaiseShared {
        scope,
        project: (scope == BudgetScope::Project).then(|| run.project.clone()),
        tokens: answer.tokens.unwrap_or(0),
        cost_micros: answer.cost_micros.unwrap_or(0),
    }
}

/// Returns the dialog that begins an action on a run as a whole: `P`, `C` or `R`.
pub fn action(run: &Run, key: char) -> Option<Dialog> {
    let title = title(run);
    let act = |verb: &str, done, name| Act {
        run: run.id.clone(),
        what: format!("{verb} “{title}”"),
        done,
        name,
        body: Box::default(),
        raise: None,
        seen: Seen::of(run, None),
        comments: Vec::new(),
    };
    let is_over = run.phase == "ended";
    match key {
        'P' if is_over => None,
        'P' if run.paused_by.is_some() => Some(Dialog::Confirm(act("resume", "Resumed", "resume"))),
        'P' => Some(Dialog::Confirm(act("pause", "Paused", "pause"))),
        'R' => Some(Dialog::Confirm(act("retry", "Tries again", "retry"))),
        'C' if !is_over => {
            let field = Field { label: "Why?".to_owned(), text: String::new(), is_optional: true };
            Some(Dialog::Write(field, Purpose::Text(act("cancel", "Cancelled", "cancel"))))
        }
        _ => None,
    }
}

/// Takes the text of an act; returns the dialog that asks for the yes.
pub fn with_text(mut act: Act, text: &str) -> Dialog {
    let lines = act.comments.iter().map(String::as_str).chain([text.trim()]).filter(|line| !line.is_empty());
    act.body.text = Some(lines.collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty());
    Dialog::Confirm(act)
}

/// Takes the amount of an act; returns the dialog that asks for the yes.
///
/// # Errors
/// If the amount cannot be read.
pub fn with_amount(mut act: Act, amount: &str) -> Result<Dialog, String> {
    let more = amounts::more(amount)?;
    act.body.more = Some(more.0);
    act.what = format!("{} ({})", act.what, amount.trim());
    Ok(Dialog::Confirm(act))
}

/// Returns what an approval is about, for people.
fn subject(run: &Run, asked: &Escalation) -> String {
    match (asked.code.as_str(), &asked.task) {
        ("approve_merge", _) => {
            format!("the merge of {} onto {}", short_sha(&run.head), text::line(&run.base_branch))
        }
        ("approve_diff", Some(task)) => format!("the changes of {task}"),
        ("approve_plan", _) => format!("plan revision {}", run.plan_revision),
        _ => text::line(&asked.reason),
    }
}

fn title(run: &Run) -> String {
    let title = crate::render::brief(&text::line(&run.goal.title), MAX_TITLE_CHARS);
    format!("{title} [{}]", run.short_id)
}

impl Seen {
    /// Returns what a person sees of a run, or of one of its questions.
    pub fn of(run: &Run, block: Option<&str>) -> Seen {
        let subject = match block {
            None => Some(format!("head {}", run.head)),
            Some(block) => run.escalations.iter().find(|e| e.block == block).map(|asked| of_question(run, asked)),
        };
        Seen { seq: run.seq, subject }
    }

    /// Returns it in words.
    pub fn words(&self) -> String {
        let subject = self.subject.as_deref().unwrap_or("a question that is answered already");
        let short = |word: &str| match word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => short_sha(word).to_owned(),
            false => word.to_owned(),
        };
        text::line(&subject.split(' ').map(short).collect::<Vec<_>>().join(" "))
    }
}

fn of_question(run: &Run, asked: &Escalation) -> String {
    match (asked.code.as_str(), &asked.task) {
        ("approve_merge", _) => format!("head {} onto {} at {}", run.head, run.base_branch, run.base),
        ("approve_diff", Some(task)) => {
            let head = run.tasks.iter().find(|t| t.id == *task).and_then(|t| t.head.clone()).unwrap_or_default();
            format!("{task} at {head}")
        }
        ("approve_plan", _) => format!("plan revision {}", run.plan_revision),
        _ => format!("question {} at head {}", asked.block, run.head),
    }
}
