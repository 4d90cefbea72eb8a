//! The loop: ask the model, do what it calls for, tell it what came of that, until it is done or has to stop.

use super::context::{self, TooLarge, tokens};
use super::fault::{Asked, Kind};
use super::guard::{Guard, Verdict};
use super::history::{Call, History, Outcome, Turn};
use super::tools::{self, Spec, Tools};
use super::transcript::Transcript;
use super::voice::Voice;
use super::wire::{Answer, Wire};
use crate::adapters::engine::answer;
use crate::adapters::engine::meter::{Cap, Meter, Ticket};
use crate::adapters::gate::limits::Limiter;
use crate::domain::{AskedTo, At, Order};
use crate::ports::engine::{Bench, EngineEvent, Work};
use crate::ports::prompts::Prompt;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Turns of a session whose order sets no number.
const TURNS_MAX: u64 = 200;
/// Tries after a fault that may pass, and the wait before the first of them; it doubles, give or take a half.
const RETRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(500);
/// Waits for a provider that said when it can be asked again, in one turn.
const RESTS_MAX: u32 = 5;
/// Results that may be refused before the session is given up.
const REFUSALS_MAX: u32 = 3;
/// Kept of the attempt's time for keeping what there is and telling the end.
const MARGIN: Duration = Duration::from_secs(5);

/// One session.
pub struct Session<'a> {
    wire: &'a Wire,
    limiter: Arc<Limiter>,
    meter: Arc<Meter>,
    order: &'a Order,
    bench: &'a Bench,
    prompt: &'a Prompt,
    tools: Tools,
    specs: Vec<Spec>,
    voice: Voice,
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
    /// How often that may be asked.
    pub limiter: Arc<Limiter>,
    /// What it may cost.
    pub meter: Arc<Meter>,
    /// What is to be done.
    pub order: &'a Order,
    /// Where.
    pub bench: &'a Bench,
    /// In words.
    pub prompt: &'a Prompt,
    /// By which means.
    pub tools: Tools,
    /// Who is told meanwhile.
    pub voice: Voice,
}

impl<'a> Session<'a> {
    /// A session that begins now.
    pub fn new(parts: Parts<'a>) -> Session<'a> {
        let Parts { wire, limiter, meter, order, bench, prompt, tools, voice } = parts;
        let specs = tools.specs(answer::schema(order.step));
        let wall = Duration::from_millis(order.caps.wall_ms);
        let deadline = Instant::now() + wall.saturating_sub(MARGIN.min(wall / 4));
        let (window, fixed) = (wire.provider().window, fixed(&prompt.system, &specs));
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
            limiter,
            meter,
            order,
            bench,
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
    pub async fn carry(mut self) -> (Work, Vec<u8>) {
        let work = loop {
            match self.step().await {
                Ok(()) => {}
                Err(work) => break *work,
            }
        };
        let how = match &work {
            Work::Failed(why) | Work::NotResumed(why) => why.clone(),
            Work::SpentOut { why, .. } | Work::Unavailable { why, .. } => why.clone(),
            Work::Asked { question, .. } => format!("asked: {question}"),
            Work::Notes(_) | Work::Tasks(_) | Work::Edited { .. } | Work::Judged { .. } => "done".to_owned(),
        };
        (work, self.transcript.end(&how))
    }

    /// One turn; `Err` is the end of the session.
    async fn step(&mut self) -> Result<(), Box<Work>> {
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
    async fn act(&mut self, call: &Call, before: &[Outcome]) -> Result<Outcome, Box<Work>> {
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
            changed: None,
        })
    }

    /// Takes its result, or says why not.
    fn done(&mut self, call: &Call, before: &[Outcome]) -> Result<String, Box<Work>> {
        if let Some(fell) = before.iter().find(|o| !o.ok) {
            return Ok(format!("not taken: {} in the same answer did not work; look at it first", fell.what));
        }
        let taken = match &call.broken {
            Some(why) => Err(why.clone()),
            None => answer::from_value(call.args.clone()).and_then(|a| a.work(self.order, self.bench)),
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

    fn question(&mut self, call: &Call) -> Result<String, Box<Work>> {
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
                Err(Box::new(Work::Asked { question, to }))
            }
            Err(why) => Ok(format!("error: {}", call.broken.as_ref().unwrap_or(&why))),
        }
    }

    /// Gets an answer: within the window, the budget, the provider's limits and the time, over faults that pass.
    async fn ask(&mut self) -> Result<Answer, Box<Work>> {
        let (mut faults, mut rests, mut too_long) = (0, 0, false);
        loop {
            self.shorten()?;
            let ticket = self.admit()?;
            let acquired = timeout_at(self.deadline, self.limiter.acquire(self.wire.model())).await;
            let permit = match acquired {
                Ok(Ok(permit)) => permit,
                Ok(Err(until)) => {
                    ticket.release();
                    return self.resting(format!("{} rests", model_name(self.wire)), Some(until));
                }
                // It never asked: that says nothing about the work.
                Err(_) => {
                    ticket.release();
                    let name = &self.wire.provider().name;
                    return self.resting(format!("provider {name} had no place free until the time was up"), None);
                }
            };
            let asked = Asked {
                provider: self.wire.provider(),
                model: self.wire.model(),
                role: self.order.step.role().name(),
                now: now(),
            };
            let hear = |heard: super::wire::Heard<'_>| self.voice.hear(&heard);
            let asking =
                self.wire.ask(asked, &self.prompt.system, &self.history, &self.specs, ticket.max_output(), &hear);
            let answered = timeout_at(self.deadline, asking).await;
            drop(permit);
            self.voice.end();
            let fault = match answered {
                // The call was made and is paid for: the ticket is charged in full.
                Err(_) => return self.out_of_time(),
                Ok(Ok(answer)) => {
                    match answer.usage {
                        Some(usage) => ticket.settle(usage),
                        None => drop(ticket),
                    }
                    self.voice.send(EngineEvent::Spent(self.meter.usage()));
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
            };
            match fault.began {
                true => drop(ticket),
                false => ticket.release(),
            }
            self.transcript.note(self.turn, "fault", &fault.why);
            tracing::debug!(why = %fault.why, "a call of a model did not work");
            match fault.kind {
                Kind::Passing if faults < RETRIES => {
                    let wait = jittered(BACKOFF * 2u32.pow(faults));
                    faults += 1;
                    if timeout_at(self.deadline, sleep(wait)).await.is_err() {
                        return self.resting(fault.why, None);
                    }
                }
                Kind::Passing => return self.resting(format!("{} ({} tries)", fault.why, RETRIES + 1), None),
                Kind::Resting(Some(at)) if rests < RESTS_MAX && self.is_before_deadline(at) => {
                    rests += 1;
                    // The limiter waits for a short rest, for all who share the provider, and refuses at a long one.
                    self.limiter.rest_until(self.wire.model(), at);
                }
                Kind::Resting(until) => {
                    if let Some(at) = until {
                        self.limiter.rest_until(self.wire.model(), at);
                    }
                    return self.resting(fault.why, until);
                }
                Kind::Needs(fix) => {
                    return Err(Box::new(Work::Unavailable { why: fault.why, until: None, fix: Some(fix) }));
                }
                Kind::TooLong if !too_long => {
                    too_long = true;
                    self.room = context::estimate(&self.history).min(self.room) / 2;
                }
                Kind::TooLong => {
                    let name = &self.wire.provider().name;
                    return failed(format!(
                        "{}, even after the conversation was shortened; set providers.{name}.window to the model's, or choose a model with a larger one",
                        fault.why
                    ));
                }
            }
        }
    }

    /// Keeps the conversation inside the model's window.
    fn shorten(&mut self) -> Result<(), Box<Work>> {
        let before = context::estimate(&self.history);
        if before <= self.room {
            return Ok(());
        }
        // Well below the limit, so that it is not done again at once: a changed beginning costs the provider's cache.
        let fitted =
            context::fit(&mut self.history, self.room * 2 / 3).or_else(|_| context::fit(&mut self.history, self.room));
        if let Err(TooLarge { order, room }) = fitted {
            return failed(format!(
                "the order takes about {order} tokens, and {} leaves {room} for it: choose a model with a larger window, or split the task",
                model_name(self.wire)
            ));
        }
        let after = context::estimate(&self.history);
        self.transcript.note(self.turn, "shortened", &format!("from about {before} to {after} tokens"));
        Ok(())
    }

    /// Sets the call's worst case aside; a shorter answer when only that fits.
    fn admit(&self) -> Result<Ticket, Box<Work>> {
        let name = model_name(self.wire);
        let input = context::estimate(&self.history) + fixed(&self.prompt.system, &self.specs);
        let most = max_output(self.wire);
        let admitted = self.meter.admit(&name, input, most).or_else(|refused| match refused.fits {
            Some(fits) => self.meter.admit(&name, input, fits),
            None => Err(refused),
        });
        admitted.map_err(|refused| {
            let (what, why) = (refused.cap.to_string(), refused.to_string());
            Box::new(if refused.cap == Cap::Price { Work::Failed(why) } else { Work::SpentOut { what, why } })
        })
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

    fn is_before_deadline(&self, at: At) -> bool {
        let ahead = u64::try_from(at.0.saturating_sub(now().0)).unwrap_or(0);
        Duration::from_millis(ahead) < self.deadline.saturating_duration_since(Instant::now())
    }

    fn resting<T>(&self, why: String, until: Option<At>) -> Result<T, Box<Work>> {
        Err(Box::new(Work::Unavailable { why, until, fix: None }))
    }

    fn out_of_time<T>(&self) -> Result<T, Box<Work>> {
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
    let quarter = u32::try_from(wire.provider().window / 4).unwrap_or(u32::MAX);
    wire.provider().max_output.min(quarter).max(1)
}

/// Tokens of what is sent with every call besides the conversation.
fn fixed(system: &str, specs: &[Spec]) -> u64 {
    let spec = |s: &Spec| s.name.len() + s.about.len() + s.schema.to_string().len() + 64;
    tokens(system.len() + specs.iter().map(spec).sum::<usize>())
}

fn failed<T>(why: String) -> Result<T, Box<Work>> {
    Err(Box::new(Work::Failed(why)))
}

fn now() -> At {
    At(chrono::Utc::now().timestamp_millis())
}

/// A wait between half and one and a half of `wait`, so that many who failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.5 + f64::from(dice) / f64::from(u32::MAX))
}
