//! Candidates that a peer sends after its description, in an INFO (RFC 8840).
//!
//! In: the body of an INFO. Out: candidates, and whether they are all. What is wrong with one is
//! for its leg to find.

use contract::limits::ICE_CANDIDATES_MAX;

/// Type of the body (RFC 8840 §9).
pub(super) const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Octets of a body: as many candidates as a leg keeps.
pub(super) const BYTES_MAX: usize = 4_096;

/// What a fragment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Values of `a=candidate`. Bound: `ICE_CANDIDATES_MAX`.
    pub(super) candidates: Vec<String>,
    /// There is no further one.
    pub(super) is_end: bool,
}

/// Reads a fragment; `None` if it is no text.
pub(super) fn read(body: &[u8]) -> Option<Fragment> {
    let text = std::str::from_utf8(body).ok()?;
    let lines = || text.lines().map(str::trim_end);
    let candidates = lines()
        .filter_map(|line| line.strip_prefix("a=candidate:"))
        .take(ICE_CANDIDATES_MAX)
        .map(str::to_owned);
    Some(Fragment {
        candidates: candidates.collect(),
        is_end: lines().any(|line| line == "a=end-of-candidates"),
    })
}
