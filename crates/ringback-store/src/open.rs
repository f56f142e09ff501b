//! Opening a store: the lock, the format and what it asks for, then the log and the tables.

use std::path::Path;

use crate::error::{OpenStoreError, unavailable};
use crate::files::{Files, SystemFiles};
use crate::format::{FORMAT, Format};
use crate::settings::StoreSettings;
use crate::store::Store;
use crate::upgrade;

impl Store {
    /// Opens the store in this directory, or makes a new one (mode 0700) if there is none.
    ///
    /// # Errors
    /// See [`OpenStoreError`].
    pub fn open(
        directory: impl AsRef<Path>,
        settings: StoreSettings,
    ) -> Result<Self, OpenStoreError> {
        Self::open_with(directory.as_ref(), &settings, Box::new(SystemFiles))
    }

    /// Opens a store whose log writes through these files.
    pub(crate) fn open_with(
        directory: &Path,
        settings: &StoreSettings,
        files: Box<dyn Files>,
    ) -> Result<Self, OpenStoreError> {
        let failure = |error| OpenStoreError::from_journal(directory.to_owned(), error);
        let lock = Self::lock(directory)?;
        let stored = upgrade::current_format(directory, settings)?;
        let mut store = Self::open_locked(
            directory,
            settings,
            files,
            lock,
            stored.clone(),
            Format::create,
        )?;
        if let Some(stored) = stored.filter(|stored| stored.version < FORMAT) {
            upgrade::assign_numbers(&mut store).map_err(failure)?;
            let format = Format {
                version: FORMAT,
                ..stored
            };
            let written = format.write(directory);
            written.map_err(|error| failure(unavailable(error)))?;
            tracing::info!(format = FORMAT, "the data directory has the current format");
            store.skip_to_end();
        }
        Ok(store)
    }
}
