//! The dialects: one file each, and what is the same for all of them.

mod drachtio;
mod elevenlabs;
mod freeswitch;
mod jambonz;
mod markup;
mod retell;
mod rtjson;
mod rustpbx;
mod text;
mod ultravox;
mod vapi;

use ringback_routing::Dialect;

use crate::answer::Answer;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;
use crate::settings::Settings;

/// Reads what a platform asks.
#[must_use]
pub fn read(dialect: Dialect, request: &Request<'_>) -> Asked {
    match dialect {
        Dialect::RtJson => rtjson::read(request),
        Dialect::Drachtio => drachtio::read(request),
        Dialect::FreeSwitch => freeswitch::read(request),
        Dialect::Twilio | Dialect::Telnyx => markup::read(dialect, request),
        Dialect::Retell => retell::read(request),
        Dialect::Vapi => vapi::read(request),
        Dialect::Jambonz => jambonz::read(request),
        Dialect::RustPbx => rustpbx::read(request),
        Dialect::Ultravox => ultravox::read(request),
        Dialect::ElevenLabs => elevenlabs::read(request),
        Dialect::Text => text::read(request),
    }
}

/// What is to be answered.
#[derive(Clone, Copy, Debug)]
pub enum Occasion<'r> {
    /// A question that was decided.
    Decided(&'r Question, &'r Routing),
    /// A target did not take the call: the next one of the decision, behind as many as were dialed.
    Next(&'r Routing, usize),
    /// A target took the call and hung up, or the caller did.
    Ended,
    /// Nothing is known of the call that a step belongs to, or no target is left.
    NothingNext,
    /// There was no question, or it could not be read.
    Nothing,
    /// What the platform sent is not about where a call goes.
    Other,
}

/// Writes an answer. `url` is the connector's address, where the platform comes back after each target.
#[must_use]
pub fn answer(settings: &Settings, url: &str, occasion: Occasion<'_>) -> Answer {
    let dialect = settings.dialect();
    match occasion {
        Occasion::Decided(question, routing) => {
            let routing_taken = Some(routing).filter(|routing| routing.is_taken());
            match dialect {
                Dialect::RtJson => rtjson::answer(routing_taken),
                Dialect::Drachtio => drachtio::answer(settings, routing_taken),
                Dialect::FreeSwitch => freeswitch::answer(settings, question, routing_taken),
                Dialect::Twilio | Dialect::Telnyx => match routing_taken {
                    Some(routing) => markup::dial(settings, url, routing, 0),
                    None => markup::nothing(settings, false),
                },
                Dialect::Retell => retell::answer(routing_taken),
                Dialect::Vapi => vapi::answer(settings, routing_taken),
                Dialect::Jambonz => match routing_taken {
                    Some(routing) => jambonz::dial(settings, url, routing, 0),
                    None => jambonz::nothing(settings, false),
                },
                Dialect::RustPbx => rustpbx::answer(settings, routing_taken),
                Dialect::Ultravox => ultravox::answer(routing_taken),
                Dialect::ElevenLabs => elevenlabs::answer(routing_taken),
                Dialect::Text => text::answer(settings, routing_taken),
            }
        }
        Occasion::Next(routing, dialed) => match dialect {
            Dialect::Jambonz => jambonz::dial(settings, url, routing, dialed),
            _ => markup::dial(settings, url, routing, dialed),
        },
        Occasion::Ended => match dialect {
            Dialect::Jambonz => jambonz::hang_up(),
            _ => markup::hang_up(),
        },
        Occasion::NothingNext => match dialect {
            Dialect::Jambonz => jambonz::nothing(settings, true),
            _ => markup::nothing(settings, true),
        },
        Occasion::Other if dialect == Dialect::Vapi => vapi::nothing_to_say(),
        Occasion::Nothing | Occasion::Other => match dialect {
            Dialect::RtJson => rtjson::answer(None),
            Dialect::Drachtio => drachtio::answer(settings, None),
            Dialect::FreeSwitch => freeswitch::not_found(),
            Dialect::Twilio | Dialect::Telnyx => markup::nothing(settings, false),
            Dialect::Retell => retell::answer(None),
            Dialect::Vapi => vapi::answer(settings, None),
            Dialect::Jambonz => jambonz::nothing(settings, false),
            Dialect::RustPbx => rustpbx::answer(settings, None),
            Dialect::Ultravox => ultravox::answer(None),
            Dialect::ElevenLabs => elevenlabs::answer(None),
            Dialect::Text => text::answer(settings, None),
        },
    }
}
