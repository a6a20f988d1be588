//! One Weft process: the impure half around the fabric.
//!
//! In: a configuration. Out: sockets, files, log lines. Cores decide; here their actions are
//! performed (`perform.rs`), the world is wired to them (`node.rs`), and people ask (`doors`, `cli`).

mod addresses;
mod banner;
pub mod cli;
pub mod config;
pub mod doors;
mod dscp;
pub mod env_os;
pub mod log;
pub mod media_plane;
mod net;
pub mod node;
mod overload;
mod peer_sink;
pub mod peers;
mod perform;
pub mod run;
mod sockets;
pub mod store_sled;
mod telemetry;
