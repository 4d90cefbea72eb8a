//! Maps GitHub's refusals to errors that say what to grant, and where.

use crate::adapters::forge::answer::{Answer, host};
use crate::adapters::forge::rate;
use crate::adapters::forge::settings::{Account, GitHub, RepoName};
use crate::ports::PortError;
use std::time::SystemTime;

/// What an error is about, for its message and its fix.
pub(super) struct Subject<'a> {
    pub forge: &'a str,
    pub settings: &'a GitHub,
    pub repo: Option<&'a RepoName>,
    pub doing: &'a str,
    pub is_read: bool,
}

impl Subject<'_> {
    /// Creates the error for an answer that is not the expected one.
    pub fn refusal(&self, answer: &Answer) -> PortError {
        let Subject { forge, settings, doing, .. } = self;
        let status = answer.status.as_u16();
        let message = answer.message();
        let place = self.repo.map_or_else(|| host(&settings.url).to_owned(), ToString::to_string);
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        let what = format!("cannot {doing} in {place}: GitHub answered {status}{said}");
        if let Some(pause) = rate::pause(answer, SystemTime::now()).filter(|_| matches!(status, 403 | 429)) {
            return PortError::Transient { what, after: Some(pause) };
        }
        let unblock = "then run `skep unblock`";
        match status {
            301 | 302 | 307 | 308 => PortError::permanent(
                format!("cannot {doing}: the repository {place} was renamed or transferred"),
                format!(
                    "give the project its new address: `skep project add OWNER/REPO --name NAME --replace`, {unblock}"
                ),
            ),
            401 => PortError::permanent(
                what,
                format!("the {} is invalid, expired or revoked: {}", settings.account, self.renewal()),
            ),
            403 if answer.says("archived") => {
                PortError::permanent(what, format!("unarchive the repository in its settings, {unblock}"))
            }
            403 if answer.says("suspended") => PortError::permanent(
                what,
                format!("lift the suspension of the App's installation in the organization's settings, {unblock}"),
            ),
            403 if answer.header("x-github-sso").is_some() => PortError::permanent(
                what,
                format!("authorize the token for the organization's single sign-on at {}, {unblock}", self.grant_url()),
            ),
            403 => PortError::permanent(what, format!("{}, {unblock}", self.grant(answer))),
            404 => PortError::permanent(
                what,
                format!(
                    "check the repository's name, and give the {} access to it at {}, {unblock}",
                    self.account(),
                    self.grant_url()
                ),
            ),
            410 => PortError::permanent(what, format!("enable issues in the repository's settings, {unblock}")),
            408 | 500.. if self.is_read => PortError::transient(what),
            // A gateway may give up before the work is done.
            408 | 500.. => PortError::Unknown { what },
            _ => PortError::permanent(
                what,
                format!("see GitHub's message; `skep forge test {forge} OWNER/REPO` checks the permissions"),
            ),
        }
    }

    fn account(&self) -> &'static str {
        match self.settings.account {
            Account::Token(_) => "token",
            Account::App { .. } => "GitHub App",
        }
    }

    /// Returns where permissions are granted.
    fn grant_url(&self) -> String {
        grant_url(self.settings)
    }

    fn renewal(&self) -> String {
        match self.settings.account {
            Account::Token(_) => format!("create a new one at {} and store it there", self.grant_url()),
            Account::App { .. } => {
                format!("create a new private key at {} and store it there", self.grant_url())
            }
        }
    }

    /// Returns what to grant: GitHub names the permissions of fine-grained tokens and Apps, and the scopes of classic
    /// tokens.
    fn grant(&self, answer: &Answer) -> String {
        let (account, url) = (self.account(), self.grant_url());
        if let Some(accepted) = answer.header("x-accepted-github-permissions") {
            let accepted: String = accepted.chars().take(200).collect();
            return format!("grant the {account} the permission {accepted} at {url}");
        }
        match (answer.header("x-accepted-oauth-scopes"), answer.header("x-oauth-scopes")) {
            (Some(accepted), Some(has)) => format!("give the {account} the scope {accepted} (it has: {has}) at {url}"),
            _ => format!(
                "`skep forge test {} {}` shows which permission is missing; grant it at {url}",
                self.forge,
                self.repo.map_or_else(|| "OWNER/REPO".to_owned(), ToString::to_string)
            ),
        }
    }
}

/// Returns the page where the permissions of an account are granted.
pub(super) fn grant_url(settings: &GitHub) -> String {
    match settings.account {
        Account::Token(_) => format!("{}/settings/tokens", settings.url),
        Account::App { .. } => format!("{}/settings/apps", settings.url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::forge::settings::SecretSource;

    fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str, is_read: bool) -> PortError {
        let settings = GitHub {
            url: "https://github.com".to_owned(),
            api_url: "https://api.github.com".to_owned(),
            account: Account::Token(SecretSource::Env("GH_TOKEN".to_owned())),
            merge_method: None,
            fork_owner: None,
            intake: Default::default(),
        };
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let answer = Answer { status: status.try_into().unwrap(), headers, body: body.into() };
        let repo = RepoName::parse("my-org/calc");
        let subject = Subject {
            forge: "github",
            settings: &settings,
            repo: repo.as_ref(),
            doing: "open the pull request",
            is_read,
        };
        subject.refusal(&answer)
    }

    #[test]
    fn what_a_person_can_fix_says_what_to_grant_and_where() {
        let permission = [("x-accepted-github-permissions", "pull_requests=write")];
        for (status, headers, body, fix) in [
            (401, &[][..], r#"{"message": "Bad credentials"}"#, "the variable GH_TOKEN"),
            (
                403,
                &permission[..],
                r#"{"message": "Resource not accessible"}"#,
                "pull_requests=write at https://github.com/settings",
            ),
            (403, &[][..], r#"{"message": "Repository was archived so is read-only."}"#, "unarchive"),
            (403, &[][..], r#"{"message": "This installation has been suspended"}"#, "suspension"),
            (403, &[("x-github-sso", "required")][..], "{}", "single sign-on"),
            (403, &[("x-accepted-oauth-scopes", "repo"), ("x-oauth-scopes", "read:user")][..], "{}", "the scope repo"),
            (404, &[][..], r#"{"message": "Not Found"}"#, "check the repository's name"),
            (301, &[][..], "", "new address"),
            (410, &[][..], r#"{"message": "Issues are disabled for this repo"}"#, "enable issues"),
            (
                422,
                &[][..],
                r#"{"message": "Validation Failed", "errors": [{"message": "No commits"}]}"#,
                "GitHub's message",
            ),
        ] {
            let error = refusal(status, headers, body, false);
            assert!(matches!(error, PortError::Permanent { .. }), "{status}: {error:?}");
            assert!(error.fix().contains(fix), "{status}: {}", error.fix());
            assert!(error.to_string().contains("my-org/calc"), "{error}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_retried_and_a_cut_answer_observed() {
        let limited = refusal(429, &[("retry-after", "9")], "", false);
        assert!(matches!(limited, PortError::Transient { after: Some(after), .. } if after.as_secs() == 9));
        let limited = refusal(403, &[], r#"{"message": "You have exceeded a secondary rate limit"}"#, false);
        assert!(matches!(limited, PortError::Transient { after: Some(_), .. }), "{limited:?}");
        assert!(matches!(refusal(502, &[], "<html>", true), PortError::Transient { .. }));
        assert!(matches!(refusal(502, &[], "<html>", false), PortError::Unknown { .. }));
    }
}
