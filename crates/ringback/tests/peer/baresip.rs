//! baresip, a user agent: it follows a redirect by itself, and takes calls.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::peer::{MAIN, Program, Setting, fixture};
use crate::sipp::own_address;

/// Has a baresip at this address dial the campaign's number at a server.
pub(super) fn dial(setting: &Setting, here: Ipv4Addr, server: SocketAddr) -> Program {
    start(
        setting,
        here,
        &["-e", &format!("/dial sip:{MAIN}@{server}")],
    )
}

/// Has a baresip at this address take calls to the agent.
pub(super) fn answer(setting: &Setting, here: Ipv4Addr) -> Program {
    let program = start(setting, here, &[]);
    program.wait_until_bound((here, 5_060).into());
    program
}

/// Starts one at this address.
fn start(setting: &Setting, here: Ipv4Addr, arguments: &[&str]) -> Program {
    let directory = setting.directory("baresip");
    for file in ["config", "accounts"] {
        let text = fixture(&format!("baresip/{file}")).replace("{{address}}", &here.to_string());
        fs::write(directory.join(file), text).expect("a configuration can be written");
    }
    let mut baresip = Command::new("baresip");
    baresip.arg("-f").arg(&directory).args(arguments);
    Program::start(baresip, &directory)
}

#[test]
fn baresip_follows_the_redirect_by_itself() {
    let address = own_address();
    let setting = Setting::new(false, &[address]).called();
    let agent = setting.answer("agent", address);
    let _baresip = dial(&setting, own_address(), setting.server.address("sip_udp"));
    agent.success();
}
