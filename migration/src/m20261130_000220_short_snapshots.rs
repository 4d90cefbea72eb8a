//! Snapshots without the goal and the settings, which the run's first event holds. Nothing is converted: a snapshot is
//! written in this form at the next transition of its run. The migration only keeps earlier programs, which cannot read
//! it, from opening the store.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
