//! Sponsors of projects.

use super::super::audit::record;
use super::super::error::shown;
use super::super::{Caller, Right, ServiceError, ServiceResult, Services, projects};
use crate::domain::ProjectName;
use crate::domain::deployment::{Coverage, Sponsor, SponsorState};
use crate::ports::PortResult;

/// Longest name and remark, in characters.
const MAX_CHARS: usize = 200;

/// Sponsor to add.
#[derive(Clone, Debug, Default)]
pub struct NewSponsor {
    /// The project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Whether it covers hosting.
    pub hosting: bool,
    /// Whether it covers the domain.
    pub domain: bool,
    /// What it gives each month, in micro-USD.
    pub monthly_micros: Option<u64>,
    /// Whether its name may be shown to everyone.
    pub public: bool,
    /// Remarks.
    pub notes: String,
}

/// Returns whether somebody pays for the hosting of a project.
///
/// # Errors
/// If the store is not available.
pub(super) async fn coverage(s: &Services, project: &ProjectName) -> PortResult<Coverage> {
    Ok(Coverage::of(&s.deploy.store.sponsors().await?, project, s.clock.now()))
}

/// Lists the sponsors, by project and name.
///
/// # Errors
/// If the caller may not read.
pub async fn list_sponsors(s: &Services, caller: &Caller) -> ServiceResult<Vec<Sponsor>> {
    caller.require_somewhere(Right::Read)?;
    let mut sponsors = s.deploy.store.sponsors().await?;
    sponsors.retain(|sponsor| caller.has(Right::Read, &sponsor.project));
    Ok(sponsors)
}

/// Adds a sponsor, or replaces one of the same project and name.
///
/// # Errors
/// If the caller may not, there is no such project, or the name is unusable.
pub async fn add_sponsor(s: &Services, caller: &Caller, new: NewSponsor) -> ServiceResult<Sponsor> {
    caller.require(Right::Admin)?;
    let project = projects::find(s, &new.project).await?.name;
    let is_line = |text: &str| text.chars().count() <= MAX_CHARS && !text.contains(char::is_control);
    if new.name.trim().is_empty() || !is_line(&new.name) || !is_line(&new.notes) {
        let detail = format!("name, notes: {} is empty, or longer than {MAX_CHARS} characters", shown(&new.name));
        return Err(ServiceError::invalid(detail, "Write short lines"));
    }
    let sponsor = Sponsor {
        name: new.name.trim().to_owned(),
        project,
        hosting: new.hosting,
        domain: new.domain,
        monthly_micros: new.monthly_micros,
        is_public: new.public,
        notes: new.notes,
        since: s.clock.now(),
        paused_at: None,
        until: None,
    };
    s.deploy.store.put_sponsor(&sponsor).await?;
    record(s, caller, "sponsor.add", format!("project:{}", sponsor.project), &sponsor.name).await;
    Ok(sponsor)
}

/// What happens to a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SponsorAct {
    /// It does not pay for now.
    Pause,
    /// It pays again.
    Resume,
    /// It pays no longer.
    End,
}

/// Pauses, resumes or ends a sponsor.
///
/// # Errors
/// If the caller may not, there is no such sponsor, or it has ended.
pub async fn change_sponsor(
    s: &Services,
    caller: &Caller,
    project: &str,
    name: &str,
    act: SponsorAct,
) -> ServiceResult<Sponsor> {
    caller.require(Right::Admin)?;
    let all = s.deploy.store.sponsors().await?;
    let found = all.into_iter().find(|sponsor| sponsor.project.as_str() == project && sponsor.name == name);
    let Some(mut sponsor) = found else {
        let detail = format!("project {} has no sponsor {}", shown(project), shown(name));
        return Err(ServiceError::not_found("no_sponsor", detail, "`skep sponsor list` lists the sponsors"));
    };
    let now = s.clock.now();
    if act != SponsorAct::End && sponsor.state(now) == SponsorState::Ended {
        let detail = format!("{} no longer sponsors {}", shown(name), shown(project));
        return Err(ServiceError::conflict("ended", detail, "`skep sponsor add` adds it again"));
    }
    let action = match act {
        SponsorAct::Pause => {
            // A second pause does not put off what follows from the first.
            sponsor.paused_at.get_or_insert(now);
            "sponsor.pause"
        }
        SponsorAct::Resume => {
            sponsor.paused_at = None;
            "sponsor.resume"
        }
        SponsorAct::End => {
            sponsor.until = Some(sponsor.until.map_or(now, |until| until.min(now)));
            "sponsor.end"
        }
    };
    s.deploy.store.put_sponsor(&sponsor).await?;
    record(s, caller, action, format!("project:{}", sponsor.project), &sponsor.name).await;
    s.deploy.wake.notify_waiters();
    Ok(sponsor)
}
