//! Several nodes, a stream, and what goes wrong between them, on virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash};
use std::time::Duration;

use uuid::Uuid;

use super::chance::Chance;
use super::ledger::{Ledger, Told};
use super::state::{Fact, State, Wish, read, write};
use super::stream::Stream;
use crate::replica::{Answer, Applied, Fault, Input, Output, Refusal, Replica, Settings};
use crate::{AppendId, Chain, Place};

/// How much goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Faults come about this often.
    pub(super) every: Duration,
    /// The longest delay of a message that is delayed, in milliseconds.
    pub(super) longest_delay: u64,
}

/// Everything.
pub(super) struct World {
    /// The time.
    pub(super) now: Duration,
    /// Chance.
    pub(super) chance: Chance,
    /// What is to happen, in order.
    queue: BTreeMap<(Duration, u64), Event>,
    /// The number of the next event.
    next_event: u64,
    /// The stream.
    pub(super) stream: Stream,
    /// The nodes.
    pub(super) nodes: Vec<Node>,
    /// What clients were told.
    pub(super) ledger: Ledger,
    /// What goes wrong.
    faults: Faults,
    /// Whether anything goes wrong at present.
    is_chaotic: bool,
    /// Whether the stream stays one log.
    pub(super) one_log: bool,
    /// How long a message of each node takes at least, in milliseconds.
    pub(super) distance: Vec<u64>,
    /// Whether clients of every node ask for something as soon as there is room.
    pub(super) is_eager: bool,
    /// How long the log keeps its messages.
    pub(super) retain: Duration,
    /// How often a node took the state of another.
    pub(super) restored: u32,
    /// What became of the appends of each node.
    pub(super) turns: Vec<Turns>,
    /// A hash of everything that happened.
    pub(super) trace: DefaultHasher,
}

/// What became of a node's appends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    /// How many were committed.
    pub(super) committed: u32,
    /// How many races one has lost at most.
    pub(super) most_lost: u32,
}

/// A node.
pub(super) struct Node {
    /// How often it was started.
    life: u32,
    /// What runs; none while it is down.
    pub(super) running: Option<Running>,
    /// What is on its disk.
    disk: Disk,
}

/// What a node keeps when it crashes.
#[derive(Clone)]
struct Disk {
    /// How far its state is.
    place: Place,
    /// The state there.
    state: State,
}

impl Disk {
    /// A disk with nothing on it.
    fn empty() -> Self {
        Self {
            place: Place {
                sequence: 0,
                chain: Chain::start(Uuid::from_u128(7)),
            },
            state: State::default(),
        }
    }
}

/// A node that runs.
pub(super) struct Running {
    /// What is tested.
    pub(super) replica: Replica,
    /// Its state, and how far it is.
    applied: Disk,
    /// Its connection: the number of the latest one.
    connection: u32,
    /// The condition of the connection.
    link: Link,
    /// The number of the latest delivery that it asked for.
    delivery: u32,
    /// Commands that wait.
    waiting: VecDeque<Command>,
    /// The commands of the append under way, and how often they lost a race.
    under_way: Option<(AppendId, Commands, u32)>,
    /// The commands of an append that is not settled.
    unsettled: Option<(AppendId, Vec<u32>)>,
    /// The time that the replica wants to be called at.
    timeout: Duration,
}

/// The condition of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It works.
    Up,
    /// Nothing comes back, and nobody has noticed.
    Half,
    /// There is none.
    Down,
}

/// Where something goes: a node, its life, its connection.
type Address = (usize, u32, u32);

/// A command by its number, and what it asks for.
type Command = (u32, Wish);

/// Commands of one append.
type Commands = Vec<Command>;

/// Something that is to happen.
enum Event {
    /// The stream is told to drop what is before a message.
    Purge(u64),
    /// A node saves what it has.
    Save(usize, u32),
    /// A node that cannot read on takes the state of another.
    Restore(usize, u32),
    /// A message reaches the stream.
    Land(Address, u64, u64, Vec<u8>),
    /// Something reaches a node.
    Arrive(Address, Input),
    /// A delivery goes on at this sequence.
    Deliver(Address, u32, u64),
    /// A delivered message reaches a node.
    Hand(Address, u32, Input),
    /// A node wants to be called.
    Wake(usize, u32),
    /// The connection of a node works again.
    Reconnect(usize, u32),
    /// A node notices that nothing comes back on its connection.
    Notice(Address),
    /// A node starts.
    Start(usize),
    /// The stream has a leader again.
    Lead,
    /// A client asks for something.
    Ask,
    /// Something goes wrong.
    Fail,
}

impl World {
    /// Some nodes on an empty stream.
    pub(super) fn new(seed: u64, nodes: usize, faults: Faults) -> Self {
        let disk = Disk::empty();
        let node = || Node {
            life: 0,
            running: None,
            disk: disk.clone(),
        };
        let mut world = Self {
            now: Duration::ZERO,
            chance: Chance(seed),
            queue: BTreeMap::new(),
            next_event: 0,
            stream: Stream::default(),
            nodes: std::iter::repeat_with(node).take(nodes).collect(),
            ledger: Ledger::default(),
            faults,
            is_chaotic: true,
            one_log: true,
            distance: vec![0; nodes],
            is_eager: false,
            retain: Duration::from_secs(100_000),
            restored: 0,
            turns: vec![Turns::default(); nodes],
            trace: DefaultHasher::new(),
        };
        world.stream.has_leader = true;
        for node in 0..nodes {
            world.after(Duration::ZERO, Event::Start(node));
        }
        world.after(Duration::ZERO, Event::Ask);
        world.after(faults.every, Event::Fail);
        world
    }

    /// Lets this much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            let (at, _) = *entry.key();
            if at > end {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    /// Ends all faults: nodes run, the stream has a leader, connections work.
    pub(super) fn heal(&mut self) {
        self.is_chaotic = false;
        self.queue
            .retain(|_, event| !matches!(event, Event::Fail | Event::Notice(_)));
        self.stream.has_leader = true;
        for node in 0..self.nodes.len() {
            match &self.nodes[node].running {
                None => self.start(node),
                Some(running) if running.link == Link::Up => {}
                Some(_) => self.disconnect(node, Duration::ZERO),
            }
        }
    }

    /// Clients ask for nothing more.
    pub(super) fn quiet(&mut self) {
        self.queue
            .retain(|_, event| !matches!(event, Event::Ask | Event::Fail));
    }

    /// Ends a node.
    pub(super) fn end(&mut self, node: usize) {
        self.nodes[node].running = None;
    }

    /// Ends a node and starts it at once.
    pub(super) fn restart(&mut self, node: usize) {
        self.end(node);
        self.start(node);
    }

    /// How far a node's disk is.
    pub(super) fn kept(&self, node: usize) -> usize {
        self.nodes[node].disk.place.sequence as usize
    }

    /// Takes what a node has on disk.
    pub(super) fn forget_disk(&mut self, node: usize) {
        self.nodes[node].disk = Disk::empty();
    }

    /// Why nodes have stopped.
    pub(super) fn stopped(&self) -> Vec<Option<Fault>> {
        let fault = |node: &Node| node.running.as_ref().and_then(|one| one.replica.fault());
        self.nodes.iter().map(fault).collect()
    }

    /// All nodes are at the end of the log, in the same state, and nothing is open.
    pub(super) fn assert_whole(&self) {
        for node in &self.nodes {
            let running = node.running.as_ref().expect("healed");
            let replica = &running.replica;
            assert_eq!(replica.fault(), None);
            assert!(replica.is_current(), "{replica:?}");
            assert!(!replica.is_unsettled(), "{replica:?}");
            assert_eq!(
                replica.place().sequence,
                self.stream.len() as u64,
                "{replica:?} at {:?}",
                self.now
            );
            assert!(running.under_way.is_none() && running.waiting.is_empty());
            let gone = replica
                .neighbors()
                .filter(|one| one.is_gone(self.now) || one.agrees == Some(false));
            let gone: Vec<_> = gone.collect();
            assert!(gone.is_empty(), "{gone:?} at {:?}", self.now);
            assert_eq!(replica.neighbors().count(), self.nodes.len() - 1);
        }
        self.ledger.check(self.stream.messages());
    }

    /// Has something happen later.
    fn after(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.queue
            .insert((self.now + delay, self.next_event), event);
    }

    /// How long a message between a node and the stream takes.
    fn delay(&mut self, node: usize) -> Duration {
        let distance = Duration::from_millis(self.distance[node]);
        distance + self.chance_of_delay()
    }

    /// How long a message takes besides.
    fn chance_of_delay(&mut self) -> Duration {
        if self.is_chaotic && self.chance.one_in(60) {
            self.chance.millis(1, self.faults.longest_delay)
        } else {
            self.chance.millis(0, 3)
        }
    }

    /// Whether something is lost that rarely is.
    fn is_lost(&mut self) -> bool {
        self.is_chaotic && self.chance.one_in(100)
    }

    /// The running node at this address, if its connection is still the same.
    fn at(&mut self, (node, life, connection): Address) -> Option<&mut Running> {
        let node = self.nodes.get_mut(node)?;
        let running = node.running.as_mut()?;
        (node.life == life && running.connection == connection).then_some(running)
    }

    /// Something happens.
    fn happen(&mut self, event: Event) {
        (self.now, std::mem::discriminant(&event)).hash(&mut self.trace);
        match event {
            Event::Land(address, attempt, after, message) => {
                self.land(address, attempt, after, message);
            }
            Event::Arrive(address, input) => {
                let arrives = self.at(address).is_some_and(|one| one.link == Link::Up);
                if arrives {
                    self.tell(address.0, input);
                }
            }
            Event::Deliver(address, delivery, sequence) => {
                self.deliver(address, delivery, sequence);
            }
            Event::Hand(address, delivery, input) => {
                let is_wanted = self
                    .at(address)
                    .is_some_and(|one| one.delivery == delivery && one.link == Link::Up);
                if is_wanted {
                    self.tell(address.0, input);
                }
            }
            Event::Purge(floor) => {
                if self.stream.has_leader {
                    self.stream.purge(floor);
                }
            }
            Event::Save(index, life) => {
                let node = &mut self.nodes[index];
                if node.life == life
                    && let Some(running) = &mut node.running
                {
                    node.disk = running.applied.clone();
                    let stored = node.disk.place.sequence;
                    self.tell(index, Input::Stored(stored));
                }
            }
            Event::Restore(node, life) => self.restore(node, life),
            Event::Wake(node, life) => {
                let now = self.now;
                let is_due = self.nodes[node].life == life
                    && (self.nodes[node].running.as_ref()).is_some_and(|one| one.timeout <= now);
                if is_due {
                    self.tell(node, Input::Time);
                }
            }
            Event::Reconnect(node, life) => {
                if self.nodes[node].life == life
                    && let Some(running) = &mut self.nodes[node].running
                    && running.link == Link::Down
                {
                    running.connection += 1;
                    running.link = Link::Up;
                    self.tell(node, Input::Connected);
                }
            }
            Event::Notice(address) => {
                if self.at(address).is_some() {
                    self.disconnect(address.0, Duration::ZERO);
                }
            }
            Event::Start(node) => {
                if self.nodes[node].running.is_none() {
                    self.start(node);
                }
            }
            Event::Lead => self.stream.has_leader = true,
            Event::Ask => self.ask(),
            Event::Fail => self.fail(),
        }
    }

    /// Starts a node from its disk.
    fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.life += 1;
        let settings = Settings {
            node: format!("node-{index}"),
            instance: u64::from(node.life) * 100 + index as u64,
            started_at: self.now.as_millis() as i64,
            version: "1".to_owned(),
            url: String::new(),
            write_wait: Duration::from_secs(10),
            max_payload: crate::wire::HEADER_LENGTH + 7 * 4 + 3,
            retain: self.retain,
            retain_bytes: u64::MAX / 2,
        };
        node.running = Some(Running {
            replica: Replica::new(settings, node.disk.place, self.now),
            applied: node.disk.clone(),
            connection: 0,
            link: Link::Down,
            delivery: 0,
            waiting: VecDeque::new(),
            under_way: None,
            unsettled: None,
            timeout: Duration::ZERO,
        });
        let life = node.life;
        self.after(Duration::ZERO, Event::Wake(index, life));
        let soon = self.chance.millis(1, 50);
        self.after(soon, Event::Reconnect(index, life));
    }

    /// A node that cannot read on takes the state of another that can, and starts again.
    fn restore(&mut self, node: usize, life: u32) {
        let first = self.stream.first();
        let is_fit = |other: &&Node| {
            let running = other.running.as_ref();
            running.is_some_and(|one| {
                one.replica.is_current() && one.applied.place.sequence + 1 >= first
            })
        };
        let donor = self.nodes.iter().find(is_fit);
        let donor = donor.and_then(|donor| Some(donor.running.as_ref()?.applied.clone()));
        if self.nodes[node].life != life || self.nodes[node].running.is_none() {
            return;
        }
        let Some(donor) = donor else {
            return self.after(SNAPSHOT_TIME, Event::Restore(node, life));
        };
        self.restored += 1;
        self.nodes[node].disk = donor;
        self.restart(node);
    }

    /// Ends the connection of a node, which makes a new one after a while.
    fn disconnect(&mut self, node: usize, time: Duration) {
        let life = self.nodes[node].life;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        running.link = Link::Down;
        running.connection += 1;
        self.tell(node, Input::Disconnected);
        self.after(time, Event::Reconnect(node, life));
    }

    /// A client asks a node for something, and more will.
    fn ask(&mut self) {
        let pause = if self.chance.one_in(20) {
            self.chance.millis(1, 3_000)
        } else {
            self.chance.millis(0, 60)
        };
        self.after(pause, Event::Ask);
        let node = self.chance.below(self.nodes.len() as u64) as usize;
        self.ask_node(node);
        self.drain(node);
    }

    /// Clients ask a node for something.
    fn ask_node(&mut self, node: usize) {
        for _ in 0..=self.chance.below(8) {
            let number = self.chance.below(5) as u8;
            let kind = self.chance.below(12);
            let owner = self.chance.below(250) as u8;
            let Some(running) = &mut self.nodes[node].running else {
                return;
            };
            let wish = match kind {
                0..=2 => Wish::Claim { number, owner },
                3..=4 => Wish::Release { number },
                5 => Wish::Erase { contact: number },
                _ => Wish::Call {
                    contact: number,
                    erasures: running.applied.state.erasures(number),
                },
            };
            let command = self.ledger.begin();
            running.waiting.push_back((command, wish));
        }
        self.work(node);
    }

    /// Has a node append what waits, if nothing is under way.
    fn work(&mut self, node: usize) {
        let now = self.now;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        if running.under_way.is_none() && !running.waiting.is_empty() {
            let commands = running.waiting.drain(..).take(20).collect();
            self.append(node, commands, 0, now);
        }
    }

    /// Appends what commands lead to on the present state.
    fn append(&mut self, node: usize, commands: Commands, races: u32, now: Duration) {
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let mut draft = running.applied.state.clone();
        let mut facts: Vec<Fact> = Vec::new();
        let mut accepted = Vec::new();
        for (command, wish) in commands {
            if let Some(fact) = draft.check(command, wish) {
                draft.apply(fact);
                facts.push(fact);
                accepted.push((command, wish));
            } else {
                self.ledger.tell(command, Told::NotDone);
            }
        }
        if facts.is_empty() {
            // Nothing is under way, so what waits behind them is not waited for.
            return self.work(node);
        }
        let position = running.applied.place.sequence;
        let id = running.replica.append(now, position, &write(&facts), false);
        running.under_way = Some((id, accepted, races));
    }

    /// Tells a node something, and does what it says.
    fn tell(&mut self, node: usize, input: Input) {
        let now = self.now;
        if let Some(running) = &mut self.nodes[node].running {
            running.replica.handle(now, input);
            self.drain(node);
        }
    }

    /// Does what a node says.
    fn drain(&mut self, node: usize) {
        for step in 0.. {
            assert!(step < 10_000, "the replica never comes to rest");
            let life = self.nodes[node].life;
            let Some(running) = &mut self.nodes[node].running else {
                return;
            };
            let output = running.replica.poll_output();
            let (connection, link) = (running.connection, running.link);
            let address = (node, life, connection);
            match output {
                Output::Timeout(at) => {
                    let now = self.now;
                    running.timeout = at;
                    self.after(at.saturating_sub(now), Event::Wake(node, life));
                    return;
                }
                Output::Publish {
                    attempt,
                    after,
                    message,
                } => {
                    let delay = self.delay(node);
                    if link == Link::Down || self.is_lost() {
                        continue;
                    }
                    if self.is_chaotic && self.chance.one_in(50) {
                        let later = delay + self.delay(node);
                        let copy = Event::Land(address, attempt, after, message.clone());
                        self.after(later, copy);
                    }
                    self.after(delay, Event::Land(address, attempt, after, message));
                }
                Output::Read(sequence) => {
                    if let Some(stale) = self.who_answers() {
                        let message = self.stream.read(sequence, stale);
                        self.answer(address, Input::Found { sequence, message });
                    }
                }
                Output::Inspect => {
                    if let Some(stale) = self.who_answers() {
                        let state = self.stream.state(stale);
                        self.answer(address, Input::Inspected(state));
                    }
                }
                Output::Follow(sequence) => {
                    running.delivery += 1;
                    let delivery = running.delivery;
                    let delay = self.delay(node);
                    self.after(delay, Event::Deliver(address, delivery, sequence));
                }
                Output::Announce(presence) => {
                    for other in 0..self.nodes.len() {
                        let to = &self.nodes[other];
                        let Some(hearing) = &to.running else { continue };
                        let address = (other, to.life, hearing.connection);
                        if link == Link::Up && !self.is_lost() {
                            let delay = self.delay(node) + self.delay(other);
                            let heard = Input::Heard(presence.clone());
                            self.after(delay, Event::Arrive(address, heard));
                        }
                    }
                }
                Output::Apply(applied) => self.apply(node, applied),
                Output::Answer(id, answer) => self.answered(node, id, answer),
                Output::Settled(id, is_committed) => {
                    let (unsettled, commands) = running.unsettled.take().expect("unsettled");
                    assert_eq!(unsettled, id);
                    let told = if is_committed {
                        Told::Done
                    } else {
                        Told::NotDone
                    };
                    for command in commands {
                        self.ledger.tell(command, told);
                    }
                }
                Output::FindOlder(age) => {
                    if self.stream.has_leader {
                        let older = self.stream.last_before(self.now.saturating_sub(age));
                        self.answer(address, Input::Older(older));
                    }
                }
                Output::Purge(floor) => {
                    let delay = self.delay(node);
                    if link != Link::Down && !self.is_lost() {
                        self.after(delay, Event::Purge(floor));
                    }
                }
                Output::Stopped(Fault::Trimmed { .. }) if self.one_log => {
                    self.after(SNAPSHOT_TIME, Event::Restore(node, life));
                }
                Output::Stopped(fault) => {
                    assert!(!self.one_log, "node {node} stopped: {fault}");
                }
            }
        }
    }

    /// Whether an old leader answers (true) or the present one; none if nobody does.
    fn who_answers(&mut self) -> Option<bool> {
        if self.stream.has_leader {
            Some(false)
        } else {
            self.chance.one_in(2).then_some(true)
        }
    }

    /// Sends something to a node, which may be lost.
    fn answer(&mut self, address: Address, input: Input) {
        let delay = self.delay(address.0);
        if !self.is_lost() {
            self.after(delay, Event::Arrive(address, input));
        }
    }

    /// A message reaches the stream.
    fn land(&mut self, address: Address, attempt: u64, after: u64, message: Vec<u8>) {
        let result = if self.stream.has_leader {
            self.stream.publish(self.now, after, message)
        } else if self.chance.one_in(2) {
            Err(Refusal::NoLeader)
        } else {
            // An old leader keeps it, and the next one may take it over.
            if self.chance.one_in(2) {
                let later = self.chance.millis(100, 12_000);
                self.after(later, Event::Land(address, attempt, after, message));
            }
            return;
        };
        self.answer(address, Input::Published { attempt, result });
    }

    /// A delivery goes on.
    fn deliver(&mut self, address: Address, delivery: u32, sequence: u64) {
        let next = self.stream.next_from(sequence);
        let Some(running) = self.at(address) else {
            return;
        };
        if running.delivery != delivery {
            return;
        }
        if running.link != Link::Up {
            // What is delivered to a half connection is gone.
            return;
        }
        let mut pause = Duration::from_millis(7);
        let mut at = sequence;
        if let Some((sequence, message)) = next {
            at = sequence + 1;
            pause = self.chance_of_delay().min(Duration::from_millis(800));
            let hand = |input| Event::Hand(address, delivery, input);
            let distance = Duration::from_millis(self.distance[address.0]);
            self.after(distance, hand(Input::Delivered { sequence, message }));
            if self.is_chaotic {
                match self.chance.below(150) {
                    // The consumer skips messages, goes back, ends, or is silent from now on.
                    0 => at += 1 + self.chance.below(3),
                    1 => at = at.saturating_sub(self.chance.below(5)).max(1),
                    2 => return self.after(distance, hand(Input::DeliveryEnded)),
                    3 => return,
                    _ => {}
                }
            }
        }
        self.after(pause, Event::Deliver(address, delivery, at));
    }

    /// A node applies facts.
    fn apply(&mut self, index: usize, applied: Applied) {
        let is_saved = self.chance.below(10) < 7;
        let node = &mut self.nodes[index];
        let Some(running) = &mut node.running else {
            return;
        };
        let place = applied.place;
        assert!(place.sequence > running.applied.place.sequence);
        for fact in read(&applied.facts) {
            running.applied.state.apply(fact);
        }
        running.applied.place = place;
        let digest = running.applied.state.digest();
        if is_saved {
            node.disk = running.applied.clone();
            running
                .replica
                .handle(self.now, Input::Stored(place.sequence));
        } else {
            let life = node.life;
            self.after(SAVE_TIME, Event::Save(index, life));
        }
        (place.sequence, digest).hash(&mut self.trace);
        self.ledger
            .note(place.sequence, place.chain, digest, self.one_log);
    }

    /// A node's append was answered.
    fn answered(&mut self, node: usize, id: AppendId, answer: Answer) {
        let now = self.now;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let (under_way, commands, races) = running.under_way.take().expect("under way");
        assert_eq!(under_way, id);
        let told = match answer {
            Answer::Committed(sequence) => {
                assert!(running.applied.place.sequence >= sequence, "not applied");
                self.turns[node].committed += 1;
                Told::Done
            }
            Answer::Conflict if races < 20 => {
                let most = &mut self.turns[node].most_lost;
                *most = (*most).max(races + 1);
                return self.append(node, commands, races + 1, now);
            }
            Answer::Conflict | Answer::Unavailable | Answer::Full => Told::NotDone,
            Answer::Unconfirmed => {
                let commands = commands.iter().map(|(command, _)| *command).collect();
                running.unsettled = Some((id, commands));
                Told::Unknown
            }
        };
        for (command, _) in commands {
            self.ledger.tell(command, told);
        }
        if self.is_eager {
            self.ask_node(node);
        } else {
            self.work(node);
        }
    }

    /// Something goes wrong.
    fn fail(&mut self) {
        let every = self.faults.every.as_millis() as u64;
        let pause = self.chance.millis(1, 2 * every);
        self.after(pause, Event::Fail);
        let node = self.chance.below(self.nodes.len() as u64) as usize;
        match self.chance.below(8) {
            0 | 1 => {
                self.nodes[node].running = None;
                let time = self.chance.millis(1, 20_000);
                self.after(time, Event::Start(node));
            }
            2 | 3 => {
                let time = self.chance.millis(1, 15_000);
                self.disconnect(node, time);
            }
            4 | 5 => {
                // Nobody notices for a while.
                let life = self.nodes[node].life;
                if let Some(running) = &mut self.nodes[node].running
                    && running.link == Link::Up
                {
                    running.link = Link::Half;
                    let address = (node, life, running.connection);
                    let time = self.chance.millis(1, 12_000);
                    self.after(time, Event::Notice(address));
                }
            }
            _ => {
                self.stream.lose_leader();
                let time = self.chance.millis(100, 14_000);
                self.after(time, Event::Lead);
            }
        }
    }
}

/// How long it takes to get the state of another node.
const SNAPSHOT_TIME: Duration = Duration::from_millis(300);

/// How long it takes at most until a node has on disk what it has applied.
const SAVE_TIME: Duration = Duration::from_millis(800);
