//! 3xx replies of targets that send a call on to a host that may be followed (RFC 3261 §16.7 step 4).

use std::cmp::Reverse;
use std::time::Duration;

use ringback_sip_proto::check::Request;
use ringback_sip_proto::message::{NameAddr, Value};
use ringback_sip_proto::{Message, Origin, Scheme, Uri};
use ringback_sip_proxy::Target;

use crate::forward::Forward;
use crate::forward::target::Sending;
use crate::policy::Policy;

impl Forward {
    /// The targets that a 3xx reply names and that may be followed, in the order of their `q`; `request` is the INVITE
    /// that the call came with.
    pub(super) fn followed(
        &self,
        reply: &Message<'_>,
        request: &Request<'_>,
        origin: Origin,
        (policy, now): (&Policy, Duration),
    ) -> Vec<Target> {
        let mut targets = Vec::new();
        let Some(source) = policy.source(origin.address.ip()) else {
            return targets;
        };
        let is_sips = request.uri.scheme() == Scheme::Sips;
        let mut contacts: Vec<(u16, &[u8])> = reply
            .header("Contact")
            .flat_map(Value::list)
            .filter_map(|value| {
                let contact = NameAddr::parse(value)?;
                let uri = contact.uri().ok()?;
                // RFC 5630 §3.3: what was secure stays so.
                let is_secure_enough = uri.scheme() == Scheme::Sips || !is_sips;
                let may_go = is_secure_enough && may_follow(&uri, &policy.forward.follow);
                may_go.then(|| (preference(contact.params().get("q")), contact.uri_bytes()))
            })
            .collect();
        contacts.sort_by_key(|(preference, _)| Reverse(*preference));
        for (_, uri) in contacts {
            let sending = Sending {
                sender: source.peer,
                call_id: request.call_id,
                policy,
                names: &self.names,
                now,
            };
            self.ways.add_targets(uri, sending, &mut targets);
        }
        for target in &mut targets {
            target.is_followed = true;
            if source.peer.records_route {
                self.record_route(request, origin, target);
            }
        }
        targets
    }
}

/// Whether a call may go to the host of a URI.
fn may_follow(uri: &Uri<'_>, hosts: &[Box<str>]) -> bool {
    // It would name another host than the one that is seen.
    let host = uri.host().filter(|_| uri.param("maddr").is_none());
    host.is_some_and(|host| {
        let is_it = |allowed: &str| host.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        hosts.iter().any(|allowed| is_it(allowed))
    })
}

/// The `q` of a contact in thousandths; 1 where there is none (RFC 3261 §20.10 leaves that open).
fn preference(q: Option<&[u8]>) -> u16 {
    let text = q.and_then(|q| std::str::from_utf8(q).ok());
    let share = text.and_then(|text| text.parse::<f32>().ok());
    // What is out of bounds, or no number, is brought into them.
    share.map_or(1_000, |share| (share.clamp(0.0, 1.0) * 1_000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_followed_only_if_it_is_listed() {
        let hosts = ["gw.example.net".into(), "[2001:db8::5]".into()];
        for (uri, expected) in [
            ("sip:1@gw.example.net", true),
            ("sip:1@GW.Example.Net:5070;transport=tcp", true),
            ("sips:1@gw.example.net", true),
            ("sip:1@[2001:db8::5]:5062", true),
            ("sip:1@other.example.net", false),
            ("sip:gw.example.net@evil.example", false),
            ("sip:1@gw.example.net;maddr=192.0.2.9", false),
        ] {
            let uri = Uri::parse(uri.as_bytes()).unwrap();
            assert_eq!(may_follow(&uri, &hosts), expected, "{:?}", uri.as_bytes());
        }
    }

    #[test]
    fn a_preference_is_within_its_bounds() {
        for (q, expected) in [
            (None, 1_000),
            (Some("0.5"), 500),
            (Some("1"), 1_000),
            (Some("0"), 0),
            (Some("-1"), 0),
            (Some("7"), 1_000),
            (Some("NaN"), 0),
            (Some("x"), 1_000),
        ] {
            assert_eq!(preference(q.map(str::as_bytes)), expected, "{q:?}");
        }
    }
}
