//! Properties of the routing core, against a naive model.

mod decision;
mod index;
mod model;
