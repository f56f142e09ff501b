//! Properties of the index, and of decisions that ask it, against naive models.

#![cfg(not(ringback_loom))]

mod decision;
mod index;
mod model;
