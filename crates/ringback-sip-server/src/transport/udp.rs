//! The UDP path: threads that receive a batch, answer it, and send the replies.
//!
//! One socket and one thread per core; the system spreads sources over the sockets (`SO_REUSEPORT`),
//! so the retransmissions of a call meet the thread that answered it. Once warm, nothing is
//! allocated here. Every datagram bears the time at which the system took it in, so that a queue that
//! stands can be told from a stall of the machine.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
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
use crate::outbox::{LocalAddress, Outbox, Transmit};
use crate::program::Program;
use crate::redirect::effect::Outcome;
use crate::redirect::plan::{PlanCache, Plans};
use crate::redirect::resolve::resolve;
use crate::redirect::warm::warm;
use crate::redirect::{Call, Read, Received, Snapshot, WorkerContext};
use crate::shared::Shared;

/// Opens a UDP socket; with `shared`, several may listen on one address.
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
    // Beyond the limit of ordinary users, if we may; else as much as there is.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    }
    socket.set_send_buffer_size(SEND_BYTES)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    if address.ip().is_unspecified() {
        // Replies have to leave from the address that was asked (RFC 3581 §4).
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    if let Err(error) = PacketFilter::default().attach(&socket) {
        // They are then absorbed here.
        tracing::debug!(%error, "the system does not filter ACKs");
    }
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Ends the wait of whoever receives from this socket; what it has still is received before.
pub(crate) fn wake(socket: &UdpSocket) {
    // The system says that the socket is not connected, and wakes its receivers nevertheless.
    let _not_connected = SockRef::from(socket).shutdown(Shutdown::Read);
}

/// One socket and what its thread works with.
#[derive(Debug)]
pub(crate) struct Worker<P> {
    /// The socket.
    pub(crate) socket: UdpSocket,
    /// What all threads share.
    pub(crate) shared: Arc<Shared<P>>,
    /// Which counters are the thread's own.
    pub(crate) shard: usize,
    /// Set when the thread has to end.
    pub(crate) stopping: Arc<AtomicBool>,
}

/// What is known of a datagram besides its bytes.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    /// How long it is.
    length: usize,
    /// Where it came from.
    source: SocketAddr,
    /// Which of our addresses it was sent to, if the socket has several.
    local: Option<LocalAddress>,
    /// When the system took it in, since 1970.
    at: Duration,
}

impl<P: Program> Worker<P> {
    /// Serves until told to stop, by `stopping` and then [`wake`]: a timer for each wait would cost
    /// more than a hundredth of a call.
    pub(crate) fn run(self) {
        let has_many_addresses = self
            .socket
            .local_addr()
            .is_ok_and(|address| address.ip().is_unspecified());
        if let Err(error) = self.socket.set_read_timeout(None) {
            tracing::warn!(%error, "waiting over UDP keeps a timer");
        }
        let mut receiver = Receiver::new(has_many_addresses);
        let mut sender = Sender::new();
        let mut plans = PlanCache::default();
        let room = SockRef::from(&self.socket).recv_buffer_size();
        let mut pressure = Pressure::new(room.unwrap_or(0));
        let mut received = ArrayVec::new();
        let counters = self.shared.metrics.shard(self.shard);
        while !self.stopping.load(Ordering::Relaxed) {
            let wait = pressure.deadline();
            match receiver.receive(&self.socket, wait, &mut received) {
                Ok(()) if received.is_empty() => {
                    self.lift(&mut pressure);
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
            // No message may end the thread, whatever mistake of ours it finds.
            let batch = AssertUnwindSafe(|| {
                self.answer(&receiver, &received, &mut pressure, &mut plans, &mut sender);
            });
            if catch_unwind(batch).is_err() {
                counters.dropped(Dropped::Internal);
                tracing::error!("answering a batch of datagrams panicked");
                plans = PlanCache::default();
            }
            let failed = sender.flush(&self.socket);
            self.count_latencies(&mut sender.answered);
            for _ in 0..failed {
                counters.dropped(Dropped::SendFailed);
            }
        }
    }

    /// Lets everything pass again: INVITEs are held back before the socket, and nothing has come for so long that there
    /// is no reason left. Where all that comes is held back, nothing else would tell that the overload is over.
    fn lift(&self, pressure: &mut Pressure) {
        if let Err(error) = PacketFilter::default().attach(&self.socket) {
            // The same is tried again when nothing has come for as long once more.
            tracing::debug!(%error, "the system does not let INVITEs pass again");
            return;
        }
        pressure.lift();
        self.shared.metrics.shard(self.shard).set_overloaded(false);
    }

    /// Counts how long the requests of a batch took that were answered, as the system took them in.
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
            is_draining: shared.is_draining(),
        };
        let mut worker = WorkerContext {
            plans: Plans::Own(plans),
            pressure: Some(pressure),
            out: &mut sender.outbox,
        };
        // Nothing but an INVITE or an ACK is read before the INVITEs that came before it are answered: it
        // may be a reply to one of them, to be learned from.
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
            resolve(&mut calls, snapshot.directory);
            warm(snapshot, &calls);
            for (call, datagram) in calls.iter().zip(asked) {
                worker.out.leave_from(datagram.local);
                let mut outcome = call.outcome();
                shared
                    .redirect
                    .answer(&mut worker, snapshot, call, &mut outcome);
                datagram.note_answered(&outcome, &mut sender.answered);
                shared.drain(self.shard, call.origin(), &mut outcome);
            }
        }
    }

    /// Tells `pressure` of a batch of so many datagrams, the first of which has waited so long, and has INVITEs held
    /// back before the socket as it asks for.
    fn admit(&self, pressure: &mut Pressure, now: Now, waited: Duration, count: usize) {
        let shard = self.shared.metrics.shard(self.shard);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let filter = pressure.batch(now.uptime, waited, count);
        if let Some(Err(error)) = filter.map(|filter| filter.attach(&self.socket)) {
            // What is taken in is bounded all the same, at a higher price.
            tracing::debug!(%error, "the system does not hold INVITEs back for us");
            pressure.filter_failed();
        }
        shard.set_overloaded(pressure.is_high());
    }
}

impl Datagram {
    /// Where it came from.
    fn origin(&self) -> Origin {
        Origin {
            address: self.source,
            transport: Transport::Udp,
        }
    }

    /// How long it has waited; zero where the system gave no time.
    fn waited(&self, now: Now) -> Duration {
        if self.at > Duration::ZERO {
            now.since_epoch.saturating_sub(self.at)
        } else {
            Duration::ZERO
        }
    }

    /// Notes when it came if it is answered, so that it can be told how long that took.
    fn note_answered(&self, outcome: &Outcome<'_, '_>, answered: &mut ArrayVec<Duration, BATCH>) {
        if outcome.status.is_some() && self.at > Duration::ZERO {
            // There are never more answers than datagrams.
            let _fits = answered.try_push(self.at);
        }
    }
}

/// Receives batches.
struct Receiver {
    /// Room for the datagrams of a batch.
    room: Vec<u8>,
    /// Room for their sources and control messages.
    headers: MultiHeaders<SockaddrStorage>,
    /// How many to ask for: where few come at a time, a short list is cheaper.
    wanted: usize,
}

impl Receiver {
    /// Makes room for batches.
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
        }
    }

    /// Waits for a datagram, for so long at most; takes it and those behind it. None if none came.
    fn receive(
        &mut self,
        socket: &UdpSocket,
        most: Option<Duration>,
        received: &mut ArrayVec<Datagram, BATCH>,
    ) -> Result<(), Errno> {
        received.clear();
        if let Some(most) = most {
            // Beyond what the system can count, it is as good as forever.
            let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
            let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut sockets, timeout)? == 0 {
                return Ok(());
            }
        }
        let flags = if most.is_some() {
            // What was there may turn out to be broken, and then nothing is.
            MsgFlags::MSG_DONTWAIT
        } else {
            MsgFlags::MSG_WAITFORONE
        };
        // To list every buffer takes longer than to receive one datagram does.
        if self.wanted == 1 {
            self.receive_up_to::<1>(socket, flags, received)
        } else {
            self.receive_up_to::<BATCH>(socket, flags, received)
        }
    }

    /// Takes the datagrams that are there, up to a limit.
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
            // Looking for a second one would find nothing, as it did just now.
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
/// Replies of one length to one destination leave as one large datagram that the system cuts into
/// pieces (`UDP_SEGMENT`): it then walks through its layers once for all of them.
struct Sender {
    /// What is to be sent.
    outbox: Outbox,
    /// When the system took in what they answer, as far as it told.
    answered: ArrayVec<Duration, BATCH>,
    /// Whether the system cuts datagrams for us.
    can_cut: bool,
    /// Room for the system's view of replies as they are: without an address of ours, with an IPv4
    /// one, with an IPv6 one.
    whole: [MultiHeaders<SockaddrStorage>; 3],
    /// The same for replies that are to be cut.
    cut: [MultiHeaders<SockaddrStorage>; 3],
}

impl Sender {
    /// Makes room for batches.
    fn new() -> Self {
        use nix::libc::{in_pktinfo, in6_pktinfo};
        let whole = |control| MultiHeaders::preallocate(BATCH, control);
        let cut = |control| MultiHeaders::preallocate(1, Some(control));
        Self {
            outbox: Outbox::with_capacity(REPLIES_BYTES),
            answered: ArrayVec::new(),
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

    /// Sends everything; gives how many packets the system did not take.
    fn flush(&mut self, socket: &UdpSocket) -> usize {
        let (buffer, packets) = self.outbox.packets();
        let failed = match packets.as_slice() {
            [] => 0,
            [only] if only.local.is_none() => {
                let sent = socket.send_to(only.bytes(buffer), only.destination);
                match sent {
                    Ok(_) => 0,
                    Err(error) => {
                        tracing::debug!(%error, "a reply was not sent");
                        1
                    }
                }
            }
            _ => {
                packets.sort_unstable_by_key(group);
                if self.can_cut {
                    self.can_cut = send_alike(socket, buffer, packets, &mut self.cut);
                }
                send_rest(socket, buffer, packets, &mut self.whole)
            }
        };
        self.outbox.clear(4 * REPLIES_BYTES);
        failed
    }
}

/// What two packets must have in common to be cut from one datagram.
fn group(packet: &Transmit) -> (Option<LocalAddress>, SocketAddr, usize) {
    (packet.local, packet.destination, packet.length())
}

/// Sends packets that can be cut from one datagram, and takes them off the list; false if the interface cannot cut.
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
        match send_cut(socket, buffer, alike, headers) {
            Ok(_) => {
                packets.drain(at..at + count);
            }
            Err(Errno::EIO) => return false,
            // It has to do with these packets.
            Err(_) => at += count,
        }
    }
    true
}

/// Sends what is left on the list; gives how many packets the system did not take.
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
        let sent = match send_whole(socket, buffer, run, headers) {
            Ok(sent) => sent,
            Err(Errno::EINTR) => 0,
            Err(error) => {
                // The first one cannot be sent; those behind it may.
                tracing::debug!(%error, "a reply was not sent");
                failed += 1;
                1
            }
        };
        rest = rest.get(sent..).unwrap_or_default();
    }
    failed
}

/// Sends replies that leave from one address, each on its own; gives how many were sent.
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

/// Sends replies of one length, one destination and one address of ours as one datagram to be cut.
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

/// Calls with the control messages that make replies leave from an address of ours, and be cut into
/// pieces of this length; and with the index of the headers that have room for the address.
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

/// An address as the system gives it.
fn read_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}

/// Stands for a source that the system did not tell; nobody's address.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Datagrams received at once.
const BATCH: usize = 64;

/// INVITEs whose lookups overlap: enough for the processor to wait for them all at once, and few
/// enough for all of them to stay in its nearest cache meanwhile.
const OVERLAPPED: usize = 8;

/// Room for one datagram. Not a power of two, or all datagrams would compete for the same lines of
/// the processor's caches.
const STRIDE: usize = 65_536 + 17 * 64;

/// The longest datagram that the system is given to cut.
const MAX_CUT_BYTES: usize = 64_000;

/// The longest reply that is cut from another datagram: a piece must fit into one packet, which a
/// whole reply need not.
const MAX_PIECE_BYTES: usize = 1_400;

/// Requested of the system for what waits to be received: room for what comes until a flood is noticed
/// and held back, so that others do not lose anything meanwhile.
const RECEIVE_BYTES: usize = 16 * 1024 * 1024;

/// Requested of the system for what waits to be sent.
const SEND_BYTES: usize = 4 * 1024 * 1024;

/// Room for the replies to a batch; grows if need be.
const REPLIES_BYTES: usize = BATCH * 2_048;

/// How long a thread waits for a HEP packet before it looks whether it should stop, and any after an
/// error.
const PATIENCE: Duration = Duration::from_millis(200);
