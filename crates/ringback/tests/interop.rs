//! The server beside real programs: see [`peer`].

mod peer;
mod scenario;
mod sipp;
mod world;
