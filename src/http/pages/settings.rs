//! What this installation is made of: health, configuration, engines, sandbox and runners, forges. Read only: it is
//! changed in the configuration file.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look};
use crate::render;
use crate::service::host::{EngineRow, Finding, RunnerRow, SandboxTest, Setting, Severity};
use crate::service::{Right, ServiceError, health as probe, installation};
use axum::extract::{Path, Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Parts: word in the address, and name.
const PARTS: [(&str, &str); 5] = [
    ("", "Health"),
    ("/config", "Configuration"),
    ("/engines", "Engines"),
    ("/sandbox", "Sandbox"),
    ("/forges", "Forges"),
];
/// Rows of a table.
const MAX_ROWS: usize = 1_000;

/// Query of the configuration.
#[derive(Default, Deserialize)]
pub struct SettingsQuery {
    /// Part of a key.
    #[serde(default)]
    q: String,
    /// Whether only keys that do not have their default are shown.
    changed: Option<String>,
}

/// `GET /settings`.
pub async fn health(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let diagnosis = installation::diagnosis(&state.services, &person.caller).await?;
    let health = probe::health(&state.services).await;
    let of = |severity| diagnosis.findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let content = html! {
        dl.facts {
            dt { "Service" } dd { @if health.is_ok() { (look::status("live")) }
                @else { (look::status("failed")) " " (look::sentence(health.status)) } }
            dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) }
            dt { "Up for" } dd { (render::duration(health.uptime_secs.saturating_mul(1_000))) }
            dt { "Live runs" } dd { (health.live) }
        }
        section aria-labelledby="findings" {
            h2 id="findings" { "What Skep needs" }
            p { @match (errors, warnings) {
                (0, 0) => "Everything Skep needs is in place.",
                (0, n) => { "Everything Skep needs is in place, with " (render::count(n as u64, "warning")) "." },
                (n, _) => { (render::count(n as u64, "problem")) " found." },
            } }
            (findings(&diagnosis.findings))
            p.quiet { "As " code { "skep doctor" } " finds it, inspected at most once a minute." }
        }
    };
    Ok(page(&person, "", &content))
}

/// `GET /settings/{part}`.
pub async fn part(
    Shared(state): Shared<State>,
    person: Person,
    Path(part): Path<String>,
    Query(query): Query<SettingsQuery>,
) -> PageResult<Markup> {
    let (s, caller) = (&state.services, &person.caller);
    let content = match part.as_str() {
        "config" => configuration(&installation::configuration(s, caller).await?, &query),
        "engines" => engines(&installation::engines(s, caller).await?),
        "sandbox" => html! {
            (sandbox(&*installation::sandbox(s, caller).await?))
            (runners(&installation::runners(s, caller).await?))
        },
        "forges" => {
            let forges = installation::forges(s, caller).await?;
            html! {
                @if forges.is_empty() {
                    (look::empty("No forge is configured.", html! { code { "skep forge add github" } " adds one. Repositories \
                        on this machine need none." }))
                } @else { table.list {
                    caption.hidden-title { "Forges" }
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" { "Address" }
                        th scope="col" { "Account" } } }
                    tbody { @for forge in forges.iter().take(MAX_ROWS) { tr {
                        td data-th="Name" { (look::line(&forge.name)) }
                        td data-th="Kind" { (forge.kind) }
                        td data-th="Address" { (look::outside(&forge.url)) }
                        td.wide data-th="Account" { (look::line(&forge.account)) }
                    } } }
                } }
                p.quiet { code { "skep forge test NAME" } " tests the permissions of an account." }
            }
        }
        _ => {
            let fix = "Open the settings and choose a part";
            return Err(ServiceError::not_found("no_page", "there is no such part of the settings", fix).into());
        }
    };
    Ok(page(&person, &format!("/{part}"), &content))
}

fn page(person: &Person, here: &str, content: &Markup) -> Markup {
    let name = PARTS.iter().find(|(part, _)| *part == here).map_or("Settings", |(_, name)| *name);
    let content = html! {
        h1 { "Settings" }
        nav.tabs aria-label="Settings" { @for (part, name) in PARTS {
            a href={ "/settings" (part) } aria-current=[(part == here).then_some("page")] { (name) }
        }
            @if person.caller.require(Right::People).is_ok() { a href="/people" { "People" } } }
        (content)
    };
    shell::page(&person.visit, Page { title: &format!("{name} · Settings"), live: None, content })
}

fn severity(severity: Severity) -> Markup {
    let (class, symbol, word) = match severity {
        Severity::Ok => ("green", "✓", "ok"),
        Severity::Warning => ("blocked", "!", "warning"),
        Severity::Error => ("red", "✕", "error"),
    };
    html! { span class={ "status s-" (class) } { span aria-hidden="true" { (symbol) } " " (word) } }
}

fn findings(findings: &[Finding]) -> Markup {
    html! { table.list {
        caption.hidden-title { "What was inspected" }
        thead { tr { th scope="col" { "State" } th scope="col" { "Subject" } th scope="col" { "Found" } } }
        tbody { @for finding in findings.iter().take(MAX_ROWS) { tr {
            td data-th="State" { (severity(finding.severity)) }
            td data-th="Subject" { (look::line(&finding.subject)) }
            td.wide data-th="Found" { (look::prose(&finding.detail))
                @if !finding.fix.is_empty() { br; span.quiet { "Fix: " (look::prose(&finding.fix)) } } }
        } } }
    } }
}

fn configuration(settings: &[Setting], query: &SettingsQuery) -> Markup {
    let is_changed = query.changed.is_some();
    let wanted = |setting: &&Setting| setting.key.contains(&query.q) && (!is_changed || setting.source != "default");
    let shown: Vec<&Setting> = settings.iter().filter(wanted).collect();
    html! {
        p.quiet { "As the files and the environment are now. Secrets are masked. Most keys take effect when the file is \
            saved; the others when the service starts again." }
        form.filters method="get" action="/settings/config" aria-label="Filter" {
            label.inline for="q" { "Key" }
            input #q name="q" value=(query.q) maxlength="100" autocomplete="off" placeholder="budget";
            label.check { input type="checkbox" name="changed" value="1" checked[is_changed]; "Only what is set" }
            button.button type="submit" { "Filter" }
        }
        @if shown.is_empty() {
            (look::empty("No key fits.", html! { a href="/settings/config" { "Show all" } }))
        } @else { table.list {
            caption.hidden-title { "Keys with their values and sources" }
            thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } th scope="col" { "Source" } } }
            tbody { @for setting in shown.iter().take(MAX_ROWS) { tr data-row {
                td data-th="Key" { code { (look::line(&setting.key)) } }
                td.wide data-th="Value" { code { (look::line(&setting.value)) } }
                td data-th="Source" { @if setting.source == "default" { span.quiet { "default" } }
                    @else { (look::line(&setting.source)) } }
            } } }
        } }
        @if shown.len() > MAX_ROWS { p.quiet { "Only the first " (MAX_ROWS) " are shown." } }
    }
}

fn engines(engines: &[EngineRow]) -> Markup {
    let groups = [("role", "Roles"), ("agent", "Agents"), ("provider", "Providers"), ("kind", "Kinds of engines")];
    html! {
        @for (what, name) in groups {
            section aria-labelledby=(what) {
                h2 id=(what) { (name) }
                @let rows: Vec<&EngineRow> = engines.iter().filter(|row| row.what == what).collect();
                @if rows.is_empty() { p.quiet { "None is configured." } }
                @else { table.list {
                    caption.hidden-title { (name) }
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Here" } th scope="col" { "What it is" } } }
                    tbody { @for row in rows.iter().take(MAX_ROWS) { tr {
                        td data-th="Name" { (look::line(&row.name)) }
                        td data-th="Here" { @if row.usable { span.status.s-green { span aria-hidden="true" { "✓" } " usable" } }
                            @else { span.status { span aria-hidden="true" { "○" } " not usable" } } }
                        td.wide data-th="What it is" { (look::prose(&row.detail)) }
                    } } }
                } }
            }
        }
        p.quiet { code { "skep engine test NAME" } " gives an engine a small task. Ratings are under "
            a href="/agents" { "Agents" } "." }
    }
}

fn sandbox(test: &SandboxTest) -> Markup {
    html! {
        p { "Level " strong { (look::line(&test.level)) } ". "
            @if test.holds { span.status.s-green { span aria-hidden="true" { "✓" } " Holds" } }
            @else { span.status.s-red { span aria-hidden="true" { "✕" } " Does not hold: no command is started" } } }
        p.quiet { (look::prose(&test.resource_limits)) }
        section aria-labelledby="actions" {
            h2 id="actions" { "Hostile actions that were tried" }
            table.list {
                caption.hidden-title { "Hostile actions" }
                thead { tr { th scope="col" { "Result" } th scope="col" { "Action" } th scope="col" { "Observed" } } }
                tbody { @for action in test.actions.iter().take(MAX_ROWS) { tr {
                    td data-th="Result" {
                        @match (action.blocked, action.must_block) {
                            (true, _) => span.status.s-green { span aria-hidden="true" { "✓" } " blocked" },
                            (false, true) => span.status.s-red { span aria-hidden="true" { "✕" } " succeeded" },
                            (false, false) => span.status { span aria-hidden="true" { "○" } " allowed here" },
                        }
                    }
                    td.wide data-th="Action" { (look::line(&action.action)) }
                    td.wide data-th="Observed" { (look::line(&action.observed)) }
                } } }
            }
            p.quiet { "As " code { "skep sandbox test" } " finds it, tried at most once a minute." }
        }
    }
}

fn runners(runners: &[RunnerRow]) -> Markup {
    html! { section aria-labelledby="runners" {
        h2 id="runners" { "Runners of checks" }
        table.list {
            caption.hidden-title { "Runners" }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" { "Where" }
                th scope="col" { "Used by" } } }
            tbody { @for runner in runners.iter().take(MAX_ROWS) { tr {
                td data-th="Name" { (look::line(&runner.name)) }
                td data-th="Kind" { (runner.kind) }
                td.wide data-th="Where" { (look::line(&runner.detail)) }
                td data-th="Used by" { (look::line(&runner.used_by.join(", "))) }
            } } }
        }
    } }
}
