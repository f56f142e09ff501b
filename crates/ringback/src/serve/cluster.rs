//! A node's part in a cluster: its log instead of the store alone, and how it is.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback_admin::{ClusterError, ClusterSource, MetricsSource, Snapshot};
use ringback_api::{
    Cluster, ClusterHealth, ClusterNode, ClusterRecovery, ClusterStream, Durability, NodeState,
    RecoveredNode,
};
use ringback_cluster::replica::Fault;
use ringback_cluster::{
    ClusterHandle, ClusterJournal, ClusterSettings, ClusterStatus, Codec, Condition, Data,
    ForgetError, JetStreamLink, JoinError, Member, NodeStatus, OutboxFile, Peer, RecoveryError,
};
use ringback_engine::{
    AuditEntry, Change, Clock, Engine, Journal, JournalError, LogPlace, SystemClock,
};
use ringback_routing::Timestamp;
use ringback_store::{Store, StoreSettings};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use super::ServeError;
use super::process::gauge;
use super::snapshot::{self, Snapshots};
use crate::config::{ClusterConfig, Config};

/// The journal of a node in a cluster.
pub(super) type NodeJournal = ClusterJournal<Store, JetStreamLink>;

/// Takes part in a cluster, and reads its log as far as it goes now.
///
/// A node without data reads all of it before it goes on: it would answer from half a state. One that has data
/// goes on at once if the log cannot be reached, for what it has was right when it stopped.
/// One whose place the log does not have any more takes the state of another node first. `discards`: data of its own
/// are dropped for those of the cluster.
pub(super) async fn join(
    config: &Config,
    cluster: &ClusterConfig,
    http: Option<SocketAddr>,
    mut store: Store,
    discards: bool,
) -> Result<(NodeJournal, ClusterHandle, watch::Receiver<bool>), ServeError> {
    let unreadable = |error| ServeError::data(config, error);
    let settings = settings(config, cluster, http)?;
    let mut snapshots = 0;
    let (mut store, data, member) = loop {
        let data = match NodeJournal::place_of(&store).map_err(unreadable)? {
            Some((cluster, place)) => Data::Of(cluster, place),
            None if is_empty(&store).map_err(unreadable)? => Data::None,
            None if discards => Data::None,
            None => Data::Own,
        };
        let peers = match ringback_cluster::join(&settings, data).await {
            Ok(member) => break (store, data, member),
            Err(JoinError::Behind { peers, .. }) if snapshots < MOST_SNAPSHOTS => peers,
            Err(error) => return Err(error.into()),
        };
        snapshots += 1;
        let fetched = snapshot::fetch_from(peers, cluster.secret, config.data_dir.clone());
        fetched.await.map_err(ServeError::Snapshot)?;
        drop(store);
        snapshot::take_in(&config.data_dir, &cluster.secret)?;
        store = Store::open(&config.data_dir, StoreSettings::default())?;
    };
    if data == Data::None && !is_empty(&store).map_err(unreadable)? {
        tracing::warn!("the data of this node are dropped: it takes those of the cluster");
        drop(store);
        Store::discard(&config.data_dir)?;
        store = Store::open(&config.data_dir, StoreSettings::default())?;
    }
    let Member {
        link,
        handle,
        cluster: id,
        place,
        made_anew_at,
        recovered,
    } = member;
    let placed = Change::Placed(Some(LogPlace {
        cluster: id,
        sequence: place.sequence,
        chain: place.chain.0,
    }));
    if data == Data::Own {
        // What it has comes before the log: others take it as a snapshot.
        place_at(&mut store, vec![placed]).map_err(unreadable)?;
    } else if let Some(at) = made_anew_at {
        // All nodes that go on from here note the same.
        let entry = AuditEntry::recovered(Timestamp::from_millis(at), &settings.name);
        let noted = vec![Change::Audited(Box::new(entry)), placed];
        place_at(&mut store, noted).map_err(unreadable)?;
    }
    tracing::info!(cluster = %settings.name, node = %settings.node, "part of a cluster");
    let outbox = config.data_dir.join(OUTBOX_FILE);
    let outbox = OutboxFile::open(outbox, cluster.outbox_bytes, CODEC).map_err(|error| {
        unreadable(match error.kind() {
            io::ErrorKind::InvalidData => JournalError::Damaged(error.to_string()),
            _ => JournalError::Unavailable(Box::new(error)),
        })
    })?;
    let journal = ClusterJournal::new(store, link, CODEC, id).map_err(unreadable)?;
    let journal = journal.with_outbox(outbox);
    let journal = catch_up(journal, &handle, data == Data::None);
    Ok((journal.await.map_err(unreadable)?, handle, recovered))
}

/// Waits until the log was made anew from what this node has: then it is to start again.
pub(super) async fn made_anew(mut told: watch::Receiver<bool>) {
    if told.wait_for(|is_so| *is_so).await.is_err() {
        // The task that tells has ended, and the program with it.
        std::future::pending::<()>().await;
    }
}

/// Has a store follow no cluster any more.
pub(super) fn leave(store: &mut Store) -> Result<(), JournalError> {
    if store.archive().place()?.is_none() {
        return Ok(());
    }
    tracing::warn!(
        "the data were part of a cluster, and no cluster is configured: from now on they belong to this server alone"
    );
    place_at(store, vec![Change::Placed(None)])
}

/// Has a store note its place.
fn place_at(store: &mut Store, mut facts: Vec<Change>) -> Result<(), JournalError> {
    let noted = store.append(store.position(), &mut facts);
    noted.map_err(|error| JournalError::Unavailable(Box::new(error)))?;
    store.committed().map(drop)
}

/// Waits until this node cannot read on because the log does not have what comes next, and has fetched the state of
/// another node: then it is to start again.
pub(super) async fn fetch_when_needed(handle: ClusterHandle, secret: [u8; 32], data_dir: PathBuf) {
    loop {
        tokio::time::sleep(TOLD_EVERY).await;
        let status = handle.status();
        let own = status.nodes.iter().find(|node| node.node == status.node);
        let applied = own.map_or(0, |own| own.applied_sequence);
        let is_needed = match status.condition {
            Condition::Diverged(Fault::Trimmed { .. } | Fault::Missing(_)) => true,
            // The log went back, and was made anew from what another node has.
            Condition::Diverged(_) => {
                let stream = status.stream.as_ref();
                stream.and_then(|stream| stream.recovered) > Some(applied)
            }
            _ => false,
        };
        if !is_needed {
            continue;
        }
        let is_ahead =
            |node: &&NodeStatus| node.is_current == Some(true) && node.applied_sequence > applied;
        let ahead = status.nodes.iter().filter(is_ahead);
        let peers: Vec<Peer> = ahead
            .map(|node| Peer {
                node: node.node.clone(),
                url: node.url.clone(),
            })
            .collect();
        if peers.is_empty() {
            continue;
        }
        match snapshot::fetch_from(peers, secret, data_dir.clone()).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "no snapshot was fetched"),
        }
    }
}

/// Sixteen bytes that are the same on all nodes: for what answers of different nodes must have in common.
pub(super) fn shared_secret(cluster: &ClusterConfig) -> [u8; 16] {
    let digest = Sha256::digest([b"ringback sip", cluster.secret.as_slice()].concat());
    let mut secret = [0; 16];
    for (to, from) in secret.iter_mut().zip(digest) {
        *to = from;
    }
    secret
}

/// Applies what the log has until the node is current.
async fn catch_up(
    mut journal: NodeJournal,
    handle: &ClusterHandle,
    is_new: bool,
) -> Result<NodeJournal, JournalError> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        // The condition first: what it speaks of is then in the queue.
        let condition = handle.status().condition;
        let taking = tokio::task::spawn_blocking(move || {
            let mut taken = 0_u64;
            while taken < TAKEN_AT_ONCE && journal.committed()?.is_some() {
                taken += 1;
            }
            Ok::<_, JournalError>((journal, taken))
        });
        let taken;
        (journal, taken) = match taking.await {
            Ok(result) => result?,
            Err(panic) => return Err(JournalError::Unavailable(Box::new(panic))),
        };
        if taken == TAKEN_AT_ONCE {
            if told.elapsed() > TOLD_EVERY {
                told = Instant::now();
                tracing::info!(
                    sequence = journal.position().0,
                    "reading the log of the cluster"
                );
            }
            continue;
        }
        match condition {
            Condition::Current | Condition::Diverged(_) | Condition::Unsafe => return Ok(journal),
            Condition::CatchingUp | Condition::Unreachable => {}
        }
        if !is_new && begun.elapsed() > WAIT_FOR_LOG {
            return Ok(journal);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether a store has nothing.
fn is_empty(store: &Store) -> Result<bool, JournalError> {
    let directory = store.archive().directory()?;
    Ok(directory.environments.is_empty() && directory.tokens.is_empty())
}

/// What a node takes part with.
fn settings(
    config: &Config,
    cluster: &ClusterConfig,
    http: Option<SocketAddr>,
) -> Result<ClusterSettings, ServeError> {
    let node = match &cluster.node {
        Some(node) => node.clone(),
        None => {
            let path = config.data_dir.join(NODE_FILE);
            find_or_make_name(&path).map_err(|source| ServeError::NodeName { path, source })?
        }
    };
    let advertise = match (&cluster.advertise, http) {
        (Some(given), _) => given.clone(),
        (None, Some(address)) if !address.ip().is_unspecified() => format!("http://{address}"),
        (None, _) => return Err(ServeError::Advertise),
    };
    Ok(ClusterSettings {
        servers: cluster.servers.clone(),
        name: cluster.name.clone(),
        node,
        advertise,
        access: cluster.access.clone(),
        ca: cluster.ca.clone(),
        certificate: cluster.certificate.clone(),
        secret: cluster.secret,
        replicas: cluster.replicas,
        monitor: cluster.monitor.clone(),
        write_wait: cluster.write_wait,
        retain: cluster.retain,
        retain_bytes: cluster.retain_bytes,
        insecure_durability: cluster.insecure_durability,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Reads the name of the node from its file, or makes it.
fn find_or_make_name(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (id, _) = Uuid::new_v4().as_u64_pair();
    let name = format!("node-{:08x}", id >> 32);
    let mut file = fs::File::create(path)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    Ok(name)
}

/// How a node is in its cluster, for the API and for metrics.
pub(super) struct ClusterReport {
    /// Tells how it is.
    handle: ClusterHandle,
    /// Gives others the state of this node.
    snapshots: Snapshots,
    /// Tells what waits for the log.
    engine: Engine,
}

impl ClusterReport {
    /// What this handle tells, and snapshots.
    pub(super) const fn new(handle: ClusterHandle, snapshots: Snapshots, engine: Engine) -> Self {
        Self {
            handle,
            snapshots,
            engine,
        }
    }
}

impl ClusterSource for ClusterReport {
    fn cluster(&self) -> Cluster {
        let status = self.handle.status();
        let now = SystemClock.now();
        let stream = status.stream.as_ref().map(|stream| ClusterStream {
            name: stream.name.clone(),
            created_at: Timestamp::from_millis(stream.created_at),
            first_sequence: stream.first_sequence,
            last_sequence: stream.last_sequence,
            bytes: stream.bytes,
            replicas: stream.replicas,
            leader: stream.leader.clone(),
        });
        let nodes = status.nodes.iter().map(|node| {
            let silent_for = i64::try_from(node.silent_for.as_millis()).unwrap_or(i64::MAX);
            ClusterNode {
                node: node.node.clone(),
                version: node.version.clone(),
                url: node.url.clone(),
                applied_sequence: node.applied_sequence,
                lag: node.lag,
                digest: node.chain.to_string(),
                digest_sequence: node.applied_sequence,
                seen_at: now.plus_millis(-silent_for),
                state: match node.is_current {
                    Some(true) => NodeState::Current,
                    Some(false) => NodeState::CatchingUp,
                    None => NodeState::Gone,
                },
            }
        });
        Cluster {
            name: status.name.clone(),
            node: status.node.clone(),
            connected: status.is_connected,
            stream,
            durability: Durability {
                ok: status.durability_problems.is_empty(),
                problems: status.durability_problems.clone(),
            },
            nodes: nodes.collect(),
            agree: status.agree,
        }
    }

    fn health(&self) -> (ClusterHealth, Vec<String>) {
        let status = self.handle.status();
        let mut problems = status.durability_problems.clone();
        let health = match status.condition {
            Condition::Current => ClusterHealth::Current,
            Condition::CatchingUp => ClusterHealth::CatchingUp,
            Condition::Unreachable => {
                problems.push("the log of the cluster cannot be reached: writes wait".to_owned());
                ClusterHealth::Unreachable
            }
            Condition::Diverged(fault) => {
                problems.push(format!("{fault}: writes are refused"));
                ClusterHealth::Diverged
            }
            Condition::Unsafe => ClusterHealth::Unsafe,
        };
        (health, problems)
    }

    fn snapshot(&self, asked: &str) -> Option<Snapshot> {
        self.snapshots.answer(asked)
    }

    fn forget(&self, node: &str) -> Result<(), ClusterError> {
        self.handle.forget(node).map_err(|error| match error {
            ForgetError::Current => ClusterError::NodeIsCurrent,
            _ => ClusterError::NoSuchNode,
        })
    }

    fn recover(&self, from: Option<&str>, begin: bool) -> Result<ClusterRecovery, ClusterError> {
        let recovery = if begin {
            self.handle.recover(from)
        } else {
            self.handle.plan_recovery(from)
        };
        let recovery = recovery.map_err(|error| match error {
            RecoveryError::NotNeeded => ClusterError::LogIsWhole,
            RecoveryError::Unreachable => ClusterError::Unreachable,
            RecoveryError::Foreign => ClusterError::ForeignLog,
            _ => ClusterError::NoSuchNode,
        })?;
        let status = self.handle.status();
        let base = status.nodes.iter().find(|node| node.node == recovery.base);
        let base = base.map_or(0, |base| base.applied_sequence);
        let nodes = status.nodes.iter().map(|node| RecoveredNode {
            node: node.node.clone(),
            applied_sequence: node.applied_sequence,
            behind: base.saturating_sub(node.applied_sequence),
            lost: node.applied_sequence.saturating_sub(base),
            heard: node.is_current.is_some(),
        });
        Ok(ClusterRecovery {
            base: recovery.base,
            first_sequence: recovery.first,
            begun: begin,
            nodes: nodes.collect(),
        })
    }
}

impl MetricsSource for ClusterReport {
    fn write_metrics(&self, out: &mut String) {
        let status = self.handle.status();
        let own = |status: &Arc<ClusterStatus>| {
            let node = status.nodes.iter().find(|node| node.node == status.node);
            node.map_or((0.0, 0.0), |node| {
                (node.applied_sequence as f64, node.lag as f64)
            })
        };
        let (applied, lag) = own(&status);
        let is_safe = status.durability_problems.is_empty();
        let is_current = status.condition == Condition::Current;
        for (name, help, value) in [
            (
                "ringback_cluster_connected",
                "1 with a connection to a NATS server.",
                f64::from(u8::from(status.is_connected)),
            ),
            (
                "ringback_cluster_current",
                "1 while the node follows the log of the cluster.",
                f64::from(u8::from(is_current)),
            ),
            (
                "ringback_cluster_durable",
                "1 while the servers are known to keep what they acknowledge.",
                f64::from(u8::from(is_safe)),
            ),
            (
                "ringback_cluster_applied_sequence",
                "The last message of the log that the node has read.",
                applied,
            ),
            (
                "ringback_cluster_lag",
                "Messages that the node is behind the end of the log, as it knows it.",
                lag,
            ),
        ] {
            gauge(out, name, "gauge", help, Some(value));
        }
        let waiting = self.engine.waiting();
        let help = "Calls and answers that wait for the log.";
        let calls = Some(waiting.calls as f64);
        gauge(out, "ringback_cluster_outbox_calls", "gauge", help, calls);
        let help =
            "Learned calls that waited for the log and had no room on disk: a crash loses them.";
        let dropped = Some(waiting.dropped as f64);
        gauge(
            out,
            "ringback_outbox_dropped_total",
            "counter",
            help,
            dropped,
        );
        let counts = status.counts;
        let conflicts = counts.conflicts as f64;
        let help = "Changes that lost a race against another node, and were checked again.";
        gauge(
            out,
            "ringback_cluster_conflicts_total",
            "counter",
            help,
            Some(conflicts),
        );
        let help = "Time that changes took until the log had confirmed them.";
        let name = "ringback_cluster_publish_seconds";
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} summary\n{name}_sum {}\n{name}_count {}\n",
            counts.time.as_secs_f64(),
            counts.committed,
        );
    }
}

/// The store's way to write facts.
const CODEC: Codec = Codec {
    write: ringback_store::write_facts,
    read: ringback_store::read_facts,
};

/// The file of what the log does not have yet.
const OUTBOX_FILE: &str = "outbox";

/// The file that keeps the name of the node.
const NODE_FILE: &str = "node.name";

/// How many snapshots a node takes in a row, if the log is trimmed as fast as it restores them.
const MOST_SNAPSHOTS: u32 = 5;

/// How many entries are applied before the condition is looked at again.
const TAKEN_AT_ONCE: u64 = 4_096;

/// How often it is said how far the log was read.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How long a node that has data waits at its start for the log.
const WAIT_FOR_LOG: Duration = Duration::from_secs(3);

/// How often it is looked whether there is more.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_node_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NODE_FILE);
        let made = find_or_make_name(&path).unwrap();
        assert!(made.starts_with("node-") && made.len() == 13, "{made}");
        assert_eq!(find_or_make_name(&path).unwrap(), made);
        fs::write(&path, "").unwrap();
        assert_ne!(find_or_make_name(&path).unwrap(), made);
    }
}
