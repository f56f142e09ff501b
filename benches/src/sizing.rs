//! What a node needs: measured unit costs, and the tables of `docs/en/operations/sizing.md`, which a test compares
//! with the page.

use crate::figures::table;

/// Resident memory of a node without contacts, in bytes, once its write buffers and caches are in use.
pub const BASE_BYTES: f64 = 80e6;

/// Bytes of the index per contact with one call: 16 of key and value in cells that are four fifths full.
pub const INDEX_BYTES: f64 = 20.2;

/// Bytes of the index per contact after sweeps, which leave the cells seven tenths full.
pub const INDEX_SWEPT_BYTES: f64 = 23.0;

/// Memory per stored call, in bytes: 1.5 to 3 of the filter of call ids, the rest is what the trees keep in
/// memory of their files.
pub const STORED_BYTES: f64 = 5.0;

/// Bytes on disk per stored call, its `sid` of 12 bytes included.
pub const DISK_BYTES: f64 = 102.0;

/// Bytes written to disk per recorded call: log, tables and their merging.
pub const WRITTEN_BYTES: f64 = 330.0;

/// Bytes written to disk per returning call over SIP: counters and the routed call.
pub const ROUTED_WRITTEN_BYTES: f64 = 21.0;

/// Bytes of the smallest generation of the reply cache.
pub const REPLY_LEAST_BYTES: f64 = 2_097_152.0;

/// How much larger a generation is than one that filled up early.
pub const REPLY_GROWTH: f64 = 2.0;

/// The most bytes of the reply cache; a generation has at most half of them.
pub const REPLY_MOST_BYTES: f64 = 536_870_912.0;

/// Bytes per INVITE in the reply cache; with five eighths of its cells in use a generation is full.
pub const REPLY_PLACE_BYTES: f64 = 16.0;

/// Seconds that a generation of the reply cache takes answers, and for which it is kept afterwards.
pub const REPLY_SECONDS: f64 = 32.0;

/// Bytes of the table of routed calls per call: 36 of the map, 17 of the order.
pub const ROUTED_BYTES: f64 = 53.0;

/// The most routed calls that are known.
pub const ROUTED_MOST: f64 = 4e6;

/// Processor time of a returning call over UDP if each one wakes the server up, in microseconds.
pub const CALL_ALONE_MICROSECONDS: f64 = 21.5;

/// Processor time of a returning call if a core is always busy, in microseconds.
pub const CALL_BUSY_MICROSECONDS: f64 = 4.3;

/// Up to this many calls per second, each one wakes the server up.
pub const CALLS_ALONE: f64 = 10_000.0;

/// Processor time of a call recorded in a batch, in microseconds.
pub const BATCH_MICROSECONDS: f64 = 4.9;

/// Processor time of a call imported, in microseconds.
pub const IMPORT_MICROSECONDS: f64 = 3.1;

/// Processor time of a call recorded by a request of its own, in microseconds.
pub const SINGLE_MICROSECONDS: f64 = 37.0;

/// Bytes of an INVITE, its ACK, and the 302 between, each with 42 bytes of Ethernet, IP and UDP.
pub const CALL_WIRE_BYTES: [f64; 3] = [918.0 + 42.0, 359.0 + 42.0, 602.0 + 42.0];

/// Bytes of a call in a batch.
pub const LINE_BYTES: f64 = 139.0;

/// Seconds from the start until the index is loaded, per stored call.
pub const START_SECONDS: f64 = 0.8e-6;

/// Days that a call is kept: the default recency window, and one more.
pub const DAYS_KEPT: f64 = 31.0;

/// Memory of the contact index, one call to a contact, in bytes.
#[must_use]
pub fn index_bytes(contacts: f64) -> f64 {
    contacts * INDEX_BYTES
}

/// Memory of a node with this many contacts of one call each, without incoming calls.
#[must_use]
pub fn resident_bytes(contacts: f64) -> f64 {
    BASE_BYTES + index_bytes(contacts) + contacts * STORED_BYTES
}

/// Memory for recent returning calls after this many seconds at this rate: replies and routed calls.
#[must_use]
pub fn recent_bytes(rate: f64, seconds: f64) -> (f64, f64) {
    let replies = reply_bytes(rate, seconds);
    let routed = (rate * seconds.min(DAY_SECONDS)).min(ROUTED_MOST) * ROUTED_BYTES;
    (replies, routed)
}

/// Memory of the reply cache after this many seconds at this rate; see
/// `ringback-sip-server/src/redirect/reply_cache.rs`.
fn reply_bytes(rate: f64, seconds: f64) -> f64 {
    // Generations with the time at which each ended. The rate is steady, so a few minutes show the same as a day.
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let (mut bytes, mut began_at, mut now) = (REPLY_LEAST_BYTES, 0.0, 0.0);
    while now < seconds.min(7.5 * REPLY_SECONDS) {
        now += 0.25;
        kept.retain(|(_, ended_at)| now - ended_at <= REPLY_SECONDS);
        let used = rate * (now - began_at);
        let next = if used > bytes / REPLY_PLACE_BYTES * 5.0 / 8.0 {
            REPLY_GROWTH * bytes
        } else if now - began_at >= REPLY_SECONDS {
            2.0 * REPLY_PLACE_BYTES * used
        } else {
            continue;
        };
        kept.push((bytes, now));
        bytes = next.clamp(REPLY_LEAST_BYTES, REPLY_MOST_BYTES / 2.0);
        began_at = now;
    }
    let all = bytes + kept.iter().map(|(bytes, _)| bytes).sum::<f64>();
    all.min(REPLY_MOST_BYTES)
}

/// Cores kept busy by returning calls over UDP.
#[must_use]
pub fn call_cores(rate: f64) -> f64 {
    let alone = rate.min(CALLS_ALONE) * CALL_ALONE_MICROSECONDS;
    let more = (rate - CALLS_ALONE).max(0.0) * CALL_BUSY_MICROSECONDS;
    (alone + more) / 1e6
}

/// Memory, disk and start by contacts.
#[must_use]
pub fn contacts_table() -> String {
    let rows = [1e6, 10e6, 50e6, 100e6].map(|contacts| {
        let index = index_bytes(contacts);
        vec![
            format!("{:.0} M", contacts / 1e6),
            format!("{:.1}", index / contacts),
            megabytes(index),
            megabytes(contacts * STORED_BYTES),
            megabytes(resident_bytes(contacts)),
            format!("{:.1} GB", contacts * DISK_BYTES / 1e9),
            seconds(contacts * START_SECONDS),
        ]
    });
    table(
        &[
            "contacts, one call each",
            "index bytes each",
            "index",
            "stored calls",
            "resident in all",
            "disk",
            "index whole after a start",
        ],
        &rows,
    )
}

/// Processor, network and memory by returning calls.
#[must_use]
pub fn calls_table() -> String {
    let rows = [100.0, 1_000.0, 10_000.0, 50_000.0].map(|rate| {
        let (replies, routed) = recent_bytes(rate, DAY_SECONDS);
        let [invite, ack, reply] = CALL_WIRE_BYTES;
        vec![
            thousands(rate),
            format!("{:.3}", call_cores(rate)),
            format!("{:.1}", rate * (invite + ack) * 8.0 / 1e6),
            format!("{:.1}", rate * reply * 8.0 / 1e6),
            megabytes(replies),
            megabytes(routed),
            hours(DAY_SECONDS.min(ROUTED_MOST / rate)),
            format!("{:.2}", rate * ROUTED_WRITTEN_BYTES / 1e6),
        ]
    });
    table(
        &[
            "returning calls/s",
            "cores busy",
            "Mbit/s in",
            "Mbit/s out",
            "reply memory",
            "routed calls",
            "known for",
            "MB/s written",
        ],
        &rows,
    )
}

/// Processor, network and disk by recorded calls.
#[must_use]
pub fn recording_table() -> String {
    let rows = [10.0, 1_000.0, 10_000.0].map(|rate| {
        let kept = rate * DAYS_KEPT * DAY_SECONDS;
        vec![
            thousands(rate),
            format!("{:.3}", rate * BATCH_MICROSECONDS / 1e6),
            format!("{:.3}", rate * SINGLE_MICROSECONDS / 1e6),
            format!("{:.2}", rate * LINE_BYTES * 8.0 / 1e6),
            format!("{:.3}", rate * WRITTEN_BYTES / 1e6),
            format!("{} M", thousands(kept / 1e6)),
            gigabytes(kept * DISK_BYTES),
            gigabytes(kept * STORED_BYTES),
            gigabytes(index_bytes(kept)),
        ]
    });
    table(
        &[
            "recorded calls/s, steady",
            "cores, by batch",
            "cores, one by one",
            "Mbit/s in, by batch",
            "MB/s written",
            "calls kept",
            "disk",
            "memory for stored calls",
            "index if no contact is called twice",
        ],
        &rows,
    )
}

/// The unit costs.
#[must_use]
pub fn costs_table() -> String {
    let row = |what: &str, value: String, from: &str| vec![what.to_owned(), value, from.to_owned()];
    table(
        &["unit", "cost", "from"],
        &[
            row(
                "node without contacts, buffers in use",
                megabytes(BASE_BYTES),
                "`sizing --check`: resident less index and stored calls; 27 MB before anything is recorded",
            ),
            row(
                "contact in the index",
                format!("{INDEX_BYTES:.1} bytes"),
                &format!(
                    "`--bin index`, 1 to 100 M; {INDEX_SWEPT_BYTES:.0} and up to 32 MiB more after sweeps"
                ),
            ),
            row(
                "stored call in memory",
                format!("{STORED_BYTES:.1} bytes"),
                "`--bin store`: memory after 10 M calls less the index; filter of call ids and the trees' own",
            ),
            row(
                "stored call on disk",
                format!("{DISK_BYTES:.0} bytes"),
                "`--bin store`, 1 and 10 M calls; `sid` of 12 bytes",
            ),
            row(
                "recorded call, written to disk",
                format!("{WRITTEN_BYTES:.0} bytes"),
                "`sizing --check`, 10 M calls: 3.2 × what stays; 255 bytes at 3 M",
            ),
            row(
                "returning call, written to disk",
                format!("{ROUTED_WRITTEN_BYTES:.0} bytes"),
                "`sizing --check`, 10,000/s",
            ),
            row(
                "returning call in the reply memory",
                format!("{:.0} bytes", 2.0 * REPLY_PLACE_BYTES),
                "`ringback-sip-server/src/redirect/reply_cache.rs`; 32 to 64 s; 2 to 537 MB",
            ),
            row(
                "returning call in the table of routed calls",
                format!("{ROUTED_BYTES:.0} bytes"),
                "`ringback-engine/src/observed/routed.rs`; a day, 4 million at most",
            ),
            row(
                "returning call, each wakes the server up",
                format!("{CALL_ALONE_MICROSECONDS:.1} µs"),
                "`benches/compare`, 10,000/s",
            ),
            row(
                "returning call, core always busy",
                format!("{CALL_BUSY_MICROSECONDS:.1} µs"),
                "`benches/compare`, 64 in flight",
            ),
            row(
                "recorded call, by batch",
                format!("{BATCH_MICROSECONDS:.1} µs"),
                "`sizing --check`; 3.8 (1 M) to 5.5 (10 M) in `--bin store`",
            ),
            row(
                "recorded call, by import",
                format!("{IMPORT_MICROSECONDS:.1} µs"),
                "`--bin store`; the client besides: 0.5 µs",
            ),
            row(
                "recorded call, one to a request",
                format!("{SINGLE_MICROSECONDS:.0} µs"),
                "`--bin store`, 256 connections",
            ),
            row(
                "returning call on the wire",
                "960 + 401 bytes in, 644 out".to_owned(),
                "INVITE 918, ACK 359, 302 602; 42 each for Ethernet, IP, UDP",
            ),
            row(
                "stored call, start",
                format!("{:.2} µs", START_SECONDS * 1e6),
                "`sizing --check`: until `/readyz` says `whole`; 0.7 to 1.0",
            ),
        ],
    )
}

/// A number with its thousands separated.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as millions of bytes.
fn megabytes(bytes: f64) -> String {
    format!("{} MB", thousands(bytes / 1e6))
}

/// Bytes as thousands of millions of bytes.
fn gigabytes(bytes: f64) -> String {
    if bytes < 10e9 {
        format!("{:.1} GB", bytes / 1e9)
    } else {
        format!("{} GB", thousands(bytes / 1e9))
    }
}

/// A time in seconds.
fn seconds(time: f64) -> String {
    if time < 10.0 {
        format!("{time:.1} s")
    } else {
        format!("{time:.0} s")
    }
}

/// A time in minutes or hours.
fn hours(time: f64) -> String {
    if time < 7_200.0 {
        format!("{:.0} min", time / 60.0)
    } else {
        format!("{:.0} h", time / 3_600.0)
    }
}

/// A day.
const DAY_SECONDS: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_these_tables() {
        let page = include_str!("../../docs/en/operations/sizing.md");
        for table in [
            costs_table(),
            contacts_table(),
            calls_table(),
            recording_table(),
        ] {
            assert!(
                page.contains(&table),
                "docs/en/operations/sizing.md lacks\n{table}"
            );
        }
    }

    #[test]
    fn replies_are_kept_in_a_generation_that_fills_and_one_that_ends() {
        let least = REPLY_LEAST_BYTES;
        assert_eq!(reply_bytes(1.0, 10.0), least);
        assert_eq!(reply_bytes(1.0, DAY_SECONDS), 2.0 * least);
        // Full at 81,920 calls, and checked four times per second.
        assert_eq!(reply_bytes(10_000.0, 9.0), 3.0 * least);
        let steady = reply_bytes(100_000.0, DAY_SECONDS);
        assert!((1.9..2.1).contains(&(steady / (32.0 * 3.2e6))), "{steady}");
        assert_eq!(reply_bytes(1e7, DAY_SECONDS), REPLY_MOST_BYTES);
    }

    #[test]
    fn the_wire_is_that_of_the_load() {
        assert_eq!(CALL_WIRE_BYTES[0], crate::sip::INVITE_BYTES as f64 + 42.0);
    }
}
