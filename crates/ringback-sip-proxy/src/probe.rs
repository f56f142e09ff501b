//! OPTIONS that ask whether a target is there (RFC 3261 §11.1), and what tells their replies apart.

use ringback_sip_proto::Message;

use crate::key::{Keys, PROBE, Purpose, hex, write_hex};
use crate::plan::Hop;
use crate::request::write_via;

impl Keys {
    /// A name for a probe that nobody can guess. `seed` is another one at each start, `number` for each probe.
    #[must_use]
    pub fn probe(&self, seed: u64, number: u64) -> u64 {
        let parts = [&seed.to_be_bytes()[..], &number.to_be_bytes()];
        self.hash(Purpose::Probe, &parts)
    }

    /// Appends the OPTIONS of this name to `uri`, which has no user; the same bytes each time.
    pub fn write_probe(uri: &str, hop: &Hop, name: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"OPTIONS ");
        out.extend_from_slice(uri.as_bytes());
        write_via(hop, out);
        out.extend_from_slice(PROBE);
        write_hex(name, 16, out);
        out.extend_from_slice(b";rport\r\nMax-Forwards: 70\r\nFrom: <sip:");
        out.extend_from_slice(hop.sent_by.as_bytes());
        out.extend_from_slice(b">;tag=");
        write_hex(name, 8, out);
        out.extend_from_slice(b"\r\nTo: <");
        out.extend_from_slice(uri.as_bytes());
        out.extend_from_slice(b">\r\nCall-ID: ");
        write_hex(!name, 16, out);
        out.extend_from_slice(b"\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
    }

    /// The probe that a reply is to, if it is to one.
    #[must_use]
    pub fn probe_of(message: &Message<'_>) -> Option<u64> {
        let name = message.top_via()?.branch()?.strip_prefix(PROBE)?;
        let is_one = name.len() == 16 && message.cseq().is_ok_and(|cseq| cseq.method == b"OPTIONS");
        hex(name).filter(|_| is_one)
    }
}

#[cfg(test)]
mod tests {
    use ringback_sip_proto::Transport;
    use ringback_sip_proto::check::{Role, Verdict, check};
    use ringback_sip_proto::message::Framing;

    use super::*;

    #[test]
    fn a_probe_is_in_good_order_and_its_reply_names_it() {
        let hop = Hop {
            transport: Transport::Tcp,
            address: "192.0.2.1:5060".parse().unwrap(),
            sent_by: "203.0.113.5:5060".into(),
            socket: 0,
        };
        let name = Keys::new([1; 16]).probe(2, 3);
        let mut bytes = Vec::new();
        Keys::write_probe("sip:pbx.example.com;transport=tcp", &hop, name, &mut bytes);
        let message = Message::parse(&bytes, Framing::Stream).unwrap();
        assert_eq!(message.fault(), None);
        assert!(matches!(check(&message, Role::Proxy), Verdict::Route(_)));
        let text = String::from_utf8(bytes).unwrap();
        let reply = text.replace(
            "OPTIONS sip:pbx.example.com;transport=tcp SIP/2.0",
            "SIP/2.0 200 OK",
        );
        let named =
            |text: &str| Keys::probe_of(&Message::parse(text.as_bytes(), Framing::Stream).unwrap());
        assert_eq!(named(&reply), Some(name));
        assert_eq!(named(&reply.replace("1 OPTIONS", "1 INVITE")), None);
        assert_eq!(named(&reply.replace(";rport", "0;rport")), None);
    }
}
