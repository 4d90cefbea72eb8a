//! The command line: every command is a REST client, either of a running service or of routes in this process.

pub mod accounts;
pub mod actions;
mod activity;
pub mod admin;
pub mod agents;
pub mod amounts;
mod answers;
pub mod args;
pub mod budget;
pub mod change;
pub mod check;
pub mod ci;
pub mod client;
mod console;
pub mod context;
pub mod deploy;
pub mod dry_run;
pub mod engine;
mod engines;
pub mod escalation;
pub mod eval;
pub mod exit;
pub mod follow;
pub mod forge;
pub mod improve;
pub mod init;
pub mod list;
mod live;
pub mod maintenance;
pub mod mcp;
pub mod memory;
pub mod network;
pub mod notify;
pub mod outcome;
pub mod outcomes;
mod pager;
pub mod parse;
pub mod progress;
pub mod project;
pub mod prompts;
mod question;
pub mod reconnect;
pub mod run;
pub mod run_log;
pub mod runner;
pub mod schedule;
pub mod secret;
mod select;
mod server;
pub mod show;
pub mod spec;
pub mod sse;
pub mod terminal;
pub mod text;
mod unread_config;
mod unreported;
pub mod work;

#[cfg(test)]
mod tests;

use crate::http::backend::Backend;
use crate::secrets::redact_all;
use crate::service::host::{HostContext, NewForge};
use actions::Action;
use args::{
    BudgetCommand, Command, ConfigCommand, EngineCommand, ForgeCommand, ForgeKind, NotifyCommand, ProjectCommand,
    RunnerCommand, SandboxCommand, ScheduleCommand, Skep, SponsorCommand,
};
use clap::Parser;
use client::Client;
use context::{Access, CliContext};
use exit::{CliError, ExitStatus, Stop};
use select::Fits;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use terminal::Terminal;

/// Parses the command line, runs the command and returns its exit code.
pub async fn main(backend: &dyn Backend) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // With --json a usage error is JSON too, even though the options could not be parsed.
    let json = args.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    let skep = match Skep::try_parse_from(&args) {
        Ok(skep) => skep,
        Err(error) => return usage_error(&error, json).into(),
    };
    let options = location_options(&skep.global);
    let terminal = Terminal::of_process(skep.global.json, skep.global.no_color);
    let terminal = terminal.with_location_options(options).called_as(&args);
    run_on(backend, &terminal, skep).await.into()
}

/// Runs a command on a terminal: [`main`] without the process around it.
pub async fn run_on(backend: &dyn Backend, terminal: &Terminal, skep: Skep) -> ExitStatus {
    match dispatch(backend, terminal, skep).await {
        Ok(status) => status,
        Err(Stop::OutputClosed) => ExitStatus::Success,
        // The run has not ended, so the exit status must not claim it has.
        Err(Stop::Left) => ExitStatus::WaitsForPerson,
        Err(Stop::Error(error)) => {
            terminal.error(&error);
            error.exit
        }
    }
}

/// Returns the options that a suggested command needs to reach the same data directory and configuration. Values from
/// the environment are left out: the next command inherits them.
fn location_options(global: &args::Global) -> String {
    let mut options =
        global.server.as_ref().map(|url| format!(" --server {}", text::shell_quoted(url))).unwrap_or_default();
    for (flag, path) in [("--data-dir", &global.data_dir), ("--config", &global.config)] {
        if let Some(path) = path {
            options.push_str(&format!(" {flag} {}", text::shell_quoted(&path.display().to_string())));
        }
    }
    options
}

fn usage_error(error: &clap::Error, json: bool) -> ExitStatus {
    if !error.use_stderr() {
        // Help or the version was requested; a closed pipe is fine.
        let _closed = error.print();
        return ExitStatus::Success;
    }
    // The message quotes the arguments, which may contain anything.
    let text = printable(&error.render().to_string());
    if json {
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let detail = lines.next().unwrap_or("invalid command line").trim_start_matches("error: ").to_owned();
        let fix = lines.filter(|l| !l.starts_with("For more")).collect::<Vec<_>>().join(" ");
        let fix = if fix.is_empty() { "`skep --help` lists the commands".to_owned() } else { fix };
        Terminal::of_process(true, true).error(&CliError::usage(detail, fix));
    } else {
        use std::io::Write;
        let _closed = write!(std::io::stderr(), "{text}");
    }
    ExitStatus::Usage
}

/// Makes a message about arguments printable: without secrets, credentials of URLs and control characters.
fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let line = without_query(line);
        let mut rest = line.as_str();
        // The address of ssh, user:password@host:path, and others without a scheme.
        let is_before_host = |at: &usize| !rest[at + 1..].starts_with(char::is_whitespace);
        let ats = || rest.match_indices('@').map(|(at, _)| at).filter(is_before_host);
        if let Some(start) = rest.find('\'').map(|at| at + 1).filter(|_| !rest.contains("://"))
            && let Some(at) = ats().find(|at| *at >= start)
            && rest[start..at].contains(':')
            && let Some(last) = ats().next_back()
        {
            clean.push_str(&rest[..start]);
            clean.push_str("[redacted]");
            rest = &rest[last..];
        }
        while let Some(at) = rest.find("://") {
            let (before, after) = rest.split_at(at + 3);
            clean.push_str(before);
            // Up to the last `@`, because an unescaped password may contain others, quotes and blanks.
            rest = match after.rfind('@') {
                Some(end) => {
                    clean.push_str("[redacted]");
                    &after[end..]
                }
                None => after,
            };
        }
        clean.push_str(rest);
    }
    text::escape_lines(&redact_all(&clean))
}

/// Returns a line without the queries of URLs, which often contain tokens.
fn without_query(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('?') {
        let (before, after) = rest.split_at(at + 1);
        clean.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || c == '\'' || c == '"').unwrap_or(after.len());
        rest = match after[..end].contains('=') {
            true => {
                clean.push_str("[redacted]");
                &after[end..]
            }
            false => after,
        };
    }
    clean.push_str(rest);
    clean
}

async fn dispatch(backend: &dyn Backend, terminal: &Terminal, skep: Skep) -> Result<ExitStatus, Stop> {
    let global = skep.global;
    let sources = crate::config::Sources::of_process(global.data_dir.as_deref(), global.config.as_deref());
    let mut sources = sources.map_err(CliError::from)?;
    let is_demo = matches!(skep.command, Command::Demo(_));
    // The demo leaves nothing in the data directory of real work, unless --data-dir names it; and what one demo keeps is
    // not where the next one cleans up.
    let own_name = match &skep.command {
        Command::Demo(args) if args.keep => Some("skep-demo-kept"),
        Command::Demo(_) => Some("skep-demo"),
        _ => None,
    };
    let is_named = global.data_dir.is_some() || std::env::var_os("SKEP_DATA_DIR").is_some();
    let own_dir = own_name.filter(|_| !is_named).map(|name| sources.data_dir.with_file_name(name));
    if let (Some(dir), Command::Demo(args)) = (&own_dir, &skep.command) {
        let file = sources.data_dir.join("skep.toml");
        sources.file = sources.file.or(Some(file).filter(|file| file.is_file()));
        sources.data_dir = dir.clone();
        let options = format!(" --data-dir {}", text::shell_quoted(&dir.display().to_string()));
        terminal.set_demo(options, !args.keep);
    }
    let server = server::named(global.server.as_deref())?;
    if server.is_some() {
        server::check_command(&skep.command)?;
    }
    let host = HostContext { sources, verbosity: global.verbose, json_logs: global.json, is_demo, server };
    let cli = &CliContext { backend, host: &host, terminal };
    let act = |run, action| actions::act(cli, run, action);
    match skep.command {
        Command::Run(args) => {
            let repo = args.repo.as_ref().map(|origin| origin.0.clone());
            run::run(cli, args).await.map_err(|stop| unread_config::explained(cli, repo.as_deref(), stop))
        }
        Command::Demo(args) => run::demo(cli, args, own_dir.is_some()).await,
        Command::Check(args) => check::check(cli, args).await,
        Command::Init(args) => init::init(cli, args).await,
        Command::Spec(command) => spec::spec(cli, command).await,
        Command::Mcp => mcp::mcp(cli).await,
        Command::Console => console::console(cli).await,
        Command::Project(ProjectCommand::Allow { name, hosts }) => project::allow(cli, &name, &hosts).await,
        Command::Serve { listen } => admin::serve(cli, listen.as_deref()).await,
        Command::Open => admin::open(cli).await,
        Command::Approve { run, block, no } => act(run, Action::Approve { block, no }).await,
        Command::Unblock { run, block, answer, settings } => {
            act(run, Action::Unblock { block, answer, settings: new_settings(cli, settings).await? }).await
        }
        Command::Pause { run } => act(args::RunRef { run, follow: false }, Action::Pause).await,
        Command::Resume { run } => act(run, Action::Resume).await,
        Command::LiftQuarantine { run } => act(run, Action::LiftQuarantine).await,
        Command::Cancel { run, why } => act(run, Action::Cancel { why }).await,
        Command::Retry { run, answer, more, settings } => {
            let settings = new_settings(cli, settings).await?;
            act(run, Action::Retry { answer, more: more.map(|more| more.0), settings }).await
        }
        Command::Revert { run, why, settings } => {
            act(run, Action::Revert { why, settings: new_settings(cli, settings).await? }).await
        }
        Command::Raise { run, more } => act(run, Action::Raise(more.0)).await,
        Command::Watch { run, yes } => actions::watch(cli, run.as_deref(), yes).await,
        Command::Completions { shell } => {
            print_completions(shell);
            Ok(ExitStatus::Success)
        }
        Command::Man { dir } => write_man_pages(&dir),
        Command::Config(ConfigCommand::Check { changed }) => admin::config_check(cli, changed).await,
        Command::Migrate { status } => admin::migrate(cli, status).await,
        Command::Backup(args) => maintenance::backup(cli, args).await,
        Command::Gc(args) => maintenance::gc(cli, args).await,
        Command::Verify => maintenance::verify(cli).await,
        Command::Restore(args) => maintenance::restore(cli, args).await,
        Command::Budget(BudgetCommand::Raise(args)) => budget::raise(cli, args).await,
        Command::Engine(EngineCommand::List) => engine::list(cli).await,
        Command::Engine(EngineCommand::Test { engine }) => engine::test(cli, &engine).await,
        Command::Prompts(command) => prompts::prompts(cli, command).await,
        Command::Doctor { propose } => admin::doctor(cli, propose).await,
        Command::Runner(RunnerCommand::List) => runner::list(cli).await,
        Command::Runner(RunnerCommand::Test { name }) => runner::test(cli, &name).await,
        Command::Notify(NotifyCommand::Test { name }) => notify::test(cli, &name).await,
        Command::Forge(ForgeCommand::List) => forge::list(cli).await,
        Command::Forge(ForgeCommand::Add { kind, repo, name, url, token_file, label }) => {
            let kind = match kind {
                ForgeKind::Github => "github",
                ForgeKind::Gitlab => "gitlab",
                ForgeKind::Forgejo => "forgejo",
                ForgeKind::Gitea => "gitea",
            };
            let (name, kind) = (name.unwrap_or_else(|| kind.to_owned()), kind.to_owned());
            forge::add(cli, NewForge { name, kind, url, token_file, label, repo }).await
        }
        Command::Forge(ForgeCommand::Test { name, repo }) => forge::test(cli, &name, repo.as_deref()).await,
        Command::Place { .. } => Err(CliError::usage(
            "`skep place` is now called `skep runner`",
            "`skep runner list` lists the runners, `skep runner test NAME` tests one",
        )
        .into()),
        Command::Eval(command) => eval::eval(cli, command).await,
        Command::Sandbox(SandboxCommand::Test { level }) => admin::sandbox_test(cli, level).await,
        other => {
            let access = match &other {
                Command::Project(command) if !project::only_reads(command) => Access::Write,
                Command::Change(command) if !change::only_reads(command) => Access::Write,
                Command::Secret(command) if !secret::only_reads(command) => Access::Write,
                Command::Ci(_) => Access::Write,
                Command::Schedule(ScheduleCommand::Run { .. }) => Access::Write,
                Command::Deploy(args) if !deploy::only_reads(args) => Access::Write,
                Command::Sponsor(SponsorCommand::Add { .. } | SponsorCommand::End { .. }) => Access::Write,
                Command::Agents(command) if !agents::only_reads(command) => Access::Write,
                Command::Work(command) if !work::only_reads(command) => Access::Write,
                Command::Outcomes(command) if !outcomes::only_reads(command) => Access::Write,
                Command::Memory(command) if !memory::only_reads(command) => Access::Write,
                Command::Improve(args) if !improve::only_reads(args) => Access::Write,
                Command::User(_) | Command::Token(_) if !accounts::only_reads(&other) => Access::Write,
                _ => Access::Read,
            };
            let connection = cli.connect(access).await?;
            let end = request(&connection.client, terminal, other).await;
            connection.close().await;
            end
        }
    }
}

/// Prints a completion script.
fn print_completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut <Skep as clap::CommandFactory>::command(), "skep", &mut script);
    // A closed pipe is fine.
    let _closed = std::io::Write::write_all(&mut std::io::stdout(), &script);
}

/// Writes a manual page for each command.
fn write_man_pages(dir: &Path) -> Result<ExitStatus, Stop> {
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(<Skep as clap::CommandFactory>::command(), dir));
    written.map(|()| ExitStatus::Success).map_err(|error| {
        let fix = "name a folder that you may write";
        CliError::usage(format!("cannot write manual pages to {}: {error}", dir.display()), fix).into()
    })
}

/// Returns the engines, checks and limits that an action gives its run.
async fn new_settings(cli: &CliContext<'_>, args: args::SettingsArgs) -> Result<actions::NewSettings, Stop> {
    let engines = parse::by_role(&engines::by_name(cli, args.engine).await?);
    Ok(actions::NewSettings { engines, checks: args.check, limits: amounts::merged(&args.limit) })
}

/// Runs the commands that make one request and print the response.
async fn request(client: &Client, terminal: &Terminal, command: Command) -> Result<ExitStatus, Stop> {
    match command {
        Command::Runs(args) => list::runs(client, terminal, args).await,
        Command::Show { run, patch } => {
            show::show(client, terminal, &select::run(client, run.as_deref(), Fits::Newest).await?, patch).await
        }
        Command::Diff { run, task } => {
            show::patch(client, terminal, &select::run(client, run.as_deref(), Fits::Newest).await?, task).await
        }
        Command::Events { run, follow, after } => {
            let run = select::run(client, run.as_deref(), Fits::Newest).await?;
            list::events(client, terminal, &run, follow, after).await
        }
        Command::Logs { run, attempt, follow } => {
            let run = select::run(client, run.as_deref(), Fits::Newest).await?;
            match follow {
                true => list::follow_logs(client, terminal, &run).await,
                false => list::logs(client, terminal, &run, attempt).await,
            }
        }
        Command::Project(command) => project::project(client, terminal, command).await,
        Command::Budget(BudgetCommand::Show { by, project, run, day }) => {
            let run = match run {
                Some(run) => Some(select::run(client, Some(&run), Fits::Newest).await?),
                None => None,
            };
            budget::show(client, terminal, &by, &[("project", project), ("run", run), ("day", day)]).await
        }
        Command::Outcomes(command) => outcomes::outcomes(client, terminal, command).await,
        Command::Memory(command) => memory::memory(client, terminal, command).await,
        Command::Improve(args) => improve::improve(client, terminal, args).await,
        Command::Change(command) => change::change(client, terminal, command).await,
        Command::Secret(command) => secret::secret(client, terminal, command).await,
        Command::Ci(command) => ci::ci(client, terminal, command).await,
        Command::Forge(ForgeCommand::Deliveries { name, limit }) => {
            forge::deliveries(client, terminal, &name, limit).await
        }
        Command::User(command) => accounts::user(client, terminal, command).await,
        Command::Token(command) => accounts::token(client, terminal, command).await,
        Command::Agents(command) => agents::agents(client, terminal, command).await,
        Command::Work(command) => work::work(client, terminal, command).await,
        Command::Schedule(command) => schedule::schedule(client, terminal, command).await,
        Command::Deploy(args) => deploy::deploy(client, terminal, args).await,
        Command::Sponsor(command) => deploy::sponsor(client, terminal, command).await,
        other => Err(CliError::internal(format!("command not handled: {other:?}")).into()),
    }
}

#[cfg(test)]
mod usage_tests {
    use super::*;

    #[test]
    fn arguments_are_repeated_without_passwords_and_control_characters() {
        for (repo, hidden) in [
            ("https://user:hunter2@host/x", "hunter2"),
            ("https://user:hun@ter/2#x@host/x", "ter/2"),
            ("https://user:it's mine@host/x", "mine"),
            ("user:hunter2@host/x", "hunter2"),
            ("user:hun@ter2@host/:x", "ter2"),
            ("//user:hunter2@host/x", "hunter2"),
            ("https://host/x?token=hunter2", "hunter2"),
            ("https://host/x?a&b=hunter2#c", "hunter2"),
            ("ftp://user:hunter2@host/\u{202e}x\u{1b}[2J", "\u{202e}"),
            ("ftp://user:hunter2@host/\u{202e}x\u{1b}[2J", "\u{1b}"),
        ] {
            let error = Skep::try_parse_from(["skep", "run", "--goal", "x", "--repo", repo]).unwrap_err();
            let text = printable(&error.render().to_string());
            assert!(!text.contains(hidden) && text.contains("host/"), "{text}");
        }
        // The `@` that names the newest run is not that of an address.
        let error = Skep::try_parse_from(["skep", "show", "zzzz"]).unwrap_err();
        let text = printable(&error.render().to_string());
        assert!(text.contains("'zzzz'") && text.contains("or @ for the newest"), "{text}");
        let text = printable("error: one\n\n  two: https://host/x, a@b\n");
        assert_eq!(text, "error: one\n\n  two: https://[redacted:url-password]@b\n");
    }
}
