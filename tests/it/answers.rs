//! Structured answers: which are accepted, which are refused with which message, and that the schema agrees.

use crate::engines_contract::{AttemptDirs, order};
use serde_json::{Value, json};
use skep::adapters::engine::answer::{self, last_json_block};
use skep::domain::order::Bounds;
use skep::domain::{AskedTo, Criterion, CriterionTest, FileChange, FileKind, Order, Step, Verdict};
use skep::ports::engine::StepOutcome;

const STEPS: [Step; 4] = [Step::Explore, Step::Plan, Step::Develop, Step::Review];

fn read(order: &Order, dirs: &AttemptDirs, value: &Value) -> Result<StepOutcome, String> {
    answer::from_value(value.clone())?.into_outcome(order, &dirs.attempt_env())
}

fn example(step: Step) -> Value {
    match step {
        Step::Explore => json!({"notes": "add is in src/lib.rs:3"}),
        Step::Plan => json!({"tasks": [
            {"name": "a", "title": "A", "text": "Do a", "needs": [], "paths": ["src/**"]},
            {"name": "b", "title": "B", "text": "Do b", "needs": ["a"], "paths": []},
        ]}),
        Step::Develop => json!({"summary": "did it"}),
        Step::Review => {
            json!({"verdict": "rework", "summary": "no", "findings": [{"path": "seen.rs", "line": 3, "text": "x"}]})
        }
    }
}

fn reviewed() -> Order {
    let mut review = order(Step::Review, None);
    review.diff.files = vec![FileChange {
        path: "seen.rs".to_owned(),
        kind: FileKind::Deleted,
        added: 0,
        removed: 1,
        binary: false,
        blob: None,
    }];
    review.diff.files_total = 1;
    review
}

fn an_order(step: Step) -> Order {
    if step == Step::Review { reviewed() } else { order(step, None) }
}

#[test]
fn every_step_takes_its_own_answer_a_question_and_a_failure_and_no_other() {
    let dirs = AttemptDirs::new();
    for step in STEPS {
        let order = an_order(step);
        for other in STEPS {
            assert_eq!(read(&order, &dirs, &example(other)).is_ok(), step == other, "{step:?} was given {other:?}'s");
        }
        assert!(
            matches!(read(&order, &dirs, &json!({"question": "Which?"})), Ok(StepOutcome::Asked { question: q, to: AskedTo::Person }) if q == "Which?")
        );
        assert!(matches!(read(&order, &dirs, &json!({"failed": "no disk"})), Ok(StepOutcome::Failed(_))));
        for bad in [json!({}), json!([]), json!("x"), json!({"question": " "}), json!({"question": "a", "failed": "b"})]
        {
            assert!(read(&order, &dirs, &bad).is_err(), "{step:?} took {bad}");
        }
        let mut granted = example(step);
        granted["approved"] = json!(true);
        assert!(read(&order, &dirs, &granted).unwrap_err().contains("unknown field `approved`"));
    }
}

#[test]
fn plans_make_sense() {
    let dirs = AttemptDirs::new();
    let mut order = order(Step::Plan, None);
    order.bounds = Bounds { max_tasks: 2, ..Bounds::default() };
    let task = |name: &str, needs: &[&str]| json!({"name": name, "title": "T", "text": "t", "needs": needs});
    let with = |key: &str, value: Value| {
        let mut t = task("a", &[]);
        t[key] = value;
        vec![t]
    };
    for (tasks, part) in [
        (vec![], "no task"),
        (vec![task("a", &[]), task("b", &[]), task("c", &[])], "allows 2"),
        (vec![task("a", &[]), task("a", &[])], "two tasks are named"),
        (vec![task("a", &["z"])], "not in the plan"),
        (vec![task("a", &["b"]), task("b", &["a"])], "depends on itself"),
        (with("paths", json!(["src/{a"])), "invalid path pattern"),
        (with("title", json!(" ")), "no title"),
        (with("name", json!("a\u{1b}[2J")), "control character"),
        (with("grants", json!(["merge"])), "unknown field `grants`"),
        (with("text", json!("x".repeat(70_000))), "over 64 KiB"),
    ] {
        let why = read(&order, &dirs, &json!({ "tasks": tasks })).unwrap_err();
        assert!(why.contains(part), "{tasks:?}: {why:?}");
    }
}

#[test]
fn findings_name_existing_files() {
    let (dirs, order) = (AttemptDirs::new(), reviewed());
    std::fs::create_dir(dirs.tree().join("src")).unwrap();
    std::fs::write(dirs.tree().join("src/a.rs"), "a\n").unwrap();
    std::fs::write(dirs.root.path().join("outside"), "a\n").unwrap();
    let on = |path: &str| json!({"verdict": "rework", "findings": [{"path": path, "line": 1, "text": "x"}]});
    for path in ["", "seen.rs", "src/a.rs"] {
        assert!(read(&order, &dirs, &on(path)).is_ok(), "{path:?} was refused");
    }
    for path in ["gone.rs", "../outside", "/etc/passwd", "a/src/a.rs", "src/./a.rs", "x\u{0}"] {
        let why = read(&order, &dirs, &on(path)).unwrap_err();
        assert!(why.contains("neither in the diff"), "{path:?}: {why:?}");
    }
    for (bad, part) in [
        (json!({"verdict": "rework"}), "at least one finding"),
        (json!({"verdict": "rework", "summary": " \n"}), "at least one finding"),
        (json!({"verdict": "approve", "findings": [{"path": "seen.rs", "text": " "}]}), "no text"),
        (json!({"verdict": "approve", "findings": [{"path": "seen.rs", "line": -1, "text": "x"}]}), "-1"),
        (json!({"verdict": "approve", "findings": vec![json!({"text": "x"}); 51]}), "the limit is 50"),
        (json!({"verdict": "merge"}), "unknown variant"),
    ] {
        let why = read(&order, &dirs, &bad).unwrap_err();
        assert!(why.contains(part), "{bad}: {why:?}");
    }
    let summary_is_enough = json!({"verdict": "rework", "summary": "the goal is not met: nothing adds"});
    assert!(matches!(
        read(&order, &dirs, &summary_is_enough),
        Ok(StepOutcome::Judged { verdict: Verdict::Rework, .. })
    ));
}

/// Returns why the schema does not allow `value`. Covers only the JSON Schema keywords that Skep uses.
fn breaks(schema: &Value, value: &Value) -> Option<String> {
    let kind = schema["type"].as_str()?;
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        other => return Some(format!("the schema says {other}")),
    };
    if !fits {
        return Some(format!("{value} is not of type {kind}"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Some(format!("{value} is none of {words:?}"));
    }
    let items = value.as_array().into_iter().flatten();
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = missing.filter(|k| value.get(k).is_none()).map(|k| format!("{k} is missing")).next();
    let fields = value.as_object().into_iter().flatten();
    missing.or_else(|| items.filter_map(|v| breaks(&schema["items"], v)).next()).or_else(|| {
        fields
            .map(|(k, v)| match schema["properties"].get(k) {
                None => Some(format!("{k} is unknown")),
                Some(inner) => breaks(inner, v),
            })
            .find_map(|broken| broken)
    })
}

#[test]
fn the_schema_and_the_types_agree() {
    let dirs = AttemptDirs::new();
    for step in STEPS {
        let (schema, order) = (skep::ports::answer_schema::schema(step), an_order(step));
        let mut samples =
            vec![json!({"question": "q"}), json!({"failed": "f"}), json!({"other": 1}), json!({"question": 1})];
        samples.extend(STEPS.map(example));
        // Each field with another type, at the top and one level down, and an unknown field one level down.
        let good = example(step);
        for key in good.as_object().unwrap().keys() {
            let mut other = good.clone();
            other[key] = json!(7);
            samples.push(other);
            if let Some(inner) = good[key].as_array().and_then(|a| a[0].as_object()) {
                for field in inner.keys() {
                    let mut other = good.clone();
                    other[key][0][field] = json!({});
                    samples.push(other);
                }
                let mut other = good.clone();
                other[key][0]["grant"] = json!("all");
                samples.push(other);
            }
        }
        for sample in samples {
            let (by_schema, by_types) = (breaks(&schema, &sample), read(&order, &dirs, &sample));
            // A schema without `oneOf` cannot express that the answer is exactly one form.
            let is_no_form = by_types.as_ref().is_err_and(|why| why.contains("step requires"));
            let agree = if by_types.is_ok() { by_schema.is_none() } else { by_schema.is_some() || is_no_form };
            assert!(agree, "{step:?} {sample}: {by_schema:?} / {by_types:?}");
        }
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}

#[test]
fn a_review_judges_each_criterion_without_a_command_and_no_other() {
    let dirs = AttemptDirs::new();
    let mut order = reviewed();
    let test = Some(CriterionTest { command: "true".to_owned(), timeout_secs: 1 });
    order.criteria = vec![
        Criterion { id: "tested".to_owned(), text: "x".to_owned(), test },
        Criterion { id: "clear".to_owned(), text: "y".to_owned(), test: None },
    ];
    let review = |verdict: &str, criteria: Value| json!({"verdict": verdict, "summary": "s", "criteria": criteria});
    let met = json!({"id": "clear", "met": true, "why": "a.rs:1"});
    let unmet = json!({"id": "clear", "met": false, "why": "no"});
    let given = read(&order, &dirs, &review("approve", json!([met]))).unwrap();
    assert!(matches!(given, StepOutcome::Judged { criteria, .. } if criteria.len() == 1 && criteria[0].met));
    assert!(read(&order, &dirs, &review("rework", json!([unmet]))).is_ok());
    for (verdict, criteria, part) in [
        ("approve", json!([]), "exactly one entry for the acceptance criterion \"clear\""),
        ("approve", json!([met, unmet]), "exactly one entry"),
        ("approve", json!([met, {"id": "tested", "met": true}]), "\"tested\", which is not a criterion that you"),
        ("approve", json!([unmet]), "the verdict must be \"rework\""),
        ("rework", json!([{"id": "clear", "met": false}]), "say why"),
        ("approve", json!([{"id": "clear", "met": "yes"}]), "invalid type"),
    ] {
        let why = read(&order, &dirs, &review(verdict, criteria.clone())).unwrap_err();
        assert!(why.contains(part), "{criteria}: {why}");
    }
    let plan = json!({"notes": "n", "criteria": []});
    assert!(read(&an_order(Step::Explore), &dirs, &plan).unwrap_err().contains("only allowed with a verdict"));
}

#[test]
fn the_last_json_block_is_found() {
    let fence = "```";
    for (text, found) in [
        (format!("Done.\n{fence}json\n{{\"a\": 1}}\n{fence}\n"), Some("{\"a\": 1}")),
        (
            format!("{fence}json\n{{\"a\": 1}}\n{fence}\nno:\n{fence}json\n{{\"a\": 2}}\n{fence}\nBye"),
            Some("{\"a\": 2}"),
        ),
        (format!("{fence}\n{{\"a\": 1}}\n{fence}"), Some("{\"a\": 1}")),
        (format!("{fence}JSON\r\n{{\"a\": 1}}\r\n{fence}\r\n"), Some("{\"a\": 1}")),
        // Backticks in a string are not on a line of their own.
        (format!("{fence}json\n{{\"a\": \"{fence}rust\"}}\n{fence}"), Some("{\"a\": \"```rust\"}")),
        (format!("{fence}{fence}json\n{{\"a\":\n{fence}\n1}}\n{fence}{fence}"), Some("{\"a\":\n```\n1}")),
        // A block in another language does not count, but an answer after it does.
        (format!("{fence}rust\n{{ 1 }}\n{fence}\n"), None),
        (format!("{fence}rust\nfn main() {{}}\n{fence}\n{{\"a\": 3}}"), Some("{\"a\": 3}")),
        (format!("cut off\n{fence}json\n{{\"a\": 1"), Some("{\"a\": 1")),
        ("{\n  \"a\": 1\n}\n".to_owned(), Some("{\n  \"a\": 1\n}")),
        (format!("{fence}json\n[1]\n{fence}"), None),
        ("nothing".to_owned(), None),
        (String::new(), None),
        (format!("{fence}{fence}{fence}"), None),
    ] {
        assert_eq!(last_json_block(&text), found, "{text}");
    }
    assert!(answer::from_output("I did it").unwrap_err().contains("no fenced ```json block"));
    let cut_off = answer::from_output(&format!("{fence}json\n{{\"a\": 1")).unwrap_err();
    assert!(cut_off.contains("is invalid"), "{cut_off}");
    let correction = answer::correction(Step::Plan, "x".repeat(5_000).as_str());
    assert!(correction.len() < 2_500 && correction.contains("\"tasks\""));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_harm(text in "[`{}\\n a\"json~é:]{0,80}") {
        if let Some(block) = last_json_block(&text) {
            let opens = block.as_bytes()[0] == b'\x7b';
            proptest::prop_assert!(opens && text.contains(block));
        }
        let _refused = answer::from_output(&text);
    }
}
