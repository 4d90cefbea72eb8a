//! Selectors of earlier versions in `[agents.NAME.output]`, and the JSONPath expressions that replaced them. An old
//! selector still works, and is reported with its expression.
//!
//! A selector is `[CONDITION,…] POINTER`, several are joined by ` | `. A pointer is a JSON pointer (RFC 6901) in which
//! `*` stands for every element; a condition is `POINTER=TEXT`, or `NAME=TEXT` for a member of the event:
//! `type=item.completed,/item/type=agent_message /item/text`.

/// Returns the expressions that select what the selectors in `text` select; `None` if `text` is not such a list.
///
/// An expression is evaluated against an array that holds one event.
pub(super) fn expressions(text: &str) -> Option<Vec<String>> {
    text.split(" | ").map(expression).collect()
}

fn expression(selector: &str) -> Option<String> {
    let selector = selector.trim();
    let (conditions, target) = selector.rsplit_once(' ').unwrap_or(("", selector));
    let target = steps(&pointer(target)?);
    let tests: Option<Vec<String>> = conditions.split(',').map(str::trim).filter(|c| !c.is_empty()).map(test).collect();
    let tests = tests?;
    Some(match tests.is_empty() {
        true => format!("$[0]{target}"),
        false => format!("$[?{}]{target}", tests.join(" && ")),
    })
}

/// Returns the names that a pointer is made of.
fn pointer(text: &str) -> Option<Vec<String>> {
    Some(text.strip_prefix('/')?.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

/// Returns the logical expression of one condition.
fn test(condition: &str) -> Option<String> {
    let (place, text) = condition.split_once('=')?;
    let names = if place.starts_with('/') { pointer(place)? } else { vec![place.to_owned()] };
    Some(equals(&names, text))
}

/// Returns a logical expression that holds where the value at `names` is `text`, or is written so in JSON. A path that
/// selects several values cannot be compared, so each `*` opens a filter of its own, which holds if anything passes it.
fn equals(names: &[String], text: &str) -> String {
    if let Some(all) = names.iter().position(|name| name == "*") {
        return format!("@{}[?{}]", steps(&names[..all]), equals(&names[all + 1..], text));
    }
    let place = format!("@{}", steps(names));
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Bool(_) | serde_json::Value::Null | serde_json::Value::Number(_)) => {
            format!("({place}=={text} || {place}=={})", quoted(text))
        }
        _ => format!("{place}=={}", quoted(text)),
    }
}

fn steps(names: &[String]) -> String {
    let step = |name: &String| match name.parse::<u32>() {
        _ if name == "*" => "[*]".to_owned(),
        Ok(index) => format!("[{index}]"),
        Err(_) => format!("[{}]", quoted(name)),
    };
    names.iter().map(step).collect()
}

/// Quotes a string for JSONPath: RFC 9535 escapes in single quotes as JSON does in double quotes.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    format!("'{}'", json[1..json.len() - 1].replace("\\\"", "\"").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn selected(text: &str, event: Value) -> Vec<Value> {
        let document = json!([event]);
        let paths = expressions(text).unwrap();
        let select = |path: &String| serde_json_path::JsonPath::parse(path).unwrap().query(&document).all();
        paths.iter().flat_map(select).cloned().collect()
    }

    #[test]
    fn selectors_become_expressions_that_select_the_same() {
        let text = "type=message,/part/kind=text /part/text | type=note /text";
        assert_eq!(selected(text, json!({"type": "message", "part": {"kind": "text", "text": "a"}})), ["a"]);
        assert!(selected(text, json!({"type": "message", "part": {"kind": "tool", "text": "a"}})).is_empty());
        assert_eq!(selected(text, json!({"type": "note", "text": 5})), [5]);

        let stats = json!({"stats": {"m/1": {"in": 3, "out": 4}, "m/2": {"in": 5}}, "ok": false, "why": {"it's": 1}});
        assert_eq!(selected("/stats/*/in | /stats/*/out", stats.clone()), [3, 5, 4]);
        assert_eq!(selected("/stats/m~11/in", stats.clone()), [3]);
        assert_eq!(selected("ok=false /why/it's", stats.clone()), [1]);
        assert_eq!(selected("ok=false /why", json!({"ok": "false", "why": 2})), [2]);
        assert_eq!(selected("/stats/*/in=5 /ok", stats.clone()), [false]);
        assert!(selected("/stats/*/in=6 /ok", stats).is_empty());
        assert_eq!(selected("/tags/*=x /parts/1", json!({"tags": ["y", "x"], "parts": [7, 8]})), [8]);
        assert_eq!(selected("a=\"\\ /b", json!({"a": "\"\\", "b": 1})), [1]);
    }

    #[test]
    fn other_texts_are_not_selectors() {
        for text in ["", "$[0].result", "result", "type /result", "type=result result"] {
            assert_eq!(expressions(text), None, "{text:?}");
        }
    }
}
