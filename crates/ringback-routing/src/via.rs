//! How a decision was asked for.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

/// The way by which a call was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallVia {
    /// An INVITE over UDP.
    SipUdp,
    /// An INVITE over TCP.
    SipTcp,
    /// An INVITE over TLS.
    SipTls,
    /// `POST /route`.
    Http,
    /// A connector, in the dialect of its platform.
    Connector(Dialect),
}

impl CallVia {
    /// The name in answers: `sip-udp`, `http`, or that of the dialect.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SipUdp => "sip-udp",
            Self::SipTcp => "sip-tcp",
            Self::SipTls => "sip-tls",
            Self::Http => "http",
            Self::Connector(dialect) => dialect.name(),
        }
    }

    /// The way with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let ways = [Self::SipUdp, Self::SipTcp, Self::SipTls, Self::Http];
        let way = ways.into_iter().find(|way| way.name() == name);
        way.or_else(|| Dialect::from_name(name).map(Self::Connector))
    }

    /// Whether it was an INVITE.
    #[must_use]
    pub const fn is_sip(self) -> bool {
        matches!(self, Self::SipUdp | Self::SipTcp | Self::SipTls)
    }
}

impl Serialize for CallVia {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for CallVia {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| D::Error::custom("unknown way of a call"))
    }
}

/// The language in which a platform asks where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Kamailio's `http_async_client` with `rtjson`.
    RtJson,
    /// drachtio-server, and jambonz's sbc-call-router.
    Drachtio,
    /// FreeSWITCH's `mod_xml_curl`, for its dialplan.
    FreeSwitch,
    /// Voice webhooks of Twilio (TwiML).
    Twilio,
    /// Voice webhooks of Telnyx (TeXML).
    Telnyx,
    /// Inbound webhooks of Retell.
    Retell,
    /// `assistant-request` of Vapi.
    Vapi,
    /// Application webhooks of jambonz.
    Jambonz,
    /// The HTTP router of RustPBX.
    RustPbx,
    /// Handlers of Ultravox.
    Ultravox,
    /// Conversation initiation of ElevenLabs.
    ElevenLabs,
    /// Dial strings, one a line: Asterisk's `CURL()`, AGI scripts.
    Text,
}

impl Dialect {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::RtJson,
        Self::Drachtio,
        Self::FreeSwitch,
        Self::Twilio,
        Self::Telnyx,
        Self::Retell,
        Self::Vapi,
        Self::Jambonz,
        Self::RustPbx,
        Self::Ultravox,
        Self::ElevenLabs,
        Self::Text,
    ];

    /// The name in requests, answers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RtJson => "rtjson",
            Self::Drachtio => "drachtio",
            Self::FreeSwitch => "freeswitch",
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
            Self::Retell => "retell",
            Self::Vapi => "vapi",
            Self::Jambonz => "jambonz",
            Self::RustPbx => "rustpbx",
            Self::Ultravox => "ultravox",
            Self::ElevenLabs => "elevenlabs",
            Self::Text => "text",
        }
    }

    /// The dialect with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_read_back_by_its_name() {
        let connectors = Dialect::ALL.map(CallVia::Connector);
        let ways = [
            CallVia::SipUdp,
            CallVia::SipTcp,
            CallVia::SipTls,
            CallVia::Http,
        ];
        for way in ways.into_iter().chain(connectors) {
            let text = serde_json::to_string(&way).unwrap();
            assert_eq!(text, format!("{:?}", way.name()));
            assert_eq!(serde_json::from_str::<CallVia>(&text).unwrap(), way);
        }
        assert!(serde_json::from_str::<CallVia>("\"sip\"").is_err());
    }

    #[test]
    fn a_dialect_is_written_by_its_name() {
        for dialect in Dialect::ALL {
            let text = serde_json::to_string(&dialect).unwrap();
            assert_eq!(text, format!("{:?}", dialect.name()));
        }
    }
}
