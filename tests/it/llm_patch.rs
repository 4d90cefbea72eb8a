//! The patch tool in a worktree: several files or none, and no way out of the worktree whatever a patch names.

use super::engines_contract::Place;
use super::llm::{develop, results, transcript, work};
use super::support::models::{Models, call, calls};
use serde_json::json;
use skep::ports::engine::StepOutcome;
use skep::providers::settings::Api;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// What the model is told of each patch.
async fn told(place: &Place, patches: &[String]) -> Vec<String> {
    let asked: Vec<_> = patches.iter().map(|p| ("patch", json!({ "patch": p }))).collect();
    let models = Models::play([calls(&asked), call("done", json!({"summary": "x"}))]).await;
    let worked = work(models.provider(Api::Anthropic), &develop(), place).await;
    assert!(matches!(worked.result, StepOutcome::Edited { .. }), "{:?}", worked.result);
    let told = results(&models.seen()[1].body);
    assert_eq!(told.len(), patches.len());
    told
}

/// Every file below, its text and mode.
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
async fn one_patch_edits_makes_renames_and_deletes() {
    let git = "diff --git a/run.sh b/bin/run.sh\nsimilarity index 90%\nrename from run.sh\nrename to bin/run.sh\n--- a/run.sh\n\
        +++ b/bin/run.sh\n@@ -1,2 +1,2 @@\n #!/bin/sh\n-echo one\n+echo two\ndiff --git a/gone.txt b/gone.txt\n\
        deleted file mode 100644\n--- a/gone.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\ndiff --git a/new/it.md b/new/it.md\n\
        new file mode 100644\n--- /dev/null\n+++ b/new/it.md\n@@ -0,0 +1,2 @@\n+# It\n+is new\n\
        diff --git a/same.txt b/moved.txt\nrename from same.txt\nrename to moved.txt\n";
    let envelope = "*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n@@\n-echo one\n+echo two\n\
        *** Delete File: gone.txt\n*** Add File: new/it.md\n+# It\n+is new\n*** Update File: same.txt\n*** Move to: moved.txt\n\
        *** End Patch\n";
    for patch in [git, envelope] {
        let place = Place::new();
        let before = texts(&place.tree());
        for (name, text) in [("run.sh", "#!/bin/sh\necho one\n"), ("gone.txt", "old\n"), ("same.txt", "as it is")] {
            std::fs::write(place.tree().join(name), text).unwrap();
        }
        std::fs::set_permissions(place.tree().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let said = told(&place, &[patch.to_owned()]).await.remove(0);
        assert_eq!(
            said,
            "bin/run.sh: renamed from run.sh, 1 hunk applied\ngone.txt: deleted\nnew/it.md: made, 2 lines\n\
             moved.txt: renamed from same.txt, 0 hunks applied"
        );
        let mut after = files(&place.tree());
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
async fn a_patch_of_which_one_part_does_not_fit_changes_nothing() {
    let place = Place::new();
    let tree = place.tree();
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
        ("*** Update File: bin\n-x\n+y\n", "\"bin\" is not text"),
        ("*** Update File: large\n-x\n+y\n", "at most"),
        ("*** Update File: a.txt\n-two\n+zwei\n*** Update File: a.txt\n-one\n+x\n", "hunk 1 does not fit"),
        ("*** Update File: z\n*** Move to: a.txt\n", "\"a.txt\" already exists"),
        ("*** Delete File: b.txt\n", "\"b.txt\" does not exist"),
    ];
    let patches: Vec<String> = bad.iter().map(|(part, _)| format!("{good}{part}*** End Patch\n")).collect();
    for (said, (part, why)) in told(&place, &patches).await.iter().zip(bad) {
        assert!(
            said.starts_with("error: ") && said.contains(why) && said.contains("nothing was changed"),
            "{part}: {said}"
        );
    }
    assert!(files(&tree) == before, "something was changed");
    // Found only when it is carried out (a folder cannot be made where the patch has just put a file): all is taken back.
    let late = format!(
        "{good}*** Update File: z\n*** Move to: y\n*** Add File: n\n+x\n*** Add File: n/inner\n+x\n*** End Patch\n"
    );
    let said = told(&place, &[late]).await.remove(0);
    assert!(
        said.contains("\"n/inner\"") && said.contains("nothing was changed") && !said.contains("taken back"),
        "{said}"
    );
    assert!(files(&tree) == before, "what was done before the failure stays");
}

#[tokio::test]
async fn no_patch_leads_outside_and_none_is_too_large() {
    let (place, outside) = (Place::new(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "canary-8812\n").unwrap();
    let tree = place.tree();
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
        for (said, patch) in told(&place, part).await.iter().zip(part) {
            let patch: String = patch.chars().take(120).collect();
            assert!(said.starts_with("error: ") && said.len() < 2_000, "{patch:?} said {said:.300}");
            assert!(!said.contains("root:"), "{patch:?} said {said}");
        }
    }
    assert!((files(&tree), files(outside.path())) == before, "something was changed");
    assert!(!place.root.path().join("outside").exists());
}

#[tokio::test]
async fn what_a_patch_is_about_is_seen_and_kept() {
    let place = Place::new();
    std::fs::write(place.tree().join("a.txt"), "one\n").unwrap();
    let patch = json!({"patch": "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n--- /dev/null\n+++ b/b.txt\n@@ -0,0 +1 @@\n+x\n"});
    let models = Models::play([call("patch", patch), call("done", json!({"summary": "x"}))]).await;
    let worked = work(models.provider(Api::OpenAi), &develop(), &place).await;
    assert!(transcript(&worked).contains("a.txt: 1 hunk applied\\nb.txt: made, 1 lines"));
    let last = models.seen()[1].body.to_string();
    assert!(last.contains("a.txt: 1 hunk applied"), "{last}");
}
