//! Lists HEAD and branches of an origin: in this process for a local repository, by `git ls-remote` for all others.

use super::access::Access;
use super::local::LocalView;
use super::mirror::Mirrors;
use super::read::with_repo;
use crate::domain::Sha;
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;

/// HEAD and branches of an origin, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteHeads {
    /// Branch that HEAD points to; `None` = detached or missing.
    pub default: Option<String>,
    /// Whether the origin has a HEAD.
    pub has_head: bool,
    /// The requested branches.
    pub heads: BTreeMap<String, Sha>,
}

impl Mirrors {
    /// Lists HEAD and the branches of an origin: those in `only`, or all if it is empty.
    ///
    /// # Errors
    /// When the origin cannot be read, with the fix.
    pub async fn remote_heads(&self, repo: &Repo, only: &[&str]) -> PortResult<RemoteHeads> {
        let access = self.access(repo).await?;
        self.heads_at(repo, &access, Some(only).filter(|only| !only.is_empty())).await
    }

    /// Lists HEAD and some branches of an origin; `None` = all.
    pub(super) async fn heads_at(
        &self,
        repo: &Repo,
        access: &Access,
        only: Option<&[&str]>,
    ) -> PortResult<RemoteHeads> {
        if let (Some(view), Some(only)) = (&access.view, only)
            && let Some(heads) = local_heads(view, only).await
        {
            return Ok(heads);
        }
        self.ensure_locked(&repo.project).await?;
        let mut call = self.call(repo).with_origin(access).args(["ls-remote", "--symref"]);
        call = call.args(access.upload_pack()).arg("--end-of-options").arg(access.address()).arg("HEAD");
        call = match only {
            None => call.arg("refs/heads/*"),
            Some(only) => call.args(only.iter().map(|name| format!("refs/heads/{name}"))),
        };
        let output =
            call.output(&format!("reach the repository {}", access.redacted())).await.map_err(|e| match e {
                // Listing changes nothing, so a timeout is not an unknown outcome.
                PortError::Unknown { what } => PortError::transient(what),
                other => other,
            })?;
        parse_listing(&String::from_utf8_lossy(&output)).ok_or_else(|| {
            PortError::permanent(
                format!("{} stores its objects by SHA-256", access.redacted()),
                "use a repository with SHA-1 objects; SHA-256 is not supported yet",
            )
        })
    }
}

/// Reads what `git ls-remote --symref` prints; `None` = the objects are not stored by SHA-1.
fn parse_listing(listing: &str) -> Option<RemoteHeads> {
    let mut remote = RemoteHeads::default();
    let mut head = None;
    for line in listing.lines() {
        let Some((left, name)) = line.split_once('\t') else { continue };
        match (left.strip_prefix("ref: refs/heads/"), name.strip_prefix("refs/heads/")) {
            (Some(target), None) if name == "HEAD" => remote.default = Some(target.to_owned()),
            _ if left.starts_with("ref: ") => {}
            (_, _) if left.len() != 40 => return None,
            (None, Some(branch)) => {
                remote.heads.insert(branch.to_owned(), Sha(left.to_owned()));
            }
            (None, None) if name == "HEAD" => head = Some(Sha(left.to_owned())),
            _ => {}
        }
    }
    remote.has_head = head.is_some();
    if let (Some(default), Some(head)) = (&remote.default, head) {
        remote.heads.insert(default.clone(), head);
    }
    Some(remote)
}

/// Reads HEAD and some branches of a local origin without a process, because each parked run asks in every sweep.
/// `None` = something there that only git reads or explains: reftables, SHA-256, a broken ref.
async fn local_heads(view: &LocalView, only: &[&str]) -> Option<RemoteHeads> {
    if view.settings.contains_key("extensions.refstorage") || view.settings.contains_key("extensions.objectformat") {
        return None;
    }
    let names: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
    with_repo(&view.dir, move |repo| Ok(read_heads(repo, &names))).await.ok()?
}

fn read_heads(repo: &gix::Repository, names: &[String]) -> Option<RemoteHeads> {
    let mut found = RemoteHeads::default();
    let head = repo.find_reference("HEAD").ok()?;
    let target = head.target().try_name().map(|name| name.as_bstr().to_string());
    let default = target.as_deref().and_then(|name| name.strip_prefix("refs/heads/"));
    // Of a detached HEAD, the commit says nothing about a branch.
    found.has_head = default.is_none();
    for name in names.iter().map(String::as_str).chain(default) {
        let Some(mut branch) = repo.try_find_reference(&format!("refs/heads/{name}")).ok()? else { continue };
        let commit = branch.peel_to_id().ok()?.detach();
        if !repo.has_object(commit) {
            return None;
        }
        found.heads.insert(name.to_owned(), Sha(commit.to_string()));
    }
    if let Some(default) = default.filter(|name| found.heads.contains_key(*name)) {
        found.has_head = true;
        found.default = Some(default.to_owned());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn git(dir: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(dir).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(args);
        let output =
            command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(dir: &Path, names: &[&str]) -> Option<RemoteHeads> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        read_heads(&gix::open_opts(dir.join(".git"), gix::open::Options::isolated()).unwrap(), &names)
    }

    /// Asserts that this process and git see the same.
    fn same(dir: &Path, names: &[&str]) -> RemoteHeads {
        let full: Vec<String> = names.iter().map(|name| format!("refs/heads/{name}")).collect();
        let mut args = vec!["ls-remote", "--symref", ".", "HEAD"];
        args.extend(full.iter().map(String::as_str));
        let listed = parse_listing(&git(dir, &args)).unwrap();
        assert_eq!(read(dir, names).unwrap(), listed);
        listed
    }

    #[test]
    fn this_process_reads_the_same_heads_as_git() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        git(dir, &["init", "-q", "-b", "trunk"]);
        let unborn = same(dir, &["trunk", "absent"]);
        assert!(!unborn.has_head && unborn.default.is_none() && unborn.heads.is_empty());
        git(dir, &["commit", "-q", "--allow-empty", "-m", "one"]);
        git(dir, &["branch", "skep/a/b"]);
        git(dir, &["pack-refs", "--all"]);
        git(dir, &["commit", "-q", "--allow-empty", "-m", "two"]);
        git(dir, &["symbolic-ref", "refs/heads/alias", "refs/heads/trunk"]);
        let seen = same(dir, &["skep/a/b", "alias", "absent", "skep/a"]);
        assert_eq!((seen.default.as_deref(), seen.heads.len()), (Some("trunk"), 3));
        git(dir, &["checkout", "-q", "--detach"]);
        let detached = same(dir, &["trunk"]);
        assert_eq!((detached.has_head, detached.default), (true, None));
    }

    #[test]
    fn a_broken_branch_is_left_to_git() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "-b", "trunk"]);
        git(dir.path(), &["commit", "-q", "--allow-empty", "-m", "one"]);
        std::fs::write(dir.path().join(".git/refs/heads/lost"), format!("{}\n", "7".repeat(40))).unwrap();
        assert_eq!(read(dir.path(), &["lost"]), None);
        std::fs::write(dir.path().join(".git/refs/heads/torn"), "12").unwrap();
        assert_eq!(read(dir.path(), &["torn"]), None);
    }
}
