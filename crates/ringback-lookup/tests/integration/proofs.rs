//! Proofs: the vectors that platforms publish, or that their own libraries make, and what must not hold.

use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ringback_lookup::is_secret;
use ringback_routing::{Dialect, Timestamp};

use crate::support::Sent;

const NOW: i64 = 1_795_262_400_000;

fn hmac_sha256(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn hmac_sha1(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn twilio_holds(sent: &Sent, url: &str, secret: &str) -> bool {
    let now = Timestamp::from_millis(NOW);
    sent.read_at(url, |request| {
        ringback_lookup::is_proven(Dialect::Twilio, secret, request, now)
    })
}

#[test]
fn twilios_signature_is_over_url_query_and_sorted_parameters() {
    let form = "To=%2B15550100222&CallSid=c1&From=%2B15550100111";
    let sent = Sent::post(form)
        .at("x=1")
        .with("x-twilio-signature", "r5jkOY9ddzV5gXXbV/8HoO0ejcc=");
    assert!(twilio_holds(
        &sent,
        "https://calls.example.com/lookup/k",
        "12345"
    ));
    assert!(twilio_holds(
        &sent,
        "https://calls.example.com:443/lookup/k",
        "12345"
    ));
    assert!(!twilio_holds(
        &sent,
        "https://calls.example.com:444/lookup/k",
        "12345"
    ));
    assert!(!twilio_holds(
        &sent,
        "http://calls.example.com/lookup/k",
        "12345"
    ));
    assert!(!twilio_holds(
        &sent,
        "https://calls.example.com/lookup/k",
        "12346"
    ));
    let with_settings = sent.with(
        "x-twilio-webhooks-signature-settings",
        "algorithm=HMAC_SHA256",
    );
    assert!(!twilio_holds(
        &with_settings,
        "https://calls.example.com/lookup/k",
        "12345"
    ));
}

#[test]
fn twilio_signs_blank_and_repeated_values_and_of_get_the_url_alone() {
    let url = "https://calls.example.com/lookup/k";
    let signature = hmac_sha1("s", &format!("{url}A B=?a1a2é"));
    let sent = Sent::post("a=2&A+B%3D%3F=&a=1&a=2&%C3%A9=").with("x-twilio-signature", &signature);
    assert!(twilio_holds(&sent, url, "s"));
    let sent = Sent::post("a=2&A+B%3D%3F=&a=1&%C3%A9=x").with("x-twilio-signature", &signature);
    assert!(!twilio_holds(&sent, url, "s"));
    let signature = hmac_sha1("s", &format!("{url}?a=2&a=1"));
    let sent = Sent::get("a=2&a=1").with("x-twilio-signature", &signature);
    assert!(twilio_holds(&sent, url, "s"));
}

#[test]
fn a_signed_time_may_differ_by_five_minutes_both_ways() {
    let body = r#"{"a":1}"#;
    for (offset, holds) in [
        (0, true),
        (300_000, true),
        (-300_000, true),
        (301_000, false),
        (-301_000, false),
    ] {
        let millis = NOW + offset;
        let seconds = millis / 1_000;
        let retell = hmac_sha256("s", &format!("{body}{millis}"));
        let retell = Sent::post(body).with("x-retell-signature", &format!("v={millis},d={retell}"));
        assert_eq!(retell.is_proven(Dialect::Retell, "s", NOW), holds);
        let jambonz = hmac_sha256("s", &format!("{seconds}.{body}"));
        let other = hmac_sha256("old", &format!("{seconds}.{body}"));
        let header = format!("t={seconds},v1={other},v1={jambonz}");
        let jambonz = Sent::post(body).with("jambonz-signature", &header);
        assert_eq!(jambonz.is_proven(Dialect::Jambonz, "s", NOW), holds);
        let time = Timestamp::from_millis(millis).to_string();
        let time = time.trim_end_matches('Z');
        for zone in ["", "Z", "+00:00"] {
            let time = format!("{time}{zone}");
            let ultravox = hmac_sha256("s", &format!("{body}{time}"));
            let ultravox = Sent::post(body)
                .with("x-ultravox-webhook-timestamp", &time)
                .with(
                    "x-ultravox-webhook-signature",
                    &format!("{other}, {ultravox}"),
                );
            assert_eq!(ultravox.is_proven(Dialect::Ultravox, "s", NOW), holds);
        }
    }
}

#[test]
fn telnyx_signs_by_a_key_of_which_the_secret_is_the_public_half() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let secret = BASE64.encode(pair.public_key().as_ref());
    let body = "CallSid=c1&To=%2B15550100222";
    let seconds = (NOW / 1_000).to_string();
    let signature = pair.sign(format!("{seconds}|{body}").as_bytes());
    let signed = |body: &str, seconds: &str| {
        Sent::post(body)
            .with(
                "telnyx-signature-ed25519",
                &BASE64.encode(signature.as_ref()),
            )
            .with("telnyx-timestamp", seconds)
    };
    assert!(is_secret(Dialect::Telnyx, &secret));
    assert!(signed(body, &seconds).is_proven(Dialect::Telnyx, &secret, NOW));
    assert!(!signed("CallSid=c2", &seconds).is_proven(Dialect::Telnyx, &secret, NOW));
    assert!(!signed(body, &seconds).is_proven(Dialect::Telnyx, &secret, NOW + 301_000));
    for no_key in ["", "x", "AAAA", "not base64 at all, but long enough for it"] {
        assert!(!is_secret(Dialect::Telnyx, no_key));
    }
}

#[test]
fn where_nothing_is_signed_the_secret_itself_is_sent() {
    for dialect in [
        Dialect::RtJson,
        Dialect::Drachtio,
        Dialect::FreeSwitch,
        Dialect::RustPbx,
        Dialect::ElevenLabs,
        Dialect::Text,
    ] {
        let basic = |user: &str| format!("Basic {}", BASE64.encode(user.as_bytes()));
        let holds = |name, value: &str| Sent::get("").with(name, value).is_proven(dialect, "s", 0);
        assert!(holds("authorization", "Bearer s"));
        assert!(holds("authorization", "bearer  s"));
        assert!(holds("authorization", &basic("anybody:s")));
        assert!(holds("x-api-key", "s"));
        for (name, value) in [
            ("authorization", "Bearer S"),
            ("authorization", "Bearer "),
            ("authorization", "s"),
            ("authorization", &basic("s")),
            ("authorization", &basic("s:")),
            ("authorization", "Basic ???"),
            ("x-api-key", "s2"),
            ("x-vapi-secret", "s"),
        ] {
            assert!(!holds(name, value), "{name}: {value}");
        }
        assert!(!Sent::get("").is_proven(dialect, "s", 0));
    }
    let vapi = |name, value| {
        Sent::post("{}")
            .with(name, value)
            .is_proven(Dialect::Vapi, "s", 0)
    };
    assert!(vapi("x-vapi-secret", "s") && vapi("authorization", "Bearer s"));
    assert!(!vapi("x-vapi-secret", "t") && !vapi("x-api-key", "s"));
}

#[test]
fn a_missing_or_broken_proof_is_a_wrong_one() {
    let headers = [
        "x-twilio-signature",
        "telnyx-signature-ed25519",
        "telnyx-timestamp",
        "x-retell-signature",
        "jambonz-signature",
        "x-ultravox-webhook-timestamp",
        "x-ultravox-webhook-signature",
        "x-vapi-secret",
        "authorization",
        "x-api-key",
    ];
    let secret = BASE64.encode(&[7; 32]);
    for dialect in Dialect::ALL {
        assert!(!Sent::post("{}").is_proven(dialect, &secret, NOW));
        for value in [
            "",
            "=",
            ",",
            "v=,d=",
            "t=1,v1=",
            "v=9223372036854775807,d=00",
            "%",
        ] {
            let sent = headers
                .iter()
                .fold(Sent::post("{}"), |sent, name| sent.with(name, value));
            assert!(!sent.is_proven(dialect, &secret, NOW), "{}", dialect.name());
        }
    }
}
