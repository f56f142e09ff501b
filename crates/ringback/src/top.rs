//! `ringback top`: what a server does right now, from the difference of its counters between two looks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use ringback_api::Decision;
use ringback_routing::Timestamp;
use serde::{Deserialize, Serialize};

use crate::client::{ApiPath, Client, ClientArgs, ClientError};
use crate::exit::{Failure, chain};
use crate::output::{Column, escaped, escaped_json, print, table};
use crate::show::Show;

/// `ringback top`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Which server to ask, and as whom.
    #[command(flatten)]
    client: ClientArgs,
    /// Print one frame and stop
    #[arg(long)]
    once: bool,
    /// Print each frame as one line of JSON
    #[arg(long)]
    json: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=3_600))]
    interval: u16,
}

/// The server does not answer, or not as a server of ours.
#[derive(Debug, thiserror::Error)]
#[error("the server cannot be watched")]
pub(crate) struct TopError(#[source] ClientError);

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    let client = Client::new(&args.client)?;
    let interval = Duration::from_secs(args.interval.into());
    let look = || Look::take(&client).map_err(TopError);
    let mut before = look()?;
    loop {
        std::thread::sleep(interval);
        let now = match look() {
            Ok(now) => now,
            Err(error) if args.once || args.json => return Err(error.into()),
            Err(error) => {
                // It may come back; until then its last frame is not true any more.
                show(&format!("{}\n", escaped(&chain(&error))))?;
                continue;
            }
        };
        let decisions = decisions(&client).map_err(TopError)?;
        let frame = Frame::between(&before, &now, client.base(), decisions);
        if args.json {
            let json = serde_json::to_string(&frame).map_err(io::Error::other)?;
            print(&format!("{}\n", escaped_json(&json)))?;
        } else if args.once {
            print(&frame.readable())?;
        } else {
            show(&frame.readable())?;
        }
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// Shows a frame in place of the one before, on a terminal.
fn show(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        // From the corner on, and nothing below: the rest of the terminal stays as it is.
        print(&format!("\x1b[H\x1b[2J{text}"))
    } else {
        print(&format!("{text}\n"))
    }
}

/// The counters of a server at one time.
#[derive(Debug, PartialEq)]
struct Look {
    /// When.
    at: Instant,
    /// Decisions by outcome and reason, over SIP.
    sip: BTreeMap<(String, String), f64>,
    /// The same over HTTP.
    http: BTreeMap<(String, String), f64>,
    /// Replies over SIP that took at most so many seconds, by this bound.
    durations: Vec<(f64, f64)>,
}

impl Look {
    /// Looks at a server.
    fn take(client: &Client) -> Result<Self, ClientError> {
        let text = client.metrics()?;
        Ok(Self::read(&text, Instant::now()))
    }

    /// Reads what a server says of itself.
    fn read(text: &str, at: Instant) -> Self {
        let mut look = Self {
            at,
            sip: BTreeMap::new(),
            http: BTreeMap::new(),
            durations: Vec::new(),
        };
        for line in text.lines() {
            let Some((name, labels, value)) = read_line(line) else {
                continue;
            };
            let label = |name: &str| labels.get(name).copied().unwrap_or_default().to_owned();
            let decided = match name {
                "ringback_sip_decisions_total" => &mut look.sip,
                "ringback_http_decisions_total" => &mut look.http,
                "ringback_sip_reply_duration_seconds_bucket" => {
                    let bound = match labels.get("le").copied().unwrap_or_default() {
                        "+Inf" => f64::INFINITY,
                        bound => bound.parse().unwrap_or(f64::INFINITY),
                    };
                    match look.durations.iter_mut().find(|(other, _)| *other == bound) {
                        Some((_, count)) => *count += value,
                        None => look.durations.push((bound, value)),
                    }
                    continue;
                }
                _ => continue,
            };
            *decided
                .entry((label("outcome"), label("reason")))
                .or_default() += value;
        }
        look.durations
            .sort_by(|(one, _), (other, _)| one.total_cmp(other));
        look
    }
}

/// A line of metrics: name, labels, value.
fn read_line(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    // Labels with other characters are those of peers, which nobody looks for here.
    let labels = labels.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name, value.trim_matches('"')))
    });
    Some((name, labels.collect(), value))
}

/// The latest decisions, newest first: those of the environment whose token is used; with the administrator's token
/// those of all environments.
fn decisions(client: &Client) -> Result<Vec<Decision>, ClientError> {
    let own = ApiPath::new(["decisions"]).query("limit", Some(SHOWN.to_string()));
    match client.get::<Vec<Decision>>(&own) {
        Err(ClientError::Refused(refusal)) if refusal.status == 403 => {}
        answer => return Ok(answer?.data),
    }
    let all = client.download(&ApiPath::new(["export", "decisions"]))?;
    let mut decisions: Vec<Decision> = Vec::new();
    // Each environment has its newest first; what cannot be read any more is missing from one frame.
    for line in BufReader::new(all).lines().map_while(Result::ok) {
        decisions.extend(serde_json::from_str::<Decision>(&line));
        if decisions.len() >= MOST_READ {
            break;
        }
    }
    keep_newest(&mut decisions);
    Ok(decisions)
}

/// Keeps the newest decisions.
fn keep_newest(decisions: &mut Vec<Decision>) {
    decisions.sort_by_key(|decision| std::cmp::Reverse(decision.at.millis()));
    decisions.truncate(SHOWN);
}

/// What happened between two looks.
#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    /// When the second look was taken.
    at: Timestamp,
    /// The server.
    node: String,
    /// Decisions on INVITEs, each second.
    invites_per_second: f64,
    /// Decisions over SIP and HTTP by outcome, each second; those that there were.
    outcomes: BTreeMap<String, f64>,
    /// The same by reason.
    reasons: BTreeMap<String, f64>,
    /// How long replies over SIP took.
    latency_us: Latency,
    /// The latest decisions, newest first.
    decisions: Vec<Decision>,
}

/// How long replies took, in microseconds; none where there were no replies.
#[derive(Debug, Serialize, Deserialize)]
struct Latency {
    /// Half of them took no longer.
    p50: Option<u64>,
    /// 99 of 100 took no longer.
    p99: Option<u64>,
}

impl Frame {
    /// What happened between two looks.
    fn between(before: &Look, now: &Look, node: &str, decisions: Vec<Decision>) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let node = node.split_once("://").map_or(node, |(_, host)| host);
        let mut frame = Self {
            at: Timestamp::from_millis(jiff::Timestamp::now().as_millisecond()),
            node: node.to_owned(),
            invites_per_second: 0.0,
            outcomes: BTreeMap::new(),
            reasons: BTreeMap::new(),
            latency_us: Latency {
                p50: quantile(before, now, 0.5),
                p99: quantile(before, now, 0.99),
            },
            decisions,
        };
        for (old, new, is_sip) in [
            (&before.sip, &now.sip, true),
            (&before.http, &now.http, false),
        ] {
            for (key, count) in new {
                let rate = growth(old.get(key).copied(), *count) / seconds;
                if rate <= 0.0 {
                    continue;
                }
                let (outcome, reason) = key.clone();
                *frame.outcomes.entry(outcome).or_default() += rate;
                *frame.reasons.entry(reason).or_default() += rate;
                if is_sip {
                    frame.invites_per_second += rate;
                }
            }
        }
        for rate in [&mut frame.invites_per_second]
            .into_iter()
            .chain(frame.outcomes.values_mut())
            .chain(frame.reasons.values_mut())
        {
            *rate = (*rate * 10.0).round() / 10.0;
        }
        frame
    }

    /// The frame, for people.
    fn readable(&self) -> String {
        let latency = |micros: Option<u64>| {
            micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros} us"))
        };
        let mut text = format!(
            "{}  {}  {} INVITEs/s  p50 {}  p99 {}\n",
            escaped(&self.node),
            self.at,
            self.invites_per_second,
            latency(self.latency_us.p50),
            latency(self.latency_us.p99),
        );
        for (title, rates) in [("outcomes/s", &self.outcomes), ("reasons/s", &self.reasons)] {
            let _infallible = write!(text, "\n{title}\n");
            let rates: Vec<(String, f64)> = rates
                .iter()
                .map(|(name, rate)| (name.clone(), *rate))
                .collect();
            text.push_str(&table(&rates, RATES));
        }
        text.push_str("\nlatest decisions\n");
        text.push_str(&table(&self.decisions, DECISIONS));
        text
    }
}

/// By how much a counter has grown; one that is smaller than before belongs to a server that was started anew.
fn growth(before: Option<f64>, now: f64) -> f64 {
    let before = before.unwrap_or_default();
    if now < before { now } else { now - before }
}

/// The time that this share of the replies between two looks took at most, in microseconds. Within a bucket, replies are
/// taken to be even.
fn quantile(before: &Look, now: &Look, share: f64) -> Option<u64> {
    let old = |bound: f64| {
        let found = before.durations.iter().find(|(other, _)| *other == bound);
        found.map(|(_, count)| *count)
    };
    let counts: Vec<(f64, f64)> = now
        .durations
        .iter()
        .map(|(bound, count)| (*bound, growth(old(*bound), *count)))
        .collect();
    let all = counts.last().map_or(0.0, |(_, count)| *count);
    if all <= 0.0 {
        return None;
    }
    let wanted = all * share;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= wanted {
            let seconds = if bound.is_infinite() {
                lower
            } else {
                lower + (bound - lower) * (wanted - below) / (count - below).max(f64::MIN_POSITIVE)
            };
            return Some((seconds * 1e6).round() as u64);
        }
        (lower, below) = (bound, count);
    }
    None
}

/// The columns of rates.
const RATES: &[Column<(String, f64)>] = &[
    ("NAME", |(name, _)| name.show()),
    ("RATE", |(_, rate)| rate.show()),
];

/// The columns of decisions.
const DECISIONS: &[Column<Decision>] = &[
    ("AT", |decision| decision.at.show()),
    ("FROM", |decision| decision.from.show()),
    ("TO", |decision| decision.to.show()),
    ("OUTCOME", |decision| decision.outcome.show()),
    ("REASON", |decision| decision.reason.show()),
    ("AGENT", |decision| {
        let agent = decision.agent.as_ref();
        agent.and_then(|agent| agent.name.clone()).show()
    }),
];

/// How many decisions are shown.
const SHOWN: usize = 10;

/// How many decisions of all environments are read for one frame: a node remembers far more.
const MOST_READ: usize = 2_000;

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback top
  ringback top --once --json

With an environment's token the latest decisions are its own; with the administrator's, those among the \
first 2,000 of an export. \
Rates and latency are of the whole server, between two looks. Exit code 70: the server does not answer.";

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says of itself with these counts.
    fn look(callbacks: u64, fast: u64, slow: u64, after: u64) -> Look {
        let text = format!(
            "# HELP ringback_sip_decisions_total Decisions\n\
             ringback_sip_decisions_total{{outcome=\"callback\",reason=\"returned_call\"}} {callbacks}\n\
             ringback_http_decisions_total{{outcome=\"callback\",reason=\"returned_call\"}} 2\n\
             ringback_sip_reply_duration_seconds_bucket{{transport=\"udp\",le=\"0.0001\"}} {fast}\n\
             ringback_sip_reply_duration_seconds_bucket{{transport=\"udp\",le=\"0.001\"}} {}\n\
             ringback_sip_reply_duration_seconds_bucket{{transport=\"udp\",le=\"+Inf\"}} {}\n\
             ringback_sip_peer_messages_total{{peer=\"a b, \\\"c\\\"\"}} 3\n",
            fast + slow,
            fast + slow,
        );
        // An instant far from the start of the clock.
        let start = Instant::now();
        Look::read(&text, start + Duration::from_secs(after))
    }

    #[test]
    fn a_frame_is_the_difference_of_two_looks() {
        let (before, now) = (look(10, 100, 0, 0), look(30, 200, 100, 10));
        let frame = Frame::between(&before, &now, "http://127.0.0.1:8080", Vec::new());
        assert_eq!(frame.node, "127.0.0.1:8080");
        assert_eq!(frame.invites_per_second, 2.0);
        assert_eq!(
            frame.outcomes,
            BTreeMap::from([("callback".to_owned(), 2.0)])
        );
        assert_eq!(
            frame.reasons,
            BTreeMap::from([("returned_call".to_owned(), 2.0)])
        );
        // 100 replies within 100 microseconds, 100 between that and a millisecond.
        assert_eq!(frame.latency_us.p50, Some(100));
        assert_eq!(frame.latency_us.p99, Some(982));
        let text = frame.readable();
        assert!(
            text.contains("2 INVITEs/s  p50 100 us  p99 982 us"),
            "{text}"
        );
    }

    #[test]
    fn a_server_that_was_started_anew_and_one_that_does_nothing_are_told_as_such() {
        let anew = Frame::between(&look(50, 9, 0, 0), &look(20, 3, 0, 10), "", Vec::new());
        assert_eq!(anew.invites_per_second, 2.0);
        let idle = Frame::between(&look(5, 9, 0, 0), &look(5, 9, 0, 10), "", Vec::new());
        assert_eq!(idle.invites_per_second, 0.0);
        assert!(idle.outcomes.is_empty() && idle.latency_us.p50.is_none());
        assert!(idle.readable().contains("p50 -"));
    }
}
