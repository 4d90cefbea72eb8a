//! The matrix: every phase, stage and block × every event either moves the run or is refused. The snapshot is written
//! for reviewers.

use crate::support::fixtures::{asker, bare_policy, other};
use crate::support::rng::sha;
use crate::support::story::{
    Story, broken, checked, ci_failure, developed, diff, quiet, request, results, reviewed, spec, unblock,
};
use skep::domain::*;
use std::collections::BTreeSet;

fn budget(scope: BudgetScope) -> SharedBudget {
    SharedBudget { scope, unit: BudgetUnit::Tokens, over: 0 }
}

fn failed() -> EffectOutcome {
    EffectOutcome::Failed { failure: Failure { what: "403".to_owned(), fix: "give the right".to_owned() } }
}

fn away(until: Option<Timestamp>, fix: bool) -> Report {
    let fix = fix.then(|| "put a key".to_owned());
    Report::Unavailable { why: "429".to_owned(), until, fix }
}

fn held() -> EffectOutcome {
    let (location, what) = ("src/a:1".to_owned(), "the secret A".to_owned());
    let found = SecretFound { location, what, fingerprint: "m1".to_owned() };
    EffectOutcome::PushHeld { found: vec![found] }
}

fn no(why: &str) -> Answer {
    Answer::No { why: why.to_owned() }
}

/// Every state of the matrix, reached by real decisions. Most of them use one reviewer and require approval of the
/// merge.
pub fn states() -> Vec<(&'static str, Story)> {
    let policy = || Policy { self_approval: true, ..bare_policy() };
    let planning = |p: Policy| Story::new(p).apply(Event::Admitted);
    let planned = |p: Policy, tasks: Vec<TaskSpec>| planning(p).reserved().report(Report::Planned { tasks });
    let one = |p: Policy| planned(p, vec![spec("a", &[])]);
    let checking = |p: Policy| one(p).work();
    let integrating = |p: Policy| checking(p).well("check");
    let head = |p: Policy| integrating(p).well("integrate");
    let shown = |p: Policy| head(p).all_well(&["push", "check", "ensure_change"]);
    let approved = |p: Policy| shown(p).review(Verdict::Approve);
    let gating = |p: Policy| approved(p).well("ensure_change");
    let asked = |p: Policy| gating(p).well("observe");
    let free = || Policy { approve_merge: false, ..policy() };
    let landing = || gating(free()).well("observe");
    let with_status = Policy { required_statuses: vec!["ci".to_owned()], ..free() };
    let strict =
        Policy { protected_paths: vec!["ci/**".to_owned()], forbidden_paths: vec!["secret/**".to_owned()], ..policy() };
    let usable = || Policy { base_checks: BaseChecks::Usable, ..policy() };
    let planned_one = || Report::Planned { tasks: vec![spec("a", &[])] };
    let late = || Report::BudgetExhausted {
        budget: BudgetKind::Time,
        why: "it exceeded its time limit".to_owned(),
        unfinished: None,
    };
    let fail = || Report::Failed { why: "gave up".to_owned() };
    let ask = || Report::Asked { question: "which way?".to_owned(), to: AskedTo::Person };
    let ask_scout = || Report::Asked { question: "where is it?".to_owned(), to: AskedTo::Scout };
    let cancel = || Event::CancelRequested { by: asker(), why: "enough".to_owned() };
    let shared = || Policy { shared: SharedLimits { day_tokens: Some(1_000), ..SharedLimits::default() }, ..policy() };
    let exhausted = EffectOutcome::BudgetExhausted {
        budgets: vec![budget(BudgetScope::Day)],
        levels: Vec::new(),
        spending: Vec::new(),
        reserved: false,
    };
    let see = |story: Story, change: &dyn Fn(&mut Observation)| {
        let mut observation = quiet(&story.run);
        change(&mut observation);
        story.apply(Event::Observed { observation })
    };
    let ci_red = |story: Story| {
        story.see(|o| {
            o.statuses = [("ci".to_owned(), StatusState::Failure)].into();
            o.failed = [("ci".to_owned(), 1)].into();
        })
    };
    let mut rounds = policy();
    rounds.limits.rounds = 0;
    let mut poor = policy();
    poor.limits.attempts = 1;
    let touchy = one(strict);
    let protected = developed(AttemptId(2), &["ci/build"]);
    let empty = EffectOutcome::Integrated { head: sha(&["root"]), diff: DiffStat::default() };
    let two = planned(policy(), vec![spec("a", &[]), spec("b", &["a"])]);
    vec![
        ("queued", Story::new(policy())),
        ("planning: scout in progress", planning(Policy { explore: true, ..policy() })),
        ("planning: manager in progress", planning(policy())),
        ("planning: asks a question", planning(policy()).report(ask())),
        ("planning: the scout answers a question", planning(policy()).report(ask_scout())),
        ("planning: tries used up", planning(policy()).report(fail()).report(fail())),
        ("planning: plan waits for approval", one(Policy { approve_plan: true, ..policy() })),
        ("working: attempts used up", one(poor)),
        ("working: waits for its engine", one(policy()).report(away(Some(Timestamp(90_000)), false))),
        ("working: no engine is available", one(policy()).report(away(None, true))),
        ("working: waits for the shared budgets", one(shared())),
        ("working: the day's budget is exhausted", one(shared()).done("reserve", exhausted.clone())),
        ("working: one task in progress, one waiting", two),
        ("working: one task in progress, resumable", {
            let story = one(policy());
            let attempt = story.run.live_attempts().next().unwrap().id;
            story.apply(Event::SessionOpened { attempt, session: "s-1".to_owned() })
        }),
        ("working: checking", checking(policy())),
        ("working: integrating", integrating(policy())),
        ("working: dropped, nothing left", one(policy()).report(ask()).answer(Answer::Skip)),
        ("working: one task in progress, strict paths", touchy.clone()),
        ("working: task's diff waits for approval", touchy.report(protected)),
        ("working: task asks a question", one(policy()).report(ask())),
        ("working: the scout answers a task's question", one(policy()).report(ask_scout())),
        ("working: the scout's reservation", one(shared()).reserved().report(ask_scout())),
        ("working: task's tries used up", one(policy()).report(fail()).report(fail())),
        ("working: nothing changed", integrating(policy()).done("integrate", empty.clone())),
        ("working: paused", one(policy()).apply(Event::Paused { by: asker() })),
        ("working: stopping", one(policy()).apply(cancel())),
        ("reviewing: pushing and checking", head(policy())),
        ("reviewing: opening the change", head(policy()).all_well(&["push", "check"])),
        ("reviewing: reviewer in progress", shown(policy())),
        ("reviewing: the scout answers a question", shown(policy()).report(ask_scout())),
        ("reviewing: rounds used up", {
            let red = checked(results(false));
            head(rounds).well("push").done("check", red)
        }),
        ("reviewing: push failed", head(policy()).done("push", failed()).well("check")),
        ("reviewing: push contains a secret", head(policy()).done("push", held()).well("check")),
        ("gating: marking ready", approved(policy())),
        ("gating: observing", gating(policy())),
        ("gating: waits for a status", gating(with_status).well("observe")),
        ("gating: merge waits for approval", asked(policy())),
        ("gating: merge waits for another person's approval", asked(Policy { self_approval: false, ..policy() })),
        ("gating: rebasing", see(asked(policy()), &|o| o.base = sha(&["newer"]))),
        ("gating: reading the failures of CI", ci_red(asked(policy()))),
        ("gating: CI is as red as the base", {
            let failures = vec![CiFailure { red_at_base: true, ..ci_failure("ci", "FAILED a") }];
            ci_red(asked(policy())).done("inspect_ci", EffectOutcome::CiInspected { failures })
        }),
        ("gating: CI runs again", {
            let workflow_run = Some(WorkflowRun { id: 1, attempt: 1 });
            let failure = CiFailure { passed_too: true, workflow_run, ..ci_failure("ci", "FAILED a") };
            ci_red(asked(policy())).done("inspect_ci", EffectOutcome::CiInspected { failures: vec![failure] })
        }),
        ("gating: foreign push", see(asked(policy()), &|o| o.head = sha(&["foreign"]))),
        ("gating: change closed", see(asked(policy()), &|o| o.state = ChangeState::Closed { by: other() })),
        ("landing", landing()),
        ("landing: stopping", landing().apply(cancel())),
        ("landing: failed", landing().done("land", failed())),
        ("reporting: delivered", landing().well("land")),
        ("reporting: cancelled", asked(policy()).apply(cancel())),
        ("reporting: workspace stuck", {
            landing().well("land").all_well(&["set_status", "set_status", "comment"]).done("release", failed())
        }),
        ("ended: delivered", { landing().well("land").all_well(&["set_status", "set_status", "comment", "release"]) }),
        ("ended: cancelled in the queue", Story::new(policy()).apply(cancel())),
        ("planning: checking the base", planning(usable())),
        ("planning: the base checks lack a program", {
            planning(usable()).done("check", checked(broken(Fault::Program { name: "go".to_owned() })))
        }),
        ("planning: the base is red, and must be green", {
            let green = Policy { base_checks: BaseChecks::Green, ..policy() };
            planning(green).done("check", checked(results(false)))
        }),
        ("planning: the plan step ran out of time", planning(policy()).report(late()).report(late())),
        ("working: the checks lack the network", { checking(policy()).done("check", checked(broken(Fault::Network))) }),
        ("working: as red as the base, without tries left", {
            let red = planning(usable()).done("check", checked(results(false))).report(planned_one());
            red.work().done("check", checked(results(false))).work().done("check", checked(results(false)))
        }),
        ("reviewing: the checks lack the network", {
            head(policy()).well("push").done("check", checked(broken(Fault::Network)))
        }),
        ("reporting: nothing to change", {
            let mut born = crate::support::fixtures::opened(policy());
            let command = EngineSpec { kind: "command".to_owned(), arg: "fix".to_owned() };
            born.settings.engines.insert(Role::Dev, command);
            let story = Story::of(born).apply(Event::Admitted).report(planned_one());
            let head = story.run.head.clone();
            story.report(Report::Developed { head, diff: diff(&[]), summary: String::new() })
        }),
    ]
}

/// Every event that could arrive, by name.
pub fn events(run: &Run) -> Vec<(String, Event)> {
    let mut list: Vec<(String, Event)> = Vec::new();
    let mut add = |name: &str, event: Event| list.push((name.to_owned(), event));
    add("opened", Event::Opened(Box::new(crate::support::fixtures::opened(bare_policy()))));
    add("admitted", Event::Admitted);
    let live = run.live_attempts().next().map_or(AttemptId(1), |a| a.id);
    let cycle = vec![spec("a", &["b"]), spec("b", &["a"])];
    let reports = [
        ("explored", Report::Explored { notes: "small".to_owned() }),
        ("planned", Report::Planned { tasks: vec![spec("a", &[])] }),
        ("planned(cycle)", Report::Planned { tasks: cycle }),
        ("developed", developed(live, &["src/a"])),
        ("developed(nothing)", Report::Developed { head: run.head.clone(), diff: diff(&[]), summary: String::new() }),
        ("developed(secret)", developed(live, &["secret/key"])),
        ("reviewed(approve)", reviewed(&run.head, Verdict::Approve)),
        ("reviewed(other head)", reviewed(&sha(&["else"]), Verdict::Approve)),
        ("reviewed(rework)", reviewed(&run.head, Verdict::Rework)),
        ("asked", Report::Asked { question: "how?".to_owned(), to: AskedTo::Person }),
        ("asked(the scout)", Report::Asked { question: "where?".to_owned(), to: AskedTo::Scout }),
        ("failed", Report::Failed { why: "no".to_owned() }),
        ("out of time", Report::BudgetExhausted { budget: BudgetKind::Time, why: "4 s".to_owned(), unfinished: None }),
        ("unavailable(for a while)", away(Some(Timestamp(900_000)), false)),
        ("unavailable(for days)", away(Some(Timestamp(300_000_000)), false)),
        ("unavailable(fix)", away(None, true)),
        ("lost", Report::Lost { why: "panic".to_owned() }),
        ("not resumed", Report::NotResumed { why: "no such session".to_owned() }),
        ("stopped", Report::Stopped),
    ];
    for (name, report) in reports {
        let reported = Reported {
            attempt: live,
            report,
            usage: None,
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        };
        add(&format!("report {name}"), Event::Reported(Box::new(reported)));
    }
    let unknown = Reported {
        attempt: AttemptId(99),
        report: Report::Stopped,
        usage: None,
        session: None,
        artifacts: Vec::new(),
        usage_by_model: Vec::new(),
        secrets: Vec::new(),
        prompt_digest: None,
    };
    add("report of a99", Event::Reported(Box::new(unknown)));
    add("due", Event::Due);
    add("session opened", Event::SessionOpened { attempt: live, session: "s-9".to_owned() });
    add("session opened by a99", Event::SessionOpened { attempt: AttemptId(99), session: "s".to_owned() });
    add("session without a name", Event::SessionOpened { attempt: live, session: String::new() });
    add(
        "orphaned",
        Event::Orphaned {
            attempts: run.attempts.iter().map(|a| a.id).collect(),
            metered: Vec::new(),
            alive: Vec::new(),
            stopped: Vec::new(),
        },
    );
    let change = ChangeRef { number: ChangeNumber(1), url: "u".to_owned() };
    let (head, new_diff) = (sha(&["new"]), diff(&["src/a"]));
    let outcomes = [
        ("green", checked(results(true))),
        ("red", checked(results(false))),
        ("without the network", checked(broken(Fault::Network))),
        ("no result", checked(Vec::new())),
        ("reserved", EffectOutcome::Reserved { caps: Usage { tokens: 9, ..Usage::default() }, levels: Vec::new() }),
        (
            "budget exhausted",
            EffectOutcome::BudgetExhausted {
                budgets: vec![budget(BudgetScope::Project)],
                levels: Vec::new(),
                spending: Vec::new(),
                reserved: false,
            },
        ),
        (
            "budget exhausted(reserved)",
            EffectOutcome::BudgetExhausted {
                budgets: vec![budget(BudgetScope::Day)],
                levels: Vec::new(),
                spending: Vec::new(),
                reserved: true,
            },
        ),
        ("integrated", EffectOutcome::Integrated { head: head.clone(), diff: new_diff.clone() }),
        ("rebased", EffectOutcome::Rebased { head, diff: new_diff }),
        ("conflict", EffectOutcome::Conflict { paths: vec!["src/a".to_owned()] }),
        ("change opened", EffectOutcome::ChangeOpened { change }),
        ("CI inspected", EffectOutcome::CiInspected { failures: vec![ci_failure("ci", "FAILED a")] }),
        ("CI rerun", EffectOutcome::CiRerun),
        ("observed", EffectOutcome::Observed { observation: quiet(run) }),
        ("landed", EffectOutcome::Landed { sha: run.head.clone(), batch: None }),
        ("stale", EffectOutcome::Stale { why: "moved".to_owned() }),
        ("pushed", EffectOutcome::Pushed),
        ("push held", held()),
        ("commented", EffectOutcome::Commented),
        ("status set", EffectOutcome::StatusSet),
        ("change closed", EffectOutcome::ChangeClosed),
        ("released", EffectOutcome::Released),
        ("stopped", EffectOutcome::Stopped),
        ("failed", failed()),
    ];
    let mut seen_kinds = BTreeSet::new();
    for (key, effect) in run.pending.iter().filter(|(_, e)| seen_kinds.insert(e.kind())) {
        for (name, outcome) in &outcomes {
            let event = Event::EffectFinished { key: key.clone(), outcome: outcome.clone() };
            add(&format!("{} {name}", effect.name()), event);
        }
    }
    add("end of 0.0", Event::EffectFinished { key: "0.0".into(), outcome: EffectOutcome::Commented });
    let closed = ChangeState::Closed { by: other() };
    let merged = ChangeState::Merged { sha: run.head.clone(), by: other() };
    let observations = [
        ("quiet", quiet(run)),
        ("foreign head", Observation { head: sha(&["foreign 2"]), ..quiet(run) }),
        ("base moved", Observation { base: sha(&["newest"]), ..quiet(run) }),
        ("closed", Observation { state: closed, ..quiet(run) }),
        ("closed by skep", Observation { state: ChangeState::Closed { by: Principal::skep() }, ..quiet(run) }),
        ("merged", Observation { state: merged, ..quiet(run) }),
        ("approved", Observation { approved_by: vec![other()], ..quiet(run) }),
        ("approved by the asker", Observation { approved_by: vec![asker()], ..quiet(run) }),
        ("approved by skep", Observation { approved_by: vec![Principal::skep()], ..quiet(run) }),
        ("ci green", Observation { statuses: [("ci".to_owned(), StatusState::Success)].into(), ..quiet(run) }),
        ("ci red", Observation { statuses: [("ci".to_owned(), StatusState::Failure)].into(), ..quiet(run) }),
        ("changes requested", Observation { change_requests: vec![request(run, 1)], ..quiet(run) }),
        ("UNBLOCK", unblock(run, other())),
        ("UNBLOCK by skep", unblock(run, Principal::skep())),
    ];
    for (name, observation) in observations {
        add(&format!("observed {name}"), Event::Observed { observation });
    }
    let raise = Raise { tokens: 1, cost_micros: 1, turns: 1, time_secs: 1, rounds: 1, attempts: 1, step_secs: 0 };
    let step_time = Raise { step_secs: 60, ..Raise::default() };
    let answers = [
        ("yes", Answer::Yes),
        ("no", no("differently")),
        ("no without why", no("")),
        ("text", Answer::Text { text: "like this".to_owned() }),
        ("more", Answer::More { raise }),
        ("more time for the step", Answer::More { raise: step_time }),
        ("more of nothing", Answer::More { raise: Raise::default() }),
        ("skip", Answer::Skip),
    ];
    for (name, answer) in &answers {
        add(&format!("answer {name}"), Event::Answered { block: None, answer: answer.clone(), by: asker() });
    }
    add("answer yes by another", Event::Answered { block: None, answer: Answer::Yes, by: other() });
    add("answer yes by skep", Event::Answered { block: None, answer: Answer::Yes, by: Principal::skep() });
    add("answer yes to b99", Event::Answered { block: Some(BlockId(99)), answer: Answer::Yes, by: asker() });
    add("raised", Event::Raised { raise, by: asker() });
    add("raised by nothing", Event::Raised { raise: Raise::default(), by: asker() });
    add("raised by skep", Event::Raised { raise, by: Principal::skep() });
    let engine =
        |spec: &str| Overrides { engines: [(Role::Dev, EngineSpec::parse(spec))].into(), ..Overrides::default() };
    let mut check = run.settings.checks.clone();
    check.iter_mut().for_each(|c| c.command = "another".to_owned());
    let checks = Overrides { checks: check, ..Overrides::default() };
    add("settings changed: engine", Event::SettingsChanged { overrides: engine("command: x"), by: asker() });
    add("settings changed: checks", Event::SettingsChanged { overrides: checks, by: asker() });
    add("settings changed: nothing", Event::SettingsChanged { overrides: Overrides::default(), by: asker() });
    add("settings changed by skep", Event::SettingsChanged { overrides: engine("command: x"), by: Principal::skep() });
    add("paused", Event::Paused { by: asker() });
    add("resumed", Event::Resumed { by: asker() });
    add("cancel", Event::CancelRequested { by: asker(), why: String::new() });
    list
}

/// The state of a run in one line.
fn state(run: &Run) -> String {
    let mut text = run.phase.name().to_owned();
    if !run.tasks.is_empty() && run.phase < Phase::Reporting {
        let stages: Vec<String> = run.tasks.iter().map(|t| format!("{:?}", t.stage).to_lowercase()).collect();
        text.push_str(&format!(" ({})", stages.join(", ")));
    }
    for block in &run.blocks {
        text.push_str(&format!(" ?{}", block.kind.code()));
    }
    if run.wait.is_some() {
        text.push_str(" waits");
    }
    if run.paused.is_some() {
        text.push_str(" paused");
    }
    if run.stopping.is_some() && run.phase < Phase::Reporting {
        text.push_str(" stopping");
    }
    match &run.outcome {
        Some(Outcome::Delivered { .. }) => text.push_str(" delivered"),
        Some(Outcome::Cancelled { .. }) => text.push_str(" cancelled"),
        Some(Outcome::Failed { .. }) => text.push_str(" failed"),
        Some(Outcome::Unchanged) => text.push_str(" unchanged"),
        None => {}
    }
    text
}

fn outcome(story: &Story, event: &Event) -> String {
    let mut story = story.clone();
    let before = story.run.clone();
    match story.try_apply(event) {
        Err(refusal) => {
            assert_eq!(story.run, before, "a refusal changes nothing");
            format!("refused: {}", refusal.code())
        }
        Ok(decision) => {
            let ordered: Vec<&str> = decision.effects.iter().map(|(_, e)| e.effect_ref().name()).collect();
            let (from, to) = (state(&before), state(&decision.run));
            let to = if from == to { "stays".to_owned() } else { to };
            if ordered.is_empty() { to } else { format!("{to} + {}", ordered.join(", ")) }
        }
    }
}

#[test]
fn every_state_and_every_event() {
    let mut table = String::new();
    let (mut phases, mut stages, mut questions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (name, story) in states() {
        phases.insert(story.run.phase);
        stages.extend(story.run.tasks.iter().map(|t| t.stage));
        questions.extend(story.run.blocks.iter().map(|b| b.kind.code()));
        let pending: Vec<&str> = story.run.pending.values().map(|t| t.name()).collect();
        table.push_str(&format!("\n## {name}\n{}; pending: {}\n", state(&story.run), pending.join(", ")));
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for (name, event) in events(&story.run) {
            let outcome = outcome(&story, &event);
            match lines.iter_mut().find(|(o, _)| *o == outcome) {
                Some((_, names)) => names.push(name),
                None => lines.push((outcome, vec![name])),
            }
        }
        for (outcome, names) in lines {
            table.push_str(&format!("  {outcome}\n      <- {}\n", names.join(" | ")));
        }
    }
    assert_eq!(phases.len(), 8, "every phase: {phases:?}");
    assert_eq!(stages.len(), 7, "every stage: {stages:?}");
    assert_eq!(questions.len(), 16, "every kind of question: {questions:?}");
    insta::assert_snapshot!("matrix", table);
}
