//! Hostile patches: they are refused with a reason, and leave nothing behind.

use super::{Agent, adds, open_run};
use crate::support::rest::service;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn creates(path: &str, mode: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    )
}

/// All files below a folder, except databases and logs, which change by themselves.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(entry.path()),
                false => drop(found.insert(entry.path())),
            }
        }
    }
    found.retain(|path| !path.to_string_lossy().contains("skep.db"));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_patches_are_refused_and_leave_nothing() {
    let s = service().await;
    let crab = Agent::of(&s, "ann", "crab").await;
    let run = open_run(&s, "red").await;
    let red = crab.offer("red", "develop").await;
    assert_eq!(crab.claim(&red).await.status, 200);
    let root = s.origin.parent().expect("a folder");
    let before = files(root);
    let many: String = (0..2_000).map(|n| creates(&format!("f{n}"), "100644")).collect::<String>() + "@@ broken\n";
    let patches = [
        creates("../outside.txt", "100644"),
        creates("/tmp/skep-outside.txt", "100644"),
        creates("a/../../outside.txt", "100644"),
        creates(".git/hooks/post-commit", "100755"),
        creates(".GIT/config", "100644"),
        creates("sub/.git/config", "100644"),
        creates("a.txt/b", "100644"),
        creates("link", "120000"),
        creates("module", "160000"),
        creates("x\u{0}y", "100644"),
        "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-zwei\n+two\n".to_owned(),
        "--- a/a.txt\n+++ /etc/passwd\n@@ -1 +1 @@\n-one\n+two\n".to_owned(),
        "diff --git a/a.txt b/b.bin\nGIT binary patch\nliteral 4\nLc${Nk0\n".to_owned(),
        "not a patch at all".to_owned(),
        format!("{}{}", adds("two"), creates("../outside.txt", "100644")),
        many,
    ];
    for patch in &patches {
        let shown: String = patch.chars().take(80).collect();
        let reply = crab.submit(&red, patch).await;
        assert_eq!(reply.status, 422, "{shown}: {reply:?}");
        assert!(reply.text.len() < 8_000, "{shown}");
    }
    crab.submit(&red, "").await.is_problem(422, "invalid");
    crab.submit(&red, &"x".repeat(600 * 1024)).await.is_problem(422, "invalid");
    let left: Vec<_> = files(root).difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Path::new("/tmp/skep-outside.txt").exists());

    // The claim is still there, and only what is submitted now is in the change.
    assert_eq!(crab.submit(&red, &adds("two")).await.json()["accepted"], true);
    let reviewer = Agent::of(&s, "ben", "fox").await;
    reviewer.offer("red", "review").await;
    let diff = s.get(&format!("/api/v1/runs/{run}/patch")).await.text;
    assert!(diff.contains("+two") && diff.matches("diff --git").count() == 1, "{diff}");

    // Limits count refused submissions, too.
    let mut refused = 0;
    for _ in 0..40 {
        let reply = crab.post("/offers/0-1/abandon", &json!({})).await;
        match reply.status.as_u16() {
            404 => {}
            429 => {
                reply.is_problem(429, "too_many_calls");
                assert_eq!(reply.header("retry-after"), "60");
                refused += 1;
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert!(refused > 20, "{refused} of 40");
}
