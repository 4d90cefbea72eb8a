//! The patch tool in a worktree: it changes all files or none, and accepts no path that leads outside.

use super::engines_contract::AttemptDirs;
use super::llm::{develop, results, transcript, work};
use super::support::models::{Models, call, calls};
use serde_json::json;
use skep::ports::engine::StepOutcome;
use skep::providers::settings::Api;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Results that the model receives for patches.
async fn tool_results(dirs: &AttemptDirs, patches: &[String]) -> Vec<String> {
    let asked: Vec<_> = patches.iter().map(|p| ("patch", json!({ "patch": p }))).collect();
    let models = Models::play([calls(&asked), call("done", json!({"summary": "x"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let tool_results = results(&models.seen()[1].body);
    assert_eq!(tool_results.len(), patches.len());
    tool_results
}

/// Returns every file below a folder, with its text and mode.
fn files(dir: &Path) -> BTreeMap<String, (String, u32)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let name = entry.file_name().into_string().unwrap();
        if meta.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, what)| (format!("{name}/{inner}"), what)));
        } else if meta.is_file() {
            found.insert(name, (std::fs::read_to_string(&path).unwrap(), meta.permissions().mode() & 0o777));
        }
    }
    found
}

fn texts(dir: &Path) -> Vec<(String, String)> {
    files(dir).into_iter().map(|(name, (text, _))| (name, text)).collect()
}

#[tokio::test]
async fn one_patch_edits_creates_renames_and_deletes() {
    let git = "diff --git a/run.sh b/bin/run.sh\nsimilarity index 90%\nrename from run.sh\nrename to bin/run.sh\n--- a/run.sh\n\
        +++ b/bin/run.sh\n@@ -1,2 +1,2 @@\n #!/bin/sh\n-echo one\n+echo two\ndiff --git a/gone.txt b/gone.txt\n\
        deleted file mode 100644\n--- a/gone.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\ndiff --git a/new/it.md b/new/it.md\n\
        new file mode 100644\n--- /dev/null\n+++ b/new/it.md\n@@ -0,0 +1,2 @@\n+# It\n+is new\n\
        diff --git a/same.txt b/moved.txt\nrename from same.txt\nrename to moved.txt\n";
    let envelope = "*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n@@\n-echo one\n+echo two\n\
        *** Delete File: gone.txt\n*** Add File: new/it.md\n+# It\n+is new\n*** Update File: same.txt\n*** Move to: moved.txt\n\
        *** End Patch\n";
    for patch in [git, envelope] {
        let dirs = AttemptDirs::new();
        let before = texts(&dirs.tree());
        for (name, text) in [("run.sh", "#!/bin/sh\necho one\n"), ("gone.txt", "old\n"), ("same.txt", "as it is")] {
            std::fs::write(dirs.tree().join(name), text).unwrap();
        }
        std::fs::set_permissions(dirs.tree().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let result = tool_results(&dirs, &[patch.to_owned()]).await.remove(0);
        assert_eq!(
            result,
            "bin/run.sh: renamed from run.sh, 1 hunk applied\ngone.txt: deleted\nnew/it.md: created, 2 lines\n\
             moved.txt: renamed from same.txt, 0 hunks applied"
        );
        let mut after = files(&dirs.tree());
        for (name, _) in &before {
            after.remove(name);
        }
        let of = |name: &str| after.get(name).map(|(text, mode)| (text.as_str(), *mode));
        assert_eq!(of("bin/run.sh"), Some(("#!/bin/sh\necho two\n", 0o755)));
        assert_eq!(of("new/it.md"), Some(("# It\nis new\n", 0o644)));
        assert_eq!(of("moved.txt").map(|(text, _)| text), Some("as it is"));
        assert_eq!(after.len(), 3, "{after:?}");
    }
}

#[tokio::test]
async fn a_patch_with_one_failing_part_changes_nothing() {
    let dirs = AttemptDirs::new();
    let tree = dirs.tree();
    for (name, text) in [("a.txt", "one\ntwo\n"), ("b.txt", "one\ntwo\n"), ("z", "a file, no folder\n")] {
        std::fs::write(tree.join(name), text).unwrap();
    }
    std::fs::write(tree.join("bin"), [0u8, 1, 2]).unwrap();
    std::fs::write(tree.join("large"), "x\n".repeat(3_000_000)).unwrap();
    let before = files(&tree);
    let good = "*** Begin Patch\n*** Update File: a.txt\n-one\n+eins\n*** Delete File: b.txt\n";
    let bad = [
        ("*** Update File: none.txt\n-x\n+y\n", "\"none.txt\" does not exist"),
        ("*** Add File: z/inner\n+x\n", "\"z/inner\" goes through \"z\", which is a link or not a directory"),
        ("*** Add File: a.txt\n+x\n", "\"a.txt\" already exists"),
        ("*** Update File: bin\n-x\n+y\n", "\"bin\" is not a text file"),
        ("*** Update File: large\n-x\n+y\n", "the maximum is"),
        ("*** Update File: a.txt\n-two\n+zwei\n*** Update File: a.txt\n-one\n+x\n", "hunk 1 does not match"),
        ("*** Update File: z\n*** Move to: a.txt\n", "\"a.txt\" already exists"),
        ("*** Delete File: b.txt\n", "\"b.txt\" does not exist"),
    ];
    let patches: Vec<String> = bad.iter().map(|(part, _)| format!("{good}{part}*** End Patch\n")).collect();
    for (result, (part, why)) in tool_results(&dirs, &patches).await.iter().zip(bad) {
        assert!(
            result.starts_with("error: ") && result.contains(why) && result.contains("nothing was changed"),
            "{part}: {result}"
        );
    }
    assert!(files(&tree) == before, "something was changed");
    // This error is found only while the patch is applied (a folder cannot be created where the patch has just put a
    // file), so all changes are undone.
    let late = format!(
        "{good}*** Update File: z\n*** Move to: y\n*** Add File: n\n+x\n*** Add File: n/inner\n+x\n*** End Patch\n"
    );
    let result = tool_results(&dirs, &[late]).await.remove(0);
    assert!(
        result.contains("\"n/inner\"") && result.contains("nothing was changed") && !result.contains("undoing"),
        "{result}"
    );
    assert!(files(&tree) == before, "what was done before the failure stays");
}

#[tokio::test]
async fn patches_outside_the_worktree_or_too_large_are_refused() {
    let (dirs, outside) = (AttemptDirs::new(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "canary-8812\n").unwrap();
    let tree = dirs.tree();
    symlink(outside.path().join("secret"), tree.join("link")).unwrap();
    symlink(outside.path(), tree.join("way")).unwrap();
    std::fs::create_dir_all(tree.join(".git/hooks")).unwrap();
    std::fs::write(tree.join(".git/config"), "canary-8812\n").unwrap();
    std::fs::write(tree.join("real.txt"), "real\n").unwrap();
    let before = (files(&tree), files(outside.path()));
    let paths = [
        "../outside",
        "/etc/cron.d/x",
        "a/../../x",
        ".git/config",
        ".GIT/hooks/pre-commit",
        ".git/hooks/pre-commit",
        "./.git/config",
        "link",
        "way/secret",
        "way/new",
        "a\u{0}b",
        "git~1/config",
        ".g\u{200c}it/config",
        "",
        "sub/.git/config",
        ".",
    ];
    let mut patches = Vec::new();
    for path in paths {
        patches.push(format!("*** Begin Patch\n*** Update File: {path}\n-canary-8812\n+taken over\n*** End Patch\n"));
        patches.push(format!("*** Begin Patch\n*** Add File: {path}\n+taken over\n*** End Patch\n"));
        patches.push(format!("*** Begin Patch\n*** Delete File: {path}\n*** End Patch\n"));
        patches.push(format!(
            "*** Begin Patch\n*** Update File: real.txt\n*** Move to: {path}\n-real\n+taken over\n*** End Patch\n"
        ));
        patches.push(format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-canary-8812\n+taken over\n"));
        patches.push(format!("diff --git a/real.txt b/x\nrename from real.txt\nrename to {path}\n"));
        patches.push(format!("diff --git a/x b/x\nrename from {path}\nrename to stolen\n"));
    }
    let many: String = (0..10_000).map(|n| format!("*** Add File: f{n}\n+x\n")).collect();
    patches.push(format!("*** Begin Patch\n{many}*** End Patch\n"));
    patches.push(format!("--- a/real.txt\n+++ b/real.txt\n{}", "@@ -1 +1 @@\n-real\n+x\n".repeat(20_000)));
    patches.push(format!("*** Begin Patch\n*** Add File: huge\n+{}\n*** End Patch\n", "x".repeat(3_000_000)));
    for part in patches.chunks(60) {
        for (result, patch) in tool_results(&dirs, part).await.iter().zip(part) {
            let patch: String = patch.chars().take(120).collect();
            assert!(result.starts_with("error: ") && result.len() < 2_000, "{patch:?}: {result:.300}");
            assert!(!result.contains("root:"), "{patch:?}: {result}");
        }
    }
    assert!((files(&tree), files(outside.path())) == before, "something was changed");
    assert!(!dirs.root.path().join("outside").exists());
}

#[tokio::test]
async fn the_files_of_a_patch_are_reported_and_recorded() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("a.txt"), "one\n").unwrap();
    let patch = json!({"patch": "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n--- /dev/null\n+++ b/b.txt\n@@ -0,0 +1 @@\n+x\n"});
    let models = Models::play([call("patch", patch), call("done", json!({"summary": "x"}))]).await;
    let run_result = work(models.provider(Api::OpenAi), &develop(), &dirs).await;
    assert!(transcript(&run_result).contains("a.txt: 1 hunk applied\\nb.txt: created, 1 lines"));
    let last = models.seen()[1].body.to_string();
    assert!(last.contains("a.txt: 1 hunk applied"), "{last}");
}
