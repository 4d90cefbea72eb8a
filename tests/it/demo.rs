//! Every stage of the demo, with real checks: failing test, wrong fix, right fix, review findings, rework.

use crate::checks_contract::{checks, repo};
use crate::engines_contract::{AttemptDirs, engine, order, quiet};
use crate::support::cli::{BackgroundProcess, Cli};
use skep::adapters::demo;
use skep::domain::{CheckKind, CheckSpec, Note, NoteSource, Policy, Step, TaskSpec, Verdict, plan};
use skep::ports::checks::{Checks, Trust};
use skep::ports::engine::StepOutcome;
use std::path::Path;
use std::process::Command;

fn write_sample(dir: &Path) -> Vec<CheckSpec> {
    let files = demo::files();
    for (path, text) in &files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    vec![CheckSpec {
        name: "test".to_owned(),
        kind: CheckKind::Test,
        command: demo::CHECK.to_owned(),
        timeout_secs: 60,
        junit: None,
        runner: None,
        detected: false,
    }]
}

/// Plays the dev's turn for a task in the worktree.
async fn develop(dirs: &AttemptDirs, task: &str, try_number: u32, notes: Vec<Note>) {
    let mut order = order(Step::Develop, Some(task));
    (order.try_number, order.notes) = (try_number, notes);
    let run_result = engine("script:demo:tally").run(&order, &dirs.attempt_env(), quiet()).await.unwrap();
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
}

/// Returns the reviewer's verdict on the current worktree. The complete file stands in for a patch.
async fn verdict(dirs: &mut AttemptDirs) -> Verdict {
    dirs.patch = std::fs::read_to_string(dirs.tree().join("tally.sh")).unwrap();
    let run_result =
        engine("script:demo:tally").run(&order(Step::Review, None), &dirs.attempt_env(), quiet()).await.unwrap();
    match run_result.result {
        StepOutcome::Judged { verdict, findings, .. } => {
            assert_eq!(findings.is_empty(), verdict == Verdict::Approve);
            for f in &findings {
                let line = dirs.patch.lines().nth(f.line as usize - 1).unwrap();
                assert!(line.contains("whole"), "the finding points at {line:?}");
            }
            verdict
        }
        other => panic!("{other:?}"),
    }
}

async fn green(dirs: &AttemptDirs, cache: &Path, specs: &[CheckSpec]) -> bool {
    let results = checks().run(&repo(), &dirs.tree(), cache, Trust::Unproven, specs).await.unwrap();
    let result = &results[0].result;
    // A failure must come from a test.
    assert!(result.green || result.tail.contains("not ok - "), "{result:?}");
    result.green
}

#[tokio::test]
async fn every_stage_of_the_demo_behaves_as_scripted() {
    let cache = tempfile::tempdir().unwrap();
    let mut dirs = AttemptDirs::new();
    let specs = write_sample(&dirs.tree());
    assert!(!green(&dirs, cache.path(), &specs).await, "the sample starts with a failing test");

    develop(&dirs, "fix-reading", 1, vec![]).await;
    assert!(!green(&dirs, cache.path(), &specs).await, "the first attempt breaks another test");
    develop(&dirs, "fix-reading", 2, vec![Note::new(NoteSource::Checks, "red")]).await;
    assert!(green(&dirs, cache.path(), &specs).await, "the second attempt is correct");
    develop(&dirs, "keep-it-fixed", 1, vec![]).await;
    assert!(green(&dirs, cache.path(), &specs).await);

    // The findings are correct: with the tests of the rework but without its fix, the checks fail.
    assert_eq!(verdict(&mut dirs).await, Verdict::Rework);
    let before = std::fs::read_to_string(dirs.tree().join("tally.sh")).unwrap();
    develop(&dirs, "review-1", 1, vec![Note::new(NoteSource::Review, "refunds")]).await;
    let after = std::fs::read_to_string(dirs.tree().join("tally.sh")).unwrap();
    std::fs::write(dirs.tree().join("tally.sh"), before).unwrap();
    assert!(!green(&dirs, cache.path(), &specs).await, "the findings are real");
    std::fs::write(dirs.tree().join("tally.sh"), after).unwrap();
    assert!(green(&dirs, cache.path(), &specs).await);
    assert_eq!(verdict(&mut dirs).await, Verdict::Approve);
}

#[tokio::test]
async fn the_second_attempt_also_works_on_a_clean_worktree() {
    let dirs = AttemptDirs::new();
    write_sample(&dirs.tree());
    develop(&dirs, "fix-reading", 2, vec![]).await;
    let text = std::fs::read_to_string(dirs.tree().join("tally.sh")).unwrap();
    assert!(text.contains("1) fraction=$((fraction * 10))"));
}

#[tokio::test]
async fn the_domain_accepts_the_plan() {
    let dirs = AttemptDirs::new();
    let run_result =
        engine("script:demo:tally").run(&order(Step::Plan, None), &dirs.attempt_env(), quiet()).await.unwrap();
    let StepOutcome::Tasks(tasks) = run_result.result else { panic!() };
    assert_eq!(plan::refuse(&tasks, &Policy::default()), None);
    let names: Vec<_> = tasks.iter().map(|t: &TaskSpec| (t.name.as_str(), t.needs.len())).collect();
    assert_eq!(names, [("fix-reading", 0), ("keep-it-fixed", 1)]);
}

#[tokio::test]
async fn the_sample_repository_is_bare_complete_and_reproducible() {
    let git = |repo: &Path, args: &[&str]| {
        let output = Command::new("git").arg("--git-dir").arg(repo).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sample = demo::write_to(one.path()).await.unwrap();
    let again = demo::write_to(&two.path().join("deeper")).await.unwrap();
    assert_eq!((sample.base.as_str(), sample.engine.kind.as_str()), ("main", "script"));
    assert_eq!(git(&sample.repo, &["rev-parse", "main"]), git(&again.repo, &["rev-parse", "main"]));
    assert_eq!(git(&sample.repo, &["rev-parse", "--is-bare-repository"]), "true\n");
    assert_eq!(git(&sample.repo, &["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    assert_eq!(git(&sample.repo, &["rev-list", "--count", "main"]), "3\n");
    git(&sample.repo, &["fsck", "--strict"]);
    for (path, text) in demo::files() {
        assert_eq!(git(&sample.repo, &["show", &format!("main:{path}")]), text, "{path}");
    }
    assert_eq!(std::fs::read_dir(one.path()).unwrap().count(), 1, "no other file remains");
    let error = demo::write_to(one.path()).await.unwrap_err();
    assert!(error.to_string().contains("already exists"));
    assert!(demo::NOTICE.contains("script") && sample.goal.contains("2.5"));
}

/// The command itself, as somebody who has just built it runs it.
#[test]
fn the_demo_lands_and_then_shows_its_pages_until_it_is_interrupted() {
    let cli = Cli::new();
    let log = cli.path("log");
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut command = cli.skep(&["demo", "--yes", "--serve"]);
    command.stdout(std::fs::File::create(&log).unwrap()).stderr(std::process::Stdio::null());
    let mut demo = BackgroundProcess(command.spawn().unwrap());
    cli.until("the pages are served", || written().contains("Ctrl+C ends the pages"));
    let output = written();
    assert!(output.contains("delivered as") && output.contains("That was the demo."), "{output}");
    let link = output.lines().find_map(|line| line.strip_prefix("Open ")).unwrap().to_owned();
    skep::telemetry::install_crypto();
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let page = client.get(link).send().unwrap().text().unwrap();
    assert!(page.contains("Log in"), "{page}");
    let pid = rustix::process::Pid::from_raw(demo.0.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(0), "{}", written());
    assert!(written().contains("The sample repository and its history"), "{}", written());
}
