//! Registry of the secret values that are live in this process, by name. All output is searched for them.
//!
//! The search structure holds the values in plain memory, as the process itself does. It is rebuilt at the first use
//! after the registry changed, and shared as one snapshot.

use super::Secret;
use super::encode::{self, FORM_BYTES_MIN};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

/// Minimum size of a value, in bytes. Shorter values are not searched for, because they also occur in harmless text.
pub const VALUE_BYTES_MIN: usize = FORM_BYTES_MIN;

/// Up to this many bytes of forms (a dozen tokens) the fastest search structure is built; it takes a few megabytes.
const DFA_BYTES_MAX: usize = 32 * 1024;

/// A live value.
struct Entry {
    name: Arc<str>,
    value: Secret,
    /// Number of guards.
    guards: usize,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static NOW: LazyLock<RwLock<Arc<Patterns>>> = LazyLock::new(RwLock::default);
/// Whether the entries changed since `NOW` was built. Set and cleared under the lock of the entries, and cleared only
/// after `NOW` is replaced: a reader that sees `false` also sees every value registered before.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// Search structure of every form of every live value.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    finder: Option<AhoCorasick>,
    /// All patterns, sorted, each with the name of its value.
    forms: Vec<(Vec<u8>, Arc<str>)>,
    /// Length of the longest pattern in bytes.
    longest: usize,
}

/// Position of a live value in a text.
pub(super) struct Hit<'a> {
    pub start: usize,
    pub end: usize,
    pub name: &'a str,
}

impl Patterns {
    fn of(entries: &[Entry]) -> Result<Patterns, aho_corasick::BuildError> {
        let mut forms: BTreeMap<Vec<u8>, Arc<str>> = BTreeMap::new();
        for entry in entries {
            for form in encode::forms(entry.value.expose()) {
                forms.entry(form).or_insert_with(|| entry.name.clone());
            }
        }
        if forms.is_empty() {
            return Ok(Patterns::default());
        }
        let longest = forms.keys().map(Vec::len).max().unwrap_or(0);
        // A DFA takes a hundred times the memory and time to build; key files have many long forms.
        let total: usize = forms.keys().map(Vec::len).sum();
        let kind = if total > DFA_BYTES_MAX { AhoCorasickKind::ContiguousNFA } else { AhoCorasickKind::DFA };
        let mut builder = AhoCorasick::builder();
        let finder = builder.match_kind(MatchKind::LeftmostLongest).kind(Some(kind)).build(forms.keys())?;
        Ok(Patterns { finder: Some(finder), forms: forms.into_iter().collect(), longest })
    }

    /// Returns the first value at or after `at`.
    pub fn find(&self, text: &[u8], at: usize) -> Option<Hit<'_>> {
        let found = self.finder.as_ref()?.find(aho_corasick::Input::new(text).range(at..))?;
        let name = self.forms.get(found.pattern().as_usize()).map_or("secret", |(_, name)| name);
        Some(Hit { start: found.start(), end: found.end(), name })
    }

    /// Returns the first position at or after `at` where a value may begin whose rest is still to come, or the length
    /// of the text.
    pub fn begun(&self, text: &[u8], at: usize) -> usize {
        let first = (text.len() + 1).saturating_sub(self.longest).max(at);
        let is_begin = |from: &usize| {
            let rest = &text[*from..];
            // The forms that begin with it are adjacent, directly after the position where it would be inserted.
            let next = self.forms.partition_point(|(form, _)| form.as_slice() <= rest);
            self.forms.get(next).is_some_and(|(form, _)| form.starts_with(rest))
        };
        if self.forms.is_empty() { text.len() } else { (first..text.len()).find(is_begin).unwrap_or(text.len()) }
    }

    /// Returns the length of the longest pattern. A stream always holds back fewer bytes than this.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// Returns the current search structure.
pub(super) fn now() -> Arc<Patterns> {
    if CHANGED.load(Ordering::Acquire) {
        rebuild();
    }
    NOW.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Guard of a live value. When its last guard is dropped, a value is no longer searched for.
#[must_use = "dropping the guard ends the search for the value; `keep` holds it until the process ends"]
#[derive(Debug)]
pub struct Live(Option<(Arc<str>, Secret)>);

impl Live {
    /// Keeps the value live until the process ends.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some((name, value)) = self.0.take() else { return };
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|e| e.name == name && e.value == value) {
            entry.guards -= 1;
        }
        let before = entries.len();
        entries.retain(|e| e.guards > 0);
        if entries.len() < before {
            CHANGED.store(true, Ordering::Release);
        }
    }
}

/// Registers a value under a name for people. From now on it is replaced by `[redacted:NAME]` in everything this
/// process writes. Surrounding whitespace is ignored. A value of fewer than [`VALUE_BYTES_MIN`] bytes is not searched
/// for; a warning is logged.
pub fn register(name: &str, value: &Secret) -> Live {
    let name: String = name.chars().filter(|c| !c.is_control() && !"[]".contains(*c)).take(80).collect();
    if value.expose().trim().len() < VALUE_BYTES_MIN {
        tracing::warn!(name, "the secret is too short to be redacted in output; use a longer one");
        return Live(None);
    }
    let name: Arc<str> = name.into();
    let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    match entries.iter_mut().find(|e| e.name == name && e.value == *value) {
        Some(entry) => entry.guards += 1,
        None => {
            entries.push(Entry { name: name.clone(), value: value.clone(), guards: 1 });
            CHANGED.store(true, Ordering::Release);
        }
    }
    Live(Some((name, value.clone())))
}

fn rebuild() {
    let entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    if !CHANGED.load(Ordering::Acquire) {
        return;
    }
    let built = Patterns::of(&entries);
    let failure = built.as_ref().err().map(ToString::to_string);
    if let Ok(patterns) = built {
        *NOW.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(patterns);
    }
    CHANGED.store(false, Ordering::Release);
    // Release the lock first, because log lines are searched, too.
    drop(entries);
    if let Some(error) = failure {
        // Happens only with gigabytes of values. The previous ones are still searched for.
        tracing::error!(error, "the registry of secrets is too large; the newest secrets are not redacted");
    }
}
