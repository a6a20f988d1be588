//! A modelled DTLS handshake: two datagrams with what of DTLS matters to a call.
//!
//! In: certificates' hashes, chance. Out: datagrams that look like DTLS to a demultiplexer
//! (RFC 7983), keys that both ends derive. ICE and DTLS crates spawn tasks and read clocks of their
//! own, so they are proven with browsers on real sockets; here their order of messages, their losses
//! and their keys are what is tried. It is no cryptography.

use contract::{KeyMaterial, SrtpKeys, SrtpProfile};
use sha2::{Digest, Sha256};

/// First octet of a handshake record (RFC 7983 §7: 20..=63 is DTLS).
const HANDSHAKE: u8 = 22;
const HEAD_BYTES: usize = 2;
const RANDOM_BYTES: usize = 16;

/// One message of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The active end begins, and repeats itself until it is answered.
    Client {
        /// Its contribution to the keys.
        random: u128,
        /// Hash of its certificate.
        certificate: Vec<u8>,
    },
    /// The passive end answers: the same to each repetition.
    Server {
        /// What it answers.
        client: u128,
        /// Its contribution to the keys.
        random: u128,
        /// Hash of its certificate.
        certificate: Vec<u8>,
    },
}

impl Hello {
    /// Writes a datagram.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut octets = vec![HANDSHAKE];
        match self {
            Hello::Client {
                random,
                certificate,
            } => {
                octets.push(1);
                octets.extend_from_slice(&random.to_be_bytes());
                octets.extend_from_slice(certificate);
            }
            Hello::Server {
                client,
                random,
                certificate,
            } => {
                octets.push(2);
                octets.extend_from_slice(&client.to_be_bytes());
                octets.extend_from_slice(&random.to_be_bytes());
                octets.extend_from_slice(certificate);
            }
        }
        octets
    }

    /// Reads a datagram; `None` if it is none of the model.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Hello> {
        let (&[HANDSHAKE, kind], rest) = octets.split_first_chunk::<HEAD_BYTES>()? else {
            return None;
        };
        let (first, rest) = rest.split_first_chunk::<RANDOM_BYTES>()?;
        let first = u128::from_be_bytes(*first);
        match kind {
            1 => Some(Hello::Client {
                random: first,
                certificate: rest.to_vec(),
            }),
            2 => {
                let (second, rest) = rest.split_first_chunk::<RANDOM_BYTES>()?;
                Some(Hello::Server {
                    client: first,
                    random: u128::from_be_bytes(*second),
                    certificate: rest.to_vec(),
                })
            }
            _ => None,
        }
    }
}

/// Tells whether a datagram belongs to a handshake (RFC 7983 §7).
#[must_use]
pub fn is_handshake(octets: &[u8]) -> bool {
    octets
        .first()
        .is_some_and(|first| (20..=63).contains(first))
}

/// Derives the keys of an end (RFC 5764 §4.2: client key, server key, client salt, server salt).
#[must_use]
pub fn keys(client: u128, server: u128, is_client: bool) -> SrtpKeys {
    let profile = SrtpProfile::AesCm128HmacSha1_80;
    let part = |label: &str, count: usize| {
        let mut hasher = Sha256::new();
        hasher.update(client.to_be_bytes());
        hasher.update(server.to_be_bytes());
        hasher.update(label.as_bytes());
        KeyMaterial::new(hasher.finalize()[..count].to_vec())
    };
    let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
    let of_client = (part("client key", key), part("client salt", salt));
    let of_server = (part("server key", key), part("server salt", salt));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_derive_the_same_keys() {
        let (client, server) = (keys(1, 2, true), keys(1, 2, false));
        assert_eq!(client.our_key, server.peer_key);
        assert_eq!(client.peer_salt, server.our_salt);
        assert_ne!(client.our_key, client.peer_key);
        assert_ne!(client.our_key, keys(1, 3, true).our_key);
    }

    #[test]
    fn what_is_written_is_read() {
        for hello in [
            Hello::Client {
                random: 7,
                certificate: vec![1; 32],
            },
            Hello::Server {
                client: 7,
                random: u128::MAX,
                certificate: vec![2; 32],
            },
        ] {
            let octets = hello.write();
            assert!(is_handshake(&octets));
            assert_eq!(Hello::read(&octets), Some(hello));
        }
        for octets in [&[][..], &[22], &[22, 1, 0], &[22, 9, 0, 0], &[0x80; 40]] {
            assert_eq!(Hello::read(octets), None, "{octets:?}");
        }
    }
}
