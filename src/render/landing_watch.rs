//! What became of CI on a base branch after a run has landed there.

use super::markdown::inline;
use super::time::utc;
use crate::domain::{LandingWatch, Sha, WatchState};

/// Returns the state in one sentence.
pub fn words(watch: &LandingWatch) -> String {
    let branch = &watch.branch;
    match &watch.state {
        WatchState::Watching => format!("CI on {branch} is watched until {}", utc(watch.until)),
        WatchState::Green => format!("CI on {branch} is green with it"),
        WatchState::NoCi => "the project has no CI".to_owned(),
        WatchState::Untested => format!("CI on {branch} did not test it until {}", utc(watch.until)),
        WatchState::RedBefore { checks } => {
            format!("CI on {branch} is red, and was red before it: {}", checks.join(", "))
        }
        WatchState::Unclear { sha, checks, commits: 1 } => {
            format!("CI on {branch} is red at {}, in checks that are new: {}", sha.abbrev(), checks.join(", "))
        }
        WatchState::Unclear { sha, checks, commits } => format!(
            "CI on {branch} turned red at {} in {}, and any of {commits} commits may be to blame",
            sha.abbrev(),
            checks.join(", ")
        ),
        WatchState::Blamed { sha, checks, revert, error: None, .. } => format!(
            "it turned CI on {branch} red at {}: {}; run {} proposes its revert",
            sha.abbrev(),
            checks.join(", "),
            revert.abbrev()
        ),
        WatchState::Blamed { sha, checks, error: Some(why), .. } => format!(
            "it turned CI on {branch} red at {}: {}; its revert could not be started: {why}",
            sha.abbrev(),
            checks.join(", ")
        ),
    }
}

/// Returns why a change is to be reverted.
pub fn reason(branch: &str, sha: &Sha) -> String {
    format!("CI on {branch} was green before {} and is red with it.", sha.abbrev())
}

/// Returns the comment on the change; `None` = nobody has to do anything.
pub fn comment(watch: &LandingWatch) -> Option<String> {
    let branch = inline(&watch.branch);
    let list = |checks: &[String]| checks.iter().map(|name| format!("- {}\n", inline(name))).collect::<String>();
    match &watch.state {
        WatchState::Blamed { sha, green, checks, revert, error } => {
            let next = match error {
                None => format!(
                    "Skep proposes to revert it: run `{}` opens a pull request, which lands only after a person has \
                     approved it. Cancel that run if you fix {branch} otherwise.",
                    revert.abbrev()
                ),
                Some(why) => format!("Skep could not start the revert: {}", inline(why)),
            };
            Some(format!(
                "{branch} turned red with this change. These checks were green at `{}` and failed at `{}`:\n\n{}\n{next}",
                green.abbrev(),
                sha.abbrev(),
                list(checks)
            ))
        }
        WatchState::Unclear { sha, checks, commits } => Some(format!(
            "{branch} turned red after this change was merged. These checks failed at `{}`:\n\n{}\nCI has not tested the \
             commits between, and any of {commits} may be to blame, so Skep reverts nothing by itself.",
            sha.abbrev(),
            list(checks)
        )),
        _ => None,
    }
}
