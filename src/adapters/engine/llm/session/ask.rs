//! One answer of the model, within the context window, the budget, the provider's limits and the time. Transient faults
//! are retried.

use super::{Session, failed, max_output_tokens, model_name, overhead_tokens};
use crate::adapters::engine::llm::context::{self, TooLarge};
use crate::adapters::engine::llm::fault::{CallContext, Kind};
use crate::adapters::engine::llm::wire::{Answer, StreamDelta};
use crate::domain::Timestamp;
use crate::ports::engine::{EngineEvent, StepOutcome};
use crate::providers::meter::Ticket;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Retries after a transient fault, and the wait before the first; it doubles each time, with jitter.
const RETRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(500);
/// Upper bound of the cooldowns waited for in one turn.
const MAX_COOLDOWNS: u32 = 5;
/// Conversation that may be too long for a model whose context window is smaller than configured.
const LONG_TOKENS: u64 = 4_000;

impl Session<'_> {
    /// Asks until there is an answer or a fault that ends the session.
    pub(super) async fn ask(&mut self) -> Result<Answer, Box<StepOutcome>> {
        let (mut faults, mut cooldowns, mut too_long) = (0, 0, false);
        loop {
            self.shorten()?;
            let ticket = self.admit()?;
            let acquired = timeout_at(self.deadline, self.limiter.acquire(self.wire.model())).await;
            let permit = match acquired {
                Ok(Ok(permit)) => permit,
                Ok(Err(until)) => {
                    ticket.release();
                    return self.unavailable(format!("{} is cooling down", model_name(self.wire)), Some(until));
                }
                // The model was never asked, which says nothing about the work.
                Err(_) => {
                    ticket.release();
                    let name = &self.wire.provider().name;
                    return self.unavailable(format!("provider {name} had no free slot before the time limit"), None);
                }
            };
            let asked = CallContext {
                provider: self.wire.provider(),
                model: self.wire.model(),
                role: self.order.step.role().name(),
                now: self.clock.now(),
            };
            let on_delta = |delta: StreamDelta<'_>| self.progress.on_delta(&delta);
            let asking = self.wire.ask(
                asked,
                &self.prompt.system,
                &self.history,
                &self.specs,
                ticket.max_output_tokens(),
                &on_delta,
            );
            let answered = timeout_at(self.deadline, asking).await;
            self.output_limit = ticket.max_output_tokens();
            drop(permit);
            self.progress.end();
            let fault = match answered {
                // The call was made and is billed, so the ticket is charged in full.
                Err(_) => return self.out_of_time(),
                Ok(Ok(answer)) => {
                    match answer.usage {
                        Some(usage) => ticket.settle(usage),
                        None => drop(ticket),
                    }
                    self.progress.send(EngineEvent::Spent(self.meter.usage()));
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
            };
            match fault.began {
                true => drop(ticket),
                false => ticket.release(),
            }
            self.transcript.note(self.turn, "fault", &fault.why);
            tracing::debug!(why = %fault.why, "model call failed");
            match fault.kind {
                Kind::Transient if faults < RETRIES => {
                    let wait = jittered(BACKOFF * 2u32.pow(faults));
                    faults += 1;
                    if timeout_at(self.deadline, sleep(wait)).await.is_err() {
                        return self.unavailable(fault.why, None);
                    }
                }
                Kind::Transient => return self.unavailable(format!("{} ({} tries)", fault.why, RETRIES + 1), None),
                Kind::Cooldown(Some(at)) if cooldowns < MAX_COOLDOWNS && self.is_before_deadline(at) => {
                    cooldowns += 1;
                    // The limiter waits out a short cooldown for all sessions of the provider, and refuses at a long
                    // one.
                    self.limiter.cool_down_until(self.wire.model(), at);
                }
                Kind::Cooldown(until) => {
                    if let Some(at) = until {
                        self.limiter.cool_down_until(self.wire.model(), at);
                    }
                    return self.unavailable(fault.why, until);
                }
                Kind::Unexplained(_) if !too_long && context::estimate(&self.history) > LONG_TOKENS => {
                    too_long = true;
                    self.room = context::estimate(&self.history).min(self.room) / 2;
                }
                Kind::NeedsPerson(fix) | Kind::Unexplained(fix) => {
                    return Err(Box::new(StepOutcome::Unavailable { why: fault.why, until: None, fix: Some(fix) }));
                }
                Kind::TooLong if !too_long => {
                    too_long = true;
                    self.room = context::estimate(&self.history).min(self.room) / 2;
                }
                Kind::TooLong => {
                    let name = &self.wire.provider().name;
                    return failed(format!(
                        "{}, even after the conversation was shortened. Set providers.{name}.context_window to the model's, or choose a model with a larger one",
                        fault.why
                    ));
                }
            }
        }
    }

    /// Shortens the conversation to the model's context window.
    fn shorten(&mut self) -> Result<(), Box<StepOutcome>> {
        let before = context::estimate(&self.history);
        if context::clear(&mut self.history) {
            let after = context::estimate(&self.history);
            self.transcript.note(self.turn, "cleared", &format!("from about {before} to {after} tokens"));
        }
        if context::estimate(&self.history) <= self.room {
            return Ok(());
        }
        // Well below the limit, so that it is not repeated soon: a changed beginning invalidates the provider's cache.
        let fitted =
            context::fit(&mut self.history, self.room * 2 / 3).or_else(|_| context::fit(&mut self.history, self.room));
        if let Err(TooLarge { order, room }) = fitted {
            return failed(format!(
                "the order takes about {order} tokens, but {} has room for {room}. Choose a model with a larger context window, or split the task",
                model_name(self.wire)
            ));
        }
        let after = context::estimate(&self.history);
        self.transcript.note(self.turn, "shortened", &format!("from about {before} to {after} tokens"));
        Ok(())
    }

    /// Reserves the call's worst case, with a shorter answer if only that fits.
    fn admit(&self) -> Result<Ticket, Box<StepOutcome>> {
        let name = model_name(self.wire);
        let input = context::estimate(&self.history) + overhead_tokens(&self.prompt.system, &self.specs);
        let max_tokens = max_output_tokens(self.wire);
        let admitted = self.meter.admit(&name, input, max_tokens).or_else(|refused| match refused.fits {
            Some(fits) => self.meter.admit(&name, input, fits),
            None => Err(refused),
        });
        admitted.map_err(|refused| {
            let why = refused.to_string();
            Box::new(match refused.cap.budget() {
                Some(budget) => StepOutcome::BudgetExhausted { budget, why },
                None => StepOutcome::Failed(why),
            })
        })
    }

    fn is_before_deadline(&self, at: Timestamp) -> bool {
        let ahead = u64::try_from(at.0.saturating_sub(self.clock.now().0)).unwrap_or(0);
        Duration::from_millis(ahead) < self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Returns a random duration between 0.5 and 1.5 times `wait`, so that sessions that failed together do not retry
/// together.
fn jittered(wait: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.5 + f64::from(dice) / f64::from(u32::MAX))
}
