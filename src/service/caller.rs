//! Callers: who calls a use case, through which surface, with which rights.

use super::error::{ServiceError, ServiceResult};
use crate::domain::{AccessRole, Principal};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
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
        }
    }
}

/// Caller of a use case.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Principal it acts as.
    pub principal: Principal,
    /// Rights it has.
    pub rights: BTreeSet<Right>,
    /// Surface it came through.
    pub via: Via,
}

impl Caller {
    /// A caller with every right.
    pub fn with_all_rights(principal: Principal, via: Via) -> Caller {
        Caller { principal, rights: Right::ALL.into(), via }
    }

    /// Returns the caller as it acts through another surface: with only those of its rights that `allowed` contains.
    pub fn limited_to(&self, allowed: &BTreeSet<Right>, via: Via) -> Caller {
        let rights = self.rights.intersection(allowed).copied().collect();
        Caller { principal: self.principal.clone(), rights, via }
    }

    /// Checks that the caller has a right.
    ///
    /// # Errors
    /// `missing_right` (forbidden) if it does not.
    pub fn require(&self, right: Right) -> ServiceResult<()> {
        if self.rights.contains(&right) {
            return Ok(());
        }
        Err(ServiceError::forbidden(
            "missing_right",
            format!("{} does not have the right `{}`", self.principal, right.name()),
            "Use a token that has this right",
        ))
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
        let reader = Caller { principal: Principal::from("user:ann"), rights: [Right::Read].into(), via: Via::Rest };
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
}
