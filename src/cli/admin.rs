//! Administration: `serve`, `config check`, `migrate`, `doctor`, `sandbox test`.

use super::args::Isolation;
use super::client::{Client, Driver};
use super::context::CliContext;
use super::exit::{CliError, ExitStatus, Stop};
use super::network;
use super::terminal::{Style, Terminal};
use super::text::{brief, shell_quoted, table};
use super::unread_config::{UnreadConfig, unread_config};
use crate::http::backend::{ServiceReady, local_url};
use crate::http::rest::wire::LoginLink;
use crate::render;
use crate::service::host::{Diagnosis, Finding, IsolationLevel, Severity};
use serde_json::json;

/// `skep serve`.
pub async fn serve(cli: &CliContext<'_>, listen: Option<&str>) -> Result<ExitStatus, Stop> {
    let greet = |ready: ServiceReady| {
        // The service runs on even if its output is closed.
        let _unread = greeting(cli.terminal, &ready);
    };
    cli.backend.serve(cli.host, listen, &greet).await?;
    Ok(ExitStatus::Success)
}

/// `skep open`: prints a new login link for the pages.
pub async fn open(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let Some(service) = cli.backend.running_service(cli.host).await? else {
        return Err(CliError::unavailable(
            "no service is running on this data directory, and the pages belong to a service",
            "start one with `skep serve`; it prints a login link, too",
        )
        .into());
    };
    let driver = Driver { is_service: service.is_service, pid: service.pid };
    let client = Client::remote(&service.base_url, &service.token, driver)?;
    let link: LoginLink = client.post("/login-links", &json!({}), None).await?;
    let address = service.base_url.strip_prefix("http://").and_then(|a| a.parse().ok());
    let url = address.map_or_else(|| format!("{}{}", service.base_url, link.path), |a| local_url(a, &link.path));
    cli.terminal.object(&json!({ "url": url, "ends_at": link.ends_at }))?;
    cli.terminal.print(&url)?;
    cli.terminal.suggest("Open it in a browser. It logs you in once, within ten minutes.")?;
    Ok(ExitStatus::Success)
}

/// Prints where a service listens, what it uses and what deserves attention.
fn greeting(terminal: &Terminal, ready: &ServiceReady) -> Result<(), Stop> {
    let (address, data_dir) = (ready.address, ready.data_dir.display());
    let startup_ms = u64::try_from(ready.startup.as_millis()).unwrap_or(u64::MAX);
    terminal.object(&json!({
        "ready": true, "address": address.to_string(), "data_dir": data_dir.to_string(), "ready_ms": startup_ms,
        "max_live_runs": ready.max_live_runs, "sandbox": ready.sandbox, "engines": ready.engines, "prices": ready.prices,
    }))?;
    terminal.print(&format!("Skep {} is ready after {startup_ms} ms.", env!("CARGO_PKG_VERSION")))?;
    let line = |name: &str, text: &str| terminal.print(&format!("  {name:<15} {text}"));
    if let Some(login) = &ready.login {
        // Only for a person who reads it: the JSON form is for programs, and its output is often stored.
        line("pages", &local_url(address, login))?;
        line("", "(this link logs in once, within ten minutes; `skep open` prints a new one)")?;
    }
    line("API", &format!("http://{address}/api/v1 (token in {data_dir}/token)"))?;
    line("data directory", &data_dir.to_string())?;
    line("parallel runs", &ready.max_live_runs.to_string())?;
    line(
        "merges",
        if ready.approve_merge { "need the approval of a person" } else { "automatic where policy allows" },
    )?;
    line(
        "sandbox",
        match ready.sandbox {
            "none" => "none: commands run with the rights of this user",
            level => level,
        },
    )?;
    for (role, spec) in &ready.engines {
        line(role, spec)?;
    }
    for finding in &ready.findings {
        let fix = if finding.fix.is_empty() { String::new() } else { format!(" ({})", finding.fix) };
        line(&finding.subject, &format!("{}{fix}", finding.detail))?;
    }
    Ok(())
}

/// Longest value in a table; --json has all of it.
const MAX_VALUE_CHARS: usize = 100;

/// `skep config check`.
pub async fn config_check(cli: &CliContext<'_>, changed: bool) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let mut settings = cli.backend.settings(cli.host).await?;
    settings.retain(|s| !changed || s.source != "default");
    let unread = unread_config(cli, None).map(|UnreadConfig { detail, fix }| format!("{detail}: {fix}"));
    let mut object = json!({ "settings": settings });
    if let Some(note) = &unread {
        object["note"] = json!(note);
    }
    terminal.object(&object)?;
    let rows =
        settings.into_iter().map(|s| vec![s.key, brief(&s.value, MAX_VALUE_CHARS), s.source]).collect::<Vec<_>>();
    if !rows.is_empty() {
        terminal.print(&table(&["key", "value", "source"], rows, terminal.width))?;
    }
    terminal.styled(Style::Green, "The configuration is valid.")?;
    if let Some(note) = unread {
        terminal.line(Style::Yellow, &format!("note: {note}"))?;
    }
    Ok(ExitStatus::Success)
}

/// `skep migrate`.
pub async fn migrate(cli: &CliContext<'_>, status_only: bool) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    // A service writes with the schema it knows, so the schema must not change while it runs.
    if !status_only && let Some(service) = cli.backend.running_service(cli.host).await? {
        return Err(CliError::unavailable(
            format!("the service at {} is using the store of this data directory", service.base_url),
            "stop the service, then migrate; a service also migrates when it starts",
        )
        .into());
    }
    let steps = cli.backend.migrate(cli.host, status_only).await?;
    terminal.object(&json!({ "steps": steps }))?;
    let pending = steps.iter().filter(|s| !s.applied).count();
    for step in &steps {
        let (style, word) = if step.applied { (Style::Green, "applied") } else { (Style::Yellow, "pending") };
        terminal.line(style, &format!("  {word:<8} {}", step.name))?;
    }
    match pending {
        0 => terminal.print("The store's schema is up to date.")?,
        1 => terminal.suggest("1 step is pending. Apply it with `skep migrate`.")?,
        n => terminal.suggest(&format!("{n} steps are pending. Apply them with `skep migrate`."))?,
    }
    Ok(ExitStatus::Success)
}

/// `skep doctor`.
pub async fn doctor(cli: &CliContext<'_>, propose: bool) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let Diagnosis { mut findings, proposed_config } = cli.backend.doctor(cli.host).await?;
    let is_healthy = !findings.iter().any(|f| f.severity == Severity::Error);
    if let Some(UnreadConfig { detail, fix }) = unread_config(cli, None) {
        let subject = "configuration".to_owned();
        findings.push(Finding { subject, severity: Severity::Warning, detail, fix });
    }
    // The vault is inspected only in a store that exists; another one knows no project, and is not created here.
    let has_store = findings.iter().any(|f| f.subject == "vault");
    if is_healthy && has_store && !propose {
        findings.extend(network::inspect(cli).await?);
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    terminal.object(&json!({ "healthy": errors == 0, "findings": findings, "proposed_config": proposed_config }))?;
    if propose {
        // Print the configuration alone, so that it can be redirected into a file.
        if proposed_config.is_empty() {
            let first = findings.iter().find(|f| f.severity == Severity::Error).map_or("", |f| f.detail.as_str());
            return Err(CliError::config(first, "fix this first: the proposal builds on the configuration").into());
        }
        let path = cli.host.sources.file.clone().unwrap_or_else(|| cli.host.sources.data_dir.join("skep.toml"));
        let is_there = path.exists();
        let path = shell_quoted(&path.display().to_string());
        match is_there {
            // The shell would empty the file before Skep reads it.
            true => terminal.suggest(&format!("# To use it, add to {path} what it lacks:"))?,
            false => terminal.suggest(&format!("# To use it: `skep doctor --propose > {path}`"))?,
        }
        terminal.print(proposed_config.trim_end())?;
        return Ok(ExitStatus::Success);
    }
    for finding in &findings {
        let (style, word) = match finding.severity {
            Severity::Ok => (Style::Green, "ok"),
            Severity::Warning => (Style::Yellow, "warning"),
            Severity::Error => (Style::Red, "error"),
        };
        let mut lines = finding.detail.lines();
        let first = lines.next().unwrap_or_default();
        terminal.prose(style, &format!("  {word:<7} {:<14} {first}", finding.subject), 25)?;
        for line in lines {
            terminal.prose(style, &format!("{:25}{}", "", line.trim()), 27)?;
        }
        if !finding.fix.is_empty() {
            let fix = terminal.with_options(&finding.fix);
            terminal.line(Style::Plain, &format!("          {:<14} fix: {fix}", ""))?;
        }
    }
    if proposed_config.contains("[role.") {
        terminal.suggest("`skep doctor --propose` prints a configuration for this machine.")?;
    }
    match errors {
        0 => {
            let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
            terminal.print(&match warnings {
                0 => "Everything Skep needs is in place.".to_owned(),
                n => format!("Everything Skep needs is in place, with {} above.", render::count(n as u64, "warning")),
            })?;
            return Ok(ExitStatus::Success);
        }
        1 => terminal.styled(Style::Red, "1 problem found.")?,
        n => terminal.styled(Style::Red, &format!("{n} problems found."))?,
    }
    Ok(ExitStatus::Config)
}

/// `skep sandbox test`.
pub async fn sandbox_test(cli: &CliContext<'_>, level: Option<Isolation>) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let level = level.map(|level| match level {
        Isolation::Strict => IsolationLevel::Strict,
        Isolation::Landlock => IsolationLevel::Landlock,
    });
    let tested = cli.backend.test_sandbox(cli.host, level).await?;
    terminal.object(&json!(tested))?;
    let rows = tested.actions.iter().map(|a| {
        let expected = if a.must_block { "blocked" } else { "may succeed" };
        let result = if a.blocked { "blocked" } else { "SUCCEEDED" };
        vec![a.action.clone(), expected.to_owned(), result.to_owned(), a.observed.clone()]
    });
    terminal.print(&table(&["hostile action", "expected", "result", "observed"], rows.collect(), terminal.width))?;
    terminal.print(&tested.resource_limits)?;
    if tested.holds {
        terminal.styled(Style::Green, &format!("The sandbox holds at level {}.", tested.level))?;
        return Ok(ExitStatus::Success);
    }
    let failed = format!("The sandbox does not hold at level {}: Skep starts no command with it.", tested.level);
    terminal.styled(Style::Red, &failed)?;
    Ok(ExitStatus::Config)
}
