//! Offers a step to outside agents, and waits for the work of the one that claims it.
//!
//! The offer is in the store, so it outlives this process: a resumed session finds it as it was left. What an agent
//! submits is applied by the same code that applies the patches of models, below the worktree and nowhere else.
//!
//! Invariant: the worktree is changed only while the offer is `applying`. A session that is resumed in that state may
//! find half of a patch, so it gives the attempt up; the next one starts clean and applies the same submission.

use super::llm::{apply_patch, patch_paths};
use crate::domain::open_work::{AGENT, OpenWorkSettings};
use crate::domain::order::Bounds;
use crate::domain::policy::ForbiddenPath;
use crate::domain::{
    DiffStat, FileChange, FileKind, Offer, OfferState, Order, Policy, Step, Submission, Timestamp, Usage,
};
use crate::platform::rooted_fs::RootedDir;
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{Clock, OpenWork, PortResult};
use async_trait::async_trait;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Interval at which an offer is read.
const POLL: Duration = Duration::from_millis(500);

/// Engine `open`.
pub struct OpenEngine {
    work: Arc<dyn OpenWork>,
    settings: OpenWorkSettings,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for OpenEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenEngine").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl OpenEngine {
    /// Creates the engine over the offers of this data directory.
    pub fn new(work: Arc<dyn OpenWork>, settings: OpenWorkSettings, clock: Arc<dyn Clock>) -> OpenEngine {
        OpenEngine { work, settings, clock }
    }

    async fn wait(&self, order: &Order, env: &AttemptEnv, sink: &Sink) -> PortResult<EngineResult> {
        if !matches!(order.step, Step::Develop | Step::Review) {
            return Ok(ended(StepOutcome::Unavailable {
                why: format!("the engine `open` does not do the step {}", order.step.name()),
                until: None,
                fix: Some("use `open` for the roles dev and reviewer only".to_owned()),
            }));
        }
        let mut offer = self.work.open_offer(order, &env.project, &env.patch, self.clock.now()).await?;
        if order.resume.is_some() && offer.state == OfferState::Applying {
            return Ok(ended(StepOutcome::NotResumed("it ended while it applied a submission".to_owned())));
        }
        sink(EngineEvent::Session(offer.id.clone()));
        sink(EngineEvent::Said(format!("offered to outside agents as {}", offer.id)));
        let mut shown = (OfferState::Open, None);
        loop {
            let agent = offer.claim.as_ref().map(|claim| claim.agent.to_string());
            if shown != (offer.state, agent.clone()) {
                let by = agent.as_ref().map(|agent| format!(" by {agent}")).unwrap_or_default();
                sink(EngineEvent::Said(format!("{} is {}{by}", offer.id, offer.state.name())));
                shown = (offer.state, agent);
            }
            if let Some(result) = self.step(&offer, env, sink).await? {
                return Ok(result);
            }
            tokio::time::sleep(POLL).await;
            offer = self.reread(&offer).await;
        }
    }

    /// Returns the offer as it is now. A store that does not answer for a moment ends nothing.
    async fn reread(&self, offer: &Offer) -> Offer {
        match self.work.offer(&offer.id).await {
            Ok(Some(offer)) => offer,
            Ok(None) => Offer { state: OfferState::Closed, ..offer.clone() },
            Err(error) => {
                tracing::debug!(%error, offer = offer.id, "an offer cannot be read now");
                offer.clone()
            }
        }
    }

    /// Does what the offer's state asks for; returns the result if the session is over.
    async fn step(&self, offer: &Offer, env: &AttemptEnv, sink: &Sink) -> PortResult<Option<EngineResult>> {
        let now = self.clock.now();
        match (offer.state, &offer.submission, &offer.claim) {
            (OfferState::Open, ..) if now.0.saturating_sub(offer.opened_at.0) >= self.settings.patience_ms => {
                self.work.close_offer(&offer.id).await?;
                let why = format!("no outside agent claimed the offer {} in time", offer.id);
                Ok(Some(ended(StepOutcome::Unavailable { why, until: None, fix: None })))
            }
            (OfferState::Claimed, _, Some(claim)) if offer.has_lapsed(now) => {
                if self.work.give_back(&offer.id, &claim.agent, now).await? {
                    sink(EngineEvent::Said(format!("the claim of {} has lapsed", claim.agent)));
                }
                Ok(None)
            }
            (OfferState::Submitted, Some(submission), Some(_)) => {
                if !self.work.start_applying(&offer.id).await? {
                    return Ok(None);
                }
                crate::fault!("mid-submission");
                match take(submission, offer, &env.dir).await {
                    Ok(outcome) => {
                        self.work.accept_submission(&offer.id).await?;
                        crate::fault!("after-submission");
                        Ok(Some(by_agent(offer, outcome)))
                    }
                    Err(problem) => {
                        sink(EngineEvent::Said(format!("the submission cannot be used: {problem}")));
                        let until = Timestamp(now.0.saturating_add(self.settings.lease_ms));
                        self.work.refuse_submission(&offer.id, &problem, until).await?;
                        Ok(None)
                    }
                }
            }
            // A session that was ended between its last two steps.
            (OfferState::Delivered, Some(submission), _) => Ok(Some(by_agent(offer, outcome(submission)))),
            (OfferState::Delivered | OfferState::Closed, ..) => {
                Ok(Some(ended(StepOutcome::NotResumed(format!("the offer {} is over", offer.id)))))
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Engine for OpenEngine {
    fn runs_commands(&self) -> bool {
        false
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        self.wait(order, env, &sink).await
    }
}

/// Takes a submission over: writes a patch to the worktree. Nothing is changed if it cannot be used.
///
/// # Errors
/// What is wrong with it, for the agent.
async fn take(submission: &Submission, offer: &Offer, dir: &Path) -> Result<StepOutcome, String> {
    match (submission, offer.order.step) {
        (Submission::Patch { patch, .. }, Step::Develop) => {
            if let Some(ForbiddenPath { path, why }) = forbidden(&offer.order, patch) {
                return Err(format!("the patch changes {path}, which this offer must not touch: {why}"));
            }
            let (dir, patch) = (dir.to_owned(), patch.clone());
            let applied = tokio::task::spawn_blocking(move || {
                let tree = RootedDir::open(&dir).map_err(|e| format!("the worktree cannot be opened: {e}"))?;
                apply_patch(&tree, &patch)
            });
            applied.await.map_err(|e| format!("the patch cannot be applied: {e}"))??;
        }
        (Submission::Review { .. }, Step::Review) => {}
        (_, step) => return Err(format!("the step {} needs another kind of submission", step.name())),
    }
    Ok(outcome(submission))
}

/// Returns a path that the patch changes although the policy forbids it. Said now, it costs no try of the task.
fn forbidden(order: &Order, patch: &str) -> Option<ForbiddenPath> {
    let Bounds { allowed_paths, forbidden_paths, .. } = order.bounds.clone();
    let policy = Policy { allowed_paths, forbidden_paths, ..Policy::default() };
    let file = |path| FileChange { path, kind: FileKind::Modified, added: 0, removed: 0, binary: false, blob: None };
    let diff = DiffStat { files: patch_paths(patch).into_iter().map(file).collect(), ..DiffStat::default() };
    let task: &[String] = order.task.as_ref().map_or(&[], |task| &task.spec.paths);
    policy.forbids(&diff, task)
}

fn outcome(submission: &Submission) -> StepOutcome {
    match submission.clone() {
        Submission::Patch { summary, .. } => StepOutcome::Edited { summary },
        Submission::Review { verdict, findings, summary, criteria } => {
            StepOutcome::Judged { verdict, findings, summary, criteria }
        }
    }
}

fn by_agent(offer: &Offer, outcome: StepOutcome) -> EngineResult {
    let session = offer.claim.as_ref().map(|claim| format!("{AGENT}{}", claim.agent));
    EngineResult { session, ..ended(outcome) }
}

fn ended(result: StepOutcome) -> EngineResult {
    EngineResult { result, usage: Some(Usage::default()), usage_by_model: Vec::new(), session: None, files: Vec::new() }
}
