//! Messages to people outside the pages, only when a person is needed.
//!
//! | module | duty |
//! |---|---|
//! | `plan` | which messages a run gives rise to, and when |
//! | `deliver` | sends what is in the outbox, and tries again |
//! | `digest` | the message about a day |
//! | `personal` | what single people choose, and their channels |
//! | `worker` | looks for runs that may need a message, and delivers |
//!
//! What a message is about is read from the store, so a message that a crash prevented is found again. It is written to
//! the outbox under its key before it is sent, and its row stays there: the same key is never planned twice, and a
//! receiver that gets a message again after a crash gets it with the same id.
//!
//! Invariant: nothing here is waited for by a run, and no message can answer anything.

mod deliver;
mod digest;
pub mod personal;
mod plan;
mod worker;

pub use worker::{Progress, pass, run};
