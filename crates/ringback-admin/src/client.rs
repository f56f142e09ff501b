//! Whom a request comes from, as the network tells: behind trusted proxies by the headers that they set.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// In the extensions of a request: its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectedFrom {
    /// The other end.
    pub(crate) address: IpAddr,
    /// Whether it is one of ours with TLS.
    pub(crate) over_tls: bool,
}

/// In the extensions of a request: the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; of IPv6 the /64 network.
    pub(crate) address: IpAddr,
    /// Whether it came over https.
    pub(crate) is_secure: bool,
}

impl Client {
    /// The client of a request with these headers, on this connection.
    pub(crate) fn of(headers: &HeaderMap, connected: ConnectedFrom, trusted: &[IpNet]) -> Self {
        let over_tls = connected.over_tls;
        let connected = connected.address.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        if !is_trusted(connected) {
            return Self {
                address: network_of(connected),
                is_secure: over_tls,
            };
        }
        let mut address = connected;
        for text in list(headers, "x-forwarded-for").into_iter().rev() {
            let Ok(next) = text.parse::<IpAddr>() else {
                break;
            };
            address = next.to_canonical();
            if !is_trusted(address) {
                break;
            }
        }
        let proto = list(headers, "x-forwarded-proto");
        Self {
            address: network_of(address),
            is_secure: over_tls || proto.last() == Some(&"https"),
        }
    }
}

/// The entries of a header that is a list.
fn list<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect()
}

/// The address by which a client is counted: one in IPv6 has as many addresses as it likes in its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The client of a connection from `connected` with these headers, where 10.0.0.0/8 is trusted.
    fn client(connected: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let connected = ConnectedFrom {
            address: connected.parse().unwrap(),
            over_tls: false,
        };
        let client = Client::of(&map, connected, &trusted);
        (client.address.to_string(), client.is_secure)
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_clients() {
        let forwarded = [
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(
            client("10.0.0.1", &forwarded),
            ("198.51.100.7".into(), true)
        );
        assert_eq!(client("::ffff:10.0.0.1", &forwarded).0, "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[]), ("10.0.0.1".into(), false));
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", "nobody, 10.9.9.9")]).0,
            "10.9.9.9"
        );
    }

    #[test]
    fn strangers_cannot_name_another_client() {
        let forwarded = [
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "https"),
        ];
        let seen = client("203.0.113.1", &forwarded);
        assert_eq!(seen, ("203.0.113.1".into(), false));
        assert_eq!(client("2001:db8::1:2:3:4", &forwarded).0, "2001:db8::");
    }
}
