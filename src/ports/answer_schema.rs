//! The form of a structured answer, per step: prompts show it, the answer tool declares it, and the engines check it.

use crate::domain::{Finding, Spec, Step};
use serde_json::{Value, json};

/// Returns an example of a step's answer, for use in a sentence.
pub fn example(step: Step) -> &'static str {
    match step {
        Step::Explore => r#"{"notes": "…"}"#,
        Step::Plan => r#"{"tasks": [{"name": "…", "title": "…", "text": "…"}]}"#,
        Step::Develop => r#"{"summary": "…"}"#,
        Step::Review => {
            r#"{"verdict": "approve" or "rework", "findings": [{"path": "…", "line": 1, "text": "…"}], "summary": "…"}"#
        }
    }
}

/// Returns the JSON Schema of a step's answer. It has no `oneOf` at the top, because some providers refuse that; the
/// engine checks afterwards that the answer has exactly one of the forms.
pub fn schema(step: Step) -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let texts = |what: &str| json!({ "type": "array", "items": { "type": "string" }, "description": what });
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let mut properties = match step {
        Step::Explore => json!({ "notes": text("Your findings. Give file:line for every fact.") }),
        Step::Plan => json!({ "tasks": {
            "type": "array",
            "minItems": 1,
            "description": "The tasks, in the order in which their changes are integrated",
            "items": object(json!({
                "name": text("Short unique name (letters, digits, - and _); other tasks refer to it in needs"),
                "title": text("One-line title for people, at most 300 bytes"),
                "text": text("Complete instructions and acceptance criteria. The developer sees nothing else."),
                "needs": texts("Names of tasks in this plan that must be finished first"),
                "paths": texts("Glob patterns of files the task may change (src/**, docs/*.md). Omit or leave empty to allow all files."),
            }), &["name", "title", "text"]),
        }}),
        Step::Develop => {
            json!({ "summary": text("What you changed and why, in a few sentences, for the commit message") })
        }
        Step::Review => json!({
            "verdict": { "type": "string", "enum": ["approve", "rework"] },
            "summary": text("Your assessment in one or two sentences"),
            "findings": {
                "type": "array",
                "maxItems": Finding::MAX,
                "items": object(json!({
                    "path": text("File path as shown in the diff; empty if the finding concerns the whole change"),
                    "line": { "type": "integer", "minimum": 0, "description": "Line number in the new file, starting at 1; 0 if the finding concerns the whole file" },
                    "text": text("What is wrong and how to fix it"),
                }), &["text"]),
            },
            "criteria": {
                "type": "array",
                "maxItems": Spec::MAX_CRITERIA,
                "description": "Only if the order lists acceptance criteria for you to judge: one entry for each",
                "items": object(json!({
                    "id": text("Name of the criterion"),
                    "met": { "type": "boolean" },
                    "why": text("Where you saw that it is met (file:line, or what you ran), or what is missing"),
                }), &["id", "met"]),
            },
        }),
    };
    properties["question"] =
        text("Use instead of all other fields: a question that must be answered before you can continue");
    if step != Step::Explore {
        properties["to"] = json!({ "type": "string", "enum": ["person", "scout"],
            "description": "Who answers the question: person (default) for a decision, scout for a fact that can be found in the repository" });
    }
    properties["failed"] = text("Use instead of all other fields: why this cannot be done");
    object(properties, &[])
}
