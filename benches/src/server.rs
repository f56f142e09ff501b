//! Servers as processes: started on a core, ended when dropped; and Ringback through its own API.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::population;

/// A program that will run on one core.
#[must_use]
pub fn pinned(core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// A running program. Told to end when dropped, and made to if it does not.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        command.spawn().map(Self).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{}: {error}", command.get_program().to_string_lossy()),
            )
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Reads the line in which it says what it listens on.
    ///
    /// # Errors
    /// If it ends before.
    pub fn ready(&mut self) -> io::Result<Value> {
        let Some(output) = self.0.stdout.take() else {
            return Err(io::Error::other("its output is not ours"));
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        // It must not fail for a closed pipe later.
        self.0.stdout = Some(output.into_inner());
        serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("it is not ready, but says: {line:?}")))
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn stop(&mut self) -> io::Result<()> {
        if self.0.try_wait()?.is_some() {
            return Ok(());
        }
        if let Ok(id) = i32::try_from(self.0.id()) {
            // It may have ended by itself just now.
            let _gone = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(15) {
            if self.0.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _failed = self.stop();
    }
}

/// The floor responder on a core: `calls` is `single`, `batched` or `segmented`.
///
/// # Errors
/// If it does not come up.
pub fn start_floor(program: &Path, calls: &str, core: usize) -> io::Result<(Process, SocketAddr)> {
    let mut command = pinned(core, program);
    command.args(["--calls", calls]).stdout(Stdio::piped());
    let mut process = Process::spawn(command)?;
    let ready = process.ready()?;
    let address = address(&ready, "sip_udp")?;
    Ok((process, address))
}

/// A running `ringback serve`.
#[derive(Debug)]
pub struct Ringback {
    /// The process.
    pub process: Process,
    /// Where it takes calls.
    pub sip: SocketAddr,
    /// Where it takes requests.
    pub http: SocketAddr,
    /// What it says when it is ready.
    pub ready_after: Duration,
}

/// The administrator's token of every server that is started here.
const ADMINISTRATOR: &str = "talq_administrator_of_a_benchmark_000000000000";

impl Ringback {
    /// Starts it on free ports of the loopback interface; on one core, if one is given.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(program: &Path, data: &Path, core: Option<usize>) -> io::Result<Self> {
        Self::start_configured(program, data, core, None)
    }

    /// The same with a configuration file.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_configured(
        program: &Path,
        data: &Path,
        core: Option<usize>,
        configuration: Option<&Path>,
    ) -> io::Result<Self> {
        let mut command = match core {
            Some(core) => pinned(core, program),
            None => Command::new(program),
        };
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data)
            .args(["--sip-udp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .env("RINGBACK_ADMIN_TOKEN", ADMINISTRATOR)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(file) = configuration {
            command.arg("--config").arg(file);
        }
        let begin = Instant::now();
        let mut process = Process::spawn(command)?;
        let ready = process.ready()?;
        Ok(Self {
            process,
            sip: address(&ready, "sip_udp")?,
            http: address(&ready, "http")?,
            ready_after: begin.elapsed(),
        })
    }

    /// Enters the environment, agents, numbers and roles of [`population`].
    ///
    /// # Errors
    /// If the server refuses.
    pub fn populate(&self) -> io::Result<Tenant> {
        let environment = self.post(
            "environments",
            ADMINISTRATOR,
            &json!({"name": "bench", "default_country": "BR"}),
        )?;
        let environment = text(&environment, "id")?;
        let token = self.post(
            &format!("environments/{environment}/tokens"),
            ADMINISTRATOR,
            &json!({}),
        )?;
        let token = text(&token, "token")?;
        let mut agents = Vec::new();
        for line in 0..population::LINES {
            let number = self.post(
                "phone-numbers",
                &token,
                &json!({"number": format!("+{}", population::number(line))}),
            )?;
            let number = text(&number, "id")?;
            let mut made = Vec::new();
            for direction in ["outbound", "inbound"] {
                let mut body = json!({
                    "name": format!("{direction}-{line:03}"),
                    "label": format!("{direction} {line}"),
                    "direction": direction,
                    "phone_number_ids": [number],
                });
                if direction == "inbound" {
                    body["targets"] = json!([
                        {"uri": population::target(line), "priority": 0, "weight": 0}
                    ]);
                }
                let agent = text(&self.post("agents", &token, &body)?, "id")?;
                self.post(&format!("agents/{agent}/publish"), &token, &json!({}))?;
                made.push(agent);
            }
            if let [outbound, inbound] = made.as_slice() {
                self.post(
                    &format!("agents/{inbound}/callback"),
                    &token,
                    &json!({"source_agent_ids": [outbound]}),
                )?;
                agents.push(outbound.clone());
            }
        }
        Ok(Tenant { token, agents })
    }

    /// Whether it says that its index is whole.
    #[must_use]
    pub fn is_index_whole(&self) -> bool {
        ureq::get(format!("http://{}/readyz", self.http))
            .call()
            .ok()
            .and_then(|mut answer| answer.body_mut().read_json::<Value>().ok())
            .is_some_and(|answer| answer["index"] == "whole")
    }

    /// Sends a request that must succeed; gives `data`.
    fn post(&self, path: &str, token: &str, body: &Value) -> io::Result<Value> {
        let mut response = ureq::post(format!("http://{}/api/v1/{path}", self.http))
            .header("authorization", format!("Bearer {token}"))
            .send_json(body)
            .map_err(|error| io::Error::other(format!("{path}: {error}")))?;
        let mut answer: Value = response
            .body_mut()
            .read_json()
            .map_err(|error| io::Error::other(format!("{path}: {error}")))?;
        Ok(answer["data"].take())
    }

    /// Records the call of each contact in the range, as one batch; gives how many were accepted.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn record(&self, tenant: &Tenant, contacts: std::ops::Range<u64>) -> io::Result<u64> {
        let lines = CallLines {
            tenant: tenant.clone(),
            contacts,
            pending: Vec::with_capacity(1 << 16),
            sent: 0,
        };
        let mut response = ureq::post(format!("http://{}/api/v1/calls/batch", self.http))
            .header("authorization", format!("Bearer {}", tenant.token))
            .header("content-type", "application/x-ndjson")
            .send(ureq::SendBody::from_owned_reader(lines))
            .map_err(|error| io::Error::other(format!("calls/batch: {error}")))?;
        let answer: Value = response
            .body_mut()
            .read_json()
            .map_err(|error| io::Error::other(format!("calls/batch: {error}")))?;
        let accepted = answer["data"]["accepted"].as_u64().unwrap_or_default();
        if answer["data"]["rejected"].as_u64() != Some(0) {
            return Err(io::Error::other(format!("calls/batch: {answer}")));
        }
        Ok(accepted)
    }

    /// The same for the first so many contacts, over several connections at once.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn record_all(&self, tenant: &Tenant, contacts: u64, connections: u64) -> io::Result<u64> {
        let share = contacts.div_ceil(connections.max(1));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..connections)
                .map(|worker| {
                    let range =
                        (worker * share).min(contacts)..((worker + 1) * share).min(contacts);
                    scope.spawn(move || self.record(tenant, range))
                })
                .collect();
            workers.into_iter().try_fold(0, |sum, worker| {
                let accepted = worker
                    .join()
                    .map_err(|_| io::Error::other("a connection's thread panicked"))??;
                Ok(sum + accepted)
            })
        })
    }

    /// Records calls at a steady rate, a hundredth of a second's calls at a time over one connection,
    /// until told to stop; gives how many. The contacts are new ones, from this one on.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn trickle(
        &self,
        tenant: &Tenant,
        first: u64,
        per_second: u64,
        stop: &AtomicBool,
    ) -> io::Result<u64> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_nodelay(true)?;
        let (mut body, mut answer, mut sent) = (String::new(), Vec::new(), 0);
        let mut chunk = [0; 4_096];
        let begin = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = begin.elapsed().as_millis() as u64 * per_second / 1_000;
            if due < sent + per_second.div_ceil(100) {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            body.clear();
            for contact in sent..due {
                tenant.write_call(first + contact, &mut body);
            }
            sent = due;
            let head = format!(
                "POST /api/v1/calls/batch HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
                tenant.token,
                body.len()
            );
            stream.write_all((head + &body).as_bytes())?;
            answer.clear();
            while !is_whole(&answer) {
                let length = stream.read(&mut chunk)?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                answer.extend_from_slice(&chunk[..length]);
            }
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other(String::from_utf8_lossy(&answer)));
            }
        }
        Ok(sent)
    }
}

/// Whether an answer with `Content-Length` is there in full.
#[must_use]
pub fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

/// The environment that the benchmarks live in.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Opens it.
    pub token: String,
    /// The outbound agents by line.
    pub agents: Vec<String>,
}

impl Tenant {
    /// The call that contact `contact` got, as a line of JSON.
    pub fn write_call(&self, contact: u64, to: &mut String) {
        let line = population::line(contact);
        let agent = self.agents.get(line as usize).map_or("", String::as_str);
        // Writing to a string cannot fail.
        let _written = writeln!(
            to,
            r#"{{"agent_id":"{agent}","to":"+{}","from":"+{}","status":"completed","sid":"call-{contact}"}}"#,
            population::contact(contact),
            population::number(line)
        );
    }
}

/// The calls of a range of contacts as NDJSON, made as they are read.
struct CallLines {
    /// Whose calls.
    tenant: Tenant,
    /// Which contacts are still to come.
    contacts: std::ops::Range<u64>,
    /// Text that is made and not yet read.
    pending: Vec<u8>,
    /// How much of it was read.
    sent: usize,
}

impl Read for CallLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.pending.len() {
            let mut text = String::from_utf8(std::mem::take(&mut self.pending)).unwrap_or_default();
            text.clear();
            for contact in self.contacts.by_ref().take(400) {
                self.tenant.write_call(contact, &mut text);
            }
            self.pending = text.into_bytes();
            self.sent = 0;
        }
        let rest = self.pending.get(self.sent..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.sent += length;
        Ok(length)
    }
}

/// Where cargo puts the programs that belong together: beside the one that is running.
///
/// # Errors
/// If the running program cannot be found.
pub fn beside(program: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(program))
}

/// Size of all files in a folder, in bytes.
///
/// # Errors
/// If it cannot be read.
pub fn stored_bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() {
            stored_bytes(&entry.path())?
        } else {
            data.len()
        };
    }
    Ok(sum)
}

/// An address of the line in which a server says that it is ready.
fn address(ready: &Value, key: &str) -> io::Result<SocketAddr> {
    // Several addresses come as a list.
    let value = ready[key].as_str().or_else(|| ready[key][0].as_str());
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {key} in {ready}")))
}

/// A text of an answer.
fn text(answer: &Value, key: &str) -> io::Result<String> {
    answer[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no {key} in {answer}")))
}
