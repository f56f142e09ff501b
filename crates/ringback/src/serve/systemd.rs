//! What a service manager wants to know (sd_notify(3)): ready, reloading, stopping, alive.
//!
//! Messages are datagrams to the socket named in `NOTIFY_SOCKET`; without one nobody wants to know.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The service manager, if there is one.
pub(super) struct ServiceManager {
    /// Where it listens, and from where we send.
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// When to say that the server is alive, where a watchdog waits for it.
    watchdog: Option<Interval>,
}

impl ServiceManager {
    /// The one that has started this process. Needs a Tokio runtime with time.
    pub(super) fn of_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
                None => SocketAddr::from_pathname(&name),
            };
            let opened = address.and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok((socket, address))
            });
            if let Err(error) = &opened {
                tracing::warn!(%error, "the service manager cannot be told anything");
            }
            opened.ok()
        });
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours =
            variable("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|micros| is_ours && *micros > 1 && socket.is_some())
            .map(|micros| {
                // Twice in the time allowed, as sd_watchdog_enabled(3) advises.
                let mut interval = interval(Duration::from_micros(micros / 2));
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                interval
            });
        Self { socket, watchdog }
    }

    /// The server serves, or serves again after a reload.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The server goes down.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The server is alive.
    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Waits until the watchdog should hear from us; without one, for ever.
    pub(super) async fn time_to_say_so(&mut self) {
        match &mut self.watchdog {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Sends a message.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}
