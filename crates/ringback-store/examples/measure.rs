//! Measures a store: `measure DIRECTORY fill CONTACTS [BATCH]`, `measure DIRECTORY single COMMITS`, `measure
//! DIRECTORY load [THREADS]`, `measure DIRECTORY lookup LOOKUPS`. With `crash` as the last word the process ends
//! without closing the store.
//!
//! `fill` looks every call id up before it commits the call, as the engine does.

use std::env;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ringback_engine::{Call, Change, Journal};
use ringback_routing::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};
use ringback_store::{Store, StoreSettings};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let crash = arguments.pop_if(|last| last == "crash").is_some();
    let number = |index: usize, default: u64| -> Result<u64, Error> {
        Ok(arguments
            .get(index)
            .map_or(Ok(default), |text| text.parse())?)
    };
    let (Some(directory), Some(what)) = (arguments.first(), arguments.get(1)) else {
        return Err("what is to be measured?".into());
    };
    let clock = Clock::start();
    let mut settings = StoreSettings::default();
    if let Ok(mebibytes) = env::var("GENERATION") {
        settings.generation_bytes = mebibytes.parse::<u64>()? << 20;
    }
    let mut store = Store::open(directory, settings)?;
    clock.report("open", 1);
    match what.as_str() {
        "fill" => fill(&mut store, number(2, 1_000_000)?, number(3, 1_000)?)?,
        "single" => single(&mut store, number(2, 10_000)?)?,
        "lookup" => lookup(&store, number(2, 1_000_000)?)?,
        "load" => load(&store, usize::try_from(number(2, 2)?)?)?,
        other => return Err(format!("`{other}` cannot be measured").into()),
    }
    if crash {
        std::process::exit(0);
    }
    let clock = Clock::start();
    store.close()?;
    clock.report("close", 1);
    Ok(())
}

/// Commits this many calls in batches.
fn fill(store: &mut Store, calls: u64, batch: u64) -> Result<(), Error> {
    let archive = store.archive();
    let clock = Clock::start();
    let mut lookups = Duration::ZERO;
    let mut latencies = Vec::new();
    let mut changes = Vec::new();
    for start in (0..calls).step_by(usize::try_from(batch)?) {
        changes.clear();
        for index in start..calls.min(start + batch) {
            changes.push(Change::CallPut(call(index)));
        }
        let before = Instant::now();
        for change in &changes {
            if let Change::CallPut(call) = change
                && archive.call(call.environment, &call.sid)?.is_some()
            {
                return Err("the directory was filled before".into());
            }
        }
        lookups += before.elapsed();
        let before = Instant::now();
        append(store, &mut changes)?;
        latencies.push(before.elapsed());
    }
    clock.report("fill", calls);
    eprintln!(
        "  of which lookups: {:.2} us each",
        lookups.as_secs_f64() * 1e6 / calls as f64
    );
    report_latencies(latencies);
    Ok(())
}

/// Commits changes as one entry of the log, and takes the entry from the queue.
fn append(store: &mut Store, changes: &mut Vec<Change>) -> Result<(), Error> {
    store.append(store.position(), changes)?;
    while let Some(entry) = store.committed()? {
        *changes = entry.facts;
    }
    Ok(())
}

/// Commits calls one by one.
fn single(store: &mut Store, commits: u64) -> Result<(), Error> {
    let clock = Clock::start();
    let mut latencies = Vec::new();
    for index in 0..commits {
        let mut call = call(index);
        call.sid = Uuid::now_v7().to_string().into();
        let before = Instant::now();
        append(store, &mut vec![Change::CallPut(call)])?;
        latencies.push(before.elapsed());
    }
    clock.report("single", commits);
    report_latencies(latencies);
    Ok(())
}

/// Looks up call ids that are not stored, and as many that may be stored.
fn lookup(store: &Store, lookups: u64) -> Result<(), Error> {
    let archive = store.archive();
    for (what, first) in [("unknown ids", u64::MAX / 2), ("known ids", 0)] {
        let clock = Clock::start();
        let mut found = 0;
        for index in first..first + lookups {
            let call = call(index);
            found += u64::from(archive.call(call.environment, &call.sid)?.is_some());
        }
        clock.report(what, lookups);
        eprintln!("  found {found}");
    }
    Ok(())
}

/// Reads every contact.
fn load(store: &Store, threads: usize) -> Result<(), Error> {
    let clock = Clock::start();
    let archive = store.archive();
    let before = Instant::now();
    let found = archive.calls_to(call(0).environment, call(0).contact)?;
    eprintln!(
        "  first contact: {} calls after {:?}",
        found.len(),
        before.elapsed()
    );
    let contacts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|part| {
                let archive = &archive;
                scope.spawn(move || {
                    let mut contacts = 0;
                    archive
                        .visit_contacts(part, threads, &mut |_, _, _| {
                            contacts += 1;
                            ControlFlow::Continue(())
                        })
                        .map(|()| contacts)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(contacts) => contacts.map_err(Error::from),
                Err(_) => Err("a thread panicked".into()),
            })
            .sum::<Result<u64, Error>>()
    })?;
    clock.report("load", contacts);
    Ok(())
}

/// A call to a contact of its own, whose number and id look random.
fn call(index: u64) -> Call {
    let mixed = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Call {
        environment: EnvironmentId(Uuid::from_u128(1)),
        sid: Uuid::from_u64_pair(mixed, mixed.rotate_left(31) ^ index)
            .to_string()
            .into(),
        agent: AgentId(Uuid::from_u128(u128::from(1 + index % 500))),
        contact: E164::from_digits(550_000_000_000_000 + mixed % 99_999_999_999_977)
            .unwrap_or_else(|| unreachable!("fifteen digits")),
        from: E164::from_digits(5_511_900_000_000 + index % 500),
        status: CallStatus::Answered,
        started_at: Timestamp::from_millis(1_760_000_000_000 + i64::from(index as u32)),
    }
}

/// Prints percentiles of the time that commits took.
fn report_latencies(mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    eprintln!(
        "  commit p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Wall clock and processor time since a start.
struct Clock(Instant, f64);

impl Clock {
    /// Starts both clocks.
    fn start() -> Self {
        Self(Instant::now(), processor_seconds())
    }

    /// Prints the time since the start, in total and per item.
    fn report(&self, what: &str, items: u64) {
        let wall = self.0.elapsed().as_secs_f64();
        let processor = processor_seconds() - self.1;
        let items = items as f64;
        eprintln!(
            "{what}: {wall:.3} s, {processor:.3} s CPU; {:.0}/s, {:.2} us CPU each; {} MiB resident",
            items / wall,
            processor * 1e6 / items,
            resident_mebibytes()
        );
    }
}

/// Processor time of this process.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory of this process, if the system reports it.
fn resident_mebibytes() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or_default()
        / 256
}
