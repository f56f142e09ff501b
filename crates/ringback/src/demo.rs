//! `ringback demo`: returning calls routed by a real server, on the screen.
//!
//! The server is this program itself, started as a child process on an empty data directory and
//! free ports. Everything reaches it as it would in production: campaigns and calls over HTTP,
//! returning calls as INVITEs over UDP. What comes back is held against what must.

mod caller;
mod campaigns;
mod child;
mod phone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use ringback_routing::AttemptCause;

use self::caller::{Caller, Reply};
use self::campaigns::{Campaigns, ReturningCall};
use self::child::ServerProcess;
use self::phone::Phone;
use crate::client::{Client, ClientArgs, ClientError};
use crate::exit::Failure;
use crate::output::{Paint, print};

/// `ringback demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// End after the calls instead of staying up for you to try
    #[arg(long)]
    once: bool,
}

/// Why the demonstration did not show what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DemoError {
    /// The temporary folder or a process is not to be had.
    #[error("the demonstration cannot be set up")]
    Setup(#[source] io::Error),
    /// The server has ended.
    #[error("the server has ended; its log:\n{0}")]
    ServerEnded(String),
    /// The API refused something.
    #[error("the API did not take what the demonstration sent")]
    Api(#[from] ClientError),
    /// A call got no reply.
    #[error("no reply to the INVITE of {0} in time")]
    NoReply(String),
    /// A call got another reply than it must.
    #[error("{caller}: expected {expected}, got {got}")]
    Unexpected {
        /// Who called.
        caller: String,
        /// What must come.
        expected: String,
        /// What came.
        got: String,
    },
}

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let signals = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Setup)?;
    // Listening from here on, so that the data directory is removed whenever Ctrl-C comes.
    let (mut interrupt, mut terminate) = {
        let _entered = signals.enter();
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::interrupt()).map_err(DemoError::Setup)?,
            signal(SignalKind::terminate()).map_err(DemoError::Setup)?,
        )
    };

    let mut server = ServerProcess::start()?;
    let paint = Paint::stdout();
    print(&format!(
        "{}  SIP {}  HTTP {}\n\n",
        paint.bold("Ringback"),
        server.sip(),
        server.http(),
    ))?;
    let administrator = client(server.http(), server.admin_token())?;
    let phone = Phone::on().map_err(DemoError::Setup)?;
    let field = [Phone::off().map_err(DemoError::Setup)?, phone.uri()];
    let campaigns = Campaigns::make(&administrator, &field, |token| client(server.http(), token))?;
    print(&campaigns.describe(paint))?;
    call_back(&campaigns, server.sip(), paint)?;
    send_on(&campaigns, server.sip(), paint)?;
    print(&campaigns.count(paint)?)?;

    if !args.once {
        print(&by_hand(&campaigns, &server, paint)?)?;
        let ended = signals.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                () = server.ended() => true,
            }
        });
        if ended {
            return Err(DemoError::ServerEnded(server.log()).into());
        }
        print("\n")?;
    }
    server.stop();
    Ok(())
}

/// A client of the demonstration's server.
fn client(http: SocketAddr, token: &str) -> Result<Client, ClientError> {
    Client::new(&ClientArgs {
        url: Some(format!("http://{http}")),
        token: Some(token.to_owned()),
        ..ClientArgs::default()
    })
}

/// Lets every contact call back, and shows what comes of it.
fn call_back(campaigns: &Campaigns, sip: SocketAddr, paint: Paint) -> Result<(), Failure> {
    let caller = Caller::new(FOLLOWING, sip).map_err(DemoError::Setup)?;
    print(&format!(
        "{}\n",
        paint.bold("Now the contacts dial back, each with an INVITE over UDP:")
    ))?;
    for call in campaigns.returning_calls() {
        let reply = caller
            .call(&call.dialed, &call.caller)
            .map_err(DemoError::Setup)?
            .ok_or_else(|| DemoError::NoReply(call.caller.clone()))?;
        print(&shown(&call, &reply, paint))?;
        let (expected, got) = (call.expected(), reply.summary());
        if expected != got {
            return Err(DemoError::Unexpected {
                caller: call.caller,
                expected,
                got,
            }
            .into());
        }
    }
    Ok(())
}

/// Lets one more contact call back, over a carrier that follows no 302, and shows the targets that were tried.
fn send_on(campaigns: &Campaigns, sip: SocketAddr, paint: Paint) -> Result<(), Failure> {
    let caller = Caller::new(NOT_FOLLOWING, sip).map_err(DemoError::Setup)?;
    let call = campaigns.call_over_a_carrier();
    let reply = caller
        .call(&call.dialed, &call.caller)
        .map_err(DemoError::Setup)?
        .ok_or_else(|| DemoError::NoReply(call.caller.clone()))?;
    let decision = campaigns.wait_for_attempts(&call)?;
    let mut tried = String::new();
    for attempt in &decision.attempts {
        let became = match (attempt.status, attempt.cause) {
            (Some(status), _) => paint.green(&status.to_string()),
            (None, cause) => paint.yellow(cause.map_or("silent", in_words)),
        };
        tried += &format!("  {:<40} {became}\n", attempt.uri);
    }
    print(&format!(
        "\n{}\n\n  {:<13} dials {}  {}\n{tried}  {} {}\n",
        paint.bold("A carrier that follows no 302 has its call sent on by Ringback:"),
        call.caller,
        call.dialed,
        paint.dim(call.story),
        paint.cyan(decision.reason.name()),
        paint.dim(&format!("({})", decision.outcome.name())),
    ))?;
    let causes = decision.attempts.iter().map(|attempt| attempt.cause);
    let is_right = reply.status == 200 && causes.eq([Some(AttemptCause::Refused), None]);
    if !is_right {
        return Err(DemoError::Unexpected {
            caller: call.caller,
            expected: "200 from the second phone".to_owned(),
            got: format!("{} after {:?}", reply.status, decision.attempts),
        }
        .into());
    }
    Ok(())
}

/// Why a target did not take a call.
const fn in_words(cause: AttemptCause) -> &'static str {
    match cause {
        AttemptCause::Refused => "refused",
        AttemptCause::Timeout => "silent",
        AttemptCause::Transport => "not reached",
        AttemptCause::Status => "busy",
        AttemptCause::Cancelled => "cancelled",
    }
}

/// A call and its reply, in two lines.
fn shown(call: &ReturningCall, reply: &Reply, paint: Paint) -> String {
    let target = reply.contact.as_deref().unwrap_or(&reply.phrase);
    let status = match reply.outcome.as_str() {
        "callback" => paint.green(&reply.status.to_string()),
        _ => paint.yellow(&reply.status.to_string()),
    };
    format!(
        "\n  {:<13} dials {}  {}\n  {status} {:<36} {} {}\n",
        call.caller,
        call.dialed,
        paint.dim(call.story),
        target,
        paint.cyan(&reply.reason),
        paint.dim(&format!("({})", reply.outcome)),
    )
}

/// How to go on by hand.
fn by_hand(
    campaigns: &Campaigns,
    server: &ServerProcess,
    paint: Paint,
) -> Result<String, DemoError> {
    let scenario = server
        .write("returning-call.xml", SCENARIO)
        .map_err(DemoError::Setup)?;
    let program = std::env::current_exe().map_err(DemoError::Setup)?;
    let heading = |text: &str| paint.dim(&format!("# {text}"));
    Ok(format!(
        "\n{title}

{environment}
export RINGBACK_URL=http://{http} RINGBACK_TOKEN={token}

{console}
#   http://{http}/console/find

{ask}
curl -sw '\n' -H \"Authorization: Bearer $RINGBACK_TOKEN\" \\
  \"$RINGBACK_URL/api/v1/route?to=%2B{dialed}&from=%2B{known}&explain=true\"

{record}
curl -sw '\n' -H \"Authorization: Bearer $RINGBACK_TOKEN\" -H 'Content-Type: application/json' \\
  -d '{{\"agent_id\":\"{agent}\",\"to\":\"+{new}\",\"from\":\"+{dialed}\"}}' \\
  \"$RINGBACK_URL/api/v1/calls\"

{call}
sipp {sip} -sf {scenario} -s +{dialed} -key caller +{new} -m 1 -nostdin \\
  -trace_logs -log_file {reply} >/dev/null 2>&1; cat {reply}

{verb}
{program} route --to +{dialed} --from +{new} --explain

{end}
",
        title = paint.bold("Try it by hand, in another terminal:"),
        environment = heading("where, and as whom"),
        console = heading("why did each of these calls go there? paste the token here:"),
        ask = heading("where would this contact's call go, and why?"),
        record = heading("an outbound agent calls somebody new ..."),
        call = heading("... who dials back over SIP; the reply's Contact is shown"),
        verb = heading("the same question to the command line"),
        end = paint.dim("The server stays up until Ctrl-C; then its data is removed."),
        http = server.http(),
        sip = server.sip(),
        token = campaigns.token(),
        dialed = campaigns::SHARED.trim_start_matches('+'),
        known = campaigns::YESTERDAY.trim_start_matches('+'),
        new = campaigns::BY_HAND.trim_start_matches('+'),
        agent = campaigns.an_outbound_agent(),
        scenario = scenario.display(),
        reply = scenario.with_extension("log").display(),
        program = program.display(),
    ))
}

/// Where callers come from that follow a 302.
const FOLLOWING: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Where callers come from that do not; the configuration of the server says so.
const NOT_FOLLOWING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A returning call for sipp: INVITE, redirect, ACK.
const SCENARIO: &str = include_str!("demo/returning-call.xml");

/// What follows the options in the long help.
const EXAMPLES: &str = "\
The demonstration starts a server of its own on free loopback ports, with its data below the \
system's temporary folder. Exit code 0 if every reply was as it must be, 70 if not.

Examples:
  ringback demo            # stays up until Ctrl-C
  ringback demo --once";
