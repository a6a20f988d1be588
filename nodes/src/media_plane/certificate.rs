//! The certificate of media: self-signed, of the cluster, and the same for ever, so that a restart and
//! a move need no new handshake (`browser.md`, rule 3).
//!
//! In: the data folder. Out: the certificate, its fingerprint. It is no TLS certificate.

use std::fs;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};
use webrtc_dtls::crypto::Certificate;

/// File in the data folder.
const FILE: &str = "media.pem";

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
    /// Makes a certificate that is not kept.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn make() -> Result<Self, Error> {
        let made = Certificate::generate_self_signed(["weft".to_owned()]);
        Ok(Self::of(made.map_err(Error::other)?))
    }

    /// Reads the certificate of a data folder; makes it, readable by the owner only, at first.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is none.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let file = data.join(FILE);
        match fs::read_to_string(&file) {
            Ok(text) => {
                let read = Certificate::from_pem(&text);
                let read = read.map_err(|error| Error::new(ErrorKind::InvalidData, error));
                read.map(Self::of)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self::make()?;
                write(data, &file, &made.certificate.serialize_pem())?;
                Ok(made)
            }
            Err(error) => Err(error),
        }
    }

    fn of(certificate: Certificate) -> Self {
        let der = certificate.certificate.first();
        let digest = Sha256::digest(der.map_or(&[][..], |der| der.as_ref()));
        let pairs: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
        MediaCertificate {
            certificate,
            fingerprint: format!("sha-256 {}", pairs.join(":")),
        }
    }

    /// Returns the hash as SDP writes it: `sha-256 AB:CD…` (RFC 8122 §5).
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Whole or not at all: a half-written key would end every later start.
fn write(data: &Path, file: &Path, text: &str) -> Result<(), Error> {
    let temporary = data.join(format!("{FILE}.new"));
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&temporary, file)?;
    fs::File::open(data)?.sync_all()
}
