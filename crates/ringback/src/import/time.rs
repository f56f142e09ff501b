//! When a call started, as call records say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Reads times.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// The zone of times that name none.
    zone: TimeZone,
    /// How times are written, where that was said.
    format: Option<String>,
    /// Whether a time was read in the zone.
    is_zone_used: Arc<AtomicBool>,
}

impl Times {
    /// Reads times without a zone in this zone, and only those of the format, where there is one.
    pub(crate) fn new(zone: TimeZone, format: Option<String>) -> Self {
        Self {
            zone,
            format,
            is_zone_used: Arc::default(),
        }
    }

    /// The name of the zone, if this or a copy has read a time that names none.
    pub(crate) fn zone_assumed(&self) -> Option<&str> {
        let name = || match self.zone.iana_name() {
            Some(name) => name,
            None if self.zone.is_unknown() => "UTC",
            None => "this machine",
        };
        self.is_zone_used.load(Ordering::Relaxed).then(name)
    }

    /// Reads a time.
    ///
    /// Without a format: RFC 3339; the same with a space for the `T`, without seconds, and without a zone; RFC
    /// 2822; `HH:MM:SS ZONE YYYY-MM-DD`; seconds, milliseconds or microseconds since 1970, told apart by how
    /// many digits they have. A zone may be an offset, `UTC`, or one of the zones of RFC 2822 §4.3.
    ///
    /// Of a local time that the clocks show twice the earlier is taken; one that they leave out counts as if they
    /// had not been moved yet.
    pub(crate) fn read(&self, text: &str) -> Option<Timestamp> {
        let text = text.trim();
        if text.len() > LONGEST {
            return None;
        }
        match &self.format {
            Some(format) => self.read_as(format, text),
            None if text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.') =>
            {
                since_1970(text)
            }
            None => text
                .parse()
                .ok()
                .or_else(|| self.read_civil(text))
                .or_else(|| rfc2822::parse(text).ok().map(|time| time.timestamp()))
                .or_else(|| self.read_zone_first(text)),
        }
    }

    /// Reads a time of this format.
    fn read_as(&self, format: &str, text: &str) -> Option<Timestamp> {
        let parts = strtime::parse(format, text).ok()?;
        parts
            .to_timestamp()
            .ok()
            .or_else(|| self.local(parts.to_datetime().ok()?))
    }

    /// Reads a date and a time, perhaps with the name of a zone behind them.
    fn read_civil(&self, text: &str) -> Option<Timestamp> {
        if let Ok(time) = text.parse::<DateTime>() {
            // A date alone is no time, and the library would pass over a zone in brackets.
            let is_whole = text.contains(':') && !text.ends_with(['Z', 'z', ']']);
            return is_whole.then(|| self.local(time)).flatten();
        }
        let (time, zone) = text.rsplit_once(' ')?;
        let time: DateTime = time.trim_end().parse().ok()?;
        Some(time.to_zoned(zone_named(zone)?).ok()?.timestamp())
    }

    /// Reads `12:27:47 UTC 2026-03-04`.
    fn read_zone_first(&self, text: &str) -> Option<Timestamp> {
        let mut parts = text.split_ascii_whitespace();
        let (time, zone, date) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        self.read_civil(&format!("{date} {time} {zone}"))
    }

    /// The time of a clock in the zone.
    fn local(&self, time: DateTime) -> Option<Timestamp> {
        self.is_zone_used.store(true, Ordering::Relaxed);
        let zoned: Zoned = time.to_zoned(self.zone.clone()).ok()?;
        Some(zoned.timestamp())
    }
}

/// The zone with this name: an offset such as `+0200`, or a name whose meaning RFC 2822 §4.3 settles.
pub(crate) fn zone_named(name: &str) -> Option<TimeZone> {
    if let Some((_, hours)) = ZONES
        .iter()
        .find(|(zone, _)| name.eq_ignore_ascii_case(zone))
    {
        return Some(TimeZone::fixed(jiff::tz::offset(*hours)));
    }
    let (sign, digits) = match name.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let digit = |index: usize| {
        let byte = digits.get(index).filter(|byte| byte.is_ascii_digit())?;
        Some(i32::from(byte - b'0'))
    };
    let minutes = match digits.len() {
        2 => 0,
        4 => digit(2)? * 10 + digit(3)?,
        5 if digits.get(2) == Some(&b':') => digit(3)? * 10 + digit(4)?,
        _ => return None,
    };
    let seconds = ((digit(0)? * 10 + digit(1)?) * 60 + minutes) * 60;
    jiff::tz::Offset::from_seconds(sign * seconds)
        .ok()
        .map(TimeZone::fixed)
}

/// Reads seconds since 1970, perhaps with a fraction, or whole milliseconds or microseconds.
fn since_1970(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.contains('.') || (text.contains('.') && fraction.is_empty()) {
        return None;
    }
    let count: i64 = whole.parse().ok()?;
    match whole.len() {
        9..=10 => {
            let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
            let millis: i64 = millis.parse().ok()?;
            Timestamp::from_millisecond(count.checked_mul(1_000)?.checked_add(millis)?).ok()
        }
        12..=13 if fraction.is_empty() => Timestamp::from_millisecond(count).ok(),
        15..=16 if fraction.is_empty() => Timestamp::from_microsecond(count).ok(),
        _ => None,
    }
}

/// The longest text that is read as a time, in bytes.
const LONGEST: usize = 100;

/// The zones whose names mean one thing (RFC 2822 §4.3), and their hours from UTC.
const ZONES: &[(&str, i8)] = &[
    ("UTC", 0),
    ("GMT", 0),
    ("UT", 0),
    ("Z", 0),
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(zone: &str, format: Option<&str>, text: &str) -> Option<String> {
        let zone = TimeZone::get(zone).unwrap();
        Times::new(zone, format.map(str::to_owned))
            .read(text)
            .map(|time| time.to_string())
    }

    #[test]
    fn one_moment_is_read_however_it_is_written() {
        for text in [
            "2026-11-01T12:00:00Z",
            "2026-11-01T13:00:00+01:00",
            "2026-11-01 13:00:00",
            "2026-11-01T13:00:00",
            "2026-11-01 13:00",
            "2026-11-01 13:00:00.000000",
            "2026-11-01 12:00:00Z",
            "2026-11-01 12:00:00 UTC",
            "2026-11-01 07:00:00 EST",
            "2026-11-01 14:00:00 +0200",
            "2026-11-01 14:00:00 +02:00",
            "2026-11-01 14:00:00+02",
            "12:00:00 UTC 2026-11-01",
            "04:00:00 PST 2026-11-01",
            "Sun, 01 Nov 2026 12:00:00 +0000",
            "Sun, 1 Nov 2026 12:00:00 GMT",
            "1 Nov 2026 12:00 +0000",
            "1793534400",
            "1793534400.000000",
            "1793534400000",
            "1793534400000000",
            " 2026-11-01 13:00:00 ",
        ] {
            assert_eq!(
                read("Europe/Berlin", None, text).as_deref(),
                Some("2026-11-01T12:00:00Z"),
                "{text}"
            );
        }
        assert_eq!(
            read("UTC", None, "1793534400.5").as_deref(),
            Some("2026-11-01T12:00:00.5Z")
        );
    }

    #[test]
    fn what_could_mean_two_things_is_not_read() {
        for text in [
            "",
            "11/01/2026 12:00:00",
            "01.11.2026 12:00",
            "2026-11-01",
            "20261101120000",
            "2026-11-01 12:00:00 CET",
            "2026-11-01 12:00:00 +2",
            "2026-13-01 12:00:00",
            "12345",
            "1793534400.",
            "1.2.3",
            "...",
            "yesterday",
            "0000-00-00 00:00:00",
        ] {
            assert_eq!(read("UTC", None, text), None, "{text}");
        }
        let long = "2026-11-01 12:00:00".repeat(1_000);
        assert_eq!(read("UTC", None, &long), None);
    }

    #[test]
    fn a_format_reads_its_times_alone() {
        let format = Some("%d.%m.%Y %H:%M");
        assert_eq!(
            read("America/Sao_Paulo", format, "01.11.2026 09:00").as_deref(),
            Some("2026-11-01T12:00:00Z")
        );
        assert_eq!(read("UTC", format, "2026-11-01T12:00:00Z"), None);
        assert_eq!(
            read(
                "UTC",
                Some("%m/%d/%Y %I:%M:%S %p %z"),
                "11/01/2026 01:00:00 PM +0100"
            )
            .as_deref(),
            Some("2026-11-01T12:00:00Z")
        );
        assert_eq!(
            read("Europe/Berlin", Some("%s"), "1793534400").as_deref(),
            Some("2026-11-01T12:00:00Z")
        );
    }

    #[test]
    fn clocks_that_are_moved_lose_no_call() {
        // 2026-10-25 03:00 back to 02:00, 2026-03-29 02:00 on to 03:00.
        assert_eq!(
            read("Europe/Berlin", None, "2026-10-25 02:30:00").as_deref(),
            Some("2026-10-25T00:30:00Z")
        );
        assert_eq!(
            read("Europe/Berlin", None, "2026-03-29 02:30:00").as_deref(),
            Some("2026-03-29T01:30:00Z")
        );
    }
}
