//! Strangers: sources that are no peer. They are never answered, but the operator sees their addresses.
//!
//! The thread that receives a message of a stranger counts it in a small table of its own. Several times a second
//! these tables are emptied into one [`Ledger`], which logs the addresses once a minute and shows them on
//! request. Both are bounded: a message without room is counted without its address, so that forged sources cost
//! no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::Timestamp;

/// How a stranger tried to reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StrangerTransport {
    /// A datagram to a SIP port.
    Udp,
    /// A connection to a TCP port.
    Tcp,
    /// A connection to a TLS port.
    Tls,
    /// A packet or connection to a HEP port.
    Hep,
}

/// A stranger: its address, and how it tried.
type Key = (IpAddr, StrangerTransport);

/// What strangers sent since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrangersStatus {
    /// Messages and connections of all strangers.
    pub messages: u64,
    /// Of these, the messages without an address: there were too many, or it was long ago.
    pub messages_of_others: u64,
    /// The addresses kept, latest first.
    pub addresses: Vec<StrangerStatus>,
}

/// What one stranger sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangerStatus {
    /// The source address.
    pub address: IpAddr,
    /// How it tried to reach the server.
    pub transport: StrangerTransport,
    /// Messages, or connections over TCP and TLS.
    pub messages: u64,
    /// When the first message arrived, accurate to a second or so.
    pub first_seen_at: Timestamp,
    /// When the last message arrived, accurate to a second or so.
    pub last_seen_at: Timestamp,
}

/// The strangers of one thread since the table was last emptied.
#[derive(Debug, Default)]
pub(crate) struct StrangerTable {
    /// Messages by source.
    counts: HashMap<Key, u64, RandomState>,
    /// Messages of sources without room in the table.
    others: u64,
}

impl StrangerTable {
    /// Counts a message.
    pub(crate) fn count(&mut self, ip: IpAddr, transport: StrangerTransport) {
        let key = (ip.to_canonical(), transport);
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < MOST_IN_TABLE {
            self.counts.insert(key, 1);
        } else {
            self.others += 1;
        }
    }
}

/// The strangers of all threads.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The addresses kept.
    entries: HashMap<Key, Entry, RandomState>,
    /// Messages without an address since the start.
    others: u64,
    /// Messages without an address since the last report.
    unreported_others: u64,
    /// Messages since the start.
    messages: u64,
    /// When the last report was made, in time since the server's start.
    reported: Option<Duration>,
}

/// One address of the ledger.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Messages since the start.
    messages: u64,
    /// Messages since the last report.
    unreported: u64,
    /// When the first message arrived.
    first: Timestamp,
    /// When the last message arrived.
    last: Timestamp,
}

/// The report that is logged once a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The addresses with most messages since the last report, greatest count first.
    pub(crate) sources: Vec<(IpAddr, StrangerTransport, u64)>,
    /// How many more addresses there were.
    pub(crate) further: usize,
    /// Messages of these addresses, and messages without an address.
    pub(crate) messages_of_further: u64,
}

impl Ledger {
    /// Empties the table of a thread.
    pub(crate) fn take(&mut self, table: &Mutex<StrangerTable>, at: Timestamp) {
        let taken = {
            let mut table = table.lock();
            if table.counts.is_empty() && table.others == 0 {
                return;
            }
            std::mem::take(&mut *table)
        };
        for (key, count) in taken.counts {
            self.messages += count;
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.messages += count;
                entry.unreported += count;
                entry.last = at;
            } else if self.entries.len() < MOST_KEPT {
                let entry = Entry {
                    messages: count,
                    unreported: count,
                    first: at,
                    last: at,
                };
                self.entries.insert(key, entry);
            } else {
                self.others += count;
                self.unreported_others += count;
            }
        }
        self.messages += taken.others;
        self.others += taken.others;
        self.unreported_others += taken.others;
    }

    /// The report that is due now, if any: at once for the first stranger, then once a minute.
    pub(crate) fn report(&mut self, uptime: Duration) -> Option<Report> {
        let is_due = self
            .reported
            .is_none_or(|reported| uptime.saturating_sub(reported) >= REPORT_EACH);
        if !is_due {
            return None;
        }
        let mut new: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.unreported > 0)
            .map(|(&(ip, transport), entry)| (ip, transport, entry.unreported))
            .collect();
        if new.is_empty() && self.unreported_others == 0 {
            return None;
        }
        self.reported = Some(uptime);
        // Equal counts are always in the same order, so that two reports can be compared.
        new.sort_by_key(|(ip, transport, count)| (std::cmp::Reverse(*count), *ip, *transport));
        let rest = new.split_off(new.len().min(MOST_REPORTED));
        let of_rest: u64 = rest.iter().map(|(_, _, count)| count).sum();
        let report = Report {
            sources: new,
            further: rest.len(),
            messages_of_further: of_rest + std::mem::take(&mut self.unreported_others),
        };
        for entry in self.entries.values_mut() {
            entry.unreported = 0;
        }
        self.make_room();
        Some(report)
    }

    /// The totals since the start.
    pub(crate) fn status(&self) -> StrangersStatus {
        let mut addresses: Vec<_> = self
            .entries
            .iter()
            .map(|(&(address, transport), entry)| StrangerStatus {
                address,
                transport,
                messages: entry.messages,
                first_seen_at: entry.first,
                last_seen_at: entry.last,
            })
            .collect();
        addresses.sort_by_key(|stranger| {
            let latest = std::cmp::Reverse(stranger.last_seen_at.millis());
            (latest, stranger.address, stranger.transport)
        });
        let shown = addresses.len().min(MOST_SHOWN);
        let hidden: u64 = addresses
            .drain(shown..)
            .map(|stranger| stranger.messages)
            .sum();
        StrangersStatus {
            messages: self.messages,
            messages_of_others: self.others + hidden,
            addresses,
        }
    }

    /// Forgets the addresses that were silent longest, so that new ones have room.
    fn make_room(&mut self) {
        if self.entries.len() < MOST_KEPT {
            return;
        }
        let mut ages: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.last.millis(), *key))
            .collect();
        ages.sort_unstable();
        for (_, key) in ages.into_iter().take(MOST_KEPT / 2) {
            if let Some(entry) = self.entries.remove(&key) {
                self.others += entry.messages;
            }
        }
    }
}

impl StrangerTransport {
    /// The name in logs and in the status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Hep => "hep",
        }
    }
}

impl Report {
    /// Writes the report to the log.
    pub(crate) fn log(&self) {
        for (address, transport, count) in &self.sources {
            tracing::warn!(
                %address,
                transport = transport.name(),
                count,
                "messages dropped: the source is no peer"
            );
        }
        if self.messages_of_further > 0 {
            tracing::warn!(
                addresses = self.further,
                count = self.messages_of_further,
                "messages dropped: further sources that are no peers"
            );
        }
    }
}

/// The most addresses in the table of a thread.
const MOST_IN_TABLE: usize = 256;

/// The most addresses kept in all.
const MOST_KEPT: usize = 1_024;

/// The most addresses shown on request.
const MOST_SHOWN: usize = 100;

/// The most addresses listed in one report.
const MOST_REPORTED: usize = 10;

/// The time between two reports.
const REPORT_EACH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages from these addresses, in a ledger.
    fn meet(ledger: &mut Ledger, sources: impl IntoIterator<Item = IpAddr>, second: i64) {
        let table = Mutex::new(StrangerTable::default());
        for ip in sources {
            table.lock().count(ip, StrangerTransport::Udp);
        }
        ledger.take(&table, Timestamp::from_seconds(second));
        assert!(table.lock().counts.is_empty());
    }

    /// An address by number.
    fn ip(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn a_stranger_is_reported_at_once_and_then_once_a_minute() {
        let mut ledger = Ledger::default();
        let at = Duration::from_secs;
        assert_eq!(ledger.report(at(1)), None);
        meet(&mut ledger, [ip(1)], 1);
        let report = ledger.report(at(1)).unwrap();
        assert_eq!(report.sources, [(ip(1), StrangerTransport::Udp, 1)]);
        meet(&mut ledger, [ip(1), ip(2), ip(1)], 2);
        assert_eq!(ledger.report(at(2)), None);
        assert_eq!(ledger.report(at(60)), None);
        let report = ledger.report(at(61)).unwrap();
        assert_eq!(
            report.sources,
            [
                (ip(1), StrangerTransport::Udp, 2),
                (ip(2), StrangerTransport::Udp, 1)
            ]
        );
        assert_eq!((report.further, report.messages_of_further), (0, 0));
        // Without new messages there is no report.
        assert_eq!(ledger.report(at(200)), None);
    }

    #[test]
    fn many_addresses_are_summarized_and_none_is_lost_count_of() {
        let mut ledger = Ledger::default();
        meet(&mut ledger, (0..100_000).map(ip), 1);
        let report = ledger.report(Duration::from_secs(1)).unwrap();
        assert_eq!(report.sources.len(), MOST_REPORTED);
        assert_eq!(report.further, MOST_IN_TABLE - MOST_REPORTED);
        assert_eq!(report.messages_of_further, 99_990);
        for second in 2..50 {
            let first = u32::try_from(second).unwrap() * 1_000;
            meet(&mut ledger, (first..first + 200).map(ip), second);
        }
        assert!(ledger.entries.len() <= MOST_KEPT);
        let status = ledger.status();
        assert_eq!(status.messages, 100_000 + 48 * 200);
        assert_eq!(status.addresses.len(), MOST_SHOWN);
        let shown: u64 = status.addresses.iter().map(|shown| shown.messages).sum();
        assert_eq!(status.messages_of_others + shown, status.messages);
        // A report makes room for new addresses.
        ledger.report(Duration::from_secs(100)).unwrap();
        meet(&mut ledger, [ip(7_000_000)], 101);
        let newest = ledger.status().addresses.remove(0);
        assert_eq!((newest.address, newest.messages), (ip(7_000_000), 1));
        assert_eq!(ledger.status().messages, 100_000 + 48 * 200 + 1);
    }

    #[test]
    fn an_ipv4_mapped_source_is_the_ipv4_one() {
        let mut ledger = Ledger::default();
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        meet(&mut ledger, [mapped, "192.0.2.1".parse().unwrap()], 1);
        let status = ledger.status();
        assert_eq!(status.addresses.len(), 1);
        assert_eq!(status.addresses[0].messages, 2);
    }
}
