//! The blocking HTTP client of the API, for client commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ringback_api::{BatchReport, ErrorDetails, Meta, Problem};
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::context::{self, Context, ContextError};

/// Which server to ask, and as whom.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClientArgs {
    /// The server's address, such as `https://HOST:PORT` [env: RINGBACK_URL] [default:
    /// http://127.0.0.1:8080]
    #[arg(long, global = true)]
    #[arg(value_name = "URL", help_heading = "Server")]
    pub(crate) url: Option<String>,
    /// The token: an environment's, or for `environment`, `status` and `reload` the administrator's
    /// [env: RINGBACK_TOKEN]
    #[arg(long, global = true)]
    #[arg(value_name = "TOKEN", help_heading = "Server")]
    pub(crate) token: Option<String>,
    /// PEM file with the certificates to trust for https instead of the system's
    #[arg(long, global = true, env = "RINGBACK_CA")]
    #[arg(value_name = "FILE", help_heading = "Server")]
    pub(crate) ca: Option<PathBuf>,
    /// The server and token kept under this name, see `ringback context`
    #[arg(long, global = true, conflicts_with = "url")]
    #[arg(value_name = "NAME", help_heading = "Server")]
    pub(crate) context: Option<String>,
}

impl ClientArgs {
    /// The server that is meant: flags before the context that is named, before variables, before
    /// the context in use. A context in use counts only as a whole: its token is for its server.
    fn server(&self) -> Result<Context, ContextError> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok()?;
            (!value.trim().is_empty()).then_some(value)
        };
        let context = match (&self.context, &self.url) {
            (Some(name), _) => Some(context::named(name)?),
            (None, None) if variable(URL).is_none() => context::current()?,
            (None, _) => None,
        };
        let is_named = self.context.is_some();
        let (url, kept_token, ca) = match context {
            Some(context) => (context.url, context.token, context.ca),
            None => {
                let url = self.url.clone().or_else(|| variable(URL));
                (url.unwrap_or_else(|| DEFAULT_URL.to_owned()), None, None)
            }
        };
        let token = if is_named {
            kept_token.or_else(|| variable(TOKEN))
        } else {
            variable(TOKEN).or(kept_token)
        };
        Ok(Context {
            url,
            token: self.token.clone().or(token),
            ca: self.ca.clone().or(ca),
        })
    }
}

/// A client of one server, with one token.
#[derive(Clone)]
pub(crate) struct Client {
    /// Keeps connections open between requests.
    agent: ureq::Agent,
    /// The server's address, without a slash at the end.
    base: String,
    /// The token that is sent.
    token: String,
}

/// Why the API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address of the server is none: correct it.
    #[error("`{0}` is not an http:// or https:// address; see --url and RINGBACK_URL")]
    Url(String),
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The certificates to trust cannot be read.
    #[error("cannot read certificates from {path}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The system trusts no certificates: give --ca.
    #[error("the system has no certificates to trust; name a file with --ca")]
    NoRoots,
    /// There is no token: give one.
    #[error("no token; set RINGBACK_TOKEN or give --token")]
    NoToken,
    /// The token cannot be put into a header.
    #[error("the token has characters that no token has")]
    BadToken,
    /// What was asked for is not there; here is its name.
    #[error("{0}")]
    NotFound(String),
    /// Several things have the name: say which by its id.
    #[error("several have the name `{name}`, give the id of the {kind}: {}", .ids.join(", "))]
    Ambiguous {
        /// What was looked for.
        kind: &'static str,
        /// The name.
        name: String,
        /// Those that have it.
        ids: Vec<String>,
    },
    /// The server does not answer at this address: start it, or correct the address.
    #[error("no answer from {url}")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The request cannot be written as JSON.
    #[error("the request cannot be written")]
    Unwritable(#[source] serde_json::Error),
    /// The answer is not one of this API's: something else listens at this address.
    #[error("{url} answered {status} with something that is not this API's")]
    Unreadable {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
}

impl ClientError {
    /// A word that stands for this error where the server has given none.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::NoToken | Self::BadToken => "USAGE",
            Self::Context(_) => "CONTEXT",
            Self::Ca { .. } | Self::NoRoots => "CONFIGURATION",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Ambiguous { .. } => "AMBIGUOUS_NAME",
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::Unwritable(_) => "INTERNAL",
            Self::Unreadable { .. } => "UNREADABLE_ANSWER",
            Self::Refused(_) => "REFUSED",
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// A refusal, as the server words it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What the server says.
    problem: Problem,
    /// The text of the whole answer.
    pub(crate) raw: Box<RawValue>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem {
            message,
            code,
            errors,
            ..
        } = &self.problem;
        write!(formatter, "{message}")?;
        match code {
            Some(code) => write!(formatter, " ({}, {code})", self.status)?,
            None => write!(formatter, " ({})", self.status)?,
        }
        match errors {
            None => {}
            Some(ErrorDetails::Fields(fields)) => {
                for (field, messages) in fields {
                    for message in messages {
                        write!(formatter, "\n  {field}: {message}")?;
                    }
                }
            }
            Some(ErrorDetails::Configuration(messages)) => {
                for message in messages {
                    write!(formatter, "\n  {message}")?;
                }
            }
        }
        Ok(())
    }
}

/// What the server answered to a request that it granted.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The text of `data`; where there is none, of the whole answer.
    pub(crate) raw: Box<RawValue>,
    /// The same, read.
    pub(crate) data: T,
    /// Where the page stands, of a list that has pages.
    meta: Option<Meta>,
}

/// What the server answered to a batch of calls.
#[derive(Debug)]
pub(crate) struct BatchAnswer {
    /// What became of the lines.
    pub(crate) report: BatchReport,
    /// How many of the accepted calls the server did not know.
    pub(crate) new: u64,
    /// How many of the accepted calls it knew, and now knows more of.
    pub(crate) updated: u64,
    /// Whether it said so.
    pub(crate) tells_new: bool,
}

/// An answer that has not been read.
struct Received {
    /// The HTTP status.
    status: u16,
    /// The header field that tells new calls from known ones.
    recorded: Option<String>,
    /// The body.
    text: String,
}

impl Client {
    /// A client as the arguments say.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, ClientError> {
        let server = args.server()?;
        let token = server.token.as_deref().unwrap_or_default().trim();
        if token.is_empty() {
            return Err(ClientError::NoToken);
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::BadToken);
        }
        let base = server.url.trim().trim_end_matches('/');
        let (is_tls, host) = match base.strip_prefix("https://") {
            Some(host) => (true, host),
            None => (false, base.strip_prefix("http://").unwrap_or_default()),
        };
        if host.is_empty() || base.parse::<ureq::http::Uri>().is_err() {
            return Err(ClientError::Url(server.url.clone()));
        }
        let mut tls = TlsConfig::builder().provider(TlsProvider::Rustls);
        if is_tls {
            tls = tls
                .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
                .root_certs(RootCerts::new_with_certs(&roots(server.ca.as_deref())?));
        }
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .no_delay(true)
            .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_recv_body(Some(Duration::from_secs(60)))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            base: base.to_owned(),
            token: token.to_owned(),
        })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The token that is sent.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Asks for something.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::GET, path, None::<&()>)
    }

    /// Posts a JSON body.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::POST, path, Some(body))
    }

    /// Posts without a body.
    pub(crate) fn post_nothing<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::POST, path, None::<&()>)
    }

    /// Puts a JSON body.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::PUT, path, Some(body))
    }

    /// Patches with a JSON body.
    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::PATCH, path, Some(body))
    }

    /// Sends a `DELETE`.
    pub(crate) fn delete<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
    ) -> Result<Answer<T>, ClientError> {
        self.send(Method::DELETE, path, None::<&()>)
    }

    /// Posts newline-delimited JSON.
    pub(crate) fn post_lines(
        &self,
        path: &ApiPath,
        lines: &[u8],
    ) -> Result<BatchAnswer, ClientError> {
        let received = self.exchange(Method::POST, path, "application/x-ndjson", lines)?;
        let recorded = received.recorded.as_deref().map(recorded_counts);
        let answer = self.read(received.status, &received.text)?;
        let (new, updated) = recorded.unwrap_or_default();
        Ok(BatchAnswer {
            report: answer.data,
            new,
            updated,
            tells_new: recorded.is_some(),
        })
    }

    /// One page of a list, or every page as one list where none is asked for.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        path: ApiPath,
        page: Option<u32>,
        per_page: Option<u32>,
    ) -> Result<Answer<Vec<T>>, ClientError> {
        match page {
            None => self.get_all(&path),
            Some(page) => self.get(
                &path
                    .query("page", Some(page.to_string()))
                    .query("per_page", per_page.map(|count| count.to_string())),
            ),
        }
    }

    /// Every page of a list, as one list.
    pub(crate) fn get_all<T: DeserializeOwned>(
        &self,
        path: &ApiPath,
    ) -> Result<Answer<Vec<T>>, ClientError> {
        let mut raw: Vec<Box<RawValue>> = Vec::new();
        let mut data = Vec::new();
        let mut page = 1;
        loop {
            let mut answer: Answer<Vec<T>> = self.get(
                &path
                    .clone()
                    .query("page", Some(page.to_string()))
                    .query("per_page", Some("100".to_owned())),
            )?;
            let listed: Vec<Box<RawValue>> =
                serde_json::from_str(answer.raw.get()).map_err(|_| self.unreadable(200))?;
            raw.extend(listed);
            data.append(&mut answer.data);
            if answer.meta.is_none_or(|meta| page >= meta.last_page) {
                let raw =
                    serde_json::value::to_raw_value(&raw).map_err(|_| self.unreadable(200))?;
                return Ok(Answer {
                    raw,
                    data,
                    meta: None,
                });
            }
            page += 1;
        }
    }

    /// Asks for a stream, which may take as long as it likes as long as something comes.
    pub(crate) fn download(
        &self,
        path: &ApiPath,
    ) -> Result<ureq::BodyReader<'static>, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            url: self.base.clone(),
            source: Box::new(source),
        };
        let request = Request::get(format!("{}/api/v1/{}", self.base, path.0))
            .header("Authorization", format!("Bearer {}", self.token))
            .body(())
            .map_err(|error| unreachable(ureq::Error::Http(error)))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_recv_body(None)
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build();
        let response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status == 200 {
            return Ok(body.into_reader());
        }
        let text = body.read_to_string().map_err(unreachable)?;
        let refused: Result<Answer<serde_json::Value>, _> = self.read(status, &text);
        Err(refused.err().unwrap_or_else(|| self.unreadable(status)))
    }

    /// What the server counts, in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> Result<String, ClientError> {
        match self.open("metrics")? {
            (200, text) => Ok(text),
            (status, _) => Err(self.unreadable(status)),
        }
    }

    /// Whether calls may be sent to the server: the status of its answer, 200 or 503, and the answer.
    pub(crate) fn readiness(&self) -> Result<(u16, String), ClientError> {
        match self.open("readyz")? {
            ready @ (200 | 503, _) => Ok(ready),
            (status, _) => Err(self.unreadable(status)),
        }
    }

    /// Asks for a page that takes no token: its status and text.
    fn open(&self, page: &str) -> Result<(u16, String), ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            url: self.base.clone(),
            source: Box::new(source),
        };
        let request = Request::get(format!("{}/{page}", self.base))
            .body(())
            .map_err(|error| unreachable(ureq::Error::Http(error)))?;
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        Ok((response.status().as_u16(), text))
    }

    /// Sends a request with or without a JSON body.
    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &ApiPath,
        body: Option<&impl Serialize>,
    ) -> Result<Answer<T>, ClientError> {
        let body = match body.map(serde_json::to_vec) {
            Some(Ok(body)) => body,
            Some(Err(error)) => return Err(ClientError::Unwritable(error)),
            None => Vec::new(),
        };
        let received = self.exchange(method, path, "application/json", &body)?;
        self.read(received.status, &received.text)
    }

    /// Sends a request and receives the answer.
    fn exchange(
        &self,
        method: Method,
        path: &ApiPath,
        content_type: &str,
        body: &[u8],
    ) -> Result<Received, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{}", self.base, path.0))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Accept", "application/json");
        let unreachable = |source| ClientError::Unreachable {
            url: self.base.clone(),
            source: Box::new(source),
        };
        let response = if body.is_empty() {
            let request = request
                .body(())
                .map_err(|error| unreachable(ureq::Error::Http(error)))?;
            self.agent.run(request)
        } else {
            let request = request
                .header("Content-Type", content_type)
                .body(body)
                .map_err(|error| unreachable(ureq::Error::Http(error)))?;
            self.agent.run(request)
        };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let recorded = response
            .headers()
            .get("x-recorded-calls")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_string()
            .map_err(unreachable)?;
        Ok(Received {
            status,
            recorded,
            text,
        })
    }

    /// Reads an answer.
    fn read<T: DeserializeOwned>(&self, status: u16, text: &str) -> Result<Answer<T>, ClientError> {
        let unreadable = |_| self.unreadable(status);
        if !(200..300).contains(&status) {
            return Err(ClientError::Refused(Refusal {
                status,
                problem: serde_json::from_str(text).map_err(unreadable)?,
                raw: RawValue::from_string(text.trim().to_owned()).map_err(unreadable)?,
            }));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(unreadable)?;
        let data = envelope.data.map_or_else(|| text.trim(), RawValue::get);
        Ok(Answer {
            raw: RawValue::from_string(data.to_owned()).map_err(unreadable)?,
            data: serde_json::from_str(data).map_err(unreadable)?,
            // Lists that go on by a cursor have another one.
            meta: envelope
                .meta
                .and_then(|meta| serde_json::from_str(meta.get()).ok()),
        })
    }

    /// The answer is not one of this API's.
    fn unreadable(&self, status: u16) -> ClientError {
        ClientError::Unreadable {
            url: self.base.clone(),
            status,
        }
    }
}

/// How many calls were new and how many were updated, by a header field such as `new=1, updated=0, known=2`.
fn recorded_counts(field: &str) -> (u64, u64) {
    let count = |name: &str| {
        field
            .split(',')
            .filter_map(|item| item.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, count)| count.parse().ok())
            .unwrap_or(0)
    };
    (count("new"), count("updated"))
}

/// The certificates that are trusted: those of the file, else the system's.
fn roots(file: Option<&Path>) -> Result<Vec<Certificate<'static>>, ClientError> {
    let certificates: Vec<CertificateDer<'static>> = match file {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .and_then(|read: Vec<_>| match read.len() {
                0 => Err(rustls_pki_types::pem::Error::NoItemsFound),
                _ => Ok(read),
            })
            .map_err(|source| ClientError::Ca {
                path: path.to_owned(),
                source,
            })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        return Err(ClientError::NoRoots);
    }
    Ok(certificates
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect())
}

/// A path below `/api/v1/`, with its query.
#[derive(Clone, Debug)]
pub(crate) struct ApiPath(String);

impl ApiPath {
    /// The path of these segments, whatever characters they have.
    pub(crate) fn new<const N: usize>(segments: [&str; N]) -> Self {
        Self(segments.map(escape).join("/"))
    }

    /// The path of something beneath this one; the empty name is this one.
    pub(crate) fn join(mut self, name: &str) -> Self {
        if !name.is_empty() {
            self.0.push('/');
            self.0.push_str(&escape(name));
        }
        self
    }

    /// The same with a query parameter, where there is a value.
    pub(crate) fn query(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&escape(value.as_ref()));
        }
        self
    }
}

/// What stands around the data of an answer that grants a request.
#[derive(Deserialize)]
struct Envelope<'a> {
    /// What was asked for.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Where the page stands.
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

/// Escapes a segment of a path, or a value of a query.
fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// What is escaped: all but unreserved characters (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The variable that names the server.
const URL: &str = "RINGBACK_URL";

/// The variable that holds the token.
const TOKEN: &str = "RINGBACK_TOKEN";

/// The server that is asked where none is named.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: u64 = 256 << 20;
