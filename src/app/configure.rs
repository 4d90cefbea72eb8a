//! Additions to the configuration file: comments, order and what is written there stay as they are.

use crate::config::{self, Config, Sources};
use crate::domain::ProjectName;
use crate::service::host::{AllowedHosts, HostContext, HostError, HostResult};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use toml_edit::{Array, DocumentMut, Item, Table, Value};

/// Allows hosts for the commands of one project, in addition to those it may reach already.
///
/// # Errors
/// A host or the file is unusable; then nothing was changed.
pub fn allow_hosts(
    context: &HostContext,
    config: &Config,
    project: &ProjectName,
    hosts: &[String],
) -> HostResult<AllowedHosts> {
    for host in hosts {
        config::check_host(host).map_err(|(why, fix)| {
            HostError::usage(format!("cannot allow {host:?}: {why}; nothing was changed"), fix)
        })?;
    }
    // The list of a project replaces the one for all projects, so that it repeats it.
    let known = &config.granted.for_project(project).hosts;
    let mut all = known.clone();
    all.extend(hosts.iter().filter(|host| !known.contains(host)).cloned());
    let list: Array = all.iter().map(String::as_str).collect();
    let addition = format!("[project.{}.egress]\nhosts = {list}\n", project.as_key());
    let file = add(context, &addition)?;
    Ok(AllowedHosts { project: project.to_string(), hosts: all, file: file.display().to_string() })
}

/// Adds keys to the configuration file. Keys that exist stay, and lists of hosts get what they lack.
///
/// # Errors
/// The result would be invalid, or the file cannot be written; then nothing was changed.
pub fn add(context: &HostContext, addition: &str) -> HostResult<PathBuf> {
    propose(context, addition)?.accept()
}

/// A changed configuration file, beside the one in force.
pub struct Proposed {
    path: PathBuf,
    addition: String,
    new: NamedTempFile,
    config: Config,
}

impl Proposed {
    /// Returns the configuration that it leads to.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts it in the place of the file in force, and returns its path.
    ///
    /// # Errors
    /// The file cannot be written; then nothing was changed.
    pub fn accept(self) -> HostResult<PathBuf> {
        // A link to the file stays one.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        match self.new.persist(target) {
            Ok(_) => Ok(self.path),
            Err(e) => Err(unusable(&self.path, &self.addition, &e.error.to_string())),
        }
    }
}

fn unusable(path: &Path, addition: &str, what: &str) -> HostError {
    HostError::config(format!("cannot change {}: {what}", path.display()), format!("add to it:\n{addition}"))
}

/// Writes the configuration file with more keys beside the one in force, and loads it.
///
/// # Errors
/// The result would be invalid, or cannot be written.
pub fn propose(context: &HostContext, addition: &str) -> HostResult<Proposed> {
    let path = context.sources.file.clone().unwrap_or_else(|| context.sources.data_dir.join("skep.toml"));
    let unusable = |what: String| unusable(&path, addition, &what);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(unusable(e.to_string())),
    };
    let mut document: DocumentMut = text.parse().map_err(|_| unusable("it is not valid TOML".to_owned()))?;
    let new: DocumentMut = addition.parse().map_err(|e: toml_edit::TomlError| unusable(e.message().to_owned()))?;
    merge(document.as_table_mut(), new.as_table());
    let new = write(&path, &document.to_string()).map_err(|e| unusable(e.to_string()))?;
    let candidate = Sources { file: Some(new.path().to_owned()), ..context.sources.clone() };
    let config = config::load(&candidate)?.config;
    Ok(Proposed { path, addition: addition.to_owned(), new, config })
}

fn merge(into: &mut Table, from: &Table) {
    for (key, item) in from.iter() {
        match (into.get_mut(key), item) {
            (None, item) => {
                let mut item = item.clone();
                unplaced(&mut item);
                into.insert(key, item);
            }
            (Some(Item::Table(own)), Item::Table(new)) => merge(own, new),
            (Some(Item::Value(Value::Array(own))), Item::Value(Value::Array(new))) => {
                let known: Vec<String> = own.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
                new.iter()
                    .filter(|v| v.as_str().is_none_or(|s| !known.iter().any(|k| k == s)))
                    .for_each(|v| own.push(v.clone()));
            }
            (Some(_), _) => {}
        }
    }
}

/// Forgets the places of tables in another document, so that they follow what is there.
fn unplaced(item: &mut Item) {
    if let Item::Table(table) = item {
        table.set_position(None);
        table.iter_mut().for_each(|(_, inner)| unplaced(inner));
    }
}

/// Writes the new file beside the old one.
fn write(path: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix("skep-").suffix(".toml").tempfile_in(dir)?;
    let mode = std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777);
    new.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all())?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(dir: &Path) -> HostContext {
        let sources = Sources { data_dir: dir.to_owned(), ..Sources::default() };
        HostContext { sources, verbosity: 0, json_logs: false, is_demo: false, server: None }
    }

    #[test]
    fn hosts_are_added_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (context, file) = (context(dir.path()), dir.path().join("skep.toml"));
        std::fs::write(&file, "# mine\n[egress]\nhosts = [\"a.example\"] # all\n").unwrap();
        let project = ProjectName::new("foo.js").unwrap();
        for host in ["b.example", "c.example:8443", "b.example"] {
            let config = config::load(&context.sources).unwrap().config;
            allow_hosts(&context, &config, &project, &[host.to_owned()]).unwrap();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# mine\n[egress]\nhosts = [\"a.example\"] # all\n"), "{text}");
        let granted = config::load(&context.sources).unwrap().config.granted;
        assert_eq!(granted.for_project(&project).hosts, ["a.example", "b.example", "c.example:8443"]);
        assert_eq!(granted.all.hosts, ["a.example"]);
        let config = config::load(&context.sources).unwrap().config;
        allow_hosts(&context, &config, &project, &["no host".to_owned()]).unwrap_err();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "nothing was changed");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was left behind");
    }
}
