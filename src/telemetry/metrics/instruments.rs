//! The instruments. Names follow the OpenTelemetry semantic conventions where those have one; the others start with
//! `skep.`. Prometheus writes dots as underscores, and appends the unit, and `_total` to counters.

use super::kinds::{Counter, FloatCounter, Gauge, Histogram, Table};
use opentelemetry::metrics::Meter;

/// Seconds of requests and commits.
const SHORT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds of attempts and checks.
const WORK: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0];
/// Seconds of runs, and of waiting for people.
const LONG: &[f64] = &[10.0, 60.0, 300.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0];
/// Seconds of agents, as the conventions advise, but from one second to an hour.
const AGENT: &[f64] = &[0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2, 1_638.4, 3_276.8];
/// Seconds of workflows, as the conventions advise.
const WORKFLOW: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0];
/// Small numbers.
const FEW: &[f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 89.0, 144.0, 256.0];

/// All instruments that are written to. Those of the process itself are read when they are needed.
#[derive(Debug)]
pub struct Instruments {
    /// Open runs by project and state; from the store.
    pub runs: Table,
    /// Slots for runs by state; from the store.
    pub slots: Table,
    /// Open questions by project and code; from the store.
    pub questions: Table,
    /// Age of the oldest open question; from the store.
    pub oldest_question: Table,
    /// Quarantined runs; from the store.
    pub quarantined: Table,
    /// Age of the oldest pending effect; from the store.
    pub oldest_effect: Table,
    /// Whether values from the store are older than they should be.
    pub stale: Table,
    /// Whether the sandbox can be used.
    pub sandbox: Table,
    /// Time in a state of a run.
    pub run_state: Histogram,
    /// Time from the opening to the end of a run.
    pub run: Histogram,
    /// Rounds of rework of a run that ended.
    pub rounds: Histogram,
    /// Attempts that ended.
    pub attempts: Counter,
    /// Time from the order to the end of an attempt.
    pub attempt: Histogram,
    /// Checks that ran.
    pub checks: Counter,
    /// Time of a check.
    pub check: Histogram,
    /// Time from a question to its end.
    pub question_wait: Histogram,
    /// Landings that were tried.
    pub landings: Counter,
    /// Effects that failed.
    pub effect_failures: Counter,
    /// Settled tokens.
    pub tokens: Counter,
    /// Settled model calls.
    pub model_calls: Counter,
    /// Settled input tokens, in the form of the conventions for generative AI.
    pub gen_ai_input: Counter,
    /// Those of them that were read from a cache.
    pub gen_ai_cached: Counter,
    /// Settled output tokens.
    pub gen_ai_output: Counter,
    /// Time of an attempt.
    pub gen_ai_agent: Histogram,
    /// Model calls of an attempt.
    pub gen_ai_calls: Histogram,
    /// Time from the opening to the end of a run.
    pub gen_ai_workflow: Histogram,
    /// Time from the opening of the last approved change to its approval.
    pub vcs_approval: Gauge,
    /// Time from the opening of the last merged change to its landing.
    pub vcs_merge: Gauge,
    /// Settled cost.
    pub cost: FloatCounter,
    /// Limit of a shared budget.
    pub budget_limit: Gauge,
    /// Amount of a shared budget that was used or is reserved.
    pub budget_used: Gauge,
    /// Amount of a shared budget that is reserved.
    pub budget_reserved: Gauge,
    /// End of an engine's cooldown.
    pub cooldown_end: Gauge,
    /// Requests to a forge.
    pub forge_requests: Counter,
    /// Requests that a forge still allows.
    pub forge_quota: Gauge,
    /// Requests that a forge allows in its window.
    pub forge_quota_limit: Gauge,
    /// Messages to people.
    pub messages: Counter,
    /// Time of a commit to the store.
    pub commit: Histogram,
    /// Transitions in one commit.
    pub commit_size: Histogram,
    /// Time of an HTTP request.
    pub http: Histogram,
}

impl Instruments {
    pub(super) fn new(m: &Meter) -> Instruments {
        Instruments {
            runs: Table::new(
                m,
                "cicd.pipeline.run.active",
                "{run}",
                "Open runs of this service. State pending: waits for a slot; executing: in progress, or waiting for a \
                 person; finalizing: landed or given up, reporting its result",
            ),
            slots: Table::new(m, "skep.slots", "{slot}", "Slots for runs: busy or available"),
            questions: Table::new(m, "skep.questions", "{question}", "Open questions to people, by their code"),
            oldest_question: Table::new(
                m,
                "skep.question.oldest_age",
                "s",
                "Age of the oldest open question; 0 if none",
            ),
            quarantined: Table::new(m, "skep.runs.quarantined", "{run}", "Runs whose data cannot be used"),
            oldest_effect: Table::new(
                m,
                "skep.outbox.oldest_age",
                "s",
                "Age of the oldest effect that has not ended, without attempts and checks; 0 if none",
            ),
            stale: Table::new(
                m,
                "skep.scrape.stale",
                "",
                "1 if the store did not answer in time, so that the values read from it are older",
            ),
            sandbox: Table::new(m, "skep.sandbox.usable", "", "1 if commands can be isolated as configured, else 0"),
            run_state: Histogram::new(
                m,
                "cicd.pipeline.run.duration",
                "s",
                LONG,
                "Time a run spent in a state. Recorded for pending: from its opening until it got a slot",
            ),
            run: Histogram::new(
                m,
                "skep.run.duration",
                "s",
                LONG,
                "Time from the opening of a run to its end, by outcome",
            ),
            rounds: Histogram::new(m, "skep.run.rounds", "{round}", &FEW[..7], "Rounds of rework of a run that ended"),
            attempts: Counter::new(m, "skep.attempts", "{attempt}", "Attempts that ended, by outcome"),
            attempt: Histogram::new(
                m,
                "skep.attempt.duration",
                "s",
                WORK,
                "Time from the order of an attempt to its end",
            ),
            checks: Counter::new(m, "skep.checks", "{check}", "Checks that ran, by result"),
            check: Histogram::new(m, "skep.check.duration", "s", WORK, "Time a check ran"),
            question_wait: Histogram::new(
                m,
                "skep.question.wait",
                "s",
                LONG,
                "Time from a question to its end, by what ended it: a person, the time, or an event",
            ),
            landings: Counter::new(m, "skep.landings", "{landing}", "Landings, by result"),
            effect_failures: Counter::new(
                m,
                "skep.effect.failures",
                "{effect}",
                "Effects that failed after all retries",
            ),
            tokens: Counter::new(m, "skep.tokens", "{token}", "Tokens of settled attempts; adds up to the ledger"),
            model_calls: Counter::new(m, "skep.model_calls", "{call}", "Model calls of settled attempts"),
            gen_ai_input: Counter::new(
                m,
                "gen_ai.client.inference.usage.input_tokens",
                "{token}",
                "Input tokens of settled attempts, those from a cache included",
            ),
            gen_ai_cached: Counter::new(
                m,
                "gen_ai.client.inference.usage.cache_read.input_tokens",
                "{token}",
                "Input tokens of settled attempts that were read from a cache",
            ),
            gen_ai_output: Counter::new(
                m,
                "gen_ai.client.inference.usage.output_tokens",
                "{token}",
                "Output tokens of settled attempts",
            ),
            gen_ai_agent: Histogram::new(
                m,
                "gen_ai.invoke_agent.duration",
                "s",
                AGENT,
                "Time from the order of an attempt to its end; the agent is the role",
            ),
            gen_ai_calls: Histogram::new(
                m,
                "gen_ai.invoke_agent.inference_calls",
                "{call}",
                FEW,
                "Model calls of an attempt",
            ),
            gen_ai_workflow: Histogram::new(
                m,
                "gen_ai.invoke_workflow.duration",
                "s",
                WORKFLOW,
                "Time from the opening of a run to its end",
            ),
            vcs_approval: Gauge::new(
                m,
                "vcs.change.time_to_approval",
                "s",
                "Time from the opening of the change that was approved last to its first approval",
            ),
            vcs_merge: Gauge::new(
                m,
                "vcs.change.time_to_merge",
                "s",
                "Time from the opening of the change that landed last to its landing",
            ),
            cost: FloatCounter::new(
                m,
                "skep.cost_usd",
                "Cost of settled attempts in US dollars; adds up to the ledger",
            ),
            budget_limit: Gauge::new(
                m,
                "skep.budget.limit",
                "",
                "Limit of a shared budget in tokens or US dollars, as of its last reservation",
            ),
            budget_used: Gauge::new(
                m,
                "skep.budget.used",
                "",
                "Used and reserved amount of a shared budget in tokens or US dollars, as of its last reservation",
            ),
            budget_reserved: Gauge::new(
                m,
                "skep.budget.reserved",
                "",
                "Reserved amount of a shared budget in tokens or US dollars, as of its last reservation",
            ),
            cooldown_end: Gauge::new(
                m,
                "skep.engine.cooldown_end",
                "s",
                "Unix time at which the cooldown of an engine ends; 0 once it worked again",
            ),
            forge_requests: Counter::new(m, "skep.forge.requests", "{request}", "Requests to a forge, by result"),
            forge_quota: Gauge::new(
                m,
                "skep.forge.quota.remaining",
                "{request}",
                "Requests the forge still allows, as of its last response",
            ),
            forge_quota_limit: Gauge::new(
                m,
                "skep.forge.quota.limit",
                "{request}",
                "Requests the forge allows per window",
            ),
            messages: Counter::new(
                m,
                "skep.notify.deliveries",
                "{message}",
                "Messages to people, by channel and result",
            ),
            commit: Histogram::new(
                m,
                "skep.store.commit.duration",
                "s",
                SHORT,
                "Time of one transaction of the runs, by result",
            ),
            commit_size: Histogram::new(
                m,
                "skep.store.commit.transitions",
                "{transition}",
                FEW,
                "Transitions written in one transaction",
            ),
            http: Histogram::new(
                m,
                "http.server.request.duration",
                "s",
                SHORT,
                "Time until the head of a response was ready",
            ),
        }
    }
}
