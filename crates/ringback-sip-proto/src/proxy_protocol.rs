//! The PROXY protocol, versions 1 and 2: the header with which a load balancer names the client of a
//! connection that it passes on (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! The header comes before everything else, before TLS too, so not a byte more than the header may be
//! taken off the connection: [`read_header`] says after each piece how many bytes are still part of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the bytes read so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// At least so many more bytes belong to the header, never 0: read no more than these, and ask
    /// again.
    Incomplete(usize),
    /// The header is whole, and names the client.
    Named(SocketAddr),
    /// The header is whole, and names nobody (`LOCAL`, `UNKNOWN`, an unspecified family): the balancer
    /// speaks for itself, so the connection's own address counts.
    Own,
    /// This is no header that can be used: end the connection.
    Broken,
}

/// The longest header that is read, in bytes: addresses, and what a balancer adds about them.
pub const MAX_PROXY_HEADER: usize = 4_096;

/// Reads the header from the first bytes of a connection.
#[must_use]
pub fn read_header(bytes: &[u8]) -> ProxyHeader {
    let is_start_of = |signature: &[u8]| {
        let length = bytes.len().min(signature.len());
        bytes.get(..length) == signature.get(..length)
    };
    if bytes.is_empty() {
        // The shortest header of all.
        return ProxyHeader::Incomplete(V1_SHORTEST);
    }
    if is_start_of(V2_SIGNATURE) {
        return read_v2(bytes);
    }
    if is_start_of(V1_SIGNATURE) {
        return read_v1(bytes);
    }
    ProxyHeader::Broken
}

/// Reads version 1: a line of text.
fn read_v1(bytes: &[u8]) -> ProxyHeader {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match (bytes.len(), bytes.last()) {
            (V1_LONGEST.., _) => ProxyHeader::Broken,
            (length, _) if length < V1_SHORTEST => ProxyHeader::Incomplete(V1_SHORTEST - length),
            (_, Some(b'\r')) => ProxyHeader::Incomplete(1),
            _ => ProxyHeader::Incomplete(2),
        };
    };
    let words = line.strip_prefix(V1_SIGNATURE).unwrap_or_default();
    let named = str::from_utf8(words).ok().and_then(|words| {
        // What stands behind UNKNOWN does not matter.
        if words == "UNKNOWN" || words.starts_with("UNKNOWN ") {
            return Some(ProxyHeader::Own);
        }
        let mut words = words.split(' ');
        let family = words.next()?;
        let source = words.next()?.parse::<IpAddr>().ok()?;
        let destination = words.next()?.parse::<IpAddr>().ok()?;
        let source_port = port(words.next()?)?;
        let _destination_port = port(words.next()?)?;
        let fits = match family {
            "TCP4" => source.is_ipv4() && destination.is_ipv4(),
            "TCP6" => source.is_ipv6() && destination.is_ipv6(),
            _ => false,
        };
        (fits && words.next().is_none())
            .then(|| ProxyHeader::Named(SocketAddr::new(source, source_port)))
    });
    named.unwrap_or(ProxyHeader::Broken)
}

/// Reads version 2: a signature, a version with a command, a family, a length; then that many bytes, of
/// which the addresses are the first.
fn read_v2(bytes: &[u8]) -> ProxyHeader {
    let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD>() else {
        return ProxyHeader::Incomplete(V2_HEAD - bytes.len());
    };
    let &[.., command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (is_local, addresses) = match (command, family) {
        (0x20, _) => (true, 0),
        (0x21, 0x00) => (true, 0),
        (0x21, 0x11) => (false, V2_ADDRESSES_IPV4),
        (0x21, 0x21) => (false, V2_ADDRESSES_IPV6),
        // Another version or command, or a client that cannot be one of ours: UDP, a UNIX socket.
        _ => return ProxyHeader::Broken,
    };
    if length < addresses || V2_HEAD + length > MAX_PROXY_HEADER {
        return ProxyHeader::Broken;
    }
    if rest.len() < length {
        return ProxyHeader::Incomplete(length - rest.len());
    }
    let source = match *rest {
        _ if is_local => return ProxyHeader::Own,
        [a, b, c, d, _, _, _, _, high, low, ..] if family == 0x11 => {
            let ip = Ipv4Addr::new(a, b, c, d).into();
            Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
        }
        _ => rest.first_chunk::<16>().and_then(|ip| {
            let &[high, low] = rest.get(32..)?.first_chunk::<2>()?;
            let ip = Ipv6Addr::from(*ip).into();
            Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
        }),
    };
    source.map_or(ProxyHeader::Broken, ProxyHeader::Named)
}

/// Reads a port: digits alone.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// How version 1 starts.
const V1_SIGNATURE: &[u8] = b"PROXY ";

/// `PROXY UNKNOWN` with its line end.
const V1_SHORTEST: usize = 15;

/// The longest line with its line end, as the protocol has it.
const V1_LONGEST: usize = 107;

/// How version 2 starts.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
const V2_HEAD: usize = 16;

/// Bytes of two IPv4 addresses with ports.
const V2_ADDRESSES_IPV4: usize = 12;

/// Bytes of two IPv6 addresses with ports.
const V2_ADDRESSES_IPV6: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// Reads a connection as a server does, in pieces of at most this many bytes; gives the result and
    /// how many bytes were taken.
    fn take(stream: &[u8], piece: usize) -> (ProxyHeader, usize) {
        let mut taken = 0;
        loop {
            match read_header(&stream[..taken]) {
                ProxyHeader::Incomplete(0) => panic!("nothing to read after {taken} bytes"),
                ProxyHeader::Incomplete(_) if taken == stream.len() => {
                    return (ProxyHeader::Incomplete(0), taken);
                }
                ProxyHeader::Incomplete(wanted) => {
                    taken = (taken + wanted.min(piece)).min(stream.len());
                }
                done => return (done, taken),
            }
        }
    }

    #[test]
    fn headers_are_read_and_nothing_behind_them() {
        let named = |text: &str| ProxyHeader::Named(text.parse().unwrap());
        let ipv4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x13, 0xc4, 0x13, 0xc5];
        let ipv6 = [
            &"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets()[..],
            &[0; 16],
            &[0x13, 0xc4, 0, 80],
        ]
        .concat();
        let with_more = [&ipv4[..], &[4, 0, 100], &[7; 100]].concat();
        for (header, result) in [
            (
                b"PROXY TCP4 203.0.113.9 192.0.2.1 5060 5061\r\n".to_vec(),
                named("203.0.113.9:5060"),
            ),
            (
                b"PROXY TCP6 2001:db8::9 ::1 5060 5061\r\n".to_vec(),
                named("[2001:db8::9]:5060"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Own),
            (
                b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
                ProxyHeader::Own,
            ),
            (v2(0x21, 0x11, &ipv4), named("203.0.113.9:5060")),
            (v2(0x21, 0x11, &with_more), named("203.0.113.9:5060")),
            (v2(0x21, 0x21, &ipv6), named("[2001:db8::9]:5060")),
            (v2(0x21, 0x00, &[]), ProxyHeader::Own),
            (v2(0x20, 0x00, &[]), ProxyHeader::Own),
            (v2(0x20, 0x11, &ipv4), ProxyHeader::Own),
        ] {
            let stream = [&header[..], b"\r\n\r\nINVITE"].concat();
            for piece in 1..=stream.len() {
                let taken = take(&stream, piece);
                assert_eq!(taken, (result, header.len()), "{header:?} by {piece}");
            }
            for length in 0..header.len() {
                let (cut, taken) = take(&header[..length], 1);
                assert_eq!((cut, taken), (ProxyHeader::Incomplete(0), length));
            }
        }
    }

    #[test]
    fn what_is_no_header_is_broken_at_its_first_wrong_byte() {
        for (stream, most) in [
            (&b"INVITE sip:a@b SIP/2.0\r\n"[..], 1),
            (b"PING", 2),
            (b"\r\n\r\n\r\n\r\n", 5),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 5060\r\n", 40),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 5060 5061 \r\n", 50),
            (b"PROXY TCP4 203.0.113.9  192.0.2.1 5060 5061\r\n", 50),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 +5060 5061\r\n", 50),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 5060 65536\r\n", 50),
            (b"PROXY TCP4 2001:db8::9 ::1 5060 5061\r\n", 50),
            (b"PROXY TCP6 203.0.113.9 192.0.2.1 5060 5061\r\n", 50),
            (b"PROXY UDP4 203.0.113.9 192.0.2.1 5060 5061\r\n", 50),
            (b"PROXY TCP4 name 192.0.2.1 5060 5061\r\n", 50),
            (b"PROXY UNKNOWNS\r\n", 50),
            (b"PROXY TCP4 \xff\xff\xff\xff\xff\r\n", 50),
        ] {
            let (broken, taken) = take(stream, 1);
            assert_eq!(broken, ProxyHeader::Broken, "{stream:?}");
            assert!(taken <= most, "{taken} bytes of {stream:?}");
        }
        for header in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x20, 0x00, &[0; MAX_PROXY_HEADER]),
        ] {
            assert_eq!(take(&header, 1), (ProxyHeader::Broken, V2_HEAD));
        }
    }

    #[test]
    fn a_line_without_end_is_broken_after_107_bytes() {
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
        let (broken, taken) = take(&endless, 200);
        assert_eq!(broken, ProxyHeader::Broken);
        assert!((V1_LONGEST..=V1_LONGEST + 1).contains(&taken), "{taken}");
    }
}
