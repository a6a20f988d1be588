//! Who is in the cluster: SWIM gossip (foca), evidence of the transport, metadata (`cluster.md` §2).
//!
//! In: datagrams of proven members, timers, connections gained and lost, our own metadata, each
//! with the time. Out: [`Action`]s. Pure: no clock, socket, task or chance but what is handed in.
//! It does not seal datagrams, keep connections, or know what members own.
//!
//! | state | event | actions | next |
//! |---|---|---|---|
//! | `New` | `start` | `Greet`, `Gossip` to the seeds, `View` of us alone | `Running` |
//! | `Running` | datagram, timer, connection, frame | any | `Running` |
//! | `Running` | a later start of our `NodeId` is heard of | `Superseded` | `Left` |
//! | `Running` | `leave` | `Tell` `Leave`, `Gossip` | `Left` |
//! | `New`, `Left` | anything else | none | same |
//!
//! What foca cannot do is built beside it: probing one named member (`Loss::Silent`), suspecting on
//! evidence, forgiving our own lag, asking the seeds again, probing on when we were taken for dead,
//! a bound on members, and the table.

mod action;
mod chance;
mod datagram;
mod evidence;
mod identity;
mod machine;
mod meta;
mod news;
mod seeds;
mod suspicion;
mod table;
mod timers;
mod view;

#[cfg(test)]
pub(crate) mod bombs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;

pub use action::{Action, MembershipFrame, Table};
pub use evidence::Proof;
pub use machine::{Counters, Membership};
pub use meta::{MetaEntry, NodeMeta, Roles, VersionRange};
pub use view::{Member, View};
