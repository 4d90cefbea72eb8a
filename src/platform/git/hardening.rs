//! Hardening of git: its complete environment, and the options that disable everything that could run a program.

use std::ffi::OsString;
use std::path::Path;

/// Author and committer of Skep's commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Email address.
    pub email: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self { name: "Skep".to_owned(), email: "skep@localhost".to_owned() }
    }
}

impl Identity {
    /// Formats `Name <address>`, without characters that would break a commit header.
    pub fn signature(&self) -> String {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect::<String>();
        let name = clean(&self.name);
        let name = if name.trim().is_empty() { "Skep" } else { name.trim() };
        format!("{name} <{}>", clean(&self.email).trim())
    }
}

/// Returns the complete environment of git.
pub(super) fn environment(program: &Path, identity: &Identity) -> Vec<(OsString, OsString)> {
    let mut path = program.parent().unwrap_or(Path::new("/usr/bin")).as_os_str().to_owned();
    path.push(":/usr/local/bin:/usr/bin:/bin");
    let mut env: Vec<(OsString, OsString)> = [
        ("HOME", "/nonexistent"),
        ("XDG_CONFIG_HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_EDITOR", "true"),
        ("GIT_PAGER", "cat"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
    ]
    .into_iter()
    .map(|(k, v)| (k.into(), v.into()))
    .collect();
    env.push(("PATH".into(), path));
    for role in ["AUTHOR", "COMMITTER"] {
        env.push((format!("GIT_{role}_NAME").into(), identity.name.clone().into()));
        env.push((format!("GIT_{role}_EMAIL").into(), identity.email.clone().into()));
    }
    env
}

/// Settings of every call. An origin adds its own protocol after them.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.sshCommand=/bin/false",
    "core.gitProxy=",
    "core.askPass=/bin/false",
    "core.alternateRefsCommand=true",
    "core.pager=cat",
    "core.editor=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.trustctime=true",
    "core.checkStat=default",
    "core.quotePath=false",
    "core.autocrlf=false",
    "core.safecrlf=false",
    "core.logAllRefUpdates=false",
    "core.useReplaceRefs=false",
    // A commit whose id was reported must survive a power failure.
    "core.fsync=committed,loose-object,reference",
    "core.fsyncMethod=batch",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "safe.bareRepository=explicit",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "diff.ignoreSubmodules=all",
    "status.submoduleSummary=false",
    "diff.external=",
    "interactive.diffFilter=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "log.showSignature=false",
    "gpg.program=/bin/false",
    "transfer.fsckObjects=true",
    "http.followRedirects=false",
    // A server that answers nothing for two minutes is given up; one that works sends a sign of life every 5 s.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=120",
    "gc.auto=0",
    "maintenance.auto=false",
    "uploadpack.packObjectsHook=",
];

/// Harmless defects of real histories, by their fsck message id. Every other fsck error is refused.
const IGNORED_FSCK_ERRORS: &[&str] = &[
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingNameBeforeEmail",
    "missingEmail",
    "badName",
    "badEmail",
    "missingTaggerEntry",
    "badDate",
    "badDateOverflow",
    "badTimezone",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
    "multipleAuthors",
];

/// Returns the options that precede every subcommand.
pub(super) fn options() -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["--no-pager", "--no-optional-locks", "--no-replace-objects"].map(OsString::from).into();
    for setting in SETTINGS {
        args.push("-c".into());
        args.push(setting.into());
    }
    for id in IGNORED_FSCK_ERRORS {
        args.push("-c".into());
        args.push(format!("fetch.fsck.{id}=ignore").into());
    }
    args
}
