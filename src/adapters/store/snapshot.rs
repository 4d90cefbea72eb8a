//! The snapshot in a run's row. Goal and settings, its largest parts, are those of the run's first event until a person
//! changes the settings. That event is never changed, so they are read from it instead of being written with every
//! transition.
//!
//! Invariant: they are left out only of the snapshot of a run whose settings are known to be those of its first event,
//! because they were compared with it or read from it.

use super::codec;
use super::run_index::text_of;
use crate::domain::{Event, Run, RunId, Settings};
use crate::ports::journal::Transition;
use sea_orm::QueryResult;
use serde::ser::{Error as _, Impossible, Serialize, SerializeStruct, Serializer};
use serde_json::Error;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Columns that [`read`] needs, of the table `run`.
pub(super) const COLUMNS: &str = "version, snapshot, \
    (SELECT event.version FROM event WHERE event.run = run.id AND event.seq = 1) AS opening_version, \
    (SELECT event.body FROM event WHERE event.run = run.id AND event.seq = 1) AS opening";
/// Beginning of a snapshot without the fields in [`OPENING`].
const SHORT: &str = r#"{"opening":1,"#;
/// The fields that are those of the first event.
const OPENING: [&str; 2] = ["goal", "settings"];
/// Entries from which those of ended runs are removed.
const PRUNED_FROM: usize = 256;

/// The settings that are known to be those of a run's first event.
#[derive(Debug, Default)]
pub(super) struct OpeningSettings(Mutex<HashMap<RunId, Weak<Settings>>>);

impl OpeningSettings {
    fn add(&self, run: &Run) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PRUNED_FROM && known.len() == known.capacity() {
            known.retain(|_, settings| settings.strong_count() > 0);
        }
        known.insert(run.id, Arc::downgrade(&run.settings));
    }

    fn has(&self, run: &Run) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&run.id).is_some_and(|settings| std::ptr::eq(settings.as_ptr(), Arc::as_ptr(&run.settings)))
    }
}

/// Encodes the state after a transition.
///
/// # Errors
/// It cannot be written as JSON, or belongs to another version.
pub(super) fn encode(transition: &Transition, known: &OpeningSettings) -> Result<String, String> {
    let run = &transition.run;
    if let Event::Opened(opened) = &transition.event
        && opened.settings == *run.settings
        && opened.goal == run.goal
    {
        known.add(run);
    }
    if !known.has(run) {
        return codec::encode_snapshot(run);
    }
    codec::require_current(run)?;
    let mut json = SHORT.trim_end_matches(',').as_bytes().to_vec();
    run.serialize(Short(&mut json)).map_err(|e| format!("cannot serialize its snapshot: {e}"))?;
    String::from_utf8(json).map_err(|e| format!("cannot serialize its snapshot: {e}"))
}

/// Reads the state in a row with the columns [`COLUMNS`], or explains why it cannot be used.
pub(super) fn read(row: &QueryResult) -> Result<Run, String> {
    Ok(read_whole(row)?.0)
}

/// Reads the state of a run that is going to be written.
pub(super) fn read_to_write(row: &QueryResult, known: &OpeningSettings) -> Result<Run, String> {
    let (run, is_short) = read_whole(row)?;
    if is_short {
        known.add(&run);
    }
    Ok(run)
}

/// Reads the state, and whether goal and settings are those of the first event.
fn read_whole(row: &QueryResult) -> Result<(Run, bool), String> {
    let version: i64 = row.try_get("", "version").map_err(|e| e.to_string())?;
    codec::check_version(version)?;
    let snapshot = text_of(row, "snapshot")?;
    let Some(rest) = snapshot.strip_prefix(SHORT) else {
        return Ok((codec::decode_snapshot(version, &snapshot)?, false));
    };
    let unreadable = |why: String| format!("cannot read its first event, which its snapshot needs: {why}");
    let opening_version: i64 = row.try_get("", "opening_version").map_err(|e| unreadable(e.to_string()))?;
    let opening = text_of(row, "opening").map_err(unreadable)?;
    let opening = codec::current_event(opening_version, &opening).map_err(unreadable)?;
    let Opening { goal, settings } = serde_json::from_str(&opening).map_err(|e| unreadable(e.to_string()))?;
    let whole = format!(r#"{{"goal":{goal},"settings":{settings},{rest}"#);
    Ok((codec::decode_snapshot(version, &whole)?, true))
}

/// The fields [`OPENING`] of a first event.
#[derive(serde::Deserialize)]
struct Opening<'e> {
    #[serde(borrow)]
    goal: &'e RawValue,
    #[serde(borrow)]
    settings: &'e RawValue,
}

/// Writes the fields of a run but those of its first event to an object that was begun.
struct Short<'w>(&'w mut Vec<u8>);

impl SerializeStruct for Short<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if OPENING.contains(&name) {
            return Ok(());
        }
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        serde_json::to_writer(&mut *self.0, value)
    }

    fn end(self) -> Result<(), Error> {
        self.0.push(b'}');
        Ok(())
    }
}

/// Refuses what a run is not.
macro_rules! refuse {
    ($($name:ident($($kind:ty),*);)*) => {$(
        fn $name(self, $(_: $kind),*) -> Result<(), Error> {
            Err(Error::custom("a run is a struct"))
        }
    )*};
    ($($name:ident($($kind:ty),*) -> $compound:ident;)*) => {$(
        fn $name(self, $(_: $kind),*) -> Result<Self::$compound, Error> {
            Err(Error::custom("a run is a struct"))
        }
    )*};
}

impl<'w> Serializer for Short<'w> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Short<'w>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Short<'w>, Error> {
        Ok(self)
    }

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }
    refuse! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<(), Error> {
        Err(Error::custom("a run is a struct"))
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<(), Error> {
        Err(Error::custom("a run is a struct"))
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(Error::custom("a run is a struct"))
    }
}
