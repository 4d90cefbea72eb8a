//! Escalations: how a block is put to a person. The text says what is needed, where, with which exact scope, and what
//! answers lift it. Skep writes the text itself; text from outside is quoted and marked.

use super::markdown::{fenced, inline};
use super::quantity::{budget_word, money};
use super::{budget, change, environment, line, time};
use crate::domain::block::Subject;
use crate::domain::change::failure_lines::missing_program;
use crate::domain::escalation::{self, AnswerKind, AnswerOption};
use crate::domain::{
    Attempt, Block, BlockId, BlockKind, BudgetKind, BudgetScope, CiDoubt, EffectKind, Ending, EngineSpec, Role, Run,
    SecretFound, SharedBudget, Step, TaskId, engine_selection,
};
use serde::{Deserialize, Serialize};

/// How an engine's failure says that the shell did not find the program.
const NOT_FOUND: &str = "exit code 127";

/// Something that a person is asked to provide or do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What is needed.
    pub what: String,
    /// Where to make or find it, its exact scope, where to put it.
    pub how: String,
}

/// One answer that lifts the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscalationAnswer {
    /// The answer, as data.
    #[serde(flatten)]
    pub option: AnswerOption,
    /// What it does, in a few words.
    pub effect: String,
    /// Whether a comment `UNBLOCK #b…` on the change can give it.
    pub by_comment: bool,
}

/// An escalation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// The block.
    pub block: BlockId,
    /// Its stable code.
    pub code: String,
    /// The task it is about, if any.
    pub task: Option<TaskId>,
    /// The reason in a few words.
    pub reason: String,
    /// The run, by its abbreviated id and goal.
    pub run: String,
    /// What happened. May contain text from outside.
    pub why: String,
    /// What is needed.
    pub needs: Vec<Need>,
    /// The answers that lift it.
    pub answers: Vec<EscalationAnswer>,
    /// How the run resumes.
    pub resumes: String,
    /// What stays reserved meanwhile.
    pub reserved: String,
}

/// Returns the escalation of a block.
pub fn escalation(run: &Run, block: &Block) -> Escalation {
    let (reason, needs) = reason_and_needs(run, block);
    let answers = escalation::answers(block)
        .into_iter()
        .map(|option| EscalationAnswer {
            effect: effect_of(run, block, &option),
            by_comment: escalation::by_comment(block, &option),
            option,
        })
        .collect();
    Escalation {
        block: block.id,
        code: block.kind.code().to_owned(),
        task: block.kind.task(),
        reason,
        run: format!("{}: {}", run.id.abbrev(), run.goal.title()),
        why: why(run, block),
        needs,
        answers,
        resumes: resumes(run, block),
        reserved: format!(
            "The run's workspace, branch {}, sessions and slot stay reserved until then.",
            run.settings.branch
        ),
    }
}

fn need(what: impl Into<String>, how: impl Into<String>) -> Vec<Need> {
    vec![Need { what: what.into(), how: how.into() }]
}

fn reason_and_needs(run: &Run, block: &Block) -> (String, Vec<Need>) {
    match &block.kind {
        BlockKind::Approval(subject) => approval(run, subject),
        BlockKind::Tries { step, task } => tries(run, block, *step, *task),
        BlockKind::StepTime { step, .. } => {
            let name = step.name();
            let last = run.attempts.iter().rev().find(|a| a.step == *step);
            let had = super::duration(last.map_or(0, |a| a.reserved.wall_ms));
            (
                format!("the {name} step ran out of time: {had}"),
                need(
                    "More time for the step",
                    format!("answer with more time; for new runs, set steps.{name}.timeout in the configuration"),
                ),
            )
        }
        BlockKind::Environment { scope } => environment::reason_and_needs(run, *scope),
        BlockKind::Rounds => (
            "the rounds of rework are used up".to_owned(),
            need("A decision whether to continue", "what still fails is under “What happened”"),
        ),
        BlockKind::SharedBudget { budgets } => {
            let names = budget_names(budgets);
            let are = if names.contains(" and ") { "are" } else { "is" };
            (
                format!("{names} {are} exhausted"),
                need(
                    format!("More {}, or the end of the run", names.replace("the ", "")),
                    "shared with other runs; what it was spent on is under “What happened”",
                ),
            )
        }
        BlockKind::Engine { role, engine } => (
            format!("no engine of the {} is available: {}", role.name(), EngineSpec::parse(engine).named()),
            need(
                "A fix of the cause",
                "the engines and their problems are under “What happened”; new runs can be given another engine or \
                 fallbacks",
            ),
        ),
        BlockKind::Budget(kind) => (
            format!("the run's budget is exhausted: {}", budget_word(*kind)),
            need(
                format!("More {}, or the end of the run", budget_word(*kind)),
                "for new runs, pass `--limit`, or change `[limits]` in the configuration",
            ),
        ),
        BlockKind::Question { step, .. } => {
            let how = "the question is under “What happened”";
            (format!("the {} asks a question", step.role().name()), need("An answer", how))
        }
        BlockKind::NothingChanged => (
            "nothing changed".to_owned(),
            need(
                "A hint about what should change, or the end of the run",
                "the goal may already be met, or be too vague for the engine",
            ),
        ),
        BlockKind::Effect(kind) => (
            format!("{} failed", effect_words(*kind)),
            need("A fix of the cause", "what happened, and what to do, is under “What happened”"),
        ),
        BlockKind::Ci { doubt: CiDoubt::RedBase, checks } => (
            format!("CI is red, and the base fails in the same checks: {}", line(&checks.join(", "))),
            need(
                "A decision, or a green base",
                format!("the change is not at fault; fix {}", run.settings.base_branch),
            ),
        ),
        BlockKind::Ci { doubt: CiDoubt::Returned, checks } => (
            format!("CI fails again as before the rework: {}", line(&checks.join(", "))),
            need(
                "A hint, or a fixed CI",
                "the failure is under “What happened”; another round of rework would be a guess",
            ),
        ),
        BlockKind::ChangeClosed => (
            "the change was closed".to_owned(),
            need("A decision", "whether to open a new change for the same branch, or to end the run"),
        ),
        BlockKind::ForeignPush { head } => (
            "a foreign commit was pushed to the run's branch".to_owned(),
            need("A decision", format!("whether {head} on {} may be overwritten", run.settings.branch)),
        ),
        BlockKind::SecretFound { .. } => (
            "the commits to push contain a secret".to_owned(),
            need(
                "A decision whether they may be published",
                "the locations are under “What happened”; a real secret that was ever in the repository should also be \
                 rotated",
            ),
        ),
    }
}

/// Returns the reason and the needs of a step that did not succeed. A command that failed would only fail again, so it
/// has no further tries.
fn tries(run: &Run, block: &Block, step: Step, task: Option<TaskId>) -> (String, Vec<Need>) {
    let whose = task.map_or_else(|| format!("the {} step", step.name()), |task| format!("task {task}"));
    let last = run.attempts.iter().rev().find(|a| a.step == step && a.task == task);
    let has_failed = |a: &&Attempt| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Failed);
    let is_command = |a: &&Attempt| EngineSpec::parse(&a.engine).is_command();
    let losses = match task.and_then(|task| run.task(task)) {
        Some(task) => task.losses,
        None => run.tries.get(&step).map_or(0, |tries| tries.losses),
    };
    if losses >= run.settings.policy.max_lost_attempts {
        let how = "the machine may have run out of memory (`journalctl -k -g \"out of memory\"`), or somebody or \
                   something stopped Skep; its log has the rest (`journalctl -u skep` for a service). Yes tries again";
        let reason = format!("Skep's process ended {losses} times in a row during {whose}");
        return (reason, need("The reason why Skep's process ended", how));
    }
    if task.is_none() || last.filter(has_failed).filter(is_command).is_none() {
        let how = "the last failure is under “What happened”; the run's logs have all of it";
        return (format!("{whose} did not succeed within its tries"), need("A hint, or a fixed environment", how));
    }
    let missing = block.why.contains(NOT_FOUND).then(|| missing_program(&block.why)).flatten();
    let needs = match missing {
        Some(program) => {
            let how = match program.contains('/') && !program.starts_with('/') {
                true => "commit it: a run works on what is committed; or give another command (`--engine`)",
                false => {
                    "install it where commands of runs can see it (a folder of your own: `sandbox.toolchains`), or give \
                     another command (`--engine`)"
                }
            };
            need(format!("The program {}", line(&program)), how)
        }
        None => need(
            "A command that works, or what it needs",
            "its output is under “What happened”; give another command with `--engine`",
        ),
    };
    (format!("{whose} did not succeed: the command of the {} failed", step.role().name()), needs)
}

fn approval(run: &Run, subject: &Subject) -> (String, Vec<Need>) {
    match subject {
        Subject::Plan { revision } => (
            "the plan waits for approval".to_owned(),
            need("Approval (yes or no) of the plan", format!("revision {revision}, under “What happened”")),
        ),
        Subject::Diff { task, head, .. } => (
            "a task's work needs approval before it continues".to_owned(),
            need("Approval (yes or no) of the task's diff", format!("task {task}, commit {head}")),
        ),
        Subject::Merge { head, base } => {
            let change = change::change_name(run).map_or_else(String::new, |name| format!(", change {name}"));
            let onto = format!("{} at {}", run.settings.base_branch, base.abbrev());
            (
                "the merge waits for approval".to_owned(),
                need("Approval (yes or no) of the merge", format!("commit {head} onto {onto}{change}")),
            )
        }
    }
}

/// Returns what happened: the cause recorded with the block, or what the run shows about it.
fn why(run: &Run, block: &Block) -> String {
    let mut text = match &block.kind {
        BlockKind::Approval(Subject::Plan { .. }) => plan(run),
        BlockKind::Approval(Subject::Merge { .. }) => change::merge_request(run),
        BlockKind::Approval(Subject::Diff { task, concerns, .. }) => {
            let title = run.task(*task).map_or_else(String::new, |t| line(&t.spec.title));
            let concerns: Vec<String> = concerns.iter().map(|c| line(&c.to_string())).collect();
            format!("the diff of {task} ({title}) needs approval: {}\n", concerns.join("; "))
        }
        BlockKind::Budget(kind) => budget::spending(run, Some(*kind)),
        BlockKind::SharedBudget { .. } if block.levels.is_empty() && block.spending.is_empty() => {
            budget::spending(run, None)
        }
        BlockKind::SharedBudget { .. } => budget::shared(&block.levels, &block.spending),
        BlockKind::Engine { role, .. } => cooldowns(run, *role),
        BlockKind::SecretFound { found } => {
            format!("nothing was pushed, because the commits contain:\n{}", SecretFound::list(found))
        }
        _ => String::new(),
    };
    if !block.why.is_empty() {
        text.push_str(&block.why);
        text.push('\n');
    }
    if matches!(block.kind, BlockKind::Tries { .. } | BlockKind::Rounds | BlockKind::Environment { .. }) {
        for note in super::notice::at_failure(run, &block.why) {
            text.push_str(&format!("note: {note}\n"));
        }
    }
    if let Some(fix) = block.fix.as_ref().filter(|f| !f.is_empty()) {
        text.push_str(&format!("What to do: {fix}\n"));
    }
    text
}

/// Returns the plan as a list.
fn plan(run: &Run) -> String {
    let mut text = format!("plan, revision {}:\n", run.plan.revision);
    for task in &run.tasks {
        let needs =
            if task.spec.needs.is_empty() { String::new() } else { format!(" (after {})", task.spec.needs.join(", ")) };
        text.push_str(&format!("{} {}: {}{needs}\n", task.id, line(&task.spec.name), line(&task.spec.title)));
    }
    text
}

/// Returns why the engines of a role are unavailable, and what to do about each.
fn cooldowns(run: &Run, role: Role) -> String {
    let step = match role {
        Role::Scout => Step::Explore,
        Role::Manager => Step::Plan,
        Role::Dev | Role::Ops => Step::Develop,
        Role::Reviewer => Step::Review,
    };
    let mut text = String::new();
    for spec in engine_selection::order(run, step) {
        let Some(cooldown) = run.cooldowns.get(&spec.text()) else { continue };
        text.push_str(&format!("{}: {}\n", spec.named(), cooldown.why));
        match (&cooldown.fix, cooldown.until) {
            (Some(fix), _) => text.push_str(&format!("What to do: {fix}\n")),
            (None, Some(until)) => text.push_str(&format!("It is tried again at {}.\n", time::utc(until))),
            (None, None) => {}
        }
    }
    text
}

/// Returns what an answer does, in a few words.
fn effect_of(run: &Run, block: &Block, option: &AnswerOption) -> String {
    let text = match (&option.kind, &block.kind) {
        (kind, BlockKind::Environment { scope }) if environment::effect_of(*scope, kind).is_some() => {
            return environment::effect_of(*scope, kind).unwrap_or_default().to_owned();
        }
        (AnswerKind::Continue, BlockKind::Ci { .. }) => "reads CI again, after it was fixed or run again",
        (AnswerKind::Skip, BlockKind::Ci { .. }) => "continues although these checks are red",
        (AnswerKind::Reply, BlockKind::Ci { .. }) => "reworks it with a hint",
        (AnswerKind::Approve, _) => "approves it",
        (AnswerKind::Decline, _) => "declines it and says what should be different",
        (AnswerKind::Skip, _) => "continues without this task",
        (AnswerKind::Stop, _) => "ends the run undelivered",
        (AnswerKind::Raise { budget: BudgetKind::StepTime, suggested }, _) => {
            return format!("gives each attempt {} more, and tries again", amount(BudgetKind::StepTime, *suggested));
        }
        (AnswerKind::Raise { budget, suggested }, _) => return format!("gives {} more", amount(*budget, *suggested)),
        (AnswerKind::RaiseShared { scope, tokens, cost_micros }, _) => {
            let mut amounts = Vec::new();
            if *tokens > 0 {
                amounts.push(amount(BudgetKind::Tokens, *tokens));
            }
            if *cost_micros > 0 {
                amounts.push(amount(BudgetKind::Cost, *cost_micros));
            }
            let whose = match scope {
                BudgetScope::Project => format!("project {}", run.project),
                BudgetScope::Day => "this UTC day".to_owned(),
            };
            return format!("gives {whose} {} more, for all its runs", amounts.join(" and "));
        }
        (AnswerKind::Continue, BlockKind::Tries { .. } | BlockKind::StepTime { .. }) => "as many tries again",
        (AnswerKind::Continue, BlockKind::Rounds) => "as many rounds again",
        (AnswerKind::Continue, BlockKind::SharedBudget { .. }) => "asks the shared budgets again",
        (AnswerKind::Continue, BlockKind::NothingChanged) => "tries the goal once more",
        (AnswerKind::Continue, BlockKind::ChangeClosed) => "opens a new change",
        (AnswerKind::Continue, BlockKind::ForeignPush { .. }) => "overwrites it with the run's own head",
        (AnswerKind::Continue, BlockKind::SecretFound { .. }) => "not a secret: allows exactly this in this run",
        (AnswerKind::Continue, _) => "tries again",
        (AnswerKind::Reply, BlockKind::Question { .. }) => "answers the question",
        (AnswerKind::Reply, BlockKind::SecretFound { .. }) => "redoes the work without it, with a hint",
        (AnswerKind::Reply, _) => "tries again with a hint",
    };
    text.to_owned()
}

fn amount(budget: BudgetKind, amount: u64) -> String {
    match budget {
        BudgetKind::Cost => money(amount),
        BudgetKind::Time | BudgetKind::StepTime => super::duration(amount.saturating_mul(1000)),
        other => format!("{amount} {}", budget_word(other)),
    }
}

fn resumes(run: &Run, block: &Block) -> String {
    let b = block.id;
    let mut text = match (&block.kind, change::change_name(run)) {
        (BlockKind::Approval(Subject::Merge { .. }), Some(change)) => {
            format!("The run resumes by itself after an answer, or after the approval of {change} on the forge.")
        }
        (BlockKind::Approval(_), _) | (_, None) => "The run resumes by itself after an answer.".to_owned(),
        (BlockKind::Question { .. }, Some(change)) => {
            format!(
                "The run resumes by itself after the answer, or after a comment `UNBLOCK #{b}` with it on {change}."
            )
        }
        (_, Some(change)) => {
            format!("The run resumes by itself after an answer, or after a comment `UNBLOCK #{b}` on {change}.")
        }
    };
    if let Some(until) = block.until {
        text.push_str(&format!(" Without an answer it resumes by itself at {}.", time::utc(until)));
    }
    text
}

/// Returns the names of shared budgets: `the project budget and the day budget`.
pub fn budget_names(budgets: &[SharedBudget]) -> String {
    let mut names: Vec<String> = budgets.iter().map(|b| format!("the {} budget", b.scope.name())).collect();
    names.dedup();
    names.join(" and ")
}

/// Returns an effect as a person calls it: `pushing the run's branch`.
pub fn effect_words(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::Start => "starting an attempt",
        EffectKind::Reserve => "reserving an attempt's cost in the shared budgets",
        EffectKind::Check => "running the checks",
        EffectKind::Integrate => "integrating a task's work into the run's branch",
        EffectKind::Rebase => "rebasing the run's branch onto the moved base",
        EffectKind::Push => "pushing the run's branch",
        EffectKind::EnsureChange => "opening the change",
        EffectKind::Comment => "commenting on the change",
        EffectKind::SetStatus => "setting a status on the change",
        EffectKind::Observe => "reading the change from the forge",
        EffectKind::InspectCi => "reading the failures of CI",
        EffectKind::RerunCi => "running failed jobs of CI again",
        EffectKind::Land => "landing the change",
        EffectKind::Close => "closing the change",
        EffectKind::Release => "releasing the workspace",
        EffectKind::Stop => "stopping attempts and checks",
    }
}

impl Escalation {
    /// Returns the escalation as Markdown, for a comment on the change.
    pub fn markdown(&self) -> String {
        let mut text = format!("**Escalation: {}**\n\n**Run:** {}\n\n", self.reason, inline(&self.run));
        text.push_str("**What I need from you:**\n");
        for (i, need) in self.needs.iter().enumerate() {
            text.push_str(&format!("{}. {} — {}\n", i + 1, need.what, need.how));
        }
        text.push_str("\n**What happened:**\n");
        text.push_str(&fenced(&self.why));
        text.push_str("\n**Answer with one of:**\n");
        for answer in &self.answers {
            text.push_str(&format!("- [ ] {} — {}\n", self.checklist_item(answer), answer.effect));
        }
        text.push_str(&format!("\n{} {}\n", self.resumes, self.reserved));
        text
    }

    fn checklist_item(&self, answer: &EscalationAnswer) -> String {
        let b = self.block;
        match (&answer.option.kind, answer.by_comment) {
            (AnswerKind::Reply, true) => format!("comment `UNBLOCK #{b} <your text>`"),
            (_, true) => format!("comment `UNBLOCK #{b}`"),
            (AnswerKind::Approve, _) if self.code == "approve_merge" => {
                "approve this change at its head, or answer in Skep".to_owned()
            }
            (AnswerKind::RaiseShared { .. }, _) => "raise the shared budget in Skep".to_owned(),
            (_, false) => format!("answer question {b} in Skep"),
        }
    }

    /// Returns the part above the answers as plain text, for a terminal. The printer escapes control characters.
    pub fn question(&self) -> String {
        let mut text = format!("Escalation: {}\nRun: {}\nWhat I need from you:\n", self.reason, self.run);
        for (i, need) in self.needs.iter().enumerate() {
            text.push_str(&format!("  {}) {} -> {}\n", i + 1, need.what, need.how));
        }
        text.push_str("What happened:\n");
        for line in self.why.lines() {
            text.push_str(&format!("  | {line}\n"));
        }
        text
    }
}
