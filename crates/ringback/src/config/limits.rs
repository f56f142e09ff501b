//! Limits that the operating system sets to those of the configuration.

use rustix::process::{Resource, getrlimit};

use super::Spec;
use super::fault::Faults;

/// The most files that this process may have open, once it has asked for as many as it may;
/// `None`: there is no limit.
pub(super) fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Reports limits of connections that need more open files than the system allows. A default,
/// written out or not, is lowered to what is left, with a warning: nobody has asked for it.
pub(super) fn check(
    spec: &mut Spec,
    open_files: Option<u64>,
    faults: &mut Faults<'_>,
    warnings: &mut Vec<String>,
) {
    let Some(limit) = open_files else {
        return;
    };
    let room = limit.saturating_sub(RESERVE);
    let (sip_key, http_key) = ("sip.max-connections", "http.max-connections");
    let default = Spec::default();
    let sip_set = spec.sip.max_connections != default.sip.max_connections;
    let http_set = spec.http.max_connections != default.http.max_connections;
    let sip = u64::try_from(spec.sip.max_connections).unwrap_or(u64::MAX);
    let http = u64::from(spec.http.max_connections);
    let over = |wanted: u64| {
        format!(
            "{wanted} connections need more open files than the system allows, which are {limit}; \
             {RESERVE} are kept for other uses (see `ulimit -Hn`, LimitNOFILE= of systemd)"
        )
    };
    if http_set && http > room {
        faults.add(http_key, over(http));
        return;
    }
    if sip_set && sip > room {
        faults.add(sip_key, over(sip));
        return;
    }
    if sip.saturating_add(http) <= room {
        return;
    }
    if sip_set && http_set {
        faults.add(
            sip_key,
            format!(
                "together with {http_key}, {}",
                over(sip.saturating_add(http))
            ),
        );
    } else if sip_set {
        let lowered = u32::try_from(room - sip).unwrap_or(u32::MAX).max(1);
        spec.http.max_connections = lowered;
        warnings.push(lowered_default(http_key, u64::from(lowered), limit));
    } else if limit < 2 * RESERVE && !http_set {
        // There is next to nothing to share out: SIP is held to half of all files when it starts.
        let lowered = u32::try_from(limit / 4).unwrap_or(u32::MAX).max(1);
        spec.http.max_connections = lowered;
        warnings.push(lowered_default(http_key, u64::from(lowered), limit));
    } else {
        let http = if http_set { http } else { http.min(room / 2) };
        spec.http.max_connections = u32::try_from(http).unwrap_or(u32::MAX).max(1);
        // SIP is held to half of all files when it starts, whatever HTTP leaves.
        let lowered = (room - http).min(limit / 2).max(1);
        spec.sip.max_connections = usize::try_from(lowered).unwrap_or(usize::MAX);
        warnings.push(lowered_default(sip_key, lowered, limit));
    }
}

/// Says that a default does not fit.
fn lowered_default(key: &str, value: u64, limit: u64) -> String {
    format!("{key} is lowered to {value}: the system allows {limit} open files")
}

/// Files that are open besides connections: the store's, listeners, the log.
const RESERVE: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of these limits: the same or lowered, faults, and the number of warnings.
    fn checked(sip: usize, http: u32, open_files: u64) -> (usize, u32, Vec<String>, usize) {
        let mut spec = Spec::default();
        spec.sip.max_connections = sip;
        spec.http.max_connections = http;
        let mut faults = Faults::new(None, &[]);
        let mut warnings = Vec::new();
        check(&mut spec, Some(open_files), &mut faults, &mut warnings);
        let faults = faults.into_list().iter().map(ToString::to_string).collect();
        (
            spec.sip.max_connections,
            spec.http.max_connections,
            faults,
            warnings.len(),
        )
    }

    #[test]
    fn limits_that_are_set_must_fit_and_defaults_are_lowered() {
        let default = Spec::default();
        let (sip, http) = (default.sip.max_connections, default.http.max_connections);
        assert_eq!(checked(2_000, 1_000, 4_096), (2_000, 1_000, vec![], 0));
        for (wanted, limits) in [
            ("sip.max-connections: 4000 ", (4_000, 10)),
            ("http.max-connections: 4000 ", (10, 4_000)),
            (
                "sip.max-connections: together with http.max-connections",
                (2_000, 2_000),
            ),
        ] {
            let (_, _, faults, _) = checked(limits.0, limits.1, 4_096);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(wanted), "{faults:?}");
        }
        assert_eq!(checked(sip, http, 4_096), (2_048, http, vec![], 1));
        assert_eq!(checked(sip, http, 1_024), (256, 256, vec![], 1));
        assert_eq!(checked(3_000, http, 4_096), (3_000, 584, vec![], 1));
        assert_eq!(checked(sip, http, 100).2, Vec::<String>::new());
        assert_eq!(checked(sip, http, 1_000_000), (sip, http, vec![], 0));
    }
}
