//! A program on a pseudo terminal whose screen a test reads and whose keys it presses.

use super::cli::Cli;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a screen may take to show what is expected.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Connects a pseudo terminal with the standard streams of this script: its input is a line of JSON for each thing to do.
const RELAY: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios
(columns, lines), argv = json.loads(sys.argv[1])
def resize(fd, columns, lines):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
pid, fd = pty.fork()
if pid == 0:
    resize(0, columns, lines)
    os.execvp(argv[0], argv)
resize(fd, columns, lines)
os.write(2, b"%d\n" % pid)
todo = b""
while True:
    ready = select.select([fd, 0], [], [])[0]
    if fd in ready:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            chunk = b""
        if not chunk:
            break
        os.write(1, chunk)
    if 0 in ready:
        chunk = os.read(0, 65536)
        if not chunk:
            os.killpg(pid, signal.SIGKILL)
            break
        todo += chunk
        while b"\n" in todo:
            line, todo = todo.split(b"\n", 1)
            what, value = json.loads(line)
            if what == "keys":
                os.write(fd, value.encode())
            elif what == "resize":
                resize(fd, *value)
            elif what == "signal":
                os.killpg(os.tcgetpgrp(fd), value)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
"#;

/// A program on a terminal.
pub struct Pty {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Screen>>,
    /// Process id of the program.
    pub pid: u32,
}

impl Pty {
    /// Starts a program with the environment of the commands of `cli`.
    pub fn start(cli: &Cli, size: (u16, u16), argv: &[&str]) -> Pty {
        let mut python = Command::new("python3");
        python.arg("-c").arg(RELAY).arg(serde_json::json!([size, argv]).to_string());
        for (name, value) in cli.skep(&[]).get_envs() {
            match value {
                Some(value) => python.env(name, value),
                None => python.env_remove(name),
            };
        }
        python.env("TERM", "xterm-256color").env_remove("NO_COLOR").current_dir(cli.dir.path());
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let screen = Arc::new(Mutex::new(Screen::new(size)));
        let (shared, mut out) = (screen.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut chunk = [0; 65536];
            while let Ok(n @ 1..) = out.read(&mut chunk) {
                shared.lock().unwrap().take(&chunk[..n]);
            }
        });
        let mut pid = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut pid).unwrap();
        Pty { keys: child.stdin.take().unwrap(), child, screen, pid: pid.trim().parse().unwrap() }
    }

    fn send(&mut self, what: &str, value: serde_json::Value) {
        writeln!(self.keys, "{}", serde_json::json!([what, value])).unwrap();
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.send("keys", keys.into());
    }

    /// Sends a signal to the program in the foreground.
    pub fn signal(&mut self, signal: i32) {
        self.send("signal", signal.into());
    }

    /// Gives the window another size.
    pub fn resize(&mut self, size: (u16, u16)) {
        self.screen.lock().unwrap().resize(size);
        self.send("resize", serde_json::json!(size));
    }

    /// Returns what the screen shows.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().text()
    }

    /// Returns everything that was written to the terminal.
    pub fn bytes(&self) -> Vec<u8> {
        self.screen.lock().unwrap().bytes.clone()
    }

    /// Waits until the screen contains a text.
    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.until(&format!("{text:?} on the screen"), |screen| screen.contains(text))
    }

    /// Waits until the screen fulfills a condition.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + TIMEOUT;
        loop {
            let screen = self.text();
            if holds(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "not within {TIMEOUT:?}: {what}, but\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits for the end of the program; returns its exit code.
    #[track_caller]
    pub fn ends(mut self) -> i32 {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < end, "the program does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Returns the ticks of CPU time that the program has used.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        let _ended = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The cells of a terminal.
struct Screen {
    size: (u16, u16),
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    pending: Vec<u8>,
    bytes: Vec<u8>,
}

impl Screen {
    fn new(size: (u16, u16)) -> Screen {
        let mut screen = Screen { size, cells: Vec::new(), at: (0, 0), pending: Vec::new(), bytes: Vec::new() };
        screen.clear();
        screen
    }

    fn clear(&mut self) {
        self.cells = vec![vec![' '; self.size.0.into()]; self.size.1.into()];
    }

    fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        self.cells.resize(size.1.into(), Vec::new());
        self.cells.iter_mut().for_each(|line| line.resize(size.0.into(), ' '));
    }

    fn text(&self) -> String {
        let line = |line: &Vec<char>| line.iter().filter(|c| **c != '\0').collect::<String>().trim_end().to_owned();
        self.cells.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pending.extend_from_slice(bytes);
        while let Some(len) = self.step() {
            self.pending.drain(..len);
        }
    }

    /// Takes one character or sequence; returns its length, or `None` if it is not complete.
    fn step(&mut self) -> Option<usize> {
        match *self.pending.first()? {
            0x1b => self.sequence(),
            b'\r' => {
                self.at.1 = 0;
                Some(1)
            }
            b'\n' => {
                self.line_feed();
                Some(1)
            }
            8 => {
                self.at.1 = self.at.1.saturating_sub(1);
                Some(1)
            }
            0..32 | 127 => Some(1),
            first => {
                let len = match first {
                    0..0x80 => 1,
                    0xc0..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    _ => 4,
                };
                let bytes = self.pending.get(..len)?;
                let c = std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()).unwrap_or('?');
                self.put(c);
                Some(len)
            }
        }
    }

    fn sequence(&mut self) -> Option<usize> {
        match *self.pending.get(1)? {
            b'[' => {
                let end = self.pending.iter().skip(2).position(|b| (0x40..0x7f).contains(b))? + 2;
                let params = String::from_utf8_lossy(&self.pending[2..end]).into_owned();
                let number = |n: usize| params.split(';').nth(n).and_then(|p| p.parse::<usize>().ok());
                match self.pending[end] {
                    b'H' => self.at = (number(0).unwrap_or(1) - 1, number(1).unwrap_or(1) - 1),
                    b'G' => self.at.1 = number(0).unwrap_or(1) - 1,
                    b'C' => self.at.1 += number(0).unwrap_or(1),
                    b'J' if number(0) == Some(2) => self.clear(),
                    b'J' | b'K' => {
                        let (line, column) = self.at;
                        if let Some(line) = self.cells.get_mut(line) {
                            line.iter_mut().skip(column).for_each(|cell| *cell = ' ');
                        }
                    }
                    // The other screen begins empty.
                    b'h' | b'l' if params == "?1049" => {
                        self.clear();
                        self.at = (0, 0);
                    }
                    _ => {}
                }
                Some(end + 1)
            }
            b']' => {
                let end = self.pending.iter().position(|b| *b == 7)?;
                Some(end + 1)
            }
            _ => Some(2),
        }
    }

    fn line_feed(&mut self) {
        self.at.0 += 1;
        if self.at.0 >= self.cells.len() {
            self.cells.remove(0);
            self.cells.push(vec![' '; self.size.0.into()]);
            self.at.0 = self.cells.len() - 1;
        }
    }

    fn put(&mut self, c: char) {
        if self.at.1 >= usize::from(self.size.0) {
            self.at.1 = 0;
            self.line_feed();
        }
        let (line, column) = self.at;
        let width = textwrap::core::display_width(c.encode_utf8(&mut [0; 4])).max(1);
        for n in 0..width {
            if let Some(cell) = self.cells.get_mut(line).and_then(|line| line.get_mut(column + n)) {
                *cell = if n == 0 { c } else { '\0' };
            }
        }
        self.at.1 += width;
    }
}
