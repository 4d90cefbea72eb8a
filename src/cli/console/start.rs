//! A new run: where, what for, and the yes.
//!
//! Invariant: pure. Nothing is started that a person has not confirmed.

use super::state::{Dialog, Field, Purpose, Request, Screen, State};
use crate::http::rest::wire::NewRun;

/// Begins a new run, on the project of the selected one.
pub fn begin(state: &mut State) -> Vec<Request> {
    let listed = state.listed();
    let project = match state.screen {
        Screen::Runs => listed.get(state.selected_at(&listed)).map(|row| row.project.clone()),
        _ => state.subject().map(|run| run.project.clone()),
    };
    let project = project.or_else(|| state.runs.first().map(|row| row.project.clone()));
    let label = "Project, or the absolute path or the URL of a repository:".to_owned();
    let field = Field { label, text: project.unwrap_or_default(), is_optional: false };
    state.dialog = Some(Dialog::Write(field, Purpose::Place));
    Vec::new()
}

/// Asks for the goal.
pub fn with_place(place: &str) -> Dialog {
    let label = "What should be different when the run is done?".to_owned();
    Dialog::Write(Field { label, text: String::new(), is_optional: false }, Purpose::Goal(place.to_owned()))
}

/// Asks for the yes.
pub fn with_goal(place: String, goal: &str) -> Dialog {
    let is_repo = place.contains(['/', ':']);
    let (project, repo) = if is_repo { (None, Some(place)) } else { (Some(place), None) };
    Dialog::Start(Box::new(NewRun { project, repo, goal: goal.to_owned(), ..NewRun::default() }))
}
