//! A stream in memory, and a link that runs a replica over it at once: each call goes on until nothing is to be done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::link::Link;
use crate::replica::{Answer, Applied, Input, Output, Refusal, Replica, Settings, StreamState};
use crate::{AppendId, Chain, Place};

/// A stream that nodes share.
#[derive(Clone, Default)]
pub(super) struct SharedStream(Arc<Mutex<Stream>>);

/// A stream.
#[derive(Default)]
struct Stream {
    /// Its messages.
    messages: Vec<Vec<u8>>,
    /// Whether it answers nothing, and if so, whether it keeps what is published.
    silent: Option<bool>,
}

impl SharedStream {
    /// Answers nothing from now on, but keeps what is published, or not.
    pub(super) fn silence(&self, is_kept: bool) {
        self.0.lock().silent = Some(is_kept);
    }

    /// Answers again.
    pub(super) fn speak(&self) {
        self.0.lock().silent = None;
    }
}

/// Runs a replica over a stream in memory.
pub(super) struct DirectLink {
    /// The stream.
    stream: SharedStream,
    /// The replica.
    replica: Replica,
    /// The time: it passes only where something waits.
    now: Duration,
    /// The next message to deliver.
    delivered: u64,
    /// Facts that were not taken yet.
    ready: VecDeque<Applied>,
    /// The latest answer.
    answer: Option<(AppendId, Answer)>,
    /// Whether an append is open.
    is_unsettled: bool,
}

impl DirectLink {
    /// A link for a node whose data are of this place.
    pub(super) fn new(
        stream: SharedStream,
        cluster: Uuid,
        place: Option<(Uuid, Place)>,
        instance: u64,
    ) -> Self {
        let start = Place {
            sequence: 0,
            chain: Chain::start(cluster),
        };
        let settings = Settings {
            node: format!("node-{instance}"),
            instance,
            started_at: 0,
            version: String::new(),
            url: String::new(),
            write_wait: Duration::from_secs(10),
            max_payload: 10_000,
            retain: Duration::from_secs(1_000),
            retain_bytes: u64::MAX / 2,
        };
        let place = place.map_or(start, |(_, place)| place);
        let replica = Replica::new(settings, place, Duration::ZERO);
        let mut link = Self {
            stream,
            replica,
            now: Duration::ZERO,
            delivered: u64::MAX,
            ready: VecDeque::new(),
            answer: None,
            is_unsettled: false,
        };
        link.handle(Input::Connected);
        link.deliver();
        link
    }

    /// Tells the replica something, and does what it says; returns when it wants to be called.
    fn handle(&mut self, input: Input) -> Duration {
        self.replica.handle(self.now, input);
        self.drain()
    }

    /// Does what the replica says.
    fn drain(&mut self) -> Duration {
        loop {
            let input = match self.replica.poll_output() {
                Output::Timeout(at) => return at,
                Output::Publish {
                    attempt,
                    after,
                    message,
                } => self.publish(attempt, after, message),
                Output::Read(sequence) => self.read(sequence),
                Output::Inspect => self.inspect(),
                Output::Follow(sequence) => {
                    self.delivered = sequence;
                    None
                }
                Output::Apply(applied) => {
                    self.ready.push_back(applied);
                    None
                }
                Output::Answer(id, answer) => {
                    self.answer = Some((id, answer));
                    None
                }
                Output::Settled(..) => {
                    self.is_unsettled = false;
                    None
                }
                Output::Announce(_) | Output::FindOlder(_) | Output::Purge(_) => None,
                Output::Stopped(fault) => panic!("{fault}"),
            };
            if let Some(input) = input {
                self.replica.handle(self.now, input);
            }
        }
    }

    /// Publishes a message.
    fn publish(&self, attempt: u64, after: u64, message: Vec<u8>) -> Option<Input> {
        let mut stream = self.stream.0.lock();
        let is_last = after == stream.messages.len() as u64;
        if is_last && stream.silent != Some(false) {
            stream.messages.push(message);
        }
        let result = if is_last {
            Ok(after + 1)
        } else {
            Err(Refusal::NotLast(None))
        };
        (stream.silent.is_none()).then_some(Input::Published { attempt, result })
    }

    /// Asks for a message.
    fn read(&self, sequence: u64) -> Option<Input> {
        let stream = self.stream.0.lock();
        let message = stream.messages.get(sequence as usize - 1).cloned();
        (stream.silent.is_none()).then_some(Input::Found { sequence, message })
    }

    /// Asks for the state of the stream.
    fn inspect(&self) -> Option<Input> {
        let stream = self.stream.0.lock();
        let state = StreamState {
            first: 1,
            last: stream.messages.len() as u64,
            bytes: 0,
        };
        (stream.silent.is_none()).then_some(Input::Inspected(state))
    }

    /// Delivers what there is.
    fn deliver(&mut self) {
        loop {
            let stream = self.stream.0.lock();
            let sequence = self.delivered;
            let index = usize::try_from(sequence).expect("followed") - 1;
            let message = stream.messages.get(index).cloned();
            let is_silent = stream.silent.is_some();
            drop(stream);
            let Some(message) = message.filter(|_| !is_silent) else {
                return;
            };
            self.delivered += 1;
            self.handle(Input::Delivered { sequence, message });
        }
    }

    /// Lets the time pass until something is to be done.
    fn wait(&mut self) {
        let until = self.drain();
        self.now = until.max(self.now);
        self.handle(Input::Time);
        self.deliver();
    }
}

impl Link for DirectLink {
    fn append(&mut self, position: u64, facts: Vec<u8>, only_removes: bool) -> (AppendId, Answer) {
        self.replica
            .append(self.now, position, &facts, only_removes);
        self.drain();
        self.deliver();
        loop {
            if let Some(answer) = self.answer.take() {
                self.is_unsettled = self.replica.is_unsettled();
                return answer;
            }
            self.wait();
        }
    }

    fn next(&mut self) -> Option<Applied> {
        if self.ready.is_empty() {
            self.deliver();
        }
        self.ready.pop_front()
    }

    fn is_settled(&mut self) -> bool {
        for _ in 0..100 {
            if !self.is_unsettled {
                return true;
            }
            self.wait();
        }
        false
    }

    fn stored(&mut self, sequence: u64) {
        self.handle(Input::Stored(sequence));
    }

    fn watch(&mut self, _wake: Box<dyn Fn() + Send + Sync>) {}
}
