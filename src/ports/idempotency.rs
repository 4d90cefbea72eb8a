//! Idempotency keys: which run a client's key refers to.

use super::PortResult;
use crate::domain::{Principal, RunId, Timestamp};
use async_trait::async_trait;

/// Claim of a key for a request.
#[derive(Clone, Debug)]
pub struct NewClaim {
    /// Principal whose key it is. Keys of different principals are independent.
    pub principal: Principal,
    /// Key.
    pub key: String,
    /// Fingerprint of the request.
    pub fingerprint: String,
    /// Id that the run of the request will have.
    pub run: RunId,
    /// Time of the claim.
    pub at: Timestamp,
    /// Age, in seconds, from which claims are forgotten.
    pub retention_secs: u64,
}

/// Claim in force: the new one, or an earlier one of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Fingerprint of the request that claimed the key.
    pub fingerprint: String,
    /// Run of that request, or the id that it will have.
    pub run: RunId,
    /// Whether that request reused an open run instead of opening one.
    pub reused: bool,
}

/// Idempotency keys.
#[async_trait]
pub trait IdempotencyKeys: Send + Sync {
    /// Claims a key unless it is claimed, and returns the claim in force. Forgets old claims.
    async fn claim(&self, claim: &NewClaim) -> PortResult<Claimed>;
    /// Replaces the run of a claim by the open run that the request reused.
    async fn settle(&self, principal: &Principal, key: &str, run: RunId) -> PortResult<()>;
}
