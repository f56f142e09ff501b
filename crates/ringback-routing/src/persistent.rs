//! Collections whose copies share what they have in common.
//!
//! A copy costs one reference count, and a change of a copy costs the few nodes on the way to it, the
//! same among a thousand elements and among a million. Readers of other copies notice nothing. Nodes
//! that no other copy has are changed in place.

mod map;
mod vector;

pub(crate) use map::PersistentMap;
pub(crate) use vector::PersistentVec;
