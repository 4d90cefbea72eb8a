//! Budget alerts: people are notified once per threshold, in the run and on the change. An alert never blocks.

use super::builder::DecisionBuilder;
use crate::domain::budget::shared_budget::{BudgetScope, Level};
use crate::domain::budget::{Alert, BudgetKind};
use crate::domain::effect::{CommentSubject, Effect};
use crate::domain::ledger_row::Day;
use crate::domain::run::Phase;

impl DecisionBuilder {
    /// Notifies people, once each, that the run's own budgets have reached thresholds.
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
            self.order(Effect::Comment { change, about });
        }
    }

    /// Notifies people of thresholds of shared budgets that this run is the first of all runs to find reached.
    pub fn alert_shared(&mut self, levels: &[Level]) {
        let today = Day::of(self.at);
        self.run.alerts.retain(|a| a.scope != Some(BudgetScope::Day) || Day::of(a.at) == today);
        for (level, percent) in levels.iter().take(8).filter_map(|l| Some((l, l.alert_percent?))) {
            let (scope, budget) = (Some(level.scope), level.unit.kind());
            // An alert about a limit that was raised since is replaced.
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

    /// Forgets alerts about limits that were raised, where they are not true of the new limits, so that they may be
    /// repeated.
    pub fn forget_alerts(&mut self) {
        let levels = self.run.ledger.levels(&self.run.limits);
        let thresholds = self.run.settings.policy.alert_percent.clone();
        self.run.alerts.retain(|a| match levels.iter().find(|(budget, ..)| a.is_of(None, *budget)) {
            Some((_, used, limit)) => Alert::reached(&thresholds, *used, *limit).is_some_and(|p| p >= a.percent),
            None => true,
        });
    }
}
