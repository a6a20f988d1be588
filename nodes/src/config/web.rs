//! Rules of the HTTP ports, of certificates and of WebRTC media.
//!
//! In: a typed configuration whose values are in range. Out: their part of the [`Plan`], or a refusal.
//! No certificate is read here: `net::tls` does.
//!
//! [`Plan`]: super::Plan

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::address::{RtpPorts, advertised};
use super::rules::{Check, ListenerPlan, Protocol};
use super::{ConfigError, Profile};

/// Ports of WebRTC media: as many as there may be media workers.
const WEBRTC_PORTS: u16 = 64;

/// One HTTP listener.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Address to bind.
    pub local: SocketAddr,
    /// HTTPS.
    pub is_tls: bool,
    /// Its WebSockets' place among the listeners of the plan.
    pub listener: usize,
    /// Key it is from, for refusals.
    pub key: &'static str,
}

/// Files of certificates.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    /// Certificate and chain, PEM.
    pub certificate: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
    /// Both are made if they are missing: the operator named none.
    pub is_self_made: bool,
    /// Whose certificates are taken where we connect to; `None`: anybody's.
    pub authorities: Option<PathBuf>,
}

impl Check<'_> {
    /// Plans the HTTP listeners and, behind the others, the WebSockets on them: those of the first
    /// profile.
    pub(super) fn http(
        &self,
        listeners: &mut Vec<ListenerPlan>,
    ) -> Result<Vec<HttpPlan>, ConfigError> {
        let http = &self.config.http;
        let mut found = Vec::new();
        let Some(profile) = self.config.profile.first() else {
            return Ok(found);
        };
        for (key, list, protocol) in [
            ("http.listen", &http.listen, Protocol::Ws),
            ("http.tls", &http.tls, Protocol::Wss),
        ] {
            for text in list {
                for local in self.addresses(key, text)? {
                    self.check_free(key, text, protocol, local, listeners)?;
                    found.push(HttpPlan {
                        local,
                        is_tls: protocol.is_tls(),
                        listener: listeners.len(),
                        key,
                    });
                    let advertise = (self.reached_at(profile, local), None);
                    listeners.push(self.plan(profile, protocol, local, advertise, key));
                }
            }
        }
        Ok(found)
    }

    /// Returns the address a WebSocket of an HTTP port is reached at. Nobody calls there: browsers
    /// come by themselves and are answered on their connection.
    fn reached_at(&self, profile: &Profile, local: SocketAddr) -> std::net::IpAddr {
        let said = profile
            .advertise
            .as_ref()
            .or(self.config.node.advertise.as_ref());
        let said = said.and_then(|text| advertised(text, self.interfaces, local.is_ipv6()));
        match said {
            Some((address, _)) => address,
            None if local.ip().is_unspecified() => self.interfaces.outward(local.is_ipv6()),
            None => local.ip(),
        }
    }

    /// Plans the files of certificates.
    pub(super) fn tls(&self) -> Result<TlsPlan, ConfigError> {
        let tls = &self.config.tls;
        let authorities = match (&tls.authorities, tls.verify_peers) {
            (Some(file), true) => Some(self.beside("tls.authorities", file)),
            (None, true) => {
                let allowed = "false, or true beside `tls.authorities`";
                return self.refusal("tls.verify_peers", "true", allowed);
            }
            (_, false) => None,
        };
        let own = self.config.node.data.join("tls");
        let (certificate, key, is_self_made) = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => (
                self.beside("tls.certificate", certificate),
                self.beside("tls.key", key),
                false,
            ),
            (None, None) => (own.join("certificate.pem"), own.join("key.pem"), true),
            (Some(_), None) => {
                return self.refusal("tls.key", "(nothing)", "the key of `tls.certificate`");
            }
            (None, Some(_)) => {
                return self.refusal(
                    "tls.certificate",
                    "(nothing)",
                    "the certificate of `tls.key`",
                );
            }
        };
        Ok(TlsPlan {
            certificate,
            key,
            is_self_made,
            authorities,
        })
    }

    /// Returns a path as seen from the folder of the file that names it.
    fn beside(&self, key: &str, file: &Path) -> PathBuf {
        let folder = Path::new(self.origins.file(key)).parent();
        folder.map_or_else(|| file.to_owned(), |folder| folder.join(file))
    }

    /// SRTP must be protected somehow, and each way counts once.
    pub(super) fn srtp(&self) -> Result<(), ConfigError> {
        let suites = &self.config.media.srtp;
        let is_twice = (1..suites.len()).any(|at| suites[..at].contains(&suites[at]));
        if suites.is_empty() || is_twice {
            let allowed = "one suite at least, each once";
            return self.refusal("media.srtp", &format!("{suites:?}"), allowed);
        }
        Ok(())
    }

    /// The ports of WebRTC media must not be those of plain RTP.
    pub(super) fn webrtc_port(&self, rtp: RtpPorts) -> Result<u16, ConfigError> {
        let first = self.config.media.webrtc_port;
        let last = first.saturating_add(WEBRTC_PORTS - 1);
        if first != 0 && first <= rtp.last && last >= rtp.first {
            let ports = &self.config.media.rtp_ports;
            let allowed = format!("with the {WEBRTC_PORTS} ports from it outside {ports}");
            return self.refusal("media.webrtc_port", &first.to_string(), &allowed);
        }
        Ok(first)
    }
}
