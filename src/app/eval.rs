//! Evaluation: proves the tasks of suites, carries out trials, and reads their results.

use super::program::{Program, prepare};
use crate::adapters::eval::{
    self, DevEngine, SetLock, SetPlan, SkepProgram, Suite, TrialContext, Variant, digest, load_sets, run_trial,
};
use crate::config::trial::{TrialSettings, merge, variant_file, variant_setting};
use crate::config::{self, Sources};
use crate::domain::eval::TaskProof;
use crate::platform::git::{Git, Identity};
use crate::platform::stop_signal;
use crate::service::host::evaluation::{
    Evaluation, Evaluator, ExportRequest, FinishedTrial, PredictionGrade, PredictionsRequest, SuiteRequest,
    TrialsRequest, VariantSetting, VariantSpec,
};
use crate::service::host::{HostContext, HostError, HostErrorKind, HostProblem, HostResult};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod formats;

/// Prefix of the variables that describe this machine's sandbox.
const SANDBOX_VARIABLES: &str = "SKEP_SANDBOX__";
/// Names of the built-in variants.
const BUILT_IN: [(&str, DevEngine); 2] = [("oracle", DevEngine::Oracle), ("nop", DevEngine::Nop)];

/// Reads a suite, and keeps the named tasks.
fn read_suite(folder: &Path, tasks: &[String]) -> HostResult<Suite> {
    let suite = Suite::read(folder).map_err(|problems| HostError {
        kind: HostErrorKind::Usage,
        problems: problems.into_iter().map(|p| HostProblem { detail: p.detail, fix: p.fix }).collect(),
    })?;
    suite.only(tasks).map_err(|name| {
        HostError::usage(format!("the suite has no task {name:?}"), "name a folder of the suite with --task")
    })
}

/// Returns what trials and grading need from this installation.
async fn trial_context(program: &Program, context: &HostContext) -> HostResult<(TrialContext, TrialSettings)> {
    let config = program.config(context)?;
    prepare(&context.sources.data_dir, &config)?;
    program.init_logs(context, &config, false)?;
    let settings = TrialSettings::read(&context.sources)?;
    let unusable = |what: &str, e: std::io::Error| HostError::internal(format!("cannot find {what}: {e}"));
    let is_for_grading = |name: &OsString| {
        let name = name.to_string_lossy();
        !name.starts_with("SKEP_") || name.starts_with(SANDBOX_VARIABLES)
    };
    let skep = SkepProgram {
        path: std::env::current_exe().map_err(|e| unusable("this program", e))?,
        env: settings.env.iter().filter(|(name, _)| is_for_grading(name)).cloned().collect(),
        dir: std::env::current_dir().map_err(|e| unusable("the current directory", e))?,
    };
    let git = Arc::new(Git::find(Identity::default()).await?);
    Ok((TrialContext { git, program: skep, machine: settings.machine.clone() }, settings))
}

#[async_trait]
impl Evaluator for Program {
    async fn check_suite(
        &self,
        context: &HostContext,
        request: &SuiteRequest,
        on_task: &(dyn Fn(TaskProof) + Send + Sync),
    ) -> HostResult<Vec<TaskProof>> {
        check(self, context, request, on_task).await
    }

    async fn run_trials(
        &self,
        context: &HostContext,
        request: &TrialsRequest,
        on_trial: &(dyn Fn(FinishedTrial) + Send + Sync),
    ) -> HostResult<Evaluation> {
        run(self, context, request, on_trial).await
    }

    async fn read_evaluation(&self, context: &HostContext, suite: &Path) -> HostResult<Evaluation> {
        self.config(context)?;
        evaluation(&context.sources.data_dir, read_suite(suite, &[])?).await
    }

    async fn export_evaluation(&self, context: &HostContext, request: &ExportRequest) -> HostResult<u64> {
        self.config(context)?;
        formats::export(&context.sources.data_dir, request).await
    }

    async fn grade_predictions(
        &self,
        context: &HostContext,
        request: &PredictionsRequest,
        on_grade: &(dyn Fn(PredictionGrade) + Send + Sync),
    ) -> HostResult<Vec<PredictionGrade>> {
        let (trials, _) = trial_context(self, context).await?;
        formats::grade(&trials, &context.sources.data_dir, request, on_grade).await
    }
}

async fn check(
    program: &Program,
    context: &HostContext,
    request: &SuiteRequest,
    on_task: &(dyn Fn(TaskProof) + Send + Sync),
) -> HostResult<Vec<TaskProof>> {
    let suite = read_suite(&request.suite, &request.tasks)?;
    let (trials, _) = trial_context(program, context).await?;
    let stores = context.sources.data_dir.join("stores");
    let proofs = suite.tasks.iter().map(|task| {
        // Unlike those of trials, these folders are of one process.
        let name = digest([suite.digest.as_bytes(), task.name.as_bytes(), &std::process::id().to_be_bytes()]);
        let folder = stores.join(name.get(..16).unwrap_or(&name));
        let trials = &trials;
        async move {
            let proof = eval::prove(trials, task, request.repeat, &folder).await.map_err(|error| {
                let mut error = HostError::from(error);
                error.problems.iter_mut().for_each(|p| p.detail = format!("{}: {}", task.name, p.detail));
                error
            })?;
            on_task(proof.clone());
            Ok::<TaskProof, HostError>(proof)
        }
        .boxed()
    });
    let all = futures::stream::iter(proofs.collect::<Vec<_>>()).buffered(request.parallel.max(1)).try_collect();
    tokio::select! {
        proofs = all => proofs,
        () = stop_signal::requested(1) => Err(stopped()),
    }
}

fn stopped() -> HostError {
    HostError::unavailable("stopped before the end", "run the same command again: it continues where it stopped")
}

async fn run(
    program: &Program,
    context: &HostContext,
    request: &TrialsRequest,
    on_trial: &(dyn Fn(FinishedTrial) + Send + Sync),
) -> HostResult<Evaluation> {
    let suite = read_suite(&request.suite, &[])?;
    let (trials, settings) = trial_context(program, context).await?;
    let variants = request
        .variants
        .iter()
        .map(|spec| variant(spec, &settings, &trials, &context.sources.data_dir))
        .collect::<HostResult<Vec<_>>>()?;
    let data_dir = &context.sources.data_dir;
    let _lock = SetLock::acquire(data_dir, &suite).await?;
    let (version, identity) = program_identity(&trials.program.path);
    let plans: Vec<SetPlan> =
        variants.into_iter().map(|variant| SetPlan::new(data_dir, &suite, variant, &identity)).collect();
    let count = request.trials.unwrap_or(suite.trials);
    for plan in &plans {
        plan.record(&version, count).await?;
    }
    let selected = read_suite(&request.suite, &request.tasks)?;
    // The variants of a task are next to each other, so that a bad hour of a provider affects all of them.
    let jobs = (1..=count).flat_map(|number| {
        let plans = &plans;
        selected.tasks.iter().flat_map(move |task| plans.iter().map(move |plan| (plan, task, number)))
    });
    let (spent, is_cut_short) = (AtomicU64::new(0), AtomicBool::new(false));
    let carried_out = jobs.map(|(plan, task, number)| {
        let (trials, spent, is_cut_short) = (&trials, &spent, &is_cut_short);
        async move {
            if request.limit_cost_micros.is_some_and(|limit| spent.load(Ordering::Relaxed) >= limit) {
                is_cut_short.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let trial = run_trial(trials, &plan.variant, task, number, plan.folders(&task.name, number)).await?;
            spent.fetch_add(trial.spent.cost_micros, Ordering::Relaxed);
            on_trial(FinishedTrial { set: plan.id.clone(), trial });
            Ok::<(), HostError>(())
        }
        .boxed()
    });
    let all = futures::stream::iter(carried_out.collect::<Vec<_>>())
        .buffer_unordered(request.parallel.max(1))
        .try_collect::<Vec<()>>();
    tokio::select! {
        done = all => drop(done?),
        // Dropping the subprocesses ends them; their runs continue with the next command.
        () = stop_signal::requested(1) => return Err(stopped()),
    }
    let mut evaluation = evaluation(data_dir, suite).await?;
    let carried_out = |id: &str| plans.iter().any(|plan| plan.id == id);
    evaluation.sets.retain(|set| carried_out(&set.id));
    Ok(Evaluation { is_cut_short: is_cut_short.into_inner(), ..evaluation })
}

async fn evaluation(data_dir: &Path, suite: Suite) -> HostResult<Evaluation> {
    let sets = load_sets(data_dir, &suite).await?;
    Ok(Evaluation {
        suite: suite.name,
        digest: suite.digest,
        tasks: suite.tasks.into_iter().map(|task| task.name).collect(),
        gate: suite.gate,
        sets,
        is_cut_short: false,
    })
}

/// Returns a variant with its complete configuration, which must be valid.
fn variant(
    spec: &VariantSpec,
    settings: &TrialSettings,
    trials: &TrialContext,
    data_dir: &Path,
) -> HostResult<Variant> {
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == spec.name);
    if let Some((name, dev)) = built_in {
        if !spec.settings.is_empty() {
            return Err(HostError::usage(format!("the variant {name} is built in"), "choose another name"));
        }
        let (config, env) = (trials.machine.clone(), trials.program.env.clone());
        return Ok(Variant { name: spec.name.clone(), dev: *dev, config, env });
    }
    let mut own = toml::Table::new();
    for setting in &spec.settings {
        let table = match setting {
            VariantSetting::File(file) => variant_file(file)?,
            VariantSetting::Key(key, value) => variant_setting(key, value)?,
        };
        merge(&mut own, &table);
    }
    let env = settings.env_for(&own);
    let mut config = settings.user.clone();
    merge(&mut config, &own);
    let variant = Variant { name: spec.name.clone(), dev: DevEngine::Configured, config, env };
    validate(&variant, data_dir)?;
    Ok(variant)
}

/// Loads the configuration of a variant as its runs will, before anything is spent.
fn validate(variant: &Variant, data_dir: &Path) -> HostResult<()> {
    let file = tempfile::Builder::new()
        .prefix(&format!("variant-{}-", variant.name))
        .suffix(".toml")
        .tempfile_in(data_dir)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, variant.config.to_string().as_bytes())?;
            Ok(file)
        })
        .map_err(|e| {
            HostError::config(format!("cannot write to {}: {e}", data_dir.display()), "free some disk space")
        })?;
    let sources = Sources {
        data_dir: data_dir.to_owned(),
        file: Some(file.path().to_owned()),
        profile: None,
        env: variant.env.clone(),
    };
    let loaded = config::load(&sources).map_err(HostError::from)?;
    super::settings::check(&loaded.config)?;
    if !loaded.config.engines.roles.contains_key(&crate::domain::Role::Dev) {
        return Err(HostError::usage(
            format!("the variant {} has no engine for the dev", variant.name),
            format!("set role.dev.engine: --variant '{}=role.dev.engine=KIND:ARG'", variant.name),
        ));
    }
    Ok(())
}

/// Returns the version of the program, and what distinguishes it from every other build.
fn program_identity(path: &Path) -> (String, String) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let build = std::fs::metadata(path).map(|m| format!("{} {} {}", m.len(), m.mtime(), m.mtime_nsec()));
    let identity = format!("{version} {}", build.unwrap_or_default());
    (version, identity)
}
