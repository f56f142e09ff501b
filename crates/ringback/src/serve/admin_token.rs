//! The administrator token where the environment gives none: made at first start and kept in a file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::ServeError;
use crate::config::check_admin_token;

/// Reads the token from its file, or makes it.
pub(crate) fn find_or_make(data_dir: &Path, prefix: &str) -> Result<String, ServeError> {
    let path = data_dir.join(FILE);
    let token = read_or_make(&path, prefix).map_err(|source| ServeError::AdminToken {
        path: path.clone(),
        source,
    })?;
    match check_admin_token(&token) {
        Ok(()) => Ok(token),
        Err(problem) => Err(ServeError::WeakToken { path, problem }),
    }
}

/// Reads the token from its file, or makes both.
fn read_or_make(path: &Path, prefix: &str) -> io::Result<String> {
    match fs::read_to_string(path) {
        // An empty file is what a crash can leave behind.
        Ok(token) if !token.trim().is_empty() => {
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "others can read the administrator token");
            }
            return Ok(token.trim().to_owned());
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = ringback_engine::generate_secret(&format!("{prefix}admin_"))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    tracing::info!(path = %path.display(), "administrator token made");
    Ok(token)
}

/// The file that keeps it.
pub(crate) const FILE: &str = "admin.token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let made = read_or_make(&path, "talq_").unwrap();
        assert!(made.starts_with("talq_admin_"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(read_or_make(&path, "other_").unwrap(), made);
        assert_eq!(check_admin_token(&made), Ok(()));
        fs::write(&path, "").unwrap();
        assert_ne!(read_or_make(&path, "talq_").unwrap(), made);
    }

    #[test]
    fn a_short_token_in_the_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "secret\n").unwrap();
        let error = find_or_make(directory.path(), "talq_").unwrap_err();
        assert!(error.is_configuration());
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
