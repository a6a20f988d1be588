//! Routes and searches, event by event.

use contract::limits::{DIRECTORY_ENTRIES_MAX, SEARCHES_MAX};
use contract::{
    ActorId, Boot, CallKey, FabricKeys, IdHasher, NodeId, NodeInst, Now, Time, UtcMillis,
};

use crate::placement::rank;
use crate::{
    Candidate, Directory, DirectoryAction, Epoch, Header, HolderSet, Owned, Route, Version,
    Whereabouts,
};

fn inst(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

fn at(millis: u64) -> Now {
    Now {
        mono: Time::from_micros(millis * 1_000),
        utc: UtcMillis(millis),
    }
}

fn version(n: u64) -> Version {
    let by = NodeId(1);
    Version {
        epoch: Epoch { n, by },
        sequence: n,
    }
}

fn ids() -> IdHasher {
    FabricKeys::new([1; 32]).ids()
}

fn call() -> ActorId {
    ActorId::Call(CallKey::from_bits(5))
}

fn side() -> ActorId {
    ActorId::Dialog(CallKey::from_bits(5).side(1))
}

fn candidates(count: u16) -> Vec<Candidate> {
    let candidate = |node| Candidate {
        node: NodeId(node),
        weight: 1,
        zone: String::new(),
    };
    (1..=count).map(candidate).collect()
}

fn header(owner: NodeInst, sequence: u64) -> Header {
    let holders = HolderSet::alone(owner.node);
    let mut owned = Owned::begin(&call(), Epoch::ZERO, owner, &ids()).held_by(holders);
    for _ in 0..sequence {
        owned.put(&call(), vec![1], None).unwrap();
    }
    owned.header().clone()
}

fn route(directory: &mut Directory, id: &ActorId, own: Option<&Header>) -> Route {
    let key = ids().record_key(id);
    directory.route(id, key, &candidates(6), own, false)
}

fn asked(actions: &[DirectoryAction]) -> (NodeId, u64) {
    let [DirectoryAction::Ask { to, number, .. }] = actions else {
        panic!("{actions:?}");
    };
    (*to, *number)
}

#[test]
fn routes_follow_the_newest_of_own_record_and_cache() {
    let (me, peer, other) = (inst(1, 1), inst(2, 1), inst(3, 1));
    let own_here = header(me, 3);
    let own_there = header(peer, 3);
    let higher = version(9);
    let lower = Version::default();
    let rows = [
        ("own record", Some(&own_here), None, Route::Here),
        (
            "own record of another",
            Some(&own_there),
            None,
            Route::At(peer),
        ),
        (
            "newer cache",
            Some(&own_here),
            Some((other, higher)),
            Route::At(other),
        ),
        (
            "older cache",
            Some(&own_here),
            Some((other, lower)),
            Route::Here,
        ),
        ("cache alone", None, Some((other, lower)), Route::At(other)),
        ("cache says here", None, Some((me, higher)), Route::Here),
    ];
    for (what, own, cached, wanted) in rows {
        let mut directory = Directory::new(me);
        if let Some((owner, version)) = cached {
            directory.learn(&call(), owner, version);
        }
        assert_eq!(route(&mut directory, &side(), own), wanted, "{what}");
    }
}

#[test]
fn what_never_moves_has_a_home_and_a_tombstone_is_no_record() {
    let mut directory = Directory::new(inst(1, 1));
    let here = ActorId::Console(NodeId(1));
    let there = ActorId::Console(NodeId(2));
    assert_eq!(route(&mut directory, &here, None), Route::Here);
    assert_eq!(route(&mut directory, &there, None), Route::Home(NodeId(2)));
    directory.hint(&there, inst(2, 1));
    assert_eq!(directory.known(&there), None);

    let mut ended = Owned::begin(&call(), Epoch::ZERO, inst(2, 1), &ids());
    ended.end(UtcMillis(5));
    let routed = route(&mut directory, &call(), Some(ended.header()));
    assert!(matches!(routed, Route::Ask { .. }), "{routed:?}");
}

/// It moved, and ended there: whoever was told of its former place does not send there any more.
#[test]
fn a_tombstone_outweighs_an_earlier_place_and_no_later_one() {
    let mut ended = Owned::begin(&call(), Epoch::ZERO, inst(2, 1), &ids());
    ended.end(UtcMillis(5));
    let header = ended.header();
    let mut directory = Directory::new(inst(1, 1));
    directory.learn(&call(), inst(4, 1), header.version);
    let routed = route(&mut directory, &call(), Some(header));
    assert!(matches!(routed, Route::Ask { .. }), "{routed:?}");
    let ended_at = Some(header.version);
    assert_eq!(directory.known_after(&call(), ended_at), None);
    assert_eq!(directory.known_after(&call(), None), Some(inst(4, 1)));
    let mut later = header.version;
    later.epoch.n += 1;
    directory.learn(&call(), inst(5, 1), later);
    assert_eq!(directory.known_after(&call(), ended_at), Some(inst(5, 1)));
    assert_eq!(
        route(&mut directory, &call(), Some(header)),
        Route::At(inst(5, 1))
    );
    // What has begun since says so itself before its record is anywhere.
    let mut directory = Directory::new(inst(1, 1));
    directory.hint(&call(), inst(6, 1));
    assert_eq!(
        route(&mut directory, &call(), Some(header)),
        Route::At(inst(6, 1))
    );
    assert_eq!(directory.known_after(&call(), ended_at), Some(inst(6, 1)));
}

#[test]
fn the_first_ranks_are_asked_without_this_node() {
    let key = ids().record_key(&call());
    let ranked = rank(key, &candidates(6));
    // As the last rank, the first one (a holder), and alone.
    let (last, first) = (ranked[5], ranked[0]);
    let route = |me: NodeId, count: u16, is_settled| {
        let mut directory = Directory::new(inst(me.0, 1));
        directory.route(&call(), key, &candidates(count), None, is_settled)
    };
    let nodes = ranked[..5].to_vec();
    assert_eq!(route(last, 6, true), Route::Ask { nodes, quorum: 3 });
    let nodes = ranked[1..5].to_vec();
    let wanted = |quorum| Route::Ask {
        nodes: nodes.clone(),
        quorum,
    };
    assert_eq!(route(first, 6, false), wanted(3));
    assert_eq!(route(first, 6, true), wanted(2));
    let alone = route(NodeId(1), 1, true);
    let nodes = Vec::new();
    assert_eq!(alone, Route::Ask { nodes, quorum: 0 });
    assert!(matches!(
        route(NodeId(1), 2, true),
        Route::Ask { quorum: 1, .. }
    ));
}

/// Of an owner beyond the first ranks one of these holds nothing, and those beyond never do: if the
/// other holders are down, nobody may say that there is none.
#[test]
fn the_lack_of_those_beyond_the_first_ranks_counts_for_nothing() {
    let mut directory = Directory::new(inst(1, 1));
    let nodes: Vec<NodeId> = (2..=6).map(NodeId).collect();
    let mut actions = directory.search(at(0), &call(), nodes, 3);
    for (node, is_known) in [(2, true), (3, false), (4, true), (5, true), (6, true)] {
        let (to, number) = asked(&actions);
        assert_eq!(to, NodeId(node));
        let answer = if is_known {
            Whereabouts::None
        } else {
            Whereabouts::Unsettled
        };
        actions = directory.found(at(0), to, number, answer);
    }
    assert_eq!(actions, [DirectoryAction::Unknown { id: call() }]);
}

#[test]
fn a_search_ends_with_the_first_node_that_knows() {
    let mut directory = Directory::new(inst(1, 1));
    let nodes = vec![NodeId(2), NodeId(3), NodeId(4)];
    let (first, number) = asked(&directory.search(at(0), &side(), nodes.clone(), 2));
    assert_eq!(first, NodeId(2));
    assert!(directory.is_searching(&call()));
    assert_eq!(
        directory.search(at(0), &call(), nodes, 2),
        [],
        "joins the first"
    );
    let none = Whereabouts::None;
    assert_eq!(
        directory.found(at(1), NodeId(9), number, none),
        [],
        "not asked"
    );
    let (second, number) = asked(&directory.found(at(1), first, number, none));
    assert_eq!(second, NodeId(3));
    let (owner, version) = (inst(4, 2), version(3));
    let whereabouts = Whereabouts::At { owner, version };
    let done = directory.found(at(2), second, number, whereabouts);
    let id = call();
    assert_eq!(done, [DirectoryAction::Found { id, owner, version }]);
    assert!(!directory.is_searching(&call()));
    assert_eq!(directory.next_deadline(), None);
    assert_eq!(route(&mut directory, &call(), None), Route::At(owner));
}

#[test]
fn nobody_takes_a_quorum_and_unknown_is_the_rest() {
    use Whereabouts::{None, Unsettled};
    let id = call();
    let nobody = [DirectoryAction::Nobody { id: id.clone() }];
    let unknown = [DirectoryAction::Unknown { id: id.clone() }];
    let rows: [(&[Whereabouts], &[DirectoryAction]); 4] = [
        (&[None, None], &nobody),
        (&[None, Unsettled, None], &unknown),
        (&[Unsettled, Unsettled, Unsettled], &unknown),
        (&[None, Unsettled, Unsettled], &unknown),
    ];
    for (answers, wanted) in rows {
        let mut directory = Directory::new(inst(1, 1));
        let nodes = vec![NodeId(2), NodeId(3), NodeId(4)];
        let mut actions = directory.search(at(0), &id, nodes, 2);
        for answer in answers {
            let (to, number) = asked(&actions);
            actions = directory.found(at(1), to, number, *answer);
        }
        assert_eq!(actions, wanted, "{answers:?}");
    }
    let mut directory = Directory::new(inst(1, 1));
    assert_eq!(directory.search(at(0), &id, Vec::new(), 0), nobody);
    assert_eq!(directory.search(at(0), &id, Vec::new(), 1), unknown);
}

#[test]
fn a_silent_node_has_300_ms_and_may_still_answer_later() {
    let mut directory = Directory::new(inst(1, 1));
    let nodes = vec![NodeId(2), NodeId(3)];
    let (first, late) = asked(&directory.search(at(0), &call(), nodes, 1));
    assert_eq!(directory.next_deadline(), Some(at(300).mono));
    assert_eq!(directory.tick(at(299)), []);
    let (second, _) = asked(&directory.tick(at(300)));
    assert_eq!((first, second), (NodeId(2), NodeId(3)));
    let id = call();
    let done = directory.found(at(400), first, late, Whereabouts::None);
    assert_eq!(done, [DirectoryAction::Nobody { id }]);

    let (_, number) = asked(&directory.search(at(1_000), &call(), vec![NodeId(2)], 1));
    let id = call();
    let unknown = [DirectoryAction::Unknown { id }];
    assert_eq!(directory.tick(at(1_300)), unknown);
    let late = directory.found(at(1_301), NodeId(2), number, Whereabouts::None);
    assert_eq!(late, [], "the search is over");
}

#[test]
fn a_node_that_goes_down_is_forgotten_and_not_waited_for() {
    let mut directory = Directory::new(inst(1, 1));
    let alice = ActorId::Registration("alice@example.org".into());
    directory.learn(&alice, inst(2, 1), version(1));
    let nodes = vec![NodeId(2), NodeId(3), NodeId(2)];
    directory.search(at(0), &call(), nodes, 1);
    let (next, _) = asked(&directory.node_down(at(1), inst(2, 1)));
    assert_eq!(next, NodeId(3));
    assert_eq!(directory.known(&alice), None);
    directory.learn(&alice, inst(2, 2), version(1));
    directory.node_down(at(1), inst(2, 1));
    assert_eq!(
        directory.known(&alice),
        Some((inst(2, 2), version(1))),
        "another life"
    );
    let id = call();
    let unknown = [DirectoryAction::Unknown { id }];
    assert_eq!(directory.tick(at(301)), unknown);
}

#[test]
fn the_highest_version_wins_and_a_hint_never_replaces_one() {
    let mut directory = Directory::new(inst(1, 1));
    let known = |directory: &Directory| directory.known(&side()).unwrap();
    directory.hint(&side(), inst(2, 1));
    assert_eq!(known(&directory), (inst(2, 1), Version::default()));
    directory.learn(&call(), inst(3, 1), version(5));
    directory.learn(&call(), inst(4, 1), version(4));
    directory.hint(&call(), inst(2, 1));
    assert_eq!(known(&directory), (inst(3, 1), version(5)));
    directory.forget(&call(), inst(2, 1));
    assert_eq!(
        known(&directory),
        (inst(3, 1), version(5)),
        "it is not there"
    );
    directory.forget(&call(), inst(3, 1));
    assert_eq!(directory.known(&call()), None);
}

#[test]
fn what_is_learned_ends_a_search_for_it() {
    let mut directory = Directory::new(inst(1, 1));
    directory.search(at(0), &call(), vec![NodeId(2)], 1);
    let (id, owner, version) = (call(), inst(5, 1), version(2));
    let done = directory.learn(&side(), owner, version);
    assert_eq!(done, [DirectoryAction::Found { id, owner, version }]);
    assert_eq!(directory.tick(at(5_000)), []);
}

#[test]
fn the_tables_are_bounded_and_what_is_used_stays() {
    let mut directory = Directory::new(inst(1, 1));
    let id = |number: usize| ActorId::Registration(format!("{number}@example.org").into());
    directory.learn(&call(), inst(2, 1), version(7));
    let mut least = usize::MAX;
    for number in 0..3 * DIRECTORY_ENTRIES_MAX {
        directory.learn(&id(number), inst(2, 1), version(1));
        if number % 1_000 == 0 {
            assert_eq!(route(&mut directory, &call(), None), Route::At(inst(2, 1)));
        }
    }
    let known = (0..3 * DIRECTORY_ENTRIES_MAX).filter(|at| directory.known(&id(*at)).is_some());
    let known = known.inspect(|at| least = least.min(*at)).count();
    assert!(known <= DIRECTORY_ENTRIES_MAX, "{known}");
    assert!(known >= DIRECTORY_ENTRIES_MAX / 2 - 1, "{known}");
    assert!(
        least >= 2 * DIRECTORY_ENTRIES_MAX - 1,
        "the oldest have gone, not {least}"
    );

    for number in 0..SEARCHES_MAX {
        asked(&directory.search(at(0), &id(number), vec![NodeId(2)], 1));
    }
    let id = id(SEARCHES_MAX);
    let over = directory.search(at(0), &id, vec![NodeId(2)], 1);
    assert_eq!(over, [DirectoryAction::Unknown { id }]);
}

#[test]
fn a_message_passes_three_nodes_at_most() {
    let mut hops = 0;
    let mut passed = 0;
    while let Some(next) = Directory::pass_on(hops) {
        hops = next;
        passed += 1;
    }
    assert_eq!(passed, 3);
    assert_eq!(Directory::pass_on(u8::MAX), None);
}
