//! Options of `run` and of the commands around it: `check`, `init` and `demo`.

use super::super::amounts::{self, Limits};
use super::super::parse::{self, EngineChoice, Origin};
use clap::Args;
use std::path::PathBuf;

/// Engines, checks and limits that a run gets in place of its own.
#[derive(Debug, Default, Args)]
pub struct SettingsArgs {
    /// Engine of the dev, or of the named role, from the next attempt on; repeatable
    #[arg(long, value_name = "[ROLE=]KIND[:ARG]", value_parser = parse::engine)]
    pub engine: Vec<EngineChoice>,
    /// Command that verifies the change, instead of the run's checks; repeatable
    #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
    pub check: Vec<String>,
    /// Limits of the run, instead of its own: time=2h,cost="5 USD",tokens=N,turns=N,rounds=N,attempts=N
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts::limits)]
    pub limit: Vec<Limits>,
}

/// Options of `skep run`.
#[derive(Debug, Args)]
#[command(after_help = RUN)]
pub struct RunArgs {
    /// What should be different when the run is done
    #[arg(value_name = "GOAL", required_unless_present_any = ["goal_option", "goal_file", "spec"])]
    pub goal: Option<String>,
    /// The goal, as an option
    #[arg(long = "goal", id = "goal_option", value_name = "TEXT", conflicts_with = "goal")]
    pub goal_option: Option<String>,
    /// Read the goal from a file, or from standard input with -
    #[arg(long, value_name = "FILE", conflicts_with_all = ["goal", "goal_option"])]
    pub goal_file: Option<PathBuf>,
    /// Read the goal and its acceptance criteria from a task spec (`skep spec new` writes one)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["goal", "goal_option", "goal_file"])]
    pub spec: Option<PathBuf>,
    /// Repository: a directory or a URL (https://, ssh://, file://, user@host:path) [default: the one around the current
    /// directory]
    #[arg(long, value_name = "PATH|URL", value_parser = parse::origin)]
    pub repo: Option<Origin>,
    /// Project, instead of --repo
    #[arg(long, value_name = "NAME", conflicts_with = "repo")]
    pub project: Option<String>,
    /// Engine of the dev, or of the named role (manager, scout, dev, reviewer); repeatable
    ///
    /// KIND is one of those that `skep engine list` shows, such as `command` (any program, run in the worktree), `llm`
    /// (a model), `direct` (a manager or reviewer without a model) or `script` (a scripted agent; without a role it
    /// plays every role).
    #[arg(long, value_name = "[ROLE=]KIND[:ARG]", value_parser = parse::engine)]
    pub engine: Vec<EngineChoice>,
    /// Command that verifies the change, instead of the checks detected in the repository; repeatable
    #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
    pub check: Vec<String>,
    /// Limits of the run, instead of the configured ones: time=2h,cost="5 USD",tokens=N,turns=N,rounds=N,attempts=N
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts::limits)]
    pub limit: Vec<Limits>,
    /// Branch to land on, instead of the repository's default branch
    #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
    pub base: Option<String>,
    /// Give every requested approval on your behalf (each one is named)
    #[arg(long)]
    pub yes: bool,
    /// Only queue the run, for a service to work on
    #[arg(long)]
    pub detach: bool,
    /// Show what the run would start with (engines, checks, budget, the manager's prompt); start and spend nothing
    #[arg(long, conflicts_with_all = ["yes", "detach"])]
    pub dry_run: bool,
    /// Start a new run even if one with the same goal is open (by default that one continues)
    #[arg(long)]
    pub new: bool,
    /// If a run with the same goal is open, give it the engines, checks and limits named here
    #[arg(long, conflicts_with = "new")]
    pub update: bool,
}

const RUN: &str = "\
Examples:
  skep run \"Fix the clippy warnings\" --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'
  skep run --repo https://example.org/team/tool.git --base develop --goal-file goal.md --check 'make test' --yes
  skep run --project tool \"Sort the imports\" --engine 'dev=command: isort .' --engine reviewer=direct
  skep run \"Speed up the parser\" --limit cost=2USD,time=1h

Ctrl-C stops following and loses nothing; the same command continues the run. If the open run of the goal has other \
engines, checks or limits or another base than the command names, the command asks which to use: --update, or --new.
With --json each line has one key: `event` (a journal row), `output` (a line of an engine's output), or last `run` (its state).";

/// Options of `skep check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if all checks pass, else with 3.\n\nExamples:\n  skep check\n  skep check --dirty\n  skep check --repo ~/src/tool --check 'make test'"
)]
pub struct CheckArgs {
    /// Repository: a directory or a URL
    #[arg(long, value_name = "PATH|URL", default_value = ".", value_parser = parse::origin)]
    pub repo: Origin,
    /// Project, instead of --repo
    #[arg(long, value_name = "NAME", conflicts_with_all = ["repo", "dirty"])]
    pub project: Option<String>,
    /// Branch, instead of the repository's default branch
    #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
    pub base: Option<String>,
    /// Command to run, instead of the checks of the repository; repeatable
    #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
    pub check: Vec<String>,
    /// Check the working copy with its uncommitted files, instead of the last commit
    #[arg(long)]
    pub dirty: bool,
}

/// Options of `skep init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Repository: a directory or a URL
    #[arg(long, value_name = "PATH|URL", default_value = ".", value_parser = parse::origin)]
    pub repo: Origin,
    /// Command that verifies a change, instead of the checks detected in the repository; repeatable
    #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
    pub check: Vec<String>,
    /// Write the proposal without asking
    #[arg(long)]
    pub yes: bool,
}

/// Options of `skep demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Give every requested approval; without this option the demo asks if there is a terminal
    #[arg(long)]
    pub yes: bool,
    /// Keep the sample repository and the demo's data afterwards; --data-dir chooses where
    #[arg(long)]
    pub keep: bool,
    /// Show the run on pages in a browser afterwards, until Ctrl+C
    #[arg(long)]
    pub serve: bool,
}
