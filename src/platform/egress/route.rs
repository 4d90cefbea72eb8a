//! Decides which provider endpoints may be called: those that serve its models, and no other operation of the account.

use super::wire::Wire;
use crate::providers::settings::{Api, Provider};
use axum::http::Method;
use percent_encoding::percent_decode_str;

/// Maximum length of a path.
const PATH_MAX: usize = 512;
/// Query parameters that are passed on; `key` and unknown ones are not.
const ALLOWED_QUERIES: &[&str] =
    &["after_id", "alt", "api-version", "before_id", "beta", "limit", "pageSize", "pageToken"];

/// An allowed call.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Complete URL.
    pub url: String,
    /// For paid calls: how usage is counted, and the model if the path names it.
    pub paid: Option<(Wire, Option<String>)>,
}

/// Resolves `rest` to a call at a provider. The path may repeat the version that the provider's base URL ends with.
///
/// # Errors
/// The reason why the call is not allowed.
pub fn route(provider: &Provider, method: &Method, rest: &str, query: Option<&str>) -> Result<Route, &'static str> {
    let path = percent_decode_str(rest).decode_utf8().map_err(|_| "the path is not valid UTF-8")?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@');
    if path.len() > PATH_MAX || !path.chars().all(is_allowed) {
        return Err("the path contains invalid characters");
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|p| p.is_empty() || p.chars().all(|c| c == '.')) {
        return Err("the path has an empty or relative segment");
    }
    let base = provider.base_url.trim_end_matches('/');
    let base_path = base.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let base_has_version = base_path.rsplit('/').next().is_some_and(is_version);
    let path_has_version = parts.first().is_some_and(|part| is_version(part));
    if base_has_version && path_has_version {
        parts.remove(0);
    }
    // If the base URL has no version, the caller may name one.
    let skipped = usize::from(path_has_version && !base_has_version);
    let endpoint = parts.get(skipped..).unwrap_or_default();
    let paid = classify(provider.api, method, endpoint).ok_or(
        "only model endpoints are allowed: messages, completions, responses, generateContent, token counting, the model list",
    )?;
    let mut url = format!("{base}/{}", parts.join("/"));
    let pairs: Vec<&str> = query.unwrap_or_default().split('&').filter(|pair| is_allowed_query(pair)).collect();
    if !pairs.is_empty() {
        url.push('?');
        url.push_str(&pairs.join("&"));
    }
    Ok(Route { url, paid })
}

fn is_allowed_query(pair: &str) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    ALLOWED_QUERIES.contains(&name) && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.%".contains(c))
}

fn is_version(part: &str) -> bool {
    part == "api" || part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Classifies an endpoint: `None` = not allowed, `Some(None)` = free of charge.
fn classify(api: Api, method: &Method, path: &[&str]) -> Option<Option<(Wire, Option<String>)>> {
    let paid = |wire| Some(Some((wire, None)));
    let free = Some(None);
    if method == Method::GET {
        return match (api, path) {
            (Api::Ollama, ["tags" | "version"]) => free,
            (Api::Anthropic | Api::OpenAi | Api::OpenAiResponses | Api::Gemini, ["models"]) => free,
            // Model names contain slashes at some gateways.
            (Api::Anthropic | Api::OpenAi | Api::OpenAiResponses | Api::Gemini, ["models", _, ..]) => free,
            _ => None,
        };
    }
    if method != Method::POST {
        return None;
    }
    match (api, path) {
        (Api::Anthropic, ["messages"]) => paid(Wire::Anthropic),
        (Api::Anthropic, ["messages", "count_tokens"]) => free,
        (Api::OpenAi | Api::OpenAiResponses, ["chat", "completions"] | ["completions"]) => paid(Wire::Chat),
        (Api::OpenAi | Api::OpenAiResponses, ["responses"] | ["responses", "compact"]) => paid(Wire::Responses),
        (Api::OpenAi | Api::OpenAiResponses, ["responses", "input_tokens"]) => free,
        (Api::Gemini, ["models", named]) => match named.split_once(':')? {
            (model, "generateContent" | "streamGenerateContent") => Some(Some((Wire::Gemini, Some(model.to_owned())))),
            (_, "countTokens") => free,
            _ => None,
        },
        (Api::Ollama, ["chat" | "generate"]) => paid(Wire::Ollama),
        (Api::Ollama, ["show"]) => free,
        _ => None,
    }
}

/// Returns the wire format whose errors the clients of an API expect.
pub fn wire_of(api: Api) -> Wire {
    match api {
        Api::Anthropic => Wire::Anthropic,
        Api::OpenAi => Wire::Chat,
        Api::OpenAiResponses => Wire::Responses,
        Api::Gemini => Wire::Gemini,
        Api::Ollama => Wire::Ollama,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn url(api: Api, base: &str, rest: &str, query: Option<&str>) -> Option<String> {
        let provider = Provider {
            name: "p".to_owned(),
            api,
            base_url: base.to_owned(),
            key: None,
            key_source: String::new(),
            concurrency: 1,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(1),
            context_window: 1,
            max_output_tokens: 1,
        };
        route(&provider, &Method::POST, rest, query).ok().map(|r| r.url)
    }

    #[test]
    fn the_version_appears_once_wherever_it_is_given() {
        for (base, rest, expected) in [
            ("https://a/v1/", "messages", "https://a/v1/messages"),
            ("https://a/v1", "v1/messages", "https://a/v1/messages"),
            ("https://a/", "v1/messages", "https://a/v1/messages"),
            ("https://v1.a", "messages/", "https://v1.a/messages"),
            ("https://a/openai/v1/", "v1/messages", "https://a/openai/v1/messages"),
        ] {
            assert_eq!(url(Api::Anthropic, base, rest, None).as_deref(), Some(expected), "{base} {rest}");
        }
        assert_eq!(url(Api::Anthropic, "https://a/v1/", "v1/v1/messages", None), None);
        let gemini =
            url(Api::Gemini, "https://g/v1beta/", "v1alpha/models/m%3AgenerateContent", Some("key=k&alt=sse&x=1"));
        assert_eq!(gemini.as_deref(), Some("https://g/v1beta/models/m:generateContent?alt=sse"));
    }
}
