//! Disks of their own: a small one, that can be full or read-only, and one whose power can be cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system in memory, unmounted when dropped. Mounting needs root, or `sudo` without a password.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted.
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system of this many kibibytes on this directory, writable for everybody.
    ///
    /// # Panics
    /// It cannot be mounted here.
    #[must_use]
    pub fn mount(path: &Path, kibibytes: u64) -> Self {
        let options = format!("size={kibibytes}k,mode=0777");
        let mounted = privileged(&["mount", "-t", "tmpfs", "-o", &options, "none"], path);
        if let Err(why) = mounted {
            panic!(
                "this test needs a file system of its own, and none can be mounted: run it as root, or where \
                 `sudo -n mount` works: {why}"
            );
        }
        Self {
            path: path.to_owned(),
        }
    }

    /// Uses up all free space.
    ///
    /// # Panics
    /// Writing fails for another reason than lack of space.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file can be made");
        for block in [64 << 10, 4 << 10, 1] {
            while ballast.write_all(&vec![0; block]).is_ok() {}
        }
    }

    /// Frees the space that [`Self::fill`] took.
    ///
    /// # Panics
    /// [`Self::fill`] was not called.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }

    /// Makes it read-only, or writable again. Fails while a file is open for writing.
    ///
    /// # Errors
    /// The message of the failed command.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), String> {
        let mode = if read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        privileged(&["mount", "-o", mode], &self.path)
    }

    /// The file that uses up the space.
    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(why) = privileged(&["umount", "-l"], &self.path)
            && !std::thread::panicking()
        {
            panic!("the file system cannot be unmounted: {why}");
        }
    }
}

/// A disk that forgets what was not synced when its power is cut: ext4 in a file in memory. Mounting needs root, or
/// `sudo` without a password, and loop devices.
#[derive(Debug)]
pub struct VolatileDisk {
    /// Where it is mounted.
    mount: PathBuf,
    /// The folder of the file.
    folder: TempDir,
    /// How often power was cut.
    cuts: usize,
}

impl VolatileDisk {
    /// Mounts a file system of this many mebibytes on this directory.
    ///
    /// # Panics
    /// It cannot be mounted here.
    #[must_use]
    pub fn mount(mount: &Path, mebibytes: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory can be made");
        let disk = Self {
            mount: mount.to_owned(),
            folder,
            cuts: 0,
        };
        let image = File::create(disk.image()).expect("a file can be made");
        image
            .set_len(mebibytes << 20)
            .expect("the file can be given a size");
        let made = privileged(&["mkfs.ext4", "-q"], &disk.image());
        made.unwrap_or_else(|why| panic!("no ext4 can be made: {why}"));
        disk.attach();
        disk
    }

    /// Cuts the power: what the file has at this moment is all that is left. Nothing may be running on it.
    ///
    /// # Panics
    /// It cannot be mounted again.
    pub fn cut_power(&mut self) {
        let before = self.image();
        self.cuts += 1;
        // First, because unmounting writes what the system still has in memory.
        fs::copy(&before, self.image()).expect("the file can be copied");
        privileged(&["umount"], &self.mount).expect("nothing uses the disk");
        fs::remove_file(before).expect("the file can be removed");
        self.attach();
    }

    /// The file with the file system.
    fn image(&self) -> PathBuf {
        self.folder.path().join(format!("{}.ext4", self.cuts))
    }

    /// Mounts the file. By itself the system writes next to nothing for five minutes.
    fn attach(&self) {
        let image = self.image();
        let image = image.to_str().expect("the path is text");
        let command = ["mount", "-o", "loop,noatime,commit=300", image];
        if let Err(why) = privileged(&command, &self.mount) {
            panic!("this test needs a disk of its own, and none can be mounted: {why}");
        }
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        if let Err(why) = privileged(&["umount", "-l"], &self.mount)
            && !std::thread::panicking()
        {
            panic!("the disk cannot be unmounted: {why}");
        }
    }
}

/// Runs a command on a path as the current user, and if that fails, with `sudo`.
fn privileged(command: &[&str], path: &Path) -> Result<(), String> {
    let mut failures = String::new();
    for prefix in [&[][..], &["sudo", "-n"]] {
        let words = [prefix, command].concat();
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let ran = Command::new(program).args(arguments).arg(path).output();
        match ran {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => failures += &String::from_utf8_lossy(&output.stderr),
            Err(error) => failures += &format!("{program}: {error}\n"),
        }
    }
    Err(failures)
}
