//! Budget alerts: people are notified once per threshold, in the run and on the change. An alert never blocks.

use super::builder::DecisionBuilder;
use crate::domain::budget::shared_budget::{BudgetScope, Level};
use crate::domain::budget::{Alert, BudgetKind};
use crate::domain::effect::{CommentSubject, Effect};
use crate::domain::ledger_row::Day;
use crate::domain::run::Phase;

impl DecisionBuilder {
    /// Notifies people, once per threshold, that a budget of the run has reached it.
    pub fn alert(&mut self) {
        for (budget, used, limit) in self.run.ledger.levels(&self.run.limits) {
            if let Some(alert) = self.reached(budget, used, limit) {
                self.run.alerts.push(alert.clone());
                self.comment_alert(CommentSubject::Alert(alert));
            }
        }
    }

    fn comment_alert(&mut self, about: CommentSubject) {
        let over = self.run.stopping.is_some() || self.run.phase >= Phase::Reporting;
        if let Some(change) = self.run.change.as_ref().filter(|_| !over).map(|c| c.number) {
            self.order(Effect::Comment { change, thread: None, about });
        }
    }

    /// Notifies people of thresholds of shared budgets that this run is the first to reach.
    pub fn alert_shared(&mut self, levels: &[Level]) {
        let today = Day::of(self.at);
        self.run.alerts.retain(|a| a.scope != Some(BudgetScope::Day) || Day::of(a.at) == today);
        for (level, percent) in levels.iter().take(8).filter_map(|l| Some((l, l.alert_percent?))) {
            let (scope, budget) = (Some(level.scope), level.unit.kind());
            // An earlier alert about a limit that has been raised since is replaced.
            self.run.alerts.retain(|a| !a.is_of(scope, budget) || a.percent < percent);
            self.run.alerts.push(Alert { scope, budget, percent, at: self.at });
            self.comment_alert(CommentSubject::SharedAlert { level: level.clone(), percent });
        }
    }

    fn reached(&self, budget: BudgetKind, used: u64, limit: u64) -> Option<Alert> {
        let percent = Alert::reached(&self.run.settings.policy.alert_percent, used, limit)?;
        if self.run.alerts.iter().any(|a| a.is_of(None, budget) && a.percent >= percent) {
            return None;
        }
        Some(Alert { scope: None, budget, percent, at: self.at })
    }

    /// Removes alerts that no longer hold under raised limits, so that they can be sent again.
    pub fn forget_alerts(&mut self) {
        let levels = self.run.ledger.levels(&self.run.limits);
        let thresholds = self.run.settings.policy.alert_percent.clone();
        self.run.alerts.retain(|a| match levels.iter().find(|(budget, ..)| a.is_of(None, *budget)) {
            Some((_, used, limit)) => Alert::reached(&thresholds, *used, *limit).is_some_and(|p| p >= a.percent),
            None => true,
        });
    }
}
