//! Fetching a snapshot from another node over HTTP. What was broken off goes on where it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Opener, is_proof, prove};
use crate::Peer;

/// A request for a snapshot, or for the rest of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was made, in milliseconds since 1970.
    pub at: i64,
    /// The snapshot of which some was read already; none: any.
    pub id: Option<String>,
    /// How many bytes of it were read.
    pub offset: u64,
}

impl Request {
    /// What the header says that makes the request.
    #[must_use]
    pub fn to_header(&self, secret: &[u8; 32]) -> String {
        let text = self.text();
        let proof = prove(secret, &text);
        format!("{text} {proof}")
    }

    /// Reads the header of a request; none if whoever made it does not know the secret, or made it long ago.
    #[must_use]
    pub fn from_header(header: &str, secret: &[u8; 32], now: i64) -> Option<Self> {
        let (text, proof) = header.rsplit_once(' ')?;
        let mut words = text.split(' ');
        let request = Self {
            at: words.next()?.parse().ok()?,
            id: Some(words.next()?.to_owned()).filter(|id| id != "-"),
            offset: words.next()?.parse().ok()?,
        };
        let is_new = now.abs_diff(request.at) <= REQUEST_AGE.as_millis() as u64;
        (is_new && is_proof(secret, text, proof)).then_some(request)
    }

    /// What is proved.
    fn text(&self) -> String {
        let id = self.id.as_deref().unwrap_or("-");
        format!("{} {id} {}", self.at, self.offset)
    }
}

/// Fetches a snapshot from one of these nodes, the first that has one, and checks it. It appears under its path only
/// when it is whole. Blocks for as long as that takes.
///
/// # Errors
/// None of them gave a whole one.
pub fn fetch(peers: &[Peer], secret: &[u8; 32], path: &Path) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut failure = io::Error::other("no other node is there");
    for peer in peers {
        tracing::info!(node = %peer.node, url = %peer.url, "fetching a snapshot");
        match fetch_from(peer, secret, &part) {
            Ok(()) => return fs::rename(&part, path),
            Err(error) => {
                tracing::warn!(node = %peer.node, %error, "no snapshot");
                failure = io::Error::other(format!("node {} at {}: {error}", peer.node, peer.url));
            }
        }
    }
    Err(failure)
}

/// Fetches a snapshot from a node, and checks it.
fn fetch_from(peer: &Peer, secret: &[u8; 32], part: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(part)?;
    let mut id = None;
    let mut failures = 0;
    loop {
        let before = file.stream_position()?;
        let result = fetch_more(peer, secret, &mut file, &mut id).and_then(|()| {
            file.sync_all()?;
            check(part, secret)
        });
        let Err(error) = result else {
            return Ok(());
        };
        if file.stream_position()? > before {
            failures = 0;
        }
        failures += 1;
        if failures > MOST_FAILURES {
            return Err(error);
        }
        tracing::debug!(%error, "a snapshot was broken off; it is resumed");
        std::thread::sleep(PAUSE);
    }
}

/// Fetches the rest of a snapshot, behind what the file has of it.
fn fetch_more(
    peer: &Peer,
    secret: &[u8; 32],
    file: &mut File,
    id: &mut Option<String>,
) -> io::Result<()> {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_WAIT))
        .timeout_recv_response(Some(ANSWER_WAIT))
        .timeout_recv_body(Some(BODY_WAIT))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let request = Request {
        at: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        id: id.clone(),
        offset: file.stream_position()?,
    };
    let url = format!("{}/api/v1/cluster/snapshot", peer.url.trim_end_matches('/'));
    let answer = agent
        .get(url)
        .header(SNAPSHOT_HEADER, request.to_header(secret))
        .call();
    let answer = answer.map_err(io::Error::other)?;
    let given = answer.headers().get(SNAPSHOT_HEADER);
    let given = given
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    if answer.status() != 200 || given.is_none() || given != *id {
        // Another one, or none: it is read from its beginning.
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        let is_fresh = id.is_none();
        *id = given.filter(|_| answer.status() == 200);
        if id.is_none() || !is_fresh {
            *id = None;
            return Err(io::Error::other(format!(
                "the answer is {}",
                answer.status()
            )));
        }
    }
    let mut body = answer.into_body().into_reader();
    let mut piece = vec![0; 64 << 10];
    loop {
        match body.read(&mut piece)? {
            0 => return Ok(()),
            length => file.write_all(piece.get(..length).unwrap_or_default())?,
        }
    }
}

/// Reads a snapshot to its end.
fn check(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut opener = Opener::new(BufReader::new(File::open(path)?), secret)?;
    io::copy(&mut opener, &mut io::sink()).map(drop)
}

/// The header of requests and answers: of requests what is asked for, of answers which snapshot it is.
pub const SNAPSHOT_HEADER: &str = "x-ringback-snapshot";

/// How old a request may be, and how wrong the clocks of two nodes.
const REQUEST_AGE: Duration = Duration::from_secs(600);

/// How long a connection is waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// How long an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// How long an answer is read; then the rest is asked for, so that a peer that has fallen silent is noticed.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// How often in a row nothing may come.
const MOST_FAILURES: u32 = 5;

/// How long to wait before asking for the rest.
const PAUSE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_made_by_who_has_the_secret() {
        let secret = [1; 32];
        for id in [None, Some("abc".to_owned())] {
            let request = Request {
                at: 1_000_000,
                id,
                offset: 7,
            };
            let header = request.to_header(&secret);
            assert_eq!(
                Request::from_header(&header, &secret, 1_000_500),
                Some(request)
            );
            assert_eq!(Request::from_header(&header, &[2; 32], 1_000_500), None);
            assert_eq!(
                Request::from_header(&header, &secret, 2_000_000),
                None,
                "old"
            );
            let other = header.replacen(" 7 ", " 8 ", 1);
            assert_eq!(Request::from_header(&other, &secret, 1_000_500), None);
        }
        assert_eq!(Request::from_header("", &secret, 0), None);
    }
}
