//! Commands about outcomes and improvements.

use crate::cli::parse;
use clap::{Args, Subcommand, ValueEnum};

/// `skep outcomes …`.
#[derive(Debug, Subcommand)]
pub enum OutcomesCommand {
    /// List verified outcomes, newest run first
    List {
        /// Only of this run
        #[arg(long, value_name = "RUN", value_parser = parse::run)]
        run: Option<String>,
        /// Only of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Only with this word: landed, landed_late, unlanded, void, red, unusable, confirmed, refuted, missed
        #[arg(long, value_name = "WORD")]
        word: Option<String>,
        /// Maximum number of rows
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// Derive the outcomes of all ended runs again, from their journals
    Rebuild,
}

/// Options of `skep improve`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = IMPROVE)]
pub struct ImproveArgs {
    /// Read attempts that ended in this time, such as 14d or 12h [default: improve.window]
    #[arg(long, value_name = "DURATION", value_parser = parse::not_empty)]
    pub since: Option<String>,
    /// Only this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Show what would be proposed; store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also write each open proposal to the forge of its project
    #[arg(long = "as", value_name = "KIND", conflicts_with = "dry_run")]
    pub publish: Option<Publish>,
    /// What to do with proposals, instead of looking for new ones
    #[command(subcommand)]
    pub command: Option<ImproveCommand>,
}

/// Form in which proposals are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Publish {
    /// An issue on the project's forge; a second pass updates it
    Issue,
}

/// `skep improve …`.
#[derive(Debug, Subcommand)]
pub enum ImproveCommand {
    /// List proposals, newest first, with their measured effect
    List,
    /// Show a proposal: what recurs, in which runs, and what to change
    Show {
        /// Id of the proposal, or its beginning
        id: String,
    },
    /// Accept a proposal: its effect is measured from now on. You make the change yourself
    Accept {
        /// Id of the proposal, or its beginning
        id: String,
    },
    /// Drop a proposal; the same failure is not proposed again for 90 days
    Drop {
        /// Id of the proposal, or its beginning
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT", value_parser = parse::not_empty)]
        why: String,
    },
}

const IMPROVE: &str = "\
Examples:
  skep improve --dry-run
  skep improve --project tool --since 30d --as issue
  skep improve show 3f9a12bc0d41
  skep improve accept 3f9a12bc0d41
  skep improve drop 3f9a12bc0d41 --why \"the mirror is back\"

A failure is proposed if it occurred in at least three runs, and in 5 % of the attempts at its step or at a cost of 5 USD.";
