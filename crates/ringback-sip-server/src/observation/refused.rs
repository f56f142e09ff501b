//! Refused calls, for people: who called from where, which number, and why the call was refused.
//!
//! A refusal caused by the call itself (an unknown number, a malformed INVITE) is one entry in a bounded list per
//! thread. Refusals over a limit are only counted, by peer; each minute of them becomes one entry, so that a
//! flood costs nothing and does not displace the others.

use std::collections::VecDeque;
use std::net::SocketAddr;

use arrayvec::ArrayString;
use parking_lot::Mutex;
use ringback_routing::{CallVia, E164, Timestamp};
use ringback_sip_proto::Transport;

use crate::admission::excess::Excess;
use crate::policy::Policy;

/// A refused call, or several with the same peer and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCall {
    /// When the call was refused, for several the last one; accurate to a second or so.
    pub at: Timestamp,
    /// How the call was asked about; `None` for several calls.
    pub via: Option<CallVia>,
    /// `udp`, `tcp` or `tls`; `None` for several calls.
    pub transport: Option<&'static str>,
    /// The name of the peer.
    pub peer: Box<str>,
    /// The source address; `None` for several calls.
    pub source: Option<SocketAddr>,
    /// The dialed number, or else the user part of the request URI, cut off after 64 bytes. `None` if it was not
    /// read.
    pub to: Option<ArrayString<DIALED_BYTES>>,
    /// The caller, if it is a number.
    pub from: Option<E164>,
    /// The reason of the decision, or the cause of the refusal as in the metrics.
    pub reason: &'static str,
    /// The status of the reply; `None`: there was none.
    pub status: Option<u16>,
    /// The number of calls in this entry.
    pub count: u64,
}

/// The latest refused calls of one thread.
#[derive(Debug, Default)]
pub(crate) struct RefusedCalls(Mutex<VecDeque<RefusedCall>>);

impl RefusedCalls {
    /// Adds a call; a full list drops its oldest one.
    pub(crate) fn push(&self, call: RefusedCall) {
        let mut calls = self.0.lock();
        if calls.len() >= MOST_CALLS {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// The latest calls, newest first.
    fn latest(&self, limit: usize) -> Vec<RefusedCall> {
        self.0.lock().iter().rev().take(limit).cloned().collect()
    }
}

/// Refusals over a limit: one entry per minute, peer and limit.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    /// The entries, the latest ones last.
    calls: VecDeque<Summary>,
}

/// One entry.
#[derive(Debug)]
struct Summary {
    /// The start of the minute.
    began: Timestamp,
    /// The limit that was exceeded.
    excess: Excess,
    /// The entry as shown.
    call: RefusedCall,
}

impl Summaries {
    /// Adds the refusals counted since the last call.
    pub(crate) fn collect(&mut self, policy: &Policy, at: Timestamp) {
        for (peer, state) in policy.peers() {
            for excess in Excess::ALL {
                let counted = state
                    .shards()
                    .iter()
                    .map(|shard| shard.refused_as(excess))
                    .sum();
                let count = state.take_excess(excess, counted);
                if count > 0 {
                    self.add(&peer.name, excess, count, at);
                }
            }
        }
    }

    /// Adds refusals to the entry of their minute.
    fn add(&mut self, peer: &str, excess: Excess, count: u64, at: Timestamp) {
        let mut latest = self.calls.iter_mut().rev();
        let known = latest.find(|summary| summary.excess == excess && &*summary.call.peer == peer);
        if let Some(summary) = known
            && (0..SUMMARY_MILLIS).contains(&(at.millis() - summary.began.millis()))
        {
            summary.call.count += count;
            summary.call.at = at;
            return;
        }
        if self.calls.len() >= MOST_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(Summary {
            began: at,
            excess,
            call: RefusedCall {
                at,
                via: None,
                transport: None,
                peer: peer.into(),
                source: None,
                to: None,
                from: None,
                reason: excess.cause().name(),
                status: excess.status(),
                count,
            },
        });
    }

    /// These entries and the calls of all threads, newest first.
    pub(crate) fn latest<'t>(
        &self,
        threads: impl Iterator<Item = &'t RefusedCalls>,
        limit: usize,
    ) -> Vec<RefusedCall> {
        let mut calls: Vec<_> = threads.flat_map(|calls| calls.latest(limit)).collect();
        calls.extend(self.calls.iter().map(|summary| summary.call.clone()));
        // A stable sort: calls of one millisecond and thread keep their order.
        calls.sort_by_key(|call| std::cmp::Reverse(call.at.millis()));
        calls.truncate(limit);
        calls
    }
}

/// The dialed number or user as shown: cut off to fit, and only as far as it is text.
pub(crate) fn shown_dialed(dialed: Option<E164>, user: &[u8]) -> Option<ArrayString<DIALED_BYTES>> {
    let mut shown = ArrayString::new();
    if let Some(number) = dialed {
        let _fits = std::fmt::Write::write_fmt(&mut shown, format_args!("{number}"));
    } else {
        for character in String::from_utf8_lossy(user.get(..DIALED_BYTES).unwrap_or(user)).chars() {
            if shown.try_push(character).is_err() {
                break;
            }
        }
    }
    (!shown.is_empty()).then_some(shown)
}

/// The way of an INVITE over a transport.
pub(crate) const fn via(transport: Transport) -> CallVia {
    match transport {
        Transport::Udp => CallVia::SipUdp,
        Transport::Tcp => CallVia::SipTcp,
        Transport::Tls => CallVia::SipTls,
    }
}

/// The name of a transport.
pub(crate) const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    }
}

/// The most bytes kept of the dialed number or user.
pub(crate) const DIALED_BYTES: usize = 64;

/// The most refused calls that each thread keeps, and the most summaries.
const MOST_CALLS: usize = 1_000;

/// How long refusals over a limit are counted in one entry, in milliseconds.
const SUMMARY_MILLIS: i64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A call at this second.
    fn call(second: i64, reason: &'static str) -> RefusedCall {
        RefusedCall {
            at: Timestamp::from_seconds(second),
            via: Some(CallVia::SipUdp),
            transport: Some("udp"),
            peer: "carrier-a".into(),
            source: None,
            to: None,
            from: None,
            reason,
            status: Some(404),
            count: 1,
        }
    }

    #[test]
    fn the_newest_calls_of_all_threads_stand_first() {
        let threads = [RefusedCalls::default(), RefusedCalls::default()];
        for second in 0..3_000 {
            threads[usize::from(second % 2 == 0)].push(call(second, "number_unknown"));
        }
        let mut summaries = Summaries::default();
        let excess = Excess::ALL[0];
        summaries.add("carrier-a", excess, 7, Timestamp::from_seconds(2_998));
        let latest = summaries.latest(threads.iter(), 4);
        let shown: Vec<_> = latest
            .iter()
            .map(|call| (call.at.seconds(), call.count))
            .collect();
        assert_eq!(shown, [(2_999, 1), (2_998, 1), (2_998, 7), (2_997, 1)]);
        let all = summaries.latest(threads.iter(), usize::MAX);
        assert_eq!(all.len(), 2 * MOST_CALLS + 1);
    }

    #[test]
    fn refusals_for_too_many_calls_are_one_entry_a_minute() {
        let mut summaries = Summaries::default();
        let (rate, other) = (Excess::ALL[0], Excess::ALL[1]);
        for second in 0..150 {
            summaries.add("a", rate, 10, Timestamp::from_seconds(second));
        }
        summaries.add("b", rate, 1, Timestamp::from_seconds(150));
        summaries.add("a", other, 2, Timestamp::from_seconds(151));
        let latest = summaries.latest(std::iter::empty(), 100);
        let shown: Vec<_> = latest
            .iter()
            .map(|call| (&*call.peer, call.reason, call.at.seconds(), call.count))
            .collect();
        assert_eq!(
            shown,
            [
                ("a", other.cause().name(), 151, 2),
                ("b", rate.cause().name(), 150, 1),
                ("a", rate.cause().name(), 149, 300),
                ("a", rate.cause().name(), 119, 600),
                ("a", rate.cause().name(), 59, 600),
            ]
        );
        // The list is bounded, however many there are.
        for second in 0..3_000 {
            let peer = format!("peer-{second}");
            summaries.add(&peer, rate, 1, Timestamp::from_seconds(1_000 + second));
        }
        assert_eq!(summaries.calls.len(), MOST_CALLS);
    }

    #[test]
    fn what_was_dialed_is_shown_as_it_came() {
        let number = E164::from_canonical(b"+551130000000");
        assert_eq!(
            shown_dialed(number, b"x").unwrap().as_str(),
            "+551130000000"
        );
        assert_eq!(
            shown_dialed(None, b"reception").unwrap().as_str(),
            "reception"
        );
        assert_eq!(shown_dialed(None, b""), None);
        let long = shown_dialed(None, &[0xff; 300]).unwrap();
        assert!(long.len() <= DIALED_BYTES && long.starts_with('\u{fffd}'));
    }
}
