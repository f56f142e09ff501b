//! Micro-benchmarks of the wire: reading a carrier's INVITE of 918 bytes, and the whole path from it to the 302
//! in memory. Callers are drawn at random from a million contacts.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use ringback_benches::population::{Population, random_contact};
use ringback_benches::sip::{Call, Template};
use ringback_benches::world::{CallPath, World, input};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Redirector, rsip};

/// The number of contacts in the index.
const CONTACTS: u64 = 1_000_000;

/// Reading one message.
fn reading(criterion: &mut Criterion) {
    let mut invite = Template::invite(41_234);
    invite.set(&Call::returning(&Population::SMALL, 1, 7));
    let bytes = invite.bytes().to_vec();
    let ack = {
        let mut ack = Template::ack(41_234);
        ack.set(&Call::returning(&Population::SMALL, 1, 7));
        let mut bytes = ack.bytes().to_vec();
        bytes.extend_from_slice(b"<sip:+551130000000@203.0.113.5;user=phone>;tag=0123456789abcdef");
        bytes.extend_from_slice(Template::ACK_END);
        bytes
    };
    let options = String::from_utf8_lossy(&bytes).replace("INVITE", "OPTIONS");
    let redirector = Redirector::new([7; 16]);
    let mut out = Vec::with_capacity(4_096);

    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("INVITE, header index", |bencher| {
        bencher.iter(|| black_box(Message::parse(black_box(&bytes), Framing::Datagram).is_ok()));
    });
    group.bench_function("INVITE, parsed and checked", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(redirector.handle(input(black_box(&bytes)), &mut out));
        });
    });
    group.bench_function("INVITE, rsip 0.4 (baseline)", |bencher| {
        bencher.iter(|| black_box(rsip::SipMessage::try_from(black_box(bytes.as_slice())).is_ok()));
    });
    group.bench_function("INVITE, finding its lines (baseline)", |bencher| {
        bencher.iter(|| black_box(memchr::memchr_iter(b'\n', black_box(&bytes)).count()));
    });
    group.bench_function("ACK", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(redirector.handle(input(black_box(&ack)), &mut out));
        });
    });
    group.bench_function("OPTIONS to its 200", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(redirector.handle(input(black_box(options.as_bytes())), &mut out));
        });
    });
    group.finish();
}

/// From the INVITE to the 302.
fn whole(criterion: &mut Criterion) {
    let world = World::new(CONTACTS);
    let path = CallPath::new();
    let mut invite = Template::invite(41_234);
    let mut random = SmallRng::seed_from_u64(1);
    let mut id = 0;
    let mut next = move |invite: &mut Template| {
        id += 1;
        invite.set(&Call::returning(
            &Population::SMALL,
            id,
            random_contact(&mut random, CONTACTS),
        ));
    };
    let mut out = Vec::with_capacity(4_096);
    let mut group = criterion.benchmark_group("call");
    group.bench_function("INVITE to 302", |bencher| {
        bencher.iter(|| {
            next(&mut invite);
            out.clear();
            black_box(path.handle(&world, invite.bytes(), &mut out))
        });
    });
    group.bench_function("writing the INVITE (to be deducted)", |bencher| {
        bencher.iter(|| {
            next(&mut invite);
            black_box(invite.bytes().len())
        });
    });
    group.finish();
}

criterion_group! {
    name = wire;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = reading, whole
}
criterion_main!(wire);
