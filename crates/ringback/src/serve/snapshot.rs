//! Snapshots: the state of this node for others, and the state of another node in the place of this one's.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ringback_admin::Snapshot;
use ringback_cluster::Peer;
use ringback_cluster::snapshot::{Opener, Request, Sealer, fetch};
use ringback_engine::Engine;
use ringback_store::{RestoreError, Store};

/// Gives snapshots of this node to others. One that was made is given for a while, so that it can be resumed.
pub(super) struct Snapshots {
    /// Where they are written.
    directory: PathBuf,
    /// What they are of.
    engine: Engine,
    /// The secret of the cluster.
    secret: [u8; 32],
    /// The latest one.
    latest: Arc<Mutex<Option<Arc<Taken>>>>,
}

/// A snapshot that was made, or is being made.
struct Taken {
    /// Which one.
    id: String,
    /// Its file.
    path: PathBuf,
    /// How far it is.
    progress: Mutex<Progress>,
    /// Told of progress.
    changed: Condvar,
}

/// How far a snapshot is.
struct Progress {
    /// How many bytes were written.
    written: u64,
    /// Whether it is whole; none while it is being made.
    whole: Option<bool>,
    /// When it was last read.
    used_at: Instant,
}

impl Snapshots {
    /// Snapshots of this engine, written into this directory.
    pub(super) fn new(directory: &Path, engine: Engine, secret: [u8; 32]) -> Self {
        // What an earlier run has left.
        let _none = fs::remove_file(directory.join(GIVEN));
        Self {
            directory: directory.to_owned(),
            engine,
            secret,
            latest: Arc::default(),
        }
    }

    /// Answers the request of another node; none if it does not prove that it is one, or what it has begun to read is
    /// no longer there.
    pub(super) fn answer(&self, asked: &str) -> Option<Snapshot> {
        let request = Request::from_header(asked, &self.secret, self.engine.now().millis())?;
        let mut latest = self.latest.lock();
        // Who begins needs the latest state: the log may not have what follows an older one.
        let is_wanted = |taken: &&Arc<Taken>| request.id.as_ref() == Some(&taken.id);
        let taken = match latest.as_ref().filter(is_wanted) {
            Some(taken) => Arc::clone(taken),
            None => {
                let taken = self.take().ok()?;
                latest.insert(taken).clone()
            }
        };
        drop(latest);
        // Of another one than was asked for, all is given: whoever asks sees by its id that it has to begin anew.
        let offset = if request.id.as_deref().is_none_or(|id| id == taken.id) {
            request.offset
        } else {
            0
        };
        Some(Snapshot {
            id: taken.id.clone(),
            write: Box::new(move |to| taken.give(offset, to)),
        })
    }

    /// Begins to make a snapshot.
    fn take(&self) -> io::Result<Arc<Taken>> {
        let path = self.directory.join(GIVEN);
        let _none = fs::remove_file(&path);
        let file = File::options().write(true).create_new(true).open(&path)?;
        let taken = Arc::new(Taken {
            id: uuid::Uuid::new_v4().to_string(),
            path,
            progress: Mutex::new(Progress {
                written: 0,
                whole: None,
                used_at: Instant::now(),
            }),
            changed: Condvar::new(),
        });
        let (engine, secret, made) = (self.engine.clone(), self.secret, Arc::clone(&taken));
        let latest = Arc::clone(&self.latest);
        let thread = std::thread::Builder::new().name("snapshot".to_owned());
        thread.spawn(move || {
            tracing::info!("a snapshot for another node has begun");
            let written = made.write(file, &engine, &secret);
            if let Err(error) = &written {
                tracing::warn!(error, "a snapshot could not be made");
            }
            made.end(written.is_ok());
            made.wait_until_unused();
            let mut latest = latest.lock();
            // A later one has taken the file away already.
            if latest.take_if(|latest| latest.id == made.id).is_some() {
                let _none = fs::remove_file(&made.path);
            }
        })?;
        Ok(taken)
    }
}

impl Taken {
    /// Writes it.
    fn write(
        self: &Arc<Self>,
        file: File,
        engine: &Engine,
        secret: &[u8; 32],
    ) -> Result<(), String> {
        let counted = Counted {
            file,
            taken: Arc::clone(self),
        };
        let mut sealer = Sealer::new(counted, secret).map_err(|error| error.to_string())?;
        engine
            .write_snapshot(&mut sealer)
            .map_err(|error| error.to_string())?;
        sealer.finish().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Notes that nothing more comes.
    fn end(&self, is_whole: bool) {
        self.progress.lock().whole = Some(is_whole);
        self.changed.notify_all();
    }

    /// Waits until it was not read for a while.
    fn wait_until_unused(&self) {
        loop {
            let unused = self.progress.lock().used_at.elapsed();
            let Some(rest) = KEPT.checked_sub(unused) else {
                return;
            };
            std::thread::sleep(rest);
        }
    }

    /// Writes what it has from there on, and waits for what it has not yet.
    fn give(&self, offset: u64, to: &mut dyn Write) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut at = offset;
        loop {
            let available = {
                let mut progress = self.progress.lock();
                progress.used_at = Instant::now();
                while progress.written <= at && progress.whole.is_none() {
                    self.changed.wait(&mut progress);
                }
                match progress.whole {
                    Some(false) => return Err(io::Error::other("it could not be made")),
                    Some(true) if progress.written <= at => return Ok(()),
                    _ => progress.written - at,
                }
            };
            at += io::copy(&mut (&mut file).take(available.min(GIVEN_AT_ONCE)), to)?;
        }
    }
}

/// A file that tells how much was written to it.
struct Counted {
    /// The file.
    file: File,
    /// Who is told.
    taken: Arc<Taken>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.taken.progress.lock().written += length as u64;
        self.taken.changed.notify_all();
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Fetches a snapshot from one of these nodes. It takes the place of what the directory has at the next
/// [`take_in`].
pub(super) async fn fetch_from(
    peers: Vec<Peer>,
    secret: [u8; 32],
    directory: PathBuf,
) -> io::Result<()> {
    let path = directory.join(FETCHED);
    let fetched = tokio::task::spawn_blocking(move || fetch(&peers, &secret, &path));
    fetched.await.map_err(io::Error::other)?
}

/// Has a snapshot that was fetched take the place of what the directory has. If that is broken off, it is done again
/// at the next start.
pub(super) fn take_in(directory: &Path, secret: &[u8; 32]) -> Result<(), RestoreError> {
    let path = directory.join(FETCHED);
    let unreadable =
        |error| RestoreError::Backup(ringback_store::ReadBackupError::Unreadable(error));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    let opener = Opener::new(BufReader::new(file), secret).map_err(unreadable)?;
    let progress = Store::replace(directory, opener, |_| {})?;
    tracing::info!(
        calls = progress.calls,
        "the state of another node was taken"
    );
    fs::remove_file(&path).map_err(unreadable)
}

/// The file of the snapshot that is given to others.
const GIVEN: &str = "snapshot.given";

/// The file of a snapshot that was fetched.
const FETCHED: &str = "snapshot.fetched";

/// For how long it is kept after it was last read.
const KEPT: Duration = Duration::from_secs(600);

/// How much is read at once.
const GIVEN_AT_ONCE: u64 = 1 << 20;
