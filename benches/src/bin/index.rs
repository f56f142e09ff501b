//! The contact index from ten thousand contacts up: memory, time, pauses, beside a plain map and beside
//! one random read of memory.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
#![expect(clippy::print_stderr, reason = "progress goes there")]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use hdrhistogram::Histogram;
use ringback_benches::population::{contact, line, mix, number, stranger};
use ringback_benches::svg::{Line, chart};
use ringback_benches::world::{ENVIRONMENT, NOW, call, directory, e164, sources};
use ringback_benches::{cpu, figures, runs};
use ringback_routing::{
    Caller, ContactIndex, Contacts, Directory, Outcome, Question, RememberedCall, Timestamp, decide,
};
use serde_json::{Value, json};

/// Measures the contact index
#[derive(Debug, Parser)]
struct Arguments {
    /// How many contacts; at most 100 million
    #[arg(value_delimiter = ',', default_value = "10000,100000,1000000,10000000")]
    contacts: Vec<u64>,
    /// New contacts a second while pauses are watched
    #[arg(long, default_value_t = 50_000)]
    upserts: u64,
    /// How long pauses are watched, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Write the chart to this file
    #[arg(long)]
    svg: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Keep the results in `benches/runs/<date>-<NAME>/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
    /// Measure this alone, in this process, and print JSON
    #[arg(long, hide = true)]
    only: Option<Subject>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// The contact index
    Index,
    /// A DashMap from number to 64 bits
    Map,
    /// Reads from an array
    Memory,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let (Some(subject), [contacts]) = (arguments.only, arguments.contacts.as_slice()) {
        let measured = match subject {
            Subject::Index => measure_index(*contacts, &arguments)?,
            Subject::Map => measure_map(*contacts)?,
            Subject::Memory => measure_memory(*contacts),
        };
        println!("{measured}");
        return Ok(());
    }
    let mut rows = Vec::new();
    for contacts in &arguments.contacts {
        eprintln!("{contacts} contacts");
        let mut row = json!({"contacts": contacts});
        for (name, subject) in [("index", "index"), ("map", "map"), ("memory", "memory")] {
            // A process for each, so that none inherits the memory of another.
            let output = Command::new(std::env::current_exe()?)
                .args([&contacts.to_string(), "--only", subject])
                .args(["--upserts", &arguments.upserts.to_string()])
                .args(["--seconds", &arguments.seconds.to_string()])
                .output()?;
            row[name] = serde_json::from_slice(&output.stdout)
                .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        }
        rows.push(row);
    }
    let raw = json!({"upserts_per_second": arguments.upserts, "rows": rows});
    let report = report(&rows);
    let picture = picture(&rows);
    if arguments.json {
        println!("{raw:#}");
    } else {
        println!("{report}");
    }
    if let Some(path) = &arguments.svg {
        fs::write(path, &picture)?;
    }
    if let Some(machine) = &arguments.record {
        let folder = runs::record(machine, "index", "The contact index", &report, &raw)?;
        fs::write(folder.join("index.svg"), &picture)?;
    }
    Ok(())
}

/// The index itself.
fn measure_index(contacts: u64, arguments: &Arguments) -> Result<Value, Box<dyn Error>> {
    let directory = directory();
    let sources = sources(&directory);
    let before = resident();
    let index = ContactIndex::new();
    let (fill, fill_pause) = timed(contacts, |i| {
        index.observe(ENVIRONMENT, e164(contact(i)), &call(&sources, i, 3_600));
    });
    let bytes = resident().saturating_sub(before) as f64 / contacts as f64;

    let hit = chained(contacts, |i| {
        let calls = index.calls(ENVIRONMENT, e164(contact(i)));
        calls
            .iter()
            .next()
            .map_or(0, |call| call.started_at.millis() as u64)
    });
    let miss = chained(contacts, |i| {
        u64::from(index.calls(ENVIRONMENT, e164(stranger(i))).is_empty())
    });
    let decision = chained(contacts, |i| decided(&directory, &index, i));

    let watched = watch(contacts, &index, &sources, arguments)?;
    Ok(json!({
        "bytes_per_contact": bytes,
        "fill_ns": fill,
        "fill_longest_us": fill_pause,
        "hit_ns": hit,
        "miss_ns": miss,
        "decision_ns": decision,
        "under_upserts": watched,
    }))
}

/// A whole decision.
fn decided(directory: &Directory, index: &ContactIndex, i: u64) -> u64 {
    let question = Question {
        dialed: Some(e164(number(line(i)))),
        caller: Caller::Number(e164(contact(i))),
        now: NOW,
        usable: &|_| true,
    };
    let decision = decide(directory, index, &question);
    assert_eq!(
        decision.outcome,
        Outcome::Callback,
        "every contact was called"
    );
    decision
        .call
        .map_or(0, |call: RememberedCall| call.started_at.millis() as u64)
}

/// Lookups while new contacts arrive at a steady rate; beside them, the pauses of a loop that touches
/// nothing, which are the machine's own.
fn watch(
    contacts: u64,
    index: &ContactIndex,
    sources: &[ringback_routing::AgentSlot],
    arguments: &Arguments,
) -> Result<Value, Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let duration = Duration::from_secs(arguments.seconds);
    let (lookups, upserts) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut times = figures::times()?;
            let begin = Instant::now();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = begin.elapsed().as_nanos() as u64 * arguments.upserts / 1_000_000_000;
                while sent < due {
                    let begin = Instant::now();
                    let call = RememberedCall {
                        started_at: Timestamp::from_seconds(NOW.seconds() - 60),
                        ..call(sources, sent, 60)
                    };
                    index.observe(ENVIRONMENT, e164(stranger(sent)), &call);
                    times.saturating_record(begin.elapsed().as_nanos() as u64);
                    sent += 1;
                }
                std::hint::spin_loop();
            }
            Ok::<_, hdrhistogram::CreationError>(times)
        });
        let mut times = figures::times()?;
        let mut place = 1;
        let begin = Instant::now();
        let mut last = Duration::ZERO;
        while last < duration {
            place = mix(place) % contacts;
            black_box(index.calls(ENVIRONMENT, e164(contact(place))));
            let now = begin.elapsed();
            times.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        stop.store(true, Ordering::Relaxed);
        let upserts = writer.join().map_err(|_| "the writer panicked")??;
        Ok::<_, Box<dyn Error>>((times, upserts))
    })?;
    let mut idle = figures::times()?;
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    while last < duration {
        let now = begin.elapsed();
        idle.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    let spread = |times: &Histogram<u64>| {
        json!({
            "p50_us": times.value_at_quantile(0.5) as f64 / 1e3,
            "p99_us": times.value_at_quantile(0.99) as f64 / 1e3,
            "p99_99_us": times.value_at_quantile(0.9999) as f64 / 1e3,
            "max_us": times.max() as f64 / 1e3,
            "over_1_ms": times.count_between(1_000_000, u64::MAX),
            "count": times.len(),
        })
    };
    Ok(json!({
        "lookups": spread(&lookups),
        "upserts": spread(&upserts),
        "nothing": spread(&idle),
    }))
}

/// A plain map with the same keys.
fn measure_map(contacts: u64) -> Result<Value, Box<dyn Error>> {
    let before = resident();
    let map = DashMap::with_hasher_and_shard_amount(RandomState::default(), 4_096);
    let (fill, fill_pause) = timed(contacts, |i| {
        map.insert(contact(i), i);
    });
    let bytes = resident().saturating_sub(before) as f64 / contacts as f64;
    let hit = chained(contacts, |i| map.get(&contact(i)).map_or(0, |found| *found));
    let miss = chained(contacts, |i| u64::from(map.get(&stranger(i)).is_none()));
    Ok(json!({
        "bytes_per_contact": bytes,
        "fill_ns": fill,
        "fill_longest_us": fill_pause,
        "hit_ns": hit,
        "miss_ns": miss,
    }))
}

/// One random read of as much memory as a packed table of the contacts would take.
fn measure_memory(contacts: u64) -> Value {
    let cells: Vec<u64> = (0..contacts * 2).map(mix).collect();
    let read = chained(contacts * 2, |i| cells[i as usize]);
    json!({"hit_ns": read})
}

/// Calls a function for each number below `count`; gives nanoseconds to a call, and the longest call in
/// microseconds.
fn timed(count: u64, mut each: impl FnMut(u64)) -> (f64, f64) {
    let begin = Instant::now();
    let (mut last, mut longest) = (Duration::ZERO, Duration::ZERO);
    for i in 0..count {
        each(i);
        let now = begin.elapsed();
        longest = longest.max(now - last);
        last = now;
    }
    (
        last.as_nanos() as f64 / count as f64,
        longest.as_nanos() as f64 / 1e3,
    )
}

/// Calls a function with random numbers below `count`, each known only after the call before;
/// nanoseconds to a call, the least of three passes.
fn chained(count: u64, read: impl Fn(u64) -> u64) -> f64 {
    let pass = |seed: u64| {
        let mut place = seed;
        let begin = Instant::now();
        for _ in 0..LOOKUPS {
            place = mix(place ^ black_box(read(place % count)));
        }
        black_box(place);
        begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    (1..=3).map(pass).fold(f64::MAX, f64::min)
}

/// How many lookups a pass makes.
const LOOKUPS: u64 = 2_000_000;

/// Resident memory of this process.
fn resident() -> u64 {
    cpu::resident(std::process::id()).unwrap_or_default()
}

/// The table.
fn report(rows: &[Value]) -> String {
    let figure = |value: &Value, decimals: usize| {
        value
            .as_f64()
            .map_or(String::new(), |value| format!("{value:.decimals$}"))
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let (index, map) = (&row["index"], &row["map"]);
            let under = &index["under_upserts"];
            let ratio = index["hit_ns"].as_f64().zip(map["hit_ns"].as_f64());
            vec![
                row["contacts"].to_string(),
                figure(&index["bytes_per_contact"], 1),
                figure(&map["bytes_per_contact"], 1),
                figure(&index["fill_ns"], 0),
                figure(&index["fill_longest_us"], 0),
                figure(&row["memory"]["hit_ns"], 0),
                figure(&map["hit_ns"], 0),
                figure(&index["hit_ns"], 0),
                ratio.map_or(String::new(), |(index, map)| format!("{:.2}", index / map)),
                figure(&index["decision_ns"], 0),
                figure(&under["lookups"]["max_us"], 0),
                figure(&under["upserts"]["max_us"], 0),
                figure(&under["nothing"]["max_us"], 0),
            ]
        })
        .collect();
    figures::table(
        &[
            "contacts",
            "bytes",
            "map bytes",
            "fill ns",
            "longest fill µs",
            "memory read ns",
            "map hit ns",
            "hit ns",
            "× map",
            "decision ns",
            "longest lookup µs",
            "longest upsert µs",
            "longest of nothing µs",
        ],
        &cells,
    ) + "\nBytes are resident memory to a contact with one call. Hits are random and dependent. The last \
       three columns: while new contacts arrive at a steady rate; nothing is a loop that only reads the \
       clock, so its pauses are the machine's own.\n"
}

/// The chart.
fn picture(rows: &[Value]) -> String {
    let line = |name: &str, pick: fn(&Value) -> &Value| Line {
        name: name.to_owned(),
        points: rows
            .iter()
            .filter_map(|row| Some((row["contacts"].as_f64()?, pick(row).as_f64()?)))
            .collect(),
    };
    chart(
        "Time of a lookup",
        "contacts",
        "nanoseconds, random and dependent",
        &[
            line("whole decision", |row| &row["index"]["decision_ns"]),
            line("contact index, hit", |row| &row["index"]["hit_ns"]),
            line("plain DashMap, hit", |row| &row["map"]["hit_ns"]),
            line("one memory read", |row| &row["memory"]["hit_ns"]),
        ],
    )
}
