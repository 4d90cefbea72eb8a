//! Chunks of compatible servers, in every form.

use super::*;

/// Plays chunks, of which only the choice's delta is given.
fn assembled(deltas: &[Value]) -> Answer {
    let mut assembly = Assembly::default();
    for delta in deltas {
        assembly.push(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}), &|_| {});
    }
    match assembly.end(true) {
        End::Whole(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn calls(deltas: &[Value]) -> Vec<(String, String, Value)> {
    assembled(deltas).calls.into_iter().map(|c| (c.id, c.tool, c.args)).collect()
}

fn call_of(id: &str, name: &str, path: &str) -> (String, String, Value) {
    (id.to_owned(), name.to_owned(), json!({ "path": path }))
}

#[test]
fn every_form_of_a_call_is_read() {
    let whole = |id: &str, path: &str| json!({"id": id, "function": {"name": "read", "arguments": format!(r#"{{"path":"{path}"}}"#)}});
    let expected = vec![call_of("1", "read", "a")];
    for (form, deltas) in [
        (
            "in pieces",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": "{\"pa"}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "th\":\"a\"}"}}]}),
            ],
        ),
        ("without an index", vec![json!({"tool_calls": [whole("1", "a")]})]),
        (
            "in pieces without an index",
            vec![
                json!({"tool_calls": [{"id": "1", "function": {"name": "read", "arguments": ""}}]}),
                json!({"tool_calls": [{"function": {"arguments": "{\"path\":"}}]}),
                json!({"tool_calls": [{"id": "1", "function": {"arguments": "\"a\"}"}}]}),
            ],
        ),
        (
            "arguments as an object",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": {"path": "a"}}}]}),
            ],
        ),
        (
            "arguments encoded twice",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": "\"{\\\"path\\\":\\\"a\\\"}\""}}]}),
            ],
        ),
        ("one call instead of a list", vec![json!({"tool_calls": whole("1", "a")})]),
        (
            "index as a text",
            vec![
                json!({"tool_calls": [{"index": "0", "id": "1", "function": {"name": "read", "arguments": "{\"path\":"}}]}),
                json!({"tool_calls": [{"index": "0", "function": {"arguments": "\"a\"}"}}]}),
            ],
        ),
        (
            "name repeated in each piece",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": "{\"path\":"}}]}),
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": "\"a\"}"}}]}),
            ],
        ),
        (
            "without `function`",
            vec![json!({"tool_calls": [{"index": 0, "id": "1", "name": "read", "arguments": {"path": "a"}}]})],
        ),
        (
            "empty pieces in between",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read"}}]}),
                json!({"tool_calls": []}),
                json!({"tool_calls": null, "content": null}),
                json!({"tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": "{\"path\":\"a\"}"}}]}),
            ],
        ),
    ] {
        assert_eq!(calls(&deltas), expected, "{form}");
    }
    // The old form has no id.
    let old = [
        json!({"function_call": {"name": "read", "arguments": "{\"path\":"}}),
        json!({"function_call": {"arguments": "\"a\"}"}}),
    ];
    assert_eq!(calls(&old), [call_of("", "read", "a")]);
}

#[test]
fn parallel_calls_are_kept_apart() {
    let whole = |id: &str, path: &str| json!({"id": id, "function": {"name": "read", "arguments": format!(r#"{{"path":"{path}"}}"#)}});
    let with = |mut piece: Value, index: u64| {
        piece["index"] = json!(index);
        piece
    };
    let two = vec![call_of("1", "read", "a"), call_of("2", "read", "b")];
    for (form, deltas) in [
        (
            "interleaved",
            vec![
                json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "read", "arguments": "{\"path\":"}}, {"index": 1, "id": "2", "function": {"name": "read", "arguments": "{\"pa"}}]}),
                json!({"tool_calls": [{"index": 1, "function": {"arguments": "th\":\"b\"}"}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"a\"}"}}]}),
            ],
        ),
        ("without an index", vec![json!({"tool_calls": [whole("1", "a"), whole("2", "b")]})]),
        (
            "one after the other without an index",
            vec![json!({"tool_calls": [whole("1", "a")]}), json!({"tool_calls": [whole("2", "b")]})],
        ),
        (
            "all with index 0",
            vec![json!({"tool_calls": [with(whole("1", "a"), 0)]}), json!({"tool_calls": [with(whole("2", "b"), 0)]})],
        ),
        (
            "indexes with a gap",
            vec![json!({"tool_calls": [with(whole("1", "a"), 3), with(whole("2", "b"), 4_000_000_000)]})],
        ),
    ] {
        assert_eq!(calls(&deltas), two, "{form}");
    }
    let nameless: Vec<Value> = ["a", "b"]
        .map(|path| json!({"tool_calls": [{"index": 0, "function": {"name": "read", "arguments": {"path": path}}}]}))
        .into();
    assert_eq!(calls(&nameless), [call_of("", "read", "a"), call_of("", "read", "b")]);
    let flood: Vec<Value> = (0..1_000)
        .map(|n| json!({"tool_calls": [{"index": n, "function": {"name": "read", "arguments": "{}"}}]}))
        .collect();
    assert_eq!(calls(&flood).len(), MAX_CALLS);
}

#[test]
fn reasons_for_the_end_are_distinguished() {
    let end = |reason: Value, done| {
        let mut assembly = Assembly::default();
        assembly.push(&json!({"choices": [{"delta": {"content": "x"}, "finish_reason": reason}]}), &|_| {});
        assembly.end(done)
    };
    for reason in ["stop", "eos_token", "tool_calls", "end_turn", "STOP", "something_new"] {
        assert!(matches!(end(json!(reason), false), End::Whole(answer) if !answer.cut), "{reason}");
    }
    assert!(matches!(end(json!("MAX_TOKENS"), false), End::Whole(answer) if answer.cut));
    assert!(matches!(end(json!("content_filter"), true), End::Fault(Cause::Moderation, _)));
    assert!(matches!(end(json!("model_context_window_exceeded"), true), End::Fault(Cause::TooLong, _)));
    assert!(matches!(end(Value::Null, true), End::Whole(_)));
    assert!(matches!(end(Value::Null, false), End::BrokenOff));
}

#[test]
fn usage_is_read_wherever_it_stands() {
    let of = |chunks: &[Value]| {
        let mut assembly = Assembly::default();
        chunks.iter().for_each(|chunk| assembly.push(chunk, &|_| {}));
        assembly.usage
    };
    let reported = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 115, "prompt_tokens_details": {"cached_tokens": 40}});
    let expected = WireUsage { input: 100, cached: 40, output: 15, ..WireUsage::default() };
    assert_eq!(of(&[json!({"choices": [], "usage": reported})]), Some(expected));
    assert_eq!(of(&[json!({"choices": null, "x_groq": {"usage": reported}})]), Some(expected));
    assert_eq!(of(&[json!({"choices": [{"delta": {}, "usage": reported}]})]), Some(expected));
    // Usage so far in each chunk: the last one counts.
    assert_eq!(
        of(&[
            json!({"usage": {"prompt_tokens": 100, "completion_tokens": 1}}),
            json!({"usage": reported}),
            json!({"usage": null})
        ]),
        Some(expected)
    );
    let priced = of(&[json!({"usage": {"prompt_tokens": 1, "completion_tokens": 1.0, "cost": 0.0123}})]).unwrap();
    assert_eq!((priced.output, priced.cost_micros), (1, Some(12_300)));
    assert_eq!(of(&[json!({"usage": {"prompt_tokens": -1, "completion_tokens": 1}})]), None);
    assert_eq!(of(&[json!({"choices": [{"delta": {"content": "x"}}]})]), None);
}

#[test]
fn reasoning_goes_back_in_the_form_it_came() {
    let made = json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "list", "arguments": "{}"}}]});
    let parts = |delta: Value| assembled(&[delta, made.clone()]).reasoning_parts;
    assert!(
        matches!(&parts(json!({"reasoning_content": "why"}))[..], [ContentPart::ReasoningContent(why)] if why == "why")
    );
    let detail = |piece: &str| json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": piece}]});
    let answer = assembled(&[json!({"reasoning": "why"}), detail("be"), detail("cause"), made.clone()]);
    let [ContentPart::Custom(custom)] = &answer.reasoning_parts[..] else { panic!("{answer:?}") };
    assert_eq!(custom.data["reasoning"], "why");
    assert_eq!(custom.data["reasoning_details"], json!([{"type": "reasoning.text", "index": 0, "text": "because"}]));
    let typed = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}, {"type": "text", "text": "ok"}]});
    let answer = assembled(&[typed, made.clone()]);
    assert!(answer.reasoning_parts.is_empty() && answer.text == "ok");
    let signed = json!({"tool_calls": [{"id": "1", "extra_content": {"google": {"thought_signature": "s"}}, "function": {"name": "list", "arguments": "{}"}}]});
    assert_eq!(
        assembled(&[signed]).calls[0].signatures.as_deref(),
        Some(&[r#"{"google":{"thought_signature":"s"}}"#.to_owned()][..])
    );
}

proptest::proptest! {
    #[test]
    fn garbage_is_tolerated(text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        let mut assembly = Assembly::default();
        for chunk in [serde_json::from_str(&text).unwrap_or_default(), json!({"choices": [{"delta": {"tool_calls": text, "content": [text]}}]})] {
            let _error = error(&chunk);
            assembly.push(&chunk, &|_| {});
        }
        let _end = assembly.end(true);
    }
}
