//! Micro-benchmarks of the routing core: decisions, index updates and number reading, compared with plain maps.
//! Callers are drawn at random from a million contacts.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use ringback_benches::population::{self, Population, contact, random_contact, stranger};
use ringback_benches::world::{
    ENVIRONMENT, World, call, directory, e164, read, shared_number, sources,
};
use ringback_index::ContactIndex;
use ringback_routing::{Agent, AgentId, Caller, Country, NumberRules};
use ringback_sip_proto::Identity;
use uuid::Uuid;

/// The number of contacts in the index.
const CONTACTS: u64 = 1_000_000;

/// Decisions, rung by rung, compared with lookups of the same keys in plain maps.
fn decisions(criterion: &mut Criterion) {
    let world = World::new(CONTACTS);
    let mut group = criterion.benchmark_group("decision");
    let mut random = SmallRng::seed_from_u64(1);
    let mut contact_number = move || random_contact(&mut random, CONTACTS);

    let rights = World::new(CONTACTS).with_rights(CONTACTS);
    for (name, world, is_known) in [
        ("same number", &world, true),
        ("same number, with opt-outs and hours", &rights, true),
        ("opted out", &rights, false),
        ("default, never called", &world, false),
    ] {
        let caller = if is_known { contact } else { stranger };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let index = contact_number();
                let caller = Caller::Number(e164(caller(index)));
                let line = Population::SMALL.line(index);
                black_box(
                    world
                        .decide(e164(Population::SMALL.number(line)), caller)
                        .reason,
                )
            });
        });
    }
    group.bench_function("other number", |bencher| {
        bencher.iter(|| {
            let caller = Caller::Number(e164(contact(contact_number())));
            black_box(world.decide(shared_number(), caller).reason)
        });
    });
    group.bench_function("default, anonymous", |bencher| {
        bencher.iter(|| {
            let line = Population::SMALL.line(contact_number());
            black_box(
                world
                    .decide(e164(Population::SMALL.number(line)), Caller::Anonymous)
                    .reason,
            )
        });
    });
    group.bench_function("number unknown", |bencher| {
        bencher.iter(|| {
            let index = contact_number();
            let caller = Caller::Number(e164(contact(index)));
            black_box(world.decide(e164(stranger(index)), caller).reason)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("lookup");
    let hits: fn(u64) -> u64 = contact;
    for (kind, key) in [("hit", hits), ("miss", stranger as fn(u64) -> u64)] {
        group.bench_function(format!("ContactIndex, {kind}"), |bencher| {
            bencher.iter(|| {
                let key = e164(key(contact_number()));
                black_box(world.index.calls(ENVIRONMENT, key).is_empty())
            });
        });
    }
    let dash = DashMap::with_hasher_and_shard_amount(RandomState::default(), 4_096);
    let mut plain = HashMap::with_hasher(RandomState::default());
    let mut standard = HashMap::new();
    for index in 0..CONTACTS {
        dash.insert(contact(index), index);
        plain.insert(contact(index), index);
        standard.insert(contact(index), index);
    }
    for (kind, key) in [("hit", hits), ("miss", stranger as fn(u64) -> u64)] {
        group.bench_function(format!("DashMap, {kind} (baseline)"), |bencher| {
            bencher.iter(|| black_box(dash.get(&key(contact_number())).map(|found| *found)));
        });
        group.bench_function(format!("HashMap, {kind} (baseline)"), |bencher| {
            bencher.iter(|| black_box(plain.get(&key(contact_number()))));
        });
        group.bench_function(
            format!("std HashMap and hasher, {kind} (baseline)"),
            |bencher| {
                bencher.iter(|| black_box(standard.get(&key(contact_number()))));
            },
        );
    }
    group.bench_function("drawing a key (to be deducted)", |bencher| {
        bencher.iter(|| black_box(contact(contact_number())));
    });
    group.finish();
}

/// Index updates, compared with those of a plain map.
fn updates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("upsert");
    let directory = directory(&Population::SMALL);
    let sources = sources(&directory);

    group.bench_function("new contact", |bencher| {
        bencher.iter_custom(|iterations| {
            in_rounds(
                iterations,
                || ContactIndex::new(7),
                |index, contact| {
                    index.observe(
                        ENVIRONMENT,
                        e164(population::contact(contact)),
                        &call(&Population::SMALL, &sources, contact, 60),
                    );
                },
            )
        });
    });
    group.bench_function("new contact, DashMap (baseline)", |bencher| {
        bencher.iter_custom(|iterations| {
            let empty = || DashMap::with_hasher_and_shard_amount(RandomState::default(), 4_096);
            in_rounds(iterations, empty, |map, contact| {
                map.insert(population::contact(contact), contact);
            })
        });
    });

    let world = World::new(CONTACTS);
    let mut random = SmallRng::seed_from_u64(2);
    let mut ago = 3_600_000_i64;
    group.bench_function("known contact, newer call", |bencher| {
        bencher.iter(|| {
            ago -= 1;
            let contact = random_contact(&mut random, CONTACTS);
            black_box(world.index.observe(
                ENVIRONMENT,
                e164(population::contact(contact)),
                &call(&Population::SMALL, &sources, contact, ago / 1_000),
            ))
        });
    });
    let dash = DashMap::with_hasher_and_shard_amount(RandomState::default(), 4_096);
    for index in 0..CONTACTS {
        dash.insert(contact(index), index);
    }
    group.bench_function("known contact, DashMap (baseline)", |bencher| {
        bencher.iter(|| {
            let contact = random_contact(&mut random, CONTACTS);
            black_box(dash.insert(population::contact(contact), contact))
        });
    });
    group.finish();
}

/// Times updates of new contacts, a million per map, so that growth is included and memory stays bounded.
fn in_rounds<M>(iterations: u64, empty: impl Fn() -> M, update: impl Fn(&M, u64)) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let round = left.min(CONTACTS);
        let map = empty();
        let begin = Instant::now();
        for contact in 0..round {
            update(&map, contact);
        }
        elapsed += begin.elapsed();
        left -= round;
    }
    elapsed
}

/// Reading numbers.
fn numbers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("number");
    let brazil = NumberRules {
        country: "BR".parse::<Country>().ok(),
        ..NumberRules::default()
    };
    for text in [
        "+5511987654321",
        "005511987654321",
        "tel:+55-11-98765-4321",
        "sip:+5511987654321@gw.example.net;user=phone",
        "11987654321",
        "anonymous",
    ] {
        group.bench_function(text, |bencher| {
            bencher.iter_batched(
                || text,
                |text| black_box(read(&brazil, Identity::from_text(text.as_bytes()))),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// One change of the directory as the writer makes it (copy, change, publish, drop the old copy), at several
/// sizes.
fn directory_changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("directory");
    for environments in [5, 50, 500, 5_000] {
        let population = Population {
            environments,
            ..Population::REAL
        };
        let mut published = directory(&population);
        let agents = population.all_lines() * 2;
        let mut ids: Vec<_> = published
            .all_agents()
            .map(|agent| agent.record.id)
            .collect();
        ids.shuffle(&mut SmallRng::seed_from_u64(3));
        let mut names = 0_u64;
        let mut next = ids.iter().cycle();
        group.bench_function(format!("rename an agent of {agents}"), |bencher| {
            bencher.iter(|| {
                let mut draft = published.clone();
                let known = next.next().and_then(|id| draft.agent_by_id(*id));
                let mut agent = known
                    .map(|agent| Agent::clone(&agent.record))
                    .expect("it is there");
                names += 1;
                agent.name = format!("renamed-{names}");
                draft.put_agent(agent);
                published = draft;
            });
        });
        let home = published
            .all_agents()
            .next()
            .map(|agent| agent.record.environment);
        group.bench_function(format!("add an agent to {agents}"), |bencher| {
            let before = published.clone();
            let model = before.all_agents().next().expect("there are agents");
            let mut new = 0_u128;
            bencher.iter(|| {
                let mut draft = published.clone();
                new += 1;
                draft.put_agent(Agent {
                    id: AgentId(Uuid::from_u128(9 << 64 | new)),
                    environment: home.expect("there are environments"),
                    role: None,
                    ..Agent::clone(&model.record)
                });
                published = draft;
            });
            published = before.clone();
        });
    }
    group.finish();
}

criterion_group! {
    name = routing;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = decisions, updates, numbers, directory_changes
}
criterion_main!(routing);
