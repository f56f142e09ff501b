//! Who calls and who is called, read by the rules of the peer that says so.

use ringback_routing::{Caller, Directory, E164, Environment, NumberRulesRef};
use ringback_sip_proto::{IdentitySource, Message, NumberText};
use smallvec::SmallVec;

use crate::peers::{DialedSource, Peer};

/// The dialed number: of the peer's sources the first that names a number of ours, else the first that reads
/// as one. `request_uri` is what the request URI's user names.
///
/// Without a country of the peer it needs `+` or the international prefix, or that the peer sends E.164 without
/// plus: nobody knows yet whose number it is.
pub(crate) fn dialed(
    message: &Message<'_>,
    request_uri: NumberText,
    peer: &Peer,
    directory: &Directory,
) -> Option<E164> {
    let is_ours = |number: &E164| directory.number(*number).is_some();
    let mut numbers = dialed_numbers(message, request_uri, peer, peer.rules.borrowed());
    let first = numbers.next()?;
    if is_ours(&first) {
        return Some(first);
    }
    Some(numbers.find(is_ours).unwrap_or(first))
}

/// The dialed number of an outbound call: the first that reads as one, in the agent's environment.
pub(crate) fn dialed_outbound(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> Option<E164> {
    let request_uri = message.request_uri_number()?;
    dialed_numbers(message, request_uri, peer, rules(peer, environment)).next()
}

/// The caller: of each source in the peer's order the first value that reads as a number, else the
/// class of the last source that was there. Where nothing says who calls, the caller is anonymous.
pub(crate) fn caller(
    message: &Message<'_>,
    peer: &Peer,
    environment: Option<&Environment>,
) -> Caller {
    let rules = rules(peer, environment);
    let mut class = Caller::Anonymous;
    for &source in &peer.identity_order {
        for text in message.caller(source) {
            class = rules.read_user(text.as_str(), b"");
            if class.number().is_some() {
                return class;
            }
        }
        if source == IdentitySource::From && class == Caller::Invalid && is_withheld(message) {
            class = Caller::Anonymous;
        }
    }
    class
}

/// The rules of a peer; what they leave open is as in the environment, if one is known.
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

/// What the peer's sources of the dialed number say, as far as it reads as numbers.
fn dialed_numbers<'m>(
    message: &'m Message<'m>,
    request_uri: NumberText,
    peer: &'m Peer,
    rules: NumberRulesRef<'m>,
) -> impl Iterator<Item = E164> + use<'m> {
    peer.dialed_order
        .iter()
        .flat_map(move |source| {
            let (uri, header) = match source {
                DialedSource::RequestUri => (Some(request_uri), None),
                DialedSource::Header(name) => (None, Some(message.header_numbers(name))),
            };
            uri.into_iter().chain(header.into_iter().flatten())
        })
        .filter_map(move |text| {
            let dialed = without_prefixes(text.as_str(), &peer.strip_prefixes);
            rules.read_user(dialed, b"").number()
        })
}

/// The text without the prefixes that stand one behind another at its start, each taken off once; `prefixes` are
/// longest first.
fn without_prefixes<'t>(mut text: &'t str, prefixes: &[Box<str>]) -> &'t str {
    let mut taken: SmallVec<[usize; 4]> = SmallVec::new();
    loop {
        let next = prefixes.iter().enumerate().find_map(|(index, prefix)| {
            let rest = text.strip_prefix(&**prefix)?;
            (!taken.contains(&index)).then_some((index, rest))
        });
        let Some((index, rest)) = next else {
            return text;
        };
        taken.push(index);
        text = rest.trim_start_matches(is_visual_separator);
    }
}

/// Whether the character only groups digits (RFC 3966 §3).
const fn is_visual_separator(letter: char) -> bool {
    matches!(letter, ' ' | '-' | '.' | '(' | ')')
}

/// Whether the display name of `From` is a word like "Anonymous": that, and a URI that means
/// nothing, is how a caller stays unknown (RFC 3261 §8.1.1.3).
fn is_withheld(message: &Message<'_>) -> bool {
    let Ok(from) = message.from() else {
        return false;
    };
    let name = from.display_name().trim_ascii();
    !name.is_empty() && NumberRulesRef::default().read_user(name, b"") == Caller::Anonymous
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_one_behind_another_are_taken_off_once_each() {
        for (prefixes, text, number) in [
            (&["1234#", "9"][..], "1234#9+493023125142", "+493023125142"),
            (&["1234#", "9"], "91234#03023125142", "03023125142"),
            (
                &["1234#", "9"],
                "1234# 9-+49 30 23125142",
                "+49 30 23125142",
            ),
            (&["1234#", "9"], "9911", "911"),
            (&["1234#", "9"], "+493023125142", "+493023125142"),
            (&["99", "9"], "999011", "011"),
            (&["*31*", "0", "9"], "*31*90004930", "004930"),
            (&[], "1234#9", "1234#9"),
            (&["9"], "9", ""),
        ] {
            let prefixes: Vec<Box<str>> = prefixes.iter().map(|prefix| (*prefix).into()).collect();
            assert_eq!(without_prefixes(text, &prefixes), number, "{text}");
        }
    }
}
