//! Rate limits of providers: concurrency, requests per minute, and cooldowns. One set for the whole process.

use crate::domain::Timestamp;
use crate::ports::Clock;
use crate::providers::settings::Provider;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// A cooldown that ends within this time is waited for; a longer one is returned to the caller.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Maximum number of models with a stored cooldown, by provider.
const COOLDOWNS_MAX: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);

/// Rate limits of all providers, shared by everything that calls one.
#[derive(Clone)]
pub struct RateLimits {
    clock: Arc<dyn Clock>,
    all: Arc<Mutex<BTreeMap<String, Arc<RateLimiter>>>>,
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimits")
    }
}

impl RateLimits {
    /// Creates the limits, without any provider yet.
    pub fn new(clock: Arc<dyn Clock>) -> RateLimits {
        RateLimits { clock, all: Arc::default() }
    }

    /// Adopts new limits of a provider for calls from now on; calls in flight keep their permits.
    pub fn adopt(&self, provider: &Provider) {
        self.for_provider(provider).adopt(provider);
    }

    /// Returns the limiter of a provider: one for each name. Its limits are those adopted last, so that an attempt that
    /// started with an older configuration does not restore the older limits.
    pub fn for_provider(&self, provider: &Provider) -> Arc<RateLimiter> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(RateLimiter::new(provider, self.clock.clone()));
        all.entry(provider.name.clone()).or_insert_with(fresh).clone()
    }
}

/// Rate limiter of one provider.
pub struct RateLimiter {
    permits: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Maximum number of concurrent calls.
    concurrency: usize,
    /// Permits to remove once the calls in flight that hold them have ended.
    excess: usize,
    requests_per_minute: Option<usize>,
    /// Start times of the calls of the last minute.
    started: VecDeque<Instant>,
    /// Cooldowns by model, because most providers limit each model separately.
    cooldowns: BTreeMap<String, (Instant, Timestamp)>,
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter").field("permits", &self.permits.available_permits()).finish_non_exhaustive()
    }
}

/// Permit for one call, to be held until its response has ended.
#[derive(Debug)]
#[must_use = "the permit is released when this is dropped"]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    limiter: Arc<RateLimiter>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        if state.excess > 0
            && let Some(permit) = self.permit.take()
        {
            state.excess -= 1;
            permit.forget();
        }
    }
}

impl RateLimiter {
    fn new(provider: &Provider, clock: Arc<dyn Clock>) -> RateLimiter {
        let limiter = RateLimiter { permits: Arc::new(Semaphore::new(0)), clock, state: Mutex::default() };
        limiter.adopt(provider);
        limiter
    }

    fn adopt(&self, provider: &Provider) {
        let target = (provider.concurrency.max(1) as usize).min(Semaphore::MAX_PERMITS);
        let mut state = self.lock();
        state.requests_per_minute = provider.requests_per_minute.map(|n| n.max(1) as usize);
        if let Some(more) = target.checked_sub(state.concurrency) {
            // Keep permits that were due for removal but are still in use.
            let retained = more.min(state.excess);
            state.excess -= retained;
            self.permits.add_permits(more - retained);
        } else {
            let fewer = state.concurrency - target;
            state.excess += fewer - self.permits.forget_permits(fewer);
        }
        state.concurrency = target;
    }

    /// Waits for a permit to call `model` (its name at the provider).
    ///
    /// # Errors
    /// When the model's cooldown lasts longer than a minute: its end.
    pub async fn acquire(self: &Arc<Self>, model: &str) -> Result<Permit, Timestamp> {
        self.wait_for_cooldown(model).await?;
        // The semaphore is never closed; without a permit the call would only be less limited.
        let permit = self.permits.clone().acquire_owned().await.ok();
        loop {
            // The previous call may have started a cooldown.
            self.wait_for_cooldown(model).await?;
            match self.start_call() {
                Ok(()) => return Ok(Permit { permit, limiter: self.clone() }),
                Err(free) => sleep_until(free).await,
            }
        }
    }

    /// Starts a cooldown: the provider reported when it can be called again. The later of two times wins.
    pub fn cool_down_until(&self, model: &str, at: Timestamp) {
        let ahead = u64::try_from(at.0.saturating_sub(self.clock.now().0)).unwrap_or(0);
        let now = Instant::now();
        let Some(until) = now.checked_add(Duration::from_millis(ahead)) else { return };
        let mut state = self.lock();
        state.cooldowns.retain(|_, (until, _)| *until > now);
        if state.cooldowns.len() < COOLDOWNS_MAX || state.cooldowns.contains_key(model) {
            let cooldown = state.cooldowns.entry(model.to_owned()).or_insert((until, at));
            *cooldown = (*cooldown).max((until, at));
        }
    }

    /// Returns when a model's cooldown ends.
    pub fn cooldown_until(&self, model: &str) -> Option<Timestamp> {
        let now = Instant::now();
        self.lock().cooldowns.get(model).filter(|(until, _)| *until > now).map(|(_, at)| *at)
    }

    async fn wait_for_cooldown(&self, model: &str) -> Result<(), Timestamp> {
        loop {
            let cooldown = self.lock().cooldowns.get(model).copied();
            match cooldown {
                Some((until, at)) if until > Instant::now() + MAX_WAIT => return Err(at),
                Some((until, _)) if until > Instant::now() => sleep_until(until).await,
                _ => return Ok(()),
            }
        }
    }

    /// Counts a call that starts now, or returns when the next one may start.
    fn start_call(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(max) = state.requests_per_minute else { return Ok(()) };
        while state.started.front().is_some_and(|began| *began + MINUTE <= now) {
            state.started.pop_front();
        }
        match state.started.front() {
            Some(oldest) if state.started.len() >= max => Err(*oldest + MINUTE),
            _ => {
                state.started.push_back(now);
                Ok(())
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;
    use crate::providers::settings::Api;
    use tokio::time::timeout;

    /// Clock that stands still: cooldowns run on tokio's paused time.
    #[derive(Debug)]
    struct FixedClock;

    impl Clock for FixedClock {
        fn now(&self) -> Timestamp {
            Timestamp(1_795_176_000_000)
        }
        fn new_run_id(&self) -> RunId {
            RunId(uuid::Uuid::nil())
        }
    }

    fn provider(concurrency: u32, requests_per_minute: Option<u32>) -> Provider {
        Provider {
            name: "p".to_owned(),
            api: Api::OpenAi,
            base_url: "http://127.0.0.1:1/".to_owned(),
            key: None,
            key_source: String::new(),
            concurrency,
            requests_per_minute,
            idle_timeout: Duration::from_secs(1),
            context_window: 1000,
            max_output_tokens: 100,
        }
    }

    async fn at_once(limiter: &Arc<RateLimiter>, model: &str) -> Option<Result<Permit, Timestamp>> {
        timeout(Duration::from_millis(1), limiter.acquire(model)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_is_shared_by_name() {
        let limits = RateLimits::new(Arc::new(FixedClock));
        let (a, b) = (limits.for_provider(&provider(2, None)), limits.clone().for_provider(&provider(9, None)));
        let first = at_once(&a, "m").await.unwrap().unwrap();
        let _second = at_once(&b, "m").await.unwrap().unwrap();
        assert!(at_once(&a, "m").await.is_none() && at_once(&b, "m").await.is_none());
        drop(first);
        assert!(at_once(&b, "m").await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn adopted_limits_apply_to_later_calls() {
        let limits = RateLimits::new(Arc::new(FixedClock));
        let limiter = limits.for_provider(&provider(3, None));
        let mut in_flight = Vec::new();
        for _ in 0..3 {
            in_flight.push(at_once(&limiter, "m").await.unwrap().unwrap());
        }
        limits.adopt(&provider(1, Some(1)));
        limits.for_provider(&provider(3, None));
        for _ in 0..2 {
            in_flight.pop();
            assert!(at_once(&limiter, "m").await.is_none(), "more calls in flight than permits");
        }
        in_flight.pop();
        let last = at_once(&limiter, "m").await.unwrap().unwrap();
        assert!(at_once(&limiter, "m").await.is_none());
        drop(last);
        assert!(at_once(&limiter, "m").await.is_none(), "one a minute");
        // Raise the limit while a permit that is due for removal is still in use.
        limits.adopt(&provider(2, None));
        let two = [at_once(&limiter, "m").await.unwrap().unwrap(), at_once(&limiter, "m").await.unwrap().unwrap()];
        limits.adopt(&provider(1, None));
        limits.adopt(&provider(2, None));
        assert!(at_once(&limiter, "m").await.is_none());
        drop(two);
        let _two = [at_once(&limiter, "m").await.unwrap().unwrap(), at_once(&limiter, "m").await.unwrap().unwrap()];
        assert!(at_once(&limiter, "m").await.is_none(), "no permit was created");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_per_minute_are_limited() {
        let limiter = RateLimits::new(Arc::new(FixedClock)).for_provider(&provider(100, Some(3)));
        let began = Instant::now();
        for _ in 0..7 {
            let _permit = limiter.acquire("m").await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), 120, "three, three, and one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_cooldown_is_waited_for_and_a_long_one_is_returned() {
        let clock = Arc::new(FixedClock);
        let limiter = RateLimits::new(clock.clone()).for_provider(&provider(1, None));
        let began = Instant::now();
        limiter.cool_down_until("m", clock.now().plus_secs(20));
        limiter.cool_down_until("m", clock.now().plus_secs(2));
        assert!(at_once(&limiter, "other").await.unwrap().is_ok(), "a model of its own");
        assert!(limiter.acquire("m").await.is_ok());
        assert!((19..=20).contains(&began.elapsed().as_secs()));
        let later = clock.now().plus_secs(3600);
        limiter.cool_down_until("m", later);
        assert_eq!(limiter.acquire("m").await.unwrap_err(), later);
        assert_eq!(limiter.cooldown_until("m"), Some(later));
        assert_eq!(limiter.cooldown_until("other"), None);
    }
}
