//! System calls and allocations of a server, counted from outside by `perf` (which needs root).

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cpu::with_descendants;

/// What a server does in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// System calls.
    pub system_calls: f64,
    /// Allocations through the C library, moves of grown ones included.
    pub allocations: f64,
}

/// Watches processes and their descendants for a while; `None` if `perf` cannot.
#[must_use]
pub fn watch(processes: &[u32], duration: Duration) -> Option<PerSecond> {
    let library = c_library(*processes.first()?)?;
    perf(&["probe", "--quiet", "--del", "ringback_bench:*"]);
    for function in [
        "malloc",
        "calloc",
        "realloc",
        "posix_memalign",
        "aligned_alloc",
    ] {
        let event = format!("ringback_bench:{function}={function}");
        perf(&["probe", "--quiet", "--exec", &library, "--add", &event])?;
    }
    let ids: Vec<String> = with_descendants(processes)
        .iter()
        .map(u32::to_string)
        .collect();
    let counted = perf(&[
        "stat",
        "--field-separator=,",
        "--event=raw_syscalls:sys_enter,ringback_bench:*",
        "--pid",
        &ids.join(","),
        "sleep",
        &duration.as_secs_f64().to_string(),
    ]);
    perf(&["probe", "--quiet", "--del", "ringback_bench:*"]);
    let mut result = PerSecond::default();
    for line in counted?.lines() {
        let mut fields = line.split(',');
        let (count, event) = (fields.next()?.parse::<f64>(), fields.nth(1));
        let (Ok(count), Some(event)) = (count, event) else {
            continue;
        };
        let place = if event.starts_with("raw_syscalls") {
            &mut result.system_calls
        } else {
            &mut result.allocations
        };
        *place += count / duration.as_secs_f64();
    }
    Some(result)
}

/// The C library that a process uses.
fn c_library(process: u32) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so"))
        .map(str::to_owned)
}

/// Runs `perf`; gives what it prints, where it succeeds.
fn perf(arguments: &[&str]) -> Option<String> {
    let output = Command::new("perf").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
