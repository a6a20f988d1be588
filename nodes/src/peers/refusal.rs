//! Why a connection or a datagram is not taken for a node's: counted by reason, and complained of
//! once a minute for each address.
//!
//! In: refusals. Out: counts, metrics, log lines. It closes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::limits::PEER_COMPLAINTS_MAX;
use contract::{FaultClass, SchemaVersion, Time};

/// Pause between two log lines about one address.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Why a connection is closed before it counts, or for breaking the rules after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The connection ended, or could not be opened: a probe, a port scan, a node that is gone.
    #[error("the connection ended")]
    Gone,
    /// It does not speak TLS 1.3 with a certificate.
    #[error("no TLS 1.3 with a certificate")]
    Tls,
    /// It did not prove itself in time.
    #[error("not proven in time")]
    Late,
    /// It does not know the cluster's secret.
    #[error("its proof is of another secret than this node's cluster.secret_file")]
    Proof,
    /// It ended the connection when it was shown our proof of the secret.
    #[error("it does not take this node's proof: its secret is another one (cluster.secret_file)")]
    Untaken,
    /// A frame that has no place here: before the proof, of an unknown class or of another track.
    #[error("a frame that has no place here")]
    Frame,
    /// A frame that claims to be too long.
    #[error("a frame that is too long")]
    TooLong,
    /// It does not read the schema of the records here.
    #[error("its release does not read the records of this cluster: it needs a newer one")]
    Older,
    /// Its records are of a schema that this program does not read.
    #[error(
        "this node reads schema {} at most and the records there are newer: it needs a newer release",
        SchemaVersion::NEWEST
    )]
    Newer,
    /// Of another cluster.
    #[error("of another cluster")]
    Cluster,
    /// It says it is this node.
    #[error("it says it is this node")]
    Own,
    /// Another node than the one that was dialled.
    #[error("another node than the one dialled")]
    Other,
    /// An earlier life of a node.
    #[error("an earlier life of a node")]
    OldBoot,
    /// One node more than a cluster may have.
    #[error("too many nodes")]
    Full,
    /// The other of two connections that were dialled at once is kept.
    #[error("there is a better connection")]
    Duplicate,
}

impl Refusal {
    /// Every reason.
    const ALL: [Refusal; 15] = [
        Refusal::Gone,
        Refusal::Tls,
        Refusal::Late,
        Refusal::Proof,
        Refusal::Untaken,
        Refusal::Frame,
        Refusal::TooLong,
        Refusal::Older,
        Refusal::Newer,
        Refusal::Cluster,
        Refusal::Own,
        Refusal::Other,
        Refusal::OldBoot,
        Refusal::Full,
        Refusal::Duplicate,
    ];

    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(self) -> FaultClass {
        match self {
            Refusal::Gone | Refusal::Late | Refusal::Duplicate => FaultClass::Transient,
            Refusal::Tls
            | Refusal::Proof
            | Refusal::Untaken
            | Refusal::Frame
            | Refusal::TooLong
            | Refusal::Older
            | Refusal::Newer
            | Refusal::Cluster
            | Refusal::Own
            | Refusal::Other => FaultClass::Reject,
            Refusal::OldBoot => FaultClass::Stale,
            Refusal::Full => FaultClass::Overload,
        }
    }

    /// Returns its word in metrics.
    const fn word(self) -> &'static str {
        match self {
            Refusal::Gone => "gone",
            Refusal::Tls => "tls",
            Refusal::Late => "late",
            Refusal::Proof => "proof",
            Refusal::Untaken => "untaken",
            Refusal::Frame => "frame",
            Refusal::TooLong => "too_long",
            Refusal::Older => "older",
            Refusal::Newer => "newer",
            Refusal::Cluster => "cluster",
            Refusal::Own => "own",
            Refusal::Other => "other",
            Refusal::OldBoot => "old_boot",
            Refusal::Full => "full",
            Refusal::Duplicate => "duplicate",
        }
    }

    /// Tells whether an operator wants to know: what happens in good order is not complained of.
    const fn is_odd(self) -> bool {
        match self {
            Refusal::Gone | Refusal::Duplicate | Refusal::Own => false,
            Refusal::Tls
            | Refusal::Late
            | Refusal::Proof
            | Refusal::Untaken
            | Refusal::Frame
            | Refusal::TooLong
            | Refusal::Older
            | Refusal::Newer
            | Refusal::Cluster
            | Refusal::Other
            | Refusal::OldBoot
            | Refusal::Full => true,
        }
    }
}

/// Why a datagram of gossip is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Shorter than a seal, longer than one may be, or of another version.
    Shape,
    /// From this node, of this life or another.
    Own,
    /// From an earlier life of a node.
    OldBoot,
    /// Its counter has been seen, or is too old to tell.
    Replayed,
    /// Sealed under no key of ours.
    Forged,
    /// Sealed too long ago, or by a clock that is wrong.
    Skewed,
    /// One sender more than are remembered.
    Full,
    /// The system did not take it.
    Unsent,
}

impl Dropped {
    const ALL: [Dropped; 8] = [
        Dropped::Shape,
        Dropped::Own,
        Dropped::OldBoot,
        Dropped::Replayed,
        Dropped::Forged,
        Dropped::Skewed,
        Dropped::Full,
        Dropped::Unsent,
    ];

    const fn word(self) -> &'static str {
        match self {
            Dropped::Shape => "shape",
            Dropped::Own => "own",
            Dropped::OldBoot => "old_boot",
            Dropped::Replayed => "replayed",
            Dropped::Forged => "forged",
            Dropped::Skewed => "skewed",
            Dropped::Full => "full",
            Dropped::Unsent => "unsent",
        }
    }
}

/// How often each happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    refused: [AtomicU64; Refusal::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counts {
    pub(super) fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        metrics::counter!("weft_peer_connections_refused_total", "why" => why.word()).increment(1);
    }

    pub(super) fn drop_datagram(&self, why: Dropped) {
        self.dropped[why as usize].fetch_add(1, Ordering::Relaxed);
        metrics::counter!("weft_gossip_dropped_total", "why" => why.word()).increment(1);
    }

    pub(super) fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }
}

/// When was complained of whom.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: BTreeMap<IpAddr, Time>,
}

impl Complaints {
    /// Logs a refusal, once a minute for each address at most.
    pub(super) fn complain(&mut self, of: SocketAddr, why: Refusal, now: Time) {
        if !why.is_odd() || !self.is_due(of.ip().to_canonical(), now) {
            tracing::debug!(address = %of, %why, "node refused");
            return;
        }
        tracing::warn!(address = %of, %why, "node refused");
    }

    fn is_due(&mut self, address: IpAddr, now: Time) -> bool {
        if let Some(last) = self.last.get_mut(&address) {
            let is_due = now.since(*last) >= COMPLAINT_PAUSE;
            if is_due {
                *last = now;
            }
            return is_due;
        }
        if self.last.len() >= PEER_COMPLAINTS_MAX {
            self.last
                .retain(|_, last| now.since(*last) < COMPLAINT_PAUSE);
        }
        let has_room = self.last.len() < PEER_COMPLAINTS_MAX;
        if has_room {
            self.last.insert(address, now);
        }
        has_room
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
