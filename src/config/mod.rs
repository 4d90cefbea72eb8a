//! Configuration: merges the reference, the file, its profile and the environment into one validated [`Config`].
//!
//! Invariant: loading changes nothing on disk, and a configuration with a problem never becomes a [`Config`].

mod data_dir;
mod heuristics;
mod layers;
mod models;
mod problem;
mod read;
mod reader;
mod renamed;
mod sections;
mod selectors;
mod suggest;
pub mod trial;
pub mod units;

pub use crate::secrets::Secret;
pub use crate::telemetry::settings::{LogFormat, Telemetry};
pub use data_dir::{default_data_dir, network_file_system, prepare_data_dir};
pub use models::{ApiKeySource, Keyed, SandboxSettings};
pub use problem::{Problem, Problems};
pub use read::{check_host, engine, is_engine_kind, key_in};
pub use reader::Entry;
pub use sections::{Checks, Config, Database, Engines, Git, Improve, Retention, Runs, Secrets, Server, Store};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Reference configuration: every key with its default and a comment.
pub const REFERENCE: &str = include_str!("../../config/default.toml");

/// Sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The data directory. Its `skep.toml` is read if no file is given.
    pub data_dir: PathBuf,
    /// `--config`, else `SKEP_CONFIG`. The file must exist.
    pub file: Option<PathBuf>,
    /// `SKEP_PROFILE`.
    pub profile: Option<String>,
    /// Environment variables.
    pub env: Vec<(OsString, OsString)>,
}

impl Sources {
    /// Returns the sources of this process. `data_dir` and `file` come from the command line and override the
    /// environment.
    ///
    /// # Errors
    /// If no data directory is given and there is no home directory.
    pub fn of_process(data_dir: Option<&Path>, file: Option<&Path>) -> Result<Self, Problems> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let data_dir = match data_dir.map(Path::to_owned).or_else(|| var("SKEP_DATA_DIR").map(PathBuf::from)) {
            Some(dir) => dir,
            None => default_data_dir(var("XDG_DATA_HOME"), var("HOME")).map_err(|p| Problems(vec![p]))?,
        };
        // Made absolute here, once: the store, git and the commands of agents run in different working directories.
        let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        Ok(Self {
            data_dir,
            file: file.map(Path::to_owned).or_else(|| var("SKEP_CONFIG").map(PathBuf::from)),
            profile: var("SKEP_PROFILE").map(|p| p.to_string_lossy().into_owned()),
            env: std::env::vars_os().collect(),
        })
    }
}

/// A loaded configuration with the source of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    entries: Vec<Entry>,
    old_keys: Vec<String>,
}

impl Loaded {
    /// Returns a line for each key that is written under the name of an earlier version.
    pub fn old_keys(&self) -> &[String] {
        &self.old_keys
    }

    /// Returns each key with its value (secrets masked) and its source, in the order of the reference.
    pub fn explain(&self) -> &[Entry] {
        &self.entries
    }
}

/// Loads the configuration.
///
/// # Errors
/// All problems at once, each with its key, its source and a fix.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut layers = layers::of_text(REFERENCE, "config/default.toml", None, &mut problems);
    for layer in &mut layers {
        layer.source = "default".into();
        layer.lines.clear();
    }
    let named = sources.file.is_some();
    let path = sources.file.clone().unwrap_or_else(|| sources.data_dir.join("skep.toml"));
    let name = problem::printable(&path.display().to_string());
    let profile = sources.profile.as_deref();
    match layers::read_file(&path, named) {
        Ok(Some(text)) => layers.append(&mut layers::of_text(&text, &name, profile, &mut problems)),
        Ok(None) => {
            if let Some(profile) = profile {
                problems.push(layers::no_profile(profile, &format!("file {name}, which does not exist"), &[]));
            }
        }
        Err(problem) => problems.push(problem),
    }
    let (mut from_env, unknown) = layers::of_env(&sources.env, &mut problems);
    layers.append(&mut from_env);

    let variable = |name: &str| {
        let (_, value) = sources.env.iter().find(|(n, _)| n == name)?;
        value.to_str().map(str::to_owned)
    };
    let old_keys = layers.iter_mut().flat_map(renamed::carry_over).collect();
    let mut config = Config::default();
    let mut reader = reader::Reader::new(layers, problems);
    read::read(&mut reader, &mut config, &variable);
    config.private_files = [vec![path], std::mem::take(&mut reader.secret_files)].concat();
    config.granted.file = config.private_files.first().cloned();
    reader.refuse_unknown(&unknown);
    match reader.problems.is_empty() {
        true => Ok(Loaded { config, entries: reader.entries, old_keys }),
        false => Err(Problems(reader.problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Policy;

    #[test]
    fn files_that_configure_a_built_in_agent_are_not_changed_unseen() {
        let reference: toml::Table = REFERENCE.parse().unwrap();
        let agents = reference["agents"].as_table().unwrap();
        let files = agents.values().filter_map(|agent| agent.get("files")?.as_table());
        let paths: Vec<&String> = files.flat_map(toml::Table::keys).collect();
        assert!(paths.len() > 5, "{paths:?}");
        for path in paths {
            assert!(Policy::default().protects(path), "{path}");
        }
    }
}
