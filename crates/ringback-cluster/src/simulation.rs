//! Nodes over a stream on virtual time, with faults from a seed: a run is the same whenever its seed is the same.
//!
//! `RINGBACK_SIMULATION_SEEDS=10000 cargo test -p ringback-cluster --release simulation` runs more seeds than the
//! few hundred of an ordinary run; `RINGBACK_SIMULATION_SEED=17` runs one.

mod chance;
mod ledger;
mod state;
mod stream;
mod world;

use std::hash::Hasher;
use std::ops::Range;
use std::time::Duration;

use ledger::Told;
use world::{Faults, World};

use crate::replica::Fault;
use crate::wire::{Kind, Message};

/// The seeds to run.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    match number("RINGBACK_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGBACK_SIMULATION_SEEDS").unwrap_or(usual),
    }
}

/// Runs a simulation with each seed; names the one that fails.
fn with_seeds(usual: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds(usual) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("run it alone: RINGBACK_SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The faults of a seed: some runs have few, some have many.
fn faults(seed: u64) -> Faults {
    Faults {
        every: Duration::from_millis([800, 3_000, 9_000][(seed % 3) as usize]),
        longest_delay: [500, 6_000, 30_000][(seed / 3 % 3) as usize],
    }
}

/// A run with faults, and then without. The log of some is trimmed.
fn run(seed: u64) -> World {
    let mut world = World::new(seed, 2 + (seed % 3) as usize, faults(seed));
    world.retain = Duration::from_secs([100_000, 30, 8][(seed / 2 % 3) as usize]);
    world.run(Duration::from_secs(120));
    world.heal();
    world.run(Duration::from_secs(40));
    world.quiet();
    world.run(Duration::from_secs(20));
    world
}

/// Nothing acknowledged is lost, nothing is invented or done twice, two nodes at one sequence are equal, a number has
/// one owner, erased stays erased; and when the faults end, all nodes come to the end of the log by themselves.
#[test]
fn whatever_fails_the_log_is_what_clients_were_told() {
    let mut done = 0;
    let mut unknown = 0;
    with_seeds(200, |seed| run(seed).assert_whole());
    for seed in 0..3 {
        let world = run(seed);
        done += world.ledger.count(Told::Done);
        unknown += world.ledger.count(Told::Unknown);
    }
    assert!(done > 1_000, "{done} commands were done");
    assert!(unknown < done / 10, "{unknown} of {done} are unknown");
}

/// What is older than the log keeps leaves it, whoever is away; who needed it takes the state of another node. When
/// clients ask for nothing more, only markers are left: nothing of an erased contact stays.
#[test]
fn a_log_is_trimmed_and_nodes_that_miss_what_is_gone_become_current_again() {
    let mut restored = 0;
    with_seeds(60, |seed| {
        let mut world = World::new(seed, 3, faults(seed));
        world.retain = Duration::from_secs(4);
        world.run(Duration::from_secs(120));
        world.heal();
        world.run(Duration::from_secs(20));
        world.quiet();
        world.run(Duration::from_secs(60));
        world.assert_whole();
        let first = world.stream.first() as usize;
        let mut left = world.stream.messages().skip(first - 1);
        assert!(left.all(|bytes| Message::read(bytes).unwrap().kind == Kind::Trim));
    });
    for seed in 0..10 {
        let mut world = World::new(seed, 3, faults(seed));
        world.retain = Duration::from_secs(4);
        world.run(Duration::from_secs(120));
        restored += world.restored;
    }
    assert!(restored > 0, "no node ever took the state of another");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        assert_eq!(run(seed).trace.finish(), run(seed).trace.finish());
    }
}

/// Nodes that write without a pause take turns: none loses twenty races, however far it is from the stream. Whoever
/// had won was ahead of those who had to read that first, and won again.
#[test]
fn writers_without_a_pause_take_turns() {
    with_seeds(60, |seed| {
        let nodes = 2 + (seed % 4) as usize;
        let mut world = World::new(seed, nodes, faults(9));
        world.heal();
        world.distance = (0..nodes).map(|_| world.chance.below(40)).collect();
        world.distance[0] = 0;
        world.run(Duration::from_secs(5));
        world.is_eager = true;
        world.run(Duration::from_secs(60));
        world.is_eager = false;
        let committed = world.turns.iter().map(|turns| turns.committed);
        let (least, most) = (committed.clone().min(), committed.max());
        assert!(least > most.map(|most| most / 8), "{:?}", world.turns);
        let most_lost = world.turns.iter().map(|turns| turns.most_lost).max();
        assert!(most_lost < Some(10), "{:?}", world.turns);
        world.quiet();
        world.run(Duration::from_secs(20));
        world.assert_whole();
    });
}

/// Nodes that have read more than a restored stream has stop, say so, and write nothing more. Those that have read
/// less go on: they cannot know.
#[test]
fn a_stream_that_went_back_stops_the_nodes_that_had_read_more() {
    with_seeds(60, |seed| {
        let mut world = World::new(seed, 3, faults(9));
        world.run(Duration::from_secs(30));
        world.heal();
        world.run(Duration::from_secs(30));
        world.one_log = false;
        let length = world.stream.len();
        let back = 1 + world.chance.below(length as u64 - 1) as usize;
        // Half of the time clients go on asking.
        if seed % 2 == 0 {
            world.quiet();
            world.run(Duration::from_secs(20));
        }
        world.stream.go_back(back);
        let mut kept = length;
        if seed % 4 < 2 {
            kept = world.kept(0);
            world.restart(0);
        }
        world.run(Duration::from_secs(120));
        for (node, fault) in world.stopped().into_iter().enumerate() {
            let is_noticed = matches!(fault, Some(Fault::WentBack { .. } | Fault::Rewritten(_)));
            // A node that starts again has what was on its disk, which may be no more than what is left.
            let knows = node > 0 || kept > back;
            assert_eq!(is_noticed, knows, "{fault:?} with {back} of {length}");
        }
        assert_eq!(world.stream.len(), back, "nobody writes");
    });
}

/// A node that was away while the stream went back and grew again, with other messages, notices that they do not
/// follow what it has read.
#[test]
fn a_node_that_comes_back_to_another_log_stops() {
    with_seeds(60, |seed| {
        let mut world = World::new(seed, 3, faults(9));
        world.run(Duration::from_secs(20));
        world.heal();
        world.run(Duration::from_secs(20));
        world.one_log = false;
        let length = world.stream.len();
        let back = world.chance.below(length as u64) as usize;
        world.end(0);
        world.end(1);
        let kept = [world.kept(0), world.kept(1)];
        world.stream.go_back(back);
        world.forget_disk(2);
        world.restart(2);
        while world.stream.len() < length + 5 {
            world.run(Duration::from_secs(1));
        }
        world.restart(0);
        world.restart(1);
        world.run(Duration::from_secs(30));
        let stopped = world.stopped();
        for (node, fault) in stopped[..2].iter().enumerate() {
            // What a node had on disk may be no more than what is left.
            let expected = kept[node] > back;
            let is_noticed = matches!(fault, Some(Fault::Rewritten(_)));
            assert_eq!(is_noticed, expected, "{stopped:?}");
        }
        assert_eq!(stopped[2], None);
    });
}

/// A message that the stream has lost is named, and what follows is not applied.
#[test]
fn a_hole_stops_the_node_that_has_not_read_it() {
    with_seeds(60, |seed| {
        let mut world = World::new(seed, 3, faults(9));
        world.run(Duration::from_secs(20));
        world.heal();
        world.run(Duration::from_secs(30));
        world.quiet();
        world.run(Duration::from_secs(20));
        world.assert_whole();
        world.one_log = false;
        let length = world.stream.len() as u64;
        let hole = 1 + world.chance.below(length - 1);
        world.stream.lose(hole as usize);
        world.forget_disk(0);
        world.restart(0);
        world.run(Duration::from_secs(60));
        assert_eq!(world.stopped(), [Some(Fault::Missing(hole)), None, None]);
    });
}
