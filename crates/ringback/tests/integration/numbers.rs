//! Numbers as people, spreadsheets and gateways write them, through every entrance: a wrong number is worse than none.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ringback_testkit::{Api, Server, ServerBuilder, SipPeer};
use serde_json::json;

use crate::{BINARY, client};

/// By which rules an environment and its peer read, and what they make of what is written for a contact; `None`:
/// nobody can tell who is meant.
struct Rules {
    country: &'static str,
    form: &'static str,
    written: &'static [(&'static str, Option<&'static str>)],
}

/// Each of these used to be another subscriber, or to be refused where it names one.
const RULES: &[Rules] = &[
    Rules {
        country: "DE",
        form: "national",
        written: &[
            ("491713920042", Some("+491713920042")),
            ("4915228817386", Some("+4915228817386")),
            ("0171 3920043", Some("+491713920043")),
            ("493023125142.0", Some("+493023125142")),
            ("'+493023125143", Some("+493023125143")),
            ("=\"+493023125144\"", Some("+493023125144")),
            ("493023125145.5", None),
            ("4.93E+11", None),
        ],
    },
    Rules {
        country: "US",
        form: "national",
        written: &[
            ("+12025550119,,123#", Some("+12025550119")),
            ("tel:+1-202-555-0120;ext=1234", Some("+12025550120")),
            ("+1 202 555 0121 x123", Some("+12025550121")),
            ("(202) 555-0122 ext. 7", Some("+12025550122")),
            ("447700900142", None),
            ("+266696687", None),
            ("+86282452253", None),
        ],
    },
    Rules {
        country: "US",
        form: "e164",
        written: &[
            ("447700900142", Some("+447700900142")),
            ("12025550119", Some("+12025550119")),
            ("011447700900143", Some("+447700900143")),
        ],
    },
];

/// The number that contacts dial.
const DIALED: &str = "+12025550100";

/// A server whose peer on this machine reads by these settings.
fn server(settings: &str) -> Server {
    let peer = format!("[[sip.peers]]\naddress = [\"127.0.0.1\"]\n{settings}");
    ServerBuilder::new(BINARY).config(peer).start()
}

/// An agent that calls from a number, and one that takes its calls back; gives their ids.
fn campaign(api: &Api, number: &str) -> [String; 2] {
    api.callback_pair(["Sales", "Desk"], number, "sip:desk@192.0.2.1")
}

/// The reason of the decision for a call over SIP.
fn reason(server: &Server, dialed: &str, caller: &str) -> String {
    let peer = SipPeer::new(server.address("sip_udp"));
    let user = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let call_id = format!("{dialed}-{caller}");
    let call_id = user(&call_id);
    let invite = peer.invite_text(&user(dialed), &user(caller), &call_id);
    // A caller who withholds nothing.
    let reply = peer.exchange(
        &invite.replace("@anonymous.invalid", "@192.0.2.1"),
        &call_id,
    );
    reply.header("x-ringback-reason").to_owned()
}

#[test]
fn what_is_written_for_a_contact_is_that_contact_or_nobody_through_every_entrance() {
    for rules in RULES {
        let server = server(&format!(
            "country = \"{}\"\nnumber-form = \"{}\"\n",
            rules.country, rules.form
        ));
        let api = server.environment(json!({
            "name": "acme", "default_country": rules.country, "number_form": rules.form,
        }));
        let [agent, _] = campaign(&api, &api.number(DIALED));
        let mut csv = "sid,agent,to,from\n".to_owned();
        let mut rejects = "line,field,value,reason\n".to_owned();
        for (index, (written, meant)) in rules.written.iter().enumerate() {
            let call = json!({"sid": format!("api-{index}"), "agent_id": agent, "to": written});
            let reply = api.post("/api/v1/calls", call);
            match meant {
                Some(number) => assert_eq!(reply.data(201)["to"], *number, "{written}"),
                None => assert_eq!(reply.status, 422, "{written}: {}", reply.body),
            }
            let quoted = format!("\"{}\"", written.replace('"', "\"\""));
            let _infallible = writeln!(csv, "csv-{index},Sales,{quoted},{DIALED}");
            if meant.is_none() {
                let line = index + 2;
                let _infallible = writeln!(
                    rejects,
                    "{line},to,{written},The to field must be a valid phone number."
                );
            }
            // Neither a scheme nor the quotes of a spreadsheet stand in the user part of a URI.
            if !written.starts_with(['t', '\'', '=']) {
                let reason = reason(&server, DIALED, written);
                match meant {
                    Some(_) => assert_eq!(reason, "returned_call", "{written}"),
                    None => assert!(
                        ["caller_invalid", "caller_anonymous"].contains(&reason.as_str()),
                        "{written}: {reason}"
                    ),
                }
            }
        }
        let path = server.scratch().join("calls.csv");
        std::fs::write(&path, csv).unwrap();
        let kept = server.scratch().join("rejects.csv");
        let args = [
            "import",
            "calls",
            path.to_str().unwrap(),
            "--started-now",
            "--rejects",
            kept.to_str().unwrap(),
        ];
        let output = client(&server, api.token(), &args);
        let is_any_rejected = rules.written.iter().any(|(_, meant)| meant.is_none());
        assert_eq!(
            output.code,
            Some(if is_any_rejected { 65 } else { 0 }),
            "{}",
            output.stderr
        );
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), rejects);
        for (index, (_, meant)) in rules.written.iter().enumerate() {
            let Some(number) = meant else { continue };
            let contact = api.get(&format!("/api/v1/contacts/{number}")).data(200);
            let calls = contact["calls"].as_array().unwrap().iter();
            let sids: BTreeSet<&str> = calls.map(|call| call["sid"].as_str().unwrap()).collect();
            let expected = [format!("api-{index}"), format!("csv-{index}")];
            assert_eq!(sids, expected.iter().map(String::as_str).collect());
        }
    }
}

/// Subscribers of countries that have changed their numbers, in the former spelling and in today's.
const SPELLINGS: [[&str; 2]; 3] = [
    ["+5215555550142", "+525555550142"],
    ["+5491123456789", "+541123456789"],
    ["+551187654321", "+5511987654321"],
];

#[test]
fn two_spellings_of_a_subscriber_are_one_contact_and_one_number_of_ours() {
    let server = server("");
    for spellings in SPELLINGS {
        for [recorded, other] in [spellings, [spellings[1], spellings[0]]] {
            let api = server.environment(json!({"name": "acme"}));
            // What was dialed from is written in the one spelling, and called back in the other.
            let id = api.number(recorded);
            let taken = api.post("/api/v1/phone-numbers", json!({"number": other}));
            assert_eq!(taken.status, 409, "{other}: {}", taken.body);
            let [source, taker] = campaign(&api, &id);
            let call = json!({"sid": recorded, "agent_id": source, "to": recorded, "from": other});
            assert_eq!(api.post("/api/v1/calls", call).status, 201);
            for (dialed, caller) in [(recorded, other), (other, recorded)] {
                let reason = reason(&server, dialed, caller);
                assert_eq!(reason, "returned_call_same_number", "{dialed} {caller}");
            }
            for asked in [recorded, other] {
                let contact = api.get(&format!("/api/v1/contacts/{asked}")).data(200);
                assert_eq!(contact["number"], recorded);
            }
            let again = json!({"sid": other, "agent_id": source, "to": other});
            assert_eq!(api.post("/api/v1/calls", again).status, 201);
            let contact = api.get(&format!("/api/v1/contacts/{other}")).data(200);
            assert_eq!(contact["calls"][0]["to"], other);
            assert_eq!(
                contact["number"], recorded,
                "as the older of its calls has it"
            );
            for agent in [source, taker] {
                api.remove_agent(&agent);
            }
            assert_eq!(
                api.delete(&format!("/api/v1/phone-numbers/{id}")).status,
                200
            );
        }
    }
}
