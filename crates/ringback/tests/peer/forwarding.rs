//! Ringback sends calls on by itself, with real programs on either side: whoever hangs up, and whether it stays in the
//! path of the call or not.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::peer::asterisk::{Asterisk, Places};
use crate::peer::kamailio::Version;
use crate::peer::{Program, Setting, baresip, fixture, sid};
use crate::sipp::{Transport, own_address};

#[test]
fn agent_hangs_up() {
    let address = own_address();
    let setting = Setting::forwarding(true, &[address]).called();
    let agent = setting.answer("agent", address);
    setting.call("caller", own_address(), setting.server.address("sip_udp"));
    agent.success();
    setting.wait_for_answered(1);
}

#[test]
fn caller_hangs_up() {
    let address = own_address();
    let setting = Setting::forwarding(true, &[address]).called();
    let agent = setting.answer("agent_hung_up", address);
    let server = setting.server.address("sip_udp");
    setting.call("caller_hangs_up", own_address(), server);
    agent.success();
}

#[test]
fn provisional_replies_are_acknowledged_from_end_to_end() {
    let address = own_address();
    let setting = Setting::forwarding(true, &[address]).called();
    let agent = setting.answer("agent_prack", address);
    let server = setting.server.address("sip_udp");
    setting.call("caller_prack", own_address(), server);
    agent.success();
}

#[test]
fn target_that_was_killed_makes_room_for_the_next_one() {
    let (first, second) = (own_address(), own_address());
    let setting = Setting::forwarding(true, &[first, second]).called();
    drop(setting.answer("agent", first));
    let agent = setting.answer("agent", second);
    setting.call("caller", own_address(), setting.server.address("sip_udp"));
    agent.success();
    let decisions = setting.wait_for("/api/v1/decisions", |decisions| {
        decisions["data"][0]["attempts"][1]["status"] == 200
    });
    assert_eq!(decisions["data"][0]["attempts"][0]["cause"], "refused");
}

#[test]
fn baresip_reaches_the_agent() {
    let address = own_address();
    let setting = Setting::forwarding(true, &[address]).called();
    let agent = setting.answer("agent", address);
    let _baresip = baresip::dial(&setting, own_address(), setting.server.address("sip_udp"));
    agent.success();
}

#[test]
fn baresip_takes_a_call() {
    // sipp sends everything where its INVITE went, so Ringback stays in the path.
    let address = own_address();
    let setting = Setting::forwarding(true, &[address]).called();
    let _baresip = baresip::answer(&setting, address);
    let server = setting.server.address("sip_udp");
    setting.call("caller_hangs_up", own_address(), server);
    setting.wait_for_answered(1);
}

#[test]
fn asterisk_takes_a_call() {
    for (caller, seconds) in [("caller", "0.1"), ("caller_hangs_up", "20")] {
        let address = own_address();
        let setting = Setting::forwarding(true, &[address]).called();
        let _asterisk = Asterisk::agent(&setting, address, seconds);
        setting.call(caller, own_address(), setting.server.address("sip_udp"));
        setting.wait_for_answered(1);
    }
}

/// Kamailio in front, of either version, with the recipe for redirects.
fn kamailio_in_front(version: Version) {
    for (caller, callee) in [("caller", "agent"), ("caller_hangs_up", "agent_hung_up")] {
        let address = own_address();
        // sipp answers a BYE where the INVITE came from, so Ringback stays in the path.
        let setting = Setting::forwarding(true, &[address]).called();
        let (proxy, _kamailio) = version.inbound(&setting, Transport::Udp);
        let agent = setting.answer(callee, address);
        setting.call(caller, own_address(), proxy);
        agent.success();
    }
}

#[test]
fn kamailio_of_debian_12_in_front() {
    kamailio_in_front(Version::Debian12);
}

#[test]
fn kamailio_of_debian_sid_in_front() {
    kamailio_in_front(Version::Sid);
}

/// A Kamailio between Ringback and an agent.
fn kamailio_behind(kamailio: impl Fn() -> Command) {
    for (caller, callee) in [("caller", "agent"), ("caller_hangs_up", "agent_hung_up")] {
        let (proxy, address) = (own_address(), own_address());
        let setting = Setting::forwarding(true, &[proxy]).called();
        let directory = setting.directory("kamailio");
        let path = directory.join("kamailio.cfg");
        let at = SocketAddr::from((proxy, 5_060));
        let config = fixture("kamailio-behind.cfg")
            .replace("{{proxy}}", &at.to_string())
            .replace("{{agent}}", &address.to_string());
        fs::write(&path, config).expect("a configuration can be written");
        let mut kamailio = kamailio();
        kamailio
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-f"])
            .arg(&path);
        kamailio.arg("-Y").arg(&directory).arg("-w").arg(&directory);
        let program = Program::start(kamailio, &directory);
        program.wait_until_bound(at);
        let agent = setting.answer(callee, address);
        setting.call(caller, own_address(), setting.server.address("sip_udp"));
        agent.success();
    }
}

#[test]
fn kamailio_of_debian_12_behind() {
    kamailio_behind(|| Command::new("kamailio"));
}

#[test]
fn kamailio_of_debian_sid_behind() {
    kamailio_behind(|| sid::program("kamailio"));
}

#[test]
fn asterisk_in_front() {
    for (records_route, caller, callee) in [
        (true, "caller", "agent"),
        (true, "caller_hangs_up", "agent_hung_up"),
        (false, "caller_hangs_up", "agent_hung_up"),
    ] {
        let (places, address) = (Places::new(), own_address());
        let setting = Setting::forwarding(records_route, &[address]).called();
        let asterisk = Asterisk::start(&setting, places, "from-carrier");
        let agent = setting.answer(callee, address);
        setting.call(caller, places.carrier, asterisk.address);
        agent.success();
        setting.wait_for_answered(1);
    }
}
