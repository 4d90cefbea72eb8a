//! When the roles of a run worked, and when it waited.

use crate::domain::{Role, Run, Timestamp};
use crate::render;
use maud::{Markup, html};

const WIDTH: i64 = 1_000;
const LANE: i64 = 22;
/// Lanes from the top.
const ROLES: [Role; 4] = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
/// Attempts that are drawn.
const MAX_ATTEMPTS: usize = 500;

/// Returns the attempts of a run over time; `None` before the first.
pub fn timeline(run: &Run, now: Timestamp) -> Option<Markup> {
    let start = run.opened_at.0;
    let last = run.attempts.iter().filter_map(|a| a.ended.as_ref()).map(|e| e.at.0).max().unwrap_or(start);
    let end = if run.ended() { last } else { now.0 }.max(start + 1);
    let lanes: Vec<Role> =
        ROLES.into_iter().filter(|role| run.attempts.iter().any(|a| a.step.role() == *role)).collect();
    if lanes.is_empty() {
        return None;
    }
    let x = |at: i64| (at.clamp(start, end) - start).saturating_mul(WIDTH) / (end - start);
    let in_progress = run.attempts.iter().filter(|attempt| attempt.ended.is_none() && !run.ended());
    let so_far = in_progress.map(|attempt| now.0.saturating_sub(attempt.started_at.0));
    let so_far = so_far.filter_map(|ms| u64::try_from(ms).ok()).fold(0, u64::saturating_add);
    let worked = render::duration(run.ledger.spent.wall_ms.saturating_add(so_far));
    let total = render::elapsed(Timestamp(start), Timestamp(end));
    let height = i64::try_from(lanes.len()).unwrap_or(1) * LANE;
    Some(html! {
        figure.timeline {
            div.lanes {
                div.names { @for role in &lanes { span { (role.name()) } } }
                svg viewBox={ "0 0 " (WIDTH) " " (height) } preserveAspectRatio="none" role="img"
                    aria-label="Attempts over time; the table of attempts has the same" {
                    @for (attempt, n) in run.attempts.iter().take(MAX_ATTEMPTS).filter_map(|a| {
                        Some((a, lanes.iter().position(|role| *role == a.step.role())?))
                    }) {
                        @let from = x(attempt.started_at.0);
                        @let to = x(attempt.ended.as_ref().map_or(end, |e| e.at.0));
                        @let y = i64::try_from(n).unwrap_or(0) * LANE + 4;
                        rect class=(outcome(attempt)) x=(from) y=(y) width=((to - from).max(3)) height=(LANE - 8) {
                            title { (attempt.id) " " (attempt.step.name()) }
                        }
                    }
                }
            }
            figcaption { (total) " in all; attempts and checks worked for " (worked) "." }
        }
    })
}

fn outcome(attempt: &crate::domain::Attempt) -> &'static str {
    use crate::domain::Ending;
    match attempt.ended.as_ref().map(|e| e.ending) {
        None => "live",
        Some(Ending::Succeeded) => "good",
        Some(Ending::Asked | Ending::Stopped | Ending::NotStarted) => "other",
        Some(Ending::Failed | Ending::Lost | Ending::Unavailable) => "bad",
    }
}
