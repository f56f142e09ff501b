//! The README's "By hand", pasted twice into each shell that people use.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::BINARY;

/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What is to be pasted: every line of the section's `sh` blocks.
fn by_hand() -> String {
    let readme = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    let (_, rest) = readme.split_once("## By hand\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut pasted = String::new();
    let mut in_block = false;
    for line in section.lines() {
        match line {
            "```sh" => in_block = true,
            "```" => in_block = false,
            line if in_block => {
                pasted.push_str(line);
                pasted.push('\n');
            }
            _ => {}
        }
    }
    pasted
}

/// A shell and all that it has started; ends with this.
struct Pasted(Child);

impl Drop for Pasted {
    fn drop(&mut self) {
        // The group of this shell: the server goes on in the background when the shell has ended.
        let group = format!("-{}", self.0.id());
        let _ended = Command::new("kill")
            .args(["-s", "KILL", "--", &group])
            // Where the server has ended by itself, there is no group any more.
            .stderr(Stdio::null())
            .status();
        let _ended = self.0.wait();
    }
}

/// Runs a text in a shell, with free ports and a folder of its own; gives all that is shown.
fn paste(shell: &[&str], text: &str, folder: &Path, sip_port: u16) -> String {
    let http_port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let programs = Path::new(BINARY).parent().unwrap();
    let text = text
        .replace("cargo build --release\n", "")
        .replace("$PWD/target/release", programs.to_str().unwrap())
        .replace("/tmp/ringback-try", folder.join("try").to_str().unwrap())
        .replace(
            "ringback serve ",
            "ringback serve --sip-udp 127.0.0.1:5060 --http 127.0.0.1:8080 ",
        )
        .replace(":5060", &format!(":{sip_port}"))
        .replace(":8080", &format!(":{http_port}"));
    let script = folder.join("pasted");
    std::fs::write(&script, text).unwrap();
    // Files, not pipes: the server holds them open after the shell has ended.
    let shown = folder.join("shown");
    let out = std::fs::File::create(&shown).unwrap();
    let mut command = Command::new(shell[0]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGBACK_") {
            command.env_remove(name);
        }
    }
    let child = command
        .args(&shell[1..])
        .current_dir(ROOT)
        .stdin(std::fs::File::open(&script).unwrap())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .process_group(0)
        .spawn()
        .unwrap();
    let mut pasted = Pasted(child);
    pasted.0.wait().unwrap();
    let mut text = String::new();
    std::fs::File::open(&shown)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    drop(pasted);
    text
}

/// A port that nobody has for UDP and TCP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The shells, as they read what is pasted.
const SHELLS: [&[&str]; 3] = [
    &["bash", "--norc", "-s"],
    &["dash", "-s"],
    &["zsh", "-f", "-s"],
];

#[test]
fn by_hand_works_pasted_twice_in_every_shell() {
    let text = by_hand();
    assert!(
        !text.contains(" #"),
        "zsh takes comments for arguments:\n{text}"
    );
    for shell in SHELLS {
        let folder = tempfile::tempdir().unwrap();
        let shown = paste(shell, &text.repeat(2), folder.path(), free_port());
        let count = |part: &str| shown.matches(part).count();
        // Twice: three times by the command line, once by HTTP, once by SIP.
        assert_eq!(
            count("returned_call_same_number"),
            10,
            "{shell:?}:\n{shown}"
        );
        assert_eq!(count("\"success\":true"), 2, "{shell:?}:\n{shown}");
        assert_eq!(count("302 Contact:"), 2, "{shell:?}:\n{shown}");
        assert_eq!(count("NUMBER_ALREADY_EXISTS"), 1, "{shell:?}:\n{shown}");
        for trouble in [
            "not found:",
            "no matches",
            "parse error",
            "syntax error",
            "usage:",
        ] {
            assert_eq!(count(trouble), 0, "{trouble}: {shell:?}:\n{shown}");
        }
    }
}

#[test]
fn by_hand_ends_and_says_why_where_the_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = by_hand().replace("--retry 9", "--retry 1");
    for shell in SHELLS {
        let folder = tempfile::tempdir().unwrap();
        let shown = paste(shell, &text, folder.path(), port);
        let address = format!("127.0.0.1:{port}");
        assert!(
            shown.contains("cannot listen on") && shown.contains(&address),
            "{shell:?}:\n{shown}"
        );
        assert!(shown.contains("ringback: no token"), "{shell:?}:\n{shown}");
    }
}
