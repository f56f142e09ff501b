//! What is left of a contact once it is erased.

use ringback_testkit::{Api, Server, ServerBuilder};
use serde_json::{Value, json};

use crate::BINARY;

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// The contact that is erased.
const ERASED: &str = "+5511987654321";

/// Another one.
const OTHER: &str = "+5511987654322";

/// Asks how a contact's call with this id is routed.
fn route(api: &Api, contact: &str, sid: &str) -> Value {
    let body = json!({"to": DIALED, "from": contact, "sid": sid});
    api.post("/api/v1/route", body).data(200)
}

/// Whether the callbacks of these days are as many.
fn received(server: &Server, token: &str) -> Value {
    let stats = server.api(token).get("/api/v1/callback-agents/stats");
    stats.data(200)["total_callbacks_received"].clone()
}

#[test]
fn answers_given_to_an_erased_contact_are_given_again_without_its_number() {
    // The text of the answer was kept with the number in it, for a day.
    let scratch = tempfile::tempdir().unwrap();
    let start = || {
        ServerBuilder::new(BINARY)
            .data_dir(scratch.path().join("data"))
            .start()
    };
    let mut server = start();
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number(DIALED);
    let [source, _] = api.callback_pair(["source", "taker"], &number, "sip:{caller}@192.0.2.1");
    for contact in [ERASED, OTHER] {
        let sid = format!("out-{contact}");
        let call = json!({"sid": sid, "agent_id": source, "to": contact, "from": DIALED});
        assert_eq!(api.post("/api/v1/calls", call).status, 201);
    }
    let first = route(&api, ERASED, "in-1");
    let others = route(&api, OTHER, "in-2");
    assert_eq!(first["outcome"], "callback");
    assert_eq!(first["call"]["to"], ERASED);
    assert_eq!(
        first["targets"][0]["uri"],
        format!("sip:{ERASED}@192.0.2.1")
    );
    assert_eq!(route(&api, ERASED, "in-1"), first);

    let path = format!("/api/v1/contacts/{}", ERASED.replace('+', "%2B"));
    assert_eq!(api.delete(&path).status, 200);
    let token = api.token().to_owned();
    for restarted in [false, true] {
        if restarted {
            server.kill();
            server = start();
        }
        let api = server.api(&token);
        // The call goes where it went, counts no second time, and the number comes from who asks alone.
        let again = route(&api, "anonymous", "in-1");
        assert!(!again.to_string().contains(&ERASED[1..]), "{again}");
        assert_eq!(again["call"], Value::Null);
        assert_eq!(again["targets"][0]["uri"], "sip:anonymous@192.0.2.1");
        for key in [
            "outcome",
            "reason",
            "agent",
            "source_agent",
            "routed_call_sid",
        ] {
            assert_eq!(again[key], first[key], "{key}");
        }
        assert_eq!(route(&api, ERASED, "in-1")["targets"], first["targets"]);
        // Others get what they got.
        assert_eq!(route(&api, OTHER, "in-2"), others);
        assert_eq!(route(&api, "anonymous", "in-2"), others);
        assert_eq!(received(&server, &token), 2);
        let answered = api.post("/api/v1/routed-calls/in-1/answered", json!({}));
        assert_eq!(answered.status, 200);
        // Another call of the same contact is a new one.
        let fresh = route(&api, ERASED, &format!("in-3-{restarted}"));
        assert_eq!(fresh["reason"], "caller_never_called");
    }
}
