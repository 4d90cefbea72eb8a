//! Keeps the conversation within the model's context window.
//!
//! Results of older turns are cleared in batches as the conversation grows. What is still too long is shortened:
//!
//! | step | drops |
//! |---|---|
//! | 1 | results of older turns, oldest first: each becomes one line that names it |
//! | 2 | long arguments, reasoning and texts of older turns |
//! | 3 | older turns: each becomes lines of the digest |
//! | 4 | the middle of long results and arguments in the last turns |
//!
//! Invariant: the order (goal, task, failing checks) is never shortened, and every call keeps its result.

use super::history::{Call, History, MAX_FAILED_BYTES, Turn};
use super::tools::{RUN, truncate_middle};
use genai::chat::ContentPart;
use serde_json::Value;

/// Recent turns that stay complete as long as they fit.
const RECENT_TURNS: usize = 4;
/// Size of a conversation, in tokens, from which on old results are cleared; the turns whose results stay; and the
/// tokens that clearing has to save.
const CLEAR_FROM: u64 = 60_000;
const CLEAR_ALL_BUT: usize = 6;
const CLEAR_AT_LEAST: u64 = 20_000;
/// Shorter texts are not replaced by a stub.
const MIN_STUB_BYTES: usize = 240;
/// Bytes of framing per message, call and result, in any API.
const FRAME_BYTES: usize = 48;

/// The order alone exceeds the available room.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Size of the order, in tokens.
    pub order: u64,
    /// Available room, in tokens.
    pub room: u64,
}

/// Estimates the tokens of a text. Code has three to four bytes per token; the estimate uses three, because sending too
/// much is an error and sending too little only compacts early.
pub fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}

/// Tokens of the whole conversation, without system prompt and tools.
pub fn estimate(history: &History) -> u64 {
    tokens(opening(history) + history.turns.iter().map(bytes).sum::<usize>())
}

fn opening(history: &History) -> usize {
    history.order.len() + history.digest.render().len() + FRAME_BYTES
}

fn bytes(turn: &Turn) -> usize {
    let call = |c: &Call| {
        let signatures: usize = c.signatures.iter().flatten().map(String::len).sum();
        FRAME_BYTES + c.id.len() + c.tool.len() + json_bytes(&c.args) + signatures
    };
    let calls: usize = turn.calls.iter().map(call).sum();
    let results: usize = turn.results.iter().map(|r| FRAME_BYTES + r.id.len() + r.text.len()).sum();
    let reasoning_parts: usize = turn.reasoning_parts.iter().map(genai::chat::ContentPart::size).sum();
    FRAME_BYTES + turn.text.len() + calls + results + reasoning_parts + turn.nudge.as_ref().map_or(0, String::len)
}

/// Returns the approximate size of a value as JSON, without serializing it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| json_bytes(v) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(k, v)| k.len() + json_bytes(v) + 4).sum::<usize>(),
        _ => 8,
    }
}

/// Replaces the results of older turns by stubs, all at once, when a long conversation holds many of them. Most of what
/// a model read long ago only costs money with every further call ("The Complexity Trap", arXiv 2508.21433). It happens
/// seldom and in batches, because a changed beginning invalidates the provider's cache. Returns whether it was done.
pub fn clear(history: &mut History) -> bool {
    if estimate(history) <= CLEAR_FROM {
        return false;
    }
    let older = history.turns.len().saturating_sub(CLEAR_ALL_BUT);
    let stubbed: Vec<Turn> = history.turns[..older]
        .iter()
        .map(|turn| {
            let mut turn = turn.clone();
            stub_results(&mut turn);
            turn
        })
        .collect();
    let size = |turns: &[Turn]| tokens(turns.iter().map(bytes).sum());
    if size(&history.turns[..older]).saturating_sub(size(&stubbed)) < CLEAR_AT_LEAST {
        return false;
    }
    history.turns.splice(..older, stubbed);
    true
}

/// Shrinks the conversation to `room` tokens.
///
/// # Errors
/// If the order and one shortened turn do not fit.
pub fn fit(history: &mut History, room: u64) -> Result<(), TooLarge> {
    let mut sizes = Sizes { turns: history.turns.iter().map(bytes).collect(), opening: opening(history) };
    let older = history.turns.len().saturating_sub(RECENT_TURNS);
    for shrink in [stub_results as fn(&mut Turn), |turn| shorten_answer(turn, MIN_STUB_BYTES)] {
        for (n, turn) in history.turns.iter_mut().enumerate().take(older) {
            if sizes.tokens() <= room {
                return Ok(());
            }
            shrink(turn);
            sizes.turns[n] = bytes(turn);
        }
    }
    sizes.drop_oldest(history, room, RECENT_TURNS);
    let mut max_bytes = 16 * 1024;
    while sizes.tokens() > room && max_bytes >= MIN_STUB_BYTES {
        let last = history.turns.len().saturating_sub(1);
        for (n, turn) in history.turns.iter_mut().enumerate() {
            for result in &mut turn.results {
                result.text = truncate_middle(&result.text, max_bytes);
            }
            turn.nudge = turn.nudge.take().map(|t| truncate_middle(&t, max_bytes));
            // Providers refuse the newest calls without the reasoning that led to them.
            let reasoning_parts = if n == last { std::mem::take(&mut turn.reasoning_parts) } else { Vec::new() };
            shorten_answer(turn, max_bytes);
            if n == last {
                turn.reasoning_parts = reasoning_parts;
            }
        }
        sizes.turns = history.turns.iter().map(bytes).collect();
        max_bytes /= 2;
    }
    sizes.drop_oldest(history, room, 0);
    match sizes.tokens() > room {
        false => Ok(()),
        true => Err(TooLarge { order: tokens(history.order.len()), room }),
    }
}

/// Sizes of a conversation's parts, in bytes: computed once, not at each step.
struct Sizes {
    turns: Vec<usize>,
    opening: usize,
}

impl Sizes {
    fn tokens(&self) -> u64 {
        tokens(self.opening + self.turns.iter().sum::<usize>())
    }

    /// Moves the oldest turns into the digest until the rest fits or only `min_turns` are left.
    fn drop_oldest(&mut self, history: &mut History, room: u64, min_turns: usize) {
        while self.tokens() > room && history.turns.len() > min_turns {
            let turn = history.turns.remove(0);
            self.turns.remove(0);
            history.digest.add(&turn);
            self.opening = opening(history);
        }
    }
}

fn stub_results(turn: &mut Turn) {
    for result in turn.results.iter_mut().filter(|r| r.text.len() > MIN_STUB_BYTES) {
        if result.tool == RUN && !result.ok {
            // A failing command matters most for the next step, so more of its result is kept.
            result.text = truncate_middle(&result.text, MAX_FAILED_BYTES);
            continue;
        }
        let lines = result.text.lines().count();
        let what = truncate_middle(&result.what, MIN_STUB_BYTES / 2).replace('\n', " ");
        result.text =
            format!("[result of {what}, {lines} lines: removed to save space; repeat the call if you need it]");
    }
}

/// Shortens the model's own answer. Signed reasoning is dropped, because it must not be changed; unsigned reasoning is
/// shortened, because some servers refuse calls without any. Signatures of calls stay, because some servers require
/// them.
fn shorten_answer(turn: &mut Turn, max_bytes: usize) {
    turn.reasoning_parts.retain(ContentPart::is_reasoning_content);
    for part in &mut turn.reasoning_parts {
        if let ContentPart::ReasoningContent(reasoning) = part {
            *reasoning = truncate_middle(reasoning, max_bytes);
        }
    }
    turn.text = truncate_middle(&turn.text, max_bytes);
    for call in &mut turn.calls {
        shorten(&mut call.args, max_bytes);
    }
}

fn shorten(value: &mut Value, max_bytes: usize) {
    match value {
        Value::String(text) if text.len() > max_bytes => *text = truncate_middle(text, max_bytes),
        Value::Array(items) => {
            if items.len() > max_bytes / 8 {
                items.truncate(max_bytes / 8);
            }
            items.iter_mut().for_each(|v| shorten(v, max_bytes));
        }
        Value::Object(fields) if fields.len() > 64 => fields.clear(),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, v)| shorten(v, max_bytes)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Outcome;
    use super::*;
    use proptest::prelude::*;

    fn turn(n: usize, sizes: &[(usize, usize)], text: usize, ok: bool) -> Turn {
        let call = |i: usize, args: usize| Call {
            id: format!("c{n}-{i}"),
            tool: RUN.to_owned(),
            args: serde_json::json!({ "command": "ü".repeat(args / 2) }),
            invalid: None,
            signatures: Some(vec![format!("signature {n} {i}")]),
        };
        let outcome = |i: usize, size: usize| Outcome {
            id: format!("c{n}-{i}"),
            tool: RUN.to_owned(),
            what: format!("run test {i}"),
            text: "line of output ü\n".repeat(size / 16),
            ok,
            changed: if i == 0 { vec![format!("src/{n}.rs")] } else { vec![] },
        };
        Turn {
            text: "é".repeat(text / 2),
            calls: sizes.iter().enumerate().map(|(i, (args, _))| call(i, *args)).collect(),
            reasoning_parts: vec![ContentPart::ThoughtSignature(format!("thought {n}"))],
            results: sizes.iter().enumerate().map(|(i, (_, size))| outcome(i, *size)).collect(),
            nudge: sizes.is_empty().then(|| "use a tool".to_owned()),
        }
    }

    /// Commands that failed when they last ran, with the turn.
    fn failing(history: &History) -> Vec<(String, usize)> {
        let mut last: Vec<(String, usize, bool)> = Vec::new();
        for (n, turn) in history.turns.iter().enumerate() {
            for result in &turn.results {
                last.retain(|(what, ..)| *what != result.what);
                last.push((result.what.clone(), n, result.ok));
            }
        }
        last.into_iter().filter(|(.., ok)| !ok).map(|(what, n, _)| (what, n)).collect()
    }

    #[test]
    fn old_results_are_cleared_in_batches() {
        let mut history = History::new("order".to_owned());
        let (mut cleared, mut largest) = (Vec::new(), 0);
        for n in 0..40 {
            history.turns.push(turn(n, &[(10, 12 * 1024)], 0, true));
            if clear(&mut history) {
                cleared.push(n);
            }
            largest = largest.max(estimate(&history));
        }
        assert!(largest <= CLEAR_FROM && cleared.len() < 8, "{largest} {cleared:?}");
        let whole = |t: &Turn| !t.results[0].text.contains("removed to save space");
        assert!(history.turns[40 - CLEAR_ALL_BUT..].iter().all(whole) && !whole(&history.turns[0]));
        // A conversation of many small results stays as it is.
        let mut small = History::new("order".to_owned());
        small.turns.extend((0..2_000).map(|n| turn(n, &[(10, 32)], 0, true)));
        assert!(!clear(&mut small));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn any_conversation_fits_and_keeps_its_order_and_pairs(
            order in 0usize..20_000,
            turns in prop::collection::vec(
                (prop::collection::vec((0usize..40_000, 0usize..70_000), 0..5), 0usize..9_000, any::<bool>()), 0..25),
            room in 18_000u64..60_000,
        ) {
            let order = "o".repeat(order);
            let mut history = History::new(order.clone());
            history.turns = turns.iter().enumerate().map(|(n, (sizes, text, ok))| turn(n, sizes, *text, *ok)).collect();
            let before = history.turns.len();
            let ends = |h: &History| h.turns.last().map(|t| (t.reasoning_parts.len(), t.calls.iter().map(|c| c.signatures.clone()).collect::<Vec<_>>()));
            let (end, failing) = (ends(&history), failing(&history));
            let last = history.turns.last().map(|t| t.calls.len());
            let fitted_before = estimate(&history) <= room;
            prop_assert_eq!(fit(&mut history, room), Ok(()));
            prop_assert!(estimate(&history) <= room);
            prop_assert!(history.opening().starts_with(&order));
            prop_assert!(!fitted_before || history.turns.len() == before);
            // The last turn is never dropped here: it fits when shortened.
            prop_assert_eq!(history.turns.last().map(|t| t.calls.len()), last);
            // Signatures of the last turn are complete, and failures are readable in their turn or in the opening.
            prop_assert_eq!(ends(&history), end);
            for (what, turn) in failing {
                let of = |r: &Outcome| r.what == what && r.id.starts_with(&format!("c{turn}-"));
                let results = || history.turns.iter().flat_map(|t| &t.results);
                let in_turn = results().any(|r| of(r) && !r.text.starts_with("[result of"));
                prop_assert!(in_turn || history.opening().contains(&format!("last run: {what}\n")), "{}", what);
            }
            for turn in &history.turns {
                let calls: Vec<&String> = turn.calls.iter().map(|c| &c.id).collect();
                let results: Vec<&String> = turn.results.iter().map(|r| &r.id).collect();
                prop_assert_eq!(calls, results);
                prop_assert!(turn.calls.iter().all(|c| c.args.is_object()));
            }
        }
    }

    #[test]
    fn the_oldest_result_is_dropped_first_and_named() {
        let mut history = History::new("the order".to_owned());
        history.turns = (0..6).map(|n| turn(n, &[(10, 9_000)], 20, true)).collect();
        let room = estimate(&history) - 100;
        fit(&mut history, room).unwrap();
        assert_eq!(history.turns.len(), 6);
        assert!(history.turns[0].results[0].text.starts_with("[result of run test 0, 562 lines: removed"));
        assert!(history.turns[1..].iter().all(|t| t.results[0].text.len() > 8_000));
        assert_eq!(history.opening(), "the order");
    }

    #[test]
    fn dropped_turns_leave_steps_changed_files_and_failures() {
        let mut history = History::new("the order".to_owned());
        history.turns = (0..200).map(|n| turn(n, &[(4_000, 4_000)], 200, n != 190)).collect();
        fit(&mut history, 8_000).unwrap();
        let opening = history.opening();
        assert!(opening.starts_with("the order\n\nEarlier turns"), "{opening}");
        assert!(opening.contains("- run test 0\n") && opening.contains("earlier steps, not listed"), "{opening}");
        assert!(opening.contains("src/0.rs") && !opening.contains("src/199.rs"), "{opening}");
        assert!(opening.len() < 20_000);
        let mut failing = History::new("o".to_owned());
        failing.turns = vec![turn(0, &[(10, 60_000)], 0, false), turn(1, &[(10, 60_000)], 0, false)];
        failing.turns.extend((2..7).map(|n| turn(n, &[], 9_000, true)));
        fit(&mut failing, 6_000).unwrap();
        assert!(failing.opening().contains("Failed when last run: run test 0"), "{}", failing.opening());
    }

    #[test]
    fn an_order_that_is_too_large_is_reported() {
        let mut history = History::new("o".repeat(30_000));
        let error = fit(&mut history, 9_000).unwrap_err();
        assert_eq!(error, TooLarge { order: 10_000, room: 9_000 });
    }
}
