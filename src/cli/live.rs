//! Live lines at the bottom of a terminal: one for each thing at work, with its time and its last line of output.

use super::text::{brief, duration};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time between two steps of a spinner.
const TICK: Duration = Duration::from_millis(100);
/// Longest name of a thing at work, in characters: on 80 columns the last output still has room.
const MAX_NAME_CHARS: usize = 34;
/// Longest line of output that is kept; the line is cut to the terminal's width when it is drawn.
const MAX_OUTPUT_CHARS: usize = 400;

const COLORED: &str = "  {spinner:.cyan} {prefix} {time:.dim}  {wide_msg:.dim}";
const PLAIN: &str = "  {spinner} {prefix} {time}  {wide_msg}";

/// Something at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtWork {
    /// What identifies it: an attempt (`a2`), or the kind of an effect.
    pub key: String,
    /// Its name, in a few words.
    pub name: String,
    /// How long it has been at work.
    pub elapsed: Duration,
}

/// The live lines of one terminal.
pub struct Live {
    lines: MultiProgress,
    shown: Mutex<BTreeMap<String, ProgressBar>>,
    template: &'static str,
}

impl Live {
    /// Creates live lines on standard output.
    pub fn new(color: bool) -> Live {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10));
        Live { lines, shown: Mutex::default(), template: if color { COLORED } else { PLAIN } }
    }

    /// Shows what is running now and removes what has ended.
    pub fn show(&self, items: &[AtWork]) {
        let mut shown = self.shown();
        shown.retain(|key, line| {
            let stays = items.iter().any(|item| item.key == *key);
            if !stays {
                line.finish_and_clear();
                self.lines.remove(line);
            }
            stays
        });
        for item in items {
            let name = brief(&item.name, MAX_NAME_CHARS);
            if let Some(line) = shown.get(&item.key) {
                line.set_prefix(name);
                continue;
            }
            let line = ProgressBar::new_spinner().with_style(self.style()).with_prefix(name).with_elapsed(item.elapsed);
            let line = self.lines.add(line);
            line.enable_steady_tick(TICK);
            shown.insert(item.key.clone(), line);
        }
    }

    /// Shows the last line of output of something at work.
    pub fn output(&self, key: &str, text: &str) {
        // A progress display overwrites its line: the last part is what its author would see.
        let last = text.split(['\r', '\n']).map(str::trim).rfind(|part| !part.is_empty()).unwrap_or_default();
        if let Some(line) = self.shown().get(key) {
            line.set_message(brief(last, MAX_OUTPUT_CHARS));
        }
    }

    /// Runs something that writes to the terminal, with the live lines out of its way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.lines.suspend(write)
    }

    fn style(&self) -> ProgressStyle {
        let time = |state: &ProgressState, out: &mut dyn Write| {
            let secs = state.elapsed().as_secs();
            // Below a minute without tenths, which would flicker.
            let text = if secs < 60 { format!("{secs} s") } else { duration(secs * 1000) };
            // Writing to the line cannot fail.
            let _infallible = write!(out, "{text:>7}");
        };
        // A test checks the templates.
        let style = ProgressStyle::with_template(self.template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        style.with_key("time", time)
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, ProgressBar>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.show(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        assert!([COLORED, PLAIN].iter().all(|t| ProgressStyle::with_template(t).is_ok()));
    }
}
