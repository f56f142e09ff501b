//! The protocol of a listener's connections or packets.

use ringback_sip_proto::Transport;

use crate::observation::strangers::StrangerTransport;
use crate::policy::Source;

/// The protocol of connections to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// SIP over TCP or TLS.
    Sip(Transport),
    /// HEP.
    Hep,
}

impl Service {
    /// Whether a peer may use it.
    pub(crate) fn serves(self, source: &Source<'_>) -> bool {
        match self {
            Self::Sip(transport) => source.peer.transports.contains(transport),
            Self::Hep => source.peer.mirrors,
        }
    }
}

impl From<Service> for StrangerTransport {
    fn from(service: Service) -> Self {
        match service {
            Service::Sip(transport) => transport.into(),
            Service::Hep => Self::Hep,
        }
    }
}
