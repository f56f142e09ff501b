//! The order in which the targets of an agent are offered.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::Target;

/// Anything that can be ordered as SRV records are (RFC 2782).
pub trait Ranked {
    /// Lower is tried first.
    fn priority(&self) -> u16;

    /// Share within one priority.
    fn weight(&self) -> u16;
}

impl Ranked for Target {
    fn priority(&self) -> u16 {
        self.priority
    }

    fn weight(&self) -> u16 {
        self.weight
    }
}

/// Orders targets as SRV records are (RFC 2782): lower priority first, and within one priority at random, in
/// proportion to the weight.
///
/// The random sequence is seeded by the call id alone (the Call-ID in SIP, the `sid` over HTTP), so the same call
/// always gets the same order, in SIP as over HTTP.
pub fn order_targets<'t, T: Ranked>(
    targets: impl IntoIterator<Item = &'t T>,
    call_id: &[u8],
    ordered: &mut SmallVec<[&'t T; 8]>,
) {
    ordered.clear();
    ordered.extend(targets);
    ordered.sort_by_key(|target| target.priority());
    let mut random = xxh3_64(call_id);
    let mut start = 0;
    while let Some(first) = ordered.get(start) {
        let priority = first.priority();
        let rest = ordered.get_mut(start..).unwrap_or_default();
        let length = rest
            .iter()
            .take_while(|target| target.priority() == priority)
            .count();
        draw(rest.get_mut(..length).unwrap_or_default(), &mut random);
        start += length;
    }
}

/// Draws the targets of one priority one by one, and puts them in the order drawn.
fn draw<T: Ranked>(group: &mut [&T], random: &mut u64) {
    for index in 0..group.len().saturating_sub(1) {
        let Some(rest) = group.get_mut(index..) else {
            return;
        };
        let total: u64 = rest.iter().map(|target| u64::from(target.weight())).sum();
        if total == 0 {
            return;
        }
        // RFC 2782 draws a number from 0 to the total, and takes the first running sum that reaches it. We draw
        // from 1, so that a target of weight 0 is taken only when nothing else is left.
        let mut drawn = 1 + next(random) % total;
        let chosen = rest
            .iter()
            .position(|target| {
                let weight = u64::from(target.weight());
                if drawn <= weight {
                    return true;
                }
                drawn -= weight;
                false
            })
            .unwrap_or(0);
        if let Some(passed) = rest.get_mut(..=chosen) {
            passed.rotate_right(1);
        }
    }
}

/// SplitMix64: the next number of the sequence that starts with the seed.
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, priority: u16, weight: u16) -> Target {
        Target {
            uri: uri.to_owned(),
            priority,
            weight,
        }
    }

    fn order(targets: &[Target], call: u64) -> Vec<&str> {
        let mut ordered = SmallVec::new();
        order_targets(targets, call.to_string().as_bytes(), &mut ordered);
        ordered.iter().map(|target| target.uri.as_str()).collect()
    }

    #[test]
    fn lower_priority_comes_first_and_equal_weights_of_zero_keep_their_order() {
        let targets = [target("c", 20, 0), target("a", 10, 0), target("b", 10, 0)];
        assert_eq!(order(&targets, 7), ["a", "b", "c"]);
    }

    #[test]
    fn weight_is_the_share_of_first_places_and_the_call_id_alone_decides() {
        let targets = [target("light", 0, 1), target("heavy", 0, 3)];
        let heavy = (0..10_000)
            .filter(|call| order(&targets, *call)[0] == "heavy")
            .count();
        assert!((7_200..7_800).contains(&heavy), "{heavy}");
        assert_eq!(order(&targets, 42), order(&targets, 42));
    }
}
