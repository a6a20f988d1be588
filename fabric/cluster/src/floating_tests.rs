//! Who takes which address when: events in, orders out.

use std::time::Duration;

use contract::{Boot, MemberState, NodeId, NodeInst, Now, Time, UtcMillis};

use super::*;

fn at(ms: u64) -> Now {
    Now {
        mono: Time::from_micros(1_000_000) + Duration::from_millis(ms),
        utc: UtcMillis(ms),
    }
}

fn life(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

fn one(life: NodeInst) -> Neighbour {
    Neighbour {
        inst: life,
        name: format!("n{}", life.node.0),
        state: MemberState::Up,
    }
}

fn address() -> IpAddr {
    "203.0.113.9".parse().unwrap()
}

/// Nodes 1 to 3 with one address, whose home is node 1; words arrive at once.
struct World {
    nodes: Vec<Floating>,
    now: u64,
    /// Orders and heirs, by node.
    log: Vec<(u16, FloatingAction)>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            nodes: Vec::new(),
            now: 0,
            log: Vec::new(),
        };
        for node in 1..=3 {
            world.start(life(node, 1));
        }
        world.see_all();
        world
    }

    fn start(&mut self, life: NodeInst) {
        let addresses = vec![FloatingAddress {
            address: address(),
            home: "n1".to_owned(),
        }];
        self.nodes
            .push(Floating::new(life, addresses, at(self.now)));
    }

    fn place(&self, node: u16) -> usize {
        let mut nodes = self.nodes.iter();
        nodes.position(|one| one.me.node.0 == node).unwrap()
    }

    fn see_all(&mut self) {
        let view: Vec<Neighbour> = self.nodes.iter().map(|node| one(node.me)).collect();
        for place in 0..self.nodes.len() {
            let actions = self.nodes[place].view(view.clone(), at(self.now));
            self.carry(place, actions);
        }
    }

    fn carry(&mut self, place: usize, actions: Vec<FloatingAction>) {
        let me = self.nodes[place].me;
        for action in actions {
            match action {
                FloatingAction::Say { to, tenures } => {
                    let found = self.nodes.iter().position(|node| node.me == to);
                    if let Some(place) = found {
                        let actions = self.nodes[place].told(me, &tenures, at(self.now));
                        self.carry(place, actions);
                    }
                }
                order @ (FloatingAction::Take(_)
                | FloatingAction::GiveBack { .. }
                | FloatingAction::Heir { .. }) => self.log.push((me.node.0, order)),
            }
        }
    }

    fn taken(&mut self, node: u16, is_here: bool) {
        let place = self.place(node);
        let actions = self.nodes[place].taken(address(), is_here, at(self.now));
        self.carry(place, actions);
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        for place in 0..self.nodes.len() {
            let actions = self.nodes[place].tick(at(self.now));
            self.carry(place, actions);
        }
    }

    fn remove(&mut self, node: u16, is_proven: bool) -> Floating {
        let place = self.place(node);
        let gone = self.nodes.remove(place);
        for place in 0..self.nodes.len() {
            let actions = self.nodes[place].down(gone.me, is_proven, at(self.now));
            self.carry(place, actions);
        }
        self.see_all();
        gone
    }

    fn log(&mut self) -> Vec<(u16, FloatingAction)> {
        std::mem::take(&mut self.log)
    }

    /// The address is at its home.
    fn settled() -> World {
        let mut world = World::new();
        assert_eq!(world.log(), [(1, FloatingAction::Take(address()))]);
        world.taken(1, true);
        assert_eq!(world.log(), []);
        world
    }

    /// Kills the home; returns who took its place.
    fn after_death() -> (World, u16) {
        let mut world = World::settled();
        world.remove(1, true);
        let log = world.log();
        let heirs: Vec<NodeId> = log
            .iter()
            .filter_map(|(_, action)| match action {
                FloatingAction::Heir { of, node } => (*of == life(1, 1)).then_some(*node),
                FloatingAction::Take(_)
                | FloatingAction::GiveBack { .. }
                | FloatingAction::Say { .. } => None,
            })
            .collect();
        assert_eq!(heirs.len(), 2);
        assert_eq!(heirs[0], heirs[1], "both name the same heir");
        let heir = heirs[0].0;
        assert!(log.contains(&(heir, FloatingAction::Take(address()))));
        assert_eq!(log.len(), 3, "nobody else takes it: {log:?}");
        world.taken(heir, true);
        (world, heir)
    }
}

#[test]
fn the_home_takes_its_address_and_all_know_it() {
    let world = World::settled();
    for node in &world.nodes {
        assert_eq!(node.holders(), [(address(), Some(life(1, 1)))]);
    }
}

#[test]
fn the_address_of_a_dead_node_goes_to_one_heir_at_once() {
    let (world, heir) = World::after_death();
    for node in &world.nodes {
        assert_eq!(node.holders(), [(address(), Some(life(heir, 1)))]);
    }
}

#[test]
fn the_view_may_lack_a_node_before_it_is_told_gone() {
    let mut world = World::settled();
    let mut two = world.nodes.remove(1);
    let view = [life(2, 1), life(3, 1)].map(one);
    assert_eq!(two.view(view.to_vec(), at(10)), []);
    let actions = two.down(life(1, 1), true, at(11));
    let is_heir = actions.contains(&FloatingAction::Take(address()));
    let mut three = world.nodes.remove(1);
    three.view(view.to_vec(), at(10));
    let actions = three.down(life(1, 1), true, at(11));
    assert_ne!(is_heir, actions.contains(&FloatingAction::Take(address())));
}

#[test]
fn a_home_that_comes_back_waits_until_no_call_needs_the_address() {
    let (mut world, heir) = World::after_death();
    world.log();
    world.start(life(1, 2));
    world.see_all();
    world.pass(4_000);
    assert_eq!(world.log(), [], "calls may come after their address");
    world.pass(2_000);
    let give_back = FloatingAction::GiveBack {
        address: address(),
        at_once: false,
    };
    assert_eq!(world.log(), [(heir, give_back.clone())]);
    let place = world.place(heir);
    let actions = world.nodes[place].given_back(address(), false, at(world.now));
    world.carry(place, actions);
    assert_eq!(world.log(), [], "calls need it");
    world.pass(2_000);
    assert_eq!(world.log(), [(heir, give_back)]);
    let actions = world.nodes[place].given_back(address(), true, at(world.now));
    world.carry(place, actions);
    assert_eq!(world.log(), [(1, FloatingAction::Take(address()))]);
    world.taken(1, true);
    for node in &world.nodes {
        assert_eq!(node.holders(), [(address(), Some(life(1, 2)))]);
    }
}

#[test]
fn a_silent_nodes_address_waits_and_wants_a_majority() {
    let mut world = World::settled();
    let cut = world.remove(1, false);
    let is_take = |(_, action): &(u16, FloatingAction)| matches!(action, FloatingAction::Take(_));
    assert!(!world.log().iter().any(is_take));
    world.pass(1_100);
    assert!(!world.log().iter().any(is_take));
    world.pass(100);
    let log = world.log();
    assert!(matches!(log[..], [(_, FloatingAction::Take(_))]), "{log:?}");
    let heir = log[0].0;
    world.taken(heir, true);
    // Healed: the later turn stays, the former holder leaves at once.
    world.nodes.push(cut);
    world.see_all();
    world.pass(2_000);
    let leaves = FloatingAction::GiveBack {
        address: address(),
        at_once: true,
    };
    assert!(world.log().contains(&(1, leaves)));
}

#[test]
fn a_node_alone_of_three_takes_nothing_of_the_silent() {
    let mut world = World::settled();
    let mut last = world.nodes.remove(2);
    for gone in [life(1, 1), life(2, 1)] {
        last.down(gone, false, at(0));
    }
    assert_eq!(last.view(vec![one(life(3, 1))], at(0)), []);
    for second in 1..20 {
        let actions = last.tick(at(second * 1_000));
        assert_eq!(actions, [], "after {second} s");
        let next = last.next_deadline().expect("it looks again");
        assert!(next > at(second * 1_000).mono, "not at once: {next}");
    }
}

/// Who takes the addresses of a silent node is agreed; a word that it had them, from one that has not
/// noticed yet, changes nothing.
#[test]
fn who_takes_an_address_is_not_asked_anew_for_old_news() {
    let mut world = World::settled();
    let place = world.place(2);
    let had = Tenure {
        address: address(),
        turn: 1,
        holder: life(1, 1),
    };
    let heir = life(2, 1);
    let node = &mut world.nodes[place];
    node.addresses[0].home = "n3".to_owned();
    node.view(vec![one(heir)], at(10));
    let actions = node.down(life(1, 1), false, at(10));
    let names_itself = FloatingAction::Heir {
        of: life(1, 1),
        node: NodeId(2),
    };
    assert!(actions.contains(&names_itself), "{actions:?}");
    node.down(life(3, 1), false, at(11));
    node.view(vec![one(heir), one(life(3, 1))], at(16));
    node.told(life(3, 1), &[had], at(20));
    let actions = node.tick(at(2_100));
    assert!(
        actions.contains(&FloatingAction::Take(address())),
        "{actions:?}"
    );
}

/// A node that was cut off from both others is back with one of them: it does not take what the
/// other one has at once, which it only has not met yet.
#[test]
fn a_node_that_was_cut_off_takes_nothing_of_whom_it_has_not_met_again() {
    let mut world = World::settled();
    let mut back = world.nodes.remove(1);
    for gone in [life(1, 1), life(3, 1)] {
        back.down(gone, false, at(0));
    }
    back.view(vec![one(life(2, 1))], at(0));
    let view = vec![one(life(2, 1)), one(life(3, 1))];
    assert_eq!(back.view(view, at(60_000)).len(), 1, "a word for node 3");
    for ms in [61_300, 64_900] {
        let actions = back.tick(at(ms));
        assert!(!actions.contains(&FloatingAction::Take(address())), "{ms}");
    }
    let view = [life(1, 1), life(2, 1), life(3, 1)].map(one);
    back.view(view.to_vec(), at(64_950));
    let actions = back.tick(at(67_000));
    assert!(!actions.contains(&FloatingAction::Take(address())));
}

#[test]
fn an_order_that_failed_is_tried_again_later() {
    let mut world = World::new();
    world.log();
    world.taken(1, false);
    world.pass(9_000);
    assert_eq!(world.log(), []);
    world.pass(2_000);
    assert_eq!(world.log(), [(1, FloatingAction::Take(address()))]);
}

#[test]
fn a_node_that_starts_hears_of_a_holder_that_it_does_not_see_yet() {
    let (world, heir) = World::after_death();
    let other = if heir == 2 { 3 } else { 2 };
    let said = Tenure {
        address: address(),
        turn: 2,
        holder: life(heir, 1),
    };
    let mut home = Floating::new(life(1, 2), world.nodes[0].addresses.clone(), at(0));
    home.view(vec![one(life(1, 2)), one(life(other, 1))], at(10));
    assert_eq!(home.told(life(other, 1), &[said], at(20)), []);
    let view = [life(1, 2), life(2, 1), life(3, 1)].map(one);
    let actions = home.view(view.to_vec(), at(500));
    assert!(!actions.contains(&FloatingAction::Take(address())));
    assert_eq!(home.holders(), [(address(), Some(life(heir, 1)))]);
}

#[test]
fn a_node_that_leaves_gives_all_back() {
    let mut world = World::settled();
    let leaves = FloatingAction::GiveBack {
        address: address(),
        at_once: true,
    };
    assert_eq!(world.nodes[0].leave(), [leaves]);
    assert_eq!(world.nodes[1].leave(), []);
}
