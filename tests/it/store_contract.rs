//! What every store must do, on SQLite and on Postgres alike.

/// Makes a test on each database of each function named.
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

mod audit;
mod books;
mod crash;
mod damage;
mod journal;
mod lease;
mod opening;
mod shared_budgets;
mod vault;
mod views;
