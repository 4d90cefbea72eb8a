//! One trial: a run on a repository of its own, then its grade. Interrupted at any moment, it continues or starts again.
//!
//! The folder of a trial's result has `trial.json` once the trial has finished, and nothing before. Its work happens in a
//! folder elsewhere, whose name says nothing: `repo.git`, `skep.toml`, the data directory `data`, and `run.json` once
//! the run has stopped.

use super::grade::{Grade, Grader, Tests};
use super::program::{Home, SkepProgram, failure};
use super::repo;
use super::run_view::{end_of, is_commit, kept_commit, spent};
use super::suite::Task;
use super::variant::{DevEngine, Variant};
use crate::domain::eval::{Corner, Spent, Trial};
use crate::platform::git::Git;
use crate::platform::git::durable_fs::{make_dir, read_text, remove_path, run_blocking, write_atomic};
use crate::ports::{PortError, PortResult};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a trial is started again after the infrastructure has failed.
const MAX_RESTARTS: u32 = 2;
/// Time for everything around the working time of a run.
const OVERHEAD: Duration = Duration::from_secs(15 * 60);
/// Timeout of a command that only reads.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// How many questions of a run get an answer.
const MAX_ANSWERS: u32 = 2;
const ANSWER: &str = "Nobody can answer. Decide yourself, and say what you assumed.";
/// Codes of questions that say something about this machine or the provider, and nothing about the variant.
const INFRASTRUCTURE_CODES: &[&str] = &["engine", "effect", "environment"];

/// What all trials share.
#[derive(Clone, Debug)]
pub struct TrialContext {
    /// Git.
    pub git: std::sync::Arc<Git>,
    /// Skep; each variant has an environment of its own.
    pub program: SkepProgram,
    /// Settings of this machine.
    pub machine: toml::Table,
}

/// Folders of a trial.
#[derive(Clone, Debug)]
pub(super) struct TrialFolders {
    /// Folder of the result.
    pub result: PathBuf,
    /// Folder of the work; a restart gets another one.
    pub work: PathBuf,
}

/// Carries out a trial, or returns the result of the one that has finished.
///
/// # Errors
/// When its result cannot be stored. A failure of the infrastructure is a result.
pub async fn run_trial(
    context: &TrialContext,
    variant: &Variant,
    task: &Task,
    number: u32,
    folders: (PathBuf, PathBuf),
) -> PortResult<Trial> {
    let folders = TrialFolders { result: folders.0, work: folders.1 };
    let file = folders.result.join("trial.json");
    if let Some(trial) = finished(&file).await? {
        return Ok(trial);
    }
    let mut restarts = 0;
    let trial = loop {
        let work = folders.work.join(restarts.to_string());
        let attempt = Attempt { context, variant, task, number, work: &work };
        let trial = attempt.carry_out().await.unwrap_or_else(|error| attempt.spoiled(error.to_string()));
        // A run that has ended is never repeated because its grading failed: it cost money.
        let may_restart = trial.run.is_none() || INFRASTRUCTURE_CODES.contains(&trial.end.as_str());
        if trial.infrastructure.is_none() || !may_restart || restarts >= MAX_RESTARTS {
            break Trial { restarts, ..trial };
        }
        restarts += 1;
    };
    let text = serde_json::to_vec_pretty(&trial)
        .map_err(|e| PortError::permanent(format!("cannot store the result of a trial: {e}"), "report this"))?;
    run_blocking(move || write_atomic(&file, &text)).await?;
    Ok(trial)
}

/// Reads the result of a finished trial.
pub(super) async fn finished(file: &Path) -> PortResult<Option<Trial>> {
    let path = file.to_owned();
    let Some(text) = run_blocking(move || read_text(&path)).await? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        let what = format!("cannot read the result {}: {e}", file.display());
        PortError::permanent(what, "remove that file; the trial is then carried out again")
    })
}

struct Attempt<'t> {
    context: &'t TrialContext,
    variant: &'t Variant,
    task: &'t Task,
    number: u32,
    work: &'t Path,
}

/// State of a run that has stopped.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct StoppedRun {
    /// The run, as `skep show --json` prints it.
    run: Value,
    /// Base commit.
    base: String,
}

impl Attempt<'_> {
    async fn carry_out(&self) -> PortResult<Trial> {
        let stopped = match self.stopped_run().await? {
            Some(stopped) => stopped,
            None => {
                let base = self.prepare().await?;
                let run = self.drive().await?;
                let stopped = StoppedRun { run, base };
                let text = serde_json::to_vec(&stopped).map_err(|e| {
                    PortError::permanent(format!("cannot write a stopped run as JSON: {e}"), "report this as a bug")
                })?;
                let path = self.work.join("run.json");
                run_blocking(move || write_atomic(&path, &text)).await?;
                stopped
            }
        };
        let mut trial = self.empty_trial();
        trial.run = stopped.run["id"].as_str().map(str::to_owned);
        trial.end = end_of(&stopped.run);
        trial.spent = spent(&stopped.run);
        if INFRASTRUCTURE_CODES.contains(&trial.end.as_str()) {
            let why = stopped.run["now"].as_str().unwrap_or("the run waits for a person");
            return Ok(Trial { infrastructure: Some(why.to_owned()), ..trial });
        }
        let mut tries = 0;
        loop {
            match self.judge(&stopped, trial.clone()).await {
                Ok(trial) => return Ok(trial),
                Err(_) if tries < MAX_RESTARTS => tries += 1,
                Err(error) => return Ok(Trial { infrastructure: Some(error.to_string()), ..trial }),
            }
        }
    }

    async fn stopped_run(&self) -> PortResult<Option<StoppedRun>> {
        let path = self.work.join("run.json");
        let text = run_blocking(move || read_text(&path)).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn repo(&self) -> PathBuf {
        self.work.join("repo.git")
    }
    fn data(&self) -> PathBuf {
        self.work.join("data")
    }
    fn config(&self) -> PathBuf {
        self.work.join("skep.toml")
    }

    fn skep(&self) -> SkepProgram {
        SkepProgram { env: self.variant.env.clone(), ..self.context.program.clone() }
    }

    /// Creates the repository and the configuration, unless that has been done. Returns the base commit.
    async fn prepare(&self) -> PortResult<String> {
        let base_file = self.work.join("base");
        let path = base_file.clone();
        if let Some(base) = run_blocking(move || read_text(&path)).await? {
            return Ok(base);
        }
        let work = self.work.to_owned();
        run_blocking(move || remove_path(&work).and_then(|()| make_dir(&work))).await?;
        let base = repo::create(&self.context.git, &self.repo(), &self.task.base).await?;
        let config = self.variant.config_for(self.task).to_string();
        let (path, text) = (self.config(), base.clone());
        run_blocking(move || {
            write_atomic(&path, config.as_bytes())?;
            // Written last: from now on nothing here is made again.
            write_atomic(&base_file, text.as_bytes())
        })
        .await?;
        Ok(base)
    }

    /// Drives the run until it ends or waits for a person. Returns it.
    async fn drive(&self) -> PortResult<Value> {
        let (data, config, repo) = (self.data(), self.config(), self.repo().to_string_lossy().into_owned());
        let home = Home { data: &data, config: &config };
        let skep = self.skep();
        let timeout = self.task.time.saturating_add(OVERHEAD);
        // An earlier process may have been killed after the run ended. The same command would then start another run.
        // A store that cannot be read has not been created completely, so it has no run.
        if let Ok(Some(run)) = self.existing(&skep, home).await
            && run["phase"] == "ended"
        {
            return Ok(run);
        }
        let limits = match self.variant.dev {
            DevEngine::Configured => self.task.limits.clone(),
            // The usage of a command is unknown, so it would count as everything that a limit of it leaves.
            DevEngine::Oracle | DevEngine::Nop => format!("time={}s", self.task.time.as_secs().max(1)),
        };
        let mut order = vec!["run", "--repo", &repo, "--goal-file", "-", "--yes", "--limit", &limits];
        self.task.checks.iter().for_each(|check| order.extend(["--check", check]));
        let mut ended = skep.call(home, order, self.task.goal.as_bytes(), timeout).await?;
        let mut answers = 0;
        loop {
            // 0: delivered. 3: ended undelivered. 4: waits for a person.
            if !matches!(ended.code, Some(0 | 3 | 4)) {
                return Err(PortError::transient(failure(&ended)));
            }
            let run = self.existing(&skep, home).await?;
            let Some(run) = run else { return Err(PortError::transient(failure(&ended))) };
            let asks = run["escalations"].as_array().into_iter().flatten().any(|block| block["code"] == "question");
            if ended.code != Some(4) || !asks || answers >= MAX_ANSWERS {
                return Ok(run);
            }
            answers += 1;
            ended = skep.call(home, ["unblock", "@", "--answer", ANSWER, "--follow"], &[], timeout).await?;
        }
    }

    /// Returns the run of the data directory, if there is one.
    async fn existing(&self, skep: &SkepProgram, home: Home<'_>) -> PortResult<Option<Value>> {
        if !home.data.join("home").exists() {
            return Ok(None);
        }
        let runs = skep.read(home, ["runs"], READ_TIMEOUT).await?;
        if runs["runs"].as_array().is_none_or(Vec::is_empty) {
            return Ok(None);
        }
        skep.read(home, ["show", "@"], READ_TIMEOUT).await.map(Some)
    }

    /// Grades what the run has left.
    async fn judge(&self, stopped: &StoppedRun, mut trial: Trial) -> PortResult<Trial> {
        let (run, git) = (&stopped.run, &self.context.git);
        let landed = run["outcome"]["delivered"]["sha"].as_str();
        // What landed is in the repository, what was kept is in the mirror of the data directory.
        let mirror = self.data().join("mirrors/repo.git");
        let kept = match landed {
            Some(sha) => Some(sha.to_owned()),
            None if !mirror.exists() => None,
            None => match kept_commit(run, &stopped.base) {
                Some(sha) => Some(sha),
                None => repo::newest_work(git, &mirror, &stopped.base).await?,
            },
        };
        let Some(commit) = kept else {
            trial.corner = Some(Corner::StoppedWrong);
            trial.grade = "the run left no change".to_owned();
            return Ok(trial);
        };
        let source = if landed.is_some() { self.repo() } else { mirror };
        if !is_commit(&commit) || !repo::has_commit(git, &source, &commit).await? {
            let what = format!("the commit {commit} of the run is not in {}", source.display());
            return Err(PortError::permanent(what, "report this"));
        }
        trial.leaks = self.leaks(&source, &commit).await?;
        let changed = repo::changed(git, &source, &stopped.base, &commit).await?;
        let decides = |path: &String| self.task.restore.contains(path) || self.task.hidden.contains_key(path);
        trial.tampered = changed.into_iter().filter(decides).collect();
        let grader = Grader {
            git,
            skep: &self.context.program,
            machine: &self.context.machine,
            // A grading of a killed process may still be running.
            folder: &self.work.join(format!("grade-{}", std::process::id())),
        };
        let grade = grader.grade(self.task, Tests::Hidden, (&source, &commit)).await?;
        trial.corner = Some(Corner::new(landed.is_some(), grade == Grade::Green));
        if let Grade::Red(why) = grade {
            trial.grade = why;
        }
        trial.commit = Some(commit);
        Ok(trial)
    }

    /// Returns where the canary of the hidden tests was found.
    async fn leaks(&self, source: &Path, commit: &str) -> PortResult<Vec<String>> {
        let canary = &self.task.canary;
        let mut found = repo::containing(&self.context.git, source, commit, canary).await?;
        let (data, config) = (self.data(), self.config());
        let home = Home { data: &data, config: &config };
        for what in ["logs", "events"] {
            let ended = self.skep().call(home, [what, "@"], &[], READ_TIMEOUT).await?;
            if ended.code != Some(0) {
                return Err(PortError::transient(failure(&ended)));
            }
            if ended.stdout.windows(canary.len()).any(|window| window == canary.as_bytes()) {
                found.push(format!("the run's {what}"));
            }
        }
        Ok(found)
    }

    fn empty_trial(&self) -> Trial {
        Trial {
            task: self.task.name.clone(),
            number: self.number,
            run: None,
            corner: None,
            end: String::new(),
            commit: None,
            grade: String::new(),
            infrastructure: None,
            leaks: Vec::new(),
            tampered: Vec::new(),
            spent: Spent::default(),
            restarts: 0,
            data_dir: self.data().display().to_string(),
        }
    }

    fn spoiled(&self, why: String) -> Trial {
        Trial { infrastructure: Some(why), end: "infrastructure".to_owned(), ..self.empty_trial() }
    }
}
