//! Questions to the scout: a separate attempt answers each one, for exactly the step that asked. What the scout cannot
//! answer goes to a person.

use crate::support::fixtures::{asker, bare_policy, opened};
use crate::support::story::{Story, spec};
use skep::domain::*;

fn to_scout(question: &str) -> Report {
    Report::Asked { question: question.to_owned(), to: AskedTo::Scout }
}

fn found(notes: &str) -> Report {
    Report::Explored { notes: notes.to_owned() }
}

fn planned(opened: Opened, tasks: &[&str]) -> Story {
    let tasks = tasks.iter().map(|name| spec(name, &[])).collect();
    Story::of(opened).apply(Event::Admitted).report(Report::Planned { tasks })
}

fn one(policy: Policy) -> Story {
    planned(opened(policy), &["a"])
}

/// The order of the newest attempt.
fn newest(story: &Story) -> Order {
    let id = story.run.attempts.last().expect("an attempt").id;
    let order = story.outbox.values().find_map(|e| match e {
        Effect::Start { order } if order.attempt == id => Some((**order).clone()),
        _ => None,
    });
    order.expect("its order")
}

fn asks(story: &Story) -> Vec<(&'static str, String)> {
    story.run.blocks.iter().map(|b| (b.kind.code(), b.why.clone())).collect()
}

fn asked_a_person(story: &Story, expected: &[&str]) {
    let asks = asks(story);
    assert_eq!(asks.len(), 1, "{asks:?}");
    assert_eq!((asks[0].0, story.run.inquiries.len()), ("question", 0));
    for word in expected {
        assert!(asks[0].1.contains(word), "{word} in {}", asks[0].1);
    }
}

#[test]
fn answer_to_a_tasks_question_goes_to_that_task_only() {
    let story = planned(opened(Policy { parallel_tasks: 2, ..bare_policy() }), &["a", "b"]);
    let story = story.report(to_scout("Where is main?"));
    let open = &skep::http::rest::wire::Run::new(&story.run, story.run.opened_at).inquiries[0];
    assert_eq!((open.state.as_str(), open.question.as_str(), &open.answer), ("open", "Where is main?", &None));
    let order = newest(&story);
    assert_eq!(
        (order.step, order.question.as_deref(), order.task.is_none()),
        (Step::Explore, Some("Where is main?"), true)
    );
    assert!(
        order.notes.iter().any(|n| n.source == NoteSource::Task && n.text.contains("Do a, whole")),
        "{:?}",
        order.notes
    );
    assert!(story.run.blocks.is_empty(), "no person is asked");
    assert_eq!(
        (story.run.tasks[0].tries, story.run.tasks[1].tries),
        (0, 1),
        "no try is used, and the other task goes on"
    );
    let scout = story.run.live_attempts().find(|a| a.answers.is_some()).expect("a scout").clone();
    assert_eq!((scout.answers, scout.task), (Some(AttemptId(2)), None));
    let end = Reported {
        attempt: scout.id,
        report: found("src/main.rs:1"),
        usage: None,
        session: None,
        artifacts: vec![],
        usage_by_model: vec![],
        secrets: Vec::new(),
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(end)));
    let order = newest(&story);
    let answers = |notes: &[Note]| {
        notes.iter().filter(|n| n.source == NoteSource::Scout).map(|n| n.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(order.task.map(|t| t.spec.name).as_deref(), Some("a"));
    assert_eq!(answers(&order.notes), ["Asked: Where is main?\n\nsrc/main.rs:1"]);
    assert!(answers(&story.run.tasks[1].notes).is_empty() && story.run.notes.is_empty(), "no other step receives it");
    assert_eq!((story.run.tasks[0].tries, story.run.tries.get(&Step::Explore)), (1, None));
    assert!(story.run.inquiries.is_empty());
    let shown = &skep::http::rest::wire::Run::new(&story.run, story.run.opened_at).inquiries[..];
    let [one] = shown else { panic!("{shown:?}") };
    assert_eq!((one.asked_by.as_str(), one.task.as_deref(), one.state.as_str()), ("a2", Some("t1"), "answered"));
    assert_eq!((one.question.as_str(), one.answer.as_deref()), ("Where is main?", Some("src/main.rs:1")));
    assert_eq!(one.scouts, [scout.id.to_string()]);
}

#[test]
fn answers_for_manager_and_reviewer_go_to_them_only() {
    let story = Story::new(bare_policy()).apply(Event::Admitted).report(to_scout("Which build?")).report(found("make"));
    let plan = newest(&story);
    assert_eq!((plan.step, plan.try_number, plan.notes.len()), (Step::Plan, 1, 1));
    let story = story.report(Report::Planned { tasks: vec![spec("a", &[])] });
    assert!(newest(&story).notes.is_empty(), "a dev does not receive the manager's answer");
    let story = story.work().all_well(&["check", "integrate", "push", "check", "ensure_change"]);
    let story = story.report(to_scout("Who calls it?")).report(found("nobody"));
    let review = newest(&story);
    let texts: Vec<&str> = review.notes.iter().map(|n| n.text.as_str()).collect();
    assert_eq!((review.step, texts), (Step::Review, vec!["Asked: Who calls it?\n\nnobody"]));
}

#[test]
fn parallel_tasks_count_the_scouts() {
    let story = planned(opened(Policy { parallel_tasks: 1, ..bare_policy() }), &["a", "b"]).report(to_scout("Where?"));
    assert_eq!(story.run.live_attempts().count(), 1);
    assert_eq!(newest(&story).step, Step::Explore);
}

#[test]
fn without_a_scout_a_person_is_asked() {
    let mut born = opened(bare_policy());
    born.settings.engines.remove(&Role::Scout);
    let story = planned(born, &["a"]).report(to_scout("Where is main?"));
    asked_a_person(&story, &["Where is main?"]);
    let story = story.answer(Answer::Text { text: "in src".to_owned() });
    assert_eq!(newest(&story).notes[0].source, NoteSource::Answer);
}

#[test]
fn question_the_scout_cannot_answer_goes_to_a_person() {
    let report = |question: &str| Report::Asked { question: question.to_owned(), to: AskedTo::Scout };
    let fix = Some("put a key".to_owned());
    let ends = [
        (Report::Failed { why: "no disk".to_owned() }, "no disk"),
        (Report::Lost { why: "panicked".to_owned() }, "panicked"),
        (found(" \n"), "no findings"),
        (report("Which of the two?"), "Which of the two?"),
        (Report::Planned { tasks: vec![] }, "does not belong"),
        (Report::Stopped, "stopped"),
        (
            Report::Unavailable { why: "429".to_owned(), until: Some(Timestamp(9_000_000)), fix: None },
            "none of its engines",
        ),
        (Report::Unavailable { why: "401".to_owned(), until: None, fix }, "none of its engines"),
    ];
    for (end, why) in ends {
        let mut born = opened(bare_policy());
        born.settings.engines.insert(Role::Scout, EngineSpec::parse("llm:local/qwen"));
        let story = planned(born, &["a"]).report(to_scout("Where is main?")).report(end.clone());
        asked_a_person(&story, &["Where is main?", why]);
        assert!(story.run.wait.is_none() && story.run.parked(), "{end:?}");
        let story = story.answer(Answer::Text { text: "in src".to_owned() });
        assert_eq!((newest(&story).step, story.run.tasks[0].tries), (Step::Develop, 1), "{end:?}");
    }
}

#[test]
fn fallback_of_the_scout_takes_over() {
    let mut born = opened(bare_policy());
    born.settings.engines.insert(Role::Scout, EngineSpec::parse("llm:local/qwen"));
    born.settings.fallbacks.insert(Role::Scout, vec![EngineSpec::parse("llm:openai/gpt")]);
    let away = Report::Unavailable { why: "429".to_owned(), until: None, fix: None };
    let story = planned(born, &["a"]).report(to_scout("Where?")).report(away);
    let order = newest(&story);
    assert_eq!((order.engine.text().as_str(), order.question.as_deref()), ("llm:openai/gpt", Some("Where?")));
}

#[test]
fn questions_to_scout_and_person_share_one_limit() {
    let policy = Policy { max_questions: 2, ..bare_policy() };
    let story = one(policy).report(to_scout("One?")).report(found("one"));
    let person = Report::Asked { question: "Two?".to_owned(), to: AskedTo::Person };
    let story = story.report(person).answer(Answer::Yes);
    assert_eq!(story.run.tasks[0].tries, 1);
    let story = story.report(to_scout("Three?"));
    assert_eq!((story.run.tasks[0].tries, newest(&story).step), (2, Step::Develop), "a third is a failure");
    assert!(newest(&story).notes.iter().any(|n| n.text.contains("asked again after 2 questions")));
}

#[test]
fn scout_lost_with_its_process_is_restarted_but_not_for_ever() {
    let mut story = one(bare_policy()).report(to_scout("Where?"));
    for _ in 0..bare_policy().max_lost_attempts {
        assert_eq!(newest(&story).question.as_deref(), Some("Where?"));
        let attempts = story.run.live_attempts().map(|a| a.id).collect();
        story = story.apply(Event::Orphaned { attempts, metered: Vec::new(), alive: Vec::new(), stopped: Vec::new() });
    }
    asked_a_person(&story, &["Where?", "lost 3 times"]);
    assert!(!story.run.tries.contains_key(&Step::Explore), "the exploration before the plan has its own tries");
}

#[test]
fn pause_holds_the_scout_and_cancel_stops_it() {
    let asked = planned(opened(bare_policy()), &["a"]);
    let paused = asked.clone().apply(Event::Paused { by: asker() }).report(to_scout("Where?"));
    assert!(paused.run.parked() && paused.run.inquiries.len() == 1);
    let resumed = paused.apply(Event::Resumed { by: asker() });
    assert_eq!(newest(&resumed).question.as_deref(), Some("Where?"));
    let story = resumed.apply(Event::CancelRequested { by: asker(), why: String::new() });
    assert_eq!((story.run.inquiries.len(), story.run.pending.values().filter(|t| t.name() == "stop").count()), (0, 1));
    let story = story.report(found("too late")).well("stop");
    assert!(story.run.tasks[0].notes.is_empty() && story.run.phase == Phase::Reporting);
}

#[test]
fn question_does_not_replace_the_exploration_before_the_plan() {
    let away = Report::Unavailable { why: "429".to_owned(), until: None, fix: None };
    let mut born = opened(Policy { explore: true, ..bare_policy() });
    born.settings.engines.insert(Role::Scout, EngineSpec::parse("llm:local/qwen"));
    let story = Story::of(born).apply(Event::Admitted).report(away);
    // The manager plans without the scout, and asks it once it is available again.
    let story = story.wait(3_600).report(to_scout("Which build?"));
    let order = newest(&story);
    assert_eq!((order.step, order.question), (Step::Explore, None), "the exploration, now that it is possible");
    let story = story.report(found("small"));
    assert_eq!(newest(&story).question.as_deref(), Some("Which build?"));
    let story = story.report(found("make"));
    assert_eq!(newest(&story).step, Step::Plan);
}

#[test]
fn long_answer_keeps_its_question_and_its_beginning() {
    let story = one(bare_policy())
        .report(to_scout(&"Where? ".repeat(2_000)))
        .report(found(&format!("first {}", "x".repeat(20_000))));
    let order = newest(&story);
    let note = order.notes.last().expect("a note");
    assert!(note.text.starts_with("Asked: Where? ") && note.text.contains("\n\nfirst xxx"), "{:.80}", note.text);
    assert!(note.text.len() <= Note::MAX_TEXT_BYTES);
}
