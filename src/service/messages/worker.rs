//! Looks for runs that may need a message, and delivers. One per service.

use super::digest::DayOfRuns;
use super::personal::Created;
use super::{deliver, plan};
use crate::domain::{Day, MessageEvent, RunId, Timestamp};
use crate::ports::messages::Channel;
use crate::ports::run_index::RunFilter;
use crate::ports::{PortError, PortResult};
use crate::service::Services;
use crate::service::moved_runs::MovedRuns;
use futures::future::join_all;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait of the worker; everything it waits for also wakes it.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often every run that may need a message is looked at.
const COMPARE_ALL: Duration = Duration::from_secs(60);
/// Runs that are looked at in one pass, of each sort.
const MAX_RUNS: u64 = 1_000;
/// How far back ended runs are looked for after a start, in seconds.
const ENDED_SECS: u64 = 24 * 3_600;
/// How long settled messages are remembered, in seconds. Whoever has not answered by then is reminded once more.
const REMEMBER_SECS: u64 = 90 * 24 * 3_600;
/// Keys that are remembered in memory, to spare the store.
const MAX_KNOWN: usize = 50_000;

/// What the worker remembers between its passes.
#[derive(Default)]
pub struct Progress {
    moved: BTreeSet<RunId>,
    compared: Option<Instant>,
    /// The channels, each with the time from which it gets messages.
    channels: Vec<(Timestamp, Arc<dyn Channel>)>,
    /// When each configured channel became known.
    since: BTreeMap<String, Timestamp>,
    /// The channels of people.
    personal: Created,
    /// Until when a channel is left alone.
    paused: BTreeMap<String, Timestamp>,
    /// When a message becomes due by itself.
    next: Option<Timestamp>,
    /// Ended runs before this moment were looked at.
    ended_before: Option<Timestamp>,
    /// The last day of each channel that was looked at, by its end.
    days: BTreeMap<String, Timestamp>,
    /// Messages that are known to be in the outbox.
    known: HashSet<(String, String)>,
}

/// Plans and delivers messages until the process ends.
pub async fn run(s: Services) {
    let mut moved = MovedRuns::new(&s.notifications);
    let mut progress = Progress::default();
    loop {
        let wait = match pass(&s, &mut progress).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "messages are delayed; they are tried again");
                progress.compared = None;
                MAX_WAIT
            }
        };
        tokio::select! {
            () = moved.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
        match moved.take() {
            Some(runs) => progress.moved.extend(runs),
            None => progress.compared = None,
        }
    }
}

/// Plans what is due and delivers it. Returns how long nothing is due.
///
/// # Errors
/// If the store cannot be used.
pub async fn pass(s: &Services, progress: &mut Progress) -> PortResult<Duration> {
    let now = s.clock.now();
    progress.channels = channels(s, progress, now).await?;
    if progress.channels.is_empty() {
        progress.moved.clear();
        return Ok(MAX_WAIT);
    }
    plan_all(s, progress, now).await?;
    let is_ready = |channel: &&Arc<dyn Channel>| progress.paused.get(channel.name()).is_none_or(|at| *at <= now);
    let ready = progress.channels.iter().map(|(_, channel)| channel).filter(is_ready);
    // Side by side: a channel that does not answer delays no other.
    let delivered = join_all(ready.map(async |channel| (channel.name(), deliver::deliver(s, &**channel).await))).await;
    for (name, result) in delivered {
        match result? {
            Some(until) => progress.paused.insert(name.to_owned(), until),
            None => progress.paused.remove(name),
        };
    }
    let mut next = progress.next;
    for (_, channel) in &progress.channels {
        let due = s.messages.next_due(channel.name()).await?;
        // What is due on a channel that is left alone waits for it.
        let paused = progress.paused.get(channel.name()).copied();
        next = next.into_iter().chain(due.map(|at| paused.map_or(at, |paused| at.max(paused)))).min();
    }
    let now = s.clock.now();
    let until_next = next.map(|at| Duration::from_millis(u64::try_from(at.0 - now.0).unwrap_or(0).max(50)));
    Ok(until_next.unwrap_or(MAX_WAIT).min(MAX_WAIT))
}

/// Returns all channels: those of the configuration, and those of people.
async fn channels(
    s: &Services,
    progress: &mut Progress,
    now: Timestamp,
) -> PortResult<Vec<(Timestamp, Arc<dyn Channel>)>> {
    let mut all = Vec::new();
    for channel in s.channels.iter() {
        let since = match progress.since.get(channel.name()) {
            Some(since) => *since,
            None => {
                let since = s.messages.known_since(channel.name(), now).await?;
                progress.since.insert(channel.name().to_owned(), since);
                since
            }
        };
        all.push((since, channel.clone()));
    }
    all.extend(progress.personal.all(s).await?);
    Ok(all)
}

/// Writes the messages that are due to the outbox.
async fn plan_all(s: &Services, progress: &mut Progress, now: Timestamp) -> PortResult<()> {
    let is_due = progress.next.is_some_and(|at| at <= now);
    let is_first = progress.compared.is_none();
    let is_everything = is_due || progress.compared.is_none_or(|at| at.elapsed() >= COMPARE_ALL);
    let mut runs: BTreeMap<RunId, Option<Timestamp>> = progress.moved.iter().map(|run| (*run, None)).collect();
    if is_everything {
        progress.next = None;
        runs.extend(s.store.asking(MAX_RUNS).await?.into_iter().map(|(run, _)| (run, None)));
        let from = progress.ended_before.unwrap_or(Timestamp(now.0 - (ENDED_SECS * 1_000) as i64));
        runs.extend(s.messages.ended_since(from, MAX_RUNS).await?.into_iter().map(|(run, at)| (run, Some(at))));
        service(s, progress, now).await?;
        days(s, progress, now).await?;
    }
    if is_first {
        // Budget alerts of runs that moved before this process started.
        let filter = RunFilter { open_only: true, own_only: true, limit: MAX_RUNS, ..RunFilter::default() };
        for row in s.store.list(&filter).await? {
            runs.entry(row.run).or_default();
        }
    }
    for (id, ended_at) in &runs {
        let run = match s.store.load(*id).await {
            Ok(Some(run)) => run,
            Ok(None) | Err(PortError::Permanent { .. }) => continue,
            Err(error) => return Err(error),
        };
        // One that has just moved to its end ended now, as far as a channel is concerned.
        let ended_at = ended_at.or(run.ended().then_some(now));
        for (since, channel) in progress.channels.clone() {
            let planned = plan::of_run(&run, ended_at, channel.rules(), since, now);
            progress.next = progress.next.into_iter().chain(planned.next).min();
            for message in planned.due {
                put(s, progress, channel.name(), &message, now).await?;
            }
        }
    }
    progress.moved.clear();
    if is_everything {
        progress.compared = Some(Instant::now());
        // The clock of the database may differ a little, and a transaction takes its time.
        progress.ended_before = Some(Timestamp(now.0 - 300_000));
        s.messages.forget(Timestamp(now.0 - (REMEMBER_SECS * 1_000) as i64)).await?;
    }
    Ok(())
}

/// Plans messages about the service itself.
async fn service(s: &Services, progress: &mut Progress, now: Timestamp) -> PortResult<()> {
    let filter =
        RunFilter { status: Some("quarantined".to_owned()), own_only: true, limit: 100, ..RunFilter::default() };
    let mut messages: Vec<_> = s.store.list(&filter).await?.iter().map(plan::quarantined).collect();
    if let Some((what, fix)) = s.sandbox.broken() {
        let summary = format!("The sandbox cannot be used, so no run is admitted: {what}. {fix}.");
        messages.push(plan::broken(format!("skep.sandbox-{}.broken.1", Day::of(now)), summary, now));
    }
    for (_, channel) in progress.channels.clone() {
        for message in &messages {
            if channel.rules().wants(MessageEvent::Broken, &message.project) {
                put(s, progress, channel.name(), message, now).await?;
            }
        }
    }
    Ok(())
}

/// Plans the messages about days that ended.
async fn days(s: &Services, progress: &mut Progress, now: Timestamp) -> PortResult<()> {
    let mut read: BTreeMap<Timestamp, DayOfRuns> = BTreeMap::new();
    let wants = |channel: &Arc<dyn Channel>| channel.rules().wants(MessageEvent::Digest, "");
    for (since, channel) in progress.channels.clone().into_iter().filter(|(_, channel)| wants(channel)) {
        let (end, next) = channel.rules().digest_due(since, now);
        progress.next = progress.next.into_iter().chain([next]).min();
        let Some(end) = end.filter(|end| progress.days.get(channel.name()) != Some(end)) else { continue };
        let day = match read.entry(end) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DayOfRuns::read(s, end).await?),
        };
        if let Some(message) = day.message(channel.rules()) {
            put(s, progress, channel.name(), &message, now).await?;
        }
        progress.days.insert(channel.name().to_owned(), end);
    }
    Ok(())
}

async fn put(
    s: &Services,
    progress: &mut Progress,
    channel: &str,
    message: &crate::domain::Message,
    now: Timestamp,
) -> PortResult<()> {
    let id = (channel.to_owned(), message.key.clone());
    if progress.known.contains(&id) {
        return Ok(());
    }
    crate::fault!("before-message-stored");
    s.messages.put(channel, message, now).await?;
    crate::fault!("after-message-stored");
    if progress.known.len() >= MAX_KNOWN {
        progress.known.clear();
    }
    progress.known.insert(id);
    Ok(())
}
