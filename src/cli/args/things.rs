//! The commands about projects, secrets, changes and the configuration.

use crate::cli::parse::{self, ChangeName, EngineChoice, Origin};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Projects.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Add a project, or change it with --replace
    Add {
        /// The repository: a directory, or a URL
        #[arg(value_name = "PATH|URL", value_parser = parse::origin)]
        repo: Origin,
        /// Its name; made from the repository's when left out
        #[arg(long)]
        name: Option<String>,
        /// The branch changes land on; the repository's default when left out
        #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
        base: Option<String>,
        /// A command that proves a change; repeatable; found in the repository when left out
        #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
        check: Vec<String>,
        /// Who does the work, as in `skep run`; repeatable
        #[arg(long, value_name = "[ROLE=]KIND[:ARG]", value_parser = parse::engine)]
        engine: Vec<EngineChoice>,
        /// Replace the project of that name
        #[arg(long)]
        replace: bool,
    },
    /// List projects
    List,
    /// Show a project
    Show {
        /// Its name
        name: String,
    },
}

/// Secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Keep a secret, over an older value; read from standard input unless told otherwise
    #[command(
        after_help = "Examples:\n  skep secret set FORGE_TOKEN < token.txt\n  skep secret set DB_PASSWORD --project tally --from-env PGPASSWORD"
    )]
    Set {
        /// Its name
        name: String,
        /// Only for this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Take the value of this environment variable
        #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
        from_env: Option<String>,
        /// Take the content of this file
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names of secrets
    List,
    /// Forget a secret
    Remove {
        /// Its name
        name: String,
        /// The one of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Seal every secret with a new key
    #[command(
        after_help = "Example:\n  (umask 077; openssl rand -hex 32 > new.key) && skep secret rekey --new-key-file new.key"
    )]
    Rekey {
        /// The file with the new key: 64 hex digits or base64 of 32 bytes, mode 0600
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

/// Changes. A change is named PROJECT#NUMBER, or by the run it belongs to.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// List changes, newest first
    List {
        /// Only this project's
        project: Option<String>,
    },
    /// Show a change: its text, what was said, reviews and statuses
    Show {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// Print its diff instead
        #[arg(long)]
        patch: bool,
    },
    /// Approve a change at its present head
    Approve {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// What to say with it
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
    },
    /// Ask for changes
    Decline {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// What should be different
        #[arg(value_parser = parse::not_empty)]
        text: String,
    },
    /// Say something; `UNBLOCK #b1 …` lifts a block
    Comment {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// What to say
        #[arg(value_parser = parse::not_empty)]
        text: String,
    },
    /// Merge it at its present head, fast-forward only
    Merge {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
    },
    /// Close it without merging
    Close {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
    },
    /// Set a status on its head, as a CI would
    Status {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// The context (ci/build)
        #[arg(long, value_parser = parse::not_empty)]
        context: String,
        /// The state
        #[arg(long)]
        state: State,
        /// A line for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
        /// The commit; the change's head when left out
        #[arg(long)]
        sha: Option<String>,
    },
}

/// A status's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Not known yet
    Pending,
    /// Green
    Success,
    /// Red
    Failure,
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check it, and print each value with its source
    Check,
}

/// Budgets.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Show what was spent and what is set aside
    Show {
        /// Summed up by this
        #[arg(long, value_name = "WHAT", default_value = "project", value_parser = ["project", "role", "model", "day", "run"])]
        by: String,
        /// Only this project's
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
        /// Only this run's
        #[arg(long, value_name = "RUN", value_parser = parse::run)]
        run: Option<String>,
        /// Only of this UTC day (2026-11-21, or today)
        #[arg(long, value_name = "DAY", value_parser = parse::not_empty)]
        day: Option<String>,
    },
    /// Give a run, a project or this day more; runs that waited for it go on
    #[command(
        after_help = "Examples:\n  skep budget raise 3f9a12bc --cost 5USD\n  skep budget raise --project tool --cost \"50 USD\"\n  skep budget raise --day --tokens 2000000"
    )]
    Raise(RaiseArgs),
}

/// Whose budget, and how much more.
#[derive(Debug, Args)]
pub struct RaiseArgs {
    /// A run's
    #[arg(value_parser = parse::run, group = "whose", required_unless_present_any = ["project", "day"])]
    pub run: Option<String>,
    /// What all runs of a project share
    #[arg(long, value_name = "NAME", group = "whose", value_parser = parse::not_empty)]
    pub project: Option<String>,
    /// What all runs of this UTC day share
    #[arg(long, group = "whose")]
    pub day: bool,
    /// This much more money ("5 USD")
    #[arg(long, value_name = "AMOUNT", value_parser = parse::money, required_unless_present = "tokens")]
    pub cost: Option<u64>,
    /// This many more tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub tokens: Option<u64>,
}

/// Engines.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// List roles, engine kinds, providers and agents, and why one cannot be used
    List,
    /// Let an engine do a small order in a throw-away repository; costs what one short conversation costs
    #[command(after_help = "Examples:\n  skep engine test dev\n  skep engine test llm:anthropic/claude-haiku-4-5")]
    Test {
        /// A role (manager, scout, dev, reviewer), or an engine as KIND[:ARG], which is tested as a dev
        #[arg(value_name = "ROLE|ENGINE", value_parser = parse::not_empty)]
        what: String,
    },
}

/// Places for checks.
#[derive(Debug, Subcommand)]
pub enum RunnerCommand {
    /// List the places of the configuration, and which projects' checks run there
    List,
    /// Have small checks run at a place, and show what held
    #[command(after_help = "Example:\n  skep place test box")]
    Test {
        /// A place of the configuration: the name of its table [places.NAME]
        #[arg(value_name = "NAME", value_parser = parse::not_empty)]
        name: String,
    },
}

/// Prompts.
#[derive(Debug, Subcommand)]
pub enum PromptsCommand {
    /// List the templates in force for each step, where each comes from, and the version they make
    List {
        /// As they are for this project
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
    },
    /// Print the templates of a step, or of the role that does it
    Show {
        /// The step or role
        #[arg(value_name = "STEP|ROLE", value_parser = ["explore", "plan", "develop", "review", "scout", "manager", "dev", "reviewer"])]
        what: String,
        /// As they are for this project
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
    },
}

/// The walls around commands.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Try hostile actions behind the walls, and show what was held back
    Test {
        /// The level to test; the configured one when left out
        #[arg(long)]
        level: Option<Isolation>,
    },
}

/// A level of isolation that can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Bubblewrap, a system call filter, Landlock
    Strict,
    /// Landlock and a system call filter
    Landlock,
}
