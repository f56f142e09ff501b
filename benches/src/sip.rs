//! The messages of one returning call as a carrier sends them, prebuilt, with the varying digits at fixed
//! offsets; and a minimal reader to judge the reply.

use crate::population::{self, Population};

/// Length of the INVITE, in bytes.
pub const INVITE_BYTES: usize = 918;

/// The fields that vary from call to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Unique among all calls of a run.
    pub id: u64,
    /// Digits of the caller; messages of anonymous callers do not contain them.
    pub caller: u64,
    /// Digits of the dialed number.
    pub dialed: u64,
}

impl Call {
    /// The call from contact `contact`, who calls back.
    #[must_use]
    pub const fn returning(population: &Population, id: u64, contact: u64) -> Self {
        Self {
            id,
            caller: population::contact(contact),
            dialed: population.number(population.line(contact)),
        }
    }
}

/// A message whose varying fields are at known offsets.
#[derive(Clone, Debug)]
pub struct Template {
    /// The message, with the fields of some call.
    bytes: Vec<u8>,
    /// Offsets of the id, 16 hexadecimal digits each.
    ids: Vec<usize>,
    /// Offsets of the caller, 13 decimal digits each.
    callers: Vec<usize>,
    /// Offsets of the dialed number, 12 decimal digits each.
    dialed: Vec<usize>,
}

impl Template {
    /// The INVITE, sent from 127.0.0.1 and this port (five digits).
    #[must_use]
    pub fn invite(port: u16) -> Self {
        Self::invite_of(
            port,
            "<sip:+CCCCCCCCCCCCC@198.51.100.20;user=phone>",
            "<sip:+CCCCCCCCCCCCC@198.51.100.20;user=phone>",
        )
    }

    /// The INVITE of a caller who withholds the number (RFC 3323 §4.1).
    #[must_use]
    pub fn anonymous_invite(port: u16) -> Self {
        Self::invite_of(
            port,
            "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
            "<sip:anonymous@anonymous.invalid>",
        )
    }

    /// An INVITE from this caller.
    fn invite_of(port: u16, from: &str, asserted: &str) -> Self {
        let sdp = "v=0\r\n\
            o=- 1732190400 1732190400 IN IP4 198.51.100.24\r\n\
            s=-\r\n\
            c=IN IP4 198.51.100.24\r\n\
            t=0 0\r\n\
            m=audio 24680 RTP/AVP 8 0 101\r\n\
            a=rtpmap:101 telephone-event/8000\r\n\
            a=fmtp:101 0-15\r\n\
            a=ptime:20\r\n";
        let message = |agent: &str| {
            format!(
                "INVITE sip:+DDDDDDDDDDDD@127.0.0.1;user=phone SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 127.0.0.1:{port:05};branch=z9hG4bKIIIIIIIIIIIIIIII;rport\r\n\
                 Max-Forwards: 67\r\n\
                 From: {from};tag=IIIIIIIIIIIIIIII\r\n\
                 To: <sip:+DDDDDDDDDDDD@203.0.113.5;user=phone>\r\n\
                 Call-ID: IIIIIIIIIIIIIIII@198.51.100.20\r\n\
                 CSeq: 1 INVITE\r\n\
                 Contact: <sip:carrier@127.0.0.1:{port:05}>\r\n\
                 P-Asserted-Identity: {asserted}\r\n\
                 Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK\r\n\
                 Supported: 100rel, timer\r\n\
                 User-Agent: {agent}\r\n\
                 Content-Type: application/sdp\r\n\
                 Content-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            )
        };
        let missing = INVITE_BYTES.saturating_sub(message("").len());
        Self::new(message(&"Carrier-SBC/10.2 ".repeat(60)[..missing.max(1)]))
    }

    /// The ACK up to the value of its `To`, which is copied from the reply.
    #[must_use]
    pub fn ack(port: u16) -> Self {
        Self::new(format!(
            "ACK sip:+DDDDDDDDDDDD@127.0.0.1;user=phone SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port:05};branch=z9hG4bKIIIIIIIIIIIIIIII;rport\r\n\
             Max-Forwards: 67\r\n\
             From: <sip:+CCCCCCCCCCCCC@198.51.100.20;user=phone>;tag=IIIIIIIIIIIIIIII\r\n\
             Call-ID: IIIIIIIIIIIIIIII@198.51.100.20\r\n\
             CSeq: 1 ACK\r\n\
             To: "
        ))
    }

    /// The OPTIONS by which a peer checks whether the server is there.
    #[must_use]
    pub fn options(port: u16) -> Self {
        Self::new(format!(
            "OPTIONS sip:127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port:05};branch=z9hG4bKIIIIIIIIIIIIIIII;rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:ping@198.51.100.20>;tag=IIIIIIIIIIIIIIII\r\n\
             To: <sip:ping@203.0.113.5>\r\n\
             Call-ID: IIIIIIIIIIIIIIII@198.51.100.20\r\n\
             CSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    }

    /// The rest of an ACK behind the value of its `To`.
    pub const ACK_END: &'static [u8] = b"\r\nContent-Length: 0\r\n\r\n";

    /// The 302 of a responder that does no work. Only the id varies, because the generator finds its call by it.
    #[must_use]
    pub fn fixed_reply(port: u16) -> Self {
        Self::new(format!(
            "SIP/2.0 302 Moved Temporarily\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port:05};branch=z9hG4bK0000000000000000;rport={port:05};received=127.0.0.1\r\n\
             From: <sip:+5511900000000@198.51.100.20;user=phone>;tag=0000000000000000\r\n\
             To: <sip:+551130000000@203.0.113.5;user=phone>;tag=0123456789abcdef\r\n\
             Call-ID: IIIIIIIIIIIIIIII@198.51.100.20\r\n\
             CSeq: 1 INVITE\r\n\
             Contact: <{}>;q=1.0\r\n\
             Content-Length: 0\r\n\r\n",
            population::target(0)
        ))
    }

    /// Finds the offsets of the varying fields.
    fn new(message: String) -> Self {
        let offsets = |marker: &str| message.match_indices(marker).map(|(at, _)| at).collect();
        Self {
            ids: offsets("IIIIIIIIIIIIIIII"),
            callers: offsets("CCCCCCCCCCCCC"),
            dialed: offsets("DDDDDDDDDDDD"),
            bytes: message.into_bytes(),
        }
    }

    /// The current message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the fields of a call into the message.
    pub fn set(&mut self, call: &Call) {
        let Self {
            bytes,
            ids,
            callers,
            dialed,
        } = self;
        write_all(bytes, ids, &hexadecimal(call.id));
        write_all(bytes, callers, &decimal::<13>(call.caller));
        write_all(bytes, dialed, &decimal::<12>(call.dialed));
    }

    /// Copies the id of a call from a request made by [`Template::invite`], byte by byte.
    pub fn copy_id(&mut self, request: &[u8], request_id_at: usize) {
        if let Some(id) = request.get(request_id_at..request_id_at + 16) {
            write_all(&mut self.bytes, &self.ids, id);
        }
    }

    /// The offset of the first id.
    #[must_use]
    pub fn id_at(&self) -> usize {
        self.ids.first().copied().unwrap_or_default()
    }
}

/// The fields of a reply that the generator checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'m> {
    /// The status code.
    pub status: u16,
    /// The id of the call.
    pub id: u64,
    /// The value of `To`, tag included.
    pub to: &'m [u8],
    /// The first contact's URI.
    pub contact: Option<&'m [u8]>,
}

impl<'m> Reply<'m> {
    /// Reads a reply to one of our calls; `None` if it is another message.
    #[must_use]
    pub fn read(message: &'m [u8]) -> Option<Self> {
        let status = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
        let status = status.iter().try_fold(0_u16, |status, digit| {
            Some(status * 10 + u16::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))
        })?;
        let (mut id, mut to, mut contact) = (None, None, None);
        let mut rest = message;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, below) = rest.split_at(end);
            rest = below.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match line {
                [] => break,
                [b'T' | b't', b'O' | b'o', b':', value @ ..] => to = Some(value.trim_ascii_start()),
                [b'C' | b'c', b'a', ..] => {
                    let value = line.get(8..)?.trim_ascii_start();
                    id = Some(read_hexadecimal(value.get(..16)?)?);
                }
                [b'C', b'o', b'n', b't', b'a', b'c', b't', b':', value @ ..]
                    if contact.is_none() =>
                {
                    let value = value.trim_ascii_start();
                    let value = value.strip_prefix(b"<").unwrap_or(value);
                    let end = memchr::memchr(b'>', value).unwrap_or(value.len());
                    contact = value.get(..end);
                }
                _ => {}
            }
        }
        Some(Self {
            status,
            id: id?,
            to: to?,
            contact,
        })
    }
}

/// Writes the text at each of the offsets.
fn write_all(bytes: &mut [u8], offsets: &[usize], text: &[u8]) {
    for offset in offsets {
        if let Some(field) = bytes.get_mut(*offset..*offset + text.len()) {
            field.copy_from_slice(text);
        }
    }
}

/// The lowest `N` decimal digits.
fn decimal<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    text
}

/// All 16 hexadecimal digits.
fn hexadecimal(mut number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    text
}

/// Reads hexadecimal digits in lower case.
fn read_hexadecimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use ringback_sip_proto::{Action, Identity, IdentitySource, Redirector};

    use super::*;
    use crate::world::input;

    #[test]
    fn the_invite_has_its_length_and_asks_for_the_call_that_was_set() {
        let mut template = Template::invite(41_234);
        let call = Call::returning(&Population::SMALL, 0x0123_4567_89ab_cdef, 5);
        template.set(&call);
        assert_eq!(template.bytes().len(), INVITE_BYTES);
        let redirector = Redirector::new([1; 16]);
        let mut out = Vec::new();
        let Action::Invite(invite) = redirector.handle(input(template.bytes()), &mut out) else {
            panic!("no INVITE: {}", String::from_utf8_lossy(&out));
        };
        let identity = |number: u64| Identity::from_text(format!("+{number}").as_bytes());
        assert_eq!(invite.request_uri_identity(&[]), identity(call.dialed));
        for source in [IdentitySource::From, IdentitySource::PAssertedIdentity] {
            let caller = invite.caller(source).next().unwrap();
            assert_eq!(caller, identity(call.caller));
        }
        assert_eq!(invite.call_id(), b"0123456789abcdef@198.51.100.20");
    }

    #[test]
    fn options_are_answered() {
        let mut template = Template::options(41_234);
        template.set(&Call::returning(&Population::SMALL, 1, 1));
        let redirector = Redirector::new([1; 16]);
        let mut out = Vec::new();
        assert!(matches!(
            redirector.handle(input(template.bytes()), &mut out),
            Action::Reply(reply) if reply.status == 200
        ));
        assert_eq!(Reply::read(&out).unwrap().id, 1);
    }

    #[test]
    fn a_reply_is_read_back() {
        let mut reply = Template::fixed_reply(41_234);
        reply.set(&Call::returning(&Population::SMALL, 0xfeed, 1));
        let read = Reply::read(reply.bytes()).unwrap();
        assert_eq!((read.status, read.id), (302, 0xfeed));
        assert_eq!(read.contact.unwrap(), population::target(0).as_bytes());
        assert!(read.to.ends_with(b";tag=0123456789abcdef"));
        assert_eq!(Reply::read(b"INVITE sip:a@b SIP/2.0\r\n\r\n"), None);
    }
}
