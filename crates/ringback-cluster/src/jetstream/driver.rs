//! The task that runs a replica: it has the sockets and the clock, the replica decides.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Info, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap, Request, client::RequestErrorKind};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::durability::Durability;
use super::notice::Notice;
use super::recovery::MadeAnew;
use super::status::{ClusterStatus, StreamStatus};
use super::{Recovery, presence, recovery};
use crate::AppendId;
use crate::replica::{Answer, Applied, Input, Output, Refusal, Replica, StreamState};

/// What the journal and the API ask of the task.
pub(super) enum Ask {
    /// Append facts.
    Append {
        /// What they were checked on.
        position: u64,
        /// The facts.
        facts: Vec<u8>,
        /// Whether they only remove.
        only_removes: bool,
        /// Where the answer goes.
        reply: std::sync::mpsc::Sender<(AppendId, Answer)>,
    },
    /// Tell all nodes to forget one.
    Forget(String),
    /// Tell a node to make the log anew.
    Recover(Recovery),
}

/// What the task and the journal share.
#[derive(Default)]
pub(super) struct Queue {
    /// Facts that the journal has not taken yet.
    ready: Mutex<VecDeque<Applied>>,
    /// Called when there are some.
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
    /// Whether an append is open that was answered as unconfirmed.
    is_unsettled: Mutex<bool>,
    /// The last entry that the store has.
    pub(super) stored: AtomicU64,
}

impl Queue {
    /// Adds facts.
    fn push(&self, applied: Applied) {
        let mut ready = self.ready.lock();
        let was_empty = ready.is_empty();
        ready.push_back(applied);
        drop(ready);
        if was_empty && let Some(wake) = &*self.wake.lock() {
            wake();
        }
    }

    /// The next facts.
    pub(super) fn pop(&self) -> Option<Applied> {
        self.ready.lock().pop_front()
    }

    /// Whether no append is open, all facts before its end being in the queue.
    pub(super) fn is_settled(&self) -> bool {
        !*self.is_unsettled.lock()
    }

    /// Sets what to call.
    pub(super) fn watch(&self, wake: Box<dyn Fn() + Send + Sync>) {
        if !self.ready.lock().is_empty() {
            wake();
        }
        *self.wake.lock() = Some(wake);
    }
}

/// What the task works with.
pub(super) struct Driver {
    /// The connection.
    pub(super) client: Client,
    /// Asks about streams.
    pub(super) context: Context,
    /// The stream.
    pub(super) stream: Stream<()>,
    /// Names of subjects.
    pub(super) subjects: Subjects,
    /// The cluster.
    pub(super) cluster: Uuid,
    /// The rules.
    pub(super) replica: Replica,
    /// The instant that times count from.
    pub(super) epoch: Instant,
    /// What was read of the servers and the stream.
    pub(super) durability: Durability,
    /// What the journal takes.
    pub(super) queue: Arc<Queue>,
    /// What is asked.
    pub(super) asks: mpsc::UnboundedReceiver<Ask>,
    /// What happened.
    pub(super) inputs: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    /// What the stream delivers.
    pub(super) delivery: Option<Delivery>,
    /// The append that waits for its answer.
    pub(super) waiting: Option<(AppendId, std::sync::mpsc::Sender<(AppendId, Answer)>)>,
    /// The latest state of the stream.
    pub(super) info: Option<Info>,
    /// How things are, told once a second and when they change.
    pub(super) latest: watch::Sender<Arc<ClusterStatus>>,
    /// When the servers are looked at next.
    pub(super) monitor_at: Instant,
    /// When the stream is looked at next, while the replica does not.
    pub(super) inspect_at: Instant,
    /// The name of this node.
    pub(super) node: String,
    /// The secret of the cluster.
    pub(super) secret: [u8; 32],
    /// How the stream is set up when it is made anew.
    pub(super) config: Config,
    /// Told once it was made anew from what this node has.
    pub(super) recovered: watch::Sender<bool>,
}

/// The names that a cluster uses on its servers.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    /// Its name.
    pub(super) cluster: String,
    /// The stream.
    pub(super) stream: String,
    /// Where entries are published.
    pub(super) log: String,
    /// What the stream keeps.
    pub(super) all: String,
    /// Where nodes say that they are alive.
    pub(super) presence: String,
}

impl Subjects {
    /// The names of a cluster.
    pub(super) fn of(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            stream: format!("RINGBACK_{cluster}"),
            log: format!("rb.{cluster}.log"),
            all: format!("rb.{cluster}.>"),
            presence: format!("rbp.{cluster}"),
        }
    }
}

/// Something that happened.
pub(super) enum Event {
    /// To the replica.
    Input(Input),
    /// The state of the stream was read.
    Info(Box<Info>),
    /// A node tells what somebody has asked for.
    Notice(Notice),
    /// There is no stream.
    NoStream,
    /// The servers were looked at.
    Monitored(Vec<super::durability::Monitored>),
}

/// Messages that the stream delivers.
pub(super) struct Delivery {
    /// They come here.
    messages: mpsc::Receiver<Input>,
    /// Who fetches them.
    task: JoinHandle<()>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// Runs until nobody asks any more.
    pub(super) async fn run(mut self) {
        loop {
            let until = self.drain();
            let takes_more = self.waiting.is_some() || self.queue.ready.lock().len() < READY_LIMIT;
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                Some(event) = self.inputs.1.recv() => self.happened(event),
                Some(input) = next_of(&mut self.delivery), if takes_more => {
                    self.replica.handle(self.epoch.elapsed(), input);
                }
                () = tokio::time::sleep_until((self.epoch + until).into()) => {
                    let stored = self.queue.stored.load(Ordering::Relaxed);
                    self.replica.handle(self.epoch.elapsed(), Input::Stored(stored));
                    self.look_at_servers();
                }
                () = tokio::time::sleep(TAKEN_AFTER), if !takes_more => {}
            }
        }
    }

    /// Answers what is asked.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Append {
                position,
                facts,
                only_removes,
                reply,
            } => {
                let now = self.epoch.elapsed();
                if self.durability.forbids_writes() {
                    let refused = AppendId {
                        instance: 0,
                        number: 0,
                    };
                    let _gone = reply.send((refused, Answer::Unavailable));
                    return;
                }
                let id = self.replica.append(now, position, &facts, only_removes);
                self.waiting = Some((id, reply));
            }
            Ask::Forget(node) => self.publish_to_nodes(Notice::Forget { node }.write()),
            Ask::Recover(recovery) => {
                self.publish_to_nodes(Notice::recover(&recovery, &self.secret).write());
            }
        }
    }

    /// Takes what happened.
    fn happened(&mut self, event: Event) {
        let input = match event {
            Event::Input(input) => input,
            Event::Info(info) => {
                self.durability
                    .read_stream(&info, &self.client.server_info(), &self.subjects.all);
                let is_ours = super::cluster_of(&info) == Some(self.cluster);
                let state = if is_ours {
                    StreamState {
                        first: info.state.first_sequence.max(1),
                        last: info.state.last_sequence,
                        bytes: info.state.bytes,
                    }
                } else {
                    // The one that this node has read is gone.
                    NO_STREAM
                };
                if is_ours && let Some(anew) = MadeAnew::read(&info) {
                    let is_base = self.replica.stored_place() == Some(anew.from);
                    self.recovered
                        .send_if_modified(|told| !std::mem::replace(told, is_base) && is_base);
                }
                self.info = Some(*info);
                Input::Inspected(state)
            }
            Event::Notice(notice) => {
                if let Some(recovery) = notice.is_for(&self.node, &self.secret) {
                    self.make_anew(recovery);
                }
                let Notice::Forget { node } = notice else {
                    return;
                };
                Input::Forget(node)
            }
            Event::NoStream => {
                self.info = None;
                Input::Inspected(NO_STREAM)
            }
            Event::Monitored(found) => {
                self.durability.read_servers(found);
                self.tell();
                return;
            }
        };
        match &input {
            Input::Connected => {
                tracing::info!(cluster = %self.subjects.cluster, "connected to NATS")
            }
            Input::Disconnected => {
                tracing::warn!(cluster = %self.subjects.cluster, "the connection to NATS is lost; routing goes on");
            }
            _ => {}
        }
        let is_news = !matches!(input, Input::Published { .. } | Input::Found { .. });
        self.replica.handle(self.epoch.elapsed(), input);
        if is_news {
            self.tell();
        }
    }

    /// Tells how things are.
    fn tell(&self) {
        self.latest.send_replace(Arc::new(self.status()));
    }

    /// Does what the replica says; returns when it wants to be called next.
    fn drain(&mut self) -> Duration {
        loop {
            match self.replica.poll_output() {
                Output::Timeout(at) => return at,
                Output::Publish {
                    attempt,
                    after,
                    message,
                } => self.publish(attempt, after, message),
                Output::Read(sequence) => self.read(sequence),
                Output::Inspect => self.inspect(),
                Output::FindOlder(age) => self.find_older(age),
                Output::Purge(floor) => self.purge(floor),
                Output::Follow(sequence) => self.follow(sequence),
                Output::Apply(applied) => self.queue.push(applied),
                Output::Answer(id, answer) => {
                    *self.queue.is_unsettled.lock() = self.replica.is_unsettled();
                    if let Some((_, reply)) = self.waiting.take_if(|(waiting, _)| *waiting == id) {
                        let _gone = reply.send((id, answer));
                    }
                }
                Output::Settled(..) => *self.queue.is_unsettled.lock() = false,
                Output::Announce(presence) => {
                    self.tell();
                    if self.replica.is_connected() {
                        self.publish_to_nodes(presence::write(&presence));
                    }
                }
                Output::Stopped(fault) => {
                    self.tell();
                    tracing::error!(cluster = %self.subjects.cluster, %fault,
                        "this node does not follow the log of its cluster any more, and takes no writes; routing goes on");
                }
            }
        }
    }

    /// Tells all nodes something.
    fn publish_to_nodes(&self, text: Vec<u8>) {
        let client = self.client.clone();
        let subject = self.subjects.presence.clone();
        tokio::spawn(async move {
            let _unheard = client.publish(subject, text.into()).await;
        });
    }

    /// Makes the log anew from what this node has.
    fn make_anew(&self, recovery: Recovery) {
        let Some(from) = self.replica.stored_place() else {
            tracing::error!("this node has not stored yet what it has read: recover again");
            return;
        };
        tracing::warn!(
            first = recovery.first,
            "the log is made anew from what this node has"
        );
        let (context, config) = (self.context.clone(), self.config.clone());
        self.spawn(async move {
            match recovery::make_anew(&context, config, &recovery, from).await {
                Ok(info) => Some(Event::Info(Box::new(info))),
                Err(error) => {
                    tracing::error!(error, "the log could not be made anew: try again");
                    None
                }
            }
        });
    }

    /// Publishes a message, if the stream ends at `after`.
    fn publish(&self, attempt: u64, after: u64, message: Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Sequence", after.to_string());
        headers.insert("Nats-Expected-Stream", self.subjects.stream.as_str());
        let request = Request::new()
            .headers(headers)
            .payload(message.into())
            .timeout(Some(ANSWER_WAIT));
        let client = self.client.clone();
        let subject = self.subjects.log.clone();
        self.spawn(async move {
            let result = match client.send_request(subject, request).await {
                Ok(answer) => read_answer(&answer.payload)?,
                Err(error) => match error.kind() {
                    RequestErrorKind::NoResponders => Err(Refusal::NoLeader),
                    RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                        Err(Refusal::Other(0))
                    }
                    // It may be in the log.
                    _ => return None,
                },
            };
            Some(Event::Input(Input::Published { attempt, result }))
        });
    }

    /// Asks the leader for a message.
    fn read(&self, sequence: u64) {
        let stream = self.stream.clone();
        self.spawn(async move {
            let message = match stream.get_raw_message(sequence).await {
                Ok(message) => Some(message.payload.to_vec()),
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => None,
                    _ => return None,
                },
            };
            Some(Event::Input(Input::Found { sequence, message }))
        });
    }

    /// Finds the last message that is older than this, by the times that the stream gave its messages.
    fn find_older(&self, age: Duration) {
        let Some(state) = self.replica.stream() else {
            return;
        };
        let stream = self.stream.clone();
        self.spawn(async move {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let before = i128::try_from(now.saturating_sub(age).as_nanos()).ok()?;
            // Of the messages from `low` on it is not known, those from `high` on are younger.
            let (mut low, mut high) = (state.first, state.last + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match stream.get_raw_message(middle).await {
                    Ok(message) if message.time.unix_timestamp_nanos() < before => low = middle + 1,
                    Ok(_) => high = middle,
                    // Purged meanwhile, or nobody answers: another look will come.
                    Err(_) => return None,
                }
            }
            Some(Event::Input(Input::Older(low - 1)))
        });
    }

    /// Has the stream drop what comes before this sequence.
    fn purge(&self, floor: u64) {
        let stream = self.stream.clone();
        self.spawn(async move {
            match stream.purge().sequence(floor).await {
                Ok(purged) => {
                    tracing::info!(floor, messages = purged.purged, "the log was trimmed");
                }
                Err(error) => tracing::warn!(%error, floor, "the log could not be trimmed"),
            }
            None
        });
    }

    /// Asks the leader for the state of the stream.
    fn inspect(&self) {
        let (context, name) = (self.context.clone(), self.subjects.stream.clone());
        self.spawn(async move {
            match context.get_stream(name).await {
                Ok(stream) => Some(Event::Info(Box::new(stream.cached_info().clone()))),
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Some(Event::NoStream)
                    }
                    _ => None,
                },
            }
        });
    }

    /// Has messages delivered from this sequence on.
    fn follow(&mut self, sequence: u64) {
        let (sender, messages) = mpsc::channel(DELIVERED_LIMIT);
        let stream = self.stream.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = deliver(&stream, sequence, &sender).await {
                tracing::debug!(error, "a consumer ended");
            }
            tokio::time::sleep(FOLLOW_AGAIN).await;
            let _gone = sender.send(Input::DeliveryEnded).await;
        });
        self.delivery = Some(Delivery { messages, task });
    }

    /// Looks at the monitoring ports of the servers, once a minute.
    fn look_at_servers(&mut self) {
        let now = Instant::now();
        if self.replica.fault().is_some() && now >= self.inspect_at {
            self.inspect_at = now + INSPECT_EVERY;
            self.inspect();
        }
        if now >= self.monitor_at {
            self.monitor_at = now + MONITOR_EVERY;
            let addresses = self.durability.addresses();
            self.spawn(async move {
                let found = super::durability::look_at(addresses).await;
                Some(Event::Monitored(found))
            });
        }
    }

    /// Runs something in the background that ends with an event, or without.
    fn spawn(&self, run: impl Future<Output = Option<Event>> + Send + 'static) {
        let inputs = self.inputs.0.clone();
        tokio::spawn(async move {
            if let Some(event) = run.await {
                let _gone = inputs.send(event);
            }
        });
    }

    /// How things are now.
    fn status(&self) -> ClusterStatus {
        let now = self.epoch.elapsed();
        let stream = (self.info.as_ref()).map(|info| StreamStatus::new(info, self.cluster));
        ClusterStatus::new(
            &self.replica,
            now,
            &self.subjects.cluster,
            stream,
            &self.durability,
        )
    }
}

/// The next delivered message; waits for ever if none are delivered.
async fn next_of(delivery: &mut Option<Delivery>) -> Option<Input> {
    match delivery {
        Some(delivery) => delivery.messages.recv().await,
        None => std::future::pending().await,
    }
}

/// Delivers messages until the consumer fails.
async fn deliver(
    stream: &Stream<()>,
    sequence: u64,
    to: &mpsc::Sender<Input>,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: sequence,
        },
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await;
    let consumer = consumer.map_err(|error| text(&error))?;
    let mut messages = consumer.messages().await.map_err(|error| text(&error))?;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| text(&error))?;
        let sequence = message
            .info()
            .map_err(|error| error.to_string())?
            .stream_sequence;
        let message = message.payload.to_vec();
        if to
            .send(Input::Delivered { sequence, message })
            .await
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

/// The answer of the stream to a publication.
#[derive(Deserialize)]
struct PublishAnswer {
    /// The sequence of the message.
    seq: Option<u64>,
    /// Why it was not taken.
    error: Option<PublishError>,
}

/// Why a message was not taken.
#[derive(Deserialize)]
struct PublishError {
    /// The code of JetStream.
    err_code: u64,
    /// What happened, for people.
    #[serde(default)]
    description: String,
}

/// Reads the answer to a publication; none if it says nothing.
fn read_answer(payload: &[u8]) -> Option<Result<u64, Refusal>> {
    let answer: PublishAnswer = serde_json::from_slice(payload).ok()?;
    Some(match (answer.seq, answer.error) {
        (_, Some(error)) => Err(match error.err_code {
            // Wrong last sequence; the same, while another message is on its way.
            10_071 | 10_164 => Refusal::NotLast(last_sequence(&error.description)),
            // The stream, or the store of a server, is full.
            10_077 | 10_047 => Refusal::Full,
            // JetStream, or this stream, is not available at present.
            10_008 | 10_118 => Refusal::NoLeader,
            other => Refusal::Other(other),
        }),
        (Some(sequence), None) => Ok(sequence),
        (None, None) => return None,
    })
}

/// The last sequence of the stream, which `wrong last sequence: 17` names.
fn last_sequence(description: &str) -> Option<u64> {
    let (_, number) = description.rsplit_once(": ")?;
    number.parse().ok()
}

/// The state of a stream that does not exist.
const NO_STREAM: StreamState = StreamState {
    first: 1,
    last: 0,
    bytes: 0,
};

/// How many facts wait for the journal before the stream is read on.
const READY_LIMIT: usize = 1_024;

/// How long it takes until it is looked again whether the journal has taken some.
const TAKEN_AFTER: Duration = Duration::from_millis(2);

/// How many messages are delivered ahead.
const DELIVERED_LIMIT: usize = 1_024;

/// How long an answer to a publication is listened for.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// After how long a delivery that has ended is asked for again.
const FOLLOW_AGAIN: Duration = Duration::from_millis(250);

/// How often the stream is looked at by a node that does not follow it any more: it may be made anew.
const INSPECT_EVERY: Duration = Duration::from_secs(5);

/// How often the servers are looked at.
const MONITOR_EVERY: Duration = Duration::from_secs(60);
