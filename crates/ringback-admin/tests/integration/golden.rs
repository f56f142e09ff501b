//! Plays the files of `fixtures/api` (their README tells the format) and compares every answer byte
//! for byte.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use ringback_admin::{ClusterError, ClusterSource, Snapshot};
use ringback_api::{
    Cluster, ClusterHealth, ClusterNode, ClusterRecovery, ClusterStream, Durability, NodeState,
    RecoveredNode,
};
use ringback_routing::Timestamp;

use crate::description::DESCRIPTION;
use crate::harness::{ADMINISTRATOR, Answer, Harness};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_golden_files() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| name.ends_with(".http"))
        .collect();
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    let mut failures = String::new();
    let mut answered = BTreeSet::new();
    for name in names {
        let mut play = Play::new();
        play.file(&name).await;
        failures.push_str(&play.failures);
        answered.append(&mut play.answered);
    }
    assert!(failures.is_empty(), "\n{failures}");
    let paths = DESCRIPTION.json["paths"]
        .as_object()
        .expect("paths")
        .values();
    let methods = paths.flat_map(|methods| methods.as_object().expect("methods").values());
    let missing: Vec<&str> = methods
        .map(|operation| operation["operationId"].as_str().expect("a name"))
        .filter(|name| !answered.contains(*name) && !ELSEWHERE.contains(name))
        .collect();
    assert!(missing.is_empty(), "no golden answer: {missing:?}");
}

/// Where the files are.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/api")
}

/// A file being played.
struct Play {
    harness: Harness,
    /// What the answers have told so far.
    known: HashMap<String, String>,
    /// The token that requests carry unless they say otherwise.
    token: String,
    failures: String,
    /// The operations that have been carried out.
    answered: BTreeSet<String>,
}

/// A request and the answer to expect.
#[derive(Default)]
struct Exchange {
    place: String,
    request: Vec<String>,
    expected: Vec<String>,
}

impl Play {
    fn new() -> Self {
        let known = HashMap::from([("administrator".to_owned(), ADMINISTRATOR.to_owned())]);
        Self {
            harness: Harness::new(),
            known,
            token: String::new(),
            failures: String::new(),
            answered: BTreeSet::new(),
        }
    }

    async fn file(&mut self, name: &str) {
        let text = std::fs::read_to_string(folder().join(name)).expect("the file can be read");
        let mut exchange = Exchange::default();
        for (line, number) in text.lines().chain([""]).zip(1..) {
            let request = line.strip_prefix('>');
            let expected = line.strip_prefix('<');
            if expected.is_none() && !exchange.expected.is_empty() {
                self.exchange(std::mem::take(&mut exchange)).await;
            }
            if let Some(line) = request {
                if exchange.request.is_empty() {
                    exchange.place = format!("{name}:{number}");
                }
                exchange
                    .request
                    .push(line.strip_prefix(' ').unwrap_or(line).to_owned());
            } else if let Some(line) = expected {
                exchange
                    .expected
                    .push(line.strip_prefix(' ').unwrap_or(line).to_owned());
            } else if let Some(directive) = line.strip_prefix('@') {
                self.direct(directive).await;
            } else {
                assert!(
                    line.is_empty() || line.starts_with('#'),
                    "{name}:{number}: {line}"
                );
            }
        }
    }

    /// Carries out a line that begins with `@`.
    async fn direct(&mut self, directive: &str) {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        match word {
            "use" => Box::pin(self.file(rest)).await,
            "token" => self.token = self.fill(rest),
            "advance" => self.harness.clock.advance(rest.parse().expect("seconds")),
            "cluster" => self.harness.api.ask_cluster(Arc::new(UnreachableCluster)),
            "storage" => self.harness.memory.fail(rest == "fails"),
            _ => panic!("unknown directive {directive}"),
        }
    }

    /// Sends a request and compares the answer.
    async fn exchange(&mut self, exchange: Exchange) {
        let request = self.request(&exchange.request);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.harness.send(request).await;
        let operation = DESCRIPTION.operation(&method, &path);
        if let Some(operation) = operation.filter(|_| answer.status.is_success()) {
            let name = operation["operationId"].as_str().expect("a name");
            self.answered.insert(name.to_owned());
        }
        if let Err(problem) = self.compare(&exchange.expected, &answer) {
            let _infallible = writeln!(
                self.failures,
                "{}: {}\n  {problem}\n  answer: {} {}\n",
                exchange.place, exchange.request[0], answer.status, answer.text
            );
        }
    }

    /// Makes a request from its lines.
    fn request(&self, lines: &[String]) -> Request<Body> {
        let (method, path) = lines[0].split_once(' ').expect("a method and a path");
        let blank = lines
            .iter()
            .position(String::is_empty)
            .unwrap_or(lines.len());
        let body = self.fill(&lines.get(blank + 1..).unwrap_or_default().join("\n"));
        let mut headers: HashMap<&str, String> = HashMap::new();
        if !self.token.is_empty() {
            headers.insert("authorization", format!("Bearer {}", self.token));
        }
        if blank < lines.len() {
            headers.insert("content-type", "application/json".to_owned());
        }
        for line in &lines[1..blank] {
            let (name, value) = line.split_once(':').expect("a header");
            headers.insert(name, self.fill(value.trim()));
        }
        let mut request = Request::builder().method(method).uri(self.fill(path));
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        request.body(Body::from(body)).expect("a request")
    }

    /// Compares an answer with the lines that describe it.
    fn compare(&mut self, lines: &[String], answer: &Answer) -> Result<(), String> {
        let blank = lines
            .iter()
            .position(String::is_empty)
            .unwrap_or(lines.len());
        if lines[0] != answer.status.as_str() {
            return Err(format!("expected status {}", lines[0]));
        }
        for line in &lines[1..blank] {
            let (name, value) = line.split_once(':').expect("a header");
            self.matches(value.trim(), answer.header(name))
                .map_err(|problem| format!("header {name}: {problem}"))?;
        }
        let body = lines.get(blank + 1..).unwrap_or_default().join("\n");
        self.matches(&body, &answer.text)
    }

    /// Matches a text with a pattern in which `${name}` stands for what is known, `${name=kind}`
    /// for something of that kind that is known from then on, and `${=kind}` for anything of it.
    fn matches(&mut self, pattern: &str, text: &str) -> Result<(), String> {
        let mut rest = text;
        let mut pattern = pattern;
        while let Some((literal, after)) = pattern.split_once("${") {
            let (variable, after) = after.split_once('}').expect("a closed variable");
            rest = rest
                .strip_prefix(literal)
                .ok_or_else(|| unlike(literal, rest))?;
            let taken = match variable.split_once('=') {
                None => {
                    let known = self.known.get(variable);
                    let known = known.unwrap_or_else(|| panic!("{variable} is not known"));
                    if !rest.starts_with(known) {
                        return Err(unlike(&format!("{known} ({variable})"), rest));
                    }
                    known.len()
                }
                Some((name, kind)) => {
                    let length = length_of(kind, rest);
                    if length == 0 {
                        return Err(unlike(&format!("a {kind}"), rest));
                    }
                    if !name.is_empty() {
                        self.known
                            .insert(name.to_owned(), rest[..length].to_owned());
                    }
                    length
                }
            };
            rest = &rest[taken..];
            pattern = after;
        }
        if rest == pattern {
            Ok(())
        } else {
            Err(unlike(pattern, rest))
        }
    }

    /// Fills in what is known.
    fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.known {
            filled = filled.replace(&format!("${{{name}}}"), value);
        }
        assert!(!filled.contains("${"), "unknown variable in {filled}");
        filled
    }
}

/// A cluster whose log cannot be reached.
struct UnreachableCluster;

impl ClusterSource for UnreachableCluster {
    fn cluster(&self) -> Cluster {
        let node = |name: &str, state| ClusterNode {
            node: name.to_owned(),
            version: "0.1.0".to_owned(),
            url: format!("http://{name}.example.com:8080"),
            applied_sequence: 7,
            lag: 0,
            digest: "66687aadf862bd776c8fc18b8e9f8e20".to_owned(),
            digest_sequence: 7,
            seen_at: Timestamp::from_seconds(1_795_262_400),
            state,
        };
        Cluster {
            name: "ringback".to_owned(),
            node: "a".to_owned(),
            connected: false,
            stream: Some(ClusterStream {
                name: "RINGBACK_ringback".to_owned(),
                created_at: Timestamp::from_seconds(1_795_262_400),
                first_sequence: 1,
                last_sequence: 7,
                bytes: 1_337,
                replicas: 3,
                leader: None,
            }),
            durability: Durability {
                ok: true,
                problems: Vec::new(),
            },
            nodes: vec![node("a", NodeState::Current), node("b", NodeState::Gone)],
            agree: Some(true),
        }
    }

    fn health(&self) -> (ClusterHealth, Vec<String>) {
        let problem = "the log of the cluster cannot be reached: writes wait".to_owned();
        (ClusterHealth::Unreachable, vec![problem])
    }

    fn snapshot(&self, _asked: &str) -> Option<Snapshot> {
        None
    }

    fn forget(&self, node: &str) -> Result<(), ClusterError> {
        match node {
            "a" => Err(ClusterError::NodeIsCurrent),
            "b" => Ok(()),
            _ => Err(ClusterError::NoSuchNode),
        }
    }

    fn recover(&self, from: Option<&str>, begin: bool) -> Result<ClusterRecovery, ClusterError> {
        match from {
            None => Err(ClusterError::LogIsWhole),
            Some("a") => Ok(ClusterRecovery {
                base: "a".to_owned(),
                first_sequence: 9,
                begun: begin,
                nodes: vec![RecoveredNode {
                    node: "a".to_owned(),
                    applied_sequence: 7,
                    behind: 0,
                    lost: 0,
                    heard: true,
                }],
            }),
            Some(_) => Err(ClusterError::NoSuchNode),
        }
    }
}

/// Operations whose answers are no golden text, or need the whole program; other tests are about them.
const ELSEWHERE: [&str; 15] = [
    "backup",
    "fetchSnapshot",
    "chooseEnvironment",
    "description",
    "docs",
    "endSession",
    "erasures",
    "export",
    "followDecisions",
    "listAudit",
    "metrics",
    "openSession",
    "reload",
    "showSession",
    "undo",
];

/// How many bytes of the text are of this kind.
fn length_of(kind: &str, text: &str) -> usize {
    let while_in = |allowed: fn(char) -> bool| text.find(|c| !allowed(c)).unwrap_or(text.len());
    match kind {
        "hash" => {
            let length = while_in(|c| c.is_ascii_hexdigit());
            if length == 32 { length } else { 0 }
        }
        "uuid" => {
            let length = while_in(|c| c.is_ascii_hexdigit() || c == '-');
            if length == 36 { length } else { 0 }
        }
        "integer" => while_in(|c| c.is_ascii_digit()),
        "token" => while_in(|c| c.is_ascii_alphanumeric() || c == '_'),
        "text" => while_in(|c| c != '"'),
        "any" => text.len(),
        _ => panic!("unknown kind {kind}"),
    }
}

/// Says where a text departs.
fn unlike(expected: &str, found: &str) -> String {
    let same = expected
        .bytes()
        .zip(found.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let same = (0..=same)
        .rev()
        .find(|at| found.is_char_boundary(*at))
        .unwrap_or(0);
    let expected = expected.get(same..).unwrap_or(expected);
    format!("expected …{expected}\n     found …{}", &found[same..])
}
