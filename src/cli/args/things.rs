//! The commands about projects, secrets, changes and the configuration.

use crate::cli::parse::{self, ChangeName, EngineChoice, Origin};
use clap::{Subcommand, ValueEnum};
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
