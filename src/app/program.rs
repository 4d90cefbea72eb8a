//! The process behind the command line: locks the data directory, drives runs, serves REST.

use super::reloadable::Reloadable;
use super::{Ports, connect, doctor, gc, metrics, owner, reload, restore, routes, sandbox, services, settings, start};
use crate::actors::{RuntimeHandle, Scope};
use crate::config::{self, Config, Loaded, LogFormat, network_file_system, prepare_data_dir};
use crate::http;
use crate::http::backend::{Backend, InProcessServer, RunningService, ServiceReady};
use crate::http::rest::wire::LoginLink;
use crate::platform;
use crate::platform::sandbox::Sandbox;
use crate::platform::stop_signal;
use crate::platform::umask::private_by_default;
use crate::secrets::{Secret, register};
use crate::service::host::{HostContext, HostError, HostErrorKind, HostResult, NamedServer};
use crate::service::installation::Installation;
use crate::service::{Services, sessions};
use crate::telemetry;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How often a command that stays for the runs of other commands checks whether they have stopped.
const LINGER_INTERVAL: Duration = Duration::from_millis(300);
/// How often a command in the foreground checks whether the configuration changed.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);
/// How long git calls that a killed process left behind may take to finish.
const GIT_GRACE: Duration = Duration::from_secs(30);

/// The process.
#[derive(Default)]
pub struct Program {
    /// Held until the process ends, so that the last traces are sent.
    telemetry: Mutex<Option<telemetry::Guard>>,
}

/// A started runtime with its routes, and everything that ends with it.
struct Started {
    router: axum::Router,
    token: String,
    runtime: RuntimeHandle,
    services: Services,
    reloadable: Arc<Reloadable>,
    root: Option<tokio::task::JoinHandle<()>>,
    owned: Option<owner::Owned>,
    /// The level of isolation reached.
    level: &'static str,
    _sandbox_watch: Option<BackgroundTask>,
    /// Applies what forges report, starts what is scheduled, and sends messages to people.
    _background: Vec<BackgroundTask>,
}

/// Ends a task together with the service.
struct BackgroundTask(tokio::task::AbortHandle);

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Program {
    pub(super) fn config(&self, context: &HostContext) -> HostResult<Config> {
        Ok(self.loaded(context)?.config)
    }

    pub(super) fn loaded(&self, context: &HostContext) -> HostResult<Loaded> {
        let loaded = config::load(&context.sources)?;
        settings::check(&loaded.config)?;
        Ok(loaded)
    }

    /// Initializes logging: a service logs as configured, a command only as much as `-v` asks for.
    pub(super) fn init_logs(&self, context: &HostContext, config: &Config, is_service: bool) -> HostResult<()> {
        let mut settings = config.telemetry.clone();
        if !is_service {
            settings.log_level = match context.verbosity {
                0 => "error".to_owned(),
                1 => "info".to_owned(),
                _ => "debug".to_owned(),
            };
            if !context.json_logs && settings.log_format == LogFormat::Auto {
                settings.log_format = LogFormat::Text;
            }
        } else if context.verbosity > 0 {
            settings.log_level = "debug".to_owned();
        }
        match telemetry::init(&settings) {
            Ok(guard) => {
                if let Ok(mut held) = self.telemetry.lock() {
                    *held = Some(guard);
                }
                Ok(())
            }
            Err(telemetry::TelemetryError::Twice) => Ok(()),
            Err(e) => Err(HostError::config(e.to_string(), "fix telemetry.otlp_endpoint in the configuration")),
        }
    }

    /// Locks the data directory and connects everything; `scope` selects the runs that this process drives.
    async fn own(&self, context: &HostContext, scope: Scope) -> HostResult<(Started, Loaded)> {
        let loaded = self.loaded(context)?;
        let config = loaded.config.clone();
        let data_dir = &context.sources.data_dir;
        prepare(data_dir, &config)?;
        self.init_logs(context, &config, scope == Scope::All)?;
        for old in loaded.old_keys() {
            tracing::warn!("{old}; it still works, but rename it");
        }
        let Some(owned) = owner::take(data_dir)? else {
            return Err(HostError::new(
                HostErrorKind::Locked,
                format!("another process uses the data directory {}", data_dir.display()),
                "try again: the command will then talk to that process",
            ));
        };
        telemetry::metrics().observe_disk(data_dir);
        let left = platform::sandbox::sweep(GIT_GRACE).await;
        if left > 0 {
            tracing::warn!(left, "ended commands that an earlier process had left running");
        }
        let token = owner::token(data_dir, config.server.token_file.as_deref())?;
        register("token", &Secret::new(token.clone())).keep();
        if config.secrets.key_env.is_none() {
            owner::require_private_key(data_dir, config.secrets.key_file.as_deref())?;
        }
        let sandbox = sandbox::enter(&config, context, scope).await?;
        let ports = connect(&config, data_dir, scope, &sandbox).await?;
        if let Err(error) = ports.vault.check().await {
            // Runs that need no secret are not affected.
            tracing::error!("the vault cannot be used: {error}; {}", error.fix());
        }
        let level = sandbox.level().name();
        let watch = (scope == Scope::All).then(|| BackgroundTask(sandbox::watch(sandbox, data_dir.clone())));
        // This process holds the lock, so every earlier owner is dead: its leases need not expire first.
        let freed = ports.deps.store.release_all().await?;
        if freed > 0 {
            tracing::info!(freed, "resuming runs of an earlier process that was killed");
        }
        let (runtime, root) = start(&ports).await?;
        let installation = Installation::new(Arc::new(Program::default()), context.clone());
        let services = Services { installation: Some(Arc::new(installation)), ..services(&ports, runtime.clone()) };
        let background = match scope {
            Scope::All => vec![
                BackgroundTask(tokio::spawn(crate::service::intake::run(services.clone())).abort_handle()),
                BackgroundTask(tokio::spawn(crate::service::schedules::run(services.clone())).abort_handle()),
                BackgroundTask(tokio::spawn(crate::service::deployments::run(services.clone())).abort_handle()),
                BackgroundTask(tokio::spawn(crate::service::landings::run(services.clone())).abort_handle()),
                BackgroundTask(tokio::spawn(crate::service::messages::run(services.clone())).abort_handle()),
                BackgroundTask(tokio::spawn(gc::repeat(config.clone(), data_dir.clone())).abort_handle()),
            ],
            _ => Vec::new(),
        };
        let router = routes(services.clone(), &config, &token)?;
        let reloadable = ports.reloadable;
        let started = Started {
            router,
            token,
            runtime,
            services,
            reloadable,
            root: Some(root),
            owned: Some(owned),
            level,
            _sandbox_watch: watch,
            _background: background,
        };
        Ok((started, loaded))
    }

    /// Opens a server for this command that also answers other commands, on a port of its own.
    async fn open_server(&self, context: &HostContext, scope: Scope) -> HostResult<InProcessServer> {
        stop_signal::listen();
        let triggers = reload::Triggers::of_file(&context.sources);
        let (mut started, loaded) = self.own(context, scope).await?;
        let (sources, reloadable) = (context.sources.clone(), started.reloadable.clone());
        let follow =
            tokio::spawn(async move { reload::follow(triggers, sources, loaded, reloadable, RELOAD_INTERVAL).await });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.map_err(|e| {
            HostError::unavailable(format!("cannot open a loopback port: {e}"), "check this machine's network settings")
        })?;
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        // Without a sandbox only the demo may run: other commands must not find this server.
        let is_public = !(context.is_demo && started.level == "none");
        if let Some(owned) = started.owned.as_ref().filter(|_| is_public) {
            owned.publish_address(address, false)?;
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let router = started.router.clone();
        let server = tokio::spawn(http::serve(listener, router.clone(), async move {
            // A dropped sender ends it as well.
            let _stop = stopped.await;
        }));
        let runtime = started.runtime.clone();
        let token = started.token.clone();
        let close = Box::pin(async move {
            if scope == Scope::Asked {
                linger(&runtime).await;
            }
            follow.abort();
            runtime.stop().await;
            let _already_stopped = stop.send(());
            if let Err(error) = server.await {
                tracing::debug!(%error, "the server ended early");
            }
            drop(started.owned.take());
        });
        Ok(InProcessServer { router, token, close })
    }
}

/// Waits while this process drives runs of other commands, until they stop or a person interrupts.
async fn linger(runtime: &RuntimeHandle) {
    let mut logged = false;
    loop {
        let live = runtime.live().await.len();
        if live == 0 {
            return;
        }
        if !logged {
            logged = true;
            tracing::info!(live, "still driving runs that other commands asked for");
        }
        tokio::select! {
            () = stop_signal::requested(1) => return,
            () = tokio::time::sleep(LINGER_INTERVAL) => {}
        }
    }
}

/// Prepares the data directory for use. One whose restore has not finished cannot be used.
pub(super) fn prepare(data_dir: &Path, config: &Config) -> HostResult<()> {
    prepare_folder(data_dir, config)?;
    restore::require_finished(data_dir)
}

/// Creates the data directory if it does not exist, and checks that files can be kept there.
pub(super) fn prepare_folder(data_dir: &Path, config: &Config) -> HostResult<()> {
    private_by_default();
    prepare_data_dir(data_dir).map_err(|p| config::Problems(vec![p]))?;
    if config.store.database.is_sqlite()
        && let Some(kind) = network_file_system(data_dir)
    {
        return Err(HostError::config(
            format!("the data directory {} is on {kind}, where SQLite cannot rely on file locks", data_dir.display()),
            "use a data directory on a local disk, or Postgres (store.url)",
        ));
    }
    Ok(())
}

#[async_trait]
impl Backend for Program {
    async fn running_service(&self, context: &HostContext) -> HostResult<Option<RunningService>> {
        if let Some(NamedServer { url, token }) = &context.server {
            register("token", &Secret::new(token.clone())).keep();
            let (base_url, token) = (url.clone(), token.clone());
            return Ok(Some(RunningService { base_url, token, is_service: true, pid: 0 }));
        }
        let data_dir = &context.sources.data_dir;
        if !owner::taken(data_dir) {
            return Ok(None);
        }
        telemetry::install_crypto();
        let http = reqwest::Client::builder().no_proxy().build().map_err(anyhow::Error::from)?;
        let Some(endpoint) = owner::running_owner(data_dir, &http).await? else { return Ok(None) };
        let token_file = self.config(context).ok().and_then(|c| c.server.token_file);
        let token = owner::token(data_dir, token_file.as_deref())?;
        register("token", &Secret::new(token.clone())).keep();
        Ok(Some(RunningService {
            base_url: format!("http://{}", endpoint.address),
            token,
            is_service: endpoint.is_service,
            pid: endpoint.pid,
        }))
    }

    async fn open_driving(&self, context: &HostContext) -> HostResult<InProcessServer> {
        self.open_server(context, Scope::Asked).await
    }

    async fn open_writing(&self, context: &HostContext) -> HostResult<InProcessServer> {
        self.open_server(context, Scope::Nothing).await
    }

    async fn open_reading(&self, context: &HostContext) -> HostResult<InProcessServer> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        let ports: Ports = connect(&config, &context.sources.data_dir, Scope::Nothing, &Sandbox::disabled()).await?;
        // Only this process can call the routes: the token never leaves it.
        let token = uuid::Uuid::now_v7().simple().to_string();
        let router = routes(services(&ports, RuntimeHandle::closed()), &config, &token)?;
        Ok(InProcessServer { router, token, close: Box::pin(async {}) })
    }

    async fn serve(
        &self,
        context: &HostContext,
        listen: Option<&str>,
        on_ready: &(dyn Fn(ServiceReady) + Send + Sync),
    ) -> HostResult<()> {
        let began = std::time::Instant::now();
        stop_signal::listen();
        let triggers = reload::Triggers::of(&context.sources).map_err(anyhow::Error::from)?;
        let requested = match listen {
            None => self.config(context)?.server.listen,
            Some(text) => text.parse().map_err(|_| {
                HostError::usage(format!("invalid address for --listen: {text:?}"), "write it as 127.0.0.1:7377")
            })?,
        };
        if let Some(service) = self.running_service(context).await? {
            return Err(HostError::unavailable(
                format!("a service already uses {}, at {}", context.sources.data_dir.display(), service.base_url),
                "stop that service first, or choose another --data-dir",
            ));
        }
        let (mut started, loaded) = tokio::select! {
            started = self.own(context, Scope::All) => started?,
            // Nothing is served yet, and a kill at this point loses nothing either.
            () = stop_signal::requested(1) => return Ok(()),
        };
        let config = loaded.config.clone();
        if !requested.ip().is_loopback() && config.server.trusted_proxy.is_none() {
            return Err(HostError::config(
                format!("{requested} is reachable from other machines without encryption"),
                "listen on 127.0.0.1, or name the proxy that terminates TLS in server.trusted_proxy",
            ));
        }
        let listener = TcpListener::bind(requested).await.map_err(|e| {
            HostError::config(format!("cannot listen on {requested}: {e}"), "choose another address with --listen")
        })?;
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        let _metrics = metrics::start(&started.services, &config).await?;
        if let Some(owned) = &started.owned {
            owned.publish_address(address, true)?;
        }
        let login = match sessions::new_link(&started.services, &super::operator(), None).await {
            Ok(link) => Some(LoginLink::new(link).path),
            Err(error) => {
                tracing::warn!(%error, "cannot create a login link for the pages");
                None
            }
        };
        let ready = doctor::ready(context, &config, address, began.elapsed(), started.level);
        on_ready(ServiceReady { login, ..ready });
        let Some(mut root) = started.root.take() else { return Ok(()) };
        let every = config.runs.sweep_interval;
        let follow = reload::follow(triggers, context.sources.clone(), loaded, started.reloadable.clone(), every);
        let mut error = None;
        let owned = started.owned.take();
        let lost = async {
            match &owned {
                Some(owned) => owned.lost().await,
                None => std::future::pending().await,
            }
        };
        let stop = async {
            error = tokio::select! {
                () = stop_signal::requested(1) => None,
                never = follow => match never {},
                _ended = &mut root => {
                    Some(HostError::internal("the runtime ended unexpectedly; nothing is lost, start Skep again"))
                }
                () = lost => Some(directory_lost(&context.sources.data_dir)),
            }
        };
        http::serve(listener, started.router.clone(), stop).await.map_err(anyhow::Error::from)?;
        started.runtime.stop().await;
        drop(owned);
        error.map_or(Ok(()), Err)
    }
}

fn directory_lost(data_dir: &Path) -> HostError {
    HostError::config(
        format!("the data directory {} was removed or replaced while Skep was using it", data_dir.display()),
        "restore it from a backup, or make sure that it stays mounted; then start Skep again",
    )
}
