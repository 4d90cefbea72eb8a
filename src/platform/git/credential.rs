//! Hands git a credential through a pipe, which its credential helper reads once.
//!
//! Invariant: a credential never appears in an argument, a URL, an environment or a file.

use super::Origin;
use crate::platform::process::{self, ProcessOutput, Program};
use crate::ports::GitCredential;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use zeroize::Zeroizing;

/// Creates a pipe that holds the credential in the format of git's credential helpers.
fn pipe_of(credential: &GitCredential) -> std::io::Result<OwnedFd> {
    let GitCredential { username, password } = credential;
    // A line break would add another attribute.
    if [username, password.expose()].iter().any(|text| text.is_empty() || text.contains(['\n', '\r', '\0'])) {
        return Err(std::io::Error::other("the credential of the forge is empty or has line breaks"));
    }
    let text = Zeroizing::new(format!("username={username}\npassword={}\n", password.expose()));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // It fits into the pipe: a token has a few hundred bytes.
    if rustix::io::write(&writer, text.as_bytes())? != text.len() {
        return Err(std::io::Error::other("the credential of the forge is too long"));
    }
    Ok(reader)
}

/// Returns the options that make git read the credential from this pipe, for this origin's host only: not for a proxy.
fn options(origin: &Origin, reader: &OwnedFd) -> Option<[OsString; 2]> {
    let Origin::Http(url) = origin else { return None };
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    let helper = format!("!f() {{ test \"$1\" = get && cat </dev/fd/{}; }}; f", reader.as_raw_fd());
    Some(["-c".into(), format!("credential.{scheme}://{host}.helper={helper}").into()])
}

/// Runs git with a credential for an origin. `position` is where its options belong among the arguments.
pub(super) async fn run(
    program: &Program,
    position: usize,
    origin: &Origin,
    credential: &GitCredential,
) -> std::io::Result<ProcessOutput> {
    let reader = pipe_of(credential)?;
    let mut program = program.clone();
    let options = options(origin, &reader).into_iter().flatten();
    program.args.splice(position..position, options);
    process::run_with_descriptor(&program, reader).await
}
