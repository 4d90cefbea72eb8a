//! Searches everything that a program wrote or printed for canaries: whole, in parts, and encoded. Independent of the
//! product's own list of encodings, so that it finds what that list misses.

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use std::path::Path;

/// Length from which a part of a canary counts as a leak.
const WINDOW: usize = 14;

pub struct Search {
    finder: AhoCorasick,
    labels: Vec<String>,
}

impl Search {
    pub fn of(canaries: &[&str]) -> Search {
        let (mut patterns, mut labels) = (Vec::new(), Vec::new());
        for canary in canaries {
            let mut add = |how: &str, bytes: &[u8], window: usize| {
                for part in bytes.windows(window.min(bytes.len())) {
                    patterns.push(part.to_vec());
                    labels.push(format!("{how} of {canary}"));
                }
            };
            let bytes = canary.as_bytes();
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let percent: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
            add("plain", bytes, WINDOW);
            add("reversed", &reversed, WINDOW);
            add("hex", hex.as_bytes(), 2 * WINDOW);
            add("HEX", hex.to_uppercase().as_bytes(), 2 * WINDOW);
            add("percent", percent.as_bytes(), 3 * WINDOW);
            add("PERCENT", percent.to_uppercase().as_bytes(), 3 * WINDOW);
            for skip in 0..3 {
                // A canary may start at any of the three positions of a base64 group. The inner characters are the same
                // in any longer text.
                let whole = STANDARD_NO_PAD.encode(&bytes[skip..]);
                let inner = &whole.as_bytes()[..whole.len() / 4 * 4 - 4];
                add("base64", inner, inner.len().min(20));
                let url = URL_SAFE.encode(&bytes[skip..]);
                add("base64url", &url.as_bytes()[..inner.len()], inner.len().min(20));
            }
        }
        Search { finder: AhoCorasick::new(&patterns).expect("an automaton"), labels }
    }

    /// Returns what is found in a text, each kind once.
    pub fn find(&self, place: &str, text: &[u8]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for hit in self.finder.find_overlapping_iter(text) {
            let at = String::from_utf8_lossy(&text[hit.start().saturating_sub(60)..hit.end()]).into_owned();
            let label = format!("{place}: {}", self.labels[hit.pattern().as_usize()]);
            if !found.iter().any(|f| f.starts_with(&label)) {
                found.push(format!("{label} in {at:?}"));
            }
        }
        found
    }

    /// Returns what is found in every file below a folder, except for paths that `skip` accepts.
    pub fn find_below(&self, folder: &Path, skip: &dyn Fn(&Path) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if skip(&path) {
                continue;
            }
            match path.is_dir() && !path.is_symlink() {
                true => found.extend(self.find_below(&path, skip)),
                false => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    found.extend(self.find(&path.display().to_string(), &bytes));
                }
            }
        }
        found
    }
}

#[test]
fn every_planted_form_is_found() {
    let canary = "cAnArY-7f3e9d1b5a2c+/Zq";
    let search = Search::of(&[canary]);
    let plant = |text: String| search.find("here", format!("before {text} after").as_bytes());
    for before in ["", "x", "xx", "xxx"] {
        assert!(!plant(STANDARD.encode(format!("{before}{canary}{before}"))).is_empty());
        assert!(!plant(URL_SAFE.encode(format!("{before}{canary}{before}"))).is_empty());
    }
    let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
    for text in [canary.to_owned(), canary[3..18].to_owned(), canary.chars().rev().collect(), hex] {
        assert!(!plant(text.clone()).is_empty(), "{text}");
    }
    assert!(plant("cAnArY-7f3e9d".to_owned()).is_empty());
}
