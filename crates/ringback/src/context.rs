//! `ringback context`: servers with their tokens, kept in a file under names.
//!
//! The file is `ringback/contexts.toml` in `XDG_CONFIG_HOME` or `~/.config`, readable by its owner
//! alone.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::output::{Column, escaped_json, notice, print, table};
use crate::show::Show;

/// `ringback context`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep a server under a name; replaces one that has the name
    Add {
        /// The name: letters, digits, `-`, `_` and `.`
        name: String,
        /// The server's address, such as `https://HOST:PORT`
        #[arg(long, value_name = "URL")]
        url: String,
        /// The token; `-` reads it from standard input, which keeps it out of the list of processes
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
        /// PEM file with the certificates to trust for https instead of the system's
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Use this server from now on, where nothing else is said
    Use {
        /// The name
        name: String,
    },
    /// List the names, without tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a name and its token
    Remove {
        /// The name
        name: String,
    },
}

/// One server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) url: String,
    /// The token to show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Contexts {
    /// The one that counts where nothing else is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// All of them, by name.
    contexts: BTreeMap<String, Context>,
}

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// Neither variable says where the file is: set one.
    #[error("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for contexts")]
    NoHome,
    /// Choose another name.
    #[error("`{0}` is not a name: use 1 to 64 letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// There is no such context: see `ringback context list`.
    #[error("there is no context `{0}`; see `ringback context list`")]
    Unknown(String),
    /// The file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {message}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl ContextError {
    /// Whether other arguments would have helped.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Name(_))
    }

    /// Whether what was named is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Runs the command.
pub(crate) fn run(args: &ContextArgs) -> Result<(), Failure> {
    let path = file()?;
    let mut contexts = Contexts::read(&path)?;
    match &args.verb {
        Verb::Add {
            name,
            url,
            token,
            ca,
        } => {
            check_name(name)?;
            let token = match token.as_deref() {
                Some("-") => Some(io::read_to_string(io::stdin())?.trim().to_owned()),
                other => other.map(str::to_owned),
            };
            // Commands run in any folder.
            let ca = ca.as_deref().map(std::path::absolute).transpose()?;
            let context = Context {
                url: url.clone(),
                token,
                ca,
            };
            contexts.contexts.insert(name.clone(), context);
            contexts.write(&path)?;
        }
        Verb::Use { name } => {
            contexts.find(name)?;
            contexts.current = Some(name.clone());
            contexts.write(&path)?;
        }
        Verb::List { json } => {
            let list = contexts.list();
            if *json {
                let list = serde_json::to_string(&list).map_err(io::Error::other)?;
                print(&format!("{}\n", escaped_json(&list)))?;
            } else {
                print(&table(&list, COLUMNS))?;
            }
        }
        Verb::Remove { name } => {
            contexts.find(name)?;
            contexts.contexts.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
            contexts.write(&path)?;
        }
    }
    Ok(())
}

/// The context of this name.
pub(crate) fn named(name: &str) -> Result<Context, ContextError> {
    Contexts::read(&file()?)?.find(name)
}

/// The context that `ringback context use` has chosen, if there is one.
pub(crate) fn current() -> Result<Option<Context>, ContextError> {
    // Without a home there is no file, and nobody has asked for one.
    let Ok(path) = file() else {
        return Ok(None);
    };
    let contexts = Contexts::read(&path)?;
    match &contexts.current {
        Some(name) => contexts.find(name).map(Some),
        None => Ok(None),
    }
}

/// Where contexts are kept.
fn file() -> Result<PathBuf, ContextError> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|folder| folder.join("ringback/contexts.toml"))
        .ok_or(ContextError::NoHome)
}

/// Refuses names that would be hard to type.
fn check_name(name: &str) -> Result<(), ContextError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        Ok(())
    } else {
        Err(ContextError::Name(name.to_owned()))
    }
}

impl Contexts {
    /// Reads the file; where there is none, there are no contexts.
    fn read(path: &Path) -> Result<Self, ContextError> {
        let unusable = |source| ContextError::File {
            path: path.to_owned(),
            source,
        };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(unusable)?,
        };
        let mode = fs::metadata(path).map_err(unusable)?.permissions().mode();
        if mode & 0o077 != 0 {
            notice(&format!(
                "warning: others can read the tokens in {}",
                path.display()
            ));
        }
        toml::from_str(&text).map_err(|error| ContextError::Form {
            path: path.to_owned(),
            message: error.message().to_owned(),
        })
    }

    /// Writes the file as a whole, for its owner alone.
    fn write(&self, path: &Path) -> Result<(), ContextError> {
        let unusable = |source| ContextError::File {
            path: path.to_owned(),
            source,
        };
        let text = toml::to_string(self).map_err(|error| unusable(io::Error::other(error)))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let written = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        written().map_err(unusable)
    }

    /// The context of this name.
    fn find(&self, name: &str) -> Result<Context, ContextError> {
        self.contexts
            .get(name)
            .cloned()
            .ok_or_else(|| ContextError::Unknown(name.to_owned()))
    }

    /// All of them, without what is secret.
    fn list(&self) -> Vec<Listed> {
        let one = |(name, context): (&String, &Context)| Listed {
            name: name.clone(),
            url: context.url.clone(),
            ca: context.ca.clone(),
            current: self.current.as_ref() == Some(name),
        };
        self.contexts.iter().map(one).collect()
    }
}

/// A context in the list.
#[derive(Serialize)]
struct Listed {
    /// Its name.
    name: String,
    /// The server's address.
    url: String,
    /// The file of certificates to trust.
    ca: Option<PathBuf>,
    /// Whether it is the one chosen.
    current: bool,
}

/// The columns of the list.
const COLUMNS: &[Column<Listed>] = &[
    ("NAME", |context| context.name.show()),
    ("URL", |context| context.url.show()),
    ("CA", |context| {
        let ca = context.ca.as_ref();
        ca.map(|path| path.display().to_string()).show()
    }),
    ("CURRENT", |context| context.current.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
A context counts where neither --url nor RINGBACK_URL is given: the one named with --context, else \
the one chosen with `use`.

Examples:
  ringback context add prod --url https://ringback.example.com:8443 --ca ca.pem --token - < token
  ringback context use prod
  ringback agent list --context prod";
