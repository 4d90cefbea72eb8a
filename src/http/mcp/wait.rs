//! Waiting for a run, with a notification of progress for each of its events.
//!
//! A wait is resumable because it begins where the caller's `seq` says: what was missed is the answer.

use super::arguments::{Until, WaitForRun};
use super::call::Call;
use super::form::event_words;
use super::results::clean;
use super::tools::CallError;
use crate::domain::Run;
use crate::ports::journal::JournalRow;
use crate::service::watch::{self, Seen};
use crate::service::{ServiceError, runs};
use rmcp::model::ProgressNotificationParam;
use std::time::Duration;

/// The wait if the caller names none: clients give up on a call after a minute or two.
const WAIT: Duration = Duration::from_secs(25);
/// Events before a wait that are reported at most.
const MAX_REPORTED: u64 = 100;
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Waits until a run has moved as asked, the time is over or the caller has left, and returns it as it is then.
///
/// # Errors
/// `busy` if as many callers wait as may, and those of reading the run.
pub async fn wait_for_run(call: &Call<'_>, wait: WaitForRun) -> Result<Run, CallError> {
    let WaitForRun { run: id, seq, until, seconds } = wait;
    let is_over = |run: &Run| {
        let moved = run.seq > seq;
        run.ended() || moved && (until == Until::Change || !run.blocks.is_empty())
    };
    let show = || runs::show(call.services, call.caller, &id);
    let mut run = show().await?;
    // What was missed is reported first, however long ago it happened.
    let mut reported = seq.max(run.seq.saturating_sub(MAX_REPORTED)).min(run.seq);
    if call.request.meta.get_progress_token().is_some() {
        for row in runs::events(call.services, call.caller, &id, reported, Some(MAX_REPORTED)).await? {
            report(call, &row).await;
            reported = row.seq;
        }
    }
    if is_over(&run) {
        return Ok(run);
    }
    let _permit = call.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many callers wait as server.max_streams allows";
        let error = ServiceError::unavailable(detail, "Call get_run after a while instead of waiting");
        ServiceError { code: "busy", ..error }
    })?;
    let longest = seconds.map_or(WAIT, Duration::from_secs).min(MAX_WAIT);
    let mut watch = watch::watch(call.services, call.caller, &id, reported.max(run.seq)).await?;
    let moved = async {
        while let Some(seen) = watch.next().await {
            match seen {
                Seen::Row(row) => {
                    report(call, &row).await;
                    run = show().await?;
                    if is_over(&run) {
                        break;
                    }
                }
                Seen::End { .. } => break,
                Seen::Output { .. } | Seen::CheckOutput { .. } => {}
            }
        }
        Ok::<(), ServiceError>(())
    };
    tokio::select! {
        moved = moved => moved?,
        () = tokio::time::sleep(longest) => {}
        () = call.request.ct.cancelled() => {}
    }
    Ok(show().await?)
}

/// Notifies the caller of an event, if it asked for progress.
async fn report(call: &Call<'_>, row: &JournalRow) {
    let Some(token) = call.request.meta.get_progress_token() else { return };
    let message = clean(&event_words(row));
    // Numbers of events are far below 2^53.
    let progress = ProgressNotificationParam::new(token, row.seq as f64).with_message(message);
    // A caller that has left is noticed by the cancellation.
    let _sent = call.request.peer.notify_progress(progress).await;
}
