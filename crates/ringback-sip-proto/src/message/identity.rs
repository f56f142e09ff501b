//! Who a URI, a header value or a text names: the one door for numbers, whether they come over SIP, over HTTP or out
//! of a file.
//!
//! What stands around a number is taken off here: name-addrs (RFC 3261 §20.10), `sip:`, `sips:` and `tel:` URIs
//! (RFC 3261 §19.1, RFC 3966), escapes, what spreadsheets put around it, visual separators, and what is dialed after
//! it. What the digits mean in a country is for whoever knows the country. Texts borrow nothing and allocate nothing.

mod digits;
mod text;

use super::header::{HeaderLines, HeaderName, Values};
use super::name_addr::NameAddr;
use super::value::{List, Value};
use super::{Message, StartLine};
use crate::lex;
use crate::uri::{Scheme, Uri, reads_as};

pub use digits::Digits;
use text::{Unescaped, Unwrapped};

/// Who is named.
///
/// Numbers have the forms `+5511987654321`, `005511987654321`, `tel:+55-11-98765-4321`,
/// `sip:+5511987654321@gw;user=phone`, `"Bob" <sip:...>` and, with a country, as dialed within it. What spreadsheets
/// make of them is read too: a leading apostrophe, `="+5511987654321"`, a decimal ending of zeros
/// (`493023125142.0`). What is dialed after the number is left out: `,`, `;ext=`, `;postd=`, `w` and `p` with digits
/// behind them, and extensions (`x123`, `ext. 123`, `#123`, `ramal 123`), their digits missing or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A number, if whoever knows the country can read its digits.
    Number(Digits),
    /// Somebody who withholds the number: the host `anonymous.invalid` (RFC 3323 §4.1.1.3), words such as
    /// `anonymous`, `restricted`, `private`, `unavailable`, `out of area`, and, as RFC 3261 §8.1.1.3 wants it, an
    /// unreadable URI whose display name is such a word.
    Withheld,
    /// Nobody: an empty text, or a URI without a user part.
    Nobody,
    /// All else: letters, service codes with `*` or `#`, fractions and exponents (`4.93E+11`), two numbers in one
    /// text, broken brackets and quotes.
    Unreadable,
}

impl Identity {
    /// Who a text names that somebody typed or a program exported: a number, a URI or a name-addr.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Self {
        if let Some(digits) = Digits::plain(text) {
            return Self::Number(digits);
        }
        if text.len() > MAX_TEXT_BYTES {
            return Self::Unreadable;
        }
        Self::from_trimmed(text::without_spreadsheet(text))
    }

    /// Who a header value names: a name-addr, a URI or bare text. Without brackets parameters are the header's
    /// (RFC 3261 §20).
    #[must_use]
    pub fn from_value(value: Value<'_>) -> Self {
        Self::from_value_without(value, NO_PREFIXES)
    }

    /// Who a URI names, prefixes taken off its user.
    pub(crate) fn from_uri_without(uri: &Uri<'_>, prefixes: &[Box<str>]) -> Self {
        if uri.scheme() == Scheme::Other {
            return Self::from_broken(uri.as_bytes(), prefixes);
        }
        let host = uri.host().map_or(&b""[..], |host| host.as_bytes());
        if text::is_anonymous_host(host) {
            return Self::Withheld;
        }
        // Behind a number of `tel:` another may stand, as in a list of numbers.
        let is_list =
            |(name, value): (&[u8], Option<&[u8]>)| value.is_none() && text::is_list(name);
        match uri.user() {
            Some(_) if uri.scheme() == Scheme::Tel && uri.params().any(is_list) => Self::Unreadable,
            Some(user) => {
                let context = || uri.param("phone-context").unwrap_or_default();
                Self::from_user(user, context, prefixes)
            }
            // Some write the number alone: no host consists of digits.
            None if !host.is_empty() && host.iter().all(u8::is_ascii_digit) => {
                Self::from_user(host, || b"", prefixes)
            }
            None => Self::Nobody,
        }
    }

    /// Who a header value names, prefixes taken off.
    fn from_value_without(value: Value<'_>, prefixes: &[Box<str>]) -> Self {
        if let Some(address) = NameAddr::parse_any_name(value) {
            return Self::from_name_addr(&address, prefixes);
        }
        let bytes = value.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let text = lex::trim(lex::head(bytes, end));
        if text.len() > MAX_TEXT_BYTES {
            return Self::Unreadable;
        }
        Self::from_unbracketed(text, prefixes)
    }

    /// Who a name-addr names. A readable number is the number, whatever its display name.
    fn from_name_addr(address: &NameAddr<'_>, prefixes: &[Box<str>]) -> Self {
        Self::from_address(address.uri_bytes(), prefixes).named(address.display_name())
    }

    /// Who a text without white space around it names.
    fn from_trimmed(text: &[u8]) -> Self {
        let address =
            lex::find(b'<', text).and_then(|_| NameAddr::parse_any_name(Value::trimmed(text)));
        match address {
            Some(address) => Self::from_name_addr(&address, NO_PREFIXES),
            None => Self::from_unbracketed(text, NO_PREFIXES),
        }
    }

    /// Who a text names that is no name-addr as RFC 3261 writes it.
    fn from_unbracketed(text: &[u8], prefixes: &[Box<str>]) -> Self {
        match text::unwrap(text) {
            Unwrapped::Address(address, display_name) => {
                Self::from_address(address, prefixes).named(display_name)
            }
            Unwrapped::Broken => Self::Unreadable,
        }
    }

    /// Who the text of a URI names, or bare text.
    fn from_address(address: &[u8], prefixes: &[Box<str>]) -> Self {
        match Uri::parse(address) {
            Ok(uri) => Self::from_uri_without(&uri, prefixes),
            Err(_) => Self::from_broken(address, prefixes),
        }
    }

    /// Who a text names that is no URI that we read: a user is read whatever is wrong with the host behind it.
    fn from_broken(address: &[u8], prefixes: &[Box<str>]) -> Self {
        let rest = text::without_sip_scheme(address);
        if rest.is_some() || lex::find(b'@', address).is_some() {
            return Self::from_broken_sip(rest.unwrap_or(address), prefixes);
        }
        if text::is_anonymous_host(address) {
            return Self::Withheld;
        }
        let user = text::without_number_scheme(address).unwrap_or(address);
        Self::from_user(user, || b"", prefixes)
    }

    /// Who a broken SIP URI without its scheme names.
    fn from_broken_sip(address: &[u8], prefixes: &[Box<str>]) -> Self {
        // An `@` within the user part is escaped: more than one leave open where it ends.
        if let (user, Some(host)) = lex::split_once(address, b'@') {
            if text::is_anonymous_host(host) {
                return Self::Withheld;
            }
            if lex::find(b'@', host).is_some() {
                return Self::Unreadable;
            }
            return Self::from_user(user, || b"", prefixes);
        }
        // Without a user part there is only a host; but none starts with a plus.
        let end = address
            .iter()
            .position(|byte| b";?".contains(byte))
            .unwrap_or(address.len());
        match address.get(..end) {
            Some(number @ [b'+', ..]) => Self::from_user(number, || b"", prefixes),
            _ => Self::Nobody,
        }
    }

    /// Who a user part names, with its parameters and password if it has any. `context` is the `phone-context` that
    /// stands elsewhere in the URI.
    fn from_user<'c>(
        user: &'c [u8],
        context: impl FnOnce() -> &'c [u8],
        prefixes: &[Box<str>],
    ) -> Self {
        if prefixes.is_empty()
            && let Some(digits) = Digits::plain(user)
        {
            return Self::Number(digits);
        }
        let (name, params) = text::split_user(user);
        if name.len() > MAX_USER_BYTES || text::is_list(params) {
            return Self::Unreadable;
        }
        let own_context =
            params.split(|&byte| byte == b';').find_map(|param| {
                match lex::split_once(param, b'=') {
                    (name, Some(value)) if reads_as(name.trim_ascii(), "phone-context") => {
                        Some(value)
                    }
                    _ => None,
                }
            });
        let unescaped;
        let name = if lex::find(b'%', name).is_some() || lex::find(b'"', name).is_some() {
            let Some(name) = Unescaped::decode(name) else {
                return Self::Unreadable;
            };
            unescaped = name;
            unescaped.as_bytes()
        } else {
            name.trim_ascii()
        };
        if name.is_empty() {
            return Self::Nobody;
        }
        let number = text::without_prefixes(name, prefixes);
        match Digits::read(number) {
            Some(digits) if digits.has_plus() => Self::Number(digits),
            Some(digits) => {
                let context = own_context.unwrap_or_else(context);
                match digits.within(context) {
                    Some(digits) => Self::Number(digits),
                    None => Self::Unreadable,
                }
            }
            None if text::is_withheld(name) => Self::Withheld,
            None => Self::Unreadable,
        }
    }

    /// The same with this display name: a word like "Anonymous", and a URI that means nothing, is how a caller stays
    /// unknown (RFC 3261 §8.1.1.3).
    fn named(self, display_name: &[u8]) -> Self {
        match self {
            Self::Unreadable if text::is_withheld(display_name) => Self::Withheld,
            identity => identity,
        }
    }
}

/// Where the caller's number is read, in the order of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// `P-Asserted-Identity` (RFC 3325), from peers trusted for it.
    PAssertedIdentity,
    /// `Remote-Party-ID`, likewise.
    RemotePartyId,
    /// `From`.
    From,
    /// `P-Preferred-Identity` (RFC 3325 §9.2): what a user agent asks to be asserted.
    PPreferredIdentity,
    /// `Diversion` (RFC 5806): who was called before and has diverted the call, the latest first.
    Diversion,
}

impl IdentitySource {
    /// The header it is: one that is indexed, or another.
    const fn header(self) -> (Option<HeaderName>, Option<&'static str>) {
        match self {
            Self::PAssertedIdentity => (Some(HeaderName::PAssertedIdentity), None),
            Self::RemotePartyId => (Some(HeaderName::RemotePartyId), None),
            Self::From => (Some(HeaderName::From), None),
            Self::PPreferredIdentity => (None, Some("P-Preferred-Identity")),
            Self::Diversion => (None, Some("Diversion")),
        }
    }
}

impl<'m> Message<'m> {
    /// What a source says about the caller: every value of every line, in order; of `Remote-Party-ID` those that are
    /// not of the party called.
    ///
    /// Nothing if the header is not there.
    pub fn caller(&self, source: IdentitySource) -> impl Iterator<Item = Identity> + use<'m> {
        let mut callers = Callers {
            lines: self.source_lines(source),
            values: None,
            source,
        };
        std::iter::from_fn(move || callers.next().map(Identity::from_value))
    }

    /// The same with the verification status that stands in the URI of the value (`verstat`), if there is one.
    pub fn verified_caller(
        &self,
        source: IdentitySource,
    ) -> impl Iterator<Item = (Identity, Option<&'m [u8]>)> + use<'m> {
        let mut callers = Callers {
            lines: self.source_lines(source),
            values: None,
            source,
        };
        std::iter::from_fn(move || {
            let value = callers.next()?;
            Some((Identity::from_value(value), verstat(value)))
        })
    }

    /// The lines of a source.
    fn source_lines(&self, source: IdentitySource) -> SourceLines<'m> {
        match source.header() {
            (Some(name), _) => SourceLines::Indexed(self.known(name)),
            (None, name) => SourceLines::Other(self.lines(), name.unwrap_or_default()),
        }
    }

    /// Who the request URI names, without the prefixes that stand one behind another before a dialed number, each
    /// taken off once; longest first. `None` of anything but a request that can be read.
    #[must_use]
    pub fn request_uri_identity(&self, prefixes: &[Box<str>]) -> Option<Identity> {
        match self.start() {
            StartLine::Request { uri, .. } => Some(Identity::from_address(uri, prefixes)),
            _ => None,
        }
    }

    /// Who each value of a header names, without such prefixes.
    pub fn header_identities<'n>(
        &self,
        name: &'n str,
        prefixes: &'n [Box<str>],
    ) -> impl Iterator<Item = Identity> + use<'m, 'n> {
        self.header(name)
            .flat_map(Value::list)
            .map(move |value| Identity::from_value_without(value, prefixes))
    }
}

/// What a source says about the caller, value by value: small, because one is made for every call.
struct Callers<'m> {
    /// The lines that are still to be read.
    lines: SourceLines<'m>,
    /// What is left of the line that is being read.
    values: Option<List<'m>>,
    /// The source.
    source: IdentitySource,
}

/// The lines of a source.
enum SourceLines<'m> {
    /// Of a header that is indexed.
    Indexed(Values<'m>),
    /// Of another one, of this name, among all lines.
    Other(HeaderLines<'m>, &'static str),
}

impl<'m> Callers<'m> {
    /// The next value.
    fn next(&mut self) -> Option<Value<'m>> {
        loop {
            if let Some(value) = self.values.as_mut().and_then(Iterator::next) {
                if self.source == IdentitySource::RemotePartyId && is_of_called(value) {
                    continue;
                }
                return Some(value);
            }
            let line = match &mut self.lines {
                SourceLines::Indexed(values) => values.next()?,
                SourceLines::Other(lines, name) => {
                    lines.find(|line| line.is_named(name.as_bytes()))?.value
                }
            };
            self.values = Some(line.list());
        }
    }
}

/// The parameter `verstat` of the URI of a value, or of the number in it; `None` where there is none, or two. What a
/// display name says is not looked at.
fn verstat(value: Value<'_>) -> Option<&[u8]> {
    let bytes = value.as_bytes();
    let uri = match NameAddr::parse_any_name(value) {
        Some(address) => address.uri_bytes(),
        // A display name stands before a bracket.
        None if lex::find(b'"', bytes).is_some() => return None,
        None => bytes,
    };
    let (uri, _headers) = lex::split_once(uri, b'?');
    let mut found = uri
        .split(|&byte| matches!(byte, b';' | b'@'))
        .filter_map(|param| match lex::split_once(param, b'=') {
            (name, Some(value)) if reads_as(name.trim_ascii(), "verstat") => {
                Some(value.trim_ascii())
            }
            _ => None,
        });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Whether a value of `Remote-Party-ID` tells of the party called.
fn is_of_called(value: Value<'_>) -> bool {
    NameAddr::parse(value)
        .and_then(|address| address.params().get("party"))
        .is_some_and(|party| party.eq_ignore_ascii_case(b"called"))
}

/// Where nothing is taken off.
const NO_PREFIXES: &[Box<str>] = &[];

/// The longest text that is looked at: a name-addr with its parameters may be long.
const MAX_TEXT_BYTES: usize = 2_048;

/// The longest user part that is read.
const MAX_USER_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// An identity in short: digits with their plus, then their context, or `withheld`, `nobody`, `unreadable`.
    fn shown(identity: Identity) -> String {
        match identity {
            Identity::Number(digits) => format!("{digits:?}"),
            Identity::Withheld => "withheld".to_owned(),
            Identity::Nobody => "nobody".to_owned(),
            Identity::Unreadable => "unreadable".to_owned(),
        }
    }

    #[test]
    fn a_verification_status_stands_in_the_uri_alone() {
        for (text, expected) in [
            (
                "<tel:+5511987654321;verstat=TN-Validation-Passed-A>",
                Some("TN-Validation-Passed-A"),
            ),
            ("<sip:+5511987654321;verstat=x@gw;user=phone>", Some("x")),
            ("<sip:+5511987654321@gw;VerStat=x>;party=calling", Some("x")),
            // A URI with a semicolon has to be in brackets (RFC 3261 §20).
            ("sip:+5511987654321;verstat=x@gw", None),
            ("<sip:+5511987654321@gw?verstat=x>", None),
            ("<sip:+5511987654321@gw>;verstat=x", None),
            ("\";verstat=x;\" <sip:+5511987654321@gw>", None),
            ("\";verstat=x;\" sip:+5511987654321@gw", None),
            ("<sip:+5511987654321;verstat=x@gw;verstat=y>", None),
            ("<sip:+5511987654321@gw>", None),
        ] {
            let value = Value::trimmed(text.as_bytes());
            assert_eq!(verstat(value), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn header_values_of_every_shape_name_somebody() {
        for (text, expected) in [
            ("<sip:+5511987654321@gw;user=phone>", "+5511987654321"),
            ("sip:+5511987654321@gw", "+5511987654321"),
            (
                "\"X\" <tel:+55-11-98765-4321>;party=calling",
                "+5511987654321",
            ),
            (
                "<tel:11987654321;phone-context=+55>",
                "11987654321 within +55",
            ),
            ("<tel:7042;phone-context=example.com>", "7042"),
            ("<tel:7042;phone-context=+>", "unreadable"),
            ("<tel:+1201;phone-context=+55>", "+1201"),
            (
                "<sip:11987;phone-context=+5-5;x=y@gw;user=phone>",
                "11987 within +55",
            ),
            ("<sip:%2B5511@gw>", "+5511"),
            ("<tel:11987;%70hone-context=%2B5-5>", "11987 within +55"),
            ("<sip:11987;phone-conte%78t=+55@gw>", "11987 within +55"),
            ("<sip:+5511987654321@[fe80::1%eth0]>", "+5511987654321"),
            ("<sip:+5511987654321@fe80::1%eth0>", "+5511987654321"),
            (
                "<sip:+5511987654321@b\u{fc}ro.example.com>",
                "+5511987654321",
            ),
            ("<sip:+5511987654321@my_gw.example.com>", "+5511987654321"),
            ("<sip:+5511987654321:x@>", "+5511987654321"),
            ("\"B <sip:+5511987654321@gw>", "+5511987654321"),
            ("<+5511987654321>", "+5511987654321"),
            ("<sip:5511987654321>", "5511987654321"),
            ("<sip:+5511@a@b>", "unreadable"),
            ("<tel:+5511@a>", "unreadable"),
            ("<sip:+5511:secret@gw>", "+5511"),
            ("<sip:0049%20(0)30%20123@gw>", "0049030123"),
            ("+5511987654321", "+5511987654321"),
            ("\"5511\";x=y", "5511"),
            ("tel:5511;phone-context=+1", "5511"),
            ("<sip:anonymous@anonymous.invalid>", "withheld"),
            ("<sip:+5511@Anonymous.Invalid>", "withheld"),
            ("<sip:x@anonymous.invalid.:5060>", "withheld"),
            ("<sip:gw.example.com>", "nobody"),
            ("<sip:@gw>", "nobody"),
            ("<sip:>", "nobody"),
            ("<sip:192.0.2.1>", "nobody"),
            ("<isbn:2983792873>", "unreadable"),
            ("<sip:a%0Ab@h>", "unreadable"),
            ("<sip:bob@h>", "unreadable"),
            ("\"Anonymous\" <sip:bob@h>", "withheld"),
            ("\"Anonymous\" <sip:+5511@h>", "+5511"),
            ("Restricted", "withheld"),
        ] {
            let read = Identity::from_value(Value::new(text.as_bytes()));
            assert_eq!(shown(read), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_read_as_header_values_are_and_parameters_belong_to_their_uri() {
        for (text, expected) in [
            ("tel:11987;phone-context=+55", "11987 within +55"),
            ("11987;phone-context=+55", "11987 within +55"),
            ("'+5511987654321", "+5511987654321"),
            ("=\"+5511987654321\"", "+5511987654321"),
            ("\u{feff}<sip:+5511987654321@gw>", "+5511987654321"),
            ("tel:+55 11 98765,,1", "+551198765"),
            ("tel:+5511987654321;5511987654322", "unreadable"),
            ("sip:+55 11@gw", "+5511"),
            ("Anonymous <sip:bob@gw>", "withheld"),
            ("anonymous.invalid", "withheld"),
            ("", "nobody"),
            ("<>", "nobody"),
            ("tel:", "nobody"),
        ] {
            assert_eq!(
                shown(Identity::from_text(text.as_bytes())),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn prefixes_are_taken_off_users_and_bare_texts() {
        let prefixes: [Box<str>; 2] = ["1234#".into(), "9".into()];
        for text in [
            "<sip:1234%239+5511987654321@gw>",
            "<sip:9+5511987654321@gw>;tag=1",
            "<tel:9+5511987654321>",
            "9 +5511987654321",
            "+5511987654321",
        ] {
            let value = Value::new(text.as_bytes());
            let read = Identity::from_value_without(value, &prefixes);
            assert_eq!(shown(read), "+5511987654321", "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_unreadable() {
        let fits = "1".repeat(Digits::CAPACITY);
        let read = |text: &str| shown(Identity::from_text(text.as_bytes()));
        assert_eq!(read(&fits), fits);
        assert_eq!(read(&format!("{fits}1")), "unreadable");
        assert_eq!(read(&format!("{fits};phone-context=+1")), "unreadable");
        assert_eq!(read(&format!("1{}1", "-".repeat(300))), "unreadable");
    }
}
