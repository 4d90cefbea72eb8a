//! Keys of memory.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::wrong;
use crate::domain::MemoryKind;

/// Reads `[memory]`.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let memory = &mut c.policy.memory;
    let mut names: Vec<String> = memory.give.iter().map(|kind| kind.name().to_owned()).collect();
    r.list("memory.give", &mut names, |name| match MemoryKind::named(name) {
        Some(_) => Ok(()),
        None => wrong("one entry is not a kind of memory", "write \"fact\", \"change\", \"lesson\" or \"document\""),
    });
    memory.give = names.iter().filter_map(|name| MemoryKind::named(name)).collect();
    memory.give.sort_unstable();
    memory.give.dedup();
    r.number("memory.holdout_percent", &mut memory.holdout_percent, 0..=100);
}
