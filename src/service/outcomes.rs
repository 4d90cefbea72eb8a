//! Verified outcomes: listed, and derived again from the journals.

use super::audit::record;
use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects, runs};
use crate::domain::{OutcomeRow, OutcomeWord, Phase, outcomes};
use crate::ports::outcomes::OutcomeFilter;
use crate::ports::run_index::RunFilter;

/// Runs that are read at once.
const PAGE: u64 = 500;
/// Maximum number of runs whose failure is reported by name.
const MAX_FAILED: usize = 20;

/// Query for outcomes.
#[derive(Clone, Debug, Default)]
pub struct OutcomeQuery {
    /// Only of this project.
    pub project: Option<String>,
    /// Only of this run, by its whole or shortened id.
    pub run: Option<String>,
    /// Only with this word.
    pub word: Option<String>,
    /// Only of runs older than this one, for paging.
    pub before: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    pub limit: Option<u64>,
}

/// Result of deriving all outcomes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Runs whose outcomes were derived.
    pub runs: u64,
    /// Their outcomes.
    pub rows: u64,
    /// Runs whose journal proves nothing; their rows stay as they were.
    pub failed: u64,
    /// Some of them, with the reason.
    pub failures: Vec<String>,
}

/// Lists verified outcomes, newest run first.
///
/// # Errors
/// `invalid` if the query is not usable, `no_run` or `several_runs`.
pub async fn list(s: &Services, caller: &Caller, query: &OutcomeQuery) -> ServiceResult<Vec<OutcomeRow>> {
    let run = async |text: &Option<String>| match text {
        Some(text) => runs::find_id(s, caller, Right::Read, text).await.map(Some),
        None => Ok(None),
    };
    let of_run = run(&query.run).await?;
    let filter = OutcomeFilter {
        project: match (&query.project, of_run) {
            (None, Some(_)) => None,
            (name, _) => projects::named(caller, Right::Read, name.as_deref())?,
        },
        run: of_run,
        word: query.word.as_deref().map(word).transpose()?,
        since: None,
        before: run(&query.before).await?,
        limit: input::rows(query.limit)?,
    };
    Ok(s.outcomes.list_outcomes(&filter).await?)
}

fn word(text: &str) -> ServiceResult<OutcomeWord> {
    OutcomeWord::named(text).ok_or_else(|| {
        let words: Vec<&str> = OutcomeWord::ALL.iter().map(|w| w.name()).collect();
        ServiceError::invalid(format!("word: unknown word {}", shown(text)), format!("Use one of {}", words.join(", ")))
    })
}

/// Derives the outcomes of all ended runs of this data directory again, as after an upgrade that changed the rules.
///
/// # Errors
/// `missing_right` without [`Right::Admin`]; `unavailable` if the store cannot be read or written.
pub async fn rebuild(s: &Services, caller: &Caller) -> ServiceResult<Rebuilt> {
    caller.require(Right::Admin)?;
    let mut rebuilt = Rebuilt::default();
    let mut before = None;
    loop {
        let filter = RunFilter { own_only: true, before, limit: PAGE, ..RunFilter::default() };
        let page = s.store.list(&filter).await?;
        for row in page.iter().filter(|row| row.phase == Phase::Ended.name() && row.quarantined.is_none()) {
            let journal = s.store.history(row.run).await?;
            match journal.and_then(outcomes) {
                Ok(rows) => {
                    s.outcomes.replace_outcomes(row.run, &rows).await?;
                    rebuilt.runs += 1;
                    rebuilt.rows += rows.len() as u64;
                }
                Err(why) => {
                    rebuilt.failed += 1;
                    if rebuilt.failures.len() < MAX_FAILED {
                        rebuilt.failures.push(format!("run {}: {why}", row.run));
                    }
                }
            }
        }
        match page.last() {
            Some(last) if page.len() as u64 == PAGE => before = Some(last.run),
            _ => break,
        }
    }
    let detail = format!("runs={} rows={} failed={}", rebuilt.runs, rebuilt.rows, rebuilt.failed);
    record(s, caller, "outcomes.rebuild", "outcomes", &detail).await;
    Ok(rebuilt)
}
