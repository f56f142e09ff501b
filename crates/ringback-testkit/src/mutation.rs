//! Broken messages, unlimited and repeatable: the messages of `fixtures/sip`, each with a few changes.

use std::path::Path;

use crate::hep_packet;

/// Makes test cases from a corpus of messages.
#[derive(Debug)]
pub struct Mutator {
    /// The messages to break.
    corpus: Vec<Vec<u8>>,
}

/// One broken input, by the listener that receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// One datagram.
    Datagram(Vec<u8>),
    /// Bytes of a stream, and the lengths of the pieces in which they are sent, in turn.
    Stream(Vec<u8>, [usize; 2]),
    /// A HEPv3 packet.
    Hep(Vec<u8>),
}

impl Case {
    /// The bytes of the input.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let (Self::Datagram(bytes) | Self::Stream(bytes, _) | Self::Hep(bytes)) = self;
        bytes
    }

    /// The name of the listener in metrics and messages.
    #[must_use]
    pub fn door(&self) -> &'static str {
        match self {
            Self::Datagram(_) => "datagram",
            Self::Stream(..) => "stream",
            Self::Hep(_) => "HEP",
        }
    }
}

impl Mutator {
    /// The messages in `fixtures/sip`.
    ///
    /// # Panics
    /// They cannot be read.
    #[must_use]
    pub fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sip");
        let entries = std::fs::read_dir(folder).expect("the fixtures are there");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("the fixtures can be listed").path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "sip"))
            .collect();
        // Sorted, so that a seed means the same on every machine.
        paths.sort();
        let corpus = paths
            .iter()
            .map(|path| std::fs::read(path).expect("a fixture can be read"))
            .filter(|bytes| bytes.len() < LONGEST_SEED)
            .collect();
        Self { corpus }
    }

    /// Adds a message to the corpus.
    pub fn add(&mut self, message: impl Into<Vec<u8>>) {
        self.corpus.push(message.into());
    }

    /// The case of a seed: always the same.
    #[must_use]
    pub fn case(&self, seed: u64) -> Case {
        match seed % 4 {
            0 => {
                let mut random = Random(seed);
                let message = self.broken(&mut random);
                Case::Stream(message, [random.below(40), random.below(900)])
            }
            1 => Case::Hep(self.packet(seed)),
            _ => Case::Datagram(self.message(seed)),
        }
    }

    /// The broken message of a seed.
    #[must_use]
    pub fn message(&self, seed: u64) -> Vec<u8> {
        self.broken(&mut Random(seed))
    }

    /// The broken HEPv3 packet of a seed, around its broken message.
    #[must_use]
    pub fn packet(&self, seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        let message = self.broken(&mut random);
        wrap(&mut random, &message)
    }

    /// How many cases to run: the value of `RINGBACK_FUZZ_CASES`, or else this default.
    #[must_use]
    pub fn cases(unless_told: u64) -> u64 {
        number("RINGBACK_FUZZ_CASES").unwrap_or(unless_told)
    }

    /// Passes this many seeds on, starting with `RINGBACK_FUZZ_SEED`. The seed that fails is printed: set the
    /// variable to it to start there.
    pub fn seeds(cases: u64, mut handle: impl FnMut(u64)) {
        let first = number("RINGBACK_FUZZ_SEED").unwrap_or(FIRST_SEED);
        for case in 0..cases {
            let seed = first.wrapping_add(case);
            let _told = TellSeed(seed);
            handle(seed);
        }
    }

    /// Takes a message and breaks it in one to five positions; some messages are also made very long.
    fn broken(&self, random: &mut Random) -> Vec<u8> {
        let mut message = self.any(random).clone();
        for _ in 0..=random.below(5) {
            self.change(random, &mut message);
        }
        // Quadratic time or memory shows only in long messages.
        if random.below(64) == 0 {
            swell(random, &mut message);
        }
        message
    }

    /// Breaks a message in one position.
    fn change(&self, random: &mut Random, message: &mut Vec<u8>) {
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
                    *byte = random.byte();
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
                let other = self.any(random);
                let from = random.below(other.len());
                message.truncate(at);
                message.extend_from_slice(&other[from..]);
            }
            // Insert a line of another message.
            6 => {
                let other = self.any(random);
                let lines: Vec<_> = other.split_inclusive(|&byte| byte == b'\n').collect();
                let line = lines.get(random.below(lines.len())).copied();
                let index = message[at..].iter().position(|&byte| byte == b'\n');
                let index = index.map_or(message.len(), |found| at + found + 1);
                message.splice(index..index, line.unwrap_or_default().iter().copied());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                message.splice(at..end, token.iter().copied());
            }
        }
    }

    /// Any message of the corpus.
    fn any(&self, random: &mut Random) -> &Vec<u8> {
        &self.corpus[random.below(self.corpus.len())]
    }
}

impl Default for Mutator {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints the seed of the case that fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RINGBACK_FUZZ_SEED={}", self.0);
        }
    }
}

/// SplitMix64: small, seeded, and random enough to choose positions.
struct Random(u64);

impl Random {
    /// The next number.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Any byte.
    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// A number below the limit; 0 if there is none.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Repeats a line, some bytes or a token until the message is long, at most as long as the longest allowed.
fn swell(random: &mut Random, message: &mut Vec<u8>) {
    let at = random.below(message.len() + 1);
    let (piece, index) = match random.below(3) {
        0 => {
            let lines: Vec<_> = message.split_inclusive(|&byte| byte == b'\n').collect();
            let chosen = random.below(lines.len());
            let index = lines.iter().take(chosen).map(|line| line.len()).sum();
            let line = lines.get(chosen).copied().unwrap_or_default();
            (line.to_vec(), index)
        }
        1 => {
            let end = at + random.below((message.len() - at).min(60) + 1);
            (message[at..end].to_vec(), at)
        }
        _ => (TOKENS[random.below(TOKENS.len())].to_vec(), at),
    };
    let room = random.below(LONGEST_MESSAGE.saturating_sub(message.len()));
    let repeated = piece.repeat(room / piece.len().max(1));
    message.splice(index..index, repeated);
}

/// A HEP packet around the message, then broken in up to two positions, or cut off.
fn wrap(random: &mut Random, message: &[u8]) -> Vec<u8> {
    let mut packet = hep_packet(message, CAPTURED);
    for _ in 0..random.below(3) {
        let at = random.below(packet.len().min(90));
        packet[at] = random.byte();
    }
    packet.truncate(packet.len() - random.below(2) * random.below(packet.len()));
    packet
}

/// The value of an environment variable, if it is a number.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// When mirrored messages were captured, in seconds since 1970.
const CAPTURED: u32 = 1_750_000_000;

/// The seed of the first case.
const FIRST_SEED: u64 = 0x5eed;

/// Longer fixtures are left out: they would take most of the time.
const LONGEST_SEED: usize = 8_192;

/// A little more than the longest message that is read.
const LONGEST_MESSAGE: usize = 66_000;

/// Tokens that parsers often get wrong.
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
