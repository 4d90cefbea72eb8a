//! People and access tokens in the tables `person`, `person_identity` and `access_token`.

use super::SeaStore;
use crate::domain::{AccessRole, PersonName, Principal, ProjectName, Timestamp};
use crate::ports::PortResult;
use crate::ports::accounts::{AccessToken, Accounts, Identity, Person};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult, Value};
use std::collections::BTreeMap;

const ADD_PERSON: &str = "INSERT INTO person (home, name, role, created_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (home, name) DO NOTHING RETURNING name";
const PERSON: &str = "SELECT name, role, created_at, disabled_at FROM person WHERE home = $1 AND name = $2";
const PEOPLE: &str = "SELECT name, role, created_at, disabled_at FROM person WHERE home = $1 ORDER BY name";
const SET_ROLE: &str = "UPDATE person SET role = $3 WHERE home = $1 AND name = $2 RETURNING name";
const SET_DISABLED: &str = "UPDATE person SET disabled_at = $3 WHERE home = $1 AND name = $2 RETURNING name";
const PROJECT_ROLES: &str = "SELECT person, project, role FROM project_role WHERE home = $1 AND person = $2";
const ALL_PROJECT_ROLES: &str = "SELECT person, project, role FROM project_role WHERE home = $1";
const SET_PROJECT_ROLE: &str = "INSERT INTO project_role (home, person, project, role) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (home, person, project) DO UPDATE SET role = excluded.role";
const REMOVE_PROJECT_ROLE: &str = "DELETE FROM project_role WHERE home = $1 AND person = $2 AND project = $3";
const REMOVE_PROJECT_ROLES: &str = "DELETE FROM project_role WHERE home = $1 AND project = $2";
const PERSON_OF: &str = "SELECT person FROM person_identity WHERE home = $1 AND issuer = $2 AND subject = $3";
const ADD_IDENTITY: &str = "INSERT INTO person_identity (home, issuer, subject, person, created_at) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (home, issuer, subject) DO NOTHING RETURNING person";
const LINK: &str = "INSERT INTO person_identity (home, issuer, subject, person, created_at) \
     VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (home, issuer, subject) DO UPDATE SET person = excluded.person, created_at = excluded.created_at";
const ADD_TOKEN: &str = "INSERT INTO access_token \
     (home, id, digest, principal, name, rights, created_by, created_at, expires_at, projects) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const TOKEN: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, last_used_at, \
     revoked_at, projects FROM access_token WHERE home = $1 AND id = $2";
const TOKENS: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, last_used_at, \
     revoked_at, projects FROM access_token WHERE home = $1 ORDER BY created_at DESC, id LIMIT $2";
const TOKENS_OF: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, \
     last_used_at, revoked_at, projects FROM access_token WHERE home = $1 AND principal = $2 \
     ORDER BY created_at DESC, id LIMIT $3";
const EXPIRE: &str = "UPDATE access_token SET expires_at = $3 \
     WHERE home = $1 AND id = $2 AND (expires_at IS NULL OR expires_at > $3)";
const REVOKE: &str =
    "UPDATE access_token SET revoked_at = COALESCE(revoked_at, $3) WHERE home = $1 AND id = $2 RETURNING id";
const TOUCH: &str = "UPDATE access_token SET last_used_at = $3 WHERE home = $1 AND id = $2";

#[async_trait]
impl Accounts for SeaStore {
    async fn add_person(&self, person: &Person) -> PortResult<bool> {
        Ok(!self.write(ADD_PERSON, self.person_values(person)).await?.is_empty())
    }

    async fn person(&self, name: &PersonName) -> PortResult<Option<Person>> {
        let rows = self.read(PERSON, [self.home(), name.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let roles = self.read(PROJECT_ROLES, [self.home(), name.as_str().into()]).await?;
        let roles = project_roles(&roles).map_err(|e| self.reading(&e))?;
        person(row, &roles).map(Some).map_err(|e| self.reading(&e))
    }

    async fn people(&self) -> PortResult<Vec<Person>> {
        let rows = self.read(PEOPLE, [self.home()]).await?;
        let roles = self.read(ALL_PROJECT_ROLES, [self.home()]).await?;
        let roles = project_roles(&roles).map_err(|e| self.reading(&e))?;
        rows.iter().map(|row| person(row, &roles).map_err(|e| self.reading(&e))).collect()
    }

    async fn set_role(&self, name: &PersonName, role: AccessRole) -> PortResult<bool> {
        let values = [self.home(), name.as_str().into(), role.name().into()];
        Ok(!self.write(SET_ROLE, values).await?.is_empty())
    }

    async fn set_project_role(&self, name: &PersonName, project: &ProjectName, role: AccessRole) -> PortResult<()> {
        let (person, project) = (name.as_str().into(), project.as_str().into());
        match role {
            AccessRole::None => self.write(REMOVE_PROJECT_ROLE, [self.home(), person, project]).await,
            role => self.write(SET_PROJECT_ROLE, [self.home(), person, project, role.name().into()]).await,
        }
        .map(|_| ())
    }

    async fn remove_project_roles(&self, project: &ProjectName) -> PortResult<()> {
        self.write(REMOVE_PROJECT_ROLES, [self.home(), project.as_str().into()]).await.map(|_| ())
    }

    async fn set_disabled(&self, name: &PersonName, at: Option<Timestamp>) -> PortResult<bool> {
        let values = [self.home(), name.as_str().into(), at.map(|at| at.0).into()];
        Ok(!self.write(SET_DISABLED, values).await?.is_empty())
    }

    async fn person_of(&self, identity: &Identity) -> PortResult<Option<PersonName>> {
        let values = [self.home(), identity.issuer.as_str().into(), identity.subject.as_str().into()];
        let rows = self.read(PERSON_OF, values).await?;
        rows.first().map(|row| name(row, "person").map_err(|e| self.reading(&e))).transpose()
    }

    async fn add_person_with(&self, person: &Person, identity: &Identity) -> PortResult<bool> {
        let tx = self.exclusive().await?;
        let added = async {
            if self.query_in(&tx, ADD_PERSON, self.person_values(person)).await?.is_empty() {
                return Ok(false);
            }
            let values = self.identity_values(identity, &person.name, person.created_at);
            Ok(!self.query_in(&tx, ADD_IDENTITY, values).await?.is_empty())
        };
        let added: Result<bool, DbErr> = added.await;
        if matches!(added, Ok(false)) {
            // Either both rows are stored, or none.
            tx.rollback().await.map_err(|e| self.writing(&e))?;
            return Ok(false);
        }
        self.end(tx, added).await
    }

    async fn link(&self, identity: &Identity, person: &PersonName, at: Timestamp) -> PortResult<()> {
        self.write(LINK, self.identity_values(identity, person, at)).await.map(|_| ())
    }

    async fn add_token(&self, token: &AccessToken) -> PortResult<()> {
        let values = [
            self.home(),
            token.id.as_str().into(),
            token.digest.as_str().into(),
            token.principal.as_str().into(),
            token.name.as_str().into(),
            token.rights.join(" ").into(),
            token.created_by.as_str().into(),
            token.created_at.0.into(),
            token.expires_at.map(|at| at.0).into(),
            token.projects.iter().map(ProjectName::as_str).collect::<Vec<_>>().join(" ").into(),
        ];
        self.write(ADD_TOKEN, values).await.map(|_| ())
    }

    async fn token(&self, id: &str) -> PortResult<Option<AccessToken>> {
        let rows = self.read(TOKEN, [self.home(), id.into()]).await?;
        rows.first().map(|row| token(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn tokens(&self, limit: u64) -> PortResult<Vec<AccessToken>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(TOKENS, [self.home(), limit.into()]).await?;
        rows.iter().map(|row| token(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn tokens_of(&self, principal: &Principal, limit: u64) -> PortResult<Vec<AccessToken>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(TOKENS_OF, [self.home(), principal.as_str().into(), limit.into()]).await?;
        rows.iter().map(|row| token(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn expire_token(&self, id: &str, at: Timestamp) -> PortResult<()> {
        self.write(EXPIRE, [self.home(), id.into(), at.0.into()]).await.map(|_| ())
    }

    async fn revoke_token(&self, id: &str, at: Timestamp) -> PortResult<bool> {
        Ok(!self.write(REVOKE, [self.home(), id.into(), at.0.into()]).await?.is_empty())
    }

    async fn touch_token(&self, id: &str, at: Timestamp) -> PortResult<()> {
        self.write(TOUCH, [self.home(), id.into(), at.0.into()]).await.map(|_| ())
    }
}

impl SeaStore {
    fn person_values(&self, person: &Person) -> [Value; 4] {
        [self.home(), person.name.as_str().into(), person.role.name().into(), person.created_at.0.into()]
    }

    fn identity_values(&self, identity: &Identity, person: &PersonName, at: Timestamp) -> [Value; 5] {
        let (issuer, subject) = (identity.issuer.as_str().into(), identity.subject.as_str().into());
        [self.home(), issuer, subject, person.as_str().into(), at.0.into()]
    }
}

fn name(row: &QueryResult, column: &str) -> Result<PersonName, DbErr> {
    PersonName::new(&row.try_get::<String>("", column)?).map_err(DbErr::Custom)
}

/// Roles in single projects, by person.
type ProjectRoles = BTreeMap<PersonName, BTreeMap<ProjectName, AccessRole>>;

fn project_roles(rows: &[QueryResult]) -> Result<ProjectRoles, DbErr> {
    let mut roles = ProjectRoles::new();
    for row in rows {
        let person = name(row, "person")?;
        let project = ProjectName::new(&row.try_get::<String>("", "project")?).map_err(DbErr::Custom)?;
        let role = role(row, &person)?;
        roles.entry(person).or_default().insert(project, role);
    }
    Ok(roles)
}

fn role(row: &QueryResult, person: &PersonName) -> Result<AccessRole, DbErr> {
    let role: String = row.try_get("", "role")?;
    AccessRole::named(&role).ok_or_else(|| DbErr::Custom(format!("person {person} has the role {role:?}")))
}

fn person(row: &QueryResult, roles: &ProjectRoles) -> Result<Person, DbErr> {
    let name = name(row, "name")?;
    Ok(Person {
        role: role(row, &name)?,
        project_roles: roles.get(&name).cloned().unwrap_or_default(),
        name,
        created_at: Timestamp(row.try_get("", "created_at")?),
        disabled_at: time(row, "disabled_at")?,
    })
}

fn token(row: &QueryResult) -> Result<AccessToken, DbErr> {
    let (rights, projects): (String, String) = (row.try_get("", "rights")?, row.try_get("", "projects")?);
    let projects = projects.split_ascii_whitespace().map(ProjectName::new).collect::<Result<_, _>>();
    Ok(AccessToken {
        projects: projects.map_err(DbErr::Custom)?,
        id: row.try_get("", "id")?,
        digest: row.try_get("", "digest")?,
        principal: Principal(row.try_get("", "principal")?),
        name: row.try_get("", "name")?,
        rights: rights.split_ascii_whitespace().map(str::to_owned).collect(),
        created_by: Principal(row.try_get("", "created_by")?),
        created_at: Timestamp(row.try_get("", "created_at")?),
        expires_at: time(row, "expires_at")?,
        last_used_at: time(row, "last_used_at")?,
        revoked_at: time(row, "revoked_at")?,
    })
}

fn time(row: &QueryResult, column: &str) -> Result<Option<Timestamp>, DbErr> {
    Ok(row.try_get::<Option<i64>>("", column)?.map(Timestamp))
}
