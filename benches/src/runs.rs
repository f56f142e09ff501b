//! Recorded results: a folder for each day and machine, and the facts that belong beside the figures.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Saves a report and its raw data in `benches/runs/<date>-<machine>/`, under this name.
///
/// # Errors
/// If the folder cannot be written to.
pub fn record(
    machine: &str,
    name: &str,
    title: &str,
    report: &str,
    raw: &Value,
) -> io::Result<PathBuf> {
    let folder = folder(machine);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), format!("{raw:#}\n"))?;
    let command = std::env::args()
        .skip(1)
        .fold(name.to_owned(), |all, argument| all + " " + &argument);
    let facts = [
        ("Command", format!("`{command}`")),
        (
            "Commit",
            shell("git rev-parse --short=12 HEAD")
                + &shell("git diff --quiet HEAD -- crates Cargo.lock || echo ', with changes'"),
        ),
        (
            "Processor",
            shell("nproc")
                + " × "
                + &shell("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"),
        ),
        ("Memory", shell("sed -n 's/^MemTotal: *//p' /proc/meminfo")),
        (
            "System",
            shell("uname -sr") + ", " + &shell(". /etc/os-release; echo \"$PRETTY_NAME\""),
        ),
        (
            "Load average before",
            shell("cut -d' ' -f1-3 /proc/loadavg"),
        ),
    ];
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("- {name}: {value}\n"))
        .collect();
    fs::write(
        folder.join(format!("{name}.md")),
        format!("# {title}\n\n{facts}\n{report}"),
    )?;
    Ok(folder)
}

/// The raw data recorded today for this machine under this name, if any.
#[must_use]
pub fn recorded(machine: &str, name: &str) -> Option<Value> {
    let text = fs::read_to_string(folder(machine).join(format!("{name}.json"))).ok()?;
    serde_json::from_str(&text).ok()
}

/// The folder of today's results for this machine.
fn folder(machine: &str) -> PathBuf {
    Path::new("benches/runs").join(format!("{}-{machine}", shell("date -u +%F")))
}

/// The output of a shell command; empty if it fails.
fn shell(command: &str) -> String {
    Command::new("sh")
        .args(["-c", command])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
