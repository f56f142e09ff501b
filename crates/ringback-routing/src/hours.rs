//! When an agent takes calls back: hours of the week in a time zone, and days that are different.
//!
//! Times are those that a clock on the wall of the zone shows, so a time that the clock skips in spring or repeats in
//! autumn is compared as it is shown. The rules of the zones are compiled into the program: nothing is read from the
//! system. What is asked for each call allocates nothing.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The hours in which an agent takes calls back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "HoursSpec", into = "HoursSpec")]
pub struct Hours {
    /// As they were set.
    spec: HoursSpec,
    /// The zone.
    zone: TimeZone,
    /// By day of the week, Monday first.
    weekly: [Vec<Range>; 7],
    /// The days that are different, in days since 1970-01-01.
    except: BTreeMap<i32, Vec<Range>>,
}

impl PartialEq for Hours {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Hours {}

impl From<Hours> for HoursSpec {
    fn from(hours: Hours) -> Self {
        hours.spec
    }
}

impl TryFrom<HoursSpec> for Hours {
    type Error = HoursProblem;

    fn try_from(spec: HoursSpec) -> Result<Self, HoursProblem> {
        // There is at least one problem where it fails.
        Self::compile(spec).map_err(|problems| {
            let first = problems.into_iter().next();
            first.map_or(HoursProblem::TimeZone, |(_, problem)| problem)
        })
    }
}

/// Hours as they are written: in the API, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoursSpec {
    /// The time zone by its IANA name, such as `America/Sao_Paulo`.
    pub time_zone: String,
    /// The days of the week; one that is not named is closed.
    pub weekly: Week,
    /// The days that are different; each replaces its day whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<SpecialDay>,
}

/// Ranges of times by day of the week, each from its start up to its end: `["09:00","18:00"]`. One that starts after
/// its end runs past midnight, and belongs to the day of its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Week {
    /// Monday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mon: Vec<[String; 2]>,
    /// Tuesday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tue: Vec<[String; 2]>,
    /// Wednesday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wed: Vec<[String; 2]>,
    /// Thursday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thu: Vec<[String; 2]>,
    /// Friday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fri: Vec<[String; 2]>,
    /// Saturday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sat: Vec<[String; 2]>,
    /// Sunday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sun: Vec<[String; 2]>,
}

/// A day that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialDay {
    /// The day, as `2026-12-25`.
    pub date: String,
    /// The ranges of times on it; none: closed.
    pub open: Vec<[String; 2]>,
}

/// What is wrong with hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursProblem {
    /// There is no such time zone.
    #[error("is not a time zone")]
    TimeZone,
    /// A time is not written as `09:00`, up to `24:00` for an end.
    #[error("is not a time as in 09:00")]
    Time,
    /// A range ends when it starts.
    #[error("starts when it ends")]
    Empty,
    /// A day has more than [`Hours::MOST_RANGES`] ranges.
    #[error("has too many ranges")]
    TooManyRanges,
    /// A day is not written as `2026-12-25`.
    #[error("is not a day as in 2026-12-25")]
    Date,
    /// A day is there twice.
    #[error("is there twice")]
    Repeated,
    /// There are more than [`Hours::MOST_EXCEPTIONS`] days.
    #[error("has too many days")]
    TooManyDays,
}

/// A range of times of a day, in seconds since midnight as the wall shows them.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// Included.
    start: i64,
    /// Not included; before the start, if the range runs past midnight.
    end: i64,
}

impl Hours {
    /// How many ranges a day may have.
    pub const MOST_RANGES: usize = 20;

    /// How many days may be different.
    pub const MOST_EXCEPTIONS: usize = 400;

    /// Compiles hours.
    ///
    /// # Errors
    /// Everything that is wrong, each with the path of its field, such as `weekly.mon.0`.
    pub fn compile(spec: HoursSpec) -> Result<Self, Vec<(String, HoursProblem)>> {
        let mut problems = Vec::new();
        let zone = TimeZoneDatabase::bundled().get(&spec.time_zone);
        if zone.is_err() {
            problems.push(("time_zone".to_owned(), HoursProblem::TimeZone));
        }
        let weekly = spec.weekly.days().map(|(name, day)| {
            let path = format!("weekly.{name}");
            compile_day(&path, day, &mut problems)
        });
        let mut except = BTreeMap::new();
        if spec.except.len() > Self::MOST_EXCEPTIONS {
            problems.push(("except".to_owned(), HoursProblem::TooManyDays));
        }
        for (index, day) in spec.except.iter().take(Self::MOST_EXCEPTIONS).enumerate() {
            let path = format!("except.{index}");
            let ranges = compile_day(&format!("{path}.open"), &day.open, &mut problems);
            match read_date(&day.date) {
                None => problems.push((format!("{path}.date"), HoursProblem::Date)),
                Some(date) => {
                    if except.insert(date, ranges).is_some() {
                        problems.push((format!("{path}.date"), HoursProblem::Repeated));
                    }
                }
            }
        }
        match zone {
            Ok(zone) if problems.is_empty() => Ok(Self {
                spec,
                zone,
                weekly,
                except,
            }),
            _ => Err(problems),
        }
    }

    /// The hours as they were set.
    #[must_use]
    pub const fn spec(&self) -> &HoursSpec {
        &self.spec
    }

    /// Whether calls are taken back at this instant.
    #[must_use]
    pub fn are_open(&self, now: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.millis()) else {
            return false;
        };
        let offset = i64::from(self.zone.to_offset(instant).seconds());
        let wall = now.seconds() + offset;
        let (day, time) = (wall.div_euclid(DAY), wall.rem_euclid(DAY));
        let today = self.day(day).iter();
        let yesterday = self.day(day - 1).iter();
        today
            .map(|range| range.starts_before(time))
            .chain(yesterday.map(|range| range.runs_into(time)))
            .any(|is_open| is_open)
    }

    /// The ranges that start on a day, counted from 1970-01-01.
    fn day(&self, day: i64) -> &[Range] {
        if !self.except.is_empty()
            && let Some(ranges) = i32::try_from(day)
                .ok()
                .and_then(|day| self.except.get(&day))
        {
            return ranges;
        }
        // The first of January 1970 was a Thursday.
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default();
        self.weekly.get(weekday).map_or(&[], Vec::as_slice)
    }
}

impl Range {
    /// Whether a time of the day on which it starts is in it.
    const fn starts_before(self, time: i64) -> bool {
        time >= self.start && (time < self.end || self.end < self.start)
    }

    /// Whether a time of the day after is in it.
    const fn runs_into(self, time: i64) -> bool {
        self.end < self.start && time < self.end
    }
}

impl Week {
    /// The days, by name, Monday first.
    fn days(&self) -> [(&'static str, &[[String; 2]]); 7] {
        [
            ("mon", &self.mon),
            ("tue", &self.tue),
            ("wed", &self.wed),
            ("thu", &self.thu),
            ("fri", &self.fri),
            ("sat", &self.sat),
            ("sun", &self.sun),
        ]
    }
}

/// Compiles the ranges of a day.
fn compile_day(
    path: &str,
    day: &[[String; 2]],
    problems: &mut Vec<(String, HoursProblem)>,
) -> Vec<Range> {
    if day.len() > Hours::MOST_RANGES {
        problems.push((path.to_owned(), HoursProblem::TooManyRanges));
    }
    let mut ranges = Vec::with_capacity(day.len().min(Hours::MOST_RANGES));
    for (index, [start, end]) in day.iter().take(Hours::MOST_RANGES).enumerate() {
        let start = read_time(start).filter(|start| *start < DAY);
        let problem = match (start, read_time(end)) {
            (Some(start), Some(end)) if start != end => {
                ranges.push(Range { start, end });
                continue;
            }
            (Some(_), Some(_)) => HoursProblem::Empty,
            _ => HoursProblem::Time,
        };
        problems.push((format!("{path}.{index}"), problem));
    }
    ranges
}

/// The seconds since midnight of a time written as `09:00`.
fn read_time(text: &str) -> Option<i64> {
    let &[a, b, b':', c, d] = text.as_bytes() else {
        return None;
    };
    if ![a, b, c, d].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (hours, minutes) = (two(a, b), two(c, d));
    let seconds = hours * 3_600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}

/// The days since 1970-01-01 of a day written as `2026-12-25`.
fn read_date(text: &str) -> Option<i32> {
    let is_shaped = text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date: Date = text.parse().ok().filter(|_| is_shaped)?;
    let since = Date::constant(1970, 1, 1).until(date).ok()?;
    Some(since.get_days())
}

/// The seconds of a day, as a wall clock without changes counts them.
const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours with these ranges on Monday and Friday.
    fn spec(zone: &str, mon: &[[&str; 2]], fri: &[[&str; 2]]) -> HoursSpec {
        let owned = |day: &[[&str; 2]]| day.iter().map(|range| range.map(str::to_owned)).collect();
        HoursSpec {
            time_zone: zone.to_owned(),
            weekly: Week {
                mon: owned(mon),
                fri: owned(fri),
                ..Week::default()
            },
            except: Vec::new(),
        }
    }

    fn open(hours: &Hours, at: &str) -> bool {
        hours.are_open(at.parse().unwrap())
    }

    #[test]
    fn the_start_is_included_and_the_end_is_not() {
        let hours = spec(
            "America/Sao_Paulo",
            &[["09:00", "18:00"]],
            &[["20:00", "24:00"]],
        );
        let hours = Hours::compile(hours).unwrap();
        // 2026-11-23 is a Monday; São Paulo is three hours behind.
        for (at, expected) in [
            ("2026-11-23T11:59:59.999Z", false),
            ("2026-11-23T12:00:00Z", true),
            ("2026-11-23T20:59:59.999Z", true),
            ("2026-11-23T21:00:00Z", false),
            ("2026-11-24T12:00:00Z", false),
            ("2026-11-28T02:59:59Z", true),
            ("2026-11-28T03:00:00Z", false),
        ] {
            assert_eq!(open(&hours, at), expected, "{at}");
        }
    }

    #[test]
    fn a_range_past_midnight_belongs_to_the_day_of_its_start_and_an_exception_replaces_its_day() {
        let mut spec = spec("Etc/UTC", &[], &[["22:00", "06:00"]]);
        spec.except = vec![SpecialDay {
            date: "2026-11-28".to_owned(),
            open: vec![["10:00".to_owned(), "11:00".to_owned()]],
        }];
        let hours = Hours::compile(spec).unwrap();
        // 2026-11-27 is a Friday.
        for (at, expected) in [
            ("2026-11-27T05:00:00Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:00Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T10:30:00Z", true),
            ("2026-12-05T05:00:00Z", true),
            ("2026-12-05T10:30:00Z", false),
        ] {
            assert_eq!(open(&hours, at), expected, "{at}");
        }
        let mut closed = hours.spec().clone();
        closed.except[0].date = "2026-11-27".to_owned();
        closed.except[0].open.clear();
        let closed = Hours::compile(closed).unwrap();
        assert!(!open(&closed, "2026-11-27T23:00:00Z"));
        assert!(!open(&closed, "2026-11-28T05:00:00Z"));
    }

    // New York: on 2026-03-08, a Sunday, 02:00 becomes 03:00; on 2026-11-01, a Sunday, 02:00 becomes 01:00.
    #[test]
    fn what_the_clock_skips_or_repeats_is_compared_as_the_wall_shows_it() {
        let mut spec = spec("America/New_York", &[], &[]);
        spec.weekly.sun = vec![["01:30".to_owned(), "02:30".to_owned()]];
        let hours = Hours::compile(spec).unwrap();
        for (at, expected) in [
            ("2026-03-08T06:29:59Z", false),
            ("2026-03-08T06:30:00Z", true),
            // 01:59:59 is followed by 03:00.
            ("2026-03-08T06:59:59Z", true),
            ("2026-03-08T07:00:00Z", false),
            // 01:30 comes twice.
            ("2026-11-01T05:30:00Z", true),
            ("2026-11-01T06:00:00Z", false),
            ("2026-11-01T06:30:00Z", true),
            ("2026-11-01T07:29:59Z", true),
            ("2026-11-01T07:30:00Z", false),
        ] {
            assert_eq!(open(&hours, at), expected, "{at}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_place() {
        let mut wrong = spec(
            "Mars/Olympus",
            &[
                ["09:00", "09:00"],
                ["9:00", "10:00"],
                ["24:00", "06:00"],
                ["00:00", "24:01"],
            ],
            &[],
        );
        wrong.weekly.tue = vec![["00:00".to_owned(), "24:00".to_owned()]; 21];
        let day = |date: &str| SpecialDay {
            date: date.to_owned(),
            open: Vec::new(),
        };
        wrong.except = vec![day("2026-02-30"), day("2026-12-25"), day("2026-12-25")];
        let problems = Hours::compile(wrong).unwrap_err();
        let told: Vec<String> = problems
            .iter()
            .map(|(path, problem)| format!("{path} {problem}"))
            .collect();
        assert_eq!(
            told,
            [
                "time_zone is not a time zone",
                "weekly.mon.0 starts when it ends",
                "weekly.mon.1 is not a time as in 09:00",
                "weekly.mon.2 is not a time as in 09:00",
                "weekly.mon.3 is not a time as in 09:00",
                "weekly.tue has too many ranges",
                "except.0.date is not a day as in 2026-12-25",
                "except.2.date is there twice",
            ]
        );
        let many = (0..401).map(|_| day("2026-12-25")).collect();
        let many = HoursSpec {
            except: many,
            ..spec("Etc/UTC", &[], &[])
        };
        let problems = Hours::compile(many).unwrap_err();
        assert!(problems.contains(&("except".to_owned(), HoursProblem::TooManyDays)));
    }
}
