//! The beginning of a conversation: a new session, or the one of an earlier process taken up again.

use super::{AcpEngine, Broken, Talked, said};
use crate::domain::{Resumable, Step};
use crate::platform::terminal_text;
use crate::ports::engine::EngineEvent;
use agent_client_protocol::Agent;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, ClientCapabilities, FileSystemCapabilities, Implementation, InitializeRequest,
    LoadSessionRequest, NewSessionRequest, ResumeSessionRequest, SessionId, SessionModeState, SetSessionModeRequest,
};
use std::sync::PoisonError;

impl AcpEngine {
    /// Opens the session, or takes up the one its order names.
    pub(super) async fn begin(&self, cx: &ConnectionTo<Agent>, talked: &Talked<'_>) -> Result<SessionId, Broken> {
        let writes = talked.order.step == Step::Develop;
        let files = FileSystemCapabilities::new().read_text_file(true).write_text_file(writes);
        let hello = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(ClientCapabilities::new().fs(files).terminal(true))
            .client_info(Implementation::new("skep", env!("CARGO_PKG_VERSION")));
        // The library refuses any other version by itself.
        let met = cx.send_request(hello).block_task().await.map_err(|error| match said(&error) {
            said if said.contains("protocol version") => Broken::Wrong {
                why: said,
                fix: "install a release of the agent that speaks version 1 of the protocol".to_owned(),
            },
            _ => Broken::from(error),
        })?;
        let (session, modes) = match &talked.order.resume {
            None => {
                let new = NewSessionRequest::new(talked.env.dir.clone());
                let opened = cx.send_request(new).block_task().await?;
                (opened.session_id, opened.modes)
            }
            Some(name) => {
                let session = SessionId::new(name.as_str());
                let modes = self.take_up(cx, talked, &met.agent_capabilities, &session).await?;
                talked.client.heard.note("taken up again; what it said before is above");
                (session, modes)
            }
        };
        let shown: String = session.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        talked.known.lock().unwrap_or_else(PoisonError::into_inner).session = Some(shown);
        if let Some(mode) = &self.driven.agent.mode {
            self.offers(modes.as_ref(), mode)?;
            cx.send_request(SetSessionModeRequest::new(session.clone(), mode.clone())).block_task().await?;
        }
        if let Some(name) = resumable(&met.agent_capabilities, &session) {
            (talked.sink)(EngineEvent::Session(name));
        }
        Ok(session)
    }

    /// Takes a session up again: without being told its past where the agent can, else with it.
    async fn take_up(
        &self,
        cx: &ConnectionTo<Agent>,
        talked: &Talked<'_>,
        can: &AgentCapabilities,
        session: &SessionId,
    ) -> Result<Option<SessionModeState>, Broken> {
        let dir = talked.env.dir.clone();
        if can.session_capabilities.resume.is_some() {
            let resume = ResumeSessionRequest::new(session.clone(), dir);
            return Ok(cx.send_request(resume).block_task().await?.modes);
        }
        if can.load_session {
            let load = LoadSessionRequest::new(session.clone(), dir);
            return Ok(cx.send_request(load).block_task().await?.modes);
        }
        let why = "it takes up no session again, though it did before it was restarted".to_owned();
        Err(Broken::Wrong { why, fix: self.driven.way_in() })
    }

    /// That the agent has the mode asked for.
    fn offers(&self, modes: Option<&SessionModeState>, mode: &str) -> Result<(), Broken> {
        let modes: Vec<String> =
            modes.iter().flat_map(|m| &m.available_modes).take(32).map(|m| m.id.to_string()).collect();
        if modes.iter().any(|m| m == mode) {
            return Ok(());
        }
        let key = format!("agents.{}.mode", self.driven.agent.name);
        let fix = match modes.is_empty() {
            true => format!("leave {key} out"),
            false => format!("set {key} to one of: {}", terminal_text::sanitize(modes.join(", ").as_bytes())),
        };
        Err(Broken::Wrong { why: format!("it has no mode {mode:?}"), fix })
    }
}

/// The name of a session that its agent says it can take up again. One that could not be kept and given back as it is does not count.
fn resumable(can: &AgentCapabilities, session: &SessionId) -> Option<String> {
    let name = session.to_string();
    let is_plain =
        (1..=Resumable::MAX_SESSION_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    (is_plain && (can.load_session || can.session_capabilities.resume.is_some())).then_some(name)
}
