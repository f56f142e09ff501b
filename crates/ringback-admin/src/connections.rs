//! Which connections are open, how many there may be, and which one makes room for a new one.
//!
//! There are limits in all and for each source address. A new connection over a limit takes the place
//! of one that has no request under way: of those that never made one the oldest, else the one that has
//! been idle for longest. Slow request heads count as idle. Where all are busy, the new connection is *reserved*:
//! paths that ask for no token are answered on it, others are refused. Reserved connections are few, and
//! the oldest of them gives way, so that probes are answered whatever the others do.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The open connections of some listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    /// How many there may be.
    limit: usize,
    /// How many of one source address.
    limit_per_address: usize,
    /// Those that are open.
    state: Mutex<State>,
}

/// A connection's place among the open ones, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// The open connections.
    connections: Arc<Connections>,
    /// Which one it is.
    id: u64,
    /// Whether only paths without a token are answered.
    reserved: bool,
    /// Cancelled when the connection has to make room.
    evicted: CancellationToken,
}

/// A request under way; its connection does not make room for others until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

/// What is known of the open connections.
#[derive(Debug, Default)]
struct State {
    /// The next connection's number, and the next moment at which one becomes idle.
    next: u64,
    /// Those that are open.
    open: HashMap<u64, Connection>,
    /// Those without a request, the first to make room first.
    idle: BTreeMap<Idle, u64>,
    /// How many each source address has, and which of these are idle.
    addresses: HashMap<IpAddr, Address>,
    /// How many are not reserved.
    ordinary: usize,
    /// Those that are reserved, oldest first.
    reserved: BTreeMap<u64, ()>,
}

/// One open connection.
#[derive(Debug)]
struct Connection {
    /// Where it comes from.
    address: IpAddr,
    /// Whether only paths without a token are answered.
    reserved: bool,
    /// Since when it has no request; `None`: it has one, or is reserved.
    idle: Option<Idle>,
    /// Cancelled when it has to make room.
    evicted: CancellationToken,
}

/// The connections of one source address, reserved ones left out.
#[derive(Debug, Default)]
struct Address {
    /// How many connections.
    count: usize,
    /// Those without a request.
    idle: BTreeMap<Idle, u64>,
}

/// The order in which idle connections make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Idle {
    /// Whether it has had a request.
    used: bool,
    /// A count that grows with every connection and request: the smallest has been idle for longest.
    since: u64,
}

impl Connections {
    /// No connections yet.
    pub(crate) fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            state: Mutex::default(),
        })
    }

    /// Takes a new connection in; another one may have to end for it.
    pub(crate) fn admit(self: &Arc<Self>, source: IpAddr) -> Arc<Place> {
        let address = network_of(source);
        let evicted = CancellationToken::new();
        let mut state = self.state.lock();
        let id = state.tick();
        let of_address = state.addresses.get(&address);
        let reserved = if of_address.is_some_and(|of| of.count >= self.limit_per_address) {
            let oldest = of_address.and_then(|of| of.idle.values().next().copied());
            !state.evict(oldest)
        } else if state.ordinary >= self.limit {
            let oldest = state.idle.values().next().copied();
            !state.evict(oldest)
        } else {
            false
        };
        if reserved && state.reserved.len() >= MAX_RESERVED {
            let oldest = state.reserved.keys().next().copied();
            state.evict(oldest);
        }
        let connection = Connection {
            address,
            reserved,
            idle: None,
            evicted: evicted.clone(),
        };
        state.open.insert(id, connection);
        if reserved {
            state.reserved.insert(id, ());
        } else {
            state.ordinary += 1;
            state.addresses.entry(address).or_default().count += 1;
            state.set_idle(
                id,
                Some(Idle {
                    used: false,
                    since: id,
                }),
            );
        }
        drop(state);
        Arc::new(Place {
            connections: Arc::clone(self),
            id,
            reserved,
            evicted,
        })
    }
}

impl Place {
    /// Whether only paths without a token are to be answered.
    pub(crate) const fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Waits until the connection has to make room.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// A request has begun; `None`: the connection has just had to make room.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Busy> {
        let mut state = self.connections.state.lock();
        if !state.open.contains_key(&self.id) {
            return None;
        }
        state.set_idle(self.id, None);
        Some(Busy(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state.lock().remove(self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.connections.state.lock();
        let since = state.tick();
        state.set_idle(self.0.id, Some(Idle { used: true, since }));
    }
}

impl State {
    /// The next number.
    const fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes since when a connection is idle, or that it no longer is.
    fn set_idle(&mut self, id: u64, idle: Option<Idle>) {
        let Some(connection) = self.open.get_mut(&id) else {
            return;
        };
        if connection.reserved {
            return;
        }
        let before = std::mem::replace(&mut connection.idle, idle);
        let of_address = self.addresses.entry(connection.address).or_default();
        if let Some(before) = before {
            self.idle.remove(&before);
            of_address.idle.remove(&before);
        }
        if let Some(idle) = idle {
            self.idle.insert(idle, id);
            of_address.idle.insert(idle, id);
        }
    }

    /// Ends a connection; false: there is none to end.
    fn evict(&mut self, id: Option<u64>) -> bool {
        let removed = id.and_then(|id| self.remove(id));
        if let Some(connection) = &removed {
            connection.evicted.cancel();
        }
        removed.is_some()
    }

    /// Forgets a connection.
    fn remove(&mut self, id: u64) -> Option<Connection> {
        self.set_idle(id, None);
        let connection = self.open.remove(&id)?;
        if connection.reserved {
            self.reserved.remove(&id);
            return Some(connection);
        }
        self.ordinary -= 1;
        if let Some(of_address) = self.addresses.get_mut(&connection.address) {
            of_address.count -= 1;
            if of_address.count == 0 {
                self.addresses.remove(&connection.address);
            }
        }
        Some(connection)
    }
}

/// What counts as one source address: in IPv6 a host has a whole /64 to choose from.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

/// How many connections there may be beyond the limit, for paths without a token.
const MAX_RESERVED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";
    const THERE: &str = "192.0.2.2";

    fn admit(connections: &Arc<Connections>, source: &str) -> Arc<Place> {
        connections.admit(source.parse().unwrap())
    }

    fn is_open(place: &Place) -> bool {
        !place.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_that_never_asked_makes_room_first() {
        let connections = Connections::new(3, 3);
        let asked = admit(&connections, HERE);
        drop(asked.begin());
        let busy = admit(&connections, HERE);
        let _request = busy.begin().unwrap();
        let silent = admit(&connections, HERE);
        let fourth = admit(&connections, THERE);
        assert!(!is_open(&silent) && silent.begin().is_none());
        assert!(is_open(&asked) && is_open(&busy) && !fourth.is_reserved());
        let _request = fourth.begin().unwrap();
        let fifth = admit(&connections, THERE);
        assert!(!is_open(&asked) && is_open(&busy) && !fifth.is_reserved());
    }

    #[test]
    fn where_all_are_busy_the_latest_few_are_reserved() {
        let connections = Connections::new(1, 1);
        let busy = admit(&connections, HERE);
        let request = busy.begin().unwrap();
        let reserved: Vec<_> = (0..=MAX_RESERVED)
            .map(|_| admit(&connections, HERE))
            .collect();
        assert!(reserved.iter().all(|place| place.is_reserved()));
        assert!(!is_open(&reserved[0]) && reserved[1..].iter().all(|place| is_open(place)));
        assert!(is_open(&busy));
        drop(request);
        assert!(!admit(&connections, HERE).is_reserved());
        assert!(!is_open(&busy));
    }

    #[test]
    fn an_address_over_its_limit_takes_places_of_its_own_alone() {
        let connections = Connections::new(8, 2);
        let theirs = admit(&connections, THERE);
        let first = admit(&connections, HERE);
        let second = admit(&connections, HERE);
        let third = admit(&connections, HERE);
        assert!(is_open(&theirs) && !is_open(&first) && is_open(&second) && is_open(&third));
        // One host has a whole /64 of IPv6.
        let places: Vec<_> = [
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
            "2001:db8:0:1::1",
        ]
        .map(|source| admit(&connections, source))
        .into();
        let open: Vec<bool> = places.iter().map(|place| is_open(place)).collect();
        assert_eq!(open, [false, true, true, true]);
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let connections = Connections::new(2, 2);
        for _ in 0..4 {
            let places = [HERE, HERE, THERE].map(|source| admit(&connections, source));
            let _request = places[2].begin();
        }
        let state = connections.state.lock();
        assert!(state.open.is_empty() && state.idle.is_empty() && state.addresses.is_empty());
        assert!(state.ordinary == 0 && state.reserved.is_empty());
    }
}
