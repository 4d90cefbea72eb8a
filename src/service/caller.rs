//! Callers: who calls a use case, through which surface, with which rights.

use super::error::{ServiceError, ServiceResult};
use crate::domain::{AccessRole, Principal, ProjectName, ProjectSet};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Right of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read projects, runs, changes, spending and the names of secrets.
    Read,
    /// Open runs and steer them: answer, pause, resume, cancel, retry.
    Run,
    /// Approve and decline what runs ask approval for, and what Skep stopped for safety.
    Approve,
    /// Act on changes: review, comment, merge, close, report a status.
    Review,
    /// Raise budgets.
    Budget,
    /// Store and remove secrets.
    Secrets,
    /// Add and replace projects.
    Projects,
    /// Administer the service: read the audit log, rekey the vault, lift a quarantine.
    Admin,
    /// Read the metrics, which cover all projects and the process.
    Metrics,
    /// Manage people, access tokens and agents. No access token has it: a stolen one cannot create others.
    People,
    /// Take open work and submit it. Only outside agents have it: no role, and no other token.
    Work,
    /// Register as an outside agent. Only an invite code has it.
    Register,
}

impl Right {
    /// All rights of people and programs.
    pub const ALL: [Right; 10] = [
        Right::Read,
        Right::Run,
        Right::Approve,
        Right::Review,
        Right::Budget,
        Right::Secrets,
        Right::Projects,
        Right::Admin,
        Right::Metrics,
        Right::People,
    ];

    /// Returns the rights of a role.
    pub fn of_role(role: AccessRole) -> BTreeSet<Right> {
        let least = |right: &Right| match right {
            Right::Read => Some(AccessRole::Viewer),
            Right::Run => Some(AccessRole::Member),
            Right::Approve | Right::Review | Right::Budget => Some(AccessRole::Approver),
            Right::Secrets | Right::Projects | Right::Admin | Right::Metrics | Right::People => Some(AccessRole::Admin),
            Right::Work | Right::Register => None,
        };
        Right::ALL.into_iter().filter(|right| least(right).is_some_and(|least| least <= role)).collect()
    }

    /// Returns whether the right can be had in a single project.
    pub fn is_of_projects(self) -> bool {
        matches!(self, Right::Read | Right::Run | Right::Approve | Right::Review | Right::Budget)
    }

    /// Returns the right with this name.
    pub fn named(name: &str) -> Option<Right> {
        Right::ALL.into_iter().find(|right| right.name() == name)
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Run => "run",
            Right::Approve => "approve",
            Right::Review => "review",
            Right::Budget => "budget",
            Right::Secrets => "secrets",
            Right::Projects => "projects",
            Right::Admin => "admin",
            Right::Metrics => "metrics",
            Right::People => "people",
            Right::Work => "work",
            Right::Register => "register",
        }
    }
}

/// Surface that a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// REST, the command line included.
    Rest,
    /// A page.
    Page,
    /// The Model Context Protocol: an agent acts with a person's token.
    Mcp,
    /// A comment or a label on a forge.
    Forge,
    /// A schedule.
    Schedule,
    /// The watch over what runs have landed.
    Watch,
}

impl Via {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Via::Rest => "rest",
            Via::Page => "page",
            Via::Mcp => "mcp",
            Via::Forge => "forge",
            Via::Schedule => "schedule",
            Via::Watch => "watch",
        }
    }
}

/// Caller of a use case.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Principal it acts as.
    pub principal: Principal,
    /// Rights it has in all projects, and in what belongs to no project.
    pub rights: BTreeSet<Right>,
    /// Rights it has in single projects besides.
    pub in_projects: BTreeMap<ProjectName, BTreeSet<Right>>,
    /// Surface it came through.
    pub via: Via,
}

impl Caller {
    /// A caller with the same rights in all projects.
    pub fn new(principal: Principal, rights: BTreeSet<Right>, via: Via) -> Caller {
        Caller { principal, rights, in_projects: BTreeMap::new(), via }
    }

    /// A caller with every right.
    pub fn with_all_rights(principal: Principal, via: Via) -> Caller {
        Caller::new(principal, Right::ALL.into(), via)
    }

    /// Returns the caller as it acts through another surface: with only those of its rights that `allowed` contains.
    pub fn limited_to(&self, allowed: &BTreeSet<Right>, via: Via) -> Caller {
        let both = |rights: &BTreeSet<Right>| rights.intersection(allowed).copied().collect();
        let in_projects = self.in_projects.iter().map(|(project, rights)| (project.clone(), both(rights))).collect();
        Caller { principal: self.principal.clone(), rights: both(&self.rights), in_projects, via }
    }

    /// Returns the caller with only its rights in these projects.
    pub fn within(&self, projects: &BTreeSet<ProjectName>) -> Caller {
        let of = |project: &ProjectName| {
            let own = self.in_projects.get(project).into_iter().flatten();
            let rights = self.rights.iter().chain(own).copied();
            rights.filter(|right| right.is_of_projects()).collect()
        };
        let in_projects = projects.iter().map(|project| (project.clone(), of(project))).collect();
        Caller { principal: self.principal.clone(), rights: BTreeSet::new(), in_projects, via: self.via }
    }

    /// Returns whether the caller has a right in a project.
    pub fn has(&self, right: Right, project: &ProjectName) -> bool {
        self.rights.contains(&right) || self.in_projects.get(project).is_some_and(|rights| rights.contains(&right))
    }

    /// Returns whether the caller can read what belongs to the project of this name, even if it is not a valid one.
    pub fn reads(&self, project: &str) -> bool {
        self.rights.contains(&Right::Read)
            || ProjectName::new(project).is_ok_and(|project| self.has(Right::Read, &project))
    }

    /// Returns whether the caller has a right in at least one project.
    pub fn has_somewhere(&self, right: Right) -> bool {
        self.rights.contains(&right) || self.in_projects.values().any(|rights| rights.contains(&right))
    }

    /// Returns the projects that the caller can read.
    pub fn readable(&self) -> ProjectSet {
        self.projects_with(&[Right::Read])
    }

    /// Returns the projects in which the caller has one of these rights.
    pub fn projects_with(&self, any_of: &[Right]) -> ProjectSet {
        let has_one = |rights: &BTreeSet<Right>| any_of.iter().any(|right| rights.contains(right));
        if has_one(&self.rights) {
            return ProjectSet::All;
        }
        let known = self.in_projects.iter().filter(|(_, rights)| has_one(rights));
        ProjectSet::Only(known.map(|(project, _)| project.clone()).collect())
    }

    /// Checks that the caller has a right in all projects.
    ///
    /// # Errors
    /// `missing_right` (forbidden) if it does not.
    pub fn require(&self, right: Right) -> ServiceResult<()> {
        if self.rights.contains(&right) {
            return Ok(());
        }
        match self.has_somewhere(right) {
            true => Err(ServiceError::forbidden(
                "missing_right",
                format!("{} does not have the right `{}` for the whole service", self.principal, right.name()),
                "Name one of your projects, or ask an administrator for a role in the whole service",
            )),
            false => Err(self.missing(right, "")),
        }
    }

    /// Checks that the caller has a right in at least one project. What it concerns is to be checked with
    /// [`Caller::require_in`], or shown only as far as it is [readable](Caller::readable).
    ///
    /// # Errors
    /// `missing_right` (forbidden) if it does not.
    pub fn require_somewhere(&self, right: Right) -> ServiceResult<()> {
        if self.has_somewhere(right) { Ok(()) } else { Err(self.missing(right, "")) }
    }

    /// Checks that the caller has a right in a project that it knows of.
    ///
    /// # Errors
    /// `missing_right` (forbidden) if it does not.
    pub fn require_in(&self, right: Right, project: &ProjectName) -> ServiceResult<()> {
        if self.has(right, project) {
            return Ok(());
        }
        Err(self.missing(right, &format!(" in project {project}")))
    }

    fn missing(&self, right: Right, whereabouts: &str) -> ServiceError {
        ServiceError::forbidden(
            "missing_right",
            format!("{} does not have the right `{}`{whereabouts}", self.principal, right.name()),
            "Use a token that has this right, or ask an administrator for a role that gives it",
        )
    }
}

/// Registry of callers by their tokens.
#[derive(Clone, Default)]
pub struct Callers(Arc<Vec<([u8; 32], Caller)>>);

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({})", self.0.len())
    }
}

impl Callers {
    /// Registers callers with their tokens. An empty token is never registered: it would admit everyone.
    pub fn new(tokens: impl IntoIterator<Item = (String, Caller)>) -> Callers {
        let registered = tokens.into_iter().filter(|(token, _)| !token.is_empty());
        Callers(Arc::new(registered.map(|(token, caller)| (digest(&token), caller)).collect()))
    }

    /// Returns the caller of a token. Compares the digests of all tokens to the last bit, so that the time taken
    /// reveals neither the length of a token nor the position of a difference.
    pub fn find(&self, token: &str) -> Option<&Caller> {
        let sent = digest(token);
        let mut found = None;
        for (registered, caller) in self.0.iter() {
            let difference = registered.iter().zip(&sent).fold(0u8, |all, (a, b)| all | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(caller);
            }
        }
        found
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_its_caller_and_its_rights() {
        let reader = Caller::new(Principal::from("user:ann"), [Right::Read].into(), Via::Rest);
        let admin = Caller::with_all_rights(Principal::from("local:ben"), Via::Rest);
        let callers =
            Callers::new([("one".to_owned(), reader), ("two".to_owned(), admin.clone()), (String::new(), admin)]);
        let found = callers.find("one").unwrap();
        assert_eq!(found.principal.as_str(), "user:ann");
        assert!(found.require(Right::Read).is_ok());
        assert_eq!(found.require(Right::Admin).unwrap_err().code, "missing_right");
        assert_eq!(callers.find("two").unwrap().principal.as_str(), "local:ben");
        assert!(callers.find("").is_none() && callers.find("three").is_none());
    }

    #[test]
    fn rights_in_one_project_count_there_only() {
        let name = |text: &str| ProjectName::new(text).unwrap();
        let (tally, other) = (name("tally"), name("other"));
        let ann = Caller {
            in_projects: [(tally.clone(), Right::of_role(AccessRole::Member))].into(),
            ..Caller::new(Principal::from("user:ann"), BTreeSet::new(), Via::Rest)
        };
        assert!(ann.require_in(Right::Run, &tally).is_ok() && ann.require_somewhere(Right::Run).is_ok());
        assert_eq!(ann.readable(), ProjectSet::from(tally.clone()));
        let said = |e: ServiceResult<()>| e.unwrap_err().detail;
        assert_eq!(said(ann.require(Right::Run)), "user:ann does not have the right `run` for the whole service");
        assert_eq!(said(ann.require_in(Right::Run, &other)), "user:ann does not have the right `run` in project other");
        assert!(ann.require_somewhere(Right::Approve).is_err());

        // A token can only take away.
        let reads = ann.limited_to(&[Right::Read, Right::Approve].into(), Via::Mcp);
        assert!(
            reads.has(Right::Read, &tally) && !reads.has_somewhere(Right::Run) && !reads.has_somewhere(Right::Approve)
        );
        assert!(!ann.within(&[other.clone()].into()).has_somewhere(Right::Read));
        let admin = Caller::with_all_rights(Principal::from("local:ben"), Via::Rest);
        let within = admin.within(&[tally.clone()].into());
        assert!(within.has(Right::Approve, &tally) && !within.has(Right::Read, &other));
        assert!(Right::ALL.into_iter().all(|right| within.require(right).is_err()));
        assert!(!within.has_somewhere(Right::Secrets) && !within.has_somewhere(Right::Admin));
    }
}
