//! `run` and `demo`: from a goal to a followed run.

use super::amounts;
use super::args::{DemoArgs, RunArgs};
use super::client::Client;
use super::context::{Access, CliContext, Connection};
use super::engines;
use super::exit::{CliError, ExitStatus, Stop};
use super::follow::FollowOptions;
use super::parse::{self, by_role, origin_here};
use super::reconnect::follow_run;
use super::server;
use super::spec;
use super::terminal::{Style, Terminal};
use super::text::{count, shell_quoted};
use super::unreported::UnreportedOrders;
use crate::http::backend::{ServiceReady, local_url};
use crate::http::rest::wire::{NewCheckPlan, NewRun, OnDifference, Outcome, RequestedLimits, Run};
use crate::service::host::Uncommitted;
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// Maximum bytes of a goal; the service has the same limit.
const MAX_GOAL_BYTES: usize = 64 * 1024;

/// `skep run`.
pub async fn run(cli: &CliContext<'_>, args: RunArgs) -> Result<ExitStatus, Stop> {
    let spec = args.spec.as_deref().map(spec::read).transpose()?;
    let goal = match (args.goal.or(args.goal_option), &args.goal_file, &spec) {
        (Some(goal), _, _) => goal,
        (None, Some(file), _) => read_goal(file)?,
        (None, None, Some(_)) => String::new(),
        (None, None, None) => {
            return Err(CliError::usage("no goal given", "pass a GOAL, --goal-file FILE or --spec FILE").into());
        }
    };
    if spec.is_none() {
        check_goal(&goal)?;
    }
    let repo = match (args.repo, &args.project) {
        (None, None) if cli.host.server.is_some() => {
            return Err(CliError::usage(
                "no project given",
                "name a project of the service with --project (`skep project list`), or a URL with --repo",
            )
            .into());
        }
        (None, None) => {
            let here = origin_here().map_err(|what| {
                CliError::usage(what, "change to a clone of the repository, or name one with --repo PATH|URL")
            })?;
            Some(here.0)
        }
        (repo, _) => repo.map(|origin| origin.0),
    };
    if cli.host.server.is_some() {
        server::check_repo(repo.as_deref())?;
    }
    let order = NewRun {
        project: args.project,
        repo,
        goal,
        spec,
        base: args.base,
        engines: by_role(&engines::by_name(cli, args.engine).await?),
        checks: args.check,
        limits: amounts::merged(&args.limit),
        reuse_open_run: !args.new,
        on_difference: if args.update { OnDifference::Apply } else { OnDifference::Refuse },
    };
    if args.dry_run {
        let connection = cli.connect(Access::Write).await?;
        let (end, note) = tokio::join!(
            super::dry_run::dry_run(&connection.client, cli.terminal, &order),
            uncommitted(cli, order.repo.as_deref())
        );
        connection.close().await;
        if end.is_ok() {
            print_uncommitted(cli.terminal, note)?;
        }
        return end;
    }
    // Without a service nothing would drive a detached run: it is only queued.
    let access = if args.detach { Access::Write } else { Access::Drive };
    let connection = cli.connect(access).await?;
    if !args.detach {
        let needs = NewCheckPlan {
            project: order.project.clone(),
            repo: order.repo.clone(),
            base: order.base.clone(),
            checks: order.checks.clone(),
            spec: None,
            working_copy: false,
        };
        super::network::ask(cli, &connection.client, &needs).await?;
    }
    let mut unreported = UnreportedOrders::of(&cli.host.sources.data_dir);
    let end = start(cli, &connection, &order, &mut unreported, args.detach, args.yes).await;
    connection.close().await;
    unreported.settle();
    end
}

async fn start(
    cli: &CliContext<'_>,
    connection: &Connection,
    order: &NewRun,
    unreported: &mut UnreportedOrders,
    detach: bool,
    yes: bool,
) -> Result<ExitStatus, Stop> {
    let (terminal, client) = (cli.terminal, &connection.client);
    let sent = place(cli, client, order.clone(), unreported, detach).await?;
    let Some(Sent { view, key, is_repeated }) = sent else {
        terminal.print("Nothing was started.")?;
        return Ok(ExitStatus::Success);
    };
    let resumed = view.seq > 1;
    let (short, title) = (&view.short_id, &view.goal.title);
    let headline = match resumed {
        true if is_repeated && view.phase == "ended" => {
            format!("run {short} has ended since the last command: {title}")
        }
        true => format!("run {short} continues, it has the same goal (--new starts another): {title}"),
        false => format!("run {short} started: {title}"),
    };
    terminal.prose(Style::Bold, &headline, 4)?;
    if !resumed {
        for notice in &view.notices {
            terminal.line(Style::Yellow, &format!("note: {notice}"))?;
        }
    }
    if detach {
        match client.is_remote() {
            true => {
                terminal.suggest(&format!("{} works on it. Follow it with `skep watch {short}`.", client.driver()))?
            }
            false => terminal.suggest(&format!(
                "No service uses this data directory. `skep resume {short}` or `skep serve` continues the run."
            ))?,
        }
        terminal.object(&view)?;
        return Ok(ExitStatus::Success);
    }
    // The journal holds the earlier events; a resumed run is followed from here.
    let after = if resumed { view.seq } else { 0 };
    let end = follow_run(cli, client, view, FollowOptions { yes, after }).await?;
    if let Some(key) = key {
        unreported.set_reported(&key);
    }
    Ok(end)
}

/// An order that was sent.
struct Sent {
    /// The run that it led to.
    view: Run,
    /// Its idempotency key; a detached order has none, because it is reported by its answer.
    key: Option<String>,
    /// Whether an earlier command sent it and never reported the outcome.
    is_repeated: bool,
}

/// Sends an order, under the key of an earlier command that sent exactly this one and never reported the outcome.
async fn send(
    client: &Client,
    order: &NewRun,
    unreported: &mut UnreportedOrders,
    detach: bool,
) -> Result<Sent, CliError> {
    if detach {
        return Ok(Sent { view: client.post("/runs", order, None).await?, key: None, is_repeated: false });
    }
    // Only an order without `--new` may find the run of an earlier one.
    let earlier = if order.reuse_open_run { unreported.find(order) } else { None };
    if let Some(key) = earlier {
        let view = post(client, order, unreported, &key).await?;
        // A cancelled run was reported by the command that cancelled it: the order is meant again.
        if !matches!(view.outcome, Some(Outcome::Cancelled { .. })) {
            return Ok(Sent { view, key: Some(key), is_repeated: true });
        }
        unreported.remove(&key);
    }
    let key = unreported.mark(order);
    let view = post(client, order, unreported, &key).await?;
    Ok(Sent { view, key: Some(key), is_repeated: false })
}

async fn post(client: &Client, order: &NewRun, unreported: &mut UnreportedOrders, key: &str) -> Result<Run, CliError> {
    let posted = client.post_once("/runs", order, key).await;
    // A refused order opened nothing; one without an answer may have.
    if posted.as_ref().is_err_and(|error| error.exit != ExitStatus::TryAgain) {
        unreported.set_reported(key);
    }
    posted
}

/// Sends an order. Where it leaves something open that a person can decide, the person at the terminal is asked; `None` if
/// the answer is to start nothing.
async fn place(
    cli: &CliContext<'_>,
    client: &Client,
    mut order: NewRun,
    unreported: &mut UnreportedOrders,
    detach: bool,
) -> Result<Option<Sent>, Stop> {
    loop {
        let error = match send(client, &order, unreported, detach).await {
            Ok(sent) => return Ok(Some(sent)),
            Err(error) => error,
        };
        unreported.settle();
        let code = error.problems.first().map(|p| p.code.clone()).unwrap_or_default();
        match code.as_str() {
            "settings_differ" => match ask_difference(cli.terminal, error).await? {
                Some(Chosen::Update) => order.on_difference = OnDifference::Apply,
                Some(Chosen::Keep) => order.on_difference = OnDifference::Keep,
                Some(Chosen::New) => order.reuse_open_run = false,
                None => return Ok(None),
            },
            "no_engine" => {
                let spec = engines::ask(cli, error).await?;
                let choice = parse::engine(&spec).map_err(|why| {
                    CliError::usage(format!("{spec}: {why}"), "write KIND or KIND:ARG, such as 'command: make fix'")
                })?;
                order.engines.extend(by_role(&engines::by_name(cli, vec![choice]).await?));
            }
            _ => return Err(error.into()),
        }
    }
}

/// What a person decided about an open run with other settings than the command names.
enum Chosen {
    Update,
    Keep,
    New,
}

/// Asks which settings count; without a person to ask, spells out the commands that say it.
async fn ask_difference(terminal: &Terminal, mut error: CliError) -> Result<Option<Chosen>, Stop> {
    if !terminal.can_prompt() {
        if let Some(problem) = error.problems.first_mut() {
            problem.fix = format!(
                "to give this run what the command names: {}\nto start another run of this goal: {}",
                terminal.repeated_with("--update"),
                terminal.repeated_with("--new")
            );
        }
        return Err(error.into());
    }
    let what = error.problems.first().map(|p| p.detail.clone()).unwrap_or_default();
    terminal.line(Style::Yellow, &what)?;
    loop {
        let question = "[u]se what the command names in this run, start a [n]ew run, or [k]eep this run as it is?";
        match terminal.ask(question).await?.as_deref().map(str::to_lowercase).as_deref() {
            Some("u" | "use") => return Ok(Some(Chosen::Update)),
            Some("n" | "new") => return Ok(Some(Chosen::New)),
            Some("k" | "keep") => return Ok(Some(Chosen::Keep)),
            Some("") | None => return Ok(None),
            Some(_) => terminal.print("Please answer u, n or k, or press Enter to start nothing.")?,
        }
    }
}

/// Returns the uncommitted files of a working copy, which a dry run mentions; a run has a notice of its own. A
/// repository that cannot be read is reported by the preview.
async fn uncommitted(cli: &CliContext<'_>, repo: Option<&str>) -> Option<Uncommitted> {
    let folder = repo.filter(|repo| repo.starts_with('/'))?;
    cli.backend.uncommitted(cli.host, Path::new(folder)).await.ok().flatten()
}

/// Prints that uncommitted files would not be part of the run.
fn print_uncommitted(terminal: &Terminal, found: Option<Uncommitted>) -> Result<(), Stop> {
    let Some(found) = found else { return Ok(()) };
    terminal.object(&json!({ "uncommitted": found }))?;
    let (changed, untracked) = (count(found.changed, "changed file"), count(found.untracked, "untracked file"));
    let what = match (found.changed, found.untracked) {
        (0, 0) => return Ok(()),
        (_, 0) => changed,
        (0, _) => untracked,
        _ => format!("{changed} and {untracked}"),
    };
    let is = if found.changed + found.untracked == 1 { "is" } else { "are" };
    terminal.line(Style::Yellow, &format!("note: {what} {is} not committed and would not be part of the run"))?;
    if found.rules {
        terminal.line(
            Style::Yellow,
            "note: .skep.toml is read at the base commit; your uncommitted version would not be used",
        )?;
    }
    Ok(())
}

/// `skep demo`.
pub async fn demo(cli: &CliContext<'_>, args: DemoArgs, own_dir: bool) -> Result<ExitStatus, Stop> {
    let (terminal, data_dir) = (cli.terminal, &cli.host.sources.data_dir);
    let demo = cli.backend.prepare_demo(cli.host).await?;
    terminal.line(Style::Yellow, &demo.notice)?;
    terminal.print(&format!("Sample repository: {}", super::text::escape(&demo.repo)))?;
    terminal.object(&json!({ "demo": { "notice": demo.notice, "repo": demo.repo } }))?;
    let repo = demo.repo.clone();
    let order = NewRun {
        project: None,
        repo: Some(demo.repo),
        goal: demo.goal,
        spec: None,
        base: Some(demo.base),
        engines: demo.engines.into_iter().map(|(role, engine)| (role.into(), engine)).collect(),
        checks: demo.checks,
        limits: RequestedLimits::default(),
        reuse_open_run: true,
        on_difference: OnDifference::Keep,
    };
    let connection = cli.connect(Access::Drive).await?;
    let mut unreported = UnreportedOrders::of(data_dir);
    // The demo shows a complete run: without a terminal to ask at, it gives the approval itself, visibly.
    let yes = args.yes || !terminal.can_prompt();
    if yes && !args.yes {
        terminal
            .print("Nobody can be asked without a terminal: the demo approves its change itself, as with --yes.")?;
    }
    let end = start(cli, &connection, &order, &mut unreported, false, yes).await;
    connection.close().await;
    unreported.settle();
    let status = end?;
    if status != ExitStatus::Success {
        return Ok(status);
    }
    terminal.print("")?;
    terminal.print("That was the demo. Try it in a repository of yours, with any program that edits files:")?;
    let example =
        "  skep run \"Fix the clippy warnings\" --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'";
    match own_dir {
        // Real work does not belong where the demo stores its own.
        true => terminal.print(example)?,
        false => terminal.suggest(example)?,
    }
    terminal.print("")?;
    if args.serve || wants_pages(terminal).await? {
        show_pages(cli).await?;
    }
    if own_dir && !args.keep {
        // What cannot be removed is replaced by the next demo.
        let _left = std::fs::remove_dir_all(data_dir);
        terminal.print("The sample repository and everything the demo stored are removed; `--keep` keeps them.")?;
        return Ok(status);
    }
    terminal.print(&format!("The sample repository and its history: git -C {} log --stat", shell_quoted(&repo)))?;
    let data_dir = shell_quoted(&data_dir.display().to_string());
    terminal.print(&format!("All data Skep has stored:              {data_dir}"))?;
    Ok(status)
}

/// Asks whether to show the demo's run on pages; without a terminal, says how to see them.
async fn wants_pages(terminal: &Terminal) -> Result<bool, Stop> {
    if !terminal.can_prompt() {
        terminal.print("`skep demo --serve` shows the run on pages in a browser afterwards.")?;
        return Ok(false);
    }
    let answer = terminal.ask("Look at this run in a browser? [y/N]").await?.unwrap_or_default();
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Serves the pages of the demo's data directory until the process is asked to end.
async fn show_pages(cli: &CliContext<'_>) -> Result<(), Stop> {
    let terminal = cli.terminal;
    let greet = |ready: ServiceReady| {
        let Some(login) = &ready.login else { return };
        // The pages are there even if the output is closed.
        let _unread = terminal.print(&format!("Open {}", local_url(ready.address, login)));
        let _unread = terminal.print("(the link logs in once, within ten minutes; Ctrl+C ends the pages)");
        let _unread = terminal.print("");
    };
    // Any free port: a service for real work may use the configured one.
    cli.backend.serve(cli.host, Some("127.0.0.1:0"), &greet).await?;
    Ok(())
}

fn read_goal(file: &Path) -> Result<String, CliError> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let unreadable = |e: std::io::Error| {
        CliError::usage(format!("cannot read the goal from {name}: {e}"), "name a text file that this user can read")
    };
    let mut bytes = Vec::new();
    // One byte more than allowed detects a goal that is too long without reading all of it.
    let max_bytes = MAX_GOAL_BYTES as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(max_bytes).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        std::fs::File::open(file).map_err(unreadable)?.take(max_bytes).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    let bytes = from_utf16(bytes);
    match String::from_utf8(bytes) {
        // Editors on Windows start text files with a byte order mark.
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)),
        Err(e) if e.as_bytes().len() > MAX_GOAL_BYTES => Ok("x".repeat(MAX_GOAL_BYTES + 1)),
        Err(_) => Err(CliError::usage(format!("the goal in {name} is not valid UTF-8"), "save it as UTF-8")),
    }
}

/// Converts a text in UTF-16, recognized by its byte order mark, as shells on Windows write it; leaves others alone.
fn from_utf16(bytes: Vec<u8>) -> Vec<u8> {
    let unit = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return bytes,
    };
    let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16(&units).map_or(bytes, String::into_bytes)
}

fn check_goal(goal: &str) -> Result<(), CliError> {
    if goal.trim().is_empty() {
        return Err(CliError::usage("the goal is empty", "describe what should be different when the run is done"));
    }
    if goal.len() > MAX_GOAL_BYTES {
        return Err(CliError::usage(
            format!("the goal is longer than {} KiB", MAX_GOAL_BYTES / 1024),
            "shorten it, and put long texts into a file of the repository",
        ));
    }
    Ok(())
}
