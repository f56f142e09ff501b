//! The errors in the `[sip]` section, with messages for the author of the file.

/// A key of the `[sip]` section with a value that the server cannot run on.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SipConfigError {
    /// The key with its path, such as `sip.peers[1].address[0]`.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub problem: ConfigProblem,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// Write an IP address and a port: `127.0.0.1:5060`, `[::1]:5060`.
    #[error("`{0}` is not an IP address with a port")]
    ListenAddress(String),
    /// Write an IP address or a CIDR: `203.0.113.7`, `203.0.113.0/24`.
    #[error("`{0}` is neither an IP address nor a CIDR")]
    PeerAddress(String),
    /// Write the network, or the one address that is meant.
    #[error("`{value}` has bits set beyond its prefix; the network is `{network}`")]
    HostBits {
        /// The value.
        value: String,
        /// The network that the address belongs to.
        network: ipnet::IpNet,
    },
    /// The same CIDR twice: its peer would be ambiguous.
    #[error("`{0}` is the address of another peer too")]
    SharedAddress(String),
    /// The same name twice.
    #[error("`{0}` is the name of another peer too")]
    SharedName(String),
    /// The value is not one of the words allowed.
    #[error("`{value}` is not one of {allowed}")]
    Word {
        /// The value.
        value: String,
        /// The allowed words, as text.
        allowed: &'static str,
    },
    /// The key needs at least one value, or a greater number.
    #[error("must not be empty")]
    Empty,
    /// Write a number greater than 0, or leave the key out.
    #[error("must be greater than 0")]
    Zero,
    /// Write a smaller number.
    #[error("{value} is over the limit of {most}")]
    TooGreat {
        /// The value.
        value: usize,
        /// The greatest value allowed.
        most: usize,
    },
    /// Write a greater number.
    #[error("{value} is under the least that is allowed, {least}")]
    TooSmall {
        /// The value.
        value: u64,
        /// The least value allowed.
        least: u64,
    },
    /// Write final statuses that may lead to another target: 300 to 599.
    #[error("{0} is not a status from 300 to 599")]
    Status(u16),
    /// Write an address that others can reach, and its port: `203.0.113.5:5060`.
    #[error("`{0}` is not an address with a port that others can reach")]
    Advertised(String),
    /// Write a name or an address alone: `gw.example.net`, `203.0.113.5`, `[2001:db8::5]`.
    #[error("`{0}` is not a host")]
    Host(String),
    /// The value is too long, or would not fit on one line of a message.
    #[error("`{0}` cannot be used here")]
    Unusable(String),
    /// A header name is a token: letters, digits and `-.!%*_+` + "`'~".
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// Write two letters, such as `BR`.
    #[error("`{0}` is not an ISO 3166-1 alpha-2 country code")]
    Country(String),
    /// Write only digits.
    #[error("`{0}` is not an international prefix")]
    InternationalPrefix(String),
    /// Write `sip:host`, `sip:host:port`, `sip:{dialed}@host` or the like: without headers, and with a user only
    /// of placeholders.
    #[error("`{0}` is not a SIP URI without a user, or with a user of placeholders only")]
    NextHop(String),
    /// TLS listens, but this key is missing.
    #[error("is required if TLS listens")]
    Needed,
    /// The file cannot be read, or holds no PEM of this kind.
    #[error("`{path}` holds no usable PEM: {cause}")]
    Pem {
        /// The file.
        path: String,
        /// The error of the system or the parser.
        cause: String,
    },
    /// Certificate and private key do not match, or cannot be used.
    #[error("certificate and private key cannot be used together")]
    KeyPair(#[source] rustls::Error),
}

/// All errors in the `[sip]` section, in the order of the checks; at least one.
#[derive(Debug, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct SipConfigErrors(pub Vec<SipConfigError>);

/// The problems in one line.
fn joined(errors: &[SipConfigError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Collects problems, so that one check goes on after another has failed.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(super) Vec<SipConfigError>);

impl Problems {
    /// Adds a problem at a key.
    pub(super) fn add(&mut self, key: impl Into<String>, what: ConfigProblem) {
        self.0.push(problem(key, what));
    }

    /// Keeps the error of a failed check and goes on with the default value: a section with errors is never run.
    pub(super) fn or_default<T: Default>(&mut self, checked: Result<T, SipConfigError>) -> T {
        checked.unwrap_or_else(|error| {
            self.0.push(error);
            T::default()
        })
    }
}

/// An error at a key.
pub(crate) fn problem(key: impl Into<String>, problem: ConfigProblem) -> SipConfigError {
    SipConfigError {
        key: key.into(),
        problem,
    }
}
