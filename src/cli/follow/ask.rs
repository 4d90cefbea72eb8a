//! Answers to the questions of a followed run: given by `--yes`, or by the person at the terminal.

use super::Follower;
use crate::cli::escalation::{self, Form};
use crate::cli::exit::{ExitStatus, Stop};
use crate::cli::question::{self, Decision};
use crate::cli::terminal::Style;
use crate::http::rest::wire::{Action, BudgetScope, Escalation, Raised};

impl Follower<'_> {
    /// Gives the oldest open approval (`--yes`). Each block is answered once: one that stays open needs more than the
    /// yes of this person.
    pub(super) async fn approve_next(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| is_approval(e) && !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        self.asked.insert(escalation.block.to_string());
        let body = Action { block: Some(escalation.block.to_string()), ..Action::default() };
        match self.client.post(&format!("{}/actions/approve", self.path), &body, None).await {
            Ok(view) => self.view = view,
            // This person may not give it (policy), or it was answered meanwhile: it stays open, and the command exits
            // with 4.
            Err(error) if error.exit == ExitStatus::Usage => {
                escalation::print(self.terminal, &self.view, &escalation, Form::Full)?;
                self.terminal.error(&error);
                self.view = self.client.get(&self.path).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        let what = escalation.why.lines().next().unwrap_or_default();
        let line = format!("approved on your behalf (--yes): {}: {what}", escalation.reason);
        self.terminal.prose(Style::Green, &line, 2)?;
        // Changes that deserve a look are shown even if the run does not wait for it.
        for concern in escalation.why.lines().filter(|l| l.starts_with("needs attention")) {
            self.terminal.prose(Style::Yellow, &format!("  {concern}"), 4)?;
        }
        Ok(true)
    }

    /// Asks the person at the terminal about the oldest open question; returns whether it was answered.
    pub(super) async fn ask(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        if !self.terminal.can_prompt() {
            return Ok(false);
        }
        self.say_that_the_base_moved(&escalation)?;
        escalation::print(self.terminal, &self.view, &escalation, Form::Asked)?;
        self.asked.insert(escalation.block.to_string());
        // The answer is about the state that was shown: it is refused if the run has moved since.
        let mut seq = Some(self.view.seq);
        let (name, action) = match question::ask(self.client, self.terminal, &self.view, &escalation).await? {
            Decision::Act(name, action) => {
                if name == "approve" && !action.no {
                    self.approved_on = Some(self.view.base.clone());
                }
                (name, action)
            }
            Decision::RaiseShared(mut raise) => {
                let project = (raise.scope == BudgetScope::Project).then(|| self.view.project.clone());
                raise.project = project;
                let _raised: Raised = self.client.post("/budget/raise", &raise, None).await?;
                // The raise itself may have resumed the run.
                self.view = self.client.get(&self.path).await?;
                if self.view.escalations.iter().all(|e| e.block != escalation.block) {
                    return Ok(true);
                }
                seq = None;
                ("unblock", Box::new(Action { block: Some(escalation.block.clone()), ..Action::default() }))
            }
            Decision::Later => {
                let (short, block) = (&self.view.short_id, &escalation.block);
                let command = if is_approval(&escalation) { "approve" } else { "unblock" };
                self.terminal.suggest(&format!(
                    "The run waits for your answer. Give it later with `skep {command} {short} --block {block}`, or here \
                     with `skep watch {short}`."
                ))?;
                return Ok(false);
            }
        };
        match self.client.post(&format!("{}/actions/{name}", self.path), &*action, seq).await {
            Ok(view) => self.view = view,
            Err(error) if error.problems.iter().any(|p| p.status == 412) => {
                self.terminal.print("The run has changed in the meantime; please review it again.")?;
                self.asked.remove(&escalation.block.to_string());
                self.view = self.client.get(&self.path).await?;
            }
            // Not an answer, or not from this person: the question stays.
            Err(error) if error.exit == ExitStatus::Usage => {
                self.terminal.error(&error);
                self.asked.remove(&escalation.block.to_string());
                self.view = self.client.get(&self.path).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

impl Follower<'_> {
    /// Prints why a merge that was just approved is asked for again.
    fn say_that_the_base_moved(&self, escalation: &Escalation) -> Result<(), Stop> {
        let (base, branch) = (&self.view.base, &self.view.base_branch);
        match &self.approved_on {
            Some(approved) if escalation.code == "approve_merge" && approved != base => {
                let line = format!(
                    "{branch} moved to {} after you approved; the change was put on top of it, and checked and reviewed again.",
                    crate::cli::text::short_sha(base)
                );
                self.terminal.prose(Style::Yellow, &line, 2)
            }
            _ => Ok(()),
        }
    }
}

fn is_approval(escalation: &Escalation) -> bool {
    escalation.code.starts_with("approve_")
}
