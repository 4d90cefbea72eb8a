//! Looking after Skep itself: `config check`, `migrate`, `doctor`.

use super::args::Isolation;
use super::context::{Backend, CliContext, Doctored, Level};
use super::exit::{CliError, Exit, Stop};
use super::render::table;
use super::screen::{Screen, Style};
use serde_json::json;

/// `skep config check`.
pub async fn config_check(doors: &dyn Backend, place: &CliContext, screen: &Screen) -> Result<Exit, Stop> {
    let settings = doors.config(place).await?;
    screen.object(&json!({ "settings": settings }))?;
    let rows = settings.into_iter().map(|s| vec![s.key, s.value, s.source]).collect();
    screen.say(&table(&["key", "value", "source"], rows, screen.width))?;
    screen.styled(Style::Green, "The configuration is good.")?;
    Ok(Exit::Done)
}

/// `skep migrate`.
pub async fn migrate(doors: &dyn Backend, place: &CliContext, screen: &Screen, status: bool) -> Result<Exit, Stop> {
    // A service writes with the schema it knows: it must not change under its hands.
    if !status && let Some(service) = doors.service(place).await? {
        return Err(CliError::away(
            format!("a service runs on this data directory ({}) and uses its store", service.base),
            "Stop the service, then migrate; it also migrates by itself when it starts",
        )
        .into());
    }
    let steps = doors.migrate(place, status).await?;
    screen.object(&json!({ "steps": steps }))?;
    let open = steps.iter().filter(|s| !s.applied).count();
    for step in &steps {
        let (style, word) = if step.applied { (Style::Green, "applied") } else { (Style::Yellow, "to do") };
        screen.line(style, &format!("  {word:<8} {}", step.name))?;
    }
    match open {
        0 => screen.say("The store's schema is up to date.")?,
        1 => screen.advise("1 step is to do: `skep migrate` does it.")?,
        n => screen.advise(&format!("{n} steps are to do: `skep migrate` does them."))?,
    }
    Ok(Exit::Done)
}

/// `skep doctor`.
pub async fn doctor(doors: &dyn Backend, place: &CliContext, screen: &Screen, propose: bool) -> Result<Exit, Stop> {
    let Doctored { looked, proposal } = doors.doctor(place).await?;
    let bad = looked.iter().filter(|l| l.level == Level::Bad).count();
    screen.object(&json!({ "good": bad == 0, "looked": looked, "proposal": proposal }))?;
    if propose {
        // Only the block, so that it can be written into a file.
        if proposal.is_empty() {
            let found = looked.iter().find(|l| l.level == Level::Bad).map_or("", |l| l.found.as_str());
            return Err(CliError::config(found, "mend that first: what to propose is read from it").into());
        }
        screen.say(proposal.trim_end())?;
        return Ok(Exit::Done);
    }
    for look in &looked {
        let (style, word) = match look.level {
            Level::Good => (Style::Green, "good"),
            Level::Weak => (Style::Yellow, "weak"),
            Level::Bad => (Style::Red, "bad"),
        };
        screen.line(style, &format!("  {word:<5} {:<14} {}", look.what, look.found))?;
        if !look.fix.is_empty() {
            screen.line(Style::Plain, &format!("        {:<14} fix: {}", "", look.fix))?;
        }
    }
    if proposal.contains("[role.") {
        screen.advise("`skep doctor --propose` prints a configuration for what was found.")?;
    }
    if bad == 0 {
        screen.say("Everything that is needed is there and works.")?;
        return Ok(Exit::Done);
    }
    let s = if bad == 1 { " does" } else { "s do" };
    screen.styled(Style::Red, &format!("{bad} thing{s} not work."))?;
    Ok(Exit::Config)
}

/// `skep sandbox test`.
pub async fn sandbox_test(
    doors: &dyn Backend,
    place: &CliContext,
    screen: &Screen,
    level: Option<Isolation>,
) -> Result<Exit, Stop> {
    let tested = doors.test_walls(place, level).await?;
    screen.object(&json!(tested))?;
    let rows = tested.tried.iter().map(|t| {
        let expected = if t.promised { "held" } else { "may be open" };
        let came = if t.held { "held" } else { "OPEN" };
        vec![t.action.clone(), expected.to_owned(), came.to_owned(), t.found.clone()]
    });
    screen.say(&table(&["a command tries to", "expected", "is", "seen"], rows.collect(), screen.width))?;
    screen.say(&tested.bounds)?;
    if tested.holds {
        screen.styled(Style::Green, &format!("The level {} holds.", tested.level))?;
        return Ok(Exit::Done);
    }
    screen
        .styled(Style::Red, &format!("The level {} does not hold: no command is started behind it.", tested.level))?;
    Ok(Exit::Config)
}
