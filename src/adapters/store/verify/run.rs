//! Verifies one run: its journal, and everything that follows from it.

use super::StoreVerification;
use super::replay::{Replay, differences};
use crate::adapters::store::ledger::LedgerRecord;
use crate::adapters::store::row::Row;
use crate::adapters::store::run_index::text_of;
use crate::adapters::store::snapshot::{self, OpeningSettings};
use crate::adapters::store::{SeaStore, codec};
use crate::domain::{ArtifactRef, Event, Run, RunId, Timestamp};
use crate::ports::journal::Transition;
use crate::ports::leases::{Lease, Owner};
use futures::TryStreamExt;
use sea_orm::{DatabaseTransaction, DbErr, QueryResult, StreamTrait};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const RUN: &str = "SELECT seq, project, phase, status, ended, change_number, title, blocks, opened_at, updated_at, \
    quarantined, epoch, reversed_id, wake_at, wait_reason, ended_at, ";
const EVENTS: &str = "SELECT seq, epoch, at, name, version, body FROM event WHERE run = $1 ORDER BY seq";
const OUTBOX: &str = "SELECT key, version, body FROM outbox WHERE run = $1 ORDER BY ord LIMIT 20000";
const LEDGER: &str = "SELECT attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, settled, day \
    FROM ledger_row WHERE run = $1 ORDER BY attempt";
const LINKS: &str = "SELECT digest FROM run_artifact WHERE run = $1";

impl SeaStore {
    pub(super) async fn verify_run(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        found: &mut StoreVerification,
    ) -> Result<(), DbErr> {
        let subject = format!("run {id}");
        let Ok(run) = RunId::try_from(id.to_owned()) else {
            found.report(subject, "its id is malformed");
            return Ok(());
        };
        let (replay, last) = self.replay_journal(tx, run, &subject, found).await?;
        let sql = format!("{RUN}{} FROM run WHERE id = $1", snapshot::COLUMNS);
        let rows = self.query_in(tx, &sql, [id.into()]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let state = match snapshot::read(row) {
            Ok(state) => state,
            Err(why) => {
                found.report(subject, format!("its snapshot cannot be read: {why}"));
                return Ok(());
            }
        };
        if state.id != run {
            found.report(subject, format!("its snapshot is of run {}", state.id));
            return Ok(());
        }
        if replay.broken.is_none() {
            self.compare(tx, row, (&replay, last.as_ref()), &state, &subject, found).await?;
        }
        self.verify_links(tx, id, &state, &subject, found).await
    }

    /// Reads the journal event by event. The first damage ends the replay; the rows after it are only counted.
    async fn replay_journal(
        &self,
        tx: &DatabaseTransaction,
        run: RunId,
        subject: &str,
        found: &mut StoreVerification,
    ) -> Result<(Replay, Option<Event>), DbErr> {
        let (mut replay, mut last) = (Replay::default(), None);
        let mut rows = tx.stream_raw(self.statement(EVENTS, [run.to_string().into()])).await?;
        while let Some(row) = rows.try_next().await? {
            found.events += 1;
            if replay.broken.is_some() {
                continue;
            }
            let seq: i64 = row.try_get("", "seq")?;
            if seq != replay.seq + 1 {
                replay.broken = Some(format!("event {} is missing from its journal", replay.seq + 1));
                continue;
            }
            replay.seq = seq;
            match take(&mut replay, &row) {
                Ok(event) => last = Some(event),
                Err(why) => replay.broken = Some(format!("event {seq} of its journal was changed: {why}")),
            }
        }
        if replay.seq == 0 && replay.broken.is_none() {
            replay.broken = Some("its journal is empty".to_owned());
        }
        if let Some(why) = &replay.broken {
            found.report(subject, why.as_str());
        }
        Ok((replay, last))
    }

    /// Compares the row of a run, its outbox and its ledger rows with what its journal gives.
    async fn compare(
        &self,
        tx: &DatabaseTransaction,
        row: &QueryResult,
        (replay, last): (&Replay, Option<&Event>),
        state: &Run,
        subject: &str,
        found: &mut StoreVerification,
    ) -> Result<(), DbErr> {
        let Some(expected) = &replay.run else { return Ok(()) };
        let epoch: i64 = row.try_get("", "epoch")?;
        if replay.epoch > epoch {
            found.report(subject, "its journal has an epoch that its lease has never had");
        }
        if i64::try_from(state.seq).is_ok_and(|seq| seq > replay.seq) {
            found.report(subject, format!("events {} to {} are missing from its journal", replay.seq + 1, state.seq));
            return Ok(());
        }
        let fields = differences(expected, state);
        if !fields.is_empty() {
            let what = "its snapshot is not what its journal gives; different:";
            found.report(subject, format!("{what} {}", fields.join(", ")));
            return Ok(());
        }
        let columns = last.map_or_else(|| Ok(Vec::new()), |event| changed_columns(row, expected, event, replay.at));
        match columns {
            Ok(columns) if columns.is_empty() => {}
            Ok(columns) => {
                found.report(subject, format!("columns that do not match its snapshot: {}", columns.join(", ")))
            }
            Err(why) => found.report(subject, format!("its row cannot be compared: {why}")),
        }
        let id = expected.id.to_string();
        self.compare_outbox(tx, &id, replay, subject, found).await?;
        // A quarantine charges open reservations past the journal.
        if row.try_get::<Option<String>>("", "quarantined")?.is_none() {
            self.compare_ledger(tx, expected, replay, subject, found).await?;
        }
        Ok(())
    }

    async fn compare_outbox(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        replay: &Replay,
        subject: &str,
        found: &mut StoreVerification,
    ) -> Result<(), DbErr> {
        let mut expected: BTreeSet<&str> = replay.pending.keys().map(|key| key.as_str()).collect();
        for row in self.query_in(tx, OUTBOX, [id.into()]).await? {
            let (key, version): (String, i64) = (row.try_get("", "key")?, row.try_get("", "version")?);
            let known = replay.pending.iter().find(|(known, _)| known.as_str() == key);
            let stored = text_of(&row, "body").and_then(|body| codec::decode_effect(version, &body));
            match (known, stored) {
                (None, _) => found.report(subject, format!("its outbox has the effect {key}, which is not pending")),
                (Some((_, effect)), Ok(stored)) if stored == *effect => {}
                (Some(_), Ok(_)) => found.report(subject, format!("the effect {key} in its outbox was changed")),
                (Some(_), Err(why)) => found.report(subject, format!("the effect {key} cannot be read: {why}")),
            }
            expected.remove(key.as_str());
        }
        for key in expected {
            found.report(subject, format!("the pending effect {key} is missing from its outbox"));
        }
        Ok(())
    }

    /// Compares the rows of attempts that have ended. Before that, shared budgets may reserve less than was asked for.
    async fn compare_ledger(
        &self,
        tx: &DatabaseTransaction,
        run: &Run,
        replay: &Replay,
        subject: &str,
        found: &mut StoreVerification,
    ) -> Result<(), DbErr> {
        let mut missing: BTreeSet<u32> =
            replay.ledger.values().filter(|row| row.settled).map(|row| row.attempt.0).collect();
        for row in self.query_in(tx, LEDGER, [run.id.to_string().into()]).await? {
            let attempt: i64 = row.try_get("", "attempt")?;
            let number = u32::try_from(attempt).unwrap_or(u32::MAX);
            if !run.attempts.iter().any(|a| a.id.0 == number) {
                found
                    .report(subject, format!("the ledger has a row of attempt {attempt}, which the run does not have"));
                continue;
            }
            let Some(expected) = replay.ledger.get(&number).filter(|row| row.settled) else { continue };
            missing.remove(&number);
            let record = LedgerRecord::of(run.id, &run.project, expected);
            let same = record.is_ok_and(|record| is_record(&row, &record).unwrap_or(false));
            if !same {
                found.report(
                    subject,
                    format!("the ledger row of attempt {attempt} is not what the attempt was charged"),
                );
            }
        }
        for attempt in missing {
            found.report(subject, format!("the ledger row of attempt {attempt} is missing"));
        }
        Ok(())
    }

    /// Checks that every artifact which the state names is linked to the run. Links to missing bytes cannot exist.
    async fn verify_links(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        state: &Run,
        subject: &str,
        found: &mut StoreVerification,
    ) -> Result<(), DbErr> {
        let mut linked = BTreeSet::new();
        for row in self.query_in(tx, LINKS, [id.into()]).await? {
            linked.insert(row.try_get::<String>("", "digest")?);
        }
        let mut named = Vec::new();
        collect_artifacts(&serde_json::to_value(state).unwrap_or_default(), &mut named);
        let missing: BTreeMap<&str, &str> = named
            .iter()
            .map(|artifact| (artifact.digest.as_str(), artifact.name.as_str()))
            .filter(|(digest, _)| !linked.contains(*digest))
            .collect();
        if let Some((digest, name)) = missing.first_key_value() {
            let what = format!("{} of its artifacts are missing, such as {name} ({digest})", missing.len());
            found.report(subject, what);
        }
        Ok(())
    }
}

/// Takes a row of the journal into the replay.
fn take(replay: &mut Replay, row: &QueryResult) -> Result<Event, String> {
    let number = |column: &str| row.try_get::<i64>("", column).map_err(|e| e.to_string());
    let (epoch, at, version) = (number("epoch")?, number("at")?, number("version")?);
    if epoch < replay.epoch {
        return Err("its epoch is lower than that of the event before it".to_owned());
    }
    replay.epoch = epoch;
    let event = codec::decode_event(version, &text_of(row, "body")?)?;
    if text_of(row, "name")? != event.name() {
        return Err("its name and its body do not match".to_owned());
    }
    replay.apply(&event, at)?;
    Ok(event)
}

/// Returns the columns of a run's row that differ from what is written for this state.
fn changed_columns(row: &QueryResult, run: &Run, event: &Event, at: i64) -> Result<Vec<&'static str>, String> {
    let transition = Transition {
        lease: Lease { run: run.id, owner: Owner(String::new()), epoch: 0 },
        at: Timestamp(at),
        event: event.clone(),
        run: Arc::new(run.clone()),
        effects: Vec::new(),
        finished: Vec::new(),
        ledger_rows: Vec::new(),
        outcomes: Vec::new(),
    };
    let expected = Row::of(&transition, &OpeningSettings::default()).map_err(|e| e.to_string())?;
    let text = |column: &str| row.try_get::<Option<String>>("", column).ok().flatten();
    let number = |column: &str| row.try_get::<Option<i64>>("", column).ok().flatten();
    let compared = [
        ("seq", number("seq") == Some(expected.seq)),
        ("project", text("project").as_ref() == Some(&expected.project)),
        ("phase", text("phase").as_deref() == Some(expected.phase)),
        ("status", text("status").as_deref() == Some(expected.status)),
        ("ended", row.try_get::<bool>("", "ended").ok() == Some(expected.ended)),
        ("ended_at", number("ended_at").is_some() == expected.ended),
        ("change_number", number("change_number") == expected.change_number),
        ("title", text("title").as_ref() == Some(&expected.title)),
        ("blocks", text("blocks").as_ref() == Some(&expected.blocks)),
        ("opened_at", number("opened_at") == Some(expected.opened_at)),
        ("updated_at", number("updated_at") == Some(expected.at)),
        ("reversed_id", text("reversed_id") == Some(expected.reversed_id())),
        ("wake_at", number("wake_at") == expected.wake_at),
        ("wait_reason", text("wait_reason") == expected.wait_reason),
    ];
    Ok(compared.into_iter().filter(|(_, same)| !same).map(|(column, _)| column).collect())
}

fn is_record(row: &QueryResult, record: &LedgerRecord) -> Result<bool, DbErr> {
    let number = |column: &str| row.try_get::<i64>("", column);
    let text = |column: &str| row.try_get::<String>("", column);
    Ok(row.try_get::<bool>("", "settled")? == record.settled
        && number("tokens")? == record.tokens
        && number("cost_micros")? == record.cost_micros
        && number("turns")? == record.turns
        && number("wall_ms")? == record.wall_ms
        && number("day")? == record.day
        && text("project")? == record.project
        && text("role")? == record.role
        && text("engine")? == record.engine)
}

/// Collects the artifacts that a document names, wherever they are in it.
fn collect_artifacts(document: &serde_json::Value, found: &mut Vec<ArtifactRef>) {
    use serde_json::Value;
    match document {
        Value::Array(values) => values.iter().for_each(|value| collect_artifacts(value, found)),
        Value::Object(fields) => {
            if fields.contains_key("digest")
                && let Ok(artifact) = serde_json::from_value::<ArtifactRef>(document.clone())
            {
                found.push(artifact);
                return;
            }
            fields.values().for_each(|value| collect_artifacts(value, found));
        }
        _ => {}
    }
}
