//! One node's part in the log: what to publish, what to read, what to apply, and what to answer.
//!
//! Nothing here has a socket, a clock or chance in it. Whoever runs a replica hands it what happened
//! ([`Replica::handle`], [`Replica::append`]) and then does what it says ([`Replica::poll_output`]) until it says
//! when it wants to be called next. Times are durations since any one instant.
//!
//! The rules, all of which follow from what nats-server does under faults:
//! - An append is a message that is accepted only where the log ends as its author believes. So it has one possible
//!   sequence, and what the log has there decides: the same append, or another one (a conflict).
//! - An acknowledgement says that a message is kept. Without one for a while the log is looked at before the
//!   message is sent again. An append that nobody has confirmed in time is answered as *unconfirmed*; a fence is then
//!   published in its place, and nothing else is appended until the log has one of the two.
//! - Message n + 1 is applied after n and nothing else, and only if it carries the chain up to n. Whatever is missing
//!   or does not fit stops the node from reading on and from writing; routing goes on from what it has.

mod append;
mod nodes;
mod reader;
mod trim;

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::{HEADER_LENGTH, Kind, Message};
use crate::{AppendId, MessageError, Place};

pub use nodes::{Lost, Neighbor, Presence};

use append::{Append, MESSAGE_BYTES, Wait};
use nodes::{LET_FIRST, Nodes};
use reader::{Broken, Next, Reader, Taken};
use trim::{Limits, Step, Trim};

/// What a replica is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node: String,
    /// The run of this node: never the same twice.
    pub instance: u64,
    /// When this run began, in milliseconds since 1970.
    pub started_at: i64,
    /// The version of this program.
    pub version: String,
    /// Where this node's HTTP API is.
    pub url: String,
    /// How long a write waits for the log.
    pub write_wait: Duration,
    /// The longest message that the servers accept, in bytes.
    pub max_payload: usize,
    /// How long the log keeps its messages.
    pub retain: Duration,
    /// How large the log grows, in bytes. What only removes may go a little beyond: see [`RESERVE`].
    pub retain_bytes: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a connection to the servers.
    Connected,
    /// There is none any more. Answers that are under way may be lost.
    Disconnected,
    /// The stream has delivered a message.
    Delivered {
        /// Its sequence.
        sequence: u64,
        /// Its bytes.
        message: Vec<u8>,
    },
    /// The stream will deliver no more messages: a new delivery must be asked for.
    DeliveryEnded,
    /// The stream has answered an attempt to publish.
    Published {
        /// Which one.
        attempt: u64,
        /// The sequence of the message, or why it is not in the log.
        result: Result<u64, Refusal>,
    },
    /// The leader of the stream was asked for a message and has it, or has not.
    Found {
        /// The sequence asked for.
        sequence: u64,
        /// The message.
        message: Option<Vec<u8>>,
    },
    /// The leader of the stream was asked for its state.
    Inspected(StreamState),
    /// [`Output::FindOlder`] is answered: the last message that is older; 0 if none is.
    Older(u64),
    /// Another node says something of itself.
    Heard(Presence),
    /// The store of this node has all entries up to this one for good.
    Stored(u64),
    /// Somebody says that a node will not return.
    Forget(String),
    /// It is time for what [`Output::Timeout`] has named.
    Time,
}

/// Why a message was not taken into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The log does not end where the message says; where it ends, if the stream has told.
    NotLast(Option<u64>),
    /// Nobody answers for the stream at present.
    NoLeader,
    /// The log has reached its greatest size.
    Full,
    /// The servers refuse the message for another reason, by this code of theirs.
    Other(u64),
}

/// The state of the stream, as its leader tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The first sequence that it has.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What whoever runs a replica does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Publish a message on the condition that `after` is the last sequence of the stream.
    Publish {
        /// To be named in [`Input::Published`].
        attempt: u64,
        /// The condition.
        after: u64,
        /// The message.
        message: Vec<u8>,
    },
    /// Ask the leader of the stream for a message: [`Input::Found`]. Without an answer nothing is to be said.
    Read(u64),
    /// Ask the leader of the stream for its state: [`Input::Inspected`]. Without an answer nothing is to be said.
    Inspect,
    /// Find the last message that is older than this: [`Input::Older`]. Without an answer nothing is to be said.
    FindOlder(Duration),
    /// Have the stream drop all messages before this one.
    Purge(u64),
    /// Have messages delivered from this sequence on, included, and nothing else any more.
    Follow(u64),
    /// Apply facts. They are in the log for good.
    Apply(Applied),
    /// An append was answered.
    Answer(AppendId, Answer),
    /// An append that was answered as unconfirmed is decided: whether it is in the log. If it is, its facts were
    /// applied before.
    Settled(AppendId, bool),
    /// Tell the other nodes.
    Announce(Presence),
    /// The log cannot be read on: the node must not write any more, and says why.
    Stopped(Fault),
    /// Nothing more is to be done before this time.
    Timeout(Duration),
}

/// Facts that came out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The place of the log behind them.
    pub place: Place,
    /// Which append they come from.
    pub append: AppendId,
    /// The facts, as they were appended.
    pub facts: Vec<u8>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the log with this sequence, for good, and was applied.
    Committed(u64),
    /// Facts that it may contradict came first: check again behind them. It never comes into the log.
    Conflict,
    /// The stream could not be reached, or this node may not write. It never comes into the log.
    Unavailable,
    /// The log is full. It never comes into the log.
    Full,
    /// Nobody knows whether it will come into the log: see [`Output::Settled`].
    Unconfirmed,
}

/// Why a node does not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The log ends before what was read: it was restored, damaged or made again.
    #[error("the log went back: it ends at {last}, and this node has read up to {read}")]
    WentBack {
        /// Where it ends.
        last: u64,
        /// How far it was read.
        read: u64,
    },
    /// A message is not the one that was read, or does not follow the one before it.
    #[error("message {0} of the log does not follow the ones that this node has read")]
    Rewritten(u64),
    /// A message is missing although older ones are there.
    #[error("message {0} of the log is missing")]
    Missing(u64),
    /// The log begins behind the place where this node has to go on.
    #[error("the log begins at {first}, and this node has to go on at {needed}")]
    Trimmed {
        /// The first sequence that it has.
        first: u64,
        /// The sequence that is needed.
        needed: u64,
    },
    /// A message cannot be read.
    #[error("message {0} of the log cannot be read: {1}")]
    Unreadable(u64, MessageError),
    /// Another node that began earlier has the same name.
    #[error("another node has the name of this one")]
    NameTaken,
}

/// One node's part in the log.
#[derive(Debug)]
pub struct Replica {
    /// What it was told.
    settings: Settings,
    /// Whether there is a connection.
    is_connected: bool,
    /// The end of the log as far as it was read.
    reader: Reader,
    /// The sequence of the last facts.
    position: u64,
    /// The last sequence that the stream had when this run first saw it: behind it, the node is current.
    target: Option<u64>,
    /// The last entry that the store of this node has for good.
    stored: u64,
    /// The append under way.
    append: Option<Append>,
    /// The races that this node has lost since its last append that was committed.
    lost: Option<Lost>,
    /// What this node has last heard itself say of them.
    echo: Option<Lost>,
    /// A lost race that is not answered before this node has read what came before and the others know of it, or this
    /// time has come: until then it would only lose again.
    catching_up: Option<(AppendId, Duration)>,
    /// Where the log ends at least, by what others have read and the stream has told.
    known_end: u64,
    /// When a message was last read.
    read_at: Duration,
    /// Whether the last append waited in vain.
    is_in_vain: bool,
    /// The number of the next append.
    next_append: u64,
    /// The number of the next attempt to publish.
    next_attempt: u64,
    /// The sequence that is missing, since when it is known to be, and how often the leader has denied it.
    gap: Option<Gap>,
    /// Looks at the stream.
    watch: Watch,
    /// What is known of the beginning of the log.
    trim: Trim,
    /// About how many bytes the log has.
    bytes: u64,
    /// When the node says something of itself next.
    announce_at: Duration,
    /// The other nodes.
    nodes: Nodes,
    /// What became of its appends.
    counts: Counts,
    /// Why it stopped.
    fault: Option<Fault>,
    /// What is to be done.
    outputs: VecDeque<Output>,
}

/// What became of a node's appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many races were lost.
    pub conflicts: u64,
    /// How many appends were committed.
    pub committed: u64,
    /// How long these took in all.
    pub time: Duration,
}

/// A message that was not delivered although a later one was.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Its sequence.
    sequence: u64,
    /// When it is asked for again.
    read_at: Duration,
    /// When the leader first said that it does not have it.
    denied_since: Option<Duration>,
}

/// Looks at the state of the stream.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// When to look next.
    at: Duration,
    /// The last state.
    state: Option<StreamState>,
    /// Whether the stream had more than was read at the last look.
    was_behind: bool,
    /// Whether anything was delivered since then.
    was_delivered: bool,
    /// When its leader last answered.
    heard_at: Option<Duration>,
    /// Since when the stream has ended before what was read.
    short_since: Option<Duration>,
}

impl Replica {
    /// A replica that goes on behind this place.
    #[must_use]
    pub fn new(settings: Settings, place: Place, now: Duration) -> Self {
        Self {
            settings,
            is_connected: false,
            reader: Reader::new(place),
            position: place.sequence,
            stored: place.sequence,
            target: None,
            append: None,
            lost: None,
            echo: None,
            catching_up: None,
            known_end: 0,
            read_at: now,
            is_in_vain: false,
            next_append: 1,
            next_attempt: 1,
            gap: None,
            watch: Watch::default(),
            trim: Trim::default(),
            bytes: 0,
            announce_at: now,
            nodes: Nodes::default(),
            counts: Counts::default(),
            fault: None,
            outputs: VecDeque::new(),
        }
    }

    /// How far the log was read.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.reader.tail()
    }

    /// The sequence of the last facts: what the next append is checked on.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The place behind the last facts, if the store of this node has them for good.
    #[must_use]
    pub fn stored_place(&self) -> Option<Place> {
        let chain = self.reader.chain_at(self.position)?;
        (self.stored == self.position).then_some(Place {
            sequence: self.position,
            chain,
        })
    }

    /// Whether there is a connection to the servers.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether everything was read that the stream had when this run first saw it, and nothing is wrong.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.fault.is_none()
            && self
                .target
                .is_some_and(|target| self.place().sequence >= target)
    }

    /// Why the node does not read on.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The state of the stream when it was last looked at.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamState> {
        self.watch.state
    }

    /// What this node says of itself.
    #[must_use]
    pub fn presence(&self) -> Presence {
        Presence {
            node: self.settings.node.clone(),
            instance: self.settings.instance,
            started_at: self.settings.started_at,
            version: self.settings.version.clone(),
            url: self.settings.url.clone(),
            place: self.place(),
            stored: self.stored,
            is_current: self.is_current(),
            lost: self.lost,
        }
    }

    /// Whether there is a connection, and the leader of the stream has told of it lately.
    #[must_use]
    pub fn is_reachable(&self, now: Duration) -> bool {
        let heard = self.watch.heard_at;
        self.is_connected && heard.is_some_and(|at| now.saturating_sub(at) < UNREACHABLE_AFTER)
    }

    /// The other nodes.
    pub fn neighbors(&self) -> impl Iterator<Item = &Neighbor> {
        self.nodes.iter()
    }

    /// What became of its appends so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether an append was answered as unconfirmed and is not decided yet: until then every other is refused.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.append
            .as_ref()
            .is_some_and(|append| append.is_given_up)
    }

    /// Appends facts that were checked on the state at `position`. One append at a time: the next one may come once
    /// this one was answered by [`Output::Answer`].
    ///
    /// An append that only removes may use the reserve of the log.
    pub fn append(
        &mut self,
        now: Duration,
        position: u64,
        facts: &[u8],
        only_removes: bool,
    ) -> AppendId {
        let id = AppendId {
            instance: self.settings.instance,
            number: self.next_append,
        };
        self.next_append += 1;
        if self.append.is_some() || self.catching_up.is_some() || !self.is_current() {
            self.answer(id, Answer::Unavailable);
        } else if position != self.position {
            self.lose(self.position, false);
            self.answer(id, Answer::Conflict);
        } else {
            let part_bytes = self.settings.max_payload.saturating_sub(HEADER_LENGTH);
            // Who has waited once need not have all others wait as long.
            let most = if self.is_in_vain {
                WAIT_IN_VAIN
            } else {
                Duration::MAX
            };
            let deadline = now + self.settings.write_wait.min(most);
            let tail = self.place();
            let append = Append::new(id, facts, part_bytes, tail, now, deadline);
            let reserve = if only_removes { RESERVE } else { 0 };
            if self.bytes + append.bytes() > self.settings.retain_bytes + reserve {
                self.answer(id, Answer::Full);
            } else {
                self.append = Some(append);
                self.push_append(now);
            }
        }
        id
    }

    /// Notes a lost race, and tells the others, who then let this node go first: whoever has won is ahead of those
    /// who have to read that first, and would win every race.
    fn lose(&mut self, sequence: u64, was_sent: bool) {
        let is_new = self.lost.is_none();
        let lost = self.lost.get_or_insert(Lost {
            since: sequence,
            times: 0,
        });
        // What was held back has lost its turn to nobody.
        if is_new || was_sent {
            lost.times += 1;
            self.counts.conflicts += 1;
            self.outputs.push_back(Output::Announce(self.presence()));
        }
    }

    /// Until when the append under way waits: it would lose, or lets others go first. That is one that has waited
    /// longer, or one that has part of its append in the log, which anything between its parts would undo.
    fn hold_back(&mut self, now: Duration) -> Option<Duration> {
        let own = self.settings.instance;
        let others = self.nodes.hold_back(now, self.lost, own);
        let parts = self.reader.unfinished();
        let parts = parts.filter(|append| append.instance != own);
        let rest = (parts.is_some() || self.is_hopeless()).then_some(self.read_at + LET_FIRST);
        others.max(rest).filter(|until| *until > now)
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Connected => self.connected(now),
            Input::Disconnected => self.is_connected = false,
            Input::DeliveryEnded => self.follow(),
            Input::Delivered { sequence, message } => {
                self.watch.was_delivered = true;
                self.take(now, sequence, &message);
            }
            Input::Published { attempt, result } => self.published(now, attempt, result),
            Input::Found { sequence, message } => self.found(now, sequence, message),
            Input::Inspected(state) => self.inspected(now, state),
            Input::Older(sequence) => self.trim.aged(sequence),
            Input::Heard(presence) => self.heard(now, presence),
            Input::Stored(sequence) => self.stored = self.stored.max(sequence),
            Input::Forget(node) => self.nodes.forget(now, &node),
            Input::Time => {}
        }
        self.pass_time(now);
    }

    /// What to do next. [`Output::Timeout`] is the last, until something happens.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let mut next = self.announce_at;
        if let Some((_, at)) = self.catching_up {
            next = next.min(at);
        }
        if let Some(append) = &self.append {
            if !append.is_given_up {
                next = next.min(append.deadline);
            }
            if self.may_ask() {
                next = next.min(match append.wait {
                    Wait::Send(at) | Wait::Answer(at) | Wait::Look(at) => at,
                });
            }
        }
        if self.may_ask() {
            next = next.min(self.watch.at);
            if self.is_current() {
                next = next.min(self.trim.next_look());
            }
            if let Some(gap) = self.gap {
                next = next.min(gap.read_at);
            }
        }
        Output::Timeout(next)
    }

    /// Whether the stream is asked for anything.
    const fn may_ask(&self) -> bool {
        self.is_connected && self.fault.is_none()
    }

    /// Begins anew on a new connection.
    fn connected(&mut self, now: Duration) {
        self.is_connected = true;
        self.is_in_vain = false;
        self.watch.at = now;
        self.watch.was_behind = false;
        self.follow();
        if let Some(append) = &mut self.append {
            match append.wait {
                // Whatever was to be answered is lost.
                Wait::Answer(_) | Wait::Look(_) => append.wait = Wait::Look(now),
                Wait::Send(_) => append.wait = Wait::Send(now),
            }
        }
    }

    /// Has messages delivered from the last one on that was read: it is delivered again, so that a log that is not
    /// the same any more is noticed. A log that is not there any more is noticed by [`Self::inspected`].
    fn follow(&mut self) {
        if self.may_ask() {
            self.gap = None;
            self.outputs
                .push_back(Output::Follow(self.place().sequence.max(1)));
        }
    }

    /// Takes a message of the log.
    fn take(&mut self, now: Duration, sequence: u64, message: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        match self.reader.take(sequence, message) {
            Ok(Taken::Before) => {}
            Ok(Taken::Ahead) => self.miss(now),
            Ok(Taken::Next(next)) => {
                self.bytes += message.len() as u64 + MESSAGE_BYTES;
                self.advance(now, next);
            }
            Err(Broken::Rewritten(sequence)) => self.stop(Fault::Rewritten(sequence)),
            Err(Broken::Unreadable(sequence, error)) => {
                self.stop(Fault::Unreadable(sequence, error));
            }
        }
    }

    /// Applies the message that was just read, and decides the append that waited for its sequence.
    fn advance(&mut self, now: Duration, next: Next) {
        let place = self.place();
        let append = next.append;
        self.is_in_vain = false;
        self.read_at = now;
        let is_without_effect = next.facts.is_none();
        if let Some(floor) = next.floor {
            self.trim.marked(floor);
        }
        if let Some(facts) = next.facts {
            self.nodes.has_written(append.instance, place.sequence);
            self.position = place.sequence;
            self.outputs.push_back(Output::Apply(Applied {
                place,
                append,
                facts,
            }));
        }
        let Some(mut waiting) = self.append.take() else {
            return;
        };
        if waiting.is_read {
            // A later message. If another part was to come, it comes too late.
            if waiting.is_last() {
                self.append = Some(waiting);
            } else {
                self.decide(&waiting, Answer::Conflict);
            }
        } else if append == waiting.id && next.part == Some(waiting.part()) {
            waiting.is_read = true;
            self.append = Some(waiting);
            self.push_append(now);
        } else if is_without_effect && waiting.part() == 0 && !waiting.is_given_up {
            // Another's part, or a fence: the state is as it was when this append was checked, so it goes behind that.
            if waiting.was_sent() {
                self.lose(waiting.sequence(), true);
            }
            waiting.begin_behind(place, now);
            self.append = Some(waiting);
            self.push_append(now);
        } else {
            self.decide(&waiting, Answer::Conflict);
        }
    }

    /// Ends an append.
    fn decide(&mut self, append: &Append, answer: Answer) {
        self.append = None;
        if append.is_given_up {
            let is_committed = matches!(answer, Answer::Committed(_));
            self.outputs
                .push_back(Output::Settled(append.id, is_committed));
        } else if answer == Answer::Conflict {
            self.lose(append.sequence(), append.was_sent());
            self.catching_up = Some((append.id, self.read_at + LET_FIRST));
        } else {
            self.lost = None;
            self.answer(append.id, answer);
        }
    }

    /// Answers a lost race once the next try has a chance.
    fn answer_lost(&mut self, now: Duration) {
        let is_hopeless = self.is_hopeless();
        if let Some((id, _)) = self
            .catching_up
            .take_if(|(_, at)| !is_hopeless || now >= *at)
        {
            self.answer(id, Answer::Conflict);
        }
    }

    /// Whether what is published now would lose: there is more in the log than was read, or the others do not know yet
    /// that this node has lost a race. What it tells them reaches them about when it comes back.
    fn is_hopeless(&self) -> bool {
        let is_behind = self.place().sequence < self.known_end;
        self.fault.is_none() && (is_behind || self.lost.is_some() && self.echo != self.lost)
    }

    /// Answers an append.
    fn answer(&mut self, id: AppendId, answer: Answer) {
        self.outputs.push_back(Output::Answer(id, answer));
    }

    /// Asks for the message that should have come next.
    fn miss(&mut self, now: Duration) {
        let sequence = self.place().sequence + 1;
        if self.gap.is_none_or(|gap| gap.sequence != sequence) {
            self.gap = Some(Gap {
                sequence,
                read_at: now,
                denied_since: None,
            });
        }
    }

    /// Takes the answer to an attempt to publish.
    fn published(&mut self, now: Duration, attempt: u64, result: Result<u64, Refusal>) {
        let Some(append) = &mut self.append else {
            return;
        };
        match result {
            Ok(sequence) if append.has_sent(attempt) => {
                if sequence == append.sequence() {
                    append.is_kept = true;
                    self.push_append(now);
                } else {
                    self.stop(Fault::Rewritten(sequence));
                }
            }
            // A fence is in the log: reading decides.
            Ok(_) => {}
            Err(refusal) => {
                // What the log has in its place may be the message itself, if it came twice.
                if !matches!(refusal, Refusal::NotLast(_)) {
                    append.refused(attempt);
                }
                self.refused(now, refusal);
            }
        }
    }

    /// Takes the refusal of an attempt.
    fn refused(&mut self, now: Duration, refusal: Refusal) {
        let Some(append) = &mut self.append else {
            return;
        };
        match refusal {
            // There is something else in the log; it also says so if that is still on its way.
            Refusal::NotLast(last) => {
                self.known_end = self.known_end.max(last.unwrap_or(0));
                append.wait = Wait::Look(now);
                self.watch.at = self.watch.at.min(now + LOOK_AGAIN);
            }
            Refusal::NoLeader => append.wait = Wait::Send(now + SEND_AGAIN),
            Refusal::Full | Refusal::Other(_) if append.is_open() || append.is_given_up => {
                append.wait = Wait::Look(now + LOOK_AGAIN);
            }
            Refusal::Full => self.drop_append(Answer::Full),
            Refusal::Other(_) => self.drop_append(Answer::Unavailable),
        }
    }

    /// Ends the append under way.
    fn drop_append(&mut self, answer: Answer) {
        if let Some(append) = self.append.take() {
            self.decide(&append, answer);
        }
    }

    /// Takes what the leader has at a sequence.
    fn found(&mut self, now: Duration, sequence: u64, message: Option<Vec<u8>>) {
        let is_gap = self.gap.is_some_and(|gap| gap.sequence == sequence);
        let Some(message) = message else {
            if let Some(append) = &mut self.append
                && append.sequence() == sequence
                && matches!(append.wait, Wait::Look(_))
                && !append.is_read
            {
                append.wait = Wait::Send(now + SEND_AGAIN);
            }
            if is_gap {
                self.denied(now);
            }
            return;
        };
        self.take(now, sequence, &message);
        if let Some(append) = &mut self.append
            && append.sequence() == sequence
            && append.is_read
        {
            // The leader has it, and the append was read at this sequence.
            append.is_kept = true;
            self.push_append(now);
        }
        if is_gap {
            self.follow();
        }
    }

    /// Notes that the leader does not have the message that is missing.
    fn denied(&mut self, now: Duration) {
        let Some(gap) = &mut self.gap else { return };
        let since = *gap.denied_since.get_or_insert(now);
        let sequence = gap.sequence;
        if now.saturating_sub(since) < SURE_AFTER {
            return;
        }
        match self.watch.state {
            Some(state) if state.first > sequence => self.stop(Fault::Trimmed {
                first: state.first,
                needed: sequence,
            }),
            Some(state) if state.last >= sequence => self.stop(Fault::Missing(sequence)),
            _ => {}
        }
    }

    /// Takes the state of the stream.
    fn inspected(&mut self, now: Duration, state: StreamState) {
        let read = self.place().sequence;
        if let Some(append) = &mut self.append
            && append.is_read
            && state.first > append.sequence()
        {
            // It was kept for as long as the log keeps anything.
            append.is_kept = true;
            self.push_append(now);
        }
        self.watch.state = Some(state);
        self.bytes = state.bytes;
        self.known_end = self.known_end.max(state.last);
        self.watch.heard_at = Some(now);
        self.target.get_or_insert(state.last);
        if state.last < read {
            // An old leader without a majority answers too, so one answer is not enough.
            let since = *self.watch.short_since.get_or_insert(now);
            if now.saturating_sub(since) >= SURE_AFTER {
                self.stop(Fault::WentBack {
                    last: state.last,
                    read,
                });
            }
        } else {
            self.watch.short_since = None;
        }
        if state.first > read + 1 {
            self.stop(Fault::Trimmed {
                first: state.first,
                needed: read + 1,
            });
        }
        let is_behind = state.last > read;
        let is_fed = std::mem::take(&mut self.watch.was_delivered);
        if is_behind && self.watch.was_behind && !is_fed && self.gap.is_none() {
            // Nothing has come since the last look.
            self.follow();
        }
        self.watch.was_behind = is_behind;
        let is_settled = !is_behind && state.last >= read;
        self.watch.at = now + if is_settled { WATCH_EVERY } else { LOOK_AGAIN };
    }

    /// Takes what another node says.
    fn heard(&mut self, now: Duration, presence: Presence) {
        if presence.node == self.settings.node {
            if presence.instance == self.settings.instance {
                self.echo = presence.lost;
                self.hurry(now);
                return;
            }
            let own = (self.settings.started_at, self.settings.instance);
            if self.nodes.heard_namesake(now, presence.instance)
                && (presence.started_at, presence.instance) < own
            {
                self.stop(Fault::NameTaken);
            }
            return;
        }
        let chain = self.reader.chain_at(presence.place.sequence);
        let agrees = chain.map(|chain| chain == presence.place.chain);
        self.known_end = self.known_end.max(presence.place.sequence);
        self.nodes.heard(now, presence, agrees);
        self.hurry(now);
    }

    /// Looks again whether the append under way has to wait.
    fn hurry(&mut self, now: Duration) {
        if let Some(append) = &mut self.append
            && matches!(append.wait, Wait::Send(_))
            && !append.was_sent()
        {
            append.wait = Wait::Send(now);
        }
    }

    /// Stops reading and writing.
    fn stop(&mut self, fault: Fault) {
        if self.fault.is_some() {
            return;
        }
        self.fault = Some(fault);
        self.outputs.push_back(Output::Stopped(fault));
        if let Some(append) = &mut self.append
            && !append.is_given_up
        {
            if append.is_open() {
                append.is_given_up = true;
                let id = append.id;
                self.answer(id, Answer::Unconfirmed);
            } else {
                self.drop_append(Answer::Unavailable);
            }
        }
    }

    /// Does what is due.
    fn pass_time(&mut self, now: Duration) {
        self.push_append(now);
        self.answer_lost(now);
        if self.may_ask() {
            if self.is_current() {
                self.trim(now);
            }
            if now >= self.watch.at {
                self.outputs.push_back(Output::Inspect);
                self.watch.at = now + LOOK_AGAIN;
            }
            if let Some(gap) = &mut self.gap
                && now >= gap.read_at
            {
                gap.read_at = now + LOOK_AGAIN;
                self.outputs.push_back(Output::Read(gap.sequence));
            }
        }
        if now >= self.announce_at {
            self.announce_at = now + ANNOUNCE_EVERY;
            self.outputs.push_back(Output::Announce(self.presence()));
        }
    }

    /// Does this node's part of trimming the log.
    fn trim(&mut self, now: Duration) {
        let Some(state) = self.watch.state else {
            return;
        };
        if self.trim.looks(now, self.settings.retain) {
            self.outputs
                .push_back(Output::FindOlder(self.settings.retain));
        }
        // The append under way would lose to the marker.
        if self.append.is_some() {
            return;
        }
        let node = &self.settings.node;
        let place = self.place();
        let current = self.nodes.iter().filter(|other| other.is_current(now));
        let current: Vec<_> = current.map(|other| &other.presence).collect();
        let stored = current.iter().map(|other| other.stored);
        let before = current.iter().filter(|other| other.node < *node);
        let limits = Limits {
            first: state.first,
            slowest: stored.fold(self.stored, u64::min),
            is_large: self.bytes > self.settings.retain_bytes / 5 * 4,
            rank: u32::try_from(before.count()).unwrap_or(u32::MAX),
        };
        match self.trim.step(now, limits) {
            Some(Step::Mark(floor)) => {
                let attempt = self.next_attempt;
                self.next_attempt += 1;
                let message = Message {
                    kind: Kind::Trim,
                    after: place,
                    append: AppendId {
                        instance: self.settings.instance,
                        number: 0,
                    },
                    part: 0,
                    parts: 1,
                    body: &floor.to_le_bytes(),
                };
                // If it is not taken, another one is published later.
                self.outputs.push_back(Output::Publish {
                    attempt,
                    after: place.sequence,
                    message: message.write(),
                });
            }
            Some(Step::Purge(floor)) => {
                self.outputs.push_back(Output::Purge(floor));
                self.watch.at = now + LOOK_AGAIN;
            }
            None => {}
        }
    }

    /// Brings the append under way as far as it goes now.
    fn push_append(&mut self, now: Duration) {
        let tail = self.place();
        let may_ask = self.may_ask();
        let is_fresh = (self.append.as_ref()).is_some_and(|append| !append.was_sent());
        let held = self.hold_back(now).filter(|_| is_fresh);
        let Some(append) = &mut self.append else {
            return;
        };
        if append.is_read && append.is_kept {
            if append.is_last() {
                let sequence = append.sequence();
                self.counts.committed += 1;
                self.counts.time += now.saturating_sub(append.begun);
                return self.drop_append(Answer::Committed(sequence));
            }
            if append.is_given_up {
                return self.drop_append(Answer::Conflict);
            }
            append.next_part(tail, now);
        }
        if now >= append.deadline && !append.is_given_up {
            self.is_in_vain = true;
            if !append.is_open() {
                return self.drop_append(Answer::Unavailable);
            }
            append.is_given_up = true;
            let id = append.id;
            self.outputs
                .push_back(Output::Answer(id, Answer::Unconfirmed));
        }
        if append.is_given_up && !append.is_open() {
            // Every attempt was refused after all.
            return self.drop_append(Answer::Conflict);
        }
        if !may_ask {
            return;
        }
        let sequence = append.sequence();
        match append.wait {
            // Only its acknowledgement is missing, or only its delivery: it need not be sent.
            Wait::Send(at) if now >= at && (append.is_read || append.is_kept) => {
                append.wait = Wait::Look(now);
            }
            Wait::Send(at) if now >= at => {
                if let Some(until) = held {
                    append.wait = Wait::Send(until);
                    return;
                }
                let attempt = self.next_attempt;
                self.next_attempt += 1;
                append.wait = Wait::Answer(now + LOOK_AFTER);
                let message = append.message(attempt);
                self.outputs.push_back(Output::Publish {
                    attempt,
                    after: sequence - 1,
                    message,
                });
            }
            Wait::Answer(at) | Wait::Look(at) if now >= at => {
                append.wait = Wait::Look(now + LOOK_AGAIN);
                self.outputs.push_back(Output::Read(sequence));
            }
            Wait::Send(_) | Wait::Answer(_) | Wait::Look(_) => {}
        }
    }
}

/// By how many bytes the log may grow beyond its greatest size by what only removes, and by markers.
pub const RESERVE: u64 = 1 << 20;

/// How long an append waits after one that has waited in vain.
const WAIT_IN_VAIN: Duration = Duration::from_secs(1);

/// After how long without an acknowledgement the log is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// After how long a look at the log is repeated.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// After how long a message is sent again that found no leader.
const SEND_AGAIN: Duration = Duration::from_millis(250);

/// How often the stream is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// For how long the stream must say the same before it is believed that messages are gone.
const SURE_AFTER: Duration = Duration::from_secs(15);

/// After how long without an answer of its leader the stream counts as unreachable.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(15);

/// How often a node says something of itself.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Chain;

    /// A current replica of an empty log, and what it does first is done.
    fn replica() -> Replica {
        let settings = Settings {
            node: "a".to_owned(),
            instance: 1,
            started_at: 0,
            version: String::new(),
            url: String::new(),
            write_wait: Duration::from_secs(10),
            max_payload: 1_000,
            retain: Duration::from_secs(1_000),
            retain_bytes: 1 << 20,
        };
        let place = Place {
            sequence: 0,
            chain: Chain::start(Uuid::nil()),
        };
        let mut replica = Replica::new(settings, place, Duration::ZERO);
        replica.handle(Duration::ZERO, Input::Connected);
        let empty = StreamState {
            first: 1,
            last: 0,
            bytes: 0,
        };
        replica.handle(Duration::ZERO, Input::Inspected(empty));
        assert!(replica.is_current());
        drain(&mut replica);
        replica
    }

    /// What a replica says, without the time and what it tells others.
    fn drain(replica: &mut Replica) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            match replica.poll_output() {
                Output::Timeout(_) => return outputs,
                Output::Announce(_) | Output::Inspect | Output::FindOlder(_) => {}
                output => outputs.push(output),
            }
        }
    }

    /// The message and the attempt that were published.
    fn published(outputs: &[Output]) -> (u64, Vec<u8>) {
        match outputs {
            [
                Output::Publish {
                    attempt, message, ..
                },
            ] => (*attempt, message.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Appends, and has the log take it.
    fn commit(replica: &mut Replica, now: Duration) {
        let position = replica.position();
        replica.append(now, position, b"facts", false);
        let (attempt, message) = published(&drain(replica));
        let sequence = replica.place().sequence + 1;
        let result = Ok(sequence);
        replica.handle(now, Input::Published { attempt, result });
        assert_eq!(drain(replica), [], "acknowledged, and not read yet");
        replica.handle(now, Input::Delivered { sequence, message });
        let outputs = drain(replica);
        assert!(
            matches!(
                outputs.as_slice(),
                [Output::Apply(applied), Output::Answer(_, Answer::Committed(at))]
                    if applied.facts == b"facts" && *at == sequence
            ),
            "{outputs:?}"
        );
    }

    #[test]
    fn an_append_is_applied_before_it_is_answered() {
        let mut replica = replica();
        commit(&mut replica, Duration::ZERO);
        commit(&mut replica, Duration::from_secs(1));
        assert_eq!(replica.position(), 2);
    }

    #[test]
    fn facts_that_were_checked_on_an_older_state_are_a_conflict() {
        let mut replica = replica();
        commit(&mut replica, Duration::ZERO);
        let id = replica.append(Duration::ZERO, 0, b"late", false);
        assert_eq!(drain(&mut replica), [Output::Answer(id, Answer::Conflict)]);
    }

    #[test]
    fn a_full_log_is_said_at_once_and_nothing_is_in_doubt() {
        let mut replica = replica();
        let id = replica.append(Duration::ZERO, 0, b"facts", false);
        let (attempt, _) = published(&drain(&mut replica));
        let result = Err(Refusal::Full);
        replica.handle(Duration::ZERO, Input::Published { attempt, result });
        assert_eq!(drain(&mut replica), [Output::Answer(id, Answer::Full)]);
        assert!(!replica.is_unsettled());
    }

    /// What forgets a contact is taken when nothing else is.
    #[test]
    fn a_log_that_is_full_takes_what_only_removes() {
        let mut replica = replica();
        let full = StreamState {
            first: 1,
            last: 0,
            bytes: 1 << 20,
        };
        replica.handle(Duration::ZERO, Input::Inspected(full));
        drain(&mut replica);
        let id = replica.append(Duration::ZERO, 0, b"facts", false);
        assert_eq!(drain(&mut replica), [Output::Answer(id, Answer::Full)]);
        replica.append(Duration::ZERO, 0, b"facts", true);
        published(&drain(&mut replica));
    }

    #[test]
    fn what_was_never_sent_is_not_in_doubt() {
        let mut replica = replica();
        replica.handle(Duration::ZERO, Input::Disconnected);
        let id = replica.append(Duration::ZERO, 0, b"facts", false);
        assert_eq!(drain(&mut replica), []);
        replica.handle(Duration::from_secs(10), Input::Time);
        assert_eq!(
            drain(&mut replica),
            [Output::Answer(id, Answer::Unavailable)]
        );
    }

    /// While nothing can be written, each client is told so soon, not one after the other as late as the first.
    #[test]
    fn after_one_that_waited_in_vain_others_wait_less() {
        let mut replica = replica();
        let seconds = Duration::from_secs;
        replica.handle(seconds(0), Input::Disconnected);
        for (begun, answered) in [(0, 10), (20, 21), (30, 31)] {
            let id = replica.append(seconds(begun), 0, b"facts", false);
            replica.handle(seconds(answered) - Duration::from_millis(1), Input::Time);
            assert_eq!(drain(&mut replica), []);
            replica.handle(seconds(answered), Input::Time);
            let unavailable = Output::Answer(id, Answer::Unavailable);
            assert_eq!(drain(&mut replica), [unavailable]);
        }
    }

    #[test]
    fn an_unanswered_append_is_looked_up_and_then_fenced() {
        let mut replica = replica();
        let seconds = Duration::from_secs;
        let id = replica.append(seconds(0), 0, b"facts", false);
        published(&drain(&mut replica));
        replica.handle(seconds(2), Input::Time);
        assert_eq!(drain(&mut replica), [Output::Read(1)]);
        replica.handle(seconds(10), Input::Time);
        assert_eq!(
            drain(&mut replica),
            [Output::Answer(id, Answer::Unconfirmed), Output::Read(1)]
        );
        assert!(replica.is_unsettled());
        let second = replica.append(seconds(11), 0, b"more", false);
        let refused = Output::Answer(second, Answer::Unavailable);
        assert!(drain(&mut replica).contains(&refused));
        let none = Input::Found {
            sequence: 1,
            message: None,
        };
        replica.handle(seconds(12), none);
        replica.handle(seconds(13), Input::Time);
        let (_, fence) = published(&drain(&mut replica));
        let delivered = Input::Delivered {
            sequence: 1,
            message: fence,
        };
        replica.handle(seconds(13), delivered);
        assert_eq!(drain(&mut replica), [Output::Settled(id, false)]);
        commit(&mut replica, seconds(14));
    }
}
