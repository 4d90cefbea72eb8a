//! `skep eval` through the real program: proofs of tasks, the four corners, leaks, interruptions and verdicts.

use crate::support::cli::{Cli, ended};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SUITE: &str = "name = \"tiny\"\n[limits]\ntime = \"5m\"\n";

/// Commands that solve both tasks, and that solve neither although the visible checks accept them.
const RIGHT: &str = "command:sed -i 's/helo/hello/; s/a - b/a + b/' *.sh";
const WRONG: &str = "command:sed -i 's/helo/hallo/; s/a - b/a * b/' greet.sh sum.sh 2>/dev/null || true";

fn task(title: &str, command: &str, canary: &str) -> String {
    format!(
        "title = \"{title}\"\ngoal = \"Fix it.\"\nkind = \"bug\"\nlanguage = \"sh\"\nchecks = [\"sh test.sh\"]\n\
         [source]\nlicense = \"MIT\"\norigin = \"written for this test\"\n\
         [hidden]\ncommand = \"{command}\"\nexpect = \"1 passed\"\ncanary = \"{canary}\"\n"
    )
}

fn patch(file: &str, from: &str, to: &str) -> String {
    format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-{from}\n+{to}\n")
}

/// Writes a suite with two tasks.
pub fn suite(cli: &Cli) -> PathBuf {
    let dir = cli.path("tiny");
    let (greet, sum) = ("echo \"helo $1\"", "a=$1 b=$2; echo $((a - b))");
    let (one, two) = ("canary 11111111111111", "canary 22222222222222");
    let files: Vec<(&str, String)> = vec![
        ("suite.toml", SUITE.to_owned()),
        ("greet/task.toml", task("Greet", "sh cases.sh", one)),
        ("greet/base/greet.sh", format!("{greet}\n")),
        ("greet/base/test.sh", "test -n \"$(sh greet.sh x)\"\n".to_owned()),
        ("greet/hidden/cases.sh", format!("# {one}\n[ \"$(sh greet.sh x)\" = 'hello x' ] && echo 1 passed\n")),
        ("greet/oracle.patch", patch("greet.sh", greet, "echo \"hello $1\"")),
        ("sum/task.toml", task("Sum", "sh cases.sh", two)),
        ("sum/base/sum.sh", format!("{sum}\n")),
        ("sum/base/test.sh", "sh sum.sh 0 0\n".to_owned()),
        ("sum/hidden/cases.sh", format!("# {two}\n[ \"$(sh sum.sh 3 4)\" = 7 ] && echo 1 passed\n")),
        ("sum/oracle.patch", patch("sum.sh", sum, "a=$1 b=$2; echo $((a + b))")),
    ];
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// The trials that a command printed, by set (without its digest) and task; and its last line.
#[track_caller]
fn trials(out: &str) -> (BTreeMap<(String, String), Value>, Value) {
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, rest) = lines.split_last().unwrap();
    let by_name = rest.iter().map(|line| {
        let set = line["set"].as_str().unwrap();
        let (variant, _) = set.rsplit_once('-').unwrap();
        ((variant.to_owned(), line["trial"]["task"].as_str().unwrap().to_owned()), line["trial"].clone())
    });
    (by_name.collect(), last.clone())
}

fn of<'t>(trials: &'t BTreeMap<(String, String), Value>, variant: &str, task: &str) -> &'t Value {
    &trials[&(variant.to_owned(), task.to_owned())]
}

#[test]
fn tasks_are_proven_and_unproven_ones_are_named() {
    let cli = Cli::new();
    let dir = suite(&cli);
    cli.run(&["eval", "check", "tiny"]).exits_with(0).prints("2 tasks proven");
    // The hidden tests of one task pass at the base, and those of the other one fail with the oracle patch.
    std::fs::write(dir.join("greet/hidden/cases.sh"), "# canary 11111111111111\necho 1 passed\n").unwrap();
    std::fs::write(dir.join("sum/hidden/cases.sh"), "# canary 22222222222222\necho 0 passed\n").unwrap();
    let checked = cli.run(&["eval", "check", "tiny"]).exits_with(3);
    for part in ["pass at the base", "fail with the oracle patch", "2 of 2 tasks not proven"] {
        assert!(checked.out.contains(part), "{part:?} is missing in\n{}", checked.out);
    }
    std::fs::write(dir.join("sum/base/test.sh"), "exit 1\n").unwrap();
    let one = cli.run(&["eval", "check", "tiny", "--task", "sum"]).exits_with(3);
    assert!(one.out.contains("the checks fail at the base") && !one.out.contains("greet"), "{}", one.out);
    std::fs::write(dir.join("sum/oracle.patch"), "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n").unwrap();
    cli.run(&["eval", "check", "tiny", "--task", "sum"]).exits_with(78).one_error("does not apply", "git diff");
    std::fs::write(dir.join("sum/task.toml"), "titel = \"x\"\n").unwrap();
    cli.run(&["eval", "check", "tiny"]).exits_with(2).one_error("unknown key `titel`", "did you mean `title`?");
    cli.run(&["eval", "check", "tiny", "--task", "nothing"]).exits_with(2);
    assert_eq!(std::fs::read_dir(cli.path("data/stores")).unwrap().count(), 0, "proofs leave nothing behind");
}

#[test]
fn a_task_of_the_repository_is_proven() {
    let cli = Cli::new();
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/small");
    cli.run(&["eval", "check", small.to_str().unwrap(), "--task", "rotate-names"]).exits_with(0);
}

#[test]
fn the_oracle_lands_every_task_and_nop_none_and_no_trial_is_repeated() {
    let cli = Cli::new();
    suite(&cli);
    let command = ["eval", "run", "tiny", "--variant", "oracle", "--variant", "nop", "--json"];
    let first = cli.run(&command).exits_with(0);
    let (found, report) = trials(&first.out);
    for task in ["greet", "sum"] {
        assert_eq!(of(&found, "oracle", task)["corner"], "landed_correct", "{report}");
        assert_eq!(of(&found, "nop", task)["corner"], "stopped_wrong", "{report}");
        assert_eq!(of(&found, "nop", task)["end"], "unchanged");
    }
    let (again, _) = trials(&cli.run(&command).exits_with(0).out);
    assert_eq!(again, found, "the second command repeats nothing");
    cli.run(&["eval", "report", "tiny"]).exits_with(0).prints("100 %");
    let compared = cli.run(&["eval", "compare", "tiny", "nop", "oracle"]).exits_with(0);
    assert!(compared.out.contains("+100.0 percentage points"), "{}", compared.out);
    // Two tasks prove nothing, however different they are.
    cli.run(&["eval", "gate", "tiny", "nop", "oracle"]).exits_with(3).prints("not shown");
    cli.run(&["eval", "gate", "tiny", "nop", "other"]).exits_with(2).one_error("no trials of a variant", "name one of");
    // More trials make the set incomplete until they are carried out.
    let more = cli.run(&["eval", "run", "tiny", "--variant", "nop", "--trials", "2", "--task", "sum"]).exits_with(0);
    assert!(more.out.contains("sum 2"), "{}", more.out);
    cli.run(&["eval", "gate", "tiny", "oracle", "nop"]).exits_with(75).prints("1 of 4 trials have not finished");
    // Another suite has trials of its own.
    std::fs::write(cli.path("tiny/greet/base/more.txt"), "x").unwrap();
    cli.run(&["eval", "report", "tiny"]).exits_with(0).prints("No trials");
}

#[test]
fn every_corner_is_told_from_the_others() {
    let cli = Cli::new();
    suite(&cli);
    let engine = |name: &str, engine: &str| format!("{name}=role.dev.engine={engine}");
    let red = "; echo exit 1 >> test.sh";
    let variants = [
        engine("right", RIGHT),
        engine("wrong", WRONG),
        engine("stuck-right", &format!("{RIGHT}{red}")),
        engine("stuck-wrong", &format!("{WRONG}{red}")),
    ];
    let mut command = vec!["eval", "run", "tiny", "--json", "--task", "greet"];
    variants.iter().for_each(|variant| command.extend(["--variant", variant]));
    let (found, report) = trials(&cli.run(&command).exits_with(0).out);
    for (variant, corner) in [
        ("right", "landed_correct"),
        ("wrong", "landed_wrong"),
        ("stuck-right", "stopped_correct"),
        ("stuck-wrong", "stopped_wrong"),
    ] {
        let trial = of(&found, variant, "greet");
        assert_eq!(trial["corner"], corner, "{variant}: {trial}\n{report}");
        assert_eq!(trial["grade"] == "", corner.ends_with("correct"), "{trial}");
        assert!(trial["commit"].as_str().is_some_and(|sha| sha.len() == 40), "{trial}");
    }
}

#[test]
fn leaks_and_files_that_decide_are_found_and_the_infrastructure_is_told_apart() {
    let cli = Cli::new();
    suite(&cli);
    let leak = format!("leak=role.dev.engine={RIGHT}; echo canary 11111111111111 > notes.txt");
    let touch = format!("touch=role.dev.engine={WRONG}; echo 'echo 1 passed' > cases.sh");
    let command = ["eval", "run", "tiny", "--json", "--task", "greet", "--variant", &leak, "--variant", &touch];
    let (found, _) = trials(&cli.run(&command).exits_with(0).out);
    assert_eq!(of(&found, "leak", "greet")["leaks"][0], "notes.txt", "{found:?}");
    let touched = of(&found, "touch", "greet");
    assert_eq!((&touched["tampered"][0], &touched["corner"]), (&Value::from("cases.sh"), &Value::from("landed_wrong")));
    let unusable = cli.run(&["eval", "gate", "tiny", "touch", "leak"]).exits_with(75);
    assert!(unusable.out.contains("leaked into 1 trials"), "{}", unusable.out);
    // The agent of this variant is not installed.
    let settings =
        ["role.dev.engine=cli:gone", "agents.gone.protocol=cli", "agents.gone.command=[\"missing-program\"]"];
    let settings = settings.map(|setting| format!("broken={setting}"));
    let mut command = vec!["eval", "run", "tiny", "--json", "--task", "greet"];
    settings.iter().for_each(|setting| command.extend(["--variant", setting]));
    let spoiled = cli.run(&command).exits_with(75);
    let (found, _) = trials(&spoiled.out);
    let trial = of(&found, "broken", "greet");
    assert_eq!((&trial["corner"], &trial["restarts"]), (&Value::Null, &Value::from(2)), "{trial}");
    assert!(trial["infrastructure"].as_str().is_some_and(|why| why.contains("engine")), "{trial}");
}

#[test]
fn variants_that_cannot_be_tried_are_refused_before_the_first_trial() {
    let cli = Cli::new();
    suite(&cli);
    let refused = |variant: &str, what: &str, fix: &str| {
        cli.run(&["eval", "run", "tiny", "--variant", variant]).one_error(what, fix);
    };
    refused("base", "has no engine for the dev", "role.dev.engine");
    refused("x=store.url=sqlite:/x.db", "cannot be set by a variant", "policy");
    refused("x=role.dev.effrt=low", "unknown key", "effort");
    refused("x=missing.toml", "missing.toml", "");
    refused("oracle=role.dev.effort=low", "is built in", "another name");
    assert!(!cli.path("data/evals").exists());
}

#[test]
fn a_killed_evaluation_continues_and_gives_the_same_result() {
    let cli = Cli::new();
    suite(&cli);
    let slow = format!("slow=role.dev.engine={};sleep 0.5", RIGHT);
    let wrong = format!("wrong=role.dev.engine={WRONG}");
    let command = ["eval", "run", "tiny", "--json", "--variant", &slow, "--variant", &wrong];
    // Each state of a trial that a kill can leave behind, as the file that shows it.
    for state in ["stores/*/0/base", "stores/*/0/data/home", "stores/*/0/run.json", "evals/*/*/*/1/trial.json"] {
        let before = matching(&cli.path("data"), state).len();
        let running = std::cell::RefCell::new(cli.spawn(&command));
        cli.until(state, || {
            // It may have ended before a new file of this kind was seen.
            let has_ended = running.borrow_mut().0.try_wait().unwrap().is_some();
            has_ended || matching(&cli.path("data"), state).len() > before
        });
        // Dropping it kills it.
        drop(running);
    }
    let (found, report) = trials(&cli.run(&command).exits_with(0).out);
    assert_eq!(found.len(), 4, "{report}");
    for ((variant, task), trial) in &found {
        let corner = if variant == "slow" { "landed_correct" } else { "landed_wrong" };
        // What the killed evaluation had started may still be ending when the next one begins: then the trial starts
        // again, in a store of its own.
        assert_eq!(trial["corner"], corner, "{variant} {task}: {trial}");
        let data = trial["data_dir"].as_str().unwrap();
        let runs = ended(cli.skep(&["runs", "--json", "--data-dir", data])).exits_with(0).json();
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{variant} {task} ran once: {runs}");
    }
}

/// Files below a folder that match a pattern, in which `*` stands for any name.
fn matching(root: &Path, pattern: &str) -> Vec<PathBuf> {
    pattern.split('/').fold(vec![root.to_owned()], |found, part| {
        let next = |dir: PathBuf| -> Vec<PathBuf> {
            match part {
                "*" => std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
                name => Some(dir.join(name)).into_iter().filter(|path| path.exists()).collect(),
            }
        };
        found.into_iter().flat_map(next).collect()
    })
}
