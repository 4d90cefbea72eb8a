//! How often a provider is called: so many at a time, so many a minute, not while it rests. One set for the whole process.

use crate::domain::Timestamp;
use crate::ports::Clock;
use crate::providers::settings::Provider;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// A rest that is over within this time is waited for; a longer one is told to the caller.
const PATIENCE: Duration = Duration::from_secs(60);
/// Models whose rest is remembered, by provider.
const RESTS_MAX: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);

/// The limits of all providers, shared by everything that calls one.
#[derive(Clone)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    all: Arc<Mutex<BTreeMap<String, Arc<Limiter>>>>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// No provider was called yet.
    pub fn new(clock: Arc<dyn Clock>) -> Limits {
        Limits { clock, all: Arc::default() }
    }

    /// Takes the numbers of a provider over, for calls from now on; answers under way keep their places.
    pub fn adopt(&self, provider: &Provider) {
        self.of(provider).adopt(provider);
    }

    /// The limiter of a provider: the same one for the same name, whoever asks. Its numbers are those last adopted, so that an attempt
    /// that began with an older configuration does not bring that one's back.
    pub fn of(&self, provider: &Provider) -> Arc<Limiter> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Limiter::new(provider, self.clock.clone()));
        all.entry(provider.name.clone()).or_insert_with(fresh).clone()
    }
}

/// The limits of one provider.
pub struct Limiter {
    places: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Calls at a time.
    concurrency: usize,
    /// Places that are to go, once the answers under way in them have ended.
    owed: usize,
    per_minute: Option<usize>,
    /// When the calls of the last minute began.
    begun: VecDeque<Instant>,
    /// Until when a model rests: limits are by model at most providers.
    rests: BTreeMap<String, (Instant, Timestamp)>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("places", &self.places.available_permits()).finish_non_exhaustive()
    }
}

/// A place to make one call; held until its answer has ended.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Permit {
    place: Option<OwnedSemaphorePermit>,
    limiter: Arc<Limiter>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        if state.owed > 0
            && let Some(place) = self.place.take()
        {
            state.owed -= 1;
            place.forget();
        }
    }
}

impl Limiter {
    fn new(provider: &Provider, clock: Arc<dyn Clock>) -> Limiter {
        let limiter = Limiter { places: Arc::new(Semaphore::new(0)), clock, state: Mutex::default() };
        limiter.adopt(provider);
        limiter
    }

    fn adopt(&self, provider: &Provider) {
        let wanted = (provider.concurrency.max(1) as usize).min(Semaphore::MAX_PERMITS);
        let mut state = self.lock();
        state.per_minute = provider.per_minute.map(|n| n.max(1) as usize);
        if let Some(more) = wanted.checked_sub(state.concurrency) {
            // A place that is taken and was to go stays instead.
            let kept = more.min(state.owed);
            state.owed -= kept;
            self.places.add_permits(more - kept);
        } else {
            let fewer = state.concurrency - wanted;
            state.owed += fewer - self.places.forget_permits(fewer);
        }
        state.concurrency = wanted;
    }

    /// Waits for a place to call `model` (its name at the provider).
    ///
    /// # Errors
    /// When the model rests for more than a minute: until when.
    pub async fn acquire(self: &Arc<Self>, model: &str) -> Result<Permit, Timestamp> {
        self.rested(model).await?;
        // Never closed; without a place it would only be less limited.
        let place = self.places.clone().acquire_owned().await.ok();
        loop {
            // It may have been sent to rest by the call before.
            self.rested(model).await?;
            match self.begin() {
                Ok(()) => return Ok(Permit { place, limiter: self.clone() }),
                Err(free) => sleep_until(free).await,
            }
        }
    }

    /// Sends a model to rest: the provider said when it can be asked again. A later moment wins over an earlier one.
    pub fn rest_until(&self, model: &str, at: Timestamp) {
        let ahead = u64::try_from(at.0.saturating_sub(self.clock.now().0)).unwrap_or(0);
        let now = Instant::now();
        let Some(until) = now.checked_add(Duration::from_millis(ahead)) else { return };
        let mut state = self.lock();
        state.rests.retain(|_, (until, _)| *until > now);
        if state.rests.len() < RESTS_MAX || state.rests.contains_key(model) {
            let rest = state.rests.entry(model.to_owned()).or_insert((until, at));
            *rest = (*rest).max((until, at));
        }
    }

    /// Until when a model rests.
    pub fn cooldowns(&self, model: &str) -> Option<Timestamp> {
        let now = Instant::now();
        self.lock().rests.get(model).filter(|(until, _)| *until > now).map(|(_, at)| *at)
    }

    async fn rested(&self, model: &str) -> Result<(), Timestamp> {
        loop {
            let rest = self.lock().rests.get(model).copied();
            match rest {
                Some((until, at)) if until > Instant::now() + PATIENCE => return Err(at),
                Some((until, _)) if until > Instant::now() => sleep_until(until).await,
                _ => return Ok(()),
            }
        }
    }

    /// Counts a call that begins now, or says when one may begin.
    fn begin(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(most) = state.per_minute else { return Ok(()) };
        while state.begun.front().is_some_and(|began| *began + MINUTE <= now) {
            state.begun.pop_front();
        }
        match state.begun.front() {
            Some(oldest) if state.begun.len() >= most => Err(*oldest + MINUTE),
            _ => {
                state.begun.push_back(now);
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
    use crate::platform::clock::SystemClock;
    use crate::providers::settings::Api;
    use tokio::time::timeout;

    fn provider(concurrency: u32, per_minute: Option<u32>) -> Provider {
        Provider {
            name: "p".to_owned(),
            api: Api::OpenAi,
            base_url: "http://127.0.0.1:1/".to_owned(),
            key: None,
            key_place: String::new(),
            concurrency,
            per_minute,
            silence: Duration::from_secs(1),
            window: 1000,
            max_output: 100,
        }
    }

    async fn at_once(limiter: &Arc<Limiter>, model: &str) -> Option<Result<Permit, Timestamp>> {
        timeout(Duration::from_millis(1), limiter.acquire(model)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_a_time_for_all_who_share_a_name() {
        let limits = Limits::new(Arc::new(SystemClock));
        let (a, b) = (limits.of(&provider(2, None)), limits.clone().of(&provider(9, None)));
        let first = at_once(&a, "m").await.unwrap().unwrap();
        let _second = at_once(&b, "m").await.unwrap().unwrap();
        assert!(at_once(&a, "m").await.is_none() && at_once(&b, "m").await.is_none());
        drop(first);
        assert!(at_once(&b, "m").await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn other_numbers_hold_for_calls_from_then_on() {
        let limits = Limits::new(Arc::new(SystemClock));
        let limiter = limits.of(&provider(3, None));
        let mut under_way = Vec::new();
        for _ in 0..3 {
            under_way.push(at_once(&limiter, "m").await.unwrap().unwrap());
        }
        limits.adopt(&provider(1, Some(1)));
        limits.of(&provider(3, None));
        for _ in 0..2 {
            under_way.pop();
            assert!(at_once(&limiter, "m").await.is_none(), "two answers more than places are under way, then one is");
        }
        under_way.pop();
        let last = at_once(&limiter, "m").await.unwrap().unwrap();
        assert!(at_once(&limiter, "m").await.is_none());
        drop(last);
        assert!(at_once(&limiter, "m").await.is_none(), "one a minute");
        // Wider again while a place that is to go is taken still.
        limits.adopt(&provider(2, None));
        let two = [at_once(&limiter, "m").await.unwrap().unwrap(), at_once(&limiter, "m").await.unwrap().unwrap()];
        limits.adopt(&provider(1, None));
        limits.adopt(&provider(2, None));
        assert!(at_once(&limiter, "m").await.is_none());
        drop(two);
        let _two = [at_once(&limiter, "m").await.unwrap().unwrap(), at_once(&limiter, "m").await.unwrap().unwrap()];
        assert!(at_once(&limiter, "m").await.is_none(), "no place was made from nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_a_minute() {
        let limiter = Limits::new(Arc::new(SystemClock)).of(&provider(100, Some(3)));
        let began = Instant::now();
        for _ in 0..7 {
            let _place = limiter.acquire("m").await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), 120, "three, three, and one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_waited_for_a_long_one_is_told() {
        let clock = Arc::new(SystemClock);
        let limiter = Limits::new(clock.clone()).of(&provider(1, None));
        let began = Instant::now();
        limiter.rest_until("m", clock.now().plus_secs(20));
        limiter.rest_until("m", clock.now().plus_secs(2));
        assert!(at_once(&limiter, "other").await.unwrap().is_ok(), "a model of its own");
        assert!(limiter.acquire("m").await.is_ok());
        assert!((19..=20).contains(&began.elapsed().as_secs()));
        let later = clock.now().plus_secs(3600);
        limiter.rest_until("m", later);
        assert_eq!(limiter.acquire("m").await.unwrap_err(), later);
        assert_eq!(limiter.cooldowns("m"), Some(later));
        assert_eq!(limiter.cooldowns("other"), None);
    }
}
