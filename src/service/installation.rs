//! What this installation is made of, for those who administer it: its health, configuration, engines, sandbox, runners
//! and forges. These are the use cases of [`Host`], as `skep doctor` and `skep config` call them.
//!
//! Invariant: nothing here changes anything, and no value of a secret is returned.

use super::host::{
    Diagnosis, EngineRow, ForgeRow, Host, HostContext, HostError, HostResult, RunnerRow, SandboxTest, Setting,
};
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services};
use crate::secrets::redact_all;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the result of an inspection is shown again: it starts programs and asks other machines.
const KEPT: Duration = Duration::from_secs(60);
/// Time of an inspection.
const TIMEOUT: Duration = Duration::from_secs(25);

/// This installation.
pub struct Installation {
    host: Arc<dyn Host>,
    context: HostContext,
    diagnosis: Kept<Diagnosis>,
    sandbox: Kept<SandboxTest>,
}

impl Installation {
    /// Creates the view of the installation that `context` describes.
    pub fn new(host: Arc<dyn Host>, context: HostContext) -> Installation {
        Installation { host, context, diagnosis: Kept::default(), sandbox: Kept::default() }
    }
}

/// Result of an inspection that is shown again for a while. Whoever asks while one is in progress waits for it.
struct Kept<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept(Mutex::new(None))
    }
}

impl<T> Kept<T> {
    async fn get(&self, inspect: impl Future<Output = HostResult<T>>) -> ServiceResult<Arc<T>> {
        let inspected = async {
            let mut kept = self.0.lock().await;
            if let Some((_, known)) = kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
                return Ok(known.clone());
            }
            let found = Arc::new(inspect.await.map_err(refused)?);
            *kept = Some((Instant::now(), found.clone()));
            Ok(found)
        };
        tokio::time::timeout(TIMEOUT, inspected).await.unwrap_or_else(|_| {
            let detail = format!("the inspection did not end within {} s", TIMEOUT.as_secs());
            Err(ServiceError::unavailable(detail, "Run `skep doctor` on the machine of the service"))
        })
    }
}

/// Inspects everything Skep needs, as `skep doctor` does.
///
/// # Errors
/// `missing_right` without the right to administer the service.
pub async fn diagnosis(s: &Services, caller: &Caller) -> ServiceResult<Arc<Diagnosis>> {
    let installation = of(s, caller)?;
    installation.diagnosis.get(installation.host.doctor(&installation.context)).await
}

/// Returns each key of the configuration with its value, secrets masked, and its source, as `skep config check` does.
///
/// # Errors
/// `missing_right`, or `configuration` if the files can no longer be used.
pub async fn configuration(s: &Services, caller: &Caller) -> ServiceResult<Vec<Setting>> {
    let installation = of(s, caller)?;
    let mut settings = installation.host.settings(&installation.context).await.map_err(refused)?;
    for setting in &mut settings {
        // The address of a channel often contains its key.
        let is_address = setting.key.starts_with("notify.") && setting.key.ends_with(".url");
        match is_address && !setting.value.is_empty() {
            true => setting.value = "(hidden)".to_owned(),
            false => setting.value = redact_all(&setting.value).into_owned(),
        }
    }
    Ok(settings)
}

/// Lists every role, engine kind, provider and agent, as `skep engine list` does.
///
/// # Errors
/// Those of [`configuration`].
pub async fn engines(s: &Services, caller: &Caller) -> ServiceResult<Vec<EngineRow>> {
    let installation = of(s, caller)?;
    installation.host.list_engines(&installation.context).await.map_err(refused)
}

/// Tries hostile actions in the sandbox, as `skep sandbox test` does.
///
/// # Errors
/// Those of [`configuration`], or if the sandbox cannot be used at all.
pub async fn sandbox(s: &Services, caller: &Caller) -> ServiceResult<Arc<SandboxTest>> {
    let installation = of(s, caller)?;
    installation.sandbox.get(installation.host.test_sandbox(&installation.context, None)).await
}

/// Lists the runners of checks, as `skep runner list` does.
///
/// # Errors
/// Those of [`configuration`].
pub async fn runners(s: &Services, caller: &Caller) -> ServiceResult<Vec<RunnerRow>> {
    let installation = of(s, caller)?;
    installation.host.list_runners(&installation.context).await.map_err(refused)
}

/// Lists the configured forges, as `skep forge list` does.
///
/// # Errors
/// Those of [`configuration`].
pub async fn forges(s: &Services, caller: &Caller) -> ServiceResult<Vec<ForgeRow>> {
    let installation = of(s, caller)?;
    installation.host.list_forges(&installation.context).await.map_err(refused)
}

fn of<'a>(s: &'a Services, caller: &Caller) -> ServiceResult<&'a Installation> {
    caller.require(Right::Admin)?;
    s.installation.as_deref().ok_or_else(|| {
        let detail = "the settings are shown by a service, and this process is none";
        ServiceError::unavailable(detail, "Start `skep serve`")
    })
}

fn refused(error: HostError) -> ServiceError {
    let fixes: Vec<&str> = error.problems.iter().map(|problem| problem.fix.as_str()).collect();
    let mut fix = fixes.join("; ");
    if let Some(first) = fix.get(..1).map(str::to_uppercase) {
        fix.replace_range(..1, &first);
    }
    ServiceError::new(ErrorKind::Unavailable, "configuration", error.to_string(), fix)
}
