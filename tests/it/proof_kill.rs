//! `kill -9` while a model or an agent works: the attempt is lost, or resumed if the agent supports it. Its measured
//! usage is charged once, and no process of it remains.

use crate::support::baseline::{Baseline, ROLES, RUN, driven, priced, resuming, usual};
use crate::support::cli::BackgroundProcess;
use crate::support::models::{Models, Reply, Request, call};
use serde_json::{Value, json};
use skep::providers::settings::Api;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reservation of the dev's attempt.
const SET_ASIDE: &str = "[steps.develop]\ntokens = 60000\ncost = \"0.50 USD\"\nturns = 20\n";

/// Standard story in which the dev's second call is first answered with `first`.
fn interrupted(first: Reply) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let done = AtomicBool::new(false);
    move |request| match request.model() == "cheap" && request.turn() == 1 && !done.swap(true, Ordering::Relaxed) {
        true => first.clone(),
        false => usual(request),
    }
}

/// Path of a file in a worktree.
fn in_work(baseline: &Baseline, name: &str) -> Option<PathBuf> {
    let runs = std::fs::read_dir(baseline.cli.path("data/work")).ok()?.flatten();
    let trees = runs.flat_map(|run| std::fs::read_dir(run.path()).into_iter().flatten().flatten());
    trees.map(|tree| tree.path().join(name)).find(|file| file.exists())
}

fn signal(process: &BackgroundProcess, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Fate of the attempt.
enum Fate {
    /// Lost, with all calls answered.
    Lost,
    /// Lost during its second call.
    LostInCall,
    /// Resumed.
    TakenUp,
}

/// Kills the command once `is_there` holds, runs it again, and checks the outcome.
async fn killed(
    api: Api,
    roles: &str,
    first: Reply,
    fate: Fate,
    is_there: impl Fn(&Baseline, &BackgroundProcess) -> bool,
) {
    let models = Models::responding(interrupted(first)).await;
    let baseline = Baseline::new(models, api, &format!("{roles}{SET_ASIDE}"));
    let mut run = baseline.spawn(RUN);
    baseline.until("the moment", || is_there(&baseline, &run));
    let works = in_work(&baseline, "pids").is_some();
    let has_left = baseline.processes().iter().any(|s| s.ends_with("sleep 1000 "));
    assert_eq!(works, has_left, "its processes still run: {:?}", baseline.processes());
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let served: Vec<_> = baseline.models.served().into_iter().filter(|s| s.model == "cheap").collect();

    baseline.run(RUN).exits_with(0);
    assert_eq!(baseline.landed(), "b");
    let files = crate::support::cli::git(&baseline.cli.path("tool.git"), &["ls-tree", "--name-only", "main"]);
    // A new attempt starts with a clean worktree; a resumed one finds its own unchanged.
    let is_kept = matches!(fate, Fate::TakenUp);
    assert_eq!(files.trim(), if is_kept { "a.txt\npids" } else { "a.txt" });
    let run = baseline.show();
    let attempts = run["attempts"].as_array().unwrap();
    let ending = |a: &Value| a["ended"]["ending"].as_str().unwrap().to_owned();
    let lost: Vec<&Value> = attempts.iter().filter(|a| ending(a) == "lost").collect();
    assert_eq!(run["tasks"][0]["tries"], 1, "a lost attempt uses no try");
    // The measured usage is charged once, in the run's ledger and in the shared budgets.
    let amount = |of: &Value| ["tokens", "cost_micros", "turns"].map(|key| of[key].as_u64().unwrap());
    let (tokens, micros) = priced(&served);
    match fate {
        Fate::TakenUp => {
            assert_eq!((lost.len(), attempts.len()), (0, 3), "{attempts:?}");
            assert_eq!(attempts[1]["resumable"]["resumes"], 1, "{}", attempts[1]);
            let all: Vec<_> = baseline.models.served().into_iter().filter(|s| s.model == "cheap").collect();
            let (tokens, micros) = priced(&all);
            assert_eq!(amount(&attempts[1]["ended"]["charged"]), [tokens, micros, all.len() as u64], "both lives");
            assert!(all.len() > served.len(), "the agent continued");
        }
        Fate::Lost => {
            assert_eq!((lost.len(), attempts.len()), (1, 4), "{attempts:?}");
            assert_eq!(amount(&lost[0]["ended"]["charged"]), [tokens, micros, 2], "{served:?}");
        }
        Fate::LostInCall => {
            assert_eq!((lost.len(), attempts.len()), (1, 4), "{attempts:?}");
            let [t, m, turns] = amount(&lost[0]["ended"]["charged"]);
            assert_eq!((turns, served.len()), (2, 1), "the call in flight is one of them");
            assert!(t > tokens && m > micros && t < 60_000 && m < 500_000, "worst case: {t}, {m}");
        }
    }
    let sum = attempts
        .iter()
        .map(|a| amount(&a["ended"]["charged"]))
        .fold([0; 3], |s, a| [s[0] + a[0], s[1] + a[1], s[2] + a[2]]);
    assert_eq!((amount(&run["budget"]["spent"]), amount(&run["budget"]["reserved"])), (sum, [0; 3]));
    let budget = baseline.run(&["budget", "show", "--by", "run", "--json"]).exits_with(0).json();
    assert_eq!(
        (amount(&budget["spending"][0]), &budget["spending"][0]["reserved_tokens"]),
        (sum, &json!(0)),
        "{budget}"
    );

    baseline.until("nothing is left running", || baseline.processes().is_empty());
}

/// Whether the dev's second call was sent.
fn is_asked(baseline: &Baseline, _: &BackgroundProcess) -> bool {
    baseline.models.seen().iter().any(|r| r.model() == "cheap" && r.turn() == 1)
}

/// Whether the called command wrote its process ids.
fn is_at_work(baseline: &Baseline, _: &BackgroundProcess) -> bool {
    in_work(baseline, "pids")
        .is_some_and(|file| std::fs::read_to_string(file).unwrap().ends_with(|c: char| c.is_ascii_digit()))
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_streaming_answer() {
    killed(Api::Anthropic, ROLES, Reply::Silent, Fate::LostInCall, is_asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_call_of_a_tool() {
    let sleeps = "setsid sleep 1000 & printf \"$$ $!\" > pids.new; mv pids.new pids; exec sleep 1000";
    killed(Api::OpenAi, ROLES, call("run", json!({"command": sleeps})), Fate::Lost, is_at_work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_permission_request() {
    // Skep is stopped (SIGSTOP) before the agent asks, so that it cannot have answered.
    let asked = |baseline: &Baseline, process: &BackgroundProcess| {
        if !is_at_work(baseline, process) {
            return false;
        }
        signal(process, rustix::process::Signal::STOP);
        std::fs::write(in_work(baseline, "pids").unwrap().with_file_name("go"), "").unwrap();
        in_work(baseline, "asked").is_some()
    };
    killed(Api::OpenAi, &driven("acp"), call("hang", json!({"permission": true})), Fate::Lost, asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_work_of_an_agent_that_resumes_its_session() {
    let hang = call("hang", json!({"permission": false}));
    killed(Api::OpenAi, &resuming(), hang, Fate::TakenUp, is_at_work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_work_of_a_headless_agent() {
    killed(Api::OpenAi, &driven("cli"), call("hang", json!({"permission": false})), Fate::Lost, is_at_work).await;
}
