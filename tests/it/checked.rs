//! `skep check`, `skep init` and `skep project allow` on the real program, and changes of what the checks run.

use crate::support::cli::{Cli, git};

/// A repository whose tests are a script, run by a Makefile.
fn tool(cli: &Cli) -> std::path::PathBuf {
    cli.repo("tool", &[("Makefile", "test:\n\t@sh test.sh\n"), ("test.sh", "echo ok 1\n")]);
    cli.path("tool")
}

#[test]
fn the_checks_of_a_commit_and_of_the_working_copy_are_run_and_judged() {
    let cli = Cli::new();
    let repo = tool(&cli);
    cli.run(&["check", "--repo", "tool"])
        .exits_with(0)
        .prints("make-test: make test")
        .prints("ok 1")
        .prints("✓ make-test");
    // The uncommitted change, and a new file that it needs.
    std::fs::write(repo.join("test.sh"), "cat new.txt\necho 'not ok 2 - adds'\nexit 1\n").unwrap();
    std::fs::write(repo.join("new.txt"), "from a new file\n").unwrap();
    cli.run(&["check", "--repo", "tool"]).exits_with(0);
    let red =
        cli.run(&["check", "--repo", "tool", "--dirty"]).exits_with(3).prints("from a new file").prints("✗ make-test");
    let (first, what) = (red.out.find("✗ make-test").unwrap(), red.out.rfind("not ok 2 - adds").unwrap());
    assert!(first < what && red.out.contains("What to change:"), "{}", red.out);
    assert_eq!(git(&repo, &["status", "--porcelain"]).lines().count(), 2, "the working copy is as it was");
    let missing = cli.run(&["check", "--repo", "tool", "--check", "nosuchprogram --x"]).exits_with(3);
    assert!(missing.out.contains("`nosuchprogram` was not found"), "{}", missing.out);
    let json = cli.run(&["check", "--repo", "tool", "--json"]).exits_with(0);
    let last: serde_json::Value = serde_json::from_str(json.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["end"]["results"][0]["green"], true);
    // Nothing is left of the checkouts.
    let left = std::fs::read_dir(cli.path("data/work")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn init_proposes_writes_and_checks() {
    let cli = Cli::new();
    let repo = tool(&cli);
    cli.run(&["init", "--repo", "tool"]).exits_with(0).prints("command = \"make test\"").prints("Nothing was written");
    assert!(!repo.join(".skep.toml").exists());
    cli.run(&["init", "--repo", "tool", "--yes"]).exits_with(0).prints("✓ make-test").prints("once it is committed");
    let text = std::fs::read_to_string(repo.join(".skep.toml")).unwrap();
    assert!(text.contains("[[check]]\nname = \"make-test\"\nkind = \"test\"\ncommand = \"make test\"\n"), "{text}");
    // What was written is what is read.
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "skep"]);
    cli.run(&["check", "--repo", "tool"]).exits_with(0).prints("make-test: make test");
    cli.run(&["init", "--repo", "tool", "--yes"]).exits_with(0).prints(".skep.toml stays as it is");
    cli.repo("none", &[("a.txt", ""), (".github/workflows/a.yml", "    - run: ./verify.sh test\n")]);
    cli.run(&["init", "--repo", "none", "--yes"]).exits_with(2).one_error("no checks were found", "./verify.sh test");
}

#[test]
fn rules_of_a_repository_that_are_no_regular_file_are_refused() {
    let cli = Cli::new();
    let repo = tool(&cli);
    std::os::unix::fs::symlink("test.sh", repo.join(".skep.toml")).unwrap();
    let refused = || {
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-qm", "rules"]);
        cli.run(&["check", "--repo", "tool"])
            .exits_with(2)
            .one_error(".skep.toml: is a folder or a symbolic link", "main");
    };
    refused();
    std::fs::remove_file(repo.join(".skep.toml")).unwrap();
    std::fs::create_dir(repo.join(".skep.toml")).unwrap();
    std::fs::write(repo.join(".skep.toml/check.toml"), "").unwrap();
    refused();
}

#[test]
fn hosts_that_the_setup_needs_are_named_before_anything_runs() {
    let cli = Cli::new();
    let lock = r#"{"packages": {"a": {
      "resolved": "https://packages.example/a.tgz"
    }}}"#;
    let package = r#"{"scripts": {"test": "node -e 0"}, "dependencies": {"a": "1"}}"#;
    cli.repo("my.tool", &[("package.json", package), ("package-lock.json", lock)]);
    let dry = ["run", "--repo", "my.tool", "--goal", "x", "--engine", "command: true", "--dry-run"];
    cli.run(&dry)
        .exits_with(0)
        .prints("npm-install needs packages.example")
        .prints("project allow my.tool packages.example");
    cli.run(&["project", "allow", "my.tool", "packages.example"]).exits_with(0).prints("packages.example");
    let dry = cli.run(&dry).exits_with(0);
    assert!(!dry.out.contains("packages.example"), "{}", dry.out);
    cli.run(&["config", "check"]).exits_with(0).prints("project.\"my.tool\".egress.hosts");
    cli.run(&["project", "allow", "my.tool", "https://packages.example/x"])
        .exits_with(2)
        .one_error("one entry is a URL; nothing was changed", "write only its host: \"packages.example\"");
}

#[test]
fn doctor_names_the_hosts_that_the_repository_around_it_needs() {
    let cli = Cli::new();
    let lock = r#"{"packages": {"a": {"resolved": "https://packages.example/a.tgz"}}}"#;
    let package = r#"{"scripts": {"test": "node -e 0"}, "dependencies": {"a": "1"}}"#;
    cli.repo("tool", &[("package.json", package), ("package-lock.json", lock), ("src/a.js", "")]);
    let doctor = || {
        let mut command = cli.skep(&["doctor"]);
        command.current_dir(cli.path("tool/src"));
        crate::support::cli::ended(command).exits_with(0)
    };
    let new = doctor();
    assert!(!new.out.contains("npm-install"), "{}", new.out);
    cli.run(&["project", "add", "tool"]).exits_with(0);
    doctor().prints("npm-install needs packages.example").prints("fix: skep project allow tool packages.example");
    cli.run(&["project", "allow", "tool", "packages.example"]).exits_with(0);
    let allowed = doctor().prints("may reach every host");
    assert!(!allowed.out.contains("packages.example"), "{}", allowed.out);
}

#[test]
fn a_change_of_what_the_checks_run_needs_a_person() {
    let test = "import unittest, calc\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(calc.add(2, 3), 5)\n";
    let files = [("calc.py", "def add(a, b): return a + b\n"), ("test_calc.py", test), ("package.json", "{}\n")];
    for (n, (edit, shown)) in [
        ("printf 'import os\\nos._exit(0)\\n' > unittest.py", "it changes what the checks run: unittest.py"),
        ("echo ' ' >> package.json", "it changes what the checks run: package.json"),
        ("sed -i 's/, 5)/, 6 - 1)/' test_calc.py", "it replaces lines of tests: test_calc.py"),
    ]
    .into_iter()
    .enumerate()
    {
        let cli = Cli::new();
        cli.repo("calc", &files);
        let engine = format!("command: {edit}; echo '# {n}' >> calc.py");
        let check = "python3 -m unittest -q test_calc";
        let mut command =
            cli.skep(&["run", "--repo", "calc.git", "--goal", "x", "--check", check, "--engine", &engine]);
        command.env("SKEP_POLICY__APPROVE_MERGE", "false");
        crate::support::cli::ended(command).exits_with(4).prints(shown);
    }
}
