//! Kamailio for the same task: calls from shared memory, tuned and as packaged by Debian, and calls from Redis.
//!
//! Tuning means four settings that all matter: the memory manager tlsf for package and shared memory instead of
//! q_malloc; a receive buffer of 4 MiB; as many slots as contacts; and tables that are empty at the start and
//! then loaded by the control process. A worker that is forked after the tables were loaded inherits a fragmented
//! heap and never recovers from it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::population::{self, Population};
use crate::server::{Process, pinned};

/// A set-up of Kamailio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Shared memory, tuned.
    Tuned,
    /// Shared memory, with Debian's allocator, and tables loaded at the start.
    Stock,
    /// Redis, with the tuned allocator.
    Redis,
}

impl Setup {
    /// The name of its files.
    const fn name(self) -> &'static str {
        match self {
            Self::Tuned => "tuned",
            Self::Stock => "stock",
            Self::Redis => "redis",
        }
    }

    /// Whether the programs that it needs are installed.
    #[must_use]
    pub fn is_installed(self) -> bool {
        let found = |program: &str| {
            Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        found("kamailio")
            && found("kamcmd")
            && match self {
                Self::Tuned | Self::Stock => found("sqlite3"),
                Self::Redis => found("redis-server"),
            }
    }
}

/// The Debian packages of all set-ups.
pub const PACKAGES: [&str; 5] = [
    "kamailio",
    "kamailio-redis-modules",
    "kamailio-sqlite-modules",
    "sqlite3",
    "redis-server",
];

/// A running Kamailio, with Redis if it needs that. Ends when dropped.
#[derive(Debug)]
pub struct Kamailio {
    /// The processes; Kamailio's main process last.
    processes: Vec<Process>,
    /// Its address.
    pub address: SocketAddr,
}

impl Kamailio {
    /// Starts it on a core, with this many contacts, and waits until it answers. `sources` is the folder of the
    /// configuration, `run` the folder for files of the run.
    ///
    /// # Errors
    /// A program or file is missing, or Kamailio does not start.
    pub fn start(
        setup: Setup,
        sources: &Path,
        run: &Path,
        core: usize,
        population: &Population,
        contacts: u64,
    ) -> io::Result<Self> {
        let name = setup.name();
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let source = match setup {
            Setup::Tuned | Setup::Stock => "htable.cfg",
            Setup::Redis => "redis.cfg",
        };
        let slots = match setup {
            Setup::Stock => 18,
            Setup::Tuned | Setup::Redis => contacts.max(2).ilog2() + 1,
        };
        for (source, to) in [
            ("common.cfg", format!("{name}-common.cfg")),
            (source, format!("{name}.cfg")),
        ] {
            let text = fs::read_to_string(sources.join(source))?
                .replace("@RUN@", &run.to_string_lossy())
                .replace("@NAME@", name)
                .replace("@PORT@", &port.to_string())
                .replace("@CONTACT_SIZE@", &slots.min(24).to_string());
            fs::write(run.join(to), text)?;
        }
        let mut processes = Vec::new();
        let database = run.join(format!("{name}.sqlite"));
        match setup {
            Setup::Tuned => make_database(&database, run, population, 0)?,
            Setup::Stock => make_database(&database, run, population, contacts)?,
            Setup::Redis => processes.push(start_redis(run, core, population, contacts)?),
        }
        let mut command = pinned(core, "kamailio");
        command.args(["-DD", "-E", "-m", "2048"]);
        if setup == Setup::Stock {
            command.args(["-M", "1024"]);
        } else {
            command.args(["-M", "1024", "-x", "tlsf", "-X", "tlsf", "-b", "4194304"]);
        }
        command
            .arg("-f")
            .arg(run.join(format!("{name}.cfg")))
            .arg("-Y")
            .arg(run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(run.join(format!("{name}.log")))?);
        processes.push(Process::spawn(command)?);
        let kamailio = Self {
            processes,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        kamailio.wait(Duration::from_secs(120))?;
        if setup == Setup::Tuned {
            let full = run.join("full.sqlite");
            make_database(&full, run, population, contacts)?;
            fs::rename(full, &database)?;
            for table in ["did", "route", "contact"] {
                let control = format!("unix:{}/{name}.ctl", run.display());
                check(
                    "kamcmd",
                    Command::new("kamcmd")
                        .args(["-s", &control, "htable.reload", table])
                        .stdout(Stdio::null()),
                )?;
            }
        }
        Ok(kamailio)
    }

    /// The processes whose time is measured.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Waits until it answers OPTIONS.
    fn wait(&self, limit: Duration) -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let port = socket.local_addr()?.port();
        let options = format!(
            "OPTIONS sip:127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKwait;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\n\
             Call-ID: wait\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let begin = Instant::now();
        let mut buffer = [0; 2_048];
        while begin.elapsed() < limit {
            socket.send_to(options.as_bytes(), self.address)?;
            if socket.recv_from(&mut buffer).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other("kamailio does not answer"))
    }
}

/// Makes a database with the tables of this many contacts.
fn make_database(
    path: &Path,
    run: &Path,
    population: &Population,
    contacts: u64,
) -> io::Result<()> {
    let mut lists: Vec<(&str, PathBuf)> = Vec::new();
    for table in ["did", "route", "contact"] {
        let list = run.join(format!("{table}.csv"));
        let mut out = BufWriter::new(File::create(&list)?);
        let mut row = |id: u64, key: &dyn std::fmt::Display, value: &dyn std::fmt::Display| {
            writeln!(out, "{id},{key},0,0,{value},0")
        };
        match table {
            _ if contacts == 0 => {}
            "did" => {
                for number in 0..population.all_numbers() {
                    let environment = number / population.numbers + 1;
                    let digits = population::number(number);
                    row(number, &format_args!("+{digits}"), &environment)?;
                }
            }
            "route" => {
                for line in 0..population.all_lines() {
                    let number = population.number(line);
                    let key = format_args!("agent-{line:03}:+{number}").to_string();
                    row(line, &key, &population::target(line))?;
                }
            }
            _ => {
                for contact in 0..contacts {
                    let line = population.line(contact);
                    let environment = population.environment(line) + 1;
                    let number = population::contact(contact);
                    let key = format_args!("{environment}:+{number}").to_string();
                    row(contact, &key, &format_args!("agent-{line:03}"))?;
                }
            }
        }
        out.flush()?;
        lists.push((table, list));
    }
    let mut script = String::from(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;\n\
         CREATE TABLE version (table_name VARCHAR(32) NOT NULL, table_version INTEGER NOT NULL);\n",
    );
    for (table, list) in &lists {
        script += &format!(
            "CREATE TABLE {table} (id INTEGER PRIMARY KEY, key_name TEXT NOT NULL, \
             key_type INTEGER NOT NULL, value_type INTEGER NOT NULL, key_value TEXT NOT NULL, \
             expires INTEGER NOT NULL);\n\
             INSERT INTO version VALUES ('{table}', 2);\n\
             .mode csv\n.import {} {table}\n",
            list.display()
        );
    }
    if path.exists() {
        fs::remove_file(path)?;
    }
    feed(
        Command::new("sqlite3").arg(path).stdout(Stdio::null()),
        |input| input.write_all(script.as_bytes()),
    )
}

/// Starts Redis with this many contacts.
fn start_redis(
    run: &Path,
    core: usize,
    population: &Population,
    contacts: u64,
) -> io::Result<Process> {
    let socket = run.join("redis.sock");
    let mut command = pinned(core, "redis-server");
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let process = Process::spawn(command)?;
    let begin = Instant::now();
    while !socket.exists() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err(io::Error::other("redis does not come up"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = Command::new("redis-cli");
    client.arg("-s").arg(&socket).arg("--pipe");
    feed(client.stdout(Stdio::null()), |input| {
        let mut out = BufWriter::new(input);
        for number in 0..population.all_numbers() {
            let environment = number / population.numbers + 1;
            let digits = population::number(number);
            write!(out, "SET d:+{digits} {environment}\r\n")?;
        }
        for line in 0..population.all_lines() {
            let number = population.number(line);
            let target = population::target(line);
            write!(out, "SET r:agent-{line:03}:+{number} {target}\r\n")?;
        }
        for contact in 0..contacts {
            let number = population::contact(contact);
            let line = population.line(contact);
            let environment = population.environment(line) + 1;
            write!(out, "SET c:{environment}:+{number} agent-{line:03}\r\n")?;
        }
        out.flush()
    })?;
    Ok(process)
}

/// Runs a program to its end, with the output of `write` as its input.
fn feed(
    command: &mut Command,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        write(&mut input)?;
    }
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?} failed: {status}")))
    }
}

/// Runs a program to its end.
fn check(name: &str, command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{name} failed: {status}")))
    }
}
