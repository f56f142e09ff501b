//! Servers as processes: started on a core, ended when dropped; and Ringback by its own API.

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

use crate::population::{self, Population};

/// A program that will run on one core.
#[must_use]
pub fn pinned(core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// A running program. It is told to end when dropped, and killed if it does not.
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

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Reads the line in which it reports its addresses.
    ///
    /// # Errors
    /// It ends before.
    pub fn ready(&mut self) -> io::Result<Value> {
        let Some(output) = self.0.stdout.take() else {
            return Err(io::Error::other("its output is not ours"));
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        // The program must not fail later because of a closed pipe.
        self.0.stdout = Some(output.into_inner());
        serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("it is not ready, but says: {line:?}")))
    }

    /// Kills it at once, as a crash would.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    /// Tells it to end, and waits.
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
        // A destructor cannot report an error.
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
    /// Its SIP address.
    pub sip: SocketAddr,
    /// Its HTTP address.
    pub http: SocketAddr,
    /// The time from the start to its ready line.
    pub ready_after: Duration,
}

/// How many environments are created at once.
const POPULATED_AT_ONCE: u64 = 8;

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

    /// Starts it as [`Self::start`], with a configuration file.
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

    /// Creates the environments, agents, numbers and roles of a population, several tenants at once.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn populate(&self, population: Population) -> io::Result<Tenants> {
        let workers = population.environments.min(POPULATED_AT_ONCE);
        let mut tenants: Vec<(u64, Tenant)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers)
                .map(|worker| {
                    scope.spawn(move || {
                        (worker..population.environments)
                            .step_by(workers as usize)
                            .map(|index| Ok((index, self.tenant(&population, index)?)))
                            .collect::<io::Result<Vec<_>>>()
                    })
                })
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                let made = worker
                    .join()
                    .map_err(|_| io::Error::other("a tenant's thread panicked"))??;
                all.extend(made);
            }
            Ok::<_, io::Error>(all)
        })?;
        tenants.sort_by_key(|(index, _)| *index);
        Ok(Tenants {
            population,
            tenants: tenants.into_iter().map(|(_, tenant)| tenant).collect(),
        })
    }

    /// Creates one environment with everything in it.
    fn tenant(&self, population: &Population, index: u64) -> io::Result<Tenant> {
        let environment = self.post(
            "environments",
            ADMINISTRATOR,
            &json!({"name": format!("bench-{index}"), "default_country": "BR"}),
        )?;
        let environment = text(&environment, "id")?;
        let token = self.post(
            &format!("environments/{environment}/tokens"),
            ADMINISTRATOR,
            &json!({}),
        )?;
        let token = text(&token, "token")?;
        let numbers = (0..population.numbers)
            .map(|number| {
                let digits = population::number(index * population.numbers + number);
                let number = json!({"number": format!("+{digits}")});
                text(&self.post("phone-numbers", &token, &number)?, "id")
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (mut outbound_agents, mut inbound_agents) = (Vec::new(), Vec::new());
        let first = index * population.lines;
        for line in first..first + population.lines {
            let number = population.number_index(line) % population.numbers;
            let mut made = Vec::new();
            for direction in ["outbound", "inbound"] {
                let mut body = json!({
                    "name": format!("{direction}-{line:03}"),
                    "label": format!("{direction} {line}"),
                    "direction": direction,
                    "phone_number_ids": [numbers.get(number as usize)],
                });
                if direction == "inbound" {
                    let targets = population.targets(line);
                    let ranked = targets.iter().zip(0..).map(
                        |(uri, priority)| json!({"uri": uri, "priority": priority, "weight": 0}),
                    );
                    body["targets"] = ranked.collect();
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
                outbound_agents.push(outbound.clone());
                inbound_agents.push(inbound.clone());
            }
        }
        Ok(Tenant {
            token,
            outbound: outbound_agents,
            inbound: inbound_agents,
        })
    }

    /// Creates an environment with one number, whose outbound agent has called these contacts; their calls come back to
    /// these targets.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn returning(
        &self,
        number: &str,
        targets: &[String],
        contacts: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let settings = json!({"name": "returning", "default_country": "BR"});
        let environment = text(&self.post("environments", ADMINISTRATOR, &settings)?, "id")?;
        let path = format!("environments/{environment}/tokens");
        let token = text(&self.post(&path, ADMINISTRATOR, &json!({}))?, "token")?;
        let number = text(
            &self.post("phone-numbers", &token, &json!({"number": number}))?,
            "id",
        )?;
        let ranked = targets.iter().zip(0..);
        let ranked = ranked.map(|(uri, priority)| json!({"uri": uri, "priority": priority}));
        let ranked: Vec<Value> = ranked.collect();
        let mut agents = Vec::new();
        for (direction, targets) in [("outbound", Vec::new()), ("inbound", ranked)] {
            let agent = json!({
                "name": direction, "label": direction, "direction": direction,
                "phone_number_ids": [number], "targets": targets,
            });
            let agent = text(&self.post("agents", &token, &agent)?, "id")?;
            self.post(&format!("agents/{agent}/publish"), &token, &json!({}))?;
            agents.push(agent);
        }
        let [outbound, inbound] = agents.as_slice() else {
            return Err(io::Error::other("two agents were made"));
        };
        let role = json!({"source_agent_ids": [outbound]});
        self.post(&format!("agents/{inbound}/callback"), &token, &role)?;
        let mut lines = String::new();
        for (index, contact) in contacts.enumerate() {
            let call = json!({
                "agent_id": outbound, "to": contact, "sid": format!("returning-{index}"),
                "status": "completed",
            });
            let _infallible = writeln!(lines, "{call}");
        }
        self.batch(
            &token,
            ureq::SendBody::from_owned_reader(io::Cursor::new(lines)),
        )?;
        Ok(())
    }

    /// Whether it reports that its index is loaded.
    #[must_use]
    pub fn is_index_whole(&self) -> bool {
        ureq::get(format!("http://{}/readyz", self.http))
            .call()
            .ok()
            .and_then(|mut answer| answer.body_mut().read_json::<Value>().ok())
            .is_some_and(|answer| answer["index"] == "whole")
    }

    /// Sends a request that must succeed; returns `data`.
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

    /// Records the calls of one tenant to contacts in this range, as one batch; returns how many were accepted.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn record(
        &self,
        tenants: &Tenants,
        environment: u64,
        contacts: std::ops::Range<u64>,
    ) -> io::Result<u64> {
        let lines = CallLines {
            tenants: tenants.clone(),
            environment,
            contacts,
            pending: Vec::with_capacity(1 << 16),
            sent: 0,
        };
        let token = tenants.token(environment);
        self.batch(token, ureq::SendBody::from_owned_reader(lines))
    }

    /// Records calls, one a line; returns how many were accepted, which must be all.
    fn batch(&self, token: &str, lines: ureq::SendBody<'_>) -> io::Result<u64> {
        let mut response = ureq::post(format!("http://{}/api/v1/calls/batch", self.http))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/x-ndjson")
            .send(lines)
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

    /// Records the calls of all tenants to this many contacts, over several connections at once.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn record_all(
        &self,
        tenants: &Tenants,
        contacts: u64,
        connections: u64,
    ) -> io::Result<u64> {
        let environments = tenants.population.environments;
        // The contacts of a single tenant are divided among the connections; of several tenants, each is one
        // piece.
        let pieces: Vec<(u64, std::ops::Range<u64>)> = if environments == 1 {
            let share = contacts.div_ceil(connections.max(1));
            (0..connections)
                .map(|piece| {
                    let end = ((piece + 1) * share).min(contacts);
                    (0, (piece * share).min(contacts)..end)
                })
                .collect()
        } else {
            (0..environments)
                .map(|environment| (environment, 0..contacts))
                .collect()
        };
        let pieces = &pieces;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..connections)
                .map(|worker| {
                    scope.spawn(move || {
                        let own = pieces
                            .iter()
                            .skip(worker as usize)
                            .step_by(connections.max(1) as usize);
                        own.map(|(environment, contacts)| {
                            self.record(tenants, *environment, contacts.clone())
                        })
                        .sum::<io::Result<u64>>()
                    })
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

    /// Records calls at a steady rate until told to stop, a hundredth of a second's calls at a time, over one
    /// connection and tenant by tenant. The contacts are new ones from this one on; returns the next one.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn trickle(
        &self,
        tenants: &Tenants,
        first: u64,
        per_second: u64,
        stop: &AtomicBool,
    ) -> io::Result<u64> {
        let mut connection = Connection::open(self.http)?;
        let environments = tenants.population.environments;
        let mut next = vec![first; environments as usize];
        let (mut body, mut sent) = (String::new(), 0);
        let begin = Instant::now();
        for environment in (0..environments).cycle() {
            let due = loop {
                if stop.load(Ordering::Relaxed) {
                    return Ok(next.into_iter().max().unwrap_or(first));
                }
                let due = begin.elapsed().as_millis() as u64 * per_second / 1_000;
                if due >= sent + per_second.div_ceil(100) {
                    break due;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            body.clear();
            let Some(next) = next.get_mut(environment as usize) else {
                break;
            };
            while sent < due {
                if tenants.environment(*next) == environment {
                    tenants.write_call(*next, &mut body);
                    sent += 1;
                }
                *next += 1;
            }
            let head = format!(
                "POST /api/v1/calls/batch HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
                tenants.token(environment),
                body.len()
            );
            connection.request(&(head + &body))?;
        }
        Ok(first)
    }

    /// Changes the configuration this many times per second until told to stop: in turn an agent gets another
    /// label, and a role is set again unchanged. Returns the number of changes.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn reconfigure(
        &self,
        tenants: &Tenants,
        per_second: u64,
        stop: &AtomicBool,
    ) -> io::Result<u64> {
        let mut connection = Connection::open(self.http)?;
        let begin = Instant::now();
        let mut made = 0;
        while !stop.load(Ordering::Relaxed) {
            if begin.elapsed().as_millis() as u64 * per_second / 1_000 <= made {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let line = population::mix(made) % tenants.population.all_lines();
            let environment = tenants.population.environment(line);
            let (outbound, inbound) = tenants.agents(line);
            let (method, path, body) = if made.is_multiple_of(2) {
                let label = format!("{{\"label\":\"inbound {line}, {made}\"}}");
                ("PATCH", format!("agents/{inbound}"), label)
            } else {
                let role = format!("{{\"source_agent_ids\":[\"{outbound}\"]}}");
                ("POST", format!("agents/{inbound}/callback"), role)
            };
            connection.request(&format!(
                "{method} /api/v1/{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                tenants.token(environment),
                body.len()
            ))?;
            made += 1;
        }
        Ok(made)
    }
}

/// One connection to the API, for one request at a time.
struct Connection {
    /// The connection.
    stream: TcpStream,
    /// The part of the answer received so far.
    answer: Vec<u8>,
}

impl Connection {
    /// Opens it.
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: Vec::new(),
        })
    }

    /// Sends a request that must get a 200.
    fn request(&mut self, request: &str) -> io::Result<()> {
        self.stream.write_all(request.as_bytes())?;
        self.answer.clear();
        let mut chunk = [0; 4_096];
        while !is_whole(&self.answer) {
            let length = self.stream.read(&mut chunk)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.answer.extend_from_slice(&chunk[..length]);
        }
        if self.answer.starts_with(b"HTTP/1.1 200") {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&self.answer)))
        }
    }
}

/// Whether an answer with `Content-Length` is complete.
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

/// The environments of a population on a server.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// The population that was created.
    pub population: Population,
    /// The environments, by index.
    tenants: Vec<Tenant>,
}

/// One environment.
#[derive(Clone, Debug)]
struct Tenant {
    /// Its token.
    token: String,
    /// The outbound agents of its lines.
    outbound: Vec<String>,
    /// The inbound agents of its lines.
    inbound: Vec<String>,
}

impl Tenants {
    /// The environment that called this contact.
    #[must_use]
    pub const fn environment(&self, contact: u64) -> u64 {
        self.population.environment(self.population.line(contact))
    }

    /// The token of an environment.
    #[must_use]
    pub fn token(&self, environment: u64) -> &str {
        self.tenants
            .get(environment as usize)
            .map_or("", |tenant| tenant.token.as_str())
    }

    /// The outbound and the inbound agent of a line.
    #[must_use]
    pub fn agents(&self, line: u64) -> (&str, &str) {
        let tenant = self.tenants.get(self.population.environment(line) as usize);
        let at = (line % self.population.lines) as usize;
        let agent = |agents: fn(&Tenant) -> &Vec<String>| {
            tenant
                .and_then(|tenant| agents(tenant).get(at))
                .map_or("", String::as_str)
        };
        (
            agent(|tenant| &tenant.outbound),
            agent(|tenant| &tenant.inbound),
        )
    }

    /// The outbound call to contact `contact`, as a line of JSON.
    pub fn write_call(&self, contact: u64, to: &mut String) {
        let line = self.population.line(contact);
        let (agent, _) = self.agents(line);
        // Writing to a string cannot fail.
        let _written = writeln!(
            to,
            r#"{{"agent_id":"{agent}","to":"+{}","from":"+{}","status":"completed","sid":"call-{contact}"}}"#,
            population::contact(contact),
            self.population.number(line)
        );
    }
}

/// The calls of one tenant to a range of contacts as NDJSON, made while they are read.
struct CallLines {
    /// All tenants.
    tenants: Tenants,
    /// The environment of the calls.
    environment: u64,
    /// The contacts still to come.
    contacts: std::ops::Range<u64>,
    /// Text that is not read yet.
    pending: Vec<u8>,
    /// How much of it was read.
    sent: usize,
}

impl Read for CallLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.pending.len() {
            let mut text = String::from_utf8(std::mem::take(&mut self.pending)).unwrap_or_default();
            text.clear();
            let tenants = &self.tenants;
            let own = self
                .contacts
                .by_ref()
                .filter(|contact| tenants.environment(*contact) == self.environment);
            for contact in own.take(400) {
                tenants.write_call(contact, &mut text);
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

/// The path of a program that cargo built beside the running one.
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
    // Several addresses are a list.
    let value = ready[key].as_str().or_else(|| ready[key][0].as_str());
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {key} in {ready}")))
}

/// A text field of an answer.
fn text(answer: &Value, key: &str) -> io::Result<String> {
    answer[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no {key} in {answer}")))
}
