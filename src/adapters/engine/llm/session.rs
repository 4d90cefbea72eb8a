//! The loop: asks the model, executes its tool calls and reports their results, until it is done or has to stop.

use super::context::tokens;
use super::guard::{Guard, Verdict};
use super::history::{Call, History, Outcome, Turn};
use super::progress::Progress;
use super::text_calls;
use super::tools::{self, Spec, Tools};
use super::transcript::Transcript;
use super::wire::{Answer, Wire};
use crate::adapters::engine::answer;
use crate::domain::{AskedTo, BudgetKind, Order, Timestamp};
use crate::ports::Clock;
use crate::ports::answer_schema;
use crate::ports::engine::{AttemptEnv, EngineEvent, StepOutcome};
use crate::ports::prompts::Prompt;
use crate::providers::meter::Meter;
use crate::providers::rate_limit::RateLimiter;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

mod ask;
mod done_checks;

use done_checks::DoneChecks;

/// Turn limit of a session whose order sets none.
const MAX_TURNS: u64 = 200;
/// Refused results after which the session fails.
const MAX_REFUSALS: u32 = 3;
/// Used shares of turns or time at which the model is reminded of what is left.
const REMIND_AT: [f64; 2] = [0.5, 0.8];
/// Part of the attempt's time reserved for storing and reporting its end.
const MARGIN: Duration = Duration::from_secs(5);

/// One session.
pub struct Session<'a> {
    wire: &'a Wire,
    clock: Arc<dyn Clock>,
    limiter: Arc<RateLimiter>,
    meter: Arc<Meter>,
    order: &'a Order,
    env: &'a AttemptEnv,
    prompt: &'a Prompt,
    tools: Tools,
    specs: Vec<Spec>,
    progress: Progress,
    history: History,
    guard: Guard,
    transcript: Transcript,
    started: Instant,
    deadline: Instant,
    turn: u64,
    /// Reminders of the remaining budget so far.
    reminders: usize,
    refused: u32,
    /// Why the last result was refused.
    refusal: Option<String>,
    /// The checks at `done`.
    done_checks: DoneChecks,
    /// The result that was valid, but sent back because of its checks.
    checked_result: Option<StepOutcome>,
    /// Answers in a row that were cut off before they called a tool.
    cut_answers: usize,
    /// Output limit of the last call, in tokens.
    output_limit: u32,
    ids: HashSet<String>,
    /// Tokens that the conversation may take; reduced after the provider found it too long.
    room: u64,
}

/// Parts of a session.
pub struct Parts<'a> {
    /// Client of the model.
    pub wire: &'a Wire,
    /// Source of the time of day.
    pub clock: Arc<dyn Clock>,
    /// Rate limiter of the provider.
    pub limiter: Arc<RateLimiter>,
    /// Budget and usage of the attempt.
    pub meter: Arc<Meter>,
    /// The order.
    pub order: &'a Order,
    /// Directories of the attempt.
    pub env: &'a AttemptEnv,
    /// The rendered prompt.
    pub prompt: &'a Prompt,
    /// Tools of the step.
    pub tools: Tools,
    /// Live output.
    pub progress: Progress,
    /// How often the checks run when the model says that it is done.
    pub checks_per_session: u32,
}

impl<'a> Session<'a> {
    /// Creates a session whose time starts now.
    pub fn new(parts: Parts<'a>) -> Session<'a> {
        let Parts { wire, clock, limiter, meter, order, env, prompt, tools, progress, checks_per_session } = parts;
        let done_checks = DoneChecks::new(order, &tools, checks_per_session);
        let mut specs = tools.specs(answer_schema::schema(order.step));
        if let Some(done) = specs.iter_mut().find(|s| s.name == tools::DONE && done_checks.may_run()) {
            done.description =
                "Ends the session with its result. Skep first runs the project's checks and returns what fails.";
        }
        let timeout = Duration::from_millis(order.caps.wall_ms);
        let started = Instant::now();
        let deadline = started + timeout.saturating_sub(MARGIN.min(timeout / 4));
        let (window, overhead) = (wire.provider().context_window, overhead_tokens(&prompt.system, &specs));
        let room = (window.saturating_sub(max_output_tokens(wire).into()) * 3 / 4).saturating_sub(overhead);
        let mut transcript = Transcript::default();
        let names: Vec<&str> = specs.iter().map(|s| s.name).collect();
        transcript.begin(&model_name(wire), prompt.version.as_str(), &names);
        Session {
            history: History::new(prompt.user.clone()),
            guard: Guard::default(),
            turn: 0,
            reminders: 0,
            refused: 0,
            refusal: None,
            done_checks,
            checked_result: None,
            cut_answers: 0,
            output_limit: 0,
            ids: HashSet::new(),
            wire,
            clock,
            limiter,
            meter,
            order,
            env,
            prompt,
            tools,
            specs,
            progress,
            transcript,
            started,
            deadline,
            room,
        }
    }

    /// Runs the session to its end. Returns the result and the transcript.
    pub async fn run(mut self) -> (StepOutcome, Vec<u8>) {
        let outcome = loop {
            match self.step().await {
                Ok(()) => {}
                Err(outcome) => break *outcome,
            }
        };
        let end = match &outcome {
            StepOutcome::Failed(why) | StepOutcome::NotResumed(why) => why.clone(),
            StepOutcome::BudgetExhausted { why, .. } | StepOutcome::Unavailable { why, .. } => why.clone(),
            StepOutcome::Asked { question, .. } => format!("asked: {question}"),
            StepOutcome::Notes(_)
            | StepOutcome::Tasks(_)
            | StepOutcome::Edited { .. }
            | StepOutcome::EditedInPart { .. }
            | StepOutcome::Judged { .. } => "done".to_owned(),
        };
        (self.with_checked_result(outcome), self.transcript.end(&end))
    }

    /// Returns the outcome of the session. Work that the model called done is judged by the checks afterwards, also if
    /// the session ended while its checks were being repaired.
    fn with_checked_result(&mut self, outcome: StepOutcome) -> StepOutcome {
        match outcome {
            StepOutcome::Failed(_) | StepOutcome::BudgetExhausted { .. } | StepOutcome::Unavailable { .. } => {
                self.checked_result.take().unwrap_or(outcome)
            }
            outcome => outcome,
        }
    }

    /// Runs one turn; `Err` ends the session.
    async fn step(&mut self) -> Result<(), Box<StepOutcome>> {
        if self.order.caps.turns == 0 && self.turn >= MAX_TURNS {
            return failed(format!("the model was not done after {MAX_TURNS} turns, the limit of an attempt"));
        }
        self.turn += 1;
        let started = Instant::now();
        let mut answer = self.ask().await?;
        if answer.calls.is_empty()
            && let Some((text, calls)) = text_calls::read(&answer.text, &self.specs)
        {
            (answer.text, answer.calls) = (text, calls);
        }
        self.assign_ids(&mut answer.calls);
        let Answer { text, calls, reasoning_parts, usage, cut } = answer;
        self.transcript.answer(self.turn, &text, &calls, usage, started.elapsed().as_millis());
        let verdict = self.guard.check(&calls);
        self.cut_answers = if cut && calls.is_empty() { self.cut_answers + 1 } else { 0 };
        if let Verdict::Stop(why) | Verdict::Incapable(why) = &verdict {
            let why = why.clone();
            if self.cut_answers > 1 {
                return self.output_too_small();
            }
            // Sending the same result again is a circle, too. What a person needs to know is why that result was
            // refused.
            if matches!(verdict, Verdict::Incapable(_)) {
                return self.incapable(why);
            }
            return failed(match self.refusal.take().filter(|_| calls.iter().any(|c| c.tool == tools::DONE)) {
                Some(refusal) => format!("{why}; the result was refused because {refusal}"),
                None => why,
            });
        }
        let mut turn = Turn { text, calls, reasoning_parts, ..Turn::default() };
        for n in 0..turn.calls.len() {
            let outcome = self.act(&turn.calls[n], &turn.results).await?;
            self.transcript.result(self.turn, &outcome);
            turn.results.push(outcome);
        }
        match self.guard.check_results(&turn.results) {
            Verdict::Stop(why) => return failed(why),
            Verdict::Incapable(why) => return self.incapable(why),
            Verdict::Fine | Verdict::Nudge(_) => {}
        }
        let nudge = match verdict {
            Verdict::Nudge(_) if cut => Some(
                "Your answer reached its length limit and was cut off. Continue in smaller steps, using your tools."
                    .to_owned(),
            ),
            Verdict::Nudge(words) => Some(words.to_owned()),
            _ => None,
        };
        for words in nudge.into_iter().chain(self.reminder()) {
            self.transcript.note(self.turn, "nudge", &words);
            match (turn.results.last_mut(), &mut turn.nudge) {
                (Some(last), _) => last.text = format!("{}\n\n{words}", last.text),
                (None, Some(nudge)) => *nudge = format!("{nudge}\n\n{words}"),
                (None, nudge) => *nudge = Some(words),
            }
        }
        self.history.turns.push(turn);
        Ok(())
    }

    /// Returns the reminder of what is left of the turns and the time that is due now, if any.
    fn reminder(&mut self) -> Option<String> {
        let turns = match self.order.caps.turns {
            0 => MAX_TURNS,
            turns => turns,
        };
        let (used, whole) = (self.started.elapsed(), self.deadline.saturating_duration_since(self.started));
        let share = (self.turn as f64 / turns as f64).max(used.as_secs_f64() / whole.as_secs_f64().max(0.001));
        let reached = REMIND_AT.iter().filter(|at| share >= **at).count();
        if reached <= self.reminders {
            return None;
        }
        self.reminders = reached;
        let (turns, left) = (turns.saturating_sub(self.turn), whole.saturating_sub(used).as_secs());
        let time = if left < 120 { format!("{left} seconds") } else { format!("{} minutes", left / 60) };
        let advice = if reached == REMIND_AT.len() {
            "Finish what you have begun, verify it, and call done."
        } else {
            "Plan the rest of your work accordingly."
        };
        Some(format!("Skep: {turns} turns and {time} are left. {advice}"))
    }

    /// Executes one tool call.
    async fn act(&mut self, call: &Call, before: &[Outcome]) -> Result<Outcome, Box<StepOutcome>> {
        let text = match call.tool.as_str() {
            tools::DONE => self.done(call, before).await?,
            tools::ASK => self.question(call)?,
            _ => {
                self.progress.send(EngineEvent::Did(tools::describe(call)));
                let left = self.deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return self.out_of_time();
                }
                return match timeout_at(self.deadline, self.tools.call(call, left)).await {
                    Ok(outcome) => Ok(outcome),
                    Err(_) => self.out_of_time(),
                };
            }
        };
        Ok(Outcome {
            id: call.id.clone(),
            tool: call.tool.clone(),
            what: tools::describe(call),
            text: tools::truncate_middle(&text, tools::MAX_RESULT_BYTES),
            ok: false,
            changed: Vec::new(),
        })
    }

    /// Accepts the result, or returns the correction for the model.
    async fn done(&mut self, call: &Call, before: &[Outcome]) -> Result<String, Box<StepOutcome>> {
        if let Some(failed) = before.iter().find(|o| !o.ok) {
            return Ok(format!("not accepted: {} in the same answer failed; handle that first", failed.what));
        }
        let parsed = match &call.invalid {
            Some(why) => Err(why.clone()),
            None => answer::from_value(call.args.clone()).and_then(|a| a.into_outcome(self.order, self.env)),
        };
        match parsed {
            Ok(outcome) => match self.failed_checks().await {
                Some(text) => {
                    self.checked_result = Some(outcome);
                    Ok(text)
                }
                None => Err(Box::new(outcome)),
            },
            Err(why) => {
                self.refused += 1;
                if self.refused > MAX_REFUSALS {
                    return failed(format!(
                        "the model's result was refused {} times, last because {why}",
                        self.refused
                    ));
                }
                let correction = answer::correction(self.order.step, &why);
                self.refusal = Some(why);
                Ok(correction)
            }
        }
    }

    /// Runs the checks at `done`. Returns what the model has to handle first, if anything.
    async fn failed_checks(&mut self) -> Option<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let whole = self.deadline.saturating_duration_since(self.started);
        self.done_checks.run(&self.tools, &self.progress, left, whole).await
    }

    fn question(&mut self, call: &Call) -> Result<String, Box<StepOutcome>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Args {
            question: String,
            #[serde(default)]
            to: AskedTo,
        }
        match tools::args::<Args>(call) {
            Ok(Args { question, .. }) if question.trim().is_empty() => Ok("error: question is empty".to_owned()),
            Ok(Args { question, to }) => {
                let question = tools::truncate_middle(question.trim(), 16 * 1024);
                Err(Box::new(StepOutcome::Asked { question, to }))
            }
            Err(why) => Ok(format!("error: {}", call.invalid.as_ref().unwrap_or(&why))),
        }
    }

    /// Gives every call a unique id that all APIs accept.
    fn assign_ids(&mut self, calls: &mut [Call]) {
        for (n, call) in calls.iter_mut().enumerate() {
            let usable = (1..=64).contains(&call.id.len())
                && call.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !usable || self.ids.contains(&call.id) {
                call.id = format!("skep_{}_{n}", self.turn);
            }
            self.ids.insert(call.id.clone());
        }
    }

    /// Ends a session whose answers are longer than allowed: with a setting that a person has to change, not with a
    /// failed try.
    fn output_too_small<T>(&self) -> Result<T, Box<StepOutcome>> {
        let (name, times, limit) = (model_name(self.wire), self.cut_answers, self.output_limit);
        let provider = &self.wire.provider().name;
        let why = format!(
            "the answer of {name} reached its output limit of {limit} tokens {times} times in a row before it called a tool; reasoning counts as output"
        );
        if limit < max_output_tokens(self.wire) {
            return failed(format!("{why}, and the budget of the attempt left no more"));
        }
        let key = match limit < self.wire.provider().max_output_tokens {
            // The limit is a part of the window.
            true => "context_window",
            false => "max_output_tokens",
        };
        let effort = match self.order.engine.arg.contains('#') {
            true => ", or choose a lower effort",
            false => "",
        };
        let fix = format!(
            "raise providers.{provider}.{key} to what the model supports{effort}, or set role.{}.model to a model that reasons less",
            self.order.step.role().name()
        );
        Err(Box::new(StepOutcome::Unavailable { why, until: None, fix: Some(fix) }))
    }

    /// Ends a session whose model has never used a tool: with a question or a fallback, not with another try.
    fn incapable<T>(&self, why: String) -> Result<T, Box<StepOutcome>> {
        let (name, role) = (model_name(self.wire), self.order.step.role().name());
        let why = format!("{name} cannot do the work of the {role}: {why}");
        let fix = format!(
            "set role.{role}.model to a model that supports tool calls; a local server may need its option for them, such as \
             --jinja for llama-server"
        );
        Err(Box::new(StepOutcome::Unavailable { why, until: None, fix: Some(fix) }))
    }

    fn unavailable<T>(&self, why: String, until: Option<Timestamp>) -> Result<T, Box<StepOutcome>> {
        Err(Box::new(StepOutcome::Unavailable { why, until, fix: None }))
    }

    fn out_of_time<T>(&self) -> Result<T, Box<StepOutcome>> {
        let secs = self.order.caps.wall_ms.div_ceil(1000);
        let why = format!("the model was not done when the time limit was reached ({secs} s, {} turns)", self.turn);
        Err(Box::new(StepOutcome::BudgetExhausted { budget: BudgetKind::Time, why }))
    }
}

/// Returns the model as `provider/name`.
pub fn model_name(wire: &Wire) -> String {
    format!("{}/{}", wire.provider().name, wire.model())
}

/// Returns the number of output tokens to ask for: at most a quarter of the context window, so that the conversation
/// has room.
fn max_output_tokens(wire: &Wire) -> u32 {
    let quarter = u32::try_from(wire.provider().context_window / 4).unwrap_or(u32::MAX);
    wire.provider().max_output_tokens.min(quarter).max(1)
}

/// Tokens that are sent with every call in addition to the conversation.
fn overhead_tokens(system: &str, specs: &[Spec]) -> u64 {
    let spec = |s: &Spec| s.name.len() + s.description.len() + s.schema.to_string().len() + 64;
    tokens(system.len() + specs.iter().map(spec).sum::<usize>())
}

fn failed<T>(why: String) -> Result<T, Box<StepOutcome>> {
    Err(Box::new(StepOutcome::Failed(why)))
}
