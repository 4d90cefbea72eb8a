//! Faults of model calls, classified by what to do next: retry, wait, ask a person, send less.

use crate::domain::Timestamp;
use crate::platform::terminal_text;
use crate::providers::quota;
use crate::providers::settings::Provider;
use crate::telemetry::redact;
use genai::Error;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Upper bound of a provider's error message, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// Fault of one model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Required reaction.
    pub kind: Kind,
    /// Description of the fault and the model, in the provider's words if there are any.
    pub why: String,
    /// Whether an answer had started, or may have: then it is billed.
    pub began: bool,
}

/// Required reaction to a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Retry.
    Transient,
    /// Wait, until the given time if the provider named one.
    Cooldown(Option<Timestamp>),
    /// A person has to do this first.
    NeedsPerson(String),
    /// The conversation is too long for the model.
    TooLong,
}

/// Context of a call, for the text of faults.
#[derive(Clone, Copy, Debug)]
pub struct CallContext<'a> {
    /// Provider.
    pub provider: &'a Provider,
    /// Model, as the provider names it.
    pub model: &'a str,
    /// Role that makes the call.
    pub role: &'static str,
    /// Current time.
    pub now: Timestamp,
}

impl CallContext<'_> {
    /// Creates a fault of the connection, as opposed to one that the provider reported.
    pub fn transient(&self, what: &str, began: bool) -> Fault {
        Fault { kind: Kind::Transient, why: format!("{}: {}", self.name(), self.clean(what)), began }
    }

    fn name(&self) -> String {
        format!("model {} at provider {}", terminal_text::sanitize(self.model.as_bytes()), self.provider.name)
    }

    /// Shortens a provider's message and removes the key, which it may echo.
    fn clean(&self, text: &str) -> String {
        let text = match self.provider.key.as_ref().map(|k| k.expose()).filter(|k| !k.is_empty()) {
            Some(key) => text.replace(key, "***"),
            None => text.to_owned(),
        };
        let text = redact(&terminal_text::sanitize(text.as_bytes()).replace('\n', " ")).into_owned();
        text.chars().take(MAX_MESSAGE_CHARS).collect()
    }

    /// Classifies an error of the connection.
    pub fn connection(&self, error: &reqwest::Error, began: bool) -> Fault {
        let what = match () {
            () if error.is_connect() => "cannot be reached",
            () if error.is_timeout() => "did not answer in time",
            () => "connection lost",
        };
        // Only an unreachable provider certainly received nothing.
        let source = root(error).unwrap_or_default();
        self.transient(format!("{what} {source}").trim_end(), began || !error.is_connect())
    }

    /// Classifies an error of the library.
    pub fn fault(&self, error: &Error, began: bool) -> Fault {
        match error {
            Error::HttpError { status, body, headers, .. } => self.status(status.as_u16(), headers, body, began),
            Error::ChatResponse { body, .. } => {
                self.status(stream_error_status(body), &HeaderMap::new(), &body.to_string(), began)
            }
            Error::WebStream { error, cause, .. } => {
                if let Some(inner) = error.downcast_ref::<Error>() {
                    return self.fault(inner, began);
                }
                match error.downcast_ref::<reqwest::Error>() {
                    Some(e) => self.connection(e, began),
                    None => self.transient(cause, began),
                }
            }
            // An answer arrived, though unreadable.
            Error::StreamParse { serde_error, .. } => {
                self.transient(&format!("unreadable answer: {serde_error}"), true)
            }
            // These may contain the request, which does not belong in an error text.
            Error::ChatResponseGeneration { .. } | Error::JsonValueExt(_) | Error::SerdeJson(_) => {
                self.transient("unreadable answer", true)
            }
            other => {
                let fix = format!("check providers.{} in the configuration", self.provider.name);
                Fault {
                    kind: Kind::NeedsPerson(fix),
                    why: format!("{}: {}", self.name(), self.clean(&other.to_string())),
                    began,
                }
            }
        }
    }

    /// Classifies an HTTP status: that of the response, or the equivalent of an error within a stream.
    pub fn status(&self, status: u16, headers: &HeaderMap, body: &str, began: bool) -> Fault {
        let message = self.clean(&error_message(body));
        let (provider, role) = (self.provider.name.as_str(), self.role);
        let model = terminal_text::sanitize(self.model.as_bytes());
        let lower = body.chars().take(16 * 1024).collect::<String>().to_lowercase();
        let has = |patterns: &[&str]| patterns.iter().any(|p| lower.contains(p));
        let too_long = has(&[
            "context_length_exceeded",
            "maximum context length",
            "max context length",
            "exceeds the context length",
            "available context size",
            "prompt too long",
            "prompt is too long",
            "context window",
            "input token count",
            "too many tokens",
            "input is too long",
            "request_too_large",
        ]);
        let no_model = has(&["model_not_found", "model not found", "no such model", "unknown model", "invalid model"])
            || (lower.contains("model")
                && has(&["does not exist", "not found", "is not supported", "not a valid model"]));
        let kind = match status {
            _ if quota::is_out_of_credit(status, body.as_bytes()) => Kind::NeedsPerson(format!(
                "add credit to, or raise the limit of, the account of the key in {}",
                self.provider.key_source
            )),
            401 | 403 => Kind::NeedsPerson(format!("put a working key into {}", self.provider.key_source)),
            413 => Kind::TooLong,
            400 | 422 if too_long => Kind::TooLong,
            404 => Kind::NeedsPerson(self.other_model(&model)),
            400 | 422 if no_model => Kind::NeedsPerson(self.other_model(&model)),
            429 => Kind::Cooldown(quota::reset(status, headers, body.as_bytes(), self.now)),
            408 | 425 | 500..=599 => match quota::reset(status, headers, body.as_bytes(), self.now) {
                Some(at) => Kind::Cooldown(Some(at)),
                None => Kind::Transient,
            },
            300..=399 => Kind::NeedsPerson(format!("correct providers.{provider}.base_url: the address redirects")),
            _ => Kind::NeedsPerson(format!(
                "check the provider's message; correct providers.{provider}, or set role.{role}.model to a model that accepts such requests"
            )),
        };
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        Fault { kind, why: format!("{} answered {status}{message}", self.name()), began }
    }

    fn other_model(&self, model: &str) -> String {
        let (provider, role) = (&self.provider.name, self.role);
        format!(
            "{provider} does not serve the model {model} at {}: set role.{role}.model to one that it serves, or correct providers.{provider}.base_url",
            redact(&self.provider.base_url)
        )
    }
}

/// Returns the message in an error body, or the body itself.
fn error_message(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let json = json.get(0).unwrap_or(&json);
    let found = ["/error/message", "/message", "/error", "/detail"].iter().find_map(|p| json.pointer(p)?.as_str());
    found.map_or_else(|| body.trim().to_owned(), str::to_owned)
}

/// Returns the HTTP status that corresponds to an error within a stream.
pub fn stream_error_status(body: &Value) -> u16 {
    let error = body.get("error").unwrap_or(body);
    let code = ["code", "status_code", "status"].iter().find_map(|k| error.get(k)?.as_u64());
    if let Some(code) = code.and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c)) {
        return code;
    }
    let kind = ["type", "code", "status"].iter().find_map(|k| error.get(k)?.as_str()).unwrap_or_default();
    match kind {
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => 429,
        "authentication_error" | "UNAUTHENTICATED" => 401,
        "permission_error" | "PERMISSION_DENIED" => 403,
        "not_found_error" | "NOT_FOUND" => 404,
        "invalid_request_error" | "INVALID_ARGUMENT" | "context_length_exceeded" => 400,
        "request_too_large" => 413,
        "overloaded_error" => 529,
        _ => 500,
    }
}

/// Returns the innermost cause of a connection error, without the address, which may contain credentials.
fn root(error: &reqwest::Error) -> Option<String> {
    let mut source = std::error::Error::source(error)?;
    while let Some(inner) = source.source() {
        source = inner;
    }
    Some(format!("({source})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::settings::Api;
    use crate::secrets::Secret;
    use std::time::Duration;

    fn provider() -> Provider {
        Provider {
            name: "acme".to_owned(),
            api: Api::OpenAi,
            base_url: "https://user:hunter2@models.example/v1/".to_owned(),
            key: Some(Secret::new("sk-canary-0123456789")),
            key_source: "environment variable ACME_KEY".to_owned(),
            concurrency: 1,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(1),
            context_window: 1000,
            max_output_tokens: 100,
        }
    }

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
        let provider = provider();
        let asked = CallContext { provider: &provider, model: "m1", role: "dev", now: Timestamp(1_000_000) };
        let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        asked.status(status, &headers, body, false)
    }

    fn needs(fault: &Fault) -> &str {
        match &fault.kind {
            Kind::NeedsPerson(fix) => fix,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_status_has_its_reaction() {
        assert_eq!(needs(&of(401, &[], "")), "put a working key into environment variable ACME_KEY");
        assert_eq!(needs(&of(403, &[], "{}")), "put a working key into environment variable ACME_KEY");
        assert!(needs(&of(404, &[], "nope")).starts_with("acme does not serve the model m1"));
        assert!(
            needs(&of(400, &[], r#"{"error":{"message":"The model `m1` does not exist"}}"#)).contains("role.dev.model")
        );
        assert!(needs(&of(402, &[], "")).starts_with("add credit"));
        assert!(
            needs(&of(400, &[], r#"{"error":{"message":"Your credit balance is too low"}}"#)).starts_with("add credit")
        );
        assert!(needs(&of(422, &[], "bad")).contains("check the provider's message"));
        assert!(needs(&of(302, &[], "")).contains("base_url"));
        assert_eq!(of(413, &[], "").kind, Kind::TooLong);
        let long =
            r#"{"error":{"code":"context_length_exceeded","message":"This model's maximum context length is 8192"}}"#;
        assert_eq!(of(400, &[], long).kind, Kind::TooLong);
        assert_eq!(of(429, &[], "").kind, Kind::Cooldown(None));
        assert_eq!(of(429, &[("retry-after", "60")], "").kind, Kind::Cooldown(Some(Timestamp(1_060_000))));
        for status in [500, 502, 503, 529] {
            assert_eq!(of(status, &[], "").kind, Kind::Transient, "{status}");
        }
        assert_eq!(of(503, &[("retry-after", "5")], "").kind, Kind::Cooldown(Some(Timestamp(1_005_000))));
    }

    #[test]
    fn a_provider_message_is_short_clean_and_without_keys() {
        let body =
            format!(r#"{{"error":{{"message":"bad key sk-canary-0123456789 \u001b[31m{}"}}}}"#, "x".repeat(5_000));
        let fault = of(401, &[], &body);
        assert!(
            !fault.why.contains("canary") && !fault.why.contains('\u{1b}') && fault.why.len() < 500,
            "{}",
            fault.why
        );
        assert!(!format!("{:?}", of(404, &[], "")).contains("hunter2"));
    }

    #[test]
    fn errors_within_a_stream_are_distinguished() {
        for (body, status) in [
            (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, 529),
            (r#"{"error":{"type":"rate_limit_error"}}"#, 429),
            (r#"{"message":"x","code":"rate_limit_exceeded"}"#, 429),
            (r#"{"code":502,"message":"x"}"#, 502),
            (r#"{"message":"who knows"}"#, 500),
        ] {
            assert_eq!(stream_error_status(&serde_json::from_str(body).unwrap()), status, "{body}");
        }
    }
}
