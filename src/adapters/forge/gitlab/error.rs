//! Maps GitLab's refusals to errors that say what to grant, and where.

use crate::adapters::forge::answer::{Answer, host};
use crate::adapters::forge::rate;
use crate::adapters::forge::settings::{GitLab, RepoName};
use crate::ports::PortError;
use serde::Deserialize;
use std::time::SystemTime;

/// What an error is about, for its message and its fix.
pub(super) struct Subject<'a> {
    pub forge: &'a str,
    pub settings: &'a GitLab,
    pub repo: &'a RepoName,
    pub doing: &'a str,
    pub is_read: bool,
}

impl Subject<'_> {
    /// Creates the error for an answer that is not the expected one.
    pub fn refusal(&self, answer: &Answer) -> PortError {
        let Subject { forge, settings, repo, doing, .. } = self;
        let (status, message) = (answer.status.as_u16(), answer.message());
        let place = if repo.name.is_empty() { host(&settings.url).to_owned() } else { repo.to_string() };
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        let what = format!("cannot {doing} in {place}: GitLab answered {status}{said}");
        if let Some(pause) = rate::pause(answer, SystemTime::now()).filter(|_| matches!(status, 403 | 429)) {
            return PortError::Transient { what, after: Some(pause) };
        }
        let unblock = "then run `skep unblock`";
        match status {
            301 | 302 | 307 | 308 => PortError::permanent(
                format!("cannot {doing}: the project {place} was renamed or transferred"),
                format!(
                    "give the project its new address: `skep project add GROUP/PROJECT --name NAME --replace`, \
                     {unblock}"
                ),
            ),
            401 => PortError::permanent(
                what,
                format!(
                    "the token is invalid, expired or revoked: create a new one at {} and store it there",
                    settings.token_url()
                ),
            ),
            403 => PortError::permanent(what, format!("{}, {unblock}", self.grant(answer))),
            404 => PortError::permanent(
                what,
                format!(
                    "check the project's name, and add the token's account to its members as a developer, {unblock}"
                ),
            ),
            // GitLab's own lock on a row, for example.
            409 if ["resource lock", "obtain lock"].iter().any(|lock| answer.says(lock)) => PortError::transient(what),
            408 | 500.. if self.is_read => PortError::transient(what),
            // A gateway may give up before the work is done.
            408 | 500.. => PortError::Unknown { what },
            _ => PortError::permanent(
                what,
                format!("see GitLab's message; `skep forge test {forge} {place}` checks the permissions"),
            ),
        }
    }

    /// Returns what to grant. GitLab names the scopes that a token lacks, but not the role of an account.
    fn grant(&self, answer: &Answer) -> String {
        match scope(answer) {
            Some(scope) => format!("create a token with the scope {scope} at {}", self.settings.token_url()),
            None => format!(
                "`skep forge test {} {}` shows what is missing; the token's account needs the role Developer, or more \
                 for a protected branch, and the project must not be archived",
                self.forge, self.repo
            ),
        }
    }
}

/// The body of a refusal for the scopes of a token.
#[derive(Deserialize)]
struct ScopeError {
    error: String,
    /// The scopes that are enough.
    #[serde(default)]
    scope: String,
}

/// Returns the scope that GitLab says a token lacks. Of several that are enough, `api` is preferred: Skep needs it.
pub(super) fn scope(answer: &Answer) -> Option<String> {
    let body: ScopeError = serde_json::from_slice(&answer.body).ok()?;
    if body.error != "insufficient_scope" {
        return None;
    }
    let is_scope = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut scopes = body.scope.split([' ', ',']).filter(is_scope);
    let first = scopes.clone().next().unwrap_or("api");
    Some(scopes.find(|scope| *scope == "api").unwrap_or(first).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::forge::settings::{Intake, SecretSource};

    fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str, is_read: bool) -> PortError {
        let settings = GitLab {
            url: "https://gitlab.example.org".to_owned(),
            token: SecretSource::Env("GITLAB_TOKEN".to_owned()),
            merge_method: None,
            intake: Intake::default(),
        };
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let answer = Answer { status: status.try_into().unwrap(), headers, body: body.into() };
        let repo = &RepoName::parse_nested("my-org/team/calc").unwrap();
        Subject { forge: "work", settings: &settings, repo, doing: "open a merge request", is_read }.refusal(&answer)
    }

    #[test]
    fn what_a_person_can_fix_says_what_to_grant_and_where() {
        let scope = r#"{"error":"insufficient_scope","error_description":"Too few.","scope":"ai_workflows api"}"#;
        for (status, body, said, fix) in [
            (
                401,
                r#"{"message":"401 Unauthorized"}"#,
                "401 Unauthorized",
                "create a new one at https://gitlab.example",
            ),
            (401, r#"{"error":"invalid_token","error_description":"Token was revoked."}"#, "revoked", "create a new"),
            (403, scope, "insufficient_scope", "the scope api at https://gitlab.example.org/-/user_settings/personal"),
            (403, r#"{"message":"403 Forbidden"}"#, "403 Forbidden", "skep forge test work my-org/team/calc"),
            (404, r#"{"message":"404 Project Not Found"}"#, "Project Not Found", "check the project's name"),
            (301, "", "renamed", "new address"),
            (409, r#"{"message":["Another open merge request already exists: !5"]}"#, "exists: !5", "GitLab's message"),
            (400, r#"{"message":{"title":["can't be blank"]}}"#, "title can't be blank", "GitLab's message"),
        ] {
            let error = refusal(status, &[], body, false);
            assert!(matches!(error, PortError::Permanent { .. }), "{status}: {error:?}");
            assert!(error.fix().contains(fix), "{status}: {}", error.fix());
            assert!(error.to_string().contains("my-org/team/calc") && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_retried_and_a_cut_answer_observed() {
        let limited = refusal(429, &[("retry-after", "9")], "Retry later", false);
        assert!(matches!(limited, PortError::Transient { after: Some(after), .. } if after.as_secs() == 9));
        assert!(matches!(refusal(502, &[], "", true), PortError::Transient { .. }));
        assert!(matches!(refusal(502, &[], "", false), PortError::Unknown { .. }));
        let locked = r#"{"message":"409 Conflict: could not obtain lock"}"#;
        assert!(matches!(refusal(409, &[], locked, false), PortError::Transient { .. }));
    }
}
