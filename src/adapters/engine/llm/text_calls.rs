//! Tool calls and answers that a model writes as text: small models do so, and every model does on a server that does
//! not parse its calls. Read only from an answer without a real call.

use super::history::Call;
use super::tools::{DONE, Spec};
use super::wire::MAX_CALLS;
use crate::adapters::engine::answer;
use serde_json::{Map, Value};

/// Marks around a call. An empty end: up to the end of the text.
const MARKS: &[(&str, &str)] = &[
    ("<tool_call>", "</tool_call>"),
    ("<function_call>", "</function_call>"),
    ("<tools>", "</tools>"),
    ("<function=", "</function>"),
    ("[TOOL_CALLS]", ""),
    ("<|python_tag|>", ""),
    ("functools[", ""),
];
/// Members that hold the arguments of a call.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];
/// Members of which a step's answer has at least one.
const ANSWER: [&str; 7] = ["notes", "tasks", "summary", "verdict", "findings", "question", "failed"];

/// Reads the calls in a text, or the step's answer as a call of `done`, and returns them with the text before them.
/// `None` = there are none.
pub fn read(text: &str, specs: &[Spec]) -> Option<(String, Vec<Call>)> {
    let first = MARKS.iter().filter_map(|mark| Some((text.find(mark.0)?, mark))).min_by_key(|(at, _)| *at);
    if let Some((at, (open, close))) = first {
        let mut calls = Vec::new();
        let mut rest = &text[at..];
        while let Some((_, after)) = rest.split_once(open) {
            let (inner, next) = match close.is_empty() {
                true => (after, ""),
                false => after.split_once(close).unwrap_or((after, "")),
            };
            let inner = if open.ends_with(['=', '[']) {
                format!("{}{inner}", &open[open.len() - 1..])
            } else {
                inner.to_owned()
            };
            calls.extend(parse(&inner, specs));
            rest = next;
        }
        calls.truncate(MAX_CALLS);
        if !calls.is_empty() {
            return Some((text[..at].trim_end().to_owned(), calls));
        }
    }
    let block = answer::last_json_block(text)?;
    let value: Value = serde_json::from_str(block).ok()?;
    let before = text
        .split_once(block)
        .map_or("", |(before, _)| before)
        .trim_end()
        .trim_end_matches("```json")
        .trim_end_matches("```");
    let before = before.trim_end().to_owned();
    if let Some(call) = json_call(&value, specs) {
        return Some((before, vec![call]));
    }
    let fields = value.as_object()?;
    let is_answer = fields.keys().any(|name| ANSWER.contains(&name.as_str()));
    is_answer.then(|| (before, vec![made(DONE, value)]))
}

/// Parses the text between two marks.
fn parse(text: &str, specs: &[Spec]) -> Vec<Call> {
    let text = text.trim();
    let text = text.strip_prefix("```json").or(text.strip_prefix("```")).unwrap_or(text).trim();
    if text.starts_with(['{', '[']) {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>().map_while(Result::ok);
        return values
            .flat_map(|value| match value {
                Value::Array(items) => items,
                value => vec![value],
            })
            .filter_map(|value| json_call(&value, specs))
            .collect();
    }
    if let Some(at) = text.find("<function=").or(text.starts_with('=').then_some(0)) {
        return xml_call(&text[at..], specs).into_iter().collect();
    }
    // `name{"path": …}`, `name[ARGS]{…}`, or a name followed by keys and values.
    let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else { return Vec::new() };
    let rest = text[name.len()..].trim_start();
    let rest = rest.strip_prefix("[ARGS]").unwrap_or(rest).trim_start();
    if rest.starts_with('{') {
        let first = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next();
        return first.and_then(Result::ok).map(|args| made(spec.name, args)).into_iter().collect();
    }
    let pairs = pairs(rest, "<arg_key>", "</arg_key>").into_iter().zip(pairs(rest, "<arg_value>", "</arg_value>"));
    let args: Map<String, Value> = pairs.map(|(key, text)| (key.to_owned(), value(spec, key, text))).collect();
    vec![made(spec.name, Value::Object(args))]
}

/// Reads `{"name": …, "arguments": …}`, also within `function`, and with the arguments as text.
fn json_call(value: &Value, specs: &[Spec]) -> Option<Call> {
    let value = value.get("function").filter(|f| f.is_object()).unwrap_or(value);
    let name = ["name", "tool", "tool_name", "function"].iter().find_map(|member| value.get(member)?.as_str())?;
    let spec = specs.iter().find(|spec| spec.name == name)?;
    let args = ARGUMENTS.iter().find_map(|member| value.get(member))?;
    let args = match args {
        Value::String(text) => serde_json::from_str(text).ok()?,
        args => args.clone(),
    };
    args.is_object().then(|| made(spec.name, args))
}

/// Reads `<function=NAME> <parameter=KEY> VALUE </parameter> …`.
fn xml_call(text: &str, specs: &[Spec]) -> Option<Call> {
    let (_, rest) = text.split_once('=')?;
    let (name, rest) = rest.split_once('>')?;
    let spec = specs.iter().find(|spec| spec.name == name.trim().trim_matches('"'))?;
    let mut args = Map::new();
    for part in pairs(rest, "<parameter=", "</parameter>") {
        let (key, text) = part.split_once('>')?;
        let key = key.trim().trim_matches('"');
        args.insert(key.to_owned(), value(spec, key, text));
    }
    Some(made(spec.name, Value::Object(args)))
}

/// Returns the texts between two marks.
fn pairs<'t>(text: &'t str, open: &str, close: &str) -> Vec<&'t str> {
    text.split(open)
        .skip(1)
        .take(MAX_CALLS)
        .map(|part| part.split_once(close).map_or(part, |(inner, _)| inner))
        .collect()
}

/// Converts the text of an argument to the type that its tool declares.
fn value(spec: &Spec, key: &str, text: &str) -> Value {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let is_text = spec.schema.pointer(&format!("/properties/{key}/type")).is_none_or(|kind| kind == "string");
    let parsed = if is_text { None } else { serde_json::from_str(text.trim()).ok() };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn made(tool: &str, args: Value) -> Call {
    Call { id: String::new(), tool: tool.to_owned(), args, invalid: None, signatures: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs() -> Vec<Spec> {
        let schema = json!({"properties": {"path": {"type": "string"}, "lines": {"type": "integer"}, "edits": {"type": "array"}}});
        ["read", "edit", DONE].map(|name| Spec { name, description: "", schema: schema.clone() }).into()
    }

    fn calls(text: &str) -> Vec<(String, Value)> {
        read(text, &specs()).map(|(_, calls)| calls).unwrap_or_default().into_iter().map(|c| (c.tool, c.args)).collect()
    }

    #[test]
    fn calls_in_the_forms_of_model_families() {
        let expected = vec![("read".to_owned(), json!({"path": "a.rs", "lines": 3}))];
        for text in [
            // Hermes, Qwen.
            "I look.\n<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.rs\", \"lines\": 3}}\n</tool_call>",
            "<tool_call>{\"name\": \"read\", \"arguments\": \"{\\\"path\\\": \\\"a.rs\\\", \\\"lines\\\": 3}\"}",
            // Qwen Coder.
            "<tool_call>\n<function=read>\n<parameter=path>\na.rs\n</parameter>\n<parameter=lines>\n3\n</parameter>\n</function>\n</tool_call>",
            "<function=read><parameter=path>a.rs</parameter><parameter=lines>3</parameter></function>",
            // GLM.
            "<tool_call>read\n<arg_key>path</arg_key>\n<arg_value>a.rs</arg_value>\n<arg_key>lines</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
            // Mistral.
            "[TOOL_CALLS][{\"name\": \"read\", \"arguments\": {\"path\": \"a.rs\", \"lines\": 3}}]",
            "[TOOL_CALLS]read[ARGS]{\"path\": \"a.rs\", \"lines\": 3}",
            // Llama.
            "<|python_tag|>{\"name\": \"read\", \"parameters\": {\"path\": \"a.rs\", \"lines\": 3}}",
            "{\"name\": \"read\", \"parameters\": {\"path\": \"a.rs\", \"lines\": 3}}",
            // Phi.
            "functools[{\"name\": \"read\", \"arguments\": {\"path\": \"a.rs\", \"lines\": 3}}]",
            // Others.
            "```json\n{\"function\": {\"name\": \"read\", \"arguments\": {\"path\": \"a.rs\", \"lines\": 3}}}\n```",
            "```json\n{\"tool\": \"read\", \"args\": {\"path\": \"a.rs\", \"lines\": 3}}\n```",
        ] {
            assert_eq!(calls(text), expected, "{text}");
        }
        let two = "<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"a\"}}</tool_call>\n<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"b\"}}</tool_call>";
        assert_eq!(calls(two).len(), 2);
    }

    #[test]
    fn an_answer_ends_the_step_and_other_text_does_not() {
        let plan = json!({"tasks": [{"name": "t", "title": "Fix add"}]});
        let (text, made) = read(&format!("Looked.\n\n```json\n{plan}\n```"), &specs()).unwrap();
        assert_eq!((text.as_str(), made[0].tool.as_str(), &made[0].args), ("Looked.", DONE, &plan));
        for text in [
            "I would call read next.",
            "```json\n{\"dependencies\": {\"left-pad\": \"1\"}}\n```",
            "<tool_call>{\"name\": \"format_disk\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"read\"",
            "fn main() {\n{ }\n}",
            "",
        ] {
            assert_eq!(calls(text), [], "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_tolerated(text in "(<tool_call>|<function=|read|\\[TOOL_CALLS\\]|[ -~ü\n]){0,30}") {
            let _read = read(&text, &specs());
        }
    }
}
