//! Tests of the command line: accepted and refused arguments, and the commands that escalations print.

mod follow;

use super::answers;
use super::args::{AnswerArgs, BudgetCommand, Command, Skep};
use crate::domain::block::{Block, BlockKind, CiDoubt, Subject};
use crate::domain::change::{FileChange, FileKind};
use crate::domain::run::Review;
use crate::domain::{
    Attempt, AttemptId, BlockId, BudgetKind, BudgetScope, BudgetUnit, ChangeNumber, ChangeRef, CheckKind, CheckSpec,
    EffectKind, Ended, Ending, EngineSpec, Finding, Goal, GoalSource, Opened, Policy, Principal, ProjectName, Role,
    Run, RunId, Scope, Settings, Sha, SharedBudget, Step, TaskId, Timestamp, Verdict,
};
use crate::http::rest::wire::Escalation;
use clap::{CommandFactory, Parser};

fn opened() -> Opened {
    Opened {
        id: RunId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_3f9a_12bc)),
        project: ProjectName::new("tool").unwrap(),
        goal: Goal {
            text: "Fix \x1b[2J it".into(),
            source: GoalSource::Manual,
            asked_by: Principal::from("local:ann"),
            spec: None,
        },
        settings: Settings {
            limits: Default::default(),
            notices: Vec::new(),
            fallbacks: Default::default(),
            policy: Policy::default(),
            engines: [Role::Manager, Role::Dev, Role::Reviewer]
                .map(|role| (role, EngineSpec::parse("script: x")))
                .into(),
            checks: vec![CheckSpec {
                name: "test".into(),
                kind: CheckKind::Test,
                command: "make test".into(),
                timeout_secs: 60,
                junit: None,
                runner: None,
                detected: false,
            }],
            origin: "/srv/tool.git".into(),
            forge: Default::default(),
            base_branch: "main".into(),
            branch: "skep/3f9a12bc".into(),
        },
        base: Sha::from("1111111111111111111111111111111111111111"),
        traceparent: None,
    }
}

fn a_run() -> Run {
    let mut run = crate::domain::open(&opened(), Timestamp(1_000)).unwrap().run;
    run.pending.clear();
    run.change = Some(ChangeRef { number: ChangeNumber(1), url: "skep change show tool#1".into() });
    run
}

fn block(n: u32, kind: BlockKind) -> Block {
    Block {
        id: BlockId(n),
        kind,
        why: "because\n\x1b]0;owned\x07".into(),
        fix: None,
        levels: Vec::new(),
        spending: Vec::new(),
        since: Timestamp(2_000),
        until: None,
    }
}

fn merge(n: u32) -> Block {
    let head = Sha::from("2222222222222222222222222222222222222222");
    block(n, BlockKind::Approval(Subject::Merge { head, base: opened().base }))
}

#[test]
fn the_command_definitions_are_consistent() {
    Skep::command().debug_assert();
}

/// Splits a printed command as a shell does.
fn shell(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| panic!("unbalanced quotes: {line}"))
}

#[test]
fn a_merge_request_shows_what_the_review_found_and_what_has_no_lines() {
    let file =
        |path: &str, kind, added, binary| FileChange { path: path.into(), kind, added, removed: 0, binary, blob: None };
    let mut run = a_run();
    run.diff.files = vec![
        file("a.bin", FileKind::Added, 0, true),
        file("a.txt", FileKind::Modified, 2, false),
        file("run.sh", FileKind::Modified, 0, false),
        file("new", FileKind::Added, 0, false),
    ];
    let finding = |n: u32| Finding { path: "a.bin".into(), line: 0, text: format!("odd {n}\nreview: fine") };
    run.facts.review = Some(Review {
        attempt: AttemptId(3),
        verdict: Verdict::Approve,
        summary: "Approved.".into(),
        findings: (1..=12).map(finding).collect(),
        criteria: Vec::new(),
    });
    let why = crate::render::escalation(&run, &merge(1)).why;
    for line in ["A a.bin (binary)", "M a.txt (+2 -0)", "M run.sh (mode only)", "A new (empty)"] {
        assert!(why.lines().any(|l| l == line), "{line}: {why}");
    }
    assert!(why.contains("review: Approved.\nfinding: a.bin: odd 1 review: fine\n"), "{why}");
    assert!(why.contains("… and 2 findings more: skep show 3f9a12bc\n") && !why.contains("odd 11"), "{why}");
    let shown = serde_json::to_value(crate::http::rest::wire::Run::new(&run, Timestamp(3_000))).unwrap();
    assert_eq!(shown["review"]["findings"][11]["words"], "a.bin: odd 12\nreview: fine");
}

#[test]
fn a_failed_command_is_named_as_what_it_is() {
    let failed = |engine: &str| Attempt {
        id: AttemptId(2),
        step: Step::Develop,
        task: Some(TaskId(1)),
        answers: None,
        engine: engine.into(),
        started_at: Timestamp(1_000),
        round: 0,
        continues: None,
        reserved: Default::default(),
        limited_by: Vec::new(),
        resumable: None,
        prompt_digest: None,
        ended: Some(Ended {
            at: Timestamp(2_000),
            ending: Ending::Failed,
            why: String::new(),
            charged: Default::default(),
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            exhausted: None,
        }),
    };
    let question = |engine: &str, why: &str| {
        let run = Run { attempts: vec![failed(engine)], ..a_run() };
        let kind = BlockKind::Tries { step: Step::Develop, task: Some(TaskId(1)) };
        crate::render::escalation(&run, &Block { why: why.into(), ..block(1, kind) })
    };
    let why = "the command ended with exit code 127; its last output:\n/bin/sh: 1: nosuchprog: not found";
    let asked = question("command:nosuchprog", why);
    assert_eq!(asked.reason, "task t1 did not succeed: the command of the dev failed");
    assert_eq!(asked.needs[0].what, "The program nosuchprog");
    assert_eq!(
        question("command:make", "exit code 2: cc: not found").needs[0].what,
        "A command that works, or what it needs"
    );
    assert_eq!(question("llm", why).reason, "task t1 did not succeed within its tries");
}

#[test]
fn every_command_an_escalation_prints_parses() {
    let sha = Sha::from("2222222222222222222222222222222222222222");
    let budget = BlockKind::Budget;
    let shared = |unit| {
        [BudgetScope::Project, BudgetScope::Day].map(|scope| SharedBudget { scope, unit, over: 6_000_000 }).to_vec()
    };
    let diff = Subject::Diff { task: TaskId(1), head: sha.clone(), concerns: vec![] };
    let kinds = vec![
        BlockKind::Approval(Subject::Plan { revision: 1 }),
        BlockKind::Approval(diff),
        merge(1).kind,
        BlockKind::Tries { step: Step::Develop, task: Some(TaskId(1)) },
        BlockKind::Tries { step: Step::Plan, task: None },
        BlockKind::StepTime { step: Step::Plan, task: None },
        BlockKind::Environment { scope: Scope::Base },
        BlockKind::Environment { scope: Scope::Task(TaskId(1)) },
        BlockKind::Rounds,
        budget(BudgetKind::Cost),
        budget(BudgetKind::Tokens),
        budget(BudgetKind::Attempts),
        budget(BudgetKind::Time),
        budget(BudgetKind::Turns),
        BlockKind::SharedBudget { budgets: shared(BudgetUnit::Tokens) },
        BlockKind::SharedBudget { budgets: shared(BudgetUnit::Cost) },
        BlockKind::Question { step: Step::Develop, task: Some(TaskId(1)) },
        BlockKind::NothingChanged,
        BlockKind::Effect(EffectKind::Push),
        BlockKind::Ci { doubt: CiDoubt::RedBase, checks: vec!["ci/test".to_owned()] },
        BlockKind::ChangeClosed,
        BlockKind::ForeignPush { head: sha },
        BlockKind::SecretFound { found: vec![] },
    ];
    let mut seen = 0;
    for kind in kinds {
        let run = a_run();
        let question: Escalation = crate::render::escalation(&run, &block(1, kind)).into();
        let of = answers::Of { run: "3f9a12bc", project: "tool", change: Some(1) };
        for line in answers::commands(of, &question).into_iter().chain(answers::inspection(of, &question)) {
            let typed = line.split("  #").next().unwrap();
            let skep = Skep::try_parse_from(shell(typed)).unwrap_or_else(|e| panic!("{typed}: {e}"));
            seen += 1;
            match skep.command {
                Command::Approve { run, block, .. } => {
                    assert_eq!((run.run.as_deref().unwrap(), block.as_deref()), ("3f9a12bc", Some("b1")))
                }
                Command::Unblock { run, block, answer: AnswerArgs { more, .. }, .. } => {
                    assert_eq!((run.run.as_deref().unwrap(), block.as_deref()), ("3f9a12bc", Some("b1")));
                    assert_eq!(more.is_some(), typed.contains("--more"));
                }
                Command::Show { .. } | Command::Change(_) | Command::Logs { .. } => {}
                Command::Budget(BudgetCommand::Raise(more)) => {
                    assert!(more.day != more.project.is_some() && more.run.is_none());
                    assert!(more.cost.or(more.tokens).is_some_and(|n| n > 6_000_000), "{typed}");
                }
                other => panic!("{typed} became {other:?}"),
            }
        }
    }
    assert!(seen > 35, "only {seen} commands were printed");
}

#[test]
fn every_effect_has_words() {
    let kinds = [
        EffectKind::Start,
        EffectKind::Reserve,
        EffectKind::Check,
        EffectKind::Integrate,
        EffectKind::Rebase,
        EffectKind::Push,
        EffectKind::EnsureChange,
        EffectKind::Comment,
        EffectKind::SetStatus,
        EffectKind::Observe,
        EffectKind::InspectCi,
        EffectKind::RerunCi,
        EffectKind::Land,
        EffectKind::Close,
        EffectKind::Release,
        EffectKind::Stop,
    ];
    for kind in kinds {
        assert_ne!(super::activity::words(kind.name()), kind.name());
    }
    assert_eq!(super::activity::words("of_a_newer_version"), "of_a_newer_version");
}

#[test]
fn arguments_are_accepted_or_refused() {
    let good: &[&str] = &[
        "skep run --repo / --goal x --engine command:true --engine reviewer=direct --check a --check b --yes --new",
        "skep run --project p --goal-file - --detach --base main --json",
        "skep --json --data-dir /tmp runs --open --status blocked --limit 5",
        "skep show abcd --patch",
        "skep show abcd --patch t1",
        "skep logs abcd a2",
        "skep events abcd --follow --after 3",
        "skep change status p#1 --context ci --state failure",
        "skep change show 3f9a12bc --patch",
        "skep retry abcd",
        "skep run \"Fix it\" --engine claude --update",
        "skep run --goal x",
        "skep approve",
        "skep status @",
        "skep ls",
        "skep diff",
        "skep diff @ t1",
        "skep log",
        "skep unblock --engine 'command: x' --check y --answer z",
        "skep retry @ --engine reviewer=direct --check y --more rounds=1 --answer z",
        "skep lift-quarantine abcd",
        "skep raise abcd --more rounds=2",
        "skep secret set A --project p --from-env B",
        "skep secret rekey --new-key-file new.key",
        "skep migrate --status",
        "skep config check",
        "skep runner test box",
        "skep place test box",
    ];
    for line in good {
        assert!(Skep::try_parse_from(shell(line)).is_ok(), "{line}");
    }
    let bad: &[&str] = &[
        "skep run --repo / --goal x --goal-file y",
        "skep run --repo / --project p --goal x",
        "skep run --repo /",
        "skep run x --goal y",
        "skep run x --update --new",
        "skep run --repo /no/such/place --goal x",
        "skep run --repo / --goal x --engine tester=direct",
        "skep run --repo / --goal x --engine comand:true",
        "skep unblock abcd --skip --answer x",
        "skep unblock abcd --more time=1",
        "skep show zz",
        "skep show abcd --patch x1",
        "skep change show p#0",
        "skep runs --status done",
        "skep runs --limit 0",
        "skep secret set A value-on-the-command-line",
        "skep secret set A --from-env B --from-file c",
    ];
    for line in bad {
        let error = Skep::try_parse_from(shell(line)).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn every_command_has_a_manual_page_and_hidden_ones_have_none() {
    let dir = tempfile::tempdir().unwrap();
    super::write_man_pages(&dir.path().join("man/man1")).unwrap();
    let page = |name: &str| std::fs::read_to_string(dir.path().join(format!("man/man1/{name}.1"))).ok();
    for command in Skep::command().get_subcommands().filter(|command| command.get_name() != "help") {
        let page = page(&format!("skep-{}", command.get_name()));
        assert_eq!(page.is_some(), !command.is_hide_set(), "{}", command.get_name());
        assert!(page.is_none_or(|page| page.contains(".SH SYNOPSIS")), "{}", command.get_name());
    }
    assert!(page("skep").unwrap().contains("skep\\-run(1)"), "the first page names the others");
    assert!(page("skep-forge-add").is_some(), "commands of commands, too");
    let Err(error) = super::write_man_pages(std::path::Path::new("/dev/null/man")) else { panic!("no folder") };
    assert!(format!("{error:?}").contains("/dev/null/man"), "{error:?}");
}
