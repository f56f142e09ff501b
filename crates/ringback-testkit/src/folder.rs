//! Folders of fixtures.

use std::fs;
use std::path::Path;

/// Copies a folder with everything in it.
///
/// # Panics
/// Something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let copied = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_folder(&path, &copied);
        } else {
            fs::copy(&path, copied).expect("a file can be copied");
        }
    }
}
