//! What a node needs: prints the tables of `docs/en/operations/sizing.md`, or compares them with a real server.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use ringback_benches::cpu::{self, CpuTimes};
use ringback_benches::figures::table;
use ringback_benches::load::{self, Arrivals, Expect, Plan};
use ringback_benches::population::{Callers, Population};
use ringback_benches::runs;
use ringback_benches::server::{Ringback, Tenants, beside, stored_bytes};
use ringback_benches::sizing;
use serde_json::{Value, json};

/// Prints the tables of docs/en/operations/sizing.md
#[derive(Debug, Parser)]
struct Arguments {
    /// Load a server, and print how far it is from the tables
    #[arg(long)]
    check: bool,
    /// Numbers of contacts to load, step by step
    #[arg(long, value_delimiter = ',', default_value = "1000000,3000000")]
    contacts: Vec<u64>,
    /// Returning calls per second
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Seconds of returning calls
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// The program `ringback`; default: beside this one
    #[arg(long)]
    ringback: Option<PathBuf>,
    /// Folder for the data
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keep the results of the check in `benches/runs/<date>-<NAME>/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if !arguments.check {
        for table in [
            sizing::costs_table(),
            sizing::contacts_table(),
            sizing::calls_table(),
            sizing::recording_table(),
        ] {
            println!("{table}");
        }
        return Ok(());
    }
    let folder = arguments
        .folder
        .clone()
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("ringback-sizing-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let checked = check(&arguments, &folder.join("data"));
    fs::remove_dir_all(&folder)?;
    let rows = checked?;
    let report = report(&rows);
    println!("{report}");
    if let Some(machine) = &arguments.record {
        let title = "Sizing, predicted and measured";
        runs::record(machine, "sizing", title, &report, &json!({"rows": rows}))?;
    }
    Ok(())
}

/// Loads a server step by step, calls it and restarts it; returns predicted and measured values.
fn check(arguments: &Arguments, data: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let program = match &arguments.ringback {
        Some(program) => program.clone(),
        None => beside("ringback")?,
    };
    let mut rows = Vec::new();
    let mut row = |what: String, unit: &str, predicted: f64, measured: f64| {
        rows.push(json!({
            "what": what, "unit": unit, "predicted": predicted, "measured": measured,
        }));
    };
    let mut server = Ringback::start(&program, data, None)?;
    let tenants = server.populate(Population::SMALL)?;
    let process = server.process.id();
    let resident = || cpu::resident(process).unwrap_or_default() as f64;
    let written = || cpu::written(process).unwrap_or_default() as f64;
    row("empty".to_owned(), "MB", 0.0, resident() / 1e6);

    let (mut before, written_before, cpu_before) = (0, written(), CpuTimes::read(&[process]));
    for contacts in &arguments.contacts {
        record(&server, &tenants, before, *contacts)?;
        before = *contacts;
        row(
            format!("resident, {contacts} contacts"),
            "MB",
            sizing::resident_bytes(*contacts as f64) / 1e6,
            resident() / 1e6,
        );
    }
    let total = before.max(1) as f64;
    // Merging in the background is part of the cost of recorded calls.
    settle(process, data)?;
    let cpu = CpuTimes::read(&[process]).since(&cpu_before) as f64;
    row(
        "processor, recorded call by batch".to_owned(),
        "µs",
        sizing::BATCH_MICROSECONDS,
        cpu / 1e3 / total,
    );
    row(
        "written, recorded call by batch".to_owned(),
        "bytes",
        sizing::WRITTEN_BYTES,
        (written() - written_before) / total,
    );

    let (resident_before, written_before) = (resident(), written());
    let outcome = load::run(&Plan {
        server: server.sip,
        processes: vec![process],
        population: Population::SMALL,
        callers: Callers::Even(before),
        mixed: false,
        sockets: 1,
        arrivals: Arrivals::Even(arguments.rate),
        warm_up: Duration::ZERO,
        duration: Duration::from_secs_f64(arguments.seconds),
        expect: Expect::Target,
        seed: 1,
    })?;
    if outcome.wrong > 0 {
        return Err(format!("{} answers were wrong", outcome.wrong).into());
    }
    row(
        format!("processor, returning call at {}/s", arguments.rate),
        "µs",
        sizing::call_cores(arguments.rate) * 1e6 / arguments.rate,
        outcome.cpu_per_call(),
    );
    settle(process, data)?;
    let (replies, routed) = sizing::recent_bytes(arguments.rate, arguments.seconds);
    row(
        format!("resident, added by {} returning calls", outcome.answered),
        "MB",
        (replies + routed) / 1e6,
        (resident() - resident_before) / 1e6,
    );
    row(
        "written, returning call".to_owned(),
        "bytes",
        sizing::ROUTED_WRITTEN_BYTES,
        (written() - written_before) / outcome.answered as f64,
    );

    server.process.stop()?;
    row(
        format!("disk, {before} calls, stopped"),
        "MB",
        (total * sizing::DISK_BYTES) / 1e6,
        stored_bytes(data)? as f64 / 1e6,
    );
    let begin = Instant::now();
    let server = Ringback::start(&program, data, None)?;
    while !server.is_index_whole() {
        if begin.elapsed() > Duration::from_secs(300) {
            return Err("the index does not become whole".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    row(
        "index whole after a start".to_owned(),
        "s",
        total * sizing::START_SECONDS,
        begin.elapsed().as_secs_f64(),
    );
    let resident = cpu::resident(server.process.id()).unwrap_or_default() as f64;
    row(
        format!("resident after a start, {before} contacts"),
        "MB",
        sizing::resident_bytes(total) / 1e6,
        resident / 1e6,
    );
    Ok(rows)
}

/// Records the calls of these contacts over four connections.
fn record(server: &Ringback, tenants: &Tenants, from: u64, to: u64) -> io::Result<()> {
    let share = to.saturating_sub(from).div_ceil(CONNECTIONS);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|worker| {
                let begin = (from + worker * share).min(to);
                scope.spawn(move || server.record(tenants, 0, begin..(begin + share).min(to)))
            })
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| io::Error::other("a connection's thread panicked"))??;
        }
        Ok(())
    })
}

/// Waits for two seconds without a write to disk, at most a minute.
fn settle(process: u32, data: &Path) -> io::Result<()> {
    let state = || Ok::<_, io::Error>((cpu::written(process), stored_bytes(data).ok()));
    let begin = Instant::now();
    let mut last = state()?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
        let now = state()?;
        if now != last {
            last = now;
            since = Instant::now();
        }
    }
    Ok(())
}

/// The table.
fn report(rows: &[Value]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let value = |name: &str| row[name].as_f64().unwrap_or_default();
            let (predicted, measured) = (value("predicted"), value("measured"));
            let decimals = if measured < 100.0 { 1 } else { 0 };
            let is_predicted = predicted > 0.0;
            let cell = |text: String| if is_predicted { text } else { String::new() };
            vec![
                row["what"].as_str().unwrap_or_default().to_owned(),
                row["unit"].as_str().unwrap_or_default().to_owned(),
                cell(format!("{predicted:.decimals$}")),
                format!("{measured:.decimals$}"),
                cell(format!("{:+.0} %", (measured / predicted - 1.0) * 100.0)),
            ]
        })
        .collect();
    table(
        &["what", "unit", "predicted", "measured", "deviation"],
        &rows,
    )
}

/// Connections that send batches.
const CONNECTIONS: u64 = 4;
