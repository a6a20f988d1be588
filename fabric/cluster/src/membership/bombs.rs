//! Good octets of gossip, and its readers, for the tests of what they allocate.

use contract::MemberState;
use foca::{Member, Message, State};

use super::datagram::Datagram;
use super::identity::Identity;
use super::meta::MetaEntry;
use super::world_tests::{address, inst, meta};

/// Returns a datagram with members and items, and one of these items.
pub(crate) fn datagram() -> (Vec<u8>, Vec<u8>) {
    let of = |node| Identity::new(inst(node, 5), address(node));
    let mut datagram = Datagram::bare(of(2), of(1), Message::Gossip);
    datagram.members = (3..9)
        .map(|node| Member::new(of(node), 0, State::Alive))
        .collect();
    let item = MetaEntry {
        inst: inst(2, 5),
        counter: 7,
        meta: meta(MemberState::Up),
    };
    let item = item.write();
    datagram.items = vec![item.clone(), item.clone()];
    (datagram.write().expect("it fits"), item)
}

/// Reads it as a machine would; true if it is one.
pub(crate) fn read_datagram(octets: &[u8]) -> bool {
    Datagram::read(octets).is_ok()
}

/// Reads an item as a machine would; true if it is one.
pub(crate) fn read_item(octets: &[u8]) -> bool {
    MetaEntry::read(octets).is_some()
}
