//! Contract of every `Engine`, and the specifics of `command`, `direct` and `script`.

use crate::support::engines::system_clock;
use crate::support::sandbox;
use skep::adapters::engine::{KINDS, Registry};
use skep::domain::order::{Bounds, TaskOrder};
use skep::domain::report::Finding;
use skep::domain::{
    AskedTo, AttemptId, BudgetKind, CheckKind, CheckResult, DiffStat, EngineSpec, FileChange, FileKind, Note,
    NoteSource, Order, RunId, Step, TaskId, TaskSpec, Usage, Verdict,
};
use skep::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::ports::{PortError, PortResult};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A plain order.
pub fn order(step: Step, task: Option<&str>) -> Order {
    let spec = |name: &str| TaskSpec {
        name: name.to_owned(),
        title: "Do it".to_owned(),
        text: "Do it well".to_owned(),
        needs: vec![],
        paths: vec![],
    };
    Order {
        run: RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap(),
        attempt: AttemptId(3),
        try_number: 1,
        round: 1,
        step,
        engine: EngineSpec::parse("test"),
        goal: "Make it\nright".to_owned(),
        question: None,
        task: task.map(|name| TaskOrder { id: TaskId(1), spec: spec(name) }),
        head: "a".repeat(40).as_str().into(),
        continues: None,
        base: "b".repeat(40).as_str().into(),
        notes: vec![],
        checks: vec![],
        criteria: vec![],
        results: vec![],
        excused: vec![],
        diff: DiffStat::default(),
        concerns: vec![],
        bounds: Bounds::default(),
        caps: Usage { tokens: 0, cost_micros: 0, wall_ms: 30_000, turns: 0 },
        resume: None,
    }
}

/// Directories of an attempt, all in one temporary folder.
pub struct AttemptDirs {
    pub root: tempfile::TempDir,
    pub patch: String,
}

impl AttemptDirs {
    pub fn new() -> AttemptDirs {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tree")).unwrap();
        AttemptDirs { root, patch: String::new() }
    }
    pub fn tree(&self) -> PathBuf {
        self.root.path().join("tree")
    }
    pub fn attempt_env(&self) -> AttemptEnv {
        let at = |name: &str| self.root.path().join(name);
        AttemptEnv {
            dir: at("tree"),
            cache: at("cache"),
            scratch: at("scratch"),
            patch: self.patch.clone(),
            meter: at("meter"),
            project: skep::domain::ProjectName::try_from("sample".to_owned()).unwrap(),
            origin: None,
            prompt: None,
        }
    }
}

pub fn engine(spec: &str) -> Arc<dyn Engine> {
    Registry::new(sandbox::strict(), Arc::default(), system_clock()).get(&EngineSpec::parse(spec)).unwrap()
}

pub fn quiet() -> Sink {
    Arc::new(|_| {})
}

async fn work(spec: &str, order: &Order, dirs: &AttemptDirs) -> PortResult<EngineResult> {
    engine(spec).run(order, &dirs.attempt_env(), quiet()).await
}

async fn result(spec: &str, order: &Order) -> StepOutcome {
    work(spec, order, &AttemptDirs::new()).await.unwrap().result
}

fn failed(work: StepOutcome) -> String {
    match work {
        StepOutcome::Failed(why)
        | StepOutcome::EditedInPart { why, .. }
        | StepOutcome::BudgetExhausted { budget: BudgetKind::Time, why } => why,
        other => panic!("expected a failure, got {other:?}"),
    }
}

// --- the registry

#[test]
fn unknown_kinds_and_bad_arguments_come_with_a_fix() {
    let registry = Registry::new(sandbox::strict(), Arc::default(), system_clock());
    for (spec, parts) in [
        ("lm", vec!["\"lm\"", "command:LINE", "direct", "llm:PROVIDER/MODEL", "script:FILE"]),
        ("llm", vec!["llm:PROVIDER/MODEL"]),
        ("llm:nobody/m", vec!["\"nobody\"", "configured are: none", "[providers.nobody]"]),
        ("", vec!["\"\""]),
        ("command", vec!["command:<shell command>"]),
        ("direct:x", vec!["no argument"]),
        ("open", vec!["start a service"]),
        ("open:x", vec!["no argument"]),
        ("script", vec!["script:/path"]),
        ("script:demo:none", vec!["\"none\"", "tally"]),
        ("script:/no/such/file.toml", vec!["/no/such"]),
    ] {
        let message = registry.get(&EngineSpec::parse(spec)).err().unwrap();
        assert!(parts.iter().all(|p| message.contains(p)), "{spec:?}: {message:?}");
    }
    assert_eq!(KINDS.len(), 7);
}

// --- command

#[tokio::test]
async fn command_works_in_its_worktree_and_receives_the_whole_order() {
    let dirs = AttemptDirs::new();
    let mut order = order(Step::Develop, Some("parser"));
    order.notes = vec![Note::new(NoteSource::Checks, "test is red: 2 failed")];
    let line = r#"command: cat "$SKEP_NOTES_FILE" > notes; cp "$SKEP_ORDER_FILE" order.json; test -d "$SKEP_SCRATCH" || exit 9
        echo "$SKEP_STEP $SKEP_TASK $SKEP_TASK_TEXT $SKEP_TRY $SKEP_ATTEMPT" > env; echo "$SKEP_GOAL" > goal; echo did it; echo"#;
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink: Sink = {
        let events = Arc::clone(&events);
        Arc::new(move |e| events.lock().unwrap().push(e))
    };
    let run_result = engine(line).run(&order, &dirs.attempt_env(), sink).await.unwrap();
    assert!(
        matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "did it"),
        "{:?}",
        run_result.result
    );
    assert_eq!(run_result.usage, Some(Usage::default()));
    let read = |name: &str| std::fs::read_to_string(dirs.tree().join(name)).unwrap();
    assert_eq!(read("env"), "develop parser Do it well 1 a3\n");
    assert_eq!(read("goal"), "Make it\nright\n");
    assert!(read("notes").contains("from checks:\ntest is red: 2 failed"));
    assert_eq!(serde_json::from_str::<Order>(&read("order.json")).unwrap(), order);
    assert_eq!(run_result.files[0].2, b"did it\n\n");
    let events = events.lock().unwrap();
    assert!(events.iter().any(|e| matches!(e, EngineEvent::Said(line) if line == "did it")));
}

#[tokio::test]
async fn command_exit_codes() {
    let develop = order(Step::Develop, Some("t"));
    assert!(matches!(result("command: true", &develop).await, StepOutcome::Edited { summary } if summary.is_empty()));
    let why = failed(result("command: echo oh no >&2; exit 3", &develop).await);
    assert!(why.contains("exit code 3") && why.contains("oh no"), "{why}");
    let busy = work("command: echo busy; exit 75", &develop, &AttemptDirs::new()).await;
    assert!(matches!(busy, Err(PortError::Transient { what, .. }) if what.contains("busy")));
    assert!(failed(result("command: kill -9 $$", &develop).await).contains("signal 9"));
    let partly = result("command: echo 2 left; exit 1", &develop).await;
    assert!(matches!(partly, StepOutcome::EditedInPart { summary, .. } if summary.contains("2 left")));
    assert!(matches!(result("command: exit 1", &order(Step::Explore, None)).await, StepOutcome::Failed(_)));
}

#[tokio::test]
async fn command_over_its_time_limit_fails_with_its_output() {
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps.wall_ms = 1_000;
    let why = failed(result("command: echo so far; sleep 600", &develop).await);
    assert!(why.contains("still running") && why.contains("so far"), "{why}");
}

#[tokio::test]
async fn command_reports_by_file() {
    let say = |json: &str| format!("command: cat > \"$SKEP_REPORT_FILE\" <<'X'\n{json}\nX");
    let develop = order(Step::Develop, Some("t"));
    let done = result(&say(r#"{"summary": "by report"}"#), &develop).await;
    assert!(matches!(done, StepOutcome::Edited { summary } if summary == "by report"));
    let asked = result(&say(r#"{"question": "Which port?"}"#), &develop).await;
    assert!(matches!(asked, StepOutcome::Asked { question: q, to: AskedTo::Person } if q == "Which port?"));
    let asked = result(&(say(r#"{"question": "Which?"}"#) + "\nexit 1"), &develop).await;
    assert!(matches!(asked, StepOutcome::Asked { .. }));
    let fell = result(&(say(r#"{"summary": "fine"}"#) + "\nexit 1"), &develop).await;
    assert!(failed(fell).contains("exit code 1"));

    let plan = order(Step::Plan, None);
    let tasks = result(&say(r#"{"tasks": [{"name": "a", "title": "A"}]}"#), &plan).await;
    assert!(matches!(tasks, StepOutcome::Tasks(t) if t.len() == 1 && t[0].text == "A"));
    let review = order(Step::Review, None);
    let json = r#"{"verdict": "rework", "summary": "no", "findings": [{"path": "x", "line": 2, "text": "wrong"}]}"#;
    assert!(failed(result(&say(json), &review).await).contains("neither in the diff"));
    let judged = result(&format!("{}\ntouch x", say(json)), &review).await;
    assert!(matches!(judged, StepOutcome::Judged { verdict: Verdict::Rework, findings, .. } if findings.len() == 1));
    let explore = order(Step::Explore, None);
    assert!(matches!(result(&say(r#"{"notes": "n"}"#), &explore).await, StepOutcome::Notes(n) if n == "n"));
    assert!(matches!(result("command: echo seen", &explore).await, StepOutcome::Notes(n) if n == "seen\n"));
}

#[tokio::test]
async fn command_reports_are_parsed_strictly() {
    let say = |json: &str| format!("command: cat > \"$SKEP_REPORT_FILE\" <<'X'\n{json}\nX");
    let (develop, plan, review) = (order(Step::Develop, Some("t")), order(Step::Plan, None), order(Step::Review, None));
    for (order, line, part) in [
        (&plan, "command: true".to_owned(), "must write {\"tasks\""),
        (&review, "command: true".to_owned(), "must write {\"verdict\""),
        (&develop, say(r#"{"summery": "x"}"#), "unknown field `summery`"),
        (&develop, say(r#"{"verdict": "approve"}"#), "the develop step requires"),
        (&develop, say(r#"{"summary": "x", "question": "y"}"#), "the develop step requires"),
        (&develop, say("{}"), "the develop step requires"),
        (&develop, say("not json"), "is invalid"),
        (&review, say(r#"{"verdict": "merge"}"#), "unknown variant"),
        (&review, say(r#"{"verdict": "rework", "findings": []}"#), "at least one finding"),
        (&plan, say(r#"{"tasks": [{"name": "a", "title": "A", "approved": true}]}"#), "unknown field"),
        (&develop, "command: ln -s /etc/passwd \"$SKEP_REPORT_FILE\"".to_owned(), "symbolic link"),
        (&develop, "command: mkfifo \"$SKEP_REPORT_FILE\"".to_owned(), "named pipe"),
        (&develop, "command: head -c 2000000 /dev/zero > \"$SKEP_REPORT_FILE\"".to_owned(), "the maximum is"),
    ] {
        let why = failed(result(&line, order).await);
        assert!(why.contains(part), "{line:?}: {why:?}");
    }
}

#[tokio::test]
async fn an_old_report_does_not_count_for_a_new_attempt() {
    let dirs = AttemptDirs::new();
    let plan = order(Step::Plan, None);
    let first = r#"command: echo '{"tasks": [{"name": "a", "title": "A"}]}' > "$SKEP_REPORT_FILE""#;
    assert!(matches!(work(first, &plan, &dirs).await.unwrap().result, StepOutcome::Tasks(_)));
    failed(work("command: true", &plan, &dirs).await.unwrap().result);
}

#[tokio::test]
async fn command_usage_is_reported_or_the_reservation() {
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps = Usage { tokens: 900, cost_micros: 50, wall_ms: 30_000, turns: 0 };
    let unsaid = work("command: true", &develop, &AttemptDirs::new()).await.unwrap().usage;
    assert_eq!(unsaid, Some(Usage { tokens: 900, cost_micros: 50, wall_ms: 0, turns: 0 }));
    let line = r#"command: echo '{"summary": "x", "usage": {"tokens": 7}}' > "$SKEP_REPORT_FILE""#;
    let usage = work(line, &develop, &AttemptDirs::new()).await.unwrap().usage;
    assert_eq!(usage, Some(Usage { tokens: 7, cost_micros: 0, wall_ms: 0, turns: 0 }));
}

#[tokio::test]
async fn a_flood_of_output_is_bounded_in_events_and_transcript() {
    let count = Arc::new(Mutex::new((0usize, 0usize)));
    let sink: Sink = {
        let count = Arc::clone(&count);
        Arc::new(move |e| {
            let mut count = count.lock().unwrap();
            count.0 += 1;
            if let EngineEvent::Said(line) = e {
                count.1 = count.1.max(line.chars().count());
            }
        })
    };
    let dirs = AttemptDirs::new();
    let line = "command: head -c 3000000 /dev/zero | tr '\\0' y; echo; yes | head -n 1000000; echo end";
    let run_result = engine(line).run(&order(Step::Develop, Some("t")), &dirs.attempt_env(), sink).await.unwrap();
    assert!(run_result.files[0].2.len() <= 1024 * 1024);
    let count = count.lock().unwrap();
    assert!(count.0 <= 2_010 && count.1 <= 400, "{count:?}");
}

// --- direct

fn result_of(name: &str, green: bool) -> CheckResult {
    CheckResult {
        name: name.to_owned(),
        kind: CheckKind::Test,
        green,
        exit_code: Some(i32::from(!green)),
        duration_ms: 1,
        why: if green { String::new() } else { "it ended with exit code 1".to_owned() },
        failures: Vec::new(),
        tail: String::new(),
        tests: None,
        artifacts: vec![],
        secrets: Vec::new(),
        fault: None,
    }
}

fn reviewed(green: bool, files: Vec<FileChange>) -> Order {
    let mut order = order(Step::Review, None);
    order.results = vec![result_of("test", green)];
    order.diff = DiffStat { files_total: files.len() as u64, files, added: 1, ..DiffStat::default() };
    order
}

fn added(path: &str, binary: bool) -> FileChange {
    FileChange { path: path.to_owned(), kind: FileKind::Added, added: 1, removed: 0, binary, blob: None }
}

async fn judged(order: &Order, dirs: &AttemptDirs) -> (Verdict, Vec<Finding>, String) {
    match work("direct", order, dirs).await.unwrap().result {
        StepOutcome::Judged { verdict, findings, summary, .. } => (verdict, findings, summary),
        other => panic!("expected a verdict, got {other:?}"),
    }
}

#[tokio::test]
async fn direct_plans_the_goal_as_one_task_and_cannot_edit() {
    let tasks = match result("direct", &order(Step::Plan, None)).await {
        StepOutcome::Tasks(tasks) => tasks,
        other => panic!("{other:?}"),
    };
    assert_eq!((tasks.len(), tasks[0].name.as_str(), tasks[0].title.as_str()), (1, "goal", "Make it"));
    assert_eq!(tasks[0].text, "Make it\nright");
    assert!(failed(result("direct", &order(Step::Develop, Some("t"))).await).contains("command:"));
}

#[tokio::test]
async fn direct_explores_names_and_instructions_without_following_links() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("AGENTS.md"), "Use tabs.\x1b[31m").unwrap();
    std::fs::create_dir(dirs.tree().join("src")).unwrap();
    std::fs::write(dirs.root.path().join("secret"), "canary-991").unwrap();
    std::os::unix::fs::symlink(dirs.root.path().join("secret"), dirs.tree().join("README.md")).unwrap();
    let StepOutcome::Notes(notes) = work("direct", &order(Step::Explore, None), &dirs).await.unwrap().result else {
        panic!()
    };
    assert!(
        notes.contains("AGENTS.md, README.md, src/") && notes.contains("Use tabs.") && !notes.contains('\x1b'),
        "{notes}"
    );
    assert!(!notes.contains("canary-991") && notes.len() <= Note::MAX_TEXT_BYTES);
}

#[tokio::test]
async fn direct_reviews_by_checks_and_diff() {
    let dirs = AttemptDirs::new();
    let (verdict, findings, summary) = judged(&reviewed(true, vec![added("a", false)]), &dirs).await;
    assert_eq!((verdict, findings.len()), (Verdict::Approve, 0));
    assert!(summary.contains("No model read the code"));

    let (verdict, findings, _) = judged(&reviewed(false, vec![added("a", false)]), &dirs).await;
    assert!(verdict == Verdict::Rework && findings[0].text.contains("check test failed"));
    assert_eq!(judged(&reviewed(true, vec![]), &dirs).await.0, Verdict::Rework, "an empty diff");
    let mut unproven = reviewed(true, vec![added("a", false)]);
    unproven.results.clear();
    assert_eq!(judged(&unproven, &dirs).await.0, Verdict::Rework, "no check ran");

    let mut worrying = reviewed(true, vec![added("a", false)]);
    worrying.concerns = vec!["it touches protected paths: .github/workflows/ci.yml".to_owned()];
    let (verdict, _, summary) = judged(&worrying, &dirs).await;
    assert!(verdict == Verdict::Approve && summary.contains("it touches protected paths"), "{summary}");
}

#[tokio::test]
async fn direct_finds_conflicts_and_blobs() {
    let mut dirs = AttemptDirs::new();
    let order = reviewed(true, vec![added("big.txt", false), added("logo.png", true)]);
    std::fs::write(dirs.tree().join("big.txt"), vec![b'x'; 1_100_000]).unwrap();
    let (verdict, findings, summary) = judged(&order, &dirs).await;
    assert_eq!((verdict, findings.len()), (Verdict::Approve, 2));
    assert!(findings[0].text.contains("1100000 bytes") && findings[1].text.contains("binary"), "{findings:?}");
    assert!(summary.contains("Findings in 2 files"));
    dirs.patch = "+++ b/big.txt\n@@ -0,0 +1,5 @@\n+<<<<<<< a\n+1\n+=======\n+2\n+>>>>>>> b\n".to_owned();
    let (verdict, findings, _) = judged(&order, &dirs).await;
    assert_eq!((verdict, findings[0].line), (Verdict::Rework, 1));
}

#[tokio::test]
async fn direct_finds_deleted_and_shortened_tests() {
    let file = |path: &str, kind, added, removed| FileChange {
        path: path.to_owned(),
        kind,
        added,
        removed,
        binary: false,
        blob: None,
    };
    let order = reviewed(
        true,
        vec![
            file("src/a.rs", FileKind::Modified, 1, 9),
            file("src/latest.rs", FileKind::Deleted, 0, 9),
            file("tests/a.rs", FileKind::Deleted, 0, 5),
            file("pkg/x_test.go", FileKind::Modified, 1, 2),
            file("ui/x.test.ts", FileKind::Modified, 2, 1),
        ],
    );
    let (verdict, findings, _) = judged(&order, &AttemptDirs::new()).await;
    let paths: Vec<_> = findings.iter().map(|f| f.path.as_str()).collect();
    assert_eq!((verdict, paths), (Verdict::Approve, vec!["tests/a.rs", "pkg/x_test.go"]));
}

// --- script

fn script(dirs: &AttemptDirs, text: &str) -> String {
    let path = dirs.root.path().join("script.toml");
    std::fs::write(&path, text).unwrap();
    format!("script:{}", path.display())
}

#[tokio::test]
async fn script_plays_the_first_matching_turn() {
    let dirs = AttemptDirs::new();
    let spec = script(
        &dirs,
        r#"
        [[turn]]
        step = "develop"
        task = "a"
        try = 1
        no_note_from = "checks"
        tokens = 5
        edit = [{ write = "x/y", content = "one\n" }, { append = "x/y", content = "two\n" }]
        done = "first"
        [[turn]]
        step = "develop"
        task = "a"
        edit = [{ replace = "x/y", old = "two", new = "2" }]
        done = "second"
        [[turn]]
        step = "develop"
        edit = [{ delete = "x/y" }]
        done = "any other task"
        [[turn]]
        step = "review"
        patch_lacks = "unsafe"
        verdict = "approve"
        [[turn]]
        step = "review"
        round = 2
        verdict = "approve"
        [[turn]]
        step = "review"
        verdict = "rework"
        findings = [{ path = "a", line = 3, text = "unsafe" }]
        "#,
    );
    let summary = |w: EngineResult| match w.result {
        StepOutcome::Edited { summary } => summary,
        other => panic!("{other:?}"),
    };
    let text = || std::fs::read_to_string(dirs.tree().join("x/y")).unwrap();
    let mut a = order(Step::Develop, Some("a"));
    for _ in 0..2 {
        // A turn that is played again after a restart has the same result.
        let run_result = work(&spec, &a, &dirs).await.unwrap();
        assert_eq!(run_result.usage.unwrap().tokens, 5);
        assert_eq!((summary(run_result).as_str(), text().as_str()), ("first", "one\ntwo\n"));
    }
    a.notes = vec![Note::new(NoteSource::Checks, "red")];
    assert_eq!((summary(work(&spec, &a, &dirs).await.unwrap()).as_str(), text().as_str()), ("second", "one\n2\n"));
    let why = failed(work(&spec, &a, &dirs).await.unwrap().result);
    assert!(why.contains("does not contain"), "{why}");
    let other = order(Step::Develop, Some("rework-1"));
    assert_eq!(summary(work(&spec, &other, &dirs).await.unwrap()), "any other task");
    assert!(!dirs.tree().join("x/y").exists());

    let mut dirs = dirs;
    let review = order(Step::Review, None);
    let first = work(&spec, &review, &dirs).await.unwrap().result;
    assert!(matches!(first, StepOutcome::Judged { verdict: Verdict::Approve, .. }));
    dirs.patch = "+unsafe {".to_owned();
    let again = work(&spec, &review, &dirs).await.unwrap().result;
    assert!(matches!(again, StepOutcome::Judged { verdict: Verdict::Rework, findings, .. } if findings[0].line == 3));
    let later = Order { round: 2, ..review.clone() };
    let later = work(&spec, &later, &dirs).await.unwrap().result;
    assert!(matches!(later, StepOutcome::Judged { verdict: Verdict::Approve, .. }));
    assert!(
        failed(work(&spec, &order(Step::Plan, None), &dirs).await.unwrap().result)
            .contains("no turn for the plan step")
    );
}

#[tokio::test]
async fn script_edits_never_leave_the_worktree() {
    let dirs = AttemptDirs::new();
    let outside = dirs.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "kept").unwrap();
    std::os::unix::fs::symlink(&outside, dirs.tree().join("way")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), dirs.tree().join("link")).unwrap();
    let develop = order(Step::Develop, Some("t"));
    for edit in [
        r#"{ write = "way/new", content = "x" }"#,
        r#"{ write = "way/file", content = "x" }"#,
        r#"{ delete = "way/file" }"#,
        r#"{ write = "link", content = "x" }"#,
        r#"{ append = "link", content = "x" }"#,
        r#"{ replace = "link", old = "kept", new = "x" }"#,
    ] {
        let spec = script(&dirs, &format!("[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{edit}]"));
        let why = failed(work(&spec, &develop, &dirs).await.unwrap().result);
        assert!(why.contains("link"), "{edit}: {why}");
    }
    let only: Vec<_> = std::fs::read_dir(&outside).unwrap().collect();
    assert_eq!((only.len(), std::fs::read_to_string(outside.join("file")).unwrap().as_str()), (1, "kept"));
    let spec = script(&dirs, "[[turn]]\nstep = \"develop\"\ndone = \"x\"\nedit = [{ delete = \"../outside/file\" }]");
    let message =
        Registry::new(sandbox::strict(), Arc::default(), system_clock()).get(&EngineSpec::parse(&spec)).err().unwrap();
    assert!(message.contains("leads outside") && message.contains("line 1"), "{message}");
}

#[tokio::test]
async fn script_can_fail_ask_panic_and_hang() {
    let dirs = AttemptDirs::new();
    let develop = order(Step::Develop, Some("t"));
    let turn = |end: &str| script(&dirs, &format!("[[turn]]\nstep = \"develop\"\n{end}"));
    assert_eq!(failed(work(&turn("fail = \"no\""), &develop, &dirs).await.unwrap().result), "no");
    assert!(matches!(
        work(&turn("question = \"why?\""), &develop, &dirs).await.unwrap().result,
        StepOutcome::Asked { .. }
    ));
    let (attempt_env, spec) = (dirs.attempt_env(), turn("panic = \"boom\""));
    let order = develop.clone();
    let died = tokio::spawn(async move { engine(&spec).run(&order, &attempt_env, quiet()).await.map(|_| ()) }).await;
    assert!(died.unwrap_err().is_panic());
    let spec = turn("hang = true");
    let hanging = work(&spec, &develop, &dirs);
    assert!(tokio::time::timeout(Duration::from_millis(50), hanging).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn script_pauses_between_its_lines() {
    let dirs = AttemptDirs::new();
    let spec = script(&dirs, "[[turn]]\nstep = \"develop\"\nsay = [\"a\", \"b\"]\nwait_ms = 60000\ndone = \"x\"");
    let before = tokio::time::Instant::now();
    work(&spec, &order(Step::Develop, Some("t")), &dirs).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(60));
}

#[tokio::test]
async fn a_script_that_is_a_link_or_too_large_is_refused() {
    let dirs = AttemptDirs::new();
    let (link, large) = (dirs.root.path().join("link.toml"), dirs.root.path().join("large.toml"));
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    std::fs::write(&large, vec![b'#'; 1_100_000]).unwrap();
    let get = |path: &Path| {
        let spec = EngineSpec { kind: "script".to_owned(), arg: path.display().to_string() };
        Registry::new(sandbox::strict(), Arc::default(), system_clock()).get(&spec).err().unwrap()
    };
    assert!(get(&link).contains("symbolic link"));
    assert!(get(&large).contains("the maximum is"));
}
