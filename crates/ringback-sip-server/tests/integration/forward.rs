//! Calls of peers in forward mode, sent on over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use ringback_routing::{AttemptCause, CallStatus, EndedBy, HeldTarget, TargetState};

use crate::support::{
    CALLBACK, CONTACT, Client, ENVIRONMENT, OURS, OUTBOUND, PATIENCE, TestServer, UNKNOWN, invite,
    request, status, target, values,
};

/// A target of calls.
pub(crate) struct Agent {
    socket: UdpSocket,
}

impl Agent {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    pub(crate) fn uri(&self) -> String {
        format!("sip:agent@{}", self.socket.local_addr().unwrap())
    }

    /// The next request.
    fn receive(&self) -> (String, SocketAddr) {
        let (request, from) = self.receive_any();
        (String::from_utf8(request).unwrap(), from)
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// The next datagram.
    pub(crate) fn receive_any(&self) -> (Vec<u8>, SocketAddr) {
        let mut room = [0; 65_536];
        let (length, from) = self.socket.recv_from(&mut room).expect("a datagram");
        (room[..length].to_vec(), from)
    }

    /// Sends anything.
    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.socket.send_to(bytes, to).unwrap();
    }

    /// The next request, which has this method. An INVITE that was not waited for is one sent again: a machine that
    /// stood still for half a second is no fault.
    pub(crate) fn expect(&self, method: &str) -> (String, SocketAddr) {
        loop {
            let (request, from) = self.receive();
            if request.starts_with(method) {
                return (request, from);
            }
            assert!(request.starts_with("INVITE"), "{request}");
        }
    }

    pub(crate) fn reply(&self, (request, from): &(String, SocketAddr), status: &str) {
        let reply = reply_to(request, status);
        self.socket.send_to(reply.as_bytes(), from).unwrap();
    }
}

/// The reply to a request.
pub(crate) fn reply_to(request: &str, status: &str) -> String {
    let mut reply = format!("SIP/2.0 {status}\r\n");
    for line in request.lines() {
        let name = line.split(':').next().unwrap();
        if ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            reply += &format!("{line}\r\n");
        } else if name == "To" {
            reply += &format!("{line};tag=agent\r\n");
        }
    }
    reply + "Contact: <sip:agent@127.0.0.2>\r\nContent-Length: 0\r\n\r\n"
}

/// A server whose peers are in forward mode, with these targets of the callback agent.
fn start(toml: &str, targets: &[String]) -> TestServer {
    let server = TestServer::start(&format!("mode = \"forward\"\n{toml}"));
    set_targets(&server, targets);
    server
}

pub(crate) fn set_targets(server: &TestServer, targets: &[String]) {
    server.program.change_agent(CALLBACK, |agent| {
        agent.targets = (0..)
            .zip(targets)
            .map(|(priority, uri)| target(uri, priority, 0))
            .collect();
    });
}

/// Waits for a reply with this status; others before it are provisional.
pub(crate) fn wait_for(client: &Client, wanted: u16) -> String {
    loop {
        let reply = client.receive();
        if status(&reply) == wanted {
            return reply;
        }
        assert!(status(&reply) < 200, "{reply}");
    }
}

/// A value of a metric of forwarding; 0 if there is none.
pub(crate) fn metric(server: &TestServer, name: &str) -> u64 {
    let mut page = String::new();
    server.server.write_metrics(&mut page);
    let prefix = format!("ringback_forward_{name} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn a_call_is_sent_on_with_its_decision_and_its_replies_come_back() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "call"));
    assert_eq!(status(&client.receive()), 100);
    let asked = agent.expect("INVITE");
    assert!(
        asked
            .0
            .starts_with(&format!("INVITE {} SIP/2.0\r\n", agent.uri())),
        "{}",
        asked.0
    );
    assert_eq!(values(&asked.0, "X-Ringback-Outcome"), ["callback"]);
    assert_eq!(values(&asked.0, "Max-Forwards"), ["69"]);
    assert_eq!(values(&asked.0, "Via").len(), 2);
    agent.reply(&asked, "180 Ringing");
    let ringing = client.receive();
    assert_eq!(status(&ringing), 180);
    assert_eq!(values(&ringing, "Via").len(), 1);
    agent.reply(&asked, "200 OK");
    let answer = client.receive();
    assert_eq!(status(&answer), 200);
    assert_eq!(values(&answer, "Contact"), ["<sip:agent@127.0.0.2>"]);
    server.eventually("the answer is counted", |server| {
        server.program.answered.lock().len() == 1
    });
    assert_eq!(
        *server.program.answered.lock(),
        [(ENVIRONMENT, "call".to_owned())]
    );
    let decided = server.program.decided.lock().len();
    assert_eq!(decided, 1);
    assert_eq!(
        metric(&server, "calls_total{state=\"unknown\",status=\"200\"}"),
        1
    );
    assert_eq!(metric(&server, "first_reply_seconds_count"), 1);
    assert_eq!(metric(&server, "transactions"), 1);
}

#[test]
fn a_refusal_goes_up_until_it_is_acknowledged() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let client = server.client();
    let call = invite(OURS, CONTACT, "busy");
    client.send(&call);
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "486 Busy Here");
    agent.expect("ACK");
    let busy = wait_for(&client, 486);
    assert_eq!(client.receive(), busy, "sent again until the ACK comes");
    client.send(call.replace("INVITE", "ACK"));
    client.assert_silence();
    assert_eq!(
        metric(&server, "calls_total{state=\"unknown\",status=\"486\"}"),
        1
    );
}

#[test]
fn the_next_target_is_tried() {
    let (first, second) = (Agent::new(), Agent::new());
    let server = start("", &[first.uri(), second.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "failover"));
    let asked = first.expect("INVITE");
    first.reply(&asked, "503 Busy");
    first.expect("ACK");
    let asked = second.expect("INVITE");
    second.reply(&asked, "200 OK");
    wait_for(&client, 200);
    assert_eq!(metric(&server, "failovers_total{cause=\"status\"}"), 1);
}

/// What an attempt gave: status and cause.
type Tried = (Option<u16>, Option<AttemptCause>);

/// What the program was told of a call in the end: each attempt, and who ended it.
fn told(server: &TestServer, call_id: &str) -> (Vec<Tried>, Option<EndedBy>) {
    let known = |server: &TestServer| server.program.forwarded.lock().get(call_id).cloned();
    server.eventually("the end is told", |server| known(server).is_some());
    let call = known(server).unwrap_or_default();
    let attempts = call.attempts.iter();
    let attempts = attempts.map(|attempt| (attempt.status, attempt.cause));
    (attempts.collect(), call.ended_by)
}

#[test]
fn what_was_tried_is_told_once_the_call_has_ended() {
    let (first, second) = (Agent::new(), Agent::new());
    let server = start("", &[first.uri(), second.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "answered"));
    first.reply(&first.expect("INVITE"), "503 Busy");
    first.expect("ACK");
    let asked = second.expect("INVITE");
    assert!(server.program.forwarded.lock().is_empty(), "it rings");
    second.reply(&asked, "200 OK");
    wait_for(&client, 200);
    let attempts = vec![(Some(503), Some(AttemptCause::Status)), (Some(200), None)];
    assert_eq!(told(&server, "answered"), (attempts, None));
    let known = server.program.forwarded.lock().get("answered").cloned();
    let known = known.expect("it was told");
    let uris = [first.uri(), second.uri()];
    assert!(
        known
            .attempts
            .iter()
            .map(|attempt| &*attempt.uri)
            .eq(uris.iter())
    );
    assert!(
        known
            .attempts
            .iter()
            .all(|attempt| attempt.reply_millis.is_some())
    );

    let client = server.client();
    client.send(invite(OURS, CONTACT, "refused"));
    first.reply(&first.expect("INVITE"), "486 Busy Here");
    wait_for(&client, 486);
    let attempts = vec![(Some(486), Some(AttemptCause::Status))];
    assert_eq!(told(&server, "refused"), (attempts, Some(EndedBy::Target)));

    let client = server.client();
    let call = invite(OURS, CONTACT, "cancelled");
    client.send(&call);
    first.expect("ACK");
    let asked = first.expect("INVITE");
    first.reply(&asked, "180 Ringing");
    wait_for(&client, 180);
    client.send(call.replace("INVITE", "CANCEL"));
    first.expect("CANCEL");
    first.reply(&asked, "487 Request Terminated");
    let attempts = vec![(Some(487), Some(AttemptCause::Cancelled))];
    assert_eq!(
        told(&server, "cancelled"),
        (attempts, Some(EndedBy::Caller))
    );
}

#[test]
fn a_silent_target_makes_room_for_the_next_one() {
    let (first, second) = (Agent::new(), Agent::new());
    let server = start("[forward]\nreply-timeout = 1", &[first.uri(), second.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "silent"));
    first.expect("INVITE");
    let asked = second.expect("INVITE");
    second.reply(&asked, "200 OK");
    wait_for(&client, 200);
    first.expect("INVITE");
    assert_eq!(metric(&server, "failovers_total{cause=\"timeout\"}"), 1);
}

#[test]
fn a_caller_can_hang_up() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let client = server.client();
    let call = invite(OURS, CONTACT, "cancel");
    client.send(&call);
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "180 Ringing");
    wait_for(&client, 180);
    client.send(call.replace("INVITE", "CANCEL"));
    let cancelled = agent.expect("CANCEL");
    agent.reply(&cancelled, "200 OK");
    agent.reply(&asked, "487 Request Terminated");
    agent.expect("ACK");
    let mut replies = [client.receive(), client.receive()];
    replies.sort();
    assert_eq!(replies.each_ref().map(|reply| status(reply)), [200, 487]);
    assert_eq!(values(&replies[0], "CSeq"), ["1 CANCEL"]);
    let unknown = request("CANCEL", OURS, "unknown");
    assert_eq!(status(&client.ask(unknown)), 481);
    client.send(call.replace("INVITE", "ACK"));
    client.assert_silence();
}

#[test]
fn messages_reach_the_thread_that_owns_their_call() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    // The system spreads callers over the threads, and all replies come from one source.
    let clients: Vec<Client> = (0..16).map(|_| server.client()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(invite(OURS, CONTACT, &format!("call-{number}")));
        let asked = agent.expect("INVITE");
        agent.reply(&asked, "180 Ringing");
        wait_for(client, 180);
        // From another port, as behind an address translation.
        let other = server.client();
        other.send(request("CANCEL", OURS, &format!("call-{number}")));
        assert_eq!(status(&other.receive()), 200);
        let cancelled = agent.expect("CANCEL");
        agent.reply(&cancelled, "200 OK");
        agent.reply(&asked, "487 Request Terminated");
        agent.expect("ACK");
        wait_for(client, 487);
        other.send(request("ACK", OURS, &format!("call-{number}")));
    }
}

#[test]
fn what_gets_no_target_is_refused_as_in_redirect_mode() {
    let server = start("", &["sip:agent@127.0.0.2:9".to_owned()]);
    let client = server.client();
    let unknown = invite(UNKNOWN, CONTACT, "unknown");
    let refused = client.ask(&unknown);
    assert_eq!(status(&refused), 404);
    assert_eq!(client.ask(&unknown), refused);
    let cancel = unknown.replace("INVITE", "CANCEL");
    assert_eq!(status(&client.ask(cancel)), 200, "it was answered for good");
    for (what, message, expected) in [
        ("hops", "Max-Forwards: 0", 483),
        ("extension", "Max-Forwards: 70\r\nProxy-Require: foo", 420),
    ] {
        let message = invite(OURS, CONTACT, what).replace("Max-Forwards: 70", message);
        assert_eq!(status(&client.ask(message)), expected, "{what}");
    }
    let in_dialog =
        invite(OURS, CONTACT, "dialog").replace("@192.0.2.1>\r\nCall", "@192.0.2.1>;tag=x\r\nCall");
    assert_eq!(status(&client.ask(in_dialog)), 481);
    assert_eq!(
        status(&client.ask(request("OPTIONS", OURS, "options"))),
        200
    );
    assert_eq!(server.metric("refused_total{cause=\"too_many_hops\"}"), 1);
}

#[test]
fn a_call_that_comes_back_unchanged_is_refused() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let client = server.client();
    let call = invite(OURS, CONTACT, "loop");
    client.send(&call);
    let (asked, _) = agent.expect("INVITE");
    let ours = values(&asked, "Via")[0];
    let back = call.replace(
        "Via:",
        &format!("Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx;rport\r\nVia: {ours}\r\nVia:"),
    );
    let other = server.client();
    assert_eq!(status(&other.ask(back)), 482);
}

#[test]
fn a_target_that_leads_back_to_us_counts_as_a_503() {
    let server = start("", &[]);
    let own = format!("sip:agent@{}", server.address());
    set_targets(&server, &[own]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "self"));
    wait_for(&client, 500);
}

#[test]
fn each_peer_has_a_mode() {
    let agent = Agent::new();
    let peers = "[[peers]]\naddress = [\"127.0.0.1\"]\n[[peers]]\naddress = [\"127.0.0.3\"]\nmode = \"redirect\"";
    let server = start(peers, &[agent.uri()]);
    let redirected = server.client_at("127.0.0.3");
    let reply = redirected.ask(invite(OURS, CONTACT, "redirected"));
    assert_eq!(status(&reply), 302);
    let cancel = request("CANCEL", OURS, "nothing");
    assert_eq!(status(&redirected.ask(cancel)), 200);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "forwarded"));
    agent.expect("INVITE");
}

#[test]
fn no_more_calls_are_open_than_allowed() {
    let agent = Agent::new();
    let server = start("[forward]\nmax-transactions = 1", &[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "one"));
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "180 Ringing");
    wait_for(&client, 180);
    server.eventually("the call is counted", |server| {
        metric(server, "transactions") == 1
    });
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "two"))), 503);
    assert_eq!(server.metric("refused_total{cause=\"transactions\"}"), 1);
}

/// The reply to a request, with these contacts.
fn moved_to(request: &str, contacts: &str) -> String {
    reply_to(request, "302 Moved").replace("<sip:agent@127.0.0.2>", contacts)
}

#[test]
fn a_3xx_is_followed_to_hosts_that_are_listed() {
    let (agent, other) = (Agent::new(), Agent::new());
    let elsewhere = UdpSocket::bind("127.0.0.4:0").unwrap();
    elsewhere.set_read_timeout(Some(PATIENCE)).unwrap();
    let listed = Agent { socket: elsewhere };
    let toml = "[forward]\nfollow = [\"127.0.0.4\"]\n[[peers]]\naddress = [\"127.0.0.1\"]\nrecord-route = true";
    let server = start(toml, &[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "followed"));
    let (asked, from) = agent.expect("INVITE");
    let contacts = format!(
        "<{}>;q=0.9, <sip:nobody@127.0.0.4:9>;q=0.1, <{}>;q=0.5",
        other.uri(),
        listed.uri()
    );
    let moved = moved_to(&asked, &contacts);
    agent.socket.send_to(moved.as_bytes(), from).unwrap();
    agent.expect("ACK");
    let asked = listed.expect("INVITE");
    assert_eq!(values(&asked.0, "X-Ringback-Outcome"), ["callback"]);
    assert_eq!(values(&asked.0, "Record-Route").len(), 1);
    listed.reply(&asked, "200 OK");
    wait_for(&client, 200);

    client.send(invite(OURS, CONTACT, "elsewhere"));
    let (asked, from) = agent.expect("INVITE");
    let moved = moved_to(&asked, &format!("<{}>", other.uri()));
    agent.socket.send_to(moved.as_bytes(), from).unwrap();
    let reply = wait_for(&client, 302);
    assert!(reply.contains(&other.uri()), "{reply}");
}

#[test]
fn a_peer_has_no_more_calls_open_than_it_may_and_leaves_the_others_theirs() {
    let agent = Agent::new();
    let peers = "[[peers]]\naddress = [\"127.0.0.1\"]\nmax-transactions = 2\n[[peers]]\naddress = [\"127.0.0.3\"]";
    let server = start(peers, &[agent.uri()]);
    let client = server.client();
    let nowhere = invite(UNKNOWN, CONTACT, "nowhere");
    assert_eq!(status(&client.ask(nowhere)), 404, "it does not stay open");
    for call in ["one", "two"] {
        client.send(invite(OURS, CONTACT, call));
        let asked = agent.expect("INVITE");
        agent.reply(&asked, "180 Ringing");
        wait_for(&client, 180);
    }
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "three"))), 503);
    assert_eq!(server.metric("refused_total{cause=\"transactions\"}"), 1);
    let other = server.client_at("127.0.0.3");
    other.send(invite(OURS, CONTACT, "other"));
    agent.expect("INVITE");
}

#[test]
fn an_outbound_call_is_sent_to_the_next_hop_and_learned() {
    let gateway = Agent::new();
    let hop = gateway.socket.local_addr().unwrap();
    let peers =
        format!("[[peers]]\naddress = [\"127.0.0.1\"]\nlearn = true\nnext-hop = \"sip:{hop}\"");
    let server = start(&peers, &[]);
    let client = server.client();
    let id = OUTBOUND.0;
    let call = invite(UNKNOWN, OURS, "outbound").replace(
        "Content-Length",
        &format!("X-Ringback-Agent: {id}\r\nContent-Length"),
    );
    client.send(&call);
    let asked = gateway.expect("INVITE");
    assert!(
        asked
            .0
            .starts_with(&format!("INVITE sip:{UNKNOWN}@{hop} SIP/2.0\r\n")),
        "{}",
        asked.0
    );
    assert!(!asked.0.contains("X-Ringback"), "{}", asked.0);
    gateway.reply(&asked, "486 Busy Here");
    gateway.expect("ACK");
    wait_for(&client, 486);
    server.eventually("the status is learned", |server| {
        let learned = server.program.learned.lock();
        learned
            .last()
            .is_some_and(|call| call.status == CallStatus::Busy)
    });
}

/// The next message on a stream, which has no body.
fn read_message(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a message");
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn calls_go_over_tcp_both_ways() {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = start("", &[format!("sip:agent@{address};transport=tcp")]);
    let mut caller = TcpStream::connect(server.address()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut accepted: Option<TcpStream> = None;
    for number in 0..3 {
        let call = invite(OURS, CONTACT, &format!("tcp-{number}")).replace("/UDP", "/TCP");
        caller.write_all(call.as_bytes()).unwrap();
        assert_eq!(status(&read_message(&mut caller)), 100);
        let agent = accepted.get_or_insert_with(|| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        let asked = read_message(agent);
        assert!(asked.starts_with("INVITE"), "{asked}");
        assert!(
            values(&asked, "Via")[0].starts_with("SIP/2.0/TCP"),
            "{asked}"
        );
        agent
            .write_all(reply_to(&asked, "180 Ringing").as_bytes())
            .unwrap();
        assert_eq!(status(&read_message(&mut caller)), 180);
        caller
            .write_all(call.replace("INVITE", "CANCEL").as_bytes())
            .unwrap();
        assert_eq!(status(&read_message(&mut caller)), 200);
        let cancel = read_message(agent);
        assert!(cancel.starts_with("CANCEL"), "{cancel}");
        let replies = reply_to(&cancel, "200 OK") + &reply_to(&asked, "487 Request Terminated");
        agent.write_all(replies.as_bytes()).unwrap();
        assert!(read_message(agent).starts_with("ACK"));
        assert_eq!(status(&read_message(&mut caller)), 487);
        caller
            .write_all(call.replace("INVITE", "ACK").as_bytes())
            .unwrap();
    }
}

// Each call to such a target paid for a connection that could not be opened.
#[test]
fn where_no_connection_could_be_opened_long_invites_go_over_udp_for_a_while() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let filler = format!("X-Filler: {}\r\nContent-Length", "x".repeat(1_300));
    let mut listener = None;
    for call in ["first", "second"] {
        let client = server.client();
        client.send(invite(OURS, CONTACT, call).replace("Content-Length", &filler));
        let asked = agent.expect("INVITE");
        agent.reply(&asked, "200 OK");
        wait_for(&client, 200);
        // It could be opened now.
        listener = listener.or_else(|| TcpListener::bind(("127.0.0.2", agent.port())).ok());
    }
    let listener = listener.expect("the port is free");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody has tried again");
}

#[test]
fn a_refused_connection_leads_to_the_next_target_at_once() {
    let closed = TcpListener::bind("127.0.0.2:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let agent = Agent::new();
    let closed = format!("sip:agent@{closed};transport=tcp");
    let server = start("[forward]\nreply-timeout = 60", &[closed, agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "refused"));
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "200 OK");
    wait_for(&client, 200);
    assert_eq!(metric(&server, "failovers_total{cause=\"refused\"}"), 1);
}

// Such a target was noticed by its silence alone, and each call waited for its reply timeout.
#[test]
fn a_closed_port_leads_to_the_next_target_at_once_and_is_passed_over() {
    let closed = Agent::new().uri();
    let agent = Agent::new();
    let server = start("[forward]\nreply-timeout = 60", &[closed, agent.uri()]);
    for number in 0..16 {
        let client = server.client();
        client.send(invite(OURS, CONTACT, &format!("closed-{number}")));
        let asked = agent.expect("INVITE");
        agent.reply(&asked, "200 OK");
        wait_for(&client, 200);
    }
    assert_eq!(metric(&server, "targets_down"), 1);
    assert_eq!(metric(&server, "failovers_total{cause=\"refused\"}"), 1);
}

#[test]
fn when_the_server_stops_what_rings_is_answered() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "stop"));
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "180 Ringing");
    wait_for(&client, 180);
    server.server.drain();
    let refused = client.ask(invite(OURS, CONTACT, "late"));
    assert_eq!(status(&refused), 503);
    server.eventually("the call is seen to ring", |server| {
        server.server.ringing() == 1
    });
    server.server.stop();
    wait_for(&client, 503);
    agent.expect("CANCEL");
}

/// A request of a call that was answered, with the Record-Route lines of the answer.
pub(crate) fn in_dialog(
    method: &str,
    answer: &str,
    uri: &str,
    from: &str,
    to: &str,
    via: &str,
) -> String {
    let mut routes = String::new();
    for route in values(answer, "Record-Route") {
        routes += &format!("Route: {route}\r\n");
    }
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK-{method};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 2 {method}\r\n\
         Content-Length: 0\r\n\r\n",
        values(answer, "Call-ID")[0]
    )
}

/// A server that stays in the path.
fn start_in_path(targets: &[String]) -> TestServer {
    let peers = "[[peers]]\naddress = [\"127.0.0.1\"]\nrecord-route = true";
    start(peers, targets)
}

#[test]
fn requests_of_an_answered_call_come_through_where_we_stay_in_the_path() {
    let agent = Agent::new();
    let server = start_in_path(&[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "dialog"));
    let asked = agent.expect("INVITE");
    assert_eq!(values(&asked.0, "Record-Route").len(), 1);
    agent.reply(&asked, "200 OK");
    let answer = wait_for(&client, 200);
    let (from, to) = (values(&answer, "From")[0], values(&answer, "To")[0]);
    let local = client.socket.local_addr().unwrap();
    let via = format!("UDP {local}");
    client.send(in_dialog("ACK", &answer, &agent.uri(), from, to, &via));
    let (ack, _) = agent.expect("ACK");
    assert!(values(&ack, "Route").is_empty(), "{ack}");
    assert_eq!(values(&ack, "Via").len(), 2);
    // The target hangs up, at another port of it; the caller answers.
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let via = format!("UDP {}", other.local_addr().unwrap());
    let bye = in_dialog(
        "BYE",
        &answer,
        &format!("sip:caller@{local}"),
        to,
        from,
        &via,
    );
    let briefly = std::time::Duration::from_millis(100);
    client.socket.set_read_timeout(Some(briefly)).unwrap();
    server.eventually("the target is known by its address", |_| {
        other.send_to(bye.as_bytes(), server.address()).unwrap();
        client
            .receive_any()
            .is_some_and(|text| text.starts_with("BYE"))
    });
    client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    other.send_to(bye.as_bytes(), server.address()).unwrap();
    let asked = client.receive();
    client.send(reply_to(&asked, "200 OK"));
    let mut room = [0; 4_096];
    let (length, _) = other.recv_from(&mut room).unwrap();
    let reply = String::from_utf8(room[..length].to_vec()).unwrap();
    assert!(reply.starts_with("SIP/2.0 200 OK"), "{reply}");
    assert_eq!(values(&reply, "Via").len(), 1);
}

// Replies to a caller whose connection had broken were lost, and the caller waited for its own timeout.
#[test]
fn a_caller_that_lost_its_connection_gets_the_reply_over_a_new_one() {
    let agent = Agent::new();
    let server = start("", &[agent.uri()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut caller = TcpStream::connect(server.address()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let call = invite(OURS, CONTACT, "lost");
    let via = values(&call, "Via")[0];
    let branch = via.split_once(';').unwrap().1;
    let own = format!("SIP/2.0/TCP 127.0.0.1:{port};{branch}");
    caller
        .write_all(call.replace(via, &own).as_bytes())
        .unwrap();
    assert_eq!(status(&read_message(&mut caller)), 100);
    let asked = agent.expect("INVITE");
    drop(caller);
    listener.set_nonblocking(true).unwrap();
    let accepted = std::cell::RefCell::new(None);
    server.eventually("the loss is noticed", |_| {
        agent.reply(&asked, "200 OK");
        *accepted.borrow_mut() = listener.accept().ok();
        accepted.borrow().is_some()
    });
    let (mut stream, _) = accepted.into_inner().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let reply = read_message(&mut stream);
    assert_eq!(status(&reply), 200);
    assert!(values(&reply, "Via")[0].starts_with(&own), "{reply}");
}

#[test]
fn nobody_else_can_send_through_us() {
    let agent = Agent::new();
    let server = start_in_path(&[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "relay"));
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "200 OK");
    let answer = wait_for(&client, 200);
    let (from, to) = (values(&answer, "From")[0], values(&answer, "To")[0]);
    let via = format!("UDP {}", client.socket.local_addr().unwrap());
    let good = in_dialog("BYE", &answer, &agent.uri(), from, to, &via);
    let other = good.replace("Call-ID: relay", "Call-ID: other");
    assert_eq!(status(&client.ask(other)), 481);
    let back = in_dialog(
        "BYE",
        &answer,
        &format!("sip:{}", server.address()),
        from,
        to,
        &via,
    );
    assert_eq!(status(&client.ask(back)), 482, "it would come back to us");
    client.send(good);
    agent.expect("BYE");
}

#[test]
fn a_caller_on_a_connection_gets_the_requests_of_the_target_over_it() {
    let agent = Agent::new();
    let server = start_in_path(&[agent.uri()]);
    let mut caller = TcpStream::connect(server.address()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let call = invite(OURS, CONTACT, "mixed").replace("/UDP", "/TCP");
    caller.write_all(call.as_bytes()).unwrap();
    let asked = agent.expect("INVITE");
    let routes = values(&asked.0, "Record-Route");
    assert_eq!(routes.len(), 2, "one for each transport");
    assert!(routes[1].contains(";transport=tcp"), "{routes:?}");
    agent.reply(&asked, "200 OK");
    let answer = loop {
        let reply = read_message(&mut caller);
        if status(&reply) == 200 {
            break reply;
        }
    };
    let (from, to) = (values(&answer, "From")[0], values(&answer, "To")[0]);
    let via = format!("TCP {}", caller.local_addr().unwrap());
    let bye = in_dialog("BYE", &answer, &agent.uri(), from, to, &via);
    caller.write_all(bye.as_bytes()).unwrap();
    let asked = agent.expect("BYE");
    assert!(values(&asked.0, "Route").is_empty());
    agent.reply(&asked, "200 OK");
    let reply = read_message(&mut caller);
    assert!(
        reply.starts_with("SIP/2.0 200") && reply.contains("2 BYE"),
        "{reply}"
    );
}

#[test]
fn a_target_that_gave_no_reply_is_passed_over_for_a_while() {
    for (hold_down, is_passed_over) in [(30, true), (0, false)] {
        let (first, second) = (Agent::new(), Agent::new());
        let toml = format!("[forward]\nreply-timeout = 1\nhold-down = {hold_down}");
        let server = start(&toml, &[first.uri(), second.uri()]);
        let client = server.client();
        client.send(invite(OURS, CONTACT, "one"));
        first.expect("INVITE");
        let asked = second.expect("INVITE");
        second.reply(&asked, "200 OK");
        wait_for(&client, 200);
        assert_eq!(metric(&server, "targets_down"), u64::from(is_passed_over));
        let client = server.client();
        client.send(invite(OURS, CONTACT, "two"));
        let asked = second.expect("INVITE");
        second.reply(&asked, "200 OK");
        wait_for(&client, 200);
        let mut calls = Vec::new();
        first.socket.set_nonblocking(true).unwrap();
        let mut room = [0; 4_096];
        while let Ok(length) = first.socket.recv(&mut room) {
            calls.push(String::from_utf8(room[..length].to_vec()).unwrap());
        }
        let asked_again = calls.iter().any(|call| call.contains("Call-ID: two"));
        assert_eq!(asked_again, !is_passed_over);
    }
}

#[test]
fn targets_that_are_all_down_are_tried_all_the_same() {
    let agent = Agent::new();
    let server = start("[forward]\nreply-timeout = 1", &[agent.uri()]);
    let client = server.client();
    client.send(invite(OURS, CONTACT, "one"));
    agent.expect("INVITE");
    wait_for(&client, 408);
    let other = server.client();
    other.send(invite(OURS, CONTACT, "two"));
    let asked = loop {
        let asked = agent.expect("INVITE");
        if asked.0.contains("Call-ID: two") {
            break asked;
        }
    };
    agent.reply(&asked, "200 OK");
    wait_for(&other, 200);
    server.eventually("it is up again", |server| {
        metric(server, "targets_down") == 0
    });
}

/// Replies to the next OPTIONS, whatever comes before it.
fn reply_to_probe(agent: &Agent, reply: &str) -> String {
    loop {
        let asked = agent.receive();
        if asked.0.starts_with("OPTIONS") {
            agent.reply(&asked, reply);
            return asked.0;
        }
    }
}

#[test]
fn a_target_that_does_not_reply_to_options_is_passed_over_until_it_does() {
    let (first, second) = (Agent::new(), Agent::new());
    let toml = "[forward]\nprobe = 1\nprobe-down = 2\nreply-timeout = 1";
    let server = start(toml, &[first.uri(), second.uri()]);
    let asked = reply_to_probe(&first, "404 No User");
    assert!(asked.starts_with(&format!(
        "OPTIONS sip:{} SIP/2.0\r\n",
        first.socket.local_addr().unwrap()
    )));
    let state = |agent: &Agent| {
        let destination = format!("sip:{}", agent.socket.local_addr().unwrap());
        server.server.target_health(ENVIRONMENT, &destination)
    };
    server.eventually("a reply is life", |_| {
        state(&first).state == TargetState::Up
    });
    assert_eq!(state(&first).last_status, Some(404));
    assert!(state(&first).rtt.is_some() && state(&first).since.is_some());
    // 503 is none, and neither is silence.
    reply_to_probe(&first, "503 Later");
    reply_to_probe(&first, "503 Later");
    server.eventually("it is down", |_| state(&first).state == TargetState::Down);
    assert!(metric(&server, "probes_total{result=\"unavailable\"}") >= 2);
    server.eventually("the other one is down too", |_| {
        state(&second).state == TargetState::Down
    });
    assert!(metric(&server, "probes_total{result=\"silent\"}") >= 2);
    second.socket.set_nonblocking(true).unwrap();
    server.eventually("it is back", |_| {
        // Those that it was silent to are too late.
        let mut room = [0; 4_096];
        while let Ok((length, from)) = second.socket.recv_from(&mut room) {
            let asked = String::from_utf8(room[..length].to_vec()).unwrap();
            second.reply(&(asked, from), "200 OK");
        }
        state(&second).state == TargetState::Up
    });
    second.socket.set_nonblocking(false).unwrap();
    let client = server.client();
    client.send(invite(OURS, CONTACT, "probed"));
    let asked = loop {
        let asked = second.receive();
        if asked.0.starts_with("INVITE") {
            break asked;
        }
    };
    second.reply(&asked, "200 OK");
    wait_for(&client, 200);
    assert_eq!(
        metric(&server, "calls_total{state=\"up\",status=\"200\"}"),
        1
    );
    assert_eq!((state(&second).calls, state(&second).failures), (1, 0));
    assert_eq!(state(&first).calls, 0);
}

#[test]
fn what_an_operator_has_taken_down_gets_calls_only_where_nothing_else_is_left() {
    let (first, second) = (Agent::new(), Agent::new());
    let server = start("", &[first.uri(), second.uri()]);
    let hold = |agents: &[&Agent]| {
        server.program.change(|directory| {
            let environment = directory.environment_by_id(ENVIRONMENT).unwrap();
            let mut record = environment.record.clone();
            record.held_targets = agents
                .iter()
                .map(|agent| HeldTarget {
                    destination: format!("sip:{}", agent.socket.local_addr().unwrap()),
                    is_up: false,
                    since: record.created_at,
                })
                .collect();
            directory.put_environment(record);
        });
    };
    for (held, taker) in [(&[&first][..], &second), (&[&first, &second], &first)] {
        hold(held);
        let client = server.client();
        client.send(invite(OURS, CONTACT, &format!("held-{}", held.len())));
        let asked = taker.expect("INVITE");
        taker.reply(&asked, "200 OK");
        wait_for(&client, 200);
    }
}

#[test]
fn a_302_leaves_out_what_is_down_where_targets_are_probed_for_it() {
    let (first, second) = (Agent::new(), Agent::new());
    let toml = "[forward]\nprobe = 1\nprobe-down = 1\nreply-timeout = 1\nprobe-redirects = true";
    let server = TestServer::start(toml);
    set_targets(&server, &[first.uri(), second.uri()]);
    reply_to_probe(&second, "200 OK");
    server.eventually("one target is down", |server| {
        metric(server, "targets_down") == 1
    });
    let reply = server.client().ask(invite(OURS, CONTACT, "probed"));
    assert_eq!(status(&reply), 302);
    assert_eq!(values(&reply, "Contact").len(), 1, "{reply}");
    assert!(
        values(&reply, "Contact")[0].contains(&second.uri()),
        "{reply}"
    );
}
