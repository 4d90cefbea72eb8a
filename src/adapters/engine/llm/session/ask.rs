//! One answer of the model: within the window, the budget, the provider's limits and the time, over faults that pass.

use super::{Session, failed, fixed, max_output, model_name};
use crate::adapters::engine::llm::context::{self, TooLarge};
use crate::adapters::engine::llm::fault::{Asked, Kind};
use crate::adapters::engine::llm::wire::{Answer, StreamDelta};
use crate::domain::Timestamp;
use crate::ports::engine::{EngineEvent, StepOutcome};
use crate::providers::meter::Ticket;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Tries after a fault that may pass, and the wait before the first of them; it doubles, give or take a half.
const RETRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(500);
/// Waits for a provider that said when it can be asked again, in one turn.
const RESTS_MAX: u32 = 5;

impl Session<'_> {
    /// Gets an answer: within the window, the budget, the provider's limits and the time, over faults that pass.
    pub(super) async fn ask(&mut self) -> Result<Answer, Box<StepOutcome>> {
        let (mut faults, mut rests, mut too_long) = (0, 0, false);
        loop {
            self.shorten()?;
            let ticket = self.admit()?;
            let acquired = timeout_at(self.deadline, self.limiter.acquire(self.wire.model())).await;
            let permit = match acquired {
                Ok(Ok(permit)) => permit,
                Ok(Err(until)) => {
                    ticket.release();
                    return self.unavailable(format!("{} rests", model_name(self.wire)), Some(until));
                }
                // It never asked: that says nothing about the work.
                Err(_) => {
                    ticket.release();
                    let name = &self.wire.provider().name;
                    return self.unavailable(format!("provider {name} had no place free until the time was up"), None);
                }
            };
            let asked = Asked {
                provider: self.wire.provider(),
                model: self.wire.model(),
                role: self.order.step.role().name(),
                now: self.clock.now(),
            };
            let on_delta = |heard: StreamDelta<'_>| self.voice.on_delta(&heard);
            let asking =
                self.wire.ask(asked, &self.prompt.system, &self.history, &self.specs, ticket.max_output(), &on_delta);
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
                        return self.unavailable(fault.why, None);
                    }
                }
                Kind::Passing => return self.unavailable(format!("{} ({} tries)", fault.why, RETRIES + 1), None),
                Kind::Resting(Some(at)) if rests < RESTS_MAX && self.is_before_deadline(at) => {
                    rests += 1;
                    // The limiter waits for a short rest, for all who share the provider, and refuses at a long one.
                    self.limiter.cool_down_until(self.wire.model(), at);
                }
                Kind::Resting(until) => {
                    if let Some(at) = until {
                        self.limiter.cool_down_until(self.wire.model(), at);
                    }
                    return self.unavailable(fault.why, until);
                }
                Kind::Needs(fix) => {
                    return Err(Box::new(StepOutcome::Unavailable { why: fault.why, until: None, fix: Some(fix) }));
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
    fn shorten(&mut self) -> Result<(), Box<StepOutcome>> {
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
    fn admit(&self) -> Result<Ticket, Box<StepOutcome>> {
        let name = model_name(self.wire);
        let input = context::estimate(&self.history) + fixed(&self.prompt.system, &self.specs);
        let most = max_output(self.wire);
        let admitted = self.meter.admit(&name, input, most).or_else(|refused| match refused.fits {
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

/// A wait between half and one and a half of `wait`, so that many who failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.5 + f64::from(dice) / f64::from(u32::MAX))
}
