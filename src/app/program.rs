//! What the program does for the command line: owns the data directory, carries runs on, answers on REST.

use super::reloadable::Live;
use super::{Ports, connect, doctor, owner, probe, prompts, reload, routes, runners, sandbox, settings, start};
use crate::actors::{RuntimeHandle, Scope};
use crate::adapters::{demo, store};
use crate::cli::args::Isolation;
use crate::cli::context::{
    Backend, CliContext, Demo, Doctored, EngineRow, InProcessServer, Proof, RunnerRow, RunnerTested, SchemaStep,
    Service, Setting, StepPrompt, TAKEN, WallsTested,
};
use crate::cli::exit::{CliError, Exit};
use crate::cli::screen::Screen;
use crate::config::{self, Config, Loaded, LogFormat, network_file_system, prepare_data_dir};
use crate::domain::Role;
use crate::http;
use crate::platform;
use crate::platform::sandbox::Sandbox;
use crate::ports::{Isolation as _, PortError};
use crate::secrets::{Secret, register};
use crate::telemetry;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// How often a command that lingers for others' runs looks whether they rest.
const LINGER_LOOK: Duration = Duration::from_millis(300);
/// How long git calls that a killed process left behind may take to finish.
const GIT_PATIENCE: Duration = Duration::from_secs(30);
/// The most demo projects in one data directory.
const DEMOS: u32 = 1_000;

/// The program.
#[derive(Default)]
pub struct Program {
    /// Kept until the program ends, so that the last traces are sent.
    telemetry: Mutex<Option<telemetry::Guard>>,
}

/// A started process: the routes, and what ends with it.
struct Started {
    router: axum::Router,
    token: String,
    factory: RuntimeHandle,
    live: Arc<Live>,
    ended: Option<tokio::task::JoinHandle<()>>,
    owned: Option<owner::Owned>,
    /// The level of isolation reached.
    level: &'static str,
    _watch: Option<Watch>,
}

/// Ends the watch over the walls with the service.
struct Watch(tokio::task::AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Program {
    fn config(&self, context: &CliContext) -> Result<Config, CliError> {
        Ok(self.loaded(context)?.config)
    }

    fn loaded(&self, context: &CliContext) -> Result<Loaded, CliError> {
        let loaded = config::load(&context.sources)?;
        settings::check(&loaded.config)?;
        Ok(loaded)
    }

    /// Sets logging up: a service logs as configured, a command only what the person asked to see.
    fn logs(&self, context: &CliContext, config: &Config, is_service: bool) -> Result<(), CliError> {
        let mut settings = config.telemetry.clone();
        if !is_service {
            settings.log_level = match context.verbose {
                0 => "error".to_owned(),
                1 => "info".to_owned(),
                _ => "debug".to_owned(),
            };
            if !context.json && settings.log_format == LogFormat::Auto {
                settings.log_format = LogFormat::Text;
            }
        } else if context.verbose > 0 {
            settings.log_level = "debug".to_owned();
        }
        match telemetry::init(&settings) {
            Ok(guard) => {
                if let Ok(mut kept) = self.telemetry.lock() {
                    *kept = Some(guard);
                }
                Ok(())
            }
            Err(telemetry::TelemetryError::Twice) => Ok(()),
            Err(e) => Err(CliError::config(e.to_string(), "mend telemetry.otlp_endpoint in the configuration")),
        }
    }

    /// Owns the data directory and connects everything; `scope` says which runs go on.
    async fn own(&self, context: &CliContext, scope: Scope) -> Result<(Started, Loaded), CliError> {
        let loaded = self.loaded(context)?;
        let config = loaded.config.clone();
        let data_dir = &context.sources.data_dir;
        prepare(data_dir, &config)?;
        self.logs(context, &config, scope == Scope::All)?;
        let Some(owned) = owner::take(data_dir)? else {
            return Err(CliError::new(
                Exit::Again,
                TAKEN,
                format!("another process has the data directory {}", data_dir.display()),
                "try again: the command will then talk to that process",
            ));
        };
        let left = platform::sandbox::sweep(GIT_PATIENCE).await;
        if left > 0 {
            tracing::warn!(left, "ended commands that an earlier process had left running");
        }
        let token = owner::token(data_dir, config.server.token_file.as_deref())?;
        register("token", &Secret::new(token.clone())).keep();
        let sandbox = sandbox::raise(&config, context, scope).await?;
        let ports = connect(&config, data_dir, scope, &sandbox).await.map_err(away)?;
        let level = sandbox.level();
        let watch = (scope == Scope::All).then(|| Watch(sandbox::keep_watch(sandbox, data_dir.clone())));
        // Whoever owned runs of this directory before is dead, or the lock would be its: nobody waits for its leases to end.
        let freed = ports.deps.store.free_leases().await.map_err(away)?;
        if freed > 0 {
            tracing::info!(freed, "runs of an earlier process that was killed go on here");
        }
        let (factory, ended) = start(&ports).await?;
        let router = routes(&ports, &config, factory.clone(), &token);
        let live = ports.live;
        let started =
            Started { router, token, factory, live, ended: Some(ended), owned: Some(owned), level, _watch: watch };
        Ok((started, loaded))
    }

    /// A house that answers others too, on a port of its own.
    async fn open_server(&self, context: &CliContext, scope: Scope) -> Result<InProcessServer, CliError> {
        let (mut started, _) = self.own(context, scope).await?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.map_err(|e| {
            CliError::away(format!("no loopback port can be opened: {e}"), "look at this machine's network settings")
        })?;
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        // Without walls there is room for the demo alone: nobody else may find the way in.
        let is_open = !(context.is_demo && started.level == "none");
        if let Some(owned) = started.owned.as_ref().filter(|_| is_open) {
            owned.put_up_sign(address)?;
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let router = started.router.clone();
        let server = tokio::spawn(http::serve(listener, router.clone(), async move {
            // A dropped sender ends it as well.
            let _ended = stopped.await;
        }));
        let interrupted = Arc::new(tokio::sync::Notify::new());
        let told = interrupted.clone();
        let listening = tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                told.notify_one();
            }
        });
        let factory = started.factory.clone();
        let token = started.token.clone();
        let close = Box::pin(async move {
            if scope == Scope::Asked {
                linger(&factory, &interrupted).await;
            }
            listening.abort();
            factory.stop().await;
            let _ended = stop.send(());
            if let Err(error) = server.await {
                tracing::debug!(%error, "the server ended early");
            }
            drop(started.owned.take());
        });
        Ok(InProcessServer { router, token, close })
    }
}

/// Other commands' runs may be carried by this process: it stays until they rest, or until the person interrupts.
async fn linger(factory: &RuntimeHandle, interrupted: &tokio::sync::Notify) {
    let mut told = false;
    loop {
        let live = factory.live().await.len();
        if live == 0 {
            return;
        }
        if !told {
            told = true;
            tracing::info!(live, "runs asked for by other commands go on here");
        }
        tokio::select! {
            () = interrupted.notified() => return,
            () = tokio::time::sleep(LINGER_LOOK) => {}
        }
    }
}

fn prepare(data_dir: &Path, config: &Config) -> Result<(), CliError> {
    config::private_by_default();
    prepare_data_dir(data_dir).map_err(|p| config::Problems(vec![p]))?;
    if config.store.database.is_sqlite()
        && let Some(kind) = network_file_system(data_dir)
    {
        return Err(CliError::config(
            format!("the data directory {} is on {kind}, where SQLite's locks cannot be trusted", data_dir.display()),
            "name a data directory on a local disk, or use Postgres (store.url)",
        ));
    }
    Ok(())
}

pub(super) fn away(error: PortError) -> CliError {
    match error {
        PortError::Permanent { what, fix } => CliError::config(what, fix),
        other => CliError::away(other.to_string(), "try again in a moment"),
    }
}

#[async_trait]
impl Backend for Program {
    async fn service(&self, context: &CliContext) -> Result<Option<Service>, CliError> {
        let data_dir = &context.sources.data_dir;
        if !owner::taken(data_dir) {
            return Ok(None);
        }
        telemetry::install_crypto();
        let http = reqwest::Client::builder().no_proxy().build().map_err(anyhow::Error::from)?;
        let Some(sign) = owner::answering(data_dir, &http).await? else { return Ok(None) };
        let token_file = self.config(context).ok().and_then(|c| c.server.token_file);
        let token = owner::token(data_dir, token_file.as_deref())?;
        register("token", &Secret::new(token.clone())).keep();
        Ok(Some(Service { base: format!("http://{}", sign.address), token }))
    }

    async fn carry(&self, context: &CliContext) -> Result<InProcessServer, CliError> {
        self.open_server(context, Scope::Asked).await
    }

    async fn tell(&self, context: &CliContext) -> Result<InProcessServer, CliError> {
        self.open_server(context, Scope::Nothing).await
    }

    async fn read(&self, context: &CliContext) -> Result<InProcessServer, CliError> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.logs(context, &config, false)?;
        let ports: Ports =
            connect(&config, &context.sources.data_dir, Scope::Nothing, &Sandbox::closed()).await.map_err(away)?;
        // Nobody else can come in: the token never leaves this process.
        let token = uuid::Uuid::now_v7().simple().to_string();
        let router = routes(&ports, &config, RuntimeHandle::closed(), &token);
        Ok(InProcessServer { router, token, close: Box::pin(async {}) })
    }

    async fn serve(&self, context: &CliContext, listen: Option<&str>, screen: &Screen) -> Result<(), CliError> {
        let began = std::time::Instant::now();
        let signs = reload::Signs::of(&context.sources).map_err(anyhow::Error::from)?;
        let wanted = match listen {
            None => self.config(context)?.server.listen,
            Some(text) => text.parse().map_err(|_| {
                CliError::usage(format!("--listen {text:?} is not an address"), "write it as 127.0.0.1:7377")
            })?,
        };
        if let Some(service) = self.service(context).await? {
            return Err(CliError::away(
                format!("{} is served already, at {}", context.sources.data_dir.display(), service.base),
                "end that process first, or name another --data-dir",
            ));
        }
        let (mut started, loaded) = self.own(context, Scope::All).await?;
        let config = loaded.config.clone();
        if !wanted.ip().is_loopback() && config.server.trusted_proxy.is_none() {
            return Err(CliError::config(
                format!("{wanted} can be reached from other machines, and nothing encrypts it"),
                "listen on 127.0.0.1, or name the proxy that ends TLS in server.trusted_proxy",
            ));
        }
        let listener = TcpListener::bind(wanted).await.map_err(|e| {
            CliError::new(
                Exit::Config,
                "listen",
                format!("cannot listen on {wanted}: {e}"),
                "choose another with --listen",
            )
        })?;
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        if let Some(owned) = &started.owned {
            owned.put_up_sign(address)?;
        }
        doctor::greet(screen, context, &config, address, began.elapsed(), started.level);
        let Some(mut root) = started.ended.take() else { return Ok(()) };
        let every = config.runs.sweep_interval;
        let follow = reload::follow(signs, context.sources.clone(), loaded, started.live.clone(), every);
        let mut died = false;
        let stop = async {
            tokio::select! {
                () = told_to_stop() => {}
                never = follow => match never {},
                _ended = &mut root => died = true,
            }
        };
        http::serve(listener, started.router.clone(), stop).await.map_err(anyhow::Error::from)?;
        started.factory.stop().await;
        drop(started.owned.take());
        if died {
            return Err(CliError::fault("the runtime ended; everything is in the store, start Skep again"));
        }
        Ok(())
    }

    async fn migrate(&self, context: &CliContext, status: bool) -> Result<Vec<SchemaStep>, CliError> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        let url = config.store.database.url(&context.sources.data_dir);
        if !status {
            store::migrate(url.expose()).await.map_err(away)?;
        }
        let found = store::status(url.expose()).await.map_err(away)?;
        if !found.unknown.is_empty() {
            return Err(CliError::config(
                format!("the store has schema steps this Skep does not know: {}", found.unknown.join(", ")),
                "start the newer Skep that made them, or restore the backup taken before it",
            ));
        }
        let step = |applied: bool| move |name: String| SchemaStep { name, applied };
        Ok(found.applied.into_iter().map(step(true)).chain(found.pending.into_iter().map(step(false))).collect())
    }

    async fn doctor(&self, context: &CliContext) -> Result<Doctored, CliError> {
        Ok(doctor::look(context).await)
    }

    async fn engines(&self, context: &CliContext) -> Result<Vec<EngineRow>, CliError> {
        Ok(probe::list(&self.config(context)?).await)
    }

    async fn prove(&self, context: &CliContext, what: &str, said: mpsc::Sender<String>) -> Result<Proof, CliError> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.logs(context, &config, false)?;
        telemetry::install_crypto();
        let chosen = probe::chosen(&config, what)?;
        let sandbox = sandbox::raise(&config, context, Scope::Asked).await?;
        probe::prove(&config, &context.sources.data_dir, &sandbox, chosen, said).await
    }

    async fn prompts(&self, context: &CliContext, project: Option<&str>) -> Result<Vec<StepPrompt>, CliError> {
        prompts::in_force(&self.config(context)?, project)
    }

    async fn test_walls(&self, context: &CliContext, level: Option<Isolation>) -> Result<WallsTested, CliError> {
        sandbox::test(&self.config(context)?, context, level).await
    }

    async fn places(&self, context: &CliContext) -> Result<Vec<RunnerRow>, CliError> {
        Ok(runners::list(&self.config(context)?))
    }

    async fn prove_runner(&self, context: &CliContext, name: &str) -> Result<RunnerTested, CliError> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.logs(context, &config, false)?;
        runners::prove(&config, &context.sources.data_dir, name).await
    }

    async fn config(&self, context: &CliContext) -> Result<Vec<Setting>, CliError> {
        let loaded = self.loaded(context)?;
        Ok(loaded
            .explain()
            .iter()
            .map(|e| Setting { key: e.key.to_string(), value: e.value.clone(), source: e.source.clone() })
            .collect())
    }

    async fn demo(&self, context: &CliContext) -> Result<Demo, CliError> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        let root = context.sources.data_dir.join("demo");
        for n in 1..=DEMOS {
            let dir = root.join(n.to_string());
            // A demo that was cut short is gone on with; one that has landed makes room for the next.
            let sample = match demo::untouched(&dir) {
                Some(sample) => sample,
                None if dir.join("tally.git").exists() => continue,
                None => demo::write_to(&dir).await.map_err(away)?,
            };
            let engine = format!("{}:{}", sample.engine.kind, sample.engine.arg);
            let roles = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
            return Ok(Demo {
                notice: demo::NOTICE.to_owned(),
                repo: sample.repo.to_string_lossy().into_owned(),
                base: sample.base,
                goal: sample.goal,
                engines: roles.into_iter().map(|role| (role, engine.clone())).collect::<BTreeMap<_, _>>(),
                checks: Vec::new(),
            });
        }
        Err(CliError::usage(
            format!("there are {DEMOS} demos in {} already", root.display()),
            "remove that folder, or name another --data-dir",
        ))
    }
}

/// SIGINT or SIGTERM.
async fn told_to_stop() {
    let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut term) = term else {
        // Without a handler the default action of the signal ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _told = term.recv() => {}
        _told = tokio::signal::ctrl_c() => {}
    }
}
