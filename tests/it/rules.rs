//! Rules of the run, one short story each: regressions, and rules that no other test covers.

use crate::support::fixtures::{asker, bare_policy, other};
use crate::support::rng::sha;
use crate::support::story::{Story, checked, developed, quiet, results, spec};
use skep::domain::*;

fn planned(policy: Policy, tasks: Vec<TaskSpec>) -> Story {
    Story::new(policy).apply(Event::Admitted).report(Report::Planned { tasks })
}

/// A run that waits for approval of the merge, or is about to land if no approval is required.
fn gated(policy: Policy) -> Story {
    planned(policy, vec![spec("a", &[])])
        .work()
        .all_well(&["check", "integrate", "push", "check", "ensure_change"])
        .review(Verdict::Approve)
        .all_well(&["ensure_change", "observe"])
}

fn free() -> Policy {
    Policy { approve_merge: false, ..bare_policy() }
}

fn see(story: Story, change: impl Fn(&mut Observation)) -> Story {
    let mut observation = quiet(&story.run);
    change(&mut observation);
    story.apply(Event::Observed { observation })
}

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

fn pending(story: &Story, act: &str) -> usize {
    story.run.pending.values().filter(|t| t.name() == act).count()
}

fn failed() -> EffectOutcome {
    EffectOutcome::Failed { failure: Failure { what: "403".to_owned(), fix: "fix it".to_owned() } }
}

fn cancel() -> Event {
    Event::CancelRequested { by: asker(), why: String::new() }
}

#[test]
fn nothing_starts_in_a_decision_that_blocks() {
    let policy = Policy { parallel_tasks: 2, ..bare_policy() };
    let story = planned(policy, vec![spec("a", &[]), spec("b", &[]), spec("c", &[])]);
    let fail = |story: Story| {
        let attempt = story.run.live_attempts().find(|a| a.task == Some(TaskId(1))).unwrap().id;
        let report = Report::Failed { why: "no".to_owned() };
        let reported = Reported {
            attempt,
            report,
            usage: None,
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        };
        story.apply(Event::Reported(Box::new(reported)))
    };
    let story = fail(fail(story));
    assert_eq!(asks(&story), ["tries"]);
    assert_eq!(pending(&story, "start"), 1, "b goes on, c does not start");
}

fn other_checks(run: &Run, command: &str) -> Event {
    let mut checks = run.settings.checks.clone();
    checks.iter_mut().for_each(|c| c.command = command.to_owned());
    Event::SettingsChanged { overrides: Overrides { checks, ..Overrides::default() }, by: asker() }
}

/// The commands of the checks that are ordered now.
fn ordered_checks(story: &Story) -> Vec<String> {
    let checks = story.outbox.values().filter_map(|effect| match effect {
        Effect::Check { checks, .. } => Some(checks.iter().map(|c| c.command.clone())),
        _ => None,
    });
    checks.flatten().collect()
}

#[test]
fn the_next_attempt_has_the_engine_that_a_person_gave() {
    let failed = || Report::Failed { why: "no".to_owned() };
    let story = planned(bare_policy(), vec![spec("a", &[])]).report(failed()).report(failed());
    assert_eq!(asks(&story), ["tries"]);
    let engines = [(Role::Dev, EngineSpec::parse("command: better"))].into();
    let event = Event::SettingsChanged { overrides: Overrides { engines, ..Overrides::default() }, by: asker() };
    let story = story.apply(event);
    assert_eq!(asks(&story), ["tries"], "the question stays until it is answered");
    let story = story.answer(Answer::Yes);
    assert_eq!(story.run.attempts.last().map(|a| a.engine.as_str()), Some("command:better"));
}

#[test]
fn results_of_earlier_checks_do_not_count() {
    let story = planned(bare_policy(), vec![spec("a", &[])]).work();
    assert_eq!(pending(&story, "check"), 1);
    let story = story.clone().apply(other_checks(&story.run, "stricter"));
    // The checks in progress end green, with the old commands.
    let story = story.well("check");
    assert_eq!(story.run.tasks[0].stage, Stage::Checking);
    assert_eq!(ordered_checks(&story), ["stricter"]);
    assert_eq!(story.well("check").run.tasks[0].stage, Stage::Integrating);
}

#[test]
fn other_checks_void_the_proof_and_the_approval() {
    let story = gated(bare_policy());
    assert_eq!(asks(&story), ["approve_merge"]);
    let story = story.clone().apply(other_checks(&story.run, "stricter"));
    assert_eq!((asks(&story), story.run.phase), (vec![], Phase::Reviewing));
    assert_eq!(ordered_checks(&story), ["stricter"]);
}

#[test]
fn approval_is_void_for_a_new_head() {
    let policy = Policy { required_statuses: vec!["ci".to_owned()], ..bare_policy() };
    let green = |o: &mut Observation| o.statuses = [("ci".to_owned(), StatusState::Success)].into();
    let red = |o: &mut Observation| o.statuses = [("ci".to_owned(), StatusState::Failure)].into();
    let story = see(gated(policy), green).answer(Answer::Yes);
    let old = story.run.head.clone();
    // CI turns red while the approved head is observed again: a rework produces a new head.
    let story = see(story, red)
        .well("inspect_ci")
        .work()
        .all_well(&["check", "integrate", "push", "check", "ensure_change"])
        .review(Verdict::Approve)
        .well("ensure_change");
    assert_ne!(story.run.head, old);
    assert_eq!(asks(&see(story, green)), ["approve_merge"], "the new head is not approved");
}

#[test]
fn observing_another_head_voids_the_approval() {
    let story = gated(bare_policy()).answer(Answer::Yes);
    let head = story.run.head.clone();
    let story = see(story, |o| o.head = sha(&["foreign"]));
    let story = see(story, |o| o.head = head.clone());
    assert_eq!(asks(&story), ["approve_merge"]);
}

#[test]
fn rebase_that_leaves_nothing_blocks() {
    let story =
        see(gated(free()).done("land", EffectOutcome::Stale { why: "moved".to_owned() }), |o| o.base = sha(&["newer"]));
    let gone = EffectOutcome::Rebased { head: sha(&["newer"]), diff: DiffStat::default() };
    assert_eq!(asks(&story.done("rebase", gone)), ["nothing_changed"]);
}

#[test]
fn conflict_after_the_merge_changes_nothing() {
    let story = see(gated(bare_policy()), |o| o.base = sha(&["newer"]));
    let story = see(story, |o| o.state = ChangeState::Merged { sha: sha(&["merged"]), by: other() });
    let story = story.done("rebase", EffectOutcome::Conflict { paths: Vec::new() });
    assert_eq!((story.run.phase, story.run.tasks.len()), (Phase::Reporting, 1));
}

#[test]
fn one_rebase_at_a_time() {
    let story = see(gated(bare_policy()), |o| o.base = sha(&["newer"]));
    let story = see(story, |o| o.base = sha(&["newest"]));
    assert_eq!(pending(&story, "rebase"), 1);
}

#[test]
fn stop_is_ordered_once() {
    let story = planned(bare_policy(), vec![spec("a", &[])]).apply(cancel()).well("stop");
    assert_eq!((pending(&story, "stop"), pending(&story, "start")), (0, 1), "it waits for the report");
    let story = story.report(Report::Stopped);
    assert_eq!(story.run.phase, Phase::Reporting);
}

#[test]
fn result_while_stopping_is_not_accepted() {
    let story = planned(bare_policy(), vec![spec("a", &[]), spec("b", &[])]).apply(cancel()).work();
    assert_eq!(story.run.tasks[0].stage, Stage::Ready);
    assert!(story.run.tasks[0].head.is_none());
}

#[test]
fn cancelled_run_waits_for_its_landing() {
    let story = gated(free()).apply(cancel());
    assert_eq!((story.run.phase, pending(&story, "land")), (Phase::Landing, 1));
    let late = story.clone().well("land");
    assert!(matches!(late.run.outcome, Some(Outcome::Delivered { .. })), "it landed despite the cancellation");
    let stale = story.done("land", EffectOutcome::Stale { why: "moved".to_owned() });
    let stale = stale.all_well(&["stop", "set_status", "set_status"]);
    assert!(matches!(stale.run.outcome, Some(Outcome::Cancelled { .. })));
}

#[test]
fn merge_observed_while_stopping_is_a_delivery() {
    let story = planned(bare_policy(), vec![spec("a", &[])]);
    let story = story.work().all_well(&["check", "integrate", "push", "check", "ensure_change"]).apply(cancel());
    let story = see(story, |o| o.state = ChangeState::Merged { sha: sha(&["merged"]), by: other() });
    assert!(matches!(story.run.outcome, Some(Outcome::Delivered { .. })));
}

#[test]
fn workspace_that_cannot_be_released_blocks_once_and_a_no_ends_the_run() {
    let story = planned(bare_policy(), vec![spec("a", &[])]).apply(cancel()).report(Report::Stopped).well("stop");
    let story = story.done("release", failed());
    assert_eq!((asks(&story), pending(&story, "release")), (vec!["effect"], 0));
    let again = story.clone().answer(Answer::Yes);
    assert_eq!(pending(&again, "release"), 1);
    assert!(story.answer(Answer::No { why: "leave it".to_owned() }).run.ended());
}

#[test]
fn stale_landings_are_counted() {
    let mut story = gated(free());
    for _ in 0..run::Facts::MAX_STALE_LANDINGS {
        assert!(story.run.blocks.is_empty());
        story = story.done("land", EffectOutcome::Stale { why: "a branch rule".to_owned() });
        if pending(&story, "push") == 1 {
            // The branch may be gone, which is not observed: it is pushed once more.
            story = story.well("push");
        }
        if story.run.blocks.is_empty() {
            story = story.well("observe");
        }
    }
    assert_eq!(asks(&story), ["effect"]);
    assert_eq!(pending(&story.answer(Answer::Yes).well("observe"), "land"), 1);
}

#[test]
fn closed_change_blocks_whoever_closed_it_and_a_comment_answers() {
    let closed = |o: &mut Observation| o.state = ChangeState::Closed { by: Principal::skep() };
    let story = see(gated(bare_policy()), closed);
    assert!(asks(&story).contains(&"change_closed"));
    let block = story.run.blocks.iter().find(|b| b.kind == BlockKind::ChangeClosed).unwrap().id;
    let story = see(story, |o| {
        closed(o);
        o.unblocks = vec![change::UnblockComment { comment: 5, block, by: other(), text: String::new() }];
    });
    assert!(!asks(&story).contains(&"change_closed"));
}

#[test]
fn close_while_landing_waits_for_the_landing() {
    let story = see(gated(free()), |o| o.state = ChangeState::Closed { by: other() });
    assert_eq!((story.run.phase, asks(&story).len()), (Phase::Landing, 0));
}

#[test]
fn reserved_budget_is_waited_for_instead_of_blocking() {
    let mut policy = Policy { parallel_tasks: 2, ..bare_policy() };
    policy.limits.tokens = Some(10_000);
    let manager = Usage { tokens: 100, ..Usage::default() };
    let story = Story::new(policy).apply(Event::Admitted);
    let tasks = vec![spec("a", &[]), spec("b", &[])];
    let report = |attempt: u32, report: Report| {
        let attempt = AttemptId(attempt);
        Event::Reported(Box::new(Reported {
            attempt,
            report,
            usage: Some(manager),
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        }))
    };
    let story = story.apply(report(1, Report::Planned { tasks }));
    assert_eq!((asks(&story).len(), pending(&story, "start")), (0, 1), "b waits for what a leaves unused");
    let story = story.apply(report(2, developed(AttemptId(2), &["src/a"])));
    assert_eq!(pending(&story, "start"), 1, "now b starts");
}

#[test]
fn result_is_reported_once() {
    let story = see(gated(bare_policy()), |o| o.state = ChangeState::Merged { sha: sha(&["m"]), by: other() });
    assert_eq!(pending(&story, "comment"), 2, "the question and the result");
    let story = story.done("comment", failed());
    assert_eq!((pending(&story, "comment"), asks(&story).len()), (1, 0));
}

#[test]
fn question_about_a_head_that_is_gone_is_replaced() {
    let story = see(gated(bare_policy()), |o| o.head = sha(&["foreign 1"]));
    let story = see(story, |o| o.head = sha(&["foreign 2"]));
    assert_eq!(story.run.blocks.len(), 1);
    assert_eq!(story.run.blocks[0].kind, BlockKind::ForeignPush { head: sha(&["foreign 2"]) });
    assert_eq!(asks(&see(story, |_| ())), ["approve_merge"], "the foreign push was undone");
}

#[test]
fn dead_scout_costs_only_its_findings() {
    let story = Story::new(Policy { explore: true, ..bare_policy() }).apply(Event::Admitted);
    let story = story.report(Report::Lost { why: "panic".to_owned() });
    assert_eq!(story.run.live_attempts().next().map(|a| a.step), Some(Step::Plan));
}

#[test]
fn lost_attempt_is_charged_in_full_unless_it_was_metered() {
    let counted = Usage { tokens: 11, cost_micros: 7, wall_ms: 0, turns: 2 };
    for usage in [None, Some(counted)] {
        let story = Story::new(bare_policy()).apply(Event::Admitted);
        let report = Report::Lost { why: "panic".to_owned() };
        let reported = Reported {
            attempt: AttemptId(1),
            report,
            usage,
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        };
        let story = story.apply(Event::Reported(Box::new(reported)));
        let (spent, reserved) = (story.run.ledger.spent, story.run.attempts[0].reserved);
        let due = usage.unwrap_or(reserved);
        assert_eq!((spent.tokens, spent.cost_micros), (due.tokens, due.cost_micros));
        assert!(spent.wall_ms > 0 && spent.wall_ms <= reserved.wall_ms, "time is charged as it passed: {spent:?}");
    }
}

#[test]
fn absurd_usage_counts_as_unreported() {
    let story = Story::new(bare_policy()).apply(Event::Admitted);
    let report = Report::Failed { why: "no".to_owned() };
    let usage = Some(Usage { tokens: u64::MAX, cost_micros: u64::MAX, wall_ms: 1, turns: 0 });
    let reported = Reported {
        attempt: AttemptId(1),
        report,
        usage,
        session: None,
        artifacts: Vec::new(),
        usage_by_model: Vec::new(),
        secrets: Vec::new(),
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(reported)));
    let (spent, reserved) = (story.run.ledger.spent, story.run.attempts[0].reserved);
    assert_eq!((spent.tokens, spent.cost_micros), (reserved.tokens, reserved.cost_micros));
}

#[test]
fn outcome_for_an_older_head_is_no_fact_about_the_current_one() {
    let story = planned(bare_policy(), vec![spec("a", &[])]).work().all_well(&["check", "integrate"]);
    let shown = story.clone().all_well(&["push", "check"]);
    let change = ChangeRef { number: ChangeNumber(1), url: String::new() };
    let ends = [
        (&story, "check", checked(results(true))),
        (&story, "push", EffectOutcome::Pushed),
        (&shown, "ensure_change", EffectOutcome::ChangeOpened { change }),
    ];
    for (story, effect, outcome) in ends {
        let mut run = story.run.clone();
        run.head = sha(&["newer"]);
        run.facts = run::Facts::default();
        let after = decide(&run, &Event::EffectFinished { key: story.key(effect), outcome }, Timestamp(0)).unwrap().run;
        assert_eq!(after.facts, run::Facts::default(), "{effect}");
    }
}

#[test]
fn notes_of_a_run_are_bounded() {
    let mut policy = bare_policy();
    policy.max_questions = 100;
    let mut story = Story::new(policy).apply(Event::Admitted);
    for n in 0..40 {
        story = story.report(Report::Asked { question: format!("question {n}?"), to: AskedTo::Person });
        story = story.answer(Answer::Text { text: format!("answer {n}") });
    }
    assert_eq!(story.run.notes.len(), Run::MAX_NOTES);
    assert_eq!(story.run.notes.last().unwrap().text, "answer 39");
}

#[test]
fn step_that_keeps_losing_its_process_is_not_started_for_ever() {
    let mut story = planned(bare_policy(), vec![spec("a", &[])]);
    for _ in 0..bare_policy().max_lost_attempts {
        let attempts = story.run.live_attempts().map(|a| a.id).collect();
        story = story.apply(Event::Orphaned { attempts, metered: Vec::new(), alive: Vec::new(), stopped: Vec::new() });
    }
    assert_eq!((asks(&story), story.run.tasks[0].tries), (vec!["tries"], 0));
    let question = skep::render::escalation(&story.run, &story.run.blocks[0]);
    assert_eq!(question.reason, "Skep's process ended 3 times in a row during task t1");
    assert!(question.needs[0].how.contains("journalctl"), "{}", question.needs[0].how);
    assert_eq!(pending(&story.answer(Answer::Yes), "start"), 1);
}

#[test]
fn step_whose_process_is_stopped_on_purpose_goes_on_every_time() {
    let mut story = planned(bare_policy(), vec![spec("a", &[])]);
    for _ in 0..3 * bare_policy().max_lost_attempts {
        let attempts: Vec<_> = story.run.live_attempts().map(|a| a.id).collect();
        let stopped = attempts.clone();
        story = story.apply(Event::Orphaned { attempts, metered: Vec::new(), alive: Vec::new(), stopped });
    }
    assert_eq!((asks(&story), pending(&story, "start")), (vec![], 1));
    assert_eq!((story.run.tasks[0].tries, story.run.tasks[0].losses), (1, 0));
}

#[test]
fn verdict_of_an_author_is_a_failed_review() {
    let story = planned(bare_policy(), vec![spec("a", &[])]);
    let story = story.work().all_well(&["check", "integrate", "push", "check", "ensure_change"]);
    let author = story.run.attempts[1].ended.as_ref().unwrap().session.clone();
    let attempt = story.run.live_attempts().next().unwrap().id;
    let report = crate::support::story::reviewed(&story.run.head, Verdict::Approve);
    let reported = Reported {
        attempt,
        report,
        usage: None,
        session: author,
        artifacts: Vec::new(),
        usage_by_model: Vec::new(),
        secrets: Vec::new(),
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(reported)));
    assert!(story.run.facts.review.is_none());
    assert_eq!(story.run.attempt(attempt).unwrap().ended.as_ref().unwrap().ending, Ending::Failed);
}

#[test]
fn comment_older_than_the_question_does_not_answer_it() {
    let early = |o: &mut Observation| {
        let text = String::new();
        o.unblocks = vec![change::UnblockComment { comment: 5, block: BlockId(2), by: other(), text }];
    };
    let story = see(gated(bare_policy()), early);
    let story = see(story, |o| {
        early(o);
        o.head = sha(&["foreign"]);
    });
    assert_eq!((asks(&story), story.run.blocks[0].id), (vec!["foreign_push"], BlockId(2)));
    let story = see(story, |o| {
        early(o);
        o.head = sha(&["foreign"]);
    });
    assert_eq!(asks(&story), ["foreign_push"], "read once, before the question existed");
}

#[test]
fn change_closed_and_reopened_during_the_review_still_lands() {
    let story = planned(free(), vec![spec("a", &[])]);
    let story = story.work().all_well(&["check", "integrate", "push", "check", "ensure_change"]);
    let story = see(story, |o| o.state = ChangeState::Closed { by: other() });
    let story = see(story, |_| ()).review(Verdict::Approve).all_well(&["ensure_change", "observe"]);
    assert_eq!(pending(&story, "land"), 1);
}

#[test]
fn every_base_that_moves_before_the_landing_is_counted() {
    let policy = Policy { approve_merge: false, ..bare_policy() };
    let mut story = planned(policy, vec![spec("a", &[])]).work().all_well(&["check", "integrate"]);
    for n in 1..=3u32 {
        story = story.all_well(&["push", "check", "ensure_change"]).review(Verdict::Approve).well("ensure_change");
        let moved = Observation { base: sha(&["moved", &n.to_string()]), ..quiet(&story.run) };
        story = story.done("observe", EffectOutcome::Observed { observation: moved }).well("rebase");
        assert_eq!(story.run.overtaken, n, "others wait for a run that was overtaken more than once");
    }
}

#[test]
fn time_in_which_no_process_lived_is_not_charged() {
    for (engine, turns) in [("command: sleep 9", 0), ("llm:a/b", 7)] {
        let mut born = crate::support::fixtures::opened(bare_policy());
        born.settings.policy.limits.turns = Some(7);
        born.settings.engines.insert(Role::Manager, EngineSpec::parse(engine));
        let story = Story::of(born).apply(Event::Admitted);
        let attempt = &story.run.attempts[0];
        let (attempts, seen) = (vec![attempt.id], Timestamp(attempt.started_at.0 + 900));
        let alive = vec![(attempt.id, seen)];
        let story = story.wait(60).apply(Event::Orphaned { attempts, metered: Vec::new(), alive, stopped: Vec::new() });
        let charged = story.run.attempts[0].ended.as_ref().unwrap().charged;
        assert_eq!((charged.wall_ms, charged.turns), (900, turns), "{engine}");
    }
}

/// The rules of this repository, for runs on Skep itself: no policy of an installation can take them away.
#[test]
fn runs_on_this_repository_need_a_person_for_what_judges_them() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(root.join(".skep.toml")).unwrap();
    let own = skep::adapters::checks::repo_file::parse(&file).unwrap();
    assert!(own.policy.approve_merge && !own.checks.is_empty());
    let policy = Policy { protected_paths: Vec::new(), ..free() }.tightened(&own.policy);
    let concerns = |path: &str| {
        let (path, kind) = (path.to_owned(), FileKind::Modified);
        let files = vec![FileChange { path, kind, added: 1, removed: 1, binary: false, blob: None }];
        policy.concerns(&DiffStat { files, files_total: 1, added: 1, removed: 1, ..DiffStat::default() })
    };
    for path in [
        ".ci/run",
        ".skep.toml",
        "config/default.toml",
        "deny.toml",
        "migration/src/lib.rs",
        "prompts/dev/develop.md",
        "src/adapters/checks/verdict.rs",
        "src/domain/decide/land.rs",
        "src/domain/policy/gate.rs",
        "src/platform/sandbox/policy.rs",
        "src/secrets/redact.rs",
        "tests/it/architecture/layers.rs",
    ] {
        assert!(root.join(path).is_file(), "{path} is gone: name what has taken its place in .skep.toml");
        assert!(matches!(concerns(path).as_slice(), [Concern::Protected { .. }]), "{path}");
    }
    assert!(concerns("src/render/time.rs").is_empty());
    // A pattern that matches nothing protects nothing.
    let tracked: Vec<String> = ignore::WalkBuilder::new(root)
        .hidden(false)
        .build()
        .filter_map(|entry| entry.ok()?.path().strip_prefix(root).ok()?.to_str().map(str::to_owned))
        .collect();
    for pattern in &own.policy.protected_paths {
        let alone = Policy { protected_paths: vec![pattern.clone()], ..free() };
        let one = |path: &String| {
            let files = vec![FileChange {
                path: path.clone(),
                kind: FileKind::Modified,
                added: 1,
                removed: 1,
                binary: false,
                blob: None,
            }];
            alone
                .concerns(&DiffStat { files, ..DiffStat::default() })
                .iter()
                .any(|c| matches!(c, Concern::Protected { .. }))
        };
        assert!(tracked.iter().any(one), "{pattern} matches no file");
    }
}
