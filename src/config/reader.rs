//! Reads typed values out of the layers, collecting every problem, and refuses keys nobody read.

use super::layers::{Layer, find, kind, merged, not_a_table};
use super::problem::{Problem, printable};
use super::units::{self, Unreadable};
use figment::Figment;
use figment::value::{Dict, Num, Value};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A key with the value in force and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dotted key.
    pub key: &'static str,
    /// The value as it is written in the file; secrets masked.
    pub value: String,
    /// Its source.
    pub source: String,
}

type Parsed<T> = Result<T, Unreadable>;

pub(super) struct Reader {
    layers: Vec<Layer>,
    figment: Figment,
    merged: Dict,
    pub problems: Vec<Problem>,
    pub entries: Vec<Entry>,
    known: Vec<&'static str>,
    bad: BTreeSet<&'static str>,
}

fn wrong<T>(why: impl Into<String>, fix: impl Into<String>) -> Parsed<T> {
    Err(Unreadable { why: why.into(), fix: fix.into() })
}

/// The text of a value, or that a text is needed.
fn text(value: &Value, fix: &str) -> Parsed<String> {
    match value {
        Value::String(_, s) => Ok(s.clone()),
        Value::Char(_, c) => Ok(c.to_string()),
        _ => wrong("a text is needed", fix),
    }
}

/// A bare number as it was written, for the fix of an amount without its unit.
fn amount(value: &Value, example: &str) -> Parsed<String> {
    let written = match value {
        Value::Num(_, Num::F32(n)) => n.to_string(),
        Value::Num(_, Num::F64(n)) => n.to_string(),
        Value::Num(_, n) => n.to_i128().map_or_else(|| "0".into(), |n| n.to_string()),
        other => return text(other, example),
    };
    // A number of 300 digits would make a fix of 300 digits.
    if written.len() > 12 { wrong("this number can't be meant", example) } else { Ok(written) }
}

impl Reader {
    pub(super) fn new(layers: Vec<Layer>, problems: Vec<Problem>) -> Self {
        let (figment, merged) = merged(&layers);
        Reader { layers, figment, merged, problems, entries: Vec::new(), known: Vec::new(), bad: BTreeSet::new() }
    }

    /// Reads `key` into `slot`: checked in every layer, so that a bad value is told even when a later layer hides it.
    fn read<T>(&mut self, key: &'static str, slot: &mut T, parse: impl Fn(&Value, bool) -> Parsed<T>) {
        self.known.push(key);
        for layer in &self.layers {
            let Some(value) = find(&layer.values, key) else { continue };
            match parse(value, layer.texts) {
                Ok(parsed) if layer.merged => *slot = parsed,
                Ok(_) => {}
                Err(e) => {
                    self.bad.insert(key);
                    let (source, found) = (layer.source.clone(), kind(value).to_owned());
                    self.problems.push(Problem { at: key.into(), source, found, why: e.why, fix: e.fix });
                }
            }
        }
        let Some(value) = find(&self.merged, key) else { return };
        let source = self.source(value);
        let value = crate::telemetry::redact(&written(value)).into_owned();
        self.entries.push(Entry { key, value, source });
    }

    fn source(&self, value: &Value) -> String {
        self.figment.get_metadata(value.tag()).map_or_else(|| "built in".into(), |m| m.name.to_string())
    }

    /// A problem with the value in force at `key` that was seen only later; not told when the key already has one.
    pub(super) fn refuse(&mut self, key: &'static str, why: impl Into<String>, fix: impl Into<String>) {
        if !self.bad.insert(key) {
            return;
        }
        let value = find(&self.merged, key);
        let source = value.map_or_else(|| "built in".into(), |v| self.source(v));
        let found = value.map_or("", kind).to_owned();
        self.problems.push(Problem { at: key.into(), source, found, why: why.into(), fix: fix.into() });
    }

    /// A text that passes `check`.
    pub(super) fn checked<T>(&mut self, key: &'static str, slot: &mut T, check: impl Fn(&str) -> Parsed<T>) {
        self.read(key, slot, |v, _| check(&text(v, "put the value in quotes")?));
    }

    pub(super) fn flag(&mut self, key: &'static str, slot: &mut bool) {
        self.read(key, slot, |v, texts| match v {
            Value::Bool(_, b) => Ok(*b),
            Value::String(_, s) if texts && s == "true" => Ok(true),
            Value::String(_, s) if texts && s == "false" => Ok(false),
            _ => wrong("this is a yes-or-no key", "write true or false, without quotes"),
        });
    }

    pub(super) fn number<T>(&mut self, key: &'static str, slot: &mut T, range: RangeInclusive<u64>)
    where
        T: TryFrom<u64>,
    {
        self.read(key, slot, |v, texts| {
            let fix = format!("write a whole number from {} to {}, without quotes", range.start(), range.end());
            let n = match v {
                Value::Num(_, n) => n.to_i128().filter(|_| !matches!(n, Num::F32(_) | Num::F64(_))),
                Value::String(_, s) if texts => s.trim().parse().ok(),
                _ => None,
            };
            let Some(n) = n else { return wrong("a whole number is needed", fix) };
            match u64::try_from(n).ok().filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok()) {
                Some(n) => Ok(n),
                None => wrong("the number is out of range", fix),
            }
        });
    }

    pub(super) fn duration(&mut self, key: &'static str, slot: &mut Duration, least: &str, most: &str) {
        let bounds = units::duration(least).ok().zip(units::duration(most).ok());
        self.read(key, slot, |v, _| {
            let d = units::duration(&amount(v, "write one such as \"30s\", \"20m\" or \"4h\"")?)?;
            match bounds {
                Some((a, b)) if d < a || d > b => {
                    wrong("the duration is out of range", format!("write one from \"{least}\" to \"{most}\""))
                }
                _ => Ok(d),
            }
        });
    }

    pub(super) fn seconds(&mut self, key: &'static str, slot: &mut u64, least: &str, most: &str) {
        let mut d = Duration::from_secs(*slot);
        self.duration(key, &mut d, least, most);
        if d.subsec_nanos() != 0 {
            self.refuse(key, "this is counted in whole seconds", "write a duration such as \"30s\"");
        }
        *slot = d.as_secs();
    }

    /// Money, or "unlimited".
    pub(super) fn money(&mut self, key: &'static str, slot: &mut Option<u64>) {
        self.read(key, slot, |v, _| {
            let text = amount(v, "write an amount such as \"5.00 USD\", or \"unlimited\"")?;
            if text == "unlimited" { Ok(None) } else { units::money(&text).map(Some) }
        });
    }

    /// A count, or "unlimited".
    pub(super) fn count(&mut self, key: &'static str, slot: &mut Option<u64>) {
        self.read(key, slot, |v, texts| {
            let n = match v {
                Value::String(_, s) if s == "unlimited" => return Ok(None),
                Value::Num(_, n) => n.to_i128().filter(|_| !matches!(n, Num::F32(_) | Num::F64(_))),
                Value::String(_, s) if texts => s.trim().parse().ok(),
                _ => None,
            };
            match n.and_then(|n| u64::try_from(n).ok()) {
                Some(n) if (1..=1_000_000_000_000).contains(&n) => Ok(Some(n)),
                _ => wrong(
                    "a number of tokens is needed",
                    "write a whole number from 1 without quotes, such as 200000, or \"unlimited\"",
                ),
            }
        });
    }

    /// A list of texts, each passing `check`; in the environment separated by commas.
    pub(super) fn list(&mut self, key: &'static str, slot: &mut Vec<String>, check: impl Fn(&str) -> Parsed<()>) {
        self.read(key, slot, |v, texts| {
            let items: Vec<String> = match v {
                Value::Array(_, items) => {
                    let fix = "write a list of texts, such as [\"one\", \"two\"]";
                    items.iter().map(|i| text(i, fix)).collect::<Parsed<_>>()?
                }
                Value::String(_, s) if texts => {
                    s.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
                }
                _ => return wrong("a list is needed", "write a list of texts, such as [\"one\", \"two\"]"),
            };
            items.iter().try_for_each(|i| check(i))?;
            Ok(items)
        });
    }

    /// Refuses every key nobody has read, and every variable that names none.
    pub(super) fn refuse_unknown(&mut self, odd_variables: &[String]) {
        let known = std::mem::take(&mut self.known);
        let mut found = Vec::new();
        for layer in &self.layers {
            walk(&layer.values, "", layer, &known, &mut found);
        }
        for name in odd_variables {
            let key = name.trim_start_matches("SKEP_").to_ascii_lowercase();
            let near = known.iter().find(|k| k.replace('.', "_") == key).copied().or_else(|| nearest(&key, &known));
            found.push(Problem {
                at: printable(name),
                source: "environment".into(),
                found: String::new(),
                why: "this variable names no key".into(),
                fix: match near {
                    Some(k) => format!("use {}", variable(k)),
                    None => "unset it; keys are written SKEP_<TABLE>__<KEY>, with two underscores".into(),
                },
            });
        }
        self.problems.append(&mut found);
    }
}

fn walk(values: &Dict, prefix: &str, layer: &Layer, known: &[&'static str], found: &mut Vec<Problem>) {
    for (name, value) in values {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if known.contains(&path.as_str()) {
            continue;
        }
        let is_table = known.iter().any(|k| k.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')));
        match value {
            Value::Dict(_, inner) if is_table => walk(inner, &path, layer, known, found),
            other if is_table => found.push(not_a_table(&path, &layer.source, other)),
            other => found.push(Problem {
                at: printable(&path),
                source: layer.source.clone(),
                found: kind(other).to_owned(),
                why: "there is no such key".into(),
                fix: unknown_fix(&path, matches!(other, Value::Dict(..)), layer.texts, known),
            }),
        }
    }
}

fn unknown_fix(path: &str, is_table: bool, texts: bool, known: &[&'static str]) -> String {
    let last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    if ["password", "secret", "token", "api_key", "apikey", "credential"].iter().any(|w| last.contains(w))
        && nearest(path, known).is_none_or(|k| !k.ends_with(&last))
    {
        return "secrets are never written here: use a *_file or *_env key that tells where the secret is".into();
    }
    let mut tables: Vec<&'static str> =
        known.iter().filter_map(|k| k.rsplit_once('.')).map(|(table, _)| table).collect();
    tables.dedup();
    if is_table && let Some(k) = nearest(path, &tables) {
        return format!("did you mean [{k}]?");
    }
    match nearest(path, known) {
        Some(k) if texts => format!("did you mean {}?", variable(k)),
        Some(k) => format!("did you mean {k}?"),
        None => "remove it; config/default.toml lists every key".into(),
    }
}

fn variable(key: &str) -> String {
    format!("SKEP_{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The known key that looks most like `path`, if any does: by its whole path, or by its last part in another table.
fn nearest(path: &str, known: &[&'static str]) -> Option<&'static str> {
    // Long texts are nobody's slip, and the distance is quadratic.
    if path.len() > 100 {
        return None;
    }
    let plain = path.to_ascii_lowercase().replace('-', "_");
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let like = |k: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&plain, k);
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(&last(&plain), &last(k)))
    };
    let best = known.iter().map(|k| (like(k), *k)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.7).then_some(best.1)
}

/// A value as the file would have it.
fn written(value: &Value) -> String {
    match value {
        Value::String(_, s) => format!("\"{}\"", crate::telemetry::escape(s)),
        Value::Char(_, c) => format!("\"{c}\""),
        Value::Bool(_, b) => b.to_string(),
        Value::Num(_, n) => {
            n.to_i128().map(|n| n.to_string()).or_else(|| n.to_f64().map(|n| n.to_string())).unwrap_or_default()
        }
        Value::Array(_, items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Empty(..) | Value::Dict(..) => String::new(),
    }
}
