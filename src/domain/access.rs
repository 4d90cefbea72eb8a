//! People who use a service, and what their roles allow.

use std::fmt;

/// Name of a person: `ann` is `user:ann` in journals and in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersonName(String);

impl PersonName {
    /// Validates a name.
    ///
    /// # Errors
    /// Returns what a valid name looks like.
    pub fn new(name: &str) -> Result<Self, String> {
        let is_valid = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if is_valid {
            return Ok(Self(name.to_owned()));
        }
        Err(format!(
            "invalid name {name:?}: use 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
        ))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Role of a person. Each one may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessRole {
    /// Does nothing, except what roles in single projects allow.
    None,
    /// Sees runs, changes and spending.
    Viewer,
    /// Starts and steers runs.
    Member,
    /// Approves, reviews changes, and raises the budget of runs.
    Approver,
    /// Manages projects, secrets, people and the service.
    Admin,
}

impl AccessRole {
    /// All roles.
    pub const ALL: [AccessRole; 5] =
        [AccessRole::None, AccessRole::Viewer, AccessRole::Member, AccessRole::Approver, AccessRole::Admin];
    /// The roles that somebody can have in a single project: to administer concerns the whole service.
    pub const OF_PROJECTS: [AccessRole; 3] = [AccessRole::Viewer, AccessRole::Member, AccessRole::Approver];

    /// Returns the role with this name.
    pub fn named(name: &str) -> Option<AccessRole> {
        AccessRole::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            AccessRole::None => "none",
            AccessRole::Viewer => "viewer",
            AccessRole::Member => "member",
            AccessRole::Approver => "approver",
            AccessRole::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["ann", "a", "9lives", "ann.b-c_d", &"a".repeat(64)] {
            assert!(PersonName::new(name).is_ok(), "{name}");
        }
        for name in ["", "Ann", "-ann", ".ann", "_ann", "ann b", "ann:b", "ann\n", "änn", &"a".repeat(65)] {
            assert!(PersonName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn roles_are_ordered_and_named() {
        assert!(AccessRole::ALL.is_sorted());
        assert!(AccessRole::ALL.into_iter().all(|role| AccessRole::named(role.name()) == Some(role)));
        assert_eq!(AccessRole::named("owner"), None);
    }
}
