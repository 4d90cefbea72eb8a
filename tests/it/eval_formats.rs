//! Files of other evaluation tools: predictions of SWE-bench, logs of inspect_ai, tasks of Harbor.
//!
//! `scripts/eval-tools` installs the tools themselves and runs the tests in which they judge our files.

use super::eval::suite;
use crate::support::cli::Cli;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A suite with trials of the two built-in variants.
fn tried() -> Cli {
    let cli = Cli::new();
    suite(&cli);
    cli.run(&["eval", "run", "tiny", "--variant", "oracle", "--variant", "nop"]).exits_with(0);
    cli
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn export(cli: &Cli, variant: &str, option: &str, file: &str) {
    cli.run(&["eval", "export", "tiny", variant, option, file]).exits_with(0).prints("2 trials written to");
}

#[test]
fn predictions_are_the_work_of_the_trials_and_are_graded_alike() {
    let cli = tried();
    export(&cli, "oracle", "--to-swebench", "good.jsonl");
    export(&cli, "nop", "--to-swebench", "none.jsonl");
    let good = lines(&cli.path("good.jsonl"));
    let ids: Vec<&Value> = good.iter().map(|p| &p["instance_id"]).collect();
    assert_eq!(ids, ["greet", "sum"]);
    assert!(good[0]["model_patch"].as_str().unwrap().contains("+echo \"hello $1\""), "{}", good[0]);
    assert!(good[0]["model_name_or_path"].as_str().unwrap().starts_with("oracle-"));
    cli.run(&["eval", "grade", "tiny", "good.jsonl"]).exits_with(0).prints("2 of 2 predictions correct");
    let none = cli.run(&["eval", "grade", "tiny", "none.jsonl"]).exits_with(0);
    assert!(none.out.contains("0 of 2 predictions correct") && none.out.contains("there is no patch"), "{}", none.out);

    // Work of another tool: wrong, unusable, cheating.
    let patch = |from: &str, to: &str| format!("--- a/sum.sh\n+++ b/sum.sh\n@@ -1 +1 @@\n-{from}\n+{to}\n");
    let sum = "a=$1 b=$2; echo $((a - b))";
    for (patch, why) in [
        (patch(sum, "a=$1 b=$2; echo $((a * b))"), "✗ sum: "),
        (patch("nothing", "else"), "does not apply to the base"),
        (patch(sum, "a=$1 b=$2; echo $((a + b)) # canary 22222222222222"), "contains the hidden tests"),
        ("--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n".to_owned(), "does not apply to the base"),
    ] {
        let predictions = json!([{"instance_id": "sum", "model_name_or_path": "m", "model_patch": patch}]);
        std::fs::write(cli.path("other.json"), predictions.to_string()).unwrap();
        let graded = cli.run(&["eval", "grade", "tiny", "other.json"]).exits_with(0);
        assert!(graded.out.contains(why) && graded.out.contains("0 of 1 prediction"), "{why}: {}", graded.out);
    }
    let read = |text: &str| {
        std::fs::write(cli.path("bad.jsonl"), text).unwrap();
        cli.run(&["eval", "grade", "tiny", "bad.jsonl"]).exits_with(2)
    };
    read("{\"instance_id\": \"nowhere\"}\n").one_error("no task \"nowhere\"", "remove that prediction");
    read("{\"instance_id\": \"sum\"}\n{\"instance_id\": \"sum\"}\n").one_error("two predictions", "keep one");
    read("{\n").one_error("line 1", "instance_id");
    cli.run(&["eval", "export", "tiny", "other", "--to-swebench", "x.jsonl"]).exits_with(2);
    let lost = ["eval", "export", "tiny", "nop", "--to-swebench", "no/where.jsonl"];
    cli.run(&lost).exits_with(2).one_error("its folder does not exist", "another file");
    cli.run(&["eval", "export", "tiny", "nop"]).exits_with(2).one_error("no format was named", "--to-swebench");
    assert_eq!(std::fs::read_dir(cli.path("data/stores")).unwrap().count(), 4, "only the trials are left");
}

#[test]
fn a_log_has_a_sample_for_each_trial() {
    let cli = tried();
    export(&cli, "oracle", "--to-inspect", "log.json");
    let log: Value = serde_json::from_str(&std::fs::read_to_string(cli.path("log.json")).unwrap()).unwrap();
    assert_eq!((&log["status"], &log["eval"]["task"]), (&json!("success"), &json!("tiny")));
    assert_eq!(log["results"]["scores"][0]["metrics"]["accuracy"]["value"], 1.0);
    let samples = log["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    assert!(samples.iter().all(|s| s["scores"]["hidden_tests"]["value"] == "C" && s["epoch"] == 1), "{samples:?}");
}

/// Runs a script of a Harbor task as its container would, with other folders.
fn script(script: &Path, app: &Path, logs: &Path) {
    let mut command = Command::new("bash");
    command.arg(script).env("APP_DIR", app).env("LOGS_DIR", logs).env_remove("GIT_DIR");
    command.output().unwrap();
}

#[test]
fn a_harbor_task_rewards_the_solution_only() {
    let cli = Cli::new();
    suite(&cli);
    cli.run(&["eval", "export", "tiny", "--to-harbor", "tasks"]).exits_with(0).prints("2 tasks written to");
    cli.run(&["eval", "export", "tiny", "--to-harbor", "tasks"]).exits_with(78).one_error("it exists", "--to");
    let (task, app, logs) = (cli.path("tasks/sum"), cli.path("app"), cli.path("logs"));
    let reward = || std::fs::read_to_string(logs.join("reward.txt")).unwrap().trim().to_owned();
    crate::support::cli::git(cli.dir.path(), &["init", "-q", "app"]);
    std::fs::copy(task.join("environment/repo/sum.sh"), app.join("sum.sh")).unwrap();
    script(&task.join("tests/test.sh"), &app, &logs);
    assert_eq!(reward(), "0");
    script(&task.join("solution/solve.sh"), &app, &logs);
    script(&task.join("tests/test.sh"), &app, &logs);
    assert_eq!(reward(), "1");
    // A program under test that ends the process early is not rewarded.
    std::fs::write(app.join("sum.sh"), "kill -9 $PPID\n").unwrap();
    script(&task.join("tests/test.sh"), &app, &logs);
    assert_eq!(reward(), "0");
}

/// Runs a Python program with the tools of other evaluations, named by a variable.
fn judge(variable: &str, program: &str, args: &[&Path]) -> String {
    let python =
        std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name a Python; see scripts/eval-tools"));
    let output = Command::new(python).arg("-c").arg(program).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs inspect_ai and swebench; scripts/eval-tools installs them and runs this"]
fn inspect_and_swebench_read_our_files() {
    let cli = tried();
    export(&cli, "oracle", "--to-inspect", "log.json");
    export(&cli, "nop", "--to-inspect", "none.json");
    export(&cli, "oracle", "--to-swebench", "good.jsonl");
    let read = "import sys\nfrom inspect_ai.log import read_eval_log\nlog = read_eval_log(sys.argv[1])\n\
                print(log.status, log.eval.task, len(log.samples), log.results.scores[0].metrics['accuracy'].value,\n\
                ''.join(s.scores['hidden_tests'].value for s in log.samples))";
    assert_eq!(judge("SKEP_TEST_EVAL_PYTHON", read, &[&cli.path("log.json")]), "success tiny 2 1.0 CC");
    assert_eq!(judge("SKEP_TEST_EVAL_PYTHON", read, &[&cli.path("none.json")]), "success tiny 2 0.0 II");
    let read = "import sys\nfrom swebench.harness.utils import get_predictions_from_file\n\
                print(' '.join(p['instance_id'] for p in get_predictions_from_file(sys.argv[1], 'tiny', 'test')))";
    assert_eq!(judge("SKEP_TEST_EVAL_PYTHON", read, &[&cli.path("good.jsonl")]), "greet sum");
}

#[test]
#[ignore = "needs harbor; scripts/eval-tools installs it and runs this"]
fn harbor_reads_our_tasks() {
    let cli = Cli::new();
    suite(&cli);
    cli.run(&["eval", "export", "tiny", "--to-harbor", "tasks"]).exits_with(0);
    let read = "import sys\nfrom harbor.models.task.task import Task\n\
                for folder in sys.argv[1:]:\n    task = Task(folder)\n    \
                print(task.instruction.strip(), task.config.verifier.timeout_sec, Task.is_valid_dir(folder), task.paths.discovered_solve_path is not None)";
    let tasks = [cli.path("tasks/greet"), cli.path("tasks/sum")];
    let printed = judge("SKEP_TEST_HARBOR_PYTHON", read, &[&tasks[0], &tasks[1]]);
    assert_eq!(printed, "Fix it. 60.0 True True\nFix it. 60.0 True True");
}
