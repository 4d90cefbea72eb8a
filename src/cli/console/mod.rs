//! `skep console`: the runs of a service on a full screen, live, with the questions that wait for a person first.
//!
//! A client like every other command: [`state`] is changed by [`update`] and [`keys`] and drawn by [`view`], all of them
//! pure; [`network`] speaks REST, [`screen`] has the terminal. Nothing is polled: the service says which runs move.

mod act;
mod comments;
mod keys;
mod network;
mod screen;
mod selection;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod update;
mod view;

use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use crate::http::rest::wire::Timestamp;
use crate::platform::stop_signal;
use futures::FutureExt;
use network::Network;
use ratatui::crossterm::event::{Event, KeyEventKind};
use screen::Window;
use state::{Input, Request, State};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// How long what happens in a burst is gathered before it is drawn.
const BURST: Duration = Duration::from_millis(20);

enum Next {
    Input(Input),
    /// The process was continued after it was stopped.
    Continued,
    /// Nothing that concerns the console.
    Nothing,
    Leave,
}

/// Runs the command.
///
/// # Errors
/// If there is no terminal, or nothing to connect to.
pub async fn console(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    screen::check(cli.terminal)?;
    stop_signal::listen();
    // Before the screen is taken: what keeps the console from starting is an error like that of any command.
    let connected = network::connect(cli).await?;
    let (mut network, input) = Network::new(*cli, connected);
    let end = show(cli.terminal.color, &mut network, input).await;
    network.close().await;
    end.map(|()| ExitStatus::Success)
}

async fn show(color: bool, network: &mut Network<'_>, connected: Input) -> Result<(), Stop> {
    let mut continued = signal(SignalKind::from_raw(libc::SIGCONT))?;
    let mut window = Window::open()?;
    let mut keys = screen::keys();
    let stopped = stop_signal::requested(1);
    tokio::pin!(stopped);
    let mut state = State::new(window.size(), color, local_time);
    let mut requests = state.update(connected);
    loop {
        for request in requests.drain(..) {
            match request {
                Request::Quit => return Ok(()),
                Request::Redraw => window.clear()?,
                Request::Suspend => window.suspend()?,
                Request::Copy(text) => window.copy(&text)?,
                request => network.send(request),
            }
        }
        window.draw(&state)?;
        let mut until = None;
        loop {
            let next = async {
                tokio::select! {
                    key = keys.recv() => key.map_or(Next::Leave, from_terminal),
                    input = network.next() => Next::Input(input),
                    _ = continued.recv() => Next::Continued,
                    () = &mut stopped => Next::Leave,
                }
            };
            // The first is waited for; what has come by then is taken with it.
            let next = match until {
                None => next.await,
                Some(until) if Instant::now() < until => match next.now_or_never() {
                    Some(next) => next,
                    None => break,
                },
                Some(_) => break,
            };
            until = until.or(Some(Instant::now() + BURST));
            match next {
                Next::Input(input) => requests.extend(state.update(input)),
                Next::Continued => {
                    window.resume()?;
                    let (columns, lines) = window.size();
                    requests.extend(state.update(Input::Resize(columns, lines)));
                }
                Next::Nothing => {}
                Next::Leave => return Ok(()),
            }
            if !requests.is_empty() {
                break;
            }
        }
    }
}

fn from_terminal(event: Event) -> Next {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Next::Input(Input::Key(key)),
        Event::Paste(text) => Next::Input(Input::Paste(text)),
        Event::Resize(columns, lines) => Next::Input(Input::Resize(columns, lines)),
        _ => Next::Nothing,
    }
}

fn local_time(at: Timestamp) -> String {
    super::text::moment(at)
}
