//! The watch over a base branch after a run has landed there.

use super::Timestamp;
use crate::domain::{self, WatchState};
use crate::render;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of CI on the base branch since the run has landed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LandingWatch {
    /// `watching`, `green`, `no_ci`, `untested`, `red_before`, `unclear` or `blamed`.
    #[schema(example = "green")]
    pub state: String,
    /// The same in one sentence.
    pub words: String,
    /// End of the window.
    pub until: Timestamp,
    /// Red checks, if there are any.
    pub checks: Vec<String>,
    /// Run that proposes the revert, if the change is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub revert: Option<String>,
}

impl From<&domain::LandingWatch> for LandingWatch {
    fn from(watch: &domain::LandingWatch) -> LandingWatch {
        let (checks, revert) = match &watch.state {
            WatchState::RedBefore { checks } | WatchState::Unclear { checks, .. } => (checks.clone(), None),
            WatchState::Blamed { checks, revert, error, .. } => {
                (checks.clone(), error.is_none().then(|| revert.to_string()))
            }
            _ => Default::default(),
        };
        LandingWatch {
            state: watch.state.name().to_owned(),
            words: render::landing_watch::words(watch),
            until: watch.until.into(),
            checks,
            revert,
        }
    }
}
