//! The tables as SeaORM entities, for the statements that are built and not written.
//!
//! Invariant: the snapshot, the journal's and the outbox's bodies are read row by row elsewhere, so that one bad row is one bad
//! row; an entity would fail the whole answer.

/// `run`, without its snapshot.
pub(super) mod run {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "run")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub tail: String,
        pub project: String,
        pub seq: i64,
        pub phase: String,
        pub status: String,
        pub ended: bool,
        pub change_number: Option<i64>,
        pub title: String,
        pub blocks: String,
        pub opened_at: i64,
        pub updated_at: i64,
        pub quarantined: Option<String>,
        pub version: i64,
        pub home: String,
        pub wake_at: Option<i64>,
        pub waits: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// `project`.
pub(super) mod project {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "project")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub body: String,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// `artifact`: bytes by their digest.
pub(super) mod artifact {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "artifact")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub digest: String,
        pub size: i64,
        pub bytes: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
