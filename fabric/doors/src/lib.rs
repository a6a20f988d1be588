//! Codecs of the doors: protocols for people and programs, other than SIP.
//!
//! In: octets of a peer. Out: typed values, and octets from typed values. It knows no call and no
//! connection; the actors that have the connections do. To add a door: a module here, an actor.

pub mod json;
