//! Calls under take-overs, starts and panics in any order, with phones that do what they like: one
//! record at most, no number twice, nothing left.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{ActorId, Entropy};

use super::fixture::*;
use super::taken_over::{body_of, cseq};
use crate::call;

/// The last request of ours to a peer that it may answer.
fn open(world: &World, peer: &str) -> Option<Sent> {
    let peer = peer.parse().expect("an address");
    let mut sent = world.sent.iter().rev();
    let found = sent.find(|sent| {
        let is_ours = sent.what == Kind::Request && sent.flow.remote() == peer;
        is_ours && !is_of(&sent.message, "CANCEL")
    });
    found.cloned()
}

fn answer(world: &mut World, peer: &str, status: u16) {
    let Some(request) = open(world, peer) else {
        return;
    };
    let (tag, sdp) = if peer == A {
        ("a1", SDP_A)
    } else {
        ("b1", SDP_B)
    };
    let has_offer = is_of(&request.message, "INVITE") && status < 300;
    let direction = if body_of(&request).contains("a=sendonly") {
        "a=recvonly\r\n"
    } else {
        ""
    };
    let sdp = if has_offer {
        format!("{sdp}{direction}")
    } else {
        String::new()
    };
    world.answer_to(&request, status, tag, &sdp);
}

fn has_dialog(world: &World, side: u8) -> bool {
    let by = world.dialog(side);
    world.sent.iter().any(|sent| sent.by == by)
}

fn act(world: &mut World, choice: u32, round: u32) {
    let actors = [
        world.call_id(),
        world.dialog(1),
        world.dialog(2),
        world.leg(1),
        world.leg(2),
    ];
    match choice {
        0 | 1 => world.take_over(world.site.node.0 % 200 + 1),
        2 => world.restart(),
        3..=7 => world.panic(&actors[choice as usize - 3]),
        8 | 9 if has_dialog(world, 1) => {
            let hold = if round.is_multiple_of(2) {
                "a=sendonly\r\n"
            } else {
                ""
            };
            world.request(1, A, "INVITE", 20 + round, &format!("{SDP_A}{hold}"));
        }
        10 if has_dialog(world, 1) => world.request(1, A, "ACK", 20 + round - 1, ""),
        11 if has_dialog(world, 1) => world.ack(""),
        12 if has_dialog(world, 2) => world.request(2, B, "INVITE", 20 + round, SDP_B),
        13..=16 => answer(world, B, 200),
        17..=19 => answer(world, A, 200),
        20 => answer(world, B, 180),
        21 => answer(world, B, 491),
        22 => answer(world, A, 491),
        23 if round > 20 => answer(world, B, 481),
        24 if round > 25 && has_dialog(world, 1) => world.request(1, A, "BYE", 90, ""),
        25 => world.cancel(A),
        _ => world.pass(Duration::from_millis(u64::from(choice) * 70)),
    }
}

fn hang_up(world: &mut World) {
    for _ in 0..4 {
        world.pass(Duration::from_secs(60));
        for peer in [A, B] {
            if open(world, peer).is_some_and(|sent| is_of(&sent.message, "BYE")) {
                answer(world, peer, 200);
            }
        }
        let id = world.call_id();
        if world.cores.contains_key(&id) {
            let cause = "NORMAL_CLEARING".to_owned();
            world.tell(id, call::Message::Hangup { cause });
        }
    }
}

#[test]
fn whatever_happens_leaves_one_record_no_number_twice_and_nothing_else() {
    let (mut ended, mut answered, mut requests) = (0, 0, 0);
    for seed in 0..400_u32 {
        let mut entropy = Entropy::from_seed([7; 32]).split(&seed.to_string());
        let mut world = World::new();
        if seed.is_multiple_of(2) {
            world.connect();
        } else {
            world.call("1001", SDP_A);
        }
        for round in 0..40 {
            act(&mut world, entropy.below(30), round);
        }
        hang_up(&mut world);
        let records = world.records();
        assert!(records.len() <= 1, "seed {seed}: {records:?}");
        let left: Vec<&ActorId> = world.cores.keys().chain(world.stored.keys()).collect();
        assert!(left.is_empty(), "seed {seed} leaves {left:?}");
        ended += records.len();
        answered += records.iter().filter(|one| one.answered.is_some()).count();
        let mut used = BTreeMap::new();
        for sent in world.sent.iter().filter(|sent| sent.what == Kind::Request) {
            let method = sent.message.method().to_string();
            let key = (sent.by.clone(), method, cseq(sent));
            let bytes = sent.message.bytes().clone();
            let former = used.insert(key.clone(), bytes.clone());
            assert!(
                former.is_none_or(|former| former == bytes),
                "seed {seed}: {key:?}"
            );
        }
        requests += used.len();
    }
    println!("{ended} records, {answered} answered, {requests} requests");
    assert!(ended > 380 && answered > 150, "{ended} {answered}");
}
