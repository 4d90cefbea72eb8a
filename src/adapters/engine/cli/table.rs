//! Where in an agent's output things stand: a small table in the configuration, so that the next agent needs no Rust.
//!
//! | key | is |
//! |---|---|
//! | `format` | `lines` (a JSON value a line, as written), `json` (one document), `text` |
//! | `said`, `thought`, `did` | words, thoughts, tools and commands, as they come |
//! | `answer` | its final words, where they stand apart from `said` |
//! | `session` | its session's name |
//! | `tokens`, `cost_usd` | figures; all that are found are added up |
//! | `error` | what went wrong, by its own word |
//! | `wait`, `fix` | read by [`super::super::driven`] |
//!
//! A place is `[CONDITION,…] POINTER`, several are joined by ` | `. A pointer is `/a/b/0`, with `*` for every element; a condition is
//! `POINTER=TEXT`, or `NAME=TEXT` for a member at the top: `type=item.completed,/item/type=agent_message /item/text`.

use serde_json::Value;
use std::collections::BTreeMap;

/// The keys there are.
const KEYS: &[&str] =
    &["answer", "cost_usd", "did", "error", "fix", "format", "said", "session", "thought", "tokens", "wait"];
/// The most values taken from one JSON value for one key: a document can be as wide as it is long.
const VALUES_MAX: usize = 1_000;

/// How its output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON value a line.
    Lines,
    /// One JSON document.
    Json,
    /// Text.
    Text,
}

/// Where one thing stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    when: Vec<(Vec<String>, String)>,
    at: Vec<String>,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Table {
    /// How the output is written.
    pub format: Format,
    places: BTreeMap<&'static str, Vec<Selector>>,
}

impl Table {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn read(output: &BTreeMap<String, String>) -> Result<Table, String> {
        let mut places = BTreeMap::new();
        for (key, text) in output {
            let Some(key) = KEYS.iter().find(|k| *k == key).copied() else {
                return Err(format!("output.{key} is unknown; there are: {}", KEYS.join(", ")));
            };
            if !matches!(key, "format" | "wait" | "fix") {
                let read: Result<Vec<_>, _> = text.split(" | ").map(place).collect();
                places.insert(key, read.map_err(|why| format!("output.{key}: {why}"))?);
            }
        }
        let format = match output.get("format").map(String::as_str) {
            None if places.is_empty() => Format::Text,
            None | Some("lines") => Format::Lines,
            Some("json") => Format::Json,
            Some("text") if places.is_empty() => Format::Text,
            Some("text") => return Err("output.format is \"text\", in which nothing has a place".to_owned()),
            Some(other) => return Err(format!("output.format is {other:?}; there are: lines, json, text")),
        };
        Ok(Table { format, places })
    }

    /// The texts of a key in a value.
    pub fn texts(&self, key: &str, value: &Value) -> Vec<String> {
        let text = |v: &Value| match v {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            // What is worth telling as a text and is none (an error's object) is told as it is.
            Value::Object(_) | Value::Array(_) => Some(v.to_string()),
            Value::Null | Value::Bool(_) => None,
        };
        self.found(key, value).into_iter().filter_map(text).filter(|t| !t.is_empty()).collect()
    }

    /// The sum of a key's figures in a value; `None` = there is none.
    pub fn sum(&self, key: &str, value: &Value) -> Option<f64> {
        let figures = self.found(key, value).into_iter().filter_map(|v| match v {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        });
        figures.filter(|f: &f64| f.is_finite() && *f >= 0.0).fold(None, |sum, f| Some(sum.unwrap_or(0.0) + f))
    }

    fn found<'v>(&self, key: &str, value: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        for place in self.places.get(key).into_iter().flatten() {
            let holds = place.when.iter().all(|(at, text)| {
                let mut here = Vec::new();
                walk(value, at, &mut here);
                here.into_iter().any(|v| {
                    v.as_str().map_or_else(|| serde_json::to_string(v).is_ok_and(|shown| shown == *text), |s| s == text)
                })
            });
            if holds {
                walk(value, &place.at, &mut found);
            }
        }
        found
    }
}

/// Collects what a pointer leads to.
fn walk<'v>(value: &'v Value, at: &[String], found: &mut Vec<&'v Value>) {
    let Some((name, rest)) = at.split_first() else {
        if found.len() < VALUES_MAX {
            found.push(value);
        }
        return;
    };
    match value {
        Value::Object(members) if name == "*" => members.values().for_each(|v| walk(v, rest, found)),
        Value::Array(elements) if name == "*" => elements.iter().for_each(|v| walk(v, rest, found)),
        Value::Object(members) => members.get(name).into_iter().for_each(|v| walk(v, rest, found)),
        Value::Array(elements) => {
            let element = name.parse::<usize>().ok().and_then(|i| elements.get(i));
            element.into_iter().for_each(|v| walk(v, rest, found));
        }
        _ => {}
    }
}

fn place(text: &str) -> Result<Selector, String> {
    let (when, at) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
    let when = when.split(',').map(str::trim).filter(|c| !c.is_empty());
    let condition = |text: &str| {
        let (at, value) = text.split_once('=').ok_or_else(|| format!("the condition {text:?} has no ="))?;
        let at = if at.starts_with('/') { pointer(at)? } else { vec![at.to_owned()] };
        Ok((at, value.to_owned()))
    };
    Ok(Selector { when: when.map(condition).collect::<Result<_, String>>()?, at: pointer(at)? })
}

fn pointer(text: &str) -> Result<Vec<String>, String> {
    let names =
        text.strip_prefix('/').ok_or_else(|| format!("{text:?} is no pointer; it begins with /, as /result/text"))?;
    Ok(names.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(keys: &[(&str, &str)]) -> Result<Table, String> {
        Table::read(&keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn places_have_conditions_alternatives_and_every_element() {
        let table = table(&[
            ("said", "type=message,/part/kind=text /part/text | type=note /text"),
            ("tokens", "/stats/*/in | /stats/*/out"),
            ("error", "ok=false /why"),
        ])
        .unwrap();
        let said = |value| table.texts("said", &value);
        assert_eq!(said(json!({"type": "message", "part": {"kind": "text", "text": "a"}})), ["a"]);
        assert!(said(json!({"type": "message", "part": {"kind": "tool", "text": "a"}})).is_empty());
        assert_eq!(said(json!({"type": "note", "text": 5})), ["5"]);
        assert!(said(json!([1, "type", null])).is_empty());
        let value =
            json!({"stats": {"m/1": {"in": 3, "out": "4"}, "m/2": {"in": 5, "out": -1}}, "ok": false, "why": {"a": 1}});
        assert_eq!(table.sum("tokens", &value), Some(12.0));
        assert_eq!(table.sum("cost_usd", &value), None);
        assert_eq!(table.texts("error", &value), [r#"{"a":1}"#]);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said() {
        for (key, text, part) in [
            ("sayd", "/x", "output.sayd is unknown"),
            ("said", "x", "begins with /"),
            ("said", "type /x", "has no ="),
            ("format", "xml", "lines, json, text"),
        ] {
            assert!(table(&[(key, text)]).unwrap_err().contains(part), "{key} {text}");
        }
        assert!(table(&[("format", "text"), ("said", "/x")]).is_err());
        assert_eq!(table(&[]).unwrap().format, Format::Text);
        assert_eq!(table(&[("wait", "busy")]).unwrap().format, Format::Text);
        assert_eq!(table(&[("said", "/x")]).unwrap().format, Format::Lines);
    }
}
