//! The tally against a simple model: restarts, failing storage and deleted agents at any point.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use ringback_routing::{
    Agent, AgentSlot, AgentStatus, Direction, Environment, EnvironmentSlot, NumberForm,
};
use uuid::Uuid;

use super::*;

/// The durable state, as in a journal.
#[derive(Default)]
struct Stored {
    counts: StoredCounts,
    mark: CountMark,
    events: Vec<RoutedEvent>,
}

impl Stored {
    /// Commits changes.
    fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Counted(key, count) => *self.counts.entry(*key).or_default() += count,
                Change::BatchRouted(batch) => self.events.push(RoutedEvent::Batch(batch.clone())),
                Change::Routed(events) => self.events.extend(events.iter().cloned()),
                Change::BatchesCounted(counted) => {
                    for (key, count) in &counted.growth {
                        *self.counts.entry(*key).or_default() += count;
                    }
                    self.mark = counted.mark;
                }
                other => panic!("{other:?} is none of the tally's changes"),
            }
        }
    }

    /// A tally that starts from this state.
    fn open(&self, directory: &Directory) -> Tally {
        let mut tally = Tally::new(self.counts.clone(), self.mark);
        for event in &self.events {
            tally.found(event, true, directory);
        }
        tally
    }

    /// The call ids that are known, and those of them that were answered.
    fn known(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let (mut routed, mut answered) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.events {
            match event {
                RoutedEvent::Batch(batch) => {
                    routed.extend(batch.calls.iter().map(|call| call.sid_hash));
                }
                RoutedEvent::Answered(call) => {
                    answered.insert(call.sid_hash);
                }
                other => panic!("{other:?} is not written any more"),
            }
        }
        (routed, answered)
    }
}

/// A call of the model.
#[derive(Clone, Copy, Debug)]
struct ModelCall {
    environment: EnvironmentId,
    key: Option<CountKey>,
    answered: Option<CountKey>,
}

/// The counters that these calls make.
fn count(calls: &HashMap<u64, ModelCall>) -> StoredCounts {
    let mut counts = StoredCounts::new();
    for call in calls.values() {
        for key in call.key.iter().chain(&call.answered) {
            *counts.entry(*key).or_default() += 1;
        }
    }
    counts
}

/// The counters that a tally shows.
fn shown(tally: &Tally, directory: &Directory) -> StoredCounts {
    let mut counts = StoredCounts::new();
    for number in 0..ENVIRONMENTS {
        let days = (i32::MIN, i32::MAX);
        tally.visit_counts(directory, environment(number), days, |key, count| {
            *counts.entry(key).or_default() += count;
        });
    }
    counts
}

/// A step of the model.
#[derive(Clone, Debug)]
enum Event {
    /// Calls are routed: first number, how many, source agent, agent, and second.
    Arrive(u64, u64, usize, usize, u32),
    /// A call is answered.
    Answer(u64),
    /// The writer commits what is pending, or fails to; a roll-up may begin.
    Tick { roll_up: bool, fails: bool },
    /// The writer looks counters up.
    LookUp,
    /// An agent is deleted.
    Delete(usize),
    /// The process is killed, and another one starts.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    let second = prop_oneof![Just(86_000_u32), Just(87_000)];
    prop_oneof![
        8 => (0..60_u64, 1..12_u64, 0..AGENTS, 0..AGENTS, second)
            .prop_map(|(first, count, agent, source, at)| Event::Arrive(first, count, agent, source, at)),
        3 => (0..70_u64).prop_map(Event::Answer),
        8 => (prop::bool::weighted(0.4), prop::bool::weighted(0.2))
            .prop_map(|(roll_up, fails)| Event::Tick { roll_up, fails }),
        3 => Just(Event::LookUp),
        1 => (0..AGENTS).prop_map(Event::Delete),
        2 => Just(Event::Crash),
    ]
}

/// An environment by its number.
fn environment(number: usize) -> EnvironmentId {
    EnvironmentId(Uuid::from_u128(1 + number as u128))
}

/// An agent by its number; they belong to the environments in turn.
fn agent(number: usize) -> (EnvironmentId, AgentId) {
    let id = AgentId(Uuid::from_u128(100 + number as u128));
    (environment(number % ENVIRONMENTS), id)
}

/// A directory with these agents.
fn directory(agents: &BTreeSet<usize>) -> Directory {
    let environments = (0..ENVIRONMENTS).map(|number| Environment {
        id: environment(number),
        name: String::new(),
        default_country: None,
        number_form: NumberForm::National,
        recency_window_seconds: 1,
        target_template: None,
        fallback_targets: Vec::new(),
        held_targets: Vec::new(),
        created_at: Timestamp::from_millis(0),
    });
    let agents = agents.iter().map(|number| {
        let (environment, id) = agent(*number);
        Agent {
            id,
            environment,
            name: String::new(),
            label: String::new(),
            description: None,
            direction: Direction::Inbound,
            status: AgentStatus::Published,
            phone_numbers: Vec::new(),
            targets: Vec::new(),
            external_ids: BTreeMap::new(),
            role: None,
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        }
    });
    Directory::load(7, environments, agents, Vec::new(), Vec::new(), Vec::new())
}

/// The route of a call to this agent, from this source or its neighbor in the same environment; both may have
/// been deleted since. `None` if the agent had no slot in this run.
fn route(
    directory: &Directory,
    slots: &HashMap<usize, AgentSlot>,
    to: usize,
    from: usize,
) -> Option<Route> {
    let (home, _) = agent(to);
    let source = slots.get(&(from - from % ENVIRONMENTS + to % ENVIRONMENTS));
    let kind = match source {
        _ if from == 0 => None,
        Some(_) if !(to + from).is_multiple_of(3) => Some(CountKind::Received),
        _ => Some(CountKind::Unmatched),
    };
    Some(Route {
        environment: directory.environment_by_id(home)?.slot,
        kind,
        agent: Some(*slots.get(&to)?),
        source: source
            .copied()
            .filter(|_| kind == Some(CountKind::Received)),
    })
}

/// Runs a model and a tally side by side.
struct Run {
    stored: Stored,
    alive: BTreeSet<usize>,
    directory: Directory,
    /// The slots that agents have, or had, in this run.
    slots: HashMap<usize, AgentSlot>,
    tally: Tally,
    calls: HashMap<u64, ModelCall>,
}

impl Run {
    fn new() -> Self {
        let stored = Stored::default();
        let alive: BTreeSet<usize> = (0..AGENTS).collect();
        let directory = directory(&alive);
        let tally = stored.open(&directory);
        let mut run = Self {
            stored,
            alive,
            directory,
            slots: HashMap::new(),
            tally,
            calls: HashMap::new(),
        };
        run.note_slots();
        run
    }

    /// Notes the slots of this run.
    fn note_slots(&mut self) {
        let slot = |number: &usize| {
            let (_, id) = agent(*number);
            Some((*number, self.directory.agent_by_id(id)?.slot))
        };
        self.slots = self.alive.iter().filter_map(slot).collect();
    }

    fn arrive(&mut self, sid_hash: u64, to: usize, from: usize, second: u32) {
        let Some(route) = route(&self.directory, &self.slots, to, from) else {
            return;
        };
        let mut arrivals = vec![Arrival {
            sid_hash,
            second,
            route,
        }];
        self.tally.swap_arrivals(&mut arrivals);
        self.tally.take_up();
        let source = route.source.map(|slot| {
            let named = self
                .slots
                .iter()
                .find(|(_, known)| **known == slot)
                .unwrap();
            agent(*named.0).1
        });
        let (environment, id) = agent(to);
        self.calls.entry(sid_hash).or_insert_with(|| ModelCall {
            environment,
            key: route.kind.map(|kind| CountKey {
                environment,
                day: if second < 86_400 { 0 } else { 1 },
                agent: id,
                source,
                kind,
            }),
            answered: None,
        });
    }

    fn answer(&mut self, sid_hash: u64) {
        let Some(call) = self.calls.get_mut(&sid_hash) else {
            return;
        };
        let answered = AnsweredCall {
            environment: call.environment,
            sid_hash,
            at: Timestamp::from_seconds(90_000),
        };
        self.tally.answered_over_sip(&answered, &self.directory);
        if let Some(key) = call.key.filter(|key| key.kind == CountKind::Received) {
            call.answered = Some(CountKey {
                day: 1,
                kind: CountKind::Answered,
                ..key
            });
        }
    }

    /// Commits what is pending, or fails; returns whether there was anything.
    fn tick(&mut self, roll_up: bool, fails: bool) -> bool {
        let changes = self.tally.take_pending(&self.directory, roll_up);
        let any = !changes.is_empty();
        if fails {
            self.tally.give_back(changes);
        } else {
            self.stored.commit(&changes);
            self.tally.made_durable(changes);
        }
        any
    }

    fn crash(&mut self) {
        self.directory = directory(&self.alive);
        self.note_slots();
        self.tally = self.stored.open(&self.directory);
        let (routed, answered) = self.stored.known();
        self.calls.retain(|sid_hash, _| routed.contains(sid_hash));
        for (sid_hash, call) in &mut self.calls {
            if !answered.contains(sid_hash) {
                call.answered = None;
            }
        }
    }

    fn check(&self) {
        assert_eq!(shown(&self.tally, &self.directory), count(&self.calls));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn counters_are_those_of_the_calls_known_whatever_happens(events in prop::collection::vec(event(), 1..60)) {
        let mut run = Run::new();
        for event in events {
            match event {
                Event::Arrive(first, count, to, from, second) => {
                    for sid_hash in first..first + count {
                        run.arrive(sid_hash, to, from, second);
                    }
                }
                Event::Answer(sid_hash) => run.answer(sid_hash),
                Event::Tick { roll_up, fails } => {
                    run.tick(roll_up, fails);
                }
                Event::LookUp => {
                    run.tally.prepare_roll_up(&run.directory);
                }
                Event::Delete(number) => {
                    run.alive.remove(&number);
                    run.directory.remove_agent(agent(number).1);
                }
                Event::Crash => run.crash(),
            }
            run.check();
        }
        // In the end the stored counters contain everything, and nothing is counted again.
        while run.tick(true, false) || run.tally.is_rolling_up() {
            run.tally.prepare_roll_up(&run.directory);
        }
        prop_assert_eq!(&run.stored.counts, &count(&run.calls));
        run.crash();
        run.check();
        while run.tick(true, false) || run.tally.is_rolling_up() {
            run.tally.prepare_roll_up(&run.directory);
        }
        prop_assert_eq!(&run.stored.counts, &count(&run.calls));
    }
}

/// If only the last piece had a mark, a crash between two pieces would count the first one twice.
#[test]
fn a_crash_between_two_pieces_counts_nothing_twice() {
    let mut run = Run::new();
    for (sid_hash, to) in (0..).zip(0..AGENTS) {
        run.arrive(sid_hash, to, 1, 86_000);
    }
    let mut crashes = 0;
    run.tick(true, false);
    while run.tick(true, false) || run.tally.is_rolling_up() {
        run.tally.prepare_roll_up(&run.directory);
        if run.stored.mark.partial.is_some() {
            crashes += 1;
            run.crash();
            // Calls that arrive in between belong to the next roll-up.
            run.arrive(1_000 + crashes, 0, 1, 87_000);
        }
        run.check();
    }
    assert!(crashes > 1, "more than two pieces are made in tests");
    assert_eq!(run.stored.counts, count(&run.calls));
}

/// If more calls waited than one commit takes, an answer used to become durable, and counted, before its call.
#[test]
fn an_answer_becomes_durable_with_its_call_or_after_it() {
    let mut run = Run::new();
    for sid_hash in 0..CALLS_AT_ONCE as u64 + 6 {
        run.arrive(sid_hash, 1, 1, 86_000);
    }
    run.answer(CALLS_AT_ONCE as u64 + 2);
    run.tick(false, false);
    run.crash();
    run.check();
}

/// A call without an agent is known after a restart too, unless its environment was removed.
#[test]
fn calls_without_an_agent_are_known_after_a_restart() {
    let mut run = Run::new();
    let home = run
        .directory
        .environment_by_id(environment(0))
        .unwrap()
        .slot;
    let gone = EnvironmentSlot(ENVIRONMENTS as u16);
    let arrivals = [(1, home), (2, gone)].map(|(sid_hash, environment)| Arrival {
        sid_hash,
        second: 86_000,
        route: Route {
            environment,
            kind: None,
            agent: None,
            source: None,
        },
    });
    run.tally.swap_arrivals(&mut arrivals.to_vec());
    run.tally.take_up();
    assert!(run.tick(true, false));
    let tally = run.stored.open(&run.directory);
    assert_eq!(tally.routed.decision(1), Some(None));
    assert_eq!(tally.routed.decision(2), None);
}

/// How many environments there are.
const ENVIRONMENTS: usize = 2;

/// How many agents there are.
const AGENTS: usize = 12;
