//! Which prompt templates are in force, and where each comes from.

use crate::adapters::prompts::{STEPS, Templates};
use crate::cli::context::{PromptFile, StepPrompt};
use crate::cli::exit::CliError;
use crate::config::Config;

/// The templates of each step, for one project or for those without templates of their own.
pub fn in_force(config: &Config, project: Option<&str>) -> Result<Vec<StepPrompt>, CliError> {
    let folder = config.prompts.as_deref();
    let templates = Templates::load(folder)
        .map_err(|why| CliError::config(why, "mend the template, or take it out of the folder of prompts.dir"))?;
    let projects = folder.map(|folder| folder.join("projects"));
    let step = |step: crate::domain::Step| {
        let (version, files) = templates.list(project, step);
        let files = files.into_iter().map(|file| {
            let of_project = |path: &std::path::Path| projects.as_ref().is_some_and(|p| path.starts_with(p));
            let from = match &file.path {
                None => "built in",
                Some(path) if of_project(path) => "project",
                Some(_) => "folder",
            };
            PromptFile {
                name: file.name,
                from: from.to_owned(),
                path: file.path.map(|path| path.display().to_string()),
                digest: file.digest,
                text: file.text,
            }
        });
        let (name, role) = (step.name().to_owned(), step.role().name().to_owned());
        StepPrompt { step: name, role, version: version.0, files: files.collect() }
    };
    Ok(STEPS.into_iter().map(step).collect())
}
