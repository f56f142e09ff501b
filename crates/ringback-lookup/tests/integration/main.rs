//! Golden pairs, proofs and hostile input.

mod golden;
mod hostile;
mod proofs;
mod settings;
mod support;
