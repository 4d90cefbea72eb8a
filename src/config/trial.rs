//! Configurations of evaluation trials: the user's own settings of how runs work, and on top of them those of a variant.
//!
//! Invariant: a trial gets nothing that leads outside its data directory: no store, service, forge, channel or project.

use super::problem::{Problem, Problems, printable};
use super::{Sources, layers};
use std::ffi::OsString;
use std::path::Path;

/// Tables that a trial takes over from the user's configuration, and that a variant may set.
const TABLES: &[&str] = &[
    "policy",
    "limits",
    "steps",
    "role",
    "engines",
    "providers",
    "agents",
    "prices",
    "prompts",
    "sandbox",
    "egress",
    "git",
    "checks",
    "runners",
];
/// Tables that describe the machine and not how runs work.
const MACHINE_TABLES: &[&str] = &["sandbox"];
/// Variables that select a data directory, a configuration or a service.
const LOCATIONS: &[&str] =
    &["SKEP_CONFIG", "SKEP_DATA_DIR", "SKEP_SERVER", "SKEP_TOKEN", "SKEP_TOKEN_FILE", "SKEP_PROFILE"];

/// What trials take over from this installation.
#[derive(Clone, Debug)]
pub struct TrialSettings {
    /// Settings of how runs work.
    pub user: toml::Table,
    /// Settings of this machine, which also grading has.
    pub machine: toml::Table,
    /// Environment, with the settings in it that a trial takes over.
    pub env: Vec<(OsString, OsString)>,
}

impl TrialSettings {
    /// Reads the user's configuration, which must be valid.
    ///
    /// # Errors
    /// When it is not.
    pub fn read(sources: &Sources) -> Result<TrialSettings, Problems> {
        super::load(sources)?;
        let path = sources.file.clone().unwrap_or_else(|| sources.data_dir.join("skep.toml"));
        let mut file = match layers::read_file(&path, sources.file.is_some()).map_err(|p| Problems(vec![p]))? {
            Some(text) => table_of(&text, &path)?,
            None => toml::Table::new(),
        };
        let profiles = file.remove("profile");
        if let Some(name) = &sources.profile
            && let Some(toml::Value::Table(profile)) = profiles.as_ref().and_then(|all| all.get(name))
        {
            merge(&mut file, profile);
        }
        let of = |names: &[&str]| -> toml::Table {
            file.iter()
                .filter(|(name, _)| names.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let is_taken_over = |name: &OsString| {
            let name = name.to_string_lossy();
            if LOCATIONS.contains(&name.as_ref()) {
                return false;
            }
            key_of(&name).is_none_or(|key| TABLES.contains(&key.split('.').next().unwrap_or_default()))
        };
        let env = sources.env.iter().filter(|(name, _)| is_taken_over(name)).cloned().collect();
        Ok(TrialSettings { user: of(TABLES), machine: of(MACHINE_TABLES), env })
    }

    /// Returns the environment without the variables that a variant overrides.
    pub fn env_for(&self, variant: &toml::Table) -> Vec<(OsString, OsString)> {
        let is_overridden = |name: &OsString| {
            key_of(&name.to_string_lossy()).is_some_and(|key| {
                let mut parts = key.split('.');
                let first = parts.next().and_then(|name| variant.get(name));
                parts.try_fold(first, |value, name| Some(value?.get(name))).flatten().is_some()
            })
        };
        self.env.iter().filter(|(name, _)| !is_overridden(name)).cloned().collect()
    }
}

/// Returns the key that an environment variable sets, if it sets one.
fn key_of(variable: &str) -> Option<String> {
    let key = variable.strip_prefix("SKEP_")?;
    key.contains("__").then(|| key.to_ascii_lowercase().replace("__", "."))
}

/// Merges tables; the values of `over` count.
pub fn merge(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

/// Reads the settings of a variant from a file.
///
/// # Errors
/// When it cannot be read, is not TOML, or sets what a variant may not set.
pub fn variant_file(path: &Path) -> Result<toml::Table, Problems> {
    let text = layers::read_file(path, true).map_err(|p| Problems(vec![p]))?.unwrap_or_default();
    let table = table_of(&text, path)?;
    check(&table, &path.display().to_string())?;
    Ok(table)
}

/// Reads one setting of a variant: `role.dev.effort` and a value, which is TOML or plain text.
///
/// # Errors
/// When a variant may not set the key.
pub fn variant_setting(key: &str, value: &str) -> Result<toml::Table, Problems> {
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let nest = |inner: toml::Value, name: &str| toml::Value::Table(toml::Table::from_iter([(name.to_owned(), inner)]));
    let table = match key.rsplit('.').fold(value, nest) {
        toml::Value::Table(table) => table,
        _ => toml::Table::new(),
    };
    check(&table, key)?;
    Ok(table)
}

fn check(table: &toml::Table, source: &str) -> Result<(), Problems> {
    let foreign = table.iter().filter(|(name, value)| !TABLES.contains(&name.as_str()) || !value.is_table());
    let problems: Vec<Problem> = foreign
        .map(|(name, _)| Problem {
            at: printable(name),
            source: printable(source),
            found: String::new(),
            why: "cannot be set by a variant".into(),
            fix: format!("a variant sets keys of the tables {}", TABLES.join(", ")),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn table_of(text: &str, path: &Path) -> Result<toml::Table, Problems> {
    text.parse().map_err(|_: toml::de::Error| {
        Problems(vec![Problem {
            at: printable(&path.display().to_string()),
            source: "configuration file".into(),
            found: String::new(),
            why: "is not valid TOML".into(),
            fix: "write keys as `name = value`, strings in quotes, tables as [name], each only once".into(),
        }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_take_over_how_runs_work_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skep.toml");
        let text = "[limits]\nattempts = 7\n[role.dev]\nengine = \"command:true\"\n[store]\nurl = \"sqlite:/x.db\"\n\
                    [sandbox]\nlevel = \"landlock\"\n[profile.fast.limits]\nattempts = 9\n";
        std::fs::write(&file, text).unwrap();
        let variable = |name: &str, value: &str| (name.into(), value.into());
        let sources = Sources {
            data_dir: dir.path().to_owned(),
            file: Some(file),
            profile: Some("fast".to_owned()),
            env: vec![
                variable("PATH", "/bin"),
                variable("SKEP_DATA_DIR", "/y"),
                variable("SKEP_RUNS__MAX_LIVE_RUNS", "3"),
                variable("SKEP_POLICY__MAX_TASKS", "7"),
                variable("SKEP_LIMITS__ROUNDS", "5"),
            ],
        };
        let settings = TrialSettings::read(&sources).unwrap();
        assert_eq!(settings.user.keys().collect::<Vec<_>>(), ["limits", "role", "sandbox"]);
        assert_eq!(settings.user["limits"]["attempts"].as_integer(), Some(9));
        assert_eq!(settings.machine.keys().collect::<Vec<_>>(), ["sandbox"]);
        let names = |env: Vec<(OsString, OsString)>| -> Vec<String> {
            env.into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
        };
        assert_eq!(names(settings.env.clone()), ["PATH", "SKEP_POLICY__MAX_TASKS", "SKEP_LIMITS__ROUNDS"]);
        let variant = variant_setting("limits.rounds", "2").unwrap();
        assert_eq!(variant["limits"]["rounds"].as_integer(), Some(2));
        assert_eq!(names(settings.env_for(&variant)), ["PATH", "SKEP_POLICY__MAX_TASKS"]);
        let text = variant_setting("role.dev.engine", "llm:x/y").unwrap();
        assert_eq!(text["role"]["dev"]["engine"].as_str(), Some("llm:x/y"));
        assert!(variant_setting("store.url", "x").unwrap_err().to_string().contains("cannot be set by a variant"));
        assert!(variant_setting("role", "x").is_err());
    }
}
