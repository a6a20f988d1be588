//! The credentials of one generation, with their keys ready.
//!
//! In: a configuration. Out: user fragments and keys of both directions.

use crate::stun::IntegrityKey;

use super::PathConfig;

/// What checks of one generation are written and verified with (RFC 8445 §5.3).
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    local: End,
    remote: Option<End>,
}

#[derive(Clone, Debug)]
struct End {
    ufrag: String,
    pwd: contract::Secret,
    key: IntegrityKey,
}

impl End {
    fn new(from: &contract::IceCredentials) -> Self {
        End {
            ufrag: from.ufrag.clone(),
            pwd: from.pwd.clone(),
            key: IntegrityKey::new(from.pwd.expose().as_bytes()),
        }
    }

    fn is(&self, other: &End) -> bool {
        self.ufrag == other.ufrag && self.pwd == other.pwd
    }
}

impl Credentials {
    pub(super) fn new(config: &PathConfig) -> Self {
        Credentials {
            local: End::new(&config.local),
            remote: config.remote.as_ref().map(End::new),
        }
    }

    /// Tells whether `next` is of the same generation: our end is the same, and the peer's is too
    /// or was not known.
    pub(super) fn is_completed_by(&self, next: &Credentials) -> bool {
        let is_same_peer = match (&self.remote, &next.remote) {
            (Some(remote), Some(next)) => remote.is(next),
            (Some(_), None) => false,
            (None, _) => true,
        };
        self.local.is(&next.local) && is_same_peer
    }

    /// Tells whether checks of ours can be written.
    pub(super) const fn can_check(&self) -> bool {
        self.remote.is_some()
    }

    pub(super) fn local_ufrag(&self) -> &str {
        &self.local.ufrag
    }

    /// Returns the peer's user fragment, ours, and the key of checks of ours (RFC 8445 §7.2.2).
    pub(super) fn outgoing(&self) -> Option<(&str, &str, &IntegrityKey)> {
        let remote = self.remote.as_ref()?;
        Some((&remote.ufrag, &self.local.ufrag, &remote.key))
    }

    /// Returns the key of the peer's checks and of our answers to them.
    pub(super) const fn incoming_key(&self) -> &IntegrityKey {
        &self.local.key
    }

    /// Returns the key of the answers to our checks.
    pub(super) fn answer_key(&self) -> Option<&IntegrityKey> {
        self.remote.as_ref().map(|remote| &remote.key)
    }
}
