//! Models that make no progress: each is stopped, the person who is asked sees the reason, and budget thresholds are
//! reported on the way.

use crate::support::baseline::{Baseline, ROLES, RUN, plan, priced, usual};
use crate::support::models::{Models, Reply, Request, call, text};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// Runs a story in which `model` always gives this answer, up to the question it ends with.
async fn asked(
    model: &'static str,
    more: &str,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Baseline, Value) {
    let responder = move |request: &Request| if request.model() == model { answer(request) } else { usual(request) };
    let baseline = Baseline::new(Models::responding(responder).await, Api::OpenAi, &format!("{ROLES}{more}"));
    baseline.run(RUN).exits_with(4);
    let run = baseline.show();
    // The ledger is complete, to the token.
    let (tokens, micros) = priced(&baseline.models.served());
    let spent = &run["budget"]["spent"];
    assert_eq!((spent["tokens"].as_u64(), spent["cost_micros"].as_u64()), (Some(tokens), Some(micros)));
    (baseline, run)
}

#[track_caller]
fn question(run: &Value, code: &str, parts: &[&str]) {
    let asked = &run["escalations"][0];
    assert_eq!(asked["code"], code, "{asked}");
    for part in parts {
        assert!(asked["why"].as_str().unwrap().contains(part), "{part:?} is not in {asked}");
    }
}

fn calls_of(baseline: &Baseline, model: &str) -> usize {
    baseline.models.served().iter().filter(|s| s.model == model).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_is_stopped_at_the_fourth() {
    let (baseline, run) = asked("cheap", "", |_| call("read", json!({"path": "a.txt"}))).await;
    question(&run, "tries", &["went in circles", "the same call 4 times in a row"]);
    assert_eq!(calls_of(&baseline, "cheap"), 8, "four calls in each of two tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_tools_are_stopped_at_the_third() {
    let (baseline, run) = asked("cheap", "", |_| text("I am about to begin.")).await;
    // The model is not tried again: it would do the same.
    question(&run, "engine", &["acme/cheap cannot do the work of the dev", "3 times without calling a tool"]);
    assert_eq!(calls_of(&baseline, "cheap"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_no_tool_understands_are_stopped_at_the_eighth() {
    // Each is another one, so that it is not a circle.
    let nonsense = |r: &Request| match r.turn() % 3 {
        0 => call("str_replace_editor", json!({"view": r.turn()})),
        1 => call("read", json!({"path": format!("nowhere-{}", r.turn())})),
        _ => call("run", json!({"cmd": ["ls", r.turn().to_string()]})),
    };
    let (baseline, run) = asked("cheap", "", nonsense).await;
    question(&run, "engine", &["cannot do the work of the dev", "only calls that cannot be carried out"]);
    assert_eq!(calls_of(&baseline, "cheap"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_call_tools_is_replaced_by_the_fallback() {
    let more = "[role.dev]\nengine = \"llm:acme/mute\"\nfallback = [\"llm:acme/cheap\"]\n";
    let roles = ROLES.replace("[role.dev]\nengine = \"llm:acme/cheap\"\n", more);
    let responder =
        |request: &Request| if request.model() == "mute" { text("```python\nprint(1)\n```") } else { usual(request) };
    let baseline = Baseline::new(Models::responding(responder).await, Api::OpenAi, &roles);
    baseline.run(RUN).exits_with(0);
    assert_eq!((baseline.landed().as_str(), calls_of(&baseline, "mute")), ("b", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_different_calls_are_stopped_by_the_turn_limit() {
    let more = "[steps.develop]\nturns = 7\ntries = 1\n";
    let (baseline, run) = asked("cheap", more, |r| call("search", json!({"pattern": format!("p{}", r.turn())}))).await;
    question(&run, "tries", &["turns"]);
    assert_eq!(calls_of(&baseline, "cheap"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_model_is_stopped_by_the_time_limit() {
    let more = "[steps.develop]\ntimeout = \"2s\"\ntries = 1\n";
    // The limit is reached during the command, not during a model call: one that is cut off is charged at its worst.
    let wait = |r: &Request| call("run", json!({"command": format!("sleep {}.5", 60 * r.turn())}));
    let (_, run) = asked("cheap", more, wait).await;
    question(&run, "step_time", &["time limit was reached"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_plan_is_refused_with_its_reason_each_time() {
    let circle = |_: &Request| {
        let task =
            |name: &str, needs: &str| json!({"name": name, "title": "T", "text": "Do", "needs": [needs], "paths": []});
        call("done", json!({"tasks": [task("a", "b"), task("b", "a")]}))
    };
    let (baseline, run) = asked("strong", "[steps.plan]\ntries = 1\n", circle).await;
    question(&run, "tries", &["went in circles", "the result was refused because", "depends on itself"]);
    // The model received the reason, not just another try.
    let last = baseline.models.seen().last().unwrap().body["messages"].to_string();
    assert!(last.contains("depends on itself"), "{last}");

    let (_, run) = asked("strong", "[steps.plan]\ntries = 1\n", |_| call("done", json!({"tasks": "all of it"}))).await;
    question(&run, "tries", &["went in circles", "the result was refused because", "expected a sequence"]);
    // Paths in a plan can only narrow what a task may change: nothing outside the worktree can be granted.
    let grants = |_: &Request| {
        call(
            "done",
            json!({"tasks": [{"name": "a", "title": "T", "text": "Do", "needs": [], "paths": ["../../etc/**"]}]}),
        )
    };
    let (_, run) = asked("strong", "[steps.plan]\ntries = 1\n", grants).await;
    question(&run, "tries", &["the result was refused because", "it leaves the repository"]);
    let narrow = |_: &Request| {
        call("done", json!({"tasks": [{"name": "a", "title": "T", "text": "Do", "needs": [], "paths": ["docs/"]}]}))
    };
    let (_, run) = asked("strong", "[steps.plan]\ntries = 1\n", narrow).await;
    question(&run, "tries", &["which this task must not touch", "the plan allows it to change only docs/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fallback_gives_a_second_opinion() {
    let responder = |request: &Request| match request.model() {
        "strong" => call("done", json!({"tasks": []})),
        "second" => plan(),
        _ => usual(request),
    };
    let roles = ROLES.replace("acme/strong\"\n", "acme/strong\"\nfallback = [\"llm:acme/second\"]\n");
    let baseline = Baseline::new(Models::responding(responder).await, Api::Anthropic, &roles);
    baseline.run(RUN).exits_with(0);
    assert_eq!(baseline.landed(), "b");
}

/// Runs a printed command verbatim in a shell.
fn run_printed(baseline: &Baseline, printed: &str) -> Option<i32> {
    let mut shell = baseline.cli.skep(&[]);
    let program = shell.get_program().to_owned();
    let line = format!("skep() {{ {program:?} \"$@\"; }}; {printed}");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).current_dir(baseline.cli.dir.path()).stdin(std::process::Stdio::null());
    for (name, value) in shell.env("USER", "ann").get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    tokio::task::block_in_place(|| command.output().unwrap().status.code())
}

/// Returns the first answer that contains the text.
#[track_caller]
fn answer(baseline: &Baseline, run: &Value, part: &str) -> String {
    let shown = baseline.run(&["show", run["short_id"].as_str().unwrap()]).exits_with(0);
    let printed = shown.out.lines().map(str::trim).find(|l| l.starts_with("skep ") && l.contains(part));
    printed.unwrap_or_else(|| panic!("{}", shown.out)).to_owned()
}

/// Searches differently each time, so that only a limit ends it; then makes the usual edit.
fn dawdles(request: &Request) -> Reply {
    match (request.model(), request.turn()) {
        ("cheap", turn @ 0..12) => call("search", json!({"pattern": format!("p{turn}")})),
        ("cheap", turn) => crate::support::baseline::edits(turn - 11),
        _ => usual(request),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_are_reported_once_and_an_exhausted_limit_is_a_question_with_a_working_answer() {
    let more = format!(
        "{ROLES}[policy]\napprove_merge = false\n[limits]\nturns = 12\n[steps.develop]\nturns = 4\ntries = 9\n"
    );
    let baseline = Baseline::new(Models::responding(dawdles).await, Api::OpenAi, &more);
    let _service = baseline.serve();
    baseline.run(RUN).exits_with(4);
    let run = baseline.show();
    assert_eq!((&run["budget"]["spent"]["turns"], baseline.models.served().len()), (&json!(12), 12));
    question(&run, "budget", &["budget is exhausted (model calls)", "acme/cheap", "12 model calls"]);
    let alerts = run["budget"]["alerts"].as_array().unwrap().iter();
    let reported: Vec<_> = alerts.map(|a| (a["budget"].as_str().unwrap(), a["percent"].as_u64().unwrap())).collect();
    assert_eq!(reported, [("turns", 50), ("turns", 80), ("turns", 100)]);
    let log = std::fs::read_to_string(baseline.cli.path("log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("budget threshold reached")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, share) in lines.iter().zip([50, 80, 100]) {
        assert!(line.contains(&format!("\"percent\":{share}")), "{line}");
    }

    assert_eq!(run_printed(&baseline, &answer(&baseline, &run, "--more turns=100")), Some(0));
    baseline.until("it goes on", || {
        baseline.cli.show(&baseline.cli.newest())["budget"]["spent"]["turns"].as_u64() > Some(12)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_money_for_a_call_is_reported_and_a_raise_helps() {
    // Each call costs about 5,000 micro-USD and may cost 6,000.
    let more = format!("{ROLES}[policy]\napprove_merge = false\n[limits]\ncost = \"0.04 USD\"\n");
    let baseline = Baseline::new(Models::responding(dawdles).await.large(), Api::OpenAi, &more);
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    baseline.configure(&text.replace("[prices]", "max_output_tokens = 300\n[prices]"));
    baseline.run(RUN).exits_with(4);
    let run = baseline.show();
    let spent = run["budget"]["spent"]["cost_micros"].as_u64().unwrap();
    assert!((30_000..=40_000).contains(&spent), "{spent}");
    question(&run, "budget", &["budget is exhausted (money)", "acme/cheap"]);
    assert_eq!(run["tasks"][0]["tries"], 0, "too little money is not a failure of the work");
    let code = run_printed(&baseline, &answer(&baseline, &run, "--more cost=\"1.00 USD\""));
    assert_eq!(code, Some(0));
    baseline.until("it ends", || baseline.cli.show(&baseline.cli.newest())["outcome"].is_object());
    assert_eq!(baseline.landed(), "b");
}
