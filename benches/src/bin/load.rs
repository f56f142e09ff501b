//! Sends returning calls over UDP to a SIP redirect server.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use ringback_benches::cpu;
use ringback_benches::figures::table;
use ringback_benches::load::{self, Arrivals, Expect, Outcome, Plan};
use ringback_benches::population::{Callers, Population};

/// Returning calls over UDP: INVITE, 302, ACK.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the server
    #[arg(default_value = "127.0.0.1:5060")]
    server: SocketAddr,
    /// When calls start
    #[arg(long, value_enum, default_value = "closed")]
    arrivals: Kind,
    /// Calls per second, in the open loop; the first rate of a search
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Calls at once, in the closed loop
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Draw callers from this many contacts
    #[arg(long, default_value_t = 1_000_000)]
    contacts: u64,
    /// Expect the population of one environment and 100 lines, not that of 100 environments
    #[arg(long)]
    small: bool,
    /// Draw callers by Zipf's law with exponent 1.1
    #[arg(long)]
    zipf: bool,
    /// Mix strangers, anonymous callers and retransmissions into the calls of an open loop
    #[arg(long)]
    mixed: bool,
    /// Send from this many ports
    #[arg(long, default_value_t = 1)]
    sockets: usize,
    /// Seconds of load before measuring
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Process of the server, with its descendants; may be repeated
    #[arg(long = "pid")]
    processes: Vec<u32>,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
    /// Accept any target as the right one
    #[arg(long)]
    any_target: bool,
    /// Seed of callers and arrivals; the default differs from run to run
    #[arg(long)]
    seed: Option<u64>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// When calls start.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A fixed number of calls at once, each followed by the next
    Closed,
    /// At equal distances
    Even,
    /// Independent of one another
    Poisson,
    /// Search the highest rate, in even arrivals, at which less than 0.1 % is lost
    Most,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(core) = arguments.core {
        cpu::pin(core)?;
    }
    let plan = Plan {
        server: arguments.server,
        processes: arguments.processes,
        population: if arguments.small {
            Population::SMALL
        } else {
            Population::REAL
        },
        callers: if arguments.zipf {
            Callers::zipf(arguments.contacts)
        } else {
            Callers::Even(arguments.contacts)
        },
        mixed: arguments.mixed,
        sockets: arguments.sockets,
        arrivals: match arguments.arrivals {
            Kind::Closed => Arrivals::InFlight(arguments.in_flight),
            Kind::Even | Kind::Most => Arrivals::Even(arguments.rate),
            Kind::Poisson => Arrivals::Poisson(arguments.rate),
        },
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        duration: Duration::from_secs_f64(arguments.seconds),
        expect: if arguments.any_target {
            Expect::AnyTarget
        } else {
            Expect::Target
        },
        seed: match arguments.seed {
            Some(seed) => seed,
            None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
        },
    };
    let outcome = match arguments.arrivals {
        Kind::Most => load::most(&plan, arguments.rate)?,
        _ => load::run(&plan)?,
    };
    if arguments.json {
        println!("{:#}", outcome.to_json());
    } else {
        print!("{}", report(&outcome));
    }
    if outcome.wrong > 0 {
        return Err(format!("{} answers were wrong", outcome.wrong).into());
    }
    Ok(())
}

/// The figures as a table.
fn report(outcome: &Outcome) -> String {
    let microseconds = |quantile| {
        format!(
            "{:.1} µs",
            outcome.latency.value_at_quantile(quantile) as f64 / 1e3
        )
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    table(
        &["figure", "value"],
        &[
            row("calls a second", format!("{:.0}", outcome.rate())),
            row(
                "lost",
                format!("{} ({:.3} %)", outcome.lost, outcome.loss() * 100.0),
            ),
            row("wrong answers", outcome.wrong.to_string()),
            row("CPU per call", format!("{:.2} µs", outcome.cpu_per_call())),
            row("core kept busy", format!("{:.1} %", outcome.busy() * 100.0)),
            row("latency p50", microseconds(0.5)),
            row("latency p99", microseconds(0.99)),
            row("latency p99.9", microseconds(0.999)),
            row("latency max", microseconds(1.0)),
            row(
                "generator late p99.9",
                format!(
                    "{:.1} µs",
                    outcome.lateness.value_at_quantile(0.999) as f64 / 1e3
                ),
            ),
        ],
    )
}
