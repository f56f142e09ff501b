//! The processor time of a server, and the core of a process.

use std::collections::HashMap;
use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Processor time of threads, in nanoseconds, by process and thread.
#[derive(Clone, Debug, Default)]
pub struct CpuTimes(HashMap<(u32, u32), u64>);

impl CpuTimes {
    /// Reads the times of all threads of the processes and of all their descendants.
    #[must_use]
    pub fn read(processes: &[u32]) -> Self {
        let mut times = HashMap::new();
        for process in with_descendants(processes) {
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
                continue;
            };
            for thread in threads.flatten() {
                let Some(thread) = thread.file_name().to_str().and_then(|id| id.parse().ok())
                else {
                    continue;
                };
                if let Some(time) = thread_time(process, thread) {
                    times.insert((process, thread), time);
                }
            }
        }
        Self(times)
    }

    /// The time since then, in nanoseconds. Threads that ended in between are left out.
    #[must_use]
    pub fn since(&self, before: &Self) -> u64 {
        self.0
            .iter()
            .map(|(thread, time)| time.saturating_sub(before.0.get(thread).copied().unwrap_or(0)))
            .sum()
    }
}

/// User and system time of a thread, in nanoseconds.
fn thread_time(process: u32, thread: u32) -> Option<u64> {
    // The scheduler's own count, in nanoseconds.
    let precise = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat"));
    if let Ok(precise) = precise {
        return precise.split_whitespace().next()?.parse().ok();
    }
    // Else ticks of a hundredth of a second.
    let stat = fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).ok()?;
    let ticks: u64 = stat
        .rsplit(')')
        .next()?
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(ticks * 10_000_000)
}

/// User and system time of this process and its ended threads, and of its child processes that have ended; in
/// nanoseconds, accurate to a hundredth of a second.
#[must_use]
pub fn own_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace().skip(11).take(4);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks * 10_000_000)
}

/// The processes and all their descendants.
#[must_use]
pub fn with_descendants(processes: &[u32]) -> Vec<u32> {
    let mut found = processes.to_vec();
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
        }
    }
    found
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Bytes that a process has written to disk so far.
#[must_use]
pub fn written(process: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    let line = io.lines().find(|line| line.starts_with("write_bytes:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Keeps this thread, and threads that it starts, on one core.
///
/// # Errors
/// There is no such core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let me = [std::process::id()];
        let before = CpuTimes::read(&me);
        let sum: u64 = (0..20_000_000).fold(0, |sum, i| sum ^ crate::population::mix(i));
        assert_ne!(sum, 0);
        assert!(CpuTimes::read(&me).since(&before) > 0);
        assert!(resident(me[0]).unwrap() > 100_000);
    }
}
