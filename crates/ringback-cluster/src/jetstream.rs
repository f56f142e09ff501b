//! The log on a JetStream stream: the connection, the stream, and the task that runs the replica.

mod driver;
mod durability;
mod notice;
mod presence;
mod recovery;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

pub use recovery::{ForgetError, Recovery, RecoveryError};
pub use status::{ClusterStatus, Condition, NodeStatus, StreamStatus};

use crate::link::Link;
use crate::replica::{Answer, Applied, Input, RESERVE, Replica, Settings};
use crate::{AppendId, Chain, Place};
use driver::{Ask, Driver, Event, Queue, Subjects};
use durability::{Durability, MOST_PAYLOAD};
use notice::Notice;
use recovery::MadeAnew;

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The addresses of NATS servers: `nats://` or `tls://`.
    pub servers: Vec<String>,
    /// The name of the cluster.
    pub name: String,
    /// The name of this node.
    pub node: String,
    /// Where other nodes reach this node's HTTP API.
    pub advertise: String,
    /// How this node proves who it is.
    pub access: Access,
    /// The authority that servers are checked against; none: that of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this node and its private key, for servers that ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The hash of the secret that all nodes share.
    pub secret: [u8; 32],
    /// How many servers keep the log.
    pub replicas: usize,
    /// The monitoring ports of the servers.
    pub monitor: Vec<String>,
    /// How long a write waits for the log.
    pub write_wait: Duration,
    /// How long the log keeps what it has.
    pub retain: Duration,
    /// How large the log grows, in bytes.
    pub retain_bytes: u64,
    /// Whether to write although servers may lose what they acknowledge.
    pub insecure_durability: bool,
    /// The version of this program.
    pub version: String,
}

/// How a node proves to the servers who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Not at all.
    #[default]
    Open,
    /// By the text of a file of credentials.
    Credentials(String),
    /// By a name and a password.
    Password(String, String),
}

/// A node that takes part in a cluster.
#[derive(Debug)]
pub struct Member {
    /// What the journal works with.
    pub link: JetStreamLink,
    /// What the API asks.
    pub handle: ClusterHandle,
    /// The cluster.
    pub cluster: Uuid,
    /// Where this node goes on in the log.
    pub place: Place,
    /// If the log was made anew from exactly what this node has: when, in milliseconds since 1970. The store is then
    /// at another place.
    pub made_anew_at: Option<i64>,
    /// Tells once the log was made anew from exactly what this node has: it is then to start again.
    pub recovered: watch::Receiver<bool>,
}

/// Another node that has what this one needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Where its API is.
    pub url: String,
}

/// Why a node cannot take part in a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The settings for the connection cannot be used.
    #[error("the connection to NATS cannot be set up: {0}")]
    Connection(String),
    /// This node has no data of the cluster, and the cluster cannot be reached.
    #[error("the cluster cannot be reached, and this node has no data of it: {0}")]
    Unreachable(String),
    /// Servers may lose what they have acknowledged, and this node has no data of the cluster.
    #[error("the servers may lose what they have acknowledged (cluster.insecure-durability starts although they may): {}", .0.join("; "))]
    Unsafe(Vec<String>),
    /// There is a stream that is not one of ours.
    #[error("the stream {0} was not made by ringback")]
    ForeignStream(String),
    /// The data of this node belong to another cluster.
    #[error(
        "CLUSTER_MISMATCH: the data of this node belong to cluster {ours}, and the stream to {found}"
    )]
    Mismatch {
        /// The cluster of the data.
        ours: Uuid,
        /// The cluster of the stream.
        found: Uuid,
    },
    /// This node has another secret than the one that founded the cluster.
    #[error(
        "CLUSTER_MISMATCH: the secret of this node is not that of the cluster (cluster.secret-file)"
    )]
    Secret,
    /// Another node with the name of this one is running.
    #[error("NODE_NAME_TAKEN: another node is called {0} (cluster.node)")]
    NameTaken(String),
    /// There is no stream, and nodes of the cluster are running: it was lost, and a new one would found another
    /// cluster.
    #[error(
        "the stream {0} is not there, and nodes of its cluster are running: recover it first (ringback cluster recover)"
    )]
    Lost(String),
    /// The data of this node belong to no cluster, and there is a cluster already.
    #[error(
        "DATA_NOT_OF_THIS_CLUSTER: this node has data of its own: begin with an empty data directory, or with --discard-local, \
         which drops what this one has"
    )]
    OwnData,
    /// The log does not have any more what this node needs: it has to take a snapshot of one of these nodes first.
    #[error("the log begins at {first}: this node needs a snapshot")]
    Behind {
        /// Where the log begins.
        first: u64,
        /// Nodes that have what is missing.
        peers: Vec<Peer>,
    },
    /// The same, and no node was heard that has what is missing.
    #[error("the log begins at {first}, and no other node is there that has what came before")]
    NoPeer {
        /// Where the log begins.
        first: u64,
    },
}

/// What a node has in its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    None,
    /// Data that belong to no cluster.
    Own,
    /// The data of this cluster, up to this place of its log.
    Of(Uuid, Place),
}

/// Takes part in a cluster. A node that has data of it goes on there, whether or not servers can be reached; a new
/// one needs them, and founds the cluster if there is none.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(settings: &ClusterSettings, data: Data) -> Result<Member, JoinError> {
    let (events, inputs) = mpsc::unbounded_channel();
    let client = connect(settings, events.clone()).await?;
    let mut context = async_nats::jetstream::new(client.clone());
    context.set_timeout(ANSWER_WAIT);
    let subjects = Subjects::of(&settings.name);
    // Before the log is looked at, which may be trimmed meanwhile.
    if is_name_taken(&client, &subjects.presence, &settings.node).await {
        return Err(JoinError::NameTaken(settings.node.clone()));
    }
    let mut made_anew_at = None;
    let mut durability = Durability::new(
        settings.replicas,
        settings.monitor.clone(),
        settings.insecure_durability,
    );
    let (cluster, place) = match data {
        Data::Of(ours, mut place) => {
            // Whatever cannot be found out now is found out later.
            let found = tokio::time::timeout(ANSWER_WAIT, context.get_stream(&subjects.stream));
            if let Ok(Ok(stream)) = found.await
                && let Some(found) = cluster_of(stream.cached_info())
            {
                if found != ours {
                    return Err(JoinError::Mismatch { ours, found });
                }
                check_secret(stream.cached_info(), settings)?;
                let anew = MadeAnew::read(stream.cached_info());
                if let Some(anew) = anew.filter(|anew| anew.from == place) {
                    place = anew.place();
                    made_anew_at = Some(created_at(stream.cached_info()));
                }
                match check_reach(&client, settings, &subjects, stream.cached_info(), place).await {
                    // It routes from what it has, and takes a snapshot when another node is there.
                    Ok(()) | Err(JoinError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            (ours, place)
        }
        Data::None | Data::Own => {
            // Data that the log does not have come before it: so no node takes the log for all there is.
            let before = u64::from(data == Data::Own);
            let (info, is_new) =
                find_or_found(&client, &context, settings, &subjects, before + 1).await?;
            durability.read_stream(&info, &client.server_info(), &subjects.all);
            durability.read_servers(durability::look_at(durability.addresses()).await);
            if durability.forbids_writes() {
                return Err(JoinError::Unsafe(durability.problems()));
            }
            let cluster = cluster_of(&info)
                .ok_or_else(|| JoinError::ForeignStream(subjects.stream.clone()))?;
            check_secret(&info, settings)?;
            if data == Data::Own && !is_new {
                return Err(JoinError::OwnData);
            }
            let chain = Chain::start(cluster);
            let place = Place {
                sequence: before,
                chain,
            };
            check_reach(&client, settings, &subjects, &info, place).await?;
            (cluster, place)
        }
    };
    let stream = context.get_stream_no_info(&subjects.stream).await;
    let stream = stream.map_err(|error| JoinError::Connection(error.to_string()))?;
    let started_at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let replica = Replica::new(
        Settings {
            node: settings.node.clone(),
            instance: Uuid::new_v4().as_u64_pair().0,
            started_at: i64::try_from(started_at.as_millis()).unwrap_or(i64::MAX),
            version: settings.version.clone(),
            url: settings.advertise.clone(),
            write_wait: settings.write_wait,
            max_payload: MOST_PAYLOAD,
            retain: settings.retain,
            retain_bytes: settings.retain_bytes,
        },
        place,
        Duration::ZERO,
    );
    let queue = Arc::new(Queue::default());
    let (asks, asked) = mpsc::unbounded_channel();
    listen(&client, &subjects, &events);
    let name = &subjects.cluster;
    let status = ClusterStatus::new(&replica, Duration::ZERO, name, None, &durability);
    let (latest, told) = watch::channel(Arc::new(status));
    let (recovered_to, recovered) = watch::channel(false);
    let driver = Driver {
        client,
        context,
        stream,
        subjects,
        replica,
        cluster,
        epoch: Instant::now(),
        durability,
        queue: Arc::clone(&queue),
        asks: asked,
        inputs: (events, inputs),
        delivery: None,
        waiting: None,
        info: None,
        latest,
        monitor_at: Instant::now(),
        inspect_at: Instant::now(),
        node: settings.node.clone(),
        secret: settings.secret,
        config: stream_config(settings, &Subjects::of(&settings.name), cluster),
        recovered: recovered_to,
    };
    tokio::spawn(driver.run());
    Ok(Member {
        handle: ClusterHandle {
            latest: told,
            asks: asks.clone(),
        },
        link: JetStreamLink { queue, asks },
        cluster,
        place,
        made_anew_at,
        recovered,
    })
}

/// Whether a node of this name is alive: one run of it is heard twice. What an earlier run of this node has sent just
/// before its end may still arrive, but not again.
async fn is_name_taken(client: &Client, subject: &str, name: &str) -> bool {
    let hear = || hear_others(client.clone(), subject.to_owned());
    match hear().await.get(name) {
        None => false,
        first => hear().await.get(name) == first,
    }
}

/// The nodes that say within a while that they are alive, by name; of each the run that was heard last.
async fn hear_others(client: Client, subject: String) -> BTreeMap<String, u64> {
    let mut nodes = BTreeMap::new();
    let Ok(mut heard) = client.subscribe(subject).await else {
        return nodes;
    };
    let listening = async {
        while let Some(message) = heard.next().await {
            let heard = presence::read(&message.payload);
            nodes.extend(heard.map(|presence| (presence.node, presence.instance)));
        }
    };
    let _over = tokio::time::timeout(HEARD_WAIT, listening).await;
    nodes
}

/// Whether the log has what follows this place.
async fn check_reach(
    client: &Client,
    settings: &ClusterSettings,
    subjects: &Subjects,
    info: &Info,
    place: Place,
) -> Result<(), JoinError> {
    let first = info.state.first_sequence;
    if first <= place.sequence + 1 {
        return Ok(());
    }
    let failure = |error: async_nats::SubscribeError| JoinError::Connection(error.to_string());
    let mut heard = client
        .subscribe(subjects.presence.clone())
        .await
        .map_err(failure)?;
    let mut peers: Vec<Peer> = Vec::new();
    let begun = Instant::now();
    loop {
        // All nodes say something once a second.
        let wait = if peers.is_empty() {
            FIND_WAIT
        } else {
            HEARD_WAIT
        };
        let wait = wait.saturating_sub(begun.elapsed());
        let Ok(Some(message)) = tokio::time::timeout(wait, heard.next()).await else {
            break;
        };
        if let Some(presence) = presence::read(&message.payload)
            && presence.is_current
            && presence.stored + 1 >= first
            && presence.node != settings.node
            && peers.iter().all(|peer| peer.node != presence.node)
        {
            peers.push(Peer {
                node: presence.node,
                url: presence.url,
            });
        }
    }
    if peers.is_empty() {
        Err(JoinError::NoPeer { first })
    } else {
        Err(JoinError::Behind { first, peers })
    }
}

/// Connects, now or later: connections are made again and again.
async fn connect(
    settings: &ClusterSettings,
    events: mpsc::UnboundedSender<Event>,
) -> Result<Client, JoinError> {
    let failure = |error: &dyn std::error::Error| JoinError::Connection(error.to_string());
    let mut options = ConnectOptions::new()
        .name(format!("ringback {}", settings.node))
        .retry_on_initial_connect()
        .ping_interval(PING_EVERY)
        .connection_timeout(CONNECT_WAIT)
        .event_callback(move |event| {
            let input = match event {
                async_nats::Event::Connected => Some(Input::Connected),
                async_nats::Event::Disconnected => Some(Input::Disconnected),
                other => {
                    tracing::debug!(%other, "NATS");
                    None
                }
            };
            if let Some(input) = input {
                let _gone = events.send(Event::Input(input));
            }
            std::future::ready(())
        });
    options = match &settings.access {
        Access::Open => options,
        Access::Credentials(text) => options.credentials(text).map_err(|error| failure(&error))?,
        Access::Password(user, password) => {
            options.user_and_password(user.clone(), password.clone())
        }
    };
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &settings.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let connected = options.connect(&settings.servers).await;
    connected.map_err(|error| failure(&error))
}

/// The stream of the cluster, and whether it was made now, because there was none: then it begins at `first`. It is
/// not made while nodes are running that have lost it.
async fn find_or_found(
    client: &Client,
    context: &Context,
    settings: &ClusterSettings,
    subjects: &Subjects,
    first: u64,
) -> Result<(Info, bool), JoinError> {
    let cluster = Uuid::new_v4();
    let config = Config {
        first_sequence: (first > 1).then_some(first),
        ..stream_config(settings, subjects, cluster)
    };
    let begun = Instant::now();
    let mut are_there_nodes = None;
    loop {
        let mut is_lost = false;
        let error = match context.get_stream(&subjects.stream).await {
            Ok(stream) => {
                let info = stream.cached_info().clone();
                let is_new = cluster_of(&info) == Some(cluster);
                return Ok((info, is_new));
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(code)
                    if code.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    match are_there_nodes {
                        None => {
                            let subject = subjects.presence.clone();
                            let heard = hear_others(client.clone(), subject).await;
                            are_there_nodes = Some(!heard.is_empty());
                            // One of them may have made it meanwhile.
                            continue;
                        }
                        Some(true) => {
                            is_lost = true;
                            error.to_string()
                        }
                        Some(false) => match context.create_stream(config.clone()).await {
                            Ok(stream) => return Ok((stream.cached_info().clone(), true)),
                            // Another node may have made it just now.
                            Err(error) => error.to_string(),
                        },
                    }
                }
                _ => error.to_string(),
            },
        };
        if is_lost && begun.elapsed() > LOST_WAIT {
            return Err(JoinError::Lost(subjects.stream.clone()));
        }
        if begun.elapsed() > FIND_WAIT {
            return Err(JoinError::Unreachable(error));
        }
        tokio::time::sleep(FIND_AGAIN).await;
    }
}

/// How the stream of a cluster is set up.
fn stream_config(settings: &ClusterSettings, subjects: &Subjects, cluster: Uuid) -> Config {
    Config {
        name: subjects.stream.clone(),
        subjects: vec![subjects.all.clone()],
        max_bytes: i64::try_from(settings.retain_bytes + RESERVE).unwrap_or(i64::MAX),
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        metadata: [
            (CLUSTER_ID.to_owned(), cluster.to_string()),
            (FINGERPRINT.to_owned(), fingerprint(settings)),
        ]
        .into(),
        ..Config::default()
    }
}

/// When a stream was made, in milliseconds since 1970.
fn created_at(info: &Info) -> i64 {
    let millis = info.created.unix_timestamp_nanos() / 1_000_000;
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// The cluster that a stream belongs to.
fn cluster_of(info: &Info) -> Option<Uuid> {
    info.config.metadata.get(CLUSTER_ID)?.parse().ok()
}

/// Whether this node has the secret of the cluster.
fn check_secret(info: &Info, settings: &ClusterSettings) -> Result<(), JoinError> {
    match info.config.metadata.get(FINGERPRINT) {
        Some(found) if *found == fingerprint(settings) => Ok(()),
        _ => Err(JoinError::Secret),
    }
}

/// What tells one secret from another, and nothing of it.
fn fingerprint(settings: &ClusterSettings) -> String {
    let text = [b"ringback fingerprint", settings.secret.as_slice()].concat();
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Listens to what other nodes say of themselves.
fn listen(client: &Client, subjects: &Subjects, events: &mpsc::UnboundedSender<Event>) {
    let (client, subject, events) = (client.clone(), subjects.presence.clone(), events.clone());
    tokio::spawn(async move {
        let Ok(mut messages) = client.subscribe(subject).await else {
            return;
        };
        while let Some(message) = messages.next().await {
            let event = match presence::read(&message.payload) {
                Some(presence) => Some(Event::Input(Input::Heard(presence))),
                None => Notice::read(&message.payload).map(Event::Notice),
            };
            if let Some(event) = event
                && events.send(event).is_err()
            {
                return;
            }
        }
    });
}

/// A log on a JetStream stream.
pub struct JetStreamLink {
    /// What the task gives out.
    queue: Arc<Queue>,
    /// Asks the task.
    asks: mpsc::UnboundedSender<Ask>,
}

impl std::fmt::Debug for JetStreamLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("JetStreamLink")
            .finish_non_exhaustive()
    }
}

impl Link for JetStreamLink {
    fn append(&mut self, position: u64, facts: Vec<u8>, only_removes: bool) -> (AppendId, Answer) {
        let (reply, answer) = std::sync::mpsc::channel();
        let ask = Ask::Append {
            position,
            facts,
            only_removes,
            reply,
        };
        let _ended = self.asks.send(ask);
        // The task answers in time, whatever the servers do, or has ended.
        answer.recv().unwrap_or((
            AppendId {
                instance: 0,
                number: 0,
            },
            Answer::Unavailable,
        ))
    }

    fn next(&mut self) -> Option<Applied> {
        self.queue.pop()
    }

    fn is_settled(&mut self) -> bool {
        self.queue.is_settled()
    }

    fn stored(&mut self, sequence: u64) {
        self.queue.stored.store(sequence, Ordering::Relaxed);
    }

    fn watch(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        self.queue.watch(wake);
    }
}

/// Tells about the cluster; clones tell the same.
#[derive(Clone)]
pub struct ClusterHandle {
    /// How things are.
    latest: watch::Receiver<Arc<ClusterStatus>>,
    /// Asks the task.
    asks: mpsc::UnboundedSender<Ask>,
}

impl std::fmt::Debug for ClusterHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClusterHandle")
            .finish_non_exhaustive()
    }
}

impl ClusterHandle {
    /// How things were, at most a second ago.
    #[must_use]
    pub fn status(&self) -> Arc<ClusterStatus> {
        Arc::clone(&self.latest.borrow())
    }
}

/// The key of the cluster's identifier among the stream's metadata.
const CLUSTER_ID: &str = "ringback-cluster-id";

/// The key of the secret's fingerprint among them.
const FINGERPRINT: &str = "ringback-secret";

/// The key of what a stream was made anew from: [`MadeAnew`].
const RECOVERED: &str = "ringback-recovered";

/// How long an answer about the stream is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How long a server is waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// How often a server is asked whether it lives; two silent ones end the connection.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long a new node looks for the stream.
const FIND_WAIT: Duration = Duration::from_secs(20);

/// How long all nodes are listened to: each says something once a second.
const HEARD_WAIT: Duration = Duration::from_millis(1_500);

/// How long it looks for one that others have.
const LOST_WAIT: Duration = Duration::from_secs(5);

/// How often it does.
const FIND_AGAIN: Duration = Duration::from_millis(500);
