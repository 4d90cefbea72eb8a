//! Answers of a forge's API, and requests without one.

use crate::ports::PortError;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::error::Error;

/// The body of an error. GitLab's message may also be a list, or a list for each field.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    message: Value,
    errors: Option<Vec<Value>>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Returns the texts of a message, each with its field.
fn texts(message: &Value) -> Vec<String> {
    match message {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.iter().map(|(field, of)| format!("{field} {}", texts(of).join(", "))).collect(),
        _ => Vec::new(),
    }
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns a header; `None` = it is missing or empty.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// Returns the forge's message, with the messages of its details, on one line.
    pub fn message(&self) -> String {
        let body: ErrorBody = serde_json::from_slice(&self.body).unwrap_or_default();
        let details = body.errors.iter().flatten().filter_map(|detail| {
            let part = |name: &str| detail.get(name).and_then(|v| v.as_str());
            let of_field = || Some(format!("{} {}", part("field")?, part("code").unwrap_or("is invalid")));
            detail.as_str().or(part("message")).map(str::to_owned).or_else(of_field)
        });
        let named = body.error.iter().chain(&body.error_description).cloned();
        let all = texts(&body.message).into_iter().chain(named).chain(details).filter(|text| !text.is_empty());
        let all: Vec<String> = all.collect();
        let line = all.join(": ").split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    }

    /// Returns whether the forge's message contains a text, whatever its case.
    pub fn says(&self, text: &str) -> bool {
        self.message().to_ascii_lowercase().contains(&text.to_ascii_lowercase())
    }
}

/// Returns the host of a URL, for messages.
pub(super) fn host(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest.split('/').next().unwrap_or(rest))
}

/// Formats an error with its causes. octocrab's own texts are only names.
pub(super) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |e| (*e).source());
    let last = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    last.lines().next().unwrap_or_default().to_owned()
}

/// Creates the error for a request without an answer.
pub(super) fn transport(error: &(dyn Error + 'static), is_read: bool, url: &str, doing: &str) -> PortError {
    let mut causes = std::iter::successors(Some(error), |e| (*e).source());
    let is_unsent = causes.any(|e| e.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect));
    let what = format!("cannot {doing}: no answer from {}: {}", host(url), chain(error));
    if is_read || is_unsent { PortError::transient(what) } else { PortError::Unknown { what } }
}
