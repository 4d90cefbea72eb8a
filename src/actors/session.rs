//! Carries one attempt from its order to its report: prepares the environment, runs the engine, stores the results.
//!
//! A resumed attempt finds its worktree as it was left, or cannot be resumed.

use super::deps::Deps;
use super::heartbeat;
use super::memories;
use super::message::RunMsg;
use super::notifications::Notification;
use super::retry::patiently;
use super::target::RunTarget;
use crate::domain::open_work::AGENT;
use crate::domain::{
    ArtifactKind, ArtifactRef, AttemptId, BudgetKind, Metered, ModelUse, Order, Report, Reported, RunId, Sha, Step,
    TaskId, Usage,
};
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{Commit, PortError, PortResult, Prompt, Prompts};
use crate::secrets::redact;
use ractor::ActorRef;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long preparing and committing is retried while the store or the disk is unavailable.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest subject of a commit message, in characters.
const MAX_SUBJECT: usize = 72;
/// Longest text in the body of a commit message, in characters.
const MAX_BODY: usize = 4_000;
/// Longest output line sent to listeners, in characters.
const MAX_LINE: usize = 2_000;

/// Everything a session needs.
pub(super) struct Session {
    pub deps: Deps,
    pub target: RunTarget,
    pub run: ActorRef<RunMsg>,
    pub order: Box<Order>,
    pub prompt_digest: PromptDigest,
}

/// Version of the prompt of an attempt, known as soon as it is rendered, however the attempt ends.
pub(super) type PromptDigest = Arc<OnceLock<String>>;

/// Carries the session to its report. Never fails: a failure is a report.
pub(super) async fn carry(session: Session) -> Reported {
    let clock = session.deps.clock.clone();
    let started = clock.monotonic();
    let (run, attempt) = (session.order.run, session.order.attempt);
    // Acquired first, so that the lock is released only when the engine's last process is gone.
    let _lock = session.deps.attempt_locks.acquire(run, attempt).await;
    let _heartbeat = heartbeat::start(&session.deps.workspaces.meter_file(run, attempt));
    let outcome = work(&session).await.unwrap_or_else(|error| {
        let why = with_fix(&error);
        let (report, (usage, usage_by_model)) = match session.order.resume {
            None => (Report::Failed { why }, (Some(Usage::default()), Vec::new())),
            // Its usage before the restart is recorded only in the meter file.
            Some(_) => (Report::NotResumed { why }, metered_usage(&session.deps, run, attempt)),
        };
        Outcome { report, usage, usage_by_model, session: None, artifacts: Vec::new(), secrets: Vec::new() }
    });
    let wall_ms = u64::try_from(clock.monotonic().saturating_sub(started).as_millis()).unwrap_or(u64::MAX);
    let session_digest = &session.prompt_digest;
    let Outcome { report, usage, usage_by_model, session, artifacts, secrets } = outcome;
    Reported {
        attempt,
        report,
        // An absurd report counts as none: it is neither charged nor shown.
        usage: usage.filter(|u| !u.is_absurd()).map(|u| Usage { wall_ms, ..u }),
        usage_by_model,
        session,
        artifacts,
        secrets,
        prompt_digest: session_digest.get().cloned(),
    }
}

fn with_fix(error: &PortError) -> String {
    match error {
        PortError::Permanent { what, fix } => format!("{what}. {fix}"),
        other => other.to_string(),
    }
}

/// Returns the metered usage of an attempt that did not report its own; `None` = it was not metered.
fn metered_usage(deps: &Deps, run: RunId, attempt: AttemptId) -> (Option<Usage>, Vec<ModelUse>) {
    match metered(deps, run, attempt) {
        Some(Metered { used, usage_by_model }) => (Some(used), usage_by_model),
        None => (None, Vec::new()),
    }
}

/// Builds the report of an attempt whose session gave no result.
pub(super) fn without_result(
    deps: &Deps,
    run: RunId,
    attempt: AttemptId,
    report: Report,
    prompt_digest: &PromptDigest,
) -> Reported {
    let (usage, usage_by_model) = metered_usage(deps, run, attempt);
    Reported {
        attempt,
        report,
        usage,
        session: None,
        artifacts: Vec::new(),
        usage_by_model,
        secrets: Vec::new(),
        prompt_digest: prompt_digest.get().cloned(),
    }
}

/// Reads the meter file of an attempt.
pub(super) fn metered(deps: &Deps, run: RunId, attempt: AttemptId) -> Option<Metered> {
    deps.parts().engines.metered(&deps.workspaces.meter_file(run, attempt))
}

/// The parts of a [`Reported`], except for wall time.
struct Outcome {
    report: Report,
    usage: Option<Usage>,
    usage_by_model: Vec<ModelUse>,
    session: Option<String>,
    artifacts: Vec<ArtifactRef>,
    secrets: Vec<String>,
}

async fn work(s: &Session) -> PortResult<Outcome> {
    let (deps, order) = (&s.deps, &s.order);
    let parts = deps.parts.refreshed().await;
    let engine =
        parts.engines.get(&order.engine).map_err(|what| PortError::permanent(what, "choose another engine"))?;
    let mut artifacts = Vec::new();
    let env = env(s, engine.as_ref(), parts.prompts.as_ref(), &mut artifacts).await?;
    crate::fault!("before-engine");
    let limit = Duration::from_millis(order.caps.wall_ms);
    let (spent, given) = (LastUsage::default(), SecretNames::default());
    let result = match tokio::time::timeout(limit, engine.run(order, &env, sink(s, &spent, &given))).await {
        Ok(result) => result,
        Err(_) => {
            let why = format!("it exceeded its time limit ({} s)", limit.as_secs_f32().ceil());
            let unfinished = unfinished(s, &mut artifacts).await;
            clear(s, &env).await;
            let report = Report::BudgetExhausted { budget: BudgetKind::Time, why, unfinished };
            let (usage, usage_by_model) = metered_usage(deps, order.run, order.attempt);
            let usage = usage.or_else(|| spent.get(&order.caps));
            return Ok(Outcome { report, usage, usage_by_model, session: None, artifacts, secrets: given.get() });
        }
    };
    crate::fault!("after-engine");
    let EngineResult { result, usage, usage_by_model, session, files } = result?;
    crate::fault!("before-keep");
    for (kind, name, bytes) in &files {
        artifacts.push(store(s, *kind, name, bytes).await?);
    }
    let report = match result {
        StepOutcome::Notes(notes) => Report::Explored { notes },
        StepOutcome::Tasks(tasks) => Report::Planned { tasks },
        StepOutcome::Edited { .. } | StepOutcome::EditedInPart { .. } => {
            let (summary, failure) = match result {
                StepOutcome::EditedInPart { summary, why } => (summary, Some(why)),
                StepOutcome::Edited { summary } => (summary, None),
                _ => Default::default(),
            };
            let Some(task) = &order.task else {
                return Err(PortError::permanent("an edit was reported for no task", "report this as a bug"));
            };
            let commit = commit(s, task.id, &message(s, &summary, session.as_deref()), &mut artifacts).await?;
            match failure.filter(|_| commit.diff.is_empty()) {
                Some(why) => Report::Failed { why },
                None => Report::Developed { head: commit.head, diff: commit.diff, summary },
            }
        }
        StepOutcome::Judged { verdict, findings, summary, criteria } => {
            Report::Reviewed { head: order.head.clone(), verdict, findings, summary, criteria }
        }
        StepOutcome::Asked { question, to } => Report::Asked { question, to },
        StepOutcome::Failed(why) => Report::Failed { why },
        StepOutcome::BudgetExhausted { budget, why } => {
            Report::BudgetExhausted { budget, why, unfinished: unfinished(s, &mut artifacts).await }
        }
        StepOutcome::NotResumed(why) => Report::NotResumed { why },
        StepOutcome::Unavailable { why, until, fix } => Report::Unavailable { why, until, fix },
    };
    clear(s, &env).await;
    crate::fault!("before-report");
    Ok(Outcome { report, usage, usage_by_model, session, artifacts, secrets: given.get() })
}

/// Commits the content of the task's worktree on the task's branch, and stores the diff as an artifact.
async fn commit(s: &Session, task: TaskId, message: &str, artifacts: &mut Vec<ArtifactRef>) -> PortResult<Commit> {
    let (deps, order, target) = (&s.deps, &s.order, &s.target);
    let branch = crate::domain::run::branches::task_branch(&target.branch, task);
    crate::fault!("before-task-commit");
    let commit =
        patiently(PATIENCE, || deps.workspaces.commit(&target.repo, order.run, task, &branch, &order.head, message))
            .await?;
    crate::fault!("after-task-commit");
    if !commit.patch.is_empty() {
        let name = format!("{task}-{}.patch", order.attempt);
        artifacts.push(store(s, ArtifactKind::Patch, &name, &commit.patch).await?);
    }
    Ok(commit)
}

/// Commits what a dev had changed when its budget ended, for the next attempt to continue. Work that cannot be committed
/// is lost with the attempt, as a failed attempt's is: its worktree is saved before it is used again.
async fn unfinished(s: &Session, artifacts: &mut Vec<ArtifactRef>) -> Option<Sha> {
    let task = s.order.task.as_ref().filter(|_| s.order.engine.calls_models())?;
    match commit(s, task.id, &message(s, "Unfinished work", None), artifacts).await {
        Ok(commit) => Some(commit.head).filter(|_| !commit.diff.is_empty()),
        Err(error) => {
            tracing::warn!(run = %s.order.run, attempt = %s.order.attempt, %error, "unfinished work cannot be kept");
            None
        }
    }
}

/// Prepares the environment: a worktree to edit for a dev, one to read for the others, and the prompt for an engine
/// that reads one. The prompt is stored before the engine starts, so that it can be read even when the attempt is lost.
async fn env(
    s: &Session,
    engine: &dyn Engine,
    prompts: &dyn Prompts,
    artifacts: &mut Vec<ArtifactRef>,
) -> PortResult<AttemptEnv> {
    let (deps, order, target) = (&s.deps, &s.order, &s.target);
    let name = order.attempt.to_string();
    let (cache, scratch) = deps.workspaces.scratch_dirs(order.run, &name);
    let dir = match (&order.task, &order.resume) {
        (task, Some(_)) => {
            let task = task.as_ref().map(|t| t.id);
            let existing =
                patiently(PATIENCE, || deps.workspaces.existing_dir(order.run, task, &name, &order.head)).await?;
            existing.ok_or_else(|| PortError::transient("its worktree is gone or has changed"))?
        }
        (Some(task), None) => {
            let dir =
                patiently(PATIENCE, || deps.workspaces.task_dir(&target.repo, order.run, task.id, &order.head)).await?;
            if let Some(work) = &order.continues {
                patiently(PATIENCE, || deps.workspaces.continue_work(&target.repo, order.run, task.id, work)).await?;
            }
            dir
        }
        (None, None) => {
            patiently(PATIENCE, || deps.workspaces.read_dir(&target.repo, order.run, &name, &order.head)).await?
        }
    };
    let patch = match order.step {
        Step::Review => {
            let (_, patch) = deps.workspaces.diff(&target.repo, &order.base, &order.head).await?;
            redact(&String::from_utf8_lossy(&patch)).into_owned()
        }
        _ => String::new(),
    };
    for dir in [&cache, &scratch] {
        tokio::fs::create_dir_all(dir)
            .await
            .map_err(|e| PortError::transient(format!("cannot create the folder {}: {e}", dir.display())))?;
    }
    if engine.runs_commands() {
        deps.parts().checks.fill_cache(&target.repo, &dir, &cache).await;
    }
    let prompt = match engine.reads_prompt() {
        true => {
            let memories = memories::choose(deps, target, order).await;
            let prompt = prompts.render(&target.repo, order, &patch, &memories).await?;
            let prompt = without_secrets(order, prompt);
            let _first = s.prompt_digest.set(prompt.version.as_str().to_owned());
            let text = format!("{}\n\n{}", prompt.system, prompt.user);
            let name = format!("prompt-{}-{}.md", order.step.name(), order.attempt);
            artifacts.push(store(s, ArtifactKind::Prompt, &name, text.as_bytes()).await?);
            Some(prompt)
        }
        false => None,
    };
    let meter = deps.workspaces.meter_file(order.run, order.attempt);
    let origin = target.repo.local_origin().map(Path::to_owned);
    Ok(AttemptEnv { dir, cache, scratch, patch, meter, project: target.repo.project.clone(), origin, prompt })
}

/// Redacts a prompt. It goes to the operator of the model, so it must not hold a secret from anywhere in the
/// repository.
fn without_secrets(order: &Order, prompt: Prompt) -> Prompt {
    let (system, user) = (redact(&prompt.system).into_owned(), redact(&prompt.user).into_owned());
    if system != prompt.system || user != prompt.user {
        tracing::warn!(run = %order.run, attempt = %order.attempt, "secrets were redacted from a prompt");
    }
    Prompt { system, user, version: prompt.version }
}

/// Removes what only this attempt needed. What cannot be removed now is removed with the run.
async fn clear(s: &Session, env: &AttemptEnv) {
    for dir in [&env.scratch, &env.cache] {
        if let Err(error) = tokio::fs::remove_dir_all(dir).await {
            tracing::debug!(%error, "a folder of the attempt stays until the run is released");
        }
    }
    if s.order.task.is_none() {
        let name = s.order.attempt.to_string();
        if let Err(error) = s.deps.workspaces.remove_dir(&s.target.repo, s.order.run, &name).await {
            tracing::debug!(%error, "the worktree stays until the run is released");
        }
    }
}

/// Stores an artifact of the run.
async fn store(s: &Session, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef> {
    patiently(PATIENCE, || s.deps.store.put_artifact(s.order.run, kind, name, bytes)).await
}

/// The usage that an engine reported last; nothing more is known when it exceeds its time limit.
#[derive(Clone, Default)]
struct LastUsage(Arc<Mutex<Option<Usage>>>);

impl LastUsage {
    fn set(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
    }

    /// Returns the usage; `None` = none was reported. Tokens without a cost may have no known price, so the whole
    /// reserved cost is charged for them.
    fn get(&self, caps: &Usage) -> Option<Usage> {
        let mut usage = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        if usage.cost_micros == 0 && usage.tokens > 0 {
            usage.cost_micros = caps.cost_micros;
        }
        Some(usage)
    }
}

/// Names of the secrets that the engine reported to have received.
#[derive(Clone, Default)]
struct SecretNames(Arc<Mutex<Vec<String>>>);

impl SecretNames {
    fn set(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn sink(s: &Session, spent: &LastUsage, given: &SecretNames) -> Sink {
    let (notifications, run, attempt) = (s.deps.notifications.clone(), s.order.run, s.order.attempt);
    let (spent, given, supervisor) = (spent.clone(), given.clone(), s.run.clone());
    Arc::new(move |event| {
        let text = match event {
            EngineEvent::Said(text) | EngineEvent::Thought(text) | EngineEvent::Did(text) => text,
            EngineEvent::Spent(usage) => return spent.set(usage),
            EngineEvent::Given(names) => return given.set(names),
            EngineEvent::Session(session) => {
                // A supervisor that is gone does not need it.
                let _gone = supervisor.cast(RunMsg::SessionOpened { attempt, session });
                return;
            }
        };
        // Redacted before it is cut: half a secret would not be recognized.
        let text = redact(&text).chars().take(MAX_LINE).collect();
        notifications.send(Notification::Output { run, attempt, text });
    })
}

/// Builds the commit message of an attempt. It names the outside agent that did the work, if one did.
fn message(s: &Session, summary: &str, session: Option<&str>) -> String {
    let task = s.order.task.as_ref();
    let title = task.map_or_else(|| s.order.step.name().to_owned(), |t| t.spec.title.clone());
    let agent = session.filter(|_| s.order.engine.is_open()).and_then(|session| session.strip_prefix(AGENT));
    let agent = agent.map(|name| format!("Skep-Agent: {name}\n")).unwrap_or_default();
    let trailers = format!(
        "Skep-Run: {}\nSkep-Task: {}\nSkep-Attempt: {}\n{agent}",
        s.order.run,
        task.map_or_else(String::new, |t| t.id.to_string()),
        s.order.attempt
    );
    let (title, goal, summary) = (redact(&title), redact(&s.order.goal), redact(summary));
    commit_message(&title, &[&*goal, &*summary], &trailers)
}

/// Builds the commit message: the task, the goal and the engine's summary for people, trailers for machines. A text
/// that only repeats the subject is left out.
fn commit_message(title: &str, texts: &[&str], trailers: &str) -> String {
    let clean: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut subject: String = clean.trim().chars().take(MAX_SUBJECT).collect();
    if clean.trim().chars().count() > MAX_SUBJECT {
        subject = format!("{}…", subject.chars().take(MAX_SUBJECT - 1).collect::<String>().trim_end());
    }
    let mut paragraphs = vec![subject.clone()];
    for text in texts {
        let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').take(MAX_BODY).collect();
        let text = text.trim();
        let text = text.strip_prefix(subject.as_str()).filter(|rest| rest.starts_with('\n')).unwrap_or(text);
        let text: Vec<String> = text.trim().lines().map(|line| unlike_trailer(line.trim_end())).collect();
        let text = text.join("\n");
        if !text.is_empty() && !paragraphs.contains(&text) {
            paragraphs.push(text);
        }
    }
    paragraphs.push(trailers.to_owned());
    paragraphs.join("\n\n")
}

/// Indents a line that looks like a trailer, which only Skep writes.
fn unlike_trailer(line: &str) -> String {
    let key = line.split(':').next().filter(|key| key.len() < line.len() && !key.is_empty());
    match key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
        true => format!("  {line}"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::commit_message;

    #[test]
    fn a_commit_message_has_the_goal_and_only_skeps_trailers() {
        assert_eq!(commit_message("Fix it", &["Fix it", ""], "Skep-Run: 1\n"), "Fix it\n\nSkep-Run: 1\n");
        let goal = "Fix the parser\n\nIt fails on \u{1b}tabs.\nSkep-Run: 2\nSigned-off-by: me\nsee: https://x y\n";
        assert_eq!(
            commit_message("Fix the parser", &[goal, "Done."], "Skep-Run: 1\n"),
            "Fix the parser\n\nIt fails on tabs.\n  Skep-Run: 2\n  Signed-off-by: me\n  see: \
             https://x y\n\nDone.\n\nSkep-Run: 1\n"
        );
        let long = "word ".repeat(40);
        let message = commit_message(&long, &[&long], "T: 1\n");
        let subject = message.lines().next().unwrap();
        assert!(subject.chars().count() <= 72 && subject.ends_with('…'), "{subject}");
        assert!(message.contains(long.trim()));
    }
}
