//! Snapshots on their way from node to node: encrypted and authenticated with the secret that all nodes share.
//!
//! A snapshot is `RBS1`, a salt (32), then frames: length (4, little-endian) and ciphertext (ChaCha20-Poly1305). The
//! key is the HMAC of the salt by the secret, the nonce is the index of the frame, and its associated data say
//! whether it is the last. So a snapshot that was changed or cut off is refused.

mod fetch;

use std::io::{self, Read, Write};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

pub use fetch::{Request, SNAPSHOT_HEADER, fetch};

/// Encrypts what is written to it.
pub struct Sealer<W> {
    /// Where it goes.
    to: W,
    /// The key of this snapshot.
    key: LessSafeKey,
    /// The index of the next frame.
    index: u64,
    /// What the next frame will contain.
    frame: Vec<u8>,
}

impl<W> std::fmt::Debug for Sealer<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl<W: Write> Sealer<W> {
    /// Begins a snapshot.
    ///
    /// # Errors
    /// It cannot be written, or the system gives no random bytes.
    pub fn new(mut to: W, secret: &[u8; 32]) -> io::Result<Self> {
        let mut salt = [0; SALT_LENGTH];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        to.write_all(TITLE)?;
        to.write_all(&salt)?;
        Ok(Self {
            to,
            key: key(secret, &salt),
            index: 0,
            frame: Vec::with_capacity(FRAME_LENGTH),
        })
    }

    /// Writes the last frame. Without it the snapshot is not whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(LAST)?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// Encrypts and writes a frame.
    fn seal(&mut self, what: &[u8]) -> io::Result<()> {
        self.key
            .seal_in_place_append_tag(nonce(self.index), Aad::from(what), &mut self.frame)
            .map_err(|_| io::Error::other("a frame cannot be encrypted"))?;
        let length = u32::try_from(self.frame.len()).map_err(io::Error::other)?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&self.frame)?;
        self.frame.clear();
        self.index += 1;
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FRAME_LENGTH - self.frame.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.frame.extend_from_slice(taken);
        if self.frame.len() == FRAME_LENGTH {
            self.seal(MORE)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Decrypts what is read from it. Every frame is authenticated before any of it is given out, and an end that is not
/// that of the snapshot is an error.
pub struct Opener<R> {
    /// Where it comes from.
    from: R,
    /// The key of this snapshot.
    key: LessSafeKey,
    /// The index of the next frame.
    index: u64,
    /// The frame that was read last.
    frame: Vec<u8>,
    /// How much of it was given out.
    taken: usize,
    /// How much of it there is.
    length: usize,
    /// Whether it was the last.
    is_last: bool,
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl<R: Read> Opener<R> {
    /// Reads the beginning of a snapshot.
    ///
    /// # Errors
    /// It cannot be read, or is no snapshot.
    pub fn new(mut from: R, secret: &[u8; 32]) -> io::Result<Self> {
        let mut title = [0; TITLE.len()];
        from.read_exact(&mut title)?;
        if title != *TITLE {
            return Err(io::Error::other("this is no snapshot"));
        }
        let mut salt = [0; SALT_LENGTH];
        from.read_exact(&mut salt)?;
        Ok(Self {
            from,
            key: key(secret, &salt),
            index: 0,
            frame: Vec::new(),
            taken: 0,
            length: 0,
            is_last: false,
        })
    }

    /// Reads the next frame.
    fn open(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_LENGTH + CHACHA20_POLY1305.tag_len() {
            return Err(damaged());
        }
        self.frame.resize(length, 0);
        self.from.read_exact(&mut self.frame)?;
        // Which of the two it is shows in what it is authenticated with.
        let mut copy = self.frame.clone();
        let opened = self
            .key
            .open_in_place(nonce(self.index), Aad::from(MORE), &mut self.frame);
        self.length = match opened {
            Ok(plain) => plain.len(),
            Err(_) => {
                self.is_last = true;
                let opened = self
                    .key
                    .open_in_place(nonce(self.index), Aad::from(LAST), &mut copy);
                let length = opened.map_err(|_| damaged())?.len();
                self.frame = copy;
                length
            }
        };
        self.taken = 0;
        self.index += 1;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.length {
            if self.is_last {
                return Ok(0);
            }
            self.open()?;
        }
        let mut rest = self.frame.get(self.taken..self.length).unwrap_or_default();
        let length = rest.read(to)?;
        self.taken += length;
        Ok(length)
    }
}

/// Proves that whoever asks for this knows the secret.
#[must_use]
pub fn prove(secret: &[u8; 32], what: &str) -> String {
    let tag = hmac::sign(&request_key(secret), what.as_bytes());
    let digits = tag.as_ref().iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this proves it. Takes as long for every wrong proof.
#[must_use]
pub fn is_proof(secret: &[u8; 32], what: &str, proof: &str) -> bool {
    let digits: Option<Vec<u8>> = (0..proof.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(proof.get(at..at + 2)?, 16).ok())
        .collect();
    let tag = digits.unwrap_or_default();
    hmac::verify(&request_key(secret), what.as_bytes(), &tag).is_ok()
}

/// The key that requests are signed with: another one than that of any snapshot.
fn request_key(secret: &[u8; 32]) -> hmac::Key {
    let base = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let key = hmac::sign(&base, b"ringback snapshot request");
    hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
}

/// The key of a snapshot.
fn key(secret: &[u8; 32], salt: &[u8; SALT_LENGTH]) -> LessSafeKey {
    let base = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&base);
    context.update(b"ringback snapshot");
    context.update(salt);
    let key = UnboundKey::new(&CHACHA20_POLY1305, context.sign().as_ref());
    LessSafeKey::new(key.expect("a SHA-256 is as long as a key of ChaCha20"))
}

/// The nonce of a frame.
fn nonce(index: u64) -> Nonce {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().zip(index.to_le_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(bytes)
}

/// What is said of a frame that is not as it was written.
fn damaged() -> io::Error {
    io::Error::other("the snapshot was changed on its way, or made with another secret")
}

/// What a snapshot begins with.
const TITLE: &[u8; 4] = b"RBS1";

/// Bytes of salt.
const SALT_LENGTH: usize = 32;

/// Bytes in a frame that is not the last.
const FRAME_LENGTH: usize = 64 << 10;

/// Associated data of a frame that others follow.
const MORE: &[u8] = b"more";

/// Associated data of the last one.
const LAST: &[u8] = b"last";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &SECRET).unwrap();
        sealer.write_all(bytes).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], secret: &[u8; 32]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opener::new(sealed, secret)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        for length in [0, 1, FRAME_LENGTH - 1, FRAME_LENGTH, 3 * FRAME_LENGTH + 5] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let sealed = sealed(&bytes);
            assert_eq!(opened(&sealed, &SECRET).unwrap(), bytes, "{length}");
        }
        let readable = sealed(b"+4930123456");
        assert!(!readable.windows(5).any(|window| window == b"30123"));
    }

    #[test]
    fn a_snapshot_that_was_changed_or_cut_off_is_refused() {
        let bytes = vec![9; 2 * FRAME_LENGTH];
        let whole = sealed(&bytes);
        for length in [3, 40, FRAME_LENGTH, whole.len() - 20, whole.len() - 1] {
            assert!(opened(&whole[..length], &SECRET).is_err(), "{length}");
        }
        for at in [5, 36, 50, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &SECRET).is_err(), "{at}");
        }
        assert!(opened(&whole, &[8; 32]).is_err(), "another secret");
        // Frames in another order.
        let frame = 4 + FRAME_LENGTH + 16;
        let (head, frames) = whole.split_at(36);
        let swapped = [head, &frames[frame..2 * frame], &frames[..frame]].concat();
        assert!(opened(&swapped, &SECRET).is_err());
    }

    #[test]
    fn only_who_knows_the_secret_can_prove_it() {
        let proof = prove(&SECRET, "1");
        assert!(is_proof(&SECRET, "1", &proof));
        assert!(!is_proof(&SECRET, "2", &proof));
        assert!(!is_proof(&[8; 32], "1", &proof));
        assert!(!is_proof(&SECRET, "1", ""));
        assert!(!is_proof(&SECRET, "1", "é"));
    }
}
