//! Intake: turns a goal and a repository into a run with its rules pinned, and refuses what could never succeed.

use super::deps::Deps;
use super::error::RuntimeError;
use super::parts::Parts;
use super::request::{Defaults, PlanFor, RunRequest};
use crate::domain::{
    CheckKind, CheckSpec, Decision, Difference, EngineSpec, Event, Goal, OnDifference, Opened, Outcome, Policy,
    Project, ProjectName, Refusal, Role, Run, Settings, Sha, Tightening, open,
};
use crate::ports::Repo;
use crate::ports::checks::RepoRules;
use crate::ports::forge::LocatedRepo;
use crate::ports::journal::Transition;
use crate::ports::leases::{Lease, Owner};
use crate::ports::run_index::RunFilter;
use crate::render;
use crate::secrets::redact;
use crate::telemetry::TraceContext;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a request leads to.
pub(super) enum Intake {
    /// A new run, born with this.
    New(Box<Opened>),
    /// The open run of the same goal.
    Existing(Box<Run>),
}

/// Inspects the repository and returns what the run is born with, or the open run of the same goal.
pub(super) async fn prepare(deps: &Deps, mut request: RunRequest) -> Result<Intake, RuntimeError> {
    // Every event is redacted before `decide`. The goal is redacted here already, so that the open run of the same goal
    // is found.
    request.goal.clean_texts(&mut |text| *text = redact(text).into_owned());
    // Read once: a run is born with one configuration, never with parts of two.
    let parts = deps.parts();
    locate(deps, &mut request).await?;
    let (project, is_new) = project(deps, &request, &parts.defaults).await?;
    if let Some(run) = open_run(deps, &request, &project, is_new).await? {
        return Ok(Intake::Existing(Box::new(continued(&request, run, &parts)?)));
    }
    let traceparent = request.traceparent.clone();
    let mut opened = inspect(deps, request, project.clone(), &parts).await?;
    // What `decide` would refuse is refused before anything is stored.
    open(&opened, deps.clock.now())?;
    // Only a repository that a run can be opened on becomes a project: a refused request leaves nothing behind.
    if is_new {
        store_project(deps, &project).await?;
    }
    // The root span of the run: later spans, in this process or another, become its children by the stored context.
    let span = tracing::info_span!("run", run = %opened.id, project = %opened.project, base = %opened.base);
    let span = TraceContext::under(traceparent.as_deref(), span);
    opened.traceparent = Some(TraceContext::of(&span).to_string());
    Ok(Intake::New(Box::new(opened)))
}

/// Returns the open run that would be resumed instead of opening a new one.
pub(super) async fn open_run(
    deps: &Deps,
    request: &RunRequest,
    project: &Project,
    is_new: bool,
) -> Result<Option<Run>, RuntimeError> {
    match request.carry_on && !is_new {
        true => same_goal(deps, &project.name, &request.goal).await,
        false => Ok(None),
    }
}

/// Returns the open run of the same goal, if the request may continue it: what the request names is checked even though
/// the run has settings of its own, and is not silently dropped.
fn continued(request: &RunRequest, run: Run, parts: &Parts) -> Result<Run, RuntimeError> {
    check_engines(&request.engines, parts)?;
    let differences = request.differences(&run);
    // One that has landed is only being reported: its settings no longer matter.
    if run.outcome.is_some() || differences.is_empty() || request.on_difference == OnDifference::Keep {
        return Ok(run);
    }
    let what = render::settings_differ(&run, &differences);
    let other_base = differences.iter().any(|d| matches!(d, Difference::Base { .. }));
    match request.on_difference {
        OnDifference::Apply if other_base => Err(RuntimeError::Invalid {
            what: format!("{what}; a run cannot change the branch it lands on"),
            fix: "Start another run of this goal".to_owned(),
        }),
        OnDifference::Apply | OnDifference::Keep => Ok(run),
        OnDifference::Refuse => Err(RuntimeError::SettingsDiffer(what)),
    }
}

/// Refuses an engine that this process cannot use.
pub(super) fn check_engines(engines: &BTreeMap<Role, EngineSpec>, parts: &Parts) -> Result<(), RuntimeError> {
    engines.iter().try_for_each(|(role, spec)| check_engine(*role, spec, parts))
}

fn check_engine(role: Role, spec: &EngineSpec, parts: &Parts) -> Result<(), RuntimeError> {
    let unusable = |what: String| format!("cannot use the engine of the role {}: {what}", role.name());
    parts.engines.get(spec).map_err(|what| RuntimeError::Invalid {
        what: unusable(what),
        fix: "Choose another with --engine, or in the configuration".to_owned(),
    })?;
    match parts.engines.unready(spec) {
        Some((what, fix)) => Err(RuntimeError::Invalid { what: unusable(what), fix }),
        None => Ok(()),
    }
}

/// Replaces a folder inside a repository by the repository.
pub(super) async fn locate(deps: &Deps, request: &mut RunRequest) -> Result<(), RuntimeError> {
    if let Some(repo) = &request.repo {
        request.repo = Some(deps.workspaces.locate(repo).await?);
    }
    Ok(())
}

/// The checks that a repository's base commit and a request lead to.
pub(super) struct Inspected {
    /// The repository.
    pub repo: Repo,
    /// The branch to land on, and its head.
    pub base_branch: String,
    pub base: Sha,
    /// The paths at the base commit.
    pub paths: Vec<String>,
    /// The repository's rules.
    pub rules: RepoRules,
    /// The checks, each with its runner; empty = none are named or detected.
    pub checks: Vec<CheckSpec>,
}

/// Inspects a repository at its base commit, or as its working copy is now, which is stored for the given run. It only
/// fetches the mirror and writes nothing else.
pub(super) async fn inspect_checks(
    deps: &Deps,
    request: &RunRequest,
    project: &Project,
    parts: &Parts,
    of: PlanFor,
) -> Result<Inspected, RuntimeError> {
    let runner = &parts.checks;
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    let branch = request.base.as_deref().or(project.base.as_deref());
    let (base_branch, head) = deps.workspaces.fetch(&repo, branch).await?;
    let base = match of {
        PlanFor::Base => head,
        PlanFor::Commit(sha) => sha,
        PlanFor::WorkingCopy(run) => deps.workspaces.snapshot(&repo, run, &head).await?,
    };
    let paths = deps.workspaces.paths(&repo, &base).await?;
    let files = read_all(deps, &repo, &base, runner.rule_files(&paths)).await?;
    let rules = runner
        .rules(&paths, &files)
        .map_err(|what| RuntimeError::Invalid { what, fix: format!("Fix it on {base_branch} of {}", project.repo) })?;
    let checks = [&request.checks, &project.checks, &rules.checks].into_iter().find(|c| !c.is_empty());
    let mut checks = checks.cloned().unwrap_or_default();
    checks.extend(request.goal.spec.iter().flat_map(|spec| spec.checks()));
    let checks =
        runner.assign_runners(&project.name, checks).map_err(|(what, fix)| RuntimeError::Invalid { what, fix })?;
    Ok(Inspected { repo, base_branch, base, paths, rules, checks })
}

/// Reads those of the files that exist at a commit.
pub(super) async fn read_all(
    deps: &Deps,
    repo: &Repo,
    sha: &Sha,
    paths: Vec<String>,
) -> Result<BTreeMap<String, Vec<u8>>, RuntimeError> {
    let mut files = BTreeMap::new();
    for path in paths {
        if let Some(bytes) = deps.workspaces.read_at(repo, sha, &path).await? {
            files.insert(path, bytes);
        }
    }
    Ok(files)
}

/// Returns what a run of this project is born with. It only fetches the mirror and writes nothing else.
pub(super) async fn inspect(
    deps: &Deps,
    request: RunRequest,
    project: Project,
    parts: &Parts,
) -> Result<Opened, RuntimeError> {
    let inspected = inspect_checks(deps, &request, &project, parts, PlanFor::Base).await?;
    born(deps, request, project, parts, inspected).await
}

/// Returns what a run with these checks is born with.
pub(super) async fn born(
    deps: &Deps,
    request: RunRequest,
    project: Project,
    parts: &Parts,
    inspected: Inspected,
) -> Result<Opened, RuntimeError> {
    let Parts { defaults, .. } = parts;
    let Inspected { repo, base_branch, base, rules, checks, .. } = inspected;
    if checks.iter().all(|c| c.kind == CheckKind::Accept) {
        return Err(no_checks(&project, &base_branch, &base, &rules));
    }
    let mut policy = project.policy.unwrap_or_else(|| defaults.policy.clone());
    set_limits(&mut policy, &request)?;
    policy.approve_merge |= request.must_approve;
    let mut engines = defaults.engines.clone();
    engines.extend(project.engines);
    engines.extend(request.engines);
    // The fallbacks belong to the configured engine: a role whose engine was chosen explicitly has none.
    let mut fallbacks = defaults.fallbacks.clone();
    fallbacks.retain(|role, _| engines.get(role) == defaults.engines.get(role));
    check_engines(&engines, parts)?;
    for (role, spec) in fallbacks.iter().flat_map(|(role, all)| all.iter().map(move |s| (role, s))) {
        check_engine(*role, spec, parts)?;
    }
    let forbidden_paths = request.goal.spec.as_ref().map(|spec| spec.forbidden_paths.clone()).unwrap_or_default();
    let of_spec = Tightening { forbidden_paths, ..Tightening::default() };
    let id = request.id.unwrap_or_else(|| deps.clock.new_run_id());
    let branch = format!("{}/{}", project.branch_prefix, id.abbrev());
    let notices = deps.workspaces.inspect(&repo, &base, &branch).await?;
    Ok(Opened {
        id,
        project: project.name,
        goal: request.goal,
        settings: Settings {
            policy: policy.tightened(&rules.tightening).tightened(&of_spec),
            engines,
            fallbacks,
            checks,
            origin: project.repo,
            forge: project.forge,
            base_branch,
            branch,
            limits: request.limits,
            notices,
        },
        base,
        traceparent: None,
    })
}

/// Puts the limits of a request in place of the configured ones. Only those who may raise budgets exceed the latter.
fn set_limits(policy: &mut Policy, request: &RunRequest) -> Result<(), RuntimeError> {
    if let Some(budget) = request.limits.unusable() {
        return Err(RuntimeError::Invalid {
            what: format!("a limit of zero for {} leaves nothing to work with", budget.name()),
            fix: "Give an amount above zero, or leave it out".to_owned(),
        });
    }
    if let Some(budget) = request.limits.exceeding(&policy.limits).filter(|_| !request.may_raise) {
        return Err(RuntimeError::Refused(Refusal::NotAllowed {
            who: request.goal.asked_by.to_string(),
            what: format!("exceed the configured limit of {}", budget.name()),
            why: "it needs the right to raise budgets".to_owned(),
        }));
    }
    policy.limits = request.limits.over(policy.limits);
    Ok(())
}

/// Refuses a repository in which nothing could be verified: with what was found instead, and how to name a check.
fn no_checks(project: &Project, base_branch: &str, base: &Sha, rules: &RepoRules) -> RuntimeError {
    let found = if rules.missing.is_empty() { String::new() } else { format!(": {}", rules.missing.join("; ")) };
    RuntimeError::Invalid {
        what: format!("no checks were found in {} at {} of {base_branch}{found}", project.repo, base.abbrev()),
        fix: how_to_name(&rules.proposals),
    }
}

/// Explains how a person names a check: with the nearest command that the repository's CI runs, and with what remains
/// where there is nothing to run.
pub fn how_to_name(proposals: &[(String, String)]) -> String {
    // A command that cannot be quoted for a shell is left out.
    let quoted =
        |(command, file): &(String, String)| Some((shlex::try_quote(command).ok()?.into_owned(), file.clone()));
    let nearest = proposals.iter().find_map(quoted);
    let nearest =
        nearest.map_or_else(String::new, |(command, file)| format!(", such as --check {command} from {file}"));
    format!(
        "Give the command that proves a change with --check{nearest}, or name it in .skep.toml. If there is nothing to \
         run, use --check true: it accepts every change, so that only the review and your approval decide"
    )
}

/// Returns the transition that opens a run. The run has no owner yet.
pub(super) fn opening(deps: &Deps, opened: Opened) -> Result<Transition, RuntimeError> {
    let at = deps.clock.now();
    let Decision { run, effects, finished, ledger_rows } = open(&opened, at)?;
    let lease = Lease { run: run.id, owner: Owner(String::new()), epoch: 0 };
    Ok(Transition {
        lease,
        at,
        event: Event::Opened(Box::new(opened)),
        run: Arc::new(run),
        effects,
        finished,
        ledger_rows,
        outcomes: Vec::new(),
    })
}

/// Stores a new project. A concurrent request for the same repository may have stored it already.
async fn store_project(deps: &Deps, project: &Project) -> Result<(), RuntimeError> {
    let Err(error) = deps.store.put_project(project, false).await else { return Ok(()) };
    match deps.store.project(&project.name).await? {
        Some(existing) if existing.repo == project.repo => Ok(()),
        Some(existing) => Err(RuntimeError::Unavailable(format!(
            "the project name {} was taken by {} at the same moment; try again",
            project.name, existing.repo
        ))),
        None => Err(error.into()),
    }
}

/// Returns the requested project, and whether it is new and not stored yet.
pub(super) async fn project(
    deps: &Deps,
    request: &RunRequest,
    defaults: &Defaults,
) -> Result<(Project, bool), RuntimeError> {
    if let Some(name) = &request.project {
        let known = deps.store.project(name).await?.ok_or_else(|| RuntimeError::Invalid {
            what: format!("there is no project {name}"),
            fix: "List the projects with `skep project list`, or add one with `skep project add`".to_owned(),
        })?;
        return Ok((known, false));
    }
    let Some(repo) = &request.repo else {
        return Err(RuntimeError::Invalid {
            what: "neither a project nor a repository was given".to_owned(),
            fix: "Give --repo PATH_OR_URL, or --project NAME".to_owned(),
        });
    };
    let LocatedRepo { forge, origin } = deps.forges.locate(repo)?;
    let known = deps.store.projects().await?;
    if let Some(project) = known.iter().find(|p| p.repo == origin && p.forge == forge) {
        return Ok((project.clone(), false));
    }
    let last = origin.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(&origin);
    let stem = ProjectName::from_text(last.strip_suffix(".git").unwrap_or(last));
    let free = |name: &ProjectName| known.iter().all(|p| p.name != *name);
    let name = std::iter::once(stem.clone())
        .chain((2..10_000).map(|n| ProjectName::from_text(&format!("{stem}-{n}"))))
        .find(free)
        .unwrap_or(stem);
    let project = Project {
        name,
        repo: origin,
        forge,
        base: None,
        branch_prefix: defaults.branch_prefix.clone(),
        checks: Vec::new(),
        engines: BTreeMap::new(),
        policy: None,
    };
    Ok((project, true))
}

async fn same_goal(deps: &Deps, project: &ProjectName, goal: &Goal) -> Result<Option<Run>, RuntimeError> {
    let filter = RunFilter {
        projects: project.clone().into(),
        open_only: true,
        own_only: true,
        limit: 100,
        ..RunFilter::default()
    };
    for row in deps.store.list(&filter).await? {
        // A run that cannot be read is skipped; the list shows it as quarantined.
        if let Ok(Some(run)) = deps.store.load(row.run).await
            && run.goal.key() == goal.key()
            // Other criteria make it another goal, even if the words are the same.
            && run.goal.spec == goal.spec
            // A stopping run cannot deliver any more; one that has delivered may still be reporting.
            && matches!(run.outcome, None | Some(Outcome::Delivered { .. }))
            && run.stopping.is_none()
        {
            return Ok(Some(run));
        }
    }
    Ok(None)
}
