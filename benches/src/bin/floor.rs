//! A responder that does no work: it receives, and sends fixed bytes. Its cost is the cost of UDP.
//!
//! The reply is fixed except for the 16 characters of the call's id, which are copied from a fixed offset of the
//! request, so that the generator can match replies to calls. ACKs get no reply.
#![expect(
    clippy::print_stdout,
    reason = "the ready line is this program's interface"
)]

use std::error::Error;
use std::io::{self, Write};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use clap::{Parser, ValueEnum};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use ringback_benches::batch::{self, BATCH, Receiver};
use ringback_benches::cpu;
use ringback_benches::sip::Template;
use socket2::{SockFilter, SockRef};

/// Answers every INVITE of the load generator with fixed bytes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How datagrams are moved
    #[arg(long, value_enum, default_value = "batched")]
    calls: Calls,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// How datagrams are moved.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Calls {
    /// One per system call
    Single,
    /// Up to 64 per system call
    Batched,
    /// Up to 64 per system call; ACKs are dropped by a filter before the socket
    Filtered,
    /// Received in batches; the replies to one peer sent as one datagram that the kernel cuts (UDP_SEGMENT)
    Segmented,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(core) = arguments.core {
        cpu::pin(core)?;
    }
    let socket = batch::open(arguments.listen)?;
    println!(
        r#"{{"event":"ready","sip_udp":"{}"}}"#,
        socket.local_addr()?
    );
    io::stdout().flush()?;
    match arguments.calls {
        Calls::Single => single(&socket),
        Calls::Batched => batched(&socket),
        Calls::Filtered => {
            drop_acks(&socket)?;
            batched(&socket)
        }
        Calls::Segmented => segmented(&socket),
    }?;
    Ok(())
}

/// Makes the kernel drop datagrams that begin with `ACK `.
fn drop_acks(socket: &UdpSocket) -> io::Result<()> {
    let step = |code: u32, skipped: u8, value: u32| SockFilter::new(code as u16, 0, skipped, value);
    // A filter of a UDP socket sees the UDP header, 8 bytes, before the payload.
    let program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 8),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            u32::from_be_bytes(*b"ACK "),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&program)
}

/// Whether the datagram needs a reply.
fn is_invite(datagram: &[u8]) -> bool {
    datagram.first() == Some(&b'I')
}

/// One datagram per system call.
fn single(socket: &UdpSocket) -> io::Result<()> {
    let id_at = Template::invite(0).id_at();
    let mut reply = Template::fixed_reply(0);
    let mut buffer = [0; 2_048];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        let datagram = &buffer[..length];
        if is_invite(datagram) {
            reply.copy_id(datagram, id_at);
            socket.send_to(reply.bytes(), peer)?;
        }
    }
}

/// Up to a batch of datagrams per system call.
fn batched(socket: &UdpSocket) -> io::Result<()> {
    let id_at = Template::invite(0).id_at();
    let mut replies = vec![Template::fixed_reply(0); BATCH];
    let mut receiver = Receiver::new();
    loop {
        receiver.receive(socket)?;
        let datagrams: smallvec::SmallVec<[_; BATCH]> = receiver
            .datagrams()
            .filter(|(datagram, _)| is_invite(datagram))
            .zip(&mut replies)
            .map(|((datagram, peer), reply)| {
                reply.copy_id(datagram, id_at);
                (reply.bytes(), Some(peer.into()))
            })
            .collect();
        let mut rest = datagrams.as_slice();
        while !rest.is_empty() {
            let sent = batch::send(socket, rest)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
}

/// The replies to one peer as one datagram that the kernel cuts into pieces.
fn segmented(socket: &UdpSocket) -> io::Result<()> {
    let id_at = Template::invite(0).id_at();
    let mut reply = Template::fixed_reply(0);
    let size = i32::try_from(reply.bytes().len()).map_err(io::Error::other)?;
    setsockopt(socket, sockopt::UdpGsoSegment, &size)?;
    let mut replies: Vec<u8> = Vec::with_capacity(65_536);
    let mut to: Option<SocketAddrV4> = None;
    let mut receiver = Receiver::new();
    loop {
        receiver.receive(socket)?;
        for (datagram, peer) in receiver.datagrams() {
            if !is_invite(datagram) {
                continue;
            }
            if let Some(other) = to.filter(|to| *to != peer) {
                socket.send_to(&replies, other)?;
                replies.clear();
            }
            to = Some(peer);
            reply.copy_id(datagram, id_at);
            replies.extend_from_slice(reply.bytes());
        }
        if let Some(peer) = to.take() {
            socket.send_to(&replies, peer)?;
            replies.clear();
        }
    }
}
