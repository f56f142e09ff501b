//! Writing and starting: durable calls through the HTTP API, an import, and how soon a restarted server answers.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
#![expect(clippy::print_stderr, reason = "progress goes there")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use ringback_benches::cpu::{self, CpuTimes};
use ringback_benches::figures::{self, table};
use ringback_benches::population::{self, Population};
use ringback_benches::runs;
use ringback_benches::server::{Ringback, Tenants, beside, is_whole, stored_bytes};
use ringback_benches::sip::{Call, Reply, Template};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Measures writing to a Ringback server, and starting one
#[derive(Debug, Parser)]
struct Arguments {
    /// Number of contacts to record, import and start with
    #[arg(long, default_value_t = 1_000_000)]
    contacts: u64,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Batch, Part::Single, Part::Import, Part::Start])]
    parts: Vec<Part>,
    /// Connections that send batches
    #[arg(long, default_value_t = 4)]
    batch_connections: u64,
    /// Connections that send single calls
    #[arg(long, default_value_t = 256)]
    connections: u64,
    /// Seconds of single calls
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The program `ringback`; default: beside this one
    #[arg(long)]
    ringback: Option<PathBuf>,
    /// Folder for the data; the disk matters
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keep the results in `benches/runs/<date>-<NAME>/`
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `POST /calls/batch`, several connections
    Batch,
    /// `POST /calls`, one call per request, many connections
    Single,
    /// `ringback import calls` of a CSV file
    Import,
    /// From start to the first right answer, and to the loaded index
    Start,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let folder = arguments
        .folder
        .clone()
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("ringback-store-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&arguments, &folder);
    fs::remove_dir_all(&folder)?;
    let raw = measured?;
    let report = report(&raw);
    println!("{report}");
    if let Some(machine) = &arguments.record {
        let kept = runs::record(machine, "store", "Writing and starting", &report, &raw)?;
        println!("kept in {}", kept.display());
    }
    Ok(())
}

/// Measures all parts.
fn measure(arguments: &Arguments, folder: &Path) -> Result<Value, Box<dyn Error>> {
    let program = match &arguments.ringback {
        Some(program) => program.clone(),
        None => beside("ringback")?,
    };
    let mut raw = json!({"contacts": arguments.contacts, "disk": disk(folder)?});
    let mut filled = None;
    for part in &arguments.parts {
        eprintln!("{part:?}");
        let data = folder.join(format!("{part:?}").to_lowercase());
        match part {
            Part::Batch => {
                raw["batch"] = batch(arguments, &program, &data)?;
                filled = Some(data);
            }
            Part::Single => raw["single"] = single(arguments, &program, &data)?,
            Part::Import => raw["import"] = import(arguments, &program, &data, folder)?,
            Part::Start => {
                let data = match &filled {
                    Some(data) => data.clone(),
                    None => {
                        batch(arguments, &program, &data)?;
                        data
                    }
                };
                raw["start"] = start(arguments, &program, &data)?;
            }
        }
    }
    Ok(raw)
}

/// The time of the disk itself: append a little, make it durable.
fn disk(folder: &Path) -> Result<Value, Box<dyn Error>> {
    let path = folder.join("disk");
    let mut file = File::create(&path)?;
    let mut times = figures::times()?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        file.write_all(&[7; 1_536])?;
        file.sync_data()?;
        times.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    fs::remove_file(path)?;
    Ok(json!({
        "syncs_per_second": times.len(),
        "sync_p50_us": times.value_at_quantile(0.5) as f64 / 1e3,
        "sync_p99_us": times.value_at_quantile(0.99) as f64 / 1e3,
    }))
}

/// Processor time of the server, and of the clients.
struct Clock {
    /// The server.
    server: u32,
    /// When it was started.
    begin: Instant,
    /// The server's time at the start.
    server_before: CpuTimes,
    /// This process's time at the start.
    client_before: u64,
}

impl Clock {
    /// Starts the clocks.
    fn start(server: u32) -> Self {
        Self {
            server,
            begin: Instant::now(),
            server_before: CpuTimes::read(&[server]),
            client_before: cpu::own_time().unwrap_or_default(),
        }
    }

    /// Seconds, and microseconds per call: of the server, and of the clients.
    fn stop(&self, calls: u64) -> Value {
        let seconds = self.begin.elapsed().as_secs_f64();
        let server = CpuTimes::read(&[self.server]).since(&self.server_before);
        let client = cpu::own_time()
            .unwrap_or_default()
            .saturating_sub(self.client_before);
        let per_call = |nanoseconds: u64| nanoseconds as f64 / 1e3 / calls.max(1) as f64;
        json!({
            "calls": calls,
            "seconds": seconds,
            "calls_per_second": calls as f64 / seconds,
            "server_cpu_us_per_call": per_call(server),
            "client_cpu_us_per_call": per_call(client),
        })
    }
}

/// Batches over several connections.
fn batch(arguments: &Arguments, program: &Path, data: &Path) -> Result<Value, Box<dyn Error>> {
    let server = Ringback::start(program, data, None)?;
    let tenants = server.populate(Population::SMALL)?;
    let clock = Clock::start(server.process.id());
    let accepted = server.record_all(&tenants, arguments.contacts, arguments.batch_connections)?;
    let mut measured = clock.stop(accepted);
    measured["connections"] = arguments.batch_connections.into();
    measured["resident_bytes"] = cpu::resident(server.process.id()).into();
    drop(server);
    measured["disk_bytes_per_call"] = (stored_bytes(data)? as f64 / accepted.max(1) as f64).into();
    Ok(measured)
}

/// One call per request over many connections.
fn single(arguments: &Arguments, program: &Path, data: &Path) -> Result<Value, Box<dyn Error>> {
    let server = Ringback::start(program, data, None)?;
    let tenants = server.populate(Population::SMALL)?;
    let clock = Clock::start(server.process.id());
    let until = Instant::now() + Duration::from_secs_f64(arguments.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let times = runtime.block_on(async {
        let tasks: Vec<_> = (0..arguments.connections)
            .map(|connection| {
                let (address, tenants) = (server.http, tenants.clone());
                let step = arguments.connections;
                tokio::spawn(async move {
                    send_singles(address, &tenants, connection, step, until).await
                })
            })
            .collect();
        let mut times = figures::times().map_err(io::Error::other)?;
        for task in tasks {
            let own = task.await.map_err(io::Error::other)??;
            times.add(own).map_err(io::Error::other)?;
        }
        Ok::<_, io::Error>(times)
    })?;
    let mut measured = clock.stop(times.len());
    measured["connections"] = arguments.connections.into();
    measured["p50_us"] = (times.value_at_quantile(0.5) as f64 / 1e3).into();
    measured["p99_us"] = (times.value_at_quantile(0.99) as f64 / 1e3).into();
    Ok(measured)
}

/// One connection that sends one call after the other; returns how long each took, in nanoseconds.
async fn send_singles(
    address: SocketAddr,
    tenants: &Tenants,
    first: u64,
    step: u64,
    until: Instant,
) -> io::Result<Histogram<u64>> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = figures::times().map_err(io::Error::other)?;
    let (mut body, mut request, mut answer) = (String::new(), Vec::new(), Vec::new());
    let mut contact = first;
    while Instant::now() < until {
        body.clear();
        tenants.write_call(contact, &mut body);
        contact += step;
        request.clear();
        write!(
            request,
            "POST /api/v1/calls HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            tenants.token(0),
            body.len()
        )?;
        let begin = Instant::now();
        stream.write_all(&request).await?;
        answer.clear();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if is_whole(&answer) {
                break;
            }
        }
        if !answer.starts_with(b"HTTP/1.1 201") {
            return Err(io::Error::other(String::from_utf8_lossy(&answer)));
        }
        times.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

/// `ringback import calls`.
fn import(
    arguments: &Arguments,
    program: &Path,
    data: &Path,
    folder: &Path,
) -> Result<Value, Box<dyn Error>> {
    let server = Ringback::start(program, data, None)?;
    let tenants = server.populate(Population::SMALL)?;
    let path = folder.join("calls.csv");
    let mut out = BufWriter::new(File::create(&path)?);
    writeln!(out, "agent_id,to,from,status,sid")?;
    for contact in 0..arguments.contacts {
        let line = Population::SMALL.line(contact);
        writeln!(
            out,
            "{},+{},+{},completed,call-{contact}",
            tenants.agents(line).0,
            population::contact(contact),
            Population::SMALL.number(line)
        )?;
    }
    out.flush()?;
    drop(out);
    let before = cpu::resident(server.process.id());
    let clock = Clock::start(server.process.id());
    let status = Command::new(program)
        .args(["import", "calls", "--json", "--started-now"])
        .arg(&path)
        .env("RINGBACK_URL", format!("http://{}", server.http))
        .env("RINGBACK_TOKEN", tenants.token(0))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("import failed: {status}").into());
    }
    let mut measured = clock.stop(arguments.contacts);
    measured["resident_bytes_before"] = before.into();
    measured["resident_bytes"] = cpu::resident(server.process.id()).into();
    Ok(measured)
}

/// Starts a server on the recorded data, and asks it at once.
fn start(arguments: &Arguments, program: &Path, data: &Path) -> Result<Value, Box<dyn Error>> {
    let begin = Instant::now();
    let server = Ringback::start(program, data, None)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server.sip)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut invite = Template::invite(socket.local_addr()?.port());
    let mut buffer = [0; 2_048];
    let mut first_reply = None;
    let mut whole = None;
    let mut wrong = 0;
    let mut asked = 0_u64;
    while (first_reply.is_none() || whole.is_none()) && begin.elapsed() < Duration::from_secs(300) {
        // Spread over all contacts, so that some are among those that are loaded last.
        let contact = population::mix(asked) % arguments.contacts;
        asked += 1;
        invite.set(&Call::returning(&Population::SMALL, asked, contact));
        socket.send(invite.bytes())?;
        if let Ok(length) = socket.recv(&mut buffer) {
            let target = population::target(Population::SMALL.line(contact));
            let reply = Reply::read(&buffer[..length]);
            let right = reply.is_some_and(|reply| {
                reply.status == 302 && reply.contact == Some(target.as_bytes())
            });
            if !right {
                wrong += 1;
            } else if first_reply.is_none() {
                first_reply = Some(begin.elapsed());
            }
        }
        if whole.is_none() && asked % 20 == 1 && server.is_index_whole() {
            whole = Some(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    Ok(json!({
        "ready_s": server.ready_after.as_secs_f64(),
        "first_right_reply_s": seconds(first_reply),
        "whole_index_s": seconds(whole),
        "asked_meanwhile": asked,
        "wrong_meanwhile": wrong,
        "resident_bytes": cpu::resident(server.process.id()),
    }))
}

/// The table.
fn report(raw: &Value) -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, value: &Value, scale: f64, decimals: usize, unit: &str| {
        if let Some(value) = value.as_f64() {
            rows.push(vec![
                what.to_owned(),
                format!("{:.decimals$} {unit}", value / scale),
            ]);
        }
    };
    let disk = &raw["disk"];
    row(
        "disk: append and sync, p50",
        &disk["sync_p50_us"],
        1.0,
        0,
        "µs",
    );
    row(
        "disk: append and sync, p99",
        &disk["sync_p99_us"],
        1.0,
        0,
        "µs",
    );
    for (part, title) in [
        ("batch", "POST /calls/batch"),
        ("single", "POST /calls"),
        ("import", "import calls"),
    ] {
        let part = &raw[part];
        row(
            &format!("{title}: calls"),
            &part["calls_per_second"],
            1.0,
            0,
            "/s",
        );
        let cpu = &part["server_cpu_us_per_call"];
        row(&format!("{title}: server CPU"), cpu, 1.0, 2, "µs/call");
        let cpu = &part["client_cpu_us_per_call"];
        row(&format!("{title}: client CPU"), cpu, 1.0, 2, "µs/call");
        row(&format!("{title}: p50"), &part["p50_us"], 1e3, 2, "ms");
        row(&format!("{title}: p99"), &part["p99_us"], 1e3, 2, "ms");
        let bytes = &part["disk_bytes_per_call"];
        row(&format!("{title}: disk"), bytes, 1.0, 1, "bytes/call");
        row(
            &format!("{title}: memory after"),
            &part["resident_bytes"],
            1e6,
            0,
            "MB",
        );
    }
    let start = &raw["start"];
    row("start: ready", &start["ready_s"], 1.0, 3, "s");
    row(
        "start: first right reply",
        &start["first_right_reply_s"],
        1.0,
        3,
        "s",
    );
    row("start: whole index", &start["whole_index_s"], 1.0, 3, "s");
    row(
        "start: asked until then",
        &start["asked_meanwhile"],
        1.0,
        0,
        "calls",
    );
    row(
        "start: wrong answers until then",
        &start["wrong_meanwhile"],
        1.0,
        0,
        "calls",
    );
    format!(
        "{}\n{} contacts.\n",
        table(&["what", "figure"], &rows),
        raw["contacts"]
    )
}
