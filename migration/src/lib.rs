//! The store's schema: one file per migration, the same ones on SQLite and Postgres.
//!
//! Invariant: a released migration is never edited; a change is a new migration.

pub use sea_orm_migration::prelude::*;

mod m20261121_000001_first;
mod m20261121_000002_home;
mod m20261121_000003_books;
mod m20261121_000004_vault;
mod m20261121_000005_shared_alerts;
mod m20261129_000010_audit;
mod m20261129_000011_idempotency;
mod m20261129_000020_vocabulary;
mod m20261129_000030_durability;
mod m20261129_000040_sessions;
mod m20261129_000050_intake;
mod m20261130_000010_accounts;
mod m20261130_000020_audit_chain;
mod m20261130_000030_outcomes;
mod m20261130_000040_proposals;
mod m20261130_000050_messages;
mod m20261130_000060_schedules;
mod m20261130_000070_open_work;
mod m20261130_000090_ended_at;
mod m20261130_000091_retention;
mod m20261130_000120_memory;
mod m20261130_000160_identities;
mod m20261130_000200_deployments;
mod m20261130_000210_project_roles;
mod m20261130_000220_short_snapshots;
mod m20261130_000230_seen_changes;
mod m20261130_000231_personal_messages;
mod m20261130_000232_run_lists;
mod m20261130_000250_landing_watches;

/// All migrations, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_first::Migration),
            Box::new(m20261121_000002_home::Migration),
            Box::new(m20261121_000003_books::Migration),
            Box::new(m20261121_000004_vault::Migration),
            Box::new(m20261121_000005_shared_alerts::Migration),
            Box::new(m20261129_000010_audit::Migration),
            Box::new(m20261129_000011_idempotency::Migration),
            Box::new(m20261129_000020_vocabulary::Migration),
            Box::new(m20261129_000030_durability::Migration),
            Box::new(m20261129_000040_sessions::Migration),
            Box::new(m20261129_000050_intake::Migration),
            Box::new(m20261130_000010_accounts::Migration),
            Box::new(m20261130_000020_audit_chain::Migration),
            Box::new(m20261130_000030_outcomes::Migration),
            Box::new(m20261130_000040_proposals::Migration),
            Box::new(m20261130_000050_messages::Migration),
            Box::new(m20261130_000060_schedules::Migration),
            Box::new(m20261130_000070_open_work::Migration),
            Box::new(m20261130_000090_ended_at::Migration),
            Box::new(m20261130_000091_retention::Migration),
            Box::new(m20261130_000120_memory::Migration),
            Box::new(m20261130_000160_identities::Migration),
            Box::new(m20261130_000200_deployments::Migration),
            Box::new(m20261130_000210_project_roles::Migration),
            Box::new(m20261130_000220_short_snapshots::Migration),
            Box::new(m20261130_000230_seen_changes::Migration),
            Box::new(m20261130_000231_personal_messages::Migration),
            Box::new(m20261130_000232_run_lists::Migration),
            Box::new(m20261130_000250_landing_watches::Migration),
        ]
    }
}
