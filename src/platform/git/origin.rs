//! Where a repository comes from: checked, and what git may do to speak to it.
//!
//! Invariant: no `ext::`, no other helper, no credentials in an address, no plain http beyond this machine.

use crate::ports::{PortError, PortResult};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A checked origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A repository on this machine.
    Local(PathBuf),
    /// By https, or by http on the loopback interface.
    Http(String),
    /// By ssh.
    Ssh(String),
}

const FORMS: &str = "give an absolute path, or an address such as https://host/path or ssh://git@host/path";

impl Origin {
    /// Checks an origin's form; touches nothing.
    ///
    /// # Errors
    /// Permanent, with the fix.
    pub fn parse(text: &str) -> PortResult<Self> {
        let no = |why: &str, fix: &str| Err(PortError::permanent(format!("repository {}: {why}", redact(text)), fix));
        if text.is_empty() || text.len() > 2048 {
            return no("it is empty or over 2048 bytes long", FORMS);
        }
        if text.chars().any(char::is_control) {
            return no("it holds control characters", FORMS);
        }
        if text.starts_with('-') {
            return no("it starts with a dash, as an option does", FORMS);
        }
        if Path::new(text).is_absolute() {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(u, h)| (u, h));
            return match scheme {
                "file" if rest.starts_with('/') && !rest.contains('%') => Ok(Self::Local(PathBuf::from(rest))),
                "file" => no("a file address with a host or '%' is not understood", "give the plain absolute path"),
                "https" | "http" | "ssh" if !good_host(host) => no("its host is not a host name", FORMS),
                "https" | "http" if !user.is_empty() => no(
                    "it carries credentials, which would end up in logs and process lists",
                    "take everything before the '@' out of the address and configure a credential instead",
                ),
                "https" => Ok(Self::Http(text.to_owned())),
                "http" if is_loopback(host) => Ok(Self::Http(text.to_owned())),
                "http" => no("plain http can be read and changed on the way", "use https"),
                "ssh" if user.contains(':') => no("it carries a password", "use a key and leave the password out"),
                "ssh" if !good_user(user) => no("its user is not a user name", FORMS),
                "ssh" => Ok(Self::Ssh(text.to_owned())),
                _ => no("only paths, https and ssh are allowed", FORMS),
            };
        }
        if text.contains("::") {
            return no("transport helpers (`ext::` and the like) run commands", FORMS);
        }
        // git@host:path, as forges show it.
        if let Some((left, path)) = text.split_once(':')
            && let Some((user, host)) = left.split_once('@')
            && !user.is_empty()
            && good_user(user)
            && good_host(host)
            && !path.is_empty()
            && !path.starts_with('-')
        {
            return Ok(Self::Ssh(text.to_owned()));
        }
        no("it is neither an absolute path nor an address", FORMS)
    }

    /// What git is given as the repository.
    pub fn address(&self) -> OsString {
        match self {
            Self::Local(path) => path.into(),
            Self::Http(url) | Self::Ssh(url) => url.into(),
        }
    }

    /// In words.
    pub fn redacted(&self) -> String {
        redact(&self.address().to_string_lossy())
    }

    /// The options that let git speak to this origin and nothing else.
    pub(super) fn options(&self) -> Vec<OsString> {
        let set: &[&str] = match self {
            Self::Local(_) => &["protocol.file.allow=always"],
            Self::Http(url) if url.starts_with("https:") => &["protocol.https.allow=always"],
            Self::Http(_) => &["protocol.http.allow=always"],
            Self::Ssh(_) => &[
                "protocol.ssh.allow=always",
                "core.sshCommand=ssh -oBatchMode=yes -oConnectTimeout=20",
                "ssh.variant=ssh",
            ],
        };
        set.iter().flat_map(|s| [OsString::from("-c"), OsString::from(s)]).collect()
    }

    /// What this origin's transport needs of the environment: proxies and certificates, or the ssh agent.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let names: &[&str] = match self {
            Self::Local(_) => &[],
            Self::Http(_) => &["https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"],
            Self::Ssh(_) => &["SSH_AUTH_SOCK"],
        };
        names.iter().filter_map(|n| Some((OsString::from(n), std::env::var_os(n)?))).collect()
    }

    /// How git is started on the reading side. A person named this path, so whose it is does not matter; its hooks do.
    pub(super) fn upload_pack(&self) -> Option<OsString> {
        matches!(self, Self::Local(_)).then(|| {
            "--upload-pack=git -c safe.directory=* -c core.hooksPath=/dev/null -c core.alternateRefsCommand= upload-pack"
                .into()
        })
    }

    /// How git is started on the writing side: no hooks; a checked-out branch moves along only when the copy is clean.
    pub fn receive_pack(&self) -> Option<OsString> {
        matches!(self, Self::Local(_)).then(|| {
            "--receive-pack=git -c safe.directory=* -c core.hooksPath=/dev/null -c core.fsmonitor=false \
             -c core.alternateRefsCommand= -c gc.auto=0 -c receive.autogc=false \
             -c receive.denyCurrentBranch=updateInstead receive-pack"
                .into()
        })
    }
}

/// Quoted for a message; whatever could be a credential is left out.
fn redact(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    match (short.find("://"), short.rfind('@')) {
        (Some(scheme), Some(at))
            if at > scheme && (!short.starts_with("ssh://") || short[scheme + 3..at].contains(':')) =>
        {
            format!("{:?}", format!("{}://***{}", &short[..scheme], &short[at..]))
        }
        _ => format!("{short:?}"),
    }
}

fn good_user(user: &str) -> bool {
    !user.starts_with('-') && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn good_host(host: &str) -> bool {
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
    fn good_origins_pass_and_bad_ones_say_why() {
        for good in [
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
            assert!(Origin::parse(good).is_ok(), "{good}");
        }
        for bad in [
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
            "ssh://-x@example.org/a",
            "git@-oProxyCommand=x:a",
            "git@example.org:-a",
            "/srv/a\nb",
            "file://host/a",
            "https://",
        ] {
            let said = Origin::parse(bad).expect_err(bad);
            assert!(!said.fix().is_empty() && !said.to_string().contains("s3cret"), "{bad}: {said}");
        }
    }
}
