//! What other systems write into their call records: which column holds what, which words stand for which
//! status, and which calls went out.
//!
//! - Asterisk: `Master.csv` of `cdr_csv` (16 to 21 columns) and of `cdr_custom`'s sample, and the table that
//!   `cdr_adaptive_odbc`, `cdr_mysql` and FreePBX fill, exported with or without its header.
//! - FreeSWITCH: `Master.csv` of `mod_cdr_csv` by its templates `example` and `asterisk`, lines of `mod_json_cdr`,
//!   and FusionPBX's export.
//! - Twilio: the console's CSV, and the API's `Call` objects, one on a line.
//! - VICIdial: the export calls report, and the table `vicidial_log`.

use super::known::Environment;
use crate::client::ClientError;

/// A system whose call records are read as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Master.csv, or the cdr table
    Asterisk,
    /// The cdr table or the report's CSV
    Freepbx,
    /// Master.csv of mod_cdr_csv, mod_json_cdr, FusionPBX
    Freeswitch,
    /// The console's CSV, or Call objects of the API
    Twilio,
    /// The export calls report, or vicidial_log
    Vicidial,
}

/// What a column says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// The agent that called.
    Agent = 0,
    /// Whom it called.
    To,
    /// The number that it called from.
    From,
    /// How far the call got.
    Status,
    /// When it started.
    StartedAt,
    /// The call id.
    Sid,
    /// Whether it went out.
    Direction,
    /// The dial plan's context.
    Context,
    /// How long was talked, in seconds.
    Talk,
    /// The calling code in front of the called number.
    CallingCode,
    /// Our number that was called.
    Did,
}

impl Column {
    /// Every column.
    pub(crate) const ALL: [Self; 11] = [
        Self::Agent,
        Self::To,
        Self::From,
        Self::Status,
        Self::StartedAt,
        Self::Sid,
        Self::Direction,
        Self::Context,
        Self::Talk,
        Self::CallingCode,
        Self::Did,
    ];

    /// The name of the field, of those that can be named.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Agent => "agent_id",
            Self::To => "to",
            Self::From => "from",
            Self::Status => "status",
            Self::StartedAt => "started_at",
            Self::Sid => "sid",
            Self::Direction => "direction",
            Self::Context => "context",
            Self::Talk => "talk",
            Self::CallingCode => "calling code",
            Self::Did => "did",
        }
    }
}

/// The cells of a row that say something: up to three for a column, the ones that count first; absent ones are
/// empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cells<'a>([[&'a str; CANDIDATES]; Column::ALL.len()]);

impl<'a> Cells<'a> {
    /// Enters a cell behind those that are there.
    pub(crate) fn add(&mut self, column: Column, cell: &'a str) {
        let free = self
            .0
            .get_mut(column as usize)
            .and_then(|cells| cells.iter_mut().find(|known| known.is_empty()));
        if let Some(free) = free {
            *free = cell;
        }
    }

    /// The cell that counts; empty where there is none.
    pub(crate) fn get(&self, column: Column) -> &'a str {
        self.all(column).next().unwrap_or_default()
    }

    /// All cells of a column.
    pub(crate) fn all(&self, column: Column) -> impl Iterator<Item = &'a str> {
        self.0
            .get(column as usize)
            .into_iter()
            .flatten()
            .copied()
            .filter(|cell| !cell.is_empty())
    }
}

/// Which way a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From us to a contact.
    Outbound,
    /// From a contact to us.
    Inbound,
    /// Among ourselves: to an extension, a feature code, a part of the dial plan.
    Internal,
}

/// Columns of rows without a header, by their index.
pub(crate) struct Layout {
    /// How many columns a row has at least.
    pub(crate) least: usize,
    /// Which column stands at which index.
    pub(crate) indexes: &'static [(Column, usize)],
}

impl Preset {
    /// The names by which a column is found in a header or among the keys of an object, the ones that count first;
    /// written as [`compact`] does. A dot stands for a step into an object.
    pub(crate) fn names(self, column: Column) -> &'static [&'static str] {
        let names = match self {
            Self::Asterisk | Self::Freepbx => ASTERISK_NAMES,
            Self::Freeswitch => FREESWITCH_NAMES,
            Self::Twilio => TWILIO_NAMES,
            Self::Vicidial => VICIDIAL_NAMES,
        };
        names
            .iter()
            .find(|(named, _)| *named == column)
            .map_or(&[], |(_, names)| names)
    }

    /// The layouts of rows without a header, the usual one first.
    pub(crate) fn layouts(self) -> &'static [Layout] {
        match self {
            Self::Asterisk => ASTERISK_LAYOUTS,
            Self::Freepbx => FREEPBX_LAYOUTS,
            Self::Freeswitch => FREESWITCH_LAYOUTS,
            Self::Twilio => &[],
            Self::Vicidial => VICIDIAL_LAYOUTS,
        }
    }

    /// Whether times that name no zone are UTC, whatever the zone of this machine.
    pub(crate) fn is_utc(self) -> bool {
        matches!(self, Self::Twilio)
    }

    /// Which way the call of a row went.
    pub(crate) fn direction(
        self,
        cells: &Cells<'_>,
        environment: &Environment<'_>,
    ) -> Result<Direction, ClientError> {
        let told = direction_named(cells.get(Column::Direction));
        let to = cells.get(Column::To);
        let is_from_outside = match self {
            Self::Asterisk | Self::Freepbx | Self::Freeswitch => {
                !cells.get(Column::Did).is_empty()
                    || INBOUND_CONTEXTS
                        .iter()
                        .any(|start| starts_with(cells.get(Column::Context), start))
            }
            // Calls to in-groups are held by this user until an agent takes them.
            Self::Vicidial => {
                !cells.get(Column::Did).is_empty() || cells.get(Column::Context) == "VDCL"
            }
            Self::Twilio => false,
        };
        Ok(match told {
            Some(Direction::Inbound) => Direction::Inbound,
            _ if is_from_outside => Direction::Inbound,
            Some(Direction::Internal) => Direction::Internal,
            _ if is_number(to) && !environment.owns(to)? => Direction::Outbound,
            _ if cells.all(Column::From).any(is_number) && told.is_none() => Direction::Inbound,
            _ => Direction::Internal,
        })
    }

    /// The called number of a row.
    pub(crate) fn to(self, cells: &Cells<'_>) -> String {
        let to = cells.get(Column::To);
        let code = cells.get(Column::CallingCode);
        let is_code = (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
        if self == Self::Vicidial && is_code && !to.starts_with('+') {
            format!("+{code}{to}")
        } else {
            to.to_owned()
        }
    }

    /// The status of a row, as a word that the API reads.
    pub(crate) fn status<'a>(self, cells: &Cells<'a>) -> &'a str {
        let word = cells.get(Column::Status);
        let talk = cells.get(Column::Talk);
        let has_talked = talk.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        match self {
            Self::Asterisk | Self::Freepbx | Self::Twilio => word,
            Self::Freeswitch => match word {
                _ if has_talked => "completed",
                "" => "initiated",
                "USER_BUSY" => "busy",
                "NORMAL_CLEARING"
                | "ORIGINATOR_CANCEL"
                | "NO_ANSWER"
                | "NO_USER_RESPONSE"
                | "ALLOTTED_TIMEOUT"
                | "SUBSCRIBER_ABSENT"
                | "PICKED_OFF"
                | "LOSE_RACE"
                | "RECOVERY_ON_TIMER_EXPIRE" => "no_answer",
                _ => "failed",
            },
            Self::Vicidial => VICIDIAL_STATUSES
                .iter()
                .find(|(_, words)| words.contains(&word))
                .map_or(
                    if has_talked { "completed" } else { "initiated" },
                    |(status, _)| status,
                ),
        }
    }

    /// Whether a text has the form of this system's call ids.
    pub(crate) fn is_sid(self, text: &str) -> bool {
        match self {
            // Without `loguniqueid` another column stands in its place.
            Self::Asterisk | Self::Freepbx | Self::Vicidial => {
                text.rsplit('-').next().is_some_and(|id| {
                    id.split_once('.').is_some_and(|(seconds, count)| {
                        let digits = |text: &str| {
                            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
                        };
                        digits(seconds) && digits(count)
                    })
                })
            }
            Self::Freeswitch | Self::Twilio => true,
        }
    }
}

/// A name without case, spaces, hyphens and underscores: `Start Time`, `start_time` and `startTime` are one.
pub(crate) fn compact(name: &str) -> String {
    compacted(name).collect()
}

/// Whether a name is this one, which is compact.
pub(crate) fn is_compacted(name: &str, compact: &str) -> bool {
    compacted(name).eq(compact.chars())
}

/// The characters of a name by which it is known.
fn compacted(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .filter(|character| !matches!(character, ' ' | '-' | '_' | '\u{a0}' | '#'))
        .flat_map(char::to_lowercase)
}

/// The direction that a word stands for.
pub(crate) fn direction_named(word: &str) -> Option<Direction> {
    let word = compact(word);
    Some(match word.as_str() {
        // As Twilio names calls of a SIP trunk: they end in, or come from, the telephone network.
        "trunkingterminating" => Direction::Outbound,
        "trunkingoriginating" => Direction::Inbound,
        "internal" | "local" => Direction::Internal,
        "i" => Direction::Inbound,
        "o" => Direction::Outbound,
        _ if word.starts_with("out") => Direction::Outbound,
        _ if word.starts_with("in") => Direction::Inbound,
        _ => return None,
    })
}

/// Whether a text may be a number that is reached over a telephone network: at least seven digits, and nothing
/// but what numbers are written with. Extensions, feature codes and names are none.
pub(crate) fn is_number(text: &str) -> bool {
    let user = user_part(text);
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    let is_plain = user.chars().all(|c| {
        c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '(' | ')' | '/' | ' ' | '\u{a0}')
    });
    digits > LONGEST_EXTENSION && is_plain
}

/// Whether a text is an extension: up to six digits, perhaps with `*` or `#`.
pub(crate) fn is_extension(text: &str) -> bool {
    let user = user_part(text);
    (1..=LONGEST_EXTENSION).contains(&user.len())
        && user
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'*' | b'#'))
}

/// The user part of a URI; of anything else all of it. Of a name-addr what stands between `<` and `>`.
pub(crate) fn user_part(text: &str) -> &str {
    let text = text.trim();
    let address = match (text.rfind('<'), text.rfind('>')) {
        (Some(start), Some(end)) if start < end => text.get(start + 1..end).unwrap_or_default(),
        _ => text,
    };
    let scheme = ["sip:", "sips:", "tel:"]
        .iter()
        .find(|scheme| starts_with(address, scheme));
    match scheme {
        Some(scheme) => address
            .get(scheme.len()..)
            .and_then(|rest| rest.split(['@', ';']).next())
            .unwrap_or_default(),
        None => address,
    }
}

/// Whether a text starts with another, in any case.
fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// How many cells count for a column.
const CANDIDATES: usize = 3;

/// The longest extension, in digits; the shortest number of E.164 has one more.
const LONGEST_EXTENSION: usize = 6;

/// How the contexts begin in which calls from outside come in, in the dial plans of FreePBX, FreeSWITCH and the
/// Asterisk documentation.
const INBOUND_CONTEXTS: &[&str] = &[
    "from-trunk",
    "from-pstn",
    "from-did",
    "from-external",
    "from-sip-external",
    "from-zaptel",
    "from-dahdi",
    "ext-did",
    "incoming",
    "inbound",
    "public",
];

/// Asterisk: names of columns.
const ASTERISK_NAMES: &[(Column, &[&str])] = &[
    (Column::Agent, &["accountcode"]),
    (Column::To, &["dst", "destination"]),
    (Column::From, &["outboundcnum", "src", "clid"]),
    (Column::Status, &["disposition"]),
    (Column::StartedAt, &["start", "calldate"]),
    (Column::Sid, &["uniqueid"]),
    (Column::Direction, &["direction"]),
    (Column::Context, &["dcontext"]),
    (Column::Talk, &["billsec"]),
    (Column::Did, &["did"]),
];

/// `cdr_csv`: accountcode, src, dst, dcontext, clid, channel, dstchannel, lastapp, lastdata, start, answer, end,
/// duration, billsec, disposition, amaflags, then perhaps uniqueid, userfield and others.
const CDR_CSV: Layout = Layout {
    least: 16,
    indexes: &[
        (Column::Agent, 0),
        (Column::From, 1),
        (Column::To, 2),
        (Column::Context, 3),
        (Column::From, 4),
        (Column::StartedAt, 9),
        (Column::Talk, 13),
        (Column::Status, 14),
        (Column::Sid, 16),
    ],
};

/// The sample of `cdr_custom`: clid, src, dst, dcontext, channel, dstchannel, lastapp, lastdata, start, answer, end,
/// duration, billsec, disposition, amaflags, accountcode, uniqueid, userfield, sequence.
const CDR_CUSTOM: Layout = Layout {
    least: 17,
    indexes: &[
        (Column::From, 1),
        (Column::From, 0),
        (Column::To, 2),
        (Column::Context, 3),
        (Column::StartedAt, 8),
        (Column::Talk, 12),
        (Column::Status, 13),
        (Column::Agent, 15),
        (Column::Sid, 16),
    ],
};

/// The cdr table: calldate, clid, src, dst, dcontext, channel, dstchannel, lastapp, lastdata, duration, billsec,
/// disposition, amaflags, accountcode, uniqueid, userfield; FreePBX goes on with did, recordingfile, cnum, cnam,
/// outbound_cnum, outbound_cnam, dst_cnam, linkedid, peeraccount, sequence.
const CDR_TABLE: Layout = Layout {
    least: 14,
    indexes: &[
        (Column::StartedAt, 0),
        (Column::From, 20),
        (Column::From, 2),
        (Column::From, 1),
        (Column::To, 3),
        (Column::Context, 4),
        (Column::Talk, 10),
        (Column::Status, 11),
        (Column::Agent, 13),
        (Column::Sid, 14),
        (Column::Did, 16),
    ],
};

/// Asterisk: rows without a header.
const ASTERISK_LAYOUTS: &[Layout] = &[CDR_CSV, CDR_CUSTOM, CDR_TABLE];

/// FreePBX: rows without a header.
const FREEPBX_LAYOUTS: &[Layout] = &[CDR_TABLE, CDR_CSV, CDR_CUSTOM];

/// FreeSWITCH: names of columns.
const FREESWITCH_NAMES: &[(Column, &[&str])] = &[
    (Column::Agent, &["accountcode", "variables.accountcode"]),
    (
        Column::To,
        &[
            "destinationnumber",
            "variables.destinationnumber",
            "callflow.callerprofile.destinationnumber",
        ],
    ),
    (
        Column::From,
        &[
            "calleridnumber",
            "variables.calleridnumber",
            "callflow.callerprofile.calleridnumber",
        ],
    ),
    (Column::Status, &["hangupcause", "variables.hangupcause"]),
    (
        Column::StartedAt,
        &["startepoch", "variables.startepoch", "startstamp"],
    ),
    (Column::Sid, &["uuid", "xmlcdruuid", "variables.uuid"]),
    (Column::Direction, &["direction"]),
    (
        Column::Context,
        &["context", "callflow.callerprofile.context"],
    ),
    (Column::Talk, &["billsec", "variables.billsec"]),
];

/// FreeSWITCH: rows without a header, by the templates `example` and `asterisk`.
const FREESWITCH_LAYOUTS: &[Layout] = &[
    Layout {
        least: 11,
        indexes: &[
            (Column::From, 1),
            (Column::To, 2),
            (Column::Context, 3),
            (Column::StartedAt, 4),
            (Column::Talk, 8),
            (Column::Status, 9),
            (Column::Sid, 10),
            (Column::Agent, 12),
        ],
    },
    Layout {
        least: 17,
        indexes: &[
            (Column::Agent, 0),
            (Column::From, 1),
            (Column::To, 2),
            (Column::Context, 3),
            (Column::StartedAt, 9),
            (Column::Talk, 13),
            (Column::Status, 14),
            (Column::Sid, 16),
        ],
    },
];

/// Twilio: names of columns, of the console's CSV and of the API.
const TWILIO_NAMES: &[(Column, &[&str])] = &[
    (Column::To, &["to", "tonumber", "called"]),
    (Column::From, &["from", "fromnumber", "caller"]),
    (Column::Status, &["status", "callstatus"]),
    (Column::StartedAt, &["starttime", "date", "datecreated"]),
    (Column::Sid, &["sid", "callsid"]),
    (Column::Direction, &["direction"]),
];

/// VICIdial: names of columns.
const VICIDIAL_NAMES: &[(Column, &[&str])] = &[
    (Column::Agent, &["campaignid", "user"]),
    (Column::To, &["phonenumberdialed", "phonenumber"]),
    (Column::From, &["outboundcid", "diallogoutboundcid"]),
    (Column::Status, &["status"]),
    (Column::StartedAt, &["calldate", "startepoch"]),
    (Column::Sid, &["uniqueid"]),
    (Column::Context, &["user"]),
    (Column::Talk, &["lengthinsec"]),
    (Column::CallingCode, &["phonecode"]),
    (Column::Did, &["didid"]),
];

/// VICIdial: rows without a header, of the export calls report and of `vicidial_log`.
const VICIDIAL_LAYOUTS: &[Layout] = &[
    Layout {
        least: 31,
        indexes: &[
            (Column::StartedAt, 0),
            (Column::To, 1),
            (Column::Status, 2),
            (Column::Context, 3),
            (Column::Agent, 5),
            (Column::Agent, 3),
            (Column::CallingCode, 10),
            (Column::Talk, 30),
        ],
    },
    Layout {
        least: 12,
        indexes: &[
            (Column::Sid, 0),
            (Column::Agent, 3),
            (Column::Agent, 11),
            (Column::StartedAt, 4),
            (Column::Talk, 7),
            (Column::Status, 8),
            (Column::CallingCode, 9),
            (Column::To, 10),
            (Column::Context, 11),
        ],
    },
];

/// VICIdial's own statuses. Any other was made by the operator: it is given by an agent who talked, or by nobody.
const VICIDIAL_STATUSES: &[(&str, &[&str])] = &[
    ("voicemail", &["A", "AA", "AM", "AL", "AFAX", "AIVR"]),
    ("busy", &["B", "AB"]),
    ("no_answer", &["N", "NA", "PM", "LRERR"]),
    (
        "failed",
        &[
            "DC", "ADC", "ADCT", "ERI", "CPDERR", "CPDINV", "CPDSUK", "CPDSR", "CPDSNC", "CPDSI",
        ],
    ),
    (
        "answered",
        &[
            "INCALL", "QUEUE", "DISPO", "DROP", "PDROP", "XDROP", "TIMEOT", "AFTHRS", "HXFER",
        ],
    ),
    ("initiated", &["NEW", "DIAL", "DNCL", "DNCC"]),
];

#[cfg(test)]
mod tests {
    use super::super::known::samples::numbers;
    use super::*;

    #[test]
    fn extensions_are_told_from_numbers() {
        for text in [
            "1001",
            "100",
            "*97",
            "123456",
            "sip:1001@pbx",
            "\"Bob\" <1001>",
        ] {
            assert!(is_extension(text) && !is_number(text), "{text}");
        }
        for text in [
            "+12025550142",
            "2025550142",
            "(202) 555-0142",
            "sip:+12025550142@gw",
            "1234567",
        ] {
            assert!(is_number(text) && !is_extension(text), "{text}");
        }
        for text in ["", "s", "anonymous", "client:bob", "Bob", "h", "i"] {
            assert!(!is_number(text) && !is_extension(text), "{text}");
        }
    }

    #[test]
    fn directions_are_read_in_the_words_of_every_system() {
        use Direction::{Inbound, Internal, Outbound};
        for (word, direction) in [
            ("outbound-api", Some(Outbound)),
            ("outbound-dial", Some(Outbound)),
            ("Outgoing API", Some(Outbound)),
            ("Outgoing Dial", Some(Outbound)),
            ("outbound", Some(Outbound)),
            ("inbound", Some(Inbound)),
            ("Incoming", Some(Inbound)),
            ("trunking-terminating", Some(Outbound)),
            ("trunking-originating", Some(Inbound)),
            ("local", Some(Internal)),
            ("internal", Some(Internal)),
            ("", None),
            ("north", None),
        ] {
            assert_eq!(direction_named(word), direction, "{word}");
        }
    }

    #[test]
    fn a_call_is_outbound_by_where_it_goes() {
        use Direction::{Inbound, Internal, Outbound};
        let environment = Environment::of(&[], &numbers(["+12025550100"]));
        let direction = |from, to, context| {
            let mut cells = Cells::default();
            cells.add(Column::From, from);
            cells.add(Column::To, to);
            cells.add(Column::Context, context);
            Preset::Asterisk.direction(&cells, &environment).unwrap()
        };
        for (from, to, context, expected) in [
            ("1001", "12025550142", "from-internal", Outbound),
            ("+12025550100", "+12025550142", "outbound", Outbound),
            ("1001", "1002", "from-internal", Internal),
            ("1001", "*97", "from-internal", Internal),
            ("1001", "2025550100", "from-internal", Internal),
            ("12025550142", "12025550100", "default", Inbound),
            ("12025550142", "s", "default", Inbound),
            ("12025550142", "600", "ext-queues", Inbound),
            ("12025550142", "12025550199", "from-trunk-voip", Inbound),
        ] {
            assert_eq!(
                direction(from, to, context),
                expected,
                "{from} {to} {context}"
            );
        }
    }

    #[test]
    fn every_word_for_a_status_is_one_that_the_api_reads() {
        let read = |preset: Preset, word, talk| {
            let mut cells = Cells::default();
            cells.add(Column::Status, word);
            cells.add(Column::Talk, talk);
            let status = preset
                .status(&cells)
                .parse::<ringback_routing::CallStatus>();
            status.unwrap().name()
        };
        for (preset, word, talk, status) in [
            (Preset::Asterisk, "ANSWERED", "12", "answered"),
            (Preset::Asterisk, "NO ANSWER", "0", "no_answer"),
            (Preset::Asterisk, "CONGESTION", "0", "failed"),
            (Preset::Freepbx, "BUSY", "0", "busy"),
            (Preset::Freeswitch, "NORMAL_CLEARING", "12", "completed"),
            (Preset::Freeswitch, "NORMAL_CLEARING", "0", "no_answer"),
            (Preset::Freeswitch, "ORIGINATOR_CANCEL", "0", "no_answer"),
            (Preset::Freeswitch, "USER_BUSY", "0", "busy"),
            (Preset::Freeswitch, "UNALLOCATED_NUMBER", "0", "failed"),
            (Preset::Twilio, "Canceled", "", "no_answer"),
            (Preset::Twilio, "in-progress", "", "answered"),
            (Preset::Vicidial, "AA", "9", "voicemail"),
            (Preset::Vicidial, "NA", "0", "no_answer"),
            (Preset::Vicidial, "SALE", "90", "completed"),
            (Preset::Vicidial, "MYOWN", "0", "initiated"),
            (Preset::Vicidial, "MYOWN", "31", "completed"),
        ] {
            assert_eq!(read(preset, word, talk), status, "{word}");
        }
        for (status, _) in VICIDIAL_STATUSES {
            assert!(status.parse::<ringback_routing::CallStatus>().is_ok());
        }
    }

    #[test]
    fn call_ids_are_told_from_what_else_may_stand_in_their_column() {
        for sid in ["1762000000.42", "pbx-1762000000.42"] {
            assert!(Preset::Asterisk.is_sid(sid), "{sid}");
        }
        for other in ["", "userfield", "note 1.5 h", "1762000000", "1762000000."] {
            assert!(!Preset::Asterisk.is_sid(other), "{other}");
        }
    }
}
