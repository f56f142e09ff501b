//! The HTTP API of Ringback: agents, numbers, roles, calls and settings for administrators, lookups
//! for PBXs, decisions for whoever watches, and metrics.
//!
//! Everything that changes goes through the commands of [`ringback_engine`]; everything that is shown
//! is read from its directory. This crate owns what travels: paths, tokens, bodies, errors.
//!
//! # What is settled here
//!
//! - A body that is JSON but no object has no fields: 422, with an error under `body` beside those of
//!   the fields that are missing. Of a repeated key the last value counts. Where a field may be left
//!   out, `null` leaves it out; in `PATCH` and `PUT` it clears what can be cleared.
//! - `POST /environments/{id}/tokens` and `check-constraints`, all of whose fields may be left out, take
//!   no body at all for an empty one. `publish`, `unpublish` and `answered` do not look at one.
//! - A `name`, `label` or token name has at most 255 characters, a `description` 2,000, a target's URI
//!   1,024, a call id 1 to 255 bytes; `targets` has at most 32 entries, a list of identifiers 1,000.
//!   `priority` and `weight` are integers from 0 to 65535, 0 where left out; a target may be written as
//!   its URI alone. `recency_window_seconds` is at least 1.
//! - `GET /phone-numbers` gives all numbers, and a page with `meta` where `page` or `per_page` is given.
//! - `country_code` is ISO 3166-1 alpha-2. Given, it must fit the digits; left out, it is the country
//!   that the digits belong to, if they tell.
//! - Names in `X-Ignored-Fields` are percent-encoded where they are no token of HTTP, and cut off after 64
//!   bytes; at most 20 are shown, each once. In a batch those of all lines stand together.
//! - `POST /calls` answers 201 whether the call is new or known. A withheld `from` is as good as none.
//! - In a query, a `+` that was not escaped arrives as a space; before a digit in `to` and `from` it
//!   is read as the `+` that was meant. An empty parameter counts as left out.
//! - A number in a path that cannot be read is 422 under `number`.
//! - `GET /route` and `POST /route` list targets by priority; within one, `GET` puts the heaviest first
//!   and `POST` draws by the call id, as SIP does. `routed_call_sid` is `null` for `GET`.
//! - `/healthz`, `/readyz`, `/metrics`, `/docs` and `/api/v1/openapi.json` ask for no token. `/readyz` is
//!   503 while storage takes no writes and while the server goes down.
//! - Decisions: their shape stands with the handlers of `/decisions`; `limit` is 1 to 1,000, 100 where
//!   left out.
//! - A connection beyond the limits is closed for a new one if it has no request under way; where all have
//!   one, paths with a token are 503 `TOO_MANY_CONNECTIONS` on the new one. A token with too many open
//!   requests, or streams in half of its places, gets 429 `TOO_MANY_OPEN_REQUESTS`.
//! - A session of the console stands for its token: with a cookie and no `Authorization` it opens the same paths,
//!   counts for the same limits and ends with it. The administrator's opens those of the environment that it chose,
//!   too. `POST /session` compares the authority of `Origin` with `Host`.
//! - Rate limiting, where on, counts per token in windows of one minute, the administrator's too.

mod api;
mod auth;
mod body;
mod call_text;
mod client;
mod cluster;
mod config;
mod connections;
mod console;
mod docs;
mod error;
mod failures;
mod fields;
mod handler;
mod idempotency;
mod identity;
mod ignored;
mod limit;
mod lines;
mod mask;
mod metrics;
mod observer;
mod open_requests;
mod paging;
mod path;
mod platforms;
mod problems;
mod reply;
mod router;
mod sequence;
mod server;
mod sessions;
mod status;
mod streamed;
mod targets;
mod wire;

pub use api::Api;
pub use cluster::{ClusterError, ClusterSource, Snapshot, WriteSnapshot};
pub use config::{
    HttpConfig, HttpConfigError, HttpConfigErrors, HttpConfigProblem, HttpSpec, HttpTlsSpec,
};
pub use handler::reload::ReloadRequest;
pub use identity::read as read_number;
pub use metrics::MetricsSource;
pub use observer::{AnsweredRequest, RequestObserver};
pub use router::router;
pub use server::{Listeners, bind, serve};
pub use status::StatusSource;
pub use targets::TargetSource;
