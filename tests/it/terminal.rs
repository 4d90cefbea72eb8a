//! What a person sees and types at a terminal: live lines, marks, words that are not cut, questions answered in place.

use crate::support::cli::{Cli, CommandOutput, ended};
use std::process::Command;

const FIX: &str = "command: for n in 1 2 3; do echo step $n; sleep 0.3; done; echo two >> a.txt";

/// Runs a command on a terminal of this size, and types each answer once its prompt is shown. Returns everything that was
/// written to the terminal, including control sequences.
fn at_terminal(cli: &Cli, (columns, lines): (u16, u16), args: &[&str], answers: &[(&str, &str)]) -> CommandOutput {
    const PTY: &str = r#"
import fcntl, json, os, pty, select, struct, sys, termios, time
columns, lines, answers, argv = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    os.execv(argv[0], argv)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
seen, since, end = b"", 0, time.time() + 80
while time.time() < end:
    if not select.select([fd], [], [], 1)[0]:
        continue
    try:
        chunk = os.read(fd, 65536)
    except OSError:
        break
    if not chunk:
        break
    seen += chunk
    if answers:
        at = seen.find(answers[0][0].encode(), since)
        if at >= 0:
            since = len(seen)
            os.write(fd, answers.pop(0)[1].encode() + b"\n")
os.write(1, seen)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let command = cli.skep(args);
    let mut argv = vec![command.get_program().to_str().unwrap().to_owned()];
    argv.extend(args.iter().map(|a| (*a).to_owned()));
    let mut python = Command::new("python3");
    python.arg("-c").arg(PTY).arg(serde_json::json!([columns, lines, answers, argv]).to_string());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    python.env("TERM", "xterm-256color").env_remove("NO_COLOR").env("SKEP_PAGER", "cat");
    python.current_dir(cli.dir.path()).stdin(std::process::Stdio::null());
    ended(python)
}

/// The text without control sequences, each piece that is drawn in one place on a line of its own.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'[').is_some() {
            // What moves the cursor or clears begins another line; what colors does not.
            let end = chars.by_ref().find(char::is_ascii_alphabetic);
            if end != Some('m') {
                out.push('\r');
            }
        }
    }
    out
}

#[test]
fn a_run_shows_live_lines_and_its_question_is_answered_in_place() {
    let cli = Cli::new();
    cli.repo("r", &[("a.txt", "one\n")]);
    let goal =
        "Append the second line to the file, because a reader of the first one expects that another one follows it";
    let args =
        ["run", goal, "--repo", "r.git", "--engine", FIX, "--check", "echo checking; sleep 0.4; grep -q two a.txt"];
    let output = at_terminal(&cli, (80, 24), &args, &[("Approve?", "d"), ("Approve?", "y")]).exits_with(0);
    let text = plain(&output.out);
    for part in ["✓ a2 dev changed 1 file", "✓ a3 reviewer approved", "✓ landed as", "+two", "delivered as"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(text.contains("a2 dev (command) on t1") && text.contains("step 2"), "a live line with its output:\n{text}");
    assert!(output.out.contains("\u{1b}[32m✓\u{1b}[0m"), "success is green");
    assert!(!text.contains("Answer with one of"), "the answer is typed:\n{text}");
    // What was typed in is followed by the terminal's echo; everything Skep wrote fits and breaks at words.
    // A live line begins with a step of its spinner, and fills the width.
    let is_break = |c: char| matches!(c, '\n' | '\r' | '\u{2800}'..='\u{28ff}');
    for line in text.split(is_break).filter(|l| !l.contains("skep diff") && !l.contains("git -C")) {
        assert!(line.chars().count() <= 80, "too long: {line:?}");
    }
    let mentions = text.matches("Append the second line").count();
    assert!(
        mentions <= 3,
        "the goal is printed {mentions} times: at the start, in the question and at the end are enough:\n{text}"
    );
}

#[test]
fn a_failure_is_answered_with_another_engine_at_the_terminal() {
    let cli = Cli::new();
    cli.repo("r", &[("a.txt", "one\n")]);
    let args = ["run", "x", "--repo", "r.git", "--engine", "command: seq 200; exit 1", "--check", "grep -q two a.txt"];
    let answers = [
        ("to decide later:", "c"),
        ("Engine of the dev", "command: echo two >> a.txt"),
        ("Command that verifies", ""),
        ("Approve?", ""),
    ];
    let output = at_terminal(&cli, (80, 24), &args, &answers).exits_with(4);
    let text = plain(&output.out);
    let asked = text.split("[r]etry").next().unwrap();
    let screen: Vec<&str> = asked.lines().rev().take(24).collect();
    assert!(
        screen.iter().any(|l| l.contains("did not succeed: the command of the dev failed")),
        "the reason is on the screen:\n{text}"
    );
    assert!(text.contains("✗ a2 dev failed"), "{text}");
    assert!(text.contains("the merge waits for approval"), "the new engine succeeded:\n{text}");
    assert!(text.contains("a3 dev (command) on t1") && text.contains("$ echo two"), "a live line with output:\n{text}");
    assert_eq!(cli.show("@")["engines"]["dev"]["arg"], "echo two >> a.txt");

    // The same command again: its engine is another now, which a person decides.
    let output = at_terminal(&cli, (200, 50), &args, &[("[k]eep", "k"), ("Approve?", "y")]).exits_with(0);
    assert!(plain(&output.out).contains("its settings differ"), "{}", plain(&output.out));
}

#[test]
fn watch_asks_and_answers_and_says_when_nothing_works() {
    let cli = Cli::new();
    cli.repo("r", &[("a.txt", "one\n")]);
    cli.run(&["run", "x", "--repo", "r.git", "--engine", "command: echo two >> a.txt", "--check", "true"])
        .exits_with(4);
    let output = at_terminal(&cli, (120, 40), &["watch"], &[("Approve?", "y")]).exits_with(0);
    assert!(plain(&output.out).contains("delivered as"), "{}", plain(&output.out));
    cli.run(&["approve", "@"]).exits_with(0).prints("has already landed as");
    cli.run(&["run", "y", "--repo", "r.git", "--engine", "command: true", "--check", "true", "--detach"]).exits_with(0);
    cli.run(&["watch"]).exits_with(4).prints("Nothing works on run");
    cli.run(&["runs"]).exits_with(0).prints("idle");
    cli.run(&["cancel", "--why", "enough"]).exits_with(0).prints("cancelled");
}
