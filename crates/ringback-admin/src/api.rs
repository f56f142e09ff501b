//! What all requests share: the engine, the tokens, the counters.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use ringback_engine::{Command, Committed, Engine};
use ringback_routing::{Directory, DirectoryEnvironment, NumberRulesRef, TokenHash};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::auth::{Administrator, Asked, Tenant};
use crate::cluster::ClusterSource;
use crate::config::HttpConfig;
use crate::error::{ApiError, FieldErrors};
use crate::failures::Failures;
use crate::handler::reload::ReloadRequest;
use crate::limit::RateLimiter;
use crate::metrics::{Metrics, MetricsSource};
use crate::observer::RequestObserver;
use crate::open_requests::OpenRequests;
use crate::platforms::Platforms;
use crate::reply::Answer;
use crate::sequence;
use crate::sessions::Sessions;
use crate::status::{RefusedOverHttp, StatusSource};
use crate::targets::TargetSource;

/// Makes the answer of the result of a command. In the writer's thread, if the answer is kept: it only puts words to
/// what the command returns.
pub(crate) trait ToAnswer<T>:
    Fn(&T) -> Result<Answer, ApiError> + Clone + Send + 'static
{
}

impl<T, F: Fn(&T) -> Result<Answer, ApiError> + Clone + Send + 'static> ToAnswer<T> for F {}

/// The HTTP API's state; clones share it.
#[derive(Clone)]
pub struct Api {
    /// What the clones share.
    shared: Arc<Shared>,
}

/// What the clones of [`Api`] share.
struct Shared {
    /// Decides, and takes commands.
    engine: Engine,
    /// The hash of the administrator token.
    administrator: TokenHash,
    /// What tokens start with.
    token_prefix: String,
    /// How often each token may ask.
    limiter: Option<RateLimiter>,
    /// What each token has open.
    open_requests: Arc<OpenRequests>,
    /// The sessions of the console.
    sessions: Sessions,
    /// Failed tries with tokens.
    failures: Failures,
    /// Whether there is a console.
    has_console: bool,
    /// Proxies whose word counts.
    trusted_proxies: Vec<IpNet>,
    /// What is counted here.
    metrics: Metrics,
    /// What is counted elsewhere.
    sources: Vec<Arc<dyn MetricsSource>>,
    /// Other parts of the program that tell how they are.
    status_sources: Vec<Arc<dyn StatusSource>>,
    /// Calls that `POST /route` refused.
    refused_over_http: RefusedOverHttp,
    /// Where a reload of the configuration is asked for; unset: nobody can.
    reloads: OnceLock<mpsc::Sender<ReloadRequest>>,
    /// The cluster; unset: there is none.
    cluster: OnceLock<Arc<dyn ClusterSource>>,
    /// What is found out of targets; unset: nothing.
    targets: OnceLock<Arc<dyn TargetSource>>,
    /// Who is told of each answered request; unset: nobody.
    request_observer: OnceLock<Arc<dyn RequestObserver>>,
    /// What TLS listeners show; none: there are none.
    certificates: ArcSwapOption<rustls::ServerConfig>,
    /// Cancelled when the server begins to go down.
    draining: CancellationToken,
    /// Questions of platforms: what was answered, what is counted.
    platforms: Platforms,
    /// The address by which platforms reach this server, if it was configured.
    public_url: Option<String>,
    /// The same by the first listener.
    listening_url: OnceLock<String>,
    /// For how long the log of a cluster keeps entries, in milliseconds; unset: there is none.
    log_kept_for: OnceLock<i64>,
    /// When this state was made, in milliseconds: tells its event ids from those of other runs.
    epoch: i64,
}

impl Api {
    /// An API on this engine. `administrator` is the hash of the administrator token
    /// (see [`ringback_engine::hash_secret`]); `sources` add to `/metrics`, `status_sources` to
    /// `/status` and `/refused-calls`.
    #[must_use]
    pub fn new(
        engine: Engine,
        administrator: TokenHash,
        config: &HttpConfig,
        sources: Vec<Arc<dyn MetricsSource>>,
        status_sources: Vec<Arc<dyn StatusSource>>,
    ) -> Self {
        let epoch = engine.now().millis();
        Self {
            shared: Arc::new(Shared {
                sessions: Sessions::new(engine.clone()),
                engine,
                administrator,
                token_prefix: config.token_prefix.clone(),
                limiter: config.rate_limit.map(RateLimiter::per_minute),
                open_requests: OpenRequests::new(config.max_requests_per_token),
                failures: Failures::default(),
                has_console: config.console,
                trusted_proxies: config.trusted_proxies.clone(),
                metrics: Metrics::default(),
                sources,
                status_sources,
                refused_over_http: RefusedOverHttp::default(),
                reloads: OnceLock::new(),
                cluster: OnceLock::new(),
                targets: OnceLock::new(),
                request_observer: OnceLock::new(),
                certificates: ArcSwapOption::empty(),
                draining: CancellationToken::new(),
                platforms: Platforms::default(),
                public_url: config.public_url.clone(),
                listening_url: OnceLock::new(),
                log_kept_for: OnceLock::new(),
                epoch,
            }),
        }
    }

    /// Decides, and takes commands.
    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Has the engine carry out a tenant's command, unless the token has ended meanwhile. Returns its result and the
    /// answer to it.
    ///
    /// # Errors
    /// The command is against the rules, or storage takes no writes.
    pub(crate) async fn submit<C: Command>(
        &self,
        tenant: Tenant,
        command: C,
        answer: impl ToAnswer<C::Output>,
    ) -> Result<(C::Output, Response), ApiError> {
        let errors = FieldErrors::default();
        self.carry_out(tenant.asked, tenant.command(command), errors, answer)
            .await
    }

    /// The same for a command whose changes are audited; returns the answer.
    ///
    /// # Errors
    /// The command is against the rules, or storage takes no writes.
    pub(crate) async fn change<C: Command>(
        &self,
        tenant: Tenant,
        command: C,
        answer: impl ToAnswer<C::Output>,
    ) -> Result<Response, ApiError> {
        self.change_read(tenant, command, FieldErrors::default(), answer)
            .await
    }

    /// The same for a command whose fields were read with these errors.
    ///
    /// # Errors
    /// The command is against the rules, fields could not be read, or storage takes no writes.
    pub(crate) async fn change_read<C: Command>(
        &self,
        tenant: Tenant,
        command: C,
        errors: FieldErrors,
        answer: impl ToAnswer<C::Output>,
    ) -> Result<Response, ApiError> {
        let (_, response) = self
            .carry_out(tenant.asked, tenant.audited(command), errors, answer)
            .await?;
        Ok(response)
    }

    /// Has the engine carry out a command of the administrator, whose fields were read with these errors. Its changes
    /// are audited.
    ///
    /// # Errors
    /// The command is against the rules, fields could not be read, or storage takes no writes.
    pub(crate) async fn administer<C: Command>(
        &self,
        administrator: Administrator,
        command: C,
        errors: FieldErrors,
        answer: impl ToAnswer<C::Output>,
    ) -> Result<Response, ApiError> {
        let command = administrator.audited(command);
        let (_, response) = self
            .carry_out(administrator.asked, command, errors, answer)
            .await?;
        Ok(response)
    }

    /// Has the engine carry out a command, of a request that may be repeated once. Returns its result and the answer to
    /// it, which tells up to where the log has the change.
    ///
    /// # Errors
    /// The command is against the rules, fields could not be read, or storage takes no writes.
    pub(crate) async fn carry_out<C: Command>(
        &self,
        asked: Asked,
        command: C,
        errors: FieldErrors,
        answer: impl ToAnswer<C::Output>,
    ) -> Result<(C::Output, Response), ApiError> {
        let committed = match asked.key {
            None => self.engine().submit_at(command).await,
            Some(key) => {
                let keyed = key.keyed(command, answer.clone());
                self.engine().submit_at(keyed).await
            }
        };
        let Committed { output, sequence } = errors.join(committed)?;
        let mut response = answer(&output)?.into_response();
        sequence::show(sequence, response.headers_mut());
        Ok((output, response))
    }

    /// Questions of platforms.
    pub(crate) fn platforms(&self) -> &Platforms {
        &self.shared.platforms
    }

    /// Tells by which address the first listener is reached; only the first call counts.
    pub(crate) fn note_listening(&self, address: SocketAddr) {
        let url = format!("http://{address}");
        let _only_the_first = self.shared.listening_url.set(url);
    }

    /// The address by which platforms reach this server, without a slash at the end.
    pub(crate) fn public_url(&self) -> &str {
        let listening = || self.shared.listening_url.get().map(String::as_str);
        let configured = self.shared.public_url.as_deref();
        configured.or_else(listening).unwrap_or("http://localhost")
    }

    /// Whether that address was configured.
    pub(crate) fn has_public_url(&self) -> bool {
        self.shared.public_url.is_some()
    }

    /// The hash of the administrator token.
    pub(crate) fn administrator(&self) -> &TokenHash {
        &self.shared.administrator
    }

    /// What tokens start with.
    pub(crate) fn token_prefix(&self) -> &str {
        &self.shared.token_prefix
    }

    /// How often each token may ask; `None`: as often as it likes.
    pub(crate) fn limiter(&self) -> Option<&RateLimiter> {
        self.shared.limiter.as_ref()
    }

    /// What each token has open.
    pub(crate) fn open_requests(&self) -> &Arc<OpenRequests> {
        &self.shared.open_requests
    }

    /// The sessions of the console.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Failed tries with tokens.
    pub(crate) fn failures(&self) -> &Failures {
        &self.shared.failures
    }

    /// Whether there is a console.
    pub(crate) fn has_console(&self) -> bool {
        self.shared.has_console
    }

    /// Proxies whose word on clients counts.
    pub(crate) fn trusted_proxies(&self) -> &[IpNet] {
        &self.shared.trusted_proxies
    }

    /// What is counted here.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What is counted elsewhere.
    pub(crate) fn sources(&self) -> &[Arc<dyn MetricsSource>] {
        &self.shared.sources
    }

    /// Has `POST /reload` ask here; only the first receiver counts.
    pub fn send_reloads_to(&self, requests: mpsc::Sender<ReloadRequest>) {
        let _only_the_first = self.shared.reloads.set(requests);
    }

    /// Where a reload of the configuration is asked for.
    pub(crate) fn reloads(&self) -> Option<&mpsc::Sender<ReloadRequest>> {
        self.shared.reloads.get()
    }

    /// Has each answered request told here; only the first observer counts.
    pub fn tell_requests_to(&self, observer: Arc<dyn RequestObserver>) {
        let _only_the_first = self.shared.request_observer.set(observer);
    }

    /// Who is told of each answered request.
    pub(crate) fn request_observer(&self) -> Option<&dyn RequestObserver> {
        self.shared.request_observer.get().map(AsRef::as_ref)
    }

    /// Has connections over TLS from now on show these certificates.
    pub fn use_certificates(&self, certificates: Arc<rustls::ServerConfig>) {
        self.shared.certificates.store(Some(certificates));
    }

    /// What connections over TLS show.
    pub(crate) fn certificates(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.shared.certificates.load_full()
    }

    /// Has `GET /cluster` and `/readyz` ask here; only the first source counts.
    pub fn ask_cluster(&self, source: Arc<dyn ClusterSource>) {
        let _only_the_first = self.shared.cluster.set(source);
    }

    /// The cluster, if there is one.
    pub(crate) fn cluster(&self) -> Option<&dyn ClusterSource> {
        self.shared.cluster.get().map(AsRef::as_ref)
    }

    /// Tells for how long the log of the cluster keeps entries: what was erased is in them until then. Only the first
    /// call counts.
    pub fn note_log_kept_for(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let _only_the_first = self.shared.log_kept_for.set(millis);
    }

    /// For how long something that was erased may still be in files, at most, in milliseconds. The data directory is
    /// free of it within a day; the log of a cluster once it is trimmed, for which a day more is allowed.
    pub(crate) fn erased_stays_for(&self) -> i64 {
        let log = self.shared.log_kept_for.get();
        DAY_MILLIS.saturating_add(log.copied().unwrap_or_default())
    }

    /// Has `GET /targets` ask here; only the first source counts.
    pub fn ask_targets(&self, source: Arc<dyn TargetSource>) {
        let _only_the_first = self.shared.targets.set(source);
    }

    /// What is found out of targets.
    pub(crate) fn targets(&self) -> Option<&dyn TargetSource> {
        self.shared.targets.get().map(AsRef::as_ref)
    }

    /// Other parts of the program that tell how they are.
    pub(crate) fn status_sources(&self) -> &[Arc<dyn StatusSource>] {
        &self.shared.status_sources
    }

    /// Calls that `POST /route` refused.
    pub(crate) fn refused_over_http(&self) -> &RefusedOverHttp {
        &self.shared.refused_over_http
    }

    /// Cancelled when the server begins to go down.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Tells the event ids of this run from those of others.
    pub(crate) fn epoch(&self) -> i64 {
        self.shared.epoch
    }

    /// The rules by which the tenant's numbers are read.
    pub(crate) fn number_rules(&self, tenant: Tenant) -> Result<NumberRulesRef<'static>, ApiError> {
        let directory = self.engine().directory();
        Ok(home(&directory, tenant)?.record.number_rules())
    }
}

/// The tenant's environment; one that is gone has no tokens either.
pub(crate) fn home(
    directory: &Directory,
    tenant: Tenant,
) -> Result<&DirectoryEnvironment, ApiError> {
    directory
        .environment_by_id(tenant.environment)
        .ok_or(ApiError::Unauthenticated)
}

/// A day in milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
