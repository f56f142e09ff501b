//! A phone of an agent: it answers every call, until it is dropped.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::rsip::Method;
use ringback_sip_proto::{Message, Origin, Responder, Transport};

/// A phone.
pub(super) struct Phone {
    /// Where it is.
    address: SocketAddr,
    /// Tells its thread to end.
    is_off: Arc<AtomicBool>,
    /// Its thread.
    thread: Option<JoinHandle<()>>,
}

impl Phone {
    /// A phone that is switched on, on a free port.
    pub(super) fn on() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let address = socket.local_addr()?;
        let is_off = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_off);
        let serve = move || {
            let mut room = vec![0; MAX_DATAGRAM];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else {
                    continue;
                };
                for reply in replies(room.get(..length).unwrap_or_default(), from, address) {
                    // Whoever is gone needs no reply.
                    let _gone = socket.send_to(&reply, from);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("phone".to_owned())
            .spawn(serve)?;
        Ok(Self {
            address,
            is_off,
            thread: Some(thread),
        })
    }

    /// The URI of a phone that is switched off: a port where nobody listens.
    pub(super) fn off() -> io::Result<String> {
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        Ok(uri(address))
    }

    /// Its URI.
    pub(super) fn uri(&self) -> String {
        uri(self.address)
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.is_off.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// The URI of a phone.
fn uri(address: SocketAddr) -> String {
    format!("sip:field@{address}")
}

/// What a phone answers: it rings, and is taken off the hook at once.
fn replies(request: &[u8], from: SocketAddr, address: SocketAddr) -> Vec<Vec<u8>> {
    let origin = Origin {
        address: from,
        transport: Transport::Udp,
    };
    let Ok(message) = Message::parse(request, Framing::Datagram) else {
        return Vec::new();
    };
    let Verdict::Route(request) = check(&message, Role::Proxy) else {
        return Vec::new();
    };
    let statuses: &[(u16, &str)] = match request.method {
        Some(Method::Invite) => &[(180, "Ringing"), (200, "OK")],
        Some(Method::Ack) => &[],
        _ => &[(200, "OK")],
    };
    let contact = format!("Contact: <{}>\r\n", uri(address));
    // Nothing of this is secret.
    let responder = Responder::new([0; 16]);
    let reply = |status: &(u16, &str)| {
        let mut reply = Vec::new();
        responder.respond(
            &message,
            &request,
            origin,
            *status,
            contact.as_bytes(),
            &mut reply,
        );
        reply
    };
    statuses.iter().map(reply).collect()
}

/// How soon a phone notices that it is switched off.
const PATIENCE: Duration = Duration::from_millis(50);

/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_536;
