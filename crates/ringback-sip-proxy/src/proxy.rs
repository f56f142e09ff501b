//! All response contexts of one thread: what belongs to which, and when something is to be done.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use ringback_sip_proto::check::Request;
use ringback_sip_proto::rsip::Method;
use ringback_sip_proto::{Message, Origin, Responder, Transport};

use crate::context::{Context, Work};
use crate::deadlines::{Deadline, Deadlines};
use crate::key::{BranchName, Keys};
use crate::output::{Cause, Event, Outbox, Output};
use crate::plan::{Plan, Target};
use crate::settings::Settings;

/// A request in good order, and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'r, 'm> {
    /// All of it.
    pub message: &'r Message<'m>,
    /// What the checks of a proxy read.
    pub request: &'r Request<'m>,
    /// Where it came from.
    pub origin: Origin,
    /// The way back, for whoever sends.
    pub flow: u64,
}

/// What is known of a new INVITE, besides what is to be done with it.
#[derive(Clone, Copy, Debug)]
pub struct Invited<'i> {
    /// What the call is called in events.
    pub token: u64,
    /// Whatever the decision depends on that is not in the request URI: caller and dialed number, as they were read.
    pub numbers: &'i [u8],
}

/// What a request was to the transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An INVITE that came again: answered as before, or absorbed.
    Retransmission,
    /// The CANCEL of a call: answered.
    Cancel,
    /// The ACK of a final reply: it ends here.
    Ack,
    /// It belongs to none of them.
    No,
}

/// The calls of one thread.
#[derive(Debug)]
pub struct Proxy {
    /// The times and rules.
    settings: Settings,
    /// Makes keys.
    keys: Keys,
    /// Writes replies of our own.
    responder: Responder,
    /// This thread, in the names of branches.
    worker: u16,
    /// What is different at each start, so that no branch has a name twice.
    seed: u64,
    /// How many branches there have been.
    counter: u64,
    /// The contexts.
    slots: Vec<Slot>,
    /// Slots without one.
    free: Vec<u32>,
    /// The slot of each server transaction.
    transactions: Index<u32>,
    /// The same by what a CANCEL from behind an address translation has in common with its INVITE.
    cancels: Index<u32>,
    /// The slot of each branch, and which branch of its context it is.
    branches: Index<(u32, u16)>,
    /// When something is to be done.
    deadlines: Deadlines,
    /// What goes out.
    out: Outbox,
}

/// A place for a context.
#[derive(Debug)]
struct Slot {
    /// How many contexts have been here.
    generation: u32,
    /// When this one is woken up.
    wakes_at: Option<Duration>,
    /// The keys of its server transaction.
    keys: (u64, Option<u64>),
    /// The context.
    context: Option<Box<Context>>,
}

/// Finds something by a hash that nobody outside can choose.
type Index<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;

/// Takes a keyed hash as it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Proxy {
    /// Without calls. `key` is secret, and the same for all workers of a node; `seed` is another one at each start.
    #[must_use]
    pub fn new(settings: Settings, key: [u8; 16], worker: u16, seed: u64) -> Self {
        Self {
            settings,
            keys: Keys::new(key),
            responder: Responder::new(key),
            worker,
            seed,
            counter: 0,
            slots: Vec::new(),
            free: Vec::new(),
            transactions: Index::default(),
            cancels: Index::default(),
            branches: Index::default(),
            deadlines: Deadlines::default(),
            out: Outbox::default(),
        }
    }

    /// Other times and rules, from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Calls of which something is left.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Shows a request to the transactions.
    pub fn request(&mut self, now: Duration, arrived: Arrived<'_, '_>) -> Taken {
        let request = arrived.request;
        let method = request.method;
        if !matches!(method, Some(Method::Invite | Method::Ack | Method::Cancel)) {
            return Taken::No;
        }
        let key = self.keys.transaction(arrived.message, request);
        let mut found = self.transactions.get(&key);
        if found.is_none() && method == Some(Method::Cancel) {
            let key = self.keys.cancel(request, arrived.origin.address.ip());
            found = key.and_then(|key| self.cancels.get(&key));
        }
        let Some(&slot) = found else {
            return Taken::No;
        };
        let way = (arrived.origin, arrived.flow);
        self.work(now, slot, |context, work| match method {
            Some(Method::Invite) => {
                context.retransmitted(work);
                Taken::Retransmission
            }
            Some(Method::Cancel) => {
                context.hang_up(arrived.message, request, way, work);
                Taken::Cancel
            }
            _ if context.acknowledge(work) => Taken::Ack,
            _ => Taken::No,
        })
        .unwrap_or(Taken::No)
    }

    /// Takes a new INVITE, which belongs to no transaction, and sends it on.
    pub fn begin(
        &mut self,
        now: Duration,
        arrived: Arrived<'_, '_>,
        invited: Invited<'_>,
        plan: Plan,
    ) {
        let Arrived {
            message,
            request,
            origin,
            flow,
        } = arrived;
        let loop_hash = self.keys.loop_hash(message, request, invited.numbers);
        let keys = (
            self.keys.transaction(message, request),
            self.keys.cancel(request, origin.address.ip()),
        );
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                wakes_at: None,
                keys: (0, None),
                context: None,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.transactions.insert(keys.0, slot);
        if let Some(key) = keys.1 {
            self.cancels.insert(key, slot);
        }
        let context = self.with_work(now, slot, |work| {
            let token = (invited.token, loop_hash);
            Context::begin(message, request, (origin, flow), plan, token, work)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.keys = keys;
            place.context = Some(Box::new(context));
        }
        self.settle(slot);
    }

    /// Takes a reply to one of our branches; false if it matches none, or is too broken to be passed on.
    pub fn reply(&mut self, now: Duration, branch: BranchName, message: &Message<'_>) -> bool {
        let to_cancel = match message.cseq().map(|cseq| cseq.method) {
            Ok(b"INVITE") => false,
            Ok(b"CANCEL") => true,
            _ => return false,
        };
        // Nothing could be made of it, neither an ACK nor a reply for whoever asked (§16.7 step 3).
        let is_whole = message.from().is_ok()
            && message.to().is_ok()
            && (to_cancel || matches!(message.vias().nth(1), Some(Some(_))));
        if !is_whole {
            return false;
        }
        let Some(&(slot, index)) = self.branches.get(&branch.id) else {
            return false;
        };
        self.work(now, slot, |context, work| {
            context.reply(usize::from(index), message, to_cancel, work)
        })
        .unwrap_or(false)
    }

    /// The INVITE of a branch as it came, and where it came from; `None`: nothing more can be made of it.
    #[must_use]
    pub fn invite(&self, branch: BranchName) -> Option<(Origin, &[u8])> {
        let (slot, _) = self.branches.get(&branch.id)?;
        let context = self.slots.get(*slot as usize)?.context.as_ref()?;
        context.invite()
    }

    /// Takes the 3xx reply of a branch, which names these targets that may be followed; false as for
    /// [`reply`](Self::reply). They come next, each once, and the reply itself does not go up then (RFC 3261 §16.7 step
    /// 4). Where nothing may be followed any more, it is a reply like any other.
    pub fn redirected(
        &mut self,
        now: Duration,
        branch: BranchName,
        message: &Message<'_>,
        targets: Vec<Target>,
    ) -> bool {
        let is_to_invite = message.cseq().is_ok_and(|cseq| cseq.method == b"INVITE");
        if is_to_invite && let Some(&(slot, index)) = self.branches.get(&branch.id) {
            self.work(now, slot, |context, _| {
                context.follow(usize::from(index), targets);
            });
        }
        self.reply(now, branch, message)
    }

    /// A message of this branch could not be sent, or its connection was lost.
    pub fn failed(&mut self, now: Duration, branch: u64, cause: Cause) {
        if let Some(&(slot, index)) = self.branches.get(&branch) {
            self.work(now, slot, |context, work| {
                context.failed(usize::from(index), cause, work);
            });
        }
    }

    /// Nobody is at this address: INVITEs that wait there for a first reply go to the next target at once.
    pub fn gone(&mut self, now: Duration, way: (Transport, SocketAddr)) {
        for slot in 0..self.slots.len() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            self.work(now, slot, |context, work| context.gone(way, work));
        }
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Duration) {
        while let Some(due) = self.deadlines.pop_due(now) {
            let place = self.slots.get_mut(due.slot as usize);
            let is_current = place.is_some_and(|place| {
                let is_current =
                    place.generation == due.generation && place.wakes_at == Some(due.at);
                if is_current {
                    place.wakes_at = None;
                }
                is_current
            });
            if is_current {
                self.work(now, due.slot, Context::timeout);
            }
        }
    }

    /// Cancels every call that rings, and answers 503: the server ends.
    pub fn shut_down(&mut self, now: Duration) {
        for slot in 0..self.slots.len() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            self.work(now, slot, Context::shut_down);
        }
    }

    /// Calls to which no final reply went up yet.
    #[must_use]
    pub fn ringing(&self) -> usize {
        let contexts = self.slots.iter().filter_map(|slot| slot.context.as_ref());
        contexts.filter(|context| context.is_ringing()).count()
    }

    /// When [`timeout`](Self::timeout) is to be called; it may turn out that there is nothing to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// When [`timeout`](Self::timeout) is to be called by whoever can be some milliseconds late: what is due about the
    /// same time is then done together, and a thread with many calls does not wake up for each.
    #[must_use]
    pub fn wakes_by(&self) -> Option<Duration> {
        self.deadlines.wakes_by()
    }

    /// Gives out what is to be sent and told, in order; `None`: there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        self.out.poll()
    }

    /// Lets the context of a slot work, if there is one.
    fn work<T>(
        &mut self,
        now: Duration,
        slot: u32,
        run: impl FnOnce(&mut Context, &mut Work<'_>) -> T,
    ) -> Option<T> {
        let mut context = self.slots.get_mut(slot as usize)?.context.take()?;
        let result = self.with_work(now, slot, |work| run(&mut context, work));
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.context = Some(context);
        }
        self.settle(slot);
        Some(result)
    }

    /// Runs something with what a context in this slot works with.
    fn with_work<T>(
        &mut self,
        now: Duration,
        slot: u32,
        run: impl FnOnce(&mut Work<'_>) -> T,
    ) -> T {
        let Self {
            settings,
            keys,
            responder,
            worker,
            seed,
            counter,
            branches,
            out,
            ..
        } = self;
        let mut name = |index| {
            *counter += 1;
            let id = keys.branch(*worker, *seed, *counter);
            branches.insert(id, (slot, index));
            id
        };
        run(&mut Work {
            now,
            settings,
            responder,
            worker: *worker,
            name: &mut name,
            out,
        })
    }

    /// Notes when the context of a slot is to be woken up; removes it if nothing is left of it.
    fn settle(&mut self, slot: u32) {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let Some(context) = &place.context else {
            return;
        };
        if let Some(at) = context.deadline() {
            if place.wakes_at.is_none_or(|before| at < before) {
                place.wakes_at = Some(at);
                self.deadlines.add(Deadline {
                    at,
                    slot,
                    generation: place.generation,
                });
            }
            return;
        }
        let token = context.token();
        for id in context.branch_ids() {
            self.branches.remove(&id);
        }
        self.transactions.remove(&place.keys.0);
        if let Some(key) = place.keys.1 {
            self.cancels.remove(&key);
        }
        place.context = None;
        place.wakes_at = None;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        self.out.event(Event::Closed { token });
        if self.free.len() == self.slots.len() {
            self.release();
        }
    }

    /// Gives back what a busy hour needed.
    fn release(&mut self) {
        if self.slots.len() > USUAL_CALLS {
            // Deadlines of contexts that are gone may be left, and name slots; a slot must not come back with the
            // generation that it had.
            self.deadlines = Deadlines::default();
            self.slots = Vec::new();
            self.free = Vec::new();
            self.transactions = Index::default();
            self.cancels = Index::default();
            self.branches = Index::default();
        }
    }
}

/// Up to how many calls memory is kept for the next ones.
const USUAL_CALLS: usize = 1_024;
