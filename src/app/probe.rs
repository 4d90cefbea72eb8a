//! Proves one engine end to end: a small order in a throw-away repository, by the code that carries runs.

use super::settings;
use crate::adapters::workspace::GitWorkspaces;
use crate::adapters::{demo, engine::KINDS};
use crate::cli::context::{EngineRow, Proof};
use crate::cli::exit::{CliError, Exit};
use crate::config::Config;
use crate::domain::{
    AttemptId, DiffStat, EngineSpec, Order, Policy, ProjectName, Role, RunId, Sha, Step, TaskId, TaskSpec, Usage,
    order::TaskOrder,
};
use crate::platform::git::{Git, Identity, Mirrors};
use crate::platform::sandbox::Sandbox;
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use crate::ports::{PortError, PortResult, Prompts, Repo, Workspaces};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What a dev is asked for.
const LINE: &str = "Checked by Skep.";
/// What the order may use.
const CAPS: Usage = Usage { tokens: 300_000, cost_micros: 1_000_000, wall_ms: 300_000, turns: 40 };
/// Roles that think, with what each is asked to do.
const STEPS: [(Role, Step); 4] = [
    (Role::Manager, Step::Plan),
    (Role::Scout, Step::Explore),
    (Role::Dev, Step::Develop),
    (Role::Reviewer, Step::Review),
];

/// What can be tested: the engine and what it is asked to do. `what` is a role, or an engine as it is written.
pub fn chosen(config: &Config, what: &str) -> Result<(EngineSpec, Step), CliError> {
    if let Some((role, step)) = STEPS.into_iter().find(|(role, _)| role.name() == what) {
        let spec = config.engines.roles.get(&role).cloned().ok_or_else(|| {
            CliError::usage(
                format!("the role {what} has no engine"),
                format!("set role.{what}.engine, or name an engine"),
            )
        })?;
        return Ok((spec, step));
    }
    let step = if what.trim() == "direct" { Step::Plan } else { Step::Develop };
    match crate::config::engine(what, step.role()) {
        Ok(Some(spec)) => Ok((spec, step)),
        Ok(None) => Err(CliError::usage("no engine is named", "name a role, or an engine as KIND:ARG")),
        Err(e) => Err(CliError::usage(e.why, e.fix)),
    }
}

/// Every kind, provider and agent, and whether it can be used here.
pub async fn list(config: &Config) -> Vec<EngineRow> {
    let row = |what: &str, name: &str, usable: bool, found: String| EngineRow {
        what: what.to_owned(),
        name: name.to_owned(),
        usable,
        found,
    };
    let roles = config.engines.roles.iter().map(|(role, spec)| {
        let next = config.engines.fallbacks.get(role).into_iter().flatten().map(settings::written).collect::<Vec<_>>();
        let next = if next.is_empty() { String::new() } else { format!(", then {}", next.join(", ")) };
        row("role", role.name(), true, format!("{}{next}", settings::written(spec)))
    });
    let kinds = KINDS.iter().map(|(kind, help)| row("kind", kind, true, (*help).to_owned()));
    let asked = config.providers.iter().map(async |(name, keyed)| {
        let at = &keyed.provider.base_url;
        match keyed.missing() {
            Some(why) => row("provider", name, false, why),
            None if super::doctor::listens(at).await => row("provider", name, true, at.clone()),
            None => row("provider", name, false, format!("nothing listens at {at}")),
        }
    });
    let providers = futures::future::join_all(asked).await;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let agents = config.agents.iter().map(|(name, agent)| {
        let program = agent.command.first().map_or("", String::as_str);
        let keyless =
            agent.provider.as_ref().and_then(|p| config.providers.get(p)).and_then(|k| Some((k, k.missing()?)));
        match keyless {
            _ if !super::doctor::is_program(program, &path) => {
                row("agent", name, false, format!("{program} is not on PATH"))
            }
            Some((k, why)) => row("agent", name, false, format!("its provider {} has no key: {why}", k.provider.name)),
            None => row("agent", name, true, agent.command.join(" ")),
        }
    });
    roles.chain(kinds).chain(providers).chain(agents).collect()
}

/// The throw-away repository and what works on it.
struct Site {
    repo: Repo,
    run: RunId,
    workspaces: Arc<GitWorkspaces>,
    head: Sha,
}

/// Does the order. `said` is told what the engine says, as far as somebody reads.
pub async fn prove(
    config: &Config,
    data_dir: &Path,
    sandbox: &Sandbox,
    (spec, step): (EngineSpec, Step),
    said: mpsc::Sender<String>,
) -> Result<Proof, CliError> {
    let vault = super::vault_of(config, data_dir).await.map_err(super::program::away)?;
    let keys = match &vault {
        Some(vault) => settings::keys(config, vault.as_ref()).await,
        None => settings::Keys::new(),
    };
    let registry = settings::gate()
        .and_then(|gate| settings::registry(config, &keys, sandbox, Some(gate), vault))
        .map_err(|why| CliError::config(why, "mend it in the configuration"))?;
    let engine =
        registry.get(&spec).map_err(|why| CliError::config(why, "`skep engine list` shows what can be used here"))?;
    // Beneath the data directory: commands are walled off from the rest of the machine, not from their own worktree.
    let root = tempfile::Builder::new().prefix("probe-").tempdir_in(data_dir).map_err(anyhow::Error::from)?;
    let site = site(root.path()).await.map_err(super::program::away)?;
    let began = Instant::now();
    let done = tokio::time::timeout(
        Duration::from_millis(CAPS.wall_ms),
        work(config, &site, engine.as_ref(), &spec, step, said),
    )
    .await;
    let wall_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut proof = Proof {
        engine: settings::written(&spec),
        step: step.name().to_owned(),
        worked: false,
        what: String::new(),
        fix: String::new(),
        wall_ms,
        usage: None,
        bill: Vec::new(),
        exit: Exit::Undelivered,
    };
    let did = match done {
        Ok(Ok(did)) => did,
        Ok(Err(PortError::Permanent { what, fix })) => {
            (proof.what, proof.fix, proof.exit) = (what, fix, Exit::Config);
            return Ok(proof);
        }
        Ok(Err(other)) => {
            (proof.what, proof.fix, proof.exit) = (other.to_string(), "try again in a moment".to_owned(), Exit::Again);
            return Ok(proof);
        }
        Err(_) => {
            proof.what = format!("it was not done after {} s", CAPS.wall_ms / 1_000);
            "look at what it said; a model that is too weak never ends".clone_into(&mut proof.fix);
            return Ok(proof);
        }
    };
    (proof.usage, proof.bill) = (did.worked.usage, did.worked.bill.clone());
    judge(&mut proof, did, matches!(spec.kind.as_str(), "llm" | "acp" | "cli"));
    Ok(proof)
}

/// Makes the repository: the demo's sample, in a place of its own.
async fn site(root: &Path) -> PortResult<Site> {
    let sample = demo::write_to(root).await?;
    let git = Arc::new(Git::find(Identity::default()).await?);
    let mirrors = Arc::new(Mirrors::new(root.to_owned(), git));
    let workspaces = Arc::new(GitWorkspaces::new(root.to_owned(), mirrors));
    let repo = Repo { project: ProjectName::from_text("probe"), origin: sample.repo.to_string_lossy().into_owned() };
    let (_, head) = workspaces.fetch(&repo, Some(&sample.base)).await?;
    Ok(Site { repo, run: RunId(uuid::Uuid::now_v7()), workspaces, head })
}

/// What an engine did.
struct Did {
    worked: EngineResult,
    /// What its worktree shows.
    diff: DiffStat,
    /// Whether that is exactly what a dev was asked for.
    as_asked: bool,
}

async fn work(
    config: &Config,
    site: &Site,
    engine: &dyn Engine,
    spec: &EngineSpec,
    step: Step,
    said: mpsc::Sender<String>,
) -> PortResult<Did> {
    let Site { repo, run, workspaces, head: base } = site;
    let task = TaskId(1);
    let goal = format!("README.md ends with the line \"{LINE}\"");
    let branch = "skep/probe";
    let dir = workspaces.task_dir(repo, *run, task, base).await?;
    let mut head = base.clone();
    if step == Step::Review {
        // Something to judge: the change a dev is asked for.
        let io = |e: std::io::Error| PortError::transient(format!("the sample cannot be changed: {e}"));
        let path = dir.join("README.md");
        let text = std::fs::read_to_string(&path).map_err(io)?;
        std::fs::write(&path, format!("{}\n\n{LINE}\n", text.trim_end())).map_err(io)?;
        head = workspaces.commit(repo, *run, task, branch, base, "Say that it was checked").await?.head;
    }
    let (diff, patch) = workspaces.diff(repo, base, &head).await?;
    let order = order(*run, spec, step, &goal, task, (base, &head), diff);
    let (cache, scratch) = workspaces.scratch_dirs(*run, "a1");
    for made in [&cache, &scratch] {
        std::fs::create_dir_all(made)
            .map_err(|e| PortError::transient(format!("cannot make the folder {}: {e}", made.display())))?;
    }
    let patch = if step == Step::Review { String::from_utf8_lossy(&patch).into_owned() } else { String::new() };
    let prompt = match engine.reads_prompt() {
        true => {
            let prompts = settings::prompts(config, workspaces.clone());
            let prompts = prompts.map_err(|what| PortError::permanent(what, "mend the folder of prompts"))?;
            Some(prompts.render(repo, &order, &patch).await?)
        }
        false => None,
    };
    let meter = workspaces.meter_file(*run, order.attempt);
    let env = AttemptEnv { dir, cache, scratch, patch, meter, project: repo.project.clone(), prompt };
    let sink: Sink = Arc::new(move |event| {
        let (EngineEvent::Said(text) | EngineEvent::Did(text)) = event else { return };
        // Whoever reads too slowly misses some.
        let _missed = said.try_send(text);
    });
    let worked = engine.run(&order, &env, sink).await?;
    let found = workspaces.commit(repo, *run, task, branch, &head, "What the engine did").await?;
    let only_there = found.diff.files_total == 1 && found.diff.paths().all(|p| p == "README.md");
    let as_asked = only_there && String::from_utf8_lossy(&found.patch).lines().any(|l| l == format!("+{LINE}"));
    Ok(Did { worked, diff: found.diff, as_asked })
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
        name: "say".to_owned(),
        title: "Say that it was checked".to_owned(),
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
        base: base.clone(),
        notes: Vec::new(),
        checks: Vec::new(),
        results: Vec::new(),
        diff,
        concerns: Vec::new(),
        bounds: Policy::default().bounds(),
        caps: CAPS,
        resume: None,
    }
}

/// What the result is worth. What an engine says is not believed: its worktree is looked at.
fn judge(proof: &mut Proof, did: Did, thinks: bool) {
    let Did { worked: EngineResult { result, .. }, diff, as_asked } = did;
    let (worked, what, fix) = match result {
        StepOutcome::Edited { .. } if thinks && !as_asked => {
            let did = match diff.is_empty() {
                true => "it says it is done, and changed nothing".to_owned(),
                false => format!("it did something else than it was asked for: it changed {}", paths(&diff)),
            };
            (false, did, "choose a stronger model, or look whether it can use its tools")
        }
        StepOutcome::Edited { summary } if thinks => (true, format!("it edited README.md as asked: {summary}"), ""),
        StepOutcome::Edited { .. } if diff.is_empty() => (true, "it ended well and changed nothing".to_owned(), ""),
        StepOutcome::Edited { .. } => (true, format!("it changed {}", paths(&diff)), ""),
        StepOutcome::Notes(notes) => (!notes.trim().is_empty(), format!("it looked around: {notes}"), ""),
        StepOutcome::Tasks(tasks) => {
            let titles: Vec<&str> = tasks.iter().map(|t| t.title.as_str()).collect();
            (!tasks.is_empty(), format!("it planned {}: {}", tasks.len(), titles.join("; ")), "")
        }
        StepOutcome::Judged { verdict, summary, .. } => {
            (true, format!("it judged {verdict:?}: {summary}").to_lowercase(), "")
        }
        StepOutcome::Asked { question, .. } => {
            (false, format!("it asked instead: {question}"), "choose a model that decides small things itself")
        }
        StepOutcome::Failed(why) | StepOutcome::NotResumed(why) => (false, why, "look at what it said"),
        StepOutcome::SpentOut { why, .. } => (false, why, "choose a model that needs fewer calls for a small thing"),
        StepOutcome::Unavailable { why, until, fix } => {
            proof.exit = if fix.is_some() { Exit::Config } else { Exit::Again };
            let at = until.and_then(|t| chrono::DateTime::from_timestamp_millis(t.0));
            let at = at.map(|t| format!(" until {}", t.format("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
            (proof.what, proof.fix) = (format!("{why}{at}"), fix.unwrap_or_else(|| "try again later".to_owned()));
            return;
        }
    };
    proof.worked = worked;
    if worked {
        proof.exit = Exit::Done;
    }
    (proof.what, proof.fix) = (what, fix.to_owned());
}

fn paths(diff: &DiffStat) -> String {
    diff.paths().take(5).collect::<Vec<_>>().join(", ")
}
