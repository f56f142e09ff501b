//! Certificates made by OpenSSL, and OpenSSL as the peer: TLS that is not ours on the other side.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ringback_testkit::SipReply;

/// A certificate authority with the certificates that it signs, all as files in one directory.
pub(crate) struct Authority {
    /// Where they are.
    directory: PathBuf,
    /// What its own files are called.
    name: String,
}

/// A certificate and its key.
pub(crate) struct Identity {
    /// PEM file of the certificate.
    pub(crate) certificate: PathBuf,
    /// PEM file of the key.
    pub(crate) key: PathBuf,
}

/// The kind of a key.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    /// ECDSA on P-256.
    Elliptic,
    /// RSA of 2,048 bits.
    Rsa,
}

impl Authority {
    /// Makes one of this name.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        fs::write(directory.join("openssl.cnf"), EXTENSIONS).unwrap();
        let authority = Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        authority.certify(name, Key::Elliptic, &["-extensions", "authority"]);
        authority
    }

    /// Its certificate: what who trusts it has to know.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for this machine.
    pub(crate) fn identity(&self, name: &str, key: Key) -> Identity {
        let certificate = self.certificate();
        let own_key = certificate.with_extension("key");
        let signed_by = [
            "-extensions",
            "machine",
            "-CA",
            certificate.to_str().unwrap(),
            "-CAkey",
            own_key.to_str().unwrap(),
        ];
        self.certify(name, key, &signed_by)
    }

    /// Makes a certificate and a new key.
    fn certify(&self, name: &str, key: Key, more: &[&str]) -> Identity {
        let certificate = self.directory.join(format!("{name}.pem"));
        let key_file = certificate.with_extension("key");
        let new_key: &[&str] = match key {
            Key::Elliptic => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Key::Rsa => &["-newkey", "rsa:2048"],
        };
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-config"])
            .arg(self.directory.join("openssl.cnf"))
            .args(new_key)
            .args(more)
            .arg("-keyout")
            .arg(&key_file)
            .arg("-out")
            .arg(&certificate)
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Identity {
            certificate,
            key: key_file,
        }
    }
}

impl Identity {
    /// A section of the configuration, `[sip.tls]` or `[http.tls]`, with these files.
    pub(crate) fn section(&self, name: &str, more: &str) -> String {
        format!(
            "[{name}]\ncertificate = '{}'\nprivate-key = '{}'\n{more}\n",
            self.certificate.display(),
            self.key.display()
        )
    }

    /// The certificate as PEM.
    pub(crate) fn pem(&self) -> String {
        fs::read_to_string(&self.certificate).unwrap()
    }
}

/// The certificate that a server shows in a new handshake, as PEM.
pub(crate) fn shown_certificate(server: SocketAddr, trusted: &Path) -> String {
    let output = s_client(server, trusted)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let begin = text.find("-----BEGIN").expect("a certificate is shown");
    let end = text.rfind("-----\n").expect("it has an end") + "-----\n".len();
    text[begin..end].to_owned()
}

/// A connection by `openssl s_client`.
pub(crate) struct SecurePeer {
    /// The process.
    child: Child,
    /// What comes from the server; ends with the connection.
    received: Receiver<Vec<u8>>,
    /// What was received and not yet given out.
    buffer: Vec<u8>,
}

impl SecurePeer {
    /// Connects; trusts this authority alone and checks the server's name.
    pub(crate) fn new(server: SocketAddr, trusted: &Path, more: &[&str]) -> Self {
        let mut child = s_client(server, trusted)
            .arg("-quiet")
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let mut stdout = child.stdout.take().unwrap();
        let (sender, received) = mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            received,
            buffer: Vec::new(),
        }
    }

    /// The same with a certificate of its own.
    pub(crate) fn with_identity(server: SocketAddr, trusted: &Path, identity: &Identity) -> Self {
        let certificate = identity.certificate.to_str().unwrap();
        let key = identity.key.to_str().unwrap();
        Self::new(server, trusted, &["-cert", certificate, "-key", key])
    }

    /// Sends a request and waits for the reply, which has no body.
    pub(crate) fn exchange(&mut self, request: &str) -> SipReply {
        self.send(request);
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let reply = self.buffer.drain(..end + 4).collect();
                return SipReply::read(&String::from_utf8(reply).unwrap());
            }
            match self.received.recv_timeout(LIMIT) {
                Ok(piece) => self.buffer.extend(piece),
                Err(_) => panic!("no reply: {}", self.end()),
            }
        }
    }

    /// Sends a request to which there must be no reply, but the end of the connection; gives what
    /// OpenSSL says of it.
    pub(crate) fn refused(mut self, request: &str) -> String {
        self.send(request);
        match self.received.recv_timeout(LIMIT) {
            Ok(piece) => panic!("answered: {}", piece.escape_ascii()),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("neither answered nor closed"),
            Err(mpsc::RecvTimeoutError::Disconnected) => self.end(),
        }
    }

    /// Sends; who was refused already is gone, and what is missing tells as much.
    fn send(&mut self, request: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        let sent = stdin
            .write_all(request.as_bytes())
            .and_then(|()| stdin.flush());
        if let Err(error) = sent {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    /// Ends the process; gives what it said.
    fn end(&mut self) -> String {
        let _ended = self.child.kill();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _cut_off = stderr.read_to_string(&mut said);
        }
        said
    }
}

impl Drop for SecurePeer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The client, which fails unless the server is who it should be.
fn s_client(server: SocketAddr, trusted: &Path) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &server.to_string()])
        .args(["-servername", "localhost", "-verify_hostname", "localhost"])
        .args(["-verify_return_error", "-no-CApath", "-CAfile"])
        .arg(trusted);
    command
}

/// What certificates say besides their names.
const EXTENSIONS: &str = "\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[machine]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
extendedKeyUsage = serverAuth, clientAuth
";

/// How long a reply may take.
const LIMIT: Duration = Duration::from_secs(10);
