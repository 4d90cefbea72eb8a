//! The values that are live in this process, by name: what every writer is searched for.
//!
//! The search structure holds the values in plain memory, as the process itself does. It is made anew at the first use after the
//! register changed, and read by everybody as one shared snapshot.

use super::Secret;
use super::encode::{self, FORM_BYTES_MIN};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

/// The fewest bytes of a value that is looked for: shorter ones stand in innocent texts.
pub const VALUE_BYTES_MIN: usize = FORM_BYTES_MIN;

/// Up to this many bytes of forms (a dozen tokens) the search is made the fastest way; it then takes some megabytes.
const DFA_BYTES_MAX: usize = 32 * 1024;

/// One live value.
struct Entry {
    name: Arc<str>,
    value: Secret,
    /// How many guards hold it.
    held: usize,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static NOW: LazyLock<RwLock<Arc<Patterns>>> = LazyLock::new(RwLock::default);
/// Whether the entries changed since `NOW` was made of them. Set and taken back under the entries' lock, and taken back only after
/// `NOW` is there: who sees it unset sees every value registered before.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// What is searched for: every form of every live value.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    finder: Option<AhoCorasick>,
    /// Every pattern, sorted, with the name of its value.
    forms: Vec<(Vec<u8>, Arc<str>)>,
    /// The bytes of the longest pattern.
    longest: usize,
}

/// Where a live value was found.
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
        // The faster kind takes a hundred times the room and the time to make; key files have many long forms.
        let total: usize = forms.keys().map(Vec::len).sum();
        let kind = if total > DFA_BYTES_MAX { AhoCorasickKind::ContiguousNFA } else { AhoCorasickKind::DFA };
        let mut builder = AhoCorasick::builder();
        let finder = builder.match_kind(MatchKind::LeftmostLongest).kind(Some(kind)).build(forms.keys())?;
        Ok(Patterns { finder: Some(finder), forms: forms.into_iter().collect(), longest })
    }

    /// The first value at or after `at`.
    pub fn find(&self, text: &[u8], at: usize) -> Option<Hit<'_>> {
        let found = self.finder.as_ref()?.find(aho_corasick::Input::new(text).range(at..))?;
        let name = self.forms.get(found.pattern().as_usize()).map_or("secret", |(_, name)| name);
        Some(Hit { start: found.start(), end: found.end(), name })
    }

    /// The first place at or after `at` from which on the text may be the beginning of a value whose rest is still to come; the
    /// text's end where there is none.
    pub fn begun(&self, text: &[u8], at: usize) -> usize {
        let first = (text.len() + 1).saturating_sub(self.longest).max(at);
        let is_begin = |from: &usize| {
            let rest = &text[*from..];
            // The forms that begin with it stand together, right after where it would stand itself.
            let next = self.forms.partition_point(|(form, _)| form.as_slice() <= rest);
            self.forms.get(next).is_some_and(|(form, _)| form.starts_with(rest))
        };
        if self.forms.is_empty() { text.len() } else { (first..text.len()).find(is_begin).unwrap_or(text.len()) }
    }

    /// Fewer bytes than this are ever held back.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// What is searched for now.
pub(super) fn now() -> Arc<Patterns> {
    if CHANGED.load(Ordering::Acquire) {
        catch_up();
    }
    NOW.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps a value live: when the last guard of it is gone, it is not searched for any more.
#[must_use = "dropped, the value is not live any more; `keep` holds it for the life of the process"]
#[derive(Debug)]
pub struct Live(Option<(Arc<str>, Secret)>);

impl Live {
    /// Keeps it live as long as the process lives.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some((name, value)) = self.0.take() else { return };
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|e| e.name == name && e.value == value) {
            entry.held -= 1;
        }
        let before = entries.len();
        entries.retain(|e| e.held > 0);
        if entries.len() < before {
            CHANGED.store(true, Ordering::Release);
        }
    }
}

/// Makes a value live under a name for people: from now on it is replaced by `[redacted:NAME]` wherever this process writes.
/// Blanks around it do not count. One of fewer than [`VALUE_BYTES_MIN`] bytes is not searched for, which is said in the log.
pub fn register(name: &str, value: &Secret) -> Live {
    let name: String = name.chars().filter(|c| !c.is_control() && !"[]".contains(*c)).take(80).collect();
    if value.expose().trim().len() < VALUE_BYTES_MIN {
        tracing::warn!(name, "a secret is too short to be searched for in what is written; use a longer one");
        return Live(None);
    }
    let name: Arc<str> = name.into();
    let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    match entries.iter_mut().find(|e| e.name == name && e.value == *value) {
        Some(entry) => entry.held += 1,
        None => {
            entries.push(Entry { name: name.clone(), value: value.clone(), held: 1 });
            CHANGED.store(true, Ordering::Release);
        }
    }
    Live(Some((name, value.clone())))
}

fn catch_up() {
    let entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    if !CHANGED.load(Ordering::Acquire) {
        return;
    }
    let made = Patterns::of(&entries);
    let failed = made.as_ref().err().map(ToString::to_string);
    if let Ok(patterns) = made {
        *NOW.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(patterns);
    }
    CHANGED.store(false, Ordering::Release);
    // Let go first: what is logged is searched, too.
    drop(entries);
    if let Some(error) = failed {
        // Only with gigabytes of values; what was searched for still is.
        tracing::error!(error, "the register of secrets is too large; the newest ones are not searched for");
    }
}
