//! What a decision has to know of a list of targets, in two words: so that it need not read them.

use crate::{Placeholders, Target};

/// What is known of a list of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    /// The users in their URIs.
    users: UserSet,
    /// The version, and below it the flags.
    tagged: u64,
}

/// Some users of SIP URIs: an approximation that may hold more than were put in, but never fewer.
///
/// A call cannot be sent back to its own Request-URI, so whoever asks names the user in it; nearly
/// always that rules out every target at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSet(u64);

impl TargetSet {
    /// Of this list; `version` must be another one than that of any list before it.
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

    /// Which list it is; no other list has or had the same version, but for lists without a target.
    #[must_use]
    pub const fn version(self) -> u64 {
        self.tagged >> FLAG_BITS
    }

    /// Whether no target is in the list.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.tagged & SOME == 0
    }

    /// Whether what is filled into a target depends on the dialed number.
    #[must_use]
    pub const fn varies_by_dialed(self) -> bool {
        self.tagged & OF_DIALED != 0
    }

    /// Whether what is filled into a target depends on the caller.
    #[must_use]
    pub const fn varies_by_caller(self) -> bool {
        self.tagged & OF_CALLER != 0
    }

    /// Whether a target is in the list that anybody can be sent to, if only these users are avoided.
    pub(crate) const fn has_one_for_all(self, avoided: UserSet) -> bool {
        self.tagged & PLAIN != 0 && !self.users.meets(avoided)
    }

    /// Whether a target is in the list that any call for an agent can be sent to, if only these users are
    /// avoided.
    pub(crate) const fn has_one_for_agents(self, avoided: UserSet) -> bool {
        self.tagged & FOR_AGENTS != 0 && !self.users.meets(avoided)
    }
}

impl UserSet {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Everybody.
    pub const ALL: Self = Self(u64::MAX);

    /// The user with this name; with an escape in it, which can be written in several ways, everybody.
    #[must_use]
    pub fn of_user(user: &[u8]) -> Self {
        match user.last() {
            Some(last) if !user.contains(&b'%') => Self(bit(user.len(), *last)),
            Some(_) => Self::ALL,
            None => Self(bit(0, 0)),
        }
    }

    /// The user of a target.
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
            "{agent_id}" | "{source_agent_id}" => b"0123456789abcdef"
                .iter()
                .fold(Self::NONE, |users, last| users.with(Self(bit(36, *last)))),
            _ if Placeholders::are_in(user) => Self::ALL,
            _ => Self::of_user(user.as_bytes()),
        }
    }

    /// These and those.
    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether somebody may be in both.
    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Which bit stands for users of this length with this last character: numbers and names, identifiers
/// and extensions differ in length, and two numbers of one length most often in their last digit.
const fn bit(length: usize, last: u8) -> u64 {
    let mixed = (length as u32)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(last as u32)
        .wrapping_mul(0x85eb_ca77);
    1 << (mixed >> 26)
}

/// There is a target.
const SOME: u64 = 1;
/// There is one without placeholders.
const PLAIN: u64 = 1 << 1;
/// There is one whose placeholders are known in every call to an agent.
const FOR_AGENTS: u64 = 1 << 2;
/// One holds `{dialed}`.
const OF_DIALED: u64 = 1 << 3;
/// One holds `{caller}`.
const OF_CALLER: u64 = 1 << 4;
/// How many bits flags have.
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
        assert!(set(&["sip:+551130000001:secret@h;x=y"]).has_one_for_all(asked));
        assert!(!set(&["sip:+551130000000@h"]).has_one_for_all(asked));
        assert!(!set(&["sip:%2b551130000000@h"]).has_one_for_all(asked));
        // Without a user it is not told apart here.
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
        // Whose identifier it is is known later: nobody's is told apart from any other of the length.
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(!set(&["sip:{agent_id}@h"]).has_one_for_agents(UserSet::of_user(id.as_bytes())));
        assert!(!set(&["sip:{dialed}@h"]).has_one_for_agents(UserSet::of_user(b"1")));
        assert_eq!(own.version(), 7);
    }
}
