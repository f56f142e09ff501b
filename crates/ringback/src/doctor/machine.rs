//! What can be told of the machine without a server.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use ringback_routing::Timestamp;
use ringback_sip_server::RECEIVE_BUFFER_BYTES;
use rustix::process::{Resource, getrlimit};

use super::check::Check;
use crate::config::Config;

/// What does not depend on the configuration.
pub(super) fn without_configuration() -> Vec<Check> {
    vec![clock(), open_files(), receive_buffer(), huge_pages()]
}

/// Whether the directory can be written, and how much room there is.
pub(super) fn data_directory(path: &Path) -> Vec<Check> {
    const NAME: &str = "data directory";
    let shown = path.display();
    let writable = match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            let todo = "Name a directory in `data-dir`.";
            return vec![Check::problem(NAME, format!("{shown} is a file"), todo)];
        }
        Ok(_) => tempfile::tempfile_in(path).map(|_| path),
        // The first start makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => nearest(path)
            .ok_or(error)
            .and_then(|parent| tempfile::tempfile_in(parent).map(|_| parent)),
        Err(error) => Err(error),
    };
    let existing = match writable {
        Ok(existing) => existing,
        Err(error) => {
            let todo = "Run this as the user of the service (`sudo -u ringback`), or give it the directory with `chown`.";
            let found = format!("{shown} cannot be written: {error}");
            return vec![Check::problem(NAME, found, todo)];
        }
    };
    let Ok(disk) = rustix::fs::statvfs(existing) else {
        let found = format!("{shown} can be written, its disk tells nothing");
        return vec![Check::ok(NAME, found)];
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let found = format!("{shown}: {} MB free", free / 1_000_000);
    if free < LEAST_FREE_BYTES {
        let todo =
            "Make room: without it nothing can be stored, and changes are answered with 503.";
        return vec![Check::problem(NAME, found, todo)];
    }
    vec![Check::ok(NAME, found)]
}

/// When the certificates end.
pub(super) fn certificates(config: &Config) -> Vec<Check> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    let ends = [
        ("sip.tls", config.sip.certificate_expires_at()),
        ("http.tls", config.http_certificate_expires_at),
    ];
    let ends: Vec<Check> = ends
        .into_iter()
        .filter_map(|(section, end)| Some(certificate(section, end?, now)))
        .collect();
    if ends.is_empty() {
        return vec![Check::ok("certificates", "none: nothing listens for TLS")];
    }
    ends
}

/// When a certificate ends.
fn certificate(section: &str, end: Timestamp, now: i64) -> Check {
    const NAME: &str = "certificates";
    let left = (end.millis() / 1_000 - now).div_euclid(24 * 60 * 60);
    let todo = "Renew it, then `ringback reload` or `systemctl reload ringback`.";
    if left < 0 {
        return Check::problem(NAME, format!("that of {section} ended at {end}"), todo);
    }
    let found = format!("that of {section} ends at {end}, in {left} days");
    if left < LEAST_DAYS {
        return Check::problem(NAME, found, todo);
    }
    Check::ok(NAME, found)
}

/// Whether the clock is kept right: calls are remembered by time, and nodes of a cluster compare theirs.
fn clock() -> Check {
    const NAME: &str = "clock";
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let said = asked.ok().filter(|asked| asked.status.success());
    let said = said.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned());
    match said.as_deref() {
        Some("yes") => Check::ok(NAME, "synchronized"),
        Some("no") => Check::problem(
            NAME,
            "not synchronized",
            "Run a time service: `apt install chrony`, or `timedatectl set-ntp true`.",
        ),
        _ => Check::unchecked(NAME, "timedatectl does not tell whether it is synchronized"),
    }
}

/// How many files may be open: one for each connection. Too few for what is configured is a fault of the configuration.
fn open_files() -> Check {
    const NAME: &str = "limits";
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < LEAST_FILES => Check::advice(
            NAME,
            format!("{limit} open files"),
            "Raise it for many connections: LimitNOFILE= of systemd, `ulimit -Hn`.",
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} open files")),
        None => Check::ok(NAME, "any number of open files"),
    }
}

/// Whether the system gives sockets the room that is asked for.
fn receive_buffer() -> Check {
    const NAME: &str = "receive buffer";
    let most = fs::read_to_string("/proc/sys/net/core/rmem_max");
    let most = most.ok().and_then(|text| text.trim().parse::<usize>().ok());
    match most {
        None => Check::unchecked(NAME, "net.core.rmem_max cannot be read"),
        Some(most) if most >= RECEIVE_BUFFER_BYTES || may_exceed_it() => {
            Check::ok(NAME, "as large as is asked for")
        }
        Some(most) => Check::advice(
            NAME,
            format!("net.core.rmem_max is {most}, {RECEIVE_BUFFER_BYTES} are asked for"),
            format!(
                "`sysctl net.core.rmem_max={RECEIVE_BUFFER_BYTES}`, or CAP_NET_ADMIN: a burst of calls is lost \
                 where there is no room for it."
            ),
        ),
    }
}

/// Whether this process may ask for more than `rmem_max`.
fn may_exceed_it() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_some_and(|capabilities| capabilities & (1 << CAP_NET_ADMIN) != 0)
}

/// Whether the system has huge pages for those who ask.
fn huge_pages() -> Check {
    const NAME: &str = "huge pages";
    match fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled") {
        Err(_) => Check::unchecked(NAME, "this kernel does not tell"),
        Ok(mode) if mode.contains("[never]") => Check::advice(
            NAME,
            "never given",
            "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`: a call then costs up to a fifth less.",
        ),
        Ok(_) => Check::ok(NAME, "given to those who ask"),
    }
}

/// The nearest directory above that exists.
fn nearest(path: &Path) -> Option<&Path> {
    let above = path.ancestors().skip(1);
    let mut above = above.map(|path| match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    });
    above.find(|path| path.is_dir())
}

/// Less room than this is hardly enough for the next merge of tables.
const LEAST_FREE_BYTES: u64 = 1_000_000_000;

/// A certificate with fewer days left should be renewed; as the alert for Prometheus has it.
const LEAST_DAYS: i64 = 14;

/// Fewer open files are too few for a server with many connections.
const LEAST_FILES: u64 = 4_096;

/// The number of the capability (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_something_to_do() {
        let now = 1_800_000_000;
        let after = |days: i64| Timestamp::from_seconds(now + days * 86_400 + 60);
        for (end, state) in [
            (after(30), State::Ok),
            (after(14), State::Ok),
            (after(13), State::Problem),
            (after(-2), State::Problem),
        ] {
            let check = certificate("http.tls", end, now);
            assert_eq!(check.state, state, "{}", check.found);
            assert_eq!(check.todo.is_some(), state == State::Problem);
        }
    }

    #[test]
    fn a_directory_that_the_first_start_makes_is_as_good_as_one() {
        let scratch = tempfile::tempdir().unwrap();
        let below = scratch.path().join("ringback/data");
        assert_eq!(data_directory(&below)[0].state, State::Ok);
        assert!(!below.exists());
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(data_directory(&file)[0].state, State::Problem);
        assert_eq!(data_directory(&file.join("x"))[0].state, State::Problem);
    }
}
