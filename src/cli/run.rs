//! `run` and `demo`: from a goal to a followed run.

use super::args::{DemoArgs, RunArgs};
use super::client::encode;
use super::context::{Access, Backend, CliContext, Reached, reach};
use super::exit::{CliError, Exit, Stop};
use super::follow::Manner;
use super::keep::keep_following;
use super::parse::by_role;
use super::screen::{Screen, Style};
use super::unseen::Unseen;
use crate::domain::Phase;
use crate::domain::goal::GOAL_BYTES_MAX;
use crate::http::view::{NewRun, RunView};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// `skep run`.
pub async fn run(doors: &dyn Backend, context: &CliContext, screen: &Screen, args: RunArgs) -> Result<Exit, Stop> {
    let goal = match (args.goal, &args.goal_file) {
        (Some(goal), _) => goal,
        (None, Some(file)) => goal_of(file)?,
        (None, None) => return Err(CliError::usage("no goal is given", "Give --goal TEXT or --goal-file FILE").into()),
    };
    check_goal(&goal)?;
    let wanted = NewRun {
        project: args.project,
        repo: args.repo.map(|origin| origin.0),
        goal,
        base: args.base,
        engines: by_role(&args.engine),
        checks: args.check,
        carry_on: !args.new,
    };
    if args.dry_run {
        let reached = reach(doors, context, Access::Write).await?;
        let end = super::dry_run::dry_run(&reached.client, screen, &wanted).await;
        reached.close().await;
        return end;
    }
    // Without a service nobody would carry a detached run on: it is only opened.
    let need = if args.detach { Access::Write } else { Access::Drive };
    let reached = reach(doors, context, need).await?;
    let mut unseen = Unseen::of(&context.sources.data_dir);
    let here = Here { doors, context, screen, reached: &reached };
    let end = open(&here, &wanted, &mut unseen, args.detach, args.yes).await;
    reached.close().await;
    unseen.settle();
    end
}

/// Where a run is ordered from, and who is asked for it.
struct Here<'a> {
    doors: &'a dyn Backend,
    context: &'a CliContext,
    screen: &'a Screen,
    reached: &'a Reached,
}

impl Here<'_> {
    async fn follow(&self, view: RunView, manner: Manner) -> Result<Exit, Stop> {
        keep_following(self.doors, self.context, &self.reached.client, self.screen, view, manner).await
    }
}

async fn open(here: &Here<'_>, wanted: &NewRun, unseen: &mut Unseen, detach: bool, yes: bool) -> Result<Exit, Stop> {
    let (screen, reached) = (here.screen, here.reached);
    if let Some(view) = ended_unseen(reached, wanted, unseen, detach).await? {
        let line = format!("run {} ended before anybody saw it: {}", view.short, view.goal.title());
        screen.line(Style::Bold, &line)?;
        let (run, after) = (view.id.clone(), view.seq);
        let end = here.follow(view, Manner { yes, after }).await?;
        unseen.told(&run);
        return Ok(end);
    }
    let view: RunView = reached.client.post("/runs", wanted, None).await?;
    let carried_on = view.seq > 1;
    let word = if carried_on { "goes on (a run with this goal is open; --new opens another)" } else { "is opened" };
    screen.line(Style::Bold, &format!("run {} {word}: {}", view.short, view.goal.title()))?;
    if detach {
        match reached.client.is_remote() {
            true => screen
                .advise(&format!("The service carries it on. `skep events {} --follow` watches it.", view.short))?,
            false => screen.advise(&format!(
                "No service runs on this data directory: `skep resume {}` or `skep serve` carries it on.",
                view.short
            ))?,
        }
        screen.object(&view)?;
        return Ok(Exit::Done);
    }
    // The story so far is in the journal; a run carried on is told from here.
    let after = if carried_on { view.seq } else { 0 };
    let run = view.id.clone();
    unseen.put(&run, wanted);
    let end = here.follow(view, Manner { yes, after }).await?;
    unseen.told(&run);
    Ok(end)
}

/// The run of the same order that ended while the command that followed it was killed.
async fn ended_unseen(
    reached: &Reached,
    wanted: &NewRun,
    unseen: &Unseen,
    detach: bool,
) -> Result<Option<RunView>, Stop> {
    if detach || !wanted.carry_on {
        return Ok(None);
    }
    let Some(run) = unseen.find(wanted) else { return Ok(None) };
    match reached.client.get::<RunView>(&format!("/runs/{}", encode(&run))).await {
        // One that still goes on is carried on by its goal, as every open run is.
        Ok(view) => Ok(Some(view).filter(|v| v.phase == Phase::Ended.name())),
        Err(trouble) if trouble.exit == Exit::Again => Err(trouble.into()),
        Err(_) => {
            unseen.remove(&run);
            Ok(None)
        }
    }
}

/// `skep demo`.
pub async fn demo(doors: &dyn Backend, context: &CliContext, screen: &Screen, args: DemoArgs) -> Result<Exit, Stop> {
    let demo = doors.demo(context).await?;
    screen.line(Style::Yellow, &demo.notice)?;
    screen.say(&format!("Its repository is {}", super::render::escape(&demo.repo)))?;
    screen.object(&json!({ "demo": { "notice": demo.notice, "repo": demo.repo } }))?;
    let repo = demo.repo.clone();
    let wanted = NewRun {
        project: None,
        repo: Some(demo.repo),
        goal: demo.goal,
        base: Some(demo.base),
        engines: demo.engines,
        checks: demo.checks,
        carry_on: true,
    };
    let reached = reach(doors, context, Access::Drive).await?;
    let mut unseen = Unseen::of(&context.sources.data_dir);
    let here = Here { doors, context, screen, reached: &reached };
    // The demo shows a whole run: where nobody can be asked, it gives the approval it shows.
    let yes = args.yes || !screen.can_ask();
    let end = open(&here, &wanted, &mut unseen, false, yes).await;
    reached.close().await;
    unseen.settle();
    let exit = end?;
    if exit == Exit::Done {
        let quoted = super::summary::quoted;
        screen.say("")?;
        screen.say("This was the demo. What it left:")?;
        screen
            .say(&format!("  {}   everything Skep keeps", quoted(&context.sources.data_dir.display().to_string())))?;
        screen.say(&format!("  git -C {} log --stat   the sample's repository with the change", quoted(&repo)))?;
        screen.say("Now on a repository of yours, with any program that edits files:")?;
        screen.say("  skep run --repo PATH --goal \"Fix what clippy finds\" \\")?;
        screen.say("           --engine 'command: cargo clippy --fix --allow-dirty --allow-no-vcs'")?;
    }
    Ok(exit)
}

fn goal_of(file: &Path) -> Result<String, CliError> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let unreadable = |e: std::io::Error| {
        CliError::usage(format!("the goal cannot be read from {name}: {e}"), "Name a text file that can be read")
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a goal that is too long without reading all of it.
    let most = GOAL_BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        std::fs::File::open(file).map_err(unreadable)?.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(e) if e.as_bytes().len() > GOAL_BYTES_MAX => Ok("x".repeat(GOAL_BYTES_MAX + 1)),
        Err(_) => Err(CliError::usage(format!("the goal in {name} is not UTF-8 text"), "Save it as UTF-8")),
    }
}

fn check_goal(goal: &str) -> Result<(), CliError> {
    if goal.trim().is_empty() {
        return Err(CliError::usage("the goal is empty", "Say what should be different when the run is done"));
    }
    if goal.len() > GOAL_BYTES_MAX {
        return Err(CliError::usage(
            format!("the goal is longer than {} KiB", GOAL_BYTES_MAX / 1024),
            "Say it shorter, and put long texts into a file of the repository",
        ));
    }
    Ok(())
}
