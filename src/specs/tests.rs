//! Specs are read strictly, and the schema says what the reader does.

use super::{MAX_BYTES, SpecFile, parse, schema, template};
use serde_json::Value;

const VALID: &str = r#"spec: 1
id: json-output
title: "Print `tally` as JSON"
goal: |
  With --json, tally prints one object.
acceptance:
  - id: valid-json
    text: The output is one JSON object
    command: "./tally --json | python3 -m json.tool"
    timeout: 30s
  - id: clear-errors
    text: The message for a wrong path names the path
non_goals: [XML]
forbidden_paths: ["vendor/**"]
"#;

fn problems(text: &str) -> Vec<String> {
    parse(text).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

fn with(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    VALID.replacen(from, to, 1)
}

#[test]
fn a_spec_becomes_a_goal_with_criteria() {
    let file = parse(VALID).unwrap();
    assert_eq!((file.id(), file.counts()), ("json-output", (1, 1)));
    let goal = "Print `tally` as JSON\n\nWith --json, tally prints one object.\n\nNot part of this goal:\n- XML\n";
    assert_eq!(file.goal_text(), goal);
    let spec = file.pinned(|_| 600);
    let tests: Vec<_> = spec.acceptance.iter().map(|c| c.test.as_ref().map(|t| t.timeout_secs)).collect();
    assert_eq!(tests, [Some(30), None]);
    assert_eq!(spec.forbidden_paths, ["vendor/**"]);
    let unlimited = parse(&with("    timeout: 30s\n", "")).unwrap().pinned(|_| 600);
    assert_eq!(unlimited.checks()[0].timeout_secs, 600);
    assert_eq!(unlimited.checks()[0].name, "accept:valid-json");
}

#[test]
fn errors_name_the_line_and_the_nearest_key() {
    for (text, parts) in [
        (
            with("acceptance:", "acceptence:"),
            ["line 6, column 1", "unknown key `acceptence`; did you mean `acceptance`?"],
        ),
        (with("    command:", "    comand:"), ["line 9, column 5", "did you mean `command`?"]),
        (with("spec: 1", "spec: one"), ["line 1, column 7", ""]),
        (with("title: \"Print `tally` as JSON\"", "title: [a]"), ["line 3", ""]),
        (
            with("\"./tally --json | python3 -m json.tool\"", "true"),
            ["line 9, column 14", "`true` is not a text; put it in quotes"],
        ),
        (with("text: The output is one JSON object", "text: 2"), ["line 8", "`2` is not a text"]),
        (with("title: \"Print `tally` as JSON\"\n", ""), ["", "`title` is missing"]),
        (with("title:", "id: again\ntitle:"), ["line 3", "`id` occurs twice"]),
        (with("spec: 1", "spec: 2"), ["line 1", "version 2 is unknown"]),
        (with("id: json-output", "id: JSON Output"), ["line 2, column 5", "id: \"JSON Output\" is not a name"]),
        (
            with("id: clear-errors", "id: valid-json"),
            ["line 11", "acceptance[1].id: `valid-json` is the name of an earlier"],
        ),
        (with("30s", "30 days"), ["line 10", "acceptance[0].timeout: \"30 days\" is not a time limit"]),
        (with("30s", "25h"), ["line 10", "up to 24h"]),
        (with("[XML]", "[\"\"]"), ["line 13", "non_goals[0]: it is empty"]),
        (with("vendor/**", "vendor/{"), ["line 14", "forbidden_paths[0]: invalid path pattern"]),
        (
            with("wrong path names", "wrong\\0path names")
                .replace("text: The message", "text: \"The message")
                .replace("the path\n", "the path\"\n"),
            ["line 12", "NUL"],
        ),
    ] {
        let found = problems(&text);
        assert!(parts.iter().all(|part| found[0].contains(part)), "{text}\n{found:?} lacks {parts:?}");
        assert!(!found[0].contains('\n'), "{found:?}");
    }
    let timed =
        with("    text: The message for a wrong path names the path\n", "    text: It reads well\n    timeout: 1m\n");
    assert!(problems(&timed)[0].contains("a time limit needs a `command`"));
    let several = with("id: json-output", "id: X").replace("30s", "soon").replace("XML", "''");
    assert_eq!(problems(&several).len(), 3, "every violated rule is reported");
}

#[test]
fn hostile_files_are_refused_at_once() {
    let bomb: String = "a: &a [x, x, x, x]\n".to_owned()
        + &(b'b'..=b'z')
            .map(|c| format!("{0}: &{0} [*{1}, *{1}, *{1}]\n", c as char, (c - 1) as char))
            .collect::<String>();
    let deep = format!("spec: {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let many = with("acceptance:", &format!("acceptance:\n{}", "  - {id: a, text: b}\n".repeat(1_500)));
    let criteria: String = (0..13).map(|n| format!("  - {{id: c{n}, text: b}}\n")).collect();
    let sprawling = with("acceptance:\n", &format!("acceptance:\n{criteria}"));
    assert!(problems(&sprawling)[0].contains("15 criteria; 1 to 12"), "{:?}", problems(&sprawling));
    let large = with("goal: |\n", &format!("goal: |\n  {}\n", "x".repeat(MAX_BYTES)));
    for text in [
        bomb,
        deep,
        many,
        large,
        with("goal: |\n", &format!("goal: |\n  {}\n", "x".repeat(17_000))),
        format!("{VALID}---\n{VALID}"),
        with("non_goals: [XML]", "non_goals: &a [XML]"),
        with("non_goals: [XML]", "<<: {a: b}"),
        String::new(),
        "\u{0}".to_owned(),
        "- a".to_owned(),
        "{".to_owned(),
        "spec: 1\n\tid: x".to_owned(),
    ] {
        assert!(parse(&text).is_err(), "{}", text.chars().take(200).collect::<String>());
        let found = problems(&text);
        assert!(!found.is_empty() && found.len() <= 20 && found.iter().all(|p| p.len() < 1_000), "{found:?}");
    }
}

#[test]
fn the_template_is_valid() {
    let file = parse(&template("json-output")).unwrap();
    assert_eq!((file.id(), file.counts()), ("json-output", (1, 1)));
}

/// Returns the object of the schema that describes criteria.
fn criterion_schema(schema: &Value) -> &Value {
    &schema["$defs"]["WrittenCriterion"]
}

fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        Value::Object(all) => all.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_schema_demands_what_the_reader_demands() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for (of, required, optional) in [
        (&schema, vec!["spec", "id", "title", "goal", "acceptance"], vec!["non_goals", "forbidden_paths"]),
        (criterion_schema(&schema), vec!["id", "text"], vec!["command", "timeout"]),
    ] {
        assert_eq!(of["additionalProperties"], false);
        assert_eq!(names(&of["required"]), required);
        let mut all = names(&of["properties"]);
        all.sort_unstable();
        let mut expected = [required, optional].concat();
        expected.sort_unstable();
        assert_eq!(all, expected);
        for (name, property) in of["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name} is not described");
        }
    }
    assert_eq!(schema["properties"]["acceptance"]["maxItems"], crate::domain::Spec::MAX_CRITERIA);
    assert_eq!(schema["properties"]["spec"]["maximum"], 1);
}

/// The bounds of the schema are those of the reader: a text at the bound is read, and one beyond it is refused.
#[test]
fn the_bounds_of_the_schema_are_those_of_the_reader() {
    let schema = schema();
    let bound =
        |of: &Value, name: &str| usize::try_from(of["properties"][name]["maxLength"].as_u64().unwrap()).unwrap();
    let read = |text: &str| -> Result<SpecFile, _> { parse(text) };
    for (name, old, of) in [
        ("title", "\"Print `tally` as JSON\"", &schema),
        ("command", "\"./tally --json | python3 -m json.tool\"", criterion_schema(&schema)),
        ("text", "The output is one JSON object", criterion_schema(&schema)),
    ] {
        let max = bound(of, name);
        assert!(read(&with(old, &"é".repeat(max))).is_ok(), "{name} of {max} characters");
        assert!(read(&with(old, &"é".repeat(max + 1))).is_err(), "{name} of more than {max} characters");
    }
    let max = bound(&schema, "goal");
    let goal = |chars: usize| with("With --json, tally prints one object.", &"x".repeat(chars));
    assert!(read(&goal(max - 1)).is_ok() && read(&goal(max)).is_err(), "the line break counts");
}
