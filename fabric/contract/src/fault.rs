//! The six classes of fault (`style.md` §8): whose fault it is decides what happens.

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// The peer sent something wrong: answered with a status, counted, logged at `debug`.
    Reject,
    /// Something outside failed: retried or failed over within a stated budget.
    Transient,
    /// Ownership moved: the directory is refreshed and the operation tried once more.
    Stale,
    /// A limit was reached: shed, and the peer is told when to return.
    Overload,
    /// The operator's input is wrong: the node does not start.
    Config,
    /// Our own error: a panic; the supervisor restarts the actor, the simulator fails the seed.
    Bug,
}
