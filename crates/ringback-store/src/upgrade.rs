//! Opens directories of older formats. Their content is read once and written in the current format, into a
//! folder of the directory. When all of it is there, durably, the folder gets its final name, and its content
//! replaces the old one. An upgrade that was cut short before the renaming starts over; one that was cut short
//! after it is completed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::Slice;
use lsm_tree::config::FilterPolicy;
use ringback_engine::{BatchesCounted, Change, CountKey, JournalError};
use ringback_routing::{AgentId, EnvironmentId, PhoneNumber};
use uuid::Uuid;

use crate::batch::{read_batch, read_mark_with};
use crate::error::{OpenStoreError, unavailable};
use crate::files::{Files, SystemFiles};
use crate::format::{FORMAT, Format, SAME_LAYOUT_SINCE};
use crate::interner::Interner;
use crate::key;
use crate::log::Log;
use crate::settings::StoreSettings;
use crate::store::Store;
use crate::stored::{directory, format1};
use crate::table::{Opening, Table, bloom};

/// What the directory's file `FORMAT` says once the directory has the current format; `None` if there is none.
pub(crate) fn current_format(
    directory: &Path,
    settings: &StoreSettings,
) -> Result<Option<Format>, OpenStoreError> {
    let failure = |error| OpenStoreError::from_journal(directory.to_owned(), unavailable(error));
    let restored = directory.join(RESTORED);
    let Some(format) = Format::read(directory)? else {
        if restored.exists() {
            return Err(OpenStoreError::RestoreBrokenOff(directory.to_owned()));
        }
        return Ok(None);
    };
    // The last step of a restore may have left it behind.
    remove_folder(&restored).map_err(failure)?;
    let new = directory.join(NEW);
    if format.version >= SAME_LAYOUT_SINCE {
        // The last step of an earlier upgrade may have left these folders behind.
        remove_folder(&new).map_err(failure)?;
        return Ok(Some(format));
    }
    if !new.exists() {
        rewrite(directory, &format, settings)?;
    }
    move_in(directory, &new).map_err(failure)?;
    tracing::info!(format = FORMAT, "the data directory has the current format");
    Format::read(directory)
}

/// Whether an upgrade of this directory was cut short after the new data were complete.
pub(crate) fn is_broken_off(directory: &Path) -> bool {
    directory.join(NEW).exists()
}

/// The error for a directory with data but without a format.
pub(crate) fn format_missing(directory: &Path) -> OpenStoreError {
    OpenStoreError::Damaged(format!(
        "{} is missing, but there is data",
        directory.join("FORMAT").display()
    ))
}

/// Writes the directory's content in the current format, with the same secrets.
fn rewrite(
    directory: &Path,
    format: &Format,
    settings: &StoreSettings,
) -> Result<(), OpenStoreError> {
    tracing::info!(
        found = format.version,
        format = FORMAT,
        "the data directory has an older format and is rewritten; that needs as much free disk as it takes now"
    );
    let failure = |error| OpenStoreError::from_journal(directory.to_owned(), error);
    let io_failure = |error: io::Error| failure(unavailable(error));
    let unfinished = directory.join(UNFINISHED);
    remove_folder(&unfinished).map_err(io_failure)?;
    let new = copied(
        directory,
        format,
        settings,
        Box::new(SystemFiles),
        &unfinished,
    )?;
    new.close().map_err(failure)?;
    // From here on the new data count.
    fs::rename(&unfinished, directory.join(NEW))
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(io_failure)
}

/// A new store in the folder `to` with the content of a directory of format 1, whose log is opened with these files.
pub(crate) fn copied(
    directory: &Path,
    format: &Format,
    settings: &StoreSettings,
    files: Box<dyn Files>,
    to: &Path,
) -> Result<Store, OpenStoreError> {
    let new_format = || {
        Ok(Format {
            version: FORMAT,
            ..format.clone()
        })
    };
    let lock = Store::lock(to)?;
    let mut new = Store::open_locked(to, settings, Box::new(SystemFiles), lock, None, new_format)?;
    copy(directory, settings, files, &mut new)
        .map_err(|error| OpenStoreError::from_journal(directory.to_owned(), error))?;
    Ok(new)
}

/// Copies the content of a directory of format 1 into a new store.
fn copy(
    directory: &Path,
    settings: &StoreSettings,
    files: Box<dyn Files>,
    new: &mut Store,
) -> Result<(), JournalError> {
    let tables = directory.join("tables");
    let opening = Opening::new(&tables, false, settings);
    let sids = opening.table("sids", 1, bloom(10.0))?;
    let state = opening.table("state", 1, bloom(10.0))?;
    let calls = opening.table("calls", 1, FilterPolicy::disabled())?;
    let applied = [sids.applied()?, state.applied()?, calls.applied()?];
    let lowest = applied.into_iter().min().unwrap_or_default();
    let highest = applied.into_iter().max().unwrap_or_default();
    let log = directory.join("log");
    if !log.is_dir() {
        return Err(JournalError::Damaged(format!(
            "{}: the log is missing",
            log.display()
        )));
    }
    let mut copier = Copier {
        new,
        changes: Vec::new(),
    };
    let interner = Interner::load(&state).map_err(|error| state.located(error))?;
    let known = copy_state(&state, &interner, &mut copier).map_err(|error| state.located(error))?;
    copy_calls(&calls, &interner, &mut copier).map_err(|error| calls.located(error))?;
    copier.commit()?;
    // Some tables may contain commits of the log already. They are applied again, as always when a store is
    // opened.
    Log::open(&log, files, Arc::default(), lowest, highest, |record| {
        for (mut change, index) in record.changes()?.into_iter().zip(0..) {
            let is_known = match &mut change {
                Change::Counted(counter, _) => known.counts(counter, record.sequence),
                Change::BatchesCounted(counted) => {
                    let growth = &mut counted.growth;
                    growth.retain(|(counter, _)| !known.counts(counter, record.sequence));
                    false
                }
                Change::Routed(_) | Change::BatchRouted(_) => known
                    .chunks
                    .contains(&key::creation(record.sequence, index)),
                _ => false,
            };
            if !is_known {
                copier.changes.push(change);
            }
        }
        // In one commit, because the changes may build on one another.
        copier.commit()
    })?;
    Ok(())
}

/// Writes assignments as records, from the lists in the numbers of format 2. If it is cut short, the next opening
/// does the rest: the format changes only when all is done.
pub(crate) fn assign_numbers(store: &mut Store) -> Result<(), JournalError> {
    let mut numbers = Vec::new();
    for item in store.state().prefix(&[key::NUMBER]) {
        let (_, value) = item.map_err(|error| store.state().located(error))?;
        let record = value.get(key::creation(0, 0).len()..).unwrap_or_default();
        if let Some(owners) = directory::read_owners(record) {
            let number = directory::read(record);
            numbers.push((number.ok_or_else(|| store.state().damaged())?, owners));
        }
    }
    let mut copier = Copier {
        new: store,
        changes: Vec::new(),
    };
    let mut written = 0;
    for (number, owners) in numbers {
        written += 1 + owners.len();
        let PhoneNumber { id, .. } = number;
        // Both in one commit, so that a number is never without its owners.
        copier.changes.push(Change::NumberPut(number));
        copier.changes.push(Change::OwnersSet(id, owners));
        if written >= ASSIGNED_AT_ONCE {
            copier.commit()?;
            written = 0;
        }
    }
    copier.commit()
}

/// Commits that the old tables contain, and that must not be applied a second time from the log.
#[derive(Default)]
struct Known {
    /// The latest commit that each counter contains.
    counted: HashMap<CountKey, u64>,
    /// The chunks of events, by their position in the log.
    chunks: HashSet<[u8; 12]>,
}

impl Known {
    /// Whether a counter contains the commit with this sequence.
    fn counts(&self, counter: &CountKey, sequence: u64) -> bool {
        let counted = self.counted.get(counter);
        counted.is_some_and(|counted| *counted >= sequence)
    }
}

/// Copies the directory, the counters and the events.
fn copy_state(
    state: &Table,
    interner: &Interner,
    copier: &mut Copier<'_>,
) -> Result<Known, JournalError> {
    records(state, key::ENVIRONMENT, copier, |json| {
        format1::read_environment(json).map(|environment| [Change::EnvironmentPut(environment)])
    })?;
    records(state, key::AGENT, copier, |json| {
        format1::read_agent(json).map(|agent| [Change::AgentPut(agent)])
    })?;
    records(state, key::NUMBER, copier, |json| {
        let (number, owners) = format1::read_number(json)?;
        let owners = Change::OwnersSet(number.id, owners);
        Some([Change::NumberPut(number), owners])
    })?;
    records(state, key::TOKEN, copier, |json| {
        format1::read_token(json).map(|token| [Change::TokenPut(token)])
    })?;
    for item in state.prefix(&[key::DEPARTED]) {
        let (item_key, name) = item?;
        let id = item_key.get(1..).and_then(|id| Uuid::from_slice(id).ok());
        let name = std::str::from_utf8(&name).ok();
        let (id, name) = id.zip(name).ok_or_else(|| state.damaged())?;
        // The environment is not known any more, and not needed.
        let environment = EnvironmentId(Uuid::nil());
        let departed = Change::AgentRemoved(environment, AgentId(id), name.to_owned());
        copier.push(departed)?;
    }
    let mut known = Known::default();
    for item in state.prefix(&[key::COUNT]) {
        let (item_key, value) = item?;
        let counter = format1::read_counter(&item_key);
        let value = key::decode_count_value(&value);
        let (counter, (count, sequence)) = counter.zip(value).ok_or_else(|| state.damaged())?;
        known.counted.insert(counter, sequence);
        copier.push(Change::Counted(counter, count))?;
    }
    if let Some(value) = state.get(&[key::COUNT_MARK])? {
        let mark = read_mark_with(&value, format1::read_counter);
        copier.push(Change::BatchesCounted(BatchesCounted {
            growth: Vec::new(),
            mark: mark.ok_or_else(|| state.damaged())?,
        }))?;
    }
    let mut chunks = Vec::new();
    for kind in [key::ROUTED, key::BATCH] {
        for item in state.prefix(&[kind]) {
            let (item_key, value) = item?;
            let position = key::routed_position(&item_key);
            let change = if kind == key::ROUTED {
                format1::read_events(&value).map(Change::Routed)
            } else {
                read_batch(&value, |number| interner.id(number)).map(Change::BatchRouted)
            };
            let (position, change) = position.zip(change).ok_or_else(|| state.damaged())?;
            known.chunks.insert(*position);
            chunks.push((*position, change));
        }
    }
    chunks.sort_unstable_by_key(|(position, _)| *position);
    for (_, change) in chunks {
        copier.push(change)?;
    }
    Ok(known)
}

/// Copies the records of this kind, in the order of their creation.
fn records<const CHANGES: usize>(
    state: &Table,
    kind: u8,
    copier: &mut Copier<'_>,
    read: impl Fn(&[u8]) -> Option<[Change; CHANGES]>,
) -> Result<(), JournalError> {
    let mut records: Vec<([u8; 12], Slice)> = Vec::new();
    for item in state.prefix(&[kind]) {
        let (_, value) = item?;
        let creation = *value.first_chunk().ok_or_else(|| state.damaged())?;
        records.push((creation, value));
    }
    records.sort_unstable_by_key(|(creation, _)| *creation);
    for (creation, value) in records {
        let changes = value.get(creation.len()..).and_then(&read);
        for change in changes.ok_or_else(|| state.damaged())? {
            copier.push(change)?;
        }
    }
    Ok(())
}

/// Copies the calls. Keys and values have the current layout; only the order of the keys differs.
fn copy_calls(
    calls: &Table,
    interner: &Interner,
    copier: &mut Copier<'_>,
) -> Result<(), JournalError> {
    for shard in 0..=u8::MAX {
        for item in calls.prefix(&[shard]) {
            let (item_key, value) = item?;
            if *item_key == key::APPLIED {
                continue;
            }
            let call = key::decode_call(&item_key, &value, |number| interner.id(number));
            copier.push(Change::CallPut(call.ok_or_else(|| calls.damaged())?))?;
        }
    }
    Ok(())
}

/// Commits changes to the new store, many at a time.
struct Copier<'a> {
    /// The new store.
    new: &'a mut Store,
    /// The changes not committed yet.
    changes: Vec<Change>,
}

impl Copier<'_> {
    /// Adds a change.
    fn push(&mut self, change: Change) -> Result<(), JournalError> {
        self.changes.push(change);
        if self.changes.len() >= CHANGES_AT_ONCE {
            return self.commit();
        }
        Ok(())
    }

    /// Commits what there is.
    fn commit(&mut self) -> Result<(), JournalError> {
        let committed = self.new.commit(&self.changes);
        self.changes.clear();
        committed
    }
}

/// Replaces the directory's content by the folder's, which is complete. A crash may interrupt it at any step; it
/// then starts again.
pub(crate) fn move_in(directory: &Path, folder: &Path) -> io::Result<()> {
    for name in ["tables", "log"] {
        let new = folder.join(name);
        if new.exists() {
            remove_folder(&directory.join(name))?;
            fs::rename(&new, directory.join(name))?;
            File::open(directory)?.sync_all()?;
        }
    }
    fs::rename(folder.join("FORMAT"), directory.join("FORMAT"))?;
    File::open(directory)?.sync_all()?;
    remove_folder(folder)
}

/// Removes a folder with all that it holds, if it is there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Folder of the data of a restore until they are complete.
pub(crate) const RESTORED: &str = "restore.unfinished";

/// Folder of the new data while they are written.
const UNFINISHED: &str = "upgrade.unfinished";

/// Folder of the new data once they are complete.
const NEW: &str = "upgrade";

/// About how many numbers and assignments are written in one commit.
const ASSIGNED_AT_ONCE: usize = 1_000;

/// How many changes make a commit.
const CHANGES_AT_ONCE: usize = 10_000;
