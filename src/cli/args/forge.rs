//! Commands about forges.

use crate::cli::parse;
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

/// Kind of a forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForgeKind {
    /// GitHub or GitHub Enterprise Server
    Github,
    /// GitLab: gitlab.com or a server of one's own
    Gitlab,
    /// Forgejo
    Forgejo,
    /// Gitea
    Gitea,
}

/// `skep forge …`.
#[derive(Debug, Subcommand)]
pub enum ForgeCommand {
    /// List the configured forges
    List,
    /// Test a forge and add it to the configuration; changes nothing on the forge
    #[command(after_help = "Without --token-file, the token is the one in GH_TOKEN, GITLAB_TOKEN, \
        FORGEJO_TOKEN or GITEA_TOKEN; for GitHub and GitLab also the one of `gh auth token` and `glab config get token`.\n\nExamples:\n  \
        skep forge add github my-org/calc\n  \
        skep forge add gitlab my-org/team/calc\n  \
        skep forge add forgejo --url https://code.example.org --token-file /etc/skep/token --label skep")]
    Add {
        /// Kind of the forge
        kind: ForgeKind,
        /// Repository in which to test the permissions, as OWNER/REPO or its clone URL
        #[arg(value_name = "OWNER/REPO", value_parser = parse::not_empty)]
        repo: Option<String>,
        /// Name of the forge in the configuration, instead of its kind
        #[arg(long, value_name = "NAME", value_parser = parse::table_name)]
        name: Option<String>,
        /// Address of the server
        #[arg(long, value_name = "URL", value_parser = parse::not_empty)]
        #[arg(required_if_eq_any = [("kind", "forgejo"), ("kind", "gitea")])]
        url: Option<String>,
        /// File with the token, which only Skep's user can read
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Label that starts a run for an issue
        #[arg(long, value_name = "LABEL", value_parser = parse::not_empty)]
        label: Option<String>,
    },
    /// Test the account of a forge, and its permissions in a repository; changes nothing there
    #[command(after_help = "Examples:\n  skep forge test github\n  skep forge test github my-org/calc")]
    Test {
        /// Name of the forge: NAME of its table [forges.NAME] in the configuration
        #[arg(value_name = "NAME", value_parser = parse::not_empty)]
        name: String,
        /// Repository, as OWNER/REPO or its clone URL
        #[arg(value_name = "OWNER/REPO", value_parser = parse::not_empty)]
        repo: Option<String>,
    },
    /// List what a forge reported by webhook and what sweeps found there, newest first
    Deliveries {
        /// Name of the forge
        #[arg(value_name = "NAME", value_parser = parse::not_empty)]
        name: String,
        /// Maximum number of rows, 1 to 500
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: Option<u64>,
    },
}
