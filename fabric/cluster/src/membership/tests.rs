//! Machines in a network of virtual time, and the rules they stand on, one by one.

use std::collections::BTreeSet;

use contract::limits::{NODES_MAX, ZONE_BYTES_MAX};
use contract::{Entropy, Loss, MemberState, NodeId, NodeInst, Peer, Time};
use foca::{Codec, Message, State};
use proptest::prelude::*;

use super::datagram::{Datagram, Wire};
use super::evidence::Evidence;
use super::identity::Identity;
use super::meta::{Merged, MetaTable, Relay};
use super::timers::{Timer, Timers};
use super::world_tests::{World, address, at, inst, meta, ms};
use super::*;

fn machine(node: u16) -> Membership {
    let entropy = Entropy::from_seed([7; 32]);
    Membership::new(
        inst(node, 5),
        address(node),
        meta(MemberState::Up),
        &entropy,
    )
}

fn running(node: u16) -> Membership {
    let mut machine = machine(node);
    machine.start(&[], at(Time::ZERO));
    machine
}

fn every_other(world: &World) -> BTreeSet<NodeId> {
    world.nodes.keys().copied().collect()
}

fn announce_from(node: u16, boot: u64) -> Vec<u8> {
    let src = Identity::new(inst(node, boot), address(node));
    let dst = Identity::whoever(address(1));
    Datagram::bare(src, dst, Message::Announce).write().unwrap()
}

#[test]
fn nodes_join_from_one_seed_and_agree() {
    for count in [3_u16, 5, 20] {
        for seed in 0..3 {
            let mut world = World::new(seed);
            for node in 1..=count {
                world.boot(node, 1, &[address(1)]);
            }
            let took = world.run_until_agreed(ms(5_000));
            println!("{count} nodes, seed {seed}: {took:?}");
            world.run(ms(20_000));
            assert!(world.agrees());
            let hashes: BTreeSet<u64> = world
                .nodes
                .values()
                .map(|process| process.machine.view().hash())
                .collect();
            assert_eq!(hashes.len(), 1);
            assert_eq!(world.any_down_since(Time::ZERO), []);
            for process in world.nodes.values() {
                assert_eq!(process.machine.counters(), Counters::default());
            }
        }
    }
}

#[test]
fn nodes_join_and_stay_over_a_lossy_network() {
    let mut world = World::new(3);
    world.loss_percent = 10;
    for node in 1..=8 {
        world.boot(node, 1, &[address(1)]);
    }
    world.run_until_agreed(ms(15_000));
    let since = world.now;
    world.run(ms(60_000));
    assert!(world.agrees());
    assert_eq!(world.any_down_since(since), []);
}

#[test]
fn a_killed_node_is_proven_dead_within_600_ms_everywhere() {
    for count in [3_u16, 5, 20] {
        for seed in 0..3 {
            let mut world = World::settled(seed, count);
            let since = world.now;
            world.kill(2);
            world.run(ms(600));
            let downs = world.downs(inst(2, 1), since);
            let who: BTreeSet<NodeId> = downs.iter().map(|(by, _, _)| *by).collect();
            assert_eq!(who, every_other(&world));
            for node in who {
                let last = downs.iter().rfind(|(by, _, _)| *by == node).unwrap();
                assert_eq!(last.2, Proof::Dead, "as node {node} saw it");
            }
            assert!(world.agrees());
        }
    }
}

#[test]
fn a_silent_node_is_down_after_its_patience_without_proof() {
    for count in [3_u16, 5, 20] {
        for seed in 0..3 {
            let mut world = World::settled(seed, count);
            let since = world.now;
            world.unplug(3);
            world.run(ms(8_000));
            let downs = world.downs(inst(3, 1), since);
            let who: BTreeSet<NodeId> = downs.iter().map(|(by, _, _)| *by).collect();
            assert_eq!(who, every_other(&world));
            for (by, after, proof) in downs {
                assert_eq!(proof, Proof::Silent, "as node {by} saw it");
                assert!(after >= ms(2_500), "node {by} was hasty: {after:?}");
                assert!(after <= ms(5_500), "node {by} was slow: {after:?}");
            }
        }
    }
}

#[test]
fn a_stalled_node_declares_nobody_dead() {
    for seed in 0..5 {
        let mut world = World::settled(seed, 5);
        let since = world.now;
        world.stall(2, ms(2_000));
        world.run(ms(15_000));
        let others = world.any_down_since(since);
        let by_it = others.iter().find(|(by, _)| *by == NodeId(2));
        assert_eq!(by_it, None, "it declared somebody dead");
        assert!(world.agrees());
        let counters = world.nodes[&NodeId(2)].machine.counters();
        assert!(counters.lags_forgiven >= 1);
        assert_eq!(counters.gossip_faults, 0);
    }
}

#[test]
fn a_node_that_stalls_beyond_all_patience_comes_back() {
    for seed in 0..5 {
        let mut world = World::settled(seed, 4);
        let since = world.now;
        world.stall(2, ms(9_000));
        world.run(ms(9_000));
        let downs = world.downs(inst(2, 1), since);
        assert_eq!(downs.len(), 3, "all others gave it up");
        assert!(downs.iter().all(|(_, _, proof)| *proof == Proof::Silent));
        world.run_until_agreed(ms(10_000));
        assert!(world.rejoins(since).contains(&NodeId(2)));
        let by_it = world.any_down_since(since);
        assert!(by_it.iter().all(|(by, _)| *by != NodeId(2)));
        world.run(ms(10_000));
        assert!(world.agrees());
    }
}

#[test]
fn two_nodes_judge_each_other_alone() {
    let mut world = World::settled(1, 2);
    assert!(world.agrees());
    let since = world.now;
    world.kill(2);
    world.run(ms(400));
    let downs = world.downs(inst(2, 1), since);
    assert_eq!(downs.len(), 1);
    assert_eq!(downs[0].2, Proof::Dead);
    assert_eq!(world.view(1).members.len(), 1);
    world.boot(2, 2, &[address(1)]);
    world.run_until_agreed(ms(2_000));
}

#[test]
fn two_nodes_find_each_other_after_a_cut_though_the_seed_knows_no_seed() {
    for seed in 0..4 {
        let mut world = World::settled(seed, 2);
        let since = world.now;
        world.cut(&[2]);
        world.run(ms(12_000));
        assert_eq!(world.view(1).members.len(), 1);
        assert_eq!(world.view(2).members.len(), 1);
        world.heal();
        let took = world.run_until_agreed(ms(10_000));
        println!("two nodes, seed {seed}: healed after {took:?}");
        assert!(!world.rejoins(since).is_empty());
    }
}

#[test]
fn one_witness_of_three_is_not_enough_for_a_proof() {
    let mut world = World::settled(4, 3);
    let since = world.now;
    let (now, peer) = (at(world.now), world.nodes[&NodeId(3)].peer);
    world.act(NodeId(1), |machine| {
        machine.on_lost(peer, Loss::Refused, now)
    });
    world.run(ms(5_000));
    assert_eq!(world.any_down_since(since), []);
    assert!(world.agrees());
}

#[test]
fn a_living_node_refutes_what_two_saw_of_it() {
    let mut world = World::settled(5, 4);
    let since = world.now;
    let (now, peer) = (at(world.now), world.nodes[&NodeId(4)].peer);
    for node in [1, 2] {
        world.act(NodeId(node), |machine| {
            machine.on_lost(peer, Loss::Refused, now)
        });
    }
    world.run(ms(5_000));
    assert_eq!(world.any_down_since(since), []);
    assert!(world.agrees());
}

/// A machine that knows of two others, of which both saw that node 2 refuses, and then heard it
/// refute, which it said before. Returns also when it was refused.
fn refuted_after_the_refusals() -> (Membership, Time) {
    let mut machine = running(1);
    let start = Time::from_micros(1);
    machine.on_datagram(address(2), &announce_from(2, 1), at(start));
    machine.on_datagram(address(3), &announce_from(3, 1), at(start));
    let peer = Peer {
        inst: inst(2, 1),
        address: address(2),
    };
    machine.on_lost(peer, Loss::Refused, at(start));
    machine.witness(inst(3, 1), inst(2, 1), true, at(start));
    refute(&mut machine, 1, start + ms(1));
    (machine, start)
}

fn refute(machine: &mut Membership, incarnation: u16, now: Time) {
    let src = Identity::new(inst(2, 1), address(2));
    let dst = Identity::new(inst(1, 5), address(1));
    let mut datagram = Datagram::bare(src, dst, Message::Gossip);
    datagram.header.src_incarnation = incarnation;
    machine.on_datagram(address(2), &datagram.write().unwrap(), at(now));
}

/// Handles what is due until a time; tells whom it declares down.
fn downs_until(machine: &mut Membership, end: Time) -> Vec<(NodeInst, Proof)> {
    let mut downs = Vec::new();
    while let Some(due) = machine.next_deadline().filter(|due| *due <= end) {
        for action in machine.on_timer(at(due)) {
            if let Action::Down(inst, proof) = action {
                downs.push((inst, proof));
            }
        }
    }
    downs
}

#[test]
fn last_words_of_a_killed_node_do_not_hide_its_death() {
    let (mut machine, start) = refuted_after_the_refusals();
    assert_eq!(downs_until(&mut machine, start + ms(390)), []);
    let downs = downs_until(&mut machine, start + ms(410));
    assert_eq!(downs, [(inst(2, 1), Proof::Dead)]);
}

#[test]
fn a_living_node_that_refuses_is_suspected_twice_and_no_more() {
    let (mut machine, start) = refuted_after_the_refusals();
    assert_eq!(downs_until(&mut machine, start + ms(210)), []);
    refute(&mut machine, 2, start + ms(211));
    assert_eq!(downs_until(&mut machine, start + ms(1_000)), []);
}

#[test]
fn a_cut_three_from_two_heals_within_ten_seconds() {
    for seed in 0..6 {
        let mut world = World::settled(seed, 5);
        let since = world.now;
        world.cut(&[4, 5]);
        world.run(ms(10_000));
        assert_eq!(world.view(1).members.len(), 3);
        assert_eq!(world.view(4).members.len(), 2);
        let downs = world.any_down_since(since);
        assert_eq!(downs.len(), 12, "each told of each on the other side once");
        world.heal();
        let healed = world.now;
        let took = world.run_until_agreed(ms(10_000));
        println!("cut, seed {seed}: healed after {took:?}");
        world.run(ms(5_000));
        assert!(world.agrees());
        // Whoever is seen by a later bump has been told so: one side at least came back.
        let rejoined: BTreeSet<NodeId> = world.rejoins(healed).into_iter().collect();
        let left: BTreeSet<NodeId> = [1, 2, 3].map(NodeId).into();
        let right: BTreeSet<NodeId> = [4, 5].map(NodeId).into();
        assert!(rejoined.is_superset(&left) && rejoined.is_superset(&right));
    }
}

#[test]
fn a_restart_with_a_higher_boot_replaces_the_earlier_life() {
    for count in [2_u16, 5] {
        let mut world = World::settled(2, count);
        let since = world.now;
        world.unplug(2);
        world.run(ms(300));
        world.boot(2, 2, &[address(1)]);
        world.run_until_agreed(ms(3_000));
        for process in world.nodes.values() {
            assert!(process.machine.view().contains(inst(2, 2)));
        }
        let downs = world.downs(inst(2, 1), since);
        assert!(!downs.is_empty());
        assert!(downs.iter().all(|(_, _, proof)| *proof == Proof::Dead));
        world.run(ms(10_000));
        assert!(world.agrees());
    }
}

#[test]
fn a_node_that_hears_of_its_later_start_falls_silent() {
    let mut machine = running(1);
    let now = at(Time::from_micros(1));
    assert_eq!(
        machine.on_datagram(address(1), &announce_from(1, 4), now),
        []
    );
    let told = machine.on_datagram(address(1), &announce_from(1, 6), now);
    assert_eq!(told, [Action::Superseded(inst(1, 6))]);
    assert_eq!(machine.next_deadline(), None);
    assert_eq!(
        machine.on_datagram(address(2), &announce_from(2, 1), now),
        []
    );
}

#[test]
fn a_node_that_leaves_is_down_at_once_and_stays_away() {
    let mut world = World::settled(6, 5);
    let since = world.now;
    let now = at(world.now);
    world.nodes.get_mut(&NodeId(5)).unwrap().has_left = true;
    world.act(NodeId(5), |machine| machine.leave(now));
    world.run(ms(100));
    let downs = world.downs(inst(5, 1), since);
    assert_eq!(downs.len(), 4);
    assert!(downs.iter().all(|(_, _, proof)| *proof == Proof::Dead));
    world.run(ms(20_000));
    for node in 1..=4 {
        assert!(!world.view(node).contains(inst(5, 1)), "node {node}");
    }
    assert_eq!(world.rejoins(since), []);
}

#[test]
fn metadata_arrives_everywhere_and_the_newest_stays() {
    let mut world = World::settled(8, 20);
    for load in [100_u16, 200, 300] {
        let now = at(world.now);
        let said = NodeMeta {
            state: MemberState::Draining,
            load_permille: load,
            ..meta(MemberState::Up)
        };
        world.act(NodeId(7), |machine| machine.set_meta(said, now));
        world.run(ms(50));
    }
    world.run(ms(3_000));
    for node in 1..=20 {
        let member = world.view(node).member(NodeId(7)).unwrap();
        assert_eq!(member.meta.load_permille, 300, "node {node}");
        assert_eq!(member.state, MemberState::Draining);
    }
    assert_eq!(world.view(1).schema(), 2);
    assert_eq!(world.view(1).proto(), 1);
    assert_eq!(world.view(1).up().count(), 19);
}

#[test]
fn metadata_that_gossip_lost_arrives_with_a_table() {
    let mut machine = running(1);
    let now = at(Time::from_micros(1));
    machine.on_datagram(address(2), &announce_from(2, 1), now);
    assert_eq!(
        machine.view().member(NodeId(2)).unwrap().state,
        MemberState::Joining
    );
    let entry = |counter, load_permille| MetaEntry {
        inst: inst(2, 1),
        counter,
        meta: NodeMeta {
            load_permille,
            ..meta(MemberState::Up)
        },
    };
    let table = |entry| Table {
        entries: vec![entry],
        is_asking: true,
    };
    let told = machine.on_table(inst(2, 1), table(entry(4, 40)), now);
    assert_eq!(
        machine.view().member(NodeId(2)).unwrap().meta.load_permille,
        40
    );
    let own = MembershipFrame::Table(Table {
        entries: vec![MetaEntry {
            inst: inst(1, 5),
            counter: 1,
            meta: meta(MemberState::Up),
        }],
        is_asking: false,
    });
    let answered = told.contains(&Action::Tell {
        to: inst(2, 1),
        body: own,
    });
    assert!(answered, "the asker lacked our own entry");
    machine.on_table(inst(2, 1), table(entry(3, 30)), now);
    assert_eq!(
        machine.view().member(NodeId(2)).unwrap().meta.load_permille,
        40
    );
    let old_life = MetaEntry {
        inst: inst(2, 0),
        ..entry(9, 90)
    };
    machine.on_table(inst(2, 1), table(old_life), now);
    assert_eq!(
        machine.view().member(NodeId(2)).unwrap().meta.load_permille,
        40
    );
    assert_eq!(machine.counters().entries_refused, 1);
    let mut huge = entry(10, 99);
    huge.meta.zone = "z".repeat(500_000);
    machine.on_table(inst(2, 1), table(huge), now);
    assert_eq!(machine.counters().entries_refused, 2);
    let many = Table {
        entries: vec![entry(11, 99); NODES_MAX + 1],
        is_asking: true,
    };
    assert_eq!(machine.on_table(inst(2, 1), many, now), []);
    assert_eq!(machine.counters().entries_refused, 3);
}

#[test]
fn a_table_is_sent_on_connect_and_every_30_s() {
    let mut world = World::settled(9, 3);
    let tables = |world: &World, since: Time| {
        let told = world.told.iter().filter(|told| told.at >= since);
        told.filter(|told| {
            matches!(
                &told.action,
                Action::Tell {
                    body: MembershipFrame::Table(_),
                    ..
                }
            )
        })
        .count()
    };
    assert!(tables(&world, Time::ZERO) >= 6, "one each way of each link");
    let since = world.now;
    world.run(ms(60_000));
    let sent = tables(&world, since);
    assert!((6..=30).contains(&sent), "{sent} tables in a minute");
}

#[test]
fn one_node_too_many_is_ignored_and_counted() {
    let mut machine = running(1);
    let now = at(Time::from_micros(1));
    let most = u16::try_from(NODES_MAX).unwrap();
    for node in 2..=most + 3 {
        machine.on_datagram(address(node), &announce_from(node, 1), now);
    }
    assert_eq!(machine.view().members.len(), NODES_MAX);
    assert_eq!(machine.counters().members_refused, 3);
    let mut news = Datagram::bare(
        Identity::new(inst(2, 1), address(2)),
        Identity::new(inst(1, 5), address(1)),
        Message::Gossip,
    );
    let stranger = Identity::new(inst(900, 1), address(900));
    news.members
        .push(foca::Member::new(stranger, 0, State::Alive));
    let known = Identity::new(inst(3, 1), address(3));
    news.members.push(foca::Member::new(known, 0, State::Down));
    machine.on_datagram(address(2), &news.write().unwrap(), now);
    assert_eq!(machine.counters().members_refused, 4);
    assert_eq!(machine.view().members.len(), NODES_MAX - 1);
    assert_eq!(machine.counters().gossip_faults, 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::settled(seed, 6);
        world.loss_percent = 5;
        world.cut(&[1, 2]);
        world.run(ms(6_000));
        world.heal();
        world.kill(3);
        world.run(ms(12_000));
        world.told
    };
    let (first, second) = (run(11), run(11));
    assert!(first.len() > 1_000);
    assert!(first == second, "two runs of one seed differ");
    assert!(first != run(12), "the seed means nothing");
}

#[test]
fn after_any_mix_of_faults_all_agree_within_ten_seconds() {
    const NODES: u32 = 7;
    for seed in 0..24 {
        let mut world = World::settled(seed, 7);
        let mut boots = [1_u64; 8];
        world.loss_percent = world.draw(15);
        for _ in 0..12 {
            let node = u16::try_from(1 + world.draw(NODES)).unwrap();
            let other = u16::try_from(1 + world.draw(NODES)).unwrap();
            let is_running = world.nodes.contains_key(&NodeId(node));
            match world.draw(6) {
                0 if is_running => world.kill(node),
                1 if is_running => world.unplug(node),
                2 if is_running => {
                    let length = ms(u64::from(world.draw(7_000)));
                    world.stall(node, length);
                }
                3 => world.cut(&[node, other]),
                4 => world.heal(),
                _ if !is_running => {
                    boots[usize::from(node)] += 1;
                    let seeds = [address(1), address(2)];
                    world.boot(node, boots[usize::from(node)], &seeds);
                }
                _ => {}
            }
            let length = ms(u64::from(world.draw(4_000)));
            world.run(length);
        }
        world.heal();
        world.loss_percent = 0;
        world.run(ms(7_000));
        let took = world.run_until_agreed(ms(10_000));
        world.run(ms(10_000));
        assert!(world.agrees(), "seed {seed}, {took:?}");
        for process in world.nodes.values() {
            let counters = process.machine.counters();
            assert_eq!(counters.gossip_faults, 0, "seed {seed}");
            assert_eq!(counters.garbage, 0, "seed {seed}");
        }
    }
}

#[test]
fn nothing_happens_before_the_start_or_after_the_end() {
    let mut machine = machine(1);
    let now = at(Time::from_micros(1));
    assert_eq!(machine.next_deadline(), None);
    assert_eq!(
        machine.on_datagram(address(2), &announce_from(2, 1), now),
        []
    );
    assert_eq!(machine.view().members.len(), 1);
    machine.start(&[], now);
    assert!(machine.next_deadline().is_some());
    machine.leave(now);
    assert_eq!(machine.on_timer(now), []);
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn a_lone_node_asks_its_seeds_again() {
    let mut machine = machine(1);
    let told = machine.start(&[address(1), address(2)], at(Time::ZERO));
    assert!(told.contains(&Action::Greet(address(2))));
    assert!(!told.contains(&Action::Greet(address(1))), "that is itself");
    let mut asked = Vec::new();
    for _ in 0..200 {
        let due = machine.next_deadline().unwrap();
        if machine
            .on_timer(at(due))
            .contains(&Action::Greet(address(2)))
        {
            asked.push(due);
        }
    }
    assert!(asked.len() > 5);
    for pair in asked.windows(2) {
        let wait = pair[1].since(pair[0]);
        assert!(wait <= ms(6_000) && wait >= ms(500), "{wait:?}");
    }
}

/// A machine that knows nodes 2 and 3, of which node 2 has just said that it takes it for dead.
fn taken_for_dead(now: Time) -> Membership {
    let mut machine = machine(1);
    machine.start(&[address(9)], at(Time::ZERO));
    for node in [2, 3] {
        machine.on_datagram(address(node), &announce_from(node, 1), at(now));
    }
    assert_eq!(machine.view().members.len(), 3);
    let (src, own) = (Identity::new(inst(2, 1), address(2)), machine.own());
    let verdict = Datagram::bare(src, own, Message::TurnUndead);
    let told = machine.on_datagram(address(2), &verdict.write().unwrap(), at(now));
    assert!(told.contains(&Action::Rejoin));
    assert_eq!(machine.own().bump, own.bump + 1);
    machine
}

/// One that does not hear takes a node for dead, and nobody else is left to answer that node.
#[test]
fn a_node_that_is_taken_for_dead_goes_on_noticing_the_dead() {
    let start = Time::ZERO + ms(100);
    let mut machine = taken_for_dead(start);
    let mut asked = Vec::new();
    while let Some(due) = machine.next_deadline()
        && due < start + ms(7_000)
    {
        if machine
            .on_timer(at(due))
            .contains(&Action::Greet(address(9)))
        {
            asked.push(due);
        }
    }
    assert_eq!(machine.view().members.len(), 1, "both are silent");
    assert!(asked[0] <= start + ms(2_000), "the seeds wait for nothing");
    assert_eq!(machine.counters().gossip_faults, 0);
}

#[test]
fn a_node_that_is_back_asks_the_seeds_until_somebody_calls_it_by_its_new_name() {
    let now = Time::ZERO + ms(100);
    let mut machine = taken_for_dead(now);
    let src = Identity::new(inst(3, 1), address(3));
    let own = machine.own();
    let former = Identity { bump: 0, ..own };
    for (dst, still_asks) in [(former, true), (own, false)] {
        let ping = Datagram::bare(src, dst, Message::Ping(1)).write().unwrap();
        machine.on_datagram(address(3), &ping, at(now));
        assert_eq!(machine.timers.is_set(Timer::Seeds), still_asks);
    }
}

#[test]
fn identities_of_one_node_are_ordered_by_boot_then_bump() {
    use foca::Identity as _;
    let first = Identity::new(inst(1, 1), address(1));
    let back = first.renew().unwrap();
    let later = Identity::new(inst(1, 2), address(9));
    assert_eq!((back.inst, back.bump), (first.inst, 1));
    assert!(back.win_addr_conflict(&first) && !first.win_addr_conflict(&back));
    assert!(later.win_addr_conflict(&back) && !back.win_addr_conflict(&later));
    assert_eq!(first.addr(), later.addr());
    let scoped: std::net::SocketAddr = "[fe80::1%3]:7000".parse().unwrap();
    let plain: std::net::SocketAddr = "[fe80::1]:7000".parse().unwrap();
    assert_eq!(Identity::new(inst(1, 1), scoped).address, plain);
    let last = Identity {
        bump: u32::MAX,
        ..first
    };
    assert_eq!(last.renew(), None);
}

#[test]
fn views_are_sorted_and_their_hash_is_fixed() {
    let member = |node, boot, state| Member {
        inst: inst(node, boot),
        address: address(node),
        state,
        meta: meta(state),
    };
    let up = MemberState::Up;
    let view = View::new(vec![member(3, 1, up), member(1, 1, up), member(1, 2, up)]);
    let insts: Vec<NodeInst> = view.members.iter().map(|member| member.inst).collect();
    assert_eq!(insts, [inst(1, 2), inst(3, 1)]);
    assert!(view.contains(inst(1, 2)) && !view.contains(inst(1, 1)));
    assert_eq!(view.member(NodeId(2)), None);
    let other = View::new(vec![member(1, 2, up), member(3, 1, MemberState::Draining)]);
    assert_ne!(view.hash(), other.hash());
    assert_eq!(view.hash(), View::new(view.members.clone()).hash());
    assert_eq!(view.hash(), HASH_OF_TWO, "nodes of two releases must agree");
    assert_eq!(View::default().schema(), 1);
}

const HASH_OF_TWO: u64 = 13_607_967_006_654_825_329;

#[test]
fn lag_is_forgiven_once_and_only_to_patience() {
    let mut timers = Timers::default();
    let at = |count| Time::ZERO + ms(count);
    timers.set(Timer::Table, at(1_000));
    timers.set(Timer::Hint(NodeId(2)), at(1_100));
    timers.set(Timer::Doubt(NodeId(3)), at(9_000));
    assert_eq!(timers.forgive_lag(at(1_150), ms(200)), None);
    assert_eq!(timers.forgive_lag(at(3_000), ms(200)), Some(ms(2_000)));
    assert_eq!(timers.forgive_lag(at(3_000), ms(200)), None, "not twice");
    assert_eq!(
        timers.take_due(at(3_000)).map(|due| due.0),
        Some(Timer::Table)
    );
    assert_eq!(timers.take_due(at(3_000)), None);
    assert_eq!(timers.next(), Some(at(3_300)));
    assert_eq!(
        timers.take_due(at(4_000)).map(|due| due.0),
        Some(Timer::Hint(NodeId(2)))
    );
    assert_eq!(timers.next(), Some(at(11_200)));
}

#[test]
fn evidence_needs_two_witnesses_or_one_of_two_and_ages() {
    let mut evidence = Evidence::default();
    let (gone, now) = (inst(9, 3), Time::ZERO + ms(60_000));
    assert_eq!(evidence.proof(gone, true, now), Proof::Silent);
    evidence.refused(NodeId(1), gone, now);
    evidence.refused(NodeId(1), gone, now);
    assert_eq!(evidence.proof(gone, false, now), Proof::Silent);
    assert_eq!(evidence.proof(gone, true, now), Proof::Dead);
    evidence.refused(NodeId(2), gone, now);
    assert_eq!(evidence.proof(gone, false, now), Proof::Dead);
    assert_eq!(evidence.proof(inst(9, 4), false, now), Proof::Silent);
    assert_eq!(evidence.proof(gone, false, now + ms(11_000)), Proof::Silent);
    assert!(evidence.withdraw(NodeId(2), gone) && !evidence.withdraw(NodeId(2), gone));
    assert_eq!(evidence.proof(gone, false, now), Proof::Silent);
    evidence.refused(NodeId(4), inst(9, 2), now);
    assert_eq!(
        evidence.proof(gone, false, now),
        Proof::Silent,
        "an earlier life"
    );
    evidence.left(gone);
    assert_eq!(evidence.proof(gone, false, now), Proof::Dead);
    evidence.clear(gone);
    assert_eq!(evidence.proof(gone, true, now), Proof::Silent);
}

#[test]
fn metadata_is_ordered_by_boot_then_counter_and_bounded() {
    use foca::BroadcastHandler as _;
    let mut table = MetaTable::default();
    let mut relay = Relay::default();
    let entry = |node, boot, counter| MetaEntry {
        inst: inst(node, boot),
        counter,
        meta: meta(MemberState::Up),
    };
    let cases = [
        (entry(1, 1, 5), Merged::Taken),
        (entry(1, 1, 5), Merged::Known),
        (entry(1, 1, 4), Merged::Known),
        (entry(1, 1, 6), Merged::Taken),
        (entry(1, 2, 1), Merged::Taken),
        (entry(1, 1, 99), Merged::Known),
    ];
    for (entry, expected) in cases {
        let relayed = relay.receive_item(&entry.write(), None).unwrap();
        assert_eq!(relayed.is_some(), expected == Merged::Taken);
        assert_eq!(table.merge(entry), expected);
    }
    let mut long = entry(2, 1, 1);
    long.meta.zone = "z".repeat(ZONE_BYTES_MAX + 1);
    assert_eq!(MetaEntry::read(&long.write()), None);
    assert_eq!(table.merge(long), Merged::Refused);
    for node in 2..=u16::try_from(NODES_MAX).unwrap() {
        assert_eq!(table.merge(entry(node, 1, 1)), Merged::Taken);
    }
    assert_eq!(table.merge(entry(999, 1, 1)), Merged::Refused);
    assert_eq!(table.newer_than(&table.all()), []);
    assert_eq!(table.newer_than(&[]).len(), NODES_MAX);
}

#[test]
fn datagrams_are_read_back_and_anything_else_is_refused() {
    let src = Identity::new(inst(2, 1), address(2));
    let dst = Identity::new(inst(1, 5), address(1));
    let mut datagram = Datagram::bare(src, dst, Message::Gossip);
    datagram
        .members
        .push(foca::Member::new(src, 3, State::Suspect));
    datagram.items.push(b"item".to_vec());
    let octets = datagram.write().unwrap();
    let read = Datagram::read(&octets).unwrap();
    assert_eq!(read.header, datagram.header);
    assert_eq!(read.members, datagram.members);
    assert_eq!(read.items, datagram.items);
    for cut in 0..octets.len() {
        let whole_without_items = cut == octets.len() - 6;
        let head = Wire
            .decode_header(&octets[..])
            .map(|_| usize::from(octets[0]) + 1);
        let whole_header = Some(cut) == head.ok();
        let is_sound = whole_without_items || whole_header;
        assert_eq!(Datagram::read(&octets[..cut]).is_ok(), is_sound, "{cut}");
    }
    let mut long = octets.clone();
    long.extend([0; 3]);
    assert!(Datagram::read(&long).is_err());
    let nobody = Identity::whoever(address(1));
    assert!(
        Datagram::read(
            &Datagram::bare(nobody, dst, Message::Gossip)
                .write()
                .unwrap()
        )
        .is_err()
    );
    let to_nobody = Datagram::bare(src, nobody, Message::Gossip)
        .write()
        .unwrap();
    assert!(Datagram::read(&to_nobody).is_err());
    let asked = Datagram::bare(
        src,
        dst,
        Message::PingReq {
            target: nobody,
            probe_number: 1,
        },
    );
    assert!(Datagram::read(&asked.write().unwrap()).is_err());
}

#[test]
fn a_frame_of_a_stranger_is_no_evidence() {
    let mut machine = running(1);
    let now = at(Time::from_micros(1));
    machine.on_datagram(address(2), &announce_from(2, 1), now);
    machine.on_datagram(address(3), &announce_from(3, 1), now);
    let peer = Peer {
        inst: inst(2, 1),
        address: address(2),
    };
    machine.on_lost(peer, Loss::Refused, now);
    let told = machine.witness(inst(77, 1), inst(2, 1), true, now);
    assert_eq!(told, []);
    let told = machine.witness(inst(3, 1), inst(2, 1), true, now);
    assert!(!told.is_empty(), "the suspect is told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_changes_nothing(octets in proptest::collection::vec(any::<u8>(), 0..1_600)) {
        let mut machine = running(1);
        let now = at(Time::from_micros(1));
        machine.on_datagram(address(2), &announce_from(2, 1), now);
        let (view, deadline) = (machine.view().clone(), machine.next_deadline());
        prop_assert_eq!(machine.on_datagram(address(3), &octets, now), []);
        prop_assert_eq!(machine.view(), &view);
        prop_assert_eq!(machine.next_deadline(), deadline);
        prop_assert_eq!(machine.counters().garbage, 1);
    }

    #[test]
    fn damaged_datagrams_never_panic(
        flips in proptest::collection::vec((0_usize..400, any::<u8>()), 1..6),
        later in 0_u64..5_000,
    ) {
        let mut machine = running(1);
        let now = at(Time::from_micros(1));
        machine.on_datagram(address(2), &announce_from(2, 1), now);
        let src = Identity::new(inst(2, 1), address(2));
        let dst = Identity::new(inst(1, 5), address(1));
        let target = Identity::new(inst(3, 1), address(3));
        let mut datagram = Datagram::bare(src, dst, Message::PingReq { target, probe_number: 9 });
        datagram.members.push(foca::Member::new(target, 3, State::Suspect));
        let said = MetaEntry { inst: inst(3, 1), counter: 2, meta: meta(MemberState::Up) };
        datagram.items.push(said.write());
        let mut octets = datagram.write().unwrap();
        for (place, mask) in flips {
            let place = place % octets.len();
            octets[place] ^= mask;
        }
        machine.on_datagram(address(2), &octets, now);
        machine.on_timer(at(Time::ZERO + ms(later)));
        let own = machine.view().member(NodeId(1));
        prop_assert_eq!(own.map(|member| member.inst), Some(inst(1, 5)));
        prop_assert!(machine.view().members.len() <= 4);
    }
}
