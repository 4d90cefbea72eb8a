//! Commands about task specs.

use crate::cli::parse::{self, Origin};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `skep spec …`.
#[derive(Debug, Subcommand)]
pub enum SpecCommand {
    /// Write a spec to fill in: specs/ID.yaml
    New {
        /// Name of the spec: lower-case letters, digits and hyphens
        id: String,
        /// Where to write it, instead of specs/ID.yaml
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check specs, and report every problem with its line
    #[command(after_help = "Exits with 2 if a spec is not valid.\n\nExample:\n  skep spec check specs/*.yaml")]
    Check {
        /// The specs
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Draft a spec from a document of another tool: the criteria are there, their commands are yours to add
    #[command(
        after_help = "Examples:\n  skep spec import --spec-kit specs/003-json-output\n  skep spec import --openspec openspec/changes/add-2fa\n  gh issue view 17 --json title,body | skep spec import --issue -"
    )]
    Import(ImportArgs),
    /// Print the JSON Schema of the format, for editors and other programs
    Schema,
    /// Run the commands of a spec's criteria on a repository as it is now
    #[command(
        after_help = "Exits with 0 if every command succeeds, else with 3. Criteria without a command are not judged.\n\nExamples:\n  skep spec verify specs/json-output.yaml\n  skep spec verify specs/json-output.yaml --dirty"
    )]
    Verify(VerifyArgs),
}

/// Options of `skep spec import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The document
    #[command(flatten)]
    pub from: ImportFrom,
    /// Where to write the spec, instead of specs/ID.yaml
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Document to import.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ImportFrom {
    /// Folder of a feature of Spec Kit, with spec.md
    #[arg(long, value_name = "DIR")]
    pub spec_kit: Option<PathBuf>,
    /// Folder of a change of OpenSpec, with proposal.md and specs/
    #[arg(long, value_name = "DIR")]
    pub openspec: Option<PathBuf>,
    /// GitHub issue as JSON with `title` and `body`; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub issue: Option<PathBuf>,
}

/// Options of `skep spec verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The spec
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Repository: a directory or a URL
    #[arg(long, value_name = "PATH|URL", default_value = ".", value_parser = parse::origin)]
    pub repo: Origin,
    /// Project, instead of --repo
    #[arg(long, value_name = "NAME", conflicts_with_all = ["repo", "dirty"])]
    pub project: Option<String>,
    /// Branch, instead of the repository's default branch
    #[arg(long, value_name = "BRANCH", value_parser = parse::not_empty)]
    pub base: Option<String>,
    /// Test the working copy with its uncommitted files, instead of the last commit
    #[arg(long)]
    pub dirty: bool,
}
