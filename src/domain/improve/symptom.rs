//! Signatures that recur.

use super::{RunRecord, Signature};
use crate::domain::id::{RunId, Timestamp};
use crate::domain::project::ProjectName;
use std::collections::{BTreeMap, BTreeSet};

/// When a symptom is proposed: in enough runs, and either often or at a high cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Minimum number of runs.
    pub runs: u64,
    /// Minimum percentage of the ends of its step.
    pub share_percent: u64,
    /// Minimum cost of the failed attempts, in micro-USD.
    pub lost_micros: u64,
}

impl Default for Threshold {
    fn default() -> Self {
        Self { runs: 3, share_percent: 5, lost_micros: 5_000_000 }
    }
}

/// A failure signature in a project, over a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symptom {
    /// The project.
    pub project: ProjectName,
    /// The signature.
    pub signature: Signature,
    /// Number of ends with it.
    pub hits: u64,
    /// Number of ends of its step in the project.
    pub ends: u64,
    /// Number of runs with it.
    pub runs: u64,
    /// What the attempts that ended with it cost, in micro-USD.
    pub lost_micros: u64,
    /// The newest runs with it, at most [`Symptom::MAX_SAMPLES`].
    pub samples: Vec<RunId>,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When it was last seen.
    pub last_at: Timestamp,
}

impl Symptom {
    /// Upper bound on the runs that are named.
    pub const MAX_SAMPLES: usize = 8;

    /// Returns whether it recurs enough to be proposed.
    pub fn exceeds(&self, threshold: &Threshold) -> bool {
        let often = self.hits.saturating_mul(100) >= threshold.share_percent.saturating_mul(self.ends);
        self.runs >= threshold.runs && (often || self.lost_micros >= threshold.lost_micros)
    }
}

#[derive(Default)]
struct Count {
    hits: u64,
    lost_micros: u64,
    runs: BTreeSet<RunId>,
    times: BTreeSet<Timestamp>,
}

/// Returns all failure signatures since `since`: the most expensive first, then the most frequent.
pub fn symptoms(records: &[RunRecord], since: Timestamp) -> Vec<Symptom> {
    let mut ends: BTreeMap<(&ProjectName, &str), u64> = BTreeMap::new();
    let mut counts: BTreeMap<(&ProjectName, &Signature), Count> = BTreeMap::new();
    for record in records {
        for end in record.ends.iter().filter(|end| end.at >= since) {
            *ends.entry((&record.project, end.step)).or_default() += 1;
            for signature in &end.failures {
                let count = counts.entry((&record.project, signature)).or_default();
                count.hits += 1;
                count.lost_micros = count.lost_micros.saturating_add(end.cost_micros);
                count.runs.insert(record.run);
                count.times.insert(end.at);
            }
        }
    }
    let symptom = |((project, signature), count): ((&ProjectName, &Signature), Count)| Symptom {
        project: project.clone(),
        signature: signature.clone(),
        hits: count.hits,
        // Flaky checks of tasks end an attempt, but belong to the checks.
        ends: ends.get(&(project, signature.step.as_str())).copied().unwrap_or(0).max(count.hits),
        runs: count.runs.len() as u64,
        lost_micros: count.lost_micros,
        samples: count.runs.iter().rev().take(Symptom::MAX_SAMPLES).copied().collect(),
        first_at: count.times.first().copied().unwrap_or(since),
        last_at: count.times.last().copied().unwrap_or(since),
    };
    let mut found: Vec<Symptom> = counts.into_iter().map(symptom).collect();
    let order = |s: &Symptom| (s.lost_micros, s.hits, s.runs);
    found.sort_by(|a, b| order(b).cmp(&order(a)).then_with(|| a.signature.cmp(&b.signature)));
    found
}
