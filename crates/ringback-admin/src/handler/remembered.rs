//! What is remembered of calls, page by page: `GET /contacts` and `GET /calls`.
//!
//! Calls are stored by contact, and contacts in the order of hashes. So a page is picked from the contacts in memory,
//! and only its calls are read from the store. Calls to one contact are read without that.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use axum::extract::State;
use axum::response::Response;
use ringback_api::ContactRow;
use ringback_engine::{Call, Listed, hash_secret, hash_sid};
use ringback_routing::{AgentId, E164, Timestamp, TokenHash, read_id};

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::identity;
use crate::path::QueryText;
use crate::reply;
use crate::wire;

/// `GET /contacts`: those whose number begins like this, by number.
pub(crate) async fn contacts(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let limit = page_limit(&mut query);
    let prefix = query.phone_number("prefix").map(|text| {
        let prefix = Prefix::read(&text);
        if prefix.is_none() {
            let message = "The prefix must be a + and 3 to 15 digits.";
            query.errors.add("prefix", message);
        }
        prefix
    });
    let sealed = Sealed(*api.administrator());
    // Asked for one beginning after the other, it would tell the digits.
    if prefix.is_some() && tenant.masked {
        return Err(ApiError::TokenIsMasked);
    }
    let after = query.read("cursor", CURSOR_PROBLEM, |text| {
        let position = u64::from_str_radix(text, 16).ok()?;
        E164::from_digits(sealed.open(position))
    });
    query.errors.into_result()?;
    let mut page: Page<E164, ContactRow> = Page::new(limit);
    let page = read(move || {
        let is_wanted = |number: E164| {
            let begins = prefix.flatten().is_none_or(|prefix| prefix.begins(number));
            begins && after.is_none_or(|after| number > after)
        };
        let read = api
            .engine()
            .visit_by_number(tenant.environment, &is_wanted, &mut |listed| {
                let (Listed::Contact(_, calls) | Listed::Unordered(calls)) = listed;
                if let (Some(latest), Some(first)) = (calls.first(), calls.last())
                    && is_wanted(first.contact)
                {
                    let row = || ContactRow {
                        number: first.contact.into(),
                        calls: calls.len() as u64,
                        last_call_at: latest.started_at,
                    };
                    page.offer(first.contact, row);
                }
                match listed {
                    Listed::Contact(..) if page.last_if_full().is_some() => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
        read.map(|()| page)
    });
    let (rows, last) = page.await?.into_rows();
    let next_cursor = last.map(|number| format!("{:016x}", sealed.seal(number.digits())));
    Ok(reply::rows(rows, next_cursor))
}

/// `GET /calls`: newest first.
pub(crate) async fn calls(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let limit = page_limit(&mut query);
    let rules = api.number_rules(tenant)?;
    let contact = query.phone_number("contact").map(|text| {
        let number = identity::read(text, rules).number();
        if number.is_none() {
            let message = "The contact must be a valid phone number.";
            query.errors.add("contact", message);
        }
        number
    });
    let agent = query.read("agent", "The agent must be an id.", read_id);
    let since = query.timestamp("since");
    let after = query.read("cursor", CURSOR_PROBLEM, read_call_cursor);
    query.errors.into_result()?;
    let is_wanted = move |call: &Call| {
        agent.is_none_or(|id| call.agent == AgentId(id))
            && since.is_none_or(|since| call.started_at >= since)
            && after.is_none_or(|after| place_of(call) > after)
    };
    let mut page = Page::new(limit);
    let offer = move |page: &mut Page<CallPlace, Call>, calls: &[Call]| {
        for call in calls.iter().filter(|call| is_wanted(call)) {
            page.offer(place_of(call), || call.clone());
        }
    };
    let page = match contact.flatten() {
        Some(contact) => {
            let known = api.engine().calls_to(tenant.environment, contact).await?;
            offer(&mut page, &known);
            page
        }
        None => {
            read(move || {
                let engine = api.engine();
                let is_listed = |id: AgentId, second: i64| {
                    agent.is_none_or(|agent| id == AgentId(agent))
                        && since.is_none_or(|since| second >= since.seconds())
                        && after.is_none_or(|(Reverse(at), _)| second <= at.seconds())
                };
                let visitor = &mut |listed: Listed<'_, Reverse<i64>>| {
                    let (Listed::Contact(_, calls) | Listed::Unordered(calls)) = listed;
                    // Calls of the second of the last row may still come before it.
                    if let Listed::Contact(second, _) = listed
                        && let Some((Reverse(last), _)) = page.last_if_full()
                        && second > Reverse(last.seconds())
                    {
                        return ControlFlow::Break(());
                    }
                    offer(&mut page, calls);
                    ControlFlow::Continue(())
                };
                let read = engine.visit_by_time(tenant.environment, &is_listed, visitor);
                read.map(|()| page)
            })
            .await?
        }
    };
    let (rows, last) = page.into_rows();
    let next_cursor = last.map(|(Reverse(at), sid)| format!("{}-{sid:016x}", at.millis()));
    Ok(reply::rows(
        rows.iter().map(wire::call).collect(),
        next_cursor,
    ))
}

/// How many rows a page has.
pub(super) fn page_limit(query: &mut QueryText) -> usize {
    let limit = query.number("limit", 100, (1, 1_000));
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Reads the store on a thread of its own.
async fn read<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ringback_engine::JournalError> + Send + 'static,
) -> Result<T, ApiError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|_panicked| ApiError::Internal)?
        .map_err(|error| {
            tracing::error!(%error, "remembered calls could not be read");
            ApiError::StorageUnavailable
        })
}

/// The first rows of a list, by their keys, of rows that come in any order.
pub(super) struct Page<K, R> {
    /// How many rows it shows.
    limit: usize,
    /// These, and one more where there are more.
    rows: BTreeMap<K, R>,
}

impl<K: Ord + Copy, R> Page<K, R> {
    /// An empty page.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            rows: BTreeMap::new(),
        }
    }

    /// Takes a row, if it is one of the first so far.
    pub(super) fn offer(&mut self, key: K, row: impl FnOnce() -> R) {
        let is_full = self.rows.len() > self.limit;
        let is_behind = self
            .rows
            .last_key_value()
            .is_some_and(|(last, _)| key > *last);
        if is_full && is_behind {
            return;
        }
        self.rows.insert(key, row());
        if self.rows.len() > self.limit + 1 {
            self.rows.pop_last();
        }
    }

    /// The last key, if no row behind it is taken any more.
    fn last_if_full(&self) -> Option<K> {
        let is_full = self.rows.len() > self.limit;
        let last = self.rows.last_key_value().map(|(key, _)| *key);
        last.filter(|_| is_full)
    }

    /// The rows, and the key of the last of them where there are more behind it.
    pub(super) fn into_rows(mut self) -> (Vec<R>, Option<K>) {
        let is_more = self.rows.len() > self.limit;
        if is_more {
            self.rows.pop_last();
        }
        let last = self.rows.last_key_value().map(|(key, _)| *key);
        (self.rows.into_values().collect(), last.filter(|_| is_more))
    }
}

/// Where a call stands among others: the newest first, those of the same time by the hash of their call id.
type CallPlace = (Reverse<Timestamp>, u64);

/// The place of a call.
fn place_of(call: &Call) -> CallPlace {
    let hash = hash_sid(call.environment, call.sid.as_bytes());
    (Reverse(call.started_at), hash)
}

/// Reads what an answer gave as the cursor of calls.
fn read_call_cursor(text: &str) -> Option<CallPlace> {
    let (millis, hash) = text.rsplit_once('-')?;
    let at = Timestamp::from_millis(millis.parse().ok()?);
    Some((Reverse(at), u64::from_str_radix(hash, 16).ok()?))
}

/// The beginning of numbers.
#[derive(Clone, Copy)]
struct Prefix {
    /// The digits as an integer.
    digits: u64,
    /// How many they are.
    count: u32,
}

impl Prefix {
    /// Reads a plus and 3 to 15 digits, the first of which is not 0.
    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let is_number = (3..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        Some(Self {
            digits: digits.parse().ok().filter(|_| is_number)?,
            count: u32::try_from(digits.len()).ok()?,
        })
    }

    /// Whether a number begins like this.
    const fn begins(self, number: E164) -> bool {
        match (number.digits().ilog10() + 1).checked_sub(self.count) {
            Some(behind) => number.digits() / 10_u64.pow(behind) == self.digits,
            None => false,
        }
    }
}

/// Hides numbers in cursors, which stand in URLs, and so in the logs of proxies: four rounds of a Feistel network over
/// 64 bits. The key is the same on all nodes that have the same administrator, and after a restart.
struct Sealed(TokenHash);

impl Sealed {
    /// Hides digits.
    fn seal(&self, digits: u64) -> u64 {
        (0..ROUNDS).fold(digits, |halves, round| {
            let (left, right) = (halves >> 32, halves & HALF);
            right << 32 | (left ^ self.of_round(round, right))
        })
    }

    /// The digits that were hidden; any others if none were.
    fn open(&self, position: u64) -> u64 {
        (0..ROUNDS).rev().fold(position, |halves, round| {
            let (left, right) = (halves >> 32, halves & HALF);
            (right ^ self.of_round(round, left)) << 32 | left
        })
    }

    /// What a round adds to the other half.
    fn of_round(&self, round: u8, half: u64) -> u64 {
        let TokenHash(hash) = hash_secret(&format!("cursor {:?} {round} {half}", self.0.0));
        u64::from_be_bytes([0, 0, 0, 0, hash[0], hash[1], hash[2], hash[3]])
    }
}

/// The rounds of [`Sealed`].
const ROUNDS: u8 = 4;

/// The lower half of 64 bits.
const HALF: u64 = 0xFFFF_FFFF;

/// What is said of a cursor that no answer gave.
pub(super) const CURSOR_PROBLEM: &str = "The cursor must be one that an answer gave.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_digits_are_opened_by_the_same_key_alone() {
        let sealed = Sealed(hash_secret("administrator"));
        for digits in [1, 5_511_987_654_321, u64::MAX] {
            assert_eq!(sealed.open(sealed.seal(digits)), digits);
            assert_ne!(sealed.seal(digits) & 0xFFFF_FFFF, digits & 0xFFFF_FFFF);
        }
        let other = Sealed(hash_secret("another"));
        assert_ne!(
            other.open(sealed.seal(5_511_987_654_321)),
            5_511_987_654_321
        );
    }

    #[test]
    fn a_page_has_the_first_rows_of_any_order_and_tells_whether_there_are_more() {
        for (limit, expected, last) in [
            (2, vec![1, 3], Some(3)),
            (3, vec![1, 3, 5], Some(5)),
            (4, vec![1, 3, 5, 7], None),
        ] {
            let mut page = Page::new(limit);
            for key in [7, 3, 5, 1] {
                page.offer(key, || key);
            }
            assert_eq!(page.into_rows(), (expected, last));
        }
    }

    #[test]
    fn prefixes_are_compared_digit_by_digit() {
        let number: E164 = E164::from_digits(5_511_987_654_321).unwrap();
        for (prefix, begins) in [
            ("+551", true),
            ("+5511987654321", true),
            ("+55119876543210", false),
            ("+552", false),
        ] {
            assert_eq!(
                Prefix::read(prefix).unwrap().begins(number),
                begins,
                "{prefix}"
            );
        }
        for broken in ["+55", "551", "+0551", "+55x1", "+5511987654321000", ""] {
            assert!(Prefix::read(broken).is_none(), "{broken}");
        }
    }
}
