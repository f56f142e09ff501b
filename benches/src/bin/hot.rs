//! The hot functions, one at a time, to count their instructions: see `benches/instructions`.

use std::hint::black_box;
use std::process::ExitCode;

use ringback_benches::population::{Population, contact, stranger};
use ringback_benches::sip::{Call, Template};
use ringback_benches::world::{
    CallPath, ENVIRONMENT, World, call, e164, input, read, shared_number, sources,
};
use ringback_routing::{Caller, NumberRules};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Identity, Message, Redirector};

/// The number of contacts in the index.
const CONTACTS: u64 = 10_000;

/// How often a function is called while instructions are counted; the script divides by it.
const ROUNDS: u64 = 2_000;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        return ExitCode::from(64);
    };
    let world = World::new(CONTACTS);
    let rights = World::new(CONTACTS).with_rights(CONTACTS);
    let path = CallPath::new();
    let redirector = Redirector::new([7; 16]);
    let rules = NumberRules::default();
    let mut out = Vec::with_capacity(4_096);
    let mut invite = Template::invite(41_234);
    invite.set(&Call::returning(&Population::SMALL, 1, 7));
    let mut ack = Template::ack(41_234);
    ack.set(&Call::returning(&Population::SMALL, 1, 7));
    let mut ack = ack.bytes().to_vec();
    ack.extend_from_slice(b"<sip:+551130000000@203.0.113.5;user=phone>;tag=0123456789abcdef");
    ack.extend_from_slice(Template::ACK_END);
    let sources = sources(&world.directory);

    match name.as_str() {
        "nothing" => measure(|id| {
            black_box(id);
        }),
        "header-index" => measure(|_| {
            black_box(Message::parse(black_box(invite.bytes()), Framing::Datagram).is_ok());
        }),
        "parse-and-check" => measure(|_| {
            black_box(redirector.handle(input(black_box(invite.bytes())), &mut out));
        }),
        "ack" => measure(|_| {
            black_box(redirector.handle(input(black_box(&ack)), &mut out));
        }),
        "read-number" => measure(|_| {
            black_box(read(
                &rules,
                Identity::from_text(black_box(b"+5511987654321")),
            ));
        }),
        "lookup-hit" => measure(|id| {
            black_box(world.index.calls(ENVIRONMENT, e164(contact(id % CONTACTS))));
        }),
        "lookup-miss" => measure(|id| {
            black_box(world.index.calls(ENVIRONMENT, e164(stranger(id))));
        }),
        "decide-same-number" => measure(|id| {
            let caller = Caller::Number(e164(contact(id)));
            black_box(world.decide(
                e164(Population::SMALL.number(Population::SMALL.line(id))),
                caller,
            ));
        }),
        "decide-other-number" => measure(|id| {
            let caller = Caller::Number(e164(contact(id)));
            black_box(world.decide(shared_number(), caller));
        }),
        "decide-default" => measure(|id| {
            let caller = Caller::Number(e164(stranger(id)));
            black_box(world.decide(
                e164(Population::SMALL.number(Population::SMALL.line(id))),
                caller,
            ));
        }),
        "decide-with-rights" => measure(|id| {
            let caller = Caller::Number(e164(contact(id)));
            black_box(rights.decide(
                e164(Population::SMALL.number(Population::SMALL.line(id))),
                caller,
            ));
        }),
        "decide-opted-out" => measure(|id| {
            let caller = Caller::Number(e164(stranger(id)));
            black_box(rights.decide(
                e164(Population::SMALL.number(Population::SMALL.line(id))),
                caller,
            ));
        }),
        "upsert-new" => measure(|id| {
            let contact = e164(stranger(id));
            black_box(world.index.observe(
                ENVIRONMENT,
                contact,
                &call(&Population::SMALL, &sources, id, 60),
            ));
        }),
        "upsert-known" => measure(|id| {
            let contact = e164(contact(id));
            black_box(world.index.observe(
                ENVIRONMENT,
                contact,
                &call(&Population::SMALL, &sources, id, 60),
            ));
        }),
        "invite-to-302" => measure(|_| {
            out.clear();
            black_box(path.handle(&world, black_box(invite.bytes()), &mut out));
        }),
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

/// Calls the function until it is warm, and then while instructions are counted.
fn measure(mut each: impl FnMut(u64)) {
    for id in ROUNDS..ROUNDS + 100 {
        each(id);
    }
    counted(&mut each);
}

/// Instructions in this function are counted.
#[inline(never)]
fn counted(each: &mut impl FnMut(u64)) {
    for id in 0..ROUNDS {
        each(id);
    }
}
