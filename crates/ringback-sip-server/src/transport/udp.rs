//! UDP: threads that receive a batch, answer it, and send the replies.
//!
//! One socket and one thread per core; the system spreads sources over the sockets (`SO_REUSEPORT`), so the
//! retransmissions of a call reach the thread that answered it. After a warm-up nothing is allocated here. Every
//! datagram has the system's time of arrival, so that a queue that stands differs from a stall of the machine.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use ringback_sip_proto::{Origin, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::admission::packet_filter::PacketFilter;
use crate::admission::pressure::Pressure;
use crate::clock::Now;
use crate::counters::Dropped;
use crate::forward::worker::Forwarding;
use crate::outbox::{LocalAddress, Outbox, Transmit};
use crate::program::Program;
use crate::redirect::effect::{Effect, Outcome};
use crate::redirect::plan::{PlanCache, Plans};
use crate::redirect::prefetch::prefetch;
use crate::redirect::resolve::resolve;
use crate::redirect::{Call, Read, Received, Snapshot, WorkerContext};
use crate::shared::Shared;
use crate::transport::undelivered;

/// Opens a UDP socket; with `shared`, several sockets may listen on one address.
pub(crate) fn bind(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Beyond the limit of ordinary users, if the process may; else up to the limit.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    socket.set_send_buffer_size(SEND_BYTES)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    if address.ip().is_unspecified() {
        // A reply must leave from the address to which the request was sent (RFC 3581 §4).
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    if let Err(error) = PacketFilter::default().attach(&socket, false) {
        // Without the filter, ACKs are received and ignored.
        tracing::debug!(%error, "the system does not filter ACKs");
    }
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Wakes the threads that receive from this socket; datagrams that have arrived are received first.
pub(crate) fn wake(socket: &UdpSocket) {
    // The system reports that the socket is not connected, but wakes its receivers all the same.
    let _not_connected = SockRef::from(socket).shutdown(Shutdown::Read);
}

/// One socket and the state of its thread.
#[derive(Debug)]
pub(crate) struct Worker<P> {
    /// The socket.
    pub(crate) socket: UdpSocket,
    /// The state shared by all threads.
    pub(crate) shared: Arc<Shared<P>>,
    /// The index of the thread's counters.
    pub(crate) shard: usize,
    /// Set when the thread must end.
    pub(crate) stopping: Arc<AtomicBool>,
}

/// How long nothing has arrived: a thread with forwarded calls wakes up for other reasons meanwhile.
#[derive(Debug, Default)]
struct Quiet(Duration);

impl Quiet {
    /// What is left of this time.
    fn left(&self, deadline: Option<Duration>) -> Option<Duration> {
        Some(deadline?.saturating_sub(self.0))
    }

    /// Another wait without datagrams has ended; whether it was the one that was left.
    fn is_over(&mut self, left: Option<Duration>, waited: Option<Duration>) -> bool {
        self.0 += waited.unwrap_or_default();
        left.is_some() && left == waited
    }
}

/// A received datagram, without its bytes.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    /// How long it is.
    length: usize,
    /// Where it came from.
    source: SocketAddr,
    /// The local address it was sent to, if the socket has several.
    local: Option<LocalAddress>,
    /// When it arrived, by the system, since 1970.
    at: Duration,
}

impl<P: Program> Worker<P> {
    /// Serves until told to stop, by `stopping` and then [`wake`]. There is no timer, because a timer for each
    /// wait would cost more than a hundredth of a call.
    pub(crate) fn run(self) {
        let has_many_addresses = self
            .socket
            .local_addr()
            .is_ok_and(|address| address.ip().is_unspecified());
        if let Err(error) = self.socket.set_read_timeout(None) {
            tracing::warn!(%error, "the UDP socket keeps its receive timeout");
        }
        let mut receiver = Receiver::new(has_many_addresses);
        let mut sender = Sender::new(self.shared.forward.is_on);
        let mut plans = PlanCache::default();
        let room = SockRef::from(&self.socket).recv_buffer_size();
        let mut pressure = Pressure::new(room.unwrap_or(0));
        let mut received = ArrayVec::new();
        let counters = self.shared.metrics.shard(self.shard);
        let mut forwarding = Forwarding::new(&self.shared, self.shard);
        if forwarding.is_some()
            && let Err(error) = undelivered::watch(&self.socket)
        {
            tracing::warn!(%error, "a target that is gone is noticed by its silence alone");
        }
        let mut quiet = Quiet::default();
        while !self.stopping.load(Ordering::Relaxed) {
            let lifts_in = quiet.left(pressure.deadline());
            let wait = match &forwarding {
                None => lifts_in,
                Some(forwarding) => {
                    let patience = forwarding.patience(self.shared.now());
                    Some(lifts_in.map_or(patience, |lifts_in| lifts_in.min(patience)))
                }
            };
            let bell = forwarding.as_ref().and_then(Forwarding::bell);
            match receiver.receive(&self.socket, wait, bell, &mut received) {
                Ok(()) if received.is_empty() => {
                    if quiet.is_over(lifts_in, wait) {
                        self.lift(&mut pressure);
                    }
                    self.turn(forwarding.as_mut(), receiver.has_undelivered, &mut sender);
                    continue;
                }
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "receiving over UDP failed");
                    std::thread::sleep(PATIENCE);
                    continue;
                }
            }
            // No message may end the thread, even if it triggers a bug of ours.
            let batch = AssertUnwindSafe(|| {
                let forwarding = forwarding.as_mut();
                self.answer(
                    &receiver,
                    &received,
                    &mut pressure,
                    &mut plans,
                    &mut sender,
                    forwarding,
                );
            });
            quiet = Quiet::default();
            if catch_unwind(batch).is_err() {
                counters.dropped(Dropped::Internal);
                tracing::error!("answering a batch of datagrams panicked");
                plans = PlanCache::default();
            }
            if forwarding.is_some() {
                self.turn(forwarding.as_mut(), receiver.has_undelivered, &mut sender);
            } else {
                self.flush(&mut sender);
            }
            self.count_latencies(&mut sender.answered);
        }
        if let Some(forwarding) = &mut forwarding {
            let policy = self.shared.policy.load();
            forwarding.shut_down(&policy, &mut sender.outbox);
            self.flush(&mut sender);
        }
    }

    /// Does what is due for forwarded calls, and sends everything.
    fn turn(
        &self,
        forwarding: Option<&mut Forwarding<P>>,
        has_undelivered: bool,
        sender: &mut Sender,
    ) {
        let Some(forwarding) = forwarding else {
            return;
        };
        let policy = self.shared.policy.load();
        let turn = AssertUnwindSafe(|| {
            if has_undelivered {
                forwarding.undelivered(&self.socket);
            }
            forwarding.turn(&policy, &mut sender.outbox);
        });
        if catch_unwind(turn).is_err() {
            let counters = self.shared.metrics.shard(self.shard);
            counters.dropped(Dropped::Internal);
            tracing::error!("forwarding calls panicked");
        }
        self.flush(sender);
    }

    /// Sends everything.
    fn flush(&self, sender: &mut Sender) {
        let counters = self.shared.metrics.shard(self.shard);
        for _ in 0..sender.flush(&self.socket) {
            counters.dropped(Dropped::SendFailed);
        }
    }

    /// Removes the filter: INVITEs are held back before the socket, and nothing has arrived for so long that
    /// there is no reason left. If everything is held back, nothing else would show that the overload is over.
    fn lift(&self, pressure: &mut Pressure) {
        if let Err(error) = PacketFilter::default().attach(&self.socket, self.shared.forward.is_on)
        {
            // Tried again after the next time without datagrams.
            tracing::debug!(%error, "the packet filter that holds INVITEs back cannot be removed yet");
            return;
        }
        pressure.lift();
        self.shared.metrics.shard(self.shard).set_overloaded(false);
    }

    /// Counts how long the answered requests of a batch took, from their arrival.
    fn count_latencies(&self, answered: &mut ArrayVec<Duration, BATCH>) {
        if answered.is_empty() {
            return;
        }
        let shard = self.shared.metrics.shard(self.shard);
        let now = self.shared.now().since_epoch;
        for at in answered.drain(..) {
            shard.took(Transport::Udp, now.saturating_sub(at));
        }
    }

    /// Answers a batch.
    fn answer(
        &self,
        receiver: &Receiver,
        received: &ArrayVec<Datagram, BATCH>,
        pressure: &mut Pressure,
        plans: &mut PlanCache,
        sender: &mut Sender,
        mut forwarding: Option<&mut Forwarding<P>>,
    ) {
        let shared = &*self.shared;
        let now = shared.now();
        if let Some(first) = received.first() {
            self.admit(pressure, now, first.waited(now), received.len());
        }
        let policy = shared.policy.load();
        let snapshot = Snapshot {
            policy: &policy,
            directory: &shared.program.directory(),
            contacts: shared.program.contacts(),
            answered: &shared.redirect.reply_cache.generations(),
            now,
            probed: shared.forward.probed(&policy),
            is_draining: shared.is_draining(),
        };
        let mut worker = WorkerContext {
            plans: Plans::Own(plans),
            pressure: Some(pressure),
            out: &mut sender.outbox,
        };
        // Other messages wait until the INVITEs before them are answered: a message may be a reply to one of
        // them, to be learned from. ACKs need not wait.
        let may_be_read = |datagram: &(usize, &Datagram)| {
            let bytes = receiver.bytes(datagram.0, datagram.1.length);
            bytes.starts_with(b"INVITE ") || bytes.starts_with(b"ACK ")
        };
        let mut datagrams = received.iter().enumerate().peekable();
        while datagrams.peek().is_some() {
            let mut calls: ArrayVec<Call<'_, '_>, OVERLAPPED> = ArrayVec::new();
            let mut asked: ArrayVec<&Datagram, OVERLAPPED> = ArrayVec::new();
            while !calls.is_full()
                && let Some((index, datagram)) =
                    datagrams.next_if(|next| calls.is_empty() || may_be_read(next))
            {
                let message = Received {
                    bytes: receiver.bytes(index, datagram.length),
                    origin: datagram.origin(),
                    waited: datagram.waited(now),
                };
                if let Some(forwarding) = &mut forwarding
                    && let Some(taken) = forwarding.datagram(snapshot, message, datagram.local)
                {
                    match taken {
                        Some(mut outcome) => shared.drain(self.shard, message.origin, &mut outcome),
                        None => shared.metrics.shard(self.shard).received(Transport::Udp),
                    }
                    continue;
                }
                worker.out.leave_from(datagram.local);
                match shared.redirect.read(&mut worker, snapshot, message) {
                    Read::Invite(call) => {
                        calls.push(call);
                        asked.push(datagram);
                    }
                    Read::Done(mut outcome) => {
                        datagram.note_answered(&outcome, &mut sender.answered);
                        shared.drain(self.shard, message.origin, &mut outcome);
                    }
                }
            }
            resolve(&mut calls, snapshot);
            prefetch(snapshot, &worker.plans, &calls);
            for (call, datagram) in calls.iter().zip(asked) {
                worker.out.leave_from(datagram.local);
                let mut outcome = call.outcome();
                match &mut forwarding {
                    Some(forwarding) if call.forwards() => {
                        if forwarding.is_known(now, call, datagram.local) {
                            outcome.effects.push(Effect::Retransmitted);
                        } else if let Some(planned) = shared.redirect.forward(
                            &shared.forward,
                            &mut worker,
                            snapshot,
                            call,
                            &mut outcome,
                        ) {
                            forwarding.begin(now, call, datagram.local, planned);
                        }
                    }
                    _ => shared
                        .redirect
                        .answer(&mut worker, snapshot, call, &mut outcome),
                }
                datagram.note_answered(&outcome, &mut sender.answered);
                shared.drain(self.shard, call.origin(), &mut outcome);
            }
        }
    }

    /// Reports a batch of this many datagrams to `pressure`, the first of which waited this long, and attaches
    /// the packet filter that it returns.
    fn admit(&self, pressure: &mut Pressure, now: Now, waited: Duration, count: usize) {
        let shard = self.shared.metrics.shard(self.shard);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let filter = pressure.batch(now.uptime, waited, count);
        let acks_pass = self.shared.forward.is_on;
        if let Some(Err(error)) = filter.map(|filter| filter.attach(&self.socket, acks_pass)) {
            // The number of INVITEs is still limited, at a higher cost.
            tracing::debug!(%error, "the packet filter that holds INVITEs back cannot be attached");
            pressure.filter_failed();
        }
        shard.set_overloaded(pressure.is_high());
    }
}

impl Datagram {
    /// The source of the datagram, and its transport.
    fn origin(&self) -> Origin {
        Origin {
            address: self.source,
            transport: Transport::Udp,
        }
    }

    /// How long it has waited; zero if the system gave no time of arrival.
    fn waited(&self, now: Now) -> Duration {
        if self.at > Duration::ZERO {
            now.since_epoch.saturating_sub(self.at)
        } else {
            Duration::ZERO
        }
    }

    /// Notes its arrival if it is answered, to measure how long the answer took.
    fn note_answered(&self, outcome: &Outcome<'_, '_>, answered: &mut ArrayVec<Duration, BATCH>) {
        if outcome.status.is_some() && self.at > Duration::ZERO {
            // There are never more answers than datagrams.
            let _fits = answered.try_push(self.at);
        }
    }
}

/// Receives batches.
struct Receiver {
    /// Buffers for the datagrams of a batch.
    room: Vec<u8>,
    /// Buffers for their sources and control messages.
    headers: MultiHeaders<SockaddrStorage>,
    /// How many datagrams to request: if few arrive at a time, a short list is cheaper.
    wanted: usize,
    /// Whether the system told, when the thread last waited, that something had not arrived.
    has_undelivered: bool,
}

impl Receiver {
    /// Allocates the buffers.
    fn new(has_many_addresses: bool) -> Self {
        let control = if has_many_addresses {
            nix::cmsg_space!(TimeSpec, nix::libc::in6_pktinfo)
        } else {
            nix::cmsg_space!(TimeSpec)
        };
        Self {
            room: vec![0; BATCH * STRIDE],
            headers: MultiHeaders::preallocate(BATCH, Some(control)),
            wanted: BATCH,
            has_undelivered: false,
        }
    }

    /// Waits for a datagram, at most this long, or until the bell rings; receives it and those behind it. None if none
    /// arrived.
    fn receive(
        &mut self,
        socket: &UdpSocket,
        most: Option<Duration>,
        bell: Option<BorrowedFd<'_>>,
        received: &mut ArrayVec<Datagram, BATCH>,
    ) -> Result<(), Errno> {
        received.clear();
        if let Some(most) = most {
            // The system counts whole milliseconds: with less than one left it would not wait at all, and the thread
            // would go round and round. A longer time than it can count is as good as forever.
            let most = most.saturating_add(Duration::from_nanos(999_999));
            let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
            let socket = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
            let mut sources: ArrayVec<PollFd<'_>, 2> = ArrayVec::new();
            sources.push(socket);
            sources.extend(bell.map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
            poll(&mut sources, timeout)?;
            let told = sources.first().and_then(PollFd::revents);
            let told = told.unwrap_or(PollFlags::empty());
            self.has_undelivered = told.contains(PollFlags::POLLERR);
            if told.is_empty() {
                return Ok(());
            }
        }
        let flags = if most.is_some() {
            // The waiting datagram may turn out to be broken, and then nothing is there.
            MsgFlags::MSG_DONTWAIT
        } else {
            MsgFlags::MSG_WAITFORONE
        };
        // Listing every buffer takes longer than receiving one datagram.
        let result = if self.wanted == 1 {
            self.receive_up_to::<1>(socket, flags, received)
        } else {
            self.receive_up_to::<BATCH>(socket, flags, received)
        };
        if self.has_undelivered {
            undelivered::received(result)
        } else {
            result
        }
    }

    /// Receives the datagrams that have arrived, up to a limit.
    fn receive_up_to<const LIMIT: usize>(
        &mut self,
        socket: &UdpSocket,
        flags: MsgFlags,
        received: &mut ArrayVec<Datagram, BATCH>,
    ) -> Result<(), Errno> {
        let mut buffers = self.room.chunks_exact_mut(STRIDE);
        let mut slices: [[IoSliceMut<'_>; 1]; LIMIT] = std::array::from_fn(|_| {
            let buffer = buffers.next().unwrap_or_default();
            [IoSliceMut::new(buffer)]
        });
        let wanted = self.wanted.min(LIMIT);
        let slices = slices.get_mut(..wanted).unwrap_or_default();
        let messages = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices, flags, None)?;
        for message in messages {
            let mut datagram = Datagram {
                length: message.bytes,
                source: message
                    .address
                    .as_ref()
                    .and_then(read_address)
                    .unwrap_or(NOWHERE),
                local: None,
                at: Duration::ZERO,
            };
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmTimestampns(at) => {
                        datagram.at = Duration::from(at);
                    }
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        let address = info.ipi_spec_dst.s_addr.to_ne_bytes();
                        datagram.local = Some(LocalAddress::V4(address));
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        let address = info.ipi6_addr.s6_addr;
                        let is_link_local = address[0] == 0xfe && address[1] & 0xc0 == 0x80;
                        let interface = if is_link_local { info.ipi6_ifindex } else { 0 };
                        datagram.local = Some(LocalAddress::V6(address, interface));
                    }
                    _ => {}
                }
            }
            received.push(datagram);
        }
        self.wanted = match received.len() {
            // There may be more.
            full if full == self.wanted => (4 * full).min(BATCH),
            // Looking for a second one would find nothing again.
            1 => 1,
            some => (2 * some).min(BATCH),
        };
        Ok(())
    }

    /// The bytes of a datagram.
    fn bytes(&self, index: usize, length: usize) -> &[u8] {
        let start = index * STRIDE;
        self.room.get(start..start + length).unwrap_or_default()
    }
}

/// Sends batches.
///
/// Replies of one length to one destination leave as one large datagram that the system cuts into pieces
/// (`UDP_SEGMENT`): it then processes all of them in one pass. Where calls are forwarded, all leave in the order in
/// which they were written instead, or a 200 would overtake the 180 before it.
struct Sender {
    /// The packets to be sent.
    outbox: Outbox,
    /// When the requests arrived that these packets answer, if the system reported it.
    answered: ArrayVec<Duration, BATCH>,
    /// Whether packets of one call may follow one another.
    keeps_order: bool,
    /// Whether the system cuts datagrams for us.
    can_cut: bool,
    /// Buffers for sending replies one by one: without a local address, with an IPv4 one, with an IPv6 one.
    whole: [MultiHeaders<SockaddrStorage>; 3],
    /// Buffers for sending replies that are cut from one datagram.
    cut: [MultiHeaders<SockaddrStorage>; 3],
}

impl Sender {
    /// Allocates the buffers.
    fn new(keeps_order: bool) -> Self {
        use nix::libc::{in_pktinfo, in6_pktinfo};
        let whole = |control| MultiHeaders::preallocate(BATCH, control);
        let cut = |control| MultiHeaders::preallocate(1, Some(control));
        Self {
            outbox: Outbox::with_capacity(REPLIES_BYTES),
            answered: ArrayVec::new(),
            keeps_order,
            can_cut: true,
            whole: [
                whole(None),
                whole(Some(nix::cmsg_space!(in_pktinfo))),
                whole(Some(nix::cmsg_space!(in6_pktinfo))),
            ],
            cut: [
                cut(nix::cmsg_space!(u16)),
                cut(nix::cmsg_space!(in_pktinfo, u16)),
                cut(nix::cmsg_space!(in6_pktinfo, u16)),
            ],
        }
    }

    /// Sends everything; returns how many packets the system did not accept.
    fn flush(&mut self, socket: &UdpSocket) -> usize {
        let (buffer, packets) = self.outbox.packets();
        let failed = match packets.as_slice() {
            [] => 0,
            [only] if only.local.is_none() => {
                match undelivered::send(socket, only.bytes(buffer), only.destination) {
                    Ok(_) => 0,
                    Err(error) => {
                        tracing::debug!(%error, "a reply was not sent");
                        1
                    }
                }
            }
            _ => {
                if self.can_cut && !self.keeps_order {
                    packets.sort_unstable_by_key(group);
                    self.can_cut = send_alike(socket, buffer, packets, &mut self.cut);
                }
                send_rest(socket, buffer, packets, &mut self.whole)
            }
        };
        self.outbox.clear(4 * REPLIES_BYTES);
        failed
    }
}

/// The fields that packets must share to be cut from one datagram.
fn group(packet: &Transmit) -> (Option<LocalAddress>, SocketAddr, usize) {
    (packet.local, packet.destination, packet.length())
}

/// Sends packets that can be cut from one datagram, and removes them from the list; false if the interface cannot
/// cut.
fn send_alike(
    socket: &UdpSocket,
    buffer: &[u8],
    packets: &mut Vec<Transmit>,
    headers: &mut [MultiHeaders<SockaddrStorage>; 3],
) -> bool {
    let mut at = 0;
    while let Some(first) = packets.get(at).copied() {
        let rest = packets.get(at..).unwrap_or_default();
        let alike = rest.iter().take_while(|next| group(next) == group(&first));
        let most = BATCH.min(MAX_CUT_BYTES / first.length().max(1));
        let count = alike.count().min(most);
        let alike = rest.get(..count).unwrap_or_default();
        if count < 2 || first.length() > MAX_PIECE_BYTES {
            at += count.max(1);
            continue;
        }
        match undelivered::repeated(|| send_cut(socket, buffer, alike, headers)) {
            Ok(_) => {
                packets.drain(at..at + count);
            }
            Err(Errno::EIO) => return false,
            // The error concerns only these packets.
            Err(_) => at += count,
        }
    }
    true
}

/// Sends the rest of the list; returns how many packets the system did not accept.
fn send_rest(
    socket: &UdpSocket,
    buffer: &[u8],
    packets: &[Transmit],
    headers: &mut [MultiHeaders<SockaddrStorage>; 3],
) -> usize {
    let mut failed = 0;
    let mut rest = packets;
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|next| next.local == first.local);
        let length = alike.count();
        let run = rest.get(..length).unwrap_or_default();
        let sent = match undelivered::repeated(|| send_whole(socket, buffer, run, headers)) {
            Ok(sent) => sent,
            Err(Errno::EINTR) => 0,
            Err(error) => {
                // The first one cannot be sent; the ones behind it may.
                tracing::debug!(%error, "a reply was not sent");
                failed += 1;
                1
            }
        };
        rest = rest.get(sent..).unwrap_or_default();
    }
    failed
}

/// Sends replies that leave from one local address, each as a datagram; returns how many were sent.
fn send_whole(
    socket: &UdpSocket,
    buffer: &[u8],
    run: &[Transmit],
    headers: &mut [MultiHeaders<SockaddrStorage>; 3],
) -> Result<usize, Errno> {
    let run = run.get(..BATCH).unwrap_or(run);
    let slices: ArrayVec<[IoSlice<'_>; 1], BATCH> = run
        .iter()
        .map(|reply| [IoSlice::new(reply.bytes(buffer))])
        .collect();
    let addresses: ArrayVec<Option<SockaddrStorage>, BATCH> = run
        .iter()
        .map(|reply| Some(reply.destination.into()))
        .collect();
    let local = run.first().and_then(|reply| reply.local);
    with_control(local, None, |index, control| {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers[index],
            slices.as_slice(),
            addresses,
            control,
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    })
}

/// Sends replies of one length, one destination and one local address as one datagram to be cut.
fn send_cut(
    socket: &UdpSocket,
    buffer: &[u8],
    alike: &[Transmit],
    headers: &mut [MultiHeaders<SockaddrStorage>; 3],
) -> Result<usize, Errno> {
    let Some(first) = alike.first() else {
        return Ok(0);
    };
    let slices: ArrayVec<IoSlice<'_>, BATCH> = alike
        .iter()
        .map(|reply| IoSlice::new(reply.bytes(buffer)))
        .collect();
    let piece = u16::try_from(first.length()).map_err(|_| Errno::EMSGSIZE)?;
    let message = [slices.as_slice()];
    with_control(first.local, Some(piece), |index, control| {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers[index],
            &message,
            [Some(SockaddrStorage::from(first.destination))],
            control,
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    })
}

/// Runs `call` with the control messages for a local address and a length of pieces, and with the index of the
/// buffers that have room for the address.
fn with_control<T>(
    local: Option<LocalAddress>,
    piece: Option<u16>,
    call: impl FnOnce(usize, &[ControlMessage<'_>]) -> T,
) -> T {
    let mut v4 = nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: nix::libc::in_addr { s_addr: 0 },
        ipi_addr: nix::libc::in_addr { s_addr: 0 },
    };
    let mut v6 = nix::libc::in6_pktinfo {
        ipi6_addr: nix::libc::in6_addr { s6_addr: [0; 16] },
        ipi6_ifindex: 0,
    };
    let mut control: ArrayVec<ControlMessage<'_>, 2> = ArrayVec::new();
    let index = match local {
        None => 0,
        Some(LocalAddress::V4(address)) => {
            v4.ipi_spec_dst.s_addr = u32::from_ne_bytes(address);
            control.push(ControlMessage::Ipv4PacketInfo(&v4));
            1
        }
        Some(LocalAddress::V6(address, interface)) => {
            v6.ipi6_addr.s6_addr = address;
            v6.ipi6_ifindex = interface;
            control.push(ControlMessage::Ipv6PacketInfo(&v6));
            2
        }
    };
    if let Some(piece) = &piece {
        control.push(ControlMessage::UdpGsoSegments(piece));
    }
    call(index, &control)
}

/// Reads an address of the system.
fn read_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}

/// The source of a datagram for which the system gave none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// How many datagrams are received at once.
const BATCH: usize = 64;

/// How many INVITEs have overlapping lookups: enough for the processor to wait for them all at once, and few
/// enough for all of them to stay in its first-level cache.
const OVERLAPPED: usize = 8;

/// The buffer size for one datagram. Not a power of two, or all datagrams would compete for the same lines of the
/// processor's caches.
const STRIDE: usize = 65_536 + 17 * 64;

/// The longest datagram that the system is asked to cut, in bytes.
const MAX_CUT_BYTES: usize = 64_000;

/// The longest reply that is cut from a larger datagram: a piece must fit into one packet, unlike a whole reply.
const MAX_PIECE_BYTES: usize = 1_400;

/// The receive buffer requested from the system: room for the datagrams of a flood until it is noticed and held
/// back, so that other peers lose nothing meanwhile.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// The send buffer requested from the system.
const SEND_BYTES: usize = 4 * 1024 * 1024;

/// Initial room for the replies to a batch; it grows if needed.
const REPLIES_BYTES: usize = BATCH * 2_048;

/// How long a thread waits for a HEP packet before it checks whether it should stop, and how long any thread
/// waits after an error.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which packets of these lengths, for one destination, arrive there.
    fn arrived(keeps_order: bool, lengths: &[usize]) -> Vec<usize> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (from, to) = (bind(any, false).unwrap(), bind(any, false).unwrap());
        to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut sender = Sender::new(keeps_order);
        for length in lengths {
            let start = sender.outbox.bytes.len();
            sender.outbox.bytes.resize(start + length, b'x');
            sender.outbox.transmit(start, to.local_addr().unwrap());
        }
        assert_eq!(sender.flush(&from), 0);
        let mut room = [0; 1_000];
        let receive = |_| to.recv(&mut room).unwrap();
        lengths.iter().map(receive).collect()
    }

    #[test]
    fn packets_of_forwarded_calls_leave_in_the_order_in_which_they_were_written() {
        assert_eq!(arrived(true, &[300, 200, 300, 200]), [300, 200, 300, 200]);
    }

    #[test]
    fn redirects_of_one_length_leave_together() {
        let mut lengths = arrived(false, &[300, 200, 300, 200]);
        assert!(lengths.is_sorted_by_key(|length| lengths.iter().position(|at| at == length)));
        lengths.sort_unstable();
        assert_eq!(lengths, [200, 200, 300, 300]);
    }
}
