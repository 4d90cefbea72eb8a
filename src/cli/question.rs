//! Asks the person at the terminal what a run asks, and turns the answer into the action that lifts the block.

use super::answers;
use super::client::{Client, with_query};
use super::exit::Stop;
use super::terminal::{Style, Terminal};
use super::{amounts, parse};
use crate::http::rest::wire::{
    Action, Answer, AnswerKind, BudgetScope, CheckKind, Engine, Escalation, RaiseShared, Role, Run,
};
use std::collections::BTreeMap;

/// A person's decision about a question.
#[derive(Debug)]
pub enum Decision {
    /// Perform this action on the run.
    Act(&'static str, Box<Action>),
    /// Raise a budget that other runs share, then continue.
    RaiseShared(RaiseShared),
    /// Answer later.
    Later,
}

/// A key that a person may press.
struct Choice<'a> {
    key: char,
    word: &'static str,
    does: Does<'a>,
}

enum Does<'a> {
    Answer(&'a Answer),
    ChangeSettings,
    ShowDiff,
    ShowLog,
}

/// Asks about an escalation until the person decides; showing a diff or a log decides nothing.
pub async fn ask(client: &Client, terminal: &Terminal, run: &Run, escalation: &Escalation) -> Result<Decision, Stop> {
    let choices = choices(escalation);
    let is_question = escalation.code == "question";
    loop {
        let Some(typed) = terminal.ask(&prompt(escalation, &choices)).await?.filter(|t| !t.is_empty()) else {
            return Ok(Decision::Later);
        };
        let lower = typed.to_lowercase();
        let pressed = choices.iter().find(|c| lower == c.key.to_string() || lower == c.word);
        let Some(choice) = pressed else {
            match escalation.answers.iter().find(|a| is_question && a.kind == AnswerKind::Reply) {
                Some(_) => return Ok(act("unblock", escalation, |a| a.text = Some(typed))),
                None => terminal.print("Please press one of the keys in brackets, or Enter to decide later.")?,
            }
            continue;
        };
        match choice.does {
            Does::Answer(answer) => {
                if let Some(decision) = decide(terminal, escalation, answer).await? {
                    return Ok(decision);
                }
            }
            Does::ChangeSettings => {
                if let Some(decision) = change_settings(terminal, run, escalation).await? {
                    return Ok(decision);
                }
            }
            Does::ShowDiff => {
                let path = with_query(&format!("/runs/{}/patch", run.id), &[("task", escalation.task.clone())]);
                match client.bytes(&path).await {
                    Ok(patch) => terminal.diff(&patch)?,
                    Err(error) => terminal.error(&error),
                }
            }
            Does::ShowLog => {
                super::list::logs(client, terminal, &run.id, None).await?;
            }
        }
    }
}

fn choices(escalation: &Escalation) -> Vec<Choice<'_>> {
    let mut choices: Vec<Choice<'_>> = Vec::new();
    let is_question = escalation.code == "question";
    for answer in &escalation.answers {
        let (key, word) = match answer.kind {
            AnswerKind::Approve => ('y', "yes"),
            AnswerKind::Decline => ('n', "no"),
            AnswerKind::Continue => ('r', "retry"),
            // A question is answered with the text itself.
            AnswerKind::Reply if is_question => continue,
            AnswerKind::Reply => ('h', "hint"),
            AnswerKind::Raise | AnswerKind::RaiseShared => ('m', "more"),
            AnswerKind::Skip => ('s', "skip"),
            AnswerKind::Stop => ('e', "end"),
        };
        if choices.iter().all(|c| c.key != key) {
            choices.push(Choice { key, word, does: Does::Answer(answer) });
        }
    }
    if answers::TRIED.contains(&escalation.code.as_str()) {
        choices.push(Choice { key: 'c', word: "change", does: Does::ChangeSettings });
    }
    match escalation.code.starts_with("approve_") {
        true => choices.push(Choice { key: 'd', word: "diff", does: Does::ShowDiff }),
        false => choices.push(Choice { key: 'l', word: "log", does: Does::ShowLog }),
    }
    choices
}

fn prompt(escalation: &Escalation, choices: &[Choice<'_>]) -> String {
    let each: Vec<String> = choices
        .iter()
        .map(|choice| {
            let rest = choice.word.get(1..).unwrap_or_default();
            let word = format!("[{}]{rest}", choice.key);
            match choice.does {
                Does::Answer(answer) if !matches!(answer.kind, AnswerKind::Approve | AnswerKind::Decline) => {
                    format!("{word} ({})", answer.effect)
                }
                Does::Answer(_) => word,
                Does::ChangeSettings => format!("{word} the engine or the checks"),
                Does::ShowDiff | Does::ShowLog => format!("show {word}"),
            }
        })
        .collect();
    let start = match escalation.code.as_str() {
        "question" => "Your answer, or ",
        code if code.starts_with("approve_") => "Approve? ",
        _ => "",
    };
    format!("{start}{}, or Enter to decide later:", each.join(", "))
}

/// Builds the action of an answer, after asking for what it needs; `None` if the person changed their mind.
async fn decide(terminal: &Terminal, escalation: &Escalation, answer: &Answer) -> Result<Option<Decision>, Stop> {
    let text = |question: &'static str| async move { terminal.ask(question).await };
    Ok(Some(match answer.kind {
        AnswerKind::Approve => act("approve", escalation, |_| {}),
        AnswerKind::Decline => {
            let question = match escalation.code.as_str() {
                "approve_merge" => "What should be different? (Enter alone ends the run, and nothing is merged)",
                _ => "What should be different? (optional)",
            };
            let why = text(question).await?.filter(|w| !w.is_empty());
            act("approve", escalation, |a| (a.no, a.text) = (true, why))
        }
        AnswerKind::Continue => act("unblock", escalation, |_| {}),
        AnswerKind::Reply => match text("Hint:").await?.filter(|t| !t.is_empty()) {
            Some(hint) => act("unblock", escalation, |a| a.text = Some(hint)),
            None => return Ok(None),
        },
        AnswerKind::Raise => {
            let suggested = answers::amount(answer);
            let question = format!("How much more? (Enter: {suggested})");
            let Some(typed) = terminal.ask(&question).await? else { return Ok(None) };
            match amounts::more(if typed.is_empty() { &suggested } else { &typed }) {
                Ok(more) => act("unblock", escalation, |a| a.more = Some(more.0)),
                Err(why) => {
                    terminal.line(Style::Yellow, &why)?;
                    return Ok(None);
                }
            }
        }
        AnswerKind::RaiseShared => Decision::RaiseShared(RaiseShared {
            scope: answer.scope.unwrap_or(BudgetScope::Project),
            project: None,
            tokens: answer.tokens.unwrap_or(0),
            cost_micros: answer.cost_micros.unwrap_or(0),
        }),
        AnswerKind::Skip => act("unblock", escalation, |a| a.skip = true),
        AnswerKind::Stop => {
            let why = text("Why? (optional)").await?.filter(|w| !w.is_empty());
            act("unblock", escalation, |a| (a.no, a.text) = (true, why))
        }
    }))
}

/// Asks for another engine of the dev and another check, and tries again with them.
async fn change_settings(terminal: &Terminal, run: &Run, escalation: &Escalation) -> Result<Option<Decision>, Stop> {
    let engine = run.engines.get(&Role::Dev).map_or_else(|| "none".to_owned(), Engine::text);
    let question = format!("Engine of the dev, as KIND:ARG (Enter keeps {engine}):");
    let engines = match terminal.ask(&question).await?.filter(|t| !t.is_empty()) {
        None => BTreeMap::new(),
        Some(typed) => match parse::engine(&typed) {
            Ok(choice) => parse::by_role(&[choice]),
            Err(why) => {
                terminal.line(Style::Yellow, &why)?;
                return Ok(None);
            }
        },
    };
    let proving = run.checks.iter().filter(|c| !matches!(c.kind, CheckKind::Setup | CheckKind::Accept));
    let commands: Vec<&str> = proving.map(|c| c.command.as_str()).collect();
    let question = format!("Command that verifies the change (Enter keeps {}):", commands.join(", "));
    let checks: Vec<String> = terminal.ask(&question).await?.into_iter().filter(|t| !t.is_empty()).collect();
    if engines.is_empty() && checks.is_empty() {
        return Ok(None);
    }
    Ok(Some(act("unblock", escalation, |a| (a.engines, a.checks) = (engines, checks))))
}

fn act(name: &'static str, escalation: &Escalation, fill: impl FnOnce(&mut Action)) -> Decision {
    let mut action = Action { block: Some(escalation.block.clone()), ..Action::default() };
    fill(&mut action);
    Decision::Act(name, Box::new(action))
}
