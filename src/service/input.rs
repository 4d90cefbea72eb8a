//! Parsing and bounds of callers' input.

use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services};
use crate::domain::status::RunStatus;
use crate::domain::{BlockId, BudgetKind, CheckSpec, Day, EngineSpec, ProjectName, Role, Sha, Timestamp};
use crate::render;
use std::collections::BTreeMap;

/// Maximum number of rows of one answer.
const MAX_ROWS: u64 = 500;
const DEFAULT_ROWS: u64 = 100;
/// Maximum number of checks of one request.
const MAX_CHECKS: usize = 32;
/// Maximum bytes of a command line, path or branch.
const MAX_LINE_BYTES: usize = 4096;
/// Maximum bytes of a review or comment.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Returns the number of rows an answer may have.
pub(super) fn rows(limit: Option<u64>) -> ServiceResult<u64> {
    match limit.unwrap_or(DEFAULT_ROWS) {
        limit @ 1..=MAX_ROWS => Ok(limit),
        _ => Err(ServiceError::invalid(format!("limit: must be 1 to {MAX_ROWS}"), "Page with `before` or `after`")),
    }
}

/// Parses engines, `KIND[:ARG]` by role. A script is a file of the service's machine: its errors quote it, so only an
/// administrator names one.
pub(super) fn engines(caller: &Caller, texts: &BTreeMap<Role, String>) -> ServiceResult<BTreeMap<Role, EngineSpec>> {
    let engines: BTreeMap<Role, EngineSpec> =
        texts.iter().map(|(role, text)| (*role, EngineSpec::parse(text))).collect();
    if engines.values().any(|spec| spec.kind == "script" && !spec.arg.starts_with("demo:")) {
        caller.require(Right::Admin)?;
    }
    Ok(engines)
}

/// Builds checks from command lines.
pub(super) fn checks(s: &Services, commands: &[String]) -> ServiceResult<Vec<CheckSpec>> {
    if commands.len() > MAX_CHECKS {
        return Err(ServiceError::invalid(format!("checks: more than {MAX_CHECKS}"), "Put them into one script"));
    }
    lines(commands)?;
    if commands.iter().any(|c| c.trim().is_empty()) {
        return Err(ServiceError::invalid("checks: a command is empty", "Leave it out"));
    }
    Ok((s.checks_from)(commands))
}

/// Refuses limits, and amounts to add to them, that only a mistake can ask for.
pub(super) fn amounts(asked: impl IntoIterator<Item = (BudgetKind, u64)>) -> ServiceResult<()> {
    match asked.into_iter().find(|(kind, amount)| *amount > kind.maximum()) {
        None => Ok(()),
        Some((kind, _)) => {
            let max = match kind {
                BudgetKind::Cost => render::money(kind.maximum()),
                BudgetKind::Time | BudgetKind::StepTime => render::duration(kind.maximum() * 1_000),
                _ => kind.maximum().to_string(),
            };
            Err(ServiceError::invalid(format!("{}: more than {max}", kind.name()), "Give a smaller amount"))
        }
    }
}

/// Refuses lines that cannot be a command line, path or branch.
pub(super) fn lines<'a>(lines: impl IntoIterator<Item = &'a String>) -> ServiceResult<()> {
    for line in lines {
        if line.len() > MAX_LINE_BYTES || line.contains('\0') {
            let detail = format!("{}… is longer than {MAX_LINE_BYTES} bytes or contains a NUL", shown(line));
            return Err(ServiceError::invalid(detail, "Shorten it, or put it into a script"));
        }
    }
    Ok(())
}

/// Parses the id of a commit: all hexadecimal digits of its SHA-1 or SHA-256.
pub(super) fn sha(text: &str) -> ServiceResult<Sha> {
    match matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(Sha(text.to_ascii_lowercase())),
        false => {
            let detail = format!("sha: {} is not the full id of a commit", shown(text));
            Err(ServiceError::invalid(detail, "Give all of its 40 or 64 hexadecimal digits"))
        }
    }
}

/// Refuses a review or comment that is too long.
pub(super) fn text(text: &str) -> ServiceResult<()> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(ServiceError::invalid("text: longer than 64 KiB", "Shorten it, or refer to a file in the repository"))
}

/// Parses a project name.
pub(super) fn project_name(text: &str) -> ServiceResult<ProjectName> {
    // The error repeats the name, so it is cut first.
    let cut: String = text.chars().take(80).collect();
    ProjectName::new(&cut).map_err(|what| ServiceError::invalid(what, "List the projects to see their names"))
}

/// Checks a status word of the run list.
pub(super) fn status(text: &str) -> ServiceResult<String> {
    let known: Result<RunStatus, _> = serde_json::from_value(text.into());
    if known.is_ok() || text == "quarantined" {
        return Ok(text.to_owned());
    }
    Err(ServiceError::invalid(
        format!("status: unknown status word {}", shown(text)),
        "Use pending, planning, planned, running, paused, blocked, failed, cancelled, completed or quarantined",
    ))
}

/// Parses a block id, `b1` or `#b1`.
pub(super) fn block(text: &str) -> ServiceResult<BlockId> {
    let digits = text.strip_prefix('#').unwrap_or(text).strip_prefix('b');
    digits.and_then(|d| d.parse().ok()).map(BlockId).ok_or_else(|| {
        ServiceError::invalid(format!("block: {} is not a block id", shown(text)), "Blocks are named b1, b2, …")
    })
}

/// Parses a UTC day, `2026-11-21` or `today`.
pub(super) fn day(s: &Services, text: &str) -> ServiceResult<Day> {
    if text == "today" {
        return Ok(Day::of(s.clock.now()));
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let at = date.and_then(|d| d.and_hms_opt(0, 0, 0)).map(|t| Timestamp(t.and_utc().timestamp_millis()));
    at.map(Day::of).ok_or_else(|| {
        ServiceError::invalid(format!("day: {} is not a day", shown(text)), "Write it as 2026-11-21, or `today`")
    })
}
