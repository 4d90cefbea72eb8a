//! The usage meter of one attempt: reserves the worst case of a model call before it is made, and settles it with the
//! reported usage.
//!
//! A meter with a file writes to it before a call is sent and after it is settled, so that the usage of an attempt is
//! known even if the process is killed. Calls in flight count in the file as their worst case.
//!
//! Invariant: at the moment a call is admitted, spent and reserved usage together never exceed a cap.

use super::meter_file::{self, MeterFile};
pub use super::prices::WireUsage;
use super::prices::{Price, Prices};
use crate::domain::{BudgetKind, Metered, ModelUse, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Smallest output limit worth offering; a shorter answer is of no use.
pub const MIN_OUTPUT_TOKENS: u32 = 256;
/// Reported usage of more than this many times the reservation is wrong, and counts as not reported.
const ABSURD_FACTOR: u64 = 20;
/// Upper bounds of the tokens and of the cost of one call, in micro-USD. A report above them counts as not reported.
const ABSURD_TOKENS: u64 = 10_000_000_000;
const ABSURD_COST: u64 = 1_000_000_000;
/// Maximum number of models listed individually. An agent that makes up names gets all others in one entry.
const MODELS_MAX: usize = 64;
/// Maximum number of characters kept of a model name.
const NAME_MAX: usize = 128;

/// A limit that an attempt can exhaust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Input and output tokens.
    Tokens,
    /// Money.
    Cost,
    /// Model calls.
    Turns,
    /// Cost is capped and the model has no price, so that the cap cannot be enforced.
    Price,
}

impl Cap {
    /// Returns the budget the cap belongs to; `None` for [`Cap::Price`], which is a missing price.
    pub fn budget(self) -> Option<BudgetKind> {
        match self {
            Cap::Tokens => Some(BudgetKind::Tokens),
            Cap::Cost => Some(BudgetKind::Cost),
            Cap::Turns => Some(BudgetKind::Turns),
            Cap::Price => None,
        }
    }
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

/// Why a call is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionError {
    /// The cap that would be exceeded.
    pub cap: Cap,
    /// The largest output limit that would fit, if it is worth requesting ([`MIN_OUTPUT_TOKENS`]).
    pub fits: Option<u32>,
    /// Whether calls in flight reserve what it needs, so that it may fit once they are settled
    /// ([`Meter::admit_when_free`]).
    pub may_fit_later: bool,
    model: String,
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cap {
            Cap::Price => write!(
                f,
                "the cost of this attempt is limited and model {:?} has no known price: add a price to the prices file, \
                 or set a token limit",
                self.model
            ),
            cap => write!(f, "the budget of this attempt is exhausted ({cap}): finish with what you have"),
        }
    }
}

impl std::error::Error for AdmissionError {}

/// Caps and usage of one attempt's calls. Shared by everything that calls a model for it.
#[derive(Debug)]
pub struct Meter {
    caps: Usage,
    prices: Arc<Prices>,
    state: Mutex<State>,
    settled: watch::Sender<Usage>,
    file: Option<MeterFile>,
}

#[derive(Debug, Default)]
struct State {
    spent: Usage,
    reserved: Usage,
    usage_by_model: BTreeMap<String, ModelUse>,
    /// Worst cases of the calls in flight.
    in_flight: BTreeMap<u64, Call>,
    calls: u64,
    unpriced: BTreeSet<String>,
    exhausted_cap: Option<Cap>,
}

/// Usage of one call.
#[derive(Clone, Debug)]
struct Call {
    model: String,
    priced: bool,
    wire: WireUsage,
    cost_micros: u64,
}

impl Meter {
    /// Creates a meter that enforces `caps` (0 = unlimited; it does not measure wall time).
    pub fn new(caps: Usage, prices: Arc<Prices>) -> Arc<Meter> {
        Meter::of(caps, prices, State::default(), None)
    }

    /// Creates a meter that is stored in `file`. `resume`: it continues from the content of the file, which an earlier
    /// process has counted.
    ///
    /// # Errors
    /// When it should resume and the file cannot be read.
    pub fn with_file(caps: Usage, prices: Arc<Prices>, file: &Path, resume: bool) -> Result<Arc<Meter>, String> {
        let mut state = State::default();
        if resume {
            let before = meter_file::read(file).ok_or("its earlier usage is unknown")?;
            state.spent = before.used;
            state.usage_by_model =
                before.usage_by_model.into_iter().take(MODELS_MAX).map(|line| (line.model.clone(), line)).collect();
        }
        let file = MeterFile::new(file);
        file.write(&state.metered());
        Ok(Meter::of(caps, prices, state, Some(file)))
    }

    fn of(caps: Usage, prices: Arc<Prices>, state: State, file: Option<MeterFile>) -> Arc<Meter> {
        let settled = watch::Sender::new(state.spent);
        Arc::new(Meter { caps, prices, state: Mutex::new(state), settled, file })
    }

    /// Reserves the worst case of a call of `model` (`provider/name`): `input` tokens sent, as estimated, and up to
    /// `max_output_tokens` output tokens.
    ///
    /// # Errors
    /// When it does not fit into the caps; the error contains the largest output limit that would.
    pub fn admit(self: &Arc<Self>, model: &str, input: u64, max_output_tokens: u32) -> Result<Ticket, AdmissionError> {
        let model: String = model.chars().take(NAME_MAX).collect();
        let price = self.prices.of(&model).copied();
        let is_reported = self.prices.is_reported(&model);
        let mut state = self.lock();
        if price.is_none() && !is_reported {
            if self.caps.cost_micros > 0 && self.caps.tokens == 0 {
                state.exhausted_cap = Some(Cap::Price);
                return Err(AdmissionError { cap: Cap::Price, fits: None, may_fit_later: false, model });
            }
            if state.unpriced.len() < MODELS_MAX && state.unpriced.insert(model.clone()) {
                tracing::warn!(
                    ?model,
                    "this model has no known price: only its tokens are counted, its cost is unknown"
                );
            }
        }
        let used = state.spent.plus(state.reserved);
        // A cost that is known only afterwards reserves what is left, so that such calls are made one by one.
        let rest = match self.caps.cost_micros {
            0 => 0,
            cap => cap.saturating_sub(used.cost_micros).max(1),
        };
        let unknown_cost = if is_reported { rest } else { 0 };
        let worst = |output: u64| Usage {
            tokens: input.saturating_add(output),
            cost_micros: price.map_or(unknown_cost, |p| p.worst(input, output)),
            wall_ms: 0,
            turns: 1,
        };
        let requested = worst(u64::from(max_output_tokens));
        if let Some(cap) = self.exceeded(used.plus(requested)) {
            let may_fit_later = self.exceeded(state.spent.plus(requested)).is_none();
            // All amounts grow with the output, so a binary search finds the largest that fits.
            let fits = |output: u32| self.exceeded(used.plus(worst(u64::from(output)))).is_none();
            let fits = largest(max_output_tokens, fits).filter(|max| *max >= MIN_OUTPUT_TOKENS);
            if !may_fit_later && fits.is_none() {
                state.exhausted_cap = Some(cap);
            }
            return Err(AdmissionError { cap, fits, may_fit_later, model });
        }
        state.reserved = state.reserved.plus(requested);
        state.calls += 1;
        let number = state.calls;
        let ticket = Ticket {
            meter: self.clone(),
            number,
            model,
            price,
            reserved: requested,
            input,
            max_output_tokens,
            in_flight: true,
        };
        state.in_flight.insert(number, ticket.worst());
        self.save(&state);
        Ok(ticket)
    }

    /// Like [`Meter::admit`], but waits while calls in flight reserve what this one needs.
    ///
    /// # Errors
    /// As for [`Meter::admit`], once no call in flight can change the result.
    pub async fn admit_when_free(
        self: &Arc<Self>,
        model: &str,
        input: u64,
        max_output_tokens: u32,
    ) -> Result<Ticket, AdmissionError> {
        let mut settled = self.settled.subscribe();
        loop {
            settled.mark_unchanged();
            match self.admit(model, input, max_output_tokens) {
                Err(error) if error.may_fit_later => {}
                other => return other,
            }
            if settled.changed().await.is_err() {
                return self.admit(model, input, max_output_tokens);
            }
        }
    }

    /// Records that a call was abandoned because of `cap`, for callers that could not use the smaller output limit
    /// they were offered.
    pub fn mark_exhausted(&self, cap: Cap) {
        self.lock().exhausted_cap = Some(cap);
    }

    /// Returns the usage of settled calls so far. `turns` counts calls; `cost_micros` covers models with a price only.
    pub fn usage(&self) -> Usage {
        self.lock().spent
    }

    /// Returns the usage by model.
    pub fn usage_by_model(&self) -> Vec<ModelUse> {
        self.lock().usage_by_model.values().cloned().collect()
    }

    /// Returns the cap that ran out, if a call was rejected for it.
    pub fn exhausted_cap(&self) -> Option<Cap> {
        self.lock().exhausted_cap
    }

    /// Subscribes to the usage; it is sent after each settled call, for display.
    pub fn watch(&self) -> watch::Receiver<Usage> {
        self.settled.subscribe()
    }

    /// Waits until no call is in flight.
    pub async fn wait_until_idle(&self) {
        let mut settled = self.settled.subscribe();
        while self.lock().reserved.turns > 0 && settled.changed().await.is_ok() {}
    }

    /// Returns spent and reserved usage together.
    pub fn committed(&self) -> Usage {
        let state = self.lock();
        state.spent.plus(state.reserved)
    }

    /// Returns the cap that an amount exceeds.
    fn exceeded(&self, amount: Usage) -> Option<Cap> {
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

    /// Writes the state to the file, so that the file never lags behind the calls that were admitted.
    fn save(&self, state: &State) {
        if let Some(file) = &self.file {
            file.write(&state.metered());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the amounts consistent: a panic elsewhere must not stop the counting.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a reservation: charges `used`, or nothing if the call was never made.
    fn close(&self, ticket: &Ticket, used: Option<Call>) {
        let mut state = self.lock();
        let reserved = &mut state.reserved;
        reserved.tokens = reserved.tokens.saturating_sub(ticket.reserved.tokens);
        reserved.cost_micros = reserved.cost_micros.saturating_sub(ticket.reserved.cost_micros);
        reserved.turns = reserved.turns.saturating_sub(ticket.reserved.turns);
        state.in_flight.remove(&ticket.number);
        if let Some(call) = used {
            let tokens = call.wire.input.saturating_add(call.wire.output);
            state.spent = state.spent.plus(Usage { tokens, cost_micros: call.cost_micros, wall_ms: 0, turns: 1 });
            add(&mut state.usage_by_model, &call);
        }
        self.save(&state);
        let spent = state.spent;
        drop(state);
        self.settled.send_replace(spent);
    }
}

impl State {
    /// Returns the complete usage, as if every call in flight reached its worst case.
    fn metered(&self) -> Metered {
        let mut usage_by_model = self.usage_by_model.clone();
        self.in_flight.values().for_each(|call| add(&mut usage_by_model, call));
        Metered { used: self.spent.plus(self.reserved), usage_by_model: usage_by_model.into_values().collect() }
    }
}

/// Adds a call to the usage by model.
fn add(usage_by_model: &mut BTreeMap<String, ModelUse>, call: &Call) {
    let known = usage_by_model.contains_key(&call.model) || usage_by_model.len() < MODELS_MAX;
    let name = if known { call.model.as_str() } else { "other/models" };
    let fresh = || ModelUse { model: name.to_owned(), priced: true, ..ModelUse::default() };
    let line = usage_by_model.entry(name.to_owned()).or_insert_with(fresh);
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

/// Returns the largest number up to `max` for which `fits` holds, given that it holds for all smaller ones, too.
fn largest(max: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if !fits(0) {
        return None;
    }
    let (mut good, mut bad) = (0, max);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// Ticket of an admitted call. If it is dropped unsettled, the worst case is charged.
#[derive(Debug)]
#[must_use = "a dropped ticket is charged in full"]
pub struct Ticket {
    meter: Arc<Meter>,
    number: u64,
    model: String,
    price: Option<Price>,
    reserved: Usage,
    input: u64,
    max_output_tokens: u32,
    in_flight: bool,
}

impl Ticket {
    /// Settles the call with the reported usage. Missing or impossible usage counts as the worst case.
    pub fn settle(mut self, wire: WireUsage) {
        self.in_flight = false;
        let tokens = wire.input.saturating_add(wire.output);
        let plausible = self.reserved.tokens.saturating_mul(ABSURD_FACTOR);
        let is_credible = tokens > 0 && tokens <= plausible && tokens <= ABSURD_TOKENS;
        let used = if is_credible { self.priced(wire) } else { self.worst() };
        self.meter.close(&self, Some(used));
    }

    /// Releases the reservation: the provider never accepted the call (no connection, or rejected before any work).
    pub fn release(mut self) {
        self.in_flight = false;
        self.meter.close(&self, None);
    }

    /// Returns the output limit the call was admitted with.
    pub fn max_output_tokens(&self) -> u32 {
        self.max_output_tokens
    }

    fn call(&self, wire: WireUsage, cost_micros: Option<u64>) -> Call {
        let (model, priced) = (self.model.clone(), cost_micros.is_some());
        Call { model, priced, wire, cost_micros: cost_micros.unwrap_or(0) }
    }

    fn priced(&self, wire: WireUsage) -> Call {
        let cached = wire.cached.min(wire.input);
        let cache_written = wire.cache_written.min(wire.input - cached);
        let wire = WireUsage { cached, cache_written, reasoning: wire.reasoning.min(wire.output), ..wire };
        let by_tokens = self.price.map(|price| price.of(&wire));
        // What the provider charges is exact, unless it is absurd.
        let plausible = self.price.map_or(ABSURD_COST, |_| self.reserved.cost_micros.saturating_mul(ABSURD_FACTOR));
        match wire.cost_micros.filter(|cost| *cost <= plausible).or(by_tokens) {
            Some(cost) => self.call(wire, Some(cost)),
            None => self.call(wire, self.unreported_cost()),
        }
    }

    fn worst(&self) -> Call {
        let wire = WireUsage { input: self.input, output: u64::from(self.max_output_tokens), ..WireUsage::default() };
        self.call(wire, self.price.map(|_| self.reserved.cost_micros).or(self.unreported_cost()))
    }

    /// Returns the charge for a cost that should have been reported: what was reserved for it. `None` = unknown.
    fn unreported_cost(&self) -> Option<u64> {
        Some(self.reserved.cost_micros).filter(|cost| self.price.is_none() && *cost > 0)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.in_flight {
            let worst = self.worst();
            self.meter.close(self, Some(worst));
        }
    }
}
