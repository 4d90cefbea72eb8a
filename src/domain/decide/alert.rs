//! Telling people that a share of a budget is used: once each, where they look anyway. Never a question.

use super::builder::DecisionBuilder;
use crate::domain::budget::Alert;
use crate::domain::describe;
use crate::domain::effect::Effect;
use crate::domain::ledger_row::Day;
use crate::domain::run::Phase;
use crate::domain::shared_budget::{BudgetScope, Level};

impl DecisionBuilder {
    /// Tells people, once each, that a share of a limit is used: in the run, and on the change where there is one.
    pub fn alert(&mut self) {
        for (what, used, limit) in self.run.ledger.levels(&self.run.limits) {
            if let Some(share) = self.tell(what, used, limit) {
                self.say_alert(&describe::alert(&self.run, what, share));
            }
        }
    }

    fn say_alert(&mut self, text: &str) {
        let over = self.run.stopping.is_some() || self.run.phase >= Phase::Reporting;
        if let Some(change) = self.run.change.as_ref().filter(|_| !over) {
            let change = change.number;
            self.order(Effect::Comment { change, text: text.to_owned() });
        }
    }

    /// Tells people of the shared budgets what the store has found nobody was told before, whatever run: it is this run's to tell.
    pub fn alert_shared(&mut self, levels: &[Level]) {
        let today = Day::of(self.at);
        let of_today = |a: &Alert| !a.what.starts_with(BudgetScope::Day.budget()) || Day::of(a.at) == today;
        self.run.alerts.retain(of_today);
        for (level, share) in levels.iter().take(8).filter_map(|l| Some((l, l.told?))) {
            let what = level.name();
            // Told before, of a limit that was raised since.
            self.run.alerts.retain(|a| a.what != what || a.share < share);
            self.run.alerts.push(Alert { what, share, at: self.at });
            self.say_alert(&describe::alert_shared(&self.run, level, share));
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
