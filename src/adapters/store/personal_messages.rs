//! How each person wants to get messages, in the table `personal_messages`.

use super::SeaStore;
use crate::domain::{MessageEvent, Principal, Timestamp};
use crate::ports::PortResult;
use crate::ports::personal_messages::{PersonalMessages, PersonalSettings, PersonalWay};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult};

const SET: &str = "INSERT INTO personal_messages (home, principal, way, target, events, chosen_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (home, principal) DO UPDATE SET way = excluded.way, \
     target = excluded.target, events = excluded.events, chosen_at = excluded.chosen_at";
const OF: &str = "SELECT principal, way, target, events, chosen_at FROM personal_messages \
     WHERE home = $1 AND principal = $2";
const ALL: &str = "SELECT principal, way, target, events, chosen_at FROM personal_messages \
     WHERE home = $1 ORDER BY principal LIMIT $2";
const REMOVE: &str = "DELETE FROM personal_messages WHERE home = $1 AND principal = $2";

#[async_trait]
impl PersonalSettings for SeaStore {
    async fn set_personal(&self, chosen: &PersonalMessages) -> PortResult<()> {
        let (way, target) = match &chosen.way {
            PersonalWay::Email { address } => ("email", address),
            PersonalWay::Webhook { template } => ("webhook", template),
        };
        let events: Vec<&str> = chosen.events.iter().map(|event| event.name()).collect();
        let values = [
            self.home(),
            chosen.principal.as_str().into(),
            way.into(),
            target.as_str().into(),
            events.join(" ").into(),
            chosen.chosen_at.0.into(),
        ];
        self.write(SET, values).await.map(|_| ())
    }

    async fn personal_of(&self, principal: &Principal) -> PortResult<Option<PersonalMessages>> {
        let rows = self.read(OF, [self.home(), principal.as_str().into()]).await?;
        rows.first().map(|row| chosen(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn all_personal(&self, limit: u64) -> PortResult<Vec<PersonalMessages>> {
        let rows = self.read(ALL, [self.home(), i64::try_from(limit).unwrap_or(i64::MAX).into()]).await?;
        rows.iter().map(|row| chosen(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn remove_personal(&self, principal: &Principal) -> PortResult<()> {
        self.write(REMOVE, [self.home(), principal.as_str().into()]).await.map(|_| ())
    }
}

fn chosen(row: &QueryResult) -> Result<PersonalMessages, DbErr> {
    let (way, target): (String, String) = (row.try_get("", "way")?, row.try_get("", "target")?);
    let events: String = row.try_get("", "events")?;
    Ok(PersonalMessages {
        principal: Principal(row.try_get("", "principal")?),
        way: match way.as_str() {
            "email" => PersonalWay::Email { address: target },
            "webhook" => PersonalWay::Webhook { template: target },
            other => return Err(DbErr::Custom(format!("messages of a person go the way {other:?}"))),
        },
        events: events.split(' ').filter_map(MessageEvent::named).collect(),
        chosen_at: Timestamp(row.try_get("", "chosen_at")?),
    })
}
