//! Releases the workspace of a finished run: removes its folders and keeps its commits reachable.

use super::GitWorkspaces;
use crate::domain::{RunId, Sha};
use crate::platform::git::check_sha;
use crate::platform::git::durable_fs::{remove_path, run_blocking};
use crate::ports::{PortResult, Repo};

impl GitWorkspaces {
    pub(super) async fn release_run(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()> {
        if self.mirror(repo).join("HEAD").is_file() {
            self.save_task_wip(repo, run).await;
            self.archive_branches(repo, run, branch).await?;
        }
        crate::fault!("mid-release");
        let run = run.to_string();
        let folders = ["work", "scratch", "sealed"].map(|part| self.data.join(part).join(&run));
        run_blocking(move || {
            // The markers first, so that an interruption leaves nothing that looks complete.
            let [work, scratch, sealed] = &folders;
            [sealed, work, scratch].into_iter().try_for_each(|dir| remove_path(dir))
        })
        .await
    }

    /// Saves uncommitted work in the tasks' worktrees.
    async fn save_task_wip(&self, repo: &Repo, run: RunId) {
        let sealed = self.data.join("sealed").join(run.to_string());
        let Ok(entries) = std::fs::read_dir(sealed) else { return };
        let is_task =
            |name: &str| name.strip_prefix('t').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| is_task(n));
        for name in names.take(1_000) {
            let _unchanged = self.save_wip(repo, run, &name, &self.paths(run, &name)).await;
        }
    }

    /// Deletes the run's branches. Those with unlanded commits are first archived under `refs/skep/wip/<run>/…`.
    async fn archive_branches(&self, repo: &Repo, run: RunId, branch: &str) -> PortResult<()> {
        let list = self.mirrors.call(repo).args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let list = list.arg(format!("refs/heads/{branch}")).arg(format!("refs/heads/{branch}-task"));
        let list = list.output_line("list the run's branches").await?;
        let mut script = String::new();
        for (sha, name) in list.lines().filter_map(|l| l.split_once(' ')) {
            let sha = Sha(sha.to_owned());
            let Some(short) = name.strip_prefix("refs/heads/").filter(|_| check_sha(&sha).is_ok()) else { continue };
            // Commits on any other branch of the origin have landed, or others keep them there.
            let unlanded = self.mirrors.call(repo).args(["rev-list", "--max-count=1", sha.as_str(), "--not"]);
            let unlanded =
                unlanded.arg(format!("--exclude=refs/remotes/origin/{branch}*")).arg("--glob=refs/remotes/origin/*");
            if !unlanded.output_line("find unlanded commits").await?.is_empty() {
                let archived = short.replace('/', "-");
                script.push_str(&format!("update refs/skep/wip/{run}/{archived} {sha}\n"));
            }
            script.push_str(&format!("delete {name} {sha}\n"));
        }
        if script.is_empty() {
            return Ok(());
        }
        let call = self.mirrors.call(repo).args(["update-ref", "--no-deref", "--stdin"]).stdin(script);
        call.output("archive the run's branches").await.map(drop)
    }
}
