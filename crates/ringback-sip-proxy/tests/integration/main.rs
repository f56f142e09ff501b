//! The proxy on virtual time: RFC 3261 §16 and §17 and RFC 6026, clause by clause, and what Ringback settles beyond them.

#[cfg(test)]
mod cancel;
#[cfg(test)]
mod clauses;
#[cfg(test)]
mod client_transaction;
#[cfg(test)]
mod dialog;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod second_opinion;
#[cfg(test)]
mod server_transaction;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod support;
