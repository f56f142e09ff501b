//! What listens where: no address is used twice, and something listens at all.

use std::net::SocketAddr;

use super::Spec;
use super::fault::Faults;

/// An address under a key.
struct Listener<'a> {
    /// The list.
    key: &'static str,
    /// Where in the list.
    index: usize,
    /// As it is written.
    text: &'a str,
    /// As it is read.
    address: SocketAddr,
    /// Whether it takes a UDP port.
    udp: bool,
    /// Whether it takes a TCP port.
    tcp: bool,
}

/// Reports every listener that cannot be opened because another one has its port, and a
/// configuration in which nothing listens. Addresses that cannot be read are reported elsewhere.
pub(super) fn check(spec: &Spec, faults: &mut Faults<'_>) {
    let lists = [
        ("sip.udp", &spec.sip.udp, true, true),
        ("sip.tcp", &spec.sip.tcp, false, true),
        ("sip.tls.listen", &spec.sip.tls.listen, false, true),
        ("sip.hep.listen", &spec.sip.hep.listen, true, true),
        ("http.listen", &spec.http.listen, false, true),
        ("http.tls.listen", &spec.http.tls.listen, false, true),
    ];
    if lists.iter().all(|(_, list, ..)| list.is_empty()) {
        faults.add("sip.udp", "nothing listens: give at least one address");
    }
    let mut seen: Vec<Listener<'_>> = Vec::new();
    for (key, list, udp, tcp) in lists {
        for (index, text) in list.iter().enumerate() {
            let Ok(address) = text.parse() else {
                continue;
            };
            let listener = Listener {
                key,
                index,
                text,
                address,
                udp,
                tcp,
            };
            if let Some(other) = seen.iter().find(|other| other.collides_with(&listener)) {
                let message = format!(
                    "`{text}` is taken by {}[{}], `{}`",
                    other.key, other.index, other.text
                );
                faults.add(&format!("{key}[{index}]"), message);
            }
            seen.push(listener);
        }
    }
}

impl Listener<'_> {
    /// Whether both cannot be open at once.
    fn collides_with(&self, other: &Self) -> bool {
        let (one, two) = (self.address, other.address);
        // TCP listens beside UDP: naming the same address for TCP asks for nothing more.
        let same_pair = self.key == "sip.udp" && other.key == "sip.tcp" && one == two;
        let shares_protocol = (self.udp && other.udp) || (self.tcp && other.tcp);
        let shares_address = one.ip() == two.ip()
            || (one.is_ipv4() == two.is_ipv4()
                && (one.ip().is_unspecified() || two.ip().is_unspecified()));
        one.port() == two.port()
            && one.port() != 0
            && shares_protocol
            && shares_address
            && !same_pair
    }
}
