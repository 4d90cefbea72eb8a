//! The change on the forge: title, body, comments, statuses.

use super::acceptance;
use super::escalation::escalation;
use super::markdown::{fenced, inline};
use super::quantity::{count, duration, files_changed, line, money, usage};
use super::{alert, shared_alert};
use crate::domain::change::shown_path;
use crate::domain::run::Review;
use crate::domain::task::Origin;
use crate::domain::{
    BatchProof, CheckKind, CheckSpec, CommentSubject, Effect, FileKind, Outcome, OwnStatus, Run, Sha, Stage,
    StatusState, Verdict, status,
};

/// Upper bound on the files listed for an approval.
const MAX_FILES: usize = 40;
/// Upper bound on the findings listed for an approval.
const MAX_FINDINGS: usize = 10;

/// Text that an effect puts on the forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectText {
    /// Title and body of the change. The body is Markdown.
    Change {
        /// The title.
        title: String,
        /// The body.
        body: String,
    },
    /// A comment, in Markdown.
    Comment(String),
    /// The one-line description of a status.
    Status(String),
}

/// Returns the text that an effect puts on the forge; `None` if it puts none.
pub fn effect_text(run: &Run, effect: &Effect) -> Option<EffectText> {
    match effect {
        Effect::EnsureChange { .. } => Some(EffectText::Change { title: change_title(run), body: change_body(run) }),
        Effect::Comment { about, .. } => Some(EffectText::Comment(comment(run, about))),
        Effect::SetStatus { status, state, .. } => {
            let excused = run.facts.results.iter().flatten().any(|r| !r.green);
            Some(EffectText::Status(status_line(status, *state, excused)))
        }
        _ => None,
    }
}

fn comment(run: &Run, about: &CommentSubject) -> String {
    match about {
        CommentSubject::Escalation(block) => escalation(run, block).markdown(),
        CommentSubject::Review { review, head, round } => review_comment(run, review, head, *round),
        CommentSubject::Resolved { by, commit } => {
            format!("The changes that {} requested are in {commit}.", inline(by.as_str()))
        }
        CommentSubject::Alert(reached) => alert(run, reached),
        CommentSubject::SharedAlert { level, percent } => shared_alert(run, level, *percent),
        CommentSubject::Result => result(run),
    }
}

fn status_line(status: &OwnStatus, state: StatusState, excused: bool) -> String {
    match (status, state) {
        (OwnStatus::Review { summary }, _) => summary.clone(),
        (OwnStatus::Checks, StatusState::Success) if excused => {
            "nothing new fails; a check is red at the base".to_owned()
        }
        (OwnStatus::Checks, StatusState::Success) => "all checks are green".to_owned(),
        (OwnStatus::Checks, StatusState::Failure) => "a check is red".to_owned(),
        (OwnStatus::Checks, StatusState::Pending) => "checks are running".to_owned(),
    }
}

/// Returns the name of the run's change, `<project>#<number>`, once it is open.
pub fn change_name(run: &Run) -> Option<String> {
    run.change.as_ref().map(|c| format!("{}#{}", run.project, c.number))
}

/// Returns the title of the change.
pub fn change_title(run: &Run) -> String {
    run.goal.title()
}

/// Returns the body of the change: goal, plan, acceptance, artifacts, what needs attention, how to unblock, metadata.
pub fn change_body(run: &Run) -> String {
    let mut text = String::from("## Goal\n");
    text.push_str(&fenced(&run.goal.text));
    text.push_str(&format!("\nRequested by {}.\n\n## Plan\n", inline(run.goal.asked_by.as_str())));
    for task in &run.tasks {
        let mark = if task.stage == Stage::Integrated { 'x' } else { ' ' };
        text.push_str(&format!(
            "- [{mark}] {} {} — {}, {}\n",
            task.id,
            inline(&task.spec.title),
            status::of_task(run, task).word(),
            count(u64::from(task.tries), "try")
        ));
    }
    let criteria = acceptance::markdown_list(run);
    if !criteria.is_empty() {
        text.push_str(&format!("\n## Acceptance at {}\n{criteria}", run.head.abbrev()));
    }
    text.push_str(&format!(
        "\n## Artifacts\n- branch: {}\n- head: {}\n- base: {} at {}\n- diff: {}\n",
        inline(&run.settings.branch),
        run.head,
        inline(&run.settings.base_branch),
        run.base,
        files_changed(&run.diff)
    ));
    for r in run.facts.results.iter().flatten() {
        let (runner, word) = (on_runner(run, &r.name), if r.green { "green" } else { "red" });
        text.push_str(&format!("- check {}{runner} at {}: {word}\n", inline(&r.name), run.head.abbrev()));
    }
    let concerns = run.concerns();
    if !concerns.is_empty() {
        text.push_str("\n## Needs attention\n");
        for concern in &concerns {
            text.push_str(&format!("- {}\n", inline(&concern.to_string())));
        }
    }
    text.push_str(&format!(
        "\n## How to unblock\nSkep comments here when run `{}` needs a person.\n\
         - [ ] Approve the merge: approve this change at its head, or approve it in Skep\n\
         - [ ] Answer a question: comment `UNBLOCK #<block>` with the answer, or answer it in Skep\n\
         - [ ] Stop the run: cancel it in Skep\n",
        run.id.abbrev()
    ));
    text.push_str(&format!(
        "\n## Metadata\n- run: `{}`\n- project: `{}`\n- rounds of rework: {} of {}\n- attempts: {}\n- spent: {}\n",
        run.id,
        run.project,
        run.rounds,
        run.limits.rounds,
        run.attempts.len(),
        spent(run)
    ));
    // W3C trace context: version, trace id, span id, flags.
    if let Some(trace) = run.traceparent.as_deref().and_then(|context| context.split('-').nth(1)) {
        text.push_str(&format!("- trace: `{trace}`\n"));
    }
    text
}

/// Returns the comment with a reviewer's verdict.
pub fn review_comment(run: &Run, review: &Review, head: &Sha, round: u32) -> String {
    let verb = match review.verdict {
        Verdict::Approve => "approves",
        Verdict::Rework => "requests changes",
    };
    format!(
        "The reviewer (attempt {}) {verb} at {}. Round {round} of {}.\n\n{}",
        review.attempt,
        head.abbrev(),
        run.limits.rounds,
        fenced(&review.text())
    )
}

/// Returns what proved a change that landed in a batch, as the end of a sentence.
pub fn batch(proof: &BatchProof) -> String {
    let (tip, base) = (proof.tip.abbrev(), proof.base.abbrev());
    if proof.runs.len() < 2 {
        return format!("checked at {tip}, on top of {base}");
    }
    let runs: Vec<String> = proof.runs.iter().map(|run| run.abbrev().to_string()).collect();
    format!("checked at {tip} as part of a batch on top of {base}: runs {}", runs.join(", "))
}

/// Returns the final comment on the change.
pub fn result(run: &Run) -> String {
    let end = match &run.outcome {
        Some(Outcome::Delivered { sha }) => {
            let proof = run.batch.as_ref().map(|proof| format!(", {}", batch(proof))).unwrap_or_default();
            format!("Delivered: {sha} is on {}{proof}.", inline(&run.settings.base_branch))
        }
        Some(Outcome::Cancelled { why }) => format!("Cancelled {}.", inline(why)),
        Some(Outcome::Failed { why }) => format!("Not delivered, {}.", inline(why)),
        Some(Outcome::Unchanged) => "There was nothing to change.".to_owned(),
        None => "The run has not ended.".to_owned(),
    };
    let criteria = match acceptance::markdown_list(run) {
        list if list.is_empty() => list,
        list => format!("\nAcceptance at {}:\n\n{list}", run.head.abbrev()),
    };
    format!(
        "{end}\n\n{}, {}, {} of rework; {}.\n{criteria}",
        count(run.tasks.len() as u64, "task"),
        count(run.attempts.len() as u64, "attempt"),
        count(u64::from(run.rounds), "round"),
        spent(run)
    )
}

fn spent(run: &Run) -> String {
    let spent = run.ledger.spent;
    match spent.cost_micros {
        0 => format!("{}, {}", usage(spent), money(0)),
        _ => usage(spent),
    }
}

/// Returns what a person approves when approving the merge.
pub(super) fn merge_request(run: &Run) -> String {
    let base_branch = &run.settings.base_branch;
    let mut text =
        format!("{} onto {base_branch} at {}: {}\n", run.head.abbrev(), run.base.abbrev(), files_changed(&run.diff));
    for task in run.tasks.iter().filter(|task| task.origin == Origin::Person && task.stage == Stage::Dropped) {
        let wanted = task.notes.iter().map(|note| line(&note.text)).collect::<Vec<_>>().join("; ");
        text.push_str(&format!("{}: {wanted}; the dev changed nothing\n", line(&task.spec.title)));
    }
    for concern in run.concerns() {
        text.push_str(&format!("needs attention: {}\n", line(&concern.to_string())));
    }
    // Criteria have lines of their own, below.
    for r in run.facts.results.iter().flatten().filter(|r| r.kind != CheckKind::Accept) {
        let tests = r.tests.map_or_else(String::new, |t| format!(", {}", count(t.run, "test")));
        let word = if r.green { "green" } else { "red, which is not charged to the change" };
        text.push_str(&format!(
            "check {}{}: {word} ({}{tests})\n",
            line(&r.name),
            on_runner(run, &r.name),
            duration(r.duration_ms)
        ));
    }
    for status in &run.facts.accepted_statuses {
        text.push_str(&format!("CI check {}: red, accepted by a person\n", line(status)));
    }
    text.push_str(&acceptance::plain_lines(run));
    if let Some(review) = &run.facts.review {
        let summary = line(&review.summary);
        let summary = if summary.is_empty() { "without a summary" } else { &summary };
        text.push_str(&format!("review: {summary}\n"));
        for finding in review.findings.iter().take(MAX_FINDINGS) {
            text.push_str(&format!("finding: {}\n", line(&finding.to_string())));
        }
        let more = review.findings.len().saturating_sub(MAX_FINDINGS);
        if more > 0 {
            text.push_str(&format!("… and {} more: skep show {}\n", count(more as u64, "finding"), run.id.abbrev()));
        }
    }
    for note in super::notice::at_merge(run) {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&files(run));
    text
}

/// Lists the files of a change. They come last: where an approval is asked for, only what comes first may be shown.
fn files(run: &Run) -> String {
    let mut text = String::new();
    for f in run.diff.files.iter().take(MAX_FILES) {
        let mark = match f.kind {
            FileKind::Added => 'A',
            FileKind::Modified => 'M',
            FileKind::Deleted => 'D',
        };
        // A change of the mode, or an empty file, has no lines.
        let what = match (f.binary, f.kind, f.added + f.removed) {
            (true, ..) => "binary".to_owned(),
            (_, FileKind::Modified, 0) => "mode only".to_owned(),
            (_, _, 0) => "empty".to_owned(),
            _ => format!("+{} -{}", f.added, f.removed),
        };
        text.push_str(&format!("{mark} {} ({what})\n", shown_path(&f.path)));
    }
    if run.diff.files_total > MAX_FILES as u64 {
        text.push_str(&format!("… and {} more\n", run.diff.files_total - MAX_FILES as u64));
    }
    text
}

/// Returns where a check runs if not on Skep's own machine: the approver must know what was relied on.
fn on_runner(run: &Run, check: &str) -> String {
    run.settings.checks.iter().find(|c| c.name == check).map_or_else(String::new, CheckSpec::on_runner)
}
