//! `skep console` on a real terminal: a person answers by keys, services come and go, and the terminal is given back.

use crate::support::cli::Cli;
use crate::support::pty::Pty;
use std::time::Duration;

const FIX: &str = "command: for n in 1 2 3; do echo step $n; done; echo two >> a.txt";
const PROGRAM: &str = env!("CARGO_BIN_EXE_skep");

/// A repository, and a run in it that waits for the approval of its merge.
fn asked(cli: &Cli, goal: &str) -> String {
    if !cli.path("r.git").exists() {
        cli.repo("r", &[("a.txt", "one\n")]);
    }
    cli.run(&["run", goal, "--repo", "r.git", "--engine", FIX, "--check", "grep -q two a.txt", "--detach"])
        .exits_with(0);
    let run = cli.newest();
    cli.until("the run waits", || cli.show(&run)["status"] == "blocked");
    run
}

#[test]
fn a_person_sees_the_inbox_approves_and_sees_it_landed() {
    let cli = Cli::new();
    let _service = cli.serve();
    let mut pty = Pty::start(&cli, (100, 30), &[PROGRAM, "console"]);
    pty.shows("Nothing waits for you.");
    // What happens while the console is open appears by itself. Titles cannot reach the terminal.
    let run = asked(&cli, "Append the second line \u{1b}]0;owned\u{7}\u{202e}");
    let screen = pty.shows("the merge waits for approval");
    assert!(screen.contains("1 Inbox (1)") && screen.contains("a approve"), "{screen}");

    pty.press("v");
    pty.shows("+two");
    pty.press("\x1b");
    pty.shows("[ ] tab");
    pty.press("]]]");
    pty.shows("approved: The check passed");
    pty.press("a");
    let screen = pty.shows("Are you sure?");
    let head = cli.show(&run)["head"].as_str().unwrap()[..10].to_owned();
    assert!(screen.contains(&format!("You saw: head {head}")), "{screen}");
    pty.press("n");
    pty.shows("Nothing was done.");
    assert_eq!(cli.show(&run)["status"], "blocked");
    pty.press("ay");
    pty.shows("completed · ended · delivered as");
    assert_eq!(cli.show(&run)["status"], "completed");
    pty.press("2");
    pty.until("the run as completed", |screen| screen.contains(&run) && screen.contains("completed"));

    // Nothing is drawn or asked for while nothing happens. The service finishes its work on the run first.
    let is_idle = || {
        let (ticks, written) = (pty.cpu_ticks(), pty.bytes().len());
        std::thread::sleep(Duration::from_secs(4));
        pty.cpu_ticks() <= ticks + 1 && pty.bytes().len() == written
    };
    assert!((0..3).any(|_| is_idle()), "an idle console writes, or uses the processor");

    let all = pty.bytes();
    let all = String::from_utf8_lossy(&all);
    assert!(!all.contains("\u{1b}]0;") && !all.contains('\u{202e}'), "a title was obeyed by the terminal");
    pty.press("q");
    assert_eq!(pty.ends(), 0);
}

#[test]
fn a_service_that_is_killed_and_started_again_is_found_again() {
    let cli = Cli::new();
    let service = cli.serve();
    let run = asked(&cli, "Append the second line");
    let mut pty = Pty::start(&cli, (80, 24), &[PROGRAM, "console"]);
    pty.shows("the merge waits for approval");
    drop(service);
    let screen = pty.shows("Reconnecting");
    assert!(screen.contains("the merge waits for approval"), "what was known is kept:\n{screen}");
    pty.press("ay");
    pty.shows("Nothing was done: the service does not answer.");
    let service = cli.serve_again();
    pty.shows("Connected again.");
    pty.press("a");
    pty.shows("Are you sure?");
    // A decision outlives the service, too: it is sent to nobody, or to the one that is there.
    drop(service);
    pty.shows("Reconnecting");
    let _service = cli.serve_again();
    pty.until("a connection", |screen| !screen.contains("Reconnecting"));
    pty.press("y");
    pty.shows("Approved: Append the second line");
    cli.until("it has landed", || cli.show(&run)["status"] == "completed");
    pty.press("q");
    assert_eq!(pty.ends(), 0);
}

#[test]
fn without_a_service_the_console_works_on_the_run() {
    let cli = Cli::new();
    cli.repo("r", &[("a.txt", "one\n")]);
    cli.run(&["run", "x", "--repo", "r.git", "--engine", FIX, "--check", "grep -q two a.txt"]).exits_with(4);
    let mut pty = Pty::start(&cli, (80, 24), &[PROGRAM, "console"]);
    pty.shows("the merge waits for approval");
    pty.press("a");
    pty.shows("Are you sure?");
    pty.press("y");
    pty.shows("Nothing waits for you.");
    pty.press("2");
    pty.shows("completed");
    // Other commands use the console as their service meanwhile.
    assert_eq!(cli.show("@")["status"], "completed");
    pty.press("q");
    assert_eq!(pty.ends(), 0);
}

#[test]
fn the_terminal_is_given_back_however_the_console_ends() {
    let cli = Cli::new();
    let _service = cli.serve();
    let mut pty = Pty::start(&cli, (100, 30), &["env", "PS1=ready> ", "bash", "--norc", "--noprofile", "-i"]);
    let restored = |pty: &mut Pty, n: u32| {
        pty.until("the shell", |screen| screen.trim_end().ends_with("ready>"));
        pty.press(&format!("clear; stty -a | grep -o ' icanon'; echo back {n}$?\n"));
        pty.until("a terminal in its usual mode", |s| s.contains(" icanon\n") && s.contains(&format!("back {n}0")));
    };
    let start = format!("{PROGRAM} console\n");
    pty.press(&start);
    pty.shows("Nothing waits for you.");
    // Ctrl-Z, and back.
    pty.press("\x1a");
    pty.shows("Stopped");
    restored(&mut pty, 1);
    pty.press("fg\n");
    pty.shows("Nothing waits for you.");
    pty.press("2");
    pty.shows("No runs.");
    // Any size, down to one that is too small.
    for (size, text) in [((40, 10), "2 Runs"), ((20, 5), "The window is too"), ((1, 1), ""), ((100, 30), "6 Service")] {
        pty.resize(size);
        pty.shows(text);
    }
    pty.press("\x03");
    restored(&mut pty, 2);
    for (n, signal) in [(3, 15), (4, 2)] {
        pty.press(&start);
        pty.shows("Nothing waits for you.");
        pty.signal(signal);
        restored(&mut pty, n);
    }
    let written = String::from_utf8_lossy(&pty.bytes()).into_owned();
    let count = |sequence: &str| written.matches(sequence).count();
    assert!(count("\x1b[?1049h") >= 4 && count("\x1b[?1049l") >= count("\x1b[?1049h"), "each screen was left");
    pty.press("exit\n");
    assert_eq!(pty.ends(), 0);
}

#[test]
fn without_a_usable_terminal_the_console_says_what_to_use_instead() {
    let cli = Cli::new();
    let refused = cli.run(&["console"]).exits_with(2);
    refused.one_error("the console needs a terminal", "skep runs");
    let refused = cli.run(&["console", "--json"]).exits_with(2);
    assert!(refused.err.contains("the console has no JSON form"), "{}", refused.err);
    let pty = Pty::start(&cli, (80, 24), &["env", "TERM=dumb", PROGRAM, "console"]);
    pty.shows("a terminal that can move its cursor");
    assert_eq!(pty.ends(), 2);
    let pty =
        Pty::start(&cli, (80, 24), &["env", "SKEP_TOKEN=x", PROGRAM, "console", "--server", "http://127.0.0.1:9"]);
    pty.shows("does not respond");
    assert_eq!(pty.ends(), 75);
}
