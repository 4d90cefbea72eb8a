//! Maps failures of git to errors with a fix, by git's message.

use crate::platform::process::ProcessOutput;
use crate::ports::PortError;

/// Creates the error for a git that cannot be started.
pub(super) fn start_error(doing: &str, error: &std::io::Error) -> PortError {
    PortError::transient(format!("cannot {doing}: {error}"))
}

/// Lines git appends regardless of the cause.
const BOILERPLATE: &[&str] = &[
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// Returns the end of a program's output on one line, for people.
pub fn output_tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_useful =
        |l: &&str| !l.is_empty() && !l.starts_with("hint:") && !l.starts_with("warning: Skipping unknown msg");
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(is_useful).collect();
    // Boilerplate adds nothing if a cause precedes it.
    if lines.iter().any(|l| !BOILERPLATE.contains(l)) {
        lines.retain(|l| !BOILERPLATE.contains(l));
    }
    lines.drain(..lines.len().saturating_sub(4));
    lines.join("; ").chars().filter(|c| !c.is_control()).take(500).collect()
}

/// Parts of git's messages with their fix. The first match counts.
const PERMANENT: &[(&str, &str)] = &[
    (
        "does not appear to be a git repository",
        "check the path or address; `git init` and a first commit turn a folder into a repository",
    ),
    ("not a git repository", "check the repository's path or address"),
    ("Repository not found", "check the address, and that Skep's credential has read access"),
    ("returned error: 404", "check the address, and that Skep's credential has read access"),
    ("Host key verification failed", "add the host's key to known_hosts of the user Skep runs as (ssh-keyscan)"),
    ("Permission denied (publickey", "give the user Skep runs as a key that this host accepts"),
    ("Authentication failed", "configure a credential for this repository"),
    ("could not read Username", "configure a credential for this repository"),
    ("could not read Password", "configure a credential for this repository"),
    ("returned error: 401", "configure a credential for this repository"),
    ("returned error: 403", "give Skep's credential permission to do this"),
    ("redirect", "use the address that it redirects to"),
    ("detected dubious ownership", "make the user Skep runs as the owner of the repository"),
    ("fsck", "git considers objects of the repository malformed or dangerous: repair its history first"),
    ("Permission denied", "give the user Skep runs as access to it"),
    ("Read-only file system", "make the file system writable"),
    ("mismatched algorithms", "repositories with SHA-256 objects are not supported yet"),
];

/// Refusals by the proxy in between. The address that git names is that of the repository, so the fix names the proxy.
const PROXY_REFUSED: &[&str] = &[
    "HTTP code 403 from proxy",
    "HTTP code 407 from proxy",
    "HTTP code 400 from proxy",
    "HTTP code 401 from proxy",
    "HTTP code 404 from proxy",
    "HTTP code 405 from proxy",
    "CONNECT tunnel failed, response 4",
];

/// Parts of [`PERMANENT`] after which the other side hangs up.
const REFUSED: &[&str] = &[
    "returned error: 401",
    "returned error: 403",
    "returned error: 404",
    "Authentication failed",
    "Permission denied (publickey",
    "Host key verification failed",
];

/// Parts of the messages of passing failures: the disk, the network, other processes.
const TRANSIENT: &[&str] = &[
    "No space left on device",
    "Disk quota exceeded",
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Failed to connect",
    "Couldn't connect",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Connection closed",
    "Operation timed out",
    "Resolving timed out",
    "SSL connection timeout",
    "Host is down",
    // A proxy in between could not reach the other side.
    "from proxy after CONNECT",
    "CONNECT tunnel failed",
    "Proxy CONNECT aborted",
    "Operation too slow",
    "Network is unreachable",
    "No route to host",
    "Broken pipe",
    "early EOF",
    "unexpected disconnect",
    "remote end hung up",
    "unexpected EOF",
    "HTTP2 framing layer",
    // The connection was cut in the middle of an answer.
    "transfer closed",
    "Empty reply from server",
    "Recv failure",
    "Send failure",
    "Failure when receiving data",
    "not closed cleanly",
    "HTTP/2 stream 0 was reset",
    "closed by remote host",
    // ssh, with ServerAliveInterval.
    "not responding.",
    "SSL_ERROR_SYSCALL",
    "SSL_read",
    "GnuTLS recv error",
    "gnutls_handshake() failed",
    "TLS connection was non-properly terminated",
    "bad line length",
    "invalid index-pack output",
    "returned error: 408",
    "returned error: 429",
    "returned error: 5",
    // The service behind the git server.
    "(Internal Server Error)",
    "GitLab is not responding",
    "Internal API unreachable",
    "unpacker error",
    "unable to migrate objects",
    "Too many open files",
    // Another fetch made the history longer or shorter meanwhile.
    "shallow file has changed",
    "Transport endpoint is not connected",
    "Stale file handle",
    "Input/output error",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    ".lock': File exists",
    "cannot lock ref",
];

/// Parts of the messages about objects that are missing or unreadable. They say so in the first line about an object; what
/// follows is about the connection that ends because of it.
const DAMAGED: &[&str] =
    &["fatal: unable to read ", "bad tree object ", "bad object ", ") is corrupt", "error: unable to unpack "];

/// Returns the line that names a missing or unreadable object.
fn damage(message: &str) -> Option<&str> {
    let line = message.lines().find(|line| DAMAGED.iter().any(|part| line.contains(part)))?;
    let has_id = line.split(|c: char| !c.is_ascii_hexdigit()).any(|word| matches!(word.len(), 40 | 64));
    has_id.then(|| line.trim().trim_start_matches("remote: "))
}

/// Creates the error for a git command that failed while `doing` something.
pub fn command_error(doing: &str, finished: &ProcessOutput) -> PortError {
    let message = String::from_utf8_lossy(&finished.stderr);
    let what = format!("cannot {doing}: {}", output_tail(&finished.stderr));
    if finished.code.is_none() {
        return PortError::transient(format!("cannot {doing}: git was killed"));
    }
    if let Some(branch) = branch_in_the_way(&message) {
        return PortError::permanent(
            format!("cannot {doing}: the repository has a branch {branch:?}, so no branch can be below that name"),
            "rename that branch, or set another `branch_prefix` for new runs, then run `skep unblock`",
        );
    }
    if PROXY_REFUSED.iter().any(|t| message.contains(t)) {
        return PortError::permanent(
            what,
            "the proxy in between refused the connection: correct HTTPS_PROXY and NO_PROXY in Skep's environment, or \
             let the proxy allow this host",
        );
    }
    let is_full = ["No space left on device", "Disk quota exceeded"].iter().any(|t| message.contains(t));
    if let Some(line) = damage(&message).filter(|_| !is_full) {
        return PortError::permanent(
            format!("cannot {doing}: the repository is damaged: {}", output_tail(line.as_bytes())),
            "run `git fsck --full` in it, which names the damaged objects, and restore them from another clone or a backup",
        );
    }
    // A full disk or a lost connection explains every other message, but a refusal ends the connection, too.
    let is_refused = REFUSED.iter().any(|t| message.contains(t));
    if let Some(why) = TRANSIENT.iter().find(|t| message.contains(**t)).filter(|_| !is_refused) {
        let advice = match *why {
            "No space left on device" | "Disk quota exceeded" => "; free some disk space".to_owned(),
            w if w.ends_with("File exists") => format!("; {}", lock_advice(&message)),
            _ => String::new(),
        };
        return PortError::transient(format!("{what}{advice}"));
    }
    match PERMANENT.iter().find(|(t, _)| message.contains(t)) {
        Some((_, fix)) => PortError::permanent(what, *fix),
        None => PortError::permanent(what, "see the message of git; `skep doctor` checks git and the disk"),
    }
}

/// Returns the branch whose name is the beginning of a new one, which git cannot store beside it.
fn branch_in_the_way(message: &str) -> Option<&str> {
    let rest = message
        .split("refs/heads/")
        .find_map(|part| part.split_once('\'').filter(|(_, rest)| rest.starts_with(" exists; cannot create")))?;
    Some(rest.0)
}

/// Names the locks in the way.
fn lock_advice(message: &str) -> String {
    let locks: Vec<String> =
        super::leftovers::reported_locks(message).iter().map(|l| l.display().to_string()).collect();
    format!("another git is at work there, or one was killed and left {}", locks.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(message: &str) -> PortError {
        let finished = ProcessOutput {
            code: Some(128),
            signal: None,
            timed_out: false,
            stop_reason: None,
            stdout: Vec::new(),
            stderr: message.as_bytes().to_vec(),
            truncated: false,
            took: std::time::Duration::ZERO,
        };
        command_error("push \"b\"", &finished)
    }

    #[test]
    fn a_cut_connection_passes_and_a_wrong_address_does_not() {
        for passing in [
            "error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF",
            "fatal: unable to access 'http://x/': Empty reply from server",
            "fatal: unable to access 'https://x/': Recv failure: Connection reset by peer",
            "error: RPC failed; curl 28 Operation too slow. Less than 1 bytes/sec transferred the last 120 seconds",
            "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502",
            "fatal: unable to access 'https://x/': GnuTLS recv error (-110): The TLS connection was non-properly terminated.",
            "fatal: the remote end hung up upon initial contact",
            "error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)",
            "fatal: Unable to create '/m/packed-refs.lock': File exists.",
            "fatal: unable to access 'https://x/': Received HTTP code 502 from proxy after CONNECT",
            "fatal: unable to access 'https://x/': CONNECT tunnel failed, response 503",
            "fatal: unable to access 'https://x/': Proxy CONNECT aborted",
            "fatal: unable to access 'https://x/': SSL connection timeout",
            "fatal: unable to access 'https://x/': Resolving timed out after 5000 milliseconds",
            "error: RPC failed; curl 92 HTTP/2 stream 0 was reset",
            "Connection to git.example.org closed by remote host.\nfatal: Could not read from remote repository.",
            "Timeout, server git.example.org not responding.\nfatal: Could not read from remote repository.",
            "ssh: connect to host git.example.org port 22: Host is down",
            " ! [remote rejected] b -> b (Internal Server Error)\nerror: failed to push some refs to 'x'",
            "remote: GitLab is not responding\nfatal: Could not read from remote repository.",
            "remote: Internal API unreachable\nfatal: Could not read from remote repository.",
            " ! [remote rejected] b -> b (unpacker error)",
            "remote: fatal: unable to migrate objects to permanent storage",
            "error: cannot open .git/FETCH_HEAD: Too many open files",
            "fatal: shallow file has changed since we read it",
        ] {
            assert!(matches!(error_of(passing), PortError::Transient { .. }), "{passing}");
        }
        for lasting in [
            "fatal: unable to access 'https://x/': The requested URL returned error: 403",
            "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\nfatal: the remote end hung up unexpectedly",
            "fatal: Authentication failed for 'https://x/'",
            "fatal: repository 'https://x/' not found",
            "fatal: the branch was reset by its owner",
            " ! [remote rejected] b -> b (pre-receive hook declined)",
        ] {
            assert!(matches!(error_of(lasting), PortError::Permanent { .. }), "{lasting}");
        }
    }

    #[test]
    fn a_damaged_repository_is_named_with_the_object() {
        let id = "5579f981046952da205bb630d4fac26bda178436";
        let rest = "error: git upload-pack: git-pack-objects died with error.\n\
            remote: aborting due to possible repository corruption on the remote side.\nfatal: early EOF";
        for line in [
            format!("remote: fatal: unable to read {id}        \n{rest}"),
            format!("remote: fatal: bad tree object {id}\n{rest}"),
            format!("error: unable to unpack {id} header\nfatal: the remote end hung up unexpectedly"),
            format!("fatal: loose object {id} (stored in ./objects/55/79f9) is corrupt\n{rest}"),
        ] {
            let error = error_of(&line);
            let PortError::Permanent { what, fix } = &error else { panic!("{line}: {error:?}") };
            assert!(what.contains("is damaged") && what.contains(id) && fix.contains("git fsck"), "{what}: {fix}");
        }
        // What is sent badly may be sent well the next time, and a full disk explains the rest.
        for passing in
            [rest.to_owned(), format!("error: unable to unpack {id}\nfatal: write error: No space left on device")]
        {
            assert!(matches!(error_of(&passing), PortError::Transient { .. }), "{passing}");
        }
    }

    #[test]
    fn a_refusal_by_the_proxy_names_the_proxy() {
        for refused in [
            "fatal: unable to access 'https://x/': Received HTTP code 403 from proxy after CONNECT",
            "fatal: unable to access 'https://x/': Received HTTP code 407 from proxy after CONNECT",
            "fatal: unable to access 'https://x/': CONNECT tunnel failed, response 407",
            "fatal: unable to access 'https://x/': CONNECT tunnel failed, response 403",
        ] {
            let error = error_of(refused);
            let PortError::Permanent { fix, .. } = &error else { panic!("{refused}: {error:?}") };
            assert!(fix.contains("proxy") && fix.contains("HTTPS_PROXY"), "{fix}");
        }
    }

    #[test]
    fn a_lock_is_named_and_a_branch_in_the_way_too() {
        let error = error_of("fatal: Unable to create '/m/packed-refs.lock': File exists.");
        assert!(error.to_string().contains("left /m/packed-refs.lock"), "{error}");
        let error = error_of(
            "remote: error: cannot lock ref 'refs/heads/skep/1': 'refs/heads/skep' exists; cannot create 'refs/heads/skep/1'",
        );
        let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
        assert!(what.contains("branch \"skep\"") && fix.contains("branch_prefix"), "{what}: {fix}");
    }
}
