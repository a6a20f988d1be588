//! Doors: protocols for people and programs. Sockets here, decisions in the console actor.
//!
//! In: HTTP requests. Out: messages to the console, its answers as HTTP (`interfaces.md` §4).
//! No handler reads a table or the store behind the console's back; the event log is made to be read
//! by doors (`events.rs`).

mod api;
mod events;
#[cfg(test)]
mod events_tests;
mod guard;
mod http;
mod pages;
mod stream;
#[cfg(test)]
mod tests;
mod ticket;

pub use events::EventDoor;
pub use http::{HttpListener, HttpParts, listen, serve};
pub use ticket::{Reply, Tickets};

/// The way to the console actor.
pub trait ConsoleDoor: Send + Sync + 'static {
    /// Tells the console a request; its answer comes to the tickets. `false` if it cannot take it.
    fn ask(&self, ticket: u64, request: actors::console::Request) -> bool;
}
