//! Gradle: the repositories that build scripts name, and the distribution that the wrapper downloads.

use super::UserFiles;

/// Blocks of a build script that name a repository.
const BLOCKS: &[&str] = &["maven", "ivy"];
/// Upper bound on the length of a block, in bytes.
const MAX_BLOCK: usize = 4096;

/// Returns the part of a file whose addresses Gradle reaches. A distribution that the user has is not downloaded, and
/// addresses outside of repositories, as that of a license, are only quoted.
pub fn reached(file: &str, text: &str, user: &UserFiles) -> String {
    match file.ends_with(".properties") {
        true if has_distribution(text, user) => String::new(),
        true => text.to_owned(),
        false => repositories(text),
    }
}

/// Returns the blocks `maven { … }` and `maven(…)` of a build script, one after the other.
fn repositories(script: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = String::new();
    for name in BLOCKS {
        for (at, _) in script.match_indices(name) {
            let rest = &script[at + name.len()..];
            let block = rest.trim_start();
            if script[..at].ends_with(is_word) || !block.starts_with(['{', '(']) {
                continue;
            }
            found.push_str(name);
            found.push_str(&block[..end_of_block(block)]);
            found.push('\n');
        }
    }
    found
}

/// Returns the end of the block with which a text begins.
fn end_of_block(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices().take_while(|(at, _)| *at < MAX_BLOCK) {
        match c {
            '{' | '(' => depth += 1,
            '}' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_BLOCK).last().unwrap_or(0)
}

/// Returns whether the user has the distribution that a wrapper asks for.
fn has_distribution(properties: &str, user: &UserFiles) -> bool {
    let url = properties.lines().find_map(|line| line.trim().strip_prefix("distributionUrl="));
    let name = url.and_then(|url| url.trim().rsplit('/').next()?.strip_suffix(".zip"));
    let Some(name) = name.filter(|name| !name.is_empty() && !name.starts_with('.')) else { return false };
    let Some(dists) = user.gradle_home().map(|home| home.join("wrapper/dists").join(name)) else { return false };
    let is_complete = |dir: std::path::PathBuf| dir.join(format!("{name}.zip.ok")).is_file();
    std::fs::read_dir(dists).into_iter().flatten().flatten().any(|entry| is_complete(entry.path()))
}
