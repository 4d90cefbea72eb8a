//! People's reviews that request changes: each is worked on once, and answered once its work is proven and pushed.

use super::builder::DecisionBuilder;
use crate::domain::change::ChangeRequest;
use crate::domain::effect::{CommentSubject, Effect};
use crate::domain::id::{ChangeNumber, TaskId};
use crate::domain::order::{Note, NoteSource, Step};
use crate::domain::run::rework::OpenRequest;
use crate::domain::task::{Origin, Stage, Task};

/// Returns to work on the requests that were not read yet. Those that do not fit into one task wait for the next round.
/// Returns whether there were any.
pub(super) fn rework(d: &mut DecisionBuilder) -> bool {
    let unread = d.run.facts.observed.as_ref().map(|seen| seen.change_requests.clone()).unwrap_or_default();
    let (mut taken, mut notes): (Vec<ChangeRequest>, Vec<String>) = (Vec::new(), Vec::new());
    for request in unread {
        let texts = request.texts(Note::MAX_TEXT_BYTES);
        if !taken.is_empty() && notes.len() + texts.len() > Task::MAX_NOTES {
            break;
        }
        notes.extend(texts);
        taken.push(request);
    }
    let Some(first) = taken.first() else { return false };
    let title = match taken.len() {
        1 => format!("{} requests changes", first.by),
        n => format!("{} and {} more reviews request changes", first.by, n - 1),
    };
    if !d.rework(Origin::Person, &title, &notes) {
        return true;
    }
    let task = TaskId(d.run.tasks.len() as u32);
    for request in taken {
        d.run.requests_read.insert(request.review);
        let mut threads: Vec<u64> = request.comments.iter().map(|c| c.thread).collect();
        threads.dedup();
        d.run.open_requests.push(OpenRequest { by: request.by, task, threads });
    }
    // The reviewer must know why the change goes beyond the goal.
    notes.iter().for_each(|note| d.run.note_for(Step::Review, NoteSource::Person, note));
    true
}

/// Answers the requests whose task is done at the head, each thread once.
pub(super) fn answer(d: &mut DecisionBuilder, change: ChangeNumber) {
    let stage = |task: TaskId| d.run.task(task).map(|t| t.stage);
    let (over, open): (Vec<OpenRequest>, Vec<OpenRequest>) =
        d.run.open_requests.iter().cloned().partition(|r| stage(r.task).is_none_or(|s| s >= Stage::Integrated));
    let done: Vec<OpenRequest> = over.into_iter().filter(|r| stage(r.task) == Some(Stage::Integrated)).collect();
    d.run.open_requests = open;
    for OpenRequest { by, threads, .. } in done {
        let about = CommentSubject::Resolved { by, commit: d.run.head.clone() };
        let threads = if threads.is_empty() { vec![None] } else { threads.into_iter().map(Some).collect() };
        for thread in threads {
            d.order(Effect::Comment { change, thread, about: about.clone() });
        }
    }
}
