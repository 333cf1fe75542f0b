//! TLS to the collector, the same for both protocols.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::settings::ExportSettings;

/// Reads a file that the configuration names.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn roots(settings: &ExportSettings) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            let pem = read(path)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate =
                    certificate.with_context(|| format!("a certificate in {}", path.display()))?;
                roots.add(certificate).with_context(|| format!("a certificate in {}", path.display()))?;
            }
            anyhow::ensure!(!roots.is_empty(), "no certificate in {}", path.display());
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (_added, _unreadable) = roots.add_parsable_certificates(found.certs);
        }
    }
    Ok(roots)
}

/// What `settings` say of the collector's certificate and of ours.
pub(super) fn config(settings: &ExportSettings) -> Result<ClientConfig> {
    let builder = ClientConfig::builder();
    let builder = if settings.insecure_skip_verify {
        let provider = builder.crypto_provider();
        let anyone = Anyone(provider.signature_verification_algorithms);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(anyone))
    } else {
        builder.with_root_certificates(roots(settings)?)
    };
    match (&settings.client_certificate, &settings.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
                .collect::<Result<Vec<_>, _>>()
                .with_context(|| format!("a certificate in {}", certificate.display()))?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
                .with_context(|| format!("the key in {}", key.display()))?;
            builder.with_client_auth_cert(chain, secret).context("the client certificate")
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Takes any certificate, of whatever name, of who has its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
