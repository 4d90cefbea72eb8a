//! Starting a run: a form, a preview, and the request itself.

use super::problem::{PageError, PageResult};
use super::shell::{self, Page};
use super::visit::{Fields, Person};
use super::{State, look, see_other};
use crate::domain::{RequestedLimits, Role};
use crate::render;
use crate::service::idempotency::IdempotencyKey;
use crate::service::runs::{self, OpenRun, Preview};
use crate::service::{ServiceError, projects};
use axum::extract::{Query, State as Shared};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;

/// Roles whose engine can be chosen.
const ROLES: [Role; 4] = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
/// Projects that the form offers.
const MAX_PROJECTS: usize = 500;
/// Limits that can be set: field, label, keyboard.
const LIMITS: [(&str, &str, &str); 6] = [
    ("limit-cost", "Cost (dollars)", "decimal"),
    ("limit-time", "Time (minutes)", "numeric"),
    ("limit-attempts", "Attempts", "numeric"),
    ("limit-rounds", "Rounds of rework", "numeric"),
    ("limit-tokens", "Tokens", "numeric"),
    ("limit-turns", "Model calls", "numeric"),
];

/// Query of the form.
#[derive(Deserialize)]
pub struct FormQuery {
    #[serde(default)]
    project: String,
}

/// Values of the form.
#[derive(Default)]
struct Values {
    key: String,
    project: String,
    repo: String,
    goal: String,
    base: String,
    checks: String,
    engines: Vec<(Role, String)>,
    /// Limits as typed, in the order of [`LIMITS`].
    limits: [String; LIMITS.len()],
    reuse: bool,
}

impl Values {
    fn of(fields: &Fields) -> Values {
        Values {
            key: fields.get("key"),
            project: fields.get("project"),
            repo: fields.get("repo"),
            goal: fields.get("goal"),
            base: fields.get("base"),
            checks: fields.get("checks"),
            engines: ROLES.into_iter().map(|role| (role, fields.get(&format!("engine-{}", role.name())))).collect(),
            limits: LIMITS.map(|(name, ..)| fields.get(name)),
            reuse: fields.get("reuse") == "yes",
        }
    }

    fn request(&self, limits: RequestedLimits) -> Result<OpenRun, ServiceError> {
        let filled = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        if self.goal.is_empty() {
            return Err(ServiceError::invalid("goal: empty", "Write what should be different when the run is done"));
        }
        if self.project.is_empty() == self.repo.is_empty() {
            let fix = "Choose one of your projects, or enter a path or URL";
            return Err(ServiceError::invalid("name either a project or a repository", fix));
        }
        Ok(OpenRun {
            project: filled(&self.project),
            repo: filled(&self.repo),
            goal: self.goal.clone(),
            spec: None,
            base: filled(&self.base),
            engines: self.engines.iter().filter(|(_, text)| !text.is_empty()).cloned().collect(),
            checks: self.checks.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
            limits,
            reuse_open_run: self.reuse,
            on_difference: Default::default(),
            traceparent: None,
        })
    }
}

/// `GET /runs/new`.
pub async fn form(Shared(state): Shared<State>, person: Person, Query(query): Query<FormQuery>) -> PageResult<Markup> {
    let key = state.services.clock.new_run_id().to_string();
    let values = Values { key, project: query.project, ..Values::default() };
    render_form(&state, &person, &values, html! {}).await
}

/// Reads the limits. An empty field leaves the configured limit.
fn limits(fields: &Fields) -> Result<RequestedLimits, PageError> {
    let number = |name: &str, what: &str| fields.filled(name).map(|_| fields.number(name, what)).transpose();
    let small =
        |name: &str, what: &str| Ok::<_, PageError>(number(name, what)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
    Ok(RequestedLimits {
        cost_micros: fields.filled("limit-cost").map(|_| fields.dollars("limit-cost")).transpose()?,
        timeout_secs: number("limit-time", "minutes")?.map(|minutes| minutes.saturating_mul(60)),
        attempts: small("limit-attempts", "attempts")?,
        rounds: small("limit-rounds", "rounds of rework")?,
        tokens: number("limit-tokens", "tokens")?,
        turns: number("limit-turns", "model calls")?,
    })
}

/// `POST /runs`. The form has a key of its own, so that sending it twice starts one run.
pub async fn open(Shared(state): Shared<State>, person: Person, fields: Fields) -> PageResult<Response> {
    let values = Values::of(&fields);
    let (s, caller) = (&state.services, &person.caller);
    let refused: PageError = match limits(&fields).and_then(|limits| Ok(values.request(limits)?)) {
        Err(error) => error,
        Ok(request) if fields.get("do") == "preview" => match runs::preview(s, caller, request).await {
            Ok(preview) => {
                return Ok(render_form(&state, &person, &values, previewed(&preview)).await?.into_response());
            }
            Err(error) => error.into(),
        },
        Ok(request) => {
            let key = IdempotencyKey::parse(&values.key)?;
            match runs::open(s, caller, request, Some(&key)).await {
                Ok(opened) => {
                    let notice = if opened.is_new { "started" } else { "reused" };
                    return Ok(see_other(&format!("/runs/{}?notice={notice}", opened.run.id)));
                }
                Err(error) => error.into(),
            }
        }
    };
    // What was typed is kept. The key is new: the corrected form is another request.
    let values = Values { key: s.clock.new_run_id().to_string(), ..values };
    let page = render_form(&state, &person, &values, shell::problem_box(refused.error())).await?;
    Ok((refused.status(), page).into_response())
}

async fn render_form(state: &State, person: &Person, values: &Values, above: Markup) -> PageResult<Markup> {
    let projects = projects::list(&state.services, &person.caller).await?;
    let typed = [&values.base, &values.checks].into_iter().chain(values.engines.iter().map(|(_, e)| e));
    let has_more = typed.chain(&values.limits).any(|text| !text.is_empty());
    let engine = |role: Role| values.engines.iter().find(|(r, _)| *r == role).map_or("", |(_, text)| text.as_str());
    let content = html! {
        div.narrow {
            h1 { "Start a run" }
            (above)
            form.stacked method="post" action="/runs" {
                (shell::token(&person.visit))
                input type="hidden" name="key" value=(values.key);
                label for="goal" { "Goal" }
                textarea id="goal" name="goal" rows="6" maxlength="60000" required autofocus
                    placeholder="What should be different when the run is done?" { (values.goal) }
                @if !projects.is_empty() {
                    label for="project" { "Project" }
                    select id="project" name="project" {
                        option value="" { "a repository that I name below" }
                        @for project in projects.iter().take(MAX_PROJECTS) {
                            option value=(project.name) selected[values.project == project.name.as_str()] { (project.name) }
                        }
                    }
                }
                label for="repo" { "Repository" @if !projects.is_empty() { span.quiet { " if it is not a project yet" } } }
                input id="repo" name="repo" value=(values.repo) autocomplete="off" spellcheck="false"
                    placeholder="/srv/git/tool.git or https://example.org/team/tool.git";
                p.quiet { "A path on the machine of the service, or a URL. It becomes a project with this run." }
                details.more open[has_more] {
                    summary { "Branch, checks, limits, engines" }
                    label for="base" { "Branch to land on" }
                    input id="base" name="base" value=(values.base) autocomplete="off" placeholder="the repository's default branch";
                    label for="checks" { "Checks, one command a line" }
                    textarea id="checks" name="checks" rows="3" spellcheck="false"
                        placeholder="those of the project or of .skep.toml, else detected in the repository" { (values.checks) }
                    fieldset {
                        legend { "Limits of this run" }
                        p.quiet id="limits-hint" { "Skep asks you before it goes beyond one. Empty: as configured." }
                        div.fields { @for ((name, label, mode), value) in LIMITS.into_iter().zip(&values.limits) {
                            div { label for=(name) { (label) }
                                input id=(name) name=(name) value=(value) inputmode=(mode) autocomplete="off" aria-describedby="limits-hint"; }
                        } }
                    }
                    @for role in ROLES {
                        label for={ "engine-" (role.name()) } { "Engine of the " (role.name()) }
                        input id={ "engine-" (role.name()) } name={ "engine-" (role.name()) } value=(engine(role))
                            autocomplete="off" spellcheck="false" placeholder="as configured";
                    }
                    label.check { input type="checkbox" name="reuse" value="yes" checked[values.reuse];
                        " Continue an open run of the same goal instead of starting another" }
                }
                div.buttons {
                    button.button.primary type="submit" name="do" value="start" { "Start the run" }
                    button.button type="submit" name="do" value="preview" { "Preview" }
                }
                p.quiet { "The preview shows engines, checks and limits. It starts and spends nothing." }
            }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "Start a run", live: None, content }))
}

/// Returns what the run would start with.
fn previewed(preview: &Preview) -> Markup {
    let settings = &preview.opened.settings;
    let limits = &settings.policy.limits;
    html! {
        section.card {
            h2 { "What it would start with" }
            @if let Some(run) = preview.carried_on {
                p { "An open run has this goal: " a href={ "/runs/" (run) } { (run.abbrev()) } "." }
            }
            dl {
                dt { "Base" } dd { (look::line(&settings.base_branch)) " at " (look::sha(&preview.opened.base)) }
                dt { "Engines" } dd { (look::engines(&settings.engines)) }
                dt { "Checks" } dd {
                    @if settings.checks.is_empty() { "none: nothing would be proven" }
                    ul.plain { @for check in &settings.checks { li { code { (look::line(&check.command)) } } } }
                }
                dt { "Limits" } dd {
                    @if let Some(cost) = limits.cost_micros { (render::money(cost)) ", " }
                    @if let Some(tokens) = limits.tokens { (look::number(tokens)) " tokens, " }
                    @if let Some(turns) = limits.turns { (render::count(turns, "model call")) ", " }
                    (render::duration(limits.timeout_secs.saturating_mul(1000))) ", "
                    (render::count(limits.rounds.into(), "round")) " of rework, " (render::count(limits.attempts.into(), "attempt"))
                }
                dt { "Approval" } dd { @if settings.policy.approve_merge { "a person approves the merge" } @else { "only if the diff raises a concern" } }
                @if preview.prompt.is_some() {
                    dt { "First prompt" } dd { "about " (render::count(preview.prompt_tokens(), "token"))
                        @if let Some(cost) = preview.prompt_cost_micros { ", " (render::money(cost)) } }
                }
            }
        }
    }
}
