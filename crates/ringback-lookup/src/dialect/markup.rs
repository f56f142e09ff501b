//! Voice webhooks of Twilio (TwiML) and Telnyx (TeXML), which speak alike.
//!
//! One target is dialed at a time. When the dial has ended, the platform comes back to `?step=N`, N being how many
//! targets were dialed, and is told the next one.

use ringback_routing::{Attestation, Dialect};

use crate::answer::Answer;
use crate::form::Form;
use crate::question::{Asked, DialEnd, Question, StepQuestion, usable_sid};
use crate::request::{Method, Request};
use crate::routing::Routing;
use crate::settings::{OnNothing, Settings};
use crate::xml::Element;

/// A form or a query with `CallSid`, `From` and `To`; at a step with `DialCallStatus`.
pub(super) fn read(dialect: Dialect, request: &Request<'_>) -> Asked {
    let Some(query) = Form::read(request.query.as_bytes()) else {
        return Asked::Malformed;
    };
    let form = match request.method {
        Method::Get => Form::read(request.query.as_bytes()),
        Method::Post => Form::read(request.body),
    };
    let Some(form) = form else {
        return Asked::Malformed;
    };
    let sid = form.text("CallSid");
    if let Some(step) = query.get("step") {
        return match step.parse() {
            Ok(step @ 1..) => Asked::Step(StepQuestion {
                sid: usable_sid(sid),
                from: form.number("From").unwrap_or_default(),
                step,
                end: DialEnd::from_status(form.get("DialCallStatus").unwrap_or_default()),
            }),
            _ => Asked::Malformed,
        };
    }
    match Question::about(form.number("To"), form.number("From"), sid) {
        Asked::Question(question) => Asked::Question(Question {
            attestation: attestation(dialect, &form),
            ..question
        }),
        other => other,
    }
}

/// The attestation of the caller's number: Twilio's `StirVerstat`; Telnyx's `ShakenStirAttestation`, if it was
/// validated.
fn attestation(dialect: Dialect, form: &Form) -> Option<Attestation> {
    match dialect {
        Dialect::Twilio => Attestation::of_verstat(form.get("StirVerstat")?.as_bytes(), || None),
        _ => match form.get("ShakenStirValidated")? {
            "1" | "true" => form.get("ShakenStirAttestation")?.parse().ok(),
            _ => None,
        },
    }
}

/// Dials the target behind as many as were dialed.
pub(super) fn dial(settings: &Settings, url: &str, routing: &Routing, dialed: usize) -> Answer {
    let Some(target) = routing.targets.get(dialed) else {
        return nothing(settings, dialed > 0);
    };
    let mut dial = Element::new("Dial");
    if settings.dialect() == Dialect::Twilio {
        dial = dial.with("answerOnBridge", "true");
    }
    let dial = dial
        .with("timeout", &settings.timeout().to_string())
        .with("action", &format!("{url}?step={}", dialed + 1))
        .with("method", "POST")
        .child(Element::new("Sip").text(target));
    response(dial).routed()
}

/// What was configured for calls that go nowhere. A call that was answered cannot be rejected any more.
pub(super) fn nothing(settings: &Settings, may_be_answered: bool) -> Answer {
    match settings.on_nothing() {
        OnNothing::Redirect(url) => {
            response(Element::new("Redirect").with("method", "POST").text(url))
        }
        _ if may_be_answered => hang_up(),
        _ => response(Element::new("Reject")),
    }
}

/// Ends the call.
pub(super) fn hang_up() -> Answer {
    response(Element::new("Hangup"))
}

/// A response with this verb.
fn response(verb: Element) -> Answer {
    Answer::xml(&Element::new("Response").child(verb).finish())
}
