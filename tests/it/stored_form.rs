//! Snapshots, events and effects stored by any version still load, and encode to the same document again.
//!
//! The documents are in `fixtures/v<version>`. Each version has its own folder. For a new one, raise the version, then
//! run `cargo nextest run --run-ignored only -E 'test(write_the_fixtures_of_the_current_version)'`.

use crate::matrix::{events, states};
use serde_json::{Map, Value};
use skep::adapters::store::codec;
use skep::domain::{Event, Run};
use std::collections::BTreeSet;
use std::path::PathBuf;

const KINDS: [&str; 3] = ["snapshots", "events", "effects"];

fn file(version: i64, kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/fixtures/v{version}/{kind}.json"))
}

/// Returns the stored documents of a version, by name.
fn kept(version: i64, kind: &str) -> Map<String, Value> {
    let path = file(version, kind);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("an object")
}

fn document(json: Result<String, String>) -> Value {
    serde_json::from_str(&json.expect("encodes")).expect("JSON")
}

/// Decodes a document and encodes it again in the current form.
fn reencoded(kind: &str, version: i64, document_text: &str) -> Result<Value, String> {
    Ok(match kind {
        "snapshots" => document(codec::encode_snapshot(&codec::decode_snapshot(version, document_text)?)),
        "events" => document(codec::encode_event(&codec::decode_event(version, document_text)?)),
        _ => document(codec::encode_effect(&codec::decode_effect(version, document_text)?)),
    })
}

/// Returns the features that a run has. The fixtures must cover each feature at least once.
fn features(run: &Run) -> BTreeSet<String> {
    let phase = format!("phase {}", run.phase.name());
    let blocks = run.blocks.iter().map(|b| format!("block {}", b.kind.code()));
    let stages = run.tasks.iter().map(|t| format!("stage {:?}", t.stage));
    let ends = run.attempts.iter().filter_map(|a| a.ended.as_ref()).map(|e| format!("ending {:?}", e.ending));
    let waits = run.wait.iter().map(|_| "waits".to_owned());
    std::iter::once(phase).chain(blocks).chain(stages).chain(ends).chain(waits).collect()
}

fn event_name(event: &Event) -> String {
    match event {
        Event::Reported(reported) => format!("{} {}", event.name(), reported.report.name()),
        Event::EffectFinished { .. } => format!("effect finished: {}", event.name()),
        _ => event.name().to_owned(),
    }
}

/// The documents of this version: snapshots that cover every feature, and one event and one effect of each kind.
fn current() -> [Map<String, Value>; 3] {
    let (mut covered, mut documents) = (BTreeSet::new(), [Map::new(), Map::new(), Map::new()]);
    let [snapshots, all_events, effects] = &mut documents;
    for (name, story) in states() {
        let features = features(&story.run);
        if !features.is_subset(&covered) {
            covered.extend(features);
            snapshots.insert(name.to_owned(), document(codec::encode_snapshot(&story.run)));
        }
        for (_, event) in events(&story.run) {
            all_events.entry(event_name(&event)).or_insert_with(|| document(codec::encode_event(&event)));
        }
        for effect in story.outbox.values() {
            let name = effect.effect_ref().name();
            effects.entry(name).or_insert_with(|| document(codec::encode_effect(effect)));
        }
    }
    documents
}

#[test]
fn documents_of_every_version_load() {
    for version in 1..=codec::VERSION {
        for kind in KINDS {
            for (name, document) in kept(version, kind) {
                let again = reencoded(kind, version, &document.to_string());
                let again = again.unwrap_or_else(|why| panic!("version {version}, {kind}, {name}: {why}"));
                if version == codec::VERSION {
                    assert_eq!(again, document, "{kind}, {name}");
                }
            }
        }
    }
}

#[test]
fn the_fixtures_of_the_current_version_are_complete() {
    for (kind, documents) in KINDS.into_iter().zip(current()) {
        let kept = kept(codec::VERSION, kind);
        let missing: Vec<&String> = documents.keys().filter(|name| !kept.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{kind}: {missing:?}");
        assert!(kept.len() > 10, "{kind}: {}", kept.len());
    }
}

#[test]
fn every_document_encodes_to_itself_again() {
    for (kind, documents) in KINDS.into_iter().zip(current()) {
        for (name, document) in documents {
            let again = reencoded(kind, codec::VERSION, &document.to_string());
            assert_eq!(again.as_ref(), Ok(&document), "{kind}, {name}");
        }
    }
}

#[test]
fn a_document_of_a_newer_version_is_refused() {
    for (kind, documents) in KINDS.into_iter().zip(current()) {
        let (_, document) = documents.into_iter().next().expect("a document");
        let why = reencoded(kind, codec::VERSION + 1, &document.to_string()).expect_err("newer");
        assert!(why.contains("reads versions up to"), "{why}");
    }
}

#[test]
#[ignore = "writes files: run it once when the stored form gets a new version"]
fn write_the_fixtures_of_the_current_version() {
    for (kind, documents) in KINDS.into_iter().zip(current()) {
        let path = file(codec::VERSION, kind);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        let text = serde_json::to_string_pretty(&documents).expect("JSON");
        std::fs::write(path, text + "\n").expect("the file");
    }
}
