//! Properties of the index, and of decisions that ask it, against naive models.

mod decision;
mod index;
mod model;
