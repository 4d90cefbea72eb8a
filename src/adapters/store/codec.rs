//! The stored form of snapshots, events, effects and projects: JSON, with the version of its form in a column of the row.
//!
//! Invariant: a form that was released is never changed in place. A change raises [`VERSION`] and adds a step to
//! `upgrade`, and the fixtures of the older version (`tests/it/stored_form.rs`) must still load. What a snapshot may
//! leave out is decided in `snapshot`.

use crate::domain::run::SNAPSHOT_VERSION;
use crate::domain::{Effect, Event, Project, Run};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;

/// The version this program writes.
pub const VERSION: i64 = SNAPSHOT_VERSION as i64;

/// Kind of a stored document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Event,
    Effect,
    Project,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Event => "event",
            Kind::Effect => "effect",
            Kind::Project => "definition",
        }
    }
}

/// Encodes a snapshot in the current form.
///
/// # Errors
/// The state cannot be written as JSON, or belongs to another version.
pub fn encode_snapshot(run: &Run) -> Result<String, String> {
    require_current(run)?;
    encode(Kind::Snapshot, run)
}

/// Checks that a state has the version that this program writes.
pub(super) fn require_current(run: &Run) -> Result<(), String> {
    match i64::from(run.version) {
        VERSION => Ok(()),
        other => Err(format!("its snapshot has version {other}, this Skep writes version {VERSION}")),
    }
}

/// Encodes an event in the current form.
///
/// # Errors
/// The event cannot be written as JSON.
pub fn encode_event(event: &Event) -> Result<String, String> {
    encode(Kind::Event, event)
}

/// Encodes an effect in the current form.
///
/// # Errors
/// The effect cannot be written as JSON.
pub fn encode_effect(effect: &Effect) -> Result<String, String> {
    encode(Kind::Effect, effect)
}

/// Encodes a project in the current form.
///
/// # Errors
/// The project cannot be written as JSON.
pub fn encode_project(project: &Project) -> Result<String, String> {
    encode(Kind::Project, project)
}

/// Decodes a stored snapshot.
///
/// # Errors
/// The snapshot is damaged, or was written by a newer Skep.
pub fn decode_snapshot(version: i64, json: &str) -> Result<Run, String> {
    let run: Run = decode(Kind::Snapshot, version, json)?;
    match i64::from(run.version) {
        // The column and the document agree, unless one of them is damaged.
        newer if newer > VERSION => Err(too_new(Kind::Snapshot, newer)),
        _ => Ok(run),
    }
}

/// Decodes a stored event.
///
/// # Errors
/// The event is damaged, or was written by a newer Skep.
pub fn decode_event(version: i64, json: &str) -> Result<Event, String> {
    decode(Kind::Event, version, json)
}

/// Decodes a stored effect.
///
/// # Errors
/// The effect is damaged, or was written by a newer Skep.
pub fn decode_effect(version: i64, json: &str) -> Result<Effect, String> {
    decode(Kind::Effect, version, json)
}

/// Decodes a stored project.
///
/// # Errors
/// The project is damaged, or was written by a newer Skep.
pub fn decode_project(version: i64, json: &str) -> Result<Project, String> {
    decode(Kind::Project, version, json)
}

/// Returns the JSON of a stored event in the current form.
pub(super) fn current_event(version: i64, json: &str) -> Result<Cow<'_, str>, String> {
    match version {
        VERSION => Ok(Cow::Borrowed(json)),
        _ => event_json(version, json).map(|document| Cow::Owned(document.to_string())),
    }
}

/// Decodes a stored event as JSON in the current form, for display only.
pub(super) fn event_json(version: i64, json: &str) -> Result<Value, String> {
    decode(Kind::Event, version, json)
}

/// Checks that a snapshot of this version can be read.
pub(super) fn check_version(version: i64) -> Result<(), String> {
    if version > VERSION { Err(too_new(Kind::Snapshot, version)) } else { Ok(()) }
}

fn encode(kind: Kind, document: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(document).map_err(|e| format!("cannot serialize its {}: {e}", kind.name()))
}

fn decode<T: DeserializeOwned>(kind: Kind, version: i64, json: &str) -> Result<T, String> {
    let unreadable = |e: serde_json::Error| format!("cannot read its {}: {e}", kind.name());
    if version > VERSION {
        return Err(too_new(kind, version));
    }
    if version == VERSION {
        return serde_json::from_str(json).map_err(unreadable);
    }
    let mut document = serde_json::from_str(json).map_err(unreadable)?;
    for from in version..VERSION {
        document = upgrade(kind, from, document)?;
    }
    serde_json::from_value(document).map_err(unreadable)
}

/// Upgrades a document from version `from` to the next one.
fn upgrade(kind: Kind, from: i64, _document: Value) -> Result<Value, String> {
    // Version 1 is the first. The arm of a later version looks like `(Kind::Event, 1) => v1::event(document)`.
    Err(format!("cannot upgrade its {} from version {from}: this version was never released", kind.name()))
}

fn too_new(kind: Kind, version: i64) -> String {
    format!("its {} has version {version}, this Skep reads versions up to {VERSION}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_refused() {
        let error = decode_event(VERSION + 1, r#""admitted""#).unwrap_err();
        assert!(error.contains("reads versions up to"), "{error}");
        assert!(check_version(VERSION + 1).is_err() && check_version(VERSION).is_ok());
    }

    #[test]
    fn a_version_without_an_upgrade_is_refused() {
        let error = decode_effect(0, "{}").unwrap_err();
        assert!(error.contains("cannot upgrade"), "{error}");
    }
}
