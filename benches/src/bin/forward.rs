//! Calls that are sent on: Ringback, Kamailio with `t_relay` and a relay without any work, with the same messages on the
//! same core, after each other.
//!
//! A call is an INVITE of 1,200 bytes, 100, 180 and 200; the caller and the targets are processes of this program on
//! the other core.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use foldhash::fast::RandomState;
use hdrhistogram::Histogram;
use ringback_benches::batch::{self, Receiver};
use ringback_benches::cpu::{self, CpuTimes};
use ringback_benches::figures::{Figure, table};
use ringback_benches::runs::record;
use ringback_benches::server::{Process, Ringback, pinned};
use serde_json::{Value, json};

/// What a forwarded call costs, beside Kamailio and a relay.
#[derive(Debug, Parser)]
struct Arguments {
    /// One of the processes beside the servers; without it, everything is measured
    #[command(subcommand)]
    part: Option<Part>,
    /// The Ringback to measure
    #[arg(long, default_value = "target/release/ringback")]
    ringback: PathBuf,
    /// Where the configuration of Kamailio is
    #[arg(long, default_value = "benches/kamailio")]
    kamailio: PathBuf,
    /// How often everything is measured, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Calls a second in the open loop and the storm
    #[arg(long, default_value_t = 5_000.0)]
    rate: f64,
    /// Only the storm: one of two targets is killed in the middle
    #[arg(long)]
    storm: bool,
    /// Keep table and raw data in `benches/runs/<date>-NAME/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

/// A process beside the servers.
#[derive(Debug, Subcommand)]
enum Part {
    /// Answers every call
    Target {
        /// Rings, and never answers
        #[arg(long)]
        rings: bool,
    },
    /// Sends everything on to one address, and what comes from there back
    Relay {
        /// Where
        to: SocketAddr,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Target { rings }) => answer(rings)?,
        Some(Part::Relay { to }) => relay(to)?,
        None => measure(&arguments)?,
    }
    Ok(())
}

/// A free port of the loopback interface, told on standard output.
fn listen() -> io::Result<UdpSocket> {
    let socket = batch::open(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!(
        r#"{{"event":"ready","sip_udp":"{}"}}"#,
        socket.local_addr()?
    );
    io::stdout().flush()?;
    Ok(socket)
}

/// A target: 180 and 200 to each INVITE, 200 to other requests.
fn answer(rings: bool) -> io::Result<()> {
    let socket = listen()?;
    let mut receiver = Receiver::new();
    let mut reply = Vec::with_capacity(2_048);
    loop {
        receiver.receive(&socket)?;
        for (request, from) in receiver.datagrams() {
            let statuses: &[&str] = match request.first() {
                Some(b'I') if rings => &["180 Ringing"],
                Some(b'I') => &["180 Ringing", "200 OK"],
                Some(b'A' | b'S') | None => &[],
                _ => &["200 OK"],
            };
            for status in statuses {
                write_reply(request, status, &mut reply);
                // A caller that is gone needs no reply.
                let _gone = socket.send_to(&reply, from);
            }
        }
    }
}

/// Writes the reply to a request, with what a dialog needs.
fn write_reply(request: &[u8], status: &str, reply: &mut Vec<u8>) {
    reply.clear();
    reply.extend_from_slice(b"SIP/2.0 ");
    reply.extend_from_slice(status.as_bytes());
    reply.extend_from_slice(b"\r\n");
    for line in request.split(|byte| *byte == b'\n') {
        let is_kept = [b"Via:", b"From", b"Call", b"CSeq"]
            .iter()
            .any(|name| line.starts_with(*name));
        if is_kept {
            reply.extend_from_slice(line);
            reply.push(b'\n');
        } else if let Some(to) = line.strip_prefix(b"To:") {
            reply.extend_from_slice(b"To:");
            reply.extend_from_slice(to.trim_ascii_end());
            reply.extend_from_slice(b";tag=target\r\n");
        } else if line == b"\r" {
            break;
        }
    }
    reply.extend_from_slice(b"Contact: <sip:agent@127.0.0.1>\r\nContent-Length: 0\r\n\r\n");
}

/// A relay for one caller.
fn relay(to: SocketAddr) -> io::Result<()> {
    let socket = listen()?;
    let mut receiver = Receiver::new();
    let mut caller: Option<SocketAddr> = None;
    loop {
        receiver.receive(&socket)?;
        for (datagram, from) in receiver.datagrams() {
            let from = SocketAddr::V4(from);
            let next = if from == to { caller } else { Some(to) };
            if from != to {
                caller = Some(from);
            }
            if let Some(next) = next {
                let _gone = socket.send_to(datagram, next);
            }
        }
    }
}

/// A server that sends calls on.
struct Server {
    /// What it is called in the table.
    name: &'static str,
    /// Where it listens.
    address: SocketAddr,
    /// Its process, whose time is measured.
    process: u32,
    /// What ends with it.
    _running: Box<dyn std::any::Any>,
}

/// What a measurement gave.
#[derive(Default)]
struct Figures {
    /// Calls that were begun.
    begun: u64,
    /// Calls that got a 200.
    answered: u64,
    /// Calls that rang.
    ringing: u64,
    /// Calls that got another final reply.
    refused: u64,
    /// Processor time of the server, in nanoseconds.
    nanos: u64,
    /// How long it took.
    took: Duration,
    /// From the INVITE to the 200, in microseconds.
    delays: Option<Histogram<u64>>,
}

impl Figures {
    /// Processor time of an answered call, in µs.
    fn micros(&self) -> f64 {
        self.nanos as f64 / 1e3 / self.answered.max(1) as f64
    }

    /// Within which time this part of the calls was answered, in ms.
    fn delay(&self, quantile: f64) -> f64 {
        let delays = self.delays.as_ref();
        delays.map_or(f64::NAN, |delays| {
            delays.value_at_quantile(quantile) as f64 / 1e3
        })
    }
}

/// When calls begin.
#[derive(Clone, Copy)]
enum Load {
    /// So many at once.
    Closed(usize),
    /// So many a second.
    Open(f64),
}

/// Measures everything, in turn.
fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    cpu::pin(GENERATOR)?;
    let run = std::env::temp_dir().join(format!("ringback-forward-{}", std::process::id()));
    fs::create_dir_all(&run)?;
    let result = measure_in(arguments, &run);
    fs::remove_dir_all(&run)?;
    result
}

/// The same, with a folder for the files of the run.
fn measure_in(arguments: &Arguments, run: &Path) -> Result<(), Box<dyn Error>> {
    let (report, raw) = if arguments.storm {
        storm(arguments, run)?
    } else {
        compare(arguments, run)?
    };
    println!("{report}");
    if let Some(machine) = &arguments.record {
        let name = if arguments.storm { "storm" } else { "forward" };
        let title = "Calls that are sent on";
        let folder = record(machine, name, title, &report, &raw)?;
        println!("kept in {}", folder.display());
    }
    Ok(())
}

/// The figures of one server, a measurement a round.
#[derive(Default)]
struct Row {
    /// Calls a second, 64 at once.
    most: Figure,
    /// Processor time of a call then, in µs.
    busy: Figure,
    /// The same at the rate.
    open: Figure,
    /// Half of the calls are answered within, in ms.
    p50: Figure,
    /// 99 of 100.
    p99: Figure,
    /// Calls without a 200 at the rate.
    failed: Figure,
    /// The same at 80 % of the most.
    failed_at_80: Figure,
}

/// All servers in turn, and what calls that ring take of memory.
fn compare(arguments: &Arguments, run: &Path) -> Result<(String, Value), Box<dyn Error>> {
    let target = start_part(&["target"])?;
    let ringing = start_part(&["target", "--rings"])?;
    let servers = [
        start_relay(target.1)?,
        start_ringback(arguments, &run.join("answered"), &[target.1])?,
        start_kamailio(arguments, run, "answered", target.1)?,
    ];
    let length = Duration::from_secs_f64(arguments.seconds);
    let mut rows: [Row; 3] = Default::default();
    for _ in 0..arguments.rounds {
        for (server, row) in servers.iter().zip(&mut rows) {
            let busy = load(server, Load::Closed(64), length)?;
            let most = busy.answered as f64 / busy.took.as_secs_f64();
            let open = load(server, Load::Open(arguments.rate), length)?;
            let most_of_it = load(server, Load::Open(0.8 * most), length)?;
            row.most.add(most);
            row.busy.add(busy.micros());
            row.open.add(open.micros());
            row.p50.add(open.delay(0.5));
            row.p99.add(open.delay(0.99));
            row.failed.add((open.begun - open.answered) as f64);
            row.failed_at_80
                .add((most_of_it.begun - most_of_it.answered) as f64);
        }
    }
    let cells = |name: &str, row: &Row| {
        vec![
            name.to_owned(),
            row.most.text(0),
            row.busy.text(1),
            row.open.text(1),
            row.p50.text(3),
            row.p99.text(3),
            row.failed.text(0),
            row.failed_at_80.text(0),
        ]
    };
    let [relay, ringback, kamailio] = &rows;
    let mut lines: Vec<Vec<String>> = servers
        .iter()
        .zip(&rows)
        .map(|(server, row)| cells(server.name, row))
        .collect();
    for (name, other) in [
        ("Ringback × Kamailio", kamailio),
        ("Ringback × relay", relay),
    ] {
        let by = Row {
            most: ringback.most.by(&other.most),
            busy: ringback.busy.by(&other.busy),
            open: ringback.open.by(&other.open),
            p50: ringback.p50.by(&other.p50),
            p99: ringback.p99.by(&other.p99),
            ..Row::default()
        };
        let mut line = cells(name, &by);
        for (cell, figure) in line
            .iter_mut()
            .skip(1)
            .zip([&by.most, &by.busy, &by.open, &by.p50, &by.p99])
        {
            *cell = figure.text(2);
        }
        lines.push(line);
    }
    let rate = format!("{:.0}/s", arguments.rate);
    let heads = [
        "server",
        "calls/s, 64 at once",
        "µs/call",
        &format!("µs/call, {rate}"),
        &format!("p50 ms, {rate}"),
        &format!("p99 ms, {rate}"),
        &format!("failed, {rate}"),
        "failed, 80 % of the most",
    ];
    let mut report = table(&heads, &lines);
    let json = |row: &Row| {
        json!({
            "calls_per_second": row.most.to_json(), "micros_busy": row.busy.to_json(),
            "micros_at_rate": row.open.to_json(), "p50_ms": row.p50.to_json(),
            "p99_ms": row.p99.to_json(), "failed": row.failed.to_json(),
            "failed_at_80_percent": row.failed_at_80.to_json(),
        })
    };
    let mut raw = json!({
        "rate": arguments.rate, "seconds": arguments.seconds,
        "relay": json(relay), "ringback": json(ringback), "kamailio": json(kamailio),
    });
    drop(servers);
    for (name, server) in [
        (
            "ringback",
            start_ringback(arguments, &run.join("ringing"), &[ringing.1])?,
        ),
        (
            "kamailio",
            start_kamailio(arguments, run, "ringing", ringing.1)?,
        ),
    ] {
        let before = resident(&server);
        let calls = 10_000;
        let figures = ring(&server, calls)?;
        let bytes = resident(&server).saturating_sub(before) / figures.max(1);
        let _infallible = writeln!(
            report,
            "\n{}: {bytes} bytes resident for each of {figures} calls that ring.",
            server.name
        );
        raw[name]["bytes_per_ringing_call"] = json!(bytes);
    }
    Ok((report, raw))
}

/// Begins so many calls that ring; gives how many do.
fn ring(server: &Server, calls: u64) -> io::Result<u64> {
    let rate = 5_000.0;
    let length = Duration::from_secs_f64(calls as f64 / rate);
    let figures = load_while(server, Load::Open(rate), length, Duration::from_secs(1))?;
    Ok(figures.ringing)
}

/// One of two targets is killed in the middle of the load.
fn storm(arguments: &Arguments, run: &Path) -> Result<(String, Value), Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut raw = Vec::new();
    for round in 0..arguments.rounds {
        let (mut first, first_address) = start_part(&["target"])?;
        let (_second, second_address) = start_part(&["target"])?;
        let data = run.join(format!("storm-{round}"));
        let server = start_ringback(arguments, &data, &[first_address, second_address])?;
        let half = Duration::from_secs_f64(arguments.seconds / 2.0);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(half);
            first.kill()
        });
        let figures = load(&server, Load::Open(arguments.rate), half * 2)?;
        killer.join().map_err(|_| "the target was not killed")??;
        let lost = figures.begun - figures.answered - figures.refused;
        let longest = figures.delay(1.0);
        lines.push(vec![
            (round + 1).to_string(),
            figures.begun.to_string(),
            figures.answered.to_string(),
            figures.refused.to_string(),
            lost.to_string(),
            format!("{longest:.1}"),
        ]);
        raw.push(json!({
            "calls": figures.begun, "answered": figures.answered, "refused": figures.refused,
            "lost": lost, "longest_ms": longest,
        }));
    }
    let heads = [
        "round",
        "calls",
        "answered",
        "refused",
        "lost",
        "longest ms",
    ];
    let report = format!(
        "One of two targets is killed in the middle of {:.0} calls a second.\n\n{}",
        arguments.rate,
        table(&heads, &lines)
    );
    Ok((report, json!({"rate": arguments.rate, "rounds": raw})))
}

/// Plays callers; after the end what is under way has six seconds to finish.
fn load(server: &Server, load: Load, length: Duration) -> io::Result<Figures> {
    load_while(server, load, length, Duration::from_secs(6))
}

/// The same with another patience.
fn load_while(
    server: &Server,
    load: Load,
    length: Duration,
    patience: Duration,
) -> io::Result<Figures> {
    let socket = batch::open(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.connect(server.address)?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let mut receiver = Receiver::new();
    let mut open: HashMap<u64, Instant, RandomState> = HashMap::default();
    let mut figures = Figures::default();
    let mut delays =
        Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
    let salt = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(port) << 40;
    let before = CpuTimes::read(&[server.process]);
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let wanted = match load {
            _ if elapsed >= length => 0,
            Load::Closed(most) => most.saturating_sub(open.len()),
            Load::Open(rate) => ((elapsed.as_secs_f64() * rate) as u64 - figures.begun) as usize,
        };
        for _ in 0..wanted.min(64) {
            let id = salt + figures.begun;
            let text = invite(id, port);
            match socket.send(text.as_bytes()) {
                Ok(_) => {
                    open.insert(id, Instant::now());
                    figures.begun += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        receiver.receive(&socket)?;
        for (reply, _) in receiver.datagrams() {
            let Some((status, id)) = read_reply(reply) else {
                continue;
            };
            if status < 200 {
                figures.ringing += u64::from(status == 180);
                continue;
            }
            let Some(began) = open.remove(&id) else {
                continue;
            };
            if status < 300 {
                figures.answered += 1;
                let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                delays.saturating_record(micros);
            } else {
                figures.refused += 1;
            }
        }
        if figures.took.is_zero() && elapsed >= length {
            figures.took = elapsed;
            figures.nanos = CpuTimes::read(&[server.process]).since(&before);
        }
        if elapsed >= length && (open.is_empty() || elapsed >= length + patience) {
            figures.delays = Some(delays);
            return Ok(figures);
        }
    }
}

/// The INVITE of a call, of 1,200 bytes.
fn invite(id: u64, port: u16) -> String {
    let contact = id % CONTACTS;
    let mut text = format!(
        "INVITE sip:{NUMBER}@127.0.0.1;user=phone SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{id:016x};rport\r\n\
         Max-Forwards: 67\r\n\
         From: <sip:+55119{contact:08}@198.51.100.20;user=phone>;tag={id:016x}\r\n\
         To: <sip:{NUMBER}@203.0.113.5;user=phone>\r\n\
         Call-ID: {id:016x}@198.51.100.20\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:carrier@127.0.0.1:{port}>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK\r\n\
         Supported: 100rel, timer\r\n\
         Content-Type: application/sdp\r\n"
    );
    let body = "v=0\r\no=- 1732190400 1732190400 IN IP4 198.51.100.24\r\ns=-\r\n\
        c=IN IP4 198.51.100.24\r\nt=0 0\r\nm=audio 24680 RTP/AVP 8 0 101\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n";
    let end = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let missing = INVITE_BYTES.saturating_sub(text.len() + end.len() + "User-Agent: \r\n".len());
    text.push_str("User-Agent: ");
    text.extend(std::iter::repeat_n('x', missing.max(1)));
    text.push_str("\r\n");
    text + &end
}

/// Status and call of a reply.
fn read_reply(reply: &[u8]) -> Option<(u16, u64)> {
    let status = std::str::from_utf8(reply.get(8..11)?).ok()?.parse().ok()?;
    let branch = b"branch=z9hG4bK-";
    let start = memchr::memmem::find(reply, branch)? + branch.len();
    let digits = std::str::from_utf8(reply.get(start..start + 16)?).ok()?;
    Some((status, u64::from_str_radix(digits, 16).ok()?))
}

/// Starts a process of this program on the core of the caller.
fn start_part(arguments: &[&str]) -> io::Result<(Process, SocketAddr)> {
    start_part_on(GENERATOR, arguments)
}

/// The same on any core.
fn start_part_on(core: usize, arguments: &[&str]) -> io::Result<(Process, SocketAddr)> {
    let mut command = pinned(core, std::env::current_exe()?);
    command.args(arguments).stdout(Stdio::piped());
    let mut process = Process::spawn(command)?;
    let ready = process.ready()?;
    let address = ready["sip_udp"].as_str().and_then(|text| text.parse().ok());
    Ok((process, address.ok_or(io::ErrorKind::InvalidData)?))
}

/// Starts the relay.
fn start_relay(target: SocketAddr) -> io::Result<Server> {
    let (process, address) = start_part_on(SERVER, &["relay", &target.to_string()])?;
    Ok(Server {
        name: "relay without work",
        address,
        process: process.id(),
        _running: Box::new(process),
    })
}

/// Starts Ringback with contacts whose calls come back to these targets.
fn start_ringback(
    arguments: &Arguments,
    data: &Path,
    targets: &[SocketAddr],
) -> io::Result<Server> {
    fs::create_dir_all(data)?;
    let config = data.join("ringback.toml");
    fs::write(
        &config,
        "version = 1\n[sip]\nmode = \"forward\"\n[sip.forward]\nprobe = 0\n\
         [[sip.peers]]\naddress = [\"127.0.0.0/8\"]\n",
    )?;
    let server = Ringback::start_configured(
        &arguments.ringback,
        &data.join("data"),
        Some(SERVER),
        Some(&config),
    )?;
    let uris: Vec<String> = targets
        .iter()
        // Kamailio does not go over to TCP by itself either, as the INVITE is over 1,300 bytes then.
        .map(|target| format!("sip:agent@{target};transport=udp"))
        .collect();
    let contacts = (0..CONTACTS).map(|contact| format!("+55119{contact:08}"));
    server.returning(NUMBER, &uris, contacts)?;
    Ok(Server {
        name: "Ringback",
        address: server.sip,
        process: server.process.id(),
        _running: Box::new(server),
    })
}

/// Starts Kamailio with the same contacts in shared memory.
fn start_kamailio(
    arguments: &Arguments,
    run: &Path,
    name: &str,
    target: SocketAddr,
) -> io::Result<Server> {
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut entries = format!("$sht(did=>{NUMBER}) = \"1\";\n");
    entries += &format!("$sht(route=>7:{NUMBER}) = \"sip:agent@{target}\";\n");
    for contact in 0..CONTACTS {
        entries += &format!("$sht(contact=>1:+55119{contact:08}) = \"7\";\n");
    }
    for (source, to) in [
        ("common.cfg", format!("{name}-common.cfg")),
        ("forward.cfg", format!("{name}.cfg")),
    ] {
        let text = fs::read_to_string(arguments.kamailio.join(source))?
            .replace("@RUN@", &run.to_string_lossy())
            .replace("@NAME@", name)
            .replace("@PORT@", &port.to_string())
            .replace("@ENTRIES@", &entries);
        fs::write(run.join(to), text)?;
    }
    let mut command: Command = pinned(SERVER, "kamailio");
    command
        .args(["-DD", "-E", "-m", "2048", "-M", "64"])
        .args(["-x", "tlsf", "-X", "tlsf", "-b", "4194304", "-f"])
        .arg(run.join(format!("{name}.cfg")))
        .arg("-Y")
        .arg(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(run.join(format!("{name}.log")))?);
    let process = Process::spawn(command)?;
    let server = Server {
        name: "Kamailio t_relay",
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        process: process.id(),
        _running: Box::new(process),
    };
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if load(&server, Load::Closed(1), Duration::from_millis(200))
            .is_ok_and(|figures| figures.begun > 0)
        {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(io::Error::other("kamailio does not answer"))
}

/// Resident memory of a server and its descendants, in bytes.
fn resident(server: &Server) -> u64 {
    let all = cpu::with_descendants(&[server.process]);
    all.into_iter().filter_map(cpu::resident).sum()
}

/// The core of the servers.
const SERVER: usize = 0;

/// The core of everything else.
const GENERATOR: usize = 1;

/// What is dialed.
const NUMBER: &str = "+551130000000";

/// How many contacts call.
const CONTACTS: u64 = 1_000;

/// How long an INVITE is.
const INVITE_BYTES: usize = 1_200;
