//! Prompt templates: `prompts list`, `prompts show`.

use super::args::PromptsCommand;
use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use super::terminal::Terminal;
use super::text::table;
use crate::service::host::{PromptFile, StepPrompt};
use serde_json::json;

/// Characters of a digest that are printed: enough to distinguish two templates.
const DIGEST_CHARS: usize = 12;

/// `skep prompts`.
pub async fn prompts(cli: &CliContext<'_>, command: PromptsCommand) -> Result<ExitStatus, Stop> {
    let load = async |project: Option<String>| cli.backend.prompts(cli.host, project.as_deref()).await;
    match command {
        PromptsCommand::List { project } => list(cli.terminal, &load(project).await?),
        PromptsCommand::Show { step, project } => {
            let steps = load(project).await?;
            show(cli.terminal, steps.into_iter().find(|s| s.step == step || s.role == step))
        }
    }
}

fn list(terminal: &Terminal, steps: &[StepPrompt]) -> Result<ExitStatus, Stop> {
    terminal.object(&json!({ "prompts": steps }))?;
    let is_shared = |f: &&PromptFile| f.name.starts_with("shared/");
    let row = |step: &str, role: &str, version: &str, f: &PromptFile| {
        vec![step.to_owned(), role.to_owned(), abbrev(version), f.name.clone(), abbrev(&f.digest), source(f)]
    };
    let own = |s: &StepPrompt| {
        let files = s.files.iter().filter(|f| !is_shared(f));
        files.map(|f| row(&s.step, &s.role, &s.version, f)).collect::<Vec<_>>()
    };
    // Every step may include the shared templates.
    let shared = steps.iter().take(1).flat_map(|s| s.files.iter().filter(is_shared));
    let mut rows: Vec<Vec<String>> = steps.iter().flat_map(own).collect();
    rows.extend(shared.map(|f| row("every", "every", "", f)));
    terminal.print(&table(&["step", "role", "version", "template", "digest", "source"], rows, terminal.width))?;
    Ok(ExitStatus::Success)
}

fn source(file: &PromptFile) -> String {
    file.path.as_ref().map_or_else(|| file.source.clone(), |path| format!("{}: {path}", file.source))
}

fn abbrev(digest: &str) -> String {
    digest.chars().take(DIGEST_CHARS).collect()
}

fn show(terminal: &Terminal, step: Option<StepPrompt>) -> Result<ExitStatus, Stop> {
    let Some(step) = step else { return Ok(ExitStatus::Usage) };
    if terminal.json {
        let texts = step.files.iter().map(|f| (f.name.clone(), json!(f.text)));
        let mut object = json!({ "prompt": step });
        object["prompt"]["texts"] = texts.collect::<serde_json::Map<_, _>>().into();
        terminal.object(&object)?;
        return Ok(ExitStatus::Success);
    }
    let mut text = format!("{} ({}), version {}\n", step.step, step.role, step.version);
    for file in &step.files {
        let (name, source, digest) = (&file.name, source(file), abbrev(&file.digest));
        text.push_str(&format!("\n==> {name} ({source}, {digest}) <==\n{}\n", file.text.trim_end()));
    }
    terminal.content(text.as_bytes())?;
    Ok(ExitStatus::Success)
}
