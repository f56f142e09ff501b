//! The table of ratios: the floor responder, Kamailio and Ringback do the same task in turn, for several rounds,
//! each on one core with the load generator on another.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::print_stderr, reason = "progress goes there")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use ringback_benches::counts::{PerSecond, Probes};
use ringback_benches::cpu;
use ringback_benches::figures::{Figure, table};
use ringback_benches::kamailio::{Kamailio, PACKAGES, Setup};
use ringback_benches::load::{self, Arrivals, Expect, Outcome, Plan};
use ringback_benches::population::{Callers, Population};
use ringback_benches::runs;
use ringback_benches::server::{Process, Ringback, Tenants, beside, start_floor};
use serde_json::{Value, json};

/// Compares the floor responder, Kamailio and Ringback on a returning call
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each server is measured at each point
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Number of contacts
    #[arg(long, default_value_t = 1_000_000)]
    contacts: u64,
    /// The population of agents and contacts
    #[arg(long, value_enum, default_value = "real")]
    world: World,
    /// The servers; set-ups of Kamailio that are not installed are left out
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Server::ALL)]
    servers: Vec<Server>,
    /// The loads
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Point::Saturated, Point::Poisson, Point::Even, Point::Mixed, Point::Recording])]
    points: Vec<Point>,
    /// Core of the servers
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Core of the load generator
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// The program `ringback`; default: beside this one
    #[arg(long)]
    ringback: Option<PathBuf>,
    /// Folder of Kamailio's configuration
    #[arg(long, default_value = "benches/kamailio")]
    kamailio: PathBuf,
    /// Install Kamailio, Redis and SQLite first (Debian; needs root)
    #[arg(long)]
    install: bool,
    /// Also count system calls and allocations per call (needs `perf` and root)
    #[arg(long)]
    counts: bool,
    /// Keep the results in `benches/runs/<date>-<NAME>/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

/// The population of agents and contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum World {
    /// 100 environments with 10 numbers, 100 outbound and 100 inbound agents each
    Real,
    /// One environment with 100 numbers, 100 outbound and 100 inbound agents: a laboratory
    Small,
}

impl World {
    /// Its population.
    const fn population(self) -> Population {
        match self {
            Self::Real => Population::REAL,
            Self::Small => Population::SMALL,
        }
    }

    /// Its name in the table.
    const fn title(self) -> &'static str {
        match self {
            Self::Real => "100 environments, 1,000 numbers, 20,000 agents, 10,000 roles",
            Self::Small => "a small world: 1 environment, 100 numbers, 200 agents, 100 roles",
        }
    }
}

/// The servers that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Server {
    /// No work; one datagram per system call
    FloorSingle,
    /// No work; up to 64 datagrams per system call
    Floor,
    /// No work; equal replies in one UDP_SEGMENT datagram
    FloorSegmented,
    /// No work; like `floor`, and ACKs are dropped by a filter before the socket
    FloorFiltered,
    /// Kamailio, tables in shared memory, tuned
    KamailioTuned,
    /// Kamailio, three GETs in Redis
    KamailioRedis,
    /// Kamailio, tables in shared memory, Debian's default allocator
    KamailioStock,
    /// Ringback
    Ringback,
}

impl Server {
    /// Every server.
    const ALL: [Self; 8] = [
        Self::FloorSingle,
        Self::Floor,
        Self::FloorSegmented,
        Self::FloorFiltered,
        Self::KamailioTuned,
        Self::KamailioRedis,
        Self::KamailioStock,
        Self::Ringback,
    ];

    /// Its name in the table.
    const fn title(self) -> &'static str {
        match self {
            Self::FloorSingle => "no work, single calls",
            Self::Floor => "no work, batched (floor)",
            Self::FloorSegmented => "no work, UDP_SEGMENT",
            Self::FloorFiltered => "no work, batched, ACKs filtered",
            Self::KamailioTuned => "Kamailio, htable, tuned (anchor)",
            Self::KamailioRedis => "Kamailio, Redis",
            Self::KamailioStock => "Kamailio, htable, stock",
            Self::Ringback => "Ringback",
        }
    }
}

/// The loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Point {
    /// 64 calls at once
    Saturated,
    /// 20,000 calls per second, Poisson arrivals
    Poisson,
    /// 10,000 calls per second, even arrivals
    Even,
    /// Like `poisson`, with callers by Zipf's law, strangers, anonymous callers and retransmissions; without
    /// Kamailio, whose configuration has no default agent
    Mixed,
    /// Like `poisson`, while 1,000 calls are recorded and 10 changes of the configuration are made per second;
    /// the floor records none, Kamailio is left out
    Recording,
    /// The highest rate with less than 0.1 % lost
    Most,
}

impl Point {
    /// Its name in the table.
    const fn title(self) -> &'static str {
        match self {
            Self::Saturated => "saturated core, 64 calls in flight",
            Self::Poisson => "20,000 calls/s, Poisson arrivals",
            Self::Even => "10,000 calls/s, even arrivals",
            Self::Mixed => {
                "20,000 calls/s, Poisson arrivals, callers by Zipf 1.1, 10 % strangers, 5 % anonymous, 1 % sent twice"
            }
            Self::Recording => {
                "20,000 calls/s, Poisson arrivals, while 1,000 calls/s are recorded and 10 changes/s made"
            }
            Self::Most => "most calls/s under 0.1 % lost, even arrivals",
        }
    }

    /// When calls start; for the search, its first rate.
    const fn arrivals(self) -> Arrivals {
        match self {
            Self::Saturated => Arrivals::InFlight(64),
            Self::Poisson | Self::Mixed | Self::Recording => Arrivals::Poisson(20_000.0),
            Self::Even => Arrivals::Even(10_000.0),
            Self::Most => Arrivals::Even(20_000.0),
        }
    }
}

/// A running server.
struct Running {
    /// The server that is running.
    server: Server,
    /// Its SIP address.
    address: SocketAddr,
    /// The processes whose time is measured.
    processes: Vec<u32>,
    /// Resident memory after loading, in bytes.
    resident: u64,
    /// Keeps the server running.
    keeper: Keeper,
}

/// Ends a server when dropped.
enum Keeper {
    /// The floor responder.
    Floor { _process: Process },
    /// Kamailio.
    Kamailio { _server: Kamailio },
    /// Ringback.
    Ringback { server: Ringback, tenants: Tenants },
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.install {
        install()?;
    }
    cpu::pin(arguments.load_core)?;
    let folder = RunFolder::new()?;
    let mut running = Vec::new();
    for server in &arguments.servers {
        eprintln!("starting {}", server.title());
        match start(*server, &arguments, &folder.0) {
            Ok(up) => running.push(up),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    let outcomes = measure(&arguments, &running)?;
    let mut report = report(&arguments, &running, &outcomes);
    if arguments.counts {
        report += &counts(&arguments, &running)?;
    }
    println!("{report}");
    if let Some(machine) = &arguments.record {
        let raw = to_json(&arguments, &running, &outcomes);
        let folder = runs::record(
            machine,
            "compare",
            "A returning call over SIP",
            &report,
            &raw,
        )?;
        println!("kept in {}", folder.display());
    }
    let wrong: u64 = outcomes
        .values()
        .flatten()
        .map(|outcome| outcome.wrong)
        .sum();
    if wrong > 0 {
        return Err(format!("{wrong} answers were wrong").into());
    }
    Ok(())
}

/// Results by point and server, one per round.
type Outcomes = BTreeMap<(Point, Server), Vec<Outcome>>;

/// Starts a server and loads the population.
fn start(server: Server, arguments: &Arguments, folder: &Path) -> io::Result<Running> {
    let core = arguments.server_core;
    let kamailio = |setup: Setup| {
        if !setup.is_installed() {
            return Err(io::Error::other("not installed (try --install)"));
        }
        let server = Kamailio::start(
            setup,
            &arguments.kamailio,
            folder,
            core,
            &arguments.world.population(),
            arguments.contacts,
        )?;
        Ok((
            server.address,
            server.process_ids(),
            Keeper::Kamailio { _server: server },
        ))
    };
    let floor = |calls: &str| {
        let (process, address) = start_floor(&beside("floor")?, calls, core)?;
        Ok((
            address,
            vec![process.id()],
            Keeper::Floor { _process: process },
        ))
    };
    let (address, processes, keeper) = match server {
        Server::FloorSingle => floor("single"),
        Server::Floor => floor("batched"),
        Server::FloorSegmented => floor("segmented"),
        Server::FloorFiltered => floor("filtered"),
        Server::KamailioTuned => kamailio(Setup::Tuned),
        Server::KamailioRedis => kamailio(Setup::Redis),
        Server::KamailioStock => kamailio(Setup::Stock),
        Server::Ringback => {
            let program = match &arguments.ringback {
                Some(program) => program.clone(),
                None => beside("ringback")?,
            };
            let server = Ringback::start(&program, &folder.join("ringback"), Some(core))?;
            let tenants = server.populate(arguments.world.population())?;
            server.record_all(&tenants, arguments.contacts, 4)?;
            Ok((
                server.sip,
                vec![server.process.id()],
                Keeper::Ringback { server, tenants },
            ))
        }
    }?;
    let resident = processes
        .iter()
        .filter_map(|process| cpu::resident(*process))
        .sum();
    Ok(Running {
        server,
        address,
        processes,
        resident,
        keeper,
    })
}

/// Measures every server at every point, in turn, round after round.
fn measure(arguments: &Arguments, running: &[Running]) -> Result<Outcomes, Box<dyn Error>> {
    let mut outcomes = Outcomes::new();
    let mut recorded = arguments.contacts;
    for round in 0..arguments.rounds {
        for point in &arguments.points {
            for up in running {
                if matches!(point, Point::Recording | Point::Mixed)
                    && matches!(up.keeper, Keeper::Kamailio { .. })
                {
                    continue;
                }
                let plan = plan(arguments, up, *point)?;
                let outcome = match (point, plan.arrivals) {
                    (Point::Most, Arrivals::Even(rate)) => load::most(&plan, rate),
                    (Point::Recording, _) => run_recording(&plan, up, &mut recorded),
                    _ => load::run(&plan),
                }
                .map_err(|error| format!("{}: {error}", up.server.title()))?;
                eprintln!(
                    "round {} of {}, {}, {}: {:.2} µs/call, {:.0} calls/s, {:.3} % lost",
                    round + 1,
                    arguments.rounds,
                    point.title(),
                    up.server.title(),
                    outcome.cpu_per_call(),
                    outcome.rate(),
                    outcome.loss() * 100.0
                );
                outcomes
                    .entry((*point, up.server))
                    .or_default()
                    .push(outcome);
            }
        }
    }
    Ok(outcomes)
}

/// Runs a plan while calls are recorded, if the server can; `recorded` counts contacts.
fn run_recording(plan: &Plan, up: &Running, recorded: &mut u64) -> io::Result<Outcome> {
    let Keeper::Ringback { server, tenants } = &up.keeper else {
        return load::run(plan);
    };
    let stop = AtomicBool::new(false);
    let first = *recorded;
    let (outcome, trickled, changed) = std::thread::scope(|scope| {
        let trickle = scope.spawn(|| server.trickle(tenants, first, RECORDED_A_SECOND, &stop));
        let changes = scope.spawn(|| server.reconfigure(tenants, CHANGED_A_SECOND, &stop));
        let outcome = load::run(plan);
        stop.store(true, Ordering::Relaxed);
        (outcome, trickle.join(), changes.join())
    });
    *recorded = trickled.map_err(|_| io::Error::other("the recorder panicked"))??;
    changed.map_err(|_| io::Error::other("the administrator panicked"))??;
    outcome
}

/// Changes of the configuration per second while calls are recorded.
const CHANGED_A_SECOND: u64 = 10;

/// Calls recorded per second while latency is measured.
const RECORDED_A_SECOND: u64 = 1_000;

/// The plan of one measurement.
fn plan(arguments: &Arguments, up: &Running, point: Point) -> Result<Plan, Box<dyn Error>> {
    Ok(Plan {
        server: up.address,
        processes: up.processes.clone(),
        population: arguments.world.population(),
        callers: match point {
            Point::Mixed => Callers::zipf(arguments.contacts),
            _ => Callers::Even(arguments.contacts),
        },
        mixed: point == Point::Mixed,
        sockets: 1,
        arrivals: point.arrivals(),
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        duration: Duration::from_secs_f64(arguments.seconds),
        expect: match up.server {
            Server::FloorSingle
            | Server::Floor
            | Server::FloorSegmented
            | Server::FloorFiltered => Expect::AnyTarget,
            _ => Expect::Target,
        },
        seed: SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    })
}

/// System calls and allocations per call, with 64 calls in flight.
fn counts(arguments: &Arguments, running: &[Running]) -> Result<String, Box<dyn Error>> {
    let mut rows = Vec::new();
    for up in running {
        eprintln!("counting, {}", up.server.title());
        let plan = plan(arguments, up, Point::Saturated)?;
        let probes = up.processes.last().and_then(|last| Probes::add(*last));
        let (outcome, counted) = std::thread::scope(|scope| {
            let counted = scope.spawn(|| {
                std::thread::sleep(plan.warm_up + plan.duration.mul_f64(0.1));
                probes?.watch(&plan.processes, plan.duration.mul_f64(0.6))
            });
            (load::run(&plan), counted.join().ok().flatten())
        });
        let rate = outcome?.rate();
        let text = |value: fn(PerSecond) -> f64| {
            counted.map_or_else(
                || "?".to_owned(),
                |counted| format!("{:.3}", value(counted) / rate),
            )
        };
        rows.push(vec![
            up.server.title().to_owned(),
            text(|counted| counted.system_calls),
            text(|counted| counted.allocations),
        ]);
    }
    let head = ["server", "system calls/call", "allocations/call"];
    Ok(format!(
        "\n### Counted by perf, 64 calls in flight\n\n{}",
        table(&head, &rows)
    ))
}

/// A figure over the rounds.
fn figure(outcomes: &[Outcome], value: impl Fn(&Outcome) -> f64) -> Figure {
    let mut figure = Figure::default();
    for outcome in outcomes {
        figure.add(value(outcome));
    }
    figure
}

/// The tables.
fn report(arguments: &Arguments, running: &[Running], outcomes: &Outcomes) -> String {
    let mut text = String::new();
    for point in &arguments.points {
        let cpu_of = |server| {
            outcomes
                .get(&(*point, server))
                .map(|outcomes| figure(outcomes, Outcome::cpu_per_call))
                .unwrap_or_default()
        };
        let (floor, anchor) = (cpu_of(Server::Floor), cpu_of(Server::KamailioTuned));
        let rows: Vec<Vec<String>> = running
            .iter()
            .filter_map(|up| {
                let outcomes = outcomes.get(&(*point, up.server))?;
                let cpu = cpu_of(up.server);
                let latency = |quantile: f64| {
                    figure(outcomes, |outcome| {
                        outcome.latency.value_at_quantile(quantile) as f64 / 1e3
                    })
                    .text(0)
                };
                Some(vec![
                    up.server.title().to_owned(),
                    cpu.text(2),
                    cpu.by(&floor).text(2),
                    cpu.by(&anchor).text(2),
                    figure(outcomes, |outcome| outcome.busy() * 100.0).text(0),
                    figure(outcomes, Outcome::rate).text(0),
                    figure(outcomes, |outcome| outcome.loss() * 100.0).text(3),
                    latency(0.5),
                    latency(0.99),
                    latency(0.999),
                ])
            })
            .collect();
        text += &format!("### {}\n\n", point.title());
        text += &table(
            &[
                "server",
                "CPU µs/call",
                "× floor",
                "× anchor",
                "core busy %",
                "calls/s",
                "lost %",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
            ],
            &rows,
        );
        text.push('\n');
        if let (Some(floor), Some(ringback)) = (
            outcomes.get(&(*point, Server::Floor)),
            outcomes.get(&(*point, Server::Ringback)),
        ) {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let latency = |outcomes: &[Outcome]| {
                    figure(outcomes, |outcome| {
                        outcome.latency.value_at_quantile(quantile) as f64
                    })
                };
                let ratio = latency(ringback).by(&latency(floor)).text(2);
                text += &format!("Ringback's {name} is {ratio} × the floor's.\n");
            }
            text.push('\n');
        }
    }
    text += &format!(
        "Median (least–greatest) of {} rounds of {} s; {}; {} contacts; ratios are taken round by round.\n",
        arguments.rounds,
        arguments.seconds,
        arguments.world.title(),
        arguments.contacts
    );
    text
}

/// All figures as JSON.
fn to_json(arguments: &Arguments, running: &[Running], outcomes: &Outcomes) -> Value {
    let servers: Vec<Value> = running
        .iter()
        .map(|up| {
            let points: serde_json::Map<String, Value> = arguments
                .points
                .iter()
                .filter_map(|point| {
                    let outcomes = outcomes.get(&(*point, up.server))?;
                    let rounds: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
                    let cpu = figure(outcomes, Outcome::cpu_per_call).to_json();
                    let value = json!({"cpu_us_per_call": cpu, "rounds": rounds});
                    Some((format!("{point:?}").to_lowercase(), value))
                })
                .collect();
            json!({
                "server": up.server.title(),
                "resident_bytes": up.resident,
                "points": points,
            })
        })
        .collect();
    json!({
        "world": arguments.world.title(),
        "contacts": arguments.contacts,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "servers": servers,
    })
}

/// Installs the packages of Kamailio's set-ups, without starting any server.
fn install() -> io::Result<()> {
    // Debian runs this script to ask whether a package may start its server.
    let guard = Path::new("/usr/sbin/policy-rc.d");
    let is_ours = !guard.exists();
    if is_ours {
        fs::write(guard, "#!/bin/sh\nexit 101\n")?;
        Command::new("chmod").arg("+x").arg(guard).status()?;
    }
    let status = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(PACKAGES)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(io::stderr())
        .status();
    if is_ours {
        fs::remove_file(guard)?;
    }
    if status?.success() {
        Ok(())
    } else {
        Err(io::Error::other("apt-get install failed"))
    }
}

/// A folder for the files of this run; removed when dropped.
struct RunFolder(PathBuf);

impl RunFolder {
    /// Creates the folder.
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringback-compare-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // A file that cannot be removed is left for the system to clear.
        let _failed = fs::remove_dir_all(&self.0);
    }
}
