//! Long lists, a page at a time: `page` and `per_page`.

use axum::response::Response;
use ringback_api::Meta;
use serde::Serialize;

use crate::path::QueryText;
use crate::reply;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    /// Which page, from 1.
    page: u64,
    /// How many entries a page has.
    per_page: u64,
}

impl Paging {
    /// Reads both parameters; one that is left out has its default.
    pub(crate) fn read(query: &mut QueryText) -> Self {
        Self {
            page: query.number("page", 1, (1, u64::MAX)),
            per_page: query.number("per_page", 20, (1, MAX_PER_PAGE)),
        }
    }

    /// The same, if any of them is there.
    pub(crate) fn read_if_asked(query: &mut QueryText) -> Option<Self> {
        let asked = query.get("page").is_some() || query.get("per_page").is_some();
        asked.then(|| Self::read(query))
    }

    /// The answer with the page of these entries, each written by `write`.
    pub(crate) fn answer<T, B: Serialize>(
        self,
        entries: Vec<T>,
        write: impl Fn(T) -> B,
    ) -> Response {
        let total = entries.len() as u64;
        let skipped = (self.page - 1).saturating_mul(self.per_page);
        let shown: Vec<B> = entries
            .into_iter()
            .skip(usize::try_from(skipped).unwrap_or(usize::MAX))
            .take(usize::try_from(self.per_page).unwrap_or(usize::MAX))
            .map(write)
            .collect();
        reply::page(
            shown,
            Meta {
                current_page: self.page,
                per_page: self.per_page,
                total,
                last_page: total.div_ceil(self.per_page).max(1),
            },
        )
    }
}

/// The most entries of a page.
const MAX_PER_PAGE: u64 = 100;
