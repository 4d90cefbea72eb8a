//! The tables as SeaORM entities, for the statements that are built instead of written as SQL.
//!
//! Invariant: snapshots and the bodies of journal and outbox are read row by row elsewhere, so that a damaged row
//! affects only itself; with an entity it would fail the whole query.

/// `run`, without the snapshot.
pub(super) mod run {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "run")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub reversed_id: String,
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
        pub wait_reason: Option<String>,
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
        pub version: i64,
        pub body: String,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// `artifact`: bytes by digest.
pub(super) mod artifact {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "artifact")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub digest: String,
        pub size: i64,
        pub bytes: Vec<u8>,
        pub removed_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
