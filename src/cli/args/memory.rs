//! Commands about memory.

use crate::cli::parse;
use clap::{Args, Subcommand};

/// `skep memory …`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum MemoryCommand {
    /// List what ended runs have shown, or rank it for a text
    List {
        /// Rank rows by their relevance to this text; needs --project
        #[arg(value_name = "TEXT", requires = "project", value_parser = parse::not_empty)]
        text: Option<String>,
        /// Only of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Only of this kind: fact, change, lesson
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Only in this state: live, stale, forgotten [default: live and stale]
        #[arg(long, value_name = "STATE", conflicts_with = "text")]
        state: Option<String>,
        /// Maximum number of rows
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// Show a row: what it says, who stated it, and the lines it is about
    Show {
        /// Id of the row
        id: String,
    },
    /// Show what the attempts of a run were given, and why it may have been nothing
    Why {
        /// The run
        #[arg(value_parser = parse::run)]
        run: String,
    },
    /// Add a lesson of your own
    Add {
        /// The lesson, in a few sentences
        #[arg(value_parser = parse::not_empty)]
        text: String,
        /// The project
        #[arg(long, value_name = "NAME")]
        project: String,
        /// The file, or FILE:LINE, that it is about: it is given only while that is as it is now
        #[arg(long, value_name = "FILE[:LINE]", value_parser = parse::not_empty)]
        about: Option<String>,
    },
    /// Open a run that adds what a row says to AGENTS.md, where it holds for good
    Promote {
        /// Id of the row
        id: String,
    },
    /// Forget rows by where they come from: their text is removed, and they are not made again
    Forget(ForgetArgs),
    /// Check the cited lines of all rows now, and remove rows that have expired
    Sweep {
        /// Only of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Compare the runs that were given rows with those that were given none
    Effect {
        /// Only runs of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
}

/// Options of `skep memory forget`.
#[derive(Debug, Args)]
#[group(id = "source", required = true, multiple = true, args = ["id", "run", "path", "author"])]
pub struct ForgetArgs {
    /// The row with this id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Rows that this run showed last
    #[arg(long, value_name = "RUN", value_parser = parse::run)]
    pub run: Option<String>,
    /// Rows that are about this file
    #[arg(long, value_name = "FILE")]
    pub path: Option<String>,
    /// Rows that this author stated, such as user:ann or engine:llm:anthropic/opus
    #[arg(long, value_name = "AUTHOR")]
    pub author: Option<String>,
    /// Only of this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  skep memory list --project tool
  skep memory list \"the parser fails on empty input\" --project tool
  skep memory why 3f9a12bc
  skep memory add \"Run make gen after you change api.proto\" --project tool --about api.proto
  skep memory promote 3f9a12bc0d41
  skep memory forget --run 3f9a12bc
  skep memory effect";
