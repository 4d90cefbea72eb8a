//! Measures committed transitions: everything that the metrics say about runs is derived here, from the states before
//! and after an event.

use crate::domain::attempt::{Attempt, Ended, Ending};
use crate::domain::{
    Answer, Block, BlockKind, BudgetScope, BudgetUnit, CheckResult, Cooldown, EffectOutcome, EffectRef, EngineSpec,
    Event, LedgerRow, Level, Outcome, Phase, ProjectName, Run, Scope, Subject, Timestamp,
};
use crate::telemetry::{Gauge, Label, OTHER, metrics};

/// Name of a run as a workflow, in the form of the conventions for generative AI.
const WORKFLOW: &str = "skep.run";

/// Measures one committed transition. Public for tests.
pub fn measure(before: &Run, after: &Run, event: &Event, at: Timestamp) {
    phases(before, after, at);
    for (attempt, ended) in ended(before, after) {
        attempt_ended(after, attempt, ended);
        settled(after, attempt, at);
    }
    for block in before.blocks.iter().filter(|block| after.block(block.id).is_none()) {
        question_ended(block, event, at);
        if matches!(block.kind, BlockKind::Approval(Subject::Merge { .. })) && is_approval(event) {
            since_change_opened(&metrics().vcs_approval, after, at);
        }
    }
    cooldowns(before, after);
    if let Event::EffectFinished { key, outcome } = event {
        effect_ended(after, before.pending.get(key), outcome);
        if matches!(outcome, EffectOutcome::Landed { .. }) {
            since_change_opened(&metrics().vcs_merge, after, at);
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.0.saturating_sub(from.0).max(0) as f64 / 1_000.0
}

fn millis(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn usd(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

fn phases(before: &Run, after: &Run, at: Timestamp) {
    let project = ("project", after.project.as_str());
    let open_for = seconds(after.opened_at, at);
    if before.phase == Phase::Queued && after.phase != Phase::Queued && !after.ended() {
        metrics().run_state.record(open_for, &[project, ("cicd.pipeline.run.state", "pending")]);
    }
    if after.ended() && !before.ended() {
        let outcome = match &after.outcome {
            Some(Outcome::Delivered { .. }) => "delivered",
            Some(Outcome::Unchanged) => "unchanged",
            Some(Outcome::Cancelled { .. }) => "cancelled",
            Some(Outcome::Failed { .. }) | None => "failed",
        };
        metrics().run.record(open_for, &[project, ("outcome", outcome)]);
        metrics().rounds.record(f64::from(after.rounds), &[]);
        let workflow = [("gen_ai.operation.name", "invoke_workflow"), ("gen_ai.workflow.name", WORKFLOW)];
        let error = Some(("error.type", outcome)).filter(|_| ["cancelled", "failed"].contains(&outcome));
        metrics().gen_ai_workflow.record(open_for, &[&workflow[..], error.as_slice()].concat());
    }
}

/// Returns the attempts that this transition ended.
fn ended<'a>(before: &'a Run, after: &'a Run) -> impl Iterator<Item = (&'a Attempt, &'a Ended)> {
    let is_new = |attempt: &&Attempt| before.attempt(attempt.id).is_none_or(Attempt::live);
    after.attempts.iter().filter(is_new).filter_map(|attempt| Some((attempt, attempt.ended.as_ref()?)))
}

fn attempt_ended(run: &Run, attempt: &Attempt, ended: &Ended) {
    let outcome = match ended.ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed if ended.exhausted.is_some() => "exhausted",
        Ending::Failed => "failed",
        Ending::Asked => "asked",
        Ending::Lost => "lost",
        Ending::Stopped => "stopped",
        Ending::Unavailable => "unavailable",
        Ending::NotStarted => return,
    };
    let engine = EngineSpec::parse(&attempt.engine).named();
    let (role, step) = (attempt.step.role().name(), attempt.step.name());
    let project = ("project", run.project.as_str());
    metrics().attempts.add(1, &[project, ("role", role), ("engine", &engine), ("outcome", outcome)]);
    metrics().attempt.record(seconds(attempt.started_at, ended.at), &[("step", step)]);
    let agent = [("gen_ai.operation.name", "invoke_agent"), ("gen_ai.agent.name", role)];
    let error = Some(("error.type", outcome)).filter(|_| !["succeeded", "asked"].contains(&outcome));
    let labels = [&agent[..], error.as_slice()].concat();
    metrics().gen_ai_agent.record(seconds(attempt.started_at, ended.at), &labels);
}

/// Records what an attempt was charged, as its ledger row says it.
fn settled(run: &Run, attempt: &Attempt, at: Timestamp) {
    let Some(row) = LedgerRow::of(run, attempt.id, at) else { return };
    let own = EngineSpec::parse(&attempt.engine);
    let (own, row_engine) = (own.model().map(str::to_owned), own.named());
    let agent = [("gen_ai.operation.name", "invoke_agent"), ("gen_ai.agent.name", row.role.name())];
    metrics().gen_ai_calls.record(row.amount.turns as f64, &agent);
    for part in row.parts() {
        // A name that is neither in the price table nor configured came from an engine's output.
        let is_known = part.priced || own.as_deref() == Some(&*part.model) || part.model == row_engine;
        let model = ("model", if is_known { part.model.as_str() } else { OTHER });
        let labels = [("project", run.project.as_str()), ("role", row.role.name()), model];
        metrics().cost.add(usd(part.amount.cost_micros), &labels);
        metrics().model_calls.add(part.amount.turns, &labels);
        let (provider, name) = model.1.split_once('/').unwrap_or((OTHER, model.1));
        let inference =
            [("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", provider), ("gen_ai.request.model", name)];
        let mut rest = part.amount.tokens;
        let mut count = |kind: &str, tokens: u64| {
            // The kinds never add up to more than was charged.
            let tokens = tokens.min(rest);
            rest -= tokens;
            metrics().tokens.add(tokens, &[labels[0], labels[1], labels[2], ("kind", kind)]);
            match kind {
                "cached_input" => {
                    metrics().gen_ai_cached.add(tokens, &inference);
                    metrics().gen_ai_input.add(tokens, &inference);
                }
                "input" => metrics().gen_ai_input.add(tokens, &inference),
                "output" => metrics().gen_ai_output.add(tokens, &inference),
                // The conventions have no place for tokens of an unknown kind.
                _ => {}
            }
        };
        if let Some(used) = row.usage_by_model.iter().find(|used| used.model == part.model) {
            count("cached_input", used.cached);
            count("input", used.input.saturating_sub(used.cached));
            count("output", used.output);
        }
        count("unknown", u64::MAX);
    }
}

fn question_ended(block: &Block, event: &Event, at: Timestamp) {
    let ended_by = match event {
        Event::Answered { .. }
        | Event::Raised { .. }
        | Event::SettingsChanged { .. }
        | Event::CancelRequested { .. } => "person",
        _ if block.until.is_some_and(|until| until <= at) => "time",
        _ => "event",
    };
    let labels = [("code", block.kind.code()), ("ended_by", ended_by)];
    metrics().question_wait.record(seconds(block.since, at), &labels);
}

fn is_approval(event: &Event) -> bool {
    matches!(event, Event::Answered { answer: Answer::Yes, .. })
}

/// Sets how long a change was open. The conventions also label the branch, which is another one for each run.
fn since_change_opened(gauge: &Gauge, run: &Run, at: Timestamp) {
    if let Some(opened_at) = run.change_opened_at {
        gauge.set(seconds(opened_at, at), &[("vcs.repository.name", run.project.as_str())]);
    }
}

fn cooldowns(before: &Run, after: &Run) {
    let end = |cooldown: &Cooldown| cooldown.until.map_or(0.0, |until| until.0 as f64 / 1_000.0);
    let engine = |text: &str| EngineSpec::parse(text).named();
    for (text, cooldown) in after.cooldowns.iter().filter(|(text, known)| before.cooldowns.get(*text) != Some(known)) {
        metrics().cooldown_end.set(end(cooldown), &[("engine", &engine(text))]);
    }
    for text in before.cooldowns.keys().filter(|text| !after.cooldowns.contains_key(*text)) {
        metrics().cooldown_end.set(0.0, &[("engine", &engine(text))]);
    }
}

fn effect_ended(run: &Run, effect: Option<&EffectRef>, outcome: &EffectOutcome) {
    let project = ("project", run.project.as_str());
    match outcome {
        EffectOutcome::Checked { results, scope, reused: None, .. } => {
            let scope = match scope {
                Some(Scope::Task(_)) => "task",
                Some(Scope::Base) => "base",
                Some(Scope::Head) | None => "head",
            };
            checks(project, scope, results);
        }
        EffectOutcome::Reserved { levels, .. } | EffectOutcome::BudgetExhausted { levels, .. } => {
            levels.iter().for_each(|level| budget(run, level));
        }
        EffectOutcome::Landed { .. } => metrics().landings.add(1, &[project, ("result", "landed")]),
        EffectOutcome::Stale { .. } => metrics().landings.add(1, &[project, ("result", "stale")]),
        EffectOutcome::PutBack { .. } => metrics().landings.add(1, &[project, ("result", "put_back")]),
        EffectOutcome::Failed { .. } => {
            let Some(effect) = effect else { return };
            if matches!(effect, EffectRef::Land(_)) {
                metrics().landings.add(1, &[project, ("result", "failed")]);
            }
            metrics().effect_failures.add(1, &[("effect", effect.name())]);
        }
        _ => {}
    }
}

/// Records the checks of a landing batch.
pub(super) fn batch_check(project: &ProjectName, results: &[CheckResult]) {
    checks(("project", project.as_str()), "batch", results);
}

fn checks(project: Label<'_>, scope: &'static str, results: &[CheckResult]) {
    for result in results {
        let green = if result.green { "green" } else { "red" };
        metrics().checks.add(1, &[project, ("scope", scope), ("result", green)]);
        metrics().check.record(millis(result.duration_ms), &[("result", green)]);
    }
}

fn budget(run: &Run, level: &Level) {
    let project = match level.scope {
        BudgetScope::Project => run.project.as_str(),
        BudgetScope::Day => "",
    };
    let (unit, amount): (_, fn(u64) -> f64) = match level.unit {
        BudgetUnit::Tokens => ("tokens", |tokens| tokens as f64),
        BudgetUnit::Cost => ("usd", usd),
    };
    let labels = [("scope", level.scope.name()), ("project", project), ("unit", unit)];
    metrics().budget_limit.set(amount(level.limit), &labels);
    metrics().budget_used.set(amount(level.used), &labels);
    metrics().budget_reserved.set(amount(level.reserved), &labels);
}
