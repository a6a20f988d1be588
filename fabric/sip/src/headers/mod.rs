//! Typed values of header fields: names with addresses, contacts, CSeq.
//!
//! In: the text of one value. Out: a typed value that writes itself back.

mod contact;
mod cseq;
mod name_addr;

pub use contact::{Contact, Contacts};
pub(crate) use contact::{read_contacts, read_list};
pub use cseq::CSeq;
pub(crate) use cseq::read_cseq;
pub use name_addr::NameAddr;

#[cfg(test)]
mod tests;
