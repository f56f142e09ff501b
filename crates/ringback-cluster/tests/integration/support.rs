//! Nodes on NATS servers.

use std::time::{Duration, Instant};

use ringback_cluster::{
    Access, ClusterHandle, ClusterJournal, ClusterSettings, ClusterStatus, Codec, Condition, Data,
    JetStreamLink, JoinError, Member, join,
};
use ringback_engine::Journal;
use ringback_testkit::{MemoryJournal, NatsServers};
use tokio::runtime::Runtime;

/// A journal of a node.
pub(crate) type NodeJournal = ClusterJournal<MemoryJournal, JetStreamLink>;

/// A node: its disk, and a runtime, which ends with it.
pub(crate) struct Node {
    /// How it takes part.
    pub(crate) settings: ClusterSettings,
    /// Its disk.
    pub(crate) store: MemoryJournal,
    /// Runs its connection, while it runs.
    runtime: Option<Runtime>,
    /// Tells how it is.
    handle: Option<ClusterHandle>,
}

impl Node {
    /// A node that does not run yet.
    pub(crate) fn new(servers: &NatsServers, name: &str, replicas: usize) -> Self {
        Self {
            settings: ClusterSettings {
                servers: servers.urls(),
                name: "test".to_owned(),
                node: name.to_owned(),
                advertise: "http://192.0.2.1:8080".to_owned(),
                access: Access::Open,
                ca: None,
                certificate: None,
                secret: [7; 32],
                replicas,
                monitor: servers.monitors(),
                write_wait: Duration::from_secs(15),
                retain: Duration::from_secs(86_400),
                retain_bytes: 1 << 28,
                insecure_durability: replicas < 3,
                version: "1".to_owned(),
            },
            store: MemoryJournal::default(),
            runtime: None,
            handle: None,
        }
    }

    /// Starts it, or says why it does not start. If it still runs, that run ends.
    pub(crate) fn try_start(&mut self) -> Result<NodeJournal, JoinError> {
        self.end();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let place = NodeJournal::place_of(&self.store).expect("readable");
        let data = place.map_or(Data::None, |(cluster, place)| Data::Of(cluster, place));
        let member = runtime.block_on(join(&self.settings, data))?;
        let Member {
            link,
            handle,
            cluster,
            ..
        } = member;
        self.runtime = Some(runtime);
        self.handle = Some(handle);
        let codec = Codec {
            write: ringback_store::write_facts,
            read: ringback_store::read_facts,
        };
        Ok(ClusterJournal::new(self.store.clone(), link, codec, cluster).expect("readable"))
    }

    /// Starts it, and waits until it has read everything.
    pub(crate) fn start(&mut self) -> NodeJournal {
        let journal = self.try_start().expect("it takes part");
        self.wait_for(|status| status.condition == Condition::Current);
        journal
    }

    /// How it is.
    pub(crate) fn status(&self) -> ClusterStatus {
        let handle = self.handle.as_ref().expect("it runs");
        ClusterStatus::clone(&handle.status())
    }

    /// Waits until it is so.
    pub(crate) fn wait_for(&self, is_so: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < WAIT_LIMIT, "{status:?}");
            std::thread::sleep(POLL);
        }
    }

    /// Ends it, as a crash would.
    pub(crate) fn crash(&mut self, journal: NodeJournal) {
        self.end();
        drop(journal);
    }

    /// Ends its connection.
    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.handle = None;
    }
}

/// Takes entries until there are none for now.
pub(crate) fn take_all(journal: &mut impl Journal) -> usize {
    let mut taken = 0;
    while journal.committed().expect("readable").is_some() {
        taken += 1;
    }
    taken
}

/// How long anything may take.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// How often to look.
const POLL: Duration = Duration::from_millis(5);
