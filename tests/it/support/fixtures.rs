//! Initial data of a simulated run: a goal, checks, engines, a policy of any strictness.

use super::rng::{Rng, sha};
use skep::domain::*;
use std::collections::BTreeMap;

/// The person who asks for runs.
pub fn asker() -> Principal {
    Principal("local:ada".to_owned())
}

/// A person who did not ask for the run.
pub fn other() -> Principal {
    Principal("local:bob".to_owned())
}

pub fn engine(kind: &str) -> EngineSpec {
    EngineSpec { kind: kind.to_owned(), arg: String::new() }
}

/// A policy without path patterns, which take the most time and matter to few seeds, and without a check of the base.
pub fn bare_policy() -> Policy {
    Policy {
        protected_paths: Vec::new(),
        test_paths: Vec::new(),
        forbidden_paths: Vec::new(),
        base_checks: BaseChecks::Off,
        ..Policy::default()
    }
}

/// A run to open with this policy.
pub fn opened(policy: Policy) -> Opened {
    let roles = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
    let test = CheckSpec {
        name: "test".to_owned(),
        kind: CheckKind::Test,
        command: "make test".to_owned(),
        timeout_secs: 60,
        junit: None,
        runner: None,
        detected: false,
    };
    Opened {
        id: RunId(uuid::Uuid::from_u128(7)),
        project: ProjectName::from_text("demo"),
        goal: Goal { text: "Make it say hello".to_owned(), source: GoalSource::Manual, asked_by: asker(), spec: None },
        settings: Settings {
            limits: Default::default(),
            notices: Vec::new(),
            fallbacks: BTreeMap::new(),
            origin: "/srv/demo.git".to_owned(),
            forge: Default::default(),
            policy,
            engines: roles.into_iter().map(|r| (r, engine("script"))).collect::<BTreeMap<_, _>>(),
            checks: vec![test],
            base_branch: "main".to_owned(),
            branch: "skep/hello".to_owned(),
        },
        base: sha(&["root"]),
        traceparent: None,
    }
}

/// A random policy. Half of them have some tight limit.
pub fn any_policy(rng: &mut Rng) -> Policy {
    let mut p = bare_policy();
    p.parallel_tasks = 1 + rng.below(3) as u32;
    p.base_checks = rng.one_of(&BaseChecks::ALL).1;
    p.check_head_again = rng.chance(30);
    p.explore = rng.chance(20);
    p.approve_plan = rng.chance(15);
    p.approve_merge = rng.chance(60);
    p.self_approval = rng.chance(70);
    p.max_tasks = 6;
    p.max_questions = rng.below(4) as u32;
    if rng.chance(25) {
        p.required_statuses.push("ci".to_owned());
    }
    if rng.chance(8) {
        p.protected_paths.push("ci/**".to_owned());
        p.forbidden_paths.push("secret/**".to_owned());
    }
    if rng.chance(30) {
        p.test_paths.push("gen/**".to_owned());
    }
    if rng.chance(20) {
        p.max_files = 2;
    }
    p.limits.rounds = rng.below(4) as u32;
    if rng.chance(30) {
        p.limits.attempts = 3 + rng.below(12) as u32;
    }
    if rng.chance(30) {
        p.limits.tokens = Some(1_000 + rng.below(20_000));
    }
    if rng.chance(20) {
        p.limits.cost_micros = Some(100 + rng.below(2_000));
        p.steps.develop.cost_micros = Some(150);
    }
    if rng.chance(30) {
        p.steps.develop.tokens = Some(900);
        p.steps.review.tokens = Some(400);
    }
    if rng.chance(15) {
        p.limits.turns = Some(5 + rng.below(60));
    }
    if rng.chance(20) {
        p.shared.day_tokens = Some(500 + rng.below(6_000));
    }
    if rng.chance(10) {
        p.shared.project_cost_micros = Some(100 + rng.below(2_000));
        p.shared.project_tokens = Some(1_000 + rng.below(20_000));
    }
    if rng.chance(20) {
        p.limits.timeout_secs = 300 + rng.below(4_000);
    }
    // Without a draw, so that the seeds keep their meaning.
    p.landing_batch = if rng.clone().chance(40) { 4 } else { 1 };
    p
}

/// Adds fallbacks to the engines, some of them of the same model family.
pub fn with_fallbacks(opened: &mut Opened, rng: &mut Rng) {
    let llm = |arg: &str| EngineSpec { kind: "llm".to_owned(), arg: arg.to_owned() };
    let all = [llm("anthropic/claude-9"), llm("openai/gpt-9"), llm("local/qwen-9"), llm("openrouter/claude-8")];
    for role in [Role::Manager, Role::Dev, Role::Reviewer, Role::Scout] {
        let from = rng.below(4) as usize;
        opened.settings.engines.insert(role, all[from].clone());
        let more = (0..rng.below(3) as usize).map(|n| all[(from + n + 1) % 4].clone()).collect();
        opened.settings.fallbacks.insert(role, more);
    }
}

/// A policy with ample budgets, for runs that are compared with each other.
pub fn roomy_policy(rng: &mut Rng) -> Policy {
    let mut p = any_policy(rng);
    p.shared = SharedLimits::default();
    p.limits = Limits { timeout_secs: 1_000_000, attempts: 10_000, rounds: 2, ..Limits::default() };
    p
}
