//! Every scenario of `fixtures/scenarios`, played by sipp against the real server over UDP and TCP.
//!
//! A scenario is a test of its own name: `udp::cancel`, `tcp::cancel`. Its world is data, made
//! through the HTTP API. The tests fail where sipp is missing.

mod scenario;
mod sipp;
mod torture;
mod world;

use std::collections::BTreeSet;
use std::fs;

use self::scenario::{Manifest, directory};

/// Makes a test of each scenario, over UDP and, for the first list, over TCP.
macro_rules! scenarios {
    (both [$($both:ident,)*] udp [$($only:ident,)*]) => {
        /// Over UDP.
        mod udp {
            use crate::scenario::play;
            use crate::sipp::Transport;

            $(#[test] fn $both() { play(stringify!($both), Transport::Udp); })*
            $(#[test] fn $only() { play(stringify!($only), Transport::Udp); })*
        }

        /// Over TCP.
        mod tcp {
            use crate::scenario::play;
            use crate::sipp::Transport;

            $(#[test] fn $both() { play(stringify!($both), Transport::Tcp); })*
        }

        /// The scenarios that have tests, with their transports.
        const TESTED: &[(&str, &[&str])] = &[
            $((stringify!($both), &["udp", "tcp"]),)*
            $((stringify!($only), &["udp"]),)*
        ];
    };
}

scenarios! {
    both [
        returned_call_same_number,
        returned_call_other_number,
        shared_number_sales_called_last,
        shared_number_support_called_last,
        expired_call,
        call_within_window_of_role,
        status_not_eligible,
        wrong_owner,
        unpublished_callback_agent,
        source_without_callback_agent,
        never_called,
        unknown_number,
        anonymous_caller,
        unreadable_caller,
        fallback_targets,
        refused,
        several_contacts,
        tel_request_uri,
        number_in_double_zero_form,
        national_number_of_peer,
        asserted_identity_of_trusted_peer,
        asserted_identity_of_untrusted_peer,
        remote_party_id,
        dialed_number_in_header,
        decision_in_contact,
        no_decision_headers,
        cancel,
        options,
        refused_requests,
        garbage,
    ]
    udp [
        retransmitted_invite,
    ]
}

/// A file or an entry that is added without a test would never be played.
#[test]
fn every_scenario_has_a_test() {
    let manifest = Manifest::read();
    let entries: BTreeSet<(&str, Vec<&str>)> = manifest
        .scenario
        .iter()
        .map(|scenario| {
            (
                scenario.name.as_str(),
                scenario.transports.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    let tested = TESTED
        .iter()
        .map(|(name, transports)| (*name, transports.to_vec()))
        .collect();
    assert_eq!(entries, tested);
    let files: BTreeSet<String> = fs::read_dir(directory())
        .expect("the scenarios can be listed")
        .map(|entry| entry.expect("a file can be looked at").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(
        files,
        TESTED.iter().map(|(name, _)| (*name).to_owned()).collect()
    );
}
