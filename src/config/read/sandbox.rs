//! The keys of what holds runs in: budgets shared by runs, the sandbox; and files over built-in ones.

use super::super::models::Walls;
use super::super::reader::Reader;
use super::super::sections::Config;
use super::super::units;
use super::{path, wrong};
use crate::platform::sandbox::Level;
use std::path::{Path, PathBuf};

/// Reads `[budget]`, `[prices]`, `[prompts]` and `[sandbox]`.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let b = &mut c.policy.shared;
    r.count("budget.project_tokens", &mut b.project_tokens);
    r.money("budget.project_cost", &mut b.project_cost_micros);
    r.count("budget.day_tokens", &mut b.day_tokens);
    r.money("budget.day_cost", &mut b.day_cost_micros);
    r.shares("budget.alert_percent", &mut c.policy.alert_percent);
    r.checked("prices.file", &mut c.prices, path);
    there(r, "prices.file", c.prices.as_deref(), Path::is_file, "name a file of prices this user can read");
    r.checked("prompts.dir", &mut c.prompts, path);
    there(r, "prompts.dir", c.prompts.as_deref(), Path::is_dir, "name a folder this user can read");
    sandbox(r, &mut c.sandbox);
}

fn there(r: &mut Reader, key: &str, path: Option<&Path>, is: impl Fn(&Path) -> bool, fix: &str) {
    if path.is_some_and(|p| !is(p)) {
        r.refuse(key, "what it names is not there", fix);
    }
}

fn sandbox(r: &mut Reader, w: &mut Walls) {
    r.checked("sandbox.level", &mut w.level, |t| match t {
        "strict" => Ok(Level::Strict),
        "landlock" => Ok(Level::Landlock),
        "none" => Ok(Level::None),
        _ => wrong("there is no such level", "write \"strict\", \"landlock\" or \"none\""),
    });
    r.flag("sandbox.accept_no_isolation", &mut w.accept_no_isolation);
    if w.level == Level::None && !w.accept_no_isolation {
        r.refuse(
            "sandbox.level",
            "without walls a command can read this user's files, use the network and end its processes",
            "choose \"strict\" or \"landlock\", or accept it with sandbox.accept_no_isolation = true",
        );
    }
    r.checked("sandbox.user", &mut w.user, |t| {
        let ids = || t.split_once(':').and_then(|(u, g)| Some((u.parse::<u32>().ok()?, g.parse::<u32>().ok()?)));
        match ids() {
            _ if t.is_empty() => Ok(None),
            Some((u, g)) if u != 0 && g != 0 => Ok(Some((u, g))),
            _ => wrong("this is no unprivileged user", "write UID:GID as numbers above 0, such as \"65534:65534\""),
        }
    });
    let mut memory = Some(0);
    size(r, "sandbox.memory", &mut memory, true);
    w.memory = memory.filter(|n| *n > 0);
    r.number("sandbox.processes", &mut w.processes, 16..=1_000_000);
    bytes(r, "sandbox.file_size", &mut w.file_size);
    bytes(r, "sandbox.workspace_size", &mut w.workspace_size);
    let mut folders = Vec::new();
    r.list("sandbox.toolchains", &mut folders, |t| match path(t)? {
        Some(p) if p != Path::new("/") => Ok(()),
        _ => wrong("one entry is no folder of its own", "write whole paths such as \"/opt/toolchains\""),
    });
    w.toolchains = folders.into_iter().map(PathBuf::from).collect();
}

/// A size of at least 1 MiB.
pub(super) fn bytes(r: &mut Reader, key: &str, slot: &mut u64) {
    let mut read = Some(*slot);
    size(r, key, &mut read, false);
    *slot = read.unwrap_or(*slot);
}

/// A size of at least 1 MiB, or "unlimited" where that may be.
fn size(r: &mut Reader, key: &str, slot: &mut Option<u64>, may_be_unlimited: bool) {
    r.checked(key, slot, |t| match t {
        "unlimited" if may_be_unlimited => Ok(None),
        t => match units::size(t)? {
            n if n < 1 << 20 => wrong("this is too small for any command", "write at least \"1MiB\""),
            n => Ok(Some(n)),
        },
    });
}
