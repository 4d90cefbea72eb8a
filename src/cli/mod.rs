//! The command line: every command is a client of REST, in this process or of a running service.

pub mod admin;
pub mod answer;
pub mod args;
pub mod budget;
pub mod change;
pub mod client;
pub mod context;
pub mod dry_run;
pub mod engine;
pub mod exit;
pub mod follow;
pub mod keep;
pub mod list;
pub mod parse;
pub mod project;
pub mod prompts;
pub mod render;
pub mod run;
pub mod runner;
pub mod screen;
pub mod secret;
pub mod show;
pub mod sse;
pub mod summary;
pub mod tell;
mod unseen;
pub mod words;

#[cfg(test)]
mod tests;

use answer::Word;
use args::{BudgetCommand, Command, ConfigCommand, EngineCommand, RunnerCommand, SandboxCommand, Skep};
use clap::Parser;
use client::Client;
use context::{Access, Backend, CliContext, reach};
use exit::{CliError, Exit, Stop};
use screen::Screen;
use std::ffi::OsString;
use std::process::ExitCode;

/// The program: reads the command, does it, ends with its exit code.
pub async fn main(doors: &dyn Backend) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // A usage error is JSON too when JSON was asked for, though the options were not understood.
    let json = args.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    let skep = match Skep::try_parse_from(args) {
        Ok(skep) => skep,
        Err(error) => return misused(&error, json).into(),
    };
    let context = hinted_place(&skep.global);
    let screen = Screen::of_process(skep.global.json, skep.global.no_color).with_place(context);
    run_on(doors, &screen, skep).await.into()
}

/// Does a command on a screen: [`main`] without the process around it.
pub async fn run_on(doors: &dyn Backend, screen: &Screen, skep: Skep) -> Exit {
    match dispatch(doors, screen, skep).await {
        Ok(exit) => exit,
        Err(Stop::Closed) => Exit::Done,
        Err(Stop::CliError(trouble)) => {
            screen.trouble(&trouble);
            trouble.exit
        }
    }
}

/// The options that a command Skep tells to type needs to mean the same place. What comes from the environment stays there.
fn hinted_place(global: &args::Global) -> String {
    let mut context = String::new();
    for (flag, path, name) in
        [("--data-dir", &global.data_dir, "SKEP_DATA_DIR"), ("--config", &global.config, "SKEP_CONFIG")]
    {
        if let Some(path) = path
            && std::env::var_os(name).is_none_or(|set| set != *path.as_os_str())
        {
            context.push_str(&format!(" {flag} {}", summary::quoted(&path.display().to_string())));
        }
    }
    context
}

fn misused(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Help or the version, asked for. A closed pipe is no reason to complain.
        let _closed = error.print();
        return Exit::Done;
    }
    if json {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let what = lines.next().unwrap_or("the command is not understood").trim_start_matches("error: ").to_owned();
        let fix = lines.filter(|l| !l.starts_with("For more")).collect::<Vec<_>>().join(" ");
        let fix = if fix.is_empty() { "`skep --help` shows the commands".to_owned() } else { fix };
        Screen::of_process(true, true).trouble(&CliError::usage(what, fix));
    } else {
        let _closed = error.print();
    }
    Exit::Usage
}

async fn dispatch(doors: &dyn Backend, screen: &Screen, skep: Skep) -> Result<Exit, Stop> {
    let global = skep.global;
    let sources = crate::config::Sources::of_process(global.data_dir.as_deref(), global.config.as_deref());
    let is_demo = matches!(skep.command, Command::Demo(_));
    let context =
        &CliContext { sources: sources.map_err(CliError::from)?, verbose: global.verbose, json: global.json, is_demo };
    let say = |to, word| answer::answer(doors, context, screen, to, word);
    match skep.command {
        Command::Run(args) => run::run(doors, context, screen, args).await,
        Command::Demo(args) => run::demo(doors, context, screen, args).await,
        Command::Serve { listen } => {
            doors.serve(context, listen.as_deref(), screen).await?;
            Ok(Exit::Done)
        }
        Command::Approve { to, block, no } => say(to, Word::Approve { block, no }).await,
        Command::Unblock { to, block, how } => say(to, Word::Unblock { block, how }).await,
        Command::Pause { run } => say(args::To { run, follow: false }, Word::Pause).await,
        Command::Resume { to } => say(to, Word::Resume).await,
        Command::Cancel { to, why } => say(to, Word::Cancel { why }).await,
        Command::Retry { to } => say(to, Word::Retry).await,
        Command::Raise { to, more } => say(to, Word::Raise(more.0)).await,
        Command::Config(ConfigCommand::Check) => admin::config_check(doors, context, screen).await,
        Command::Migrate { status } => admin::migrate(doors, context, screen, status).await,
        Command::Budget(BudgetCommand::Raise(args)) => budget::raise(doors, context, screen, args).await,
        Command::Engine(EngineCommand::List) => engine::list(doors, context, screen).await,
        Command::Engine(EngineCommand::Test { what }) => engine::test(doors, context, screen, &what).await,
        Command::Prompts(command) => prompts::prompts(doors, context, screen, command).await,
        Command::Doctor { propose } => admin::doctor(doors, context, screen, propose).await,
        Command::CliContext(RunnerCommand::List) => runner::list(doors, context, screen).await,
        Command::CliContext(RunnerCommand::Test { name }) => runner::test(doors, context, screen, &name).await,
        Command::Sandbox(SandboxCommand::Test { level }) => admin::sandbox_test(doors, context, screen, level).await,
        other => {
            let need = match &other {
                Command::Project(command) if !project::only_reads(command) => Access::Write,
                Command::Change(command) if !change::only_reads(command) => Access::Write,
                Command::Secret(command) if !secret::only_reads(command) => Access::Write,
                _ => Access::Read,
            };
            let reached = reach(doors, context, need).await?;
            let end = simple(&reached.client, screen, other).await;
            reached.close().await;
            end
        }
    }
}

/// Commands that ask once and print.
async fn simple(client: &Client, screen: &Screen, command: Command) -> Result<Exit, Stop> {
    match command {
        Command::Runs(args) => list::runs(client, screen, args).await,
        Command::Show { run, patch } => show::show(client, screen, &run, patch).await,
        Command::Events { run, follow, after } => list::events(client, screen, &run, follow, after).await,
        Command::Logs { run, attempt } => list::logs(client, screen, &run, attempt).await,
        Command::Project(command) => project::project(client, screen, command).await,
        Command::Budget(BudgetCommand::Show { by, project, run, day }) => {
            budget::show(client, screen, &by, &[("project", project), ("run", run), ("day", day)]).await
        }
        Command::Change(command) => change::change(client, screen, command).await,
        Command::Secret(command) => secret::secret(client, screen, command).await,
        other => Err(CliError::fault(format!("{other:?} has no way")).into()),
    }
}
