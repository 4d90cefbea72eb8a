//! Sample orders for validating templates: per step, one with every field and one with none.

use super::super::context::{About, Instruction};
use super::STEPS;
use crate::domain::check::TestCounts;
use crate::domain::memory::Citation;
use crate::domain::order::{Bounds, TaskOrder};
use crate::domain::{
    AttemptId, CheckKind, CheckResult, CheckSpec, Criterion, CriterionTest, DiffStat, EngineSpec, FileChange, FileKind,
    Memory, MemoryId, MemoryKind, MemoryState, Note, NoteSource, Order, Principal, ProjectName, RunId, Step, TaskId,
    TaskSpec, Timestamp, Usage,
};

/// Patch of the full order.
pub(super) const PATCH: &str = "--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1 +1 @@\n-one\n+two\n";

/// Facts about its repository.
pub(super) fn about() -> About {
    About {
        instructions: vec![Instruction { path: "AGENTS.md", text: "Run the tests.".to_owned() }],
        layout: vec!["src/ (2 files)".to_owned(), "Cargo.toml".to_owned()],
        memories: vec![memory()],
    }
}

fn memory() -> Memory {
    let project = ProjectName::from_text("sample");
    Memory {
        id: MemoryId::of(&project, MemoryKind::Fact, "base/test"),
        project,
        kind: MemoryKind::Fact,
        state: MemoryState::Live,
        author: Principal::skep(),
        step: None,
        title: "The check `test` fails at the base".to_owned(),
        body: "It failed with: no such file".to_owned(),
        cites: vec![Citation::of_file("src/a.rs")],
        run: Some(RunId(uuid::Uuid::nil())),
        seq: 3,
        created_at: Timestamp(0),
        seen_at: Timestamp(0),
        ends_at: Timestamp(1),
    }
}

/// Returns all sample orders.
pub(super) fn orders() -> Vec<Order> {
    STEPS.iter().flat_map(|step| [empty(*step), full(*step)]).collect()
}

fn empty(step: Step) -> Order {
    Order {
        run: RunId(uuid::Uuid::nil()),
        attempt: AttemptId(1),
        try_number: 1,
        round: 1,
        step,
        engine: EngineSpec { kind: "sample".to_owned(), arg: String::new() },
        goal: "Make it right".to_owned(),
        question: None,
        task: (step == Step::Develop).then(|| task(Vec::new())),
        head: "a".repeat(40).as_str().into(),
        continues: None,
        base: "b".repeat(40).as_str().into(),
        notes: Vec::new(),
        checks: Vec::new(),
        criteria: Vec::new(),
        results: Vec::new(),
        excused: Vec::new(),
        diff: DiffStat::default(),
        concerns: Vec::new(),
        bounds: Bounds::default(),
        caps: Usage::default(),
        resume: None,
    }
}

fn full(step: Step) -> Order {
    let words = |word: &str| vec![word.to_owned()];
    let result = |name: &str, green| CheckResult {
        name: name.to_owned(),
        kind: CheckKind::Test,
        green,
        exit_code: Some(i32::from(!green)),
        duration_ms: 10,
        why: "it failed".to_owned(),
        failures: Vec::new(),
        tail: "assertion failed".to_owned(),
        tests: Some(TestCounts { run: 3, failed: 1, skipped: 0 }),
        artifacts: Vec::new(),
        secrets: Vec::new(),
        fault: None,
    };
    let command = "cargo test".to_owned();
    let file = FileChange {
        path: "src/a.rs".to_owned(),
        kind: FileKind::Modified,
        added: 1,
        removed: 1,
        binary: false,
        blob: None,
    };
    Order {
        try_number: 2,
        round: 2,
        question: (step == Step::Explore).then(|| "Where is the parser?".to_owned()),
        task: (step == Step::Develop).then(|| task(words("src/**"))),
        continues: (step == Step::Develop).then(|| "c".repeat(40).as_str().into()),
        notes: [NoteSource::Checks, NoteSource::Review, NoteSource::Answer, NoteSource::Scout]
            .map(|source| Note::new(source, "a note"))
            .to_vec(),
        checks: vec![CheckSpec {
            name: "test".to_owned(),
            kind: CheckKind::Test,
            command,
            timeout_secs: 60,
            junit: None,
            runner: None,
            detected: false,
        }],
        criteria: vec![
            Criterion {
                id: "valid-json".to_owned(),
                text: "The output is JSON".to_owned(),
                test: Some(CriterionTest { command: "./tool --json".to_owned(), timeout_secs: 60 }),
            },
            Criterion { id: "clear".to_owned(), text: "Errors are clear".to_owned(), test: None },
        ],
        results: vec![result("lint", true), result("test", false)],
        excused: words("flaky"),
        diff: DiffStat { files: vec![file], files_total: 1, added: 1, removed: 1, ..DiffStat::default() },
        concerns: words("it is large"),
        bounds: Bounds {
            max_tasks: 5,
            allowed_paths: words("**"),
            forbidden_paths: words("**/.git"),
            protected_paths: words("ci/**"),
        },
        caps: Usage { tokens: 1_000, cost_micros: 1_000, wall_ms: 60_000, turns: 10 },
        ..empty(step)
    }
}

fn task(paths: Vec<String>) -> TaskOrder {
    let (name, title, text) = ("parser".to_owned(), "Write the parser".to_owned(), "All of it".to_owned());
    TaskOrder { id: TaskId(1), spec: TaskSpec { name, title, text, needs: Vec::new(), paths } }
}
