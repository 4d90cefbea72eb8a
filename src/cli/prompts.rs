//! What engines are told: `prompts list`, `prompts show`.

use super::args::PromptsCommand;
use super::context::{Backend, CliContext, PromptFile, StepPrompt};
use super::exit::{Exit, Stop};
use super::render::table;
use super::screen::Screen;
use serde_json::json;

/// As many characters of a digest as tell two apart.
const SHORT: usize = 12;

/// `skep prompts`.
pub async fn prompts(
    doors: &dyn Backend,
    place: &CliContext,
    screen: &Screen,
    command: PromptsCommand,
) -> Result<Exit, Stop> {
    match command {
        PromptsCommand::List { project } => list(screen, &doors.prompts(place, project.as_deref()).await?),
        PromptsCommand::Show { what, project } => {
            let steps = doors.prompts(place, project.as_deref()).await?;
            show(screen, steps.into_iter().find(|s| s.step == what || s.role == what))
        }
    }
}

fn list(screen: &Screen, steps: &[StepPrompt]) -> Result<Exit, Stop> {
    screen.object(&json!({ "prompts": steps }))?;
    let is_shared = |f: &&PromptFile| f.name.starts_with("shared/");
    let row = |step: &str, role: &str, version: &str, f: &PromptFile| {
        vec![step.to_owned(), role.to_owned(), short(version), f.name.clone(), short(&f.digest), place(f)]
    };
    let own = |s: &StepPrompt| {
        let files = s.files.iter().filter(|f| !is_shared(f));
        files.map(|f| row(&s.step, &s.role, &s.version, f)).collect::<Vec<_>>()
    };
    // Every step may include them.
    let shared = steps.iter().take(1).flat_map(|s| s.files.iter().filter(is_shared));
    let mut rows: Vec<Vec<String>> = steps.iter().flat_map(own).collect();
    rows.extend(shared.map(|f| row("every", "every", "", f)));
    screen.say(&table(&["step", "role", "version", "template", "digest", "from"], rows, screen.width))?;
    Ok(Exit::Done)
}

fn place(file: &PromptFile) -> String {
    file.path.as_ref().map_or_else(|| file.from.clone(), |path| format!("{}: {path}", file.from))
}

fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}

fn show(screen: &Screen, step: Option<StepPrompt>) -> Result<Exit, Stop> {
    let Some(step) = step else { return Ok(Exit::Usage) };
    if screen.json {
        let texts = step.files.iter().map(|f| (f.name.clone(), json!(f.text)));
        let mut whole = json!({ "prompt": step });
        whole["prompt"]["texts"] = texts.collect::<serde_json::Map<_, _>>().into();
        screen.object(&whole)?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{} ({}), version {}\n", step.step, step.role, step.version);
    for file in &step.files {
        let place = place(file);
        text.push_str(&format!(
            "\n==> {} ({place}, {}) <==\n{}\n",
            file.name,
            short(&file.digest),
            file.text.trim_end()
        ));
    }
    screen.content(text.as_bytes())?;
    Ok(Exit::Done)
}
