//! Preview of a run.

use super::{Check, Engine, Limits, NetworkNeed, Role, Usage};
use crate::render;
use crate::service::runs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Preview of what a run would start with. Nothing was opened or spent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Project; created when the run is opened, if it does not exist.
    pub project: String,
    /// Repository.
    pub repo: String,
    /// Branch the change would land on.
    pub base_branch: String,
    /// Commit the run would start from.
    pub base: String,
    /// Open run with the same goal that would be reused.
    pub existing_run: Option<String>,
    /// How its settings differ from the requested ones; the request is then refused, unless `on_difference` says
    /// otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Whether a scout explores the repository first. Its notes are added to the manager's prompt.
    pub explores: bool,
    /// Engines by role.
    pub engines: BTreeMap<Role, Engine>,
    /// Checks that would prove the change.
    pub checks: Vec<Check>,
    /// What the checks need from the network and may not reach.
    pub network: Vec<NetworkNeed>,
    /// Limits of the run: an upper bound of what it may cost.
    pub limits: Limits,
    /// Reservation for the manager's first attempt; 0 means not limited.
    pub first_attempt: Usage,
    /// The manager's prompt; `null` if its engine reads none.
    pub prompt: Option<Prompt>,
}

/// Rendered prompt, and what sending it once costs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Prompt {
    /// System prompt.
    pub system: String,
    /// User prompt.
    pub user: String,
    /// Digest of the templates.
    pub version: String,
    /// Estimated tokens of both: a quarter of their bytes.
    pub tokens: u64,
    /// Cost of sending them once, in micro-USD; `null` if the model's price is unknown.
    pub cost_micros: Option<u64>,
}

impl From<runs::Preview> for Preview {
    fn from(preview: runs::Preview) -> Preview {
        let tokens = preview.prompt_tokens();
        let settings = preview.opened.settings;
        Preview {
            project: preview.opened.project.to_string(),
            repo: settings.origin,
            base_branch: settings.base_branch,
            base: preview.opened.base.to_string(),
            differences: render::differences(&preview.differences),
            existing_run: preview.carried_on.map(|run| run.to_string()),
            explores: settings.policy.explore,
            engines: settings.engines.iter().map(|(role, engine)| ((*role).into(), engine.into())).collect(),
            checks: settings.checks.iter().map(Into::into).collect(),
            network: preview.network.into_iter().map(Into::into).collect(),
            limits: settings.policy.limits.into(),
            first_attempt: preview.order.caps.into(),
            prompt: preview.prompt.map(|prompt| Prompt {
                tokens,
                cost_micros: preview.prompt_cost_micros,
                version: prompt.version.0,
                system: prompt.system,
                user: prompt.user,
            }),
        }
    }
}
