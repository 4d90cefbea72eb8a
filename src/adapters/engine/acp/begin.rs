//! Start of a conversation: a new session, or a resumed one.

use super::{AcpEngine, Conversation, ConversationError, error_message};
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

impl AcpEngine {
    /// Opens a session, or resumes the one that the order names.
    pub(super) async fn begin(
        &self,
        cx: &ConnectionTo<Agent>,
        conversation: &Conversation<'_>,
    ) -> Result<SessionId, ConversationError> {
        let may_write = conversation.order.step == Step::Develop;
        let files = FileSystemCapabilities::new().read_text_file(true).write_text_file(may_write);
        let initialize = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(ClientCapabilities::new().fs(files).terminal(true))
            .client_info(Implementation::new("skep", env!("CARGO_PKG_VERSION")));
        // The library refuses other protocol versions.
        let initialized =
            cx.send_request(initialize).block_task().await.map_err(|error| match error_message(&error) {
                message if message.contains("protocol version") => ConversationError::Unusable {
                    why: message,
                    fix: "install a release of the agent that speaks version 1 of the protocol".to_owned(),
                },
                _ => ConversationError::from(error),
            })?;
        conversation.known().greeted = true;
        let (session, modes) = match &conversation.order.resume {
            None => {
                let new = NewSessionRequest::new(conversation.env.dir.clone());
                let opened = cx.send_request(new).block_task().await?;
                (opened.session_id, opened.modes)
            }
            Some(name) => {
                let session = SessionId::new(name.as_str());
                let modes = self.resume(cx, conversation, &initialized.agent_capabilities, &session).await?;
                conversation.client.output.note("resumed; earlier output is above");
                (session, modes)
            }
        };
        let shown: String = session.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        conversation.known().session = Some(shown);
        if let Some(mode) = &self.driven.agent.mode {
            self.check_mode(modes.as_ref(), mode)?;
            cx.send_request(SetSessionModeRequest::new(session.clone(), mode.clone())).block_task().await?;
        }
        if let Some(name) = resumable(&initialized.agent_capabilities, &session) {
            (conversation.sink)(EngineEvent::Session(name));
        }
        Ok(session)
    }

    /// Resumes a session, without a replay of its history if the agent supports that.
    async fn resume(
        &self,
        cx: &ConnectionTo<Agent>,
        conversation: &Conversation<'_>,
        capabilities: &AgentCapabilities,
        session: &SessionId,
    ) -> Result<Option<SessionModeState>, ConversationError> {
        let dir = conversation.env.dir.clone();
        if capabilities.session_capabilities.resume.is_some() {
            let resume = ResumeSessionRequest::new(session.clone(), dir);
            return Ok(cx.send_request(resume).block_task().await?.modes);
        }
        if capabilities.load_session {
            let load = LoadSessionRequest::new(session.clone(), dir);
            return Ok(cx.send_request(load).block_task().await?.modes);
        }
        let why = "it no longer offers to resume sessions, though it did before the restart".to_owned();
        Err(ConversationError::Unusable { why, fix: self.driven.access_fix() })
    }

    /// Checks that the agent offers the configured mode.
    fn check_mode(&self, modes: Option<&SessionModeState>, mode: &str) -> Result<(), ConversationError> {
        let modes: Vec<String> =
            modes.iter().flat_map(|m| &m.available_modes).take(32).map(|m| m.id.to_string()).collect();
        if modes.iter().any(|m| m == mode) {
            return Ok(());
        }
        let key = format!("agents.{}.mode", self.driven.agent.name);
        let fix = match modes.is_empty() {
            true => format!("remove {key}"),
            false => format!("set {key} to one of: {}", terminal_text::sanitize(modes.join(", ").as_bytes())),
        };
        Err(ConversationError::Unusable { why: format!("it has no mode {mode:?}"), fix })
    }
}

/// Returns the id of a session that the agent can resume. An id that cannot be stored unchanged does not count.
fn resumable(capabilities: &AgentCapabilities, session: &SessionId) -> Option<String> {
    let name = session.to_string();
    let is_plain =
        (1..=Resumable::MAX_SESSION_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    (is_plain && (capabilities.load_session || capabilities.session_capabilities.resume.is_some())).then_some(name)
}
