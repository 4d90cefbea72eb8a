//! Reads typed values from the layers, collects all problems, and refuses keys that are not read.

use super::layers::{Layer, find, joined, kind, merged, not_a_table};
use super::problem::{Problem, UNKNOWN_KEY, printable};
use super::renamed;
use super::suggest::{nearest, unknown_fix, variable};
use super::units::{self, Unreadable};
use figment::Figment;
use figment::value::{Dict, Num, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A key with its effective value and the source of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dotted key.
    pub key: String,
    /// The value as written in the file, with secrets masked.
    pub value: String,
    /// Source of the value.
    pub source: String,
}

type Parsed<T> = Result<T, Unreadable>;

/// Maximum number of named tables of one kind, and of entries of one of them.
const MAX_NAMES: usize = 100;

/// Returns whether a table may have this name. Names occur in engine specs, in variables and in paths of the egress
/// proxy.
fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

pub(super) struct Reader {
    layers: Vec<Layer>,
    figment: Figment,
    merged: Dict,
    pub problems: Vec<Problem>,
    pub entries: Vec<Entry>,
    known: Vec<String>,
    bad: BTreeSet<String>,
    /// Files that hold secrets, as the configuration names them.
    pub secret_files: Vec<PathBuf>,
}

fn wrong<T>(why: impl Into<String>, fix: impl Into<String>) -> Parsed<T> {
    Err(Unreadable { why: why.into(), fix: fix.into() })
}

/// Returns the string of a value.
fn text(value: &Value, fix: &str) -> Parsed<String> {
    match value {
        Value::String(_, s) => Ok(s.clone()),
        Value::Char(_, c) => Ok(c.to_string()),
        _ => wrong("a string is required", fix),
    }
}

/// Returns an amount as written. A number without a unit is accepted here, so that the fix can name it with a unit.
fn amount(value: &Value, example: &str) -> Parsed<String> {
    let written = match value {
        Value::Num(_, Num::F32(n)) => n.to_string(),
        Value::Num(_, Num::F64(n)) => n.to_string(),
        Value::Num(_, n) => n.to_i128().map_or_else(|| "0".into(), |n| n.to_string()),
        other => return text(other, example),
    };
    // The fix must stay short, even for a number of 300 digits.
    if written.len() > 12 { wrong("the number is out of range", example) } else { Ok(written) }
}

/// Returns a duration that is not shorter than `least` and not longer than `most`.
fn duration_between(value: &Value, least: &str, most: &str) -> Parsed<Duration> {
    let duration = units::duration(&amount(value, "write one such as \"30s\", \"20m\" or \"4h\"")?)?;
    match units::duration(least).ok().zip(units::duration(most).ok()) {
        Some((a, b)) if duration < a || duration > b => {
            wrong("the duration is out of range", format!("write one from \"{least}\" to \"{most}\""))
        }
        _ => Ok(duration),
    }
}

impl Reader {
    pub(super) fn new(layers: Vec<Layer>, problems: Vec<Problem>) -> Self {
        let (figment, merged) = merged(&layers);
        let (known, bad) = (Vec::new(), BTreeSet::new());
        Reader { layers, figment, merged, problems, entries: Vec::new(), known, bad, secret_files: Vec::new() }
    }

    /// Reads `key` into `slot`. Every layer is validated, so that an invalid value is reported even if a later layer
    /// hides it.
    fn read<T>(&mut self, key: &str, slot: &mut T, parse: impl Fn(&Value, bool) -> Parsed<T>) {
        self.known.push(key.to_owned());
        for layer in &self.layers {
            let Some(value) = find(&layer.values, key) else { continue };
            match parse(value, layer.texts) {
                Ok(parsed) if layer.merged => *slot = parsed,
                Ok(_) => {}
                Err(e) => {
                    self.bad.insert(key.to_owned());
                    let (source, found) = (layer.source_of(key), kind(value).to_owned());
                    self.problems.push(Problem { at: key.into(), source, found, why: e.why, fix: e.fix });
                }
            }
        }
        let Some(value) = find(&self.merged, key) else { return };
        let source = self.source(value);
        let value = crate::telemetry::redact(&written(value)).into_owned();
        self.entries.push(Entry { key: key.to_owned(), value, source });
    }

    fn source(&self, value: &Value) -> String {
        self.figment.get_metadata(value.tag()).map_or_else(|| "built in".into(), |m| m.name.to_string())
    }

    /// Reports a problem with the effective value of `key` that was detected later. Ignored if the key already has one.
    pub(super) fn refuse(&mut self, key: &str, why: impl Into<String>, fix: impl Into<String>) {
        if !self.bad.insert(key.to_owned()) {
            return;
        }
        let layer = self.layers.iter().rev().find(|l| l.merged && find(&l.values, key).is_some());
        let source = layer.map_or_else(|| "built in".into(), |l| l.source_of(key));
        let found = find(&self.merged, key).map_or("", kind).to_owned();
        self.problems.push(Problem { at: key.into(), source, found, why: why.into(), fix: fix.into() });
    }

    /// Returns whether a problem with `key` was reported.
    pub(super) fn is_bad(&self, key: &str) -> bool {
        self.bad.contains(key)
    }

    /// Reads a string that passes `check`.
    pub(super) fn checked<T>(&mut self, key: &str, slot: &mut T, check: impl Fn(&str) -> Parsed<T>) {
        self.read(key, slot, |v, _| check(&text(v, "put the value in quotes")?));
    }

    pub(super) fn flag(&mut self, key: &str, slot: &mut bool) {
        self.read(key, slot, |v, texts| match v {
            Value::Bool(_, b) => Ok(*b),
            Value::String(_, s) if texts && s == "true" => Ok(true),
            Value::String(_, s) if texts && s == "false" => Ok(false),
            _ => wrong("a boolean is required", "write true or false, without quotes"),
        });
    }

    pub(super) fn number<T>(&mut self, key: &str, slot: &mut T, range: RangeInclusive<u64>)
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
            let Some(n) = n else { return wrong("a whole number is required", fix) };
            match u64::try_from(n).ok().filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok()) {
                Some(n) => Ok(n),
                None => wrong("the number is out of range", fix),
            }
        });
    }

    pub(super) fn duration(&mut self, key: &str, slot: &mut Duration, least: &str, most: &str) {
        self.read(key, slot, |v, _| duration_between(v, least, most));
    }

    /// Reads a duration from `least` to `most`, or `"never"`, which is `None`.
    pub(super) fn duration_or_never(&mut self, key: &str, slot: &mut Option<Duration>, least: &str, most: &str) {
        self.read(key, slot, |v, _| match v.as_str() {
            Some("never") => Ok(None),
            _ => duration_between(v, least, most).map(Some),
        });
    }

    pub(super) fn seconds(&mut self, key: &str, slot: &mut u64, least: &str, most: &str) {
        let mut d = Duration::from_secs(*slot);
        self.duration(key, &mut d, least, most);
        if d.subsec_nanos() != 0 {
            self.refuse(key, "this is counted in whole seconds", "write a duration such as \"30s\"");
        }
        *slot = d.as_secs();
    }

    /// Reads a whole number in a range, or "unlimited".
    pub(super) fn at_most(&mut self, key: &str, slot: &mut Option<u32>, range: RangeInclusive<u32>) {
        self.read(key, slot, |v, texts| {
            let fix = format!("write a whole number from {} to {}, or \"unlimited\"", range.start(), range.end());
            let n = match v {
                Value::String(_, s) if s == "unlimited" => return Ok(None),
                Value::Num(_, n) => n.to_i128().filter(|_| !matches!(n, Num::F32(_) | Num::F64(_))),
                Value::String(_, s) if texts => s.trim().parse().ok(),
                _ => None,
            };
            let Some(n) = n else { return wrong("a whole number is required", fix) };
            match u32::try_from(n).ok().filter(|n| range.contains(n)) {
                Some(n) => Ok(Some(n)),
                None => wrong("the number is out of range", fix),
            }
        });
    }

    /// Reads a number of model calls, or "unlimited".
    pub(super) fn turns(&mut self, key: &str, slot: &mut Option<u64>) {
        let mut n = slot.and_then(|n| u32::try_from(n).ok());
        self.at_most(key, &mut n, 1..=1_000_000);
        *slot = n.map(u64::from);
    }

    /// Reads an amount of money, or "unlimited".
    pub(super) fn money(&mut self, key: &str, slot: &mut Option<u64>) {
        self.read(key, slot, |v, _| {
            let text = amount(v, "write an amount such as \"5.00 USD\", or \"unlimited\"")?;
            if text == "unlimited" { Ok(None) } else { units::money(&text).map(Some) }
        });
    }

    /// Reads a number of tokens, or "unlimited".
    pub(super) fn count(&mut self, key: &str, slot: &mut Option<u64>) {
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
                    "a number of tokens is required",
                    "write a whole number from 1 without quotes, such as 200000, or \"unlimited\"",
                ),
            }
        });
    }

    /// Reads ascending percentages; in the environment separated by commas.
    pub(super) fn percentages(&mut self, key: &str, slot: &mut Vec<u8>) {
        self.read(key, slot, |v, texts| {
            let fix = "write percentages in ascending order, such as [50, 80, 100]; [] = none";
            let percentage =
                |n: Option<i128>| match n.and_then(|n| u8::try_from(n).ok()).filter(|n| (1..=100).contains(n)) {
                    Some(n) => Ok(n),
                    None => wrong("one entry is not a whole number from 1 to 100", fix),
                };
            let Some(numbers) = units::whole_numbers(v, texts) else {
                return wrong("a list of percentages is required", fix);
            };
            let percentages: Vec<u8> = numbers.into_iter().map(percentage).collect::<Parsed<_>>()?;
            match percentages.is_sorted_by(|a, b| a < b) && percentages.len() <= 10 {
                true => Ok(percentages),
                false => wrong("the percentages are not in ascending order, or there are more than ten", fix),
            }
        });
    }

    /// Reads a list of whole numbers in a range; in the environment separated by commas.
    pub(super) fn numbers(&mut self, key: &str, slot: &mut Vec<i32>, range: RangeInclusive<i128>) {
        self.read(key, slot, |v, texts| {
            let fix = format!("write a list of whole numbers from {} to {}", range.start(), range.end());
            let in_range = |n: Option<i128>| n.filter(|n| range.contains(n)).and_then(|n| i32::try_from(n).ok());
            match units::whole_numbers(v, texts).and_then(|all| all.into_iter().map(in_range).collect()) {
                Some(numbers) => Ok(numbers),
                None => wrong("a list of whole numbers in the range is required", fix),
            }
        });
    }

    /// Reads a list of strings that pass `check`; in the environment separated by commas.
    pub(super) fn list(&mut self, key: &str, slot: &mut Vec<String>, check: impl Fn(&str) -> Parsed<()>) {
        self.read(key, slot, |v, texts| {
            let items: Vec<String> = match v {
                Value::Array(_, items) => {
                    let fix = "write a list of strings, such as [\"one\", \"two\"]";
                    items.iter().map(|i| text(i, fix)).collect::<Parsed<_>>()?
                }
                Value::String(_, s) if texts => {
                    s.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
                }
                _ => return wrong("a list is required", "write a list of strings, such as [\"one\", \"two\"]"),
            };
            items.iter().try_for_each(|i| check(i))?;
            Ok(items)
        });
    }

    /// Reads a list of strings, each parsed by `parse`. A single string is a list of one, in the environment as well.
    pub(super) fn one_or_more<T>(&mut self, key: &str, slot: &mut Vec<T>, parse: impl Fn(&str) -> Parsed<T>) {
        self.read(key, slot, |v, _| {
            let fix = "write a text, or a list of texts such as [\"one\", \"two\"]";
            match v {
                Value::Array(_, items) => items.iter().map(|i| parse(&text(i, fix)?)).collect(),
                other => Ok(vec![parse(&text(other, fix)?)?]),
            }
        });
    }

    /// Returns the names of the tables in `table` of all layers. Refuses other values and invalid names.
    pub(super) fn names(&mut self, table: &str) -> Vec<String> {
        self.names_that(table, is_name, "use 1 to 40 of a-z, 0-9, _ and -, starting with a letter")
    }

    /// Returns the names of the tables in `table` of all layers, where `is_valid` decides which names are valid.
    pub(super) fn names_that(&mut self, table: &str, is_valid: impl Fn(&str) -> bool, fix: &str) -> Vec<String> {
        let (mut names, mut problems) = (BTreeSet::new(), Vec::new());
        for layer in &self.layers {
            let Some(Value::Dict(_, inner)) = find(&layer.values, table) else { continue };
            for (name, value) in inner {
                let key = joined(table, name);
                let path = printable(&key);
                let problem = match value {
                    Value::Dict(..) if is_valid(name) && names.len() < MAX_NAMES => {
                        names.insert(name.clone());
                        continue;
                    }
                    Value::Dict(..) if is_valid(name) => Problem {
                        at: path.clone(),
                        source: layer.source_of(&key),
                        found: "table".into(),
                        why: format!("there are more than {MAX_NAMES} tables in [{table}]"),
                        fix: "remove those that are not used".into(),
                    },
                    Value::Dict(..) => Problem {
                        at: path.clone(),
                        source: layer.source_of(&key),
                        found: "table".into(),
                        why: "this can't be a name".into(),
                        fix: fix.to_owned(),
                    },
                    other => not_a_table(&path, &layer.source_of(&key), other),
                };
                problems.push(problem);
                self.known.push(key);
            }
        }
        self.problems.append(&mut problems);
        names.into_iter().collect()
    }

    /// Reads a table of named strings, merged over the layers. Names are case-sensitive, so the environment cannot set
    /// one.
    pub(super) fn texts(
        &mut self,
        key: &str,
        slot: &mut BTreeMap<String, String>,
        check: impl Fn(&str, &str) -> Parsed<()>,
    ) {
        self.known.push(key.to_owned());
        let mut problems = Vec::new();
        for layer in &self.layers {
            let Some(value) = find(&layer.values, key) else { continue };
            let fix = format!("write [{key}] and lines of the form name = \"text\" below");
            let read = match value {
                _ if layer.texts => wrong(
                    "a variable cannot set this table, because its names are case-sensitive",
                    "set it in the file",
                ),
                Value::Dict(_, inner) if inner.len() > MAX_NAMES => wrong("it has too many entries", "leave some out"),
                Value::Dict(_, inner) => inner
                    .iter()
                    .map(|(name, value)| {
                        let text = text(value, &fix)?;
                        check(name, &text)?;
                        Ok((name.clone(), text))
                    })
                    .collect::<Parsed<BTreeMap<String, String>>>(),
                _ => wrong("a table of strings is required", fix),
            };
            match read {
                Ok(read) if layer.merged => slot.extend(read),
                Ok(_) => {}
                Err(e) => problems.push(Problem {
                    at: key.to_owned(),
                    source: layer.source_of(key),
                    found: kind(value).to_owned(),
                    why: e.why,
                    fix: e.fix,
                }),
            }
        }
        if !problems.is_empty() {
            self.bad.insert(key.to_owned());
            self.problems.append(&mut problems);
        }
        let Some(Value::Dict(_, merged)) = find(&self.merged, key) else { return };
        for (name, value) in merged {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            let name = if plain { name.clone() } else { format!("\"{}\"", crate::telemetry::escape(name)) };
            let shown = crate::telemetry::redact(&written(value)).into_owned();
            let source = self.source(value);
            self.entries.push(Entry { key: format!("{key}.{name}"), value: shown, source });
        }
    }

    /// Refuses every key that is not known, and every variable that does not name a key.
    pub(super) fn refuse_unknown(&mut self, unknown_variables: &[String]) {
        let known = std::mem::take(&mut self.known);
        let mut found = Vec::new();
        for layer in &self.layers {
            walk(&layer.values, "", layer, &known, &mut found);
        }
        for name in unknown_variables {
            let key = name.trim_start_matches("SKEP_").to_ascii_lowercase();
            let whole = known.iter().find(|k| k.replace('.', "_") == key);
            let near = whole.map(String::as_str).or_else(|| nearest(&key, &known));
            found.push(Problem {
                at: printable(name),
                source: "environment".into(),
                found: String::new(),
                why: "the variable does not name a key".into(),
                fix: match near {
                    Some(k) => format!("use {}", variable(k)),
                    None => "unset it; keys are written SKEP_<TABLE>__<KEY>, with two underscores".into(),
                },
            });
        }
        self.problems.append(&mut found);
    }
}

fn walk(values: &Dict, prefix: &str, layer: &Layer, known: &[String], found: &mut Vec<Problem>) {
    for (name, value) in values {
        let path = joined(prefix, name);
        if known.contains(&path) {
            continue;
        }
        let is_table = known.iter().any(|k| k.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')));
        let new = renamed::replacement(&path);
        let (why, fix) = match (value, new) {
            (Value::Dict(_, inner), None) if is_table => {
                walk(inner, &path, layer, known, found);
                continue;
            }
            (other, None) if is_table => {
                found.push(not_a_table(&path, &layer.source_of(&path), other));
                continue;
            }
            (_, Some(new)) => {
                let new = if layer.texts { variable(&new) } else { new };
                (UNKNOWN_KEY, format!("it is now `{new}`"))
            }
            (other, None) => {
                let is_table = matches!(other, Value::Dict(..));
                (UNKNOWN_KEY, unknown_fix(&path, is_table, layer.texts, known))
            }
        };
        found.push(Problem {
            at: printable(&path),
            source: layer.source_of(&path),
            found: kind(value).to_owned(),
            why: why.to_owned(),
            fix,
        });
    }
}

/// Formats a value as it is written in a file.
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
