//! `run` and `demo`: from a goal to a followed run.

use super::args::{DemoArgs, RunArgs};
use super::context::{Access, CliContext, Connection};
use super::exit::{CliError, ExitStatus, Stop};
use super::follow::FollowOptions;
use super::parse::by_role;
use super::reconnect::follow_run;
use super::terminal::Style;
use super::text::shell_quoted;
use super::unreported::UnreportedOrders;
use crate::http::rest::wire::{NewRun, Run};
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
    // A detached order is reported by its answer. Only a repetition of an order without `--new` may find its run.
    let unfinished = if detach || !order.reuse_open_run { None } else { unreported.find(order) };
    let is_repeated = unfinished.is_some();
    let key = match (unfinished, detach) {
        (Some(key), _) => Some(key),
        (None, false) => Some(unreported.mark(order)),
        (None, true) => None,
    };
    let posted: Result<Run, CliError> = match &key {
        Some(key) => client.post_once("/runs", order, key).await,
        None => client.post("/runs", order, None).await,
    };
    let view = match posted {
        Ok(view) => view,
        Err(error) => {
            // A refused order opened nothing; one without an answer may have.
            if let Some(key) = key.filter(|_| error.exit != ExitStatus::TryAgain) {
                unreported.set_reported(&key);
            }
            return Err(error.into());
        }
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
