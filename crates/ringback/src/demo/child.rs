//! The demonstration's server: this program once more, as a child process.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::DemoError;

/// A running server; its data goes with it.
pub(super) struct ServerProcess {
    /// The process.
    child: Child,
    /// The server stops when this is closed, so also when this process is killed.
    input: Option<ChildStdin>,
    /// Told when the server has closed its output.
    ended: oneshot::Receiver<()>,
    /// Holds data, log and scenario; removed in the end.
    directory: TempDir,
    /// Where SIP listens.
    sip: SocketAddr,
    /// Where HTTP listens.
    http: SocketAddr,
    /// The administrator token.
    admin_token: String,
}

impl ServerProcess {
    /// Starts a server and waits until it is ready.
    pub(super) fn start() -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new()
            .prefix("ringback-demo-")
            .tempdir()
            .map_err(DemoError::Setup)?;
        let data_dir = directory.path().join("data");
        let config = directory.path().join("ringback.toml");
        fs::write(&config, CONFIG).map_err(DemoError::Setup)?;
        let log = File::create(directory.path().join(LOG)).map_err(DemoError::Setup)?;
        let mut command = Command::new(std::env::current_exe().map_err(DemoError::Setup)?);
        for (name, _) in std::env::vars_os() {
            // The demonstration shows defaults, whatever is set for another server.
            if name.to_string_lossy().starts_with("RINGBACK_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["serve", "--until-input-ends", "--data-dir"])
            .arg(&data_dir)
            .arg("--config")
            .arg(&config)
            .args(["--sip-udp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C on the terminal is for the demonstration, which then stops the server.
            .process_group(0)
            .spawn()
            .map_err(DemoError::Setup)?;
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(no_pipe)?);
        let mut line = String::new();
        lines.read_line(&mut line).map_err(DemoError::Setup)?;
        let address = |ready: &Value, kind: &str| {
            ready
                .get(kind)
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
        };
        let ready: Option<Value> = serde_json::from_str(&line).ok();
        let (Some(sip), Some(http)) = (
            ready.as_ref().and_then(|ready| address(ready, "sip_udp")),
            ready.as_ref().and_then(|ready| address(ready, "http")),
        ) else {
            let _ended = child.kill();
            let _ended = child.wait();
            return Err(DemoError::ServerEnded(read_log(&directory)));
        };
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("server output".to_owned())
            .spawn(move || {
                let _ended = io::copy(&mut lines, &mut io::sink());
                // Nobody may wait for it any more.
                let _gone = tell.send(());
            })
            .map_err(DemoError::Setup)?;
        let admin_token =
            fs::read_to_string(data_dir.join("admin.token")).map_err(DemoError::Setup)?;
        Ok(Self {
            child,
            input,
            ended,
            directory,
            sip,
            http,
            admin_token: admin_token.trim().to_owned(),
        })
    }

    /// Where SIP listens.
    pub(super) fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// Where HTTP listens.
    pub(super) fn http(&self) -> SocketAddr {
        self.http
    }

    /// The administrator token.
    pub(super) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// What the server has logged.
    pub(super) fn log(&self) -> String {
        read_log(&self.directory)
    }

    /// Writes a file that stays as long as the server.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Waits until the server ends by itself.
    pub(super) async fn ended(&mut self) {
        let _told = (&mut self.ended).await;
    }

    /// Stops the server and waits for its end.
    pub(super) fn stop(mut self) {
        self.end();
    }

    /// Has the server drain, and waits.
    fn end(&mut self) {
        if self.input.take().is_some() {
            let _ended = self.child.wait();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the server has logged.
fn read_log(directory: &TempDir) -> String {
    fs::read_to_string(directory.path().join(LOG)).unwrap_or_default()
}

/// A pipe that was asked for is not there.
fn no_pipe() -> DemoError {
    DemoError::Setup(io::ErrorKind::BrokenPipe.into())
}

/// Everything is as by default, but for callers from one address, who follow no redirect. Phones are not asked whether
/// they are there, so that a call finds out.
const CONFIG: &str = "\
version = 1
[sip.forward]
probe = 0
[[sip.peers]]
name = \"follows redirects\"
address = [\"127.0.0.0/8\"]
[[sip.peers]]
name = \"does not\"
address = [\"127.0.0.2\"]
mode = \"forward\"
";

/// The name of the log file.
const LOG: &str = "server.log";
