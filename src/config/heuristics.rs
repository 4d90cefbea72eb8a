//! Heuristics files of `skep improve`: the built-in one, and the user's own, which overrides it.

use super::suggest::nearest;
use crate::domain::improve::record::{ENDINGS, STEPS};
use crate::domain::improve::{ChangeKind, Rule};
use serde::Deserialize;
use std::collections::BTreeSet;

/// The built-in heuristics.
pub const BUILT_IN: &str = include_str!("../../config/heuristics.toml");

/// Upper bounds of a file.
pub(super) const MAX_BYTES: u64 = 256 * 1024;
const MAX_RULES: usize = 200;
const MAX_TEXT_CHARS: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Rule>,
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadFile {
    /// What is wrong, and where.
    pub why: String,
    /// The fix, in the imperative.
    pub fix: String,
}

fn bad<T>(why: impl Into<String>, fix: impl Into<String>) -> Result<T, BadFile> {
    Err(BadFile { why: why.into(), fix: fix.into() })
}

/// Reads the rules of a heuristics file.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, BadFile> {
    let File { rule: rules } = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => return Err(malformed(text, &error)),
    };
    if rules.len() > MAX_RULES {
        return bad(format!("has more than {MAX_RULES} rules"), "keep those that you need");
    }
    let mut ids = BTreeSet::new();
    for rule in &rules {
        if !ids.insert(rule.id.as_str()) {
            return bad(format!("has two rules with the id {:?}", rule.id), "give each rule an id of its own");
        }
        check(rule)?;
    }
    Ok(rules)
}

fn check(rule: &Rule) -> Result<(), BadFile> {
    let id = format!("rule {:?}", rule.id);
    let is_name = |text: &str| {
        (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !is_name(&rule.id) || !is_name(&rule.class) {
        return bad(
            format!("{id}: its id or class is not a name"),
            "use 1 to 40 letters, digits, '-' and '_' for both",
        );
    }
    if rule.when.is_empty() || rule.when.iter().any(|when| when.is_empty()) {
        return bad(
            format!("{id}: it fits every failure"),
            "say in each `when` which step, ending, tool or line it is about",
        );
    }
    if rule.kind == ChangeKind::Revert {
        return bad(format!("{id}: the kind \"revert\" is reserved"), "use another kind, such as \"look\"");
    }
    for (key, value, known) in rule.when.iter().flat_map(|w| [("step", &w.step, STEPS), ("ending", &w.ending, ENDINGS)])
    {
        let Some(value) = value.as_ref().filter(|value| !known.contains(&value.as_str())) else { continue };
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let fix = match nearest(value, &known) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("use one of {}", known.join(", ")),
        };
        return bad(format!("{id}: unknown {key} {:?}", shortened(value)), fix);
    }
    let texts = rule.when.iter().flat_map(|when| &when.line).chain([&rule.say, &rule.change]);
    if texts.clone().any(|text| text.trim().is_empty() || text.chars().count() > MAX_TEXT_CHARS) {
        return bad(format!("{id}: a text is empty or too long"), format!("write 1 to {MAX_TEXT_CHARS} characters"));
    }
    if texts.clone().any(|text| text.contains(char::is_control)) {
        return bad(format!("{id}: a text contains a line break or another control character"), "write it on one line");
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Explains why a text is not a heuristics file. For an unknown key, the most similar one is named.
fn malformed(text: &str, error: &toml::de::Error) -> BadFile {
    let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let message = error.message();
    let mut names = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = names.next()
    {
        let known: Vec<String> = names.map(str::to_owned).collect();
        let fix = match nearest(unknown, &known) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        return BadFile { why: format!("line {line}: unknown key `{}`", shortened(unknown)), fix };
    }
    let why: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
    BadFile { why: format!("line {line}: {why}"), fix: "write rules as those in config/heuristics.toml".to_owned() }
}

/// Returns all rules in force: the user's own, then the built-in ones that they do not replace.
pub fn rules(own: &[Rule]) -> Vec<Rule> {
    // A test reads the built-in file.
    let built_in = parse(BUILT_IN).unwrap_or_default();
    let is_replaced = |rule: &Rule| own.iter().any(|other| other.id == rule.id);
    let rest: Vec<Rule> = built_in.into_iter().filter(|rule| !is_replaced(rule)).collect();
    own.iter().cloned().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::improve::Signature;

    /// A line that a program or Skep writes, for each rule.
    const SAMPLES: &[(&str, &str, &str, &str, &str)] = &[
        ("network", "develop", "red", "unit", "curl: (6) Could not resolve host: pypi.org"),
        (
            "network",
            "develop",
            "failed",
            "command",
            "npm ERR! request to https://registry.npmjs.org/a failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org",
        ),
        ("network", "check", "network", "unit", "go: proxy.golang.org: dial tcp: connection refused"),
        ("no_space", "develop", "red", "unit", "OSError: [Errno 28] No space left on device: '/tmp/x'"),
        ("missing_program", "develop", "missing_program", "lint", "sh: 1: ruff: not found"),
        ("missing_program", "develop", "failed", "command", "bash: line 1: cargo: command not found"),
        ("missing_module", "develop", "red", "unit", "ModuleNotFoundError: No module named 'yaml'"),
        ("missing_module", "develop", "red", "unit", "Error: Cannot find module 'left-pad'"),
        ("missing_service", "check", "missing_service", "unit", "Error: connect ECONNREFUSED 127.0.0.1:5432"),
        ("other_toolchain", "check", "other_toolchain", "unit", "go: go.mod requires go >= 1.22 (running go 1.19)"),
        (
            "out_of_memory",
            "develop",
            "red",
            "unit",
            "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        ),
        (
            "out_of_memory",
            "develop",
            "red",
            "unit",
            "process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)",
        ),
        ("permission", "develop", "red", "unit", "mkdir: cannot create directory '/opt/x': Permission denied"),
        ("base_red", "check", "red_at_base", "unit", "FAILED tests/test_a.py::test_b - assert 1 == 2"),
        ("flaky", "check", "flaky", "unit", "passed and failed at the same commit"),
        ("check_timeout", "develop", "timeout", "unit", "the command exceeded its timeout of 600 s and was killed"),
        ("step_time", "develop", "exhausted_step", "llm:a/b", "it exceeded its time limit"),
        ("turns", "develop", "exhausted_turns", "llm:a/b", "it has used its 200 model calls"),
        ("spending", "review", "exhausted_cost", "llm:a/b", "the reservation does not suffice for another call"),
        (
            "circles",
            "develop",
            "failed",
            "llm:a/b",
            "the model went in circles: the same call 4 times in a row (last: read)",
        ),
        (
            "no_tool_calls",
            "plan",
            "failed",
            "llm:a/b",
            "the model answered 3 times without calling a tool; choose a model that supports tool calls",
        ),
        (
            "nothing_changed",
            "develop",
            "refused",
            "llm:a/b",
            "nothing changed: the worktree is identical to the commit the attempt started from",
        ),
        ("forbidden_path", "develop", "refused", "acp:a", "it changed ci/build.yml, which this task must not touch"),
        ("plan_refused", "plan", "refused", "llm:a/b", "the plan has 21 tasks, the policy allows 20"),
        ("review_refused", "review", "refused", "llm:a/b", "it requests changes without saying which"),
        ("unavailable", "develop", "unavailable", "llm:a/b", "429 Too Many Requests"),
        ("lost", "develop", "lost", "llm:a/b", "lost with its process"),
        ("question", "plan", "asked", "llm:a/b", "Which database should the tests use?"),
        ("secret_in_commit", "ops", "push_held", "", "an AWS access key at tests/a.py:3 in 1234567"),
        ("operation", "ops", "failed", "", "cannot push to origin: HTTP 403"),
        ("ci_red", "ci", "red", "build (ubuntu)", "src/a.c:3:1: warning treated as error"),
        ("compile", "develop", "red", "build", "error[E0308]: mismatched types"),
        (
            "compile",
            "develop",
            "red",
            "build",
            "src/a.ts(1,5): error TS2345: Argument of type 'string' is not assignable",
        ),
        ("test", "develop", "red", "unit", "FAILED tests/test_a.py::test_b - assert 1 == 2"),
        ("test", "check", "red", "unit", "--- FAIL: TestSum (0.00s)"),
        ("test", "develop", "red", "unit", "test sum::adds ... FAILED"),
    ];

    #[test]
    fn each_built_in_rule_recognizes_what_it_names() {
        let rules = parse(BUILT_IN).unwrap();
        for (id, step, ending, tool, line) in SAMPLES {
            let signature = Signature::new(step, *ending, tool, line);
            let found = rules.iter().find(|rule| rule.matches(&signature)).map(|rule| rule.id.as_str());
            assert_eq!(found, Some(*id), "{}", signature.text());
        }
        let untested: Vec<&str> =
            rules.iter().map(|r| r.id.as_str()).filter(|id| SAMPLES.iter().all(|(of, ..)| of != id)).collect();
        assert!(untested.is_empty(), "rules without a sample: {untested:?}");
        let other = Signature::new("develop", "failed", "command", "the command exited with code 3");
        assert!(!rules.iter().any(|rule| rule.matches(&other)), "an unknown failure has no rule");
    }

    fn rule(line: &str) -> String {
        format!("[[rule]]\nid = \"own\"\nclass = \"x\"\nsay = \"s\"\nchange = \"c\"\nkind = \"look\"\n{line}\n")
    }

    #[test]
    fn a_bad_file_is_refused_with_a_fix() {
        let when = "when = [{ ending = \"red\" }]";
        assert_eq!(parse(&rule(when)).unwrap().len(), 1);
        for (text, why, fix) in [
            (rule("wehn = [{ ending = \"red\" }]"), "line 7: unknown key `wehn`", "did you mean when?"),
            (rule("when = [{ endng = \"red\" }]"), "unknown key `endng`", "did you mean ending?"),
            (rule("when = [{ ending = \"flakey\" }]"), "unknown ending \"flakey\"", "did you mean \"flaky\"?"),
            (rule("when = [{ step = \"devlop\" }]"), "unknown step", "did you mean \"develop\"?"),
            (rule("when = [{}]"), "fits every failure", "say in each"),
            (rule("when = []"), "fits every failure", "say in each"),
            (rule(when) + &rule(when), "two rules", "an id of its own"),
            (rule(when).replace("look", "revert"), "reserved", "another kind"),
            (rule(when).replace("\"s\"", "\"\""), "empty", "characters"),
            (rule(when).replace("\"s\"", "\"a\\nb\""), "line break", "one line"),
            ("[[rules]]\n".to_owned(), "unknown key `rules`", "did you mean rule?"),
            ("x".to_owned(), "line 1", "config/heuristics.toml"),
        ] {
            let found = parse(&text).unwrap_err();
            assert!(found.why.contains(why) && found.fix.contains(fix), "{text}: {found:?}");
        }
    }

    #[test]
    fn an_own_rule_comes_first_and_replaces_its_namesake() {
        let own = parse(&rule("when = [{ ending = \"red\" }]").replace("own", "test")).unwrap();
        let all = rules(&own);
        assert_eq!(all.len(), rules(&[]).len());
        assert_eq!(all.first(), own.first());
    }
}
