//! The deterministic simulator: the real shells, cores and node wiring in a world made from a seed.
//!
//! In: a seed. Out: the hash of all that happened and the first promise that did not hold. Only
//! what `Env` stands for is simulated: clock, chance, network, disk, media sockets. The phones are
//! pure cores of their own.
//!
//! ```text
//!  seed ─▶ plan ─▶ run ─▶ world ◀── Env ── node (runtime, actors: as they ship)
//!                   │       ▲
//!                   │       └──── stations (phones, tabs)
//!                   └─▶ checkers ─▶ broken promise ─▶ shrink ─▶ one line that repeats it
//! ```

pub mod checkers;
pub mod client;
pub mod cluster;
pub mod crowd;
pub mod env;
pub mod handshake;
pub mod ledger;
pub mod line;
pub mod log;
pub mod marks;
pub mod media;
pub mod mesh;
pub mod node;
pub mod phone;
pub mod plan;
pub mod planted;
pub mod run;
pub mod sabotage;
pub mod shrink;
pub mod station;
pub mod store;
pub mod stream;
pub mod trace;
pub mod ways;
pub mod web;
pub mod world;

#[cfg(test)]
mod tests;
