//! What a check has found.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What to do about it; none where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) todo: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Advice,
    /// Something has to be done.
    Problem,
    /// It cannot be told.
    Unchecked,
}

impl State {
    /// The word for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Problem => "problem",
            Self::Unchecked => "unchecked",
        }
    }
}

impl Check {
    /// It is as it should be.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found.into(), None)
    }

    /// It could be better.
    pub(super) fn advice(
        name: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(name, State::Advice, found.into(), Some(todo.into()))
    }

    /// Something has to be done.
    pub(super) fn problem(
        name: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(name, State::Problem, found.into(), Some(todo.into()))
    }

    /// It cannot be told.
    pub(super) fn unchecked(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Unchecked, found.into(), None)
    }

    /// Any check.
    const fn new(name: &'static str, state: State, found: String, todo: Option<String>) -> Self {
        Self {
            name,
            state,
            found,
            todo,
        }
    }
}
