//! The caller and the dialed number of a message, read by the rules of its peer.

use ringback_routing::{
    Attestation, Caller, DialedNumber, Directory, E164, Environment, NumberRulesRef, WrittenNumber,
};
use ringback_sip_proto::{Identity, Invite, Message};

use crate::peers::{DialedSource, Peer};

/// The dialed number: the first of the peer's sources that reads as a number.
///
/// Without a country of the peer the number needs `+` or the international prefix, unless the peer sends E.164
/// without plus: its environment is not known yet.
pub(crate) fn first_dialed(invite: &Invite<'_>, peer: &Peer) -> Option<E164> {
    dialed_of_invite(invite, peer).next()
}

/// If the first number is not ours: the first number of the peer's further sources that is.
pub(crate) fn further_dialed<'d>(
    invite: &Invite<'_>,
    peer: &Peer,
    directory: &'d Directory,
) -> Option<(E164, DialedNumber<'d>)> {
    // Nearly all peers have no further source.
    if matches!(*peer.dialed_order, [DialedSource::RequestUri]) {
        return None;
    }
    dialed_of_invite(invite, peer)
        .skip(1)
        .find_map(|number| Some((number, directory.dialed(number)?)))
}

/// Whether one of the dialed numbers in the peer's sources is ours.
pub(crate) fn is_for_us(message: &Message<'_>, peer: &Peer, directory: &Directory) -> bool {
    let request_uri = message.request_uri_identity(&peer.strip_prefixes);
    request_uri.is_some_and(|request_uri| {
        dialed_numbers(message, request_uri, peer, peer.rules.borrowed())
            .any(|number| directory.dialed(number).is_some())
    })
}

/// The dialed number of an outbound call: the first source that reads as a number by the rules of the agent's
/// environment.
pub(crate) fn dialed_outbound(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> Option<E164> {
    let request_uri = message.request_uri_identity(&peer.strip_prefixes)?;
    dialed_numbers(message, request_uri, peer, rules(peer, environment)).next()
}

/// The caller: the first value that reads as a number, in the order of the peer's sources; else the class of the
/// last source that was present. Without any source the caller is anonymous.
pub(crate) fn caller(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> Caller {
    let rules = rules(peer, environment);
    let mut class = Caller::Anonymous;
    for &source in &peer.identity_order {
        for identity in message.caller(source) {
            class = read(&identity, rules);
            if class.number().is_some() {
                return class;
            }
        }
    }
    class
}

/// Whether the caller's number is attested as high as the peer must. Costs nothing where the peer need not.
pub(crate) fn is_verified(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> bool {
    let Some(least) = peer.min_attestation else {
        return true;
    };
    // Only what a trusted peer says counts, as far as it speaks of the caller's number.
    let attestation = peer
        .trusts_identity
        .then(|| attestation(message, peer, environment));
    attestation.flatten() >= Some(least)
}

/// The attestation of the caller's number.
fn attestation(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> Option<Attestation> {
    let rules = rules(peer, environment);
    let sources = peer.identity_order.iter();
    let mut callers = sources.flat_map(|source| message.verified_caller(*source));
    let (_, verstat) = callers.find(|(identity, _)| read(identity, rules).number().is_some())?;
    Attestation::of_verstat(verstat?, || {
        let mut values = message.header("P-Attestation-Indicator");
        match (values.next(), values.next()) {
            (Some(value), None) => str::from_utf8(value.as_bytes()).ok()?.trim().parse().ok(),
            _ => None,
        }
    })
}

/// The rules of a peer, completed by those of the environment if it is known.
fn rules<'p>(peer: &'p Peer, environment: Option<&Environment>) -> NumberRulesRef<'p> {
    let mut rules = peer.rules.borrowed();
    if let Some(environment) = environment
        && rules.country.is_none()
    {
        rules.country = environment.default_country;
        if !peer.form_is_set {
            rules.form = environment.number_form;
        }
    }
    rules
}

/// The dialed numbers of an INVITE, by the peer's own rules.
fn dialed_of_invite<'m>(
    invite: &'m Invite<'m>,
    peer: &'m Peer,
) -> impl Iterator<Item = E164> + use<'m> {
    let request_uri = invite.request_uri_identity(&peer.strip_prefixes);
    dialed_numbers(invite.message(), request_uri, peer, peer.rules.borrowed())
}

/// The dialed numbers in the peer's sources that read as numbers. `request_uri` is the identity in the request
/// URI.
fn dialed_numbers<'m>(
    message: &'m Message<'m>,
    request_uri: Identity,
    peer: &'m Peer,
    rules: NumberRulesRef<'m>,
) -> impl Iterator<Item = E164> + use<'m> {
    peer.dialed_order
        .iter()
        .flat_map(move |source| {
            let (uri, header) = match source {
                DialedSource::RequestUri => (Some(request_uri), None),
                DialedSource::Header(name) => (
                    None,
                    Some(message.header_identities(name, &peer.strip_prefixes)),
                ),
            };
            uri.into_iter().chain(header.into_iter().flatten())
        })
        .filter_map(move |identity| read(&identity, rules).number())
}

/// Reads a number by these rules.
fn read(identity: &Identity, rules: NumberRulesRef<'_>) -> Caller {
    match identity {
        Identity::Number(digits) => rules.read(WrittenNumber {
            digits: digits.as_bytes(),
            plus: digits.has_plus(),
            context: digits.context(),
            bracketed_zero: digits.bracketed_zero(),
            may_go_on: digits.may_go_on(),
        }),
        Identity::Withheld | Identity::Nobody => Caller::Anonymous,
        Identity::Unreadable => Caller::Invalid,
    }
}
