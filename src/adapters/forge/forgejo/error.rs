//! Maps the forge's refusals to errors that say what to grant, and where.

use crate::adapters::forge::answer::{Answer, host};
use crate::adapters::forge::rate;
use crate::adapters::forge::settings::{Forgejo, RepoName};
use crate::ports::PortError;
use std::time::SystemTime;

/// What an error is about, for its message and its fix.
pub(super) struct Subject<'a> {
    pub forge: &'a str,
    pub settings: &'a Forgejo,
    pub repo: &'a RepoName,
    pub doing: &'a str,
    pub is_read: bool,
}

impl Subject<'_> {
    /// Creates the error for an answer that is not the expected one.
    pub fn refusal(&self, answer: &Answer) -> PortError {
        let Subject { forge, settings, repo, doing, .. } = self;
        let (status, message, software) = (answer.status.as_u16(), answer.message(), settings.software);
        let place = if repo.name.is_empty() { host(&settings.url).to_owned() } else { repo.to_string() };
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        let what = format!("cannot {doing} in {place}: {software} answered {status}{said}");
        if let Some(pause) = rate::pause(answer, SystemTime::now()).filter(|_| matches!(status, 403 | 429)) {
            return PortError::Transient { what, after: Some(pause) };
        }
        let unblock = "then run `skep unblock`";
        let url = settings.token_url();
        match status {
            301 | 302 | 307 | 308 => PortError::permanent(
                format!("cannot {doing}: the repository {place} was renamed or transferred"),
                format!(
                    "give the project its new address: `skep project add OWNER/REPO --name NAME --replace`, {unblock}"
                ),
            ),
            401 => PortError::permanent(
                what,
                format!("the token is invalid, expired or revoked: create a new one at {url} and store it there"),
            ),
            403 => PortError::permanent(what, format!("{}, {unblock}", self.grant(answer))),
            404 => PortError::permanent(
                what,
                format!("check the repository's name, and add the token's account to its collaborators, {unblock}"),
            ),
            423 => PortError::permanent(what, format!("unarchive the repository in its settings, {unblock}")),
            408 | 500.. if self.is_read => PortError::transient(what),
            // A gateway may give up before the work is done.
            408 | 500.. => PortError::Unknown { what },
            _ => PortError::permanent(
                what,
                format!("see {software}'s message; `skep forge test {forge} OWNER/REPO` checks the permissions"),
            ),
        }
    }

    /// Returns what to grant. The forge names the scopes of a token, but not the permissions of an account.
    fn grant(&self, answer: &Answer) -> String {
        match scope(answer) {
            Some(scope) => format!("create a token with the scope {scope} at {}", self.settings.token_url()),
            None => format!(
                "`skep forge test {} {}` shows what is missing; give the token's account write access to the repository",
                self.forge, self.repo
            ),
        }
    }
}

/// Returns the scope that the forge says a token lacks.
pub(super) fn scope(answer: &Answer) -> Option<String> {
    let message = answer.message();
    let (_, scopes) = message.split_once("required scope(s): [")?;
    let scope = scopes.split([']', ' ', ',']).next()?;
    (!scope.is_empty()).then(|| scope.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::forge::settings::{Intake, SecretSource, Software};

    fn refusal(status: u16, headers: &[(&'static str, &str)], message: &str, is_read: bool) -> PortError {
        let settings = Forgejo {
            software: Software::Forgejo,
            url: "https://code.example.org".to_owned(),
            token: SecretSource::Env("FORGEJO_TOKEN".to_owned()),
            merge_method: None,
            fork_owner: None,
            intake: Intake::default(),
        };
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = serde_json::json!({ "message": message, "url": "https://code.example.org/api/swagger" });
        let answer = Answer { status: status.try_into().unwrap(), headers, body: body.to_string().into() };
        let repo = &RepoName::parse("my-org/calc").unwrap();
        Subject { forge: "work", settings: &settings, repo, doing: "open a pull request", is_read }.refusal(&answer)
    }

    #[test]
    fn what_a_person_can_fix_says_what_to_grant_and_where() {
        let scope = "token does not have at least one of required scope(s): [write:issue]";
        for (status, message, fix) in [
            (401, "invalid username, password or token", "create a new one at https://code.example.org/user/settings"),
            (403, scope, "the scope write:issue at https://code.example.org/user/settings/applications"),
            (403, "user should have a permission to write to a repo", "skep forge test work my-org/calc"),
            (404, "The target couldn't be found.", "check the repository's name"),
            (307, "", "new address"),
            (423, "my-org/calc is archived", "unarchive"),
            (422, "Invalid PullRequest", "Forgejo's message"),
        ] {
            let error = refusal(status, &[], message, false);
            assert!(matches!(error, PortError::Permanent { .. }), "{status}: {error:?}");
            assert!(error.fix().contains(fix), "{status}: {}", error.fix());
            assert!(error.to_string().contains("my-org/calc"), "{error}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_retried_and_a_cut_answer_observed() {
        let limited = refusal(429, &[("retry-after", "9")], "", false);
        assert!(matches!(limited, PortError::Transient { after: Some(after), .. } if after.as_secs() == 9));
        assert!(matches!(refusal(502, &[], "", true), PortError::Transient { .. }));
        assert!(matches!(refusal(502, &[], "", false), PortError::Unknown { .. }));
    }
}
