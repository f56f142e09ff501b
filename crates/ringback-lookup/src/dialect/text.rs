//! Dial strings, one a line: for Asterisk's `CURL()`, AGI scripts and shells.

use crate::answer::Answer;
use crate::dial_string;
use crate::form::Form;
use crate::question::{Asked, Question};
use crate::request::{Method, Request};
use crate::routing::Routing;
use crate::settings::Settings;

/// `?to=&from=&sid=`, or the same as a form.
pub(super) fn read(request: &Request<'_>) -> Asked {
    let form = match request.method {
        Method::Get => Form::read(request.query.as_bytes()),
        Method::Post => Form::read(request.body),
    };
    let Some(form) = form else {
        return Asked::Malformed;
    };
    Question::about(form.number("to"), form.number("from"), form.text("sid"))
}

/// A line for each target; an empty body where there is none.
pub(super) fn answer(settings: &Settings, routing: Option<&Routing>) -> Answer {
    let targets = routing.map_or(&[][..], |routing| &routing.targets);
    let (targets, left_out) = dial_string::usable(targets);
    let line = |target: &&str| match settings.format() {
        Some(format) => format!("{}\n", format.replace("{uri}", target)),
        None => format!("{target}\n"),
    };
    let answer = Answer {
        left_out,
        ..Answer::text(targets.iter().map(line).collect())
    };
    if targets.is_empty() {
        answer
    } else {
        answer.routed()
    }
}
