//! Plays a written script of turns and edits, for the demo and for tests. No model is involved.
//!
//! Only the order and its patch determine which turn is played, never the turns before it: the first turn in the file
//! that matches (see [`written::Turn::matches`]). So a restart plays the same turn, and a lost attempt does not change
//! the story.

use super::free;
use crate::domain::{ArtifactKind, Order, Usage};
use crate::platform::rooted_fs::RootedDir;
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod written;

pub use written::{Script, parse};

use written::{Act, Edit, Turn};

/// Scripts that are built in, by the name in `demo:<name>`.
const EMBEDDED: &[(&str, &str)] = &[("tally", include_str!("script/tally.toml"))];

/// Engine `script`.
#[derive(Clone, Debug)]
pub struct ScriptEngine {
    name: String,
    script: Arc<Script>,
}

impl ScriptEngine {
    /// Loads a script from a file, or an embedded one by `demo:<name>`.
    ///
    /// # Errors
    /// If there is no such script, or it is invalid: file, line, key and fix.
    pub fn load(arg: &str) -> Result<Self, String> {
        if let Some(name) = arg.strip_prefix("demo:") {
            let embedded = EMBEDDED.iter().find(|(embedded, _)| *embedded == name);
            let (_, text) = embedded.ok_or_else(|| {
                let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
                format!("no embedded script {name:?}; available: {}", names.join(", "))
            })?;
            return Self::of(arg, text);
        }
        if arg.is_empty() {
            return Err(
                "engine script needs a file; write script:/path/to/script.toml or script:demo:<name>".to_owned()
            );
        }
        let path = Path::new(arg);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return Err(format!("script {arg:?} is not a file path"));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let bytes = RootedDir::open(folder)
            .map_err(|e| format!("script {arg:?}: cannot open its folder: {e}"))?
            .read(name, written::MAX_BYTES)
            .map_err(|why| format!("script {arg:?}: {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("script {arg:?} is not UTF-8 text"))?;
        Self::of(arg, &text)
    }

    /// Parses a script; `name` is for messages.
    ///
    /// # Errors
    /// As for [`ScriptEngine::load`].
    pub fn of(name: &str, text: &str) -> Result<Self, String> {
        let script = parse(text).map_err(|why| format!("script {name}{why}"))?;
        Ok(Self { name: name.to_owned(), script: Arc::new(script) })
    }

    async fn play(&self, turn: &Turn, env: &AttemptEnv, sink: &Sink) -> PortResult<StepOutcome> {
        // The pause is divided among the lines, so that they appear one by one.
        let pause = Duration::from_millis(turn.wait_ms) / u32::try_from(turn.say.len().max(1)).unwrap_or(u32::MAX);
        for line in &turn.say {
            sink(EngineEvent::Said(line.clone()));
            tokio::time::sleep(pause).await;
        }
        if turn.say.is_empty() {
            tokio::time::sleep(pause).await;
        }
        if !turn.edits.is_empty() {
            let tree = RootedDir::open(&env.dir)
                .map_err(|e| PortError::transient(format!("cannot open the worktree {}: {e}", env.dir.display())))?;
            for edit in &turn.edits {
                if let Err(why) = apply(&tree, edit) {
                    return Ok(StepOutcome::Failed(format!("script {}: edit at line {}: {why}", self.name, edit.line)));
                }
                sink(EngineEvent::Did(edit.describe()));
            }
        }
        match &turn.act {
            Act::Outcome(outcome) => Ok(outcome.clone()),
            #[cfg(any(test, debug_assertions))]
            Act::Panic(why) => scripted_panic(why),
            #[cfg(any(test, debug_assertions))]
            Act::Hang => std::future::pending().await,
            #[cfg(any(test, debug_assertions))]
            Act::Exit(code) => std::process::exit(*code),
        }
    }
}

/// Panics as an engine with a defect would, to test supervision.
#[cfg(any(test, debug_assertions))]
#[allow(clippy::panic)]
fn scripted_panic(why: &str) -> ! {
    panic!("scripted panic: {why}")
}

#[async_trait]
impl Engine for ScriptEngine {
    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let Some((number, turn)) = self.script.turn(order, &env.patch) else {
            let task = order.task.as_ref().map_or(String::new(), |t| format!(" of task {:?}", t.spec.name));
            let step = order.step.name();
            return Ok(free(StepOutcome::Failed(format!(
                "script {} has no turn for the {step} step{task}, try {}",
                self.name, order.try_number
            ))));
        };
        let result = self.play(turn, env, &sink).await?;
        let mut transcript = format!("script {}, turn {number} (a written script, no model)\n", self.name);
        for line in &turn.say {
            transcript.push_str(&format!("says: {line}\n"));
        }
        for edit in &turn.edits {
            transcript.push_str(&format!("does: {}\n", edit.describe()));
        }
        Ok(EngineResult {
            result,
            usage: Some(Usage { tokens: turn.tokens, cost_micros: turn.cost_micros, wall_ms: 0, turns: 0 }),
            usage_by_model: Vec::new(),
            session: Some(format!("script-{}-{}", order.run.abbrev(), order.attempt)),
            files: vec![(ArtifactKind::Transcript, "transcript.log".to_owned(), transcript.into_bytes())],
        })
    }
}

fn apply(tree: &RootedDir, edit: &Edit) -> Result<(), String> {
    use written::Change;
    let content_of = |path: &str| -> Result<String, String> {
        let bytes = tree.read(path, written::MAX_BYTES).map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8 text"))
    };
    let write = |path: &str, text: &str| tree.write(path, text.as_bytes()).map_err(|e| e.to_string());
    match &edit.change {
        Change::Write { path, content } => write(path, content),
        Change::Append { path, content } => write(path, &(content_of(path)? + content)),
        Change::Replace { path, old: from, new } => {
            let text = content_of(path)?;
            match text.matches(from.as_str()).count() {
                1 => write(path, &text.replacen(from.as_str(), new, 1)),
                0 => Err(format!("{path:?} does not contain the text to replace")),
                n => Err(format!("{path:?} contains the text to replace {n} times; include more of it")),
            }
        }
        Change::Delete { path } => tree.remove(path).map_err(|e| e.to_string()),
    }
}
