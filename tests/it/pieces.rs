//! Property tests of small pure pieces: plans, policies, the ledger, fences, names, titles, slots.

use crate::support::fixtures::{asker, bare_policy};
use proptest::prelude::*;
use skep::domain::plan::refuse;
use skep::domain::policy::Tightening;
use skep::domain::slots::Slots;
use skep::domain::*;
use std::collections::BTreeSet;

fn spec(name: String, needs: Vec<String>) -> TaskSpec {
    TaskSpec { name, title: "t".to_owned(), text: "t".to_owned(), needs, paths: Vec::new() }
}

fn any_path() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a.rs",
        "src/a.rs",
        "ci/b.yml",
        "ci/x/c.yml",
        "secret/k",
        ".git/x",
        "d/.git",
        "ü/ß.md",
        "x y",
    ])
    .prop_map(str::to_owned)
}

fn any_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["ci/**", "*.rs", "**/*.rs", "secret/*", "**/.git", "ü/**", "[broken"])
        .prop_map(str::to_owned)
}

prop_compose! {
    fn any_diff()(files in prop::collection::vec((any_path(), 0..3_u8, 0..40_u64, 0..40_u64), 0..8), unlisted in 0..3_u64) -> DiffStat {
        let files: Vec<FileChange> = files.into_iter().map(|(path, kind, added, removed)| FileChange {
            path,
            kind: [FileKind::Added, FileKind::Modified, FileKind::Deleted][kind as usize],
            added,
            removed,
            binary: false, blob: None,
        }).collect();
        let added = files.iter().map(|f| f.added).sum();
        let removed = files.iter().map(|f| f.removed).sum();
        DiffStat { files_total: files.len() as u64 + unlisted, added, removed, files, ..DiffStat::default() }
    }
}

prop_compose! {
    fn any_policy()(
        protected_paths in prop::collection::vec(any_pattern(), 0..3),
        test_paths in prop::collection::vec(any_pattern(), 0..2),
        forbidden_paths in prop::collection::vec(any_pattern(), 0..3),
        allowed_paths in prop::collection::vec(any_pattern(), 0..2),
        max_deleted in 0..4_u64,
        max_files in 0..6_u64,
        max_lines in 0..90_u64,
    ) -> Policy {
        Policy {
            protected_paths,
            test_paths,
            forbidden_paths,
            allowed_paths,
            max_deleted,
            max_files,
            max_lines,
            ..bare_policy()
        }
    }
}

prop_compose! {
    fn any_tightening()(
        protected_paths in prop::collection::vec(any_pattern(), 0..2),
        test_paths in prop::collection::vec(any_pattern(), 0..2),
        forbidden_paths in prop::collection::vec(any_pattern(), 0..2),
        approve_plan in any::<bool>(),
        approve_merge in any::<bool>(),
        max_deleted in prop::option::of(0..9_u64),
        max_files in prop::option::of(0..9_u64),
        max_lines in prop::option::of(0..200_u64),
    ) -> Tightening {
        let required_statuses = vec!["ci".to_owned()];
        Tightening { protected_paths, test_paths, forbidden_paths, required_statuses, approve_plan, approve_merge, max_deleted, max_files, max_lines }
    }
}

fn kinds(policy: &Policy, diff: &DiffStat) -> BTreeSet<&'static str> {
    let kind = |c: &Concern| match c {
        Concern::Protected { .. } => "protected",
        Concern::Deletes { .. } => "deletes",
        Concern::Tests { .. } => "tests",
        Concern::Checks { .. } => "checks",
        Concern::TestLines { .. } => "test lines",
        Concern::Unusual { .. } => "unusual",
        Concern::Large { .. } => "large",
    };
    policy.concerns(diff).iter().map(kind).collect()
}

/// Whether the plan can be carried out: some order puts each task after its needs.
fn workable(tasks: &[TaskSpec]) -> bool {
    let mut done: Vec<&str> = Vec::new();
    for _ in tasks {
        let next = tasks
            .iter()
            .find(|t| !done.contains(&t.name.as_str()) && t.needs.iter().all(|n| done.contains(&n.as_str())));
        let Some(next) = next else { return false };
        done.push(&next.name);
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_plan_can_be_worked_through(
        plan in prop::collection::vec((0..6_u8, prop::collection::vec(0..6_u8, 0..3)), 0..8)
    ) {
        let name = |n: u8| ["a", "b", "ü", "日本", "e f", "g"][n as usize].to_owned();
        let tasks: Vec<TaskSpec> =
            plan.into_iter().map(|(n, needs)| spec(name(n), needs.into_iter().map(name).collect())).collect();
        let names: BTreeSet<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
        let usable = !tasks.is_empty()
            && tasks.len() <= 20
            && names.len() == tasks.len()
            && tasks.iter().all(|t| t.needs.len() <= tasks.len())
            && workable(&tasks);
        let refusal = refuse(&tasks, &Policy::default());
        prop_assert_eq!(refusal.is_none(), usable, "{:?}", refusal);
    }

    #[test]
    fn tightening_never_loosens(policy in any_policy(), more in any_tightening(), diff in any_diff()) {
        let (before, forbidden) = (kinds(&policy, &diff), policy.forbids(&diff, &[]));
        let (plan, merge) = (policy.approve_plan, policy.approve_merge);
        let tight = policy.tightened(&more);
        prop_assert!(kinds(&tight, &diff).is_superset(&before));
        prop_assert!(forbidden.is_none() || tight.forbids(&diff, &[]).is_some());
        prop_assert!(tight.approve_plan >= plan && tight.approve_merge >= merge);
        prop_assert!(tight.required_statuses.contains(&"ci".to_owned()));
    }

    #[test]
    fn unlisted_files_are_a_concern(diff in any_diff()) {
        let lax = Policy { max_files: u64::MAX, max_lines: u64::MAX, max_deleted: u64::MAX, ..bare_policy() };
        prop_assert_eq!(kinds(&lax, &diff).contains("large"), diff.files_total > diff.files.len() as u64);
    }

    #[test]
    fn ledger_grants_no_more_than_is_left(
        acts in prop::collection::vec((0..4_u32, any::<u64>(), 0..3_u8), 0..40),
        tokens in prop::option::of(0..5_000_u64), timeout_secs in 0..900_u64, step in prop::option::of(0..2_000_u64),
    ) {
        let limits = Limits { tokens, cost_micros: tokens, timeout_secs, ..Limits::default() };
        let at_most = StepLimits { tries: 1, timeout_secs: 60, tokens: step, cost_micros: None, turns: None };
        let mut ledger = Ledger::default();
        for (n, (attempt, amount, act)) in acts.into_iter().enumerate() {
            let (before, attempt) = (ledger.clone(), AttemptId(attempt));
            match act {
                0 => if let Ok(caps) = ledger.grant(&at_most, &limits) {
                    ledger.reserve(AttemptId(100 + n as u32), caps);
                    let sum = ledger.committed();
                    prop_assert!(tokens.is_none_or(|l| sum.tokens <= l && sum.cost_micros <= l));
                    prop_assert!(sum.wall_ms <= timeout_secs * 1000);
                }
                // A reservation made above (ids from 100) is settled in full, or with an arbitrarily large false usage.
                1 => {
                    let first = ledger.reserved.keys().next().copied().unwrap_or(attempt);
                    let all = ledger.reserved.get(&first).copied().unwrap_or_default();
                    prop_assert_eq!(ledger.settle(first, None), all);
                }
                _ => {
                    let lie = Usage { tokens: amount, cost_micros: amount, wall_ms: amount, turns: 0 };
                    ledger.settle(attempt, Some(lie));
                    prop_assert_eq!(&ledger, &before, "nothing was reserved for {}", attempt);
                }
            }
            prop_assert!(ledger.spent.tokens >= before.spent.tokens && ledger.spent.wall_ms >= before.spent.wall_ms);
        }
    }

    #[test]
    fn fence_is_closed_only_by_its_own_end(text in "[`~a\\n\\r\\t \\x00-\\x1f\\u{2028}]{0,60}") {
        let block = skep::render::fenced(&text);
        let lines: Vec<&str> = block.trim_end_matches('\n').split('\n').collect();
        let fence = lines[0].strip_suffix("text").unwrap();
        prop_assert!(fence.len() >= 3 && fence.chars().all(|c| c == '`'));
        prop_assert_eq!(*lines.last().unwrap(), fence);
        for line in &lines[1..lines.len() - 1] {
            prop_assert!(!line.contains(fence), "{:?} contains the fence", line);
        }
    }

    #[test]
    fn code_span_cannot_be_left(text in "[`a\\n\\r\\x00-\\x1f*@]{0,40}") {
        let span = skep::render::inline(&text);
        prop_assert!(!span[1..span.len() - 1].contains(|c: char| c == '`' || c.is_control()));
    }

    #[test]
    fn any_text_yields_a_project_name(text in any::<String>()) {
        let name = ProjectName::from_text(&text);
        prop_assert_eq!(ProjectName::new(name.as_str()), Ok(name));
    }

    #[test]
    fn every_goal_has_a_title(text in "[a\\n\\r\\x00-\\x1f \\u{fe}日]{0,200}") {
        let title = Goal { text, source: GoalSource::Manual, asked_by: asker(), spec: None }.title();
        prop_assert!(!title.is_empty() && title.chars().count() <= 72 && !title.contains(char::is_control));
    }

    #[test]
    fn slots_are_never_overbooked(max in 1..50_u32, reserved in 0..60_u32, live in 0..60_u32, waiting in 0..2_000_u32) {
        let slots = Slots { max, max_reserved: reserved.min(max.saturating_sub(1)), live: live.min(max), waiting };
        prop_assert!(!slots.admits() || slots.live < max);
        prop_assert!(slots.live < max || !slots.readmits());
        // Progress is guaranteed: with no run in progress, a new run is always admitted.
        prop_assert!(slots.live > 0 || slots.admits());
    }
}

#[test]
fn need_repeated_a_thousand_times_is_refused() {
    let many = vec!["a".to_owned(); 1_000];
    assert!(refuse(&[spec("a".to_owned(), Vec::new()), spec("b".to_owned(), many)], &Policy::default()).is_some());
    let mut wide = spec("a".to_owned(), Vec::new());
    wide.paths = vec!["x".to_owned(); 65];
    assert!(refuse(&[wide], &Policy::default()).is_some());
}

#[test]
fn removed_tests_are_a_concern_and_new_tests_are_not() {
    let changed = |path: &str, kind, added, removed| {
        let file = FileChange { path: path.to_owned(), kind, added, removed, binary: false, blob: None };
        let diff = DiffStat { files: vec![file], files_total: 1, added, removed, ..DiffStat::default() };
        let concerns = Policy::default().concerns(&diff);
        assert!(concerns.len() < 2, "{concerns:?}");
        concerns.into_iter().next()
    };
    let usual = [
        "tests/it/parser.rs",
        "crates/a/tests/parser.rs",
        "src/test/java/ParserTest.java",
        "web/__tests__/parser.js",
        "web/src/parser.test.ts",
        "web/src/parser.spec.ts",
        "spec/parser_spec.rb",
        "app/spec/parser_spec.rb",
        "pkg/parser_test.go",
        "test_parser.py",
        "pkg/test_parser.py",
    ];
    for path in usual {
        let weaker = |lines| Some(Concern::Tests { paths: vec![path.to_owned()], lines });
        assert_eq!(changed(path, FileKind::Deleted, 0, 9), weaker(9), "{path} deleted");
        assert_eq!(changed(path, FileKind::Deleted, 0, 0), weaker(0), "{path} deleted, binary or empty");
        assert_eq!(changed(path, FileKind::Modified, 2, 3), weaker(1), "{path} shorter");
        assert_eq!(changed(path, FileKind::Modified, 3, 3), None, "{path} as long");
        assert_eq!(changed(path, FileKind::Added, 30, 0), None, "{path} new");
    }
    for path in ["src/parser.rs", "src/latest/a.rs", "docs/testing.md", "contest/a.py"] {
        assert_eq!(changed(path, FileKind::Deleted, 0, 9), None, "{path} is not a test");
    }
}
