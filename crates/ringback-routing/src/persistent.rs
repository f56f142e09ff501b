//! Collections whose clones share their data.
//!
//! A clone costs one reference count. A change of a clone copies the few nodes on the path to it, for a thousand
//! elements as for a million. Readers of other clones notice nothing. Nodes that no other clone shares are
//! changed in place.

mod map;
mod vector;

pub(crate) use map::PersistentMap;
pub(crate) use vector::PersistentVec;
