//! The contract of the store, the same on SQLite and Postgres.

/// Generates a test on each database for every named function.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { crate::support::stores::on_sqlite(super::$name).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { crate::support::stores::on_postgres(super::$name).await; })*
        }
    };
}
use on_both;

mod accounts;
mod audit;
mod crash;
mod damage;
mod deployments;
mod dump;
mod full_disk;
mod intake;
mod journal;
mod landing_watches;
mod lease;
mod ledger;
mod memories;
mod messages;
mod open_work;
mod opening;
mod run_index;
mod schedules;
mod seen_changes;
mod sessions;
mod shared_budgets;
mod snapshot;
mod vault;
