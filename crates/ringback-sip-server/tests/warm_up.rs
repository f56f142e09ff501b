//! A process of its own, in which nothing else has read a number yet.

use ringback_routing::NumberRulesRef;
use ringback_sip_server::{SipConfig, SipSpec};

/// The first INVITE after a start used to build all numbering plans, on the thread that answers calls.
#[test]
fn reading_the_configuration_builds_the_numbering_plans() {
    assert!(!NumberRulesRef::is_any_warm());
    let config = SipConfig::try_from(SipSpec::default());
    assert!(config.is_ok(), "{config:?}");
    assert!(NumberRulesRef::is_any_warm());
}
