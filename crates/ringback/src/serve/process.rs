//! What the process uses of the machine: the usual `process_*` metrics, and the data directory.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// When the process started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// In seconds since 1970.
    started: f64,
}

/// The data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DiskUse {
    /// What its files hold.
    pub(super) bytes: Option<u64>,
    /// What ordinary users can still write to its disk.
    pub(super) free_bytes: Option<u64>,
}

/// This program with its arguments, to be started in the place of this process.
pub(super) fn the_same() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    Ok(command)
}

/// Starts the process again, in place. Returns only if that fails.
pub(super) fn start_again() -> io::Error {
    match the_same() {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

impl Process {
    /// It starts now.
    pub(super) fn starting() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: started.unwrap_or_default().as_secs_f64(),
        }
    }

    /// Appends the metrics in Prometheus' text format; what the system does not tell is left out.
    pub(super) fn write(self, out: &mut String) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = |key| Some(kilobytes(&status, key)? as f64 * 1024.0);
        let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        let limit = getrlimit(Resource::Nofile).current;
        for (name, kind, help, value) in [
            (
                "process_cpu_seconds_total",
                "counter",
                "Processor time of the process, user and system, in seconds.",
                Some(cpu),
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Memory of the process that is in use.",
                memory("VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Address space of the process.",
                memory("VmSize:"),
            ),
            (
                "process_open_fds",
                "gauge",
                "Files and sockets that are open.",
                // The one by which the list is read is not counted.
                open.map(|open| open.saturating_sub(1) as f64),
            ),
            (
                "process_max_fds",
                "gauge",
                "Files and sockets that may be open.",
                limit.map(|limit| limit as f64),
            ),
            (
                "process_start_time_seconds",
                "gauge",
                "When the process started, in seconds since 1970.",
                Some(self.started),
            ),
        ] {
            gauge(out, name, kind, help, value);
        }
    }
}

impl DiskUse {
    /// Of this directory, now.
    pub(super) fn of(directory: &Path) -> Self {
        let free = rustix::fs::statvfs(directory).ok();
        Self {
            bytes: fs::metadata(directory)
                .is_ok()
                .then(|| size(directory, DEPTH)),
            free_bytes: free.map(|free| free.f_bavail.saturating_mul(free.f_frsize)),
        }
    }

    /// Appends the metrics in Prometheus' text format; what the system does not tell is left out.
    pub(super) fn write(self, out: &mut String) {
        for (name, help, value) in [
            (
                "ringback_storage_bytes",
                "What the files of the data directory hold.",
                self.bytes,
            ),
            (
                "ringback_storage_free_bytes",
                "What is left on the disk of the data directory.",
                self.free_bytes,
            ),
        ] {
            gauge(out, name, "gauge", help, value.map(|value| value as f64));
        }
    }
}

/// Writes a metric that has one value, if it has one.
pub(super) fn gauge(out: &mut String, name: &str, kind: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        let _infallible = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
}

/// A value of `/proc/self/status`.
fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What the files in a directory hold. Files come and go meanwhile; what is gone counts nothing.
fn size(directory: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let mut sum = 0;
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => sum += size(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => sum += metadata.len(),
            _ => {}
        }
    }
    sum
}

/// How many levels of directories are looked into.
const DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_what_its_files_hold() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tables")).unwrap();
        fs::write(directory.path().join("a"), [0; 100]).unwrap();
        fs::write(directory.path().join("tables/b"), [0; 23]).unwrap();
        let disk = DiskUse::of(directory.path());
        assert_eq!(disk.bytes, Some(123));
        assert!(disk.free_bytes.is_some());
        let nowhere = DiskUse::of(&directory.path().join("nowhere"));
        assert_eq!(nowhere, DiskUse::default());
    }

    #[test]
    fn the_process_is_told_as_prometheus_expects_it() {
        let mut page = String::new();
        Process::starting().write(&mut page);
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            let prefix = format!("{name} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
            assert!(value.unwrap().parse::<f64>().unwrap() > 0.0, "{page}");
        }
    }
}
