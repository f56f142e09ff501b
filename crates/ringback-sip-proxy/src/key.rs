//! Keyed hashes: which transaction a message belongs to, the branches of our own, and loops.

use std::hash::Hasher;

use ringback_sip_proto::Message;
use ringback_sip_proto::check::Request;
use ringback_sip_proto::message::{HeaderName, Via};
use siphasher::sip::SipHasher13;

/// Makes every hash; the key is secret and the same on all nodes of a cluster.
#[derive(Clone)]
pub struct Keys {
    /// The key.
    key: [u8; 16],
}

/// A branch of ours, as it stands in a `Via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchName {
    /// The worker that the branch belongs to.
    pub worker: u16,
    /// Which branch of that worker.
    pub id: u64,
    /// What makes a loop (RFC 5393 §4.2).
    pub loop_hash: u64,
}

/// What a hash is for, so that hashes for different purposes are never the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A transaction by RFC 3261 §17.2.3.
    Transaction,
    /// A transaction of a client older than RFC 3261.
    OldTransaction,
    /// A CANCEL behind an address translation.
    Cancel,
    /// The name of a branch.
    Branch,
    /// A loop.
    Loop,
    /// A call in our Record-Route.
    Route,
    /// A request that is forwarded without state.
    Stateless,
    /// The name of a probe.
    Probe,
}

impl Keys {
    /// Makes the hashes of a key.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The branch of ours in the top `Via` of a reply, if it is one.
    #[must_use]
    pub fn branch_of(message: &Message<'_>) -> Option<BranchName> {
        BranchName::parse(message.top_via()?.branch()?)
    }

    /// The key of the transaction of an INVITE, its ACK and its CANCEL (RFC 3261 §17.2.3).
    pub(crate) fn transaction(&self, message: &Message<'_>, request: &Request<'_>) -> u64 {
        let via = &request.via;
        let port = via.port().unwrap_or_default().to_be_bytes();
        let host = via.sent_by().as_bytes().to_ascii_lowercase();
        match rfc3261_branch(via) {
            Some(branch) => self.hash(Purpose::Transaction, &[branch, &host, &port]),
            None => self.hash(
                Purpose::OldTransaction,
                &[
                    via.value().as_bytes(),
                    request.uri.as_bytes(),
                    request.call_id,
                    &request.cseq.number.to_be_bytes(),
                    request.from.tag().unwrap_or_default(),
                    match message.start() {
                        ringback_sip_proto::message::StartLine::Request { uri, .. } => uri,
                        _ => &[],
                    },
                ],
            ),
        }
    }

    /// The key by which the CANCEL of an INVITE is found where its sent-by is another one: branch, Call-ID, and the
    /// address that both came from.
    pub(crate) fn cancel(&self, request: &Request<'_>, source: std::net::IpAddr) -> Option<u64> {
        let branch = rfc3261_branch(&request.via)?;
        let source = match source.to_canonical() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        let parts = [branch, request.call_id, &source.octets()];
        Some(self.hash(Purpose::Cancel, &parts))
    }

    /// A name that nobody can guess.
    pub(crate) fn branch(&self, worker: u16, seed: u64, counter: u64) -> u64 {
        let parts = [
            &worker.to_be_bytes()[..],
            &seed.to_be_bytes(),
            &counter.to_be_bytes(),
        ];
        self.hash(Purpose::Branch, &parts)
    }

    /// What is the same for a request that came back unchanged, and another for one that came back for somebody else
    /// (a spiral): RFC 5393 §4.2.1. `numbers` is whatever else the decision depends on.
    pub(crate) fn loop_hash(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        numbers: &[u8],
    ) -> u64 {
        let mut hasher = self.hasher(Purpose::Loop);
        for part in [
            request.uri.as_bytes(),
            request.call_id,
            request.from.tag().unwrap_or_default(),
            request.to.tag().unwrap_or_default(),
            &request.cseq.number.to_be_bytes(),
            numbers,
        ] {
            write_part(&mut hasher, part);
        }
        for value in message.known(HeaderName::ProxyRequire) {
            write_part(&mut hasher, value.as_bytes());
        }
        hasher.finish()
    }

    /// Whether a new INVITE has been here before, and would be decided as it was then (RFC 5393 §4.2). `numbers` is
    /// as in [`Invited`](crate::Invited); `is_own` says whether a sent-by, with its port, is one of ours.
    #[must_use]
    pub fn is_loop(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        numbers: &[u8],
        is_own: impl Fn(&[u8], Option<u16>) -> bool,
    ) -> bool {
        let mut before = message
            .vias()
            .flatten()
            .filter_map(|via| Some((via, BranchName::parse(via.branch()?)?)))
            .filter(|(via, _)| is_own(via.sent_by().as_bytes(), via.port()))
            .peekable();
        before.peek().is_some() && {
            let hash = self.loop_hash(message, request, numbers);
            before.any(|(_, branch)| branch.loop_hash == hash)
        }
    }

    /// Hashes these parts.
    pub(crate) fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher(purpose);
        for part in parts {
            write_part(&mut hasher, part);
        }
        hasher.finish()
    }

    /// A hasher for one purpose.
    fn hasher(&self, purpose: Purpose) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&[purpose as u8]);
        hasher
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keys(..)")
    }
}

impl BranchName {
    /// The branch in the top `Via` of a request of ours, of which there may be only the beginning.
    #[must_use]
    pub fn of_request(beginning: &[u8]) -> Option<Self> {
        let mut windows = beginning.windows(PREFIX.len());
        let start = windows.position(|window| window == PREFIX)?;
        Self::parse(beginning.get(start..start + LENGTH)?)
    }

    /// Reads a branch of ours.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        let (worker, rest) = text.split_at_checked(4)?;
        let (id, rest) = rest.split_at_checked(16)?;
        let loop_hash = rest.strip_prefix(b".")?;
        if loop_hash.len() != 16 {
            return None;
        }
        Some(Self {
            worker: u16::try_from(hex(worker)?).ok()?,
            id: hex(id)?,
            loop_hash: hex(loop_hash)?,
        })
    }

    /// Appends it as it stands in a `Via`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX);
        write_hex(u64::from(self.worker), 4, out);
        write_hex(self.id, 16, out);
        out.push(b'.');
        write_hex(self.loop_hash, 16, out);
    }
}

/// Adds a part with its length, so that no two lists of parts read alike.
fn write_part(hasher: &mut SipHasher13, part: &[u8]) {
    hasher.write(&(part.len() as u64).to_be_bytes());
    hasher.write(part);
}

/// The branch of a client that follows RFC 3261; a bare cookie is none (RFC 4475 §3.2.1).
fn rfc3261_branch<'m>(via: &Via<'m>) -> Option<&'m [u8]> {
    let branch = via.branch()?;
    let (cookie, rest) = branch.split_at_checked(COOKIE.len())?;
    (cookie.eq_ignore_ascii_case(COOKIE) && !rest.is_empty()).then_some(branch)
}

/// Reads lower-case hexadecimal digits, as we write them.
pub(crate) fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// Appends so many hexadecimal digits.
pub(crate) fn write_hex(number: u64, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in (0..digits).rev() {
        out.push(DIGITS[(number >> (4 * digit)) as usize & 15]);
    }
}

/// What a branch of RFC 3261 starts with.
const COOKIE: &[u8] = b"z9hG4bK";

/// What the branch of a request starts with that is forwarded without state.
pub(crate) const STATELESS: &[u8] = b"z9hG4bKs";

/// What the branch of a probe starts with.
pub(crate) const PROBE: &[u8] = b"z9hG4bKp";

/// What a branch of ours starts with.
const PREFIX: &[u8] = b"z9hG4bKf";

/// How long a branch of ours is.
const LENGTH: usize = PREFIX.len() + 4 + 16 + 1 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_reads_as_it_was_written() {
        let name = BranchName {
            worker: 0x1a7,
            id: 0x0123_4567_89ab_cdef,
            loop_hash: 42,
        };
        let mut text = Vec::new();
        name.write(&mut text);
        assert_eq!(BranchName::parse(&text), Some(name));
        for other in [
            &b"z9hG4bKf"[..],
            b"z9hG4bKf01a70123456789abcdef.",
            b"z9hG4bKf01a70123456789ABCDEF.000000000000002a",
            b"z9hG4bKf01a70123456789abcdef.000000000000002a0",
            b"z9hG4bKg01a70123456789abcdef.000000000000002a",
        ] {
            assert_eq!(BranchName::parse(other), None);
        }
    }

    #[test]
    fn the_branch_of_a_request_is_found_if_there_is_enough_of_it() {
        let request = b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c;branch=z9hG4bKf01a70123456789abcdef.000000000000002a;rport\r\n";
        let whole = BranchName::of_request(request).unwrap();
        assert_eq!((whole.worker, whole.loop_hash), (0x1a7, 42));
        for length in 0..request.len() {
            let found = BranchName::of_request(&request[..length]);
            assert!(found.is_none_or(|found| found == whole), "{length}");
        }
        assert_eq!(BranchName::of_request(b"SIP/2.0 302 Moved\r\n\r\n"), None);
    }

    #[test]
    fn parts_are_told_apart() {
        let keys = Keys::new([1; 16]);
        let hash = |parts: &[&[u8]]| keys.hash(Purpose::Branch, parts);
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(
            hash(&[b"a"]),
            Keys::new([2; 16]).hash(Purpose::Branch, &[b"a"])
        );
        assert_ne!(hash(&[b"a"]), keys.hash(Purpose::Loop, &[b"a"]));
    }
}
