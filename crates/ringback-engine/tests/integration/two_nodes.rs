//! Two engines on one log: whatever one does just before the other appends, both end in the same state, and
//! nothing acknowledged is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use ringback_engine::{
    Command, CreateAgent, CreateNumber, DeleteAgent, DeleteEnvironment, DeleteNumber, Engine,
    ForgetContact, Journal, Override, PublishAgent, RecordCalls, RoleFields, RoleMode,
    SetCallbackRole, SubmitError, UpdateAgent,
};
use ringback_routing::{
    AgentId, AgentStatus, CallStatus, Contacts, Direction, E164, EnvironmentId, NumberId,
};
use ringback_testkit::Shown;
use tokio::runtime::Runtime;

use crate::support::{MemoryJournal, NOW, Running, StillClock, e164, environment, open};

/// A request of a client to one of the nodes. Agents, numbers and contacts are given by index, if there are any.
#[derive(Clone, Debug)]
enum Ask {
    Agent(bool, usize),
    Assign(usize, Vec<usize>),
    Publish(usize),
    Unpublish(usize),
    Delete(usize),
    Role(usize, usize),
    Number(u64),
    DeleteNumber(usize),
    Call(u8, usize, u64, u8),
    Forget(u64),
    DeleteEnvironment,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => (any::<bool>(), 0..4_usize).prop_map(|(inbound, number)| Ask::Agent(inbound, number)),
        2 => (0..6_usize, prop::collection::vec(0..4_usize, 0..3))
            .prop_map(|(agent, numbers)| Ask::Assign(agent, numbers)),
        3 => (0..6_usize).prop_map(Ask::Publish),
        1 => (0..6_usize).prop_map(Ask::Unpublish),
        1 => (0..6_usize).prop_map(Ask::Delete),
        2 => (0..6_usize, 0..6_usize).prop_map(|(agent, source)| Ask::Role(agent, source)),
        3 => (0..4_u64).prop_map(Ask::Number),
        1 => (0..4_usize).prop_map(Ask::DeleteNumber),
        6 => (any::<u8>(), 0..6_usize, 0..4_u64, 0..8_u8)
            .prop_map(|(sid, agent, contact, rank)| Ask::Call(sid % 8, agent, contact, rank)),
        1 => (0..4_u64).prop_map(Ask::Forget),
        1 => Just(Ask::DeleteEnvironment),
    ]
}

/// The changes that were acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// The agents that were created, in the order of the answers, and those that were deleted.
    agents: Vec<AgentId>,
    deleted: Vec<AgentId>,
    /// The numbers that were created, with their ids, and those that were deleted.
    numbers: Vec<(NumberId, E164)>,
    deleted_numbers: Vec<NumberId>,
    /// The highest status accepted for each call, until its contact is forgotten.
    calls: HashMap<u8, (AgentId, E164, CallStatus)>,
}

/// Two nodes, and the changes that their clients know of.
struct World {
    engines: [Arc<Running>; 2],
    journals: [MemoryJournal; 2],
    here: EnvironmentId,
    acknowledged: Arc<Mutex<Acknowledged>>,
}

/// The runtime of a client.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("it needs nothing")
}

/// Submits from a thread of its own, because the caller may be running in the other node's writer.
fn submit<C: Command>(engine: &Engine, command: C) -> Result<C::Output, SubmitError> {
    std::thread::scope(|scope| {
        let run = || runtime().block_on(engine.submit(command));
        scope.spawn(run).join().expect("a client does not panic")
    })
}

/// Sends a request to a node, and notes what it acknowledges.
fn carry_out(engine: &Engine, here: EnvironmentId, known: &Mutex<Acknowledged>, ask: &Ask) {
    let agent = |index: usize| known.lock().agents.get(index).copied();
    let number = |index: usize| known.lock().numbers.get(index).map(|(id, _)| *id);
    let noted = |result: Result<(), SubmitError>| match result {
        Ok(()) | Err(SubmitError::Rejected(_)) => {}
        Err(error) => panic!("{error}"),
    };
    match ask {
        Ask::Agent(inbound, index) => {
            let command = CreateAgent {
                environment: here,
                name: "agent".to_owned(),
                label: String::new(),
                description: None,
                direction: if *inbound {
                    Direction::Inbound
                } else {
                    Direction::Outbound
                },
                phone_number_ids: number(*index).map(Some).into_iter().collect(),
                targets: Vec::new(),
                external_ids: BTreeMap::new(),
                is_misread: false,
            };
            noted(submit(engine, command).map(|made| known.lock().agents.push(made.agent.id)));
        }
        Ask::Assign(index, numbers) => {
            let Some(id) = agent(*index) else { return };
            let numbers = numbers.iter().filter_map(|index| number(*index));
            let command = UpdateAgent {
                environment: here,
                id,
                name: None,
                label: None,
                description: Override::Keep,
                direction: None,
                phone_number_ids: Some(numbers.map(Some).collect()),
                targets: None,
                external_ids: BTreeMap::new(),
                is_misread: false,
            };
            noted(submit(engine, command).map(drop));
        }
        Ask::Publish(index) | Ask::Unpublish(index) => {
            let Some(id) = agent(*index) else { return };
            let status = match ask {
                Ask::Publish(_) => AgentStatus::Published,
                _ => AgentStatus::Draft,
            };
            let command = PublishAgent {
                environment: here,
                id,
                status,
            };
            noted(submit(engine, command).map(drop));
        }
        Ask::Delete(index) => {
            let Some(id) = agent(*index) else { return };
            let command = DeleteAgent {
                environment: here,
                id,
            };
            noted(submit(engine, command).map(|_at| {
                let mut known = known.lock();
                known.deleted.push(id);
                known.calls.retain(|_, (agent, ..)| *agent != id);
            }));
        }
        Ask::Role(index, source) => {
            let (Some(id), Some(source)) = (agent(*index), agent(*source)) else {
                return;
            };
            let command = SetCallbackRole {
                environment: here,
                id,
                mode: RoleMode::Anew,
                fields: RoleFields {
                    source_agent_ids: vec![Some(source)],
                    ..RoleFields::default()
                },
            };
            noted(submit(engine, command).map(drop));
        }
        Ask::Number(digits) => {
            let number = e164(551_130_000_000 + digits);
            let command = CreateNumber {
                environment: here,
                number,
                country: None,
            };
            let made = submit(engine, command);
            noted(made.map(|made| known.lock().numbers.push((made.number.id, number))));
        }
        Ask::DeleteNumber(index) => {
            let Some(id) = number(*index) else { return };
            let command = DeleteNumber {
                environment: here,
                id,
            };
            noted(submit(engine, command).map(|()| known.lock().deleted_numbers.push(id)));
        }
        Ask::Call(sid, index, contact, rank) => {
            let Some(agent) = agent(*index) else { return };
            let (to, status) = (
                e164(5_511_987_650_000 + contact),
                CallStatus::from_rank(*rank),
            );
            let call = ringback_engine::NewCall {
                agent,
                to,
                from: None,
                status: Some(status),
                started_at: None,
                sid: Some(sid.to_string().into()),
            };
            let command = RecordCalls {
                environment: here,
                calls: vec![call],
            };
            let taken = submit(engine, command).expect("nothing fails");
            if let [Ok(_)] = taken.as_slice() {
                let mut known = known.lock();
                let entry = known.calls.entry(*sid).or_insert((agent, to, status));
                entry.2 = entry.2.max(status);
            }
        }
        Ask::Forget(contact) => {
            let contact = e164(5_511_987_650_000 + contact);
            let command = ForgetContact {
                environment: here,
                contact,
                opt_out: false,
            };
            noted(submit(engine, command).map(|_at| {
                known.lock().calls.retain(|_, (_, to, _)| *to != contact);
            }));
        }
        Ask::DeleteEnvironment => {
            noted(submit(engine, DeleteEnvironment { id: here }));
        }
    }
}

impl World {
    fn new() -> Self {
        let clock = StillClock::at(NOW);
        let first = MemoryJournal::default();
        let journals = [first.clone(), first.beside()];
        let engines = [&journals[0], &journals[1]].map(|journal| Arc::new(open(journal, &clock)));
        let here = runtime().block_on(environment(&engines[0]));
        let world = Self {
            engines,
            journals,
            here,
            acknowledged: Arc::default(),
        };
        world.settle();
        world
    }

    /// Waits until each node has applied the whole log.
    fn settle(&self) {
        let last = || self.journals.iter().map(MemoryJournal::position).max();
        for (engine, journal) in self.engines.iter().zip(&self.journals) {
            while Some(journal.position()) < last() {
                std::thread::yield_now();
            }
            // A node reads an entry before it applies it, and runs later commands only after that.
            let nothing = RecordCalls {
                environment: self.here,
                calls: Vec::new(),
            };
            submit(engine, nothing).expect("nothing fails");
        }
    }

    /// Sends the first request to a node. When that node is about to append, the others run on the other node.
    fn race(&self, node: usize, first: &Ask, others: Vec<Ask>) {
        let other = Arc::clone(&self.engines[1 - node]);
        let (here, known) = (self.here, Arc::clone(&self.acknowledged));
        self.journals[node].interpose(move || {
            for ask in &others {
                carry_out(&other, here, &known, ask);
            }
        });
        carry_out(&self.engines[node], self.here, &self.acknowledged, first);
        // A command that changes nothing appends nothing. Then two nodes would wait for each other without end.
        self.journals[node].clear_interposed();
    }

    /// Both nodes show the same state, with everything that was acknowledged.
    fn check(&self) {
        self.settle();
        let [first, second] = [0, 1].map(|node| Shown::read(&*self.journals[node].archive()));
        assert_eq!(first, second);
        let known = self.acknowledged.lock();
        for engine in &self.engines {
            let directory = engine.directory();
            for id in &known.agents {
                let is_there = directory.agent_of(self.here, *id).is_some();
                assert_eq!(is_there, !known.deleted.contains(id));
            }
            let left: Vec<_> = known
                .numbers
                .iter()
                .filter(|(id, _)| !known.deleted_numbers.contains(id))
                .collect();
            for (id, number) in &left {
                // One owner, and the same one by the number and by its identifier.
                assert_eq!(left.iter().filter(|(_, other)| other == number).count(), 1);
                let found = directory.number(*number).expect("entered");
                assert_eq!(found.record.id, *id);
                for slot in found.owners() {
                    let owner = directory.agent(slot).expect("owners are there");
                    assert!(owner.record.phone_numbers.contains(id));
                }
            }
            assert_eq!(directory.numbers_of(self.here).count(), left.len());
            for agent in directory.agents_of(self.here) {
                for source in agent
                    .record
                    .role
                    .iter()
                    .flat_map(|role| &role.source_agents)
                {
                    assert!(directory.agent_by_id(*source).is_some(), "a source is gone");
                }
            }
            let Some(home) = directory.environment_by_id(self.here) else {
                continue;
            };
            for (sid, (_, contact, status)) in &known.calls {
                let stored = self.journals[0].archive().call(self.here, &sid.to_string());
                let stored = stored.expect("readable").expect("acknowledged");
                assert_eq!((stored.contact, stored.status), (*contact, *status));
                let shown = engine.contacts().calls(home.slot, *contact);
                assert!(
                    !shown.expect("readable").is_empty(),
                    "{sid} is not remembered"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_engines_over_one_log_end_equal_and_lose_nothing(
        races in prop::collection::vec((0..2_usize, ask(), prop::collection::vec(ask(), 0..3)), 1..12),
    ) {
        let world = World::new();
        for (node, first, others) in races {
            world.race(node, &first, others);
        }
        world.check();
        // A node that comes later, or comes back, reaches the same state.
        let clock = StillClock::at(NOW);
        let third = world.journals[0].beside();
        let late = open(&third, &clock);
        prop_assert_eq!(
            Shown::read(&*third.archive()),
            Shown::read(&*world.journals[0].archive())
        );
        let agents = |engine: &Engine| -> Vec<_> {
            let directory = engine.directory();
            directory.all_agents().map(|agent| Arc::clone(&agent.record)).collect()
        };
        prop_assert_eq!(agents(&late), agents(&world.engines[0]));
    }
}

/// A command that loses every race gets an error in the end, and has changed nothing.
#[test]
fn a_command_that_always_comes_late_is_answered_in_the_end() {
    let world = World::new();
    let races = Arc::new(AtomicUsize::new(0));
    for round in 0..40 {
        let other = Arc::clone(&world.engines[1]);
        let (here, races) = (world.here, Arc::clone(&races));
        world.journals[0].interpose(move || {
            races.fetch_add(1, Ordering::SeqCst);
            let ask = Ask::Call(7, 0, 0, 0);
            let known = Mutex::new(Acknowledged::default());
            carry_out(&other, here, &known, &Ask::Agent(true, round));
            carry_out(&other, here, &known, &ask);
        });
    }
    let number = CreateNumber {
        environment: world.here,
        number: e164(551_130_000_000),
        country: None,
    };
    let lost = submit(&world.engines[0], number);
    assert_eq!(lost.unwrap_err(), SubmitError::Conflict);
    assert_eq!(races.load(Ordering::SeqCst), 21);
    world.journals[0].clear_interposed();
    let directory = world.engines[0].directory();
    assert!(directory.number(e164(551_130_000_000)).is_none());
    assert!(world.engines[0].health().storage_available);
}
