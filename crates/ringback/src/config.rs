//! The configuration: one file, what the environment and the flags say over it, and one door.
//!
//! [`Spec`] is the file as it is written. Each crate owns its section; this module owns the top
//! level, `[log]`, `[otel]`, `[decisions]` and `[cluster]`. [`Config`] is what the program runs on. Every fault is reported,
//! with the file and the line, not the first alone.

mod audit;
mod cluster;
mod decisions;
mod environment;
mod fault;
mod file;
mod limits;
mod listeners;
mod log;
mod otel;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ringback_admin::{HttpConfig, HttpSpec};
use ringback_routing::Timestamp;
use ringback_sip_server::{SipConfig, SipSpec, TlsSpec, certificate_expires_at, load_certificates};
use serde::{Deserialize, Serialize};

use self::audit::AuditSpec;
pub(crate) use self::cluster::ClusterConfig;
use self::cluster::ClusterSpec;
use self::decisions::DecisionsSpec;
use self::environment::Environment;
#[cfg(test)]
pub(crate) use self::environment::KNOWN as KNOWN_VARIABLES;
pub(crate) use self::environment::check_admin_token;
pub(crate) use self::fault::Fault;
use self::fault::Faults;
use self::file::ConfigFile;
use self::log::LogSpec;
pub(crate) use self::log::{LogConfig, LogFormat};
use self::otel::OtelSpec;
use crate::exit::Failure;
use crate::output::{escaped, notice, print};

/// Where settings come from: flags and environment variables over the file over defaults.
#[derive(Clone, Debug, Default, Args)]
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
    /// Where the HTTP API listens over TLS; the file names certificate and key [default: nowhere]
    #[arg(
        long,
        env = "RINGBACK_HTTPS",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    https: Vec<SocketAddr>,
    /// Where HEPv3 mirrors of outbound calls are taken, over UDP and TCP [default: nowhere]
    #[arg(long, env = "RINGBACK_HEP", value_name = "ADDR", value_delimiter = ',')]
    hep: Vec<SocketAddr>,
    /// What is logged: error, warn, info, debug, trace, or a filter as `info,ringback_sip_server=debug`
    /// [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log_level: Option<String>,
}

impl SettingsArgs {
    /// What a file says, without flags and variables.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self {
            config: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// Reads the file, puts the arguments over it, and goes through the door.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        let text = self.config.as_deref().map(read_file).transpose()?;
        let (file, mut spec) = match (&self.config, &text) {
            (Some(path), Some(text)) => {
                let (file, spec) = ConfigFile::parse(path, text);
                (Some(file), spec)
            }
            _ => (None, Spec::default()),
        };
        if let Some(file) = &file {
            spec.resolve_paths(file);
        }
        let overridden = self.override_in(&mut spec);
        let faults = Faults::new(file.as_ref(), &overridden);
        Config::check(spec, faults, Environment::of_process())
    }

    /// Puts what was given in place of what the file says, and lists the keys of which that is so.
    fn override_in(&self, spec: &mut Spec) -> Vec<&'static str> {
        let mut overridden = Vec::new();
        let lists = [
            ("sip.udp", &self.sip_udp, &mut spec.sip.udp),
            ("sip.tcp", &self.sip_tcp, &mut spec.sip.tcp),
            ("sip.tls.listen", &self.sip_tls, &mut spec.sip.tls.listen),
            ("http.listen", &self.http, &mut spec.http.listen),
            ("http.tls.listen", &self.https, &mut spec.http.tls.listen),
            ("sip.hep.listen", &self.hep, &mut spec.sip.hep.listen),
        ];
        for (key, given, list) in lists {
            if !given.is_empty() {
                *list = given.iter().map(ToString::to_string).collect();
                overridden.push(key);
            }
        }
        if let Some(data_dir) = &self.data_dir {
            spec.data_dir.clone_from(data_dir);
            overridden.push("data-dir");
        }
        if let Some(level) = &self.log_level {
            spec.log.level.clone_from(level);
            overridden.push("log.level");
        }
        overridden
    }
}

/// Reads the text of a configuration file.
fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
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
    let config = settings.load()?;
    for warning in &config.warnings {
        notice(&format!("warning: {warning}"));
    }
    let what = match &settings.config {
        Some(path) => path.display().to_string(),
        None => "defaults".to_owned(),
    };
    print(&format!("{}: ok\n", escaped(&what)))?;
    Ok(())
}

/// The configuration file, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Spec {
    /// The version of the format: 1.
    version: u32,
    /// Directory of the store and the administrator token, as seen from the file's folder; default
    /// `./ringback-data` in the working directory.
    data_dir: PathBuf,
    /// `[sip]`.
    sip: SipSpec,
    /// `[http]`.
    http: HttpSpec,
    /// `[decisions]`.
    decisions: DecisionsSpec,
    /// `[audit]`.
    audit: AuditSpec,
    /// `[cluster]`.
    cluster: ClusterSpec,
    /// `[log]`.
    log: LogSpec,
    /// `[otel]`.
    otel: OtelSpec,
}

impl Spec {
    /// Has the paths that the file names begin in its folder.
    fn resolve_paths(&mut self, file: &ConfigFile<'_>) {
        let (sip, http) = (&mut self.sip.tls, &mut self.http.tls);
        for path in [
            &mut sip.certificate,
            &mut sip.private_key,
            &mut sip.client_ca,
            &mut http.certificate,
            &mut http.private_key,
            &mut http.client_ca,
        ]
        .into_iter()
        .flatten()
        {
            file.resolve(path);
        }
        self.cluster.resolve_paths(file);
        if file.has("data-dir") && !self.data_dir.as_os_str().is_empty() {
            file.resolve(&mut self.data_dir);
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            version: VERSION,
            data_dir: PathBuf::from("./ringback-data"),
            sip: SipSpec::default(),
            http: HttpSpec::default(),
            decisions: DecisionsSpec::default(),
            audit: AuditSpec::default(),
            cluster: ClusterSpec::default(),
            log: LogSpec::default(),
            otel: OtelSpec::default(),
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
    /// What it shows over TLS.
    pub(crate) http_certificates: Option<Arc<rustls::ServerConfig>>,
    /// When the first of these expires; `None` where there is none, or it cannot be read.
    pub(crate) http_certificate_expires_at: Option<Timestamp>,
    /// How many decisions are kept.
    pub(crate) kept_decisions: usize,
    /// For how many days audit entries are kept.
    pub(crate) audit_days: u32,
    /// This node's part in a cluster; none: the embedded store alone.
    pub(crate) cluster: Option<ClusterConfig>,
    /// The log.
    pub(crate) log: LogConfig,
    /// Where spans and log records go.
    pub(crate) otel_endpoint: Option<String>,
    /// The administrator token, where the environment gives one.
    pub(crate) admin_token: Option<String>,
    /// What is no fault, but hardly what was meant.
    pub(crate) warnings: Vec<String>,
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
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// What it says cannot be used: every fault, at least one.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults(Vec<Fault>),
}

impl Config {
    /// Checks everything; all faults are reported together.
    fn check(
        mut spec: Spec,
        mut faults: Faults<'_>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        let mut warnings = environment.warnings();
        if spec.version != VERSION {
            faults.add("version", version_problem(spec.version));
        }
        if spec.data_dir.as_os_str().is_empty() {
            faults.add("data-dir", "must not be empty");
        }
        let audit_days = spec.audit.check(&mut faults);
        let admin_token = environment.admin_token(&mut faults);
        listeners::check(&spec, &mut faults);
        limits::check(&mut spec, limits::open_files(), &mut faults, &mut warnings);
        let sip_listeners = [
            &spec.sip.udp,
            &spec.sip.tcp,
            &spec.sip.tls.listen,
            &spec.sip.hep.listen,
        ]
        .map(Clone::clone);
        let log = spec.log.check(&mut faults);
        let otel_endpoint = spec.otel.check(&mut faults);
        let cluster = spec.cluster.check(&mut faults);
        let sip = SipConfig::try_from(spec.sip).map_err(|errors| {
            for error in errors.0 {
                faults.add(&error.key, crate::exit::chain(&error.problem));
            }
        });
        let tls = TlsSpec {
            listen: spec.http.tls.listen.clone(),
            certificate: spec.http.tls.certificate.clone(),
            private_key: spec.http.tls.private_key.clone(),
            client_ca: spec.http.tls.client_ca.clone(),
        };
        let http_certificate = tls.certificate.as_deref();
        let http_certificate_expires_at = http_certificate.and_then(certificate_expires_at);
        let http_certificates = load_certificates("http.tls", &tls).unwrap_or_else(|errors| {
            for error in errors {
                faults.add(&error.key, crate::exit::chain(&error.problem));
            }
            None
        });
        let http = HttpConfig::try_from(spec.http).map_err(|errors| {
            for error in errors.0 {
                faults.add(&error.key, error.problem.to_string());
            }
        });
        match (faults.into_list(), sip, http) {
            (none, Ok(sip), Ok(http)) if none.is_empty() => Ok(Self {
                data_dir: spec.data_dir,
                sip,
                sip_listeners,
                http,
                http_certificates,
                http_certificate_expires_at,
                kept_decisions: spec.decisions.kept(),
                audit_days,
                cluster,
                log,
                otel_endpoint,
                admin_token,
                warnings,
            }),
            (faults, ..) => Err(ConfigError::Faults(faults)),
        }
    }
}

/// What is wrong with a version that is not ours.
fn version_problem(version: impl std::fmt::Display) -> String {
    format!("{version} is not supported, this program reads version {VERSION}")
}

/// The version of the format.
const VERSION: u32 = 1;

/// What follows the options in the long help.
const CHECK_EXAMPLES: &str = "\
Examples:
  ringback check-config /etc/ringback.toml
  RINGBACK_HTTP=0.0.0.0:8080 ringback check-config --config ringback.toml
Exit code 0 if `serve` would start with it, 78 if not. Every fault stands on a line of its own, as \
`FILE:LINE: KEY: what is wrong`. Paths in the file begin in its folder. Variables RINGBACK_... that \
the program does not know are named in a warning.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder of the repository's sample configurations.
    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/config");

    /// Neither flags nor variables.
    fn no_arguments() -> SettingsArgs {
        SettingsArgs::default()
    }

    /// What a file gives, with neither flags nor variables.
    fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = read_file(path).unwrap();
        let (file, mut spec) = ConfigFile::parse(path, &text);
        spec.resolve_paths(&file);
        Config::check(spec, Faults::new(Some(&file), &[]), Environment::default())
    }

    /// The faults of a configuration, without the path of the file.
    fn faults(text: &str, args: &SettingsArgs) -> Vec<String> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("ringback.toml");
        std::fs::write(&path, text).unwrap();
        let args = SettingsArgs {
            config: Some(path.clone()),
            ..args.clone()
        };
        match args.load() {
            Ok(_) => Vec::new(),
            Err(ConfigError::Faults(faults)) => faults
                .iter()
                .map(|fault| fault.to_string().replace(path.to_str().unwrap(), "FILE"))
                .collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = "\
colour = 'red'
[sip]
udp = [
  '127.0.0.1:5060',
  '127.0.0.1:5060',
]
tcp = ['127.0.0.1:5060', '0.0.0.0:8080']
max-connections = 99999999999
[sip.hep]
listen = ['0.0.0.0:5060']
[[sip.peers]]
address = ['10.0.0.1/8']
[[sip.peers]]
address = ['10.0.0.2']
country = 'XX'
[http]
listen = ['127.0.0.1:8080', 'nowhere']
[log]
level = '!'
format = 'xml'
phone-numbers = 'some'
";
        let found = faults(text, &no_arguments());
        for wanted in [
            "FILE:1: colour: unknown field `colour`",
            "FILE:5: sip.udp[1]: `127.0.0.1:5060` is taken by sip.udp[0]",
            "FILE:8: sip.max-connections: ",
            "FILE:10: sip.hep.listen[0]: `0.0.0.0:5060` is taken by sip.udp[0]",
            "FILE:12: sip.peers[0].address[0]: `10.0.0.1/8` has bits set beyond its prefix",
            "FILE:15: sip.peers[1].country: ",
            "FILE:17: http.listen[0]: `127.0.0.1:8080` is taken by sip.tcp[1]",
            "FILE:17: http.listen[1]: `nowhere`",
            "FILE:19: log.level: ",
            "FILE:20: log.format: ",
            "FILE:21: log.phone-numbers: ",
        ] {
            let count = found
                .iter()
                .filter(|fault| fault.starts_with(wanted))
                .count();
            assert_eq!(count, 1, "{wanted}: {found:#?}");
        }
        assert_eq!(found.len(), 11, "{found:#?}");
        let mut lines: Vec<u32> = Vec::new();
        for fault in &found {
            lines.push(fault.split(':').nth(1).unwrap().parse().unwrap());
        }
        assert!(lines.is_sorted(), "{found:#?}");
    }

    #[test]
    fn a_configuration_in_which_nothing_listens_is_refused() {
        let text = "[sip]\nudp = []\n[http]\nlisten = []\n";
        assert_eq!(
            faults(text, &no_arguments()),
            ["FILE:2: sip.udp: nothing listens: give at least one address"]
        );
        let http = SettingsArgs {
            http: vec!["127.0.0.1:0".parse().unwrap()],
            ..no_arguments()
        };
        assert_eq!(faults(text, &http), Vec::<String>::new());
    }

    #[test]
    fn a_fault_of_a_flag_is_not_blamed_on_the_file() {
        let args = SettingsArgs {
            sip_udp: vec!["127.0.0.1:5060".parse().unwrap(); 2],
            ..no_arguments()
        };
        let found = faults("[sip]\nudp = ['127.0.0.1:5060']\n", &args);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("sip.udp[1]: "), "{found:?}");
        assert!(found[0].contains("command line"), "{found:?}");
    }

    #[test]
    fn ports_that_the_system_chooses_and_tcp_beside_udp_do_not_collide() {
        for text in [
            "[sip]\nudp = ['127.0.0.1:0', '127.0.0.1:0']\n[http]\nlisten = ['127.0.0.1:0']\n",
            "[sip]\nudp = ['127.0.0.1:5060']\ntcp = ['127.0.0.1:5060']\n",
            "[sip]\nudp = ['127.0.0.1:5060', '[::]:5060', '127.0.0.2:5060']\n",
        ] {
            assert_eq!(
                faults(text, &no_arguments()),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn paths_in_the_file_begin_in_its_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("ringback.toml");
        std::fs::write(&path, "data-dir = 'state'\n").unwrap();
        let config = load(&path).unwrap();
        assert_eq!(config.data_dir, scratch.path().join("state"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(load(&path).unwrap().data_dir, Path::new("./ringback-data"));
        std::fs::write(
            &path,
            "[sip.tls]\nlisten = ['127.0.0.1:0']\ncertificate = 'a.pem'\nprivate-key = 'a.key'\n",
        )
        .unwrap();
        let error = load(&path).unwrap_err().to_string();
        let certificate = scratch.path().join("a.pem");
        assert!(error.contains(certificate.to_str().unwrap()), "{error}");
        assert!(error.contains(":3: sip.tls.certificate"), "{error}");
        assert!(error.contains(":4: sip.tls.private-key"), "{error}");
    }

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
        Config::check(spec, Faults::new(None, &[]), Environment::default()).unwrap();

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
            let result = load(&path);
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
            data_dir: Some("flag".into()),
            sip_udp: vec!["[::1]:5060".parse().unwrap()],
            ..no_arguments()
        };
        assert_eq!(args.override_in(&mut spec), ["sip.udp", "data-dir"]);
        assert_eq!(spec.data_dir, Path::new("flag"));
        assert_eq!(spec.sip.udp, ["[::1]:5060"]);
        assert_eq!(spec.http.listen, ["127.0.0.1:2"]);
    }
}
