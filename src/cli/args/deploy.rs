//! Commands about deployments and sponsors.

use super::super::amounts;
use clap::{Args, Subcommand};

/// `skep deploy …`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = DEPLOY)]
pub struct DeployArgs {
    /// The command.
    #[command(subcommand)]
    pub command: Option<DeployCommand>,
    /// Name of the target to deploy to
    pub target: Option<String>,
    /// The commit, with its whole id [default: the newest one of the branch]
    #[arg(long, value_name = "SHA")]
    pub sha: Option<String>,
    /// Approve the rollout at once
    #[arg(long)]
    pub yes: bool,
}

const DEPLOY: &str = "\
Examples:
  skep deploy test
      deploy the newest commit of the branch; a person approves it if the target requires that
  skep deploy web --sha 6dcd4ce23d88e2ee9568ba546c007c63d9131c1b --yes
  skep deploy report test 3
A running service (`skep serve`) carries rollouts out.";

/// Commands about deployments.
#[derive(Debug, Subcommand)]
pub enum DeployCommand {
    /// List the targets, with their status
    List,
    /// Show a target and its rollouts
    Show {
        /// Name of the target
        target: String,
    },
    /// Approve the rollout that waits
    Approve {
        /// Name of the target
        target: String,
        /// Answer only this rollout [default: the waiting one]
        #[arg(long, value_name = "N")]
        rollout: Option<u64>,
    },
    /// Decline the rollout that waits
    Decline {
        /// Name of the target
        target: String,
        /// Answer only this rollout [default: the waiting one]
        #[arg(long, value_name = "N")]
        rollout: Option<u64>,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Roll back to the previous version, or to that of an earlier rollout
    Rollback {
        /// Name of the target
        target: String,
        /// Number of a rollout that was deployed
        #[arg(long, value_name = "N")]
        to: Option<u64>,
    },
    /// Suspend a target: nothing new is deployed to it
    Suspend {
        /// Name of the target
        target: String,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Resume a suspended target
    Resume {
        /// Name of the target
        target: String,
    },
    /// Probe a target now
    Probe {
        /// Name of the target
        target: String,
    },
    /// Print the acceptance report of a rollout, with the runbook
    Report {
        /// Name of the target
        target: String,
        /// Number of the rollout [default: the newest]
        number: Option<u64>,
    },
    /// Print how to deploy, check and go back by hand, without Skep
    Runbook {
        /// Name of the target
        target: String,
    },
}

/// `skep sponsor …`.
#[derive(Debug, Subcommand)]
pub enum SponsorCommand {
    /// List the sponsors
    List,
    /// Add a sponsor of a project, or replace the one with the same name
    Add {
        /// Name of the sponsor
        name: String,
        /// The project
        #[arg(long, value_name = "NAME")]
        project: String,
        /// It covers hosting
        #[arg(long)]
        hosting: bool,
        /// It covers the domain
        #[arg(long)]
        domain: bool,
        /// What it gives each month, such as "5.00 USD"
        #[arg(long, value_name = "AMOUNT", value_parser = amounts::dollars)]
        monthly: Option<u64>,
        /// Its name may be shown to everyone
        #[arg(long)]
        public: bool,
        /// Remarks
        #[arg(long, value_name = "TEXT", default_value = "")]
        notes: String,
    },
    /// Pause a sponsor, which covers nothing until it is resumed
    Pause(SponsorName),
    /// Resume a paused sponsor
    Resume(SponsorName),
    /// End a sponsor
    End(SponsorName),
}

/// A sponsor of a project.
#[derive(Debug, Args)]
pub struct SponsorName {
    /// Name of the sponsor
    pub name: String,
    /// The project
    #[arg(long, value_name = "NAME")]
    pub project: String,
}
