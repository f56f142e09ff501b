//! Nothing that a caller has dialed becomes markup, a header line or an argument of a dialplan.

use proptest::prelude::*;
use ringback_lookup::{Asked, Occasion, Question, Request, answer, methods, read};
use ringback_routing::Dialect;
use roxmltree::Document;
use serde_json::{Value, json};

use crate::support::{Sent, URL, callback, plain};

const HOSTILE: [&str; 6] = [
    "\"/><Dial>+1900</Dial>",
    "]]>&x;<!--",
    "${system(rm -rf /)}",
    "|sofia/external/evil",
    "x\r\nX-Evil: 1",
    "\u{0}\u{1f}\u{fffe}",
];

#[test]
fn what_was_sent_stands_nowhere_in_an_answer() {
    for hostile in HOSTILE {
        let question = Question {
            to: hostile.to_owned(),
            from: hostile.to_owned(),
            sid: Some(hostile.to_owned()),
            attestation: None,
            dialplan_context: Some(hostile.to_owned()),
        };
        for dialect in Dialect::ALL {
            let decided = Occasion::Decided(&question, &callback(dialect));
            let given = answer(&plain(dialect), URL, decided);
            assert!(!given.body.contains(hostile), "{}", given.body);
            assert!(!given.body.contains("vil"), "{}", given.body);
        }
    }
}

#[test]
fn targets_and_context_are_escaped_or_left_out() {
    let question = Question::default();
    for hostile in HOSTILE {
        for dialect in Dialect::ALL {
            let mut routing = callback(dialect);
            routing.targets = vec![format!("sip:{hostile}@h"), "sip:good@h".to_owned()];
            let context = json!({"text": hostile, hostile: "x", "nested": {"a": [hostile]}});
            routing.context = context.as_object().unwrap().clone();
            let given = answer(&plain(dialect), URL, Occasion::Decided(&question, &routing));
            match given.content_type {
                "application/json" => {
                    let body: Value = serde_json::from_str(&given.body).unwrap();
                    // Text values come back as they are, and only as values.
                    if let Some(text) = body.pointer("/dynamic_variables/ctx_text") {
                        assert_eq!(text, hostile);
                    }
                    if let Some(variables) = body.pointer("/dynamic_variables") {
                        assert_eq!(variables.as_object().unwrap().len(), 6);
                    }
                }
                "text/plain; charset=utf-8" => {
                    assert_eq!((given.body.as_str(), given.left_out), ("sip:good@h\n", 1));
                }
                _ => {
                    let document = Document::parse(&given.body).unwrap();
                    let names = document.descendants().filter(|node| node.is_element());
                    let names: Vec<_> = names.map(|node| node.tag_name().name()).collect();
                    if dialect == Dialect::FreeSwitch {
                        let bridge = "sofia/external/sip:good@h";
                        assert!(given.body.contains(bridge) && !given.body.contains("vil"));
                        assert_eq!(given.left_out, 1);
                    } else {
                        assert_eq!(names, ["Response", "Dial", "Sip"]);
                    }
                }
            }
        }
    }
}

#[test]
fn header_lines_for_kamailio_are_made_of_our_own_words() {
    let given = answer(
        &plain(Dialect::RtJson),
        URL,
        Occasion::Decided(&Question::default(), &callback(Dialect::RtJson)),
    );
    let body: Value = serde_json::from_str(&given.body).unwrap();
    let extra = body.pointer("/routes/0/headers/extra").unwrap();
    let lines: Vec<_> = extra.as_str().unwrap().split("\r\n").collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines.last(), Some(&""));
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_: ".contains(&byte);
    assert!(lines.iter().all(|line| line.bytes().all(word)));
}

#[test]
fn deep_and_long_input_is_malformed_or_cut_short() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let long = format!(
        r#"{{"call_sid":"{}","caller_id":"1","called_number":"2"}}"#,
        "s".repeat(256)
    );
    let asked = |body: &str| Sent::post(body).read(|request| read(Dialect::ElevenLabs, request));
    assert_eq!(asked(&deep), Asked::Malformed);
    let Asked::Question(question) = asked(&long) else {
        panic!("not a question");
    };
    assert_eq!(question.sid, None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_answered(
        query in "[ -~]{0,80}",
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for dialect in Dialect::ALL {
            for method in methods(dialect) {
                let request = Request {
                    method: *method,
                    url: URL,
                    query: &query,
                    header: &|_| None,
                    body: &body,
                };
                let _ = read(dialect, &request);
            }
            let nothing = answer(&plain(dialect), URL, Occasion::Nothing);
            prop_assert!(!nothing.is_routed);
        }
    }

    #[test]
    fn any_form_gives_well_formed_markup(
        number in "\\PC{0,40}",
        target in "\\PC{0,40}",
        context in "\\PC{0,70}",
    ) {
        let question = Question {
            to: number.clone(),
            from: number,
            sid: None,
            attestation: None,
            dialplan_context: Some(context),
        };
        for dialect in [Dialect::Twilio, Dialect::Telnyx, Dialect::FreeSwitch] {
            let mut routing = callback(dialect);
            routing.targets = vec![target.clone()];
            let decided = Occasion::Decided(&question, &routing);
            let given = answer(&plain(dialect), URL, decided);
            prop_assert!(Document::parse(&given.body).is_ok(), "{}", given.body);
        }
    }
}
