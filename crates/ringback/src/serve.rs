//! `ringback serve`: wires store, engine, SIP and HTTP together, and takes them down again.

pub(crate) mod admin_token;
mod cluster;
mod huge_pages;
mod process;
mod program;
mod ready;
mod snapshot;
mod sources;
mod systemd;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use ringback_admin::{Api, MetricsSource, ReloadRequest};
use ringback_api::Reloaded;
use ringback_cluster::JoinError;
use ringback_engine::{Engine, EngineSettings, JournalError, OpenError, SystemClock, hash_secret};
use ringback_sip_server::{BindError, SipListeners, SipServer};
use ringback_store::{OpenStoreError, RestoreError, Store, StoreSettings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::cluster::ClusterReport;
use self::process::Process;
use self::program::EngineProgram;
use self::ready::Ready;
use self::snapshot::Snapshots;
use self::sources::{Reloads, Sources};
use self::systemd::ServiceManager;
use crate::config::{Config, ConfigError, SettingsArgs};
use crate::exit::Failure;
use crate::logging::{self, Log};
use crate::otel::{self, Exporter};

/// `ringback serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The settings.
    #[command(flatten)]
    settings: SettingsArgs,
    /// Stop when standard input ends: the parent process is gone.
    #[arg(long, hide = true)]
    until_input_ends: bool,
    /// Drop the data of this server for those of the cluster that it joins
    #[arg(long)]
    discard_local: bool,
}

/// Why the server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServeError {
    /// The store cannot be opened; the message names the place.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The stored state cannot be read; the message names the place.
    #[error("the data in {path} cannot be used")]
    State {
        /// The data directory.
        path: PathBuf,
        /// The store's error.
        #[source]
        source: OpenError,
    },
    /// The administrator token can neither be read nor made.
    #[error("the administrator token in {path} cannot be used")]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The administrator token in the file could be guessed: write a longer one, or remove the file
    /// so that one is made.
    #[error("{path}: {problem}")]
    WeakToken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An address cannot be listened on; the message names it. Choose another.
    #[error(transparent)]
    Listen(io::Error),
    /// The same, for SIP and HEP.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The cluster cannot be taken part in; the message says why.
    #[error(transparent)]
    Cluster(#[from] JoinError),
    /// The state of another node, which this one needs, could not be fetched.
    #[error("no snapshot could be fetched from another node")]
    Snapshot(#[source] io::Error),
    /// The state of another node could not take the place of what there was; the next start tries again.
    #[error("the snapshot of another node could not be taken in")]
    TakeIn(#[from] RestoreError),
    /// The name of the node can neither be read nor made.
    #[error("the name of the node in {path} cannot be used")]
    NodeName {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Other nodes could not find this one.
    #[error("cluster.advertise: say by which address other nodes reach the HTTP API of this one")]
    Advertise,
    /// The operating system refuses what every process needs.
    #[error("the process cannot be set up")]
    Process(#[source] io::Error),
}

impl ServeError {
    /// The store of this configuration cannot be read.
    fn data(config: &Config, error: JournalError) -> Self {
        Self::State {
            path: config.data_dir.clone(),
            source: OpenError::Journal(error),
        }
    }

    /// Whether another configuration, or another version of the program, would have helped.
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Listen(_)
                | Self::Bind(_)
                | Self::WeakToken { .. }
                | Self::Cluster(_)
                | Self::Snapshot(_)
                | Self::Advertise
                | Self::Store(OpenStoreError::NewerFormat { .. })
        )
    }
}

/// Serves until it is told to stop.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    huge_pages::ask_for();
    let mut config = args.settings.load()?;
    let exporter = config.otel_endpoint.as_deref().map(Exporter::start);
    let exporter = exporter.transpose().map_err(ServeError::Process)?;
    let log = logging::start(&config.log, exporter.clone());
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let files = raise_file_limit();
    bound_connections(&mut config, files);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Process)?;
    let result = runtime.block_on(serve(args, config, files, &log, exporter.as_ref()));
    if let Some(exporter) = exporter {
        exporter.flush();
    }
    // What still runs belongs to nobody; everything acknowledged is durable.
    runtime.shutdown_background();
    match result? {
        End::Stopped => Ok(()),
        End::StartAgain => Err(ServeError::Process(process::start_again()).into()),
    }
}

/// How serving has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was told to stop.
    Stopped,
    /// This node is to go on at another place of the log: the process starts again.
    StartAgain,
}

/// Allows as many open files, and so connections, as the system grants without asking; gives how many
/// that are, if there is a limit.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// Leaves half of the files that may be open to HTTP and the store, however many SIP and HEP connections
/// are configured: who opens connections to one must not lock the others out.
fn bound_connections(config: &mut Config, files: Option<u64>) {
    let Some(files) = files else {
        return;
    };
    let most = usize::try_from(files / 2).unwrap_or(usize::MAX);
    if !config.sip.limit_connections(most) {
        tracing::warn!(
            open_files = files,
            connections = most,
            "fewer SIP connections than sip.max-connections, for the limit of open files is low"
        );
    }
}

/// Starts everything, says so, and takes it down when told to.
async fn serve(
    args: &ServeArgs,
    config: Config,
    files: Option<u64>,
    log: &Log,
    exporter: Option<&Exporter>,
) -> Result<End, ServeError> {
    let mut signals = Signals::listen(args.until_input_ends).map_err(ServeError::Process)?;
    // All that can fail because of the configuration comes first, so that a start that fails
    // leaves nothing behind; the token comes last.
    let listeners = ringback_admin::bind(&config.http)
        .await
        .map_err(ServeError::Listen)?;
    let sip_listeners = SipListeners::bind(&config.sip)?;
    if let Some(cluster) = &config.cluster {
        snapshot::take_in(&config.data_dir, &cluster.secret)?;
    }
    let mut store = Store::open(&config.data_dir, StoreSettings::default())?;
    let unusable = |source| ServeError::State {
        path: config.data_dir.clone(),
        source,
    };
    let mut kept = EngineSettings::default();
    kept.audit_days = config.audit_days;
    let mut restarting = None;
    let (engine, secret, cluster) = match &config.cluster {
        None => {
            cluster::leave(&mut store).map_err(|error| ServeError::data(&config, error))?;
            let secret = store.node_secret();
            let engine = Engine::open_with(store, SystemClock, kept).map_err(unusable)?;
            (engine, secret, None)
        }
        Some(settings) => {
            let first = listeners.http.first();
            let address = first.and_then(|listener| listener.local_addr().ok());
            let joining = cluster::join(&config, settings, address, store, args.discard_local);
            let (journal, handle, recovered) = tokio::select! {
                joined = joining => joined?,
                () = signals.stop() => return Ok(End::Stopped),
            };
            let engine = Engine::open_with(journal, SystemClock, kept).map_err(unusable)?;
            let (secret, data_dir) = (settings.secret, config.data_dir.clone());
            let snapshots = Snapshots::new(&data_dir, engine.clone(), secret);
            let told = handle.clone();
            restarting = Some(tokio::spawn(async move {
                tokio::select! {
                    () = cluster::fetch_when_needed(told, secret, data_dir) => {}
                    () = cluster::made_anew(recovered) => {}
                }
            }));
            let report = Arc::new(ClusterReport::new(handle, snapshots, engine.clone()));
            (engine, cluster::shared_secret(settings), Some(report))
        }
    };
    engine.keep_decisions(config.kept_decisions);
    let administrator = match &config.admin_token {
        Some(token) => token.clone(),
        None => admin_token::find_or_make(&config.data_dir, &config.http.token_prefix)?,
    };

    let (program, recorder) = EngineProgram::new(engine.clone(), log.full_phone_numbers());
    let learning = program.counters();
    let sip = SipServer::new(config.sip.clone(), sip_listeners, secret, program);
    let ready = listening(&sip, &listeners)?;
    let sources = Arc::new(Sources {
        sip: sip.clone(),
        learning,
        reloads: Reloads::default(),
        process: Process::starting(),
        data_dir: config.data_dir.clone(),
        http_certificate: Mutex::new(config.http_certificate_expires_at),
    });
    let mut metrics: Vec<Arc<dyn MetricsSource>> = vec![Arc::<Sources>::clone(&sources)];
    metrics.extend(
        cluster
            .iter()
            .map(|report| -> Arc<dyn MetricsSource> { Arc::<ClusterReport>::clone(report) }),
    );
    metrics
        .extend(exporter.map(|exporter| -> Arc<dyn MetricsSource> { Arc::new(exporter.clone()) }));
    let api = Api::new(
        engine.clone(),
        hash_secret(&administrator),
        &config.http,
        metrics,
        vec![Arc::<Sources>::clone(&sources)],
    );
    if let Some(certificates) = &config.http_certificates {
        api.use_certificates(Arc::clone(certificates));
    }
    if let Some(report) = cluster {
        api.ask_cluster(report);
    }
    if let Some(cluster) = &config.cluster {
        api.note_log_kept_for(cluster.retain);
    }
    if let Some(exporter) = exporter {
        api.tell_requests_to(Arc::new(exporter.clone()));
        tokio::spawn(otel::follow(engine.clone(), exporter.clone()));
    }
    api.ask_targets(Arc::<Sources>::clone(&sources));

    let (reload_requests, mut reloads) = mpsc::channel(1);
    api.send_reloads_to(reload_requests);
    let (stop_recording, told) = oneshot::channel::<()>();
    let recording = tokio::spawn(recorder.run(async move {
        let _told_or_gone = told.await;
    }));
    let mut sip_running = tokio::spawn({
        let sip = sip.clone();
        async move { sip.run().await }
    });
    let (drain, mut draining) = watch::channel(false);
    let http_running = tokio::spawn({
        let (api, config) = (api.clone(), config.http.clone());
        async move {
            let told = async move {
                // Either told, or nobody is left to tell.
                let _gone = draining.wait_for(|draining| *draining).await;
            };
            ringback_admin::serve(listeners, api, &config, told).await;
        }
    });
    ready.announce().map_err(ServeError::Process)?;
    let mut systemd = ServiceManager::of_environment();
    systemd.ready();
    tracing::info!(data_dir = %config.data_dir.display(), listening = %ready, "ready");

    let end = loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = ended(&mut restarting) => Told::StartAgain,
            Some(request) = reloads.recv() => Told::Reload(Some(request)),
            () = systemd.time_to_say_so() => Told::Alive,
            ended = &mut sip_running => {
                let ended = ended.unwrap_or_else(|panic| Err(io::Error::other(panic)));
                return Err(ServeError::Process(
                    ended.err().unwrap_or_else(|| io::Error::other("SIP has ended")),
                ));
            }
        };
        match told {
            Told::Reload(request) => {
                systemd.reloading();
                let result = reload(args, &config).map(|mut reloaded| {
                    bound_connections(&mut reloaded.config, files);
                    log.reload(&reloaded.config.log);
                    engine.keep_decisions(reloaded.config.kept_decisions);
                    sip.reload(reloaded.config.sip);
                    if let Some(certificates) = reloaded.config.http_certificates {
                        api.use_certificates(certificates);
                        *sources.http_certificate.lock() =
                            reloaded.config.http_certificate_expires_at;
                    }
                    Reloaded {
                        restart_needed: reloaded.restart_needed,
                    }
                });
                match &result {
                    Ok(_) => {
                        sources.reloads.succeeded(engine.now());
                        tracing::info!("configuration reloaded");
                    }
                    Err(faults) => {
                        sources.reloads.failed(engine.now(), faults.join("; "));
                        for error in faults {
                            tracing::error!(error, "configuration refused, the old one stays");
                        }
                    }
                }
                systemd.ready();
                if let Some(request) = request {
                    request.answer(result);
                }
            }
            Told::Alive => systemd.alive(),
            Told::Stop(why) => {
                tracing::info!(why, "draining");
                break End::Stopped;
            }
            Told::StartAgain => {
                tracing::warn!("starting again, at another place of the log");
                break End::StartAgain;
            }
        }
    };
    systemd.stopping();
    sip.drain();
    drain.send_replace(true);
    let down = async {
        // Time for proxies to see 503 to their OPTIONS; who tells twice is in a hurry.
        tokio::select! {
            () = drained(&sip) => {}
            () = signals.stop() => {}
        }
        let _panicked = http_running.await;
        sip.stop();
        let _panicked = sip_running.await;
        drop(stop_recording);
        let _panicked = recording.await;
        let _panicked = tokio::task::spawn_blocking(move || engine.shut_down()).await;
    };
    if tokio::time::timeout(DRAIN_LIMIT, down).await.is_err() {
        tracing::warn!("not everything ended in time; what was acknowledged is durable");
    }
    tracing::info!("stopped");
    Ok(end)
}

/// Waits until a task has ended; for ever if there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            let _panicked = task.await;
        }
        None => std::future::pending().await,
    }
}

/// Waits until proxies have seen that the server drains, and forwarded calls have ended.
async fn drained(sip: &SipServer<EngineProgram>) {
    tokio::time::sleep(DRAIN_WINDOW).await;
    let ended = async {
        while sip.ringing() > 0 {
            tokio::time::sleep(RINGING_CHECK).await;
        }
    };
    let _still_ringing = tokio::time::timeout(RINGING_LIMIT, ended).await;
}

/// Says what listens.
fn listening(
    sip: &SipServer<EngineProgram>,
    http: &ringback_admin::Listeners,
) -> Result<Ready, ServeError> {
    let mut ready = Ready::default();
    let bound = sip.addresses();
    for (kind, addresses) in [
        ("sip_udp", &bound.udp),
        ("sip_tcp", &bound.tcp),
        ("sip_tls", &bound.tls),
    ] {
        for address in addresses {
            ready.add(kind, *address);
        }
    }
    for (kind, listeners) in [
        ("http", &http.http),
        ("https", &http.https),
        ("health", &http.health),
    ] {
        for listener in listeners {
            ready.add(kind, listener.local_addr().map_err(ServeError::Listen)?);
        }
    }
    for address in &bound.hep {
        ready.add("hep", *address);
    }
    Ok(ready)
}

/// A configuration that has been read again.
struct NewConfig {
    /// The configuration.
    config: Config,
    /// What has changed in it but takes effect only at the next start.
    restart_needed: Vec<String>,
}

/// Reads the configuration again; the error lists why it cannot be used.
fn reload(args: &ServeArgs, running: &Config) -> Result<NewConfig, Vec<String>> {
    let config = args.settings.load().map_err(|error| match &error {
        ConfigError::Faults(faults) => faults.iter().map(ToString::to_string).collect(),
        ConfigError::File { .. } => vec![crate::exit::chain(&error)],
    })?;
    if config.cluster != running.cluster {
        return Err(vec![
            "[cluster] has changed: that needs a restart".to_owned(),
        ]);
    }
    let changed = [
        (
            "listeners of [sip]",
            config.sip_listeners != running.sip_listeners,
        ),
        ("[http]", config.http != running.http),
        ("[audit]", config.audit_days != running.audit_days),
        ("[otel]", config.otel_endpoint != running.otel_endpoint),
        ("data-dir", config.data_dir != running.data_dir),
    ];
    let restart_needed: Vec<String> = changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(what, _)| what.to_owned())
        .collect();
    if !restart_needed.is_empty() {
        tracing::warn!(changed = ?restart_needed, "these take effect at the next start");
    }
    Ok(NewConfig {
        config,
        restart_needed,
    })
}

/// What the server is told.
enum Told {
    /// Read the configuration again, and answer whoever asked over HTTP.
    Reload(Option<ReloadRequest>),
    /// Say to the service manager that all is well.
    Alive,
    /// Stop; why.
    Stop(&'static str),
    /// Start again, at another place of the log.
    StartAgain,
}

/// Everything by which the server is told something.
struct Signals {
    /// SIGHUP.
    hangup: Signal,
    /// SIGINT.
    interrupt: Signal,
    /// SIGTERM.
    terminate: Signal,
    /// Whether standard input has ended, where that counts.
    input_ended: watch::Receiver<bool>,
    /// Kept, so that there is always somebody who could say so.
    _end: watch::Sender<bool>,
}

impl Signals {
    /// Listens from now on.
    fn listen(until_input_ends: bool) -> io::Result<Self> {
        let (end, input_ended) = watch::channel(false);
        if until_input_ends {
            let end = end.clone();
            std::thread::Builder::new()
                .name("input".to_owned())
                .spawn(move || {
                    let _unreadable = io::copy(&mut io::stdin(), &mut io::sink());
                    end.send_replace(true);
                })?;
        }
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            input_ended,
            _end: end,
        })
    }

    /// Waits until told to stop.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop(_)) {}
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            // What was sent first is seen first: a reload before the end.
            biased;
            _ = self.hangup.recv() => Told::Reload(None),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.input_ended.wait_for(|ended| *ended) => Told::Stop("end of input"),
        }
    }
}

/// How long calls are still served while OPTIONS is answered with 503.
const DRAIN_WINDOW: Duration = Duration::from_secs(1);

/// How long forwarded calls may go on ringing after that; then they are answered with 503.
const RINGING_LIMIT: Duration = Duration::from_secs(6);

/// How often is looked whether one still rings.
const RINGING_CHECK: Duration = Duration::from_millis(100);

/// How long going down may take; with what comes before and after it stays below ten seconds.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback serve
  ringback serve --config /etc/ringback.toml --data-dir /var/lib/ringback
  ringback serve --sip-udp 127.0.0.1:0 --http 127.0.0.1:0     # free ports, see the ready line

Once ready, one JSON line on standard output names what listens:
  {\"event\":\"ready\",\"sip_udp\":\"127.0.0.1:5060\",\"sip_tcp\":\"127.0.0.1:5060\",\"http\":\"127.0.0.1:8080\"}
of several addresses of a kind the first; `http_all` and so on list them. Logs go to standard error.

The administrator token is RINGBACK_ADMIN_TOKEN (at least 32 characters), or is made at first start \
into DIR/admin.token.
SIGTERM and SIGINT drain and end with 0 within 10 seconds; SIGHUP reloads certificates and \
configuration, but for listeners, [http], [audit] and data-dir; a bad one is refused and the old one stays. \
`ringback reload` does the same and says whether it worked. Under systemd, Type=notify-reload and \
WatchdogSec= work.";
