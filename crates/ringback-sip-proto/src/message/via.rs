//! `Via`: where a reply goes (RFC 3261 §18.2.2, §20.42; RFC 3581).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::{Params, Value};
use crate::lex::{self, Cursor, TOKEN};
use crate::origin::Origin;
use crate::uri::{Host, is_bare_ipv6};

/// One `Via` value that has a protocol and a sent-by.
///
/// The sent-by and the parameters may still be broken: then the reply goes to the source and says so.
/// An IPv6 address without brackets is tolerated: nobody needs it, since the source is known.
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
    /// Offset in the value of the end of the name of the first `rport`.
    rport: Option<usize>,
    /// True if the sender wrote what only the receiver may write, or `rport` more than once.
    claims_source: bool,
    /// True if the sent-by does not say which port replies go to.
    hides_port: bool,
    /// False if the sent-by or a parameter breaks the grammar.
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
        let sent_by = SentBy::read(&mut cursor)?;
        let mut via = Self {
            value,
            transport,
            host: sent_by.host,
            port: sent_by.port,
            branch: None,
            maddr: None,
            received: None,
            rport: None,
            claims_source: false,
            hides_port: sent_by.hides_port,
            sound: sent_by.sound,
        };
        via.read_params(&cursor);
        Some(via)
    }

    /// Reads the parameters, as far as they follow the grammar.
    fn read_params(&mut self, cursor: &Cursor<'m>) {
        let offset = cursor.at();
        for param in Params::new(cursor.rest()) {
            let Ok(param) = param else {
                self.sound = false;
                // What is behind may still ask for the reply to come back to the source port.
                let asks = |segment| name_of(segment).eq_ignore_ascii_case(b"rport");
                if self.rport.is_none() && segments(cursor.rest()).any(asks) {
                    self.rport = Some(offset);
                }
                return;
            };
            match param.name.len() {
                5 if param.name.eq_ignore_ascii_case(b"rport") => {
                    self.claims_source |= self.rport.is_some() || param.value.is_some();
                    self.rport = self.rport.or(Some(offset + param.name_end));
                }
                5 if param.name.eq_ignore_ascii_case(b"maddr") => {
                    self.maddr = self.maddr.or(param.value);
                }
                6 if param.name.eq_ignore_ascii_case(b"branch") => {
                    self.branch = self.branch.or(param.value);
                }
                8 if param.name.eq_ignore_ascii_case(b"received") => {
                    self.claims_source = true;
                    self.received = self.received.or(param.value);
                }
                _ => {}
            }
        }
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

    /// True if nothing in the value breaks the grammar.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Where a reply to a request with this top `Via` goes: always to the address that the request
    /// came from.
    ///
    /// Streams: back over the connection. UDP: the source port if `rport` asks for it or the sent-by
    /// cannot be read, else the sent-by port (RFC 3261 §18.2.2, RFC 3581 §4).
    #[must_use]
    pub fn reply_address(&self, origin: Origin) -> SocketAddr {
        let mut address = origin.address;
        let is_to_sent_by = self.rport.is_none() && !self.hides_port;
        if is_to_sent_by && !origin.transport.is_stream() {
            address.set_port(self.port.unwrap_or(DEFAULT_PORT));
        }
        address
    }

    /// Where `maddr` asks a reply over UDP to go instead: that address, and the sent-by port.
    ///
    /// Anybody can write anybody's address there, so it may only be followed where it is known who
    /// is there. None is given for a `maddr` that is a name, because nothing is resolved here, or
    /// that is no address of one machine.
    #[must_use]
    pub fn maddr_address(&self, origin: Origin) -> Option<SocketAddr> {
        if origin.transport.is_stream() {
            return None;
        }
        let address = ip_literal(self.maddr?)?;
        let is_one_machine = match address {
            IpAddr::V4(address) => {
                !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
            }
            IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
        };
        let port = self.port.unwrap_or(DEFAULT_PORT);
        is_one_machine.then_some(SocketAddr::new(address, port))
    }

    /// The source port that an earlier hop saw.
    #[must_use]
    pub fn rport(&self) -> Option<u16> {
        let at = self.rport?;
        let mut cursor = Cursor::new(lex::tail(self.value.as_bytes(), at));
        cursor.skip_space();
        let _sign = cursor.eat(b'=');
        cursor.skip_space();
        crate::uri::port(cursor.take_while(|byte| byte.is_ascii_digit()))
    }

    /// Appends the value as the top `Via` of a reply, or as the second one of a request that is forwarded:
    /// `received` and `rport` filled in, folds undone.
    ///
    /// RFC 3261 §18.2.1 asks for `received` where the sent-by is another address than the source,
    /// RFC 3581 §4 wherever `rport` is there. What the sender wrote there does not stay.
    pub fn write_answered(&self, origin: Origin, out: &mut Vec<u8>) {
        let bytes = self.value.as_bytes();
        let source = origin.ip();
        let names_source = self.rport.is_none() && self.host.ip() == Some(source);
        if self.claims_source || !self.sound {
            self.write_anew(origin, out);
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

    /// Appends the value with one `rport`, if any is there, and no `received`; other parameters stay as
    /// they are, however broken.
    #[cold]
    fn write_anew(&self, origin: Origin, out: &mut Vec<u8>) {
        let bytes = self.value.as_bytes();
        let head = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (head, params) = lex::split(bytes, head);
        super::value::write_unfolded(lex::trim_end(head), out);
        let mut has_rport = false;
        for segment in segments(params) {
            let name = name_of(segment);
            if name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            if name.eq_ignore_ascii_case(b"rport") {
                if !has_rport {
                    has_rport = true;
                    out.push(b';');
                    out.extend_from_slice(name);
                    out.push(b'=');
                    write_number(u64::from(origin.address.port()), out);
                }
                continue;
            }
            out.push(b';');
            super::value::write_unfolded(segment, out);
        }
    }
}

/// Who sent the request, in its own words.
struct SentBy<'m> {
    /// The host.
    host: Host<'m>,
    /// The port, if written.
    port: Option<u16>,
    /// True if it does not say which port replies go to.
    hides_port: bool,
    /// False if it breaks the grammar.
    sound: bool,
}

impl<'m> SentBy<'m> {
    /// Reads up to the parameters; `None` if there is nothing.
    fn read(cursor: &mut Cursor<'m>) -> Option<Self> {
        let start = *cursor;
        if let Some(host) = Host::read(cursor) {
            cursor.skip_space();
            let mut port = None;
            let mut sound = true;
            if cursor.eat(b':') {
                cursor.skip_space();
                port = crate::uri::port(cursor.take_while(|byte| byte.is_ascii_digit()));
                sound = port.is_some();
                cursor.skip_space();
            }
            if sound && matches!(cursor.peek(), None | Some(b';')) {
                return Some(Self {
                    host,
                    port,
                    hides_port: false,
                    sound,
                });
            }
        }
        *cursor = start;
        Self::read_odd(cursor)
    }

    /// Takes all up to the parameters for the host.
    #[cold]
    fn read_odd(cursor: &mut Cursor<'m>) -> Option<Self> {
        let text = lex::trim_end(cursor.take_while(|byte| byte != b';'));
        (!text.is_empty()).then(|| Self {
            host: Host::from_text(text),
            port: None,
            hides_port: true,
            sound: is_bare_ipv6(text),
        })
    }
}

/// The texts between the semicolons of `;a=1;b`, quoted strings kept whole, without space around them.
fn segments<'m>(params: &'m [u8]) -> impl Iterator<Item = &'m [u8]> + use<'m> {
    let mut rest = params.get(1..);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        let end = loop {
            let from = lex::tail(text, at);
            let Some(found) = memchr::memchr2(b';', b'"', from) else {
                break text.len();
            };
            at += found;
            match text.get(at..).and_then(lex::quoted_end) {
                Some(length) => at += length,
                None if text.get(at) == Some(&b';') => break at,
                // A quote without an end reaches to the end.
                None => break text.len(),
            }
        };
        let (segment, tail) = lex::split(text, end);
        rest = tail.get(1..);
        Some(lex::trim(segment))
    })
}

/// The name in `name = value`.
fn name_of(segment: &[u8]) -> &[u8] {
    lex::trim(lex::split_once(segment, b'=').0)
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
    out.extend_from_slice(lex::head(&text, length - 1));
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
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = index;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(lex::tail(&digits, start));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_port_is_read_where_a_hop_wrote_it() {
        for (params, port) in [
            (";rport=5070;received=192.0.2.1", Some(5_070)),
            (";branch=1; RPORT = 7", Some(7)),
            (";rport", None),
            (";rport=70000", None),
            (";branch=rport=1", None),
            ("", None),
        ] {
            let text = format!("SIP/2.0/UDP h{params}");
            let via = Via::parse(Value::new(text.as_bytes())).unwrap();
            assert_eq!(via.rport(), port, "{text}");
        }
    }
}
