//! Why a provider did not answer, read from its status and its words by one table ([`signatures`]).
//!
//! Invariant: nothing is guessed. What no row of the table describes stays [`Cause::Unclassified`], and the person
//! reads the provider's own words.

use crate::domain::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::Value;
use signatures::{SIGNATURES, Source};

mod advice;
#[cfg(test)]
mod samples;
mod signatures;

pub use advice::Advice;

/// Part of a body that is read, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Upper bound of the words that are compared with the table, in bytes.
const MAX_WORDS_BYTES: usize = 16 * 1024;
/// Depth to which a JSON body is searched.
const MAX_DEPTH: usize = 8;
/// Members of an error body that a provider writes itself. Others may repeat the request, and so anything.
const MEMBERS: &[&str] = &[
    "error",
    "errors",
    "message",
    "msg",
    "code",
    "type",
    "status",
    "detail",
    "details",
    "reason",
    "error_description",
    "error_code",
    "error_type",
    "title",
    "metadata",
    "reasons",
    "raw",
    "innererror",
    "provider_error",
    "blockreason",
    "__type",
    "info",
    "cause",
];

/// Why a provider did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The key is missing, wrong, expired or revoked.
    Key,
    /// An agent's own login is missing or has expired.
    Login,
    /// The key is valid but lacks a permission, or its account must be verified or enabled first.
    Permission,
    /// The account has no credit left, or a spending limit is reached that only a person can raise.
    Credit,
    /// The country or region is not served.
    Region,
    /// The request or the answer was blocked for its content.
    Moderation,
    /// The account's privacy or routing settings exclude every provider of the model.
    DataPolicy,
    /// A firewall or content delivery network answered instead of the provider.
    Firewall,
    /// The model does not exist there, or the account has no access to it.
    Model,
    /// The server has the model but has not loaded it.
    NotLoaded,
    /// No API is served at this address.
    Address,
    /// The address redirects. A key does not follow a redirect.
    Redirect,
    /// The model or the server cannot call tools.
    Tools,
    /// The requested output limit is larger than the model's.
    OutputLimit,
    /// A parameter of the request is not supported by the model.
    Parameter,
    /// The conversation does not fit into the model's context window.
    TooLong,
    /// The model does not fit into the server's memory.
    Memory,
    /// A rate limit, quota or subscription limit is used up for now.
    Limit,
    /// The server is overloaded, restarts or loads the model.
    Overloaded,
    /// The connection is not trusted, or is not the expected protocol.
    Tls,
    /// A proxy in between requires a login or refuses the connection.
    Proxy,
    /// The server failed, without saying why.
    ServerFault,
    /// No signature matches.
    Unclassified,
}

/// Required reaction to a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Try again soon.
    Retry,
    /// Wait until the limit is reset.
    Wait,
    /// Send less.
    Shorten,
    /// A person has to act first.
    AskPerson,
}

impl Cause {
    /// Returns the required reaction.
    pub fn reaction(self) -> Reaction {
        match self {
            Cause::Overloaded | Cause::ServerFault => Reaction::Retry,
            Cause::Limit => Reaction::Wait,
            Cause::TooLong => Reaction::Shorten,
            _ => Reaction::AskPerson,
        }
    }

    /// Classifies an error response, or an error within a stream (without a status).
    pub fn of_response(status: Option<u16>, body: &[u8]) -> Cause {
        let body = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY_BYTES)]);
        let (status, words) = match serde_json::from_str::<Value>(&body) {
            Ok(json) => (status.or_else(|| code(&json)), words(&json)),
            Err(_) => (status, body.into_owned()),
        };
        find(status, &words, Source::Response).unwrap_or(match status {
            Some(_) => Cause::Unclassified,
            // The status of the response was fine, so the request was, too.
            None => Cause::ServerFault,
        })
    }

    /// Classifies a complete response that is not an answer despite its success status. `None` = its form is unknown.
    pub fn of_wrong_answer(body: &[u8]) -> Option<Cause> {
        let body = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY_BYTES)]);
        if is_web_page(&body) {
            return find(None, &body, Source::Response).or(Some(Cause::Address));
        }
        let json = serde_json::from_str::<Value>(&body).ok()?;
        ["error", "detail", "message"].iter().any(|member| json.get(member).is_some_and(|m| !m.is_null())).then(|| {
            let status = code(&json);
            find(status, &words(&json), Source::Response).unwrap_or(Cause::Unclassified)
        })
    }

    /// Classifies an error of the connection by its words.
    pub fn of_connection(error: &str) -> Option<Cause> {
        find(None, error, Source::Connection)
    }

    /// Classifies the error of a driven agent, which repeats its provider's words. `None` = it concerns the work.
    pub fn of_agent(error: &str) -> Option<Cause> {
        find(status_in(error), error, Source::Agent)
    }
}

/// Finds the first signature that matches.
fn find(status: Option<u16>, words: &str, source: Source) -> Option<Cause> {
    let words: String = words[..words.floor_char_boundary(MAX_WORDS_BYTES)].to_lowercase();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    SIGNATURES.iter().find(|signature| signature.matches(status, &words, source)).map(|signature| signature.cause)
}

/// Returns whether a body is a web page instead of an answer of an API.
pub fn is_web_page(body: &str) -> bool {
    let start = body.trim_start().get(..15).unwrap_or(body.trim_start()).to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head")
}

/// Returns the HTTP status that an error within a stream names.
fn code(json: &Value) -> Option<u16> {
    let error = json.get("error").unwrap_or(json);
    let code = ["code", "status_code", "status"].iter().find_map(|k| match error.get(k)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    code.and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c))
}

/// Collects what the provider itself wrote into an error body.
fn words(json: &Value) -> String {
    fn collect(json: &Value, depth: usize, found: &mut String) {
        match json {
            _ if depth == 0 || found.len() > MAX_WORDS_BYTES => {}
            Value::String(text) => {
                // A gateway puts the provider's own error into a text.
                match serde_json::from_str::<Value>(text) {
                    Ok(inner @ (Value::Object(_) | Value::Array(_))) => collect(&inner, depth - 1, found),
                    _ => {
                        found.push_str(text);
                        found.push('\n');
                    }
                }
            }
            Value::Number(number) => found.push_str(&format!("{number}\n")),
            Value::Array(items) => items.iter().for_each(|item| collect(item, depth - 1, found)),
            Value::Object(fields) => {
                let known = fields.iter().filter(|(name, _)| MEMBERS.contains(&name.to_ascii_lowercase().as_str()));
                known.for_each(|(name, value)| {
                    // A number alone could be anything: a limit, a time.
                    let digits = value.is_number() || value.as_str().is_some_and(|v| v.parse::<u32>().is_ok());
                    if digits && name.eq_ignore_ascii_case("code") {
                        found.push_str("code=");
                    }
                    collect(value, depth - 1, found);
                });
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
    let mut found = String::new();
    collect(json, MAX_DEPTH, &mut found);
    found
}

/// Returns the HTTP status that a text names: a number from 400 to 599 that stands alone, shortly after a word that
/// names it as a status.
fn status_in(text: &str) -> Option<u16> {
    let lower = text.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    (0..bytes.len().saturating_sub(2)).find_map(|at| {
        let number = lower.get(at..at + 3)?.parse::<u16>().ok().filter(|n| (400..600).contains(n))?;
        let around = [at.checked_sub(1).map(|i| bytes[i]), bytes.get(at + 3).copied()];
        let alone = around.into_iter().flatten().all(|b| !b.is_ascii_alphanumeric() && !b".-_/".contains(&b));
        let before = &lower[lower.floor_char_boundary(at.saturating_sub(16))..at];
        (alone && ["error", "status", "http", "code"].iter().any(|name| before.contains(name))).then_some(number)
    })
}

/// What is known about a fault: its cause, and the moment when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// When the provider can be called again, if it said so and waiting helps.
    pub until: Option<Timestamp>,
}

impl Verdict {
    /// Judges an error response.
    pub fn of_response(status: Option<u16>, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
        let cause = Cause::of_response(status, body);
        let waits = matches!(cause.reaction(), Reaction::Wait | Reaction::Retry);
        Verdict { cause, until: waits.then(|| super::quota::reset(headers, body, now)).flatten() }
    }

    /// Judges the error of a driven agent. `None` = it concerns the work.
    pub fn of_agent(error: &str, now: Timestamp) -> Option<Verdict> {
        let cause = Cause::of_agent(error)?;
        let waits = matches!(cause.reaction(), Reaction::Wait | Reaction::Retry);
        Some(Verdict { cause, until: waits.then(|| super::quota::reset_in_text(error, now)).flatten() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_providers_own_words_are_read() {
        let echo = br#"{"detail":[{"type":"missing","msg":"Field required","input":"incorrect api key provided"}]}"#;
        assert_eq!(Cause::of_response(Some(422), echo), Cause::Unclassified);
        let nested = br#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"prompt is too long: 1 tokens > 2 maximum\"}}"}}}"#;
        assert_eq!(Cause::of_response(Some(400), nested), Cause::TooLong);
    }

    #[test]
    fn a_status_in_a_text_stands_alone_and_is_named() {
        for (text, status) in [
            ("API Error: 429 {}", Some(429)),
            ("status code: 503.", None),
            ("unexpected status 503 Service Unavailable", Some(503)),
            ("HTTP 401", Some(401)),
            ("test_401 failed with 429 errors", None),
            ("error in line 4290", None),
            ("error: v1.401.2", None),
            ("üüüüüüüüüüüüüüüü 429", None),
        ] {
            assert_eq!(status_in(text), status, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_classified_without_a_panic(status in proptest::option::of(0u16..1000), text in ".{0,300}") {
            let _cause = Cause::of_response(status, text.as_bytes());
            let _cause = (Cause::of_agent(&text), Cause::of_wrong_answer(text.as_bytes()), Cause::of_connection(&text));
        }
    }
}
