//! The commands and their options, with the help texts.

mod things;

pub use things::{
    BudgetCommand, ChangeCommand, ConfigCommand, EngineCommand, Isolation, ProjectCommand, PromptsCommand, RaiseArgs,
    RunnerCommand, SandboxCommand, SecretCommand, State,
};

use super::exit::EXIT_CODES;
use super::parse::{self, EngineChoice, More, Origin};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;

/// A self-hosted software factory: takes a repository and a goal, brings back a reviewed, tested, merged change.
#[derive(Debug, Parser)]
#[command(name = "skep", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Skep {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  skep demo
      a whole run on a sample project: no account, no network, no model needed
  skep run --repo ~/src/tool --goal \"Fix what clippy finds\" --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'
      work on a repository of yours, following live until it ends or asks
  skep runs --open
  skep show 3f9a12bc
  skep approve 3f9a12bc

Ids may be shortened as long as they name one run (4 digits at least).
With a service running on the data directory (`skep serve`) every command talks to it; without one, a command that moves
a run carries it on in the foreground.";

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print JSON: one object, or one object a line for lists that grow (events, logs, a followed run)
    ///
    /// Errors are JSON too: problem objects (RFC 9457) on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where everything lives: store, mirrors, workspaces, token [default: $XDG_DATA_HOME/skep or ~/.local/share/skep]
    #[arg(long, global = true, value_name = "DIR", env = "SKEP_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// The configuration file [default: skep.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE", env = "SKEP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Log more to standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No colours (so does NO_COLOR, and output that is no terminal)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a goal to a merged change, following live until the end or a question
    Run(RunArgs),
    /// Show the main job on an embedded sample project, with scripted agents
    Demo(DemoArgs),
    /// Carry all runs on and answer on REST until told to stop
    Serve {
        /// Where to listen, ADDRESS:PORT; the configured address when left out
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// List runs, newest first
    Runs(RunsArgs),
    /// Show a run: plan, tasks, attempts, gates, budget, artifacts, and what it waits for
    Show {
        /// The run
        #[arg(value_parser = parse::run)]
        run: String,
        /// Print the diff instead: the run's, or one task's (t1)
        #[arg(long, value_name = "TASK", num_args = 0..=1, default_missing_value = "", value_parser = parse::task)]
        patch: Option<String>,
    },
    /// Print a run's journal
    Events {
        /// The run
        #[arg(value_parser = parse::run)]
        run: String,
        /// Go on with what happens from now, until the run ends
        #[arg(short, long)]
        follow: bool,
        /// Only what came after this event
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
    },
    /// Print what engines and checks wrote
    Logs {
        /// The run
        #[arg(value_parser = parse::run)]
        run: String,
        /// Only this attempt's (a2)
        #[arg(value_parser = parse::attempt)]
        attempt: Option<u32>,
    },
    /// Approve what a run asks approval for, or decline it with --no
    #[command(
        after_help = "Examples:\n  skep approve 3f9a12bc\n  skep approve 3f9a12bc --block b1 --no \"keep the old name as an alias\""
    )]
    Approve {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
        /// Which question (b1); the oldest open one when left out
        #[arg(long, value_name = "BLOCK", value_parser = parse::block)]
        block: Option<String>,
        /// Decline, and say what should be different
        #[arg(long, value_name = "REASON")]
        no: Option<String>,
    },
    /// Answer what a run waits for, so that it goes on
    #[command(after_help = UNBLOCK)]
    Unblock {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
        /// Which question (b1); the oldest open one when left out
        #[arg(long, value_name = "BLOCK", value_parser = parse::block)]
        block: Option<String>,
        /// How; without any: yes, try again
        #[command(flatten)]
        how: How,
    },
    /// Hold a run: nothing new starts, nothing it holds is given away
    Pause {
        /// The run
        #[arg(value_parser = parse::run)]
        run: String,
    },
    /// Let a run go on: one that was paused, or whose process is gone
    Resume {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
    },
    /// End a run undelivered; its work is kept under a WIP ref
    Cancel {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Start a run that ended once more, as a new run with the same goal
    Retry {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
    },
    /// Give a run more budget
    #[command(after_help = "Example:\n  skep raise 3f9a12bc --more time=1h,cost=\"2.00 USD\"")]
    Raise {
        /// The run, and whether to follow it
        #[command(flatten)]
        to: To,
        /// How much more: time=1h,cost="1.00 USD",tokens=N,rounds=N,attempts=N
        #[arg(long, value_name = "AMOUNTS", value_parser = parse::more)]
        more: More,
    },
    /// What runs cost, and more of what they may cost
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// Projects: repositories with their policy, checks and engines
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Secrets: kept encrypted, given where they are needed, never shown
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Changes (pull requests) on the local forge, as a person sees them
    #[command(subcommand)]
    Change(ChangeCommand),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Engines: what thinks, and whether it can be used here
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Prompts: what engines that read words are told
    #[command(subcommand)]
    Prompts(PromptsCommand),
    /// Bring the store's schema up to this version
    Migrate {
        /// Only tell what would be done
        #[arg(long)]
        status: bool,
    },
    /// Look whether everything needed is there and works, and what could think here
    Doctor {
        /// Print only a configuration for the keys, model servers and agents found
        #[arg(long)]
        propose: bool,
    },
    /// The walls around commands
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// Places besides this machine where checks run: hosts over SSH, containers
    #[command(subcommand)]
    CliContext(RunnerCommand),
}

const UNBLOCK: &str = "\
Examples:
  skep unblock 3f9a12bc
      yes: try again, with as many tries again
  skep unblock 3f9a12bc --block b1 --answer \"the port is 5433\"
  skep unblock 3f9a12bc --more time=1h,cost=\"1.00 USD\"
  skep unblock 3f9a12bc --skip
      go on without this task
  skep unblock 3f9a12bc --no \"not worth it\"
      end the run undelivered";

/// Which run, and whether to follow it.
#[derive(Debug, Args)]
pub struct To {
    /// The run
    #[arg(value_parser = parse::run)]
    pub run: String,
    /// Follow the run also when a service carries it (without a service it always is)
    #[arg(short, long)]
    pub follow: bool,
}

/// An answer to a question.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct How {
    /// The answer, or a hint for the next try
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// Give this task up and go on without it
    #[arg(long)]
    pub skip: bool,
    /// No: end the run undelivered, and say why
    #[arg(long, value_name = "REASON")]
    pub no: Option<String>,
    /// More budget: time=1h,cost="1.00 USD",tokens=N,rounds=N,attempts=N
    #[arg(long, value_name = "AMOUNTS", value_parser = parse::more)]
    pub more: Option<More>,
}

/// What to run.
#[derive(Debug, Args)]
#[command(after_help = RUN)]
pub struct RunArgs {
    /// The repository: a directory, or a URL (https://, ssh://, file://, user@host:path)
    #[arg(long, value_name = "PATH|URL", required_unless_present = "project", value_parser = parse::origin)]
    pub repo: Option<Origin>,
    /// A project by name, instead of --repo
    #[arg(long, value_name = "NAME", conflicts_with = "repo")]
    pub project: Option<String>,
    /// What should be different when the run is done
    #[arg(long, value_name = "TEXT", required_unless_present = "goal_file")]
    pub goal: Option<String>,
    /// Read the goal from a file; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "goal")]
    pub goal_file: Option<PathBuf>,
    /// Who does the work: for the dev, or for the role named (manager, scout, dev, reviewer); repeatable
    ///
    /// KIND is `command` (any program, working in its worktree), `direct` (a manager or reviewer without a model) or `script`
    /// (a written script; without a role it plays every role).
    #[arg(long, value_name = "[ROLE=]KIND[:ARG]", value_parser = parse::engine)]
    pub engine: Vec<EngineChoice>,
    /// A command that proves the change, instead of those found in the project; repeatable
    #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
    pub check: Vec<String>,
    /// The branch to land on; the repository's default branch when left out
    #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
    pub base: Option<String>,
    /// Give the approvals that are asked for, as the person who started the run (each is shown)
    #[arg(long)]
    pub yes: bool,
    /// Only open the run; a service carries it on
    #[arg(long)]
    pub detach: bool,
    /// Only show what the run would begin with: engines, checks, budget, the manager's prompt. Nothing is opened or spent
    #[arg(long, conflicts_with_all = ["yes", "detach"])]
    pub dry_run: bool,
    /// Open a new run even if one with the same goal is open (otherwise that one is carried on)
    #[arg(long)]
    pub new: bool,
}

const RUN: &str = "\
Examples:
  skep run --repo . --goal \"Fix what clippy finds\" --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'
  skep run --repo https://example.org/team/tool.git --base develop --goal-file goal.md --check 'make test' --yes
  skep run --project tool --goal \"Sort the imports\" --engine 'dev=command: isort .' --engine reviewer=direct

Ctrl-C leaves the run where it is; the same command goes on with it.
With --json each line has one key: `event` (a journal row), `said` (an engine's line), or last `run` (how it stands).";

/// The demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Give the approvals that are asked for; without it the demo asks, where there is a terminal to ask at
    #[arg(long)]
    pub yes: bool,
}

/// Which runs.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only this project's
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only those with this status
    #[arg(long, value_name = "STATUS", value_parser = STATUS_WORDS)]
    pub status: Option<String>,
    /// Only those that are not over
    #[arg(long)]
    pub open: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=500))]
    pub limit: u64,
    /// Older than this run
    #[arg(long, value_name = "RUN", value_parser = parse::run)]
    pub before: Option<String>,
}

const STATUS_WORDS: [&str; 10] = [
    "pending",
    "planning",
    "planned",
    "running",
    "paused",
    "blocked",
    "failed",
    "cancelled",
    "completed",
    "quarantined",
];
