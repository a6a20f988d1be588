//! The runtime: runs any pure core as a supervised ractor actor. The only crate that names ractor.
//!
//! In: a roster of cores, an `Env`, a performer of actions. Out: a [`Fabric`] that delivers events
//! to actors by ID, whether they run or lie passive in their record. It knows no protocol and
//! decides nothing that a core decides.
//!
//! ```text
//!  deliver, tell ─▶ entry (inbox) ─▶ shell ─▶ core.handle ─▶ actions ─▶ gate ─▶ performer
//!                       ▲              │ panic                            ▲
//!                 store, verdicts ◀── supervisor (intensity)    committed ┘
//! ```

mod act;
mod balance;
mod commit;
mod deadline_index;
mod drain;
mod entry;
mod events;
mod fabric;
mod freeze;
mod gate;
mod inspect;
mod intensity;
mod leave;
mod load;
mod mesh;
mod own;
mod passive;
mod records;
mod recover;
mod replicas;
mod ring;
mod shell;
mod start;
mod supervisor;

#[cfg(test)]
mod tests;

pub use balance::Balance;
pub use entry::Delivery;
pub use fabric::{Fabric, Origin, Parts, Performer, StartError};
pub use intensity::{Intensity, Verdict};
