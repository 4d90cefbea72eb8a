//! Carries out commands from comments and labels by the use cases that every surface calls.

use super::apply::{Requester, Settled, TrackedRepo, run_of};
use super::caller;
use crate::domain::delivery::is_after;
use crate::domain::escalation::{self, AnswerKind};
use crate::domain::{Answer, Block, BlockId, BlockKind, Command, CommandTarget, Run, Subject, Timestamp};
use crate::ports::forge_issues::Issue;
use crate::ports::intake::{Delivery, IssueProgress, IssueRun};
use crate::render;
use crate::service::actions::{self, NewSettings, Retry, Target};
use crate::service::{Caller, ServiceError, ServiceResult, Services};

/// Carries out a command on a run, and returns the reply.
///
/// # Errors
/// Those of the use case.
pub(super) async fn carry_out(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    caller: &Caller,
    (issue, asked_at): (&Issue, Timestamp),
    command: &Command,
    run: Run,
) -> ServiceResult<String> {
    let wanted = CommandTarget { run: run.id, block: block_for(command, &run) };
    let target = s.intake.pin(delivery.seq, &wanted).await?;
    let run = match target.run == run.id {
        true => run,
        false => s.store.load(target.run).await?.unwrap_or(run),
    };
    let id = run.id.to_string();
    let named = target.block.map(|block| block.to_string());
    let on = Target { run: &id, if_seq: None };
    let settings = NewSettings::default();
    if answers(command) && named.is_none() {
        // Nothing is answered that was asked only afterwards.
        return Err(ServiceError::conflict(
            "nothing_to_answer",
            format!("the run asks nothing that this answers; it is {}", crate::domain::status::of_run(&run).word()),
            "Comment `/skep status` to see what it does",
        ));
    }
    let now = match command {
        Command::Approve { head } => {
            approve(s, caller, &run, (issue, asked_at), head.as_deref(), named.as_deref()).await?
        }
        Command::Decline { why } => {
            need_text(why, "Say what should be different: `/skep decline TEXT`")?;
            on_time(&run, named.as_deref(), asked_at)?;
            actions::decline(s, caller, &on, named.as_deref(), why.clone()).await?
        }
        Command::Answer { text, .. } => {
            no_approval(&run, named.as_deref())?;
            on_time(&run, named.as_deref(), asked_at)?;
            actions::answer(s, caller, &on, named.as_deref(), answer(text), &settings).await?
        }
        Command::Pause => actions::pause(s, caller, &on).await?,
        Command::Resume => actions::resume(s, caller, &on).await?,
        Command::Cancel { why } => actions::cancel(s, caller, &on, why.clone()).await?,
        Command::Retry { hint } => {
            let hint = (!hint.is_empty()).then(|| hint.clone());
            let how = Retry { block: named.as_deref(), hint, more: None, settings: &settings };
            let opened = actions::retry(s, caller, &on, how, None).await?;
            follow(s, tracked, issue, &run, &opened.run, asked_at).await?;
            opened.run
        }
        Command::Status => run,
        // These name no run.
        Command::Run { .. } | Command::Unknown { .. } => run,
    };
    Ok(render::issue::state(&now, s.clock.now()))
}

/// Returns whether a command answers a question.
fn answers(command: &Command) -> bool {
    matches!(command, Command::Approve { .. } | Command::Decline { .. } | Command::Answer { .. })
}

/// Returns the question that a command answers: the one it names, or the oldest that fits.
fn block_for(command: &Command, run: &Run) -> Option<BlockId> {
    let oldest = |fits: fn(&BlockKind) -> bool| run.blocks.iter().find(|block| fits(&block.kind)).map(|block| block.id);
    match command {
        Command::Approve { .. } | Command::Decline { .. } => oldest(BlockKind::is_approval),
        Command::Answer { block: Some(id), .. } => Some(*id),
        Command::Answer { block: None, .. } => oldest(|_| true),
        Command::Retry { .. } => oldest(BlockKind::is_used_up),
        _ => None,
    }
}

fn answer(text: &str) -> Answer {
    match text {
        "" => Answer::Yes,
        text => Answer::Text { text: text.to_owned() },
    }
}

/// Approves what the run asks about, if it is what the person can have seen.
async fn approve(
    s: &Services,
    caller: &Caller,
    run: &Run,
    (issue, asked_at): (&Issue, Timestamp),
    head: Option<&str>,
    named: Option<&str>,
) -> ServiceResult<Run> {
    let id = run.id.to_string();
    let on = Target { run: &id, if_seq: None };
    let block = run.blocks.iter().find(|block| named == Some(block.id.to_string().as_str()));
    let Some(block) = block else {
        // It was answered meanwhile: by this command before the process ended, or otherwise.
        return actions::approve(s, caller, &on, named).await;
    };
    on_time(run, named, asked_at)?;
    if let BlockKind::Approval(Subject::Merge { head: asked, .. } | Subject::Diff { head: asked, .. }) = &block.kind {
        let shown = issue.pull.as_ref().map(|(_, head)| head);
        let is_merge = matches!(block.kind, BlockKind::Approval(Subject::Merge { .. }));
        if let Some(shown) = shown.filter(|shown| is_merge && *shown != asked) {
            return Err(moved(format!("the pull request is at {shown}, and the run asks about {asked}")));
        }
        if let Some(head) = head.filter(|head| !asked.as_str().starts_with(head)) {
            return Err(moved(format!("you approved {head}, and the run asks about {asked}")));
        }
    }
    let seen = actions::subject_of(&block.kind).unwrap_or_default();
    actions::approve_seen(s, caller, &on, &block.id.to_string(), &seen).await
}

fn moved(detail: String) -> ServiceError {
    ServiceError::conflict("moved", format!("nothing was approved: {detail}"), "Look at it again, then approve again")
}

/// Refuses an answer that was written before the question was asked.
fn on_time(run: &Run, named: Option<&str>, asked_at: Timestamp) -> ServiceResult<()> {
    let block = run.blocks.iter().find(|block| named == Some(block.id.to_string().as_str()));
    match block {
        Some(block) if !is_after(asked_at, block.since) => Err(ServiceError::conflict(
            "moved",
            format!("question {} was asked after this comment was written", block.id),
            "Read the question, then comment again",
        )),
        _ => Ok(()),
    }
}

/// An approval is about exactly one commit or plan, so that no other answer gives it.
fn no_approval(run: &Run, named: Option<&str>) -> ServiceResult<()> {
    let block = run.blocks.iter().find(|block| named == Some(block.id.to_string().as_str()));
    match block {
        Some(block) if block.kind.is_approval() => Err(ServiceError::conflict(
            "not_an_answer",
            format!("question {} asks for an approval", block.id),
            "Comment `/skep approve`, or `/skep decline TEXT`",
        )),
        _ => Ok(()),
    }
}

fn need_text(text: &str, fix: &str) -> ServiceResult<()> {
    match text.is_empty() {
        true => Err(ServiceError::invalid("the command has no text", fix)),
        false => Ok(()),
    }
}

/// Lets the issue follow the run that a retry opened.
async fn follow(
    s: &Services,
    tracked: &TrackedRepo,
    issue: &Issue,
    before: &Run,
    now: &Run,
    asked_at: Timestamp,
) -> ServiceResult<()> {
    if issue.pull.is_some() || before.id == now.id {
        return Ok(());
    }
    let row = IssueRun {
        forge: tracked.forge.clone(),
        repository: tracked.repository.clone(),
        number: issue.number,
        run: now.id,
        asked_at,
        progress: IssueProgress::default(),
        is_finished: false,
    };
    s.intake.replace_issue_run(&row, before.id).await?;
    Ok(())
}

/// Answers the oldest question that a plain yes lifts, and that was asked before the label was set.
pub(super) async fn unblock_by_label(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    issue: &Issue,
    requester: &Requester,
) -> ServiceResult<Settled> {
    let Some(run) = run_of(s, tracked, issue).await? else {
        return Ok(Settled::ignored("no run of Skep belongs here"));
    };
    let takes_yes = |block: &&Block| {
        let answers = escalation::answers(block);
        let yes = answers.iter().find(|option| option.kind == AnswerKind::Continue);
        is_after(requester.at, block.since) && yes.is_some_and(|yes| escalation::by_comment(block, yes))
    };
    let Some(block) = run.blocks.iter().find(takes_yes) else {
        return Ok(Settled::ignored("the run asks nothing that a label can answer"));
    };
    // A label answers one question, however often it is reported.
    let key = format!("label:{}:{}:{}", tracked.repository, issue.number, requester.at.0);
    if s.intake.was_applied(&tracked.forge, &key, delivery.seq).await? {
        return Ok(Settled::ignored("another delivery of the same label was applied"));
    }
    s.intake.put_key(delivery.seq, &key).await?;
    let target = CommandTarget { run: run.id, block: Some(block.id) };
    if s.intake.pin(delivery.seq, &target).await? != target {
        return Ok(Settled::done("the question was answered before"));
    }
    let (id, named) = (run.id.to_string(), block.id.to_string());
    let (on, settings) = (Target { run: &id, if_seq: None }, NewSettings::default());
    let caller = caller(&requester.actor.principal, &run.project);
    match actions::answer(s, &caller, &on, Some(&named), Answer::Yes, &settings).await {
        Ok(_) => Ok(Settled::done(format!("question {named} of run {} was answered", run.id.abbrev()))),
        Err(error) if error.kind == crate::service::ErrorKind::Unavailable => Err(error),
        Err(error) => Ok(Settled::failed(&error)),
    }
}
