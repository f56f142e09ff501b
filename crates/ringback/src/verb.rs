//! The client commands: one module for each noun of the API.

pub(crate) mod agent;
pub(crate) mod call;
pub(crate) mod callback;
pub(crate) mod cluster;
pub(crate) mod contact;
pub(crate) mod environment;
pub(crate) mod name;
pub(crate) mod number;
pub(crate) mod route;
pub(crate) mod status;
mod value;
