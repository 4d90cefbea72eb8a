//! Which addresses of a provider may be called: those of its models, and nothing else an account can do.

use super::wire::Wire;
use crate::providers::settings::{Api, Provider};
use axum::http::Method;
use percent_encoding::percent_decode_str;

/// The longest path.
const PATH_MAX: usize = 512;
/// Questions that may go along; `key` and everything unknown may not.
const QUERIES: &[&str] = &["after_id", "alt", "api-version", "before_id", "beta", "limit", "pageSize", "pageToken"];

/// A call that may be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The whole address.
    pub url: String,
    /// For calls that are paid: how they are counted, and the model where the path names it.
    pub paid: Option<(Wire, Option<String>)>,
}

/// Finds the call `rest` names at a provider: with or without the version its address ends with.
///
/// # Errors
/// Why it may not be made.
pub fn route(provider: &Provider, method: &Method, rest: &str, query: Option<&str>) -> Result<Route, &'static str> {
    let path = percent_decode_str(rest).decode_utf8().map_err(|_| "its path is no text")?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@');
    if path.len() > PATH_MAX || !path.chars().all(plain) {
        return Err("its path has signs that no model's address has");
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|p| p.is_empty() || p.chars().all(|c| c == '.')) {
        return Err("its path leads up or nowhere");
    }
    let base = provider.base_url.trim_end_matches('/');
    let folders = base.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let versioned = folders.rsplit('/').next().is_some_and(is_version);
    let named = parts.first().is_some_and(|part| is_version(part));
    if versioned && named {
        parts.remove(0);
    }
    // An address without a version leaves it to the caller to name one.
    let skipped = usize::from(named && !versioned);
    let endpoint = parts.get(skipped..).unwrap_or_default();
    let paid = endpoint_of(provider.api, method, endpoint).ok_or(
        "only models are called through here: messages, completions, responses, generateContent, counting, the list of models",
    )?;
    let mut url = format!("{base}/{}", parts.join("/"));
    let kept: Vec<&str> = query.unwrap_or_default().split('&').filter(|pair| may_ask(pair)).collect();
    if !kept.is_empty() {
        url.push('?');
        url.push_str(&kept.join("&"));
    }
    Ok(Route { url, paid })
}

fn may_ask(pair: &str) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    QUERIES.contains(&name) && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.%".contains(c))
}

fn is_version(part: &str) -> bool {
    part == "api" || part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `None` = may not be called; `Some(None)` = free.
fn endpoint_of(api: Api, method: &Method, path: &[&str]) -> Option<Option<(Wire, Option<String>)>> {
    let paid = |wire| Some(Some((wire, None)));
    let free = Some(None);
    if method == Method::GET {
        return match (api, path) {
            (Api::Ollama, ["tags" | "version"]) => free,
            (Api::Anthropic | Api::OpenAi | Api::OpenAiResponses | Api::Gemini, ["models"]) => free,
            // A model's name may have slashes at some gateways.
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

/// The shape of errors an API's callers read.
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
            key_place: String::new(),
            concurrency: 1,
            per_minute: None,
            silence: Duration::from_secs(1),
            window: 1,
            max_output: 1,
        };
        route(&provider, &Method::POST, rest, query).ok().map(|r| r.url)
    }

    #[test]
    fn the_version_stands_once_wherever_it_is_named() {
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
