//! What a push would send, searched for secrets before it goes.

use super::GitWorkspaces;
use crate::domain::{SecretFound, Sha};
use crate::platform::git::TREE;
use crate::ports::{PortError, PortResult, Repo};
use crate::secrets::OutgoingScan;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

impl GitWorkspaces {
    /// Searches the commits from the origin's branches, as last fetched, to `sha`: messages, names, and every line added, of
    /// binary files too.
    pub(super) async fn search_outgoing(&self, repo: &Repo, sha: &Sha) -> PortResult<Vec<SecretFound>> {
        let format = format!("--format=format:{}%H%n%B", OutgoingScan::COMMIT);
        let show = ["log", "--patch", "--unified=0", "--text", "--no-color", "--no-ext-diff", "--no-textconv"];
        let call = self.mirrors.call(repo).limit(TREE).args(show).args(["--no-renames", "--diff-merges=separate"]);
        let call = call.args(["--no-show-signature", "--no-notes", "--src-prefix=a/", "--dst-prefix=b/"]).arg(format);
        let call = call.args([sha.as_str(), "--not", "--remotes=origin", "--"]);
        let scan = Arc::new(Mutex::new(OutgoingScan::default()));
        let into = Arc::clone(&scan);
        let look = move |piece: &[u8]| {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
            ControlFlow::Continue(())
        };
        call.stream_output("look for secrets in what would be pushed", look).await?;
        let scan = std::mem::take(&mut *scan.lock().unwrap_or_else(PoisonError::into_inner));
        let found = tokio::task::spawn_blocking(move || scan.finish()).await.map_err(|e| {
            PortError::permanent(format!("the search for secrets broke off: {e}"), "report this as a defect")
        })?;
        Ok(found.into_iter().map(|f| SecretFound { location: f.place, what: f.what, fingerprint: f.mark }).collect())
    }
}
