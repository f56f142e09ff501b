//! Options, and what is answered when nothing routes.

use ringback_lookup::{Asked, Settings, read};
use ringback_routing::Dialect;
use serde_json::{Value, json};

use crate::support::{Sent, URL, plain, settings};

fn problems(dialect: Dialect, options: &Value, on_nothing: &Value) -> Vec<String> {
    let problems = Settings::check(dialect, options, on_nothing, URL).expect_err("refused");
    problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn settings_are_shown_as_they_were_given() {
    for (dialect, options, on_nothing) in [
        (
            Dialect::Twilio,
            json!({"timeout": 5, "min_attestation": "A"}),
            json!({"action": "redirect", "url": "https://app.example.com/x?y=z"}),
        ),
        (
            Dialect::Drachtio,
            json!({"action": "redirect"}),
            json!({"action": "route", "tag": "ivr"}),
        ),
        (
            Dialect::FreeSwitch,
            json!({"profile": "internal-v6"}),
            json!({"action": "not_found"}),
        ),
        (
            Dialect::Vapi,
            json!({}),
            json!({"action": "assistant", "assistant_id": "x"}),
        ),
        (Dialect::Text, json!({"format": "PJSIP/t/{uri}"}), json!({})),
    ] {
        let settings = settings(dialect, &options, &on_nothing);
        assert_eq!(settings.options_shown(), options);
        assert_eq!(settings.on_nothing_shown(), on_nothing);
    }
}

#[test]
fn what_is_left_out_is_shown_as_what_holds() {
    for (dialect, shown) in [
        (Dialect::Twilio, json!({"action": "reject"})),
        (Dialect::Jambonz, json!({"action": "decline"})),
        (
            Dialect::Drachtio,
            json!({"action": "reject", "status": 480}),
        ),
        (Dialect::RustPbx, json!({"action": "not_handled"})),
        (Dialect::Retell, json!({})),
    ] {
        assert_eq!(plain(dialect).on_nothing_shown(), shown);
        // What is shown can be sent back.
        settings(dialect, &json!({}), &shown);
    }
}

#[test]
fn what_a_dialect_does_not_have_is_refused_under_its_name() {
    for (dialect, options) in [
        (Dialect::Twilio, json!({"profile": "x"})),
        (Dialect::Twilio, json!({"timeout": 4})),
        (Dialect::Telnyx, json!({"timeout": 121})),
        (Dialect::Telnyx, json!({"min_attestation": "a"})),
        (Dialect::Jambonz, json!({"min_attestation": "A"})),
        (Dialect::Jambonz, json!({"timeout": "20"})),
        (Dialect::RtJson, json!({"timeout": 20})),
        (Dialect::Drachtio, json!({"action": "fork"})),
        (Dialect::FreeSwitch, json!({"profile": "a/b"})),
        (Dialect::FreeSwitch, json!({"profile": ""})),
        (Dialect::Text, json!({"format": "PJSIP/trunk"})),
        (Dialect::Text, json!({"format": "{uri}\nx"})),
    ] {
        let name = options.as_object().unwrap().keys().next().unwrap();
        assert_eq!(
            problems(dialect, &options, &Value::Null),
            [format!("options.{name}")]
        );
    }
    assert_eq!(
        problems(Dialect::Text, &json!("x"), &Value::Null),
        ["options"]
    );
    for (dialect, on_nothing) in [
        (Dialect::Twilio, json!({"action": "decline"})),
        (Dialect::Twilio, json!({"action": "redirect"})),
        (
            Dialect::Twilio,
            json!({"action": "redirect", "url": "ftp://x/"}),
        ),
        (Dialect::Twilio, json!({"action": "redirect", "url": "/x"})),
        (
            Dialect::Twilio,
            json!({"action": "redirect", "url": "https://u@x/"}),
        ),
        (
            Dialect::Twilio,
            json!({"action": "redirect", "url": "https://CALLS.example.com:443/x"}),
        ),
        (Dialect::Twilio, json!({"action": "reject", "url": "x"})),
        (Dialect::Twilio, json!("reject")),
        (
            Dialect::Drachtio,
            json!({"action": "reject", "status": 200}),
        ),
        (Dialect::Drachtio, json!({"action": "route"})),
        (
            Dialect::Drachtio,
            json!({"action": "route", "tag": "a", "uri": "https://x"}),
        ),
        (
            Dialect::Vapi,
            json!({"action": "error", "message": "a\u{7}b"}),
        ),
        (
            Dialect::Vapi,
            json!({"action": "assistant", "assistant_id": "\"x"}),
        ),
        (Dialect::Retell, json!({"action": "reject"})),
    ] {
        assert_eq!(
            problems(dialect, &Value::Null, &on_nothing),
            ["on_nothing"],
            "{on_nothing}"
        );
    }
}

#[test]
fn a_caller_is_verified_by_what_the_platform_attests() {
    let (twilio, telnyx) = (Dialect::Twilio, Dialect::Telnyx);
    for (dialect, attested, is_verified) in [
        (twilio, "StirVerstat=TN-Validation-Passed-A", true),
        (twilio, "StirVerstat=TN-Validation-Passed-B", true),
        (twilio, "StirVerstat=TN-Validation-Passed-C", false),
        (twilio, "StirVerstat=TN-Validation-Passed", false),
        (twilio, "StirVerstat=TN-Validation-Failed-A", false),
        (twilio, "StirVerstat=TN-Validation-Passed-A-Diverted", false),
        (twilio, "", false),
        (
            telnyx,
            "ShakenStirAttestation=A&ShakenStirValidated=1",
            true,
        ),
        (
            telnyx,
            "ShakenStirAttestation=B&ShakenStirValidated=true",
            true,
        ),
        (
            telnyx,
            "ShakenStirAttestation=C&ShakenStirValidated=1",
            false,
        ),
        (
            telnyx,
            "ShakenStirAttestation=A&ShakenStirValidated=0",
            false,
        ),
        (telnyx, "ShakenStirAttestation=A", false),
        (telnyx, "ShakenStirValidated=1", false),
    ] {
        let sent = Sent::post(&format!("CallSid=c1&To=1&From=2&{attested}"));
        let Asked::Question(question) = sent.read(|request| read(dialect, request)) else {
            panic!("{attested}: a question");
        };
        let least = settings(dialect, &json!({"min_attestation": "B"}), &Value::Null);
        assert_eq!(least.is_verified(&question), is_verified, "{attested}");
        assert!(plain(dialect).is_verified(&question), "{attested}");
    }
}
