//! What stands around the data of an answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Data in its envelope: what a request that was granted is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success<T> {
    /// Always true.
    pub success: bool,
    /// What was asked for.
    pub data: T,
}

impl<T> Success<T> {
    /// Puts data into its envelope.
    pub const fn new(data: T) -> Self {
        Self {
            success: true,
            data,
        }
    }
}

/// A message alone: what a request is answered with that leaves nothing to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub success: bool,
    /// What was done, for people.
    pub message: String,
}

impl Done {
    /// Says what was done.
    #[must_use]
    pub fn new(message: &str) -> Self {
        Self {
            success: true,
            message: message.to_owned(),
        }
    }
}

/// One page of a list in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Always true.
    pub success: bool,
    /// The entries of the page.
    pub data: Vec<T>,
    /// Where the page stands in its list.
    pub meta: Meta,
}

/// Where a page stands in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// This page, from 1.
    pub current_page: u64,
    /// How many entries a full page has, at most 100.
    pub per_page: u64,
    /// How many entries there are on all pages.
    pub total: u64,
    /// The last page, at least 1.
    pub last_page: u64,
}

/// The next rows of a list that grows, in their envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows<T> {
    /// Always true.
    pub success: bool,
    /// The rows, newest first.
    pub data: Vec<T>,
    /// Where the list goes on.
    pub meta: RowsMeta,
}

/// Where a list of rows goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsMeta {
    /// What to send as `cursor` for the rows after these; none: these are the last.
    pub next_cursor: Option<String>,
}

/// Why a request was not granted: the body of every answer with a status from 400 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always false.
    pub success: bool,
    /// What is wrong, for people.
    pub message: String,
    /// The stable name of the rule that was broken, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong in detail, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorDetails>,
}

impl Problem {
    /// A problem without details.
    #[must_use]
    pub fn new(message: impl Into<String>, code: Option<&str>) -> Self {
        Self {
            success: false,
            message: message.into(),
            code: code.map(str::to_owned),
            errors: None,
        }
    }

    /// A problem with details.
    #[must_use]
    pub fn with_details(message: impl Into<String>, errors: ErrorDetails) -> Self {
        Self {
            errors: Some(errors),
            ..Self::new(message, None)
        }
    }
}

/// What is wrong in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ErrorDetails {
    /// Messages by the field of the request that they are about, as `source_agent_ids.0`.
    Fields(BTreeMap<String, Vec<String>>),
    /// Messages about a configuration.
    Configuration(Vec<String>),
}
