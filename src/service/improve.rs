//! Recurring failures: found in journals, proposed, decided by people, and measured afterwards.
//!
//! Invariant: nothing here changes a configuration, a prompt or a repository. A person does, or does not.

mod publish;

use super::audit::record;
use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input};
use crate::domain::improve::record::EVENTS;
use crate::domain::improve::{
    ChangeKind, ImproveSettings, Measurement, Proposal, ProposalState, Rate, RunRecord, Signature, Symptom, symptoms,
};
use crate::domain::{Event, Principal, ProjectName, Run, RunId, Timestamp};
use crate::ports::PortError;
use crate::ports::journal::JournalRow;
use crate::ports::proposals::StoredProposal;
use crate::ports::run_index::RunFilter;
use crate::secrets::redact_all;
use sha2::{Digest, Sha256};

/// Runs that are listed at once, and events that are read at once.
const PAGE: u64 = 500;
/// Maximum number of runs that a pass lists. The newest are read.
const MAX_RUNS: usize = 10_000;
/// Maximum number of stored proposals that are read, and of symptoms that are reported.
const MAX_ROWS: u64 = 500;
const MAX_SYMPTOMS: usize = 50;
/// Shortest and longest window, in seconds.
const WINDOW_SECS: std::ops::RangeInclusive<u64> = 3_600..=366 * 24 * 3_600;
/// Digits of an id, and the fewest of them that find a proposal.
const ID_DIGITS: usize = 12;
const MIN_ID_DIGITS: usize = 4;

/// Request for a pass.
#[derive(Clone, Debug, Default)]
pub struct NewPass {
    /// Length of the window in seconds, instead of the configured one.
    pub since_secs: Option<u64>,
    /// Only this project.
    pub project: Option<String>,
    /// Whether nothing is stored.
    pub dry_run: bool,
    /// Whether open proposals are written to the issues of their projects.
    pub as_issue: bool,
}

/// Symptom with the rule that recognized it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSymptom {
    /// The symptom.
    pub symptom: Symptom,
    /// The rule, if one fits.
    pub rule: Option<String>,
    /// Whether it recurs enough to be proposed.
    pub exceeds: bool,
}

/// Result of a pass.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Start of the window.
    pub since: Timestamp,
    /// Runs read.
    pub runs: u64,
    /// Runs that could not be read.
    pub unreadable: u64,
    /// Whether there were more runs than a pass reads.
    pub is_cut: bool,
    /// Failures in the window.
    pub failures: u64,
    /// Those that no rule recognizes.
    pub unclassified: u64,
    /// Signatures of the failures, the most expensive and frequent first, at most 50.
    pub symptoms: Vec<FoundSymptom>,
    /// New proposals.
    pub proposed: Vec<Proposal>,
    /// Proposals whose measurement ended.
    pub measured: Vec<Proposal>,
    /// Proposals whose issue was written or updated.
    pub published: Vec<Proposal>,
    /// Why proposals could not be published.
    pub problems: Vec<String>,
}

/// Reads what failed, measures accepted proposals, and proposes what to change about failures that recur.
///
/// # Errors
/// `missing_right` without [`Right::Run`] ([`Right::Read`] for a dry run); `invalid`, `no_project`.
pub async fn pass(s: &Services, caller: &Caller, request: &NewPass) -> ServiceResult<Pass> {
    caller.require(if request.dry_run { Right::Read } else { Right::Run })?;
    let project = request.project.as_deref().map(input::project_name).transpose()?;
    let window_ms = window_ms(&s.improve, request.since_secs)?;
    let now = s.clock.now();
    let since = Timestamp(now.0.saturating_sub(window_ms));
    let stored = s.proposals.list_proposals(MAX_ROWS).await?;
    let testing = stored.iter().filter_map(|p| p.proposal.measurement.filter(|_| is_testing(&p.proposal)));
    let horizon = testing.map(|m| m.since).chain([since]).min().unwrap_or(since);
    let read = read_runs(s, project.as_ref(), horizon).await?;
    let found = symptoms(&read.records, since);
    let failures = found.iter().map(|symptom| symptom.hits).sum();
    let rule = |signature: &Signature| s.improve.rules.iter().find(|rule| rule.matches(signature));
    let unclassified = found.iter().filter(|f| rule(&f.signature).is_none()).map(|f| f.hits).sum();
    let mut pass = Pass {
        since,
        runs: read.records.len() as u64,
        unreadable: read.unreadable,
        is_cut: read.is_cut,
        failures,
        unclassified,
        symptoms: Vec::new(),
        proposed: Vec::new(),
        measured: Vec::new(),
        published: Vec::new(),
        problems: Vec::new(),
    };
    for StoredProposal { proposal, revision } in &stored {
        let in_scope = project.as_ref().is_none_or(|only| *only == proposal.project);
        if let Some(measured) = Some(proposal).filter(|_| in_scope).and_then(|p| measured(p, &read.records, now)) {
            if !request.dry_run && s.proposals.update_proposal(&measured, *revision).await? && !is_testing(&measured) {
                reverse_harm(s, &measured, now).await?;
            }
            pass.measured.extend(Some(measured).filter(|p| !is_testing(p)));
        }
    }
    pass.proposed = propose(s, &found, &stored, (request.dry_run, now)).await?;
    let found_symptom = |symptom: Symptom| FoundSymptom {
        rule: rule(&symptom.signature).map(|rule| rule.id.clone()),
        exceeds: symptom.exceeds(&s.improve.threshold),
        symptom,
    };
    pass.symptoms = found.into_iter().take(MAX_SYMPTOMS).map(found_symptom).collect();
    if request.as_issue && !request.dry_run {
        publish::publish_open(s, project.as_ref(), &mut pass).await?;
    }
    if !request.dry_run {
        for proposal in &pass.proposed {
            record(s, caller, "improve.propose", subject(proposal), &proposal.title).await;
        }
    }
    Ok(pass)
}

fn window_ms(settings: &ImproveSettings, secs: Option<u64>) -> ServiceResult<i64> {
    let Some(secs) = secs else { return Ok(settings.window_ms) };
    if !WINDOW_SECS.contains(&secs) {
        return Err(ServiceError::invalid("since: must be one hour to 366 days", "Write a duration such as 14d"));
    }
    Ok(i64::try_from(secs.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

fn is_testing(proposal: &Proposal) -> bool {
    proposal.state == ProposalState::Testing
}

fn subject(proposal: &Proposal) -> String {
    format!("proposal:{}", proposal.id)
}

/// Returns the id of the proposal for a signature in a project.
fn id_of(project: &ProjectName, text: &str) -> String {
    let digest = Sha256::digest(format!("{}\n{text}", project.as_str()));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(ID_DIGITS).collect()
}

/// Stores proposals for the symptoms above the threshold: those that a rule recognizes first.
async fn propose(
    s: &Services,
    found: &[Symptom],
    stored: &[StoredProposal],
    (dry_run, now): (bool, Timestamp),
) -> ServiceResult<Vec<Proposal>> {
    let rule_of = |symptom: &Symptom| s.improve.rules.iter().find(|rule| rule.matches(&symptom.signature));
    let mut above: Vec<&Symptom> = found.iter().filter(|symptom| symptom.exceeds(&s.improve.threshold)).collect();
    above.sort_by_key(|symptom| rule_of(symptom).is_none());
    let open = stored.iter().filter(|p| p.proposal.state == ProposalState::Open).count();
    let room = (s.improve.most as usize).saturating_sub(open);
    let mut proposed = Vec::new();
    for symptom in above {
        if proposed.len() >= room {
            break;
        }
        let id = id_of(&symptom.project, &symptom.signature.text());
        let known = stored.iter().find(|p| p.proposal.id == id);
        if known.is_some_and(|p| p.proposal.silences(now)) {
            continue;
        }
        let proposal = redacted(Proposal::of(id, symptom, rule_of(symptom), now));
        let replaced = known.map(|p| p.revision);
        // Another pass may have stored it in the meantime.
        if dry_run || s.proposals.open_proposal(&proposal, s.improve.most, replaced).await? {
            proposed.push(proposal);
        }
    }
    Ok(proposed)
}

/// Redacts the texts of a proposal. The journal is redacted already; a secret may have become known since.
fn redacted(mut proposal: Proposal) -> Proposal {
    let Signature { tool, line, .. } = &mut proposal.signature;
    for text in [tool, line, &mut proposal.title, &mut proposal.change] {
        *text = redact_all(text).into_owned();
    }
    proposal
}

/// Returns a proposal with its new measurement, and its new state if the measurement is over.
fn measured(proposal: &Proposal, records: &[RunRecord], now: Timestamp) -> Option<Proposal> {
    let measurement = proposal.measurement.filter(|_| is_testing(proposal))?;
    let subject = (&proposal.project, &proposal.signature);
    let period = (measurement.since, Timestamp(i64::MAX));
    let after = Rate::of(records, subject, period, Measurement::MAX_ENDS as usize);
    let measurement = Measurement { after, ..measurement };
    let mut measured = Proposal { measurement: Some(measurement), ..proposal.clone() };
    if let Some(state) = measurement.verdict(now) {
        (measured.state, measured.decided_at) = (state, Some(now));
    }
    (measured != *proposal).then_some(measured)
}

/// Proposes to undo a change that made its failure more frequent, however many proposals are open.
async fn reverse_harm(s: &Services, harmful: &Proposal, now: Timestamp) -> ServiceResult<()> {
    if harmful.state != ProposalState::Worse || harmful.kind == ChangeKind::Revert {
        return Ok(());
    }
    let id = id_of(&harmful.project, &format!("revert {}", harmful.id));
    let known = s.proposals.list_proposals(MAX_ROWS).await?.into_iter().find(|p| p.proposal.id == id);
    let replaced = known.filter(|p| !p.proposal.silences(now)).map(|p| p.revision);
    s.proposals.open_proposal(&harmful.reversal(id, now), u32::MAX, replaced).await?;
    Ok(())
}

/// Lists proposals, newest first.
///
/// # Errors
/// `missing_right` without [`Right::Read`].
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<Proposal>> {
    caller.require(Right::Read)?;
    Ok(s.proposals.list_proposals(MAX_ROWS).await?.into_iter().map(|stored| stored.proposal).collect())
}

/// Returns a proposal, found by its id or the beginning of it.
///
/// # Errors
/// `no_proposal`, `several_proposals`.
pub async fn show(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Proposal> {
    caller.require(Right::Read)?;
    Ok(find(s, id).await?.proposal)
}

async fn find(s: &Services, id: &str) -> ServiceResult<StoredProposal> {
    let all = s.proposals.list_proposals(MAX_ROWS).await?;
    let is_long_enough = id.len() >= MIN_ID_DIGITS;
    let mut fits = all.into_iter().filter(|p| is_long_enough && p.proposal.id.starts_with(id));
    match (fits.next(), fits.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            let detail = format!("{} is the beginning of several proposals", shown(id));
            Err(ServiceError::conflict("several_proposals", detail, "Give more digits"))
        }
        (None, _) => {
            let detail = format!("there is no proposal {}", shown(id));
            let fix = "List the proposals; an id may be shortened to its first four digits or more";
            Err(ServiceError::not_found("no_proposal", detail, fix))
        }
    }
}

/// Accepts a proposal: a person makes the change, and its effect is measured from now on.
///
/// # Errors
/// `missing_right` without [`Right::Approve`]; `not_a_person`, `no_proposal`, `not_open`.
pub async fn accept(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Proposal> {
    let person = person(caller)?;
    let StoredProposal { mut proposal, revision } = find(s, id).await?;
    require_state(&proposal, &[ProposalState::Open])?;
    let now = s.clock.now();
    let start = Timestamp(now.0.saturating_sub(s.improve.window_ms));
    let records = read_runs(s, Some(&proposal.project), start).await?.records;
    let before = Rate::of(&records, (&proposal.project, &proposal.signature), (start, now), usize::MAX);
    proposal.measurement = Some(Measurement { since: now, before, after: Rate::default() });
    decide(s, caller, (proposal, revision), (ProposalState::Testing, person, now), "").await
}

/// Drops a proposal. Its failure is not proposed again for 90 days.
///
/// # Errors
/// `missing_right` without [`Right::Approve`]; `not_a_person`, `invalid`, `no_proposal`, `not_open`.
pub async fn drop_proposal(s: &Services, caller: &Caller, id: &str, why: &str) -> ServiceResult<Proposal> {
    let person = person(caller)?;
    let why: String = redact_all(why.trim()).chars().filter(|c| !c.is_control()).collect();
    if why.is_empty() || why.chars().count() > Proposal::MAX_WHY_CHARS {
        let detail = format!("why: must have 1 to {} characters", Proposal::MAX_WHY_CHARS);
        return Err(ServiceError::invalid(detail, "Say in a sentence why it is not worth doing"));
    }
    let StoredProposal { mut proposal, revision } = find(s, id).await?;
    require_state(&proposal, &[ProposalState::Open, ProposalState::Testing])?;
    proposal.why = Some(why.clone());
    decide(s, caller, (proposal, revision), (ProposalState::Dropped, person, s.clock.now()), &why).await
}

fn person(caller: &Caller) -> ServiceResult<Principal> {
    caller.require(Right::Approve)?;
    if caller.principal.is_person() {
        return Ok(caller.principal.clone());
    }
    let detail = format!("{} is not a person, and only people decide on proposals", caller.principal);
    Err(ServiceError::forbidden("not_a_person", detail, "Use the token of a person"))
}

fn require_state(proposal: &Proposal, states: &[ProposalState]) -> ServiceResult<()> {
    if states.contains(&proposal.state) {
        return Ok(());
    }
    let detail = format!("proposal {} is {} already", proposal.id, proposal.state.name());
    Err(ServiceError::conflict("not_open", detail, "List the proposals to see their states"))
}

async fn decide(
    s: &Services,
    caller: &Caller,
    (mut proposal, revision): (Proposal, u64),
    (state, person, now): (ProposalState, Principal, Timestamp),
    why: &str,
) -> ServiceResult<Proposal> {
    (proposal.state, proposal.decided_by, proposal.decided_at) = (state, Some(person), Some(now));
    if !s.proposals.update_proposal(&proposal, revision).await? {
        let detail = format!("proposal {} was changed in the meantime", proposal.id);
        return Err(ServiceError::conflict("changed", detail, "Show it, and decide again if that still fits"));
    }
    record(s, caller, &format!("improve.{}", state.name()), subject(&proposal), why).await;
    Ok(proposal)
}

/// What the runs of a window show.
struct ReadRuns {
    records: Vec<RunRecord>,
    unreadable: u64,
    is_cut: bool,
}

/// Reads all runs that were written since `since`, ended or not.
async fn read_runs(s: &Services, project: Option<&ProjectName>, since: Timestamp) -> ServiceResult<ReadRuns> {
    let mut read = ReadRuns { records: Vec::new(), unreadable: 0, is_cut: false };
    let (mut before, mut listed) = (None, 0);
    loop {
        let filter = RunFilter { projects: project.cloned().into(), before, limit: PAGE, ..RunFilter::default() };
        let page = s.store.list(&filter).await?;
        listed += page.len();
        for row in page.iter().filter(|row| row.updated_at >= since) {
            match read_run(s, row.run).await {
                Ok(Some(record)) => read.records.push(record),
                Ok(None) | Err(PortError::Permanent { .. }) => read.unreadable += 1,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(last) = page.last().filter(|_| page.len() as u64 == PAGE) else { return Ok(read) };
        if listed >= MAX_RUNS {
            read.is_cut = true;
            return Ok(read);
        }
        before = Some(last.run);
    }
}

/// Reads a run; `None` if there is none, or if an event that counts cannot be read: the rest could prove too much.
async fn read_run(s: &Services, id: RunId) -> Result<Option<RunRecord>, PortError> {
    let Some(run): Option<Run> = s.store.load(id).await? else { return Ok(None) };
    let mut events: Vec<(Event, Timestamp)> = Vec::new();
    let mut after = 0;
    loop {
        let rows = s.store.events(id, after, PAGE).await?;
        let (last, is_last) = (rows.last().map(|row| row.seq), (rows.len() as u64) < PAGE);
        let known = rows.into_iter().filter(|row| EVENTS.contains(&row.name.as_str()));
        let decode = |row: JournalRow| Some((serde_json::from_value(row.event?).ok()?, row.at));
        let Some(decoded) = known.map(decode).collect::<Option<Vec<_>>>() else { return Ok(None) };
        events.extend(decoded);
        match last {
            Some(last) if !is_last => after = last,
            _ => break,
        }
    }
    Ok(Some(RunRecord::of(&run, events.iter().map(|(event, at)| (event, *at)))))
}
