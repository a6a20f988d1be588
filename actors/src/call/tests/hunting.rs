//! Several users are called for one another: groups and dial strings (RFC 3261 §16.6, §16.7).

use std::time::Duration;

use contract::SchemaVersion;
use contract::limits::GROUP_MEMBERS_MAX;

use super::fixture::*;
use crate::site::{Group, GroupOrder, Step};

/// 1001 at B, 1002 at C, 1003 at D with a second phone of a lower q at E, 1009 nowhere.
const D: &str = "192.0.2.40:5068";
const E: &str = "192.0.2.50:5070";

fn world(order: GroupOrder, members: &[&str]) -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    let homes = [
        ("1001", vec![target(B, 1000)]),
        ("1002", vec![target(C, 1000)]),
        ("1003", vec![target(D, 1000), target(E, 500)]),
        ("1009", Vec::new()),
    ];
    world.registered.clear();
    for (number, targets) in homes {
        let user = aor(&format!("{number}@example.org"));
        world.registered.push(user.clone());
        world.homes.insert(user, targets);
    }
    let group = Group {
        members: members.iter().map(|&name| name.to_owned()).collect(),
        order,
        ring_s: 10,
    };
    world.site.domains[0]
        .groups
        .insert("team".to_owned(), group);
    dials(&mut world, "group/team");
    world
}

/// 2000 leads to a dial string.
fn dials(world: &mut World, target: &str) {
    let mut route = world.site.domains[0].routes[0].clone();
    route.name = "team".to_owned();
    route.destination = regex::Regex::new("^2000$").expect("a pattern");
    route.steps = vec![Step::Bridge {
        target: target.to_owned(),
    }];
    let routes = &mut world.site.domains[0].routes;
    routes.retain(|route| route.name != "team");
    routes.push(route);
}

/// How often each of B, C, D, E was called.
fn rung(world: &World) -> [usize; 4] {
    [B, C, D, E].map(|peer| world.count(peer, "INVITE"))
}

fn to_of(world: &World, peer: &str) -> String {
    let to = world.last(peer, "INVITE").message.to().expect("To").uri;
    to.user().unwrap_or_default()
}

#[test]
fn a_group_rings_at_once_and_the_first_who_answers_has_the_call() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003", "1009", "1000"]);
    world.call("2000", SDP_A);
    assert_eq!(
        rung(&world),
        [1, 1, 1, 0],
        "of 1003 the phone of the best q"
    );
    assert_eq!(world.count(A, "INVITE"), 0, "who calls is not called");
    assert_eq!(
        [B, C, D].map(|peer| to_of(&world, peer)),
        ["1001", "1002", "1003"]
    );
    world.answer(C, "INVITE", 180, "");
    world.answer(C, "INVITE", 200, SDP_C);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!([B, D].map(|peer| world.count(peer, "CANCEL")), [0, 0]);
    for peer in [B, D] {
        // A CANCEL waits for a first response (RFC 3261 §9.1).
        world.answer(peer, "INVITE", 180, "");
        assert_eq!(world.count(peer, "CANCEL"), 1);
        let invite = world.last(peer, "INVITE");
        world.answer_to(&invite, 487, "x", "");
    }
    world.request(1, A, "BYE", 11, "");
    world.answer(C, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn a_group_in_turn_rings_one_after_another_each_for_its_time() {
    let mut world = world(GroupOrder::InTurn, &["1003", "1009", "1001", "1002"]);
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [0, 0, 1, 0]);
    world.answer(D, "INVITE", 180, "");
    world.pass(Duration::from_secs(9));
    assert_eq!(rung(&world), [0, 0, 1, 0]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(D, "CANCEL"), 1);
    assert_eq!(rung(&world), [1, 0, 1, 0], "1009 is nowhere");
    world.answer(B, "INVITE", 486, "");
    assert_eq!(rung(&world), [1, 1, 1, 0]);
    world.pass(Duration::from_secs(11));
    assert_eq!(world.count(A, "480"), 1, "the first of the best ones");
    let last = [(C, "INVITE"), (D, "INVITE")];
    for (peer, method) in last {
        world.answer(peer, method, 487, "");
    }
    world.pass(Duration::from_secs(40));
    assert_eq!(world.record().cause, "NO_ANSWER");
}

#[test]
fn a_drawn_order_is_another_for_other_calls_and_calls_everybody_once() {
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..40_u16 {
        let mut world = world(GroupOrder::Random, &["1001", "1002", "1003"]);
        world.draws_from(seed);
        world.call("2000", SDP_A);
        let mut order = Vec::new();
        for _ in 0..3 {
            let peer = [B, C, D]
                .into_iter()
                .find(|peer| !order.contains(peer) && world.count(peer, "INVITE") == 1);
            let peer = peer.expect("somebody is called");
            order.push(peer);
            world.answer(peer, "INVITE", 486, "");
        }
        assert_eq!(rung(&world), [1, 1, 1, 0]);
        assert_eq!(world.count(A, "486"), 1);
        firsts.insert(order[0]);
    }
    assert_eq!(firsts.len(), 3, "{firsts:?}");
}

#[test]
fn dial_strings_call_who_follows_when_nobody_before_has_answered() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    dials(&mut world, "group/team,user/1002|user/1003@example.org");
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [1, 1, 0, 0], "1002 is called once");
    world.answer(B, "INVITE", 503, "");
    assert_eq!(rung(&world), [1, 1, 0, 0]);
    world.answer(C, "INVITE", 404, "");
    assert_eq!(rung(&world), [1, 1, 1, 0]);
    world.answer(D, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn targets_that_nobody_serves_are_refused() {
    for (target, status) in [
        ("group/none", "404"),
        ("group/team@other.example", "404"),
        ("user/1001@other.example,user/1002", "404"),
        ("sofia/gateway/x,user/1001", "404"),
        ("user/1000,user/1000@example.org", "480"),
        ("user/1009|user/1008", "480"),
    ] {
        let mut world = world(GroupOrder::All, &["1001"]);
        dials(&mut world, target);
        world.call("2000", SDP_A);
        assert_eq!(rung(&world), [0; 4], "{target}");
        assert_eq!(world.count(A, status), 1, "{target}: {:#?}", world.lines());
        world.record();
    }
}

#[test]
fn a_member_that_declines_or_is_not_to_be_disturbed_keeps_nobody_else_from_it() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
    let user = aor("1002@example.org");
    world.settings.entry(user).or_default().do_not_disturb = true;
    // Its calls go elsewhere; those of the group do not.
    let user = aor("1003@example.org");
    world.settings.entry(user).or_default().always = Some("1001".to_owned());
    world.homes.insert(
        aor("1001@example.org"),
        vec![target(B, 1000), target(E, 1000)],
    );
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [1, 0, 1, 1]);
    world.answer(E, "INVITE", 180, "");
    world.answer(B, "INVITE", 603, "");
    assert_eq!(
        world.count(E, "CANCEL"),
        1,
        "the other phone of who declines"
    );
    assert_eq!(world.count(D, "CANCEL"), 0);
    world.answer(D, "INVITE", 180, "");
    world.answer(D, "INVITE", 408, "");
    assert_eq!(world.count(A, "486"), 1, "{:#?}", world.lines());
}

/// The caller hears who else is there, no longer a phone of somebody who has declined on another one.
#[test]
fn early_media_of_who_declines_gives_way_to_that_of_others() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    let both = vec![target(B, 1000), target(E, 1000)];
    world.homes.insert(aor("1001@example.org"), both);
    world.call("2000", SDP_A);
    let heard = |world: &World, peer: &str| {
        let contract::ActorId::Dialog(side) = world.last(peer, "INVITE").by else {
            panic!("a dialog calls {peer}");
        };
        world.config(1).route == contract::MediaRoute::Relay(side)
    };
    world.answer(E, "INVITE", 183, SDP_B);
    assert!(heard(&world, E));
    world.answer(C, "INVITE", 183, SDP_C);
    assert!(heard(&world, E), "the first one");
    world.answer(B, "INVITE", 603, "");
    assert_eq!(world.count(E, "CANCEL"), 1);
    world.answer(C, "INVITE", 183, SDP_C);
    assert!(heard(&world, C), "{:#?}", world.lines());
}

#[test]
fn a_member_whose_phone_is_gone_is_looked_for_while_the_others_ring() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    let user = aor("1002@example.org");
    let mut gone = target(C, 1000);
    gone.unreachable = true;
    world.homes.insert(user.clone(), vec![gone]);
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [1, 0, 0, 0]);
    world.homes.insert(user, vec![target(C, 1000)]);
    world.pass(Duration::from_secs(1));
    assert_eq!(rung(&world), [1, 1, 0, 0]);
    // One that does not come back is given up, and nothing waits for it.
    let mut world = self::world(GroupOrder::All, &["1001", "1002"]);
    let mut gone = target(C, 1000);
    gone.unreachable = true;
    world.homes.insert(aor("1002@example.org"), vec![gone]);
    world.call("2000", SDP_A);
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(A, "486"), 0);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(A, "486"), 1);
    world.record();
}

#[test]
fn registrations_without_time_are_asked_again() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
    world.busy = 4;
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [0; 4]);
    world.pass(Duration::from_secs(1));
    assert_eq!(rung(&world), [1, 1, 1, 0]);
}

/// They get as long as the only one who is called: 0.1 s, then 0.2 s, and so on.
#[test]
fn registrations_without_time_are_given_more_each_time() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
    world.busy = 4 * 3;
    world.call("2000", SDP_A);
    world.pass(Duration::from_millis(950));
    assert_eq!(rung(&world), [0; 4]);
    world.pass(Duration::from_millis(100));
    assert_eq!(rung(&world), [1, 1, 1, 0]);
}

#[test]
fn who_was_busy_counts_for_less_than_who_let_it_ring() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    world.call("2000", SDP_A);
    world.answer(B, "INVITE", 486, "");
    world.answer(C, "INVITE", 180, "");
    world.pass(Duration::from_secs(11));
    let counts = ["480", "486"].map(|status| world.count(A, status));
    assert_eq!(counts, [1, 0], "somebody might have answered");
    // Nobody has rung: all are busy.
    let mut world = self::world(GroupOrder::All, &["1001", "1009"]);
    world.call("2000", SDP_A);
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(A, "486"), 1);
}

#[test]
fn what_a_comma_joins_goes_on_side_by_side() {
    let mut world = world(GroupOrder::InTurn, &["1001", "1002"]);
    dials(&mut world, "group/team,user/1003|user/1001");
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [1, 0, 1, 0], "1003 rings with the first one");
    world.answer(B, "INVITE", 486, "");
    assert_eq!(rung(&world), [1, 0, 1, 0]);
    world.answer(D, "INVITE", 486, "");
    assert_eq!(rung(&world), [1, 1, 1, 0]);
    world.answer(C, "INVITE", 486, "");
    assert_eq!(rung(&world), [2, 1, 1, 0]);
    // Who is meant twice rings once.
    let mut world = self::world(GroupOrder::InTurn, &["1001", "1002"]);
    dials(&mut world, "user/1002,group/team");
    world.call("2000", SDP_A);
    assert_eq!(rung(&world), [1, 1, 0, 0]);
    for peer in [B, C] {
        world.answer(peer, "INVITE", 486, "");
    }
    assert_eq!((rung(&world), world.count(A, "486")), ([1, 1, 0, 0], 1));
}

#[test]
fn who_has_sent_a_call_to_a_group_is_not_called_by_it() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().always = Some("2000".to_owned());
    world.call("1001", SDP_A);
    assert_eq!(rung(&world), [0, 1, 0, 0]);
}

/// A round of three seconds is over before phones that were lost with their node are back.
#[test]
fn a_short_round_waits_after_a_take_over_for_phones_that_come_back() {
    let mut world = world(GroupOrder::All, &["1001", "1002"]);
    let group = world.site.domains[0].groups.get_mut("team");
    group.expect("a group").ring_s = 3;
    world.call("2000", SDP_A);
    for peer in [B, C] {
        world.answer(peer, "INVITE", 180, "");
    }
    let user = aor("1002@example.org");
    let mut gone = target(C, 1000);
    gone.unreachable = true;
    world.homes.insert(user.clone(), vec![gone]);
    world.take_over(2);
    assert_eq!(rung(&world), [2, 1, 0, 0]);
    world.pass(Duration::from_secs(5));
    world.homes.insert(user, vec![target(C, 1000)]);
    world.pass(Duration::from_secs(1));
    assert_eq!(rung(&world), [2, 2, 0, 0]);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.count(A, "480"), 0);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.count(A, "480"), 1);
}

/// Members with as many phones each, one of which they have themselves.
fn crowd(members: u16, phones: u16, order: GroupOrder) -> (World, Vec<Vec<String>>) {
    let mut world = world(order, &[]);
    let mut names = Vec::new();
    let mut peers = Vec::new();
    for member in 0..members {
        let name = (1100 + member).to_string();
        let user = aor(&format!("{name}@example.org"));
        let own = (0..phones).map(|phone| format!("192.0.2.{}:{}", 200 + phone, 7_000 + member));
        let own: Vec<String> = own.collect();
        let targets = own.iter().map(|peer| target(peer, 1000)).collect();
        world.registered.push(user.clone());
        world.homes.insert(user, targets);
        names.push(name);
        peers.push(own);
    }
    let group = world.site.domains[0].groups.get_mut("team");
    group.expect("a group").members = names;
    (world, peers)
}

/// How many members were called, on whichever phone.
fn called(world: &World, peers: &[Vec<String>]) -> usize {
    let is_called = |own: &&Vec<String>| own.iter().any(|peer| world.count(peer, "INVITE") > 0);
    peers.iter().filter(is_called).count()
}

/// The record holds three forks of a browser's offer.
#[test]
fn members_for_whom_the_record_has_no_room_are_called_after_the_others() {
    let (mut world, peers) = crowd(10, 1, GroupOrder::All);
    dials(&mut world, "group/team|user/1001");
    let offer = format!("{SDP_A}{}", "a=note:0123456789abcdef\r\n".repeat(90));
    world.call("2000", &offer);
    let first = called(&world, &peers);
    assert!((1..10).contains(&first), "{first}");
    for _ in 0..9 {
        if called(&world, &peers) == 10 {
            break;
        }
        assert_eq!(world.count(B, "INVITE"), 0, "that comes after them");
        world.pass(Duration::from_secs(11));
    }
    assert_eq!(called(&world, &peers), 10);
    world.pass(Duration::from_secs(11));
    assert_eq!(world.count(B, "INVITE"), 1);
}

#[test]
fn each_member_of_a_long_hunt_is_called_though_the_numbers_of_sides_are_few() {
    for order in [GroupOrder::InTurn, GroupOrder::All] {
        let (mut world, peers) = crowd(16, 3, order);
        world.call("2000", SDP_A);
        for _ in 0..17 {
            world.pass(Duration::from_secs(11));
        }
        assert_eq!(called(&world, &peers), 16, "{order:?}");
        let phones = peers.iter().flatten();
        let invites: usize = phones.map(|peer| world.count(peer, "INVITE")).sum();
        let most = usize::from(contract::limits::HUNT_SIDES_MAX) - 1;
        assert_eq!(invites, most, "the others are for who picks up");
    }
}

/// Its offer is passed on as it is: one that cannot be read ends the call, and calls nobody.
#[test]
fn a_group_without_media_legs_refuses_an_offer_that_it_cannot_pass_on() {
    for dialled in ["group/team", "user/1003"] {
        let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
        dials(&mut world, dialled);
        let user = aor("1003@example.org");
        let both = vec![target(D, 1000), target(E, 1000)];
        world.homes.insert(user.clone(), both);
        world.settings.entry(user).or_default().unreachable = Some("1001".to_owned());
        let routes = &mut world.site.domains[0].routes;
        for route in routes.iter_mut() {
            route.bypass = true;
        }
        world.call("2000", "v=1\r\nnothing\r\n");
        assert_eq!(world.count(A, "488"), 1, "{dialled}: {:#?}", world.lines());
        assert_eq!(rung(&world), [0; 4], "{dialled}");
        world.record();
    }
}

#[test]
fn another_node_calls_again_who_rang_and_nobody_who_refused() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
    dials(&mut world, "group/team|user/1009|user/1003");
    world.call("2000", SDP_A);
    for peer in [B, C, D] {
        world.answer(peer, "INVITE", 180, "");
    }
    world.answer(B, "INVITE", 486, "");
    world.take_over(2);
    assert_eq!(rung(&world), [1, 2, 2, 0]);
    let invite = world.last(C, "INVITE");
    world.answer_to(&invite, 486, "c2", "");
    let invite = world.last(D, "INVITE");
    world.answer_to(&invite, 480, "d2", "");
    assert_eq!(rung(&world), [1, 2, 3, 0], "what follows is not forgotten");
    world.answer(D, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(
        world.state(&world.call_id()),
        "talking",
        "{:#?}",
        world.lines()
    );
}

/// Its phone cannot be reached in the moment of the take-over: it is called with the others; who has declined
/// is not, on none of its phones.
#[test]
fn who_is_lost_with_its_node_is_called_anew() {
    let mut world = world(GroupOrder::All, &["1001", "1002", "1003"]);
    let both = vec![target(B, 1000), target(E, 1000)];
    world.homes.insert(aor("1001@example.org"), both);
    world.call("2000", SDP_A);
    for peer in [B, C, D, E] {
        world.answer(peer, "INVITE", 180, "");
    }
    world.answer(B, "INVITE", 603, "");
    world.inherit(2);
    for number in [2, 3, 4, 5] {
        let id = world.dialog(number);
        if world.last(C, "INVITE").by == id {
            let failed = crate::call::Message::Failed {
                side: number,
                status: 480,
            };
            let call = world.call_id();
            world.tell(call, failed);
        }
    }
    world.pass(Duration::from_millis(60));
    assert_eq!(rung(&world), [1, 2, 2, 1], "{:#?}", world.lines());
}

/// A kill after every so many events: who calls sends its INVITE again until it is answered, and everybody
/// of the group is called before it hears that nobody has answered.
#[test]
fn a_group_call_goes_on_after_a_restart_at_any_event() {
    let mut whole = 0;
    for order in [GroupOrder::All, GroupOrder::InTurn] {
        for every in 1..60 {
            let mut world = world(order, &["1001", "1002", "1003"]);
            world.kills_after = Some(every);
            world.call("2000", SDP_A);
            world.kills_after = None;
            world.restart();
            let inbound = world.inbound(
                A,
                World::invite_text("2000", SDP_A, ""),
                Some("1000@example.org"),
            );
            let id = world.call_id();
            world.tell(id, crate::call::Message::Invite(inbound));
            for round in 0..6 {
                for peer in [B, C, D] {
                    if world.count(peer, "INVITE") > 0 && world.count(A, "486") == 0 {
                        world.answer(peer, "INVITE", 486, "");
                    }
                }
                world.pass(Duration::from_millis(100 * round));
            }
            let called = [B, C, D].map(|peer| world.count(peer, "INVITE") > 0);
            if called == [true; 3] {
                whole += 1;
            } else {
                // What is on its way between actors is lost: a leg that was not begun is a member not reached.
                assert!(world.records().len() == 1, "{order:?} {every}");
                continue;
            }
            assert!(
                world.count(A, "486") > 0,
                "{order:?} {every}: {:#?}",
                world.lines()
            );
        }
    }
    assert!(whole > 90, "{whole} of 118");
}

#[test]
fn a_group_larger_than_a_call_calls_as_many_as_it_may() {
    let names: Vec<String> = (1100..1130).map(|number| number.to_string()).collect();
    let mut world = world(GroupOrder::All, &[]);
    for (at, name) in names.iter().enumerate() {
        let user = aor(&format!("{name}@example.org"));
        let peer = format!("192.0.2.200:{}", 7_000 + at);
        world.registered.push(user.clone());
        world.homes.insert(user, vec![target(&peer, 1000)]);
    }
    let group = world.site.domains[0].groups.get_mut("team");
    group.expect("a group").members = names;
    world.call("2000", SDP_A);
    let invites = world
        .sent
        .iter()
        .filter(|sent| is_of(&sent.message, "INVITE"));
    let count = invites.count();
    assert!((8..=GROUP_MEMBERS_MAX).contains(&count), "{count}");
    world.cancel(A);
    assert_eq!(world.count(A, "487"), 1);
}

#[test]
fn a_group_is_not_called_while_nodes_of_the_former_release_are_there() {
    let mut world = world(GroupOrder::All, &["1001"]);
    world.health.schema = SchemaVersion(2);
    world.call("2000", SDP_A);
    assert_eq!(world.count(A, "503"), 1);
    assert_eq!(rung(&world), [0; 4]);
}
