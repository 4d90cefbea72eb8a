//! Parses amounts of budgets: what is added to the limits of a run, and the limits themselves.

use crate::config::units;
use crate::http::rest::wire::{Raise, RequestedLimits};

/// Additional budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More(pub Raise);

/// Limits of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits(pub RequestedLimits);

/// Parses `time=1h,cost="1.00 USD",tokens=100000,rounds=2,attempts=10,step=10m`.
pub fn more(text: &str) -> Result<More, String> {
    let mut raise = Raise::default();
    for (name, amount) in amounts(text, "time, cost, tokens, turns, rounds, attempts or step")? {
        match name {
            Amount::Time => raise.time_secs = amount,
            Amount::Step => raise.step_secs = amount,
            Amount::Cost => raise.cost_micros = amount,
            Amount::Tokens => raise.tokens = amount,
            Amount::Turns => raise.turns = amount,
            Amount::Rounds => raise.rounds = small(amount),
            Amount::Attempts => raise.attempts = small(amount),
        }
    }
    if raise == Raise::default() {
        return Err("no amount given; pass at least one above zero, such as time=1h".to_owned());
    }
    Ok(More(raise))
}

/// Parses `time=1h,cost="1.00 USD",tokens=100000,rounds=2,attempts=10`.
pub fn limits(text: &str) -> Result<Limits, String> {
    let form = "time, cost, tokens, turns, rounds or attempts";
    let mut limits = RequestedLimits::default();
    for (name, amount) in amounts(text, form)? {
        if amount == 0 && name != Amount::Rounds {
            return Err(format!("{}: a limit of zero leaves nothing to work with", name.word()));
        }
        match name {
            Amount::Time => limits.timeout_secs = Some(amount),
            Amount::Cost => limits.cost_micros = Some(amount),
            Amount::Tokens => limits.tokens = Some(amount),
            Amount::Turns => limits.turns = Some(amount),
            Amount::Rounds => limits.rounds = Some(small(amount)),
            Amount::Attempts => limits.attempts = Some(small(amount)),
            Amount::Step => {
                return Err(format!("the time of one step is set in the configuration; write NAME=AMOUNT with {form}"));
            }
        }
    }
    match limits.is_empty() {
        true => Err("no limit given; pass at least one, such as cost=\"2 USD\"".to_owned()),
        false => Ok(Limits(limits)),
    }
}

/// Merges repeated options. A later limit of the same name wins.
pub fn merged(all: &[Limits]) -> RequestedLimits {
    all.iter().fold(RequestedLimits::default(), |earlier, Limits(later)| RequestedLimits {
        tokens: later.tokens.or(earlier.tokens),
        cost_micros: later.cost_micros.or(earlier.cost_micros),
        turns: later.turns.or(earlier.turns),
        timeout_secs: later.timeout_secs.or(earlier.timeout_secs),
        rounds: later.rounds.or(earlier.rounds),
        attempts: later.attempts.or(earlier.attempts),
    })
}

/// What an amount is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    Time,
    Step,
    Cost,
    Tokens,
    Turns,
    Rounds,
    Attempts,
}

impl Amount {
    const ALL: [Amount; 7] =
        [Amount::Time, Amount::Step, Amount::Cost, Amount::Tokens, Amount::Turns, Amount::Rounds, Amount::Attempts];

    fn word(self) -> &'static str {
        match self {
            Amount::Time => "time",
            Amount::Step => "step",
            Amount::Cost => "cost",
            Amount::Tokens => "tokens",
            Amount::Turns => "turns",
            Amount::Rounds => "rounds",
            Amount::Attempts => "attempts",
        }
    }

    /// Parses an amount: seconds for a time, micro-USD for money.
    fn parse(self, amount: &str) -> Result<u64, String> {
        let with_unit = |e: units::Unreadable| format!("{}: {}; {}", self.word(), e.why, e.fix);
        match self {
            Amount::Time | Amount::Step => units::duration(amount).map(|d| d.as_secs()).map_err(with_unit),
            Amount::Cost => units::money(amount).map_err(with_unit),
            Amount::Tokens | Amount::Turns | Amount::Rounds | Amount::Attempts => {
                let number = amount.replace('_', "").parse::<u32>();
                number.map(u64::from).map_err(|_| format!("{}: {amount:?} is not a whole number", self.word()))
            }
        }
    }
}

/// Parses `NAME=AMOUNT` pairs; `names` are those that the option takes.
fn amounts(text: &str, names: &str) -> Result<Vec<(Amount, u64)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    let form = format!("write NAME=AMOUNT with {names}");
    let parsed = pairs.map(|pair| {
        let (name, amount) = pair.split_once('=').ok_or_else(|| format!("invalid amount {pair:?}; {form}"))?;
        let found = Amount::ALL.into_iter().find(|known| known.word() == name.trim());
        let found = found.ok_or_else(|| format!("unknown budget {:?}; {form}", name.trim()))?;
        Ok((found, found.parse(amount.trim().trim_matches('"'))?))
    });
    parsed.collect()
}

/// Counts are parsed as `u32`.
fn small(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

/// Parses an amount of money, in micro-USD.
pub fn dollars(text: &str) -> Result<u64, String> {
    units::money(text).map_err(|e| format!("{}: {}", e.why, e.fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_units() {
        let all = more("time=1h 30m,cost=\"1.50 USD\",tokens=100_000,rounds=2,attempts=10").unwrap().0;
        let raise = Raise {
            tokens: 100_000,
            cost_micros: 1_500_000,
            time_secs: 5_400,
            rounds: 2,
            attempts: 10,
            ..Raise::default()
        };
        assert_eq!(all, raise);
        for bad in ["", "time=1", "cost=1", "rounds=-1", "beer=2", "time", "rounds=0"] {
            assert!(more(bad).is_err(), "{bad}");
        }
        let given = limits("cost=2USD,rounds=0").unwrap().0;
        assert_eq!((given.cost_micros, given.rounds, given.tokens), (Some(2_000_000), Some(0), None));
        let merged = merged(&[limits("rounds=1,turns=3").unwrap(), limits("rounds=2").unwrap()]);
        assert_eq!((merged.rounds, merged.turns), (Some(2), Some(3)), "the later one wins");
        for bad in ["", "time=0s", "tokens=0", "step=1m", "beer=2"] {
            assert!(limits(bad).is_err(), "{bad}");
        }
    }
}
