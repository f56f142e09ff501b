//! A packet filter before a socket: datagrams that the system drops before it wakes a thread.
//!
//! It drops every ACK, unless calls are sent on. Half of all messages are ACKs, and a redirect server ignores them,
//! because it keeps no transaction that an ACK could end (RFC 3261 §17.1.1.3). On overload it also drops a part of the INVITEs from
//! some sources.
//!
//! Receiving a datagram only to drop it costs about a third of serving it. So a server that drops by itself
//! serves less the more it is flooded, and datagrams without room in its socket are dropped blindly, whoever sent
//! them. A packet filter (`SO_ATTACH_FILTER`) costs the server nothing and looks at the source. Everything else
//! passes.
//!
//! These drops are counted in the system's `UdpInErrors` and in the socket's drops, but not in `UdpRcvbufErrors`,
//! which counts datagrams without room.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use arrayvec::ArrayVec;
use nix::libc;
use socket2::{SockFilter, SockRef};

/// The sources that are filtered, and the part of their INVITEs that passes. ACKs are dropped even without any
/// source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketFilter {
    /// Each source at most once.
    pub(crate) sources: ArrayVec<SourceFilter, MOST_SOURCES>,
}

/// The filter of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceFilter {
    /// The source.
    pub(crate) ip: IpAddr,
    /// How many of 2³² INVITEs pass.
    pub(crate) passes: u32,
}

impl PacketFilter {
    /// Attaches the packet filter to a socket, in place of the one before it. Where calls are sent on, ACKs pass:
    /// they end transactions.
    pub(crate) fn attach(&self, socket: &impl AsFd, acks_pass: bool) -> io::Result<()> {
        SockRef::from(socket).attach_filter(&self.program(acks_pass))
    }

    /// The program for the system's packet filter. It sees the datagram from its UDP header on.
    fn program(&self, acks_pass: bool) -> Vec<SockFilter> {
        let mut program = vec![
            // A datagram too short to read is neither an ACK nor an INVITE.
            SockFilter::new((libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16, 0, 0, 0),
            skip_if(libc::BPF_JGE, UDP_HEADER + 4, 1, 0),
            verdict(PASS),
            load(UDP_HEADER),
            skip_if(libc::BPF_JEQ, u32::from_be_bytes(*b"ACK "), 0, 1),
            verdict(if acks_pass { PASS } else { DROP }),
            skip_if(libc::BPF_JEQ, u32::from_be_bytes(*b"INVI"), 1, 0),
            verdict(PASS),
        ];
        for source_filter in &self.sources {
            let (at, address): (u32, ArrayVec<u8, 16>) = match source_filter.ip {
                IpAddr::V4(ip) => (V4_SOURCE, ip.octets().into_iter().collect()),
                IpAddr::V6(ip) => (V6_SOURCE, ip.octets().into_iter().collect()),
            };
            let words = address.as_chunks::<4>().0;
            for ((index, word), left) in (0..).zip(words).zip((0..words.len()).rev()) {
                program.push(load(at.wrapping_add(4 * index)));
                // Jump over the words that are left, and the four instructions behind them.
                let past = u8::try_from(2 * left + 4).unwrap_or(u8::MAX);
                program.push(skip_if(libc::BPF_JEQ, u32::from_be_bytes(*word), 0, past));
            }
            program.extend([
                load(RANDOM),
                skip_if(libc::BPF_JGE, source_filter.passes, 0, 1),
                verdict(DROP),
                verdict(PASS),
            ]);
        }
        program.push(verdict(PASS));
        program
    }
}

/// Reads four bytes.
const fn load(at: u32) -> SockFilter {
    SockFilter::new(
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        0,
        0,
        at,
    )
}

/// Compares the loaded value; skips this many instructions if the comparison holds, or if it fails.
const fn skip_if(comparison: u32, value: u32, holds: u8, fails: u8) -> SockFilter {
    let code = libc::BPF_JMP | comparison | libc::BPF_K;
    SockFilter::new(code as u16, holds, fails, value)
}

/// Ends the program and keeps this many bytes of the datagram.
const fn verdict(bytes: u32) -> SockFilter {
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes)
}

/// The most sources that one packet filter can hold.
pub(crate) const MOST_SOURCES: usize = 32;

/// Bytes before the payload.
const UDP_HEADER: u32 = 8;

/// Keeps the datagram.
const PASS: u32 = u32::MAX;

/// Drops it.
const DROP: u32 = 0;

/// Offset of the source in an IPv4 packet.
const V4_SOURCE: u32 = (libc::SKF_NET_OFF as u32).wrapping_add(12);

/// Offset of the source in an IPv6 packet.
const V6_SOURCE: u32 = (libc::SKF_NET_OFF as u32).wrapping_add(8);

/// Reads a random number.
const RANDOM: u32 = (libc::SKF_AD_OFF as u32).wrapping_add(libc::SKF_AD_RANDOM as u32);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// The messages that arrive of those sent from these addresses, one after the other.
    fn arrives(filter: &PacketFilter, to: &str, messages: &[(&str, &str)]) -> Vec<String> {
        let server = UdpSocket::bind((to, 0)).unwrap();
        server.set_nonblocking(true).unwrap();
        filter.attach(&server, false).unwrap();
        // On loopback a datagram has arrived when the send returns.
        for (from, message) in messages {
            let peer = UdpSocket::bind((*from, 0)).unwrap();
            let address = server.local_addr().unwrap();
            peer.send_to(message.as_bytes(), address).unwrap();
        }
        let mut buffer = [0; 100];
        std::iter::from_fn(|| {
            server
                .recv(&mut buffer)
                .ok()
                .map(|length| buffer[..length].to_vec())
        })
        .map(|message| String::from_utf8(message).unwrap())
        .collect()
    }

    /// A packet filter for these sources.
    fn filter(sources: &[(&str, u32)]) -> PacketFilter {
        let source_filter = |(ip, passes): &(&str, u32)| SourceFilter {
            ip: ip.parse().unwrap(),
            passes: *passes,
        };
        PacketFilter {
            sources: sources.iter().map(source_filter).collect(),
        }
    }

    #[test]
    fn invites_of_the_source_alone_are_held_back() {
        let filter = filter(&[("192.0.2.1", 0), ("127.0.0.2", 0), ("127.0.0.3", u32::MAX)]);
        let arrived = arrives(
            &filter,
            "127.0.0.1",
            &[
                ("127.0.0.2", "INVITE 1"),
                ("127.0.0.1", "INVITE 2"),
                ("127.0.0.2", "OPTIONS 3"),
                ("127.0.0.2", "\r\n"),
                ("127.0.0.3", "INVITE 4"),
                ("127.0.0.2", "INVITE 5"),
            ],
        );
        assert_eq!(arrived, ["INVITE 2", "OPTIONS 3", "\r\n", "INVITE 4"]);
    }

    #[test]
    fn all_of_an_ipv6_address_is_looked_at() {
        let messages = [("::1", "INVITE 1"), ("::1", "BYE 2")];
        let others = [
            ("::2", 0),
            ("2001:db8::1", 0),
            ("0:1::1", 0),
            ("::1:0:0:1", 0),
        ];
        assert_eq!(arrives(&filter(&others), "::1", &messages).len(), 2);
        let ours = [("::2", 0), ("::1", 0)];
        assert_eq!(arrives(&filter(&ours), "::1", &messages), ["BYE 2"]);
    }

    #[test]
    fn every_ack_is_held_back() {
        for to in ["127.0.0.1", "::1"] {
            let messages = [
                "ACK sip:a@h SIP/2.0",
                "ACK",
                "",
                "ACKS ",
                "ack sip:a",
                "INVITE",
            ];
            let messages = messages.map(|message| (to, message));
            let arrived = arrives(&PacketFilter::default(), to, &messages);
            assert_eq!(arrived, ["ACK", "", "ACKS ", "ack sip:a", "INVITE"]);
        }
    }

    #[test]
    fn a_part_passes() {
        let filter = filter(&[("127.0.0.1", 1 << 31)]);
        let passed = arrives(&filter, "127.0.0.1", &[("127.0.0.1", "INVITE"); 100]).len();
        // With even odds these bounds are missed less than once in 2⁶⁰ runs.
        assert!((7..94).contains(&passed), "{passed}");
    }

    #[test]
    fn a_packet_filter_is_taken_away_again() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let address = server.local_addr().unwrap();
        let none = PacketFilter::default();
        none.attach(&server, false).unwrap();
        filter(&[("127.0.0.1", 0)]).attach(&server, false).unwrap();
        server.send_to(b"INVITE 1", address).unwrap();
        none.attach(&server, false).unwrap();
        server.send_to(b"INVITE 2", address).unwrap();
        let mut buffer = [0; 100];
        let length = server.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"INVITE 2");
    }

    #[test]
    fn a_full_packet_filter_is_accepted() {
        let mut filter = PacketFilter::default();
        for index in 0..MOST_SOURCES {
            let ip = format!("2001:db8::{index:x}").parse().unwrap();
            filter.sources.push(SourceFilter { ip, passes: 0 });
        }
        let messages = [("::1", "INVITE 1")];
        assert_eq!(arrives(&filter, "::1", &messages), ["INVITE 1"]);
    }
}
