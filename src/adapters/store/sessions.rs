//! Login links and sessions in the tables `login_link` and `session`.

use super::SeaStore;
use crate::domain::{Principal, Timestamp};
use crate::ports::PortResult;
use crate::ports::sessions::{LoginLink, LoginMethod, Session, Sessions};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult};

const FORGET_LINKS: &str = "DELETE FROM login_link WHERE home = $1 AND ends_at <= $2";
const FORGET_SESSIONS: &str = "DELETE FROM session WHERE home = $1 AND ends_at <= $2";
const ADD_LINK: &str = "INSERT INTO login_link (digest, home, principal, ends_at) VALUES ($1, $2, $3, $4)";
const USE_LINK: &str = "DELETE FROM login_link WHERE digest = $1 AND home = $2 AND ends_at > $3 RETURNING principal";
const PEEK_LINK: &str = "SELECT principal FROM login_link WHERE digest = $1 AND home = $2 AND ends_at > $3";
const ADD_SESSION: &str = "INSERT INTO session \
     (digest, home, principal, created_at, seen_at, ends_at, login, agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const SESSION: &str = "SELECT digest, principal, created_at, seen_at, ends_at, login, agent FROM session \
     WHERE digest = $1 AND home = $2";
const SESSIONS_OF: &str = "SELECT digest, principal, created_at, seen_at, ends_at, login, agent FROM session \
     WHERE home = $1 AND principal = $2 ORDER BY created_at DESC, digest LIMIT $3";
const TOUCH: &str = "UPDATE session SET seen_at = $3 WHERE digest = $1 AND home = $2";
const END: &str = "DELETE FROM session WHERE digest = $1 AND home = $2";

#[async_trait]
impl Sessions for SeaStore {
    async fn add_link(&self, link: &LoginLink, at: Timestamp) -> PortResult<()> {
        self.write(FORGET_LINKS, [self.home(), at.0.into()]).await?;
        self.write(FORGET_SESSIONS, [self.home(), at.0.into()]).await?;
        let principal = link.principal.as_str().into();
        let values = [link.digest.as_str().into(), self.home(), principal, link.ends_at.0.into()];
        self.write(ADD_LINK, values).await.map(|_| ())
    }

    async fn use_link(&self, digest: &str, at: Timestamp) -> PortResult<Option<Principal>> {
        let rows = self.write(USE_LINK, [digest.into(), self.home(), at.0.into()]).await?;
        rows.first().map(|row| principal(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn peek_link(&self, digest: &str, at: Timestamp) -> PortResult<Option<Principal>> {
        let rows = self.read(PEEK_LINK, [digest.into(), self.home(), at.0.into()]).await?;
        rows.first().map(|row| principal(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn add_session(&self, session: &Session) -> PortResult<()> {
        let values = [
            session.digest.as_str().into(),
            self.home(),
            session.principal.as_str().into(),
            session.created_at.0.into(),
            session.seen_at.0.into(),
            session.ends_at.0.into(),
            session.login.name().into(),
            session.agent.as_str().into(),
        ];
        self.write(ADD_SESSION, values).await.map(|_| ())
    }

    async fn session(&self, digest: &str) -> PortResult<Option<Session>> {
        let rows = self.read(SESSION, [digest.into(), self.home()]).await?;
        rows.first().map(|row| session(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn sessions_of(&self, principal: &Principal, limit: u64) -> PortResult<Vec<Session>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(SESSIONS_OF, [self.home(), principal.as_str().into(), limit.into()]).await?;
        rows.iter().map(|row| session(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn touch_session(&self, digest: &str, at: Timestamp) -> PortResult<()> {
        self.write(TOUCH, [digest.into(), self.home(), at.0.into()]).await.map(|_| ())
    }

    async fn end_session(&self, digest: &str) -> PortResult<()> {
        self.write(END, [digest.into(), self.home()]).await.map(|_| ())
    }
}

fn principal(row: &QueryResult) -> Result<Principal, DbErr> {
    Ok(Principal(row.try_get("", "principal")?))
}

fn session(row: &QueryResult) -> Result<Session, DbErr> {
    let login: String = row.try_get("", "login")?;
    let login =
        LoginMethod::named(&login).ok_or_else(|| DbErr::Custom(format!("a session has the login {login:?}")))?;
    Ok(Session {
        login,
        agent: row.try_get("", "agent")?,
        digest: row.try_get("", "digest")?,
        principal: principal(row)?,
        created_at: Timestamp(row.try_get("", "created_at")?),
        seen_at: Timestamp(row.try_get("", "seen_at")?),
        ends_at: Timestamp(row.try_get("", "ends_at")?),
    })
}
