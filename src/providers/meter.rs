//! The meter of one attempt: the worst case of a call is set aside before it is made, and settled by what the wire told.
//!
//! Where it is kept in a file it is written there before a call is let go and after it is settled: what an attempt has used is known
//! though its process be killed. A call under way counts there as its worst case.
//!
//! Invariant: what is spent and set aside together never passes a cap at the moment a call is admitted.

use super::meter_file::{self, Kept};
pub use super::prices::WireUsage;
use super::prices::{Price, Prices};
use crate::domain::{Metered, ModelUse, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// An answer cut shorter than this is of no use to anybody.
pub const ANSWER_LEAST: u32 = 256;
/// Usage this many times the reservation is a lie or a defect: it counts as not told.
const ABSURD_TIMES: u64 = 20;
/// No call has as many tokens.
const ABSURD_TOKENS: u64 = 10_000_000_000;
/// Models listed one by one; an agent that makes up names gets the rest in one line.
const MODELS_MAX: usize = 64;
/// The most characters of a model's name that are kept.
const NAME_MAX: usize = 128;

/// What may run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Tokens, in and out.
    Tokens,
    /// Money.
    Cost,
    /// Calls of a model.
    Turns,
    /// Money is limited and the model has no price, so that the limit cannot be held.
    Price,
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cap::Tokens => "tokens",
            Cap::Cost => "money",
            Cap::Turns => "turns",
            Cap::Price => "a known price",
        })
    }
}

/// Why a call is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What does not suffice.
    pub cap: Cap,
    /// The largest answer that would fit, where it is worth asking for ([`ANSWER_LEAST`]).
    pub fits: Option<u32>,
    /// Whether calls under way hold what it needs: it may fit when they are settled ([`Meter::admit_when_free`]).
    pub held: bool,
    model: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cap {
            Cap::Price => write!(
                f,
                "the cost of this attempt is limited and model {:?} has no known price: give it a price in the prices file, \
                 or limit tokens, too",
                self.model
            ),
            cap => write!(f, "the budget of this attempt is used up ({cap}): finish with what there is"),
        }
    }
}

impl std::error::Error for Refused {}

/// What one attempt's calls may use and have used. Shared by everything that calls a model for it.
#[derive(Debug)]
pub struct Meter {
    caps: Usage,
    prices: Arc<Prices>,
    state: Mutex<State>,
    settled: watch::Sender<Usage>,
    kept: Option<Kept>,
}

#[derive(Debug, Default)]
struct State {
    spent: Usage,
    held: Usage,
    bill: BTreeMap<String, ModelUse>,
    /// Calls under way, at their worst.
    open: BTreeMap<u64, Call>,
    calls: u64,
    unpriced: BTreeSet<String>,
    spent_out: Option<Cap>,
}

/// What one call adds to a bill.
#[derive(Clone, Debug)]
struct Call {
    model: String,
    priced: bool,
    wire: WireUsage,
    cost_micros: u64,
}

impl Meter {
    /// A meter that holds calls to `caps` (0 = not limited; wall time is not its business).
    pub fn new(caps: Usage, prices: Arc<Prices>) -> Arc<Meter> {
        Meter::of(caps, prices, State::default(), None)
    }

    /// The same, kept in `file`. `again`: it goes on from what the file says, which is what an earlier process counted.
    ///
    /// # Errors
    /// When it is to go on and the file cannot be read.
    pub fn kept(caps: Usage, prices: Arc<Prices>, file: &Path, again: bool) -> Result<Arc<Meter>, String> {
        let mut state = State::default();
        if again {
            let before = meter_file::read(file).ok_or("what it had used before is not known any more")?;
            state.spent = before.used;
            state.bill = before.bill.into_iter().take(MODELS_MAX).map(|line| (line.model.clone(), line)).collect();
        }
        let kept = Kept::new(file);
        kept.write(&state.metered());
        Ok(Meter::of(caps, prices, state, Some(kept)))
    }

    fn of(caps: Usage, prices: Arc<Prices>, state: State, kept: Option<Kept>) -> Arc<Meter> {
        let settled = watch::Sender::new(state.spent);
        Arc::new(Meter { caps, prices, state: Mutex::new(state), settled, kept })
    }

    /// Sets the worst case of a call of `model` (`provider/name`) aside: `input` tokens sent, as estimated, and an answer of up to
    /// `max_output` tokens.
    ///
    /// # Errors
    /// When it does not fit into the caps, with the largest answer that would.
    pub fn admit(self: &Arc<Self>, model: &str, input: u64, max_output: u32) -> Result<Ticket, Refused> {
        let model: String = model.chars().take(NAME_MAX).collect();
        let price = self.prices.of(&model).copied();
        let mut state = self.lock();
        if price.is_none() {
            if self.caps.cost_micros > 0 && self.caps.tokens == 0 {
                state.spent_out = Some(Cap::Price);
                return Err(Refused { cap: Cap::Price, fits: None, held: false, model });
            }
            if state.unpriced.len() < MODELS_MAX && state.unpriced.insert(model.clone()) {
                tracing::warn!(
                    ?model,
                    "this model has no known price: its cost is not known, only its tokens are counted"
                );
            }
        }
        let worst = |output: u64| Usage {
            tokens: input.saturating_add(output),
            cost_micros: price.map_or(0, |p| p.worst(input, output)),
            wall_ms: 0,
            turns: 1,
        };
        let wanted = worst(u64::from(max_output));
        let used = state.spent.plus(state.held);
        if let Some(cap) = self.passed(used.plus(wanted)) {
            let held = self.passed(state.spent.plus(wanted)).is_none();
            // The largest answer that fits: all amounts grow with it, so halving finds it.
            let fits = |output: u32| self.passed(used.plus(worst(u64::from(output)))).is_none();
            let fits = largest(max_output, fits).filter(|most| *most >= ANSWER_LEAST);
            if !held && fits.is_none() {
                state.spent_out = Some(cap);
            }
            return Err(Refused { cap, fits, held, model });
        }
        state.held = state.held.plus(wanted);
        state.calls += 1;
        let number = state.calls;
        let ticket =
            Ticket { meter: self.clone(), number, model, price, reserved: wanted, input, max_output, open: true };
        let (wire, cost_micros) = ticket.worst();
        state.open.insert(number, ticket.call(wire, cost_micros));
        self.keep(&state);
        Ok(ticket)
    }

    /// [`Meter::admit`], but waits while calls under way hold what this one needs.
    ///
    /// # Errors
    /// As [`Meter::admit`], once nothing under way can change it.
    pub async fn admit_when_free(
        self: &Arc<Self>,
        model: &str,
        input: u64,
        max_output: u32,
    ) -> Result<Ticket, Refused> {
        let mut settled = self.settled.subscribe();
        loop {
            settled.mark_unchanged();
            match self.admit(model, input, max_output) {
                Err(refused) if refused.held => {}
                known => return known,
            }
            if settled.changed().await.is_err() {
                return self.admit(model, input, max_output);
            }
        }
    }

    /// Notes that a call was given up because of `cap`: for callers that were offered a shorter answer and could not take it.
    pub fn gave_up(&self, cap: Cap) {
        self.lock().spent_out = Some(cap);
    }

    /// What was used so far: settled calls only. `turns` are calls, `cost_micros` is of priced models only.
    pub fn usage(&self) -> Usage {
        self.lock().spent
    }

    /// What was used for which model.
    pub fn bill(&self) -> Vec<ModelUse> {
        self.lock().bill.values().cloned().collect()
    }

    /// What ran out, if a call was refused for it.
    pub fn spent_out(&self) -> Option<Cap> {
        self.lock().spent_out
    }

    /// What was used, told again after each settled call: for those who show it.
    pub fn watch(&self) -> watch::Receiver<Usage> {
        self.settled.subscribe()
    }

    /// Waits until no call is under way.
    pub async fn at_rest(&self) {
        let mut settled = self.settled.subscribe();
        while self.lock().held.turns > 0 && settled.changed().await.is_ok() {}
    }

    /// Settled and set aside together.
    pub fn committed(&self) -> Usage {
        let state = self.lock();
        state.spent.plus(state.held)
    }

    /// Which cap an amount passes.
    fn passed(&self, amount: Usage) -> Option<Cap> {
        let over = |cap: u64, amount: u64| cap > 0 && amount > cap;
        if over(self.caps.turns, amount.turns) {
            Some(Cap::Turns)
        } else if over(self.caps.tokens, amount.tokens) {
            Some(Cap::Tokens)
        } else if over(self.caps.cost_micros, amount.cost_micros) {
            Some(Cap::Cost)
        } else {
            None
        }
    }

    /// Writes it down, so that the file is never behind what was let go.
    fn keep(&self, state: &State) {
        if let Some(kept) = &self.kept {
            kept.write(&state.metered());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves the amounts consistent: a panic elsewhere must not stop the counting.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a reservation: charges `used`, or nothing at all when the call was never made.
    fn close(&self, ticket: &Ticket, used: Option<(WireUsage, u64)>) {
        let mut state = self.lock();
        let held = &mut state.held;
        held.tokens = held.tokens.saturating_sub(ticket.reserved.tokens);
        held.cost_micros = held.cost_micros.saturating_sub(ticket.reserved.cost_micros);
        held.turns = held.turns.saturating_sub(ticket.reserved.turns);
        state.open.remove(&ticket.number);
        if let Some((wire, cost_micros)) = used {
            let tokens = wire.input.saturating_add(wire.output);
            state.spent = state.spent.plus(Usage { tokens, cost_micros, wall_ms: 0, turns: 1 });
            add(&mut state.bill, &ticket.call(wire, cost_micros));
        }
        self.keep(&state);
        let spent = state.spent;
        drop(state);
        self.settled.send_replace(spent);
    }
}

impl State {
    /// All of it, as if every call under way came to its worst.
    fn metered(&self) -> Metered {
        let mut bill = self.bill.clone();
        self.open.values().for_each(|call| add(&mut bill, call));
        Metered { used: self.spent.plus(self.held), bill: bill.into_values().collect() }
    }
}

/// Puts a call on a bill.
fn add(bill: &mut BTreeMap<String, ModelUse>, call: &Call) {
    let known = bill.contains_key(&call.model) || bill.len() < MODELS_MAX;
    let name = if known { call.model.as_str() } else { "other/models" };
    let fresh = || ModelUse { model: name.to_owned(), priced: true, ..ModelUse::default() };
    let line = bill.entry(name.to_owned()).or_insert_with(fresh);
    for (sum, more) in [
        (&mut line.calls, 1),
        (&mut line.input, call.wire.input),
        (&mut line.cached, call.wire.cached),
        (&mut line.cache_written, call.wire.cache_written),
        (&mut line.output, call.wire.output),
        (&mut line.reasoning, call.wire.reasoning),
        (&mut line.cost_micros, call.cost_micros),
    ] {
        *sum = sum.saturating_add(more);
    }
    line.priced &= call.priced;
}

/// The largest number up to `most` for which `fits` holds, where it holds for all smaller ones, too.
fn largest(most: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if !fits(0) {
        return None;
    }
    let (mut good, mut bad) = (0, most);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// A call that was let through. Dropped unsettled, it counts as its worst case.
#[derive(Debug)]
#[must_use = "a dropped ticket is charged in full"]
pub struct Ticket {
    meter: Arc<Meter>,
    number: u64,
    model: String,
    price: Option<Price>,
    reserved: Usage,
    input: u64,
    max_output: u32,
    open: bool,
}

impl Ticket {
    /// Settles by what the provider told. No usage at all, and usage that cannot be, count as the worst case.
    pub fn settle(mut self, wire: WireUsage) {
        self.open = false;
        let tokens = wire.input.saturating_add(wire.output);
        let most = self.reserved.tokens.saturating_mul(ABSURD_TIMES);
        let told = tokens > 0 && tokens <= most && tokens <= ABSURD_TOKENS;
        let used = if told { self.priced(wire) } else { self.worst() };
        self.meter.close(&self, Some(used));
    }

    /// Gives the reservation back: the provider never took the call (no connection, or refused before any work).
    pub fn release(mut self) {
        self.open = false;
        self.meter.close(&self, None);
    }

    /// The longest answer this call was let through with.
    pub fn max_output(&self) -> u32 {
        self.max_output
    }

    fn call(&self, wire: WireUsage, cost_micros: u64) -> Call {
        Call { model: self.model.clone(), priced: self.price.is_some(), wire, cost_micros }
    }

    fn priced(&self, wire: WireUsage) -> (WireUsage, u64) {
        let cached = wire.cached.min(wire.input);
        let cache_written = wire.cache_written.min(wire.input - cached);
        let wire = WireUsage { cached, cache_written, reasoning: wire.reasoning.min(wire.output), ..wire };
        (wire, self.price.map_or(0, |p| p.of(&wire)))
    }

    fn worst(&self) -> (WireUsage, u64) {
        let wire = WireUsage { input: self.input, output: u64::from(self.max_output), ..WireUsage::default() };
        (wire, self.reserved.cost_micros)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            let worst = self.worst();
            self.meter.close(self, Some(worst));
        }
    }
}
