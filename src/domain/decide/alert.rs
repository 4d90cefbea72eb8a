//! Telling people that a share of a budget is used: once each, where they look anyway. Never a question.

use super::draft::Draft;
use crate::domain::budget::{Alert, Level, Share};
use crate::domain::charge::Day;
use crate::domain::describe;
use crate::domain::effect::Effect;
use crate::domain::run::Phase;

impl Draft {
    /// Tells people, once each, that a share of a limit is used: in the run, and on the change where there is one.
    pub fn alert(&mut self) {
        for (what, used, limit) in self.run.ledger.levels(&self.run.limits) {
            let told = self.tell(what, used, limit);
            let over = self.run.stopping.is_some() || self.run.phase >= Phase::Reporting;
            if let (Some(share), Some(change)) = (told, self.run.change.as_ref().filter(|_| !over)) {
                let (change, text) = (change.number, describe::alert(&self.run, what, share));
                self.order(Effect::Comment { change, text });
            }
        }
    }

    /// Remembers how full a shared budget is, where that is worth telling.
    pub fn alert_shared(&mut self, levels: &[Level]) {
        let today = Day::of(self.at);
        let of_today = |a: &Alert| !a.what.starts_with(Share::Day.budget()) || Day::of(a.at) == today;
        self.run.alerts.retain(of_today);
        for level in levels.iter().take(8) {
            let of = if level.money { "money" } else { "tokens" };
            self.tell(&format!("{}: {of}", level.share.budget()), level.used, level.limit);
        }
    }

    fn tell(&mut self, what: &str, used: u64, limit: u64) -> Option<u8> {
        let share = Alert::reached(&self.run.settings.policy.alerts, used, limit)?;
        if self.run.alerts.iter().any(|a| a.what == what && a.share >= share) {
            return None;
        }
        self.run.alerts.push(Alert { what: what.to_owned(), share, at: self.at });
        Some(share)
    }

    /// Limits were raised: what was told of the old ones and is not true of the new ones may be told again.
    pub fn forget_alerts(&mut self) {
        let levels = self.run.ledger.levels(&self.run.limits);
        let shares = self.run.settings.policy.alerts.clone();
        self.run.alerts.retain(|a| match levels.iter().find(|(what, ..)| *what == a.what) {
            Some((_, used, limit)) => Alert::reached(&shares, *used, *limit).is_some_and(|s| s >= a.share),
            None => true,
        });
    }
}
