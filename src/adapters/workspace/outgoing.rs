//! Scans the commits a push would send for secrets.

use super::GitWorkspaces;
use crate::domain::{SecretFound, Sha};
use crate::platform::git::TREE_TIMEOUT;
use crate::ports::{PortError, PortResult, Repo};
use crate::secrets::OutgoingScan;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

impl GitWorkspaces {
    /// Scans the commits between the origin's branches, as last fetched, and `sha`: messages, file names, and every
    /// added line, including those of binary files.
    pub(super) async fn search_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>> {
        let format = format!("--format=format:{}%H%n%B", OutgoingScan::COMMIT);
        let show = ["log", "--patch", "--unified=0", "--text", "--no-color", "--no-ext-diff", "--no-textconv"];
        let call =
            self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(show).args(["--no-renames", "--diff-merges=separate"]);
        let call = call.args(["--no-show-signature", "--no-notes", "--src-prefix=a/", "--dst-prefix=b/"]).arg(format);
        let call = call.args([sha.as_str(), "--not", "--remotes=origin", "--"]);
        let scan = Arc::new(Mutex::new(OutgoingScan::default()));
        let shared = Arc::clone(&scan);
        let feed = move |piece: &[u8]| {
            shared.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
            ControlFlow::Continue(())
        };
        call.stream_output("scan outgoing commits for secrets", feed).await?;
        let scan = std::mem::take(&mut *scan.lock().unwrap_or_else(PoisonError::into_inner));
        let found = tokio::task::spawn_blocking(move || scan.finish()).await.map_err(|e| {
            PortError::permanent(format!("the scan for secrets was aborted: {e}"), "report this as a bug")
        })?;
        Ok(found.into_iter().map(|f| SecretFound { location: f.place, what: f.what, fingerprint: f.mark }).collect())
    }
}
