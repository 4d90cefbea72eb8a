//! What people say to a run: approve, unblock, pause, resume, cancel, retry, raise.

use super::args::{How, To};
use super::client::{Client, encode};
use super::context::{Access, Backend, CliContext, reach};
use super::exit::{Exit, Stop};
use super::follow::Manner;
use super::keep::keep_following;
use super::screen::{Screen, Style};
use crate::domain::Raise;
use crate::http::view::{RunView, Say};

/// One thing said to a run.
#[derive(Debug)]
pub enum Word {
    /// Yes or no to an approval.
    Approve {
        /// Which block.
        block: Option<String>,
        /// Declined, and why.
        no: Option<String>,
    },
    /// An answer to anything else.
    Unblock {
        /// Which block.
        block: Option<String>,
        /// The answer.
        how: How,
    },
    /// Hold.
    Pause,
    /// Go on.
    Resume,
    /// End undelivered.
    Cancel {
        /// Why.
        why: Option<String>,
    },
    /// Once more, as a new run.
    Retry,
    /// More budget.
    Raise(Raise),
}

impl Word {
    fn action(&self) -> &'static str {
        match self {
            Word::Approve { .. } => "approve",
            Word::Unblock { .. } => "unblock",
            Word::Pause => "pause",
            Word::Resume => "resume",
            Word::Cancel { .. } => "cancel",
            Word::Retry => "retry",
            Word::Raise(_) => "raise",
        }
    }

    /// As REST takes it.
    pub fn say(self) -> Say {
        match self {
            Word::Approve { block, no } => Say { block, no: no.is_some(), text: no, ..Say::default() },
            Word::Unblock { block, how } => Say {
                block,
                no: how.no.is_some(),
                skip: how.skip,
                text: how.no.or(how.answer),
                more: how.more.map(|more| more.0),
            },
            Word::Pause | Word::Resume | Word::Retry => Say::default(),
            Word::Cancel { why } => Say { text: why, ..Say::default() },
            Word::Raise(raise) => Say { more: Some(raise), ..Say::default() },
        }
    }
}

/// Says it. A word that moves a run carries it on in the foreground where no service does.
pub async fn answer(
    doors: &dyn Backend,
    context: &CliContext,
    screen: &Screen,
    to: To,
    word: Word,
) -> Result<Exit, Stop> {
    let need = if matches!(word, Word::Pause) { Access::Write } else { Access::Drive };
    let reached = reach(doors, context, need).await?;
    let end = tell((doors, context), &reached.client, screen, &to, word).await;
    reached.close().await;
    end
}

async fn tell(
    (doors, context): (&dyn Backend, &CliContext),
    client: &Client,
    screen: &Screen,
    to: &To,
    word: Word,
) -> Result<Exit, Stop> {
    let moves = !matches!(word, Word::Pause);
    let path = format!("/runs/{}", encode(&to.run));
    let action = word.action();
    let before: RunView = client.get(&path).await?;
    let view: RunView = client.post(&format!("{path}/actions/{action}"), &word.say(), None).await?;
    screen.line(Style::Bold, &format!("{action}: run {} is {} ({})", view.short, view.status, view.goal.title()))?;
    if moves && (to.follow || !client.is_remote()) {
        // A run started again is a new one, with a story of its own.
        let after = if view.id == before.id { before.seq } else { 0 };
        return keep_following(doors, context, client, screen, view, Manner { yes: false, after }).await;
    }
    if moves && view.outcome.is_none() {
        screen.advise(&format!("The service carries it on. `skep events {} --follow` watches it.", view.short))?;
    }
    screen.object(&view)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_what_rest_takes() {
        let how = |answer: Option<&str>, no: Option<&str>, skip| How {
            answer: answer.map(str::to_owned),
            no: no.map(str::to_owned),
            skip,
            more: None,
        };
        let say = Word::Approve { block: Some("b1".into()), no: Some(String::new()) }.say();
        assert!(say.no && say.text.as_deref() == Some("") && say.block.as_deref() == Some("b1"));
        let say = Word::Approve { block: None, no: None }.say();
        assert!(!say.no && say.text.is_none());
        let say = Word::Unblock { block: None, how: how(Some("5433"), None, false) }.say();
        assert!(!say.no && !say.skip && say.text.as_deref() == Some("5433"));
        let say = Word::Unblock { block: None, how: how(None, Some("no use"), false) }.say();
        assert!(say.no && say.text.as_deref() == Some("no use"));
        assert!(Word::Unblock { block: None, how: how(None, None, true) }.say().skip);
        let raise = Raise { rounds: 2, ..Raise::default() };
        assert_eq!(Word::Raise(raise).say().more, Some(raise));
    }
}
