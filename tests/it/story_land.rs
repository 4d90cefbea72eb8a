//! From a goal to a merged change, through the real binary: git, the journal and the lists agree.

use crate::support::cli::{Cli, git};

const SED: &str = "command: sed -i s/helo/hello/ greet.py";
const GREET: &[(&str, &str)] = &[
    ("greet.py", "def greet():\n    return 'helo'\n"),
    (
        "test_greet.py",
        "import unittest, greet\n\n\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(greet.greet(), 'hello')\n",
    ),
];
const UNITTEST: &str = "python3 -m unittest -q";

#[test]
fn a_goal_is_planned_checked_reviewed_approved_and_landed() {
    let cli = Cli::new();
    let bare = cli.repo("greet", GREET);
    let asked = cli
        .run(&["run", "--repo", "greet.git", "--goal", "Say hello", "--engine", SED, "--check", UNITTEST])
        .exits_with(4)
        .prints("Escalation: the merge waits for approval\n")
        .prints("What I need from you:\n  1) Approval (yes or no) of the merge -> ");
    let id = cli.newest();
    let order = [
        "started by",
        "a1 started: manager",
        "a1 planned",
        "a2 started: dev",
        "a2 changed 1 file",
        "a3 started: reviewer",
        "a3 approved",
        "Escalation:",
    ];
    let at: Vec<usize> =
        order.iter().map(|t| asked.out.find(t).unwrap_or_else(|| panic!("{t}:\n{}", asked.out))).collect();
    assert!(at.is_sorted(), "{}", asked.out);
    assert_eq!(git(&bare, &["rev-list", "--count", "main"]), "1\n", "nothing lands before the approval");

    cli.run(&["approve", &id]).exits_with(0).prints("answered b1: yes").prints("delivered as ");
    let view = cli.show(&id);
    let landed = git(&bare, &["rev-parse", "main"]);
    assert_eq!(view["outcome"]["delivered"]["sha"], landed.trim());
    assert_eq!(view["status"], "completed");
    let log = git(&bare, &["log", "-1", "--format=%s%n%b", "main"]);
    assert!(log.starts_with("Say hello\n") && log.contains(&format!("Skep-Run: {}", view["id"].as_str().unwrap())));
    let journal = cli.run(&["events", &id, "--json"]).exits_with(0).out;
    let rows: Vec<serde_json::Value> = journal.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(rows.iter().zip(1..).all(|(row, seq)| row["seq"] == seq), "gapless");
    assert!(journal.contains(landed.trim()));
    // Every list and every JSON response is one object.
    for args in [
        &["runs"][..],
        &["project", "list"],
        &["project", "show", "greet"],
        &["change", "list"],
        &["change", "show", "greet#1"],
        &["doctor"],
        &["config", "check"],
        &["migrate", "--status"],
        &["show", &id],
    ] {
        cli.run(args).exits_with(0);
        let output = cli.run(&[args, &["--json"]].concat()).exits_with(0);
        assert!(output.json().is_object(), "{args:?}: {}", output.out);
    }
    cli.run(&["logs", &id]).exits_with(0).prints("transcript.log");
}

#[test]
fn a_working_copy_is_updated_only_when_it_is_clean() {
    let cli = Cli::new();
    cli.repo("greet", GREET);
    let run = |goal: &str, sed: &str| {
        cli.run(&["run", "--repo", "greet", "--goal", goal, "--engine", sed, "--check", "true", "--yes"])
    };
    run("clean", "command: echo one >> notes").exits_with(0).prints("approved on your behalf (--yes)");
    assert_eq!(std::fs::read_to_string(cli.path("greet/notes")).unwrap(), "one\n");

    std::fs::write(cli.path("greet/notes"), "mine\n").unwrap();
    run("dirty", "command: echo two >> notes").exits_with(4).prints("landing the change failed").prints("git stash -u");
    assert_eq!(std::fs::read_to_string(cli.path("greet/notes")).unwrap(), "mine\n", "nothing is lost");
    git(&cli.path("greet"), &["stash", "-q"]);
    cli.run(&["unblock", &cli.newest()]).exits_with(0);
    assert_eq!(std::fs::read_to_string(cli.path("greet/notes")).unwrap(), "one\ntwo\n");
}

#[test]
fn unusual_names_and_bytes_land_unchanged() {
    let cli = Cli::new();
    let bare = cli.repo("odd", &[("a", "a\n")]);
    let make = "command: printf '\\000\\001' > bin; : > 'two words'; : > \"$(printf 'new\\nline')\"; : > 🐝; : > ./-dash; \
                head -c 3000000 /dev/zero > huge";
    cli.run(&["run", "--repo", "odd.git", "--goal", "Odd names", "--engine", make, "--check", "true", "--yes"])
        .exits_with(0);
    let names = git(&bare, &["ls-tree", "-z", "--name-only", "main"]);
    let names: Vec<&str> = names.split_terminator('\0').collect();
    for name in ["-dash", "bin", "huge", "new\nline", "two words", "🐝"] {
        assert!(names.contains(&name), "{name:?} in {names:?}");
    }
}

#[test]
fn an_answer_that_is_given_again_after_a_kill_carries_on() {
    let cli = Cli::new();
    cli.repo("greet", GREET);
    cli.run(&["run", "--repo", "greet.git", "--goal", "Say hello", "--engine", SED, "--check", UNITTEST]).exits_with(4);
    let id = cli.newest();
    let (there, away) = (cli.path("greet.git"), cli.path("away.git"));
    std::fs::rename(&there, &away).unwrap();
    {
        // It can land nothing, and is killed after it has stored the answer.
        let _approving = cli.spawn(&["approve", &id]);
        let answered = || cli.run(&["events", &id]).out.contains("answered b1: yes");
        cli.until("the answer is stored", answered);
    }
    std::fs::rename(&away, &there).unwrap();
    cli.run(&["approve", &id]).exits_with(0).prints("delivered as ");
}

#[test]
fn what_lands_has_the_modes_that_the_person_would_give_it() {
    use std::os::unix::fs::PermissionsExt;
    let cli = Cli::new();
    cli.repo("greet", &[("notes", "one\n")]);
    let by_person = cli.path("greet/.git/by-person");
    std::fs::create_dir(&by_person).unwrap();
    std::fs::write(by_person.join("file"), "").unwrap();
    let edit = "command: mkdir -p new && echo two > new/file && umask > new/umask";
    cli.run(&["run", "--repo", "greet", "--goal", "x", "--engine", edit, "--check", "true", "--yes"]).exits_with(0);
    let mode = |path: &str| std::fs::metadata(cli.path("greet").join(path)).unwrap().permissions().mode() & 0o777;
    let (folder, file) = (mode(".git/by-person"), mode(".git/by-person/file"));
    assert_eq!((mode("new"), mode("new/file"), mode(".git/refs/heads/main")), (folder, file, file));
    let masked = u32::from_str_radix(std::fs::read_to_string(cli.path("greet/new/umask")).unwrap().trim(), 8).unwrap();
    assert_eq!(0o666 & !masked, file, "commands of a run have another umask");
    let private = std::fs::metadata(cli.path("data/skep.db")).unwrap().permissions().mode() & 0o077;
    assert_eq!(private, 0, "the store is readable by others");
}
