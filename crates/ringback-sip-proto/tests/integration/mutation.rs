//! Mutated fixtures: nothing panics, everything ends, and every reply is legal.
//!
//! A short run by default; `RINGBACK_FUZZ_CASES=10000000 cargo test --release -p ringback-sip-proto
//! --test integration mutated` is the long one, and `RINGBACK_FUZZ_SEED` repeats one.

use ringback_sip_proto::Transport;

use crate::{exercise, fixtures};

/// Cases of a run that nobody asked for.
const SMOKE: u64 = 20_000;

#[test]
fn mutated_messages_never_panic() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let cases = number("RINGBACK_FUZZ_CASES").unwrap_or(SMOKE);
    let seed = number("RINGBACK_FUZZ_SEED").unwrap_or(0x5eed);
    let corpus: Vec<_> = fixtures::all()
        .into_iter()
        .map(|fixture| fixture.bytes)
        .filter(|bytes| bytes.len() < 8192)
        .collect();
    for case in 0..cases {
        let seed = seed.wrapping_add(case);
        let _told = TellSeed(seed);
        let mut random = Random(seed);
        let message = mutate(&mut random, &corpus);
        match seed % 4 {
            0 => exercise::stream(&message, &[random.below(40), random.below(900)]),
            1 => exercise::hep(&wrap(&mut random, &message)),
            _ => {
                exercise::handle(&message, Transport::Udp);
            }
        }
    }
}

/// Prints the seed of the case that fails: with it as the seed, the first case fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RINGBACK_FUZZ_SEED={}", self.0);
        }
    }
}

/// SplitMix64: small, seeded, and good enough to choose places.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the limit; 0 if there is none.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Takes a message and breaks it in one to five places.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut message = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(message.len() + 1);
        let end = at + random.below((message.len() - at).min(60) + 1);
        match random.below(8) {
            0 => {
                if let Some(byte) = message.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = message.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            2 => {
                message.drain(at..end);
            }
            3 => {
                let copy = message[at..end].to_vec();
                message.splice(at..at, copy);
            }
            4 => message.truncate(at),
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                message.truncate(at);
                message.extend_from_slice(&other[from..]);
            }
            // Another line of another message.
            6 => {
                let other = &corpus[random.below(corpus.len())];
                let lines: Vec<_> = other.split_inclusive(|&byte| byte == b'\n').collect();
                let line = lines.get(random.below(lines.len())).copied();
                let place = message[at..].iter().position(|&byte| byte == b'\n');
                let place = place.map_or(message.len(), |found| at + found + 1);
                message.splice(place..place, line.unwrap_or_default().iter().copied());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                message.splice(at..end, token.iter().copied());
            }
        }
    }
    message
}

/// A HEP packet around the message, then broken in one place.
fn wrap(random: &mut Random, message: &[u8]) -> Vec<u8> {
    let mut packet = crate::hep::packet(message);
    for _ in 0..random.below(3) {
        let at = random.below(packet.len().min(90));
        packet[at] = random.next() as u8;
    }
    packet.truncate(packet.len() - random.below(2) * random.below(packet.len()));
    packet
}

/// What parsers stumble over.
const TOKENS: [&[u8]; 32] = [
    b"\r\n",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b":",
    b"@",
    b"=",
    b"?",
    b"%",
    b"%00",
    b"[",
    b"]",
    b";rport",
    b";tag=",
    b";received=",
    b";maddr=[::1]",
    b"sip:",
    b"tel:",
    b"sips:",
    b"l: 0\r\n",
    b"Content-Length: 99999999999\r\n",
    b"SIP/2.0",
    b"\xff\xfe",
    b"v: ",
];
