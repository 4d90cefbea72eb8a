//! Keeping the conversation inside the model's window: what is dropped first, and what never is.
//!
//! | step | gives up |
//! |---|---|
//! | 1 | results of older turns, oldest first: each becomes one line that says what it was |
//! | 2 | long arguments, thoughts and texts of older turns |
//! | 3 | older turns: each becomes a line of the digest |
//! | 4 | the middle of long results and arguments in the last turns |
//!
//! Invariant: the order (goal, task, failing checks) is never cut, and every call keeps its result.

use super::history::{Call, History, RED_BYTES_MAX, Turn};
use super::tools::{RUN, middle_cut};
use genai::chat::ContentPart;
use serde_json::Value;

/// Turns at the end that stay whole as long as that fits.
const WHOLE: usize = 4;
/// A text shorter than this is not worth a stub.
const WORTH: usize = 240;
/// What framing costs in any API: a message, a call, a result.
const FRAME_BYTES: usize = 48;

/// The order alone is larger than the room there is.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// What the order takes, in tokens.
    pub order: u64,
    /// What there is.
    pub room: u64,
}

/// Tokens of so many bytes. Code takes a token for three to four bytes; the smaller figure, since too much sent is an error and too
/// little only a compaction early.
pub fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}

/// Tokens of the whole conversation, system prompt and tools apart.
pub fn estimate(history: &History) -> u64 {
    tokens(opening(history) + history.turns.iter().map(bytes).sum::<usize>())
}

fn opening(history: &History) -> usize {
    history.order.len() + history.digest.words().len() + FRAME_BYTES
}

fn bytes(turn: &Turn) -> usize {
    let call = |c: &Call| {
        let signed: usize = c.signed.iter().flatten().map(String::len).sum();
        FRAME_BYTES + c.id.len() + c.tool.len() + json_bytes(&c.args) + signed
    };
    let calls: usize = turn.calls.iter().map(call).sum();
    let results: usize = turn.results.iter().map(|r| FRAME_BYTES + r.id.len() + r.text.len()).sum();
    let kept: usize = turn.kept.iter().map(genai::chat::ContentPart::size).sum();
    FRAME_BYTES + turn.text.len() + calls + results + kept + turn.told.as_ref().map_or(0, String::len)
}

/// About the bytes of a value as JSON, without writing it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| json_bytes(v) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(k, v)| k.len() + json_bytes(v) + 4).sum::<usize>(),
        _ => 8,
    }
}

/// Makes the conversation fit into `room` tokens.
///
/// # Errors
/// When the order and one shortened turn do not fit.
pub fn fit(history: &mut History, room: u64) -> Result<(), TooLarge> {
    let mut sizes = Sizes { turns: history.turns.iter().map(bytes).collect(), opening: opening(history) };
    let older = history.turns.len().saturating_sub(WHOLE);
    for give_up in [stub_results as fn(&mut Turn), |turn| thin(turn, WORTH)] {
        for (n, turn) in history.turns.iter_mut().enumerate().take(older) {
            if sizes.tokens() <= room {
                return Ok(());
            }
            give_up(turn);
            sizes.turns[n] = bytes(turn);
        }
    }
    sizes.drop_oldest(history, room, WHOLE);
    let mut most = 16 * 1024;
    while sizes.tokens() > room && most >= WORTH {
        let last = history.turns.len().saturating_sub(1);
        for (n, turn) in history.turns.iter_mut().enumerate() {
            for result in &mut turn.results {
                result.text = middle_cut(&result.text, most);
            }
            turn.told = turn.told.take().map(|t| middle_cut(&t, most));
            // Calls whose results are about to be looked at are refused without the thoughts that led to them.
            let kept = if n == last { std::mem::take(&mut turn.kept) } else { Vec::new() };
            thin(turn, most);
            if n == last {
                turn.kept = kept;
            }
        }
        sizes.turns = history.turns.iter().map(bytes).collect();
        most /= 2;
    }
    sizes.drop_oldest(history, room, 0);
    match sizes.tokens() > room {
        false => Ok(()),
        true => Err(TooLarge { order: tokens(history.order.len()), room }),
    }
}

/// What the parts of a conversation take, in bytes: counted once, not at each step.
struct Sizes {
    turns: Vec<usize>,
    opening: usize,
}

impl Sizes {
    fn tokens(&self) -> u64 {
        tokens(self.opening + self.turns.iter().sum::<usize>())
    }

    /// Drops the oldest turns into the digest until the rest fits, or only `least` are left.
    fn drop_oldest(&mut self, history: &mut History, room: u64, least: usize) {
        while self.tokens() > room && history.turns.len() > least {
            let turn = history.turns.remove(0);
            self.turns.remove(0);
            history.digest.take(&turn);
            self.opening = opening(history);
        }
    }
}

fn stub_results(turn: &mut Turn) {
    for result in turn.results.iter_mut().filter(|r| r.text.len() > WORTH) {
        if result.tool == RUN && !result.ok {
            // What fails is what the work is about.
            result.text = middle_cut(&result.text, RED_BYTES_MAX);
            continue;
        }
        let lines = result.text.lines().count();
        let what = middle_cut(&result.what, WORTH / 2).replace('\n', " ");
        result.text = format!("[result of {what}, {lines} lines: dropped to save room; do it again if you need it]");
    }
}

/// Shortens what the model itself said. Signed thoughts go whole: they must not be changed. Others are shortened: some servers refuse calls
/// without any. What a call is signed with stays as long as the call: some refuse it without.
fn thin(turn: &mut Turn, most: usize) {
    turn.kept.retain(ContentPart::is_reasoning_content);
    for part in &mut turn.kept {
        if let ContentPart::ReasoningContent(thought) = part {
            *thought = middle_cut(thought, most);
        }
    }
    turn.text = middle_cut(&turn.text, most);
    for call in &mut turn.calls {
        shorten(&mut call.args, most);
    }
}

fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) if text.len() > most => *text = middle_cut(text, most),
        Value::Array(items) => {
            if items.len() > most / 8 {
                items.truncate(most / 8);
            }
            items.iter_mut().for_each(|v| shorten(v, most));
        }
        Value::Object(fields) if fields.len() > 64 => fields.clear(),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, v)| shorten(v, most)),
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
            broken: None,
            signed: Some(vec![format!("signature {n} {i}")]),
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
            kept: vec![ContentPart::ThoughtSignature(format!("thought {n}"))],
            results: sizes.iter().enumerate().map(|(i, (_, size))| outcome(i, *size)).collect(),
            told: sizes.is_empty().then(|| "use a tool".to_owned()),
        }
    }

    /// The commands that failed when they last ran, with the turn of that.
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn any_conversation_fits_keeps_its_order_and_its_pairs(
            order in 0usize..20_000,
            turns in prop::collection::vec(
                (prop::collection::vec((0usize..40_000, 0usize..70_000), 0..5), 0usize..9_000, any::<bool>()), 0..25),
            room in 18_000u64..60_000,
        ) {
            let order = "o".repeat(order);
            let mut history = History::new(order.clone());
            history.turns = turns.iter().enumerate().map(|(n, (sizes, text, ok))| turn(n, sizes, *text, *ok)).collect();
            let before = history.turns.len();
            let ends = |h: &History| h.turns.last().map(|t| (t.kept.len(), t.calls.iter().map(|c| c.signed.clone()).collect::<Vec<_>>()));
            let (end, failing) = (ends(&history), failing(&history));
            let last = history.turns.last().map(|t| t.calls.len());
            let fitted_before = estimate(&history) <= room;
            prop_assert_eq!(fit(&mut history, room), Ok(()));
            prop_assert!(estimate(&history) <= room);
            prop_assert!(history.opening().starts_with(&order));
            prop_assert!(!fitted_before || history.turns.len() == before);
            // The last turn is never dropped here: there is room for it, shortened.
            prop_assert_eq!(history.turns.last().map(|t| t.calls.len()), last);
            // What the last turn is signed with is there, whole; and what fails can be read, in its turn or in the opening.
            prop_assert_eq!(ends(&history), end);
            for (what, turn) in failing {
                let of = |r: &Outcome| r.what == what && r.id.starts_with(&format!("c{turn}-"));
                let results = || history.turns.iter().flat_map(|t| &t.results);
                let in_turn = results().any(|r| of(r) && !r.text.starts_with("[result of"));
                prop_assert!(in_turn || history.opening().contains(&format!("then: {what}\n")), "{}", what);
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
    fn what_goes_first_is_the_oldest_result_and_it_says_what_it_was() {
        let mut history = History::new("the order".to_owned());
        history.turns = (0..6).map(|n| turn(n, &[(10, 9_000)], 20, true)).collect();
        let room = estimate(&history) - 100;
        fit(&mut history, room).unwrap();
        assert_eq!(history.turns.len(), 6);
        assert!(history.turns[0].results[0].text.starts_with("[result of run test 0, 562 lines: dropped"));
        assert!(history.turns[1..].iter().all(|t| t.results[0].text.len() > 8_000));
        assert_eq!(history.opening(), "the order");
    }

    #[test]
    fn dropped_turns_stay_as_steps_changed_files_and_the_last_failure() {
        let mut history = History::new("the order".to_owned());
        history.turns = (0..200).map(|n| turn(n, &[(4_000, 4_000)], 200, n != 190)).collect();
        fit(&mut history, 8_000).unwrap();
        let opening = history.opening();
        assert!(opening.starts_with("the order\n\nEarlier turns"), "{opening}");
        assert!(opening.contains("- run test 0\n") && opening.contains("more steps before these"), "{opening}");
        assert!(opening.contains("src/0.rs") && !opening.contains("src/199.rs"), "{opening}");
        assert!(opening.len() < 20_000);
        let mut failing = History::new("o".to_owned());
        failing.turns = vec![turn(0, &[(10, 60_000)], 0, false), turn(1, &[(10, 60_000)], 0, false)];
        failing.turns.extend((2..7).map(|n| turn(n, &[], 9_000, true)));
        fit(&mut failing, 6_000).unwrap();
        assert!(failing.opening().contains("Failed when it last ran then: run test 0"), "{}", failing.opening());
    }

    #[test]
    fn an_order_that_is_too_large_is_said_so() {
        let mut history = History::new("o".repeat(30_000));
        let said = fit(&mut history, 9_000).unwrap_err();
        assert_eq!(said, TooLarge { order: 10_000, room: 9_000 });
    }
}
