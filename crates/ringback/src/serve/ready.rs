//! The line on standard output that says what listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::Value;

/// What listens.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Kind and addresses, in the order in which they are named.
    kinds: Vec<(&'static str, Vec<SocketAddr>)>,
}

impl Ready {
    /// Adds an address of a kind.
    pub(super) fn add(&mut self, kind: &'static str, address: SocketAddr) {
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, addresses)) => addresses.push(address),
            None => self.kinds.push((kind, vec![address])),
        }
    }

    /// Writes the line.
    pub(super) fn announce(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{self}")?;
        out.flush()
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{\"event\":\"ready\"")?;
        for (kind, addresses) in &self.kinds {
            if let Some(first) = addresses.first() {
                write!(formatter, ",\"{kind}\":\"{first}\"")?;
            }
        }
        for (kind, addresses) in self
            .kinds
            .iter()
            .filter(|(_, addresses)| addresses.len() > 1)
        {
            let all: Vec<Value> = addresses
                .iter()
                .map(|address| Value::from(address.to_string()))
                .collect();
            write!(formatter, ",\"{kind}_all\":{}", Value::Array(all))?;
        }
        formatter.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_what_listens() {
        let mut ready = Ready::default();
        ready.add("sip_udp", "127.0.0.1:5060".parse().unwrap());
        ready.add("http", "127.0.0.1:8080".parse().unwrap());
        ready.add("http", "[::1]:8080".parse().unwrap());
        assert_eq!(
            ready.to_string(),
            "{\"event\":\"ready\",\"sip_udp\":\"127.0.0.1:5060\",\"http\":\"127.0.0.1:8080\",\
             \"http_all\":[\"127.0.0.1:8080\",\"[::1]:8080\"]}"
        );
    }
}
