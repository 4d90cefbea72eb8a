//! Proofs by other runs: the checks of a base are not run again if a recent run of the project proved the same commit
//! with the same checks in the same environment.
//!
//! Invariant: only green results are taken over, and only for a base. A red base is checked again, because its cause may
//! be gone, and every gate opens by results of its own run.

use super::super::deps::Deps;
use super::super::target::RunTarget;
use crate::domain::{CheckResult, CheckSpec, Run, RunId, Sha};
use crate::ports::run_index::RunFilter;

/// Number of recent runs that are searched.
const MAX_RUNS: u64 = 8;
/// Age in milliseconds up to which a run's results count.
const MAX_AGE_MS: i64 = 24 * 3600 * 1000;

/// Returns the results of a run that proved the commit, if there is one. A store that cannot answer costs only a check.
pub(super) async fn of_base(
    deps: &Deps,
    target: &RunTarget,
    sha: &Sha,
    checks: &[CheckSpec],
    environment: &str,
) -> Option<(RunId, Vec<CheckResult>)> {
    let filter = RunFilter {
        projects: target.repo.project.clone().into(),
        own_only: true,
        limit: MAX_RUNS,
        ..RunFilter::default()
    };
    let rows = deps.store.list(&filter).await;
    let rows = rows.inspect_err(|error| tracing::debug!(%error, "cannot list the runs that may have proved a commit"));
    let rows = rows.ok()?;
    let now = deps.clock.now();
    let recent = rows.into_iter().filter(|r| r.run != target.run && now.0.saturating_sub(r.updated_at.0) < MAX_AGE_MS);
    for row in recent {
        let Ok(Some(run)) = deps.store.load(row.run).await else { continue };
        if let Some(results) = proof(&run, sha, checks, environment) {
            return Some((run.id, results));
        }
    }
    None
}

/// Returns what a run found at a commit, at its base, its head or the end of its batch, if all of it is green.
fn proof(run: &Run, sha: &Sha, checks: &[CheckSpec], environment: &str) -> Option<Vec<CheckResult>> {
    let base = run.baseline.iter().map(|b| (&b.sha, Some(&b.results), &b.environment));
    let head = [(&run.head, run.facts.results.as_ref(), &run.facts.environment)];
    let batch = run.batch.iter().map(|b| (&b.tip, Some(&b.results), &b.environment));
    let same = base.chain(head).chain(batch).find(|(at, _, in_)| *at == sha && in_.as_deref() == Some(environment))?;
    let results = same.1.filter(|_| run.settings.checks == checks)?;
    let green = !results.is_empty() && results.iter().all(|r| r.green);
    // Artifacts belong to the run that stored them.
    green.then(|| results.iter().map(|r| CheckResult { artifacts: Vec::new(), ..r.clone() }).collect())
}
