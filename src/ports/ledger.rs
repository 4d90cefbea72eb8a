//! The ledger: reservations and charges of attempts, the budgets that runs share, and spending reports.

use super::PortResult;
use super::leases::Lease;
use crate::domain::{
    AttemptId, BudgetScope, Day, Level, Principal, ProjectName, ProjectSet, Role, RunId, SharedLimits, Timestamp, Usage,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The worst case of an attempt, to be reserved in the budgets that its run shares with other runs.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// The right to spend for the run.
    pub lease: Lease,
    /// The attempt.
    pub attempt: AttemptId,
    /// The run's project.
    pub project: ProjectName,
    /// The role of the attempt.
    pub role: Role,
    /// The engine's name.
    pub engine: String,
    /// The worst case; 0 = unlimited.
    pub caps: Usage,
    /// The shared limits, before raises.
    pub shared: SharedLimits,
    /// Percentages of the limits at which people are alerted.
    pub alert_percent: Vec<u8>,
    /// Rounds of rework before the attempt.
    pub round: u32,
    /// When the attempt was ordered. It is charged to this day.
    pub at: Timestamp,
}

/// Answer of the shared budgets to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// The attempt's worst case is reserved.
    Reserved {
        /// The caps, cut to what is left; never 0 where there is a limit.
        caps: Usage,
        /// Fill levels of the budgets, including this reservation.
        levels: Vec<Level>,
    },
    /// At least one budget is exhausted; nothing was reserved.
    Exhausted {
        /// Fill levels of all budgets.
        levels: Vec<Level>,
        /// The part of an exhausted budget that is only reserved for running attempts and may come back; the smallest
        /// one if several budgets are exhausted.
        reserved: u64,
    },
}

/// A person's raise of a shared budget.
#[derive(Clone, Debug)]
pub struct BudgetRaise {
    /// The kind of budget.
    pub scope: BudgetScope,
    /// The project's name, or the day's number.
    pub key: String,
    /// Additional tokens.
    pub tokens: u64,
    /// Additional micro-USD.
    pub cost_micros: u64,
    /// Who raised it.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

/// Grouping of spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendingBy {
    /// Projects, most expensive first.
    Project,
    /// Roles, most expensive first.
    Role,
    /// Models, most expensive first. Usage without a named model is listed under its engine, a reservation without a
    /// named model under [`crate::domain::LedgerPart::UNNAMED`].
    Model,
    /// UTC days, newest first.
    Day,
    /// Runs, newest first.
    Run,
}

/// Which spending to report.
#[derive(Clone, Debug)]
pub struct SpendingFilter {
    /// What to group by.
    pub by: SpendingBy,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of these projects.
    pub projects: ProjectSet,
    /// Only of this day.
    pub day: Option<Day>,
    /// Upper bound on rows (1 to [`Spending::MAX_ROWS`]).
    pub limit: u64,
}

/// Spending of one group of attempts. Checks are not included: they cost time only, which counts in their run's budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The project, role, model, day (`2026-11-21`) or run.
    pub key: String,
    /// Tokens used.
    pub tokens: u64,
    /// Micro-USD spent.
    pub cost_micros: u64,
    /// Model calls.
    pub turns: u64,
    /// Milliseconds. By model: of the attempts whose engine named the model, or started with it.
    pub wall_ms: u64,
    /// Tokens reserved for running attempts.
    pub reserved_tokens: u64,
    /// Micro-USD reserved for running attempts.
    pub reserved_cost_micros: u64,
    /// Number of attempts.
    pub attempts: u64,
    /// Number of rounds of rework they took part in.
    #[serde(default)]
    pub rounds: u64,
    /// By model: number of attempts without a known price, which were charged their full reservation.
    pub unpriced: u64,
}

impl Spending {
    /// Upper bound on rows in one answer.
    pub const MAX_ROWS: u64 = 500;
}

/// Shared budgets and spending.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Reserves an attempt's worst case in the shared budgets, or reports which are exhausted. Reservations of all
    /// processes are serialized; the same attempt again gets the same answer. Fenced.
    async fn reserve(&self, reservation: &Reservation) -> PortResult<ReserveOutcome>;
    /// Raises a shared budget.
    async fn raise_budget(&self, raise: &BudgetRaise) -> PortResult<()>;
    /// Returns spending, grouped.
    async fn spending(&self, filter: &SpendingFilter) -> PortResult<Vec<Spending>>;
}
