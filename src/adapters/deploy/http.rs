//! Requests to what is deployed, and to deploy hooks.
//!
//! Invariant: no redirect leads to another host, and no error names the address of a hook, which is a secret.

use crate::domain::deployment::fill;
use crate::domain::{Sha, deployment};
use crate::ports::deployments::Observed;
use crate::secrets::redact_all;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a body that are read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Characters of a body that are quoted.
const MAX_QUOTED: usize = 200;
const USER_AGENT: &str = concat!("skep/", env!("CARGO_PKG_VERSION"));

/// The client.
pub struct Http(Client);

/// What is expected of a request.
pub struct Expected<'a> {
    pub path: &'a str,
    pub status: u16,
    pub body: Option<&'a str>,
}

impl Http {
    /// Creates the client.
    ///
    /// # Errors
    /// If the system's certificates cannot be used.
    pub fn new() -> Result<Http, String> {
        crate::telemetry::install_crypto();
        let policy = Policy::custom(|attempt| {
            let first = attempt.previous().first();
            let is_same = first.is_some_and(|first| first.host_str() == attempt.url().host_str());
            match is_same && attempt.previous().len() <= MAX_REDIRECTS {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        let client = Client::builder().redirect(policy).timeout(TIMEOUT).user_agent(USER_AGENT).no_proxy().build();
        client.map(Http).map_err(|e| format!("cannot create an HTTP client: {}", e.without_url()))
    }

    /// Makes a request to a target, once.
    pub async fn test(&self, url: &str, expected: &Expected<'_>, target: &str, sha: &Sha) -> Observed {
        let path = fill(expected.path, target, sha);
        let red = |got: String| Observed { passed: false, got: redact_all(&got).into_owned() };
        let mut response = match self.0.get(format!("{url}{path}")).send().await {
            Ok(response) => response,
            Err(error) => return red(cause(error)),
        };
        let status = response.status().as_u16();
        let body = match head(&mut response).await {
            Ok(body) => body,
            Err(why) => return red(format!("{status}, and then {why}")),
        };
        if status != expected.status {
            return red(format!("{status}: {}", quoted(&body)));
        }
        match expected.body.map(|text| fill(text, target, sha)) {
            Some(text) if !body.contains(&text) => red(format!("{status} with another body: {}", quoted(&body))),
            _ => Observed { passed: true, got: status.to_string() },
        }
    }

    /// Calls a deploy hook, and returns whether it accepted the call, with its answer.
    ///
    /// # Errors
    /// Why it is unknown whether it did.
    pub async fn call_hook(
        &self,
        address: &str,
        query: &BTreeMap<String, String>,
        (target, sha): (&str, &Sha),
    ) -> Result<(bool, String), String> {
        let Ok(mut url) = Url::parse(address.trim()) else {
            return Ok((false, "the secret is not an http or https address".to_owned()));
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Ok((false, "the secret is not an http or https address".to_owned()));
        }
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, &deployment::fill(value, target, sha));
        }
        let mut response = self.0.post(url).send().await.map_err(cause)?;
        let status = response.status();
        let body = head(&mut response).await.unwrap_or_default();
        let answer = format!("the hook answered {}: {}", status.as_u16(), quoted(&body));
        Ok((status.is_success(), redact_all(&answer).into_owned()))
    }
}

/// Returns the innermost cause, without the address.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    format!("cannot connect: {inner}")
}

async fn head(response: &mut Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY_BYTES {
        match response.chunk().await.map_err(cause)? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    bytes.truncate(MAX_BODY_BYTES);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn quoted(body: &str) -> String {
    let line: String =
        redact_all(body).chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED).collect();
    match line.trim() {
        "" => "an empty body".to_owned(),
        line => line.to_owned(),
    }
}
