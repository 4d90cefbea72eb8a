//! What a run would begin with, as it is shown before anything is opened.

use crate::actors::preview::{Preview, tokens};
use crate::domain::{CheckSpec, EngineSpec, Limits, Role, Usage};
use crate::http::shapes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a run would begin with. Nothing was opened or spent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunPreview {
    /// Its project; made when the run is opened, if there is none yet.
    pub project: String,
    /// The repository.
    pub repo: String,
    /// The branch it would land on.
    pub base_branch: String,
    /// The commit it would begin at.
    pub base: String,
    /// The open run of the same goal that would be carried on instead.
    pub carries_on: Option<String>,
    /// Whether a scout looks first; its notes are added to the manager's prompt.
    pub explores: bool,
    /// Engines by role.
    #[schema(value_type = BTreeMap<String, shapes::EngineSpec>)]
    pub engines: BTreeMap<Role, EngineSpec>,
    /// The checks that would prove the change.
    #[schema(value_type = Vec<shapes::CheckSpec>)]
    pub checks: Vec<CheckSpec>,
    /// The limits of the whole run: the most it may cost.
    #[schema(value_type = shapes::Limits)]
    pub limits: Limits,
    /// What would be set aside for the manager's first attempt; 0 = not limited.
    #[schema(value_type = shapes::Usage)]
    pub first_attempt: Usage,
    /// What the manager would be told; `null` = its engine reads no prompt.
    pub prompt: Option<PromptView>,
}

/// A rendered prompt and what sending it once comes to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PromptView {
    /// Who it is and what always holds.
    pub system: String,
    /// The order.
    pub user: String,
    /// The digest of its templates.
    pub version: String,
    /// About how many tokens both are: a quarter of their bytes.
    pub tokens: u64,
    /// What sending them once costs, in micro-USD; `null` = no price is known for the model.
    pub cost_micros: Option<u64>,
}

impl RunPreview {
    /// The view of a look ahead.
    pub fn of(preview: Preview) -> RunPreview {
        let Preview { opened, carried_on, order, prompt, prompt_cost_micros } = preview;
        RunPreview {
            project: opened.project.to_string(),
            repo: opened.settings.origin,
            base_branch: opened.settings.base_branch,
            base: opened.base.to_string(),
            carries_on: carried_on.map(|run| run.to_string()),
            explores: opened.settings.policy.explore,
            engines: opened.settings.engines,
            checks: opened.settings.checks,
            limits: opened.settings.policy.limits,
            first_attempt: order.caps,
            prompt: prompt.map(|p| PromptView {
                tokens: tokens(p.system.len() + p.user.len()),
                cost_micros: prompt_cost_micros,
                version: p.version.0,
                system: p.system,
                user: p.user,
            }),
        }
    }
}
