//! Who is served, by which rules, and how much.

use crate::redirect::config;
use crate::support::*;

/// A peer with this address and these lines.
fn peer(address: &str, lines: &str) -> String {
    format!("[[peers]]\naddress = [\"{address}\"]\n{lines}\n")
}

#[test]
fn a_stranger_gets_no_answer_and_costs_a_counter() {
    let server = TestServer::start(&peer("127.0.0.2", ""));
    let stranger = server.client();
    stranger.send(invite(OURS, CONTACT, "stranger"));
    stranger.send(request("OPTIONS", OURS, "stranger"));
    server.eventually("both counted", |server| {
        server.metric("dropped_total{cause=\"stranger\"}") == 2
    });
    let known = server.client_at("127.0.0.2");
    assert_eq!(status(&known.ask(invite(OURS, CONTACT, "known"))), 302);
    assert!(stranger.socket.set_nonblocking(true).is_ok());
    assert!(stranger.socket.recv(&mut [0; 100]).is_err());
    assert_eq!(server.metric("peer_invites_total{peer=\"127.0.0.2\"}"), 1);
}

#[test]
fn a_reload_swaps_peers_and_keeps_counters() {
    let server = TestServer::start(&peer("127.0.0.1", "name = \"a\""));
    let client = server.client();
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "one"))), 302);
    server.server.reload(config(&format!(
        "{}{}",
        peer("127.0.0.1", "name = \"a\"\ntransports = [\"udp\"]"),
        peer("127.0.0.9", "name = \"b\"")
    )));
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "two"))), 302);
    let other = server.client_at("127.0.0.9");
    assert_eq!(status(&other.ask(invite(OURS, CONTACT, "three"))), 302);
    assert_eq!(server.metric("peer_invites_total{peer=\"a\"}"), 2);
    server
        .server
        .reload(config(&peer("127.0.0.9", "transports = [\"tcp\"]")));
    other.send(invite(OURS, CONTACT, "four"));
    server.eventually("counted", |server| {
        server.metric("dropped_total{cause=\"transport\"}") == 1
    });
}

#[test]
fn a_caller_attested_lower_than_the_peer_must_takes_the_default_rung() {
    let server = TestServer::start(&format!(
        "{}{}",
        peer(
            "127.0.0.1",
            "trust-identity = true\nmin-attestation = \"B\""
        ),
        peer("127.0.0.2", "min-attestation = \"C\""),
    ));
    let asserted = |verstat: &str| {
        format!("P-Asserted-Identity: <tel:{CONTACT};verstat=TN-Validation-{verstat}>\r\n")
    };
    let indicated = |level: &str| {
        let asserted = asserted("Passed");
        format!("{asserted}P-Attestation-Indicator: {level}\r\n")
    };
    let named =
        format!("P-Asserted-Identity: \";verstat=TN-Validation-Passed-A;\" <sip:{CONTACT}@h>\r\n");
    for (ip, headers, is_verified) in [
        ("127.0.0.1", asserted("Passed-A"), true),
        ("127.0.0.1", asserted("Passed-B"), true),
        ("127.0.0.1", asserted("Passed-C"), false),
        ("127.0.0.1", asserted("Failed-A"), false),
        ("127.0.0.1", asserted("Passed"), false),
        ("127.0.0.1", indicated("A"), true),
        ("127.0.0.1", indicated("C"), false),
        (
            "127.0.0.1",
            indicated("A\r\nP-Attestation-Indicator: A"),
            false,
        ),
        ("127.0.0.1", named, false),
        ("127.0.0.1", String::new(), false),
        // Whom nobody trusts attests nothing.
        ("127.0.0.2", asserted("Passed-A"), false),
    ] {
        let call_id = format!("{ip} {headers}").replace(|c: char| !c.is_alphanumeric(), "-");
        let message = invite(OURS, CONTACT, &call_id)
            .replace("Max-Forwards", &format!("{headers}Max-Forwards"));
        let reply = server.client_at(ip).ask(&message);
        let reason = if is_verified {
            "returned_call_same_number"
        } else {
            "caller_not_verified"
        };
        assert_eq!(values(&reply, "X-Ringback-Reason"), [reason], "{message}");
    }
    // A caller without a number is one still.
    let reply = server.client().ask(invite(OURS, "anonymous", "nobody"));
    assert_eq!(values(&reply, "X-Ringback-Reason"), ["caller_anonymous"]);
}

#[test]
fn identity_is_read_in_the_order_and_with_the_trust_of_the_peer() {
    let server = TestServer::start(&format!(
        "{}{}{}{}",
        peer("127.0.0.1", "trust-identity = true"),
        // A peer that is not trusted is not believed.
        peer("127.0.0.2", ""),
        peer(
            "127.0.0.3",
            "trust-identity = true\nidentity-order = [\"from\", \"remote-party-id\"]"
        ),
        peer(
            "127.0.0.4",
            "identity-order = [\"p-preferred-identity\", \"diversion\", \"from\"]"
        ),
    ));
    let message = |call_id: &str, from: &str, headers: &str| {
        invite(OURS, from, call_id).replace("Max-Forwards", &format!("{headers}Max-Forwards"))
    };
    let pai = format!("P-Asserted-Identity: <sip:{CONTACT}@h>\r\n");
    let rpid = format!("Remote-Party-ID: \"A, B\" <sip:{CONTACT}@h>;party=calling\r\n");
    let anonymous = "P-Asserted-Identity: <sip:anonymous@anonymous.invalid>\r\n";
    let called = format!("Remote-Party-ID: <sip:{CONTACT}@h>;party=called\r\n");
    let preferred = format!("P-Preferred-Identity: <sip:{CONTACT}@h>\r\n");
    let diverted = format!("Diversion: <sip:{CONTACT}@h>;reason=no-answer\r\n");
    for (ip, from, headers, reason) in [
        (
            "127.0.0.1",
            "anonymous",
            pai.as_str(),
            "returned_call_same_number",
        ),
        (
            "127.0.0.1",
            "anonymous",
            rpid.as_str(),
            "returned_call_same_number",
        ),
        ("127.0.0.1", CONTACT, anonymous, "returned_call_same_number"),
        ("127.0.0.1", "bob", anonymous, "caller_invalid"),
        ("127.0.0.2", "anonymous", pai.as_str(), "caller_anonymous"),
        ("127.0.0.2", "bob", rpid.as_str(), "caller_invalid"),
        (
            "127.0.0.3",
            "+5511900000009",
            rpid.as_str(),
            "caller_never_called",
        ),
        (
            "127.0.0.3",
            "anonymous",
            rpid.as_str(),
            "returned_call_same_number",
        ),
        ("127.0.0.3", "anonymous", pai.as_str(), "caller_anonymous"),
        (
            "127.0.0.1",
            "anonymous",
            called.as_str(),
            "caller_anonymous",
        ),
        (
            "127.0.0.2",
            "anonymous",
            preferred.as_str(),
            "caller_anonymous",
        ),
        (
            "127.0.0.4",
            "anonymous",
            preferred.as_str(),
            "returned_call_same_number",
        ),
        (
            "127.0.0.4",
            "anonymous",
            diverted.as_str(),
            "returned_call_same_number",
        ),
    ] {
        let call_id = format!("{ip}-{from}-{}", headers.len());
        let reply = server.client_at(ip).ask(message(&call_id, from, headers));
        assert_eq!(
            values(&reply, "X-Ringback-Reason"),
            [reason],
            "{ip} {from} {headers}"
        );
    }
    let hidden = invite(OURS, "c8oqz84zk7z", "display").replace("From: <", "From: \"Anonymous\" <");
    let reply = server.client().ask(hidden);
    assert_eq!(values(&reply, "X-Ringback-Reason"), ["caller_anonymous"]);
}

#[test]
fn numbers_are_read_by_the_rules_of_the_peer() {
    let server = TestServer::start(&format!(
        "{}{}{}{}{}",
        peer(
            "127.0.0.1",
            "country = \"BR\"\ndialed-header = \"X-Dialed\""
        ),
        peer("127.0.0.2", "country = \"US\""),
        peer(
            "127.0.0.3",
            "international-prefix = \"011\"\ndialed-header = \"\""
        ),
        // A trunk whose request URI holds the pilot number or an account.
        peer(
            "127.0.0.4",
            "dialed-order = [\"request-uri\", \"X-Dialed\"]\nstrip-prefixes = [\"9\", \"1234#\"]"
        ),
        peer("127.0.0.5", "country = \"US\"\nnumber-form = \"e164\""),
    ));
    let ask = |ip: &str, dialed: &str, caller: &str, header: &str| {
        let message = invite(dialed, caller, &format!("{ip}{dialed}{caller}"))
            .replace("Max-Forwards", &format!("{header}Max-Forwards"));
        let reply = server.client_at(ip).ask(message);
        values(&reply, "X-Ringback-Reason")[0].to_owned()
    };
    let returned = "returned_call_same_number";
    assert_eq!(ask("127.0.0.1", "1130000000", "11987654321", ""), returned);
    let header = "X-Dialed: <tel:+55-11-3000-0000>\r\n";
    assert_eq!(ask("127.0.0.1", "trunk", CONTACT, header), returned);
    assert_eq!(ask("127.0.0.2", "011551130000000", CONTACT, ""), returned);
    assert_eq!(
        ask("127.0.0.2", OURS, "2015550123", ""),
        "caller_never_called"
    );
    assert_eq!(
        ask("127.0.0.3", "011551130000000", "11987654321", ""),
        returned
    );
    assert_eq!(
        ask("127.0.0.3", "00551130000000", CONTACT, ""),
        "number_unknown"
    );
    for pilot in ["+551139999999", "account-17"] {
        assert_eq!(ask("127.0.0.4", pilot, CONTACT, header), returned);
    }
    assert_eq!(
        ask("127.0.0.4", "+551138888888", CONTACT, ""),
        "number_unknown"
    );
    let prefixed = "X-Dialed: <sip:9+551130000000@h>\r\n";
    assert_eq!(ask("127.0.0.4", "trunk", CONTACT, prefixed), returned);
    for accounted in [
        "1234%23+551130000000",
        "1234%239+551130000000",
        "91234%23+551130000000",
    ] {
        let accounted = format!("X-Dialed: <sip:{accounted}@h>\r\n");
        assert_eq!(ask("127.0.0.4", "account", CONTACT, &accounted), returned);
    }
    // E.164 without its plus, on both sides; by national rules the number would not be ours.
    let bare = CONTACT.trim_start_matches('+');
    assert_eq!(ask("127.0.0.5", "551130000000", bare, ""), returned);
    assert_eq!(ask("127.0.0.2", "551130000000", bare, ""), "number_unknown");
}

#[test]
fn a_rate_holds_for_new_invites_alone() {
    let server = TestServer::start(&format!(
        "{}{}",
        peer("127.0.0.1", "name = \"a\"\nrate = 5\nretry-after = 7"),
        peer("127.0.0.2", "name = \"b\"\nrate = 1\nrefuse = \"silence\""),
    ));
    let client = server.client();
    let first = invite(OURS, CONTACT, "rate-0");
    let reply = client.ask(&first);
    let mut refused = 0;
    for call in 1..40 {
        let answer = client.ask(invite(OURS, CONTACT, &format!("rate-{call}")));
        match status(&answer) {
            302 => {}
            503 => {
                assert_eq!(values(&answer, "Retry-After"), ["7"]);
                refused += 1;
            }
            other => panic!("{other}"),
        }
        // Retransmissions, ACKs and other methods do not use that budget.
        assert_eq!(client.ask(&first), reply);
        client.send(request("ACK", OURS, "rate"));
    }
    assert!(refused >= 30, "{refused}");
    assert_eq!(server.metric("refused_total{cause=\"rate\"}"), refused);
    assert_eq!(server.metric("peer_refused_total{peer=\"a\"}"), refused);
    assert_eq!(status(&client.ask(request("OPTIONS", OURS, "rate"))), 200);

    let silent = server.client_at("127.0.0.2");
    assert_eq!(status(&silent.ask(invite(OURS, CONTACT, "silent-0"))), 302);
    for call in 1..4 {
        silent.send(invite(OURS, CONTACT, &format!("silent-{call}")));
        silent.assert_silence();
    }
    assert_eq!(server.metric("dropped_total{cause=\"rate\"}"), 3);
}

#[test]
fn other_methods_have_a_budget_of_their_own() {
    let server = TestServer::start(&peer("127.0.0.1", "rate = 1"));
    let client = server.client();
    for number in 0..1_000 {
        client.send(request("OPTIONS", OURS, &format!("flood-{number}")));
    }
    server.eventually("all looked at", |server| {
        server.metric("messages_received_total{transport=\"udp\"}") == 1_000
    });
    assert!(server.metric("dropped_total{cause=\"other_budget\"}") >= 500);
    assert!(server.metric("replies_total{status=\"200\"}") >= 100);
    let call = invite(OURS, CONTACT, "still-served");
    client.send(call);
    server.eventually("the call is served", |server| {
        server.metric("replies_total{status=\"302\"}") == 1
    });
}
