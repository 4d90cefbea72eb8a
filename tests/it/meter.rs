//! The usage meter: no interleaving of calls exceeds a cap, missing usage is never free, and the totals add up.

use crate::support::engines::system_clock;
use proptest::prelude::*;
use serde_json::json;
use skep::adapters::engine::Registry;
use skep::domain::{Metered, Usage};
use skep::platform::sandbox::Sandbox;
use skep::ports::engine::Engines;
use skep::providers::meter::{AdmissionError, Cap, Meter, Ticket, WireUsage};
use skep::providers::prices::Prices;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// One USD per million input tokens, ten per million output tokens: one and ten micro-USD per token.
const PRICES: &str = "version = 'test'\n[[model]]\nmatch = ['p/m']\ninput = 1.0\ncached = 0.1\noutput = 10.0\n";

fn caps(tokens: u64, cost_micros: u64, turns: u64) -> Usage {
    Usage { tokens, cost_micros, turns, wall_ms: 0 }
}

fn meter(caps: Usage) -> Arc<Meter> {
    Meter::new(caps, Arc::new(Prices::load(PRICES).expect("prices")))
}

fn used(input: u64, output: u64) -> WireUsage {
    WireUsage { input, output, ..WireUsage::default() }
}

fn tokens(meter: &Meter) -> u64 {
    meter.usage().tokens
}

#[test]
fn a_call_is_reserved_and_then_settled_with_its_usage() {
    let meter = meter(caps(0, 0, 0));
    let watch = meter.watch();
    let ticket = meter.admit("p/m", 100, 50).expect("no caps");
    assert_eq!(meter.committed(), caps(150, 100 + 500, 1));
    assert_eq!(meter.usage(), Usage::default());
    ticket.settle(WireUsage { input: 80, cached: 40, output: 7, reasoning: 3, ..WireUsage::default() });
    assert_eq!(meter.usage(), caps(87, 40 + 4 + 70, 1));
    assert_eq!(meter.committed(), meter.usage());
    assert_eq!(*watch.borrow(), meter.usage());
    let usage_by_model = meter.usage_by_model();
    assert_eq!(usage_by_model.len(), 1);
    let line = &usage_by_model[0];
    assert_eq!((line.model.as_str(), line.calls, line.input, line.cached), ("p/m", 1, 80, 40));
    assert_eq!((line.output, line.reasoning, line.cost_micros, line.priced), (7, 3, 114, true));
}

#[test]
fn missing_and_absurd_usage_count_as_the_worst_case() {
    let reports: [fn(Ticket); 5] = [
        drop,
        |t| t.settle(WireUsage::default()),
        |t| t.settle(used(3001, 0)),
        |t| t.settle(used(0, u64::MAX)),
        |t| t.settle(used(u64::MAX, u64::MAX)),
    ];
    for end in reports {
        let meter = meter(caps(0, 0, 0));
        end(meter.admit("p/m", 100, 50).expect("no caps"));
        assert_eq!(meter.usage(), caps(150, 600, 1));
        assert_eq!(meter.usage_by_model()[0].input, 100);
    }
    let meter = meter(caps(0, 0, 0));
    meter.admit("p/m", 100, 50).expect("no caps").settle(used(3000, 0));
    assert_eq!(tokens(&meter), 3000, "up to twenty times the estimate is credible");
    meter.admit("p/m", u64::MAX, 50).expect("no caps").settle(used(10_000_000_001, 0));
    assert_eq!(tokens(&meter), u64::MAX, "no call has ten billion tokens");
}

#[test]
fn a_released_call_costs_nothing() {
    let meter = meter(caps(200, 0, 1));
    meter.admit("p/m", 100, 50).expect("fits").release();
    assert_eq!(meter.committed(), Usage::default());
    assert!(meter.usage_by_model().is_empty());
}

#[test]
fn a_rejection_offers_what_would_fit() {
    let refused = |caps: Usage, input: u64, output: u32| meter(caps).admit("p/m", input, output).expect_err("too much");
    let tokens = refused(caps(1000, 0, 0), 100, 2000);
    assert_eq!((tokens.cap, tokens.fits, tokens.may_fit_later), (Cap::Tokens, Some(900), false));
    let cost = refused(caps(0, 5_000, 0), 100, 2000);
    assert_eq!((cost.cap, cost.fits), (Cap::Cost, Some(490)));
    assert_eq!(refused(caps(1000, 0, 0), 745, 2000).fits, None, "255 tokens are too few");
    assert_eq!(refused(caps(1000, 0, 0), 744, 2000).fits, Some(256));
    assert_eq!(refused(caps(1000, 0, 0), 1001, 0).fits, None);
    assert!(meter(caps(1000, 0, 0)).admit("p/m", 900, 100).is_ok(), "exactly the cap");
    let meter = meter(caps(1000, 0, 1));
    assert!(meter.admit("p/m", 100, 2000).is_err());
    assert_eq!(meter.exhausted_cap(), None, "it may ask for less");
    meter.admit("p/m", 100, 900).expect("as offered").settle(used(100, 10));
    let turns = meter.admit("p/m", 1, 1).expect_err("a second turn");
    assert_eq!((turns.cap, turns.fits, meter.exhausted_cap()), (Cap::Turns, None, Some(Cap::Turns)));
    assert!(turns.to_string().contains("budget of this attempt is exhausted (turns)"));
}

#[test]
fn a_model_without_a_price_is_never_free() {
    let refused = meter(caps(0, 1_000_000, 0)).admit("p/new", 1, 1).expect_err("the cost cap cannot be enforced");
    assert_eq!(refused.cap, Cap::Price);
    assert!(refused.to_string().contains("\"p/new\" has no known price"), "{refused}");
    let meter = meter(caps(1_000, 1_000_000, 0));
    meter.admit("p/new", 100, 100).expect("tokens are limited").settle(used(60, 40));
    let line = &meter.usage_by_model()[0];
    assert_eq!((line.input, line.priced), (60, false));
    assert_eq!(meter.admit("p/new", 900, 1).expect_err("tokens").cap, Cap::Tokens);
}

#[test]
fn made_up_names_do_not_fill_the_list() {
    let meter = meter(caps(0, 0, 0));
    for n in 0..1000 {
        let name = format!("p/{n}{}", "x".repeat(500));
        meter.admit(&name, 1, 1).expect("no caps").settle(used(1, 1));
    }
    let usage_by_model = meter.usage_by_model();
    assert_eq!(usage_by_model.len(), 65);
    assert!(usage_by_model.iter().all(|l| l.model.len() <= 128 && !l.priced));
    assert_eq!(usage_by_model.iter().map(|l| l.calls).sum::<u64>(), 1000);
}

#[tokio::test]
async fn a_call_waits_for_reservations_of_calls_in_flight() {
    let meter = meter(caps(1000, 0, 0));
    let first = meter.admit("p/m", 0, 900).expect("fits");
    assert!(meter.admit("p/m", 0, 500).expect_err("reserved").may_fit_later);
    let waits = tokio::spawn({
        let meter = meter.clone();
        async move { meter.admit_when_free("p/m", 0, 500).await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    first.settle(used(50, 50));
    let second = timeout(Duration::from_secs(5), waits).await.expect("in time").expect("ends").expect("fits now");
    second.settle(used(0, 500));
    let refused = timeout(Duration::from_secs(5), meter.admit_when_free("p/m", 0, 500)).await.expect("at once");
    assert_eq!(refused.expect_err("nothing is in flight").fits, Some(400));
}

/// Settles a call as a provider might that respects `max_tokens`: with usage, without, or with nonsense.
fn end(dice: u64, ticket: Ticket, input: u64) {
    let output = u64::from(ticket.max_output_tokens());
    match dice % 5 {
        0 => ticket.settle(used(input, output)),
        1 => ticket.settle(used(input / 2, output / 3)),
        2 => ticket.settle(used(u64::MAX, dice)),
        3 => ticket.release(),
        _ => drop(ticket),
    }
}

#[test]
fn thirty_two_threads_never_exceed_a_small_budget() {
    for (round, cap) in
        [caps(10_000, 0, 0), caps(0, 40_000, 0), caps(0, 0, 50), caps(9_000, 50_000, 70)].iter().enumerate()
    {
        let meter = meter(*cap);
        std::thread::scope(|scope| {
            for thread in 0..32u64 {
                let meter = meter.clone();
                scope.spawn(move || {
                    // Some calls are in flight while others start.
                    let mut open: Vec<(Ticket, u64, u64)> = Vec::new();
                    for n in 0..200u64 {
                        let dice = (thread * 31 + n) * 2_654_435_761 + round as u64;
                        let (input, output) = (dice % 300, u32::try_from(dice % 700).expect("small"));
                        let admitted = meter
                            .admit("p/m", input, output)
                            .or_else(|refused: AdmissionError| meter.admit("p/m", input, refused.fits.unwrap_or(0)));
                        let now = meter.committed();
                        assert!(cap.tokens == 0 || now.tokens <= cap.tokens, "{now:?} exceeds {cap:?}");
                        assert!(cap.cost_micros == 0 || now.cost_micros <= cap.cost_micros, "{now:?} exceeds {cap:?}");
                        assert!(cap.turns == 0 || now.turns <= cap.turns, "{now:?} exceeds {cap:?}");
                        open.extend(admitted.map(|ticket| (ticket, dice, input)));
                        if open.len() > 2 || dice % 7 == 0 {
                            open.drain(..).for_each(|(ticket, dice, input)| end(dice, ticket, input));
                        }
                    }
                });
            }
        });
        let spent = meter.usage();
        assert_eq!(meter.committed(), spent, "nothing is reserved when all calls have ended");
        let calls: u64 = meter.usage_by_model().iter().map(|l| l.calls).sum();
        let billed: u64 = meter.usage_by_model().iter().map(|l| l.input + l.output).sum();
        let cost: u64 = meter.usage_by_model().iter().map(|l| l.cost_micros).sum();
        assert_eq!((calls, billed, cost), (spent.turns, spent.tokens, spent.cost_micros), "the entries add up");
        assert!(spent.turns > 0);
    }
}

proptest! {
    #[test]
    fn no_order_of_calls_exceeds_a_cap(
        tokens in 0u64..5_000, cost in 0u64..20_000, turns in 0u64..30,
        steps in proptest::collection::vec((0u64..1_000, 0u32..1_000, 0usize..8, 0u64..5), 1..80),
    ) {
        let cap = caps(tokens, cost, turns);
        let meter = meter(cap);
        let mut open: Vec<(Ticket, u64)> = Vec::new();
        for (input, output, which, dice) in steps {
            match meter.admit("p/m", input, output) {
                Ok(ticket) => open.push((ticket, input)),
                Err(refused) => {
                    prop_assert!(refused.may_fit_later || refused.fits.is_some() || meter.exhausted_cap().is_some());
                    if let Some(fits) = refused.fits {
                        prop_assert!(fits < output && fits >= 256);
                        open.push((meter.admit("p/m", input, fits).expect("what was offered fits"), input));
                    }
                }
            }
            let now = meter.committed();
            prop_assert!(tokens == 0 || now.tokens <= tokens);
            prop_assert!(cost == 0 || now.cost_micros <= cost);
            prop_assert!(turns == 0 || now.turns <= turns);
            if which < open.len() {
                let (ticket, input) = open.swap_remove(which);
                end(dice, ticket, input);
            }
        }
        open.clear();
        prop_assert_eq!(meter.committed(), meter.usage());
    }
}

fn with_file(caps: Usage, file: &Path, resume: bool) -> Result<Arc<Meter>, String> {
    Meter::with_file(caps, Arc::new(Prices::load(PRICES).expect("prices")), file, resume)
}

fn written(file: &Path) -> Option<Metered> {
    Registry::new(Sandbox::disabled(), Arc::default(), system_clock()).metered(file)
}

#[test]
fn the_file_never_lags_behind_admitted_calls() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run").join("a1.meter");
    assert_eq!(written(&file), None);
    let meter = with_file(caps(1_000, 0, 5), &file, false).unwrap();
    assert_eq!(written(&file), Some(Metered::default()), "nothing used yet, and that is known");
    let first = meter.admit("p/m", 100, 50).expect("fits");
    let second = meter.admit("x/unpriced", 10, 10).expect("fits");
    let both = written(&file).unwrap();
    assert_eq!(both.used, meter.committed(), "calls in flight count as their worst case");
    assert_eq!(Usage::of_models(&both.usage_by_model), both.used);
    assert!(both.usage_by_model.iter().any(|line| !line.priced));
    first.settle(used(80, 7));
    second.release();
    let settled = written(&file).unwrap();
    assert_eq!((settled.used, &settled.usage_by_model), (meter.usage(), &meter.usage_by_model()));
    drop(meter.admit("p/m", 100, 50).expect("fits"));
    assert_eq!(written(&file).unwrap().used, meter.usage());
}

#[test]
fn a_resumed_meter_continues_with_the_usage_and_caps_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meter");
    let first = with_file(caps(300, 0, 0), &file, false).unwrap();
    first.admit("p/m", 100, 50).expect("fits").settle(used(80, 20));
    let lost = first.admit("p/m", 100, 50).expect("fits");
    // Simulates a kill: the open call is never settled.
    std::mem::forget(lost);
    let second = with_file(caps(300, 0, 0), &file, true).unwrap();
    assert_eq!((second.usage(), second.usage().turns), (caps(250, 80 + 200 + 100 + 500, 2), 2));
    assert_eq!(second.admit("p/m", 40, 50).unwrap_err().cap, Cap::Tokens);
    second.admit("p/m", 20, 20).expect("fits").settle(used(20, 5));
    assert_eq!(second.usage_by_model()[0].calls, 3, "one entry for both processes");
    assert_eq!(Usage::of_models(&second.usage_by_model()), second.usage());
    // A new attempt starts from zero.
    assert_eq!(with_file(caps(300, 0, 0), &file, false).unwrap().usage(), Usage::default());
}

#[test]
fn a_damaged_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meter");
    let absurd =
        json!({"used": {"tokens": u64::MAX, "cost_micros": 0, "wall_ms": 0}, "usage_by_model": []}).to_string();
    let long = json!({"used": {"tokens": 1, "cost_micros": 0, "wall_ms": 0}, "x": "y".repeat(300 * 1024)}).to_string();
    for bytes in ["", "{", "[1]", "\u{0}", r#"{"used": {"tokens": -1}}"#, &absurd, &long] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(written(&file), None, "{bytes:.40}");
        assert!(with_file(caps(0, 0, 0), &file, true).is_err());
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(written(&file), None);
    // If the file cannot be written, work continues, and the usage is unknown.
    let meter = with_file(caps(0, 0, 0), &file, false).unwrap();
    meter.admit("p/m", 1, 1).expect("no caps").settle(used(1, 1));
    assert_eq!((meter.usage().turns, written(&file)), (1, None));
}
