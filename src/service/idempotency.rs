//! Idempotency keys of requests, by draft-ietf-httpapi-idempotency-key-header.
//!
//! A key is claimed before the run is opened, together with the fingerprint of the request and the id that the run will
//! have. A repeated request therefore finds the run, or opens it under the same id, even if the process died in
//! between.

use super::runs::OpenRun;
use super::{Caller, ErrorKind, ServiceError, ServiceResult, Services};
use crate::actors::KeyedLocks;
use crate::domain::{Principal, RunId};
use crate::ports::idempotency::NewClaim;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// Maximum length of a key.
const MAX_KEY: usize = 255;
/// Time for which a key is remembered: a week.
const RETENTION_SECS: u64 = 7 * 24 * 3600;
/// How long a request waits for the one with the same key.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// Idempotency key chosen by a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses the header's value: an RFC 8941 string (`"8e03…"`), or the same without quotes.
    ///
    /// # Errors
    /// `idempotency_key` (malformed) if it is empty, too long, or not visible ASCII.
    pub fn parse(text: &str) -> ServiceResult<IdempotencyKey> {
        let text = text.trim();
        let key = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"'),
            None => Some(text),
        };
        let usable = |key: &&str| {
            (1..=MAX_KEY).contains(&key.len())
                && key.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\')
        };
        match key.filter(usable) {
            Some(key) => Ok(IdempotencyKey(key.to_owned())),
            None => Err(ServiceError::new(
                ErrorKind::Malformed,
                "idempotency_key",
                "the idempotency key is not usable",
                format!("Send 1 to {MAX_KEY} visible ASCII characters in quotes, such as a UUID"),
            )),
        }
    }
    /// Returns the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Claim of a key.
pub(super) struct Claim {
    /// Run of the first request, or the id that it will have.
    pub run: RunId,
    /// Whether the request with this key opened that run; otherwise it reused an open one.
    pub opened_by_it: bool,
}

/// Claims a key for a request.
///
/// # Errors
/// `idempotency_key_reused` if it was claimed for another request.
pub(super) async fn claim(
    s: &Services,
    caller: &Caller,
    key: &IdempotencyKey,
    request: &OpenRun,
) -> ServiceResult<Claim> {
    let fingerprint = fingerprint(request)?;
    let claimed = s
        .idempotency
        .claim(&NewClaim {
            principal: caller.principal.clone(),
            key: key.as_str().to_owned(),
            fingerprint: fingerprint.clone(),
            run: s.clock.new_run_id(),
            at: s.clock.now(),
            retention_secs: RETENTION_SECS,
        })
        .await?;
    if claimed.fingerprint != fingerprint {
        return Err(ServiceError::new(
            ErrorKind::Invalid,
            "idempotency_key_reused",
            "this idempotency key was sent with another request",
            "Use a new key for a new request",
        ));
    }
    Ok(Claim { run: claimed.run, opened_by_it: !claimed.reused })
}

/// Returns the fingerprint of a request: the digest of its JSON form, in which fields and roles have a fixed order.
///
/// # Errors
/// The request has no JSON form: without a fingerprint, different requests would count as the same.
fn fingerprint(request: &OpenRun) -> ServiceResult<String> {
    let bytes = serde_json::to_vec(request).map_err(|error| {
        let what = format!("cannot serialize the request for its idempotency key: {error}");
        ServiceError::invalid(what, "Send the request without an idempotency key")
    })?;
    Ok(Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect())
}

/// Requests with an idempotency key that are in progress in this process.
#[derive(Clone, Debug, Default)]
pub struct InProgress(KeyedLocks<(String, IdempotencyKey)>);

impl InProgress {
    /// Marks a request as in progress until the guard is dropped. Waits for one with the same key.
    ///
    /// # Errors
    /// `request_in_progress` (conflict) if that one takes longer than [`MAX_WAIT`].
    pub(super) async fn enter(
        &self,
        principal: &Principal,
        key: &IdempotencyKey,
    ) -> ServiceResult<OwnedMutexGuard<()>> {
        let lock = self.0.lock((principal.as_str().to_owned(), key.clone()));
        tokio::time::timeout(MAX_WAIT, lock).await.map_err(|_elapsed| {
            ServiceError::conflict(
                "request_in_progress",
                "a request with this idempotency key is still in progress",
                "Retry once it has been answered",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_with_and_without_quotes() {
        assert_eq!(IdempotencyKey::parse("\"8e03-1\"").unwrap(), IdempotencyKey::parse(" 8e03-1 ").unwrap());
        for bad in ["", "\"\"", "\"open", "a\"b", "ü", &"k".repeat(MAX_KEY + 1)] {
            assert_eq!(IdempotencyKey::parse(bad).unwrap_err().code, "idempotency_key", "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_is_in_progress_once_per_principal() {
        let all = InProgress::default();
        let (ann, ben) = (Principal::from("local:ann"), Principal::from("local:ben"));
        let key = IdempotencyKey::parse("k").unwrap();
        let guard = all.enter(&ann, &key).await.unwrap();
        assert_eq!(all.enter(&ann, &key).await.err().unwrap().code, "request_in_progress");
        assert!(all.enter(&ben, &key).await.is_ok());
        drop(guard);
        assert!(all.enter(&ann, &key).await.is_ok());
    }

    #[test]
    fn the_fingerprint_covers_the_request_and_not_its_trace() {
        let request = OpenRun { goal: "x".to_owned(), ..OpenRun::default() };
        let traced = OpenRun { traceparent: Some("00-1".to_owned()), ..request.clone() };
        let other = OpenRun { reuse_open_run: true, ..request.clone() };
        assert_eq!(fingerprint(&request).unwrap(), fingerprint(&traced).unwrap());
        assert_ne!(fingerprint(&request).unwrap(), fingerprint(&other).unwrap());
    }
}
