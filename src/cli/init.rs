//! `init`: looks at a repository and this machine, proposes one configuration, writes it, and runs the checks.

use super::args::InitArgs;
use super::check;
use super::client::Client;
use super::context::{Access, CliContext};
use super::exit::{CliError, ExitStatus, Stop};
use super::network;
use super::terminal::{Style, Terminal};
use super::unread_config::{UnreadConfig, unread_config};
use crate::http::rest::wire::{Check, CheckKind, CheckPlan, NewCheckPlan};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Name of the file in the root folder of a repository.
const REPO_FILE: &str = ".skep.toml";

/// What is proposed.
struct Proposal {
    plan: CheckPlan,
    /// The repository's file with its text; `None` = it is there already, or the repository is not on this machine.
    repo_file: Option<(PathBuf, String)>,
    /// Additions to Skep's own configuration: the engines found here; empty = they are configured, or there are none.
    engines: String,
}

/// `skep init`.
pub async fn init(cli: &CliContext<'_>, args: InitArgs) -> Result<ExitStatus, Stop> {
    if let Some(UnreadConfig { detail, fix }) = unread_config(cli, Some(&args.repo.0)) {
        cli.terminal.line(Style::Yellow, &format!("note: {detail}: {fix}"))?;
    }
    // Only a working copy can get a file; a bare repository and a URL cannot.
    let folder =
        Some(PathBuf::from(&args.repo.0)).filter(|folder| folder.is_absolute() && folder.join(".git").exists());
    let order = NewCheckPlan {
        repo: Some(args.repo.0),
        checks: args.check,
        working_copy: folder.is_some(),
        ..NewCheckPlan::default()
    };
    let connection = cli.connect(Access::Drive).await?;
    let end = init_with(cli, &connection.client, &order, folder.as_deref(), args.yes).await;
    connection.close().await;
    end
}

async fn init_with(
    cli: &CliContext<'_>,
    client: &Client,
    order: &NewCheckPlan,
    folder: Option<&Path>,
    yes: bool,
) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let plan: CheckPlan = client.post("/checks/plan", order, None).await?;
    let proposal = propose(cli, plan, folder).await?;
    if proposal.plan.checks.is_empty() {
        return Err(no_checks(&proposal.plan).into());
    }
    show(terminal, &proposal)?;
    let confirmed = yes || {
        let answer = terminal.ask("Write this? [y/N]").await?.unwrap_or_default();
        matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    };
    if !confirmed {
        terminal.suggest("Nothing was written. `skep init --yes` writes it.")?;
        return Ok(ExitStatus::Success);
    }
    write(cli, client, order, &proposal, yes).await?;
    terminal.print("")?;
    // The file counts before it is committed: the working copy is checked.
    let end = check::run(cli, client, &NewCheckPlan { checks: Vec::new(), ..order.clone() }).await?;
    if proposal.repo_file.is_some() {
        terminal.print(&format!("{REPO_FILE} takes effect for runs once it is committed."))?;
    }
    Ok(end)
}

async fn propose(cli: &CliContext<'_>, plan: CheckPlan, folder: Option<&Path>) -> Result<Proposal, Stop> {
    let repo_file = folder.map(|folder| folder.join(REPO_FILE)).filter(|file| !file.exists());
    let repo_file = repo_file.map(|file| (file, repo_text(&plan.checks)));
    let rows = cli.backend.list_engines(cli.host).await.map_err(CliError::from)?;
    let has_dev = rows.iter().any(|row| row.what == "role" && row.name == "dev" && row.usable);
    let proposed = match has_dev {
        true => String::new(),
        false => cli.backend.doctor(cli.host).await.map_err(CliError::from)?.proposed_config,
    };
    let is_empty = proposed.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
    Ok(Proposal { plan, repo_file, engines: if is_empty { String::new() } else { proposed } })
}

fn show(terminal: &Terminal, proposal: &Proposal) -> Result<(), Stop> {
    let Proposal { plan, repo_file, engines } = proposal;
    let (hosts, addresses) = (network::hosts(&plan.network), network::addresses(&plan.network));
    terminal.object(&json!({ "init": {
        "plan": plan,
        "repo_file": repo_file.as_ref().map(|(_, text)| text),
        "hosts": hosts,
        "addresses": addresses,
        "engines": engines,
    } }))?;
    terminal.line(Style::Bold, &format!("project {} ({}, {})", plan.project, plan.repo, plan.base_branch))?;
    match repo_file {
        Some((file, text)) => {
            section(terminal, &format!("{}, in the repository:", file.display()), text)?;
        }
        None => terminal.print(&format!("  {REPO_FILE} stays as it is."))?,
    }
    if !hosts.is_empty() {
        section(terminal, "Skep's configuration, hosts that the setup needs:", &format!("{}\n", hosts.join("\n")))?;
    }
    if !addresses.is_empty() {
        let title = "Skep's configuration, addresses outside the public internet that these hosts lead to:";
        section(terminal, title, &format!("{}\n", addresses.join("\n")))?;
    }
    for text in &plan.missing {
        terminal.line(Style::Yellow, &format!("  {text}; add [[check]] for it to {REPO_FILE} if it has tests"))?;
    }
    for need in plan.network.iter().filter(|need| network::is_unknown(need)) {
        let checks = need.checks.join(", ");
        terminal.line(Style::Dim, &format!("  {checks} starts {}, which may need more hosts", need.manager))?;
    }
    match engines.is_empty() {
        false => section(terminal, "Skep's configuration, engines found on this machine:", engines),
        true => Ok(()),
    }
}

fn section(terminal: &Terminal, title: &str, text: &str) -> Result<(), Stop> {
    terminal.print("")?;
    terminal.line(Style::Bold, title)?;
    text.lines().try_for_each(|line| terminal.line(Style::Plain, &format!("  {line}")))
}

fn no_checks(plan: &CheckPlan) -> CliError {
    let found = if plan.missing.is_empty() { String::new() } else { format!(": {}", plan.missing.join("; ")) };
    let nearest = match plan.proposals.first() {
        Some(p) => format!(", such as {:?} from {}", p.command, p.file),
        None => String::new(),
    };
    CliError::usage(
        format!("no checks were found in {}{found}", plan.repo),
        format!(
            "name the command that proves a change with --check{nearest}; if there is nothing to run, use --check \
             true: it accepts every change, so that only the review and your approval decide"
        ),
    )
}

/// Writes the repository's file as text.
fn repo_text(checks: &[Check]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = "# How Skep proves changes of this repository. Runs read it at the base commit.\n".to_owned();
    for check in checks {
        let kind = match check.kind {
            CheckKind::Setup => "setup",
            CheckKind::Test => "test",
            CheckKind::Lint => "lint",
            CheckKind::Scan => "scan",
            CheckKind::Accept => "accept",
        };
        let timeout = match check.timeout_secs {
            secs if secs % 60 == 0 => format!("{}m", secs / 60),
            secs => format!("{secs}s"),
        };
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "\n[[check]]\nname = {}\nkind = \"{kind}\"\ncommand = {}\ntimeout = \"{timeout}\"\n",
            quoted(&check.name),
            quoted(&check.command)
        );
    }
    text
}

/// Writes what was proposed. `unseen` = nobody has looked at it: then no address outside the public internet is allowed,
/// because the repository itself may have named a host that leads there.
async fn write(
    cli: &CliContext<'_>,
    client: &Client,
    order: &NewCheckPlan,
    proposal: &Proposal,
    unseen: bool,
) -> Result<(), Stop> {
    let terminal = cli.terminal;
    if let Some((file, text)) = &proposal.repo_file {
        let unwritable = |e: std::io::Error| {
            CliError::usage(format!("cannot write {}: {e}", file.display()), "write it by hand, or name another folder")
        };
        // A file that appeared in the meantime is not replaced, and a link is not followed.
        let mut new = std::fs::File::create_new(file).map_err(unwritable)?;
        new.write_all(text.as_bytes()).map_err(unwritable)?;
        terminal.line(Style::Green, &format!("wrote {}", file.display()))?;
    }
    let mut entries = network::hosts(&proposal.plan.network);
    if !unseen {
        entries.extend(network::addresses(&proposal.plan.network));
    }
    if !entries.is_empty() {
        network::allow(cli, client, order, &proposal.plan.project, &entries).await?;
    }
    if !proposal.engines.is_empty() {
        let file = cli.backend.add_config(cli.host, &proposal.engines).await.map_err(CliError::from)?;
        terminal.line(Style::Green, &format!("wrote the engines to {file}"))?;
    }
    Ok(())
}
