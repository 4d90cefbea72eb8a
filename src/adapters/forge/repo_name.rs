//! Names of repositories, and their clone URLs.

use std::fmt;

/// Upper bounds on the parts of a name, and on the bytes of all of them: GitLab's groups have at most 20 levels.
const MAX_PARTS: usize = 21;
const MAX_NAME_BYTES: usize = 512;

/// A repository's owner and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName {
    /// The user or organization; on GitLab the group, with the groups that it is in: `my-org/team`.
    pub owner: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl RepoName {
    /// Parses `OWNER/REPO`; `None` = it is something else.
    pub fn parse(text: &str) -> Option<RepoName> {
        let (owner, name) = text.split_once('/')?;
        let is_word = |text: &str, more: &str| {
            (1..=100).contains(&text.len())
                && !text.starts_with(['-', '.'])
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        let good = is_word(owner, "-_") && (is_word(name, "-_.") || name == ".github");
        good.then(|| RepoName { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Parses `GROUP/PROJECT` or `GROUP/SUBGROUP/PROJECT`; `None` = it is something else.
    pub fn parse_nested(text: &str) -> Option<RepoName> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !word.starts_with(['-', '.'])
                && !word.ends_with('.')
        };
        let good = text.len() <= MAX_NAME_BYTES && text.split('/').count() <= MAX_PARTS && text.split('/').all(is_word);
        let (owner, name) = text.rsplit_once('/').filter(|_| good)?;
        Some(RepoName { owner: owner.to_owned(), name: name.to_owned() })
    }
}

/// Returns the scheme, the host with its port, and the path of a URL, without the slash between them.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((scheme, host, path))
}

/// Returns the repository of a clone URL, over http or ssh, of the forge at a base URL; `None` = the URL is another one.
/// `parse` reads its name.
pub(super) fn repository_at(base: &str, url: &str, parse: fn(&str) -> Option<RepoName>) -> Option<RepoName> {
    let (own_scheme, own_host, own_path) = split(base)?;
    let own_name = own_host.rsplit_once(':').map_or(own_host, |(name, _)| name);
    let path = match split(url) {
        Some((scheme, host, path)) if scheme == own_scheme => {
            let path = if host.eq_ignore_ascii_case(own_host) { path.strip_prefix(own_path)? } else { return None };
            if own_path.is_empty() { path } else { path.strip_prefix('/')? }
        }
        Some(("ssh", authority, path)) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            host.eq_ignore_ascii_case(own_name).then_some(path)?
        }
        Some(_) => return None,
        None => {
            let (authority, path) = url.split_once(':')?;
            let host = authority.rsplit_once('@')?.1;
            host.eq_ignore_ascii_case(own_name).then_some(path)?
        }
    };
    let path = path.trim_end_matches('/');
    parse(path.strip_suffix(".git").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Account, GITHUB_URL, GitHub, Intake, SecretSource};
    use super::*;

    fn github(url: &str) -> GitHub {
        let account = Account::Token(SecretSource::GitHubCli);
        GitHub {
            url: url.to_owned(),
            api_url: format!("{url}/api/v3"),
            account,
            merge_method: None,
            fork_owner: None,
            intake: Intake::default(),
        }
    }

    #[test]
    fn only_clone_urls_of_the_forge_itself_are_its_repositories() {
        let forge = github(GITHUB_URL);
        for own in [
            "https://github.com/my-org/calc",
            "https://github.com/my-org/calc.git",
            "https://GitHub.com/my-org/calc/",
            "ssh://git@github.com/my-org/calc.git",
            "ssh://git@github.com:22/my-org/calc.git",
            "git@github.com:my-org/calc.git",
        ] {
            assert_eq!(forge.repository(own), RepoName::parse("my-org/calc"), "{own}");
        }
        for other in [
            "https://github.com.example.org/my-org/calc",
            "https://github.com:444/my-org/calc",
            "http://github.com/my-org/calc",
            "https://github.com/my-org",
            "https://github.com/my-org/calc/issues/1",
            "https://github.com/../calc",
            "https://github.com/my-org/..",
            "https://github.com/my-org/ca%2flc",
            "git@gitlab.com:my-org/calc.git",
            "/srv/github.com/my-org/calc",
        ] {
            assert_eq!(forge.repository(other), None, "{other}");
        }
        // A server below a path of its host.
        let below = |url| repository_at("https://example.org/code", url, RepoName::parse);
        for own in ["https://example.org/code/a/b.git", "ssh://git@example.org:2222/a/b", "git@example.org:a/b.git"] {
            assert_eq!(below(own), RepoName::parse("a/b"), "{own}");
        }
        for other in ["https://example.org/a/b", "https://example.org/codes/a/b", "https://example.org/code/b"] {
            assert_eq!(below(other), None, "{other}");
        }
        let local = github("http://127.0.0.1:4000");
        assert_eq!(local.repository("http://127.0.0.1:4000/a/b.git"), RepoName::parse("a/b"));
        assert_eq!(local.repository("http://127.0.0.1:4001/a/b.git"), None);
        assert_eq!(local.graphql_url(), "http://127.0.0.1:4000/api/graphql");
    }

    #[test]
    fn projects_of_gitlab_may_be_in_groups_of_groups() {
        let of = |url| repository_at("https://gitlab.com", url, RepoName::parse_nested).map(|name| name.to_string());
        for own in [
            "https://gitlab.com/my-org/team.a/calc.git",
            "ssh://git@gitlab.com/my-org/team.a/calc.git",
            "git@gitlab.com:my-org/team.a/calc.git",
        ] {
            assert_eq!(of(own).as_deref(), Some("my-org/team.a/calc"), "{own}");
        }
        assert_eq!(of("https://gitlab.com/my-org/calc").as_deref(), Some("my-org/calc"));
        for other in [
            "https://gitlab.com/calc",
            "https://gitlab.com/my-org//calc",
            "https://gitlab.com/my-org/../calc",
            "https://gitlab.com/my-org/-/calc",
            "https://gitlab.com/my-org/ca%2flc",
            "https://gitlab.com.example.org/my-org/calc",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(RepoName::parse_nested(&"a/".repeat(30)), None);
    }
}
