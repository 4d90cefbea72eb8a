//! `run` and `demo`: from a goal to a followed run.

use super::args::{DemoArgs, RunArgs};
use super::client::Client;
use super::context::{Access, CliContext, Connection};
use super::exit::{CliError, ExitStatus, Stop};
use super::follow::FollowOptions;
use super::parse::by_role;
use super::reconnect::follow_run;
use super::terminal::Style;
use super::text::shell_quoted;
use super::unreported::UnreportedOrders;
use crate::http::rest::wire::{NewRun, Outcome, Run};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// Maximum bytes of a goal; the service has the same limit.
const MAX_GOAL_BYTES: usize = 64 * 1024;

/// `skep run`.
pub async fn run(cli: &CliContext<'_>, args: RunArgs) -> Result<ExitStatus, Stop> {
    let goal = match (args.goal, &args.goal_file) {
        (Some(goal), _) => goal,
        (None, Some(file)) => read_goal(file)?,
        (None, None) => return Err(CliError::usage("no goal given", "pass --goal TEXT or --goal-file FILE").into()),
    };
    check_goal(&goal)?;
    let order = NewRun {
        project: args.project,
        repo: args.repo.map(|origin| origin.0),
        goal,
        base: args.base,
        engines: by_role(&args.engine),
        checks: args.check,
        reuse_open_run: !args.new,
    };
    if args.dry_run {
        let connection = cli.connect(Access::Write).await?;
        let end = super::dry_run::dry_run(&connection.client, cli.terminal, &order).await;
        connection.close().await;
        return end;
    }
    // Without a service nothing would drive a detached run: it is only queued.
    let access = if args.detach { Access::Write } else { Access::Drive };
    let connection = cli.connect(access).await?;
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
    let Sent { view, key, is_repeated } = send(client, order, unreported, detach).await?;
    let resumed = view.seq > 1;
    let (short, title) = (&view.short_id, &view.goal.title);
    let headline = match resumed {
        true if is_repeated && view.phase == "ended" => {
            format!("run {short} has ended since the last command: {title}")
        }
        true => format!("run {short} continues, it has the same goal (--new starts another): {title}"),
        false => format!("run {short} started: {title}"),
    };
    terminal.line(Style::Bold, &headline)?;
    if detach {
        match client.is_remote() {
            true => {
                terminal.suggest(&format!("The service works on it. Follow it with `skep events {short} --follow`."))?
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

/// `skep demo`.
pub async fn demo(cli: &CliContext<'_>, args: DemoArgs) -> Result<ExitStatus, Stop> {
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
        base: Some(demo.base),
        engines: demo.engines.into_iter().map(|(role, engine)| (role.into(), engine)).collect(),
        checks: demo.checks,
        reuse_open_run: true,
    };
    let connection = cli.connect(Access::Drive).await?;
    let mut unreported = UnreportedOrders::of(data_dir);
    // The demo shows a complete run: without a terminal to ask at, it gives the approval itself, visibly.
    let yes = args.yes || !terminal.can_prompt();
    let end = start(cli, &connection, &order, &mut unreported, false, yes).await;
    connection.close().await;
    unreported.settle();
    let status = end?;
    if status == ExitStatus::Success {
        terminal.print("")?;
        terminal.print("That was the demo. Try it on a repository of yours, with any program that edits files:")?;
        terminal.print("  skep run --repo PATH --goal \"Fix the clippy warnings\" \\")?;
        terminal.print("           --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'")?;
        terminal.print("")?;
        terminal.print(&format!("The sample repository and its history: git -C {} log --stat", shell_quoted(&repo)))?;
        let data_dir = shell_quoted(&data_dir.display().to_string());
        terminal.print(&format!("All data Skep has stored:              {data_dir}"))?;
    }
    Ok(status)
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
    match String::from_utf8(bytes) {
        // Editors on Windows start text files with a byte order mark.
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)),
        Err(e) if e.as_bytes().len() > MAX_GOAL_BYTES => Ok("x".repeat(MAX_GOAL_BYTES + 1)),
        Err(_) => Err(CliError::usage(format!("the goal in {name} is not valid UTF-8"), "save it as UTF-8")),
    }
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
