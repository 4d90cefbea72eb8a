//! What is sent again after a kill or a lost response: nothing is done twice, and the run goes on.

use super::super::{Caller, ServiceError, ServiceResult, Services, runs};
use crate::actors::RuntimeError;
use crate::domain::{Answer, BlockId, Event, Principal, Run};
use crate::secrets::redact;

/// Rows of the journal read at once.
const MAX_EVENTS: u64 = 500;

/// Lets a run go on that no process may be driving, after a kill for example.
pub(super) async fn carry_on(s: &Services, run: &Run, event: Event, if_seq: Option<u64>) -> ServiceResult<()> {
    // A run that is not paused needs no event. But a run that receives one is resumed, and its change is observed. A run
    // of another process is refused here.
    match s.runtime.send(run.id, event, if_seq).await {
        Ok(_) | Err(RuntimeError::Refused(_)) => {}
        Err(other) => return Err(other.into()),
    }
    s.runtime.resume(run.id).await;
    Ok(())
}

/// Returns the run as it is if an answer was given before: its response was lost, and it was sent again. Without a
/// block, the last answer counts.
pub(super) async fn repeated(
    s: &Services,
    caller: &Caller,
    run: &Run,
    block: Option<BlockId>,
    answer: &Answer,
) -> ServiceResult<Option<Run>> {
    // Compared in the form in which the journal holds it.
    let clean = |answer: &Answer| {
        let mut event = Event::Answered { block: None, answer: answer.clone(), by: Principal::skep() };
        event.clean_texts(&mut |text| *text = redact(text).into_owned());
        event
    };
    let (mut after, mut last) = (0, None);
    loop {
        let rows = s.store.events(run.id, after, MAX_EVENTS).await?;
        let is_full = rows.len() as u64 == MAX_EVENTS;
        after = rows.last().map_or(after, |row| row.seq);
        for row in rows {
            if let Some(Ok(Event::Answered { block: Some(to), answer, .. })) = row.event.map(serde_json::from_value)
                && block.is_none_or(|block| block == to)
            {
                last = Some((to, answer));
            }
        }
        if !is_full {
            break;
        }
    }
    match last {
        Some((_, given)) if clean(&given) == clean(answer) => {
            if !run.ended() {
                // The process that took the answer may have been killed before it did what follows from it.
                carry_on(s, run, Event::Resumed { by: caller.principal.clone() }, None).await?;
            }
            runs::load_id(s, run.id).await.map(Some)
        }
        Some((to, _)) if block.is_some() => Err(ServiceError::conflict(
            "already_answered",
            format!("{to} was already answered, and differently"),
            "Show the run: its events have the answer",
        )),
        _ => Ok(None),
    }
}
