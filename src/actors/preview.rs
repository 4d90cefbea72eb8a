//! Previews: what a run would be born with and what its manager would be prompted with, without opening it.

use super::check_plan;
use super::deps::Deps;
use super::error::RuntimeError;
use super::intake;
use super::request::{PlanFor, RunRequest};
use crate::domain::{
    BaseChecks, CheckKind, Difference, Effect, Event, Opened, Order, Role, Run, RunId, SharedLimits, Step, decide, open,
};
use crate::ports::checks::NetworkNeed;
use crate::ports::{Prompt, Repo};
use std::sync::Arc;

/// What a run would start with.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What it would be born with. Opening it draws another id, so its branch has another name.
    pub opened: Opened,
    /// What its checks need from the network and may not reach.
    pub network: Vec<NetworkNeed>,
    /// The open run of the same goal that would continue instead; `opened` then has its settings, with the requested
    /// ones applied.
    pub carried_on: Option<RunId>,
    /// The settings asked for that this run does not have.
    pub differences: Vec<Difference>,
    /// The manager's order. If a scout explores first, the order also gets the scout's notes.
    pub order: Order,
    /// The manager's prompt; `None` if its engine reads none.
    pub prompt: Option<Prompt>,
    /// Cost of sending the prompt once, in micro-USD; `None` if no price is known or nothing is sent.
    pub prompt_cost_micros: Option<u64>,
}

impl Preview {
    /// Estimates the number of tokens of the prompt; 0 without one.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt.as_ref().map_or(0, |p| tokens(p.system.len() + p.user.len()))
    }
}

/// Estimates the number of tokens of a text.
fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Computes a preview. It only fetches the mirror, writes nothing else, and spends nothing.
pub(super) async fn preview(deps: &Deps, mut request: RunRequest) -> Result<Preview, RuntimeError> {
    let parts = deps.parts();
    if let Some(repo) = &request.repo {
        request.repo = Some(deps.workspaces.locate(repo).await?);
    }
    let (project, is_new) = intake::project(deps, &request, &parts.defaults).await?;
    let existing = intake::open_run(deps, &request, &project, is_new).await?;
    let differences = existing.as_ref().map(|run| request.differences(run)).unwrap_or_default();
    let carried_on = existing.as_ref().map(|run| run.id);
    let inspected = intake::inspect_checks(deps, &request, &project, &parts, PlanFor::Base).await?;
    let network = check_plan::network(deps, &project.name, &inspected).await?;
    let opened = match existing {
        Some(run) => {
            intake::check_engines(&request.engines, &parts)?;
            as_asked(run, request)
        }
        None => intake::born(deps, request, project, &parts, inspected).await?,
    };
    let order = first_order(deps, &opened)?;
    let engine = parts.engines.get(&order.engine).map_err(|what| RuntimeError::Invalid {
        what: format!("cannot use the engine of the role manager: {what}"),
        fix: "Choose another with --engine, or in the configuration".to_owned(),
    })?;
    // The plan of a run that continues was ordered long ago.
    let prompt = match engine.reads_prompt() && carried_on.is_none() {
        true => {
            let repo = Repo { project: opened.project.clone(), origin: opened.settings.origin.clone() };
            Some(parts.prompts.render(&repo, &order, "", &[]).await?)
        }
        false => None,
    };
    let prompt_cost_micros =
        prompt.as_ref().and_then(|p| parts.engines.input_cost(&order.engine, tokens(p.system.len() + p.user.len())));
    Ok(Preview { opened, network, carried_on, differences, order, prompt, prompt_cost_micros })
}

/// Returns an open run with the engines and checks that were asked for.
fn as_asked(run: Run, request: RunRequest) -> Opened {
    let mut settings = Arc::unwrap_or_clone(run.settings);
    settings.engines.extend(request.engines);
    if !request.checks.is_empty() {
        settings.checks.retain(|c| c.kind == CheckKind::Accept);
        settings.checks.splice(0..0, request.checks);
    }
    settings.policy.limits = request.limits.over(run.limits);
    Opened { id: run.id, project: run.project, goal: run.goal, settings, base: run.base, traceparent: None }
}

/// Returns the manager's first order, as `decide` itself writes it.
fn first_order(deps: &Deps, opened: &Opened) -> Result<Order, RuntimeError> {
    let at = deps.clock.now();
    let mut opened = opened.clone();
    // The manager's order is wanted; a scout's would come first.
    opened.settings.policy.explore = false;
    // The checks of the base come before it.
    opened.settings.policy.base_checks = BaseChecks::Off;
    // A preview reserves nothing in shared budgets.
    opened.settings.policy.shared = SharedLimits::default();
    let queued = open(&opened, at)?.run;
    let admitted = decide(&queued, &Event::Admitted, at)?;
    let order = admitted.effects.into_iter().find_map(|(_, effect)| match effect {
        Effect::Start { order } if order.step == Step::Plan => Some(*order),
        _ => None,
    });
    order.ok_or_else(|| RuntimeError::Invalid {
        what: format!("a run with these limits could not even start its {}", Role::Manager.name()),
        fix: "Raise the limits and budgets of the project".to_owned(),
    })
}
