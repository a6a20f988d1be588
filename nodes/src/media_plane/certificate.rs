//! The certificate of media: self-signed, and the same on every node of a cluster, for ever, so that a
//! restart, a move and a take-over need no new handshake (`browser.md`, rule 3).
//!
//! In: a key of the cluster's secret. Out: the certificate, its fingerprint. It is no TLS certificate.
//! Nothing of it is stored or sent around: each node makes it anew, to the last octet, as its signature
//! is without chance (RFC 6979).

use std::io::Error;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, RemoteKeyPair};
use sha2::{Digest, Sha256};
use webrtc_dtls::crypto::{Certificate, CryptoPrivateKey};

/// The certificate with its hash.
#[derive(Clone)]
pub struct MediaCertificate {
    pub(super) certificate: Certificate,
    fingerprint: String,
}

impl std::fmt::Debug for MediaCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MediaCertificate({})", self.fingerprint)
    }
}

impl MediaCertificate {
    /// Makes the certificate of a key.
    ///
    /// # Errors
    /// If a library refuses what is made here of it: a bug.
    pub fn of(key: [u8; 32]) -> Result<Self, Error> {
        let signing = signing_key(key);
        let private = signing.to_pkcs8_der().map_err(Error::other)?;
        let private = KeyPair::try_from(private.as_bytes()).map_err(Error::other)?;
        let parameters = CertificateParams::new(["weft".to_owned()]).map_err(Error::other)?;
        let signer = KeyPair::from_remote(Box::new(Signing::of(signing))).map_err(Error::other)?;
        let made = parameters.self_signed(&signer).map_err(Error::other)?;
        let der = made.der().clone();
        let digest = Sha256::digest(der.as_ref());
        let pairs: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
        Ok(MediaCertificate {
            certificate: Certificate {
                certificate: vec![der],
                private_key: CryptoPrivateKey::try_from(&private).map_err(Error::other)?,
            },
            fingerprint: format!("sha-256 {}", pairs.join(":")),
        })
    }

    /// Returns the hash as SDP writes it: `sha-256 AB:CD…` (RFC 8122 §5).
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Returns the key of these octets; a few of all values are none, then their hash is taken.
fn signing_key(mut octets: [u8; 32]) -> SigningKey {
    loop {
        if let Ok(key) = SigningKey::from_slice(&octets) {
            return key;
        }
        octets = Sha256::digest(octets).into();
    }
}

/// Signs the certificate: what the handshake signs with takes chance, and another certificate each time.
struct Signing {
    key: SigningKey,
    public: Vec<u8>,
}

impl Signing {
    fn of(key: SigningKey) -> Self {
        let public = key.verifying_key().to_encoded_point(false);
        let public = public.as_bytes().to_vec();
        Signing { key, public }
    }
}

impl RemoteKeyPair for Signing {
    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.key.sign(message);
        Ok(signature.as_bytes().to_vec())
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
