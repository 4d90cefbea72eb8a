//! Commands about runs, projects, secrets, changes, budgets, engines, runners, prompts and the configuration.

use crate::cli::parse::{self, ChangeName, EngineChoice, Origin};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `skep project …`.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Add a project, or change it with --replace
    Add {
        /// Repository: a directory or a URL
        #[arg(value_name = "PATH|URL", value_parser = parse::origin)]
        repo: Origin,
        /// Name, instead of one derived from the repository
        #[arg(long)]
        name: Option<String>,
        /// Branch that changes land on, instead of the repository's default branch
        #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
        base: Option<String>,
        /// Command that verifies a change, instead of the checks detected in the repository; repeatable
        #[arg(long, value_name = "CMD", value_parser = parse::not_empty)]
        check: Vec<String>,
        /// Engine of a role, as in `skep run`; repeatable
        #[arg(long, value_name = "[ROLE=]KIND[:ARG]", value_parser = parse::engine)]
        engine: Vec<EngineChoice>,
        /// Replace the project of the same name
        #[arg(long)]
        replace: bool,
    },
    /// Allow hosts for the commands of a project, in addition to those it may reach already
    #[command(after_help = "Example:\n  skep project allow tally packages.example.org mirror.example.org:8443")]
    Allow {
        /// Name of the project
        name: String,
        /// Hosts: names, `*.` and a name, or addresses, each with `:PORT` unless it is 443 or 80
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
    },
    /// List projects
    List,
    /// Show a project
    Show {
        /// Name of the project
        name: String,
    },
    /// Forget a project; its repository, and the runs it had, stay
    Remove {
        /// Name of the project
        name: String,
    },
}

/// `skep user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a person, who may do what the role allows
    #[command(after_help = ROLES)]
    Add {
        /// Name, such as ann
        name: String,
        /// Role
        #[arg(long, default_value = "member")]
        role: PersonRole,
        /// Project that the role is for; the whole service if not given
        #[arg(long)]
        project: Option<String>,
    },
    /// List the people
    List,
    /// Give a person another role, which applies at once
    #[command(after_help = ROLES)]
    Grant {
        /// Name of the person
        name: String,
        /// Role
        role: PersonRole,
        /// Project that the role is for; the whole service if not given
        #[arg(long)]
        project: Option<String>,
    },
    /// Link a person with an account at the identity provider, which logs them in from then on
    Link {
        /// Name of the person
        name: String,
        /// Id of the account at the provider (the claim `sub`), which a refused login shows
        subject: String,
    },
    /// Disable a person: sessions and tokens stop working at once
    Disable {
        /// Name of the person
        name: String,
    },
    /// Enable a disabled person again
    Enable {
        /// Name of the person
        name: String,
    },
    /// Print a link that logs a person in to the pages of the running service, once, within ten minutes
    LoginLink {
        /// Name of the person
        name: String,
    },
}

const ROLES: &str = "Roles, each with everything that those before it may do:\n  \
    none      nothing, except by a role in single projects\n  \
    viewer    see runs, changes and spending\n  \
    member    start and steer runs\n  \
    approver  approve, review changes, raise budgets\n  \
    admin     manage projects, secrets, people and the service";

/// Role of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PersonRole {
    /// Nothing, except by a role in single projects
    None,
    /// See runs, changes and spending
    Viewer,
    /// Start and steer runs
    Member,
    /// Approve, review changes, raise budgets
    Approver,
    /// Manage projects, secrets, people and the service
    Admin,
}

impl PersonRole {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            PersonRole::None => "none",
            PersonRole::Viewer => "viewer",
            PersonRole::Member => "member",
            PersonRole::Approver => "approver",
            PersonRole::Admin => "admin",
        }
    }
}

/// `skep schedule …`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List the schedules of the configuration, when they are due, and what they started last
    List,
    /// Start the run of a schedule now; its next time stays as it is
    Run {
        /// Name of the schedule
        name: String,
    },
}

/// `skep token …`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create an access token for the REST API, MCP and `skep --server`; it is printed once
    #[command(
        after_help = "Examples:\n  skep token new laptop --person ann --rights read,run,approve\n  skep token new ci --rights read,run --project tally --days 30\n\n\
            Rights: read, run, approve, review, budget, secrets, projects, admin, metrics. A person's token never has more than the person's role allows."
    )]
    New {
        /// What it is for, such as laptop
        name: String,
        /// Person it acts as; without one it belongs to a program, which cannot approve
        #[arg(long, value_name = "NAME")]
        person: Option<String>,
        /// Rights, separated by commas
        #[arg(long, value_name = "RIGHTS", value_delimiter = ',', default_value = "read")]
        rights: Vec<String>,
        /// Projects that it is limited to, separated by commas
        #[arg(long = "project", value_name = "NAMES", value_delimiter = ',')]
        projects: Vec<String>,
        /// Days after which it stops working [default: 90]
        #[arg(long, value_name = "N", conflicts_with = "never_expires")]
        days: Option<u32>,
        /// Let it work until it is revoked
        #[arg(long)]
        never_expires: bool,
    },
    /// List tokens, newest first, without their secrets
    List,
    /// Replace a token by a new one of the same name, rights and lifetime; the old one works for an hour more
    Rotate {
        /// Id of the token, as listed
        id: String,
    },
    /// Revoke a token: it stops working at once
    Revoke {
        /// Id of the token, as listed
        id: String,
    },
}

/// `skep secret …`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Store a secret, replacing an older value; reads the value from standard input by default
    #[command(
        after_help = "Examples:\n  skep secret set FORGE_TOKEN < token.txt\n  skep secret set DB_PASSWORD --project tally --from-env PGPASSWORD"
    )]
    Set {
        /// Name of the secret
        name: String,
        /// Only for this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Read the value from an environment variable
        #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
        from_env: Option<String>,
        /// Read the value from a file
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names of secrets
    List,
    /// Delete a secret
    Remove {
        /// Name of the secret
        name: String,
        /// The secret of this project, instead of the one for all projects
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Encrypt every secret with a new key
    #[command(
        after_help = "Example:\n  (umask 077; openssl rand -hex 32 > new.key) && skep secret rekey --new-key-file new.key"
    )]
    Rekey {
        /// File with the new key: 64 hex digits or base64 of 32 bytes, mode 0600
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

/// `skep change …`. A change is named PROJECT#NUMBER, or by its run.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// List changes, newest first
    List {
        /// Only this project
        project: Option<String>,
    },
    /// Show a change: description, comments, reviews and statuses
    Show {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// Print its diff instead
        #[arg(long)]
        patch: bool,
    },
    /// Approve a change at its current head
    Approve {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// Text of the review
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
    },
    /// Request changes: the run makes them in a round of rework
    Decline {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// What should be different
        #[arg(value_parser = parse::not_empty)]
        text: String,
    },
    /// Comment on a change; `UNBLOCK #b1 …` answers what the run waits for
    Comment {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// Text of the comment
        #[arg(value_parser = parse::not_empty)]
        text: String,
    },
    /// Merge a change at its current head, fast-forward only
    Merge {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
    },
    /// Close a change without merging it
    Close {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
    },
    /// Set a commit status, as a CI system would
    Status {
        /// PROJECT#NUMBER, or a run
        change: ChangeName,
        /// Context of the status (ci/build)
        #[arg(long, value_parser = parse::not_empty)]
        context: String,
        /// State
        #[arg(long)]
        state: State,
        /// Description
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
        /// Commit, instead of the head of the change
        #[arg(long)]
        sha: Option<String>,
    },
}

/// State of a commit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Not finished
    Pending,
    /// Passed
    Success,
    /// Failed
    Failure,
}

/// `skep config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration, and print each value with its source
    Check {
        /// Only the values that are not the default
        #[arg(long)]
        changed: bool,
    },
}

/// `skep budget …`.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Show what was spent and what is reserved
    Show {
        /// Group by
        #[arg(long, value_name = "WHAT", default_value = "project", value_parser = ["project", "role", "model", "day", "run"])]
        by: String,
        /// Only this project
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
        /// Only this run
        #[arg(long, value_name = "RUN", value_parser = parse::run)]
        run: Option<String>,
        /// Only this UTC day (2026-11-21, or today)
        #[arg(long, value_name = "DAY", value_parser = parse::not_empty)]
        day: Option<String>,
    },
    /// Raise the budget of a run, a project or today; runs that waited for it continue
    #[command(
        after_help = "Examples:\n  skep budget raise 3f9a12bc --cost 5USD\n  skep budget raise --project tool --cost \"50 USD\"\n  skep budget raise --day --tokens 2000000"
    )]
    Raise(RaiseArgs),
}

/// Budget to raise, and by how much.
#[derive(Debug, Args)]
pub struct RaiseArgs {
    /// Raise the budget of a run
    #[arg(value_parser = parse::run, group = "whose", required_unless_present_any = ["project", "day"])]
    pub run: Option<String>,
    /// Raise the budget shared by all runs of a project
    #[arg(long, value_name = "NAME", group = "whose", value_parser = parse::not_empty)]
    pub project: Option<String>,
    /// Raise the budget shared by all runs of this UTC day
    #[arg(long, group = "whose")]
    pub day: bool,
    /// Additional money ("5 USD")
    #[arg(long, value_name = "AMOUNT", value_parser = parse::money, required_unless_present = "tokens")]
    pub cost: Option<u64>,
    /// Additional tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub tokens: Option<u64>,
}

/// `skep engine …`.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// List roles, engine kinds, providers and agents, and why one cannot be used
    List,
    /// Test an engine with a small order in a throw-away repository; costs one short conversation
    #[command(after_help = "Examples:\n  skep engine test dev\n  skep engine test llm:anthropic/claude-haiku-4-5")]
    Test {
        /// Role (manager, scout, dev, reviewer), or engine as KIND[:ARG], which is tested as a dev
        #[arg(value_name = "ROLE|ENGINE", value_parser = parse::not_empty)]
        engine: String,
    },
}

/// `skep runner …`.
#[derive(Debug, Subcommand)]
pub enum RunnerCommand {
    /// List the configured runners, and which projects use them
    List,
    /// Test a runner with small checks
    #[command(after_help = "Example:\n  skep runner test box")]
    Test {
        /// Name of the runner: NAME of its table [runners.NAME] in the configuration
        #[arg(value_name = "NAME", value_parser = parse::not_empty)]
        name: String,
    },
}

/// `skep notify …`.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message on a channel
    #[command(after_help = "Example:\n  skep notify test team")]
    Test {
        /// Name of the channel: NAME of its table [notify.NAME] in the configuration
        #[arg(value_name = "NAME", value_parser = parse::not_empty)]
        name: String,
    },
}

/// `skep ci …`.
#[derive(Debug, Subcommand)]
pub enum CiCommand {
    /// Report the result of a CI for the branch of a run
    #[command(
        after_help = "Example:\n  skep ci report success --branch skep/3f9a12bc --sha \"$(git rev-parse HEAD)\" --context ci/windows"
    )]
    Report {
        /// Result
        #[arg(value_name = "RESULT")]
        state: State,
        /// Branch that was tested
        #[arg(long, value_parser = parse::not_empty)]
        branch: String,
        /// Commit that was tested, all of its hex digits
        #[arg(long, value_parser = parse::not_empty)]
        sha: String,
        /// Context of the status, as in policy.required_statuses
        #[arg(long, value_name = "NAME", default_value = "ci", value_parser = parse::not_empty)]
        context: String,
        /// Address of the CI's own report
        #[arg(long)]
        url: Option<String>,
    },
}

/// `skep prompts …`.
#[derive(Debug, Subcommand)]
pub enum PromptsCommand {
    /// List the templates in force for each step, with their source and version
    List {
        /// Templates of this project
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
    },
    /// Print the templates of a step, or of the role that does it
    Show {
        /// Step or role
        #[arg(value_name = "STEP|ROLE", value_parser = ["explore", "plan", "develop", "review", "scout", "manager", "dev", "reviewer"])]
        step: String,
        /// Templates of this project
        #[arg(long, value_name = "NAME", value_parser = parse::not_empty)]
        project: Option<String>,
    },
}

/// `skep sandbox …`.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Try hostile actions in the sandbox, and show which were blocked
    Test {
        /// Level to test, instead of the configured one
        #[arg(long)]
        level: Option<Isolation>,
    },
}

/// Level of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Bubblewrap, a system call filter and Landlock
    Strict,
    /// Landlock and a system call filter
    Landlock,
}

/// Options of `skep runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only this status
    #[arg(long, value_name = "STATUS", value_parser = crate::http::rest::wire::STATUS_WORDS)]
    pub status: Option<String>,
    /// Only runs that have not ended
    #[arg(long)]
    pub open: bool,
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=500))]
    pub limit: u64,
    /// Only runs older than this one
    #[arg(long, value_name = "RUN", value_parser = parse::run)]
    pub before: Option<String>,
}
