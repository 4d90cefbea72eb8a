//! `kill -9` while a model or an agent is at work: the attempt is lost, or taken up again where the agent can; it is charged what was counted,
//! once; nothing of it is left.

use crate::support::baseline::{Floor, ROLES, RUN, driven, priced, resuming, usual};
use crate::support::cli::Beside;
use crate::support::models::{Models, Reply, Request, call};
use serde_json::{Value, json};
use skep::providers::settings::Api;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the dev's attempt sets aside.
const SET_ASIDE: &str = "[steps.develop]\ntokens = 60000\ncost = \"0.50 USD\"\nturns = 20\n";

/// The usual story, but the dev's second call is answered with `first` the first time.
fn interrupted(first: Reply) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let done = AtomicBool::new(false);
    move |request| match request.model() == "cheap" && request.turn() == 1 && !done.swap(true, Ordering::Relaxed) {
        true => first.clone(),
        false => usual(request),
    }
}

/// A file of this name in a worktree.
fn in_work(floor: &Floor, name: &str) -> Option<PathBuf> {
    let runs = std::fs::read_dir(floor.desk.path("data/work")).ok()?.flatten();
    let trees = runs.flat_map(|run| std::fs::read_dir(run.path()).into_iter().flatten().flatten());
    trees.map(|tree| tree.path().join(name)).find(|file| file.exists())
}

fn signal(process: &Beside, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What becomes of the attempt.
enum Fate {
    /// It is lost, with all its calls answered.
    Lost,
    /// It is lost in the middle of its second call.
    LostInCall,
    /// It is taken up again.
    TakenUp,
}

/// Kills the command at the moment `is_there`, runs it again, and looks at what is left.
async fn killed(api: Api, roles: &str, first: Reply, fate: Fate, is_there: impl Fn(&Floor, &Beside) -> bool) {
    let models = Models::think(interrupted(first)).await;
    let floor = Floor::new(models, api, &format!("{roles}{SET_ASIDE}"));
    let mut run = floor.beside(RUN);
    floor.until("the moment", || is_there(&floor, &run));
    let works = in_work(&floor, "pids").is_some();
    let has_left = floor.strays().iter().any(|s| s.ends_with("sleep 1000 "));
    assert_eq!(works, has_left, "what it started is there: {:?}", floor.strays());
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let served: Vec<_> = floor.models.served().into_iter().filter(|s| s.model == "cheap").collect();

    floor.does(RUN).ends(0);
    assert_eq!(floor.landed(), "b");
    let files = crate::support::cli::git(&floor.desk.path("tool.git"), &["ls-tree", "--name-only", "main"]);
    // A new attempt begins with a clean worktree; one that goes on finds its own as it was left.
    let is_kept = matches!(fate, Fate::TakenUp);
    assert_eq!(files.trim(), if is_kept { "a.txt\npids" } else { "a.txt" });
    let run = floor.show();
    let attempts = run["attempts"].as_array().unwrap();
    let ending = |a: &Value| a["ended"]["ending"].as_str().unwrap().to_owned();
    let lost: Vec<&Value> = attempts.iter().filter(|a| ending(a) == "lost").collect();
    assert_eq!(run["tasks"][0]["tries"], 1, "a loss is no try");
    // What was counted, and once: in the run's books and in those that runs share.
    let amount = |of: &Value| ["tokens", "cost_micros", "turns"].map(|key| of[key].as_u64().unwrap());
    let (tokens, micros) = priced(&served);
    match fate {
        Fate::TakenUp => {
            assert_eq!((lost.len(), attempts.len()), (0, 3), "{attempts:?}");
            assert_eq!(attempts[1]["resumable"]["resumes"], 1, "{}", attempts[1]);
            let all: Vec<_> = floor.models.served().into_iter().filter(|s| s.model == "cheap").collect();
            let (tokens, micros) = priced(&all);
            assert_eq!(amount(&attempts[1]["ended"]["charged"]), [tokens, micros, all.len() as u64], "both lives");
            assert!(all.len() > served.len(), "it thought on");
        }
        Fate::Lost => {
            assert_eq!((lost.len(), attempts.len()), (1, 4), "{attempts:?}");
            assert_eq!(amount(&lost[0]["ended"]["charged"]), [tokens, micros, 2], "{served:?}");
        }
        Fate::LostInCall => {
            assert_eq!((lost.len(), attempts.len()), (1, 4), "{attempts:?}");
            let [t, m, turns] = amount(&lost[0]["ended"]["charged"]);
            assert_eq!((turns, served.len()), (2, 1), "the call under way is one of them");
            assert!(t > tokens && m > micros && t < 60_000 && m < 500_000, "at its worst: {t}, {m}");
        }
    }
    let sum = attempts
        .iter()
        .map(|a| amount(&a["ended"]["charged"]))
        .fold([0; 3], |s, a| [s[0] + a[0], s[1] + a[1], s[2] + a[2]]);
    assert_eq!((amount(&run["budget"]["spent"]), amount(&run["budget"]["reserved"])), (sum, [0; 3]));
    let books = floor.does(&["budget", "show", "--by", "run", "--json"]).ends(0).json();
    assert_eq!((amount(&books["spending"][0]), &books["spending"][0]["reserved_tokens"]), (sum, &json!(0)), "{books}");

    floor.until("nothing is left running", || floor.strays().is_empty());
}

/// Whether the dev's second call has been sent.
fn is_asked(floor: &Floor, _: &Beside) -> bool {
    floor.models.seen().iter().any(|r| r.model() == "cheap" && r.turn() == 1)
}

/// Whether what was called for has said who it is.
fn is_at_work(floor: &Floor, _: &Beside) -> bool {
    in_work(floor, "pids")
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
    // It stands still while it is asked, so that the answer cannot have been given.
    let asked = |floor: &Floor, process: &Beside| {
        if !is_at_work(floor, process) {
            return false;
        }
        signal(process, rustix::process::Signal::STOP);
        std::fs::write(in_work(floor, "pids").unwrap().with_file_name("go"), "").unwrap();
        in_work(floor, "asked").is_some()
    };
    killed(Api::OpenAi, &driven("acp"), call("hang", json!({"permission": true})), Fate::Lost, asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_work_of_an_agent_that_takes_its_conversation_up_again() {
    let hang = call("hang", json!({"permission": false}));
    killed(Api::OpenAi, &resuming(), hang, Fate::TakenUp, is_at_work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_work_of_a_headless_agent() {
    killed(Api::OpenAi, &driven("cli"), call("hang", json!({"permission": false})), Fate::Lost, is_at_work).await;
}
