//! Comments on lines, marked words, and new runs.

use super::*;

/// A console that shows the changes of the run that is asked about.
fn diffed(size: (u16, u16)) -> State {
    let mut state = opened(size);
    press(&mut state, "v");
    answered(&mut state, Request::Patch(RUN.to_owned(), None), Answer::Patch(PATCH.to_owned()));
    state
}

#[test]
fn comments_on_lines_become_the_reason_of_a_decline() {
    let mut state = diffed((80, 24));
    // The head of a hunk and a removed line have no place in the new file.
    for keys in ["c", "↓↓c"] {
        press(&mut state, keys);
        assert!(
            state.dialog.is_none() && screen(&state).contains("Choose a line of the new file"),
            "{}",
            screen(&state)
        );
    }
    press(&mut state, "↓c");
    assert!(screen(&state).contains("a.txt:2"), "{}", screen(&state));
    assert!(press(&mut state, "say it\n").is_empty(), "a comment is not sent by itself");
    press(&mut state, "n↓↓cnot \x08 like this\n");
    assert!(screen(&state).contains("2 comments.") && screen(&state).contains('●'), "{}", screen(&state));
    // An empty one is removed again; a wrong one is replaced.
    press(&mut state, "pG");
    press(&mut state, "cx\n");
    press(&mut state, "c\x08\x08\x08\x08\x08\x08\x08saying two\n");
    press(&mut state, "d");
    assert!(screen(&state).contains("2 comments go with it"), "{}", screen(&state));
    press(&mut state, "and a test\n");
    let text = screen(&state);
    assert!(text.contains("a.txt:2: saying two") && text.contains("You saw: head"), "{text}");
    let act = only_act(press(&mut state, "y"));
    let reason = "a.txt:2: saying two\ndocs/long/path/to/a/page.md:2: not like this\nand a test";
    assert!(act.body.no && act.body.text.as_deref() == Some(reason), "{:?}", act.body.text);
    answered(&mut state, Request::Act(Box::new(act)), Answer::Acted(Box::new(run())));
    assert!(state.diff.as_ref().is_none_or(|diff| diff.comments.is_empty()), "they were sent");
    // They belong to the commits that were read.
    let mut state = diffed((80, 24));
    press(&mut state, "↓↓↓cold\n");
    let mut moved = run();
    (moved.seq, moved.head) = (20, "5".repeat(40));
    answered(&mut state, Request::Run(RUN.to_owned()), Answer::Run(Box::new(moved)));
    press(&mut state, "d");
    assert!(!screen(&state).contains("go with it"), "{}", screen(&state));
}

#[test]
fn changed_words_are_marked_without_color_too() {
    let mut state = opened((80, 24));
    state.color = false;
    press(&mut state, "v");
    let patch = "diff --git a/a b/a\n@@ -1,1 +1,1 @@\n-let total =\tadd(a, b);\n+let total =\tsum(a, b);\n";
    answered(&mut state, Request::Patch(RUN.to_owned(), None), Answer::Patch(patch.to_owned()));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| view::draw(&state, frame)).unwrap();
    let is_marked = |cell: &&ratatui::buffer::Cell| cell.modifier.contains(ratatui::style::Modifier::REVERSED);
    let marked: String = terminal.backend().buffer().content.iter().filter(is_marked).map(|c| c.symbol()).collect();
    assert!(marked.contains("add(a,") && marked.contains("sum(a,") && !marked.contains("total"), "{marked}");
}

#[test]
fn a_run_is_started_after_a_yes() {
    let mut state = connected((80, 24));
    press(&mut state, "2n");
    assert!(screen(&state).contains("Project, or the absolute path") && screen(&state).contains("calc"));
    assert!(press(&mut state, "\nFix the tests\n").is_empty());
    let text = screen(&state);
    assert!(text.contains("Do you want to start a run on calc?") && text.contains("Fix the tests"), "{text}");
    assert!(press(&mut state, "n").is_empty() && state.dialog.is_none());
    press(&mut state, "n\x08\x08\x08\x08/srv/repo\nFix\n");
    let mut requests = press(&mut state, "y");
    let Some(Request::Start(new)) = requests.pop() else { panic!("{requests:?}") };
    assert_eq!((new.project.as_deref(), new.repo.as_deref(), new.goal.as_str()), (None, Some("/srv/repo"), "Fix"));
    // It is not sent twice, and a refusal is shown.
    assert!(press(&mut state, "n\nx\ny").is_empty());
    let error = CliError::usage("there is no repository", "give another path");
    state.update(Input::Response(Request::Start(new.clone()), Err(error)));
    assert!(screen(&state).contains("Cannot start the run: there is no repository"), "{}", screen(&state));
    answered(&mut state, Request::Start(new), Answer::Started(Box::new(run())));
    assert!(state.screen == Screen::Run && screen(&state).contains("Started: "), "{}", screen(&state));
}
