//! Layers of a configuration (the reference, the file, its profile, the environment), merged by figment.

use super::problem::{Problem, printable};
use figment::value::{Dict, Empty, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Maximum size of a configuration file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Variables with the prefix `SKEP_` that are not configuration keys. They are read elsewhere, or set for the commands
/// of engines and checks, which may start another Skep (its own tests, for example).
const OTHER_VARIABLES: &[&str] = &[
    "SKEP_CONFIG",
    "SKEP_DATA_DIR",
    "SKEP_SERVER",
    "SKEP_TOKEN",
    "SKEP_TOKEN_FILE",
    "SKEP_PROFILE",
    "SKEP_PAGER",
    "SKEP_FAULT",
    "SKEP_JOB",
    "SKEP_CANARIES",
    "SKEP_STEP",
    "SKEP_RUN",
    "SKEP_ATTEMPT",
    "SKEP_TRY",
    "SKEP_ROUND",
    "SKEP_HEAD",
    "SKEP_BASE",
    "SKEP_GOAL",
    "SKEP_TASK",
    "SKEP_TASK_TEXT",
    "SKEP_SCRATCH",
    "SKEP_ORDER_FILE",
    "SKEP_NOTES_FILE",
    "SKEP_QUESTION",
    "SKEP_PATCH_FILE",
    "SKEP_REPORT_FILE",
    "SKEP_SHA",
    "SKEP_TARGET",
];

/// Prefixes of other variables. `SKEP_TEST_…` and `SKEP_SIM_…` are for the tests. Kubernetes sets the other two in
/// every pod next to a service named `skep`.
const OTHER_PREFIXES: [&str; 4] = ["SKEP_TEST_", "SKEP_SIM_", "SKEP_SERVICE_", "SKEP_PORT"];

/// Values from one source.
pub(super) struct Layer {
    /// Name of the source, for messages.
    pub source: String,
    /// Whether all values are strings (the environment), from which numbers and lists are parsed.
    pub texts: bool,
    /// Whether the layer is part of the result. A profile that is not selected is only validated.
    pub merged: bool,
    /// The values.
    pub values: Dict,
    /// Line of each key in the file, by dotted key.
    pub lines: BTreeMap<String, usize>,
}

impl Layer {
    /// Returns the source of a key, with its line if it comes from a file.
    pub fn source_of(&self, key: &str) -> String {
        match self.lines.get(key) {
            Some(line) => format!("{} line {line}", self.source),
            None => self.source.clone(),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Merges the layers. Later ones override earlier ones, and each value keeps its source.
pub(super) fn merged(layers: &[Layer]) -> (Figment, Dict) {
    let figment = layers.iter().filter(|l| l.merged).fold(Figment::new(), |all, layer| all.merge(layer));
    let mut data = figment.data().unwrap_or_default();
    (figment, data.remove(&Profile::Default).unwrap_or_default())
}

/// Appends a name to a dotted key. As in TOML, a name with dots is quoted.
pub(super) fn joined(prefix: &str, name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let dot = if prefix.is_empty() { "" } else { "." };
    if plain { format!("{prefix}{dot}{name}") } else { format!("{prefix}{dot}\"{name}\"") }
}

/// Splits the first name off a dotted key.
pub(super) fn split_first(key: &str) -> (&str, Option<&str>) {
    match key.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((name, rest)) => (name, rest.strip_prefix('.')),
        None => key.split_once('.').map_or((key, None), |(name, rest)| (name, Some(rest))),
    }
}

/// Returns the value at a dotted key.
pub(super) fn find<'v>(values: &'v Dict, key: &str) -> Option<&'v Value> {
    match split_first(key) {
        (name, None) => values.get(name),
        (name, Some(rest)) => match values.get(name)? {
            Value::Dict(_, inner) => find(inner, rest),
            _ => None,
        },
    }
}

/// Reads the text of a file. `Ok(None)`: it does not exist and is not required.
pub(super) fn read_file(path: &Path, required: bool) -> Result<Option<String>, Problem> {
    let name = printable(&path.display().to_string());
    let problem = |why: &str, fix: &str| {
        Err(Problem {
            at: name.clone(),
            source: "configuration file".into(),
            found: String::new(),
            why: why.into(),
            fix: fix.into(),
        })
    };
    // Checked before opening, because opening a pipe would block.
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => return problem("is a directory", "name the file itself"),
        Ok(m) if !m.is_file() => return problem("is not a regular file", "name a regular file"),
        // It names the programs that Skep starts.
        Ok(m) if m.mode() & 0o002 != 0 => return problem("can be written by every user", "run chmod o-w on that file"),
        Ok(m) if m.len() > FILE_MAX => return problem("is larger than 1 MiB", "name a configuration file"),
        Ok(_) => {}
        // Problems of the data directory itself are reported when it is prepared.
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) && !required => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return problem("does not exist", "correct --config or SKEP_CONFIG, or create the file");
        }
        Err(e) => return problem(&format!("cannot be read: {}", e.kind()), "make it readable for this user"),
    }
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|f| f.take(FILE_MAX).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) => return problem(&format!("cannot be read: {}", e.kind()), "make it readable for this user"),
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => problem("is not UTF-8 text", "save it as UTF-8"),
    }
}

/// Returns the layers of one file: its own keys, and its profiles, of which only `profile` is merged.
pub(super) fn of_text(text: &str, name: &str, profile: Option<&str>, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(e) => {
            // The error's own display quotes the line, which may hold a secret.
            let e: toml::de::Error = e;
            let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            problems.push(Problem {
                at: name.to_owned(),
                source: line.map_or("configuration file".into(), |l| format!("line {l}")),
                found: String::new(),
                why: format!("is not valid TOML: {}", syntax_error(e.message())),
                fix: "fix that line: write keys as `name = value`, strings in quotes, tables as [name], each only once"
                    .into(),
            });
            return Vec::new();
        }
    };
    let mut values = dict(table);
    let profiles = values.remove("profile");
    let source = format!("file {name}");
    let lines = key_lines(text);
    let mut layers = vec![Layer { source: source.clone(), texts: false, merged: true, values, lines: lines.clone() }];
    let mut names = Vec::new();
    match profiles {
        None => {}
        Some(Value::Dict(_, tables)) => {
            for (id, value) in tables {
                let shown = printable(&id);
                match value {
                    Value::Dict(_, values) => {
                        let merged = profile == Some(id.as_str());
                        let source = format!("profile {shown} of {source}");
                        let prefix = format!("{}.", joined("profile", &id));
                        let lines =
                            lines.iter().filter_map(|(key, n)| Some((key.strip_prefix(&prefix)?.to_owned(), *n)));
                        layers.push(Layer { source, texts: false, merged, values, lines: lines.collect() });
                    }
                    other => problems.push(not_a_table(&format!("profile.{shown}"), &source, &other)),
                }
                names.push(id);
            }
        }
        Some(other) => problems.push(not_a_table("profile", &source, &other)),
    }
    if let Some(profile) = profile
        && !names.iter().any(|n| n == profile)
    {
        problems.push(no_profile(profile, &source, &names));
    }
    layers
}

/// Returns the parser's reason on one line, without the value.
fn syntax_error(message: &str) -> String {
    if message.starts_with("invalid type: integer") {
        return "the number does not fit into 64 bits".to_owned();
    }
    let reason = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ");
    printable(&crate::telemetry::redact(&reason))
}

/// Returns the line of each key, by dotted key. The text was parsed before, so an error cannot occur.
fn key_lines(text: &str) -> BTreeMap<String, usize> {
    fn add(table: &DeTable<'_>, prefix: &str, starts: &[usize], lines: &mut BTreeMap<String, usize>) {
        for (key, value) in table {
            let path = joined(prefix, key.get_ref());
            lines.insert(path.clone(), starts.partition_point(|start| *start <= key.span().start));
            if let DeValue::Table(inner) = value.get_ref() {
                add(inner, &path, starts, lines);
            }
        }
    }
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        add(table.get_ref(), "", &starts, &mut lines);
    }
    lines
}

/// Creates the problem of a selected profile that does not exist.
pub(super) fn no_profile(profile: &str, source: &str, names: &[String]) -> Problem {
    let known = names.iter().map(|n| printable(n)).collect::<Vec<_>>().join(", ");
    Problem {
        at: format!("profile.{}", printable(profile)),
        source: "environment variable SKEP_PROFILE".into(),
        found: String::new(),
        why: format!("unknown profile in {source}"),
        fix: if known.is_empty() {
            "add the table, or unset SKEP_PROFILE".into()
        } else {
            format!("use one of: {known}")
        },
    }
}

/// Returns one layer per environment variable, and the names that cannot be keys, which the reader refuses.
pub(super) fn of_env(env: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> (Vec<Layer>, Vec<String>) {
    let (mut layers, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in env {
        let lossy = name.to_string_lossy();
        let Some(rest) = lossy.strip_prefix("SKEP_") else { continue };
        if OTHER_VARIABLES.contains(&lossy.as_ref()) || OTHER_PREFIXES.iter().any(|p| lossy.starts_with(p)) {
            continue;
        }
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            unknown.push(lossy.into_owned());
            continue;
        }
        let source = format!("environment variable {}", printable(&lossy));
        let Some(text) = value.to_str() else {
            problems.push(Problem {
                at: printable(&path.join(".")),
                source,
                found: "bytes".into(),
                why: "is not UTF-8 text".into(),
                fix: "set it to UTF-8 text".into(),
            });
            continue;
        };
        let leaf = Value::String(Tag::Default, text.to_owned());
        let nested =
            path.iter().rev().fold(leaf, |inner, part| Value::Dict(Tag::Default, Dict::from([(part.clone(), inner)])));
        if let Value::Dict(_, values) = nested {
            layers.push(Layer { source, texts: true, merged: true, values, lines: BTreeMap::new() });
        }
    }
    layers.sort_by(|a, b| a.source.cmp(&b.source));
    unknown.sort();
    (layers, unknown)
}

/// Creates the problem of a value in place of a table.
pub(super) fn not_a_table(at: &str, source: &str, found: &Value) -> Problem {
    let fix = match at.rsplit('.').next() {
        // Where people look for a place for their commands.
        Some("checks") => format!(
            "write check commands into .skep.toml of the repository, below [[check]], or pass them with --check; \
             [{at}] holds secrets and runners"
        ),
        _ => format!("write [{at}] and its keys below"),
    };
    Problem {
        at: at.to_owned(),
        source: source.to_owned(),
        found: kind(found).to_owned(),
        why: "a table is required".into(),
        fix,
    }
}

/// Returns the kind of a value, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_, s) if s.is_empty() => "empty text",
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(_, Num::F32(_) | Num::F64(_)) => "number with a point",
        Value::Num(..) => "whole number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "table",
        Value::Array(..) => "list",
    }
}

fn dict(table: toml::Table) -> Dict {
    table.into_iter().map(|(key, value)| (key, convert(value))).collect()
}

fn convert(value: toml::Value) -> Value {
    match value {
        toml::Value::String(s) => Value::String(Tag::Default, s),
        toml::Value::Integer(n) => Value::Num(Tag::Default, Num::I64(n)),
        toml::Value::Float(n) => Value::Num(Tag::Default, Num::F64(n)),
        toml::Value::Boolean(b) => Value::Bool(Tag::Default, b),
        // No key accepts a date.
        toml::Value::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
        toml::Value::Array(items) => Value::Array(Tag::Default, items.into_iter().map(convert).collect()),
        toml::Value::Table(table) => Value::Dict(Tag::Default, dict(table)),
    }
}
