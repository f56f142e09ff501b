//! System calls and allocations of a server, counted from outside by `perf` (which needs root).

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cpu::with_descendants;

/// Work of a server per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// System calls.
    pub system_calls: f64,
    /// Allocations by the C library, including reallocations.
    pub allocations: f64,
}

/// Installed probes; removed when dropped.
#[derive(Debug)]
pub struct Probes(());

impl Probes {
    /// Installs probes in the C library of a process; `None` if `perf` cannot.
    #[must_use]
    pub fn add(process: u32) -> Option<Self> {
        let library = c_library(process)?;
        let probes = Self(());
        perf(&["probe", "--quiet", "--del", "ringback_bench:*"]);
        for function in ALLOCATORS {
            let event = format!("ringback_bench:{function}={function}");
            perf(&["probe", "--quiet", "--exec", &library, "--add", &event])?;
        }
        Some(probes)
    }

    /// Watches processes and their descendants for a while; `None` if `perf` cannot.
    #[must_use]
    pub fn watch(&self, processes: &[u32], duration: Duration) -> Option<PerSecond> {
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
        ])?;
        let mut result = PerSecond::default();
        for line in counted.lines() {
            let mut fields = line.split(',');
            let (Some(Ok(count)), Some(event)) =
                (fields.next().map(str::parse::<f64>), fields.nth(1))
            else {
                continue;
            };
            let target = if event.starts_with("raw_syscalls") {
                &mut result.system_calls
            } else {
                &mut result.allocations
            };
            *target += count / duration.as_secs_f64();
        }
        Some(result)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        perf(&["probe", "--quiet", "--del", "ringback_bench:*"]);
    }
}

/// The functions of the C library that allocate.
const ALLOCATORS: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// The C library that a process uses.
fn c_library(process: u32) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so"))
        .map(str::to_owned)
}

/// Runs `perf`; returns its output if it succeeds.
fn perf(arguments: &[&str]) -> Option<String> {
    let output = Command::new("perf").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
