//! Ratings of engines and outside agents, computed from verified outcomes.

use super::{Caller, Right, ServiceResult, Services, projects};
use crate::domain::rating::{Rating, ratings};
use crate::ports::outcomes::OutcomeFilter;

/// Rows that are read at once.
const PAGE: u64 = 500;
/// Newest rows that ratings are computed from.
const MAX_ROWS: usize = 20_000;

/// Returns the ratings, the best-proven player first.
///
/// # Errors
/// `missing_right` without [`Right::Read`], `invalid` if the project's name is not one.
pub async fn list(s: &Services, caller: &Caller, project: Option<&str>) -> ServiceResult<Vec<Rating>> {
    let project = projects::named(caller, Right::Read, project)?;
    compute(s, project).await
}

async fn compute(s: &Services, project: Option<crate::domain::ProjectName>) -> ServiceResult<Vec<Rating>> {
    let mut rows = Vec::new();
    let mut before = None;
    while rows.len() < MAX_ROWS {
        let filter = OutcomeFilter { project: project.clone(), before, limit: PAGE, ..OutcomeFilter::default() };
        let page = s.outcomes.list_outcomes(&filter).await?;
        let is_last = (page.len() as u64) < PAGE;
        let Some(oldest) = page.last().map(|row| row.run) else { break };
        // A page may end within a run, whose other rows then come with the next one.
        let is_whole = is_last || page.iter().all(|row| row.run == oldest);
        before = match is_whole {
            true => Some(oldest),
            false => page.iter().rev().find(|row| row.run != oldest).map(|row| row.run),
        };
        rows.extend(page.into_iter().filter(|row| is_whole || row.run != oldest));
        if is_last {
            break;
        }
    }
    Ok(ratings(&rows))
}
