//! The store: the durable state of all runs behind one handle.
//!
//! Each concern is a port of its own. Code that needs only one takes that one (`&dyn Ledger`): a `&dyn Store` coerces
//! to it.

use super::PortResult;
use super::blobs::Blobs;
use super::journal::Journal;
use super::leases::Leases;
use super::ledger::Ledger;
use super::memories::Memories;
use super::projects::Projects;
use super::run_index::RunIndex;
use async_trait::async_trait;

/// All durable state.
#[async_trait]
pub trait Store: Journal + Leases + RunIndex + Ledger + Projects + Blobs + Memories {
    /// Checks that the store can be written, for readiness.
    async fn ping(&self) -> PortResult<()>;
}
