//! A look ahead: what a run would be born with and what its manager would be told, without opening it.

use super::deps::Deps;
use super::intake::{self, Ask, rejected};
use super::runtime_handle::Rejected;
use crate::domain::{Effect, Event, Opened, Order, Role, RunId, SharedLimits, Step, decide, open};
use crate::ports::{Prompt, Repo};

/// What a run would begin with.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What it would be born with; its id and branch are drawn anew when it is opened.
    pub opened: Opened,
    /// The open run of the same goal that would be carried on instead.
    pub carried_on: Option<RunId>,
    /// The manager's order. Where a scout looks first, its notes come on top.
    pub order: Order,
    /// What the manager would be told; `None` = its engine reads no prompt.
    pub prompt: Option<Prompt>,
    /// What the prompt's tokens cost once, in micro-USD; `None` = no price is known, or nothing is sent.
    pub prompt_cost_micros: Option<u64>,
}

impl Preview {
    /// Returns about how many tokens the prompt has; 0 without one.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt.as_ref().map_or(0, |p| tokens(p.system.len() + p.user.len()))
    }
}

/// Returns about how many tokens a text of this many bytes has.
fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Looks ahead. Nothing is written but the mirror's fetch, nothing is spent.
pub(super) async fn look_ahead(deps: &Deps, ask: Ask) -> Result<Preview, Rejected> {
    let defaults = deps.defaults.borrow().clone();
    let (project, is_new) = intake::project(deps, &ask, &defaults).await?;
    let carried_on = intake::open_already(deps, &ask, &project, is_new).await?.map(|run| run.id);
    let opened = intake::look(deps, ask, project, &defaults).await?;
    let order = first_order(deps, &opened)?;
    let engine = deps.engines.get(&order.engine).map_err(|what| Rejected::Invalid {
        what: format!("the engine of the role manager cannot be used: {what}"),
        fix: "Choose another with --engine, or in the configuration".to_owned(),
    })?;
    let prompt = match engine.reads_prompt() {
        true => {
            let repo = Repo { project: opened.project.clone(), origin: opened.settings.origin.clone() };
            Some(deps.prompts.render(&repo, &order, "").await.map_err(rejected)?)
        }
        false => None,
    };
    let prompt_cost_micros =
        prompt.as_ref().and_then(|p| deps.engines.input_cost(&order.engine, tokens(p.system.len() + p.user.len())));
    Ok(Preview { opened, carried_on, order, prompt, prompt_cost_micros })
}

/// The manager's first order, as the machine itself would write it.
fn first_order(deps: &Deps, opened: &Opened) -> Result<Order, Rejected> {
    let at = deps.clock.now();
    let mut opened = opened.clone();
    // A scout would be first; here it is the manager's order that is looked at.
    opened.settings.policy.explore = false;
    // Nothing is set aside with others.
    opened.settings.policy.shared = SharedLimits::default();
    let queued = open(&opened, at)?.run;
    let admitted = decide(&queued, &Event::Admitted, at)?;
    let order = admitted.effects.into_iter().find_map(|(_, effect)| match effect {
        Effect::Start { order } if order.step == Step::Plan => Some(*order),
        _ => None,
    });
    order.ok_or_else(|| Rejected::Invalid {
        what: format!("a run with these limits could not even start its {}", Role::Manager.name()),
        fix: "Look at the limits and budgets of the project".to_owned(),
    })
}
