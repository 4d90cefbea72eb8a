//! A variant: what plays the dev, and the configuration of its runs.

use super::suite::Task;
use std::ffi::OsString;

/// What plays the dev of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevEngine {
    /// The engines of the configuration.
    Configured,
    /// A command that applies the oracle patch.
    Oracle,
    /// A command that does nothing.
    Nop,
}

/// A variant.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Name.
    pub name: String,
    /// What plays the dev.
    pub dev: DevEngine,
    /// The complete configuration of its runs.
    pub config: toml::Table,
    /// The environment of its runs.
    pub env: Vec<(OsString, OsString)>,
}

impl Variant {
    /// Returns the configuration of its runs on a task.
    pub(super) fn config_for(&self, task: &Task) -> toml::Table {
        let mut config = self.config.clone();
        let command = match self.dev {
            DevEngine::Configured => return config,
            DevEngine::Nop => "command:true".to_owned(),
            DevEngine::Oracle => {
                let patch = String::from_utf8_lossy(&task.oracle);
                format!("command:git apply --whitespace=nowarn - <<'SKEP_END_OF_PATCH'\n{patch}\nSKEP_END_OF_PATCH")
            }
        };
        let engine = |engine: &str| toml::Value::Table(toml::Table::from_iter([("engine".to_owned(), engine.into())]));
        let roles = [("manager", "direct"), ("reviewer", "direct"), ("scout", ""), ("dev", command.as_str())];
        let roles = roles.into_iter().map(|(role, kind)| (role.to_owned(), engine(kind))).collect();
        config.insert("role".to_owned(), toml::Value::Table(roles));
        config
    }
}
