//! The connection of the console: sends requests, follows what moves, and connects again when the service is gone.

use super::state::{Act, Answer, Input, Log, MAX_OPEN, Request, Seen};
use super::text;
use crate::cli::client::{Client, Driver, Events, encode, with_query};
use crate::cli::context::{Access, CliContext, Connection};
use crate::cli::exit::CliError;
use crate::cli::follow::Output;
use crate::cli::sse::SseEvent;
use crate::http::rest::wire::{self, ArtifactKind, Event, Movement, Raised, Run, RunSummary};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Runs in the first part of the list, and in each further one.
const PAGE_SIZE: usize = 200;
/// Sums of spending, which is also the most that can be asked for.
const MAX_SUMS: usize = 500;
/// Least time between two requests for the lists.
const LISTS_EVERY: Duration = Duration::from_secs(1);
/// First and longest pause before a connection is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Pause before the stream of a run is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// Bytes of a log that are shown, from its end.
const MAX_LOG_BYTES: usize = 4 << 20;
/// How often an act is sent again because the run has moved, although what the person saw has not changed.
const MAX_MOVES: usize = 5;

/// A connection, and the stream of what moves on it.
pub struct Connected {
    connection: Connection,
    moves: Events,
}

enum Done {
    Input(Box<Input>),
    Connected(Result<Connected, CliError>),
    Followed(String, Result<Events, CliError>),
}

/// Run whose events are followed.
struct Followed {
    run: String,
    after: u64,
    events: Option<Events>,
}

/// The connection.
pub struct Network<'a> {
    cli: CliContext<'a>,
    connection: Option<Connection>,
    /// Whether a service is to be waited for: another process must not take its place while it is restarted.
    is_service: bool,
    moves: Option<Events>,
    followed: Option<Followed>,
    pending: FuturesUnordered<BoxFuture<'a, Done>>,
    retries: u32,
    lists_at: Option<Instant>,
}

/// Connects to the service, or drives runs in this process if there is none.
///
/// # Errors
/// If neither is possible.
pub async fn connect(cli: &CliContext<'_>) -> Result<Connected, CliError> {
    let connection = cli.connect(Access::Drive).await?;
    open(connection).await
}

async fn open(connection: Connection) -> Result<Connected, CliError> {
    match connection.client.stream("/stream", 0).await {
        Ok(moves) => Ok(Connected { connection, moves }),
        Err(error) => {
            connection.close().await;
            Err(error)
        }
    }
}

/// Connects again, after a pause.
async fn reconnect(cli: CliContext<'_>, is_service: bool, pause: Duration) -> Result<Connected, CliError> {
    sleep(pause).await;
    if !is_service {
        return connect(&cli).await;
    }
    let Some(service) = cli.backend.running_service(cli.host).await? else {
        return Err(CliError::unavailable("the service is not running", "start it with `skep serve`"));
    };
    let driver = Driver { is_service: service.is_service, pid: service.pid };
    open(Connection::remote(Client::remote(&service.base_url, &service.token, driver)?)).await
}

impl<'a> Network<'a> {
    /// Creates it, and returns the first thing that has happened.
    pub fn new(cli: CliContext<'a>, connected: Connected) -> (Network<'a>, Input) {
        let mut network = Network {
            cli,
            connection: None,
            is_service: false,
            moves: None,
            followed: None,
            pending: FuturesUnordered::new(),
            retries: 0,
            lists_at: None,
        };
        let input = network.take(connected);
        (network, input)
    }

    fn take(&mut self, Connected { connection, moves }: Connected) -> Input {
        let client = &connection.client;
        self.is_service = client.is_service();
        let input = Input::Connected { driver: client.driver(), pages: client.base().map(str::to_owned) };
        (self.connection, self.moves, self.retries) = (Some(connection), Some(moves), 0);
        input
    }

    /// Gives up the connection, and plans the next attempt.
    fn lose(&mut self, error: Option<&CliError>) -> Input {
        self.pending.clear();
        (self.moves, self.followed) = (None, None);
        let pause = (RETRY.0 * 2_u32.saturating_pow(self.retries.min(8))).min(RETRY.1);
        self.retries = self.retries.saturating_add(1);
        let (cli, is_service, old) = (self.cli, self.is_service, self.connection.take());
        self.pending.push(
            async move {
                if let Some(old) = old {
                    old.close().await;
                }
                Done::Connected(reconnect(cli, is_service, pause).await)
            }
            .boxed(),
        );
        let why = error.and_then(|e| e.problems.first()).map(|problem| problem.detail.clone());
        Input::Lost(why.unwrap_or_else(|| "The service has closed the connection.".to_owned()))
    }

    /// Sends a request. Its response comes from [`Self::next`].
    pub fn send(&mut self, request: Request) {
        let Some(client) = self.connection.as_ref().map(|connection| connection.client.clone()) else { return };
        match request {
            Request::Follow(run, after) => {
                self.followed = Some(Followed { run: run.clone(), after, events: None });
                self.pending.push(follow(client, run, after, Duration::ZERO).boxed());
            }
            request => {
                let mut not_before = Instant::now();
                if matches!(request, Request::Lists) {
                    // A burst of movements is fetched together.
                    not_before = self.lists_at.map_or(not_before, |at| not_before.max(at + LISTS_EVERY));
                    self.lists_at = Some(not_before);
                }
                self.pending.push(
                    async move {
                        sleep_until(not_before).await;
                        let response = respond(&client, &request).await;
                        Done::Input(Box::new(Input::Response(request, response)))
                    }
                    .boxed(),
                );
            }
        }
    }

    /// Waits for what happens next. May be dropped and called again.
    pub async fn next(&mut self) -> Input {
        loop {
            let followed = self.followed.as_mut().and_then(|followed| followed.events.as_mut());
            tokio::select! {
                Some(done) = self.pending.next(), if !self.pending.is_empty() => {
                    if let Some(input) = self.done(done) {
                        return input;
                    }
                }
                event = next_of(self.moves.as_mut()) => match event {
                    Some(Ok(event)) if event.event == "moved" => {
                        let movement: Movement = serde_json::from_str(&event.data).unwrap_or_default();
                        return Input::Moved(movement.run);
                    }
                    Some(Ok(_hello)) => {}
                    Some(Err(error)) => return self.lose(Some(&error)),
                    None => return self.lose(None),
                },
                event = next_of(followed) => {
                    if let Some(input) = self.followed(event) {
                        return input;
                    }
                }
            }
        }
    }

    fn done(&mut self, done: Done) -> Option<Input> {
        match done {
            Done::Input(input) => Some(*input),
            Done::Connected(Ok(connected)) => Some(self.take(connected)),
            Done::Connected(Err(error)) => Some(self.lose(Some(&error))),
            Done::Followed(run, opened) => {
                let followed = self.followed.as_mut().filter(|followed| followed.run == run)?;
                match opened {
                    Ok(events) => followed.events = Some(events),
                    // A run that does not exist is reported by the request for it.
                    Err(error) if error.exit == crate::cli::exit::ExitStatus::Usage => {}
                    Err(_unavailable) => self.reopen(),
                }
                None
            }
        }
    }

    fn followed(&mut self, event: Option<Result<SseEvent, CliError>>) -> Option<Input> {
        let followed = self.followed.as_mut()?;
        let run = followed.run.clone();
        match event {
            Some(Ok(event)) if event.event == "end" => {
                // Nothing more happens to it.
                followed.events = None;
                None
            }
            Some(Ok(event)) if event.event == "output" => {
                let output: Output = serde_json::from_str(&event.data).ok()?;
                Some(Input::Output(run, output.source(), output.text().to_owned()))
            }
            Some(Ok(event)) => {
                let row: Event = serde_json::from_str(&event.data).ok()?;
                followed.after = followed.after.max(row.seq);
                Some(Input::Row(run, Box::new(row)))
            }
            Some(Err(_)) | None => {
                self.reopen();
                None
            }
        }
    }

    fn reopen(&mut self) {
        let (Some(followed), Some(connection)) = (&mut self.followed, &self.connection) else { return };
        followed.events = None;
        let client = connection.client.clone();
        self.pending.push(follow(client, followed.run.clone(), followed.after, REOPEN).boxed());
    }

    /// Gives up the connection. Runs that this process drives are left in order.
    pub async fn close(mut self) {
        self.pending.clear();
        (self.moves, self.followed) = (None, None);
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}

async fn next_of(events: Option<&mut Events>) -> Option<Result<SseEvent, CliError>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn follow(client: Client, run: String, after: u64, pause: Duration) -> Done {
    sleep(pause).await;
    let opened = client.stream(&format!("/runs/{}/stream", encode(&run)), after).await;
    Done::Followed(run, opened)
}

async fn respond(client: &Client, request: &Request) -> Result<Answer, CliError> {
    let limit = |n: usize| ("limit", Some(n.to_string()));
    Ok(match request {
        Request::Lists => {
            let mut runs: Vec<RunSummary> = client.get(&with_query("/runs", &[limit(PAGE_SIZE)])).await?;
            let has_older = runs.len() >= PAGE_SIZE;
            if has_older {
                let query = [("open", Some("true".to_owned())), limit(MAX_OPEN)];
                runs.extend(client.get::<Vec<RunSummary>>(&with_query("/runs", &query)).await?);
            }
            Answer::Runs(runs, has_older)
        }
        Request::Older(oldest) => {
            let query = [limit(PAGE_SIZE), ("before", Some(oldest.clone()))];
            let runs: Vec<RunSummary> = client.get(&with_query("/runs", &query)).await?;
            let has_older = runs.len() >= PAGE_SIZE;
            Answer::Runs(runs, has_older)
        }
        Request::Run(id) => Answer::Run(client.get(&format!("/runs/{}", encode(id))).await?),
        Request::Patch(run, task) => {
            let path = with_query(&format!("/runs/{}/patch", encode(run)), &[("task", task.clone())]);
            Answer::Patch(String::from_utf8_lossy(&client.bytes(&path).await?).into_owned())
        }
        Request::Log(run, attempt) => Answer::Log(log(client, run, attempt.as_deref()).await?),
        Request::Spending(by) => {
            let query = [("by", Some(by.name().to_owned())), limit(MAX_SUMS)];
            Answer::Spending(client.get(&with_query("/spending", &query)).await?)
        }
        Request::Health => Answer::Health(client.health().await?),
        Request::Ratings => Answer::Ratings(client.get("/ratings").await?),
        Request::Act(act) => perform(client, act).await?,
        Request::Start(new) => Answer::Started(client.post("/runs", new, None).await?),
        // These are for the terminal, or have no response.
        Request::Follow(..) | Request::Copy(_) | Request::Redraw | Request::Suspend | Request::Quit => {
            return Err(CliError::internal("the console sent a request that has no response"));
        }
    })
}

/// Fetches the newest log of a run, or of one of its attempts.
async fn log(client: &Client, run: &str, attempt: Option<&str>) -> Result<Log, CliError> {
    let path = format!("/runs/{}", encode(run));
    let logs: Vec<wire::Log> = client.get(&format!("{path}/logs")).await?;
    let fits = |log: &&wire::Log| attempt.is_none_or(|attempt| log.attempt.as_deref() == Some(attempt));
    let is_read = |log: &&wire::Log| matches!(log.kind, ArtifactKind::Log | ArtifactKind::Transcript);
    let Some(log) = logs.iter().rfind(|log| fits(log) && is_read(log)) else {
        let whose = attempt.map_or_else(|| "the run".to_owned(), |attempt| format!("attempt {attempt}"));
        return Err(CliError::usage(format!("{whose} has no log yet"), ""));
    };
    let bytes = client.bytes(&format!("{path}/artifacts/{}", encode(&log.digest))).await?;
    let shown = bytes.get(bytes.len().saturating_sub(MAX_LOG_BYTES)..).unwrap_or_default();
    let of = log.attempt.as_ref().map(|attempt| format!(" of {attempt}")).unwrap_or_default();
    let end = if shown.len() < bytes.len() { ", the end of it" } else { "" };
    let title = format!("{}{of}{end}", text::line(&log.name));
    Ok(Log { title, lines: text::lines(&String::from_utf8_lossy(shown)) })
}

/// Performs an act, on nothing but what the person saw.
async fn perform(client: &Client, act: &Act) -> Result<Answer, CliError> {
    let run = format!("/runs/{}", encode(&act.run));
    let path = format!("{run}/actions/{}", act.name);
    let mut seen = act.seen.clone();
    if let Some(raise) = &act.raise {
        let now: Box<Run> = client.get(&run).await?;
        if Seen::of(&now, act.body.block.as_deref()).subject != seen.subject {
            return Ok(Answer::Changed(now));
        }
        let _raised: Raised = client.post("/budget/raise", raise, None).await?;
        // The raise itself may have resumed the run.
        let now: Box<Run> = client.get(&run).await?;
        seen.seq = now.seq;
        if act.body.block.as_ref().is_none_or(|block| now.escalations.iter().all(|e| e.block != *block)) {
            return Ok(Answer::Acted(now));
        }
    }
    let mut now = None;
    for _ in 0..MAX_MOVES {
        match client.post::<Run>(&path, &act.body, Some(seen.seq)).await {
            Ok(run) => return Ok(Answer::Acted(Box::new(run))),
            Err(error) if error.problems.iter().any(|problem| problem.status == 412) => {
                let moved: Box<Run> = client.get(&run).await?;
                let is_same = Seen::of(&moved, act.body.block.as_deref()).subject == seen.subject;
                seen.seq = moved.seq;
                now = Some(moved);
                if !is_same {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    now.map(Answer::Changed).ok_or_else(|| CliError::internal("the act was not sent"))
}
