//! The DTLS handshake of a WebRTC leg with webrtc-dtls, and its keys (RFC 5763, RFC 5764).
//!
//! In: role, fingerprints of the peer, records that the worker feeds. Out: SRTP keys. The certificate
//! is checked here against the description (RFC 8122 §5). The connection is dropped in silence: a
//! close alert would end the media at a browser (`browser.md`, rule 2).
//!
//! The library repeats no flight once it is done, so a lost last flight would leave the peer without
//! keys: it is kept, and sent again for each late repetition of the peer's (RFC 6347 §4.2.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::{DtlsConfig, DtlsRole, KeyMaterial, PeerFingerprint, SrtpKeys, SrtpProfile};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use webrtc_dtls::Error;
use webrtc_dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_util::{Conn, KeyingMaterialExporter};

use super::feed::FedConn;
use super::records::HANDSHAKE;
use crate::env_os::within;

/// Longest handshake, all its tries: the library has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between repetitions of a flight.
const FLIGHT: Duration = Duration::from_millis(50);
/// Tries: what is forged on the way may end some.
const TRIES: u32 = 16;
/// Time for which late repetitions of the peer's last flight are still answered.
const LINGER: Duration = Duration::from_secs(15);
/// Answers to them: a peer repeats about twenty times in that time; more is not its doing.
const ANSWERS_MAX: usize = 64;
/// Octets of a datagram that is read.
const DATAGRAM_BYTES: usize = 2_048;
/// Label of RFC 5764 §4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Why there are no keys.
enum Fault {
    /// The peer is not who its description says, or cannot be talked with: another try is vain.
    Peer(String),
    /// Anything else, forged records among it.
    Broken(String),
}

/// Shakes hands, tells the keys to `done`, and answers late repetitions for a while.
pub(super) async fn shake(
    config: DtlsConfig,
    certificate: Certificate,
    conn: Arc<FedConn>,
    done: impl FnOnce(Result<Box<SrtpKeys>, String>) + Send,
) {
    let mut why = "no answer".to_owned();
    let trying = async {
        for _ in 0..TRIES {
            match once(&config, certificate.clone(), &conn).await {
                Ok(keys) => return Ok(keys),
                Err(Fault::Peer(error)) => return Err(error),
                Err(Fault::Broken(error)) => why = error,
            }
        }
        Err(std::mem::take(&mut why))
    };
    let tried = within(PATIENCE, trying).await;
    match tried.unwrap_or_else(|| Err(format!("no DTLS handshake in {PATIENCE:?}: {why}"))) {
        Ok(keys) => {
            let flight = conn.take_flight();
            done(Ok(Box::new(keys)));
            if config.role == DtlsRole::Passive {
                within(LINGER, repeat(&conn, &flight)).await;
            }
        }
        Err(error) => done(Err(error)),
    }
}

/// Sends the last flight again for every repetition of the peer's.
async fn repeat(conn: &FedConn, flight: &[Vec<u8>]) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    for _ in 0..ANSWERS_MAX {
        let Ok(count) = conn.recv(&mut buffer).await else {
            return;
        };
        if buffer[..count].first() != Some(&HANDSHAKE) {
            continue;
        }
        for datagram in flight {
            let _ = conn.send(datagram).await;
        }
    }
}

async fn once(
    config: &DtlsConfig,
    certificate: Certificate,
    conn: &Arc<FedConn>,
) -> Result<SrtpKeys, Fault> {
    let is_client = config.role == DtlsRole::Active;
    let is_other = Arc::new(AtomicBool::new(false));
    let settings = settings(config, certificate, Arc::clone(&is_other));
    let below: Arc<dyn Conn + Send + Sync> = conn.clone();
    let made = match DTLSConn::new(below, settings, is_client, None).await {
        Ok(made) => made,
        Err(_) if is_other.load(Ordering::Relaxed) => {
            let why = "the peer's certificate is not the described one";
            return Err(Fault::Peer(why.to_owned()));
        }
        Err(Error::ErrServerNoMatchingSrtpProfile | Error::ErrClientNoMatchingSrtpProfile) => {
            return Err(Fault::Peer("no common SRTP profile".to_owned()));
        }
        Err(error) => return Err(Fault::Broken(error.to_string())),
    };
    let Some(profile) = profile_of(config, made.selected_srtpprotection_profile()) else {
        return Err(Fault::Peer("no common SRTP profile".to_owned()));
    };
    let state = made.connection_state().await;
    let count = 2 * (profile.key_bytes() + profile.salt_bytes());
    let exported = state.export_keying_material(LABEL, &[], count).await;
    let exported =
        exported.map_err(|error| Fault::Broken(format!("exporting DTLS keys: {error}")))?;
    Ok(keys(profile, &exported, is_client))
}

fn settings(config: &DtlsConfig, certificate: Certificate, is_other: Arc<AtomicBool>) -> Config {
    let prints = config.fingerprints.clone();
    let offered = config.profiles.iter().map(|profile| named(*profile));
    Config {
        certificates: vec![certificate],
        srtp_protection_profiles: offered.collect(),
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Request,
        flight_interval: FLIGHT,
        // Who the peer is says its description, not an authority.
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |shown, _| {
            let own = shown.first();
            if own.is_some_and(|own| prints.iter().any(|print| is_hash_of(print, own))) {
                return Ok(());
            }
            is_other.store(true, Ordering::Relaxed);
            Err(Error::ErrInvalidCertificate)
        })),
        ..Config::default()
    }
}

const fn named(profile: SrtpProfile) -> SrtpProtectionProfile {
    match profile {
        SrtpProfile::AesCm128HmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        SrtpProfile::AesCm128HmacSha1_32 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
        SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProfile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    }
}

fn profile_of(config: &DtlsConfig, agreed: SrtpProtectionProfile) -> Option<SrtpProfile> {
    let mut ours = config.profiles.iter().copied();
    ours.find(|profile| named(*profile) == agreed)
}

/// Cuts exported material into keys (RFC 5764 §4.2: client key, server key, client salt, server salt).
fn keys(profile: SrtpProfile, exported: &[u8], is_client: bool) -> SrtpKeys {
    let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
    let part = |from: usize, count: usize| KeyMaterial::new(exported[from..from + count].to_vec());
    let of_client = (part(0, key), part(2 * key, salt));
    let of_server = (part(key, key), part(2 * key + salt, salt));
    let (ours, theirs) = if is_client {
        (of_client, of_server)
    } else {
        (of_server, of_client)
    };
    SrtpKeys {
        profile,
        peer_profile: profile,
        our_key: ours.0,
        our_salt: ours.1,
        peer_key: theirs.0,
        peer_salt: theirs.1,
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

fn is_hash_of(print: &PeerFingerprint, certificate: &[u8]) -> bool {
    let digest = match print.hash.as_str() {
        "sha-256" => Sha256::digest(certificate).to_vec(),
        "sha-384" => Sha384::digest(certificate).to_vec(),
        "sha-512" => Sha512::digest(certificate).to_vec(),
        "sha-1" => Sha1::digest(certificate).to_vec(),
        _ => return false,
    };
    digest == print.digest
}
