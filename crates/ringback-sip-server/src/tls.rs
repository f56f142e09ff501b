//! Certificates, read from PEM files.

use std::path::Path;
use std::sync::Arc;

use ringback_routing::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::problem::{ConfigProblem, SipConfigError, problem};
use crate::expiry;
use crate::spec::TlsSpec;

/// Loads the files of a section, such as `sip.tls`, also if nothing listens for TLS yet; `None`: it names none.
///
/// # Errors
/// A file cannot be used, or the section listens and lacks one.
pub fn load_certificates(
    section: &str,
    spec: &TlsSpec,
) -> Result<Option<Arc<rustls::ServerConfig>>, Vec<SipConfigError>> {
    let mut problems = Vec::new();
    for (name, file) in [
        ("certificate", &spec.certificate),
        ("private-key", &spec.private_key),
    ] {
        if file.is_none() && !spec.listen.is_empty() {
            let key = format!("{section}.{name}");
            problems.push(problem(key, ConfigProblem::Needed));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let Some((certificate, key)) = spec.certificate.as_ref().zip(spec.private_key.as_ref()) else {
        return Ok(None);
    };
    load_files(section, certificate, key, spec.client_ca.as_deref()).map(Some)
}

/// Loads a certificate with its key, and the roots of client certificates, if configured. All files are checked,
/// even if one of them is wrong.
fn load_files(
    section: &str,
    certificate: &Path,
    private_key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<rustls::ServerConfig>, Vec<SipConfigError>> {
    let key_of = |name: &str| format!("{section}.{name}");
    let chain = certificates(&key_of("certificate"), certificate);
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|error| pem(&key_of("private-key"), private_key, error));
    let client_roots = |path| client_roots(&key_of("client-ca"), path);
    let roots = client_ca.map(client_roots).transpose();
    let (chain, key, roots) = match (chain, key, roots) {
        (Ok(chain), Ok(key), Ok(roots)) => (chain, key, roots),
        (chain, key, roots) => {
            return Err([chain.err(), key.err(), roots.err()]
                .into_iter()
                .flatten()
                .collect());
        }
    };
    server_config(chain, key, roots).map_err(|error| {
        let unusable = ConfigProblem::KeyPair(error);
        vec![problem(key_of("private-key"), unusable)]
    })
}

/// The TLS configuration with this certificate and these roots.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_certificates: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?;
    let builder = match client_certificates {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    builder.with_single_cert(chain, key).map(Arc::new)
}

/// Loads how targets are reached over TLS: by the roots in a file, or those of the system, and with our own
/// certificate where one is asked for.
///
/// # Errors
/// The roots cannot be used. A wrong certificate of our own has been told of already.
pub(crate) fn client(
    ca: Option<&Path>,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<rustls::ClientConfig>, Option<SipConfigError>> {
    const KEY: &str = "sip.forward.ca";
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for root in certificates(KEY, path).map_err(Some)? {
            roots
                .add(root)
                .map_err(|error| Some(pem(KEY, path, error)))?;
        }
    } else {
        // Without any, no target is reached over TLS, and each attempt says why.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| None)?
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("sip.tls.certificate", certificate).map_err(|_| None)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|_| None)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| None)?
        }
    };
    Ok(Arc::new(config))
}

/// The verifier of client certificates by the roots in a file.
fn client_roots(key: &str, path: &Path) -> Result<Arc<dyn ClientCertVerifier>, SipConfigError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(key, path)? {
        roots.add(root).map_err(|error| pem(key, path, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| pem(key, path, error))
}

/// The implementation of the cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// When the first certificate of a file expires; `None` if that cannot be read.
#[must_use]
pub fn certificate_expires_at(certificate: &Path) -> Option<Timestamp> {
    let chain = certificates("certificate", certificate).ok()?;
    expiry::expires_at(chain.first()?)
}

/// Every certificate of a file; at least one.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SipConfigError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| pem(key, path, error))?;
    let chain: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| pem(key, path, error))?;
    if chain.is_empty() {
        return Err(pem(key, path, "no certificate"));
    }
    Ok(chain)
}

/// The error for a file.
fn pem(key: &str, path: &Path, cause: impl std::fmt::Display) -> SipConfigError {
    let path = path.display().to_string();
    let cause = cause.to_string();
    problem(key, ConfigProblem::Pem { path, cause })
}
