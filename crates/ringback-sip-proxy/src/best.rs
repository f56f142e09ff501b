//! The best reply gathered so far (RFC 3261 §16.7 step 6).

/// The best reply gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Best(Option<Gathered>);

/// A reply that may go up.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Its status.
    pub(crate) status: u16,
    /// The reply without our `Via`; `None`: it is of our own making.
    pub(crate) reply: Option<Box<[u8]>>,
}

impl Best {
    /// Keeps the reply if it is better than the one before. `reply` is called only then.
    pub(crate) fn gather(&mut self, status: u16, reply: Option<impl FnOnce() -> Box<[u8]>>) {
        let rank = rank(status, reply.is_none());
        let is_better = match &self.0 {
            Some(best) => rank < self::rank(best.status, best.reply.is_none()),
            None => true,
        };
        if is_better {
            self.0 = Some(Gathered {
                status,
                reply: reply.map(|reply| reply()),
            });
        }
    }

    /// Takes the best one out; leaves none.
    pub(crate) fn take(&mut self) -> Option<Gathered> {
        self.0.take()
    }
}

/// How good a reply is, the less the better: a 6xx, else the lowest class; in it what a caller can act on, then any,
/// and last a 408 of our own making and 503.
fn rank(status: u16, is_own: bool) -> (u16, u8) {
    let class = if status >= 600 { 0 } else { status / 100 };
    let within = match status {
        401 => 0,
        407 => 1,
        415 => 2,
        420 => 3,
        484 => 4,
        408 if is_own => 6,
        503 => 6,
        _ => 5,
    };
    (class, within)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status of the best of these; one below zero is of our own making.
    fn best(statuses: &[i32]) -> u16 {
        let mut best = Best::default();
        for status in statuses {
            let reply = (*status > 0).then_some(|| Box::from(*b""));
            best.gather(status.unsigned_abs() as u16, reply);
        }
        best.take().unwrap().status
    }

    #[test]
    fn a_6xx_beats_everything() {
        assert_eq!(best(&[401, 302, 603, 404]), 603);
        assert_eq!(best(&[603, 600]), 603);
    }

    #[test]
    fn the_lowest_class_wins() {
        assert_eq!(best(&[500, 404, 302]), 302);
        assert_eq!(best(&[503, 500, 486]), 486);
    }

    #[test]
    fn within_a_class_comes_what_a_caller_can_act_on() {
        for status in [401, 407, 415, 420, 484] {
            assert_eq!(best(&[404, i32::from(status), 486]), status);
        }
        assert_eq!(best(&[484, 420, 415, 407, 401]), 401);
    }

    #[test]
    fn otherwise_the_first_one_stays() {
        assert_eq!(best(&[486, 480, 404]), 486);
        assert_eq!(best(&[500, 502]), 500);
    }

    // Other proxies sent the timeout up, and the caller heard nothing of the busy line.
    #[test]
    fn a_held_486_beats_a_later_408() {
        assert_eq!(best(&[486, -408]), 486);
        assert_eq!(best(&[-408, 486]), 486);
        assert_eq!(
            best(&[408, 486]),
            408,
            "one that a target sent is like any other"
        );
    }

    #[test]
    fn a_503_comes_last_in_its_class() {
        assert_eq!(best(&[503, 500]), 500);
        assert_eq!(best(&[-503, 504]), 504);
        assert_eq!(best(&[-503, -408]), 408);
    }
}
