//! Which addresses of a provider may be called: those of its models, and nothing else an account can do.

use super::wire::Wire;
use crate::adapters::engine::settings::{Api, Provider};
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
    let versioned = base.rsplit('/').next().is_some_and(is_version);
    if versioned && is_version(parts[0]) {
        parts.remove(0);
    }
    let skipped = usize::from(parts.first().is_some_and(|p| is_version(p)));
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
