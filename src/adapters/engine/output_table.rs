//! Output table of a driven agent: JSONPath expressions that select the fields of its JSON output, so that a new agent
//! needs no Rust code.
//!
//! | key | selects |
//! |---|---|
//! | `format` | `lines` (one JSON value per line), `json` (one document) or `text`; not an expression |
//! | `text`, `reasoning`, `tool_call` | messages, reasoning, and tools or commands, as they arrive |
//! | `answer` | the final message, where it stands apart from `text` |
//! | `session` | the session's id |
//! | `tokens`, `cost_usd` | usage; all selected numbers are added up |
//! | `error` | the error message |
//! | `retryable_errors`, `fatal_errors` | substrings of an error message that classify it; not expressions |
//!
//! Expressions follow RFC 9535. A filter selects among the *children* of a value, so an expression is evaluated against
//! an array that holds one event: `$[0].session_id` is a member of the event, `$[?@.type=='result' &&
//! @.is_error==false].result` tests the event itself.

use serde_json::Value;
use serde_json_path::JsonPath;
use std::fmt;
use std::sync::Arc;

/// Upper bound of the values taken from one event for one key: an event can be as wide as a line is long.
const MAX_VALUES: usize = 1_000;

/// Format of an agent's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON value per line.
    Lines,
    /// One JSON document.
    Json,
    /// Plain text.
    Text,
}

/// JSONPath expression, evaluated against an array that holds one event.
///
/// The parsed path is type-erased because its type is recursive: proving `Send` for every future that holds a
/// configuration would cost the compiler minutes.
#[derive(Clone)]
pub struct Expression {
    text: String,
    select: Arc<Select>,
}

/// Returns the selected values of a document.
type Select = dyn for<'v> Fn(&'v Value) -> Vec<&'v Value> + Send + Sync;

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.text == other.text
    }
}

/// One JSON value of an agent's output, in the form that expressions are evaluated against.
pub struct Event(Value);

/// Keys of `[agents.NAME.output]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputTable {
    /// Declared format; `None` = `lines` with expressions, `text` without.
    pub format: Option<Format>,
    /// Messages.
    pub text: Vec<Expression>,
    /// Reasoning.
    pub reasoning: Vec<Expression>,
    /// Names of tools and commands that were called.
    pub tool_call: Vec<Expression>,
    /// The final message.
    pub answer: Vec<Expression>,
    /// The error message.
    pub error: Vec<Expression>,
    /// The session's id.
    pub session: Vec<Expression>,
    /// Tokens used.
    pub tokens: Vec<Expression>,
    /// Cost in USD.
    pub cost_usd: Vec<Expression>,
    /// Substrings of an error after which waiting helps; `None` = the built-in ones.
    pub retryable_errors: Option<Vec<String>>,
    /// Substrings of an error that only a person can fix; `None` = the built-in ones.
    pub fatal_errors: Option<Vec<String>>,
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// The cause, with its position in the text, and the fix.
    pub fn parse(text: &str) -> Result<Expression, (String, String)> {
        let example = "write JSONPath, such as \"$[0].result\" or \"$[?@.type=='result'].result\"";
        let path = JsonPath::parse(text).map_err(|e| {
            (format!("{text:?} is not valid JSONPath at position {}", e.position()), example.to_owned())
        })?;
        // The root is an array: a member of it does not exist, and the expression would silently select nothing.
        let member = text.strip_prefix("$.").filter(|rest| !rest.starts_with(['.', '*']));
        match member.or_else(|| text.strip_prefix("$['").or_else(|| text.strip_prefix("$[\""))) {
            Some(_) => Err((
                format!("{text:?} selects nothing: an expression is evaluated against an array that holds one event"),
                format!("write \"$[0]{}\"", text.trim_start_matches('$')),
            )),
            None => Ok(Expression { text: text.to_owned(), select: Arc::new(move |value| path.query(value).all()) }),
        }
    }
}

impl Event {
    /// Wraps one value of an agent's output.
    pub fn new(value: Value) -> Event {
        Event(Value::Array(vec![value]))
    }

    /// Returns the selected values as text. Objects and arrays are returned as JSON; null, booleans and empty texts are
    /// left out.
    pub fn texts(&self, expressions: &[Expression]) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(_) | Value::Array(_) => Some(value.to_string()),
            Value::Null | Value::Bool(_) => None,
        };
        self.select(expressions).filter_map(text).filter(|t| !t.is_empty()).collect()
    }

    /// Returns the sum of the selected numbers; `None` if none is selected.
    pub fn sum(&self, expressions: &[Expression]) -> Option<f64> {
        let numbers = self.select(expressions).filter_map(|value| match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        });
        numbers.filter(|n: &f64| n.is_finite() && *n >= 0.0).fold(None, |sum, n| Some(sum.unwrap_or(0.0) + n))
    }

    fn select<'v>(&'v self, expressions: &'v [Expression]) -> impl Iterator<Item = &'v Value> {
        expressions.iter().flat_map(|expression| (expression.select)(&self.0)).take(MAX_VALUES)
    }
}

impl OutputTable {
    /// Returns every key that holds expressions, with its slot.
    pub fn expressions_mut(&mut self) -> [(&'static str, &mut Vec<Expression>); 8] {
        [
            ("text", &mut self.text),
            ("reasoning", &mut self.reasoning),
            ("tool_call", &mut self.tool_call),
            ("answer", &mut self.answer),
            ("error", &mut self.error),
            ("session", &mut self.session),
            ("tokens", &mut self.tokens),
            ("cost_usd", &mut self.cost_usd),
        ]
    }

    /// Returns whether any key holds an expression.
    pub fn has_expressions(&self) -> bool {
        self.clone().expressions_mut().iter().any(|(_, expressions)| !expressions.is_empty())
    }

    /// Returns the format in force.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(if self.has_expressions() { Format::Lines } else { Format::Text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(expressions: &[&str]) -> Vec<Expression> {
        expressions.iter().map(|text| Expression::parse(text).unwrap()).collect()
    }

    #[test]
    fn expressions_filter_by_the_event_and_by_its_members() {
        let text = parse(&["$[?@.type=='message'].part[?@.kind=='text'].text", "$[?@.type=='note'].text"]);
        let texts = |value| Event::new(value).texts(&text);
        assert_eq!(texts(json!({"type": "message", "part": [{"kind": "text", "text": "a"}]})), ["a"]);
        assert!(texts(json!({"type": "message", "part": [{"kind": "tool", "text": "a"}]})).is_empty());
        assert_eq!(texts(json!({"type": "note", "text": 5})), ["5"]);
        assert!(texts(json!([1, "type", null])).is_empty());
        let value =
            json!({"stats": {"m/1": {"in": 3, "out": "4"}, "m/2": {"in": 5, "out": -1}}, "ok": false, "why": {"a": 1}});
        let event = Event::new(value);
        assert_eq!(event.sum(&parse(&["$[0].stats[*]['in','out']"])), Some(12.0));
        assert_eq!(event.sum(&[]), None);
        assert_eq!(event.texts(&parse(&["$[?@.ok==false].why"])), [r#"{"a":1}"#]);
    }

    #[test]
    fn invalid_expressions_are_refused_with_their_position_and_a_fix() {
        for (text, why, fix) in [
            ("$[?@.type=]", "position", "$[0].result"),
            ("result", "position", "$[0].result"),
            ("/session_id", "position", "$[0].result"),
            ("$.session_id", "array that holds one event", "$[0].session_id"),
            ("$['session_id']", "array that holds one event", "$[0]['session_id']"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.0.contains(why) && error.1.contains(fix), "{text}: {error:?}");
        }
        assert!(Expression::parse("$..text").is_ok() && Expression::parse("$.*.text").is_ok());
    }

    #[test]
    fn format_defaults_to_lines_only_with_expressions() {
        let mut table = OutputTable::default();
        assert_eq!(table.format(), Format::Text);
        table.retryable_errors = Some(vec!["busy".to_owned()]);
        assert_eq!(table.format(), Format::Text);
        table.text = parse(&["$[0].text"]);
        assert_eq!(table.format(), Format::Lines);
    }
}
