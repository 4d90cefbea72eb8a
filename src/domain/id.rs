//! Newtypes for ids, shas and times, so that no two can be confused.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A moment, in milliseconds since the Unix epoch. Never used for ordering; sequence numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns this moment plus `secs` seconds.
    pub fn plus_secs(self, secs: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(secs.saturating_mul(1000)).unwrap_or(i64::MAX)))
    }
}

/// A run's id: a UUIDv7, drawn once at intake. Written as 32 hex digits; the last eight are its abbreviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(pub Uuid);

impl RunId {
    /// Returns the last eight hex digits. They are random in a UUIDv7, so they distinguish runs of the same minute.
    pub fn abbrev(&self) -> String {
        let whole = self.to_string();
        whole[whole.len() - 8..].to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl TryFrom<String> for RunId {
    type Error = uuid::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Uuid::try_parse(&text).map(RunId)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.to_string()
    }
}

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

counted!(
    /// A task of a run, counted from 1 (`t1`).
    TaskId, "t"
);
counted!(
    /// An attempt of a run, counted from 1 (`a1`), never reused.
    AttemptId, "a"
);
counted!(
    /// A block of a run, counted from 1 (`b1`). A comment `UNBLOCK #b1` names it.
    BlockId, "b"
);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);
        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self { Self(text.to_owned()) }
        }
    };
}

text!(
    /// A git commit id, 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
    Sha
);
text!(
    /// The SHA-256 of an artifact's bytes, 64 lower-case hex digits.
    Digest
);
text!(
    /// Person or program known to Skep: `local:<login>`, `user:<name>`, `forge:<login>`, `token:<name>`, `skep`.
    Principal
);
text!(
    /// The key of an effect: `<seq>.<ordinal>` of the journal row that decided it. Unique in its run and never reused.
    EffectKey
);

impl Sha {
    /// Returns the first ten digits, for people.
    pub fn abbrev(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl Principal {
    /// Prefixes of people: users of this machine, users of the service, users of a forge.
    const PEOPLE: [&str; 3] = ["local:", "user:", "forge:"];

    /// Returns the principal of Skep itself, which never counts as a person.
    pub fn skep() -> Principal {
        Principal("skep".to_owned())
    }
    /// Returns whether this is a person. Everything without a person's prefix is a program and cannot approve or
    /// answer.
    pub fn is_person(&self) -> bool {
        Self::PEOPLE.iter().any(|prefix| self.0.strip_prefix(prefix).is_some_and(|name| !name.is_empty()))
    }
}

/// A change's number on its forge (the pull request's number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeNumber(pub u64);

impl fmt::Display for ChangeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Principal;

    #[test]
    fn only_principals_with_a_persons_prefix_are_people() {
        for person in ["local:ann", "user:ann", "forge:ann"] {
            assert!(Principal::from(person).is_person(), "{person}");
        }
        for program in ["skep", "", "ann", "token:ci", "local:", "agent:local:ann"] {
            assert!(!Principal::from(program).is_person(), "{program}");
        }
    }
}
