//! Datagrams that did not arrive: the system keeps what ICMP says about them in an error queue beside the socket
//! (RFC 3261 §18.4).
//!
//! The queue tells which request it was, because the beginning of the datagram is quoted. Besides, the next call on the
//! socket fails once, whatever it is about: it is repeated.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use ringback_sip_proxy::BranchName;

/// Has the system keep what it hears of datagrams that did not arrive. From then on
/// [`for_each_branch`] must be called whenever there is something, as it takes room from what is received.
pub(crate) fn watch(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(())
}

/// Empties the queue; calls `run` for every request of ours that did not arrive.
pub(crate) fn for_each_branch(socket: &UdpSocket, mut run: impl FnMut(BranchName)) {
    let mut quoted = [0; QUOTED];
    let mut control = nix::cmsg_space!([u8; CONTROL]);
    loop {
        let mut room = [IoSliceMut::new(&mut quoted)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let read =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut room, Some(&mut control), flags);
        let (length, nobody_is_there) = match read {
            Ok(message) => {
                let mut controls = message.cmsgs().into_iter().flatten();
                (message.bytes, controls.any(|control| is_gone(&control)))
            }
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if nobody_is_there
            && let Some(branch) = BranchName::of_request(quoted.get(..length).unwrap_or_default())
        {
            run(branch);
        }
    }
}

/// Does something with a socket again if it failed because of an earlier datagram.
pub(crate) fn repeated<T>(mut run: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..MOST_TRIES {
        match run() {
            Err(error) if may_be_of_another(error) => {}
            result => return result,
        }
    }
    run()
}

/// What receiving gave, where the system told that something had not arrived: then there may be no datagram.
pub(crate) fn received(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::EAGAIN) => Ok(()),
        Err(error) if may_be_of_another(error) => Ok(()),
        result => result,
    }
}

/// Sends a datagram, though an earlier one did not arrive.
pub(crate) fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> Result<usize, Errno> {
    repeated(|| {
        let sent = socket.send_to(bytes, to);
        sent.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    })
}

/// Whether an error of a socket may be about an earlier datagram.
fn may_be_of_another(error: Errno) -> bool {
    matches!(
        error,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EPROTO
            | Errno::EACCES
            | Errno::EMSGSIZE
    )
}

/// Whether nobody is there: the destination cannot be reached, for another reason than the length.
fn is_gone(control: &ControlMessageOwned) -> bool {
    let told: &sock_extended_err = match control {
        ControlMessageOwned::Ipv4RecvErr(told, _) | ControlMessageOwned::Ipv6RecvErr(told, _) => {
            told
        }
        _ => return false,
    };
    match told.ee_origin {
        SO_EE_ORIGIN_ICMP => told.ee_type == UNREACHABLE && told.ee_code != TOO_LONG,
        SO_EE_ORIGIN_ICMP6 => told.ee_type == UNREACHABLE_V6,
        _ => false,
    }
}

/// "Destination unreachable" in ICMP.
const UNREACHABLE: u8 = 3;

/// Its code for a datagram that was too long and must not be cut.
const TOO_LONG: u8 = 4;

/// "Destination unreachable" in ICMPv6.
const UNREACHABLE_V6: u8 = 1;

/// How much of a datagram is read; most systems quote about 520 bytes.
const QUOTED: usize = 1_280;

/// Room for what the system says besides: the error, who told it, and a time.
const CONTROL: usize = 256;

/// How often something is tried: another error may come in between.
const MOST_TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// A branch as it stands in a request.
    const BRANCH: &str = "z9hG4bKf00070123456789abcdef.000000000000002a";

    #[test]
    fn a_request_to_a_closed_port_is_told_and_the_next_one_is_sent() {
        for host in ["127.0.0.1", "[::1]"] {
            let any: SocketAddr = format!("{host}:0").parse().unwrap();
            let closed = UdpSocket::bind(any).unwrap().local_addr().unwrap();
            let open = UdpSocket::bind(any).unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            watch(&socket).unwrap();
            let invite = format!(
                "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch={BRANCH};rport\r\n\r\n"
            );
            send(&socket, invite.as_bytes(), closed).unwrap();
            send(&socket, b"next", open.local_addr().unwrap()).unwrap();
            let mut room = [0; 16];
            assert_eq!(open.recv(&mut room).unwrap(), 4);
            let mut told = Vec::new();
            for_each_branch(&socket, |branch| told.push(branch));
            let branch = BranchName {
                worker: 7,
                id: 0x0123_4567_89ab_cdef,
                loop_hash: 42,
            };
            assert_eq!(told, [branch]);
        }
    }
}
