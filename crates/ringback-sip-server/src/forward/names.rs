//! Names of targets and next hops, resolved by RFC 3263 in the background: NAPTR, SRV, A and AAAA.
//!
//! A call never waits for a name. All names in the directory and the configuration are resolved before a call goes to
//! them, and again when their records have expired; while the resolver is away the last answer is good.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use ringback_routing::{Directory, Ranked};
use ringback_sip_proto::{Scheme, Transport, Uri};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::forward::asked::Asked;
use crate::forward::target::for_each_target;
use crate::policy::Policy;
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};

/// The names that are known.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// What they stand for.
    known: DashMap<Named, Arc<Entry>, RandomState>,
    /// The addresses of all targets, as far as they are known.
    addresses: ArcSwap<HashSet<IpAddr, RandomState>>,
    /// Wakes the task that resolves them.
    wake: Notify,
    /// Who is asked, if not whom the system asks.
    pub(crate) server: Mutex<Option<SocketAddr>>,
    /// Those that only requests of dialogs ask for.
    pub(super) asked: Asked,
}

/// What is resolved: all of a URI that matters for that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// The name, in lower case.
    host: Box<str>,
    /// The port, if one is written.
    port: Option<u16>,
    /// The transport, if one is written.
    transport: Option<Transport>,
    /// Whether it must be TLS.
    is_secure: bool,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Over what.
    pub(crate) transport: Transport,
    /// The address.
    pub(crate) address: SocketAddr,
    /// Lower is tried first.
    priority: u16,
    /// Share within one priority.
    weight: u16,
}

impl Ranked for Destination {
    fn priority(&self) -> u16 {
        self.priority
    }

    fn weight(&self) -> u16 {
        self.weight
    }
}

/// A name.
#[derive(Debug, Default)]
struct Entry {
    /// Where it leads; `None`: not known yet.
    destinations: ArcSwapOption<Vec<Destination>>,
    /// When it is resolved again; `None`: at once.
    again_at: Mutex<Option<Instant>>,
}

/// What a lookup gave.
pub(super) struct Resolved {
    /// Where the name leads.
    pub(super) destinations: Vec<Destination>,
    /// Until when that is good.
    pub(super) valid_until: Instant,
}

impl Named {
    /// The name in a URI; `None`: there is none, as it has an address.
    pub(crate) fn of(uri: &Uri<'_>) -> Option<Self> {
        if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
            return None;
        }
        let host = uri.host()?;
        let text = uri.param("maddr").unwrap_or(host.as_bytes());
        let text = std::str::from_utf8(text).ok()?;
        if text.starts_with('[') || text.parse::<IpAddr>().is_ok() {
            return None;
        }
        let transport = match uri.param("transport") {
            None => None,
            Some(word) if word.eq_ignore_ascii_case(b"udp") => Some(Transport::Udp),
            Some(word) if word.eq_ignore_ascii_case(b"tcp") => Some(Transport::Tcp),
            // Nobody can be reached over that from here.
            Some(_) => return None,
        };
        Some(Self {
            host: text.to_ascii_lowercase().into(),
            port: uri.port(),
            transport,
            is_secure: uri.scheme() == Scheme::Sips,
        })
    }
}

impl Names {
    /// Where a name leads; nothing if that is not known yet, which is found out then.
    pub(crate) fn destinations(&self, named: &Named) -> Option<Arc<Vec<Destination>>> {
        if let Some(entry) = self.known.get(named) {
            return entry.destinations.load_full();
        }
        if self.known.len() < MOST_NAMES {
            self.known.insert(named.clone(), Arc::default());
            self.wake.notify_one();
        }
        None
    }

    /// Where a name in a request of a dialog leads; `None`: that is to be [asked](Asked::wait).
    pub(super) fn in_dialog(&self, named: &Named) -> Option<Arc<Vec<Destination>>> {
        let of_target = self.known.get(named);
        let of_target = of_target.and_then(|entry| entry.destinations.load_full());
        of_target.or_else(|| self.asked.destinations(named))
    }

    /// How many names lead somewhere, nowhere, and have not been looked up with success.
    pub(crate) fn states(&self) -> [usize; 3] {
        let mut states = [0; 3];
        for entry in &self.known {
            let destinations = entry.destinations.load();
            let state = match destinations.as_deref() {
                Some(some) if !some.is_empty() => 0,
                Some(_) => 1,
                None => 2,
            };
            states[state] += 1;
        }
        states
    }

    /// Whether a target or a next hop has this address.
    pub(crate) fn is_target(&self, ip: IpAddr) -> bool {
        self.addresses.load().contains(&ip.to_canonical())
    }

    /// Takes in the addresses that all names have now, besides these.
    fn note_addresses(&self, literals: &HashSet<IpAddr, RandomState>) {
        let mut addresses = literals.clone();
        for entry in &self.known {
            let destinations = entry.destinations.load();
            let found = destinations.iter().flat_map(|all| all.iter());
            addresses.extend(found.map(|destination| destination.address.ip().to_canonical()));
        }
        if **self.addresses.load() != addresses {
            self.addresses.store(Arc::new(addresses));
        }
    }

    /// Takes in the names of all targets, and forgets the others. Gives the addresses of targets that have no name.
    fn scan(&self, directory: &Directory, policy: &Policy) -> HashSet<IpAddr, RandomState> {
        let mut literals = HashSet::with_hasher(RandomState::default());
        let mut wanted = HashSet::with_hasher(RandomState::default());
        let mut want = |text: &str| {
            // Placeholders stand in user and parameters only, and matter no more than what will fill them.
            let text = text.replace(['{', '}'], "");
            let Ok(uri) = Uri::parse(text.as_bytes()) else {
                return;
            };
            wanted.extend(Named::of(&uri));
            literals.extend(uri.host().and_then(|host| host.ip()));
        };
        for_each_target(directory, &mut want);
        for (peer, _) in policy.peers() {
            if let Some(next_hop) = &peer.next_hop {
                want(next_hop);
            }
        }
        for host in &policy.forward.follow {
            want(&format!("sip:{host}"));
        }
        self.known.retain(|named, _| wanted.contains(named));
        for named in wanted {
            if self.known.len() < MOST_NAMES {
                self.known.entry(named).or_default();
            }
        }
        literals
    }

    /// The names that are to be resolved by now.
    fn due(&self, now: Instant) -> Vec<(Named, Arc<Entry>)> {
        let is_due = |entry: &Entry| entry.again_at.lock().is_none_or(|at| now >= at);
        self.known
            .iter()
            .filter(|entry| is_due(entry))
            .map(|entry| (entry.key().clone(), Arc::clone(&entry)))
            .collect()
    }
}

/// Resolves names until the server stops.
pub(crate) async fn run<P: Program>(shared: Arc<Shared<P>>) {
    let names = &shared.forward.names;
    let resolver = match resolver(*names.server.lock()) {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            tracing::error!(%error, "names of targets cannot be resolved: the system names no server to ask");
            return;
        }
    };
    let _first = names.asked.resolver.set(Arc::clone(&resolver));
    let mut phase = shared.phase();
    let mut scanned: Option<(usize, usize)> = None;
    let mut literals = HashSet::default();
    loop {
        let version = {
            let directory = shared.program.directory();
            let policy = shared.policy.load();
            // Only the places of what is in force are compared; at worst a change is seen with the next one.
            let version = (
                Arc::as_ptr(&directory) as usize,
                Arc::as_ptr(&policy) as usize,
            );
            if scanned != Some(version) {
                literals = names.scan(&directory, &policy);
            }
            version
        };
        scanned = Some(version);
        let mut lookups = JoinSet::new();
        for (named, entry) in names.due(Instant::now()) {
            if lookups.len() >= MOST_LOOKUPS {
                let _one = lookups.join_next().await;
            }
            let resolver = Arc::clone(&resolver);
            lookups.spawn(async move { refresh(&resolver, &named, &entry).await });
        }
        while lookups.join_next().await.is_some() {}
        names.note_addresses(&literals);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = names.wake.notified() => {}
            _ = reached(&mut phase, Phase::Stopped) => return,
        }
    }
}

/// Resolves one name again.
async fn refresh(resolver: &TokioResolver, named: &Named, entry: &Entry) {
    let now = Instant::now();
    let again_at = match timeout(LOOKUP_TIME, resolve(resolver, named)).await {
        Ok(Ok(resolved)) => {
            let is_nowhere = resolved.destinations.is_empty();
            if is_nowhere {
                tracing::warn!(host = %named.host, "this name of a target leads nowhere");
            }
            let longest = if is_nowhere {
                NOWHERE_LIFE
            } else {
                LONGEST_LIFE
            };
            entry
                .destinations
                .store(Some(Arc::new(resolved.destinations)));
            resolved
                .valid_until
                .clamp(now + SHORTEST_LIFE, now + longest)
        }
        Ok(Err(error)) => {
            tracing::warn!(host = %named.host, %error, "this name of a target cannot be resolved; what was known is used");
            now + RETRY
        }
        Err(_) => {
            tracing::warn!(host = %named.host, "this name of a target was not resolved in time; what was known is used");
            now + RETRY
        }
    };
    *entry.again_at.lock() = Some(again_at);
}

/// Resolves a name by RFC 3263 §4.
pub(super) async fn resolve(resolver: &TokioResolver, named: &Named) -> Result<Resolved, NetError> {
    let mut resolved = Resolved {
        destinations: Vec::new(),
        valid_until: Instant::now() + LONGEST_LIFE,
    };
    let fallback = match (named.is_secure, named.transport) {
        (true, _) => Transport::Tls,
        (false, transport) => transport.unwrap_or(Transport::Udp),
    };
    // A port leaves nothing to be found out but addresses.
    if named.port.is_none() {
        for (service, transport) in services(resolver, named, &mut resolved).await? {
            resolved.add_services(resolver, &service, transport).await?;
            if !resolved.destinations.is_empty() {
                return Ok(resolved);
            }
        }
    }
    let default = if fallback == Transport::Tls {
        5_061
    } else {
        5_060
    };
    let port = named.port.unwrap_or(default);
    resolved
        .add_addresses(resolver, &named.host, (fallback, port), (0, 0))
        .await?;
    Ok(resolved)
}

/// The names of SRV records, best first: those that NAPTR records give, else those of the transports that may be
/// used.
async fn services(
    resolver: &TokioResolver,
    named: &Named,
    resolved: &mut Resolved,
) -> Result<Vec<(String, Transport)>, NetError> {
    let may_use = |transport: Transport| match (named.is_secure, named.transport) {
        (true, _) => transport == Transport::Tls,
        // TLS for `sip:` comes by NAPTR alone.
        (false, None) => true,
        (false, Some(wanted)) => transport == wanted,
    };
    if named.transport.is_none() {
        let mut rules = Vec::new();
        for record in resolved
            .lookup(resolver, &named.host, RecordType::NAPTR)
            .await?
        {
            let RData::NAPTR(rule) = record else { continue };
            let transport = match rule.services.to_ascii_uppercase().as_slice() {
                b"SIP+D2U" => Transport::Udp,
                b"SIP+D2T" => Transport::Tcp,
                b"SIPS+D2T" => Transport::Tls,
                _ => continue,
            };
            if may_use(transport) {
                let name = rule.replacement.to_ascii();
                rules.push((rule.order, rule.preference, name, transport));
            }
        }
        if !rules.is_empty() {
            rules.sort_by_key(|(order, preference, ..)| (*order, *preference));
            return Ok(rules
                .into_iter()
                .map(|(_, _, name, transport)| (name, transport))
                .collect());
        }
    }
    let all = [
        ("_sip._udp", Transport::Udp),
        ("_sip._tcp", Transport::Tcp),
        ("_sips._tcp", Transport::Tls),
    ];
    Ok(all
        .into_iter()
        .filter(|(_, transport)| {
            may_use(*transport) && (named.is_secure || *transport != Transport::Tls)
        })
        .map(|(prefix, transport)| (format!("{prefix}.{}", named.host), transport))
        .collect())
}

impl Resolved {
    /// Adds what the SRV records of a service name.
    async fn add_services(
        &mut self,
        resolver: &TokioResolver,
        service: &str,
        transport: Transport,
    ) -> Result<(), NetError> {
        for record in self.lookup(resolver, service, RecordType::SRV).await? {
            let RData::SRV(server) = record else { continue };
            // A root alone says that there is no such service (RFC 2782).
            if server.target.is_root() {
                continue;
            }
            let way = (transport, server.port);
            let rank = (server.priority, server.weight);
            let host = server.target.to_ascii();
            self.add_addresses(resolver, &host, way, rank).await?;
        }
        Ok(())
    }

    /// Adds the addresses of a host.
    async fn add_addresses(
        &mut self,
        resolver: &TokioResolver,
        host: &str,
        (transport, port): (Transport, u16),
        (priority, weight): (u16, u16),
    ) -> Result<(), NetError> {
        let host = absolute(host);
        let found = match resolver.lookup_ip(host.as_str()).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        self.valid_until = self.valid_until.min(found.valid_until().into());
        for ip in found.iter() {
            let destination = Destination {
                transport,
                address: SocketAddr::new(ip, port),
                priority,
                weight,
            };
            if self.destinations.len() < MOST_DESTINATIONS {
                self.destinations.push(destination);
            }
        }
        Ok(())
    }

    /// The records of a name; none if there are none.
    async fn lookup(
        &mut self,
        resolver: &TokioResolver,
        name: &str,
        kind: RecordType,
    ) -> Result<Vec<RData>, NetError> {
        match resolver.lookup(absolute(name).as_str(), kind).await {
            Ok(found) => {
                self.valid_until = self.valid_until.min(found.valid_until().into());
                let records = found.answers().iter();
                Ok(records.map(|record| record.data.clone()).collect())
            }
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The name as one that nothing is added to.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// Asks this server, or whom the system asks.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let Some(server) = server else {
        return TokioResolver::builder_tokio()?.build();
    };
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let mut config = NameServerConfig::udp(server.ip());
    config.connections = vec![connection];
    let config = ResolverConfig::from_name_servers(vec![config]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

/// How many names are kept.
const MOST_NAMES: usize = 65_536;

/// How many addresses of a name are kept.
const MOST_DESTINATIONS: usize = 32;

/// How many names are resolved at once.
const MOST_LOOKUPS: usize = 32;

/// How long a lookup may take.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

/// How soon a lookup that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How soon a name is resolved again at least.
pub(super) const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// How soon a name is resolved again at most.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(3_600);

/// How soon a name that leads nowhere is resolved again.
const NOWHERE_LIFE: Duration = Duration::from_secs(30);

/// How often the directory is looked at.
const PAUSE: Duration = Duration::from_millis(500);
