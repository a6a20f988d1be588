//! I18: whoever runs the former release is sent nothing that it cannot read.
//!
//! In: frames between nodes. Out: broken promises. A node of the former release is the present one
//! that is told to write for it; what it is sent shows whether the real one could read it.

use cluster::{Exchange, Frame, HolderReply, HolderRequest, Image};
use contract::{NodeInst, SchemaVersion};

use crate::world::World;

/// How many forms of parts programs of a schema know: what a part begins with is less than that.
const fn part_forms(schema: SchemaVersion) -> u32 {
    match schema.0 {
        0 | 1 => 9,
        2 => 10,
        _ => 12,
    }
}

/// Requires that the receiver's release reads a frame, the records and the message in it.
pub fn check(world: &World, (from, to): (NodeInst, NodeInst), octets: &[u8], frame: &Frame) {
    let reads = world.mesh().reads(to.node);
    if reads >= SchemaVersion::NEWEST {
        return;
    }
    world.count("frames to nodes of the former release");
    let broken = |what: &str| {
        let how = format!("{from} sends {to} {what}, which reads schema {reads}");
        world.broken("I18", how);
    };
    if form(octets) > reads.0 {
        broken("a frame of a later form");
    }
    if message(frame).is_some_and(|message| form(message) > reads.0) {
        broken("a message of a later form");
    }
    if images(frame).any(|image| !is_read(image, reads)) {
        broken("a record of a later form");
    }
}

fn message(frame: &Frame) -> Option<&[u8]> {
    if let Frame::Tell { message, .. } | Frame::Returned { message, .. } = frame {
        Some(message)
    } else {
        None
    }
}

fn form(octets: &[u8]) -> u16 {
    let form = octets.first_chunk().copied();
    u16::from_le_bytes(form.unwrap_or_default())
}

fn images(frame: &Frame) -> impl Iterator<Item = &Image> {
    let (mut one, mut many): (Option<&Image>, &[Image]) = (None, &[]);
    if let Frame::Ask {
        request: HolderRequest::Commit(image),
        ..
    } = frame
    {
        one = Some(image);
    } else if let Frame::Reply {
        reply: HolderReply::Granted { newest, .. },
        ..
    } = frame
    {
        one = newest.as_deref();
    } else if let Frame::Repair {
        exchange: Exchange::Images { images, .. },
        ..
    } = frame
    {
        many = images;
    }
    one.into_iter().chain(many)
}

fn is_read(image: &Image, reads: SchemaVersion) -> bool {
    let is_known = |part: &bytes::Bytes| {
        let form = part.first_chunk().copied().map(u32::from_le_bytes);
        form.is_none_or(|form| form < part_forms(reads))
    };
    image.header.schema <= reads && image.parts.values().all(is_known)
}
