//! Intake: from "this goal, that repository" to a run with its rules pinned. Nothing is opened that could never end well.

use super::deps::Deps;
use super::runtime_handle::Rejected;
use crate::domain::{
    CheckSpec, Decision, EngineSpec, Event, Goal, Opened, Outcome, Policy, Project, ProjectName, Role, Run, RunId,
    Settings, open,
};
use crate::ports::store::{Lease, Owner, RunFilter, Transition};
use crate::ports::{PortError, Repo};
use crate::secrets::redact;
use crate::telemetry::TraceContext;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What new projects and runs are born with where nobody said otherwise: the configuration's part.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The policy.
    pub policy: Policy,
    /// An engine for each role.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// What a role falls back on, in order.
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// What run branches start with.
    pub branch_prefix: String,
}

/// The defaults in force: replaced as a whole when the configuration is read again, for runs opened after that.
pub type DefaultsNow = watch::Receiver<Arc<Defaults>>;

impl Defaults {
    /// Defaults that never change.
    pub fn fixed(self) -> DefaultsNow {
        watch::channel(Arc::new(self)).1
    }
}

/// A request for a run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Id that the run gets if it is opened; drawn if absent.
    pub id: Option<RunId>,
    /// A project by name; or else `repo`.
    pub project: Option<ProjectName>,
    /// A repository: becomes a project the first time.
    pub repo: Option<String>,
    /// The goal.
    pub goal: Goal,
    /// The branch to land on, over the project's.
    pub base: Option<String>,
    /// Engines, over the project's.
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Checks, instead of the project's.
    pub checks: Vec<CheckSpec>,
    /// Whether an open run of the same project and goal is carried on instead of a second one opened.
    pub carry_on: bool,
    /// The W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// Looks at the repository and gives what the run is born with, or an open run with the same goal.
pub(super) async fn prepare(deps: &Deps, mut ask: Ask) -> Result<Result<Opened, Run>, Rejected> {
    // As every event's texts are cleaned before it is decided upon; here already, so that the same goal is found again.
    ask.goal.text = redact(&ask.goal.text).into_owned();
    // Looked at once: a run is born with one configuration, never with parts of two.
    let defaults = deps.defaults.borrow().clone();
    let (project, is_new) = project(deps, &ask, &defaults).await?;
    if let Some(run) = open_already(deps, &ask, &project, is_new).await? {
        return Ok(Err(run));
    }
    let traceparent = ask.traceparent.clone();
    let mut opened = look(deps, ask, project.clone(), &defaults).await?;
    // What the machine itself would refuse is refused before anything is kept.
    open(&opened, deps.clock.now())?;
    // Only a repository a run can be opened on becomes a project: a refused request leaves nothing behind.
    if is_new {
        keep(deps, &project).await?;
    }
    // The run's first span: what later happens, in this process or another, hangs below it by the stored context.
    let span = tracing::info_span!("run", run = %opened.id, project = %opened.project, base = %opened.base);
    let span = TraceContext::under(traceparent.as_deref(), span);
    opened.traceparent = Some(TraceContext::of(&span).to_string());
    Ok(Ok(opened))
}

/// The open run that would be carried on instead of a new one.
pub(super) async fn open_already(
    deps: &Deps,
    ask: &Ask,
    project: &Project,
    is_new: bool,
) -> Result<Option<Run>, Rejected> {
    match ask.carry_on && !is_new {
        true => same_goal(deps, &project.name, &ask.goal.text).await,
        false => Ok(None),
    }
}

/// What a run of this project is born with. Nothing is written but the mirror's fetch.
pub(super) async fn look(deps: &Deps, ask: Ask, project: Project, defaults: &Defaults) -> Result<Opened, Rejected> {
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    let wanted = ask.base.as_deref().or(project.base.as_deref());
    let (base_branch, base) = deps.workspaces.fetch(&repo, wanted).await.map_err(rejected)?;
    let names = deps.workspaces.root_names(&repo, &base).await.map_err(rejected)?;
    let mut files = BTreeMap::new();
    for name in deps.checks.wanted() {
        if names.iter().any(|n| n == name)
            && let Some(bytes) = deps.workspaces.read_at(&repo, &base, name).await.map_err(rejected)?
        {
            files.insert((*name).to_owned(), bytes);
        }
    }
    let rules = deps
        .checks
        .rules(&names, &files)
        .map_err(|what| Rejected::Invalid { what, fix: format!("Mend it on {base_branch} of {}", project.repo) })?;
    let checks = [ask.checks, project.checks, rules.checks].into_iter().find(|c| !c.is_empty()).unwrap_or_default();
    if checks.is_empty() {
        return Err(Rejected::Invalid {
            what: format!("no checks were found in {} at {} of {base_branch}", project.repo, base.abbrev()),
            fix: "Give the command that proves a change with --check, or name it in .skep.toml".to_owned(),
        });
    }
    let checks = deps.checks.placed(&project.name, checks).map_err(|(what, fix)| Rejected::Invalid { what, fix })?;
    let mut engines = defaults.engines.clone();
    engines.extend(project.engines);
    engines.extend(ask.engines);
    // Who names an engine for a role means that one: what takes over belongs to the configured engine.
    let mut fallbacks = defaults.fallbacks.clone();
    fallbacks.retain(|role, _| engines.get(role) == defaults.engines.get(role));
    for (role, spec) in
        engines.iter().chain(fallbacks.iter().flat_map(|(role, all)| all.iter().map(move |s| (role, s))))
    {
        deps.engines.get(spec).map_err(|what| Rejected::Invalid {
            what: format!("the engine of the role {} cannot be used: {what}", role.name()),
            fix: "Choose another with --engine, or in the configuration".to_owned(),
        })?;
    }
    let id = ask.id.unwrap_or_else(|| deps.clock.new_run_id());
    Ok(Opened {
        id,
        project: project.name,
        goal: ask.goal,
        settings: Settings {
            policy: project.policy.unwrap_or_else(|| defaults.policy.clone()).tightened(&rules.tightening),
            engines,
            fallbacks,
            checks,
            origin: project.repo,
            base_branch,
            branch: format!("{}/{}", project.branch_prefix, id.abbrev()),
        },
        base,
        traceparent: None,
    })
}

/// The first transition of a run, which opens it. Nobody owns it yet.
pub(super) fn opening(deps: &Deps, opened: Opened) -> Result<Transition, Rejected> {
    let at = deps.clock.now();
    let Decision { run, effects, finished, ledger_rows } = open(&opened, at)?;
    let lease = Lease { run: run.id, owner: Owner(String::new()), epoch: 0 };
    Ok(Transition {
        lease,
        at,
        event: Event::Opened(Box::new(opened)),
        run: Box::new(run),
        effects,
        finished,
        ledger_rows,
    })
}

/// Keeps a new project. Whoever named the same repository in the same moment made the same one.
async fn keep(deps: &Deps, project: &Project) -> Result<(), Rejected> {
    let Err(error) = deps.store.put_project(project, false).await else { return Ok(()) };
    match deps.store.project(&project.name).await.map_err(rejected)? {
        Some(known) if known.repo == project.repo => Ok(()),
        Some(known) => {
            Err(Rejected::Away(format!("the name {} was given to {} in this moment", project.name, known.repo)))
        }
        None => Err(rejected(error)),
    }
}

/// The project asked for, and whether it is not kept yet.
pub(super) async fn project(deps: &Deps, ask: &Ask, defaults: &Defaults) -> Result<(Project, bool), Rejected> {
    if let Some(name) = &ask.project {
        let known = deps.store.project(name).await.map_err(rejected)?.ok_or_else(|| Rejected::Invalid {
            what: format!("there is no project {name}"),
            fix: "`skep project list` shows those there are; `skep project add` makes one".to_owned(),
        })?;
        return Ok((known, false));
    }
    let Some(repo) = &ask.repo else {
        return Err(Rejected::Invalid {
            what: "neither a project nor a repository was named".to_owned(),
            fix: "Give --repo PATH_OR_URL, or --project NAME".to_owned(),
        });
    };
    let known = deps.store.projects().await.map_err(rejected)?;
    if let Some(project) = known.iter().find(|p| p.repo == *repo) {
        return Ok((project.clone(), false));
    }
    let last = repo.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(repo);
    let stem = ProjectName::from_text(last.strip_suffix(".git").unwrap_or(last));
    let free = |name: &ProjectName| known.iter().all(|p| p.name != *name);
    let name = std::iter::once(stem.clone())
        .chain((2..10_000).map(|n| ProjectName::from_text(&format!("{stem}-{n}"))))
        .find(free)
        .unwrap_or(stem);
    let project = Project {
        name,
        repo: repo.clone(),
        base: None,
        branch_prefix: defaults.branch_prefix.clone(),
        checks: Vec::new(),
        engines: BTreeMap::new(),
        policy: None,
    };
    Ok((project, true))
}

async fn same_goal(deps: &Deps, project: &ProjectName, goal: &str) -> Result<Option<Run>, Rejected> {
    let filter = RunFilter {
        project: Some(project.clone()),
        open_only: true,
        own_only: true,
        limit: 100,
        ..RunFilter::default()
    };
    for row in deps.store.list(&filter).await.map_err(rejected)? {
        // A run that cannot be read is not the one looked for; the list shows it quarantined.
        if let Ok(Some(run)) = deps.store.load(row.run).await
            && run.goal.text == goal
            // One that is winding down cannot deliver any more; one that has delivered may still have its end to tell.
            && matches!(run.outcome, None | Some(Outcome::Delivered { .. }))
            && run.stopping.is_none()
        {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// A port's error as an answer to somebody outside.
pub(super) fn rejected(error: PortError) -> Rejected {
    match error {
        PortError::Permanent { what, fix } => Rejected::Invalid { what, fix },
        other => Rejected::Away(other.to_string()),
    }
}
