//! People and access tokens in the tables `person`, `person_identity` and `access_token`.

use super::SeaStore;
use crate::domain::{AccessRole, PersonName, Principal, Timestamp};
use crate::ports::PortResult;
use crate::ports::accounts::{AccessToken, Accounts, Identity, Person};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult, Value};

const ADD_PERSON: &str = "INSERT INTO person (home, name, role, created_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (home, name) DO NOTHING RETURNING name";
const PERSON: &str = "SELECT name, role, created_at, disabled_at FROM person WHERE home = $1 AND name = $2";
const PEOPLE: &str = "SELECT name, role, created_at, disabled_at FROM person WHERE home = $1 ORDER BY name";
const SET_ROLE: &str = "UPDATE person SET role = $3 WHERE home = $1 AND name = $2 RETURNING name";
const SET_DISABLED: &str = "UPDATE person SET disabled_at = $3 WHERE home = $1 AND name = $2 RETURNING name";
const PERSON_OF: &str = "SELECT person FROM person_identity WHERE home = $1 AND issuer = $2 AND subject = $3";
const ADD_IDENTITY: &str = "INSERT INTO person_identity (home, issuer, subject, person, created_at) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (home, issuer, subject) DO NOTHING RETURNING person";
const LINK: &str = "INSERT INTO person_identity (home, issuer, subject, person, created_at) \
     VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (home, issuer, subject) DO UPDATE SET person = excluded.person, created_at = excluded.created_at";
const ADD_TOKEN: &str = "INSERT INTO access_token \
     (home, id, digest, principal, name, rights, created_by, created_at, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const TOKEN: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, last_used_at, \
     revoked_at FROM access_token WHERE home = $1 AND id = $2";
const TOKENS: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, last_used_at, \
     revoked_at FROM access_token WHERE home = $1 ORDER BY created_at DESC, id LIMIT $2";
const TOKENS_OF: &str = "SELECT id, digest, principal, name, rights, created_by, created_at, expires_at, \
     last_used_at, revoked_at FROM access_token WHERE home = $1 AND principal = $2 ORDER BY created_at DESC, id LIMIT $3";
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
        rows.first().map(|row| person(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn people(&self) -> PortResult<Vec<Person>> {
        let rows = self.read(PEOPLE, [self.home()]).await?;
        rows.iter().map(|row| person(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn set_role(&self, name: &PersonName, role: AccessRole) -> PortResult<bool> {
        let values = [self.home(), name.as_str().into(), role.name().into()];
        Ok(!self.write(SET_ROLE, values).await?.is_empty())
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

fn person(row: &QueryResult) -> Result<Person, DbErr> {
    let (name, role): (PersonName, String) = (name(row, "name")?, row.try_get("", "role")?);
    Ok(Person {
        role: AccessRole::named(&role).ok_or_else(|| DbErr::Custom(format!("person {name} has the role {role:?}")))?,
        name,
        created_at: Timestamp(row.try_get("", "created_at")?),
        disabled_at: time(row, "disabled_at")?,
    })
}

fn token(row: &QueryResult) -> Result<AccessToken, DbErr> {
    let rights: String = row.try_get("", "rights")?;
    Ok(AccessToken {
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
