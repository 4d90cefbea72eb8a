//! Tests of the console without a terminal: what each key does, and what each screen looks like.

mod changes;

use super::state::{Act, Answer, Dialog, Input, Link, Log, Request, Screen, State, Tab};
use super::view;
use crate::cli::exit::CliError;
use crate::http::rest::wire::{Event, Health, Rating, Run, RunSummary, Spending, SpendingBy, Timestamp};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

const RUN: &str = "01a22cb62ae073b386ebcd2672cdf4ec";
const SIZES: [(u16, u16); 2] = [(80, 24), (160, 50)];
const PATCH: &str = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@ fn main()\n one\n-two\n+\ttwo\r\x1b[K!\n\
                     diff --git a/docs/long/path/to/a/page.md b/docs/long/path/to/a/page.md\nnew file mode 100644\n--- /dev/null\n\
                     +++ b/docs/long/path/to/a/page.md\n@@ -0,0 +1,2 @@\n+# Title\n+text\n";

fn run() -> Run {
    serde_json::from_str(include_str!("tests/run.json")).unwrap()
}

fn rows() -> Vec<RunSummary> {
    let row = |n: u32, title: &str, status: &str, phase: &str, seq: u64| {
        let id = if n == 1 { RUN.to_owned() } else { format!("{n:032x}") };
        json!({"run": id, "id": id, "short_id": &id[24..], "project": "calc", "title": title, "status": status,
            "phase": phase, "seq": seq, "blocks": [], "opened_at": 1_796_046_465_000_i64 - i64::from(n),
            "updated_at": 1_796_046_466_000_i64})
    };
    let mut rows = [
        row(1, "Append \x1b[2J the second\u{202e} line", "blocked", "gating", 16),
        row(2, "Fix the clippy warnings", "running", "working", 7),
        row(3, "Make `tally --json` print valid JSON", "completed", "ended", 40),
        row(
            4,
            "漢字 and 🐝 in a title that is much longer than any window can show on one line, so it is cut",
            "running",
            "working",
            3,
        ),
        row(5, "Wait for the quota", "running", "working", 9),
        row(6, "Read the store", "quarantined", "working", 2),
    ];
    rows[0]["blocks"] = json!(["approve_merge"]);
    (rows[4]["wake_at"], rows[4]["waiting_for"]) = (json!(1_796_046_999_000_i64), json!("quota of acme"));
    rows[5]["quarantined"] = json!("its snapshot cannot be read");
    rows.map(|row| serde_json::from_value(row).unwrap()).into()
}

fn utc(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0).unwrap().format("%Y-%m-%d %H:%M:%S").to_string()
}

fn press(state: &mut State, keys: &str) -> Vec<Request> {
    keys.chars().flat_map(|key| state.update(Input::Key(of(key)))).collect()
}

fn of(key: char) -> KeyEvent {
    let code = match key {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        '\t' => KeyCode::Tab,
        '\x08' => KeyCode::Backspace,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        '⇓' => KeyCode::PageDown,
        key => KeyCode::Char(key),
    };
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn answered(state: &mut State, request: Request, answer: Answer) -> Vec<Request> {
    state.update(Input::Response(request, Ok(answer)))
}

/// A console that is connected and shows the inbox.
fn connected(size: (u16, u16)) -> State {
    let mut state = State::new(size, true, utc);
    let pages = Some("http://127.0.0.1:7377".to_owned());
    let requests = state.update(Input::Connected { driver: "The service".to_owned(), pages });
    assert!(matches!(requests[..], [Request::Lists]), "{requests:?}");
    let requests = answered(&mut state, Request::Lists, Answer::Runs(rows(), false));
    assert!(matches!(&requests[..], [Request::Run(id)] if id == RUN), "{requests:?}");
    assert!(answered(&mut state, Request::Run(RUN.to_owned()), Answer::Run(Box::new(run()))).is_empty());
    state
}

/// The same console with a run open.
fn opened(size: (u16, u16)) -> State {
    let mut state = connected(size);
    let requests = press(&mut state, "\n");
    assert!(matches!(&requests[..], [Request::Follow(id, 0), Request::Run(_)] if id == RUN), "{requests:?}");
    answered(&mut state, Request::Run(RUN.to_owned()), Answer::Run(Box::new(run())));
    for (seq, name) in [(1, "admitted"), (2, "paused"), (3, "unheard_of")] {
        let row =
            json!({"run": RUN, "seq": seq, "at": 1_796_046_466_000_i64 + seq, "name": name, "epoch": 1, "event": null});
        let row: Event = serde_json::from_value(row).unwrap();
        assert!(state.update(Input::Row(RUN.to_owned(), Box::new(row))).is_empty());
    }
    for n in 0..60 {
        let line = format!("\x1b[32mstep\x1b[0m {n}\x1b]0;owned\x07");
        state.update(Input::Output(RUN.to_owned(), "a4".to_owned(), line));
    }
    state
}

fn screen(state: &State) -> String {
    let mut terminal = Terminal::new(TestBackend::new(state.size.0, state.size.1)).unwrap();
    terminal.draw(|frame| view::draw(state, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let (mut line, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(textwrap::core::display_width(symbol)).unwrap().max(1);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn compare(name: &str, draw: impl Fn((u16, u16)) -> State) {
    for size in SIZES {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), screen(&draw(size)));
    }
}

#[test]
fn the_inbox_shows_what_is_asked() {
    compare("inbox", connected);
    compare("inbox_empty", |size| {
        let mut state = State::new(size, true, utc);
        state.update(Input::Connected { driver: "The service".to_owned(), pages: None });
        answered(&mut state, Request::Lists, Answer::Runs(Vec::new(), false));
        state
    });
    compare("inbox_lost", |size| {
        let mut state = connected(size);
        state.update(Input::Lost("the service is not running".to_owned()));
        state
    });
    compare("confirm", |size| {
        let mut state = connected(size);
        press(&mut state, "dkeep the old name\n");
        state
    });
    compare("keys", |size| {
        let mut state = connected(size);
        press(&mut state, "?");
        state
    });
}

#[test]
fn the_runs_are_listed_and_filtered() {
    compare("runs", |size| {
        let mut state = connected(size);
        press(&mut state, "2↓");
        state
    });
    let mut state = connected((80, 24));
    press(&mut state, "2/clippy\n");
    let text = screen(&state);
    assert!(
        text.contains("1 of 6 fit “clippy”") && text.contains("Fix the clippy") && !text.contains("tally"),
        "{text}"
    );
    press(&mut state, "\x1b");
    assert!(screen(&state).contains("tally"));
}

#[test]
fn a_run_has_six_tabs() {
    for tab in Tab::ALL {
        compare(&format!("run_{}", tab.name().to_lowercase()), |size| {
            let mut state = opened(size);
            let at = Tab::ALL.iter().position(|t| *t == tab).unwrap();
            press(&mut state, &"]".repeat(at));
            state
        });
    }
}

#[test]
fn changes_are_shown_with_every_hidden_character() {
    compare("diff", |size| {
        let mut state = opened(size);
        let requests = press(&mut state, "v");
        assert!(matches!(&requests[..], [Request::Patch(id, None)] if id == RUN), "{requests:?}");
        answered(&mut state, Request::Patch(RUN.to_owned(), None), Answer::Patch(PATCH.to_owned()));
        state
    });
    let mut state = opened((80, 24));
    press(&mut state, "v");
    answered(&mut state, Request::Patch(RUN.to_owned(), None), Answer::Patch(PATCH.to_owned()));
    press(&mut state, "v");
    let text = screen(&state);
    assert!(text.contains("# Title") && text.contains("2/2"), "the next file after one was viewed: {text}");
    press(&mut state, "p");
    assert!(screen(&state).contains("✓1/2"), "{}", screen(&state));
}

#[test]
fn spending_and_the_service_are_shown() {
    compare("spending", |size| {
        let mut state = connected(size);
        assert!(matches!(press(&mut state, "5")[..], [Request::Spending(SpendingBy::Day)]));
        assert!(matches!(press(&mut state, "b")[..], [Request::Spending(SpendingBy::Project)]));
        let row = |key: &str, cost: u64| -> Spending {
            serde_json::from_value(
                json!({"key": key, "tokens": cost / 7, "cost_micros": cost, "turns": 3, "wall_ms": 61_000,
                "reserved_tokens": 0, "reserved_cost_micros": 0, "attempts": 4, "rounds": 1, "unpriced": 1}),
            )
            .unwrap()
        };
        let rows = vec![row("calc", 4_200_000), row("evil\x1b[2J", 1_000_000), row("", 0)];
        answered(&mut state, Request::Spending(SpendingBy::Day), Answer::Spending(Vec::new()));
        assert!(state.spending.is_none(), "a response to an earlier question is left out");
        answered(&mut state, Request::Spending(SpendingBy::Project), Answer::Spending(rows));
        state
    });
    compare("service", |size| {
        let mut state = connected(size);
        press(&mut state, "6");
        let health: Health =
            serde_json::from_value(json!({"status": "ok", "version": "0.1.0", "live": 2, "store": true,
            "sandbox": "strict", "uptime_secs": 3_700}))
            .unwrap();
        let rating: Rating =
            serde_json::from_value(json!({"player": "llm acme/large", "role": "dev", "rating": 1612.4,
            "deviation": 70.2, "won": 12, "drawn": 1, "lost": 3, "established": true, "evidence": []}))
            .unwrap();
        answered(&mut state, Request::Health, Answer::Health(health));
        answered(&mut state, Request::Ratings, Answer::Ratings(vec![rating]));
        state
    });
}

#[test]
fn without_color_nothing_is_colored() {
    let mut state = opened((160, 50));
    state.color = false;
    for keys in ["1", "2", "3", "]", "]", "]", "]", "]", "v", "5", "6"] {
        press(&mut state, keys);
        let mut terminal = Terminal::new(TestBackend::new(160, 50)).unwrap();
        terminal.draw(|frame| view::draw(&state, frame)).unwrap();
        for cell in &terminal.backend().buffer().content {
            assert_eq!(cell.fg, ratatui::style::Color::Reset, "{:?} after {keys}", cell.symbol());
        }
    }
}

fn only_act(mut requests: Vec<Request>) -> Act {
    match (requests.pop(), requests.is_empty()) {
        (Some(Request::Act(act)), true) => *act,
        (other, _) => panic!("{other:?} {requests:?}"),
    }
}

#[test]
fn an_approval_is_confirmed_and_names_what_was_seen() {
    let mut state = connected((80, 24));
    assert!(press(&mut state, "a").is_empty());
    let text = screen(&state);
    assert!(text.contains("Do you want to approve the merge of 27cda5b5a9 onto main"), "{text}");
    assert!(text.contains("You saw: head 27cda5b5a9 onto main at b7d911bc2d"), "{text}");
    // Every key but `y` leaves it.
    for key in ["n", "\n", "\x1b", " ", "a", "Y"] {
        assert!(press(&mut state, key).is_empty());
        assert!(state.dialog.is_none() && screen(&state).contains("Nothing was done."));
        press(&mut state, "a");
    }
    let act = only_act(press(&mut state, "y"));
    assert_eq!((act.run.as_str(), act.name, act.body.block.as_deref()), (RUN, "approve", Some("b1")));
    assert!(!act.body.no && act.seen.seq == 16);
    // It is not sent twice.
    assert!(press(&mut state, "ay").is_empty());

    let mut landed = run();
    (landed.seq, landed.escalations) = (18, Vec::new());
    let requests = answered(&mut state, Request::Act(Box::new(act)), Answer::Acted(Box::new(landed)));
    assert!(matches!(requests[..], [Request::Lists]), "{requests:?}");
    let text = screen(&state);
    assert!(text.contains("Approved: ") && text.contains("Nothing waits for you."), "{text}");
}

#[test]
fn what_was_not_seen_is_not_approved() {
    let mut state = connected((80, 24));
    let act = only_act(press(&mut state, "ay"));
    let mut moved = run();
    (moved.seq, moved.head) = (20, "5".repeat(40));
    answered(&mut state, Request::Act(Box::new(act)), Answer::Changed(Box::new(moved)));
    let notice = state.notice.clone().unwrap();
    assert!(notice.is_error && notice.text.contains("Nothing was done: head 27cda5b5a9"), "{notice:?}");
    assert_eq!(only_act(press(&mut state, "ay")).seen.seq, 20, "the next approval is about what is shown now");
}

#[test]
fn answers_with_words_are_written_first() {
    let mut state = connected((80, 24));
    assert!(press(&mut state, "d\n").is_empty());
    assert!(matches!(state.dialog, Some(Dialog::Write(..))), "a reason is required");
    press(&mut state, "tee\x08sty\n");
    let act = only_act(press(&mut state, "y"));
    assert!(act.body.no && act.body.text.as_deref() == Some("testy"), "{act:?}");
    // What is pasted never confirms.
    let mut state = connected((80, 24));
    press(&mut state, "C");
    assert!(state.update(Input::Paste("first\ny\n".to_owned())).is_empty());
    assert!(press(&mut state, "\n").is_empty());
    assert!(state.update(Input::Paste("y".to_owned())).is_empty());
    let act = only_act(press(&mut state, "y"));
    assert_eq!((act.name, act.body.text.as_deref()), ("cancel", Some("first y")));
}

#[test]
fn nothing_is_sent_without_a_connection() {
    let mut state = connected((80, 24));
    press(&mut state, "a");
    state.update(Input::Lost("gone".to_owned()));
    assert!(press(&mut state, "y").is_empty());
    assert!(screen(&state).contains("Nothing was done: the service does not answer."));
    assert!(screen(&state).contains("the merge waits for approval"), "what was known is kept");
    let requests = state.update(Input::Connected { driver: "The service".to_owned(), pages: None });
    assert!(matches!(requests[..], [Request::Lists]) && matches!(state.link, Link::Up { .. }));
    let act = only_act(press(&mut state, "ay"));
    state.update(Input::Lost("gone".to_owned()));
    assert!(screen(&state).contains("look at the run to see whether"), "{}", screen(&state));
    drop(act);
}

#[test]
fn movements_are_fetched_once_at_a_time() {
    let mut state = connected((80, 24));
    assert!(matches!(state.update(Input::Moved(Some(RUN.to_owned())))[..], [Request::Lists]));
    for _ in 0..100 {
        assert!(state.update(Input::Moved(None)).is_empty());
    }
    let requests = answered(&mut state, Request::Lists, Answer::Runs(rows(), false));
    assert!(matches!(requests[..], [Request::Lists]), "{requests:?}");
    assert!(answered(&mut state, Request::Lists, Answer::Runs(rows(), false)).is_empty());
    // An open run that is not listed any more has ended.
    let mut some = rows();
    some.remove(1);
    state.update(Input::Moved(None));
    let requests = answered(&mut state, Request::Lists, Answer::Runs(some, false));
    assert!(matches!(&requests[..], [Request::Run(id)] if id.ends_with("2")), "{requests:?}");
    // A failure is shown, and does not stop what comes next.
    state.update(Input::Moved(None));
    let error = CliError::unavailable("the store is busy", "try again");
    state.update(Input::Response(Request::Lists, Err(error)));
    assert!(screen(&state).contains("the store is busy. try again"));
    assert!(matches!(state.update(Input::Moved(None))[..], [Request::Lists]));
}

#[test]
fn output_is_followed_until_it_is_read() {
    let mut state = opened((80, 24));
    press(&mut state, "f");
    assert!(screen(&state).contains("step 59"));
    press(&mut state, "↑↑");
    state.update(Input::Output(RUN.to_owned(), "a4".to_owned(), "more".to_owned()));
    let text = screen(&state);
    assert!(text.contains("step 57") && !text.contains("step 58") && !text.contains("more"), "{text}");
    press(&mut state, "f");
    assert!(screen(&state).contains("more"));
    let log = Log { title: "check.log".to_owned(), lines: vec!["stored".to_owned()] };
    press(&mut state, "]");
    answered(&mut state, Request::Log(RUN.to_owned(), None), Answer::Log(log));
    assert!(screen(&state).contains("check.log") && screen(&state).contains("stored"));
}

#[test]
fn a_long_list_answers_keys_at_once() {
    let mut state = connected((160, 50));
    let row = |n: u64| RunSummary { run: format!("{n:032x}"), opened_at: Timestamp(1), ..rows()[1].clone() };
    let many: Vec<RunSummary> = (100..10_100).map(row).collect();
    state.update(Input::Moved(None));
    answered(&mut state, Request::Lists, Answer::Runs(many, true));
    press(&mut state, "2");
    // The quickest: on a busy machine the others measure the machine.
    let key = |_| {
        let start = std::time::Instant::now();
        press(&mut state, "↓");
        screen(&state);
        start.elapsed()
    };
    let quickest = (0..20).map(key).min().unwrap();
    assert!(quickest < std::time::Duration::from_millis(50), "{quickest:?} for a key among 10,000 runs");
}

#[test]
fn keys_of_commands_and_of_the_terminal() {
    let mut state = connected((80, 24));
    assert!(matches!(press(&mut state, "q")[..], [Request::Quit]));
    assert!(matches!(press(&mut state, ":q\n")[..], [Request::Quit]));
    assert!(matches!(&press(&mut state, "y")[..], [Request::Copy(id)] if id == RUN));
    press(&mut state, "o");
    assert!(screen(&state).contains(&format!("http://127.0.0.1:7377/runs/{RUN}")));
    let requests = press(&mut state, ":run 72cd\n");
    assert!(state.screen == Screen::Run && matches!(&requests[..], [Request::Follow(id, 0), ..] if id == RUN));
    press(&mut state, ":project calc\n");
    assert!(state.screen == Screen::Runs && state.filter == "calc");
    for (key, expected) in [('c', "Quit"), ('l', "Redraw"), ('z', "Suspend")] {
        let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
        assert_eq!(format!("{:?}", state.update(Input::Key(key))), format!("[{expected}]"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any keys in a window of any size: nothing panics, nothing dangerous is drawn, and an act is sent only by the `y`
    /// that answers its question.
    #[test]
    fn any_keys_in_any_window(
        keys in proptest::collection::vec(
            proptest::sample::select("123456acdurmsxyntvbefglGjkPCRqo/:?[]\n\x1b\t\x08 ↓↑⇓".chars().collect::<Vec<_>>()), 0..60),
        columns in 1_u16..170, lines in 1_u16..55, lost_at in 0_usize..120,
    ) {
        let mut state = opened((80, 24));
        state.update(Input::Resize(columns, lines));
        for (at, key) in keys.into_iter().enumerate() {
            if at == lost_at {
                state.update(Input::Lost("gone".to_owned()));
            }
            let is_asked = matches!(state.dialog, Some(Dialog::Confirm(_) | Dialog::Start(_)));
            for request in state.update(Input::Key(of(key))) {
                match request {
                    Request::Act(act) => {
                        prop_assert!(is_asked && key == 'y' && state.is_up());
                        answered(&mut state, Request::Act(act), Answer::Acted(Box::new(run())));
                    }
                    Request::Start(new) => {
                        prop_assert!(is_asked && key == 'y' && state.is_up());
                        answered(&mut state, Request::Start(new), Answer::Started(Box::new(run())));
                    }
                    Request::Patch(run, task) => {
                        answered(&mut state, Request::Patch(run, task), Answer::Patch(PATCH.to_owned()));
                    }
                    _ => {}
                }
            }
            let text = screen(&state);
            let is_dangerous = |c: char| c != '\n' && (c.is_control() || crate::render::is_hidden(c));
            prop_assert!(!text.contains(is_dangerous));
        }
    }
}
