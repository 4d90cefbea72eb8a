//! Values of newer agents that this version of the protocol does not know. The library refuses the whole message for
//! one of them: a stop reason would throw away finished work, a kind of permission the request.

use super::super::driven::output_log::OutputLog;
use serde_json::Value;

/// Known stop reasons. Another one counts as the normal end: what was done is judged by the answer and the worktree.
const STOP_REASONS: &[&str] = &["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"];
/// Known kinds of options. Others cannot be chosen.
const OPTION_KINDS: &[&str] = &["allow_once", "allow_always", "reject_once", "reject_always"];

/// Replaces unknown values in a message of the agent, and notes it in the transcript.
pub fn adapt(line: String, output: &OutputLog) -> String {
    // Almost no message has one of these members, and some are large.
    if !line.contains("\"stopReason\"") && !line.contains("session/request_permission") {
        return line;
    }
    let Ok(mut message) = serde_json::from_str::<Value>(&line) else { return line };
    let notes = [stop_reason(&mut message), options(&mut message)];
    if notes.iter().all(Option::is_none) {
        return line;
    }
    notes.iter().flatten().for_each(|note| output.note(note));
    message.to_string()
}

fn stop_reason(message: &mut Value) -> Option<String> {
    let reason = message.get_mut("result")?.get_mut("stopReason")?;
    let unknown = reason.as_str().filter(|reason| !STOP_REASONS.contains(reason))?;
    let note = format!("the agent ended its turn with the unknown reason {unknown:?}; it counts as its normal end");
    *reason = "end_turn".into();
    Some(note)
}

fn options(message: &mut Value) -> Option<String> {
    if message.get("method")?.as_str()? != "session/request_permission" {
        return None;
    }
    let options = message.get_mut("params")?.get_mut("options")?.as_array_mut()?;
    let is_known =
        |option: &Value| option.get("kind").and_then(Value::as_str).is_some_and(|k| OPTION_KINDS.contains(&k));
    let before = options.len();
    options.retain(is_known);
    (options.len() < before).then(|| "options of an unknown kind were left out of a request for permission".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn adapted(message: Value) -> Value {
        let output = OutputLog::new(Arc::new(|_| {}));
        serde_json::from_str(&adapt(message.to_string(), &output)).unwrap()
    }

    #[test]
    fn an_unknown_stop_reason_is_the_normal_end() {
        let of = |reason: &str| json!({"id": 1, "result": {"stopReason": reason, "usage": {"totalTokens": 3}}});
        assert_eq!(adapted(of("paused_by_policy")), of("end_turn"));
        for known in STOP_REASONS {
            assert_eq!(adapted(of(known)), of(known));
        }
    }

    #[test]
    fn options_of_an_unknown_kind_are_left_out() {
        let of = |kinds: &[&str]| {
            let options: Vec<Value> =
                kinds.iter().map(|kind| json!({"optionId": kind, "name": "x", "kind": kind})).collect();
            json!({"id": 1, "method": "session/request_permission", "params": {"options": options}})
        };
        assert_eq!(adapted(of(&["allow_once", "allow_persistent", "reject_once"])), of(&["allow_once", "reject_once"]));
        assert_eq!(adapted(of(&["allow_always", "reject_once"])), of(&["allow_always", "reject_once"]));
        let update =
            json!({"method": "session/update", "params": {"text": "session/request_permission \"stopReason\""}});
        assert_eq!(adapted(update.clone()), update);
    }
}
