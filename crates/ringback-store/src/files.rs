//! The file operations of the log that can fail, so that tests can make each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates, cuts and removes files of the log.
pub(crate) trait Files: Send + 'static {
    /// Creates a file that does not exist yet, for appending.
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// Cuts a file to a length, durably.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;

    /// Removes a file; durable after [`Self::sync_directory`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes files created in and removed from a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that only grows.
pub(crate) trait AppendFile: Send {
    /// Appends all the bytes; after an error, any part of them may have been appended.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable. After an error nobody knows what is durable, and a second call must not be
    /// trusted.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real file system.
pub(crate) struct SystemFiles;

impl Files for SystemFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl AppendFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Creates a directory, for its owner alone, unless it is there.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    // The entry in the parent must survive power loss too.
    let parent = directory.canonicalize()?;
    match parent.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
