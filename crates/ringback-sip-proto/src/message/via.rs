//! `Via`: where a reply goes (RFC 3261 §18.2.2, §20.42; RFC 3581).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::{Params, Value};
use crate::lex::{Cursor, TOKEN};
use crate::origin::Origin;
use crate::uri::Host;

/// One `Via` value whose protocol and sent-by could be read.
///
/// Its parameters may still be broken: then a reply can be addressed, and says so.
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    /// The whole value on the wire.
    value: Value<'m>,
    /// `UDP`, `TCP`, `TLS` or another.
    transport: &'m [u8],
    /// Host of the sent-by.
    host: Host<'m>,
    /// Port of the sent-by.
    port: Option<u16>,
    /// The `branch` parameter.
    branch: Option<&'m [u8]>,
    /// The `maddr` parameter.
    maddr: Option<&'m [u8]>,
    /// The `received` parameter.
    received: Option<&'m [u8]>,
    /// Offset in the value of the end of an `rport` that has no value.
    rport: Option<usize>,
    /// False if the port or a parameter breaks the grammar.
    sound: bool,
}

impl<'m> Via<'m> {
    /// Reads one value; `None` if it does not say where a reply would go.
    #[must_use]
    pub fn parse(value: Value<'m>) -> Option<Self> {
        let bytes = value.as_bytes();
        let mut cursor = Cursor::new(bytes);
        if bytes.starts_with(b"SIP/2.0/") {
            // Nearly always.
            cursor.skip(8);
        } else {
            for _ in 0..2 {
                if cursor.take_in(&TOKEN).is_empty() {
                    return None;
                }
                cursor.skip_space();
                if !cursor.eat(b'/') {
                    return None;
                }
                cursor.skip_space();
            }
        }
        // Space may stand behind the slash.
        cursor.skip_space();
        let transport = cursor.take_in(&TOKEN);
        if transport.is_empty() {
            return None;
        }
        let gap = cursor.at();
        cursor.skip_space();
        if cursor.at() == gap {
            return None;
        }
        let host = Host::read(&mut cursor)?;
        cursor.skip_space();
        let mut sound = true;
        let mut port = None;
        if cursor.eat(b':') {
            cursor.skip_space();
            let digits = cursor.take_while(|byte| byte.is_ascii_digit());
            port = crate::uri::port(digits);
            sound = port.is_some();
            cursor.skip_space();
        }
        let mut via = Self {
            value,
            transport,
            host,
            port,
            branch: None,
            maddr: None,
            received: None,
            rport: None,
            sound,
        };
        let offset = cursor.at();
        for param in Params::new(cursor.rest()) {
            let Ok(param) = param else {
                via.sound = false;
                break;
            };
            match param.name.len() {
                5 if param.name.eq_ignore_ascii_case(b"rport") && param.value.is_none() => {
                    via.rport = Some(offset + param.name_end);
                }
                5 if param.name.eq_ignore_ascii_case(b"maddr") => {
                    via.maddr = via.maddr.or(param.value);
                }
                6 if param.name.eq_ignore_ascii_case(b"branch") => {
                    via.branch = via.branch.or(param.value);
                }
                8 if param.name.eq_ignore_ascii_case(b"received") => {
                    via.received = via.received.or(param.value);
                }
                _ => {}
            }
        }
        Some(via)
    }

    /// The whole value on the wire.
    #[must_use]
    pub fn value(&self) -> Value<'m> {
        self.value
    }

    /// The transport named in the sent-protocol.
    #[must_use]
    pub fn transport(&self) -> &'m [u8] {
        self.transport
    }

    /// The host that sent the request, in its own words.
    #[must_use]
    pub fn sent_by(&self) -> Host<'m> {
        self.host
    }

    /// The port in the sent-by.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The transaction's branch.
    #[must_use]
    pub fn branch(&self) -> Option<&'m [u8]> {
        self.branch
    }

    /// Where replies shall go instead of the sender's address.
    #[must_use]
    pub fn maddr(&self) -> Option<&'m [u8]> {
        self.maddr
    }

    /// The source address that an earlier hop saw.
    #[must_use]
    pub fn received(&self) -> Option<&'m [u8]> {
        self.received
    }

    /// True if replies are asked to come back to the source port (RFC 3581).
    #[must_use]
    pub fn wants_rport(&self) -> bool {
        self.rport.is_some()
    }

    /// True if nothing in the value breaks the grammar.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Where a reply to a request with this top `Via` goes.
    ///
    /// Streams: back over the connection. UDP: `maddr` and the sent-by port, else the source
    /// address, with the source port if `rport` asks for it and the sent-by port if not
    /// (RFC 3261 §18.2.2, RFC 3581 §4). A `maddr` that is a name is passed over: this crate
    /// resolves nothing.
    #[must_use]
    pub fn reply_address(&self, origin: Origin) -> SocketAddr {
        let mut address = origin.address;
        if origin.transport.is_stream() {
            return address;
        }
        let port = self.port.unwrap_or(DEFAULT_PORT);
        if let Some(maddr) = self.maddr.and_then(ip_literal) {
            return SocketAddr::new(maddr, port);
        }
        if self.rport.is_none() {
            address.set_port(port);
        }
        address
    }

    /// Appends the value as the top `Via` of a reply: `received` and `rport` filled in.
    ///
    /// RFC 3261 §18.2.1 asks for `received` where the sent-by is another address than the source,
    /// RFC 3581 §4 wherever `rport` is there.
    pub(crate) fn write_answered(&self, origin: Origin, out: &mut Vec<u8>) {
        let bytes = self.value.as_bytes();
        let source = origin.ip();
        let names_source = self.rport.is_none() && self.host.ip() == Some(source);
        if self.received.is_some() && self.sound {
            self.write_without_received(origin, out);
        } else {
            match self.rport.and_then(|at| bytes.split_at_checked(at)) {
                Some((before, after)) => {
                    super::value::write_unfolded(before, out);
                    out.push(b'=');
                    write_number(u64::from(origin.address.port()), out);
                    super::value::write_unfolded(after, out);
                }
                None => self.value.write_unfolded(out),
            }
        }
        if !names_source {
            out.extend_from_slice(b";received=");
            write_ip(source, out);
        }
    }

    /// Appends the value without the `received` parameters that the sender put there.
    fn write_without_received(&self, origin: Origin, out: &mut Vec<u8>) {
        let bytes = self.value.as_bytes();
        let head = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (head, params) = bytes.split_at_checked(head).unwrap_or((bytes, &[]));
        super::value::write_unfolded(crate::lex::trim_end(head), out);
        for param in Params::new(params).flatten() {
            if param.name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(param.name);
            if let Some(value) = param.value {
                out.push(b'=');
                super::value::write_unfolded(value, out);
            } else if param.name.eq_ignore_ascii_case(b"rport") {
                out.push(b'=');
                write_number(u64::from(origin.address.port()), out);
            }
        }
    }
}

/// Port of a sent-by that names none (RFC 3261 §18.2.2).
const DEFAULT_PORT: u16 = 5060;

/// An IP address, an IPv6 one with or without its brackets.
fn ip_literal(text: &[u8]) -> Option<IpAddr> {
    let bare = text
        .strip_prefix(b"[")
        .and_then(|text| text.strip_suffix(b"]"))
        .unwrap_or(text);
    std::str::from_utf8(bare).ok()?.parse().ok()
}

/// Appends an address without allocating.
fn write_ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => write_ipv4(address, out),
        IpAddr::V6(address) => write_ipv6(address, out),
    }
}

/// Appends `192.0.2.1`.
fn write_ipv4(address: Ipv4Addr, out: &mut Vec<u8>) {
    let mut text = [0_u8; 16];
    let mut length = 0;
    let mut push = |byte: u8| {
        text[length & 15] = byte;
        length += 1;
    };
    for octet in address.octets() {
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
        push(b'.');
    }
    // Without the last dot.
    out.extend_from_slice(text.get(..length - 1).unwrap_or_default());
}

/// Appends `2001:db8::1`, without brackets (RFC 3261 §20.42).
fn write_ipv6(address: Ipv6Addr, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{address}");
}

/// Appends a number in decimal.
pub(crate) fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = place;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}
