//! Data directories that older versions left, also by `kill -9`, are served by this one.

use std::fs;
use std::path::Path;

use ringback_testkit::{Server, ServerBuilder, SipPeer, copy_folder};
use serde_json::json;

use crate::BINARY;

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// Checks that a server knows all that the fixtures hold.
fn assert_served(server: &Server, token: &str) {
    let api = server.api(token);
    let peer = SipPeer::new(server.address("sip_udp"));
    for (contact, outcome, reason) in [
        ("+5511987654321", "callback", "returned_call_same_number"),
        ("+5511987654322", "callback", "returned_call_same_number"),
        // Mexico with the old 1: the same subscriber, whose call did not fail.
        ("+5215555550142", "default", "status_not_eligible"),
        // Erased, and not come back.
        ("+5511987650001", "default", "caller_never_called"),
    ] {
        let query = format!("?to={DIALED}&from={contact}").replace('+', "%2B");
        let data = api.get(&format!("/api/v1/route{query}")).data(200);
        assert_eq!(
            (&data["outcome"], &data["reason"]),
            (&json!(outcome), &json!(reason))
        );
        let reply = peer.invite_until_served(DIALED, contact);
        assert_eq!(reply.contacts(), ["sip:taker@192.0.2.1"], "{}", reply.text);
        assert_eq!(reply.header("X-Ringback-Reason"), reason);
    }
    let agents = api.get("/api/v1/agents").data(200);
    assert_eq!(agents[1]["label"], "relabeled");
    let forgotten = api.get("/api/v1/contacts/%2B5511987650001");
    assert_eq!(forgotten.status, 404);
}

#[test]
fn directories_of_every_format_are_served() {
    for name in [
        "format-1-first",
        "format-1-second",
        "format-1-last",
        "format-2",
        "format-3",
        "format-3-audit",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/store");
        copy_folder(&fixture.join(name), &data_dir);
        let token = fs::read_to_string(data_dir.join("token")).unwrap();
        let token = token.trim();
        let start = || ServerBuilder::new(BINARY).data_dir(&data_dir).start();
        let mut server = start();
        if name.starts_with("format-1") {
            let _line = server.logged("is rewritten");
        }
        assert_served(&server, token);
        let agents = server.api(token).get("/api/v1/agents").data(200);
        let call = json!({"agent_id": agents[0]["id"], "to": "+5511987659999", "from": DIALED});
        assert_eq!(server.api(token).post("/api/v1/calls", call).status, 201);
        server.kill();
        // As any other from now on.
        let server = start();
        assert_served(&server, token);
        let known = server.api(token).get("/api/v1/contacts/%2B5511987659999");
        assert_eq!(known.data(200)["calls"].as_array().unwrap().len(), 1);
    }
}
