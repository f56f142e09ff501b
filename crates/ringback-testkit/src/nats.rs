//! Real NATS servers with JetStream, as child processes: one, or several that make a cluster.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// NATS servers; dropping them kills them.
#[derive(Debug)]
pub struct NatsServers {
    /// The servers.
    servers: Vec<NatsServer>,
    /// Their files.
    scratch: TempDir,
}

/// A server.
#[derive(Debug)]
struct NatsServer {
    /// The process; none while it is down.
    child: Option<Child>,
    /// Where clients connect.
    client: u16,
    /// Where its condition is read.
    monitor: u16,
}

impl NatsServers {
    /// Starts so many servers, which sync before they acknowledge.
    ///
    /// # Panics
    /// They do not start, or `./test` has not fetched nats-server.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, "sync_interval: always")
    }

    /// Starts so many servers with these settings of JetStream.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(count: usize, jetstream: &str) -> Self {
        let scratch = TempDir::new().expect("a folder can be made");
        let ports = free_ports(3 * count);
        let routes: Vec<String> = (0..count)
            .map(|index| format!("nats://127.0.0.1:{}", ports[3 * index + 2]))
            .collect();
        let routes = routes.join(", ");
        let mut servers = Vec::new();
        for index in 0..count {
            let [client, monitor, route] = [0, 1, 2].map(|kind| ports[3 * index + kind]);
            let store = scratch.path().join(format!("store-{index}"));
            let store = store.display();
            let cluster = if count > 1 {
                format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{routes}] }}\n"
                )
            } else {
                String::new()
            };
            let config = format!(
                "server_name: nats-{index}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
                 jetstream {{ store_dir: \"{store}\", {jetstream} }}\n{cluster}"
            );
            let path = scratch.path().join(format!("{index}.conf"));
            std::fs::write(path, config).expect("a configuration can be written");
            servers.push(NatsServer {
                child: None,
                client,
                monitor,
            });
        }
        let mut servers = Self { servers, scratch };
        for index in 0..count {
            servers.spawn(index);
        }
        for index in 0..count {
            servers.wait(index);
        }
        servers
    }

    /// The addresses for clients.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let servers = self.servers.iter();
        servers
            .map(|one| format!("nats://127.0.0.1:{}", one.client))
            .collect()
    }

    /// The monitoring addresses.
    #[must_use]
    pub fn monitors(&self) -> Vec<String> {
        let servers = self.servers.iter();
        servers
            .map(|one| format!("http://127.0.0.1:{}", one.monitor))
            .collect()
    }

    /// The index of the server with this name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn named(&self, name: &str) -> usize {
        let index = name
            .strip_prefix("nats-")
            .and_then(|index| index.parse().ok());
        index.unwrap_or_else(|| panic!("no server is called {name}"))
    }

    /// Kills a server, as power loss would; its files stay.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.servers[index].child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Starts a server that was killed.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self, index: usize) {
        self.spawn(index);
        self.wait(index);
    }

    /// Removes what a server that was killed has stored.
    ///
    /// # Panics
    /// It runs, or its files cannot be removed.
    pub fn erase(&self, index: usize) {
        assert!(self.servers[index].child.is_none(), "it runs");
        let store = self.scratch.path().join(format!("store-{index}"));
        std::fs::remove_dir_all(store).expect("a folder can be removed");
    }

    /// Sends a signal to a server by its name, such as `STOP`.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn signal(&self, index: usize, name: &str) {
        let child = self.servers[index].child.as_ref().expect("it runs");
        let id = child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("kill can be run").success());
    }

    /// Starts a process.
    fn spawn(&mut self, index: usize) {
        let log = self.scratch.path().join(format!("{index}.log"));
        let child = Command::new(program())
            .arg("--config")
            .arg(self.scratch.path().join(format!("{index}.conf")))
            .arg("--log")
            .arg(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.servers[index].child = Some(child.expect("nats-server can be started"));
    }

    /// Waits until a server takes connections.
    fn wait(&self, index: usize) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.servers[index].client)).is_err() {
            if begun.elapsed() > START_LIMIT {
                let log = self.scratch.path().join(format!("{index}.log"));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("nats-server is not ready after {START_LIMIT:?}: {log}");
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for NatsServers {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().filter_map(|one| one.child.as_mut()) {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}

/// Ports that are free at present.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"))
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    listeners.iter().map(port).collect()
}

/// The program that `./test` has fetched.
fn program() -> PathBuf {
    let cache = std::env::var_os("RINGBACK_TEST_CACHE").map(PathBuf::from);
    let home = || {
        let home = std::env::home_dir().expect("there is a home");
        home.join(".cache/ringback-tests")
    };
    let program = cache
        .unwrap_or_else(home)
        .join("nats-server-2.15.1/bin/nats-server");
    assert!(
        program.exists(),
        "{} is not there: run ./test, which fetches it",
        program.display()
    );
    program
}

/// How long a server may take until it takes connections.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often to check whether it does: nats-server does not say so to its parent.
const POLL: Duration = Duration::from_millis(10);
