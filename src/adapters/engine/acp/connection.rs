//! Dispatch of the agent's messages to the parts of the client.

use super::client::Client;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CreateTerminalRequest, KillTerminalRequest, ReadTextFileRequest, ReleaseTerminalRequest, RequestPermissionRequest,
    SessionNotification, TerminalOutputRequest, WaitForTerminalExitRequest, WriteTextFileRequest,
};
use agent_client_protocol::{self as protocol, Agent, on_receive_notification, on_receive_request};

/// Connects and runs `talk`; the connection ends with it.
pub async fn connect<T>(
    transport: impl protocol::ConnectTo<protocol::Client> + 'static,
    client: Client,
    talk: impl AsyncFnOnce(ConnectionTo<Agent>) -> Result<T, protocol::Error>,
) -> Result<T, protocol::Error> {
    let (updates, permits, reads, writes) = (client.clone(), client.clone(), client.clone(), client.clone());
    let (creates, shows, waits, kills, releases) =
        (client.clone(), client.clone(), client.clone(), client.clone(), client);
    protocol::Client
        .v1()
        .on_receive_notification(
            async move |notification: SessionNotification, _cx| {
                updates.update(notification.update);
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |ask: RequestPermissionRequest, responder, _cx| responder.respond(permits.permit(&ask)),
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: ReadTextFileRequest, responder, _cx| responder.respond_with_result(reads.read(ask).await),
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: WriteTextFileRequest, responder, _cx| {
                responder.respond_with_result(writes.write(ask).await)
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: CreateTerminalRequest, responder, _cx| {
                responder.respond_with_result(creates.terminals.create(ask).map_err(|why| creates.denied(why)))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: TerminalOutputRequest, responder, _cx| {
                responder.respond_with_result(shows.terminals.output(&ask.terminal_id).map_err(|why| shows.denied(why)))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: WaitForTerminalExitRequest, responder, cx| {
                let client = waits.clone();
                // In a separate task, because it may take as long as the command.
                cx.spawn(async move {
                    let exit = client.terminals.wait(&ask.terminal_id).await;
                    responder.respond_with_result(exit.map_err(|why| client.denied(why)))
                })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: KillTerminalRequest, responder, _cx| {
                responder.respond_with_result(kills.terminals.kill(&ask.terminal_id).map_err(|why| kills.denied(why)))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |ask: ReleaseTerminalRequest, responder, _cx| {
                responder.respond_with_result(
                    releases.terminals.release(&ask.terminal_id).map_err(|why| releases.denied(why)),
                )
            },
            on_receive_request!(),
        )
        .connect_with(transport, talk)
        .await
}
