//! Commands and options, with their help texts.

mod agents;
mod deploy;
mod eval;
mod forge;
mod improve;
mod maintenance;
mod memory;
mod resources;
mod run;
mod spec;

pub use agents::{AgentsCommand, WorkCommand, WorkReviewArgs};
pub use deploy::{DeployArgs, DeployCommand, SponsorCommand, SponsorName};
pub use eval::{EvalCommand, SuiteArgs};
pub use forge::{ForgeCommand, ForgeKind};
pub use improve::{ImproveArgs, ImproveCommand, OutcomesCommand, Publish};
pub use maintenance::{BackupArgs, GcArgs, RestoreArgs};
pub use memory::{ForgetArgs, MemoryCommand};
pub use resources::{
    BudgetCommand, ChangeCommand, CiCommand, ConfigCommand, EngineCommand, Isolation, NotifyCommand, ProjectCommand,
    PromptsCommand, RaiseArgs, RunnerCommand, RunsArgs, SandboxCommand, ScheduleCommand, SecretCommand, State,
    TokenCommand, UserCommand,
};
pub use run::{CheckArgs, DemoArgs, InitArgs, RunArgs, SettingsArgs};
pub use spec::{ImportArgs, SpecCommand, VerifyArgs};

use super::amounts::{self, More};
use super::exit::EXIT_CODES;
use super::parse;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;

/// A self-hosted software factory: turns a repository and a goal into a reviewed, tested, merged change
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
      a complete run on a sample project, without an account, network or model
  skep run \"Fix the clippy warnings\" --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'
      work on the repository around the current directory, and follow the run until it ends or needs you
  skep runs --open
  skep show 3f9a12bc
  skep approve

A run is named by its id, or by four or more of its first digits; @ is the newest. Where one run fits, no name is needed.
If a service uses the data directory (`skep serve`), every command talks to it. Otherwise a command that starts or resumes
a run works on it in the foreground.";

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON: one object, or one object per line for streams (events, logs, a followed run)
    ///
    /// Errors are JSON too: problem objects (RFC 9457) on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Data directory: store, mirrors, workspaces, token [default: SKEP_DATA_DIR, $XDG_DATA_HOME/skep or
    /// ~/.local/share/skep]
    // Not clap's `env`: a usage line would name the option as if it had been given.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: SKEP_CONFIG, or skep.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Service to use instead of the one of the data directory [default: SKEP_SERVER]; the access token is in
    /// SKEP_TOKEN, or in the file that SKEP_TOKEN_FILE names
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Log more to standard error; repeat for debug output
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Disable colors (also disabled by NO_COLOR, and when output is not a terminal)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a run for a goal, and follow it until it ends or needs you
    Run(RunArgs),
    /// Run only the setup and the checks of a repository, as a run would, and report what to change
    Check(CheckArgs),
    /// Propose a configuration for a repository, write it, and run its checks
    Init(InitArgs),
    /// Write and check task specs: goals with acceptance criteria
    #[command(subcommand)]
    Spec(SpecCommand),
    /// Show a complete run on an embedded sample project, with scripted agents
    Demo(DemoArgs),
    /// Run the service: work on all runs and serve the pages and the REST API until stopped
    Serve {
        /// Address to listen on, instead of the configured one
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Print a link that logs you in to the pages of the running service
    Open,
    /// Follow a run until it ends or needs you, and answer what it asks
    Watch {
        /// The run [default: the one that waits for you, else the newest]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
        /// Give every requested approval on your behalf
        #[arg(long)]
        yes: bool,
    },
    /// Open a full-screen console to watch all runs and answer their questions
    Console,
    /// Serve the Model Context Protocol on standard input and output, for an agent that uses Skep
    Mcp,
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    Runs(RunsArgs),
    /// Show a run: plan, tasks, attempts, gates, budget, artifacts, and what it waits for
    #[command(visible_alias = "status")]
    Show {
        /// The run [default: the one that waits for you, else the newest]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
        /// Print the diff instead: of the run, or of one task (t1)
        #[arg(long, value_name = "TASK", num_args = 0..=1, default_missing_value = "", value_parser = parse::task)]
        patch: Option<String>,
    },
    /// Print the diff of a run, or of one of its tasks
    Diff {
        /// The run [default: the one that waits for you, else the newest]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
        /// Only this task (t1)
        #[arg(value_parser = parse::task)]
        task: Option<String>,
    },
    /// Print the events of a run
    Events {
        /// The run [default: the one that waits for you, else the newest]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
        /// Keep printing new events until the run ends
        #[arg(short, long)]
        follow: bool,
        /// Only events after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
    },
    /// Print the output of engines and checks
    #[command(visible_alias = "log")]
    Logs {
        /// The run [default: the one that waits for you, else the newest]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
        /// Only this attempt (a2)
        #[arg(value_parser = parse::attempt)]
        attempt: Option<u32>,
        /// Keep printing the output of running engines and checks until the run stops
        #[arg(short, long, conflicts_with = "attempt")]
        follow: bool,
    },
    /// Approve what a run asks approval for, or decline it with --no
    #[command(
        after_help = "Examples:\n  skep approve 3f9a12bc\n  skep approve 3f9a12bc --block b1 --no \"keep the old name as an alias\""
    )]
    Approve {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
        /// The question to answer (b1), instead of the oldest open one
        #[arg(long, value_name = "BLOCK", value_parser = parse::block)]
        block: Option<String>,
        /// Decline, and say what should be different
        #[arg(long, value_name = "REASON")]
        no: Option<String>,
    },
    /// Answer what a run waits for, so that it continues
    #[command(after_help = UNBLOCK)]
    Unblock {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
        /// The question to answer (b1), instead of the oldest open one
        #[arg(long, value_name = "BLOCK", value_parser = parse::block)]
        block: Option<String>,
        /// The answer; if omitted, yes (try again)
        #[command(flatten)]
        answer: AnswerArgs,
        /// Settings that the run gets first.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Pause a run: nothing new starts, and it keeps everything it has reserved
    Pause {
        /// The run [default: the only open one]
        #[arg(value_parser = parse::run)]
        run: Option<String>,
    },
    /// Resume a run that was paused, or that no process is working on
    Resume {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
    },
    /// Lift the quarantine of a run whose cause was fixed, and resume it
    LiftQuarantine {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
    },
    /// Cancel a run; its work is kept under a WIP ref
    Cancel {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Revert a landed change in a new run, which is checked, reviewed and approved like any other
    #[command(after_help = "Example:\n  skep revert 67e2cfab --why \"it doubles the start time\"")]
    Revert {
        /// The run that has landed, and whether to follow the new one
        #[command(flatten)]
        run: RunRef,
        /// Reason, for those who review and approve it
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Settings of the new run
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Retry a run: grant more tries if it has used them up, or start the goal of an undelivered run again as a new one
    #[command(after_help = RETRY)]
    Retry {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
        /// A hint for the next try
        #[arg(long, value_name = "TEXT")]
        answer: Option<String>,
        /// Additional budget: time=1h,cost="1.00 USD",tokens=N,turns=N,rounds=N,attempts=N
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts::more)]
        more: Option<More>,
        /// Settings that the run gets first.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Raise the budget of a run
    #[command(after_help = "Example:\n  skep raise 3f9a12bc --more time=1h,cost=\"2.00 USD\"")]
    Raise {
        /// The run, and whether to follow it
        #[command(flatten)]
        run: RunRef,
        /// Additional budget: time=1h,cost="1.00 USD",tokens=N,turns=N,rounds=N,attempts=N,step=10m
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts::more)]
        more: More,
    },
    /// Show spending, and raise budgets
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// List what the journals of ended runs prove about their attempts
    #[command(subcommand)]
    Outcomes(OutcomesCommand),
    /// Inspect and manage the memory of projects, and see whether it helps
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Find failures that recur, and propose what to change
    Improve(ImproveArgs),
    /// Measure what a model, prompt or setting changes, on tasks with hidden tests
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Manage projects: repositories with their policy, checks and engines
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Manage secrets: stored encrypted, passed to the commands that need them, never shown
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Manage the people who use the service, and their roles
    #[command(subcommand)]
    User(UserCommand),
    /// Invite and revoke outside agents, and list ratings
    #[command(subcommand)]
    Agents(AgentsCommand),
    /// Take open work, as an outside agent
    #[command(subcommand)]
    Work(WorkCommand),
    /// List schedules, and start their runs by hand
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Deploy versions to targets, and go back; show targets and rollouts
    Deploy(DeployArgs),
    /// List, add, pause and end sponsors of projects
    #[command(subcommand)]
    Sponsor(SponsorCommand),
    /// Manage access tokens of people and programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Review changes (pull requests) on the local forge
    #[command(subcommand)]
    Change(ChangeCommand),
    /// Check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List and test engines
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Show the prompt templates in force
    #[command(subcommand)]
    Prompts(PromptsCommand),
    /// Migrate the store's schema to this version
    Migrate {
        /// Only list the steps
        #[arg(long)]
        status: bool,
    },
    /// Back up everything that cannot be made again
    Backup(BackupArgs),
    /// Restore a backup into a new data directory and an empty database
    Restore(RestoreArgs),
    /// Verify journals, ledger, artifacts, audit log, mirrors and changes; changes nothing
    #[command(after_help = "Exits with 0 if everything is intact, else with 3. A service may be running.")]
    Verify,
    /// Free disk space: workspaces of ended runs, mirrors of removed projects, old caches
    Gc(GcArgs),
    /// Check that everything Skep needs is in place
    Doctor {
        /// Print only a configuration for the keys, model servers and agents of this machine
        #[arg(long)]
        propose: bool,
    },
    /// Test the sandbox of commands
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// List and test runners: the hosts (SSH) and containers (Docker) where checks run
    #[command(subcommand)]
    Runner(RunnerCommand),
    /// List and test forges: where runs open and merge their pull requests
    #[command(subcommand)]
    Forge(ForgeCommand),
    /// Test the channels for messages to people
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Report the result of a CI
    #[command(subcommand)]
    Ci(CiCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  skep completions bash > ~/.local/share/bash-completion/completions/skep")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands to a folder
    #[command(after_help = "Example:\n  skep man ~/.local/share/man/man1 && man skep-run")]
    Man {
        /// The folder; it is created if it is missing
        dir: PathBuf,
    },
    /// Former name of `skep runner`.
    #[command(hide = true)]
    Place {
        /// The rest of the command.
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

const UNBLOCK: &str = "\
Examples:
  skep unblock 3f9a12bc
      try again, with the same number of tries
  skep unblock 3f9a12bc --engine 'command: ruff check --fix --exit-zero .'
      try again with another engine; --check replaces the checks
  skep unblock 3f9a12bc --block b1 --answer \"the port is 5433\"
  skep unblock 3f9a12bc --more time=1h,cost=\"1.00 USD\"
  skep unblock 3f9a12bc --skip
      continue without this task, or although the checks fail
  skep unblock 3f9a12bc --no \"not worth it\"
      end the run undelivered";

const RETRY: &str = "\
Examples:
  skep retry 3f9a12bc
  skep retry 3f9a12bc --engine llm:anthropic/claude-sonnet-4-5 --check 'make test' --more rounds=2";

/// A run, and whether to follow it.
#[derive(Debug, Args)]
pub struct RunRef {
    /// The run [default: the only one that this command applies to]
    #[arg(value_parser = parse::run)]
    pub run: Option<String>,
    /// Follow the run even if a service works on it (without a service it is always followed)
    #[arg(short, long)]
    pub follow: bool,
}

/// Answer to a question.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct AnswerArgs {
    /// The answer, or a hint for the next try
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// Drop this task and continue without it, or continue although the checks fail
    #[arg(long)]
    pub skip: bool,
    /// End the run undelivered, for this reason
    #[arg(long, value_name = "REASON")]
    pub no: Option<String>,
    /// Additional budget: time=1h,cost="1.00 USD",tokens=N,turns=N,rounds=N,attempts=N,step=10m
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts::more)]
    pub more: Option<More>,
}
