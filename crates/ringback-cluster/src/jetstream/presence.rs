//! What nodes tell one another, as JSON.

use serde::{Deserialize, Serialize};

use crate::replica::{Lost, Presence};
use crate::{Chain, Place};

/// The message.
#[derive(Serialize, Deserialize)]
struct Text {
    /// The name of the node.
    node: String,
    /// Its run.
    instance: u64,
    /// When this run began.
    started_at: i64,
    /// The version of its program.
    version: String,
    /// Where its API is.
    url: String,
    /// How far it has read the log.
    sequence: u64,
    /// The chain there, as hex digits.
    chain: String,
    /// The last entry that its store has.
    stored: u64,
    /// Whether it is current.
    current: bool,
    /// The sequence of the first race that it has lost, if it tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost_since: Option<u64>,
    /// How many it has lost.
    #[serde(default)]
    lost_times: u32,
}

/// The bytes of a message.
pub(super) fn write(presence: &Presence) -> Vec<u8> {
    let text = Text {
        node: presence.node.clone(),
        instance: presence.instance,
        started_at: presence.started_at,
        version: presence.version.clone(),
        url: presence.url.clone(),
        sequence: presence.place.sequence,
        chain: presence.place.chain.to_string(),
        stored: presence.stored,
        current: presence.is_current,
        lost_since: presence.lost.map(|lost| lost.since),
        lost_times: presence.lost.map_or(0, |lost| lost.times),
    };
    serde_json::to_vec(&text).expect("strings and numbers are written as JSON")
}

/// Reads a message; none if it is not one of ours. Fields that newer versions add are ignored.
pub(super) fn read(bytes: &[u8]) -> Option<Presence> {
    let text: Text = serde_json::from_slice(bytes).ok()?;
    Some(Presence {
        node: text.node,
        instance: text.instance,
        started_at: text.started_at,
        version: text.version,
        url: text.url,
        place: Place {
            sequence: text.sequence,
            chain: Chain::read(&text.chain)?,
        },
        stored: text.stored,
        is_current: text.current,
        lost: text.lost_since.map(|since| Lost {
            since,
            times: text.lost_times,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_is_read_as_it_was_written() {
        let presence = Presence {
            node: "a".to_owned(),
            instance: u64::MAX,
            started_at: 5,
            version: "1".to_owned(),
            url: "http://192.0.2.1".to_owned(),
            place: Place {
                sequence: 9,
                chain: Chain([0xa5; 16]),
            },
            stored: 8,
            is_current: true,
            lost: Some(Lost { since: 7, times: 2 }),
        };
        assert_eq!(read(&write(&presence)), Some(presence));
        assert_eq!(read(b"{}"), None);
        assert_eq!(read(b"hello"), None);
    }
}
