//! Kamailio in front: the recipe of `docs/en/integrations/kamailio.md`, with the version of Debian 12 and that of sid.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use ringback_testkit::SipPeer;

use crate::peer::{CONTACT, MAIN, Program, Setting, check_our_side, fixture, folder, page, sid};
use crate::sipp::{Transport, own_address};

/// Which Kamailio.
#[derive(Clone, Copy, Debug)]
pub(super) enum Version {
    /// 5.6 of Debian 12.
    Debian12,
    /// 6.1 of Debian sid.
    Sid,
}

impl Version {
    /// Starts one in front of Ringback that speaks to it over this transport.
    pub(super) fn inbound(self, setting: &Setting, transport: Transport) -> (SocketAddr, Program) {
        let nobody = own_address();
        self.start(setting, transport, nobody, nobody, nobody)
    }

    /// The same; it sends the dialer's calls to this carrier, and calls that Ringback does not answer here.
    fn start(
        self,
        setting: &Setting,
        transport: Transport,
        dialer: Ipv4Addr,
        carrier: Ipv4Addr,
        default: Ipv4Addr,
    ) -> (SocketAddr, Program) {
        let address = SocketAddr::from((own_address(), 5_060));
        let directory = setting.directory("kamailio");
        // TCP listens where UDP does.
        let with_transport = |kind: &str| {
            let address = setting.server.address(kind);
            format!("{address};transport={}", transport.word())
        };
        let config = fixture("kamailio.cfg")
            .replace("{{proxy}}", &address.to_string())
            .replace("{{ringback}}", &with_transport("sip_udp"))
            .replace("{{hep}}", &with_transport("hep"))
            .replace("{{dialer}}", &dialer.to_string())
            .replace("{{carrier}}", &format!("{carrier}:5060"))
            .replace("{{default}}", &format!("sip:sales@{default}:5060"))
            .replace(
                "{{directory}}",
                &folder("fixtures/interop").to_string_lossy(),
            );
        assert!(!config.contains("{{"), "{config}");
        let path = directory.join("kamailio.cfg");
        fs::write(&path, config).expect("a configuration can be written");
        let mut kamailio = match self {
            Self::Debian12 => Command::new("kamailio"),
            Self::Sid => sid::program("kamailio"),
        };
        kamailio
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-f"])
            .arg(path);
        kamailio.arg("-Y").arg(&directory).arg("-w").arg(&directory);
        let program = Program::start(kamailio, &directory);
        program.wait_until_bound(address);
        (address, program)
    }
}

/// Each test with both versions.
macro_rules! with_both_versions {
    ($($test:ident,)*) => {
        mod debian_12 {
            $(#[test]
            fn $test() {
                super::$test(super::Version::Debian12);
            })*
        }

        mod debian_sid {
            $(#[test]
            fn $test() {
                super::$test(super::Version::Sid);
            })*
        }
    };
}

with_both_versions! {
    follows_the_redirect_to_the_callback_agent,
    asks_and_mirrors_over_tcp,
    hands_the_decision_on_to_the_agent,
    tries_the_next_contact_when_the_first_is_busy,
    call_mirrored_by_kamailio_is_returned_by_the_very_next_invite,
    call_goes_on_while_ringback_is_silent,
    call_goes_on_when_ringback_is_gone_over_tcp,
}

fn follows_the_redirect_to_the_callback_agent(kamailio: Version) {
    let address = own_address();
    let setting = Setting::new(false, &[address]).called();
    let (proxy, _kamailio) = kamailio.inbound(&setting, Transport::Udp);
    let agent = setting.answer("agent", address);
    setting.call("caller", own_address(), proxy);
    agent.success();
    setting.wait_for_answered(1);
}

fn asks_and_mirrors_over_tcp(kamailio: Version) {
    let (address, dialer, carrier) = (own_address(), own_address(), own_address());
    let setting = Setting::new(false, &[address]);
    let (proxy, _kamailio) = kamailio.start(&setting, Transport::Tcp, dialer, carrier, address);
    let contact = setting.answer("busy", carrier);
    let agent = setting.answer("agent", address);
    setting.call("outbound", dialer, proxy);
    contact.success();
    let _call = setting.wait_for_status("busy");
    setting.call("caller", own_address(), proxy);
    agent.success();
    setting.wait_for_answered(1);
}

fn hands_the_decision_on_to_the_agent(kamailio: Version) {
    let address = own_address();
    let setting = Setting::new(true, &[address]).called();
    let (proxy, _kamailio) = kamailio.inbound(&setting, Transport::Udp);
    let agent = setting.answer("agent_told_why", address);
    setting.call("caller", own_address(), proxy);
    agent.success();
}

fn tries_the_next_contact_when_the_first_is_busy(kamailio: Version) {
    let (first, second) = (own_address(), own_address());
    let setting = Setting::new(false, &[first, second]).called();
    let (proxy, _kamailio) = kamailio.inbound(&setting, Transport::Udp);
    let busy = setting.answer("busy", first);
    let agent = setting.answer("agent", second);
    setting.call("caller", own_address(), proxy);
    busy.success();
    agent.success();
}

fn call_mirrored_by_kamailio_is_returned_by_the_very_next_invite(kamailio: Version) {
    let (address, dialer, carrier) = (own_address(), own_address(), own_address());
    let setting = Setting::new(false, &[address]);
    let (proxy, _kamailio) = kamailio.start(&setting, Transport::Udp, dialer, carrier, address);
    let contact = setting.answer("busy", carrier);
    let agent = setting.answer("agent", address);
    setting.call("outbound", dialer, proxy);
    contact.success();
    setting.call("caller", own_address(), proxy);
    agent.success();
    let call = setting.wait_for_status("busy");
    assert_eq!(call["agent_id"], setting.made.agent("sales"));
    assert_eq!(call["from"], MAIN);
}

/// It used to end with 408 after 30 s.
fn call_goes_on_while_ringback_is_silent(kamailio: Version) {
    let (nobody, reception) = (own_address(), own_address());
    let setting = Setting::new(false, &[nobody]).called();
    let (proxy, _kamailio) = kamailio.start(&setting, Transport::Udp, nobody, nobody, reception);
    let agent = setting.answer("agent", reception);
    setting.server.signal("STOP");
    setting.call("caller", own_address(), proxy);
    agent.success();
}

fn call_goes_on_when_ringback_is_gone_over_tcp(kamailio: Version) {
    let (nobody, reception) = (own_address(), own_address());
    let mut setting = Setting::new(false, &[nobody]).called();
    let (proxy, _kamailio) = kamailio.start(&setting, Transport::Tcp, nobody, nobody, reception);
    let agent = setting.answer("agent", reception);
    setting.server.kill();
    setting.call("caller", own_address(), proxy);
    agent.success();
}

#[test]
fn call_learned_by_redirect_is_returned_by_the_very_next_invite() {
    let address = own_address();
    let setting = Setting::new(false, &[address]);
    let server = setting.server.address("sip_udp");
    setting.call("learned", own_address(), server);
    let reply = SipPeer::new(server).invite(MAIN, CONTACT);
    assert_eq!(reply.status, 302, "{}", reply.text);
    assert_eq!(
        reply.header("x-ringback-reason"),
        "returned_call_same_number"
    );
    assert_eq!(
        reply.header("x-ringback-source-agent"),
        setting.made.agent("sales")
    );
    assert_eq!(reply.contacts(), [format!("sip:sales@{address}:5060")]);
    let _call = setting.wait_for_status("initiated");
}

/// Whoever follows the page gets what is tested here.
#[test]
fn page_shows_the_configuration_that_is_tested() {
    let page = page("kamailio.md");
    assert!(page.contains(&fixture("kamailio-ringback.cfg")));
    check_our_side(&page);
}
