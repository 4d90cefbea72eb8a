//! Keys of `skep improve`.

use super::super::heuristics;
use super::super::reader::Reader;
use super::super::sections::Config;
use super::path;
use crate::domain::improve::Rule;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads `[improve]`.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let i = &mut c.improve;
    r.duration("improve.window", &mut i.window, "1h", "366days");
    r.number("improve.share_percent", &mut i.share_percent, 1..=100);
    r.number("improve.most", &mut i.most, 1..=20);
    let mut file = None;
    r.checked("improve.heuristics", &mut file, path);
    let Some(file) = file else { return };
    match own_rules(&file) {
        Ok(rules) => i.own_rules = rules,
        Err(heuristics::BadFile { why, fix }) => r.refuse("improve.heuristics", format!("the file {why}"), fix),
    }
}

fn own_rules(file: &Path) -> Result<Vec<Rule>, heuristics::BadFile> {
    let bad = |why: String, fix: &str| heuristics::BadFile { why, fix: fix.to_owned() };
    let unreadable = |e: std::io::Error| bad(format!("cannot be read: {e}"), "name a file that this user can read");
    let mut text = String::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(heuristics::MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > heuristics::MAX_BYTES {
        return Err(bad("is larger than 256 KiB".to_owned(), "keep the rules that you need"));
    }
    heuristics::parse(&text)
}
