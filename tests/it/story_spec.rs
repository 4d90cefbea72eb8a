//! Task specs from the outside: a run is done when every criterion is met, whatever its dev and its reviewer claim.

use crate::support::cli::{Cli, CommandOutput, git};
use crate::support::rest::service;
use serde_json::{Value, json};

const SPEC: &str = r#"spec: 1
id: greet
title: Greet a person by name
goal: greet.sh greets the person that its argument names.
acceptance:
  - id: greets
    text: greet.sh greets by name
    command: test "$(sh greet.sh Ann)" = "Hello, Ann!"
  - id: documented
    text: The README names greet.sh
    command: grep -q greet.sh README.md
    timeout: 30s
  - id: warm
    text: The README sounds inviting
forbidden_paths: [LICENSE]
"#;

const MANAGER: &str = r#"
[[turn]]
step = "plan"
tasks = [{ name = "greet", title = "Write greet.sh", text = "Greet by name" }]
"#;

const DEV: &str = r##"
[[turn]]
step = "develop"
round = 1
edit = [{ replace = "greet.sh", old = "exit 1\n", new = 'echo "Hello, $1!"' }]
done = "Greet"

[[turn]]
step = "develop"
round = 2
edit = [{ append = "README.md", content = "greet.sh exists.\n" }]
done = "Document"

[[turn]]
step = "develop"
round = 3
edit = [{ append = "README.md", content = "Give it a try, you are welcome!\n" }]
done = "Invite"
"##;

const REVIEWER: &str = r#"
[[turn]]
step = "review"
patch_has = "welcome"
verdict = "approve"
summary = "Good."
criteria = [{ id = "warm", met = true, why = "README.md:3" }]

[[turn]]
step = "review"
verdict = "approve"
summary = "Good enough."
criteria = [{ id = "warm", met = false, why = "it only says that the file exists" }]
"#;

/// A repository with a spec, and the script of every role.
fn cli(dev: &str, reviewer: &str) -> Cli {
    let cli = Cli::new();
    let files = [
        ("README.md", "# Tool\n"),
        ("greet.sh", "#!/bin/sh\nexit 1\n"),
        ("LICENSE", "MIT\n"),
        ("specs/greet.yaml", SPEC),
    ];
    cli.repo("tool", &files);
    std::fs::write(cli.path("script.toml"), [MANAGER, dev, reviewer].concat()).unwrap();
    cli
}

fn run(cli: &Cli, more: &[&str]) -> CommandOutput {
    let script = format!("script:{}", cli.path("script.toml").display());
    let args = ["run", "--repo", "tool.git", "--spec", "tool/specs/greet.yaml", "--check", "test -f README.md"];
    cli.run(&[&args[..], &["--engine", &script], more].concat())
}

/// The criteria of a run with their states.
fn states(view: &Value) -> Vec<(&str, &str)> {
    let all = view["acceptance"].as_array().unwrap();
    all.iter().map(|c| (c["id"].as_str().unwrap(), c["state"].as_str().unwrap())).collect()
}

#[test]
fn a_run_is_reworked_until_every_criterion_is_recorded_as_met() {
    let cli = cli(DEV, REVIEWER);
    let output = run(&cli, &["--yes"]).exits_with(0).prints("delivered as");
    // The criteria fail at the base, which is expected and raises no question.
    assert!(output.out.contains("accept:greets not met yet"), "{}", output.out);
    // The first delivery misses one criterion, the second is not what the reviewer has to see.
    assert!(output.out.contains("accept:documented not met"), "{}", output.out);
    // A single task is not tested on criteria, and the output does not say so.
    let mut is_working = false;
    for line in output.out.lines() {
        is_working = line.starts_with("working on ") || (is_working && !line.starts_with("reviewing: "));
        assert!(!is_working || !line.starts_with("checks started: ") || !line.contains("accept:"), "{}", output.out);
    }
    let id = cli.newest();
    let view = cli.show(&id);
    assert_eq!(states(&view), [("greets", "met"), ("documented", "met"), ("warm", "met")]);
    assert_eq!((view["rounds"].as_u64(), view["goal"]["spec"].as_str()), (Some(2), Some("greet")));
    assert_eq!(view["acceptance"][0]["met_at_base"], false);
    assert_eq!(view["acceptance"][2]["words"], "met, judged by the reviewer (attempt a6): README.md:3");
    let tasks: Vec<&str> = view["tasks"].as_array().unwrap().iter().map(|t| t["title"].as_str().unwrap()).collect();
    assert!(tasks[1].starts_with("Acceptance criteria are not met at "), "{tasks:?}");
    let shown = cli.run(&["show", &id]).exits_with(0);
    for part in ["Acceptance (spec greet, at ", "✓ documented: The README names greet.sh", "met, tested"] {
        assert!(shown.out.contains(part), "{part:?} is not in\n{}", shown.out);
    }
    // The change records each criterion, too.
    let change = cli.run(&["change", "show", &id]).exits_with(0);
    for part in [
        "- [x] `greets`: `greet.sh greets by name` — `met, tested`",
        "- [x] `warm`: `The README sounds inviting` — `met, ",
    ] {
        assert!(change.out.contains(part), "{part:?} is not in\n{}", change.out);
    }
    // What was delivered still meets the spec, and a later change may break it.
    let verify = ["spec", "verify", "tool/specs/greet.yaml", "--repo", "tool.git"];
    cli.run(&verify).exits_with(0).prints("2 of 2 tested criteria are met.").prints("1 criterion without a command");
    cli.run(&[&verify[..4], &["tool"]].concat()).exits_with(3).prints("0 of 2 tested criteria are met; not met: ");
}

#[test]
fn a_change_of_the_spec_in_the_branch_changes_no_criterion() {
    let easy = SPEC
        .replace("test \"$(sh greet.sh Ann)\" = \"Hello, Ann!\"", "true")
        .replace("grep -q greet.sh README.md", "true");
    let attack = format!(
        "[[turn]]\nstep = \"develop\"\nround = 1\nedit = [{{ write = \"specs/greet.yaml\", content = '''{easy}''' }}]\ndone = \"All criteria are met\"\n\
         [[turn]]\nstep = \"develop\"\nedit = [{{ append = \"specs/greet.yaml\", content = \"# met\\n\" }}]\ndone = \"They are\"\n"
    );
    let cli = cli(&attack, REVIEWER);
    let before = git(&cli.path("tool.git"), &["rev-parse", "main"]);
    // Even a policy that asks for a green base does not ask about criteria that are not met yet.
    std::fs::write(cli.path("skep.toml"), "[policy]\nbase_checks = \"green\"\n").unwrap();
    let output = run(&cli, &["--yes", "--config", "skep.toml"]).exits_with(4);
    assert!(output.out.contains("Acceptance criteria are not met"), "{}", output.out);
    let view = cli.show("@");
    assert_eq!(states(&view), [("greets", "unmet"), ("documented", "unmet"), ("warm", "pending")]);
    assert_eq!(view["escalations"][0]["code"], "rounds", "{}", view["escalations"]);
    assert_eq!(view["acceptance"][0]["command"], "test \"$(sh greet.sh Ann)\" = \"Hello, Ann!\"");
    assert_eq!(git(&cli.path("tool.git"), &["rev-parse", "main"]), before, "nothing landed");
}

#[test]
fn a_review_that_leaves_a_criterion_out_does_not_count() {
    let silent = "[[turn]]\nstep = \"review\"\nverdict = \"approve\"\nsummary = \"Fine.\"\n";
    let dev = "[[turn]]\nstep = \"develop\"\nedit = [{ write = \"greet.sh\", content = \"#!/bin/sh\\necho \\\"Hello, $1!\\\"\\n\" }, \
               { append = \"README.md\", content = \"greet.sh\\n\" }]\ndone = \"Greet\"\n";
    let cli = cli(dev, silent);
    run(&cli, &["--yes"]).exits_with(4);
    let view = cli.show("@");
    assert_eq!(view["escalations"][0]["code"], "tries", "{}", view["escalations"]);
    assert_eq!(states(&view), [("greets", "met"), ("documented", "met"), ("warm", "pending")]);
    // A reviewer that cannot judge leaves the criterion to the person who approves the merge.
    let id = cli.newest();
    let asked = cli.run(&["unblock", &id, "--engine", "reviewer=direct"]).exits_with(4);
    assert!(asked.out.contains("the merge waits for approval"), "{}", asked.out);
    assert!(asked.out.contains("to be judged by the person who approves the merge"), "{}", asked.out);
    let tested = asked.out.matches("accept:greets: green").count() + asked.out.matches("criterion greets: ").count();
    assert_eq!(tested, 1, "a criterion is listed once: {}", asked.out);
    cli.run(&["approve", &id]).exits_with(0).prints("delivered as");
    assert_eq!(cli.show(&id)["acceptance"][2]["words"], "met, judged by the person who approved the merge");
}

#[test]
fn other_checks_and_a_retry_keep_the_criteria_and_the_spec_forbids_paths() {
    let dev = "[[turn]]\nstep = \"develop\"\nedit = [{ append = \"LICENSE\", content = \"x\" }]\ndone = \"Licence\"\n";
    let cli = cli(dev, REVIEWER);
    run(&cli, &[]).exits_with(4);
    let view = cli.show("@");
    let why = view["attempts"][1]["ended"]["why"].as_str().unwrap();
    assert!(why.contains("LICENSE"), "{why}");
    let names = |view: &Value| -> Vec<String> {
        view["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["check-1", "accept:greets", "accept:documented"];
    assert_eq!(names(&view), all);
    let id = cli.newest();
    cli.run(&["unblock", &id, "--check", "true"]).exits_with(4);
    let view = cli.show(&id);
    assert_eq!((names(&view), view["checks"][0]["command"].as_str()), (all.map(str::to_owned).to_vec(), Some("true")));
    cli.run(&["cancel", &id]);
    cli.run(&["retry", &id]).exits_with(4);
    let again = cli.show("@");
    assert_ne!(again["id"], view["id"]);
    assert_eq!((names(&again), states(&again).len()), (all.map(str::to_owned).to_vec(), 3));
    // The same words with other criteria are another goal.
    let spec = cli.path("tool/specs/greet.yaml");
    std::fs::write(&spec, SPEC.replace("sounds inviting", "is short")).unwrap();
    run(&cli, &[]).exits_with(4);
    assert_ne!(cli.show("@")["id"], again["id"]);
}

#[test]
fn specs_are_written_checked_and_refused_with_file_and_line() {
    let cli = Cli::new();
    cli.repo("tool", &[("README.md", "# Tool\n")]);
    cli.run(&["spec", "new", "json-output"]).exits_with(0).prints("wrote specs/json-output.yaml");
    cli.run(&["spec", "new", "json-output"]).exits_with(2).one_error("specs/json-output.yaml", "another name");
    cli.run(&["spec", "new", "../x"]).exits_with(2).one_error("is not a name", "json-output");
    cli.run(&["spec", "check", "specs/json-output.yaml"])
        .exits_with(0)
        .prints("specs/json-output.yaml: valid, 2 criteria: 1 with a command, 1 for the reviewer");
    let wrong = SPEC.replace("acceptance:", "acceptence:");
    std::fs::write(cli.path("wrong.yaml"), &wrong).unwrap();
    for args in [
        &["spec", "check", "specs/json-output.yaml", "wrong.yaml"][..],
        &["run", "--repo", "tool", "--spec", "wrong.yaml", "--engine", "command: true", "--check", "true"],
    ] {
        let refused = cli.run(args).exits_with(2);
        refused.one_error(
            "wrong.yaml, line 5, column 1: unknown key `acceptence`; did you mean `acceptance`?",
            "spec schema",
        );
    }
    cli.run(&["spec", "check", "none.yaml"]).exits_with(2).one_error("none.yaml", "name a text file");
    cli.run(&["run", "x", "--spec", "wrong.yaml"]).exits_with(2);
    std::fs::create_dir_all(cli.path("kit/004-import")).unwrap();
    let kit = "# Feature Specification: Import\n\n## Success Criteria\n\n- **SC-001**: It imports\n";
    std::fs::write(cli.path("kit/004-import/spec.md"), kit).unwrap();
    cli.run(&["spec", "import", "--spec-kit", "kit/004-import"])
        .exits_with(0)
        .prints("wrote specs/import.yaml with 1 criterion");
    cli.run(&["spec", "check", "specs/import.yaml"]).exits_with(0).prints("0 with a command, 1 for the reviewer");
    let schema = cli.run(&["spec", "schema"]).exits_with(0).json();
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_brings_its_spec_as_text() {
    let s = service().await;
    let mut new = s.new_run("");
    new["spec"] = SPEC.into();
    let preview = s.post("/api/v1/runs/preview", &new).await.json();
    let names: Vec<&Value> = preview["checks"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert!(names.contains(&&json!("accept:documented")), "{names:?}");
    let opened = s.post("/api/v1/runs", &new).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let run = opened.json();
    assert_eq!(run["goal"]["title"], "Greet a person by name");
    assert_eq!(states(&run), [("greets", "pending"), ("documented", "pending"), ("warm", "pending")]);
    new["spec"] = SPEC.replace("id: warm", "id: greets").into();
    let refused = s.post("/api/v1/runs", &new).await.is_problem(422, "invalid");
    assert!(
        refused["detail"].as_str().unwrap().starts_with("spec: line 13, column 9: acceptance[2].id: "),
        "{refused}"
    );
    new["goal"] = "Greet".into();
    s.post("/api/v1/runs", &new).await.is_problem(422, "invalid");
}
