//! Stored forms are their golden octets and are read from them (`cluster.md` §12).
//! `UPDATE_GOLDEN=1` writes the goldens anew; only ever for a form that was never released.

use std::path::PathBuf;

use contract::{ActorId, Roster, SchemaVersion};

use super::fixture::*;
use crate::AnyCore;

fn hex(octets: &[u8]) -> String {
    let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(96)
        .map(|line| std::str::from_utf8(line).expect("digits"))
        .collect();
    lines.join("\n") + "\n"
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|octet| !octet.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("two digits")
        })
        .collect()
}

/// Compares what a part of a world is stored as with its golden; the golden is read, and is in the
/// state that is given.
fn is_golden(name: &str, world: &World, id: &ActorId, state: &str) {
    are_golden(name, &world.stored[id], world, id, state);
}

fn are_golden(name: &str, octets: &[u8], world: &World, id: &ActorId, state: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = folder.join(format!("{name}.hex"));
    let text = hex(octets);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("a golden is written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(golden, text, "{name}");
    let core = AnyCore::restore(id, &unhex(&golden), world.now);
    let core = core.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(core.state(), state, "{name}");
}

#[test]
fn the_first_forms_are_their_golden_octets_and_are_read_from_them() {
    let world = World::connected();
    is_golden("stored_call_v1", &world, &world.call_id(), "talking");
    is_golden("stored_dialog_v1", &world, &world.dialog(2), "confirmed");
    is_golden("stored_media_leg_v1", &world, &world.leg(1), "agreed");
    let world = World::alice_and_phone();
    let (dialog, leg) = (world.dialog(1), world.leg(1));
    is_golden("stored_json_dialog_v1", &world, &dialog, "confirmed");
    is_golden("stored_web_leg_v1", &world, &leg, "agreed");
}

#[test]
fn the_forms_of_a_call_that_was_taken_over_are_their_golden_octets() {
    let mut world = World::connected();
    world.take_over(2);
    is_golden("stored_call_v2", &world, &world.call_id(), "talking");
    is_golden("stored_media_leg_v2", &world, &world.leg(1), "agreed");
    let first = |id: &ActorId| world.stored[id][0];
    assert_eq!((first(&world.call_id()), first(&world.leg(1))), (6, 7));
}

#[test]
fn the_form_of_schema_2_says_how_many_nodes_have_had_the_call() {
    let mut world = World::connected();
    world.take_over(2);
    let (id, new) = (world.call_id(), SchemaVersion::NEWEST);
    let octets = world.cores[&id].snapshot(world.now, new);
    are_golden("stored_call_v3", &octets, &world, &id, "talking");
    let read = AnyCore::restore(&id, &octets, world.now).expect("it is read");
    assert_eq!(read.snapshot(world.now, new), octets);
    assert_eq!(read.view(world.now)["changes_of_node"], 1);
}

/// What a node of the former release, or one that writes for it, leaves is gone on with here, and
/// what this one writes for it, it reads.
#[test]
fn a_call_goes_from_one_schema_to_the_other_and_back() {
    let mut world = World::connected();
    let (old, new) = (SchemaVersion::OLDEST, SchemaVersion::NEWEST);
    for changes in 0..3 {
        let id = world.call_id();
        let (was, now) = (&world.cores[&id], world.now);
        let former = AnyCore::restore(&id, &was.snapshot(now, old), now).expect("schema 1");
        assert_eq!(former.snapshot(now, old), was.snapshot(now, old));
        assert_eq!(former.view(now)["changes_of_node"], changes.min(1));
        let present = AnyCore::restore(&id, &was.snapshot(now, new), now).expect("schema 2");
        assert_eq!(present.snapshot(now, new), was.snapshot(now, new));
        assert_eq!(present.snapshot(now, old), was.snapshot(now, old));
        // The world stores for schema 1: a later owner knows of one change at most.
        world.take_over(2 + changes);
    }
}
