//! The commands about projects, changes and the configuration.

use crate::cli::parse::{self, ChangeName, EngineChoice, Origin};
use clap::{Subcommand, ValueEnum};

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
