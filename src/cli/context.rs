//! The way to the routes: a running service where there is one, else this process; and the doors the program opens for it.
//!
//! Invariant: nothing here names an adapter; the composition root implements [`Backend`].

use super::args::Isolation;
use super::client::Client;
use super::exit::{CliError, Exit};
use super::screen::Screen;
use crate::config::Sources;
use crate::domain::{ModelUse, Role, Usage};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// The code of a data directory that another process took in this moment.
pub const TAKEN: &str = "taken_now";
/// How often a command that came second looks again for the one that came first.
const TURNS: u32 = 20;

/// Where a command works, and how much it logs.
#[derive(Clone, Debug)]
pub struct CliContext {
    /// The data directory and the configuration's sources.
    pub sources: Sources,
    /// How often `-v` was given.
    pub verbose: u8,
    /// Whether output (and so the log) is JSON.
    pub json: bool,
    /// Whether only Skep's own sample is worked on.
    pub is_demo: bool,
}

/// What a command needs of whoever answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To write something that moves no run by itself.
    Write,
    /// To carry runs on.
    Drive,
}

/// A running service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `http://127.0.0.1:7117`.
    pub base: String,
    /// The token it wants.
    pub token: String,
}

/// The routes in this process.
pub struct InProcessServer {
    /// The routes.
    pub router: axum::Router,
    /// The token they want.
    pub token: String,
    /// Ends it in order: gives leases back, takes `service.json` away.
    pub close: BoxFuture<'static, ()>,
}

/// What `demo` works on.
#[derive(Clone, Debug)]
pub struct Demo {
    /// What people must know before they watch.
    pub notice: String,
    /// The sample's repository, an absolute path.
    pub repo: String,
    /// The branch it lands on.
    pub base: String,
    /// What is asked for.
    pub goal: String,
    /// Who plays which role, `KIND:ARG`.
    pub engines: BTreeMap<Role, String>,
    /// Its checks; empty = those found in the repository.
    pub checks: Vec<String>,
}

/// A key of the configuration with its value and source.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// The value, secrets masked.
    pub value: String,
    /// Where it comes from.
    pub source: String,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is well.
    Good,
    /// It works, but look at it.
    Weak,
    /// It does not work.
    Bad,
}

/// One thing `doctor` looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Looked {
    /// What (`git`, `sandbox`, `store`).
    pub what: String,
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub fix: String,
}

/// What `doctor` found.
#[derive(Clone, Debug)]
pub struct Doctored {
    /// Everything that was looked at.
    pub looked: Vec<Looked>,
    /// A configuration for what is there; empty when the present one can't be read.
    pub proposal: String,
}

/// A role, an engine kind, a provider or an agent, and whether it can be used here.
#[derive(Clone, Debug, Serialize)]
pub struct EngineRow {
    /// `role`, `kind`, `provider` or `agent`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// Whether it can be used on this machine now.
    pub usable: bool,
    /// What it is, or why it can't be used.
    pub found: String,
}

/// How the test of an engine went.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The engine, as it is written.
    pub engine: String,
    /// What it was asked to do.
    pub step: String,
    /// Whether it did.
    pub worked: bool,
    /// What it did, or what is wrong.
    pub what: String,
    /// What to do; empty when there is nothing to do.
    pub fix: String,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
    /// What it used; `None` = not known.
    pub usage: Option<Usage>,
    /// Of which models.
    pub bill: Vec<ModelUse>,
    /// How the command ends.
    #[serde(skip)]
    pub exit: Exit,
}

/// The templates in force for a step's prompt.
#[derive(Clone, Debug, Serialize)]
pub struct StepPrompt {
    /// The step.
    pub step: String,
    /// Who does it.
    pub role: String,
    /// The digest of all its files: what attempts' prompts are known by.
    pub version: String,
    /// Its role's two, and the shared ones they may include.
    pub files: Vec<PromptFile>,
}

/// A prompt template as it is used.
#[derive(Clone, Debug, Serialize)]
pub struct PromptFile {
    /// Its name (`manager/plan.md`).
    pub name: String,
    /// `built in`, `folder` or `project`.
    pub from: String,
    /// The file it was read from; `null` = built in.
    pub path: Option<String>,
    /// The digest of its bytes, in hex.
    pub digest: String,
    /// Its text.
    #[serde(skip)]
    pub text: String,
}

/// What was found of the walls around commands.
#[derive(Clone, Debug, Serialize)]
pub struct WallsTested {
    /// The level that was tested.
    pub level: String,
    /// Whether everything it promises was held back.
    pub holds: bool,
    /// What binds memory and processes of a command here.
    pub bounds: String,
    /// Each action that was tried.
    pub tried: Vec<WallTried>,
}

/// One hostile action.
#[derive(Clone, Debug, Serialize)]
pub struct WallTried {
    /// What was tried.
    pub action: String,
    /// Whether the level promises to hold it back.
    pub promised: bool,
    /// Whether it was held back.
    pub held: bool,
    /// What was seen.
    pub found: String,
}

/// A place for checks, as it is configured.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerRow {
    /// Its name.
    pub name: String,
    /// `local`, `ssh` or `docker`.
    pub kind: String,
    /// Where that is.
    pub found: String,
    /// Whose checks run there: `all`, or names of projects; in brackets those whose single checks may name it.
    pub used_by: Vec<String>,
}

/// How the test of a place went.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerTested {
    /// Its name.
    pub name: String,
    /// Whether all it promises was kept.
    pub holds: bool,
    /// Each promise.
    pub tried: Vec<PromiseTried>,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
}

/// One promise of a place.
#[derive(Clone, Debug, Serialize)]
pub struct PromiseTried {
    /// What is promised.
    pub what: String,
    /// Whether it was kept.
    pub kept: bool,
    /// What was seen.
    pub found: String,
}

/// A step of the store's schema.
#[derive(Clone, Debug, Serialize)]
pub struct SchemaStep {
    /// Its name.
    pub name: String,
    /// Whether it is in the store (after this command).
    pub applied: bool,
}

/// What the program does for the command line: implemented by the composition root.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The living owner of the data directory that answers on REST, if there is one.
    async fn service(&self, context: &CliContext) -> Result<Option<Service>, CliError>;
    /// Owns the data directory and carries its runs on.
    async fn carry(&self, context: &CliContext) -> Result<InProcessServer, CliError>;
    /// Owns the data directory and writes, but starts nothing by itself.
    async fn tell(&self, context: &CliContext) -> Result<InProcessServer, CliError>;
    /// Reads only.
    async fn read(&self, context: &CliContext) -> Result<InProcessServer, CliError>;
    /// Carries all runs on and answers on REST until the process is told to stop. Says on the screen where it listens.
    async fn serve(&self, context: &CliContext, listen: Option<&str>, screen: &Screen) -> Result<(), CliError>;
    /// Brings the schema up to date, or with `status` only looks.
    async fn migrate(&self, context: &CliContext, status: bool) -> Result<Vec<SchemaStep>, CliError>;
    /// Looks at everything that is needed.
    async fn doctor(&self, context: &CliContext) -> Result<Doctored, CliError>;
    /// Every role, engine kind, provider and agent.
    async fn engines(&self, context: &CliContext) -> Result<Vec<EngineRow>, CliError>;
    /// Lets an engine (or the one of a role) do a small order in a throw-away repository. What it says goes to `said`.
    async fn prove(&self, context: &CliContext, what: &str, said: mpsc::Sender<String>) -> Result<Proof, CliError>;
    /// The prompt templates in force, for a project or for those without their own.
    async fn prompts(&self, context: &CliContext, project: Option<&str>) -> Result<Vec<StepPrompt>, CliError>;
    /// Tries hostile actions behind the walls around commands, at the configured level or another.
    async fn test_walls(&self, context: &CliContext, level: Option<Isolation>) -> Result<WallsTested, CliError>;
    /// Every place where checks may run.
    async fn places(&self, context: &CliContext) -> Result<Vec<RunnerRow>, CliError>;
    /// Has small checks run at one of them.
    async fn prove_runner(&self, context: &CliContext, name: &str) -> Result<RunnerTested, CliError>;
    /// Reads the configuration; everything that is wrong with it at once.
    async fn config(&self, context: &CliContext) -> Result<Vec<Setting>, CliError>;
    /// Puts the demo's project in place.
    async fn demo(&self, context: &CliContext) -> Result<Demo, CliError>;
}

/// A client, and what ends with it.
pub struct Reached {
    /// The client.
    pub client: Client,
    close: Option<BoxFuture<'static, ()>>,
}

impl Reached {
    /// Ends what was opened for it.
    pub async fn close(self) {
        if let Some(close) = self.close {
            close.await;
        }
    }
}

/// The one way to a client: a running service first, so that two owners never happen.
pub async fn reach(doors: &dyn Backend, context: &CliContext, need: Access) -> Result<Reached, CliError> {
    let mut turns = 0;
    loop {
        if let Some(service) = doors.service(context).await? {
            return Ok(Reached { client: Client::remote(&service.base, &service.token)?, close: None });
        }
        let server = match need {
            Access::Read => doors.read(context).await,
            Access::Write => doors.tell(context).await,
            Access::Drive => doors.carry(context).await,
        };
        match server {
            Ok(server) => {
                return Ok(Reached {
                    client: Client::in_process(server.router, server.token),
                    close: Some(server.close),
                });
            }
            // Another command was quicker: it answers for both.
            Err(trouble) if turns < TURNS && trouble.problems.iter().any(|p| p.code == TAKEN) => turns += 1,
            Err(trouble) => return Err(trouble),
        }
    }
}
