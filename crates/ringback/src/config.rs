//! The configuration: one file, what the environment and the flags say over it, and one door.
//!
//! [`Spec`] is the file as it is written. Each crate owns its section; this module owns the top
//! level, `[log]` and `[cluster]`. [`Config`] is what the program runs on.

mod cluster;
mod log;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ringback_admin::{HttpConfig, HttpConfigError, HttpSpec};
use ringback_sip_server::{SipConfig, SipConfigError, SipSpec};
use serde::{Deserialize, Serialize};

use self::cluster::ClusterSpec;
pub(crate) use self::log::{LogConfig, LogFormat};
use self::log::{LogConfigError, LogSpec};
use crate::exit::Failure;
use crate::output::print;

/// Where settings come from: flags and environment variables over the file over defaults.
#[derive(Clone, Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Configuration file (TOML) [default: none, every key has a default]
    #[arg(long, env = "RINGBACK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the store and the administrator token [default: ./ringback-data]
    #[arg(long, env = "RINGBACK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where SIP listens over UDP, and over TCP on the same port; repeat or separate by commas
    /// [default: 127.0.0.1:5060]
    #[arg(
        long,
        env = "RINGBACK_SIP_UDP",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    sip_udp: Vec<SocketAddr>,
    /// Where SIP listens over TCP besides [default: nowhere]
    #[arg(
        long,
        env = "RINGBACK_SIP_TCP",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    sip_tcp: Vec<SocketAddr>,
    /// Where SIP listens over TLS; the file names certificate and key [default: nowhere]
    #[arg(
        long,
        env = "RINGBACK_SIP_TLS",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    sip_tls: Vec<SocketAddr>,
    /// Where the HTTP API listens [default: 127.0.0.1:8080]
    #[arg(
        long,
        env = "RINGBACK_HTTP",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    http: Vec<SocketAddr>,
    /// Where HEPv3 mirrors of outbound calls are taken, over UDP and TCP [default: nowhere]
    #[arg(long, env = "RINGBACK_HEP", value_name = "ADDR", value_delimiter = ',')]
    hep: Vec<SocketAddr>,
    /// What is logged: error, warn, info, debug, trace, or a filter as `info,ringback_sip_server=debug`
    /// [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log_level: Option<String>,
}

impl SettingsArgs {
    /// Reads the file, puts the arguments over it, and goes through the door.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        let mut spec = match &self.config {
            Some(path) => Spec::read(path)?,
            None => Spec::default(),
        };
        self.override_in(&mut spec);
        Config::try_from(spec)
    }

    /// Puts what was given in place of what the file says.
    fn override_in(&self, spec: &mut Spec) {
        let lists = [
            (&self.sip_udp, &mut spec.sip.udp),
            (&self.sip_tcp, &mut spec.sip.tcp),
            (&self.sip_tls, &mut spec.sip.tls.listen),
            (&self.http, &mut spec.http.listen),
            (&self.hep, &mut spec.sip.hep.listen),
        ];
        for (given, list) in lists {
            if !given.is_empty() {
                *list = given.iter().map(ToString::to_string).collect();
            }
        }
        if let Some(data_dir) = &self.data_dir {
            spec.data_dir.clone_from(data_dir);
        }
        if let Some(level) = &self.log_level {
            spec.log.level.clone_from(level);
        }
    }
}

/// `ringback check-config`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Configuration file (TOML); the same as --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Goes through the door and stops.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let mut settings = args.settings.clone();
    settings.config = args.file.clone().or(settings.config);
    settings.load()?;
    let what = match &settings.config {
        Some(path) => path.display().to_string(),
        None => "defaults".to_owned(),
    };
    print(&format!("{what}: ok\n"))?;
    Ok(())
}

/// The configuration file, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Spec {
    /// The version of the format: 1.
    version: u32,
    /// Directory of the store and the administrator token, from the working directory; default
    /// `./ringback-data`.
    data_dir: PathBuf,
    /// `[sip]`.
    sip: SipSpec,
    /// `[http]`.
    http: HttpSpec,
    /// `[cluster]`.
    cluster: ClusterSpec,
    /// `[log]`.
    log: LogSpec,
}

impl Spec {
    /// Reads a file.
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source,
        })
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            version: VERSION,
            data_dir: PathBuf::from("./ringback-data"),
            sip: SipSpec::default(),
            http: HttpSpec::default(),
            cluster: ClusterSpec::default(),
            log: LogSpec::default(),
        }
    }
}

/// What the program runs on.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Directory of the store and the administrator token.
    pub(crate) data_dir: PathBuf,
    /// The SIP server.
    pub(crate) sip: SipConfig,
    /// Where SIP and HEP listen, as written; to see whether that has changed.
    pub(crate) sip_listeners: [Vec<String>; 4],
    /// The HTTP API.
    pub(crate) http: HttpConfig,
    /// The log.
    pub(crate) log: LogConfig,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// The file cannot be read: correct its name or its permissions.
    #[error("cannot read the configuration {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong kind.
    #[error("{path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: toml::de::Error,
    },
    /// The file is for another version of the format.
    #[error("version: {0} is not supported, this program reads version {VERSION}")]
    Version(u32),
    /// The directory has no name.
    #[error("data-dir: must not be empty")]
    DataDir,
    /// A key of `[sip]`.
    #[error(transparent)]
    Sip(#[from] SipConfigError),
    /// A key of `[http]`.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
    /// A key of `[log]`.
    #[error(transparent)]
    Log(#[from] LogConfigError),
    /// A cluster is configured.
    #[error("cluster.servers: this build has no cluster support yet; leave the key out")]
    Cluster,
}

impl TryFrom<Spec> for Config {
    type Error = ConfigError;

    fn try_from(spec: Spec) -> Result<Self, ConfigError> {
        if spec.version != VERSION {
            return Err(ConfigError::Version(spec.version));
        }
        if spec.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::DataDir);
        }
        if spec.cluster.is_configured() {
            return Err(ConfigError::Cluster);
        }
        let sip_listeners = [
            &spec.sip.udp,
            &spec.sip.tcp,
            &spec.sip.tls.listen,
            &spec.sip.hep.listen,
        ];
        Ok(Self {
            data_dir: spec.data_dir,
            sip_listeners: sip_listeners.map(Clone::clone),
            sip: spec.sip.try_into()?,
            http: spec.http.try_into()?,
            log: spec.log.try_into()?,
        })
    }
}

/// The version of the format.
const VERSION: u32 = 1;

/// Examples.
const CHECK_EXAMPLES: &str = "\
Examples:
  ringback check-config /etc/ringback.toml
  RINGBACK_HTTP=0.0.0.0:8080 ringback check-config --config ringback.toml
Exit code 0 if `serve` would start with it, 78 if not; the message names the key.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder of the repository's sample configurations.
    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/config");

    /// The keys of `left` that are not in `right`, with their path.
    fn missing_keys(left: &toml::Value, right: &toml::Value) -> Vec<String> {
        match (left, right) {
            (toml::Value::Table(left), toml::Value::Table(right)) => left
                .iter()
                .flat_map(|(key, value)| match right.get(key) {
                    None => vec![key.clone()],
                    Some(other) => missing_keys(value, other)
                        .into_iter()
                        .map(|below| format!("{key}.{below}"))
                        .collect(),
                })
                .collect(),
            (toml::Value::Array(left), toml::Value::Array(right)) => left
                .iter()
                .zip(right)
                .flat_map(|(left, right)| missing_keys(left, right))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn sample_shows_every_default() {
        let text = std::fs::read_to_string(format!("{FIXTURES}/ringback.toml")).unwrap();
        let spec: Spec = toml::from_str(&text).unwrap();
        assert_eq!(spec, Spec::default());
        Config::try_from(spec).unwrap();

        // What has no default value stands in comments; with it, every key is there.
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with("[[") || key.contains(" = ") => key,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let shown: Spec = toml::from_str(&uncommented).unwrap();
        assert_eq!(shown.sip.peers.len(), 1);
        let missing = missing_keys(
            &toml::Value::try_from(shown).unwrap(),
            &toml::Value::Table(uncommented.parse().unwrap()),
        );
        assert!(missing.is_empty(), "the sample lacks {missing:?}");
    }

    #[test]
    fn files_load_or_name_their_key() {
        let mut seen = 0;
        for entry in std::fs::read_dir(FIXTURES).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let result = Spec::read(&path).and_then(Config::try_from);
            match text.lines().next().unwrap().strip_prefix("# refused: ") {
                None => assert!(result.is_ok(), "{}: {result:?}", path.display()),
                Some(wanted) => {
                    let message = crate::exit::chain(&result.unwrap_err());
                    assert!(message.contains(wanted), "{}: {message}", path.display());
                }
            }
        }
        assert!(seen > 10, "{seen} files");
    }

    #[test]
    fn arguments_win_over_the_file() {
        let mut spec: Spec = toml::from_str(
            "data-dir = 'file'\n[sip]\nudp = ['127.0.0.1:1']\n[http]\nlisten = ['127.0.0.1:2']\n",
        )
        .unwrap();
        let args = SettingsArgs {
            config: None,
            data_dir: Some("flag".into()),
            sip_udp: vec!["[::1]:5060".parse().unwrap()],
            sip_tcp: Vec::new(),
            sip_tls: Vec::new(),
            http: Vec::new(),
            hep: Vec::new(),
            log_level: None,
        };
        args.override_in(&mut spec);
        assert_eq!(spec.data_dir, Path::new("flag"));
        assert_eq!(spec.sip.udp, ["[::1]:5060"]);
        assert_eq!(spec.http.listen, ["127.0.0.1:2"]);
    }
}
