//! Whether the addresses of the configuration can be listened on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::check::Check;
use crate::config::Config;

/// Binds each address, and lets go of it; `is_running`: a Ringback of this configuration may have them.
pub(super) fn check(config: &Config, is_running: bool) -> Vec<Check> {
    let mut taken = 0;
    let mut checks = Vec::new();
    let addresses = addresses(config);
    for (key, transport, address) in &addresses {
        let bound = match transport {
            Transport::Udp => UdpSocket::bind(address).map(|_| ()),
            Transport::Tcp => TcpListener::bind(address).map(|_| ()),
        };
        match bound {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_running => taken += 1,
            Err(error) => {
                let found = format!("{key}: {} {address}: {error}", transport.name());
                let todo = todo(&error, *transport, address.port());
                checks.push(Check::problem("ports", found, todo));
            }
        }
    }
    if checks.is_empty() {
        let found = match taken {
            0 => format!("{} addresses are free", addresses.len()),
            taken => format!(
                "{taken} of {} addresses are in use by the server that runs",
                addresses.len()
            ),
        };
        checks.push(Check::ok("ports", found));
    }
    checks
}

/// How an address is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl Transport {
    /// The word for it.
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// Every address that is listened on, with the key that names it.
fn addresses(config: &Config) -> Vec<(&'static str, Transport, SocketAddr)> {
    let mut all = Vec::new();
    for (key, has_udp, has_tcp, listed) in config.sip.listen_addresses() {
        for address in listed {
            if has_udp {
                all.push((key, Transport::Udp, *address));
            }
            if has_tcp {
                all.push((key, Transport::Tcp, *address));
            }
        }
    }
    let http = [
        ("http.listen", &config.http.listen),
        ("http.tls.listen", &config.http.tls_listen),
        ("http.health-listen", &config.http.health_listen),
    ];
    for (key, listed) in http {
        all.extend(listed.iter().map(|address| (key, Transport::Tcp, *address)));
    }
    all
}

/// What to do where an address cannot be listened on.
fn todo(error: &io::Error, transport: Transport, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let kind = if transport == Transport::Udp {
                "u"
            } else {
                "t"
            };
            format!(
                "Another program has it (`ss -ln{kind}p 'sport = :{port}'` names it): stop that, or take another port."
            )
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE: the unit of systemd gives it.".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "This machine has no such address: see `ip address`, or listen on 0.0.0.0.".to_owned()
        }
        _ => "Correct the address.".to_owned(),
    }
}
