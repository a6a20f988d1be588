//! The digit of an INFO: `application/dtmf-relay`, as phones send it.

/// Type of the body.
pub(crate) const DTMF_RELAY: &str = "application/dtmf-relay";

/// Returns the digit that a body names.
pub(crate) fn signal_of(body: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let mut lines = text.lines().map(str::trim);
    let line = lines.find_map(|line| line.strip_prefix("Signal"))?;
    let value = line.trim_start().strip_prefix('=')?.trim();
    let digit = value.chars().next()?;
    "0123456789*#ABCD".contains(digit).then_some(digit)
}
