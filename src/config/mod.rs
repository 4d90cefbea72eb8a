//! Configuration: reads the reference, the file, its profile and the environment into one checked [`Config`].
//!
//! Invariant: reading makes and changes nothing on disk; a configuration with a problem never comes out as a [`Config`].

mod data_dir;
mod layers;
mod models;
mod problem;
mod read;
mod reader;
mod renamed;
mod sections;
pub mod units;

pub use crate::secrets::Secret;
pub use data_dir::{default_data_dir, network_file_system, prepare_data_dir, private_by_default};
pub use models::{KeyPlace, Keyed, Walls};
pub use problem::{Problem, Problems};
pub use read::{engine, key_in};
pub use reader::Entry;
pub use sections::{Checks, Config, Database, Engines, Git, LogFormat, Runs, Secrets, Server, Store, Telemetry};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The reference: every key with its default and a comment.
pub const REFERENCE: &str = include_str!("../../config/default.toml");

/// What a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The data directory, whose `skep.toml` is read when no file is named.
    pub data_dir: PathBuf,
    /// `--config`, else `SKEP_CONFIG`; it must exist.
    pub file: Option<PathBuf>,
    /// `SKEP_PROFILE`.
    pub profile: Option<String>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
}

impl Sources {
    /// The sources of this process: `data_dir` and `file` are the command line's, which win over the environment's.
    pub fn of_process(data_dir: Option<&Path>, file: Option<&Path>) -> Result<Self, Problems> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let data_dir = match data_dir.map(Path::to_owned).or_else(|| var("SKEP_DATA_DIR").map(PathBuf::from)) {
            Some(dir) => dir,
            None => default_data_dir(var("XDG_DATA_HOME"), var("HOME")).map_err(|p| Problems(vec![p]))?,
        };
        // Made whole once, here: the store, git and the commands of agents each work in a directory of their own.
        let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        Ok(Self {
            data_dir,
            file: file.map(Path::to_owned).or_else(|| var("SKEP_CONFIG").map(PathBuf::from)),
            profile: var("SKEP_PROFILE").map(|p| p.to_string_lossy().into_owned()),
            env: std::env::vars_os().collect(),
        })
    }
}

/// A configuration that was read, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    entries: Vec<Entry>,
}

impl Loaded {
    /// Each key with its value (secrets masked) and its source, in the order of the reference.
    pub fn explain(&self) -> &[Entry] {
        &self.entries
    }
}

/// Reads the configuration, or tells everything that is wrong with it at once.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut layers = layers::of_text(REFERENCE, "config/default.toml", None, &mut problems);
    for layer in &mut layers {
        layer.source = "default".into();
    }
    let named = sources.file.is_some();
    let path = sources.file.clone().unwrap_or_else(|| sources.data_dir.join("skep.toml"));
    let name = problem::printable(&path.display().to_string());
    let profile = sources.profile.as_deref();
    match layers::read_file(&path, named) {
        Ok(Some(text)) => layers.append(&mut layers::of_text(&text, &name, profile, &mut problems)),
        Ok(None) => {
            if let Some(wanted) = profile {
                problems.push(layers::no_profile(wanted, &format!("file {name}, which does not exist"), &[]));
            }
        }
        Err(problem) => problems.push(problem),
    }
    let (mut from_env, odd) = layers::of_env(&sources.env, &mut problems);
    layers.append(&mut from_env);

    let look_up = |name: &str| {
        let found = sources.env.iter().find(|(n, _)| n == name)?;
        found.1.to_str().map(str::to_owned)
    };
    let mut config = Config::default();
    let mut reader = reader::Reader::new(layers, problems);
    read::read(&mut reader, &mut config, &look_up);
    reader.refuse_unknown(&odd);
    match reader.problems.is_empty() {
        true => Ok(Loaded { config, entries: reader.entries }),
        false => Err(Problems(reader.problems)),
    }
}
