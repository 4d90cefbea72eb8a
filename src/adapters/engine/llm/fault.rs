//! Faults of model calls, classified by what to do next: retry, wait, ask a person, send less.

use crate::domain::Timestamp;
use crate::platform::terminal_text;
use crate::providers::cause::{Advice, Cause, Reaction, Verdict, is_web_page};
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
    /// The provider refused the request without an explanation. Some do so when the conversation is too long; otherwise
    /// a person has to do this first.
    Unexplained(String),
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
        let (source, began) = (root(error).unwrap_or_default(), began || !error.is_connect());
        let what = format!("{what} {source}");
        match Cause::of_connection(&source) {
            Some(cause) => Fault { began, ..self.caused(cause, what.trim_end()) },
            None => self.transient(what.trim_end(), began),
        }
    }

    /// Classifies an error of the library.
    pub fn fault(&self, error: &Error, began: bool) -> Fault {
        match error {
            Error::HttpError { status, body, headers, .. } => {
                self.response(Some(status.as_u16()), headers, body, began)
            }
            Error::ChatResponse { body, .. } => self.response(None, &HeaderMap::new(), &body.to_string(), began),
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

    /// Classifies an error response; without a status, an error within a stream.
    pub fn response(&self, status: Option<u16>, headers: &HeaderMap, body: &str, began: bool) -> Fault {
        let verdict = Verdict::of_response(status, headers, body.as_bytes(), self.now);
        let message = match self.clean(&error_message(body)) {
            message if message.is_empty() => String::new(),
            message => format!(": {message}"),
        };
        let how = match status {
            Some(status) => format!("answered {status}"),
            None => "reported an error within its answer".to_owned(),
        };
        let kind = match self.kind(verdict) {
            Kind::NeedsPerson(fix) if status == Some(400) && body.trim().is_empty() => Kind::Unexplained(fix),
            kind => kind,
        };
        Fault { kind, why: format!("{} {how}{message}", self.name()), began }
    }

    /// Classifies a response that claims success but does not contain an answer; `None` = it may have been cut off.
    pub fn wrong_answer(&self, body: &str) -> Option<Fault> {
        let cause = Cause::of_wrong_answer(body.as_bytes())?;
        let what = match is_web_page(body) {
            true => "answered with a web page".to_owned(),
            false => format!("answered with an error instead of an answer: {}", self.clean(&error_message(body))),
        };
        let kind = self.kind(Verdict { cause, until: None });
        Some(Fault { kind, why: format!("{} {what}", self.name()), began: false })
    }

    /// Creates the fault of a cause that Skep itself observed.
    pub fn caused(&self, cause: Cause, what: &str) -> Fault {
        let kind = self.kind(Verdict { cause, until: None });
        Fault { kind, why: format!("{} {}", self.name(), self.clean(what)), began: true }
    }

    fn kind(&self, verdict: Verdict) -> Kind {
        let model = terminal_text::sanitize(self.model.as_bytes());
        let advice = Advice { provider: self.provider, model: &model, role: Some(self.role) };
        match (verdict.cause.reaction(), verdict.until) {
            (Reaction::Shorten, _) => Kind::TooLong,
            (Reaction::Wait, until) | (Reaction::Retry, until @ Some(_)) => Kind::Cooldown(until),
            (Reaction::Retry, None) => Kind::Transient,
            (Reaction::AskPerson, _) => Kind::NeedsPerson(advice.fix(verdict.cause).unwrap_or_default()),
        }
    }
}

/// Returns the message in an error body, or the body itself.
fn error_message(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let json = json.get(0).unwrap_or(&json);
    let paths = ["/error/metadata/raw", "/error/message", "/message", "/error", "/detail", "/detail/0/msg"];
    let found = paths.iter().find_map(|p| json.pointer(p)?.as_str()).filter(|text| !text.trim().is_empty());
    match found {
        Some(text) => text.to_owned(),
        // A page says it in its title, if at all.
        None if is_web_page(body) => {
            let title = body.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
            format!("a web page{}", title.map_or(String::new(), |(title, _)| format!(" ({})", title.trim())))
        }
        None => body.trim().to_owned(),
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
        asked.response(Some(status), &headers, body, false)
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
        assert!(needs(&of(403, &[], "{}")).starts_with("check the provider's message"));
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
        assert!(matches!(of(400, &[], "").kind, Kind::Unexplained(_)));
        assert!(matches!(of(400, &[], "bad").kind, Kind::NeedsPerson(_)));
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
    fn errors_within_a_stream_and_wrong_answers_are_distinguished() {
        let provider = provider();
        let context = CallContext { provider: &provider, model: "m1", role: "dev", now: Timestamp(1_000_000) };
        let stream = |body| context.response(None, &HeaderMap::new(), body, true).kind;
        assert_eq!(stream(r#"{"type":"error","error":{"type":"overloaded_error"}}"#), Kind::Transient);
        assert_eq!(stream(r#"{"error":{"type":"rate_limit_error"}}"#), Kind::Cooldown(None));
        assert_eq!(stream(r#"{"message":"x","code":"rate_limit_exceeded"}"#), Kind::Cooldown(None));
        assert_eq!(stream(r#"{"code":502,"message":"x"}"#), Kind::Transient);
        assert_eq!(stream(r#"{"message":"who knows"}"#), Kind::Transient);
        assert!(matches!(stream(r#"{"error":{"type":"invalid_request_error","message":"no"}}"#), Kind::NeedsPerson(_)));

        let page = context.wrong_answer("<!DOCTYPE html><html><title>Models</title></html>").unwrap();
        assert!(page.why.contains("web page") && needs(&page).contains("base_url"), "{page:?}");
        let json =
            context.wrong_answer(r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#).unwrap();
        assert!(json.why.contains("Unexpected endpoint") && needs(&json).contains("base_url"), "{json:?}");
        assert_eq!(context.wrong_answer(r#"{"choices":[]}"#), None);
        assert_eq!(context.wrong_answer("data: {}"), None);
    }

    #[test]
    fn an_untrusted_certificate_needs_a_person() {
        let provider = provider();
        let context = CallContext { provider: &provider, model: "m1", role: "dev", now: Timestamp(1_000_000) };
        let fault = context.caused(Cause::Tls, "cannot be reached (invalid peer certificate: UnknownIssuer)");
        assert!(needs(&fault).contains("SSL_CERT_FILE") && fault.why.contains("UnknownIssuer"), "{fault:?}");
    }
}
