//! Reads a directory that no process uses, without changing it: what it holds, and whether all of it is whole.
//!
//! Older formats are not upgraded. Those since 2 have today's tables. The records of format 1 are counted in a copy of
//! today's format, in the system's folder for temporary files, which is removed afterwards.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::config::FilterPolicy;
use ringback_engine::{AuditEntry, JournalError, Session};
use ringback_routing::{Agent, Connector, Environment, PhoneNumber, Token};
use serde::Serialize;
use uuid::Uuid;

use crate::batch::{read_batch, read_mark};
use crate::error::{OpenStoreError, unavailable};
use crate::files::{AppendFile, Files};
use crate::format::{Format, SAME_LAYOUT_SINCE};
use crate::key;
use crate::log::{Log, Record};
use crate::lsm_files;
use crate::prepare::prepare;
use crate::settings::StoreSettings;
use crate::store::Store;
use crate::stored::answer::read_answered_at;
use crate::stored::directory;
use crate::stored::opt_out::{read_opt_out, read_reassignment};
use crate::stored::place::read_place;
use crate::stored::routed::{read_decision, read_events};
use crate::table::{Opening, bloom};
use crate::tables::Tables;
use crate::upgrade;
use crate::writes::Writes;

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The format of the directory, as in its file `FORMAT`.
    pub format: u32,
    /// The size of its files.
    pub bytes: u64,
    /// How many records of each kind there are.
    pub records: RecordCounts,
    /// The last entry of the log that the directory contains; 0 if there never was one.
    pub last_sequence: u64,
}

/// How many records of each kind a directory holds, those of deleted agents included until a sweep drops them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Outbound calls.
    pub calls: u64,
    /// Agents.
    pub agents: u64,
    /// Phone numbers.
    pub numbers: u64,
    /// Agents that hold a callback role.
    pub roles: u64,
    /// Environments.
    pub environments: u64,
    /// Tokens.
    pub tokens: u64,
    /// Connectors.
    pub connectors: u64,
    /// Numbers by the agents that they are assigned to.
    pub assignments: u64,
    /// Names of deleted agents, kept for statistics.
    pub deleted_agents: u64,
    /// Counters of callbacks.
    pub counters: u64,
    /// Incoming calls of the last day, and answers to them.
    pub routed_calls: u64,
    /// Decisions on incoming calls over HTTP.
    pub decisions: u64,
    /// Audit entries.
    pub audit_entries: u64,
    /// Answers that are kept for repeated requests.
    pub kept_answers: u64,
    /// Hashes of erased contacts.
    pub erasures: u64,
    /// Contacts that do not want to be called, and those for which that is over.
    pub opt_outs: u64,
    /// Numbers that were given to somebody else.
    pub reassigned: u64,
}

impl Store {
    /// Reads what this directory holds. Takes as long as reading all records.
    ///
    /// # Errors
    /// See [`OpenStoreError`]: a directory that a process uses is one of them.
    pub fn info(directory: impl AsRef<Path>) -> Result<StoreInfo, OpenStoreError> {
        inspect(directory.as_ref(), false)
    }

    /// Reads every byte of this directory, and returns what it holds if all of it is whole.
    ///
    /// # Errors
    /// The first damage, with its file and byte, or any other [`OpenStoreError`].
    pub fn check(directory: impl AsRef<Path>) -> Result<StoreInfo, OpenStoreError> {
        inspect(directory.as_ref(), true)
    }
}

/// Reads a directory; `whole`: also what no record is read from.
fn inspect(directory: &Path, whole: bool) -> Result<StoreInfo, OpenStoreError> {
    let failure = |error| OpenStoreError::from_journal(directory.to_owned(), error);
    if !directory.is_dir() {
        return Err(OpenStoreError::NoStore(directory.to_owned()));
    }
    let lock = Store::lock_existing(directory)?;
    let Some(format) = Format::read(directory)? else {
        let holds_data = directory.join("tables").exists();
        return Err(if holds_data {
            upgrade::format_missing(directory)
        } else {
            OpenStoreError::NoStore(directory.to_owned())
        });
    };
    if format.version < SAME_LAYOUT_SINCE && upgrade::is_broken_off(directory) {
        return Err(failure(unavailable(
            "an upgrade was broken off; the next start of the server brings it to its end",
        )));
    }
    let bytes = size(directory).map_err(|error| failure(unavailable(error)))?;
    let log_directory = directory.join("log");
    if !log_directory.is_dir() {
        return Err(OpenStoreError::Damaged(format!(
            "{}: the log is missing",
            log_directory.display()
        )));
    }
    let settings = StoreSettings::default();
    let tables_directory = directory.join("tables");
    let (records, last_sequence) = if format.version >= SAME_LAYOUT_SINCE {
        let (tables, applied, ahead) = Tables::open(
            &tables_directory,
            false,
            &settings,
            format.sid_secret,
            Arc::new(lock),
        )
        .map_err(failure)?;
        let log = read_log(&log_directory, (applied, ahead), &tables).map_err(failure)?;
        if whole {
            tables.check_files().map_err(failure)?;
            tables.verify().map_err(failure)?;
        }
        let records = tables.count_records().map_err(failure)?;
        (records, log.next_sequence() - 1)
    } else {
        let last = check_format_1(directory, &settings).map_err(failure)?;
        (count_format_1(directory, &format, &settings)?, last)
    };
    Ok(StoreInfo {
        format: format.version,
        bytes,
        records,
        last_sequence,
    })
}

/// Applies the log to the tables in memory.
fn read_log(
    directory: &Path,
    (applied, ahead): (u64, u64),
    tables: &Tables,
) -> Result<Log, JournalError> {
    let replay = |record: Record<'_>| {
        let writes = prepare(
            tables,
            &record.changes()?,
            record.sequence,
            Writes::default(),
        )?;
        tables.apply(&writes, record.sequence);
        Ok(())
    };
    Log::open(
        directory,
        Box::new(Untouched),
        Arc::default(),
        applied,
        ahead,
        replay,
    )
}

/// Checks every file of a directory of format 1, and returns the last sequence.
fn check_format_1(directory: &Path, settings: &StoreSettings) -> Result<u64, JournalError> {
    let tables = directory.join("tables");
    for name in ["sids", "state", "calls"] {
        if let Some(damage) = lsm_files::find_damage(&tables.join(name)).pop() {
            return Err(damage.into());
        }
    }
    let opening = Opening::new(&tables, false, settings);
    let applied = [
        opening.table("sids", 1, bloom(10.0))?.applied()?,
        opening.table("state", 1, bloom(10.0))?.applied()?,
        opening
            .table("calls", 1, FilterPolicy::disabled())?
            .applied()?,
    ];
    let [lowest, .., highest] = {
        let mut sorted = applied;
        sorted.sort_unstable();
        sorted
    };
    let log = Log::open(
        &directory.join("log"),
        Box::new(Untouched),
        Arc::default(),
        lowest,
        highest,
        |record| record.changes().map(drop),
    )?;
    Ok(log.next_sequence() - 1)
}

/// Counts the records of a directory of format 1, in a copy.
fn count_format_1(
    directory: &Path,
    format: &Format,
    settings: &StoreSettings,
) -> Result<RecordCounts, OpenStoreError> {
    let copy = std::env::temp_dir().join(format!("ringback-{}", Uuid::new_v4()));
    let counted = (|| {
        let failure = |error| OpenStoreError::from_journal(copy.clone(), error);
        let store = upgrade::copied(directory, format, settings, Box::new(Untouched), &copy)?;
        let counts = store.tables().count_records().map_err(failure)?;
        store.close().map_err(failure)?;
        Ok(counts)
    })();
    let removed = fs::remove_dir_all(&copy);
    if let (Ok(_), Err(error)) = (&counted, removed) {
        return Err(OpenStoreError::from_journal(copy, unavailable(error)));
    }
    counted
}

impl Tables {
    /// Reads every block of every file.
    fn check_files(&self) -> Result<(), JournalError> {
        let (_guard, paths) = self.files();
        let mut damage = paths
            .iter()
            .filter_map(|path| lsm_files::check_table(path, |_| true));
        damage.next().map_or(Ok(()), |damage| Err(damage.into()))
    }

    /// Reads every record, and counts those that people know.
    fn count_records(&self) -> Result<RecordCounts, JournalError> {
        let mut counts = RecordCounts::default();
        self.count_state(&mut counts)
            .map_err(|error| self.state.located(error))?;
        let interner = self.interner.read();
        let every_id = |_| Some(Uuid::nil());
        for first in 0..=u8::MAX {
            for item in self.calls.shard(usize::from(first)) {
                let (item_key, value) = item.map_err(|error| self.calls.located(error))?;
                key::decode_call(&item_key, &value, |number| interner.id(number))
                    .ok_or_else(|| self.calls.damaged())?;
                counts.calls += 1;
            }
            for item in self.decisions.shard(usize::from(first)) {
                let (_, value) = item.map_err(|error| self.decisions.located(error))?;
                read_decision(&value).ok_or_else(|| self.decisions.damaged())?;
                counts.decisions += 1;
            }
            for item in self.sids.shard(usize::from(first)) {
                let (_, value) = item.map_err(|error| self.sids.located(error))?;
                let nobody = ringback_routing::EnvironmentId(Uuid::nil());
                key::decode_sid_value(nobody, "", &value, every_id)
                    .ok_or_else(|| self.sids.damaged())?;
            }
        }
        Ok(counts)
    }

    /// Counts the records in `state`.
    fn count_state(&self, counts: &mut RecordCounts) -> Result<(), JournalError> {
        let interner = self.interner.read();
        for item in self.state.range(&[1], None) {
            let (item_key, value) = item?;
            let record = value.get(key::creation(0, 0).len()..).unwrap_or_default();
            let is_readable = match item_key.first().copied().unwrap_or_default() {
                key::ENVIRONMENT => {
                    counts.environments += 1;
                    directory::read::<Environment>(record).is_some()
                }
                key::AGENT => {
                    counts.agents += 1;
                    let agent = directory::read::<Agent>(record);
                    let role = agent.as_ref().and_then(|agent| agent.role.as_ref());
                    counts.roles += u64::from(role.is_some());
                    agent.is_some()
                }
                key::NUMBER => {
                    counts.numbers += 1;
                    let owners = directory::read_owners(record).unwrap_or_default();
                    counts.assignments += owners.len() as u64;
                    directory::read::<PhoneNumber>(record).is_some()
                }
                key::TOKEN => {
                    counts.tokens += 1;
                    directory::read::<Token>(record).is_some()
                }
                key::CONNECTOR => {
                    counts.connectors += 1;
                    directory::read::<Connector>(record).is_some()
                }
                key::ASSIGNED => {
                    counts.assignments += 1;
                    key::decode_assignment_key(&item_key).is_some()
                        && key::assignment_order(&value).is_some()
                }
                key::DEPARTED => {
                    counts.deleted_agents += 1;
                    std::str::from_utf8(&value).is_ok()
                }
                key::COUNT => {
                    counts.counters += 1;
                    key::decode_count_key(&item_key).is_some()
                        && key::decode_count_value(&value).is_some()
                }
                key::AUDIT => {
                    counts.audit_entries += 1;
                    directory::read::<AuditEntry>(&value).is_some()
                }
                key::TOMBSTONE => {
                    counts.erasures += 1;
                    key::decode_tombstone(&item_key, &value).is_some()
                }
                key::ERASURE_SECRET => value.len() == 16,
                key::OPT_OUT => {
                    counts.opt_outs += 1;
                    key::decode_contact_rights_key(&item_key).is_some()
                        && read_opt_out(&value).is_some()
                }
                key::REASSIGNED => {
                    counts.reassigned += 1;
                    key::decode_contact_rights_key(&item_key).is_some()
                        && read_reassignment(&value).is_some()
                }
                key::ANSWER => {
                    counts.kept_answers += 1;
                    key::decode_answer_key(&item_key).is_some()
                        && read_answered_at(&value).is_some()
                }
                key::SESSION => directory::read::<Session>(&value).is_some(),
                key::COUNT_MARK => read_mark(&value).is_some(),
                key::PLACE => read_place(&value).is_some(),
                key::ROUTED => match read_events(&value) {
                    Some(events) => {
                        counts.routed_calls += events.len() as u64;
                        true
                    }
                    None => false,
                },
                key::BATCH => match read_batch(&value, |number| interner.id(number)) {
                    Some(batch) => {
                        counts.routed_calls += batch.calls.len() as u64;
                        true
                    }
                    None => false,
                },
                _ => true,
            };
            if !is_readable {
                return Err(self.state.damaged());
            }
        }
        Ok(())
    }
}

/// The size of the files of a folder.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// Files that stay as they are: what a crash left at the end of the log is passed over, and not cut off.
struct Untouched;

impl Files for Untouched {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _path: &Path, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}
