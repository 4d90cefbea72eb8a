//! Validates the origin of a repository, and derives the options git needs to access it.
//!
//! Invariant: no `ext::` or other transport helper, no credentials in an address, no plain http beyond this machine.

use crate::ports::{PortError, PortResult};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A validated origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A repository on this machine.
    Local(PathBuf),
    /// Over https, or over http on the loopback interface.
    Http(String),
    /// Over SSH.
    Ssh(String),
}

const FORMS: &str = "use an absolute path, or an address such as https://host/path or ssh://git@host/path";

impl Origin {
    /// Parses an origin without accessing it.
    ///
    /// # Errors
    /// Permanent when it is not allowed, with the fix.
    pub fn parse(text: &str) -> PortResult<Self> {
        let refuse =
            |why: &str, fix: &str| Err(PortError::permanent(format!("repository {}: {why}", redact(text)), fix));
        if text.is_empty() || text.len() > 2048 {
            return refuse("it is empty or longer than 2048 bytes", FORMS);
        }
        if text.chars().any(char::is_control) {
            return refuse("it contains control characters", "rename the folder, or use a symbolic link to it");
        }
        if text.starts_with('-') {
            return refuse("it starts with a dash, like an option", FORMS);
        }
        if Path::new(text).is_absolute() {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(u, h)| (u, h));
            return match scheme {
                "file" if rest.starts_with('/') && !rest.contains('%') => Ok(Self::Local(PathBuf::from(rest))),
                "file" => refuse("a file address with a host or '%' is not supported", "use the absolute path"),
                "https" | "http" | "ssh" if rest.contains('?') => Err(PortError::permanent(
                    "repository: its address has a query, which may contain a token",
                    "remove everything from the '?' on and configure a credential instead",
                )),
                "https" | "http" | "ssh" if !is_host(host) => refuse("its host is not a valid host name", FORMS),
                "https" | "http" if !user.is_empty() => refuse(
                    "it contains credentials, which would appear in logs and process lists",
                    "remove everything up to the '@' from the address and configure a credential instead",
                ),
                "https" => Ok(Self::Http(text.to_owned())),
                "http" if is_loopback(host) => Ok(Self::Http(text.to_owned())),
                "http" => refuse("plain http can be read and modified in transit", "use https"),
                "ssh" if user.contains(':') => refuse("it contains a password", "use a key and remove the password"),
                "ssh" if !is_user_name(user) => refuse("its user is not a valid user name", FORMS),
                "ssh" => Ok(Self::Ssh(text.to_owned())),
                _ => refuse("only paths, https and ssh are allowed", FORMS),
            };
        }
        if text.contains("::") {
            return refuse("transport helpers such as `ext::` run commands", FORMS);
        }
        // git@host:path, as forges show it.
        if let Some((left, path)) = text.split_once(':')
            && let Some((user, host)) = left.split_once('@')
            && !user.is_empty()
            && is_user_name(user)
            && is_host(host)
            && !path.is_empty()
            && !path.starts_with('-')
        {
            return Ok(Self::Ssh(text.to_owned()));
        }
        refuse("it is neither an absolute path nor an address", FORMS)
    }

    /// Returns the repository argument for git.
    pub fn address(&self) -> OsString {
        match self {
            Self::Local(path) => path.into(),
            Self::Http(url) | Self::Ssh(url) => url.into(),
        }
    }

    /// Returns the address for messages, quoted and without credentials.
    pub fn redacted(&self) -> String {
        redact(&self.address().to_string_lossy())
    }

    /// Returns the options that let git access this origin and nothing else.
    pub(super) fn options(&self) -> Vec<OsString> {
        let set: &[&str] = match self {
            Self::Local(_) => &["protocol.file.allow=always"],
            Self::Http(url) if url.starts_with("https:") => &["protocol.https.allow=always"],
            Self::Http(_) => &["protocol.http.allow=always"],
            Self::Ssh(_) => &[
                "protocol.ssh.allow=always",
                // A server that falls silent is noticed after a minute.
                "core.sshCommand=ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4",
                "ssh.variant=ssh",
            ],
        };
        set.iter().flat_map(|s| [OsString::from("-c"), OsString::from(s)]).collect()
    }

    /// Returns the environment its transport needs: proxies and certificates, or the SSH agent.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let names: &[&str] = match self {
            Self::Local(_) => &[],
            Self::Http(_) => &["https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"],
            Self::Ssh(_) => &["SSH_AUTH_SOCK"],
        };
        names.iter().filter_map(|n| Some((OsString::from(n), std::env::var_os(n)?))).collect()
    }
}

/// Quotes an address for messages and removes anything that could be a credential.
fn redact(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    // The address of ssh, user:password@host:path, and others without a scheme.
    let has_password = short.split_once('@').is_some_and(|(user, _)| user.contains(':'));
    match (short.find("://"), short.rfind('@')) {
        (Some(scheme), Some(at))
            if at > scheme && (!short.starts_with("ssh://") || short[scheme + 3..at].contains(':')) =>
        {
            format!("{:?}", format!("{}://***{}", &short[..scheme], &short[at..]))
        }
        (None, Some(at)) if has_password && !Path::new(text).exists() => {
            format!("{:?}", format!("***{}", &short[at..]))
        }
        _ => format!("{short:?}"),
    }
}

fn is_user_name(user: &str) -> bool {
    !user.starts_with('-') && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
            None => return false,
        },
        None => host.split_once(':').unwrap_or((host, "")),
    };
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b))
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_loopback(host: &str) -> bool {
    let name = host
        .strip_prefix('[')
        .and_then(|v6| v6.split_once(']'))
        .map_or_else(|| host.split(':').next().unwrap_or_default(), |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn a_path_with_a_password_is_repeated_without_it() {
        let origin = Origin::parse("//me:s3cret@example.org/a").unwrap();
        assert_eq!(origin.redacted(), "\"***@example.org/a\"");
    }

    #[test]
    fn accepts_valid_origins_and_explains_invalid_ones() {
        for valid in [
            "/srv/a b.git",
            "file:///srv/a",
            "https://example.org/a.git",
            "https://example.org:8443/a",
            "http://127.0.0.1:99/a",
            "http://[::1]:99/a",
            "http://localhost/a",
            "ssh://git@example.org:22/a",
            "git@example.org:a/b.git",
        ] {
            assert!(Origin::parse(valid).is_ok(), "{valid}");
        }
        for invalid in [
            "",
            "a/b",
            "-u./x",
            "--upload-pack=touch x",
            "ext::sh -c touch% x",
            "fd::3",
            "git://example.org/a",
            "http://example.org/a",
            "http://127.0.0.1.example.org/a",
            "https://token@example.org/a",
            "https://user:s3cret@example.org/a",
            "ssh://-oProxyCommand=x/a",
            "ssh://git:s3cret@example.org/a",
            "git:s3cret@example.org:a",
            "https://example.org/a?token=s3cret",
            "ssh://-x@example.org/a",
            "git@-oProxyCommand=x:a",
            "git@example.org:-a",
            "/srv/a\nb",
            "file://host/a",
            "https://",
        ] {
            let error = Origin::parse(invalid).expect_err(invalid);
            assert!(!error.fix().is_empty() && !error.to_string().contains("s3cret"), "{invalid}: {error}");
        }
    }
}
