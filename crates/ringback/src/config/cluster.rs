//! `[cluster]`: with which other nodes this one shares its log, and by which servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_cluster::Access;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::Faults;
use super::file::ConfigFile;

/// The `[cluster]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ClusterSpec {
    /// NATS servers, `nats://` or `tls://`; default none: the embedded store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<String>>,
    /// The name of the cluster; default `ringback`.
    name: String,
    /// The name of this node; default: made at the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Where other nodes and people find the HTTP API of this node; default: its first address.
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    /// A file with a secret that all nodes share.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    /// A file of NATS credentials; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<PathBuf>,
    /// A NATS user; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// A file with the password of the NATS user.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    /// Certificates that those of NATS servers are checked against; default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    /// The certificate of this node for NATS servers; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<PathBuf>,
    /// How many servers keep the log; default 3.
    replicas: u8,
    /// The monitoring port of each server, `http://`; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<Vec<String>>,
    /// How many seconds a write waits for the log; default 10.
    write_wait: u64,
    /// How long the log keeps what it has, as `90s`, `30m`, `24h` or `7d`; default 24 hours.
    retain: String,
    /// How large the log may grow, in bytes; default 4 GiB.
    retain_bytes: u64,
    /// How many bytes of learned calls are kept on disk while the log cannot be reached; default 256 MiB.
    outbox_bytes: u64,
    /// Whether to write although a server may lose what it has acknowledged; default false.
    insecure_durability: bool,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            servers: None,
            name: "ringback".to_owned(),
            node: None,
            advertise: None,
            secret_file: None,
            credentials: None,
            user: None,
            password_file: None,
            ca: None,
            certificate: None,
            private_key: None,
            replicas: 3,
            monitor: None,
            write_wait: 10,
            retain: "24h".to_owned(),
            retain_bytes: 4 << 30,
            outbox_bytes: 256 << 20,
            insecure_durability: false,
        }
    }
}

/// A node's part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterConfig {
    /// The NATS servers.
    pub(crate) servers: Vec<String>,
    /// The name of the cluster.
    pub(crate) name: String,
    /// The name of this node, if it is given.
    pub(crate) node: Option<String>,
    /// Where the HTTP API of this node is, if it is given.
    pub(crate) advertise: Option<String>,
    /// The hash of the shared secret.
    pub(crate) secret: [u8; 32],
    /// How this node proves to the servers who it is.
    pub(crate) access: Access,
    /// Certificates that those of servers are checked against.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate of this node and its private key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// How many servers keep the log.
    pub(crate) replicas: usize,
    /// The monitoring ports.
    pub(crate) monitor: Vec<String>,
    /// How long a write waits for the log.
    pub(crate) write_wait: Duration,
    /// How long the log keeps what it has.
    pub(crate) retain: Duration,
    /// How large the log may grow, in bytes.
    pub(crate) retain_bytes: u64,
    /// How many bytes of learned calls are kept on disk while the log cannot be reached.
    pub(crate) outbox_bytes: u64,
    /// Whether to write although a server may lose what it has acknowledged.
    pub(crate) insecure_durability: bool,
}

impl ClusterSpec {
    /// Has the paths that the file names begin in its folder.
    pub(super) fn resolve_paths(&mut self, file: &ConfigFile<'_>) {
        for path in [
            &mut self.secret_file,
            &mut self.credentials,
            &mut self.password_file,
            &mut self.ca,
            &mut self.certificate,
            &mut self.private_key,
        ]
        .into_iter()
        .flatten()
        {
            file.resolve(path);
        }
    }

    /// Checks every key; none without servers.
    pub(super) fn check(self, faults: &mut Faults<'_>) -> Option<ClusterConfig> {
        let servers = self.servers.unwrap_or_default();
        if servers.is_empty() {
            return None;
        }
        for (index, server) in servers.iter().enumerate() {
            if !has_scheme(server, &["nats://", "tls://"]) {
                let message = format!("`{server}` does not begin with nats:// or tls://");
                faults.add(&format!("cluster.servers[{index}]"), message);
            }
        }
        let monitor = self.monitor.unwrap_or_default();
        for (index, address) in monitor.iter().enumerate() {
            if !has_scheme(address, &["http://"]) {
                let message = format!("`{address}` does not begin with http://");
                faults.add(&format!("cluster.monitor[{index}]"), message);
            }
        }
        if monitor.is_empty() && !self.insecure_durability {
            faults.add(
                "cluster.monitor",
                "name the monitoring port of each server, where it says whether it syncs what it acknowledges; \
                 without, set insecure-durability",
            );
        }
        for (key, name) in [
            ("cluster.name", Some(&self.name)),
            ("cluster.node", self.node.as_ref()),
        ] {
            if let Some(name) = name.filter(|name| !is_name(name)) {
                let message = format!("`{name}` is not 1 to 32 letters, digits, `-` and `_`");
                faults.add(key, message);
            }
        }
        if let Some(advertise) = &self.advertise
            && !has_scheme(advertise, &["http://", "https://"])
        {
            let message = format!("`{advertise}` does not begin with http:// or https://");
            faults.add("cluster.advertise", message);
        }
        if !matches!(self.replicas, 1 | 3 | 5) {
            faults.add("cluster.replicas", "must be 1, 3 or 5");
        }
        if !(1..=60).contains(&self.write_wait) {
            faults.add("cluster.write-wait", "must be 1 to 60 seconds");
        }
        let retain = read_duration(&self.retain).filter(|retain| *retain >= LEAST_RETAIN);
        let retain = retain.unwrap_or_else(|| {
            let message = format!(
                "`{}` is not a time of at least one second, such as `90s`, `30m`, `24h` or `7d`",
                self.retain
            );
            faults.add("cluster.retain", message);
            LEAST_RETAIN
        });
        if self.retain_bytes < LEAST_BYTES {
            faults.add("cluster.retain-bytes", "must be at least 67108864 (64 MiB)");
        }
        if self.outbox_bytes < LEAST_OUTBOX {
            faults.add("cluster.outbox-bytes", "must be at least 1048576 (1 MiB)");
        }
        let secret = read_secret(self.secret_file.as_deref()).unwrap_or_else(|problem| {
            faults.add("cluster.secret-file", problem);
            [0; 32]
        });
        let certificate = match (self.certificate, self.private_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                faults.add("cluster.certificate", "needs cluster.private-key");
                None
            }
            (None, Some(_)) => {
                faults.add("cluster.private-key", "needs cluster.certificate");
                None
            }
        };
        let access = match (self.credentials, self.user, self.password_file) {
            (None, None, None) => Access::Open,
            (Some(path), None, None) => match fs::read_to_string(&path) {
                Ok(text) => Access::Credentials(text),
                Err(error) => {
                    faults.add("cluster.credentials", unreadable(&path, &error));
                    Access::Open
                }
            },
            (None, Some(user), Some(path)) => match fs::read_to_string(&path) {
                Ok(text) => Access::Password(user, text.trim_end().to_owned()),
                Err(error) => {
                    faults.add("cluster.password-file", unreadable(&path, &error));
                    Access::Open
                }
            },
            (Some(_), ..) => {
                faults.add(
                    "cluster.credentials",
                    "stands in place of user and password-file",
                );
                Access::Open
            }
            (None, ..) => {
                faults.add("cluster.user", "and password-file need one another");
                Access::Open
            }
        };
        Some(ClusterConfig {
            servers,
            name: self.name,
            node: self.node,
            advertise: self.advertise,
            secret,
            access,
            ca: self.ca,
            certificate,
            replicas: usize::from(self.replicas),
            monitor,
            write_wait: Duration::from_secs(self.write_wait),
            retain,
            retain_bytes: self.retain_bytes,
            outbox_bytes: self.outbox_bytes,
            insecure_durability: self.insecure_durability,
        })
    }
}

/// Reads the shared secret, and hashes it.
fn read_secret(path: Option<&Path>) -> Result<[u8; 32], String> {
    let path = path.ok_or("all nodes need the same secret: name a file with at least 32 bytes")?;
    let read = || Ok((fs::metadata(path)?.permissions().mode(), fs::read(path)?));
    let (mode, secret) = read().map_err(|error| unreadable(path, &error))?;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{} can be read by others: chmod 600",
            path.display()
        ));
    }
    if secret.len() < LEAST_SECRET {
        return Err(format!(
            "{} has fewer than {LEAST_SECRET} bytes",
            path.display()
        ));
    }
    Ok(Sha256::digest(&secret).into())
}

/// Reads a time such as `24h`.
fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

/// What is said of a file that cannot be read.
fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

/// Whether an address begins with one of these, and goes on.
fn has_scheme(address: &str, schemes: &[&str]) -> bool {
    let mut rest = schemes
        .iter()
        .filter_map(|scheme| address.strip_prefix(scheme));
    rest.any(|rest| !rest.is_empty())
}

/// Whether this may name a cluster or a node: it becomes a part of subjects and of a stream's name.
fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(is_good)
}

/// The shortest secret, in bytes.
const LEAST_SECRET: usize = 32;

/// The smallest log, in bytes.
const LEAST_BYTES: u64 = 64 << 20;

/// The smallest outbox, in bytes.
const LEAST_OUTBOX: u64 = 1 << 20;

/// The shortest time that the log keeps what it has.
const LEAST_RETAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("24h", Some(86_400)),
            ("7d", Some(604_800)),
            ("24", None),
            ("h", None),
            ("", None),
            ("-1h", None),
            ("1 h", None),
            ("1é", None),
        ] {
            assert_eq!(
                read_duration(text),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
