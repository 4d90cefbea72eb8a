//! Tools of the agent loop with malicious arguments, and with files that are not what they seem.

use super::engines_contract::AttemptDirs;
use super::llm::{develop, results, work};
use super::support::models::{Models, Reply, call, calls};
use serde_json::{Value, json};
use skep::ports::engine::StepOutcome;
use skep::providers::settings::Api;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Plays one answer with these calls and returns the tool results.
async fn tool_results(dirs: &AttemptDirs, asked: &[(&str, Value)]) -> Vec<String> {
    let models = Models::play([calls(asked), call("done", json!({"summary": "x"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let tool_results = results(&models.seen()[1].body);
    assert_eq!(tool_results.len(), asked.len());
    tool_results
}

async fn one(dirs: &AttemptDirs, tool: &str, args: Value) -> String {
    tool_results(dirs, &[(tool, args)]).await.remove(0)
}

/// Creates a worktree with links that lead to a canary outside.
fn trapped() -> (AttemptDirs, tempfile::TempDir) {
    let (dirs, outside) = (AttemptDirs::new(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "canary-8812\n").unwrap();
    let tree = dirs.tree();
    symlink(outside.path().join("secret"), tree.join("link")).unwrap();
    symlink(outside.path(), tree.join("way")).unwrap();
    symlink("/etc/passwd", tree.join("passwd")).unwrap();
    std::fs::create_dir(tree.join(".git")).unwrap();
    std::fs::write(tree.join(".git/config"), "canary-8812\n").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    std::fs::write(tree.join("real.txt"), "canary of the tree\n").unwrap();
    (dirs, outside)
}

#[tokio::test]
async fn no_tool_follows_a_path_outside() {
    let (dirs, outside) = trapped();
    let paths = [
        "link",
        "way/secret",
        "passwd",
        "../outside",
        "/etc/passwd",
        "a/../../x",
        ".git/config",
        ".GIT/config",
        "./.git/config",
        "pipe",
        "way",
        "",
        "a\u{0}b",
        ".git ",
        "x/.git/hooks/pre-commit",
        "git~1/config",
        ".g\u{200c}it/config",
    ];
    let mut asked = Vec::new();
    for path in paths {
        asked.push(("read", json!({"path": path})));
        asked.push(("edit", json!({"path": path, "edits": [{"old": "canary", "new": "gone"}]})));
        asked.push(("write", json!({"path": path, "content": "taken over"})));
    }
    // There are more calls than one answer may contain, so send them in parts.
    for part in asked.chunks(30) {
        for (tool_results, (tool, args)) in tool_results(&dirs, part).await.iter().zip(part) {
            assert!(tool_results.starts_with("error: "), "{tool} {args}: {tool_results}");
            assert!(
                !tool_results.contains("canary-8812") && !tool_results.contains("root:"),
                "{tool} {args}: {tool_results}"
            );
        }
    }
    let folders = ["way", "..", "/", ".git", "link", "pipe"];
    let asked: Vec<(&str, Value)> = folders.iter().map(|p| ("list", json!({"path": p}))).collect();
    assert!(tool_results(&dirs, &asked).await.iter().all(|t| t.starts_with("error: ")));
    for found in tool_results(&dirs, &[("search", json!({"pattern": "canary"})), ("list", json!({"depth": 9}))]).await {
        assert!(found.contains("real.txt") && !found.contains("8812") && !found.contains("config"), "{found}");
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "canary-8812\n");
    assert_eq!(std::fs::read_to_string(dirs.tree().join(".git/config")).unwrap(), "canary-8812\n");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(!dirs.root.path().join("outside").exists());
}

#[tokio::test]
async fn invalid_calls_are_explained_and_the_session_continues() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("bin"), [0u8, 1, 2, 255]).unwrap();
    std::fs::write(dirs.tree().join("twice"), "a\na\n").unwrap();
    let asked = [
        ("read", json!({"pfad": "x"}), "unknown field `pfad`"),
        ("read", json!({"path": 5}), "invalid arguments"),
        ("read", json!({"path": "bin"}), "not a text file"),
        ("read", json!({"path": "twice", "from": 9}), "has only 2 lines"),
        ("bash", json!({"command": "ls"}), "tool \"bash\" does not exist"),
        ("read; rm -rf /", json!({}), "does not exist"),
        ("search", json!({"pattern": "("}), "invalid pattern"),
        ("search", json!({"pattern": "(a{1000}){1000}"}), "invalid pattern"),
        ("search", json!({"pattern": "x".repeat(2_000)}), "1 to 1000 bytes"),
        ("edit", json!({"path": "twice", "edits": [{"old": "a\n", "new": "b\n"}]}), "2 times (lines 1, 2)"),
        ("edit", json!({"path": "twice", "edits": []}), "1 to 100 edits"),
        (
            "edit",
            json!({"path": "twice", "edits": [{"old": "a\na", "new": "b"}, {"old": "zz", "new": "y"}]}),
            "edit 2 of \"twice\": old does not occur in the file",
        ),
        ("write", json!({"path": "huge", "content": "x".repeat(5_000_000)}), "the limit is"),
        ("run", json!({"command": ""}), "1 to 16384 bytes"),
        ("run", json!({"command": "yes | head -c 3000000; exit 1"}), "the beginning of the output was dropped"),
        ("run", json!({"command": "sleep 60", "seconds": 1}), "still running after 1 s"),
        ("edit", json!("{\"path\": \"tw"), "not a JSON object"),
    ];
    let sent: Vec<(&str, Value)> = asked.iter().map(|(tool, args, _)| (*tool, args.clone())).collect();
    for (tool_results, (tool, _, part)) in tool_results(&dirs, &sent).await.iter().zip(&asked) {
        assert!(
            tool_results.contains(part),
            "{tool}: {part:?} is not in {}",
            &tool_results[..tool_results.len().min(300)]
        );
        assert!(tool_results.len() <= 64 * 1024);
    }
    assert_eq!(std::fs::read_to_string(dirs.tree().join("twice")).unwrap(), "a\na\n", "all edits or none");
}

#[tokio::test]
async fn editing_preserves_line_endings_and_modes() {
    let dirs = AttemptDirs::new();
    let path = dirs.tree().join("run.sh");
    std::fs::write(&path, "#!/bin/sh\r\necho one\r\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let edit = json!({"path": "run.sh", "edits": [{"old": "echo one\n", "new": "echo two\necho three\n"}]});
    let tool_results = tool_results(&dirs, &[("read", json!({"path": "run.sh"})), ("edit", edit)]).await;
    assert!(tool_results[0].contains("CRLF line endings") && !tool_results[0].contains('\r'), "{}", tool_results[0]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "#!/bin/sh\r\necho two\r\necho three\r\n");
    one(&dirs, "write", json!({"path": "run.sh", "content": "#!/bin/sh\necho four\n"})).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "#!/bin/sh\r\necho four\r\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn listing_and_searching_respect_ignore_rules_and_are_bounded() {
    let dirs = AttemptDirs::new();
    let tree = dirs.tree();
    for folder in ["src/deep", "target/debug", "docs"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::fs::write(tree.join(".gitignore"), "target/\n*.log\n").unwrap();
    std::fs::write(tree.join("docs/.gitignore"), "!kept.log\n").unwrap();
    for file in ["src/deep/a.rs", "target/debug/a.rs", "x.log", "docs/kept.log", "docs/b.md"] {
        std::fs::write(tree.join(file), "needle here\n".repeat(30)).unwrap();
    }
    for n in 0..1_500 {
        std::fs::write(tree.join(format!("src/f{n}")), "many needles\n").unwrap();
    }
    let found = one(&dirs, "search", json!({"pattern": "needle here", "glob": "**/*.{rs,log,md}", "context": 1})).await;
    for (part, there) in [("src/deep/a.rs:1:", true), ("docs/kept.log:1:", true), ("target/", false), ("x.log", false)]
    {
        assert_eq!(found.contains(part), there, "{part}: {found}");
    }
    let found = one(&dirs, "search", json!({"pattern": "NEEDLES", "ignore_case": true, "path": "src"})).await;
    assert!(
        found.starts_with("1500 matching lines in 1500 files; not all are shown") && found.len() < 50_000,
        "{found:.200}"
    );
    assert_eq!(
        one(&dirs, "search", json!({"pattern": "a.rs", "literal": true})).await,
        "0 matching lines in 0 files\n"
    );
    let listed = one(&dirs, "list", json!({})).await;
    assert!(
        listed.contains("incomplete") && listed.lines().count() < 900 && !listed.contains("target"),
        "{listed:.200}"
    );
    let listed = one(&dirs, "list", json!({"path": "docs", "depth": 1})).await;
    assert!(listed.contains("b.md  360") && listed.contains("kept.log"), "{listed}");
    let read = one(&dirs, "read", json!({"path": "src/deep/a.rs", "from": 29, "lines": 5})).await;
    assert_eq!(read, "src/deep/a.rs, lines 29 to 30 of 30\n29\tneedle here\n30\tneedle here\n");
}

#[tokio::test]
async fn a_flood_of_calls_in_one_answer_is_bounded() {
    let flood = (0..500).map(|n| ("list".to_owned(), json!({"path": ".", "depth": n + 1}))).collect();
    let models = Models::play([Reply::Say(String::new(), flood), call("done", json!({"summary": "x"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &AttemptDirs::new()).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }));
    assert_eq!(results(&models.seen()[1].body).len(), 64);
}

#[tokio::test]
async fn a_long_output_is_shown_from_its_end_and_kept_in_a_file() {
    let dirs = AttemptDirs::new();
    let run = |command: &str| ("run", json!({ "command": command }));
    let long = "seq 1 40000; echo 'the verdict'; exit 1";
    let got = tool_results(&dirs, &[run(long), run("sed -n 20000p \"$TMPDIR/skep-output.txt\"")]).await;
    assert!(got[0].contains("\n1\n2\n") && got[0].contains("the verdict") && got[0].len() < 17 * 1024, "{}", got[0]);
    let (head, tail) = got[0].split_once("bytes omitted").unwrap();
    assert!(tail.len() > 2 * head.len(), "{} and {} bytes", head.len(), tail.len());
    assert!(got[0].contains("$TMPDIR/skep-output.txt") && got[1].contains("\n20000"), "{}", got[1]);
}

#[tokio::test]
async fn a_kept_output_is_not_written_through_a_link() {
    let (dirs, outside) = trapped();
    let secret = outside.path().join("secret");
    let plant = format!("ln -s {} \"$TMPDIR/skep-output.txt\"", secret.display());
    let asked = [("run", json!({ "command": plant })), ("run", json!({"command": "seq 1 40000"}))];
    let got = tool_results(&dirs, &asked).await;
    assert!(got[1].contains("bytes omitted") && !got[1].contains("skep-output.txt"), "{}", got[1]);
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "canary-8812\n");
}

#[tokio::test]
async fn a_model_is_reminded_twice_of_what_is_left() {
    let list = |n: usize| call("list", json!({"path": ".", "depth": n + 1}));
    let models = Models::play((0..9).map(list).chain([call("done", json!({"summary": "x"}))])).await;
    let mut order = develop();
    order.caps.turns = 10;
    work(models.provider(Api::Anthropic), &order, &AttemptDirs::new()).await;
    let last = models.seen().last().unwrap().body.to_string();
    assert_eq!(last.matches("Skep: 5 turns and").count(), 1, "{last}");
    assert_eq!(last.matches("Skep: 2 turns and").count(), 1, "{last}");
    assert_eq!(last.matches("are left.").count(), 2, "{last}");
}

#[tokio::test]
async fn a_syntax_error_is_told_by_the_edit_that_caused_it() {
    let dirs = AttemptDirs::new();
    let tree = dirs.tree();
    std::fs::write(tree.join("calc.py"), "def add(a, b):\n    return a + b\n").unwrap();
    std::fs::write(tree.join("old.py"), "print 'two'\n").unwrap();
    std::fs::write(tree.join("tsconfig.json"), "{ // comment\n}\n").unwrap();
    std::fs::write(tree.join("ast.py"), "raise SystemExit(9)\n").unwrap();
    let edit = |path: &str, old: &str, new: &str| ("edit", json!({"path": path, "edits": [{"old": old, "new": new}]}));
    let patch =
        "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return (a + b\n+    return (a + b))\n*** End Patch";
    let asked = [
        edit("calc.py", "return a + b", "return (a + b"),
        // It was broken before.
        ("patch", json!({ "patch": patch })),
        edit("calc.py", "return (a + b))", "return b + a"),
        edit("old.py", "two", "three"),
        edit("tsconfig.json", "comment", "note"),
        ("write", json!({"path": "it's.json", "content": "{\"a\": 1,}"})),
        ("write", json!({"path": "-c it's $HOME.py", "content": "def f(:\n"})),
        ("write", json!({"path": "Cargo.toml", "content": "[package\n"})),
        ("write", json!({"path": "good.toml", "content": "[package]\n"})),
        ("write", json!({"path": "text.txt", "content": "def f(:\n"})),
    ];
    let got = tool_results(&dirs, &asked).await;
    let broken: Vec<bool> = got.iter().map(|text| text.contains("has a syntax error now")).collect();
    assert_eq!(broken, [true, false, false, false, false, true, true, true, false, false], "{got:#?}");
    assert!(got[0].contains("line 2") && got[0].contains("SyntaxError"), "{}", got[0]);
    // Nothing is undone, and nothing is left behind.
    assert_eq!(std::fs::read_to_string(tree.join("-c it's $HOME.py")).unwrap(), "def f(:\n");
    assert!(!tree.join("__pycache__").exists());
}
