//! Stored forms are their golden octets and are read from them (`cluster.md` §12).
//! `UPDATE_GOLDEN=1` writes the goldens anew; only ever for a form that was never released.

use std::path::PathBuf;

use contract::{ActorId, Roster};

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
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = folder.join(format!("{name}.hex"));
    let text = hex(&world.stored[id]);
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
