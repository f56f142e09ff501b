//! The contact index from ten thousand contacts up: memory, time and pauses, compared with a plain map and with
//! one random read of memory; on request with huge pages as well.
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
use ringback_benches::figures::Figure;
use ringback_benches::population::{Population, contact, mix, stranger};
use ringback_benches::svg::{Line, chart};
use ringback_benches::world::{ENVIRONMENT, NOW, call, directory, e164, sources};
use ringback_benches::{cpu, figures, runs};
use ringback_index::ContactIndex;
use ringback_routing::{
    Caller, Directory, Outcome, Question, RememberedCall, Timestamp, UserSet, decide,
};
use serde_json::{Value, json};

/// Measures the contact index
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of contacts; at most 100 million
    #[arg(value_delimiter = ',', default_value = "10000,100000,1000000,10000000")]
    contacts: Vec<u64>,
    /// New contacts per second while pauses are measured
    #[arg(long, default_value_t = 50_000)]
    upserts: u64,
    /// How long pauses are measured, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often everything is measured, in alternation; 0 writes the tables of recorded results again
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// What to measure; a run of one subject completes a recorded round that lacks it
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Subject::Index, Subject::Map, Subject::Memory])]
    subjects: Vec<Subject>,
    /// Measure everything with transparent huge pages too, in alternation
    #[arg(long)]
    huge_pages: bool,
    /// Write the chart to this file
    #[arg(long)]
    svg: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Keep the results in `benches/runs/<date>-<NAME>/`, with the rounds that are there already
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
    /// Measure only this, in this process, and print JSON
    #[arg(long, hide = true)]
    only: Option<Subject>,
}

/// The subject of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// The contact index
    Index,
    /// A DashMap from number to 64 bits
    Map,
    /// Reads from an array
    Memory,
}

impl Subject {
    /// Its name on the command line and in the results.
    const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Map => "map",
            Self::Memory => "memory",
        }
    }
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
    let mut raw = arguments
        .record
        .as_ref()
        .and_then(|machine| runs::recorded(machine, "index"))
        .unwrap_or_else(|| json!({"commands": [], "rows": []}));
    let command: Vec<String> = std::env::args().skip(1).collect();
    push(&mut raw["commands"], json!(command.join(" ")));
    for contacts in &arguments.contacts {
        for round in 1..=arguments.rounds {
            eprintln!("{contacts} contacts, round {round}");
            let measured = measure(*contacts, &arguments)?;
            enter(row_of(&mut raw["rows"], *contacts), measured);
        }
    }
    let rows = raw["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let report = report(rows);
    let picture = picture(rows);
    if arguments.json {
        println!("{raw:#}");
    } else {
        println!("{report}");
    }
    if let Some(machine) = &arguments.record {
        let folder = runs::record(machine, "index", "The contact index", &report, &raw)?;
        fs::write(folder.join("index.svg"), &picture)?;
    }
    if let Some(path) = &arguments.svg {
        fs::write(path, &picture)?;
    }
    Ok(())
}

/// The rounds measured with this many contacts, in a list with contacts ascending.
fn row_of(rows: &mut Value, contacts: u64) -> &mut Value {
    let all = rows.as_array().map_or(&[][..], Vec::as_slice);
    let position = all.partition_point(|row| row["contacts"].as_u64() < Some(contacts));
    let is_new = all.get(position).map(|row| &row["contacts"]) != Some(&json!(contacts));
    if let (true, Some(rows)) = (is_new, rows.as_array_mut()) {
        rows.insert(position, json!({"contacts": contacts, "rounds": []}));
    }
    &mut rows[position]["rounds"]
}

/// Adds a round; if an existing round lacks just this subject, completes that one.
fn enter(rounds: &mut Value, measured: Value) {
    let lacks = |round: &Value| {
        let mut subjects = measured.as_object().into_iter().flat_map(|all| all.keys());
        subjects.all(|subject| round.get(subject).is_none())
    };
    let found = rounds
        .as_array_mut()
        .and_then(|rounds| rounds.iter_mut().find(|round| lacks(round)));
    match (found.and_then(Value::as_object_mut), measured) {
        (Some(round), Value::Object(measured)) => round.extend(measured),
        (_, measured) => push(rounds, measured),
    }
}

/// Adds to a list.
fn push(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

/// One round: every subject once.
fn measure(contacts: u64, arguments: &Arguments) -> Result<Value, Box<dyn Error>> {
    let mut round = json!({});
    for subject in &arguments.subjects {
        let (name, subject) = (subject.name(), *subject);
        round[name] = measure_apart(contacts, subject, None, arguments)?;
        if arguments.huge_pages {
            let measured = measure_apart(contacts, subject, Some(HUGE_PAGES), arguments)?;
            round[format!("{name}_huge_pages")] = measured;
        }
    }
    Ok(round)
}

/// Measures in a process of its own, which inherits no memory; it may get a setting for its C library.
fn measure_apart(
    contacts: u64,
    subject: Subject,
    tunables: Option<&str>,
    arguments: &Arguments,
) -> Result<Value, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([&contacts.to_string(), "--only", subject.name()])
        .args(["--upserts", &arguments.upserts.to_string()])
        .args(["--seconds", &arguments.seconds.to_string()])
        .env_remove("GLIBC_TUNABLES");
    if let Some(tunables) = tunables {
        command.env("GLIBC_TUNABLES", tunables);
    }
    let output = command.output()?;
    Ok(serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?)
}

/// Makes the GNU C library ask for transparent huge pages.
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";

/// The index itself.
fn measure_index(contacts: u64, arguments: &Arguments) -> Result<Value, Box<dyn Error>> {
    let directory = directory(&Population::SMALL);
    let sources = sources(&directory);
    let before = resident();
    let index = ContactIndex::new(7);
    let (fill, fill_pause) = timed(contacts, |i| {
        index.observe(
            ENVIRONMENT,
            e164(contact(i)),
            &call(&Population::SMALL, &sources, i, 3_600),
        );
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
    let alone = batched(contacts, &index, false);
    let overlapped = batched(contacts, &index, true);

    let watched = watch(contacts, &index, &sources, arguments)?;
    let (kept, swept) = sweep(&index);
    let kept_bytes = resident().saturating_sub(before) as f64 / kept as f64;
    Ok(json!({
        "bytes_per_contact": bytes,
        "fill_ns": fill,
        "fill_longest_us": fill_pause,
        "hit_ns": hit,
        "miss_ns": miss,
        "decision_ns": decision,
        "batch_ns": alone,
        "overlapped_ns": overlapped,
        "under_upserts": watched,
        "sweep_ns": swept,
        "bytes_per_kept_contact": kept_bytes,
    }))
}

/// Lookups of random contacts in independent batches, warmed up before or not; nanoseconds per lookup, warming
/// included, the least of three passes.
fn batched(contacts: u64, index: &ContactIndex, warmed: bool) -> f64 {
    let pass = |seed: u64| {
        let mut number = seed;
        let begin = Instant::now();
        for _ in 0..LOOKUPS / BATCH as u64 {
            let batch: [_; BATCH] = std::array::from_fn(|_| {
                number = mix(number);
                (ENVIRONMENT, e164(contact(number % contacts)))
            });
            if warmed {
                index.prefetch(batch);
            }
            for (environment, contact) in batch {
                let calls = index.calls(environment, contact);
                number ^= calls
                    .iter()
                    .next()
                    .map_or(0, |call| u64::from(call.source.0));
            }
        }
        black_box(number);
        begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    (1..=3).map(pass).fold(f64::MAX, f64::min)
}

/// The number of lookups in a batch.
const BATCH: usize = 32;

/// Drops about half of the contacts; returns how many are left, and nanoseconds per contact checked.
fn sweep(index: &ContactIndex) -> (usize, f64) {
    let before = index.len();
    let mut seen = 0;
    let begin = Instant::now();
    index.retain(|_, _| {
        seen += 1;
        mix(seen).is_multiple_of(2)
    });
    let time = begin.elapsed().as_nanos() as f64 / before as f64;
    (index.len(), time)
}

/// A whole decision.
fn decided(directory: &Directory, index: &ContactIndex, i: u64) -> u64 {
    let question = Question {
        dialed: Some(e164(Population::SMALL.number(Population::SMALL.line(i)))),
        caller: Caller::Number(e164(contact(i))),
        is_verified: true,
        now: NOW,
        avoided: UserSet::NONE,
        usable: &|_, _| true,
    };
    let decision = decide(directory, index, &question).expect("the index is in memory");
    assert_eq!(
        decision.outcome,
        Outcome::Callback,
        "every contact was called"
    );
    decision
        .call
        .map_or(0, |call: RememberedCall| call.started_at.millis() as u64)
}

/// Lookups while new contacts arrive at a steady rate; for comparison, the pauses of an idle loop, which are the
/// machine's own.
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
                        ..call(&Population::SMALL, sources, sent, 60)
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
        let mut number = 1;
        let begin = Instant::now();
        let mut last = Duration::ZERO;
        while last < duration {
            number = mix(number) % contacts;
            black_box(index.calls(ENVIRONMENT, e164(contact(number))));
            let now = begin.elapsed();
            times.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        stop.store(true, Ordering::Relaxed);
        let upserts = writer.join().map_err(|_| "the writer panicked")??;
        Ok::<_, Box<dyn Error>>((times, upserts))
    })?;
    // Two threads here too, so that neither loop has the machine to itself.
    let idle = std::thread::scope(|scope| {
        let other = scope.spawn(|| pauses_of_nothing(duration));
        let mut idle = pauses_of_nothing(duration)?;
        idle.add(other.join().map_err(|_| "the other panicked")??)?;
        Ok::<_, Box<dyn Error>>(idle)
    })?;
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
        "upserts_per_second": arguments.upserts,
        "lookups": spread(&lookups),
        "upserts": spread(&upserts),
        "nothing": spread(&idle),
    }))
}

/// Times between two readings of the clock, with nothing in between.
fn pauses_of_nothing(duration: Duration) -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    let mut idle = figures::times()?;
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    while last < duration {
        let now = begin.elapsed();
        idle.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    Ok(idle)
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

/// One random read from as much memory as a packed table of the contacts would take.
fn measure_memory(contacts: u64) -> Value {
    let cells: Vec<u64> = (0..contacts * 2).map(mix).collect();
    let read = chained(contacts * 2, |i| cells[i as usize]);
    json!({"hit_ns": read})
}

/// Calls a function for each number below `count`; returns nanoseconds per call, and the longest call in
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

/// Calls a function with random numbers below `count`, each derived from the result before; nanoseconds per call,
/// the least of three passes.
fn chained(count: u64, read: impl Fn(u64) -> u64) -> f64 {
    let pass = |seed: u64| {
        let mut number = seed;
        let begin = Instant::now();
        for _ in 0..LOOKUPS {
            number = mix(number ^ black_box(read(number % count)));
        }
        black_box(number);
        begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    (1..=3).map(pass).fold(f64::MAX, f64::min)
}

/// The number of lookups in a pass.
const LOOKUPS: u64 = 2_000_000;

/// Resident memory of this process.
fn resident() -> u64 {
    cpu::resident(std::process::id()).unwrap_or_default()
}

/// A figure of all rounds that have it.
fn figure(row: &Value, path: &str) -> Figure {
    let mut figure = Figure::default();
    for round in row["rounds"].as_array().into_iter().flatten() {
        if let Some(value) = round.pointer(path).and_then(Value::as_f64) {
            figure.add(value);
        }
    }
    figure
}

/// The tables.
fn report(rows: &[Value]) -> String {
    let text = |row: &Value, path: &str, decimals| figure(row, path).text(decimals);
    // Round by round; a round may lack either.
    let ratio = |row: &Value, path: &str, other: &str| {
        let mut ratios = Figure::default();
        for round in row["rounds"].as_array().into_iter().flatten() {
            let value = |path| round.pointer(path).and_then(Value::as_f64);
            if let Some((value, other)) = value(path).zip(value(other)) {
                ratios.add(value / other);
            }
        }
        ratios.text(2)
    };
    let lookups = rows.iter().map(|row| {
        vec![
            row["contacts"].to_string(),
            text(row, "/index/bytes_per_contact", 1),
            text(row, "/map/bytes_per_contact", 1),
            text(row, "/memory/hit_ns", 0),
            text(row, "/map/hit_ns", 0),
            text(row, "/index/hit_ns", 0),
            ratio(row, "/index/hit_ns", "/map/hit_ns"),
            text(row, "/index/miss_ns", 0),
            text(row, "/index/decision_ns", 0),
            ratio(row, "/index/decision_ns", "/map/hit_ns"),
            text(row, "/index/batch_ns", 0),
            text(row, "/index/overlapped_ns", 0),
            text(row, "/index/fill_ns", 0),
            text(row, "/index/bytes_per_kept_contact", 1),
        ]
    });
    let pauses = rows.iter().map(|row| {
        let under = |path: &str| {
            let under = format!("/index/under_upserts/{path}");
            [
                text(row, &format!("{under}/p99_99_us"), 0),
                text(row, &format!("{under}/max_us"), 0),
                text(row, &format!("{under}/over_1_ms"), 0),
            ]
        };
        let contacts = [row["contacts"].to_string()];
        let fill = [text(row, "/index/fill_longest_us", 0)];
        let [lookups, upserts, nothing] = ["lookups", "upserts", "nothing"].map(under);
        [&contacts[..], &lookups, &upserts, &nothing, &fill].concat()
    });
    let huge: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| figure(row, "/index_huge_pages/hit_ns").rounds() > 0)
        .map(|row| {
            let against = |subject: &str, name: &str| {
                let without = format!("/{subject}/{name}");
                ratio(row, &format!("/{subject}_huge_pages/{name}"), &without)
            };
            vec![
                row["contacts"].to_string(),
                text(row, "/index_huge_pages/bytes_per_contact", 1),
                text(row, "/index_huge_pages/hit_ns", 0),
                against("index", "hit_ns"),
                text(row, "/index_huge_pages/decision_ns", 0),
                against("index", "decision_ns"),
                against("index", "fill_ns"),
                against("map", "hit_ns"),
                against("memory", "hit_ns"),
                text(row, "/index_huge_pages/under_upserts/upserts/max_us", 0),
            ]
        })
        .collect();
    let lookups = figures::table(
        &[
            "contacts",
            "bytes",
            "map bytes",
            "memory read ns",
            "map hit ns",
            "hit ns",
            "hit × map",
            "miss ns",
            "decision ns",
            "decision × map hit",
            "batch hit ns",
            "overlapped",
            "fill ns",
            "bytes after sweep",
        ],
        &lookups.collect::<Vec<_>>(),
    );
    let pauses = figures::table(
        &[
            "contacts",
            "lookup p99.99",
            "longest",
            "over 1 ms",
            "upsert p99.99",
            "longest",
            "over 1 ms",
            "nothing p99.99",
            "longest",
            "over 1 ms",
            "longest upsert while filling",
        ],
        &pauses.collect::<Vec<_>>(),
    );
    let huge = if huge.is_empty() {
        String::new()
    } else {
        let table = figures::table(
            &[
                "contacts",
                "bytes",
                "hit ns",
                "× without",
                "decision ns",
                "× without",
                "fill × without",
                "map hit × without",
                "memory read × without",
                "longest upsert µs",
            ],
            &huge,
        );
        format!("\nWith transparent huge pages (`GLIBC_TUNABLES={HUGE_PAGES}`):\n\n{table}")
    };
    format!(
        "Median and spread of the rounds. Bytes are resident memory per contact with one call. Hits, misses \
         and decisions are random, and each needs the result of the one before; those of a batch of 32 are \
         independent, and overlap if the batch is warmed up first. A sweep drops half of the contacts.\n\n{lookups}\n\
         Pauses in microseconds, and how many were over a millisecond, while new contacts arrive at a \
         steady rate; nothing is two threads that only read the clock, so its pauses are the machine's own.\n\n\
         {pauses}{huge}"
    )
}

/// The chart.
fn picture(rows: &[Value]) -> String {
    let line = |name: &str, path: &str| Line {
        name: name.to_owned(),
        points: rows
            .iter()
            .filter_map(|row| Some((row["contacts"].as_f64()?, figure(row, path).median())))
            .filter(|(_, time)| time.is_finite())
            .collect(),
    };
    chart(
        "Time of a lookup",
        "contacts",
        "nanoseconds, random and dependent",
        &[
            line("whole decision", "/index/decision_ns"),
            line("contact index, hit", "/index/hit_ns"),
            line("plain DashMap, hit", "/map/hit_ns"),
            line("one memory read", "/memory/hit_ns"),
        ],
    )
}
