//! The administrator token: given by the environment, or made at first start and kept in a file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::ServeError;

/// Reads the token, or makes it.
pub(super) fn find_or_make(data_dir: &Path, prefix: &str) -> Result<String, ServeError> {
    if let Ok(token) = std::env::var(VARIABLE)
        && !token.trim().is_empty()
    {
        return Ok(token.trim().to_owned());
    }
    let path = data_dir.join(FILE);
    read_or_make(&path, prefix).map_err(|source| ServeError::AdminToken { path, source })
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

/// The variable that gives the token.
const VARIABLE: &str = "RINGBACK_ADMIN_TOKEN";

/// The file that keeps it.
const FILE: &str = "admin.token";

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
        fs::write(&path, "").unwrap();
        assert_ne!(read_or_make(&path, "talq_").unwrap(), made);
    }
}
