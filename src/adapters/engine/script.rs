//! Plays a written script of turns and edits: for the demo and for tests. It thinks nothing.
//!
//! Which turn is played follows from the order and its patch alone, never from what was played before: the first turn of
//! the file that fits (see [`written::Turn::fits`]). So a restart plays the same, and an attempt lost on the way costs nothing
//! of the story.

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

/// The engine.
#[derive(Clone, Debug)]
pub struct ScriptEngine {
    name: String,
    script: Arc<Script>,
}

impl ScriptEngine {
    /// Reads the script: a file's path, or `demo:<name>` for an embedded one.
    ///
    /// # Errors
    /// When there is no such script, or it is not well written: file, line, key and fix.
    pub fn load(arg: &str) -> Result<Self, String> {
        if let Some(name) = arg.strip_prefix("demo:") {
            let embedded = EMBEDDED.iter().find(|(embedded, _)| *embedded == name);
            let (_, text) = embedded.ok_or_else(|| {
                let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
                format!("there is no embedded script {name:?}; there is: {}", names.join(", "))
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
            return Err(format!("script {arg:?} is not a file's path"));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let bytes = RootedDir::open(folder)
            .map_err(|e| format!("script {arg:?}: its folder cannot be opened: {e}"))?
            .read(name, written::BYTES_MAX)
            .map_err(|why| format!("script {arg:?}: {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("script {arg:?} is not UTF-8 text"))?;
        Self::of(arg, &text)
    }

    /// A script from its text; `name` is for messages.
    ///
    /// # Errors
    /// As for [`ScriptEngine::load`].
    pub fn of(name: &str, text: &str) -> Result<Self, String> {
        let script = parse(text).map_err(|why| format!("script {name}{why}"))?;
        Ok(Self { name: name.to_owned(), script: Arc::new(script) })
    }

    async fn play(&self, turn: &Turn, env: &AttemptEnv, sink: &Sink) -> PortResult<StepOutcome> {
        // The pauses are shared out over what is said, so that a watcher sees lines come one by one.
        let pause = Duration::from_millis(turn.wait_ms) / u32::try_from(turn.say.len().max(1)).unwrap_or(u32::MAX);
        for line in &turn.say {
            sink(EngineEvent::Said(line.clone()));
            tokio::time::sleep(pause).await;
        }
        if turn.say.is_empty() {
            tokio::time::sleep(pause).await;
        }
        if !turn.edits.is_empty() {
            let tree = RootedDir::open(&env.dir).map_err(|e| {
                PortError::transient(format!("the worktree {} cannot be opened: {e}", env.dir.display()))
            })?;
            for edit in &turn.edits {
                if let Err(why) = apply(&tree, edit) {
                    return Ok(StepOutcome::Failed(format!("script {}: edit at line {}: {why}", self.name, edit.line)));
                }
                sink(EngineEvent::Did(edit.words()));
            }
        }
        match &turn.act {
            Act::StepOutcome(work) => Ok(work.clone()),
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
            transcript.push_str(&format!("does: {}\n", edit.words()));
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
    let old = |path: &str| -> Result<String, String> {
        let bytes = tree.read(path, written::BYTES_MAX).map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8 text"))
    };
    let write = |path: &str, text: &str| tree.write(path, text.as_bytes()).map_err(|e| e.to_string());
    match &edit.change {
        Change::Write { path, content } => write(path, content),
        Change::Append { path, content } => write(path, &(old(path)? + content)),
        Change::Replace { path, old: from, new } => {
            let text = old(path)?;
            match text.matches(from.as_str()).count() {
                1 => write(path, &text.replacen(from.as_str(), new, 1)),
                0 => Err(format!("{path:?} does not contain the text to replace")),
                n => Err(format!("{path:?} contains the text to replace {n} times; give more of it")),
            }
        }
        Change::Delete { path } => tree.remove(path).map_err(|e| e.to_string()),
    }
}
