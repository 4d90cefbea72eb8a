//! The shapes of domain types in the OpenAPI document, so that the domain itself knows nothing of it. Documentation only: nothing
//! is read or written through them, and a test holds their fields to what is really sent.

#![allow(dead_code, reason = "read by the OpenAPI document only")]

use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What was asked.
#[derive(ToSchema)]
pub struct Goal {
    /// The asker's words.
    #[schema(example = "Make the test suite pass on Windows")]
    text: String,
    /// Where it came from: `manual`, `demo`, or `{"retry": {"run": "…"}}`.
    #[schema(value_type = Object)]
    source: (),
    /// Who asked.
    #[schema(example = "local:ann")]
    asked_by: String,
}

/// An amount used or set aside.
#[derive(ToSchema)]
pub struct Usage {
    /// Tokens, in and out.
    tokens: u64,
    /// Micro-USD.
    cost_micros: u64,
    /// Milliseconds of wall time.
    wall_ms: u64,
    /// Calls of a model. In a reservation: the most there may be, 0 = not limited.
    turns: u64,
}

/// Limits of a run.
#[derive(ToSchema)]
pub struct Limits {
    /// Tokens; `null` = not limited.
    tokens: Option<u64>,
    /// Cost in micro-USD; `null` = not limited.
    cost_micros: Option<u64>,
    /// Calls of models; `null` = not limited.
    turns: Option<u64>,
    /// Wall time of attempts and checks, in seconds.
    wall_secs: u64,
    /// Rounds of rework before a person is asked.
    rounds: u32,
    /// Attempts of all roles together.
    attempts: u32,
}

/// More budget.
#[derive(ToSchema)]
pub struct Raise {
    /// More tokens.
    #[schema(default = 0)]
    tokens: u64,
    /// More micro-USD.
    #[schema(default = 0)]
    cost_micros: u64,
    /// More calls of models.
    #[schema(default = 0)]
    turns: u64,
    /// More seconds of wall time.
    #[schema(default = 0)]
    wall_secs: u64,
    /// More rounds.
    #[schema(default = 0)]
    rounds: u32,
    /// More attempts.
    #[schema(default = 0)]
    attempts: u32,
}

/// Limits that runs share; `null` = not limited.
#[derive(ToSchema)]
pub struct SharedLimits {
    /// Tokens of all the project's runs.
    project_tokens: Option<u64>,
    /// Cost of all the project's runs, in micro-USD.
    project_cost_micros: Option<u64>,
    /// Tokens of all runs of a UTC day.
    day_tokens: Option<u64>,
    /// Cost of all runs of a UTC day, in micro-USD.
    day_cost_micros: Option<u64>,
}

/// Something people were told of a budget.
#[derive(ToSchema)]
pub struct Alert {
    /// Of which.
    #[schema(example = "money")]
    what: String,
    /// The share that was reached, in percent.
    share: u8,
    /// When, in milliseconds since 1970.
    at: i64,
}

/// An engine that could not be used.
#[derive(ToSchema)]
pub struct Cooldown {
    /// When it is tried again; absent = when a person has answered.
    #[schema(required = false)]
    until: Option<i64>,
    /// What happened.
    why: String,
    /// What a person has to do first.
    #[schema(required = false)]
    fix: Option<String>,
    /// How often in a row.
    count: u32,
}

/// A shared budget that keeps a run from going on.
#[derive(ToSchema)]
pub struct SharedBudget {
    /// `project` or `day`.
    share: String,
    /// Whether it is its money; else its tokens.
    money: bool,
    /// By how much it is passed already.
    over: u64,
}

/// What attempts cost, summed up; checks are not in it.
#[derive(ToSchema)]
pub struct Spending {
    /// The project, role, model, day (`2026-11-21`) or run.
    #[schema(example = "reviewer")]
    key: String,
    /// Tokens used.
    tokens: u64,
    /// Micro-USD.
    cost_micros: u64,
    /// Calls of models.
    turns: u64,
    /// Milliseconds. By model: of the attempts whose engine named it, or that began with it.
    wall_ms: u64,
    /// Tokens set aside for attempts at work.
    reserved_tokens: u64,
    /// Micro-USD set aside for attempts at work.
    reserved_cost_micros: u64,
    /// Attempts.
    attempts: u64,
    /// Rounds of rework they took part in.
    rounds: u64,
    /// By model: attempts for which its price was not known; what was set aside was charged for them.
    unpriced: u64,
}

/// A try at a step.
#[derive(ToSchema)]
pub struct Attempt {
    /// Its number in the run.
    id: u32,
    /// `explore`, `plan`, `develop` or `review`.
    step: String,
    /// The task's number, for `develop`.
    #[schema(required = false)]
    task: Option<u32>,
    /// The attempt whose question it looks into, for a scout that was asked.
    #[schema(required = false)]
    answers: Option<u32>,
    /// The engine, `KIND` or `KIND:ARG`.
    engine: String,
    /// When it was ordered, in milliseconds since 1970.
    started_at: i64,
    /// Rounds of rework before it.
    round: u32,
    /// What was set aside for it.
    reserved: Usage,
    /// Shared budgets that had no more to give it than that.
    #[schema(required = false)]
    cut_by: Vec<SharedBudget>,
    /// The engine's conversation that can be taken up again after a restart (`session`), how often it was (`times`), and how many
    /// milliseconds of its time had passed then (`before_ms`); absent where there is none.
    #[schema(required = false, value_type = Object)]
    resumable: (),
    /// How it ended, what was charged, which models that was (`bill`), which secrets it was `given`; absent while it goes on.
    #[schema(required = false, value_type = Object)]
    ended: (),
}

/// Something a person is asked for.
#[derive(ToSchema)]
pub struct Need {
    /// What.
    what: String,
    /// Where to make or find it, exact scopes, where to put it.
    how: String,
}

/// What a run waits for from people.
#[derive(ToSchema)]
pub struct Escalation {
    /// The number of the block it is about.
    block: u32,
    /// Its stable code.
    #[schema(example = "approve_merge")]
    code: String,
    /// In a few words.
    reason: String,
    /// The run, by its short id and goal.
    run: String,
    /// What happened, quoted: may hold text from outside.
    why: String,
    /// What is needed.
    needs: Vec<Need>,
    /// The answers that lift it, as commands.
    answers: Vec<String>,
    /// How the run goes on without a command.
    resumes: String,
    /// What stays reserved meanwhile.
    reserved: String,
}

/// A changed file.
#[derive(ToSchema)]
pub struct FileChange {
    /// Its path.
    path: String,
    /// `added`, `modified` or `deleted`.
    kind: String,
    /// Lines added.
    added: u64,
    /// Lines removed.
    removed: u64,
    /// Whether git takes it for binary.
    binary: bool,
}

/// The size and paths of a diff.
#[derive(ToSchema)]
pub struct DiffStat {
    /// The files, in path order, capped.
    files: Vec<FileChange>,
    /// How many files there are in all.
    files_total: u64,
    /// Lines added in all.
    added: u64,
    /// Lines removed in all.
    removed: u64,
}

/// A check of a project.
#[derive(ToSchema)]
pub struct CheckSpec {
    /// Its name.
    #[schema(example = "check-1")]
    name: String,
    /// `setup`, `test`, `lint` or `scan`.
    kind: String,
    /// The command line.
    #[schema(example = "cargo test --locked")]
    command: String,
    /// Its time limit in seconds.
    limit_secs: u64,
    /// Where it writes JUnit XML.
    #[schema(required = false)]
    junit: Option<String>,
    /// The place it runs at, besides Skep's own machine.
    #[schema(required = false, example = "box")]
    place: Option<String>,
}

/// What a check found.
#[derive(ToSchema)]
pub struct CheckResult {
    /// The check's name.
    name: String,
    /// What it is for.
    kind: String,
    /// Whether it is green.
    green: bool,
    /// The exit code; `null` when it was killed or could not start.
    exit: Option<i32>,
    /// How long it ran, in milliseconds.
    duration_ms: u64,
    /// Why it is red; empty when green.
    why: String,
    /// The end of its output.
    tail: String,
    /// Test cases: `run`, `failed`, `skipped`.
    #[schema(required = false, value_type = Object)]
    tests: (),
    /// Its output and report.
    artifacts: Vec<ArtifactRef>,
    /// The secrets of the vault it was given, by name.
    #[schema(required = false)]
    given: Vec<String>,
}

/// A reference to stored bytes.
#[derive(ToSchema)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes.
    digest: String,
    /// `patch`, `transcript`, `log`, `test_report` or `review`.
    kind: String,
    /// A name for people.
    name: String,
    /// Size in bytes.
    size: u64,
}

/// Which engine, and its argument.
#[derive(ToSchema)]
pub struct EngineSpec {
    /// The kind.
    #[schema(example = "command")]
    kind: String,
    /// What the kind makes of it.
    arg: String,
}

/// A row of the run list.
#[derive(ToSchema)]
pub struct RunRow {
    /// The run.
    run: String,
    /// Its project.
    project: String,
    /// Its goal's title.
    title: String,
    /// Its status word; `quarantined` when its state cannot be used.
    #[schema(example = "running")]
    status: String,
    /// Its phase.
    phase: String,
    /// Events so far.
    seq: u64,
    /// Open blocks, as their codes.
    blocks: Vec<String>,
    /// When it goes on by itself, if it waits for a time.
    #[schema(required = false)]
    wake_at: Option<i64>,
    /// What it waits for until then.
    #[schema(required = false)]
    waits: Option<String>,
    /// When it was opened, in milliseconds since 1970.
    opened_at: i64,
    /// When it was last written.
    updated_at: i64,
    /// Why it is quarantined, if it is.
    #[schema(required = false)]
    quarantined: Option<String>,
}

/// A row of a run's journal.
#[derive(ToSchema)]
pub struct JournalRow {
    /// The run.
    run: String,
    /// Its number in the run, from 1, gapless.
    seq: u64,
    /// When, in milliseconds since 1970.
    at: i64,
    /// The event's name.
    #[schema(example = "admitted")]
    name: String,
    /// The lease's epoch under which it was written.
    epoch: i64,
    /// The event; `null` when the row cannot be read.
    #[schema(value_type = Object)]
    event: (),
}

/// A project.
#[derive(ToSchema)]
pub struct Project {
    /// Its name.
    #[schema(example = "tally")]
    name: String,
    /// The repository.
    #[schema(example = "/srv/git/tally.git")]
    repo: String,
    /// The branch changes land on; `null` = the repository's default.
    base: Option<String>,
    /// What run branches start with.
    #[schema(example = "skep")]
    branch_prefix: String,
    /// Its checks; empty = the repository's own, or detected.
    checks: Vec<CheckSpec>,
    /// Engines by role.
    engines: BTreeMap<String, EngineSpec>,
    /// Its own policy: the keys of `[policy]` in the configuration; `null` = the one configured when a run is opened.
    #[schema(value_type = Option<Object>)]
    policy: (),
}

/// A change of the local forge.
#[derive(ToSchema)]
pub struct Change {
    /// Its number.
    number: u64,
    /// Its title.
    title: String,
    /// Its text, Markdown.
    body: String,
    /// The branch it offers.
    branch: String,
    /// The head of that branch.
    head: String,
    /// The branch it goes to.
    base_branch: String,
    /// Whether it is a draft.
    draft: bool,
    /// `open`, `{"closed": {…}}` or `{"merged": {…}}`.
    #[schema(value_type = Object)]
    state: (),
    /// Who opened it.
    by: String,
    /// When.
    opened_at: i64,
    /// What was said, oldest first.
    comments: Vec<Object>,
    /// Reviews by people, oldest first.
    reviews: Vec<Object>,
    /// Statuses by commit and context.
    #[schema(value_type = Object)]
    statuses: (),
}

/// Whether the way is free.
#[derive(ToSchema)]
pub struct GateWord {
    /// `open`, `shut` or `wait`.
    #[schema(example = "wait")]
    gate: String,
    /// Why it is not open.
    #[schema(required = false)]
    why: Option<String>,
}

/// Any JSON object.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub struct Object(());

/// A secret, without its value.
#[derive(ToSchema)]
pub struct SecretRow {
    /// Its name.
    #[schema(example = "FORGE_TOKEN")]
    name: String,
    /// The project it is for; `null` = for all.
    project: Option<String>,
    /// Counts up with each value.
    version: u64,
    /// Which key it is sealed with.
    key_id: String,
    /// When the first value was kept.
    created_at: i64,
    /// When this value was kept.
    updated_at: i64,
    /// When it was last used.
    last_used_at: Option<i64>,
}

/// Every secret sealed with a new key.
#[derive(ToSchema)]
pub struct Rekeyed {
    /// How many.
    secrets: u64,
    /// The new key's id.
    key_id: String,
    /// What a person has to do now; empty = nothing.
    next: String,
}
