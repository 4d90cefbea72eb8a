//! Tests one engine end to end: a small order in a throw-away repository, through the code that drives runs.

use super::doctor::{Installed, hidden_fix, installed};
use super::settings;
use crate::adapters::workspace::GitWorkspaces;
use crate::adapters::{demo, engine::KINDS};
use crate::config::Config;
use crate::domain::{
    AttemptId, DiffStat, EngineSpec, Order, Policy, ProjectName, Role, RunId, Sha, Step, TaskId, TaskSpec, Usage,
    order::TaskOrder,
};
use crate::platform::git::{Git, Identity, Mirrors};
use crate::platform::sandbox::Sandbox;
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use crate::ports::{PortError, PortResult, Prompts, Repo, Workspaces};
use crate::service::host::{EngineRow, EngineTest, EngineVerdict, HostError, HostResult};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The line that a dev has to add.
const LINE: &str = "Checked by Skep.";
/// Upper bound on usage for the order.
const CAPS: Usage = Usage { tokens: 300_000, cost_micros: 1_000_000, wall_ms: 300_000, turns: 40 };
/// Roles with an engine, and the step each is tested with.
const STEPS: [(Role, Step); 4] = [
    (Role::Manager, Step::Plan),
    (Role::Scout, Step::Explore),
    (Role::Dev, Step::Develop),
    (Role::Reviewer, Step::Review),
];

/// Selects the engine and the step to test. `what` is a role, or an engine as written in the configuration.
pub fn select(config: &Config, what: &str) -> HostResult<(EngineSpec, Step)> {
    if let Some((role, step)) = STEPS.into_iter().find(|(role, _)| role.name() == what) {
        let spec = config.engines.roles.get(&role).cloned().ok_or_else(|| {
            HostError::usage(
                format!("the role {what} has no engine"),
                format!("set role.{what}.engine, or name an engine as KIND:ARG"),
            )
        })?;
        return Ok((spec, step));
    }
    let step = if what.trim() == "direct" { Step::Plan } else { Step::Develop };
    match crate::config::engine(what, step.role()) {
        Ok(Some(spec)) => Ok((spec, step)),
        Ok(None) => Err(HostError::usage("no engine given", "name a role, or an engine as KIND:ARG")),
        Err(e) => Err(HostError::usage(e.why, e.fix)),
    }
}

/// Lists every role, kind, provider and agent, and whether it can be used here.
pub async fn list(config: &Config, sandbox: Option<&Sandbox>) -> Vec<EngineRow> {
    let row = |what: &str, name: &str, usable: bool, detail: String| EngineRow {
        what: what.to_owned(),
        name: name.to_owned(),
        usable,
        detail,
    };
    let roles = config.engines.roles.iter().map(|(role, spec)| {
        let fallbacks =
            config.engines.fallbacks.get(role).into_iter().flatten().map(settings::written).collect::<Vec<_>>();
        let fallbacks =
            if fallbacks.is_empty() { String::new() } else { format!(", fallback {}", fallbacks.join(", ")) };
        row("role", role.name(), true, format!("{}{fallbacks}", settings::written(spec)))
    });
    let kinds = KINDS.iter().map(|(kind, help)| row("kind", kind, true, (*help).to_owned()));
    let probes = config.providers.iter().map(async |(name, keyed)| {
        let at = &keyed.provider.base_url;
        match keyed.missing() {
            Some(why) => row("provider", name, false, why),
            None if super::doctor::listens(at).await => row("provider", name, true, at.clone()),
            None => row("provider", name, false, format!("no server is listening at {at}")),
        }
    });
    let providers = futures::future::join_all(probes).await;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let agents = config.agents.iter().map(|(name, agent)| {
        let program = agent.command.first().map_or("", String::as_str);
        let keyless =
            agent.provider.as_ref().and_then(|p| config.providers.get(p)).and_then(|k| Some((k, k.missing()?)));
        match (installed(program, &path, sandbox), keyless) {
            (Installed::No, _) => row("agent", name, false, format!("{program} is not on PATH")),
            (Installed::Hidden(folder), _) => {
                let why = format!("{program} is not visible in the sandbox: {}", hidden_fix(&folder));
                row("agent", name, false, why)
            }
            (Installed::Visible, Some((k, why))) => {
                row("agent", name, false, format!("provider {} has no key: {why}", k.provider.name))
            }
            (Installed::Visible, None) => row("agent", name, true, agent.command.join(" ")),
        }
    });
    roles.chain(kinds).chain(providers).chain(agents).collect()
}

/// Throw-away repository with its workspaces.
struct Site {
    repo: Repo,
    run: RunId,
    workspaces: Arc<GitWorkspaces>,
    head: Sha,
}

/// Gives the engine its order and judges the result. The engine's output goes to `output`; lines are dropped when the
/// receiver is too slow.
pub async fn test(
    config: &Config,
    data_dir: &Path,
    sandbox: &Sandbox,
    (spec, step): (EngineSpec, Step),
    output: mpsc::Sender<String>,
) -> HostResult<EngineTest> {
    let vault = super::vault_of(config, data_dir).await?;
    let keys = match &vault {
        Some(vault) => settings::keys(config, vault.as_ref()).await,
        None => settings::Keys::new(),
    };
    let registry = settings::egress_proxy()
        .and_then(|gate| settings::registry(config, &keys, sandbox, Some(gate), vault))
        .map_err(|why| HostError::config(why, "fix the configuration"))?;
    let engine = registry
        .get(&spec)
        .map_err(|why| HostError::config(why, "`skep engine list` shows the engines usable here"))?;
    // Inside the data directory: the sandbox hides the rest of the machine from commands, but not their own worktree.
    let root = tempfile::Builder::new().prefix("probe-").tempdir_in(data_dir).map_err(anyhow::Error::from)?;
    let site = site(root.path()).await?;
    let began = Instant::now();
    let worked = tokio::time::timeout(
        Duration::from_millis(CAPS.wall_ms),
        work(config, &site, engine.as_ref(), &spec, step, output),
    )
    .await;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut usage = (None, Vec::new());
    let judgement = match worked {
        Ok(Ok(work)) => {
            usage = (work.engine.usage, work.engine.usage_by_model.clone());
            judge(work, matches!(spec.kind.as_str(), "llm" | "acp" | "cli"))
        }
        Ok(Err(PortError::Permanent { what, fix })) => (EngineVerdict::Misconfigured, what, fix),
        Ok(Err(other)) => (EngineVerdict::Unavailable, other.to_string(), "retry in a moment".to_owned()),
        Err(_) => (
            EngineVerdict::Failed,
            format!("not finished after {} s", CAPS.wall_ms / 1_000),
            "read its output; a model that is too weak may never finish".to_owned(),
        ),
    };
    let (verdict, detail, fix) = judgement;
    let (usage, usage_by_model) = usage;
    Ok(EngineTest {
        engine: settings::written(&spec),
        step: step.name().to_owned(),
        verdict,
        detail,
        fix,
        duration_ms,
        usage,
        usage_by_model,
    })
}

/// Creates the repository: the demo's sample, in its own data directory.
async fn site(root: &Path) -> PortResult<Site> {
    let sample = demo::write_to(root).await?;
    let git = Arc::new(Git::find(Identity::default()).await?);
    let mirrors = Arc::new(Mirrors::new(root.to_owned(), git));
    let workspaces = Arc::new(GitWorkspaces::new(root.to_owned(), mirrors));
    let repo = Repo { project: ProjectName::from_text("probe"), origin: sample.repo.to_string_lossy().into_owned() };
    let (_, head) = workspaces.fetch(&repo, Some(&sample.base)).await?;
    Ok(Site { repo, run: RunId(uuid::Uuid::now_v7()), workspaces, head })
}

/// Result of the order.
struct Work {
    engine: EngineResult,
    /// The changes in its worktree.
    diff: DiffStat,
    /// Whether the worktree shows exactly the change a dev was asked for.
    as_asked: bool,
}

async fn work(
    config: &Config,
    site: &Site,
    engine: &dyn Engine,
    spec: &EngineSpec,
    step: Step,
    output: mpsc::Sender<String>,
) -> PortResult<Work> {
    let Site { repo, run, workspaces, head: base } = site;
    let task = TaskId(1);
    let goal = format!("README.md ends with the line \"{LINE}\"");
    let branch = "skep/probe";
    let dir = workspaces.task_dir(repo, *run, task, base).await?;
    let mut head = base.clone();
    if step == Step::Review {
        // The reviewer judges the change that a dev would be asked to make.
        let io = |e: std::io::Error| PortError::transient(format!("cannot edit the sample: {e}"));
        let path = dir.join("README.md");
        let text = std::fs::read_to_string(&path).map_err(io)?;
        std::fs::write(&path, format!("{}\n\n{LINE}\n", text.trim_end())).map_err(io)?;
        head = workspaces.commit(repo, *run, task, branch, base, "Note that Skep checked it").await?.head;
    }
    let (diff, patch) = workspaces.diff(repo, base, &head).await?;
    let order = order(*run, spec, step, &goal, task, (base, &head), diff);
    let (cache, scratch) = workspaces.scratch_dirs(*run, "a1");
    for dir in [&cache, &scratch] {
        std::fs::create_dir_all(dir)
            .map_err(|e| PortError::transient(format!("cannot create {}: {e}", dir.display())))?;
    }
    let patch = if step == Step::Review { String::from_utf8_lossy(&patch).into_owned() } else { String::new() };
    let prompt = match engine.reads_prompt() {
        true => {
            let prompts = settings::prompts(config, workspaces.clone());
            let prompts =
                prompts.map_err(|what| PortError::permanent(what, "fix the templates in the folder of prompts.dir"))?;
            Some(prompts.render(repo, &order, &patch, &[]).await?)
        }
        false => None,
    };
    let meter = workspaces.meter_file(*run, order.attempt);
    let env = AttemptEnv { dir, cache, scratch, patch, meter, project: repo.project.clone(), origin: None, prompt };
    let sink: Sink = Arc::new(move |event| {
        let (EngineEvent::Said(text) | EngineEvent::Did(text)) = event else { return };
        // A slow receiver misses lines.
        let _dropped = output.try_send(text);
    });
    let result = engine.run(&order, &env, sink).await?;
    let commit = workspaces.commit(repo, *run, task, branch, &head, "Work of the tested engine").await?;
    let only_readme = commit.diff.files_total == 1 && commit.diff.paths().all(|p| p == "README.md");
    let as_asked = only_readme && String::from_utf8_lossy(&commit.patch).lines().any(|l| l == format!("+{LINE}"));
    Ok(Work { engine: result, diff: commit.diff, as_asked })
}

fn order(
    run: RunId,
    spec: &EngineSpec,
    step: Step,
    goal: &str,
    task: TaskId,
    (base, head): (&Sha, &Sha),
    diff: DiffStat,
) -> Order {
    let text = format!("Add the line \"{LINE}\" at the end of README.md, after an empty line. Change nothing else.");
    let spec_of_task = TaskSpec {
        name: "note".to_owned(),
        title: "Note that Skep checked it".to_owned(),
        text: text.clone(),
        needs: Vec::new(),
        paths: vec!["README.md".to_owned()],
    };
    Order {
        run,
        attempt: AttemptId(1),
        try_number: 1,
        round: 1,
        step,
        engine: spec.clone(),
        goal: format!("{goal}\n\n{text}"),
        question: None,
        task: (step == Step::Develop).then_some(TaskOrder { id: task, spec: spec_of_task }),
        head: head.clone(),
        continues: None,
        base: base.clone(),
        notes: Vec::new(),
        checks: Vec::new(),
        criteria: Vec::new(),
        results: Vec::new(),
        excused: Vec::new(),
        diff,
        concerns: Vec::new(),
        bounds: Policy::default().bounds(),
        caps: CAPS,
        resume: None,
    }
}

/// Judges the result by the worktree, not by what the engine claims. `uses_model`: the engine has to follow the order.
fn judge(work: Work, uses_model: bool) -> (EngineVerdict, String, String) {
    use EngineVerdict::{Failed, Misconfigured, Passed, Unavailable};
    let Work { engine: EngineResult { result, .. }, diff, as_asked } = work;
    let pass_if = |passed: bool| if passed { Passed } else { Failed };
    let (verdict, detail, fix) = match result {
        StepOutcome::Edited { .. } if uses_model && !as_asked => {
            let detail = match diff.is_empty() {
                true => "reported success but changed nothing".to_owned(),
                false => format!("did not do what it was asked: changed {}", paths(&diff)),
            };
            (Failed, detail, "choose a stronger model, or check that it can use its tools")
        }
        StepOutcome::Edited { summary } if uses_model => (Passed, format!("edited README.md as asked: {summary}"), ""),
        StepOutcome::Edited { .. } if diff.is_empty() => (Passed, "succeeded without changing anything".to_owned(), ""),
        StepOutcome::EditedInPart { why, .. } if diff.is_empty() => (Failed, why, "read its output"),
        StepOutcome::Edited { .. } | StepOutcome::EditedInPart { .. } => {
            (Passed, format!("changed {}", paths(&diff)), "")
        }
        StepOutcome::Notes(notes) => (pass_if(!notes.trim().is_empty()), format!("explored: {notes}"), ""),
        StepOutcome::Tasks(tasks) => {
            let titles: Vec<&str> = tasks.iter().map(|t| t.title.as_str()).collect();
            let noun = if tasks.len() == 1 { "task" } else { "tasks" };
            (pass_if(!tasks.is_empty()), format!("planned {} {noun}: {}", tasks.len(), titles.join("; ")), "")
        }
        StepOutcome::Judged { verdict, summary, .. } => {
            (Passed, format!("verdict {}: {summary}", format!("{verdict:?}").to_lowercase()), "")
        }
        StepOutcome::Asked { question, .. } => (
            Failed,
            format!("asked a question instead of working: {question}"),
            "choose a model that decides small things itself",
        ),
        StepOutcome::Failed(why) | StepOutcome::NotResumed(why) => (Failed, why, "read its output"),
        StepOutcome::BudgetExhausted { why, .. } => {
            (Failed, why, "choose a model that needs fewer calls for a small task")
        }
        StepOutcome::Unavailable { why, until, fix } => {
            let verdict = if fix.is_some() { Misconfigured } else { Unavailable };
            let until = until.and_then(|t| chrono::DateTime::from_timestamp_millis(t.0));
            let until = until.map(|t| format!(" until {}", t.format("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
            return (verdict, format!("{why}{until}"), fix.unwrap_or_else(|| "try again later".to_owned()));
        }
    };
    (verdict, detail, fix.to_owned())
}

fn paths(diff: &DiffStat) -> String {
    diff.paths().take(5).collect::<Vec<_>>().join(", ")
}
