//! Keys of shared budgets, price and prompt files, and the sandbox.

use super::super::models::SandboxSettings;
use super::super::problem::printable;
use super::super::reader::Reader;
use super::super::sections::Config;
use super::super::units;
use super::{Parsed, path, wrong};
use crate::platform::sandbox::settings::{Level, refusal_to_add};
use std::path::{Path, PathBuf};

/// Least size of anything, and of a command's memory: interpreters and compilers do not start with less.
const BYTES_MIN: u64 = 1 << 20;
const MEMORY_MIN: u64 = 64 << 20;

/// Reads `[budget]`, `[prices]`, `[prompts]` and `[sandbox]`.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let b = &mut c.policy.shared;
    r.count("budget.project_tokens", &mut b.project_tokens);
    r.money("budget.project_cost", &mut b.project_cost_micros);
    r.count("budget.day_tokens", &mut b.day_tokens);
    r.money("budget.day_cost", &mut b.day_cost_micros);
    r.percentages("budget.alert_percent", &mut c.policy.alert_percent);
    r.checked("prices.file", &mut c.prices, path);
    require_existing(r, "prices.file", c.prices.as_deref(), Path::is_file, "name a price file that this user can read");
    r.checked("prompts.dir", &mut c.prompts, path);
    require_existing(r, "prompts.dir", c.prompts.as_deref(), Path::is_dir, "name a folder that this user can read");
    sandbox(r, &mut c.sandbox);
}

fn require_existing(r: &mut Reader, key: &str, path: Option<&Path>, is: impl Fn(&Path) -> bool, fix: &str) {
    if path.is_some_and(|p| !is(p)) {
        r.refuse(key, "the path does not exist or is of another kind", fix);
    }
}

fn sandbox(r: &mut Reader, w: &mut SandboxSettings) {
    r.checked("sandbox.level", &mut w.level, |t| match t {
        "strict" => Ok(Level::Strict),
        "landlock" => Ok(Level::Landlock),
        "none" => Ok(Level::None),
        _ => wrong("unknown level", "write \"strict\", \"landlock\" or \"none\""),
    });
    r.flag("sandbox.accept_no_isolation", &mut w.accept_no_isolation);
    if w.level == Level::None && !w.accept_no_isolation {
        r.refuse(
            "sandbox.level",
            "without a sandbox, a command can read this user's files, use the network and kill its processes",
            "choose \"strict\" or \"landlock\", or accept it with sandbox.accept_no_isolation = true",
        );
    }
    r.checked("sandbox.user", &mut w.user, |t| {
        let ids = || t.split_once(':').and_then(|(u, g)| Some((u.parse::<u32>().ok()?, g.parse::<u32>().ok()?)));
        match ids() {
            _ if t.is_empty() => Ok(None),
            Some((u, g)) if u != 0 && g != 0 => Ok(Some((u, g))),
            _ => wrong("this is not an unprivileged user", "write UID:GID as numbers above 0, such as \"65534:65534\""),
        }
    });
    let mut memory = Some(0);
    size(r, "sandbox.memory", &mut memory, MEMORY_MIN, true);
    w.memory = memory.filter(|n| *n > 0);
    r.number("sandbox.processes", &mut w.processes, 16..=1_000_000);
    bytes(r, "sandbox.file_size", &mut w.file_size);
    bytes(r, "sandbox.workspace_size", &mut w.workspace_size);
    let mut folders = Vec::new();
    r.list("sandbox.toolchains", &mut folders, toolchain);
    w.toolchains = folders.into_iter().map(PathBuf::from).collect();
}

/// Checks a folder that commands may read in addition.
fn toolchain(text: &str) -> Parsed<()> {
    let fix = "write absolute paths of folders with programs, such as \"/opt/toolchains\"";
    let Some(path) = path(text)? else { return wrong("one entry is empty", fix) };
    // A folder that does not exist yet is allowed; what a link leads to is what would be shown.
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    match refusal_to_add(&path).or_else(|| refusal_to_add(&real)) {
        Some(why) => wrong(format!("the entry {} {why}", printable(text)), fix),
        None if real.exists() && !real.is_dir() && !real.is_file() => {
            wrong(format!("the entry {} is a socket, a pipe or a device", printable(text)), fix)
        }
        None => Ok(()),
    }
}

/// Reads a size of at least 1 MiB.
pub(super) fn bytes(r: &mut Reader, key: &str, slot: &mut u64) {
    let mut read = Some(*slot);
    size(r, key, &mut read, BYTES_MIN, false);
    *slot = read.unwrap_or(*slot);
}

/// Reads a size of at least `min` bytes, or "unlimited" if allowed.
fn size(r: &mut Reader, key: &str, slot: &mut Option<u64>, min: u64, unlimited_allowed: bool) {
    r.checked(key, slot, |t| match t {
        "unlimited" if unlimited_allowed => Ok(None),
        t => match units::size(t)? {
            n if n < min => wrong("this is too small for any command", format!("write at least \"{}MiB\"", min >> 20)),
            n => Ok(Some(n)),
        },
    });
}
