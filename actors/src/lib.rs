//! The actors: one pure core a folder, the one [`Message`] enum, the one [`AnyCore`] that the
//! runtime runs, and what they read of the configuration ([`Site`]).
//!
//! In: events. Out: actions. No socket, clock, disk or task is named here; `fabric/runtime` runs
//! the cores, `nodes` performs their actions. To add a kind: a folder of four files, a variant in
//! `message.rs`, an arm in `roster.rs`.

mod bequest;
#[cfg(test)]
mod bomb_tests;
pub mod call;
pub mod console;
pub mod dialog;
pub mod door_session;
pub mod flow;
pub mod hours;
pub mod lane;
pub mod media_leg;
pub mod member;
pub mod message;
pub mod parking;
pub mod policy;
pub mod registration;
pub mod roster;
pub mod router;
#[cfg(test)]
mod script;
pub mod site;
pub mod wire;
#[cfg(test)]
mod wire_tests;

pub use message::{Inbound, Message, Target, TransactionRef};
pub use roster::AnyCore;
pub use site::Site;
