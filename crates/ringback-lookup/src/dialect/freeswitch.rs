//! FreeSWITCH: `mod_xml_curl` asks for a dialplan.

use crate::answer::Answer;
use crate::dial_string;
use crate::form::Form;
use crate::question::{Asked, Question, usable_sid};
use crate::request::Request;
use crate::routing::Routing;
use crate::settings::Settings;
use crate::xml::Element;

/// A form with the variables of the channel.
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(form) = Form::read(request.body) else {
        return Asked::Malformed;
    };
    if form.get("section") != Some("dialplan") {
        return Asked::Other;
    }
    let to = form
        .number("Caller-Destination-Number")
        .or_else(|| form.number("Hunt-Destination-Number"));
    let from = form.number("Caller-Caller-ID-Number");
    let sid = usable_sid(form.text("variable_sip_call_id"));
    let sid = sid.or_else(|| form.text("Unique-ID"));
    match Question::about(to, from, sid) {
        Asked::Question(question) => Asked::Question(Question {
            dialplan_context: form.text("Caller-Context"),
            ..question
        }),
        other => other,
    }
}

/// An extension that bridges to one target after the other.
pub(super) fn answer(
    settings: &Settings,
    question: &Question,
    routing: Option<&Routing>,
) -> Answer {
    let targets = routing.map_or(&[][..], |routing| &routing.targets);
    let (targets, left_out) = dial_string::usable(targets);
    if targets.is_empty() {
        return Answer {
            left_out,
            ..not_found()
        };
    }
    let profile = settings.profile();
    let endpoint = |target: &&str| format!("sofia/{profile}/{target}");
    let bridged: Vec<_> = targets.iter().map(endpoint).collect();
    let action = |application, data: &str| {
        Element::new("action")
            .with("application", application)
            .with("data", data)
    };
    let condition = Element::new("condition")
        .child(action("set", "hangup_after_bridge=true"))
        .child(action("bridge", &bridged.join("|")));
    let extension = Element::new("extension")
        .with("name", "ringback")
        .child(condition);
    let context = question.dialplan_context.as_deref();
    let context = context
        .filter(|name| is_context(name))
        .unwrap_or(DEFAULT_CONTEXT);
    let context = Element::new("context")
        .with("name", context)
        .child(extension);
    let section = Element::new("section")
        .with("name", "dialplan")
        .child(context);
    Answer {
        left_out,
        ..document(section).routed()
    }
}

/// Tells FreeSWITCH to look elsewhere.
pub(super) fn not_found() -> Answer {
    let result = Element::new("result").with("status", "not found");
    document(Element::new("section").with("name", "result").child(result))
}

/// The document with this section.
fn document(section: Element) -> Answer {
    let document = Element::new("document").with("type", "freeswitch/xml");
    Answer::xml(&document.child(section).finish())
}

/// Whether this can be the name of a context: it was sent to us, and goes back into an attribute.
fn is_context(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// The context where the one sent cannot be written.
const DEFAULT_CONTEXT: &str = "public";
