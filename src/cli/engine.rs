//! What thinks: `engine list`, `engine test`.

use super::context::{Backend, CliContext, Proof};
use super::exit::{Exit, Stop};
use super::render::table;
use super::screen::{Screen, Style};
use crate::config::units::money_text;
use serde_json::json;
use tokio::sync::mpsc;

/// Lines of an engine that wait to be shown; more are dropped.
const LINES: usize = 256;
/// The longest line shown.
const LINE_MAX: usize = 300;

/// `skep engine list`.
pub async fn list(doors: &dyn Backend, place: &CliContext, screen: &Screen) -> Result<Exit, Stop> {
    let rows = doors.engines(place).await?;
    screen.object(&json!({ "engines": rows }))?;
    let rows = rows
        .into_iter()
        .map(|r| vec![r.what, r.name, if r.usable { "yes".to_owned() } else { "no".to_owned() }, r.found])
        .collect();
    screen.say(&table(&["what", "name", "usable", "is, or why not"], rows, screen.width))?;
    Ok(Exit::Done)
}

/// `skep engine test`.
pub async fn test(doors: &dyn Backend, place: &CliContext, screen: &Screen, what: &str) -> Result<Exit, Stop> {
    let (said, mut lines) = mpsc::channel::<String>(LINES);
    let show = async {
        while let Some(text) = lines.recv().await {
            for line in text.lines().filter(|l| !l.trim().is_empty()) {
                let line: String = line.chars().take(LINE_MAX).collect();
                screen.line(Style::Dim, &format!("  {line}"))?;
            }
        }
        Ok::<(), Stop>(())
    };
    let (proof, shown) = tokio::join!(doors.prove(place, what, said), show);
    shown?;
    tell(screen, &proof?)
}

fn tell(screen: &Screen, proof: &Proof) -> Result<Exit, Stop> {
    screen.object(proof)?;
    let took = std::time::Duration::from_millis(proof.wall_ms);
    let seconds = took.as_secs_f64();
    let (style, word) = if proof.worked { (Style::Green, "works") } else { (Style::Red, "does not work") };
    screen.line(style, &format!("{} {word} ({}, {seconds:.1} s)", proof.engine, proof.step))?;
    screen.line(Style::Plain, &format!("  {}", proof.what))?;
    if !proof.fix.is_empty() {
        screen.line(Style::Plain, &format!("  fix: {}", proof.fix))?;
    }
    match proof.usage {
        Some(used) if used.tokens > 0 || used.turns > 0 => {
            let cost = match proof.bill.iter().all(|m| m.priced) {
                true => money_text(used.cost_micros),
                false => "a cost that is not known".to_owned(),
            };
            screen.line(Style::Plain, &format!("  used {} tokens in {} calls, {cost}", used.tokens, used.turns))?;
        }
        Some(_) => {}
        None => screen.line(Style::Plain, "  it does not say what it used")?,
    }
    for model in &proof.bill {
        let line = format!(
            "  {}: {} calls, {} tokens in ({} cached), {} out",
            model.model, model.calls, model.input, model.cached, model.output
        );
        screen.line(Style::Plain, &line)?;
    }
    Ok(proof.exit)
}
