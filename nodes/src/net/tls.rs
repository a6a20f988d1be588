//! Certificates: made at the first start, read, and read again when their files change.
//!
//! In: the plan's files. Out: an acceptor for listeners, a connector for connections of ours, or the
//! file and what is wrong with it. ring is the only provider of cryptography.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use contract::FaultClass;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::TlsPlan;

/// Names that one certificate of ours may say; more are left out.
const NAMES_MAX: usize = 100;

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub(crate) struct CertificateError {
    /// Key of the configuration that names the file.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl CertificateError {
    /// Tells whose fault it is: the operator's.
    #[must_use]
    #[allow(dead_code, reason = "every error type of this program has a class")]
    pub(crate) const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

/// The certificate of all TLS listeners.
pub(crate) struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    /// What the files looked like when they were last read.
    seen: Mutex<Option<[Stamp; 2]>>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Tells one version of a file from another: time of change, length, inode.
type Stamp = (i64, i64, u64, u64);

fn stamp(file: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(file)?;
    Ok((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Certificates {
    /// Reads the certificate; makes one for `names` if there is none and the operator named none.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub(crate) fn open(plan: &TlsPlan, names: &[String]) -> Result<Arc<Self>, CertificateError> {
        let is_missing = !plan.certificate.exists() && !plan.key.exists();
        if plan.is_self_made && is_missing {
            make(plan, names)?;
        }
        let seen = stamps(&plan.certificate, &plan.key);
        let current = read(&plan.certificate, &plan.key)?;
        Ok(Arc::new(Certificates {
            certificate: plan.certificate.clone(),
            key: plan.key.clone(),
            seen: Mutex::new(seen),
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// Returns what lets in those who speak TLS.
    pub(crate) fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Certificates>::clone(self));
        TlsAcceptor::from(Arc::new(config))
    }

    /// Reads the files again if they have changed. What cannot be read changes nothing; it is said
    /// once for each change.
    pub(crate) fn refresh(&self) {
        let Some(now) = stamps(&self.certificate, &self.key) else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Some(now) {
            return;
        }
        *seen = Some(now);
        match read(&self.certificate, &self.key) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(certificate = %self.certificate.display(), "certificate read again");
            }
            Err(error) => tracing::warn!(%error, "the former certificate stays"),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.refresh();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// `None` while a file is missing, as in the middle of being replaced.
fn stamps(certificate: &Path, key: &Path) -> Option<[Stamp; 2]> {
    Some([stamp(certificate).ok()?, stamp(key).ok()?])
}

/// Reads a certificate with its key.
///
/// # Errors
/// The file, and what is wrong with it.
pub(crate) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let wrong = |name: &'static str, file: &Path| {
        let file = file.to_owned();
        move |why: String| CertificateError {
            key: name,
            file: file.clone(),
            why,
        }
    };
    let (bad_chain, bad_key) = (wrong("tls.certificate", certificate), wrong("tls.key", key));
    let chain = certificates(certificate).map_err(&bad_chain)?;
    let mode = fs::metadata(key)
        .map_err(|error| bad_key(error.to_string()))?
        .mode();
    if mode & 0o007 != 0 {
        return Err(bad_key(format!(
            "everybody may read it: its mode is {:04o}, it should be 0600",
            mode & 0o7777
        )));
    }
    let octets = fs::read(key).map_err(|error| bad_key(error.to_string()))?;
    let octets = zeroize::Zeroizing::new(octets);
    let private = PrivateKeyDer::from_pem_slice(&octets)
        .map_err(|error| bad_key(format!("no private key in PEM: {error}")))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|error| bad_key(format!("not the key of the certificate: {error}")))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let octets = fs::read(file).map_err(|error| error.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("no certificate in PEM".to_owned()),
        Err(error) => Err(format!("no certificate in PEM: {error}")),
    }
}

/// Makes a self-signed certificate: good for trying out, and for phones that do not check.
fn make(plan: &TlsPlan, names: &[String]) -> Result<(), CertificateError> {
    let failed = |key: &'static str, file: &Path, why: String| CertificateError {
        key,
        file: file.to_owned(),
        why,
    };
    let bad = |why: String| failed("tls.certificate", &plan.certificate, why);
    let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    let mut params = CertificateParams::new(names).map_err(|error| bad(error.to_string()))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Weft (self-signed)");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Nobody renews what nobody signed.
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    let pair = KeyPair::generate().map_err(|error| bad(error.to_string()))?;
    let made = params
        .self_signed(&pair)
        .map_err(|error| bad(error.to_string()))?;
    let key = zeroize::Zeroizing::new(pair.serialize_pem());
    if let Some(folder) = plan.key.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| failed("node.data", folder, error.to_string()))?;
    }
    write(&plan.key, key.as_bytes(), 0o600)
        .map_err(|error| failed("tls.key", &plan.key, error.to_string()))?;
    write(&plan.certificate, made.pem().as_bytes(), 0o644)
        .map_err(|error| failed("tls.certificate", &plan.certificate, error.to_string()))
}

fn write(file: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// Returns what opens TLS connections: to anybody, or only to those whom `authorities` have signed and
/// whose certificate names the address.
///
/// # Errors
/// The file, and what is wrong with it.
pub(crate) fn connector(authorities: Option<&Path>) -> Result<TlsConnector, CertificateError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("ring has suites for both versions");
    let verifier: Arc<dyn ServerCertVerifier> = match authorities {
        None => Arc::new(Anybody(provider())),
        Some(file) => {
            let bad = |why: String| CertificateError {
                key: "tls.authorities",
                file: file.to_owned(),
                why,
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file).map_err(bad)? {
                roots
                    .add(certificate)
                    .map_err(|error| bad(error.to_string()))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| bad(error.to_string()))?
        }
    };
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate; that its owner has the key is still proven.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
