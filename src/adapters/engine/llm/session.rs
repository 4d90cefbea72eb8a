//! The loop: ask the model, do what it calls for, tell it what came of that, until it is done or has to stop.

use super::context::tokens;
use super::guard::{Guard, Verdict};
use super::history::{Call, History, Outcome, Turn};
use super::progress::Progress;
use super::tools::{self, Spec, Tools};
use super::transcript::Transcript;
use super::wire::{Answer, Wire};
use crate::adapters::engine::answer;
use crate::domain::{AskedTo, Order, Timestamp};
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

/// Turns of a session whose order sets no number.
const TURNS_MAX: u64 = 200;
/// Results that may be refused before the session is given up.
const REFUSALS_MAX: u32 = 3;
/// Kept of the attempt's time for keeping what there is and telling the end.
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
    voice: Progress,
    history: History,
    guard: Guard,
    transcript: Transcript,
    deadline: Instant,
    turn: u64,
    refused: u32,
    /// Why its last result was refused.
    refusal: Option<String>,
    ids: HashSet<String>,
    /// Tokens the conversation may take; less after the provider found it too long.
    room: u64,
}

/// What a session is made of.
pub struct Parts<'a> {
    /// The way to its model.
    pub wire: &'a Wire,
    /// Source of the time of day.
    pub clock: Arc<dyn Clock>,
    /// How often that may be asked.
    pub limiter: Arc<RateLimiter>,
    /// What it may cost.
    pub meter: Arc<Meter>,
    /// What is to be done.
    pub order: &'a Order,
    /// Where.
    pub env: &'a AttemptEnv,
    /// In words.
    pub prompt: &'a Prompt,
    /// By which means.
    pub tools: Tools,
    /// Who is told meanwhile.
    pub voice: Progress,
}

impl<'a> Session<'a> {
    /// A session that begins now.
    pub fn new(parts: Parts<'a>) -> Session<'a> {
        let Parts { wire, clock, limiter, meter, order, env, prompt, tools, voice } = parts;
        let specs = tools.specs(answer_schema::schema(order.step));
        let wall = Duration::from_millis(order.caps.wall_ms);
        let deadline = Instant::now() + wall.saturating_sub(MARGIN.min(wall / 4));
        let (window, fixed) = (wire.provider().context_window, fixed(&prompt.system, &specs));
        let room = (window.saturating_sub(max_output(wire).into()) * 3 / 4).saturating_sub(fixed);
        let mut transcript = Transcript::default();
        let names: Vec<&str> = specs.iter().map(|s| s.name).collect();
        transcript.begin(&model_name(wire), prompt.version.as_str(), &names);
        Session {
            history: History::new(prompt.user.clone()),
            guard: Guard::default(),
            turn: 0,
            refused: 0,
            refusal: None,
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
            voice,
            transcript,
            deadline,
            room,
        }
    }

    /// Carries it to its end: the result, and the transcript.
    pub async fn carry(mut self) -> (StepOutcome, Vec<u8>) {
        let work = loop {
            match self.step().await {
                Ok(()) => {}
                Err(work) => break *work,
            }
        };
        let how = match &work {
            StepOutcome::Failed(why) | StepOutcome::NotResumed(why) => why.clone(),
            StepOutcome::BudgetExhausted { why, .. } | StepOutcome::Unavailable { why, .. } => why.clone(),
            StepOutcome::Asked { question, .. } => format!("asked: {question}"),
            StepOutcome::Notes(_) | StepOutcome::Tasks(_) | StepOutcome::Edited { .. } | StepOutcome::Judged { .. } => {
                "done".to_owned()
            }
        };
        (work, self.transcript.end(&how))
    }

    /// One turn; `Err` is the end of the session.
    async fn step(&mut self) -> Result<(), Box<StepOutcome>> {
        if self.order.caps.turns == 0 && self.turn >= TURNS_MAX {
            return failed(format!("it was not done after {TURNS_MAX} turns, the most an attempt has"));
        }
        self.turn += 1;
        let began = Instant::now();
        let mut answer = self.ask().await?;
        self.name_calls(&mut answer.calls);
        let Answer { text, calls, kept, usage, cut } = answer;
        self.transcript.said(self.turn, &text, &calls, usage, began.elapsed().as_millis());
        let verdict = self.guard.look(&calls);
        if let Verdict::Stop(why) = verdict {
            // A result sent again as it was goes in circles, too: what was wrong with it is what a person needs.
            return failed(match self.refusal.take().filter(|_| calls.iter().any(|c| c.tool == tools::DONE)) {
                Some(refusal) => format!("{why}; its result was refused because {refusal}"),
                None => why,
            });
        }
        let mut turn = Turn { text, calls, kept, ..Turn::default() };
        for n in 0..turn.calls.len() {
            let outcome = self.act(&turn.calls[n], &turn.results).await?;
            self.transcript.result(self.turn, &outcome);
            turn.results.push(outcome);
        }
        if let Verdict::Nudge(words) = verdict {
            let words = if cut {
                "Your answer was cut off at its longest. Go on in smaller steps, with your tools."
            } else {
                words
            };
            self.transcript.note(self.turn, "told", words);
            match turn.results.last_mut() {
                Some(last) => last.text = format!("{}\n\n{words}", last.text),
                None => turn.told = Some(words.to_owned()),
            }
        }
        self.history.turns.push(turn);
        Ok(())
    }

    /// Carries one call out.
    async fn act(&mut self, call: &Call, before: &[Outcome]) -> Result<Outcome, Box<StepOutcome>> {
        let told = match call.tool.as_str() {
            tools::DONE => self.done(call, before)?,
            tools::ASK => self.question(call)?,
            _ => {
                self.voice.send(EngineEvent::Did(tools::what(call)));
                let left = self.deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return self.out_of_time();
                }
                return match timeout_at(self.deadline, self.tools.use_one(call, left)).await {
                    Ok(outcome) => Ok(outcome),
                    Err(_) => self.out_of_time(),
                };
            }
        };
        Ok(Outcome {
            id: call.id.clone(),
            tool: call.tool.clone(),
            what: tools::what(call),
            text: tools::middle_cut(&told, tools::RESULT_BYTES_MAX),
            ok: false,
            changed: Vec::new(),
        })
    }

    /// Takes its result, or says why not.
    fn done(&mut self, call: &Call, before: &[Outcome]) -> Result<String, Box<StepOutcome>> {
        if let Some(fell) = before.iter().find(|o| !o.ok) {
            return Ok(format!("not taken: {} in the same answer did not work; look at it first", fell.what));
        }
        let taken = match &call.broken {
            Some(why) => Err(why.clone()),
            None => answer::from_value(call.args.clone()).and_then(|a| a.work(self.order, self.env)),
        };
        match taken {
            Ok(work) => Err(Box::new(work)),
            Err(why) => {
                self.refused += 1;
                if self.refused > REFUSALS_MAX {
                    return failed(format!(
                        "its result was refused {} times, the last time because {why}",
                        self.refused
                    ));
                }
                let told = answer::correction(self.order.step, &why);
                self.refusal = Some(why);
                Ok(told)
            }
        }
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
            Ok(Args { question, .. }) if question.trim().is_empty() => Ok("error: the question is empty".to_owned()),
            Ok(Args { question, to }) => {
                let question = tools::middle_cut(question.trim(), 16 * 1024);
                Err(Box::new(StepOutcome::Asked { question, to }))
            }
            Err(why) => Ok(format!("error: {}", call.broken.as_ref().unwrap_or(&why))),
        }
    }

    /// Calls get ids that every API takes, each its own.
    fn name_calls(&mut self, calls: &mut [Call]) {
        for (n, call) in calls.iter_mut().enumerate() {
            let usable = (1..=64).contains(&call.id.len())
                && call.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !usable || self.ids.contains(&call.id) {
                call.id = format!("skep_{}_{n}", self.turn);
            }
            self.ids.insert(call.id.clone());
        }
    }

    fn unavailable<T>(&self, why: String, until: Option<Timestamp>) -> Result<T, Box<StepOutcome>> {
        Err(Box::new(StepOutcome::Unavailable { why, until, fix: None }))
    }

    fn out_of_time<T>(&self) -> Result<T, Box<StepOutcome>> {
        let secs = self.order.caps.wall_ms.div_ceil(1000);
        failed(format!("it was not done when its time was up ({secs} s, {} turns)", self.turn))
    }
}

/// The model as `provider/name`.
pub fn model_name(wire: &Wire) -> String {
    format!("{}/{}", wire.provider().name, wire.model())
}

/// The longest answer asked for: never more than leaves room for the question.
fn max_output(wire: &Wire) -> u32 {
    let quarter = u32::try_from(wire.provider().context_window / 4).unwrap_or(u32::MAX);
    wire.provider().max_output_tokens.min(quarter).max(1)
}

/// Tokens of what is sent with every call besides the conversation.
fn fixed(system: &str, specs: &[Spec]) -> u64 {
    let spec = |s: &Spec| s.name.len() + s.about.len() + s.schema.to_string().len() + 64;
    tokens(system.len() + specs.iter().map(spec).sum::<usize>())
}

fn failed<T>(why: String) -> Result<T, Box<StepOutcome>> {
    Err(Box::new(StepOutcome::Failed(why)))
}
