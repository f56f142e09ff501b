//! Who calls and who is called, read by the rules of the peer that says so.

use ringback_routing::{Caller, Country, E164, NumberRules};
use ringback_sip_proto::{IdentitySource, Message, NumberText};

use crate::peers::Peer;

/// The dialed number: of the request URI's user and the peer's header the first that reads as one.
///
/// Without a country of the peer it needs `+` or the international prefix: nobody knows yet whose
/// number it is.
pub(crate) fn dialed(
    mut candidates: impl Iterator<Item = NumberText>,
    peer: &Peer,
) -> Option<E164> {
    candidates.find_map(|text| read(text.as_str(), peer, peer.rules.country).number())
}

/// The caller: of each source in the peer's order the first value that reads as a number, else the
/// class of the last source that was there. Where nothing says who calls, the caller is anonymous.
pub(crate) fn caller(message: &Message<'_>, peer: &Peer, country: Option<Country>) -> Caller {
    let country = peer.rules.country.or(country);
    let mut class = Caller::Anonymous;
    for &source in &peer.identity_order {
        for text in message.caller(source) {
            class = read(text.as_str(), peer, country);
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

/// Reads a number by the rules of a peer, but in this country.
pub(crate) fn read(text: &str, peer: &Peer, country: Option<Country>) -> Caller {
    let prefix = peer.rules.international_prefix.as_deref();
    NumberRules::read_user_with(text, b"", country, prefix)
}

/// Whether the display name of `From` is a word like "Anonymous": that, and a URI that means
/// nothing, is how a caller stays unknown (RFC 3261 §8.1.1.3).
fn is_withheld(message: &Message<'_>) -> bool {
    let Ok(from) = message.from() else {
        return false;
    };
    let name = from.display_name().trim_ascii();
    !name.is_empty() && NumberRules::read_user_with(name, b"", None, None) == Caller::Anonymous
}
