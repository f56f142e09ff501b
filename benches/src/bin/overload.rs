//! Offers Ringback more calls than it can answer, from one peer or several, and reports what happens to them, and
//! to the calls and OPTIONS of well-behaved peers.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
#![expect(clippy::print_stderr, reason = "progress goes there")]

use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use ringback_benches::cpu;
use ringback_benches::figures::table;
use ringback_benches::load::Arrivals;
use ringback_benches::overload::{self, Mix, Outcome, Request, Stream, WORLD};
use ringback_benches::runs;
use ringback_benches::server::{Ringback, beside};
use serde_json::{Value, json};

/// Offers a Ringback server more calls than it can answer
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that each load lasts
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Number of contacts
    #[arg(long, default_value_t = 1_000_000)]
    contacts: u64,
    /// Only the loads whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// The capacity to assume, in calls per second; measured by default
    #[arg(long)]
    capacity: Option<f64>,
    /// The configured rate of the peers that have one
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Core of the server
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Core of the load generator
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// The program `ringback`; default: beside this one
    #[arg(long)]
    ringback: Option<PathBuf>,
    /// Keep the results in `benches/runs/<date>-<NAME>/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

/// A peer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    /// Its name in the configuration and the report.
    name: &'static str,
    /// Its address.
    address: Ipv4Addr,
    /// Whether its rate is limited.
    limited: bool,
    /// The reply to its refused INVITEs.
    refuse: &'static str,
}

/// Floods; its refusals are answered.
const FLOOD: Peer = peer("flood", 2, false, "answer");

/// Floods; its refusals are silent.
const SILENT: Peer = peer("silent", 3, false, "silence");

/// Floods, but has a rate; its refusals are answered.
const LIMITED: Peer = peer("limited", 4, true, "answer");

/// Floods, but has a rate; its refusals are silent.
const LIMITED_SILENT: Peer = peer("limited-silent", 5, true, "silence");

/// Well-behaved: calls, and OPTIONS.
const GOOD: Peer = peer("good-a", 6, false, "answer");

/// Well-behaved: calls.
const OTHER: Peer = peer("good-b", 7, false, "answer");

/// Every peer.
const PEERS: [Peer; 6] = [FLOOD, SILENT, LIMITED, LIMITED_SILENT, GOOD, OTHER];

/// Calls per second of each well-behaved peer.
const GOOD_CALLS: f64 = 200.0;

/// OPTIONS per second.
const OPTIONS: f64 = 100.0;

/// Seconds for which the capacity is measured before and after each load.
const BESIDE: f64 = 0.6;

/// A peer at 127.0.0.`host`.
const fn peer(name: &'static str, host: u8, limited: bool, refuse: &'static str) -> Peer {
    Peer {
        name,
        address: Ipv4Addr::new(127, 0, 0, host),
        limited,
        refuse,
    }
}

/// A load: which peers flood, with how many calls per second; and what each well-behaved peer sends.
struct Load {
    /// Its name in the report.
    name: String,
    /// The peers that flood, with their calls per second.
    floods: Vec<(Peer, f64)>,
    /// Calls per second of each well-behaved peer.
    good_calls: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    cpu::pin(arguments.load_core)?;
    let folder = std::env::temp_dir().join(format!("ringback-overload-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&arguments, &folder);
    fs::remove_dir_all(&folder)?;
    let raw = measured?;
    let report = report(&raw);
    println!("{report}");
    if let Some(machine) = &arguments.record {
        let kept = runs::record(machine, "overload", "More than it can do", &report, &raw)?;
        println!("kept in {}", kept.display());
    }
    Ok(())
}

/// Starts the server, finds its capacity, and runs all loads.
fn measure(arguments: &Arguments, folder: &Path) -> Result<Value, Box<dyn Error>> {
    let program = match &arguments.ringback {
        Some(program) => program.clone(),
        None => beside("ringback")?,
    };
    let configuration = folder.join("ringback.toml");
    fs::write(&configuration, configured(arguments.rate))?;
    let server = Ringback::start_configured(
        &program,
        &folder.join("data"),
        Some(arguments.server_core),
        Some(&configuration),
    )?;
    let tenants = server.populate(WORLD)?;
    server.record_all(&tenants, arguments.contacts, 4)?;
    let processes = [server.process.id()];
    let epoch = Instant::now();
    let run = |streams: &[Stream], warm_up: f64, seconds: f64| {
        let mix = Mix {
            server: server.sip,
            processes: &processes,
            contacts: arguments.contacts,
            warm_up: Duration::from_secs_f64(warm_up),
            duration: Duration::from_secs_f64(seconds),
            streams,
        };
        overload::run(&mix, epoch)
    };
    let closed_loop = |in_flight: usize, seconds: f64| {
        let mut streams = good(GOOD_CALLS);
        streams.push(calls(FLOOD, Arrivals::InFlight(in_flight), false));
        run(&streams, seconds / 2.0, seconds)
    };
    let mut closed = Vec::new();
    let mut best = 64;
    let mut capacity = arguments.capacity.unwrap_or_default();
    for in_flight in [64, 256, 1_024] {
        if arguments.capacity.is_some() {
            break;
        }
        let outcome = closed_loop(in_flight, arguments.seconds)?;
        eprintln!(
            "{in_flight} in flight: {:.0}/s",
            outcome.served_per_second()
        );
        if outcome.served_per_second() > capacity {
            (capacity, best) = (outcome.served_per_second(), in_flight);
        }
        let mut outcome = outcome.to_json();
        outcome["in_flight"] = in_flight.into();
        closed.push(outcome);
    }
    let mut measured = Vec::new();
    for load in loads(capacity, f64::from(arguments.rate)) {
        if !load.name.contains(&arguments.only) {
            continue;
        }
        let mut streams = good(load.good_calls);
        streams.extend(
            load.floods
                .iter()
                .map(|(peer, rate)| calls(*peer, Arrivals::Even(*rate), true)),
        );
        eprintln!("{}", load.name);
        // A shared machine changes from one second to the next: measure its capacity right before and right after
        // each load.
        let before = closed_loop(best, BESIDE)?.served_per_second();
        let outcome = run(&streams, 0.5, arguments.seconds)?;
        // Wait until the effects of the last load are over.
        std::thread::sleep(Duration::from_millis(300));
        let after = closed_loop(best, BESIDE)?.served_per_second();
        measured.push(described(&load.name, &outcome, [before, after]));
    }
    Ok(json!({
        "contacts": arguments.contacts,
        "capacity": capacity,
        "rate": arguments.rate,
        "closed": closed,
        "loads": measured,
    }))
}

/// The loads that are tried.
fn loads(capacity: f64, rate: f64) -> Vec<Load> {
    let load = |name: &str, floods: &[(Peer, f64)], good_calls: f64| Load {
        name: name.to_owned(),
        floods: floods.to_vec(),
        good_calls,
    };
    let share = 0.1 * capacity;
    vec![
        load("none", &[], GOOD_CALLS),
        load("1 ×, 503", &[(FLOOD, capacity)], GOOD_CALLS),
        load("1.5 ×, 503", &[(FLOOD, 1.5 * capacity)], GOOD_CALLS),
        load("2 ×, 503", &[(FLOOD, 2.0 * capacity)], GOOD_CALLS),
        load("3 ×, 503", &[(FLOOD, 3.0 * capacity)], GOOD_CALLS),
        load("2 ×, silence", &[(SILENT, 2.0 * capacity)], GOOD_CALLS),
        load("3 ×, silence", &[(SILENT, 3.0 * capacity)], GOOD_CALLS),
        load(
            "two floods of 1 ×",
            &[(FLOOD, capacity), (SILENT, capacity)],
            GOOD_CALLS,
        ),
        load(
            "2 ×, others at 10 % each",
            &[(FLOOD, 2.0 * capacity)],
            share,
        ),
        load("10 × a rate, 503", &[(LIMITED, 10.0 * rate)], GOOD_CALLS),
        load(
            "10 × a rate, silence",
            &[(LIMITED_SILENT, 10.0 * rate)],
            GOOD_CALLS,
        ),
        load(
            "10 × a rate, others at 20 % each",
            &[(LIMITED, 10.0 * rate)],
            2.0 * share,
        ),
        load(
            "2 × by a limited peer",
            &[(LIMITED, 2.0 * capacity)],
            GOOD_CALLS,
        ),
    ]
}

/// Calls of a peer.
fn calls(peer: Peer, arrivals: Arrivals, sudden: bool) -> Stream {
    Stream {
        name: peer.name,
        address: peer.address,
        request: Request::Invite,
        arrivals,
        sudden,
    }
}

/// The streams of the well-behaved peers.
fn good(rate: f64) -> Vec<Stream> {
    vec![
        calls(GOOD, Arrivals::Even(rate), false),
        calls(OTHER, Arrivals::Even(rate), false),
        Stream {
            name: "options",
            address: GOOD.address,
            request: Request::Options,
            arrivals: Arrivals::Even(OPTIONS),
            sudden: false,
        },
    ]
}

/// The configuration of the server.
fn configured(rate: u32) -> String {
    PEERS
        .iter()
        .map(|peer| {
            let rate = if peer.limited {
                format!("rate = {rate}\n")
            } else {
                String::new()
            };
            format!(
                "[[sip.peers]]\nname = \"{}\"\naddress = [\"{}\"]\nrefuse = \"{}\"\n{rate}\n",
                peer.name, peer.address, peer.refuse
            )
        })
        .collect()
}

/// An outcome with its name, and the capacity measured before and after it.
fn described(name: &str, outcome: &Outcome, beside: [f64; 2]) -> Value {
    let capacity = f64::midpoint(beside[0], beside[1]);
    let mut value = outcome.to_json();
    value["name"] = name.into();
    value["capacity_beside"] = json!(beside);
    value["offered_by_capacity"] = (outcome.offered_per_second() / capacity).into();
    value["served_by_capacity"] = (outcome.served_per_second() / capacity).into();
    value
}

/// The tables.
fn report(raw: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let closed: Vec<Vec<String>> = list(&raw["closed"])
        .map(|outcome| {
            vec![
                outcome["in_flight"].to_string(),
                format!("{:.0}", number(&outcome["served_per_second"])),
                format!("{:.1} %", number(&outcome["server_busy"]) * 100.0),
            ]
        })
        .collect();
    let mut rows = Vec::new();
    for load in list(&raw["loads"]) {
        let (mut flood, mut others) = ([0_u64; 4], [0_u64; 2]);
        let mut worst = [0.0_f64; 2];
        let mut wrong = 0;
        for stream in list(&load["streams"]) {
            let count = |key: &str| stream[key].as_u64().unwrap_or_default();
            let name = stream["name"].as_str().unwrap_or_default();
            wrong += count("wrong");
            if name == "options" {
                continue;
            }
            if name == GOOD.name || name == OTHER.name {
                others[0] += count("sent") - count("served");
                others[1] += count("sent");
                worst[0] = worst[0].max(number(&stream["latency_ms"]["p50"]));
                worst[1] = worst[1].max(number(&stream["latency_ms"]["p99"]));
            } else {
                for (sum, key) in flood
                    .iter_mut()
                    .zip(["sent", "served", "refused", "silent"])
                {
                    *sum += count(key);
                }
            }
        }
        let options = list(&load["streams"])
            .find(|stream| stream["name"] == "options")
            .cloned()
            .unwrap_or_default();
        let sent = options["sent"].as_u64().unwrap_or_default();
        let lost = sent - options["served"].as_u64().unwrap_or_default();
        let part = |count: u64| {
            if flood[0] == 0 {
                String::new()
            } else {
                format!("{:.1} %", count as f64 / flood[0] as f64 * 100.0)
            }
        };
        rows.push(vec![
            load["name"].as_str().unwrap_or_default().to_owned(),
            format!("{:.2}", number(&load["offered_by_capacity"])),
            format!("{:.2}", number(&load["served_by_capacity"])),
            format!("{:.0}", number(&load["server_busy"]) * 100.0),
            part(flood[1]),
            part(flood[2]),
            part(flood[3]),
            format!("{} of {}", others[0], others[1]),
            format!("{:.1} / {:.1}", worst[0], worst[1]),
            format!("{lost} of {sent}"),
            format!(
                "{:.1} / {:.1}",
                number(&options["latency_ms"]["p50"]),
                number(&options["latency_ms"]["p99"])
            ),
            wrong.to_string(),
        ]);
    }
    format!(
        "Capacity: {:.0} calls/s, the best of the closed loops.\n\n{}\n{}",
        number(&raw["capacity"]),
        table(&["calls in flight", "served/s", "core busy"], &closed),
        table(
            &[
                "flood",
                "offered ÷ capacity",
                "served ÷ capacity",
                "core busy %",
                "flood served",
                "503",
                "silence",
                "others' calls lost",
                "their p50 / p99, ms",
                "OPTIONS lost",
                "their p50 / p99, ms",
                "wrong",
            ],
            &rows
        )
    )
}

/// The elements of a list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
