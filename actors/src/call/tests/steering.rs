//! What applications order of a call: hold, transfer, digits, its end.

use std::time::Duration;

use contract::{Emitted, MediaCommand, MediaRoute, NodeId, SchemaVersion};

use super::fixture::*;
use super::taken_over::body_of;
use crate::call::{Message, Order, Party, Steer};

const CALLEE: Order = Order::Hold {
    party: Party::Callee,
};
const FREE_CALLEE: Order = Order::Unhold {
    party: Party::Callee,
};

/// A call that is up, in a cluster whose nodes know of orders; 1002 is at C.
fn connected() -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    world.connect();
    world.registered.push(aor("1002@example.org"));
    world.targets = vec![target(C, 1000)];
    world
}

fn order_as(world: &mut World, command: Option<&str>, order: Order) {
    let steer = Steer {
        reply: contract::ActorId::Console(NodeId(1)),
        echo: "7".to_owned(),
        command: command.map(str::to_owned),
        order,
    };
    world.tell(world.call_id(), Message::Steer(Box::new(steer)));
}

/// Orders something; returns the status that it is refused with.
fn order(world: &mut World, what: Order) -> Result<(), u16> {
    order_as(world, None, what);
    let (echo, result) = world.steered.last().expect("an answer").clone();
    assert_eq!(echo, "7");
    result.map_err(|fault| fault.status)
}

fn transfer(to: &str) -> Order {
    Order::Transfer {
        party: Party::Caller,
        to: to.to_owned(),
    }
}

fn digits() -> Order {
    Order::Digits {
        party: Party::Callee,
        digits: "12#".to_owned(),
        duration: Duration::from_millis(100),
    }
}

fn are_joined(world: &World) -> bool {
    world.config(1).route == MediaRoute::Relay(world.side(2))
        && world.config(2).route == MediaRoute::Relay(world.side(1))
}

fn are_parted(world: &World) -> bool {
    world.config(1).route == MediaRoute::Drop && world.config(2).route == MediaRoute::Drop
}

fn news(world: &World) -> Vec<&'static str> {
    let news = world.emitted.iter().filter_map(|emitted| match emitted {
        Emitted::CallState { news, .. } => Some(news.word()),
        _ => None,
    });
    news.collect()
}

fn answer_hold(world: &mut World) {
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
}

#[test]
fn a_party_is_held_and_taken_off() {
    let mut world = connected();
    assert!(are_joined(&world));
    let offers = world.count(B, "INVITE");
    assert_eq!(order(&mut world, CALLEE), Ok(()));
    assert!(are_parted(&world), "nobody waits for a slow phone");
    assert!(body_of(&world.last(B, "INVITE")).contains("a=sendonly"));
    answer_hold(&mut world);
    assert!(are_parted(&world));
    assert_eq!(world.state(&world.call_id()), "held");
    assert_eq!(order(&mut world, CALLEE), Ok(()), "it is");
    assert_eq!(world.count(B, "INVITE"), offers + 1);
    assert_eq!(world.count(A, "INVITE"), 0, "the other one is told nothing");

    assert_eq!(order(&mut world, FREE_CALLEE), Ok(()));
    let offer = world.last(B, "INVITE");
    assert!(
        !body_of(&offer).contains("a=sendonly"),
        "{}",
        body_of(&offer)
    );
    world.answer(B, "INVITE", 200, SDP_B);
    assert!(are_joined(&world));
    assert_eq!(order(&mut world, FREE_CALLEE), Ok(()), "it is");
    assert_eq!(world.count(B, "INVITE"), offers + 2);
    assert_eq!(news(&world)[3..], ["held", "resumed"]);
}

#[test]
fn a_party_that_refuses_to_be_held_talks_on() {
    for status in [488, 500] {
        let mut world = connected();
        assert_eq!(order(&mut world, CALLEE), Ok(()));
        world.answer(B, "INVITE", status, "");
        assert!(are_joined(&world), "{status}");
        assert_eq!(world.state(&world.call_id()), "talking");
        // Another try is another offer.
        assert_eq!(order(&mut world, CALLEE), Ok(()));
        answer_hold(&mut world);
        assert!(are_parted(&world), "{status}");
    }
}

#[test]
fn a_party_on_hold_by_order_does_not_take_itself_off_and_the_other_may_change_its_media() {
    let mut world = connected();
    assert_eq!(order(&mut world, CALLEE), Ok(()));
    answer_hold(&mut world);
    world.request(2, B, "INVITE", 1, SDP_B);
    world.answer(A, "INVITE", 200, SDP_A);
    let answer = world.last(B, "200");
    assert!(
        body_of(&answer).contains("a=sendonly"),
        "{}",
        body_of(&answer)
    );
    world.request(2, B, "ACK", 1, "");
    assert!(are_parted(&world));

    world.request(1, A, "INVITE", 11, SDP_A);
    assert!(body_of(&world.last(B, "INVITE")).contains("a=sendonly"));
    answer_hold(&mut world);
    let answer = world.last(A, "200");
    assert!(!body_of(&answer).contains("only"), "{}", body_of(&answer));
    world.request(1, A, "ACK", 11, "");
    assert!(are_parted(&world));
    assert_eq!(order(&mut world, FREE_CALLEE), Ok(()));
    world.answer(B, "INVITE", 200, SDP_B);
    assert!(are_joined(&world));
}

#[test]
fn a_held_party_stays_held_at_another_node() {
    let mut world = connected();
    assert_eq!(order(&mut world, CALLEE), Ok(()));
    answer_hold(&mut world);
    world.take_over(2);
    for (peer, sdp) in [(A, SDP_A.to_owned()), (B, format!("{SDP_B}a=recvonly\r\n"))] {
        world.answer(peer, "INVITE", 200, &sdp);
    }
    assert!(body_of(&world.last(B, "INVITE")).contains("a=sendonly"));
    assert!(!body_of(&world.last(A, "INVITE")).contains("a=sendonly"));
    assert!(are_parted(&world));
    assert_eq!(world.state(&world.call_id()), "held");
    assert_eq!(order(&mut world, FREE_CALLEE), Ok(()));
    world.answer(B, "INVITE", 200, SDP_B);
    assert!(are_joined(&world));
}

#[test]
fn a_party_is_put_through_by_order() {
    let mut world = connected();
    assert_eq!(order(&mut world, CALLEE), Ok(()));
    answer_hold(&mut world);
    let held = Order::Hold {
        party: Party::Caller,
    };
    assert_eq!(order(&mut world, held), Ok(()));
    world.answer(A, "INVITE", 200, &format!("{SDP_A}a=recvonly\r\n"));
    assert_eq!(order(&mut world, transfer("1002")), Ok(()));
    assert_eq!(
        world.count(B, "NOTIFY") + world.count(B, "202"),
        0,
        "it has asked for nothing"
    );
    assert_eq!(
        order(&mut world, transfer("1002")),
        Err(409),
        "it is being changed"
    );
    world.answer(C, "INVITE", 180, "");
    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(world.count(B, "BYE"), 1);
    world.answer(B, "BYE", 200, "");
    let offer = world.last(A, "INVITE");
    assert!(!body_of(&offer).contains("only"), "{}", body_of(&offer));
    world.answer(A, "INVITE", 200, SDP_C);
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(3)));
    assert_eq!(world.config(3).route, MediaRoute::Relay(world.side(1)));
    assert_eq!(world.count(B, "NOTIFY"), 0);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_party_that_nobody_takes_talks_on() {
    let mut world = connected();
    assert_eq!(order(&mut world, transfer("1002")), Ok(()));
    world.answer(C, "INVITE", 486, "");
    assert!(are_joined(&world));
    assert_eq!(world.count(B, "BYE") + world.count(B, "NOTIFY"), 0);
    assert_eq!(news(&world).last(), Some(&"transfer_failed"));
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let mut world = connected();
    let table = [("5555", 422), ("@", 400), ("", 400)];
    for (to, status) in table {
        let result = order(&mut world, transfer(to));
        assert_eq!(result, Err(status), "{to} {:?}", world.steered.last());
    }
    assert!(are_joined(&world));

    let mut ringing = World::new();
    ringing.health.schema = SchemaVersion::NEWEST;
    ringing.call("1001", SDP_A);
    ringing.answer(B, "INVITE", 180, "");
    for what in [CALLEE, FREE_CALLEE, transfer("1002"), digits()] {
        assert_eq!(order(&mut ringing, what.clone()), Err(409), "{what:?}");
    }
    let busy = Order::Hangup {
        cause: "USER_BUSY".to_owned(),
    };
    assert_eq!(order(&mut ringing, busy), Ok(()));
    assert_eq!(ringing.count(B, "CANCEL"), 1);
    assert_eq!(ringing.count(A, "486"), 1);

    let mut bypassed = World::new();
    bypassed.health.schema = SchemaVersion::NEWEST;
    bypassed.call("71001", SDP_A);
    bypassed.answer(B, "INVITE", 200, SDP_B);
    bypassed.ack("");
    assert_eq!(order(&mut bypassed, CALLEE), Err(409));
}

#[test]
fn digits_are_played_and_a_call_ends_by_order() {
    let mut world = connected();
    assert_eq!(order(&mut world, digits()), Ok(()));
    let played = MediaCommand::Digits {
        leg: world.side(2),
        digits: "12#".to_owned(),
        duration: Duration::from_millis(100),
    };
    assert!(world.media.contains(&played), "{:?}", world.media);
    let hangup = Order::Hangup {
        cause: "no such word".to_owned(),
    };
    assert_eq!(order(&mut world, hangup), Ok(()));
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 200, "");
    let record = world.record();
    assert_eq!(record.ended_by, "application");
    assert_eq!(record.cause, "NORMAL_CLEARING");
}

/// A repeat of a command hears what the first one heard, also at the heir of a dead node, and does
/// nothing; the oldest of very many are forgotten.
#[test]
fn a_command_is_carried_out_once() {
    let mut world = connected();
    order_as(&mut world, Some("c-1"), digits());
    order_as(&mut world, Some("c-2"), transfer("5555"));
    let heard = world.steered.clone();
    world.registered.push(aor("5555@example.org"));
    world.take_over(2);
    for (peer, sdp) in [(A, SDP_A), (B, SDP_B)] {
        world.answer(peer, "INVITE", 200, sdp);
    }
    world.steered.clear();
    world.media.clear();
    order_as(&mut world, Some("c-1"), digits());
    order_as(&mut world, Some("c-2"), transfer("5555"));
    assert_eq!(world.steered, heard);
    let is_digits = |command: &MediaCommand| matches!(command, MediaCommand::Digits { .. });
    assert!(!world.media.iter().any(is_digits));

    for number in 0..contract::limits::CALL_COMMANDS_KEPT_MAX {
        order_as(&mut world, Some(&format!("d-{number}")), FREE_CALLEE);
    }
    order_as(&mut world, Some("c-1"), digits());
    assert!(world.media.iter().any(is_digits));
}

/// The node is killed after every so many events: who is told that it is done finds it done.
#[test]
fn an_order_outlives_its_node() {
    for every in 1..12 {
        let mut world = connected();
        world.kills_after = Some(every);
        order_as(&mut world, Some("c-1"), CALLEE);
        world.kills_after = None;
        if world.steered.is_empty() {
            // It was lost with the node: the application says it once more.
            order_as(&mut world, Some("c-1"), CALLEE);
        }
        assert_eq!(
            world.steered.last().map(|(_, result)| result.clone()),
            Some(Ok(()))
        );
        assert!(
            body_of(&world.last(B, "INVITE")).contains("a=sendonly"),
            "{every}"
        );
        answer_hold(&mut world);
        assert!(are_parted(&world), "{every}");
        assert_eq!(world.state(&world.call_id()), "held");
    }
}
