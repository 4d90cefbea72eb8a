//! One attempt carried from its order to its report: prepare the bench, let the engine work, keep what it left.
//!
//! One that is taken up again finds its bench as it was left, or is lost.

use super::deps::Deps;
use super::message::RunMsg;
use super::notifications::News;
use super::ops::RunTarget;
use super::retry::patiently;
use crate::domain::{
    ArtifactKind, ArtifactRef, AttemptId, Metered, ModelUse, Order, Report, Reported, RunId, Step, Usage,
};
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult, Prompt};
use crate::secrets::redact;
use ractor::ActorRef;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long preparing and committing may be tried again when the store or the disk is away.
const PATIENCE: Duration = Duration::from_secs(600);
/// The longest line shown to people who watch.
const LINE_MAX: usize = 2_000;

/// What a session needs.
pub(super) struct Session {
    pub deps: Deps,
    pub target: RunTarget,
    pub run: ActorRef<RunMsg>,
    pub order: Box<Order>,
}

/// Carries it to its report. Never fails: a failure is a report.
pub(super) async fn carry(session: Session) -> Reported {
    let started = Instant::now();
    let (run, attempt) = (session.order.run, session.order.attempt);
    // Before everything else, so that it is free only when the engine's last process is gone.
    let _seat = session.deps.attempt_locks.take(run, attempt).await;
    let carried = work(&session).await.unwrap_or_else(|error| {
        let why = in_words(&error);
        let (report, (usage, usage_by_model)) = match session.order.resume {
            None => (Report::Failed { why }, (Some(Usage::default()), Vec::new())),
            // Of what it had used before only its count is known.
            Some(_) => (Report::NotResumed { why }, known(&session.deps, run, attempt)),
        };
        Carried {
            report,
            usage,
            usage_by_model,
            session: None,
            artifacts: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        }
    });
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Carried { report, usage, usage_by_model, session, artifacts, secrets, prompt_digest } = carried;
    Reported {
        attempt,
        report,
        usage: usage.map(|u| Usage { wall_ms, ..u }),
        usage_by_model,
        session,
        artifacts,
        secrets,
        prompt_digest,
    }
}

fn in_words(error: &PortError) -> String {
    match error {
        PortError::Permanent { what, fix } => format!("{what}. {fix}"),
        other => other.to_string(),
    }
}

/// What an attempt that cannot tell itself has used, and on which models; `None` = nobody counted.
fn known(deps: &Deps, run: RunId, attempt: AttemptId) -> (Option<Usage>, Vec<ModelUse>) {
    match metered(deps, run, attempt) {
        Some(Metered { used, usage_by_model }) => (Some(used), usage_by_model),
        None => (None, Vec::new()),
    }
}

/// The report of an attempt that cannot make one.
pub(super) fn silent(deps: &Deps, run: RunId, attempt: AttemptId, report: Report) -> Reported {
    let (usage, usage_by_model) = known(deps, run, attempt);
    Reported {
        attempt,
        report,
        usage,
        session: None,
        artifacts: Vec::new(),
        usage_by_model,
        secrets: Vec::new(),
        prompt_digest: None,
    }
}

/// What was counted of an attempt so far.
pub(super) fn metered(deps: &Deps, run: RunId, attempt: AttemptId) -> Option<Metered> {
    deps.engines.metered(&deps.workspaces.meter_file(run, attempt))
}

/// What came of it: the parts of a [`Reported`], wall time apart.
struct Carried {
    report: Report,
    usage: Option<Usage>,
    usage_by_model: Vec<ModelUse>,
    session: Option<String>,
    artifacts: Vec<ArtifactRef>,
    secrets: Vec<String>,
    prompt_digest: Option<String>,
}

async fn work(s: &Session) -> PortResult<Carried> {
    let (deps, order, target) = (&s.deps, &s.order, &s.target);
    deps.engines.refresh().await;
    let engine = deps.engines.get(&order.engine).map_err(|what| PortError::permanent(what, "choose another engine"))?;
    let mut artifacts = Vec::new();
    let env = env(s, engine.as_ref(), &mut artifacts).await?;
    let prompt_digest = env.prompt.as_ref().map(|prompt| prompt.version.as_str().to_owned());
    crate::fault!("before-engine");
    let limit = Duration::from_millis(order.caps.wall_ms);
    let (spent, given) = (Spent::default(), Named::default());
    let worked = match tokio::time::timeout(limit, engine.run(order, &env, sink(s, &spent, &given))).await {
        Ok(worked) => worked,
        Err(_) => {
            let why = format!("it ran out of its time ({} s)", limit.as_secs_f32().ceil());
            clear(s, &env).await;
            let report = Report::Failed { why };
            let (usage, usage_by_model) = known(deps, order.run, order.attempt);
            let usage = usage.or_else(|| spent.known(&order.caps));
            return Ok(Carried {
                report,
                usage,
                usage_by_model,
                session: None,
                artifacts,
                secrets: given.names(),
                prompt_digest,
            });
        }
    };
    crate::fault!("after-engine");
    let EngineResult { result, usage, usage_by_model, session, files } = worked?;
    crate::fault!("before-keep");
    for (kind, name, bytes) in &files {
        artifacts.push(keep(s, *kind, name, bytes).await?);
    }
    let report = match result {
        StepOutcome::Notes(notes) => Report::Explored { notes },
        StepOutcome::Tasks(tasks) => Report::Planned { tasks },
        StepOutcome::Edited { summary } => {
            let Some(task) = &order.task else {
                return Err(PortError::permanent("an edit was reported for no task", "report this as a defect"));
            };
            let branch = crate::domain::run::task_branch(&target.branch, task.id);
            let message = message(s, &summary);
            crate::fault!("before-task-commit");
            let commit = patiently(PATIENCE, || {
                deps.workspaces.commit(&target.repo, order.run, task.id, &branch, &order.head, &message)
            })
            .await?;
            crate::fault!("after-task-commit");
            if !commit.patch.is_empty() {
                let name = format!("{}-{}.patch", task.id, order.attempt);
                artifacts.push(keep(s, ArtifactKind::Patch, &name, &commit.patch).await?);
            }
            Report::Developed { head: commit.head, diff: commit.diff, summary }
        }
        StepOutcome::Judged { verdict, findings, summary } => {
            Report::Reviewed { head: order.head.clone(), verdict, findings, summary }
        }
        StepOutcome::Asked { question, to } => Report::Asked { question, to },
        StepOutcome::Failed(why) => Report::Failed { why },
        StepOutcome::BudgetExhausted { budget, why } => Report::BudgetExhausted { budget, why },
        StepOutcome::NotResumed(why) => Report::NotResumed { why },
        StepOutcome::Unavailable { why, until, fix } => Report::Unavailable { why, until, fix },
    };
    clear(s, &env).await;
    crate::fault!("before-report");
    Ok(Carried { report, usage, usage_by_model, session, artifacts, secrets: given.names(), prompt_digest })
}

/// The bench: a worktree to edit for a dev, one to read for the others; and the prompt, for an engine that reads one. The prompt is
/// kept before the engine starts, so that it is there to be read even when the attempt is lost.
async fn env(s: &Session, engine: &dyn Engine, artifacts: &mut Vec<ArtifactRef>) -> PortResult<AttemptEnv> {
    let (deps, order, target) = (&s.deps, &s.order, &s.target);
    let name = order.attempt.to_string();
    let (cache, scratch) = deps.workspaces.scratch_dirs(order.run, &name);
    let dir = match (&order.task, &order.resume) {
        (task, Some(_)) => {
            let task = task.as_ref().map(|t| t.id);
            let left =
                patiently(PATIENCE, || deps.workspaces.existing_dir(order.run, task, &name, &order.head)).await?;
            left.ok_or_else(|| PortError::transient("its worktree is not there any more as it was left"))?
        }
        (Some(task), None) => {
            patiently(PATIENCE, || deps.workspaces.task_dir(&target.repo, order.run, task.id, &order.head)).await?
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
    for made in [&cache, &scratch] {
        tokio::fs::create_dir_all(made)
            .await
            .map_err(|e| PortError::transient(format!("cannot make the folder {}: {e}", made.display())))?;
    }
    let prompt = match engine.reads_prompt() {
        true => {
            let prompt = without_secrets(order, deps.prompts.render(&target.repo, order, &patch).await?);
            let text = format!("{}\n\n{}", prompt.system, prompt.user);
            let name = format!("prompt-{}-{}.md", order.step.name(), order.attempt);
            artifacts.push(keep(s, ArtifactKind::Prompt, &name, text.as_bytes()).await?);
            Some(prompt)
        }
        false => None,
    };
    let meter = deps.workspaces.meter_file(order.run, order.attempt);
    Ok(AttemptEnv { dir, cache, scratch, patch, meter, project: target.repo.project.clone(), prompt })
}

/// What an engine is told goes to whoever runs its model: no secret is in it, wherever in the repository it was read.
fn without_secrets(order: &Order, prompt: Prompt) -> Prompt {
    let (system, user) = (redact(&prompt.system).into_owned(), redact(&prompt.user).into_owned());
    if system != prompt.system || user != prompt.user {
        tracing::warn!(run = %order.run, attempt = %order.attempt, "secrets were taken out of a prompt");
    }
    Prompt { system, user, version: prompt.version }
}

/// Gives back what only this attempt needed. What stays behind is removed with the run.
async fn clear(s: &Session, env: &AttemptEnv) {
    if let Err(error) = tokio::fs::remove_dir_all(&env.scratch).await {
        tracing::debug!(%error, "scratch folder stays until the run is released");
    }
    if s.order.task.is_none() {
        let name = s.order.attempt.to_string();
        if let Err(error) = s.deps.workspaces.remove_dir(&s.target.repo, s.order.run, &name).await {
            tracing::debug!(%error, "worktree stays until the run is released");
        }
    }
}

async fn keep(s: &Session, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef> {
    patiently(PATIENCE, || s.deps.store.put_artifact(s.order.run, kind, name, bytes)).await
}

/// The last an engine told of what it has used: all that is known when its time runs out.
#[derive(Clone, Default)]
struct Spent(Arc<Mutex<Option<Usage>>>);

impl Spent {
    fn note(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
    }

    /// `None` = nothing was told. Tokens that cost nothing, where money is limited, may have no known price: what was set aside is
    /// charged for them.
    fn known(&self, caps: &Usage) -> Option<Usage> {
        let mut usage = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        if usage.cost_micros == 0 && usage.tokens > 0 {
            usage.cost_micros = caps.cost_micros;
        }
        Some(usage)
    }
}

/// The names of the secrets an engine told it was given.
#[derive(Clone, Default)]
struct Named(Arc<Mutex<Vec<String>>>);

impl Named {
    fn note(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn sink(s: &Session, spent: &Spent, given: &Named) -> Sink {
    let (notifications, run, attempt) = (s.deps.notifications.clone(), s.order.run, s.order.attempt);
    let (spent, given, supervisor) = (spent.clone(), given.clone(), s.run.clone());
    Arc::new(move |event| {
        let text = match event {
            EngineEvent::Said(text) | EngineEvent::Thought(text) | EngineEvent::Did(text) => text,
            EngineEvent::Spent(usage) => return spent.note(usage),
            EngineEvent::Given(names) => return given.note(names),
            EngineEvent::Session(session) => {
                // A supervisor that is gone has no use for it.
                let _gone = supervisor.cast(RunMsg::SessionOpened { attempt, session });
                return;
            }
        };
        // Cut afterwards: half a secret would not be known for one.
        let text = redact(&text).chars().take(LINE_MAX).collect();
        notifications.tell(News::Said { run, attempt, text });
    })
}

/// The commit's message: the task for people, trailers for machines.
fn message(s: &Session, summary: &str) -> String {
    let title = s.order.task.as_ref().map_or_else(|| s.order.step.name().to_owned(), |t| t.spec.title.clone());
    let line = |text: &str| text.chars().filter(|c| !c.is_control()).take(72).collect::<String>();
    let (title, summary) = (redact(&title), redact(summary));
    let body: String = summary.chars().filter(|c| !c.is_control() || *c == '\n').take(4_000).collect();
    let task = s.order.task.as_ref().map_or_else(String::new, |t| t.id.to_string());
    // A summary can't forge trailers: every line of it is indented.
    let body: String = body.lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "{}\n\n{body}\nSkep-Run: {}\nSkep-Task: {task}\nSkep-Attempt: {}\n",
        line(&title),
        s.order.run,
        s.order.attempt
    )
}
