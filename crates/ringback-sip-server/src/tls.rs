//! Certificates, read from PEM files.

use std::path::Path;
use std::sync::Arc;

use ringback_routing::Timestamp;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigProblem, SipConfigError, problem};
use crate::expiry;

/// Loads a certificate with its key, and the roots of client certificates, if they are asked for.
pub(crate) fn load(
    certificate: &Path,
    private_key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<rustls::ServerConfig>, SipConfigError> {
    let chain = certificates("sip.tls.certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|error| pem("sip.tls.private-key", private_key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key_pair = |error| problem("sip.tls.private-key", ConfigProblem::KeyPair(error));
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(key_pair)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("sip.tls.client-ca", path)? {
                roots
                    .add(root)
                    .map_err(|error| pem("sip.tls.client-ca", path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| pem("sip.tls.client-ca", path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(key_pair)?;
    Ok(Arc::new(config))
}

/// When the first certificate of a file expires; `None` if that cannot be read.
pub(crate) fn expires_at(certificate: &Path) -> Option<Timestamp> {
    let chain = certificates("sip.tls.certificate", certificate).ok()?;
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

/// An error about a file.
fn pem(key: &str, path: &Path, cause: impl std::fmt::Display) -> SipConfigError {
    let path = path.display().to_string();
    let cause = cause.to_string();
    problem(key, ConfigProblem::Pem { path, cause })
}
