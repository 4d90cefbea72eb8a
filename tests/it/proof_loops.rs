//! Cheap models that go nowhere: each is stopped with its reason, and the person who is asked reads it. What it costs is told in time.

use crate::support::baseline::{Floor, ROLES, RUN, plan, priced, usual};
use crate::support::models::{Models, Reply, Request, call, text};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// A story in which `model` always answers this, to the question it ends in.
async fn asked(
    model: &'static str,
    more: &str,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Floor, Value) {
    let mind = move |request: &Request| if request.model() == model { answer(request) } else { usual(request) };
    let floor = Floor::new(Models::think(mind).await, Api::OpenAi, &format!("{ROLES}{more}"));
    floor.does(RUN).ends(4);
    let run = floor.show();
    // Whatever it did is in the books, to the token.
    let (tokens, micros) = priced(&floor.models.served());
    let spent = &run["budget"]["spent"];
    assert_eq!((spent["tokens"].as_u64(), spent["cost_micros"].as_u64()), (Some(tokens), Some(micros)));
    (floor, run)
}

#[track_caller]
fn question(run: &Value, code: &str, parts: &[&str]) {
    let asked = &run["escalations"][0];
    assert_eq!(asked["code"], code, "{asked}");
    for part in parts {
        assert!(asked["why"].as_str().unwrap().contains(part), "{part:?} is not in {asked}");
    }
}

fn calls_of(floor: &Floor, model: &str) -> usize {
    floor.models.served().iter().filter(|s| s.model == model).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_for_ever_is_stopped_at_the_fourth() {
    let (floor, run) = asked("cheap", "", |_| call("read", json!({"path": "a.txt"}))).await;
    question(&run, "tries", &["went in circles", "the same call 4 times in a row"]);
    assert_eq!(calls_of(&floor, "cheap"), 8, "four calls in each of two tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_without_tools_is_stopped_at_the_third() {
    let (floor, run) = asked("cheap", "", |_| text("I am about to begin.")).await;
    question(&run, "tries", &["3 times without using a tool"]);
    assert_eq!(calls_of(&floor, "cheap"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_call_every_time_is_stopped_by_its_turns() {
    let more = "[steps.develop]\nturns = 7\ntries = 1\n";
    let (floor, run) = asked("cheap", more, |r| call("search", json!({"pattern": format!("p{}", r.turn())}))).await;
    question(&run, "tries", &["turns"]);
    assert_eq!(calls_of(&floor, "cheap"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_one_is_stopped_by_its_time() {
    let more = "[steps.develop]\nwall = \"2s\"\ntries = 1\n";
    let wait = |r: &Request| call("run", json!({"command": format!("sleep 0.{}5", r.turn() % 9)}));
    let (_, run) = asked("cheap", more, wait).await;
    question(&run, "tries", &["time was up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_for_a_plan_is_refused_with_its_reason_each_time() {
    let circle = |_: &Request| {
        let task =
            |name: &str, needs: &str| json!({"name": name, "title": "T", "text": "Do", "needs": [needs], "paths": []});
        call("done", json!({"tasks": [task("a", "b"), task("b", "a")]}))
    };
    let (floor, run) = asked("strong", "[steps.plan]\ntries = 1\n", circle).await;
    question(&run, "tries", &["went in circles", "its result was refused because", "waits for itself"]);
    // It was told why, by name, and not merely asked again.
    let last = floor.models.seen().last().unwrap().body["messages"].to_string();
    assert!(last.contains("waits for itself"), "{last}");

    let (_, run) = asked("strong", "[steps.plan]\ntries = 1\n", |_| call("done", json!({"tasks": "all of it"}))).await;
    question(&run, "tries", &["went in circles", "its result was refused because", "expected a sequence"]);
    // What a plan allows itself only narrows: beyond the worktree there is nothing.
    let grants = |_: &Request| {
        call(
            "done",
            json!({"tasks": [{"name": "a", "title": "T", "text": "Do", "needs": [], "paths": ["../../etc/**"]}]}),
        )
    };
    let (_, run) = asked("strong", "[steps.plan]\ntries = 1\n", grants).await;
    question(&run, "tries", &["which this task must not touch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opinion_is_asked_of_the_fall_back() {
    let mind = |request: &Request| match request.model() {
        "strong" => call("done", json!({"tasks": []})),
        "second" => plan(),
        _ => usual(request),
    };
    let roles = ROLES.replace("acme/strong\"\n", "acme/strong\"\nfallback = [\"llm:acme/second\"]\n");
    let floor = Floor::new(Models::think(mind).await, Api::Anthropic, &roles);
    floor.does(RUN).ends(0);
    assert_eq!(floor.landed(), "b");
}

/// Runs what was printed, word for word, in a shell.
fn types(floor: &Floor, printed: &str) -> Option<i32> {
    let mut shell = floor.desk.skep(&[]);
    let program = shell.get_program().to_owned();
    let line = format!("skep() {{ {program:?} \"$@\"; }}; {printed}");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).current_dir(floor.desk.dir.path()).stdin(std::process::Stdio::null());
    for (name, value) in shell.env("USER", "ann").get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    tokio::task::block_in_place(|| command.output().unwrap().status.code())
}

/// The first answer with this in it, as `skep show` prints it.
#[track_caller]
fn answer(floor: &Floor, run: &Value, part: &str) -> String {
    let shown = floor.does(&["show", run["short"].as_str().unwrap()]).ends(0);
    let printed = shown.out.lines().map(str::trim).find(|l| l.starts_with("skep ") && l.contains(part));
    printed.unwrap_or_else(|| panic!("{}", shown.out)).to_owned()
}

/// Searches that differ, so that only a limit ends them; then the usual edit.
fn dawdles(request: &Request) -> Reply {
    match (request.model(), request.turn()) {
        ("cheap", turn @ 0..12) => call("search", json!({"pattern": format!("p{turn}")})),
        ("cheap", turn) => crate::support::baseline::edits(turn - 11),
        _ => usual(request),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_limit_are_told_once_each_and_its_end_is_a_question_with_an_answer_that_works() {
    let more = format!(
        "{ROLES}[policy]\napprove_merge = false\n[limits]\nturns = 12\n[steps.develop]\nturns = 4\ntries = 9\n"
    );
    let floor = Floor::new(Models::think(dawdles).await, Api::OpenAi, &more);
    let _service = floor.serve();
    floor.does(RUN).ends(4);
    let run = floor.show();
    assert_eq!((&run["budget"]["spent"]["turns"], floor.models.served().len()), (&json!(12), 12));
    question(&run, "budget", &["budget is exhausted (model calls)", "acme/cheap", "12 model calls"]);
    let alerts = run["budget"]["alerts"].as_array().unwrap().iter();
    let told: Vec<_> = alerts.map(|a| (a["budget"].as_str().unwrap(), a["percent"].as_u64().unwrap())).collect();
    assert_eq!(told, [("turns", 50), ("turns", 80), ("turns", 100)]);
    let log = std::fs::read_to_string(floor.desk.path("log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("budget threshold reached")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, share) in lines.iter().zip([50, 80, 100]) {
        assert!(line.contains(&format!("\"percent\":{share}")), "{line}");
    }

    assert_eq!(types(&floor, &answer(&floor, &run, "--more turns=100")), Some(0));
    floor.until("it goes on", || floor.desk.show(&floor.desk.newest())["budget"]["spent"]["turns"].as_u64() > Some(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_too_little_for_a_call_is_said_and_more_of_it_helps() {
    // Each call takes about 5,000 micro-USD and may take 6,000.
    let more = format!("{ROLES}[policy]\napprove_merge = false\n[limits]\ncost = \"0.04 USD\"\n");
    let floor = Floor::new(Models::think(dawdles).await.large(), Api::OpenAi, &more);
    let text = std::fs::read_to_string(floor.desk.path("data/skep.toml")).unwrap();
    floor.configure(&text.replace("[prices]", "max_output = 300\n[prices]"));
    floor.does(RUN).ends(4);
    let run = floor.show();
    let spent = run["budget"]["spent"]["cost_micros"].as_u64().unwrap();
    assert!((30_000..=40_000).contains(&spent), "{spent}");
    question(&run, "budget", &["budget is exhausted (money)", "acme/cheap"]);
    assert_eq!(run["tasks"][0]["tries"], 0, "too little money is no failure of the work");
    let code = types(&floor, &answer(&floor, &run, "--more cost=\"1.00 USD\""));
    assert_eq!(code, Some(0));
    floor.until("it ends", || floor.desk.show(&floor.desk.newest())["outcome"].is_object());
    assert_eq!(floor.landed(), "b");
}
