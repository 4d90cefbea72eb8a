//! What the process of Skep itself keeps: its memory stays out of core dumps, and as the first process of a container it
//! leaves no zombies.

use crate::support::cli::{BackgroundProcess, Cli};
use std::process::{Command, Stdio};

/// Returns the processes whose parent is this one, with their states.
fn children(parent: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_parent = ids.filter_map(|id| {
        // The name in parentheses may contain anything; state and parent follow the last one.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(parent)).then_some((id, state))
    });
    of_parent.collect()
}

/// Wraps a command of the program: another program runs it.
fn wrapped(cli: &Cli, wrapper: &[&str], args: &[&str]) -> Command {
    let skep = cli.skep(args);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(skep.get_program()).args(skep.get_args());
    command.current_dir(cli.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in skep.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn the_memory_of_the_service_is_not_dumped() {
    let cli = Cli::new();
    let limits = ["prlimit", "--core=unlimited", "--"];
    let service = BackgroundProcess(wrapped(&cli, &limits, &["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap());
    cli.until("the service responds", || cli.path("data/service.json").is_file());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.0.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let values: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"], "{core}");
}

#[test]
fn as_the_first_process_it_reaps_orphans_and_ends_with_a_signal() {
    let cli = Cli::new();
    let repo = cli.repo("app", &[("a.txt", "one\n")]);
    let namespace =
        ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--die-with-parent", "--proc", "/proc", "--"];
    let args = ["serve", "--listen", "127.0.0.1:0"];
    let mut outside = BackgroundProcess(wrapped(&cli, &namespace, &args).spawn().unwrap());
    cli.until("the service responds", || cli.path("data/service.json").is_file());
    let (init, _) = children(outside.0.id())[0];
    assert_eq!(children(init).len(), 1, "only the service itself");

    // Processes that outlive their parents are given to process 1.
    let engine = "dev=command: echo two >> a.txt; for i in 1 2 3; do (setsid sh -c 'sleep 0.1' & ) ; done";
    let run = ["run", "--repo", repo.to_str().unwrap(), "--goal", "Add a line", "--engine", engine, "--check", "true"];
    cli.run(&run).exits_with(4);
    let id = cli.newest();
    cli.until("it waits for a person", || cli.show(&id)["status"] == "blocked");
    cli.until("none is left", || children(init).len() == 1);

    let pid = rustix::process::Pid::from_raw(i32::try_from(init).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(outside.0.wait().unwrap().success(), "the service ends as asked, and its init with its exit code");
}
