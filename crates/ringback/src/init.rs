//! `ringback init`: from nothing to a configuration, a data directory with a first environment, and its token.
//!
//! Five questions, or as many flags. Nothing that exists is written over: neither the file nor the directory.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ringback_engine::{
    CreateEnvironment, CreateToken, Engine, EngineSettings, OpenError, SubmitError, SystemClock,
    generate_secret, hash_secret,
};
use ringback_routing::Country;
use ringback_store::{OpenStoreError, Store, StoreSettings};

use crate::config::{ConfigError, SettingsArgs};
use crate::output::escaped;
use crate::serve::ServeError;
use crate::serve::admin_token;

/// `ringback init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// The configuration to write
    #[arg(long, value_name = "FILE", default_value = "ringback.toml")]
    config: PathBuf,
    /// Directory of the store and the administrator token
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where SIP listens, over UDP and TCP
    #[arg(long, value_name = "ADDR")]
    sip_udp: Option<SocketAddr>,
    /// Where the HTTP API and the console listen
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// The name of the first environment (tenant)
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The country by which its numbers without plus are read, as US or BR; empty: none
    #[arg(long, value_name = "COUNTRY")]
    country: Option<String>,
}

/// Why nothing was set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// Something is there already, and stays as it is.
    #[error("{0} exists; it is left as it is")]
    Exists(PathBuf),
    /// An answer, or a flag, cannot be used.
    #[error("`{answer}`: {problem}")]
    Answer {
        /// What was said.
        answer: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What was written cannot be used after all.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be made.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The engine does not start on it.
    #[error("the new data directory cannot be used")]
    State(#[from] OpenError),
    /// The administrator token cannot be made.
    #[error(transparent)]
    Token(#[from] ServeError),
    /// The first environment cannot be made.
    #[error("the environment cannot be made")]
    Environment(#[from] SubmitError),
    /// The system refuses something.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

impl InitError {
    /// Whether the person at the terminal can give another answer.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Answer { .. })
    }
}

/// What to set up.
struct Plan {
    data_dir: PathBuf,
    sip: SocketAddr,
    http: SocketAddr,
    environment: String,
    country: Option<Country>,
}

/// Sets everything up, and says what comes next.
pub(crate) fn run(args: &InitArgs) -> Result<(), InitError> {
    refuse_existing(&args.config)?;
    let plan = ask(args)?;
    refuse_existing(&plan.data_dir)?;
    let text = plan.configuration();
    let written = "the configuration cannot be written";
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.config)
        .map_err(|error| InitError::System(written, error))?;
    let made = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| InitError::System(written, error))
        .and_then(|()| {
            SettingsArgs::of_file(&args.config)
                .load()
                .map_err(Into::into)
        })
        .and_then(|config| plan.first_environment(&config.http.token_prefix));
    let token = match made {
        Ok(token) => token,
        Err(error) => {
            // What this run has written is in nobody's way.
            let _gone = fs::remove_file(&args.config);
            return Err(error);
        }
    };
    let said = plan.next_steps(&args.config, &token);
    io::stdout()
        .write_all(said.as_bytes())
        .map_err(|error| InitError::System("standard output cannot be written", error))
}

/// Refuses to go on where something is in the way.
fn refuse_existing(path: &Path) -> Result<(), InitError> {
    // An empty directory, as a package makes it, is as good as none.
    let is_empty_directory =
        || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(path).is_ok() && !is_empty_directory() {
        return Err(InitError::Exists(path.to_owned()));
    }
    Ok(())
}

/// Takes what the flags say, and asks for the rest where somebody sits at the terminal.
fn ask(args: &InitArgs) -> Result<Plan, InitError> {
    let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
    let text = |flag: Option<String>, question: &str, default: &str| match flag {
        Some(given) => Ok(given),
        None if somebody => answer(question, default),
        None => Ok(default.to_owned()),
    };
    let shown = |flag: Option<SocketAddr>| flag.map(|address| address.to_string());
    let data_dir = args.data_dir.as_ref();
    let data_dir = data_dir.map(|path| path.display().to_string());
    let data_dir = text(data_dir, "Where to keep data", "ringback-data")?;
    let sip = text(shown(args.sip_udp), "Where SIP listens", "127.0.0.1:5060")?;
    let http = "Where the HTTP API and the console listen";
    let http = text(shown(args.http), http, "127.0.0.1:8080")?;
    let name = "Name of the first environment (tenant)";
    let name = text(args.environment.clone(), name, "main")?;
    let country = "Country of its numbers, as US or BR (empty: none)";
    let country = text(args.country.clone(), country, "")?;
    Ok(Plan {
        data_dir: PathBuf::from(read(data_dir, "must not be empty", |text| {
            (!text.is_empty()).then(|| text.to_owned())
        })?),
        sip: read(sip, NO_ADDRESS, |text| text.parse().ok())?,
        http: read(http, NO_ADDRESS, |text| text.parse().ok())?,
        environment: read(name, "a name has 1 to 255 characters", |text| {
            (1..=255)
                .contains(&text.chars().count())
                .then(|| text.to_owned())
        })?,
        country: read(
            country,
            "is no country with two letters",
            |text| match text {
                "" => Some(None),
                text => text.to_ascii_uppercase().parse().ok().map(Some),
            },
        )?,
    })
}

/// Asks a question.
fn answer(question: &str, default: &str) -> Result<String, InitError> {
    let unreadable = |error| InitError::System("standard input cannot be read", error);
    eprint!("{question} [{default}]: ");
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(unreadable)?;
    let given = line.trim();
    Ok(if given.is_empty() { default } else { given }.to_owned())
}

/// Reads an answer.
fn read<T>(
    answer: String,
    problem: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, InitError> {
    let value = read(answer.trim());
    value.ok_or(InitError::Answer { answer, problem })
}

impl Plan {
    /// The configuration, with the keys that were asked about; `data-dir` is absolute, as the file may move.
    fn configuration(&self) -> String {
        let data_dir = std::path::absolute(&self.data_dir);
        let data_dir = data_dir.as_deref().unwrap_or(&self.data_dir);
        format!(
            "# Written by `ringback init`. Every key, with its default: fixtures/config/ringback.toml of the sources.\n\
             version = 1\n\
             data-dir = {}\n\n\
             [sip]\n\
             udp = [\"{}\"]\n\n\
             # Who may send calls; without any, only this machine.\n\
             # [[sip.peers]]\n\
             # name = \"pbx\"\n\
             # address = [\"192.0.2.10\"]\n\n\
             [http]\n\
             listen = [\"{}\"]\n",
            toml::Value::from(data_dir.display().to_string()),
            self.sip,
            self.http,
        )
    }

    /// Makes the data directory with both tokens and the environment, and returns the token of the environment.
    fn first_environment(&self, prefix: &str) -> Result<String, InitError> {
        let store = Store::open(&self.data_dir, StoreSettings::default())?;
        let engine = Engine::open_with(store, SystemClock, EngineSettings::default())?;
        admin_token::find_or_make(&self.data_dir, prefix)?;
        let secret = generate_secret(prefix)
            .map_err(|error| io::Error::other(error.to_string()))
            .map_err(|error| InitError::System("there are no random numbers", error))?;
        let create = CreateEnvironment {
            name: self.environment.clone(),
            default_country: self.country,
            number_form: None,
            recency_window_seconds: None,
            target_template: None,
            fallback_targets: Vec::new(),
            is_misread: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| InitError::System("the process cannot be set up", error))?;
        let made = runtime.block_on(async {
            let environment = engine.submit(create).await?;
            let token = CreateToken {
                environment: environment.id,
                name: Some("init".to_owned()),
                hash: hash_secret(&secret),
                masked: false,
                is_misread: false,
            };
            engine.submit(token).await
        });
        engine.shut_down();
        made?;
        Ok(secret)
    }

    /// What was made, and the next three commands.
    fn next_steps(&self, config: &Path, token: &str) -> String {
        format!(
            "Written: {config}, and {data_dir} with the environment {name} and the administrator token (admin.token).\n\
             The token of the environment, which is not shown again, is in the second command.\n\n\
             \x20 ringback serve --config {config}\n\
             \x20 export RINGBACK_URL=http://{http} RINGBACK_TOKEN={token}\n\
             \x20 ringback number add NUMBER\n\n\
             Then agents and callback roles, on the command line or at http://{http}/ in a browser.\n",
            config = escaped(&config.display().to_string()),
            data_dir = escaped(&self.data_dir.display().to_string()),
            name = escaped(&self.environment),
            http = self.http,
        )
    }
}

/// What is said of an address that is none.
const NO_ADDRESS: &str = "is not an IP address with a port, as 127.0.0.1:5060";

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback init
  ringback init --config /etc/ringback/ringback.toml --data-dir /var/lib/ringback --environment Acme --country BR
What the flags do not say is asked at a terminal, and has a default elsewhere. Nothing that exists is written over.";
