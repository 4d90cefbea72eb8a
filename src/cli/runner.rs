//! Where checks run: `place list`, `place test`.

use super::context::{Backend, CliContext};
use super::exit::{Exit, Stop};
use super::render::table;
use super::screen::{Screen, Style};
use serde_json::json;

/// `skep place list`.
pub async fn list(doors: &dyn Backend, place: &CliContext, screen: &Screen) -> Result<Exit, Stop> {
    let rows = doors.places(place).await?;
    screen.object(&json!({ "places": rows }))?;
    let rows = rows.into_iter().map(|r| vec![r.name, r.kind, r.used_by.join(", "), r.found]).collect();
    screen.say(&table(&["place", "kind", "checks of", "is"], rows, screen.width))?;
    Ok(Exit::Done)
}

/// `skep place test`.
pub async fn test(doors: &dyn Backend, place: &CliContext, screen: &Screen, name: &str) -> Result<Exit, Stop> {
    let tested = doors.prove_runner(place, name).await?;
    screen.object(&json!(tested))?;
    let rows = tested.tried.iter().map(|t| {
        let word = if t.kept { "yes" } else { "NO" };
        vec![t.what.clone(), word.to_owned(), t.found.clone()]
    });
    screen.say(&table(&["the place", "is so", "seen"], rows.collect(), screen.width))?;
    let seconds = std::time::Duration::from_millis(tested.wall_ms).as_secs_f64();
    if tested.holds {
        screen.styled(Style::Green, &format!("The place {} works ({seconds:.1} s).", tested.name))?;
        return Ok(Exit::Done);
    }
    screen.styled(Style::Red, &format!("The place {} does not keep what checks rely on.", tested.name))?;
    Ok(Exit::Undelivered)
}
