//! One question of a run: why it is asked, what is needed, and a form for each answer.

use super::problem::{PageError, PageResult};
use super::shell::{self, Page};
use super::visit::{Fields, Person, Visit};
use super::{State, look, see_other};
use crate::domain::{Answer, AnswerKind, Block, BlockKind, BudgetKind, BudgetScope, Raise, Run, Subject};
use crate::render::{self, Escalation, EscalationAnswer};
use crate::service::actions::{self, NewSettings, Target, subject_of};
use crate::service::budgets::{self, RaiseShared};
use crate::service::{ServiceError, runs};
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use maud::{Markup, html};

/// `GET /q/{run}/{block}`: the address in every message about the question.
pub async fn show(
    Shared(state): Shared<State>,
    person: Person,
    Path((run, block)): Path<(String, String)>,
) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &run).await?;
    let open = run.blocks.iter().find(|b| b.id.to_string() == block);
    let content = html! {
        p.crumbs { a href={ "/projects/" (run.project) } { (run.project) } " / "
            a href={ "/runs/" (run.id) } { code { (run.id.abbrev()) } } " / question " (block_name(&block)) }
        h1 { @match open { Some(_) => (look::line(&run.goal.title())), None => "This question is answered" } }
        @match open {
            Some(block) => (card(&person.visit, &run, block, Place::Alone)),
            None => {
                p { "Run " code { (run.id.abbrev()) } " does not wait for this answer any more: it is "
                    (look::line(&render::now(&run, person.visit.at()))) "." }
                p { a.button href={ "/runs/" (run.id) } { "Open the run" } }
            }
        }
    };
    let live = Some(format!("run:{}", run.id));
    Ok(shell::page(&person.visit, Page { title: "Question", live, content }))
}

/// Returns a block's name if it has the form of one.
fn block_name(text: &str) -> &str {
    let is_name = text.len() < 12 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_name { text } else { "" }
}

/// Where a question is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among those of other runs, which are opened one by one.
    Inbox {
        /// Whether it is open at first.
        is_open: bool,
    },
    /// On a page that is about its run.
    Alone,
}

/// Returns a question with the forms of its answers.
pub fn card(visit: &Visit, run: &Run, block: &Block, place: Place) -> Markup {
    let asked = render::escalation(run, block);
    let id = format!("q-{}-{}", run.id.abbrev(), block.id);
    let reason = look::prose(&look::sentence(&asked.reason));
    let times = html! {
        "asked " (look::ago(block.since, visit.at()))
        @if let Some(until) = block.until { " · resumes by itself " (look::ago(until, visit.at())) }
    };
    html! {
        @match place {
            Place::Inbox { is_open } => details.card.question id=(id) open[is_open] {
                summary {
                    h3 { (look::line(&run.goal.title())) }
                    span { (reason) span.quiet { " · " (run.project) " · " (times) } }
                }
                (body(visit, run, block, &asked))
                p { a href={ "/runs/" (run.id) } { "Open the run" } }
            },
            Place::Alone => article.card.question id=(id) aria-labelledby={ "h-" (id) } {
                header { h2 id={ "h-" (id) } { (reason) } p.quiet { (times) } }
                (body(visit, run, block, &asked))
            },
        }
    }
}

fn body(visit: &Visit, run: &Run, block: &Block, asked: &Escalation) -> Markup {
    let action = format!("/q/{}/{}", run.id, block.id);
    // The button of an approval names what is needed, the question of an engine is its text.
    let is_approval = matches!(block.kind, BlockKind::Approval(_));
    let may_give: Vec<&EscalationAnswer> = asked.answers.iter().filter(|a| may_give(visit, run, block, a)).collect();
    let has_needs = !is_approval && !matches!(block.kind, BlockKind::Question { .. });
    let has_failed = block.kind.is_used_up() || matches!(block.kind, BlockKind::Ci { .. } | BlockKind::Effect(_));
    html! {
        @if has_needs { ul.plain.needs { @for need in &asked.needs {
            li { strong { (look::prose(&need.what)) } ": " span.quiet { (look::prose(&need.how)) } }
        } } }
        @if !asked.why.trim().is_empty() {
            @if has_failed { (look::failure(&asked.why, "What happened")) }
            @else if is_approval { (look::subject(&asked.why, "What happened")) }
            @else { (look::quoted(&asked.why, "What happened")) }
        }
        div.answers {
            @if let BlockKind::Approval(subject) = &block.kind { (review_link(run, subject)) }
            @for (n, answer) in may_give.iter().enumerate() {
                (form(visit, run, block, &action, answer, n == 0))
            }
        }
        @if may_give.is_empty() { p.quiet { "Somebody with the right to decide this answers it." } }
        p.hint { (look::prose(&asked.resumes)) }
    }
}

/// Returns whether the person who looks may give this answer.
fn may_give(visit: &Visit, run: &Run, block: &Block, answer: &EscalationAnswer) -> bool {
    let answer = match answer.option.kind {
        AnswerKind::Approve | AnswerKind::Continue => Answer::Yes,
        AnswerKind::Decline | AnswerKind::Stop => Answer::No { why: String::new() },
        AnswerKind::Reply => Answer::Text { text: String::new() },
        AnswerKind::Raise { .. } | AnswerKind::RaiseShared { .. } => Answer::More { raise: Raise::default() },
        AnswerKind::Skip => Answer::Skip,
    };
    visit.caller().is_some_and(|caller| caller.has(actions::right_to_answer(&block.kind, &answer), &run.project))
}

fn review_link(run: &Run, subject: &Subject) -> Markup {
    let query = match subject {
        Subject::Plan { .. } => return html! {},
        Subject::Diff { task, .. } => format!("?task={task}"),
        Subject::Merge { .. } => String::new(),
    };
    html! { a.button href={ "/runs/" (run.id) "/changes" (query) } { "Review the changes" } }
}

/// Returns the form of one answer. What only needs a click is a button; what needs words is opened first, unless it is
/// the first answer.
fn form(visit: &Visit, run: &Run, block: &Block, action: &str, answer: &EscalationAnswer, is_first: bool) -> Markup {
    let kind = &answer.option.kind;
    let effect = look::sentence(&answer.effect);
    let open = |word: &str, fields: Markup, button: Markup| {
        html! {
            form method="post" action=(action) {
                (shell::token(visit))
                input type="hidden" name="answer" value=(word);
                @if let Some(seen) = subject_of(&block.kind) { input type="hidden" name="seen" value=(seen); }
                (fields)
                (button)
            }
        }
    };
    let submit = |text: &str, class: &str| html! { button type="submit" class={ "button " (class) } { (text) } };
    let worded = |word: &str, label: &str, button: Markup, placeholder: &str| {
        let id = format!("{word}-{}-{}", run.id.abbrev(), block.id);
        let fields = html! {
            label for=(id) { (label) }
            textarea id=(id) name="text" rows="4" maxlength="60000" required placeholder=(placeholder) {}
        };
        open(word, fields, button)
    };
    let folded =
        |summary: &str, form: Markup| html! { details.answer { summary.button { (summary) } div.fold { (form) } } };
    match kind {
        AnswerKind::Approve => html! {
            (open("approve", html! {}, html! {
                button.button.primary type="submit" { "Approve " @match &block.kind {
                    BlockKind::Approval(Subject::Merge { head, base }) => {
                        code { (head.abbrev()) } " onto " code { (base.abbrev()) }
                    }
                    BlockKind::Approval(Subject::Diff { head, task, .. }) => { (task) " at " code { (head.abbrev()) } }
                    BlockKind::Approval(Subject::Plan { revision }) => { "plan revision " (revision) }
                    _ => {}
                } }
            }))
        },
        AnswerKind::Decline => folded(
            "Decline…",
            worded(
                "decline",
                "What should be different?",
                submit("Decline", "danger"),
                "path:line: what is wrong, and what would be right",
            ),
        ),
        AnswerKind::Continue if matches!(block.kind, BlockKind::SecretFound { .. }) => folded(
            "This is not a secret…",
            open(
                "continue",
                html! { label.check { input type="checkbox" name="sure" value="yes" required; " " (effect) } },
                submit("Allow exactly this", "danger"),
            ),
        ),
        AnswerKind::Continue => open("continue", html! {}, submit(&effect, if is_first { "primary" } else { "" })),
        AnswerKind::Reply if is_first => {
            worded("reply", "Your answer", submit("Answer", "primary"), "Skep passes it on as you write it")
        }
        AnswerKind::Reply => folded("With a hint…", worded("reply", &effect, submit("Send the hint", "primary"), "")),
        AnswerKind::Raise { budget, suggested } => {
            let id = format!("amount-{}-{}", run.id.abbrev(), block.id);
            let (unit, value) = in_unit(*budget, *suggested);
            let fields = html! {
                input type="hidden" name="budget" value=(budget.name());
                label.inline for=(id) { "More " (render::budget_word(*budget)) " (" (unit) ")" }
                input id=(id) name="amount" value=(value) inputmode="decimal" required size="8";
                " "
            };
            open("raise", fields, submit("Give more", "primary"))
        }
        AnswerKind::RaiseShared { scope, tokens, cost_micros } => {
            let fields = html! {
                input type="hidden" name="scope" value=(scope.name());
                p { (effect) }
                @if *tokens > 0 { label { "Tokens " input name="tokens" value=(tokens) inputmode="numeric" size="10"; } }
                @if *cost_micros > 0 {
                    label { "Dollars " input name="dollars" value=(dollars(*cost_micros)) inputmode="decimal" size="8"; }
                }
            };
            folded(
                &format!("Raise the {} budget…", scope.name()),
                open("raise_shared", fields, submit("Raise", "primary")),
            )
        }
        AnswerKind::Skip if matches!(block.kind, BlockKind::Environment { .. }) => {
            open("skip", html! {}, submit("Go on anyway", ""))
        }
        AnswerKind::Skip => open("skip", html! {}, submit("Skip the task", "")),
        AnswerKind::Stop => {
            folded("End the run…", worded("stop", "Why should the run end?", submit("End the run", "danger"), ""))
        }
    }
}

/// Returns the unit of a form field for a budget, and an amount in that unit.
fn in_unit(budget: BudgetKind, amount: u64) -> (&'static str, String) {
    match budget {
        BudgetKind::Cost => ("dollars", dollars(amount)),
        BudgetKind::Time | BudgetKind::StepTime => ("minutes", (amount / 60).max(1).to_string()),
        other => (render::budget_word(other), amount.to_string()),
    }
}

fn dollars(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

/// Reads an amount of the run's own budget.
fn raise_of(fields: &Fields) -> Result<Raise, PageError> {
    let whole = |what: &str| fields.number("amount", what);
    let small = |what: &str| Ok::<u32, PageError>(u32::try_from(whole(what)?).unwrap_or(u32::MAX));
    let none = Raise::default();
    Ok(match fields.get("budget").as_str() {
        "tokens" => Raise { tokens: whole("tokens")?, ..none },
        "cost" => Raise { cost_micros: fields.dollars("amount")?, ..none },
        "turns" => Raise { turns: whole("model calls")?, ..none },
        "time" => Raise { time_secs: whole("minutes")?.saturating_mul(60), ..none },
        "step" => Raise { step_secs: whole("minutes")?.saturating_mul(60), ..none },
        "attempts" => Raise { attempts: small("attempts")?, ..none },
        "rounds" => Raise { rounds: small("rounds")?, ..none },
        _ => return Err(unknown("budget")),
    })
}

fn unknown(what: &str) -> PageError {
    ServiceError::invalid(format!("{what}: unknown value"), "Open the question again and answer there").into()
}

/// Returns the text of an answer that needs one.
fn text(fields: &Fields) -> Result<String, PageError> {
    fields.filled("text").ok_or_else(|| ServiceError::invalid("text: empty", "Write what Skep should pass on").into())
}

/// `POST /q/{run}/{block}`.
pub async fn answer(
    Shared(state): Shared<State>,
    person: Person,
    Path((run, block)): Path<(String, String)>,
    fields: Fields,
) -> PageResult<Response> {
    let (s, caller) = (&state.services, &person.caller);
    // No `if_seq`: a run that only spent or logged something still asks the same question, which `block` names.
    let target = Target { run: &run, if_seq: None };
    // Pages leave the engines and checks of a run as they are.
    let kept = NewSettings::default();
    let give = |answer| actions::answer(s, caller, &target, Some(&block), answer, &kept);
    let (run, notice) = match fields.get("answer").as_str() {
        "approve" => (actions::approve_seen(s, caller, &target, &block, &fields.get("seen")).await?, "approved"),
        "decline" => (actions::decline(s, caller, &target, Some(&block), text(&fields)?).await?, "declined"),
        "continue" => {
            let run = runs::show(s, caller, &run).await?;
            let asked = run.blocks.iter().find(|b| b.id.to_string() == block);
            let is_secret = asked.is_some_and(|b| matches!(b.kind, BlockKind::SecretFound { .. }));
            if is_secret && fields.get("sure") != "yes" {
                let fix = "Check the box if you have made sure that it is not a secret";
                return Err(ServiceError::invalid("it was not confirmed", fix).into());
            }
            if asked.is_some_and(|b| b.kind.is_approval()) {
                return Err(unknown("answer"));
            }
            (give(Answer::Yes).await?, "answered")
        }
        "reply" => (give(Answer::Text { text: text(&fields)? }).await?, "answered"),
        "raise" => (give(Answer::More { raise: raise_of(&fields)? }).await?, "raised"),
        "raise_shared" => {
            let shown = runs::show(s, caller, &run).await?;
            let (scope, project) = match fields.get("scope").as_str() {
                "project" => (BudgetScope::Project, Some(shown.project.to_string())),
                "day" => (BudgetScope::Day, None),
                _ => return Err(unknown("scope")),
            };
            let (tokens, cost_micros) = (fields.number("tokens", "tokens")?, fields.dollars("dollars")?);
            budgets::raise_shared(s, caller, &RaiseShared { scope, project, tokens, cost_micros }).await?;
            (shown, "raised")
        }
        "skip" => (give(Answer::Skip).await?, "answered"),
        "stop" => (give(Answer::No { why: text(&fields)? }).await?, "answered"),
        _ => return Err(unknown("answer")),
    };
    Ok(see_other(&format!("/runs/{}?notice={notice}", run.id)))
}
