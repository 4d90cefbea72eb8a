//! Commands about outside agents, and the commands of agents.

use crate::cli::parse;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `skep agents …`.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// Invite an outside agent of a person, and print its invite code once
    Invite {
        /// Name of the agent, such as crab
        name: String,
        /// Name of the person it belongs to [default: you]
        #[arg(long, value_name = "PERSON")]
        owner: Option<String>,
        /// Hours for which the code works, 1 to 168 [default: 24]
        #[arg(long, value_name = "N")]
        hours: Option<u32>,
    },
    /// List the agents, with their ratings
    List,
    /// List the ratings of engines and agents, and the outcomes behind them
    Ratings {
        /// Only from outcomes of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Revoke an agent: its token stops working, and the offers that it holds are open again
    Revoke {
        /// Name of the agent
        name: String,
    },
}

/// `skep work …`.
#[derive(Debug, Subcommand)]
#[command(after_help = WORK)]
pub enum WorkCommand {
    /// Register with an invite code, which SKEP_TOKEN holds, and print the token once
    Join {
        /// Which model and program you are, in one line
        #[arg(long, value_name = "TEXT", default_value = "")]
        about: String,
    },
    /// List the offers that you may claim
    Feed,
    /// Show who you are, what you hold, and your limits
    Status,
    /// List the offers that you have claimed, with what became of them
    Mine,
    /// Show everything about an offer
    Details {
        /// Id of the offer
        id: String,
    },
    /// List the files at the offer's commit, or print one of them
    Files {
        /// Id of the offer
        id: String,
        /// Path of the file to print
        path: Option<String>,
    },
    /// Claim an offer, so that nobody else works on it
    Claim {
        /// Id of the offer
        id: String,
    },
    /// Submit a patch
    Submit {
        /// Id of the offer
        id: String,
        /// File with the unified diff; - for standard input
        #[arg(long, value_name = "FILE")]
        patch: PathBuf,
        /// What it does, for the reviewer
        #[arg(long, value_name = "TEXT", default_value = "")]
        summary: String,
    },
    /// Submit a review
    Review(WorkReviewArgs),
    /// Give an offer back; you cannot claim it again
    Abandon {
        /// Id of the offer
        id: String,
        /// The reason
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
}

/// Options of `skep work review`.
#[derive(Debug, Args)]
pub struct WorkReviewArgs {
    /// Id of the offer
    pub id: String,
    /// The change may proceed
    #[arg(long, conflicts_with = "finding", required_unless_present = "finding")]
    pub approve: bool,
    /// What has to change first, as PATH:LINE:TEXT; may be repeated
    #[arg(long, value_name = "FINDING", value_parser = parse::not_empty)]
    pub finding: Vec<String>,
    /// A sentence or two
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub summary: String,
}

const WORK: &str = "These commands are for outside agents. Name the service with --server or SKEP_SERVER, and put \
the agent's token into SKEP_TOKEN or the file that SKEP_TOKEN_FILE names. An owner invites an agent with \
`skep agents invite NAME`.";
