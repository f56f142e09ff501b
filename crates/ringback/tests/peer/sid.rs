//! Programs of Debian sid, unpacked into a folder by `./test`: Debian 12 has no Asterisk, an older Kamailio, and a sipp
//! without TLS.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of sid, started by its own loader with its own libraries.
///
/// # Panics
/// It was not unpacked.
pub(super) fn program(name: &str) -> Command {
    let root = root();
    let library = library();
    let path = ["usr/sbin", "usr/bin"]
        .map(|folder| root.join(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is not in {}: run ./test", root.display()));
    let triple = library.file_name().expect("the folder has a name");
    let libraries = root.join("lib").join(triple);
    let mut command = Command::new(loader(&libraries));
    let paths = [&library, &libraries, &library.join("kamailio")];
    command
        .arg("--library-path")
        .arg(paths.map(|path| path.to_string_lossy()).join(":"))
        .arg(path);
    if name == "kamailio" {
        command.arg("-L").arg(library.join("kamailio/modules"));
    }
    command
}

/// Where libraries and modules are.
pub(super) fn library() -> PathBuf {
    let folder = root().join("usr/lib");
    entry(&folder, |name| name.ends_with("-linux-gnu"))
}

/// Where data of programs is.
pub(super) fn share() -> PathBuf {
    root().join("usr/share")
}

/// The loader among the libraries.
fn loader(libraries: &Path) -> PathBuf {
    entry(libraries, |name| name.starts_with("ld-linux"))
}

/// The entry of a folder with such a name.
fn entry(folder: &Path, is_meant: impl Fn(&str) -> bool) -> PathBuf {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_str().is_some_and(&is_meant))
        .unwrap_or_else(|| panic!("{} lacks what is looked for: run ./test", folder.display()))
        .path()
}

/// The folder that `./test` has unpacked them into.
fn root() -> PathBuf {
    let cache = env::var_os("RINGBACK_TEST_CACHE").map(PathBuf::from);
    let home = || {
        env::home_dir()
            .expect("there is a home")
            .join(".cache/ringback-tests")
    };
    let root = cache.unwrap_or_else(home).join("debian-sid");
    assert!(
        root.join("complete").exists(),
        "{} is not there in full: run ./test, which unpacks programs of Debian sid into it",
        root.display()
    );
    root
}
