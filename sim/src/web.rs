//! The WebRTC end of a leg: the real path core, and a modelled handshake over it.
//!
//! In: what a media leg or a simulated browser is configured with, datagrams, time. Out: datagrams,
//! the address of media, keys. Both ends of a simulated call run this same code, as they do in the
//! field; set-up by webrtc-ice is left out (it spawns tasks), so the path core selects from the start.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use contract::{DtlsRole, Entropy, IceConfig, SrtpKeys, Time, WebrtcConfig};
use media::path::{Path, PathConfig, PathOutput};

use crate::handshake::{self, Hello};

/// Time between repetitions of a handshake message, as webrtc-dtls has it here.
const REPEAT: Duration = Duration::from_millis(50);
/// PRIORITY of checks: of the only host candidate.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// What an end wants done.
#[derive(Clone, Debug)]
pub enum WebOutput {
    /// Put this on the wire.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        octets: Vec<u8>,
    },
    /// Media goes there now.
    Selected {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// Nobody answers any more.
    Lost,
    /// The handshake is done.
    Keyed {
        /// The keys.
        keys: Box<SrtpKeys>,
        /// The association they belong to.
        association: u32,
    },
    /// The peer showed another certificate than it described.
    Refused,
}

/// One end.
#[derive(Debug)]
pub struct WebEnd {
    config: WebrtcConfig,
    certificate: Vec<u8>,
    path: Path,
    entropy: Entropy,
    handshake: Handshake,
    out: VecDeque<WebOutput>,
}

#[derive(Debug)]
enum Handshake {
    /// The passive end waits; the active one for a path.
    Waiting,
    /// The active end repeats itself.
    Asking { random: u128, next: Time },
    /// The passive end answers repetitions of a client.
    Answered { client: u128, answer: Vec<u8> },
    /// The active end is done.
    Done,
}

impl WebEnd {
    /// Starts an end with a certificate's hash; `seed` is its chance.
    #[must_use]
    pub fn new(config: &WebrtcConfig, certificate: Vec<u8>, seed: [u8; 32], now: Time) -> Self {
        let mut end = WebEnd {
            path: Path::new(&path_config(&config.ice), now),
            config: config.clone(),
            certificate,
            entropy: Entropy::from_seed(seed),
            handshake: Handshake::Waiting,
            out: VecDeque::new(),
        };
        end.add_candidates(now);
        end.settle(now);
        end
    }

    /// Takes another configuration.
    pub fn configure(&mut self, config: &WebrtcConfig, now: Time) {
        let (was, ice) = (&self.config.ice, &config.ice);
        if was.local != ice.local || was.remote != ice.remote {
            self.path.restart(&path_config(ice), now);
        }
        if self.config.association != config.association {
            self.handshake = Handshake::Waiting;
        }
        self.config = config.clone();
        self.add_candidates(now);
        self.settle(now);
    }

    fn add_candidates(&mut self, now: Time) {
        for candidate in &self.config.ice.candidates {
            self.path.add_remote_candidate(candidate.address, now);
        }
    }

    /// Returns our user fragment: datagrams of unknown source are told apart by it.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.config.ice.local.ufrag
    }

    /// Tells whether media or a handshake of `from` may be the peer's.
    #[must_use]
    pub fn accepts(&self, from: SocketAddr) -> bool {
        self.path.accepts(from)
    }

    /// Returns where media goes.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        self.path.target()
    }

    /// Takes a check or a handshake message.
    pub fn datagram(&mut self, from: SocketAddr, octets: &[u8], now: Time) {
        if media::stun::is_stun(octets) {
            self.path.on_stun(from, now, octets);
        } else if self.path.accepts(from)
            && let Some(hello) = Hello::read(octets)
        {
            self.on_hello(from, &hello);
        }
        self.settle(now);
    }

    fn on_hello(&mut self, from: SocketAddr, hello: &Hello) {
        match (hello, &self.handshake, self.config.dtls.role) {
            (
                Hello::Client {
                    random,
                    certificate,
                },
                state,
                DtlsRole::Passive,
            ) => {
                if let Handshake::Answered { client, answer } = state
                    && client == random
                {
                    let octets = answer.clone();
                    return self.out.push_back(WebOutput::Send { to: from, octets });
                }
                if self.config.keys.is_some() || !self.is_described(certificate) {
                    // A new handshake within an association is not answered (browser.md, Q4).
                    return self.out.push_back(WebOutput::Refused);
                }
                self.answer(from, *random);
            }
            (
                Hello::Server {
                    client,
                    random,
                    certificate,
                },
                Handshake::Asking { random: ours, .. },
                DtlsRole::Active,
            ) if client == ours => {
                let (client, server) = (*client, *random);
                if !self.is_described(certificate) {
                    return self.out.push_back(WebOutput::Refused);
                }
                self.handshake = Handshake::Done;
                self.keyed(handshake::keys(client, server, true));
            }
            (Hello::Client { .. } | Hello::Server { .. }, _, _) => {}
        }
    }

    fn answer(&mut self, to: SocketAddr, client: u128) {
        let random = self.entropy.next_u128();
        let answer = Hello::Server {
            client,
            random,
            certificate: self.certificate.clone(),
        };
        let octets = answer.write();
        self.handshake = Handshake::Answered {
            client,
            answer: octets.clone(),
        };
        self.out.push_back(WebOutput::Send { to, octets });
        self.keyed(handshake::keys(client, random, false));
    }

    fn keyed(&mut self, keys: SrtpKeys) {
        self.out.push_back(WebOutput::Keyed {
            keys: Box::new(keys),
            association: self.config.association,
        });
    }

    fn is_described(&self, certificate: &[u8]) -> bool {
        let described = &self.config.dtls.fingerprints;
        described.iter().any(|print| print.digest == certificate)
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Time) {
        self.path.on_time(now);
        self.settle(now);
    }

    /// Returns when `on_time` is to be called next.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let repeat = match self.handshake {
            Handshake::Asking { next, .. } => Some(next),
            Handshake::Waiting | Handshake::Answered { .. } | Handshake::Done => None,
        };
        [self.path.next_due(), repeat].into_iter().flatten().min()
    }

    /// Takes the next output.
    pub fn poll(&mut self) -> Option<WebOutput> {
        self.out.pop_front()
    }

    /// Passes on what the path wants, and begins or repeats the handshake.
    fn settle(&mut self, now: Time) {
        while let Some(output) = self.path.poll() {
            match output {
                PathOutput::Send { to, octets } => {
                    self.out.push_back(WebOutput::Send { to, octets });
                }
                PathOutput::Selected { remote } | PathOutput::Revived { remote } => {
                    self.out.push_back(WebOutput::Selected { remote });
                }
                PathOutput::Lost => self.out.push_back(WebOutput::Lost),
            }
        }
        let is_asked = self.config.dtls.role == DtlsRole::Active && self.config.keys.is_none();
        let Some(to) = self.path.target().filter(|_| is_asked) else {
            return;
        };
        let random = match self.handshake {
            Handshake::Waiting => self.entropy.next_u128(),
            Handshake::Asking { random, next } if next <= now => random,
            Handshake::Asking { .. } | Handshake::Answered { .. } | Handshake::Done => return,
        };
        self.handshake = Handshake::Asking {
            random,
            next: now + REPEAT,
        };
        let hello = Hello::Client {
            random,
            certificate: self.certificate.clone(),
        };
        let octets = hello.write();
        self.out.push_back(WebOutput::Send { to, octets });
    }
}

fn path_config(ice: &IceConfig) -> PathConfig {
    PathConfig {
        local: ice.local.clone(),
        remote: ice.remote.clone(),
        is_controlling: ice.is_controlling,
        tie_breaker: ice.tie_breaker,
        selected: ice.selected,
        seed: ice.seed,
        priority: PRIORITY,
    }
}
