//! Lists the prompt templates in force, and where each comes from.

use crate::adapters::prompts::{STEPS, Templates};
use crate::config::Config;
use crate::domain::Step;
use crate::service::host::{HostError, HostResult, PromptFile, StepPrompt};
use std::path::Path;

/// Returns the templates of each step, for one project or for projects without templates of their own.
pub fn in_force(config: &Config, project: Option<&str>) -> HostResult<Vec<StepPrompt>> {
    let folder = config.prompts.as_deref();
    let templates = Templates::load(folder)
        .map_err(|why| HostError::config(why, "fix the template, or remove it from the folder of prompts.dir"))?;
    let projects = folder.map(|folder| folder.join("projects"));
    let step = |step: Step| {
        let (version, files) = templates.list(project, step);
        let files = files.into_iter().map(|file| {
            let of_project = |path: &Path| projects.as_ref().is_some_and(|p| path.starts_with(p));
            let source = match &file.path {
                None => "built in",
                Some(path) if of_project(path) => "project",
                Some(_) => "folder",
            };
            PromptFile {
                name: file.name,
                source: source.to_owned(),
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
