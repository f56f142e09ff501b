//! What a decision must know of a list of targets, in two words, so that it need not read the list.

use crate::{Placeholders, Target};

/// Summary of a list of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    /// The users in their URIs.
    users: UserSet,
    /// The version, and below it the flags.
    tagged: u64,
}

/// A set of users of SIP URIs, as an approximation: it may hold users that were not added, but never lacks one
/// that was.
///
/// A call cannot be sent back to its own Request-URI, so the question names the user in it. Nearly always the set
/// shows at once that no target has that user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSet(u64);

impl TargetSet {
    /// The summary of a list; `version` must differ from that of every list before it.
    #[must_use]
    pub(crate) fn of(targets: &[Target], version: u64) -> Self {
        let mut users = UserSet::NONE;
        let mut flags = 0;
        for Target { uri, .. } in targets {
            users = users.with(UserSet::of_uri(uri));
            flags |= SOME;
            if !Placeholders::are_in(uri) {
                flags |= PLAIN | FOR_AGENTS;
            } else if Placeholders::are_known_for_agents(uri) {
                flags |= FOR_AGENTS;
            }
            if Placeholders::dialed_is_in(uri) {
                flags |= OF_DIALED;
            }
            if Placeholders::caller_is_in(uri) {
                flags |= OF_CALLER;
            }
        }
        Self {
            users,
            tagged: version << FLAG_BITS | flags,
        }
    }

    /// Identifies the list: no other list has or had the same version, except that all lists without a target
    /// share one.
    #[must_use]
    pub const fn version(self) -> u64 {
        self.tagged >> FLAG_BITS
    }

    /// Whether no target is in the list.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.tagged & SOME == 0
    }

    /// Whether a filled-in target depends on the dialed number.
    #[must_use]
    pub const fn varies_by_dialed(self) -> bool {
        self.tagged & OF_DIALED != 0
    }

    /// Whether a filled-in target depends on the caller.
    #[must_use]
    pub const fn varies_by_caller(self) -> bool {
        self.tagged & OF_CALLER != 0
    }

    /// Whether the list has a target that any call can be sent to, if only these users are avoided.
    pub(crate) const fn has_one_for_all(self, avoided: UserSet) -> bool {
        self.tagged & PLAIN != 0 && !self.users.meets(avoided)
    }

    /// Whether the list has a target that any call for an agent can be sent to, if only these users are avoided.
    pub(crate) const fn has_one_for_agents(self, avoided: UserSet) -> bool {
        self.tagged & FOR_AGENTS != 0 && !self.users.meets(avoided)
    }
}

impl UserSet {
    /// No user.
    pub const NONE: Self = Self(0);

    /// Every user.
    pub const ALL: Self = Self(u64::MAX);

    /// The set of the user with this name. A name with an escape can be written in several ways, so it gives
    /// every user.
    #[must_use]
    pub fn of_user(user: &[u8]) -> Self {
        if user.contains(&b'%') {
            return Self::ALL;
        }
        let (first, last) = (user.first().copied(), user.last().copied());
        Self(bit(
            user.len(),
            first.unwrap_or_default(),
            last.unwrap_or_default(),
        ))
    }

    /// The users that a target may have, once its placeholders are filled in; every user where that is not clear.
    fn of_uri(uri: &str) -> Self {
        let rest = uri.split_once(':').map_or("", |(_, rest)| rest);
        let Some((userinfo, rest)) = rest.split_once('@') else {
            return Self::ALL;
        };
        if rest.contains('@') {
            return Self::ALL;
        }
        let user = userinfo.split_once(':').map_or(userinfo, |(user, _)| user);
        match user {
            "{agent_id}" | "{source_agent_id}" => {
                b"0123456789abcdef".iter().fold(Self::NONE, |users, last| {
                    users.with(Self(bit(ID_LENGTH, 0, *last)))
                })
            }
            _ if Placeholders::are_in(user) => Self::ALL,
            _ => Self::of_user(user.as_bytes()),
        }
    }

    /// The union of two sets.
    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets may have a user in common.
    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The bit for users with this length, first and last character. Numbers, names and extensions differ in length or in
/// what kind of character comes first, and two numbers of one length most often in their last digit.
const fn bit(length: usize, first: u8, last: u8) -> u64 {
    let kind = match first {
        // Identifiers begin with either kind, and one that is filled in later is known by its end alone.
        _ if length == ID_LENGTH => 0,
        b'+' => 1,
        b'0'..=b'9' => 2,
        _ => 0,
    };
    let mixed = (length as u32 * 4 + kind)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(last as u32)
        .wrapping_mul(0x85eb_ca77);
    1 << (mixed >> 26)
}

/// The length of an identifier in its usual form.
const ID_LENGTH: usize = 36;

/// The list has a target.
const SOME: u64 = 1;
/// A target has no placeholders.
const PLAIN: u64 = 1 << 1;
/// A target has only placeholders whose values are known in every call to an agent.
const FOR_AGENTS: u64 = 1 << 2;
/// A target holds `{dialed}`.
const OF_DIALED: u64 = 1 << 3;
/// A target holds `{caller}`.
const OF_CALLER: u64 = 1 << 4;
/// The number of bits reserved for flags.
const FLAG_BITS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uris: &[&str]) -> TargetSet {
        let target = |uri: &&str| Target {
            uri: (*uri).to_owned(),
            priority: 0,
            weight: 0,
        };
        TargetSet::of(&uris.iter().map(target).collect::<Vec<_>>(), 7)
    }

    #[test]
    fn a_target_of_another_user_is_for_all() {
        let asked = UserSet::of_user(b"+551130000000");
        assert!(set(&["sip:agent-00017@h"]).has_one_for_all(asked));
        // As long, with the same end.
        assert!(set(&["sip:callback-0000@h"]).has_one_for_all(asked));
        assert!(set(&["sip:+551130000001:secret@h;x=y"]).has_one_for_all(asked));
        assert!(!set(&["sip:+551130000000@h"]).has_one_for_all(asked));
        assert!(!set(&["sip:%2b551130000000@h"]).has_one_for_all(asked));
        // A target without a user may equal any request URI, so it is never ruled out here.
        assert!(!set(&["sip:h"]).has_one_for_all(asked));
        assert!(!set(&["sip:a@h;x=b@c"]).has_one_for_all(asked));
        assert!(!set(&["sip:agent-00017@h"]).has_one_for_all(UserSet::ALL));
        assert!(set(&["sip:+551130000000@h"]).has_one_for_all(UserSet::NONE));
        assert!(!set(&[]).has_one_for_all(UserSet::NONE));
    }

    #[test]
    fn placeholders_are_known_to_agents_but_for_the_source() {
        let none = UserSet::NONE;
        let own = set(&["sip:{agent_id}@h;d={dialed};c={caller}"]);
        assert!(own.has_one_for_agents(none) && !own.has_one_for_all(none));
        assert!(own.varies_by_dialed() && own.varies_by_caller());
        let source = set(&["sip:{source_agent_id}@h"]);
        assert!(!source.has_one_for_agents(none));
        assert!(!source.varies_by_dialed() && !source.varies_by_caller());
        // The identifier is filled in later, so it may be any text of this length.
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(!set(&["sip:{agent_id}@h"]).has_one_for_agents(UserSet::of_user(id.as_bytes())));
        assert!(!set(&["sip:{dialed}@h"]).has_one_for_agents(UserSet::of_user(b"1")));
        assert_eq!(own.version(), 7);
    }
}
