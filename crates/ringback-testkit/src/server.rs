//! The server as a child process, and client commands run to their end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::Api;
use crate::log::Log;

/// How to start a server.
#[derive(Debug)]
pub struct ServerBuilder {
    /// The program.
    binary: PathBuf,
    /// The data directory; `None`: one of its own, removed afterwards.
    data_dir: Option<PathBuf>,
    /// The configuration file's text.
    config: Option<String>,
    /// Further arguments.
    args: Vec<String>,
    /// Further environment variables.
    variables: Vec<(String, String)>,
}

impl ServerBuilder {
    /// A server of this program, on free loopback ports.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            data_dir: None,
            config: None,
            args: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Keeps its data here.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Reads this configuration file.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// It ends before it is ready, or takes too long.
    #[must_use]
    pub fn start(self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(output) => panic!("the server ended with {:?}: {}", output.code, output.stderr),
        }
    }

    /// Starts it and waits until it is ready, or has ended.
    ///
    /// # Errors
    /// It has ended: its exit code and output.
    ///
    /// # Panics
    /// It takes too long.
    pub fn try_start(self) -> Result<Server, Output> {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let data_dir = self.data_dir.unwrap_or_else(|| scratch.path().join("data"));
        let mut command = Command::new(&self.binary);
        clean(&mut command)
            .arg("serve")
            .arg("--until-input-ends")
            .args([
                "--http",
                "127.0.0.1:0",
                "--sip-udp",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(&data_dir)
            .args(&self.args)
            .envs(self.variables);
        if let Some(config) = &self.config {
            let path = scratch.path().join("ringback.toml");
            std::fs::write(&path, config).expect("a configuration can be written");
            command.arg("--config").arg(path);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let input = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Log::collect(stderr);
        let (line, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let mut lines = BufReader::new(stdout);
            let _ended = lines.read_line(&mut text);
            let _gone = line.send(text);
            // Read all further output, so that the server never waits for room in the pipe.
            let _ended = std::io::copy(&mut lines, &mut std::io::sink());
        });
        let line = ready.recv_timeout(READY_LIMIT);
        match line.map(|line| serde_json::from_str(&line)) {
            Ok(Ok(ready)) => Ok(Server {
                child,
                input,
                log,
                ready,
                data_dir,
                scratch,
            }),
            Ok(Err(_)) => {
                drop(input);
                let status = wait(&mut child, STOP_LIMIT);
                Err(Output {
                    code: status.code(),
                    stdout: String::new(),
                    stderr: log.whole(),
                })
            }
            Err(_) => {
                let _ended = child.kill();
                panic!("not ready after {READY_LIMIT:?}: {}", log.whole())
            }
        }
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    /// The process.
    child: Child,
    /// Closed when this process ends; then the server ends too.
    input: Option<ChildStdin>,
    /// Collects its log.
    log: Arc<Log>,
    /// The ready line.
    pub ready: Value,
    /// Its data directory.
    data_dir: PathBuf,
    /// The directory for the test's files, removed afterwards.
    scratch: TempDir,
}

impl Server {
    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A directory for the test's files, removed with the server.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address that listens for this kind, as named in the ready line.
    ///
    /// # Panics
    /// There is no such listener.
    #[must_use]
    pub fn address(&self, kind: &str) -> SocketAddr {
        self.ready
            .get(kind)
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no {kind} in {}", self.ready))
    }

    /// The API's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address("http"))
    }

    /// The administrator token.
    ///
    /// # Panics
    /// The file with the token cannot be read.
    #[must_use]
    pub fn admin_token(&self) -> String {
        let path = self.data_dir.join("admin.token");
        let token = std::fs::read_to_string(path).expect("the token file can be read");
        token.trim().to_owned()
    }

    /// The API, for the administrator.
    #[must_use]
    pub fn admin(&self) -> Api {
        self.api(&self.admin_token())
    }

    /// The API, with this token.
    #[must_use]
    pub fn api(&self, token: &str) -> Api {
        Api::new(&self.url(), token)
    }

    /// Creates an environment with these settings, and a token for it.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn environment(&self, settings: Value) -> Api {
        let admin = self.admin();
        let environment = admin.post("/api/v1/environments", settings).data(201);
        let id = environment["id"]
            .as_str()
            .expect("an environment has an id");
        let path = format!("/api/v1/environments/{id}/tokens");
        let token = admin.post(&path, serde_json::json!({})).data(201);
        self.api(token["token"].as_str().expect("a new token is shown"))
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill can be run");
        assert!(status.success(), "SIG{name} cannot be sent");
    }

    /// Waits until the server has logged this text, and returns the line with it.
    ///
    /// # Panics
    /// It does not in time.
    #[must_use]
    pub fn logged(&self, text: &str) -> String {
        self.log.line_with(text)
    }

    /// Kills the server at once, as power loss would; its data directory stays.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server can be waited for");
    }

    /// Waits for its end, and returns exit code and log.
    ///
    /// # Panics
    /// It takes too long.
    #[must_use]
    pub fn wait(&mut self) -> Output {
        let status = wait(&mut self.child, STOP_LIMIT);
        Output {
            code: status.code(),
            stdout: String::new(),
            stderr: self.log.whole(),
        }
    }

    /// Tells it to stop, and waits for its end.
    ///
    /// # Panics
    /// It takes too long.
    #[must_use]
    pub fn stop(&mut self) -> Output {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The output of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, of a command that succeeded.
    ///
    /// # Panics
    /// It failed.
    pub fn success(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        &self.stdout
    }

    /// Standard output as JSON, of a command that succeeded.
    ///
    /// # Panics
    /// It failed, or printed something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.success())
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Runs a command to its end, with this standard input.
///
/// # Panics
/// It cannot be started, or takes too long.
#[must_use]
pub fn run(binary: &Path, variables: &[(&str, &str)], args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(binary);
    clean(&mut command)
        .args(args)
        .envs(variables.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    thread::spawn(move || {
        let _unread = stdin.write_all(&input);
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, RUN_LIMIT);
    Output {
        code: status.code(),
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    }
}

/// Removes everything that the environment could change.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        let is_ours = name_text.starts_with("RINGBACK_") || name_text.starts_with("WATCHDOG_");
        if is_ours || name == "RUST_LOG" || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    // A developer's own contexts must not matter.
    command.env("XDG_CONFIG_HOME", "/nonexistent")
}

/// Reads a stream to its end.
fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _cut_off = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a process to end.
fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            return status;
        }
        if begun.elapsed() > limit {
            let _ended = child.kill();
            panic!("process {} has not ended after {limit:?}", child.id());
        }
        thread::sleep(POLL);
    }
}

/// How long a server may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long a command may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// How often to check whether a process has ended: the standard library has no wait with a time limit.
const POLL: Duration = Duration::from_millis(5);
