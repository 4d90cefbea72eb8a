//! Artifacts: bytes stored once under their digest and linked to the runs that made them.

use super::SeaStore;
use super::entity::artifact;
use super::ledger::number;
use super::run_index::text_of;
use crate::domain::{ArtifactKind, ArtifactRef, Digest, RunId, Timestamp};
use crate::ports::blobs::{ArtifactBytes, RemovableArtifacts};
use crate::ports::{Blobs, PortError, PortResult};
use crate::secrets::{redact, redact_bytes};
use async_trait::async_trait;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait, QueryResult};
use sha2::{Digest as _, Sha256};

/// Upper bound of one artifact, in bytes.
pub const MAX_ARTIFACT_BYTES: usize = 16 * 1024 * 1024;
/// Longest stored name, in characters.
const MAX_NAME: usize = 200;

const EXISTS: &str = "SELECT 1 AS one FROM artifact WHERE digest = $1 AND removed_at IS NULL";
const HAS_RUN: &str = "SELECT 1 AS one FROM run WHERE id = $1";
const LINK: &str = "INSERT INTO run_artifact (run, digest, kind, name, added_at) VALUES ($1, $2, $3, $4, {now}) \
    ON CONFLICT (run, digest, kind, name) DO NOTHING RETURNING id";
const OF_RUN: &str = "SELECT l.digest, l.kind, l.name, a.size FROM run_artifact l JOIN artifact a ON a.digest = l.digest \
    WHERE l.run = $1 ORDER BY l.id LIMIT 10000";
const ONE: &str = "SELECT l.digest, l.kind, l.name, a.size, a.bytes, a.removed_at FROM run_artifact l \
    JOIN artifact a ON a.digest = l.digest WHERE l.run = $1 AND l.digest = $2 ORDER BY l.id LIMIT 1";
/// Artifacts that no run needs: each run that links one ended before `$2`, and links it as something that is only read
/// while people look into that run.
const REMOVABLE: &str = "removed_at IS NULL AND EXISTS (SELECT 1 FROM run_artifact l WHERE l.digest = artifact.digest) \
    AND NOT EXISTS (SELECT 1 FROM run_artifact l JOIN run r ON r.id = l.run WHERE l.digest = artifact.digest \
    AND (r.home <> $1 OR r.ended_at IS NULL OR r.ended_at >= $2 \
    OR l.kind NOT IN ('log', 'transcript', 'prompt', 'test_report')))";

#[async_trait]
impl Blobs for SeaStore {
    async fn put_artifact(&self, run: RunId, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef> {
        // Every artifact is stored through here: redacting here keeps secrets out of all of them.
        let (bytes, name) = (&*redact_bytes(bytes), redact(name));
        let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        if bytes.len() > MAX_ARTIFACT_BYTES {
            return Err(PortError::permanent(
                format!("run {run}: artifact {name} has {} bytes, more than {MAX_ARTIFACT_BYTES}", bytes.len()),
                "store its end only, or split it",
            ));
        }
        if self.read(HAS_RUN, [run.to_string().into()]).await?.is_empty() {
            return Err(PortError::permanent(
                format!("artifact {name} is for run {run}, which does not exist"),
                "open the run first",
            ));
        }
        let digest = Digest(hex(&Sha256::digest(bytes)));
        let size = bytes.len() as u64;
        // Checked first, so that existing bytes are not sent again.
        if self.read(EXISTS, [digest.as_str().into()]).await?.is_empty() {
            let model = artifact::ActiveModel {
                digest: Set(digest.0.clone()),
                size: Set(i64::try_from(size).unwrap_or(i64::MAX)),
                bytes: Set(bytes.to_vec()),
                removed_at: Set(None),
            };
            // A conflict is with a process that stores the same bytes, or with a row whose bytes were removed.
            let mut conflict = OnConflict::column(artifact::Column::Digest);
            conflict.update_columns([artifact::Column::Bytes, artifact::Column::RemovedAt]);
            let insert = artifact::Entity::insert(model).on_conflict(conflict);
            self.written(insert.exec_without_returning(&self.write).await)?;
        }
        let link = [run.to_string().into(), digest.as_str().into(), word(kind)?.into(), name.as_str().into()];
        self.write(LINK, link).await?;
        Ok(ArtifactRef { digest, kind, name, size })
    }

    async fn artifact(&self, run: RunId, digest: &Digest) -> PortResult<Option<(ArtifactRef, ArtifactBytes)>> {
        let rows = self.read(ONE, [run.to_string().into(), digest.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let artifact = self.artifact_from(row)?;
        let removed_at: Option<i64> = row.try_get("", "removed_at").map_err(|e| self.reading(&e))?;
        if let Some(at) = removed_at {
            return Ok(Some((artifact, ArtifactBytes::RemovedAt(Timestamp(at)))));
        }
        let bytes: Vec<u8> = row.try_get("", "bytes").map_err(|e| self.reading(&e))?;
        if hex(&Sha256::digest(&bytes)) != digest.0 {
            return Err(PortError::permanent(
                format!("{}: the bytes of artifact {digest} do not match their digest", self.location),
                "check the disk and restore the store from a backup",
            ));
        }
        Ok(Some((artifact, ArtifactBytes::Stored(bytes))))
    }

    async fn artifacts(&self, run: RunId) -> PortResult<Vec<ArtifactRef>> {
        self.read(OF_RUN, [run.to_string().into()]).await?.iter().map(|row| self.artifact_from(row)).collect()
    }

    async fn removable_artifacts(&self, before: Timestamp) -> PortResult<RemovableArtifacts> {
        let sql = format!(
            "SELECT count(*) AS n, CAST(coalesce(sum(size), 0) AS bigint) AS size FROM artifact WHERE {REMOVABLE}"
        );
        let rows = self.read(&sql, [self.home(), before.0.into()]).await?;
        let Some(row) = rows.first() else { return Ok(RemovableArtifacts::default()) };
        let number = |column: &str| number(row, column).map_err(|e| self.reading(&e));
        Ok(RemovableArtifacts { count: number("n")?, bytes: number("size")? })
    }

    async fn remove_artifacts(&self, before: Timestamp) -> PortResult<()> {
        let sql = format!("UPDATE artifact SET bytes = $3, removed_at = {{now}} WHERE {REMOVABLE}");
        self.write(&sql, [self.home(), before.0.into(), Vec::<u8>::new().into()]).await.map(drop)
    }
}

impl SeaStore {
    fn artifact_from(&self, row: &QueryResult) -> PortResult<ArtifactRef> {
        let damaged = |why: String| {
            PortError::permanent(format!("{}: cannot read an artifact's row: {why}", self.location), "restore a backup")
        };
        let size: i64 = row.try_get("", "size").map_err(|e| self.reading(&e))?;
        let kind = serde_json::Value::String(text_of(row, "kind").map_err(damaged)?);
        Ok(ArtifactRef {
            digest: Digest(text_of(row, "digest").map_err(damaged)?),
            kind: serde_json::from_value(kind).map_err(|e| damaged(e.to_string()))?,
            name: text_of(row, "name").map_err(damaged)?,
            size: u64::try_from(size).unwrap_or(0),
        })
    }
}

/// Returns the name of a kind, as in JSON.
fn word(kind: ArtifactKind) -> PortResult<String> {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(PortError::permanent("an artifact kind has no word", "this is a bug in Skep: report it")),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
