//! Several nodes that hold each other's records: where actors run, what is safe, who goes on.

use std::sync::Arc;

use cluster::{Epoch, Frame, HolderRequest};
use contract::{ActorId, Boot, Event, MemberState, NodeId, NodeInst, Peers};

use super::kit::{PUT, Say, Step, act, call, dialog, lane, note, reg};
use super::mesh::{End, Wire, inst, lane_of, member, tell};
use super::world::{Disk, Mode, Node, pass, settle};

/// Nodes that are connected with each other and see each other.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) wire: Arc<Wire>,
}

impl Cluster {
    pub(super) async fn of(count: u16) -> Cluster {
        let wire = Arc::new(Wire::default());
        let mut cluster = Cluster {
            nodes: Vec::new(),
            wire,
        };
        for node in 1..=count {
            cluster.add(inst(node), Disk::new()).await;
        }
        // Until each has compared its shards with all others.
        pass(10_000).await;
        for node in &cluster.nodes {
            node.log();
        }
        cluster
    }

    pub(super) async fn add(&mut self, life: NodeInst, disk: Arc<Disk>) {
        let end: Arc<dyn Peers> = Arc::new(End(life, Arc::clone(&self.wire)));
        let node = Node::start_as(life, disk, Some(end)).await;
        let fabric = node.fabric.clone();
        self.wire.fabrics.lock().unwrap().insert(life, fabric);
        self.nodes.push(node);
        self.show();
    }

    /// Tells every node of every other one.
    pub(super) fn show(&self) {
        let lives: Vec<NodeInst> = self.nodes.iter().map(|node| node.fabric.me()).collect();
        for node in &self.nodes {
            for life in lives.iter().filter(|life| **life != node.fabric.me()) {
                node.fabric
                    .set_connected(*life, contract::SchemaVersion::OLDEST);
            }
            let view = self.nodes.iter().map(|of| {
                let life = of.fabric.me();
                let mut member = member(life.node.0);
                member.peer.inst = life;
                if of.fabric.is_quarantined() {
                    // As its member actor would say.
                    member.state = MemberState::Joining;
                }
                member
            });
            node.fabric.set_view(view.collect());
        }
    }

    /// Ends a node as `kill -9` does, and lets the others know.
    pub(super) fn kill(&mut self, at: usize) -> Arc<Disk> {
        let node = self.nodes.remove(at);
        let life = node.fabric.me();
        node.fabric.kill();
        self.wire.fabrics.lock().unwrap().remove(&life);
        for other in &self.nodes {
            other.fabric.set_lost(life);
            other.fabric.set_down(life, true);
        }
        self.show();
        node.disk
    }

    /// Tells an actor something from a node's lane.
    pub(super) async fn say(&self, at: usize, to: &ActorId, what: Say) {
        let from = lane_of(self.nodes[at].fabric.me().node.0);
        self.nodes[at].fabric.tell(&from, to.clone(), what);
        settle().await;
        settle().await;
    }

    /// Returns the nodes at which an actor runs.
    pub(super) fn hosts(&self, id: &ActorId) -> Vec<usize> {
        let runs = |at: &usize| self.nodes[*at].row(id).is_some_and(|row| row.live);
        (0..self.nodes.len()).filter(runs).collect()
    }

    pub(super) fn logs(&self) -> Vec<String> {
        self.nodes.iter().flat_map(Node::log).collect()
    }
}

/// As [`super::world::Node::log`], of one core.
pub(super) fn of(log: Vec<String>, who: &str) -> Vec<String> {
    let is_of = |line: &String| line.starts_with(who);
    log.into_iter().filter(is_of).collect()
}

/// What another copy says replaces the record and its sides, at all holders, before anything is done.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_as_another_copy_has_it() {
    let mut cluster = Cluster::of(3).await;
    let side = Box::new(act([Step::Add(5), PUT]));
    let begin = [Step::Add(1), PUT, Step::Spawn(dialog(1), side)];
    cluster.say(0, &call(), act(begin)).await;
    // One with a part of another record changes nothing.
    let foreign = Step::Adopt(vec![(call(), 30), (reg("a"), 3)]);
    cluster.say(1, &call(), act([foreign])).await;
    cluster
        .say(1, &call(), act([Step::Add(1), PUT, Step::Out(1)]))
        .await;
    let log = of(cluster.logs(), "call");
    assert_eq!(
        log.last().map(String::as_str),
        Some("call out 1"),
        "{log:?}"
    );
    let copy = Step::Adopt(vec![(call(), 40), (dialog(3), 7)]);
    cluster.say(1, &call(), act([copy])).await;
    cluster.say(2, &dialog(3), act([Step::Out(2)])).await;
    let logs = cluster.logs();
    let why = "Adopted { epoch: 1 }";
    for line in [
        format!("call restored {why} 40"),
        format!("dialog3 restored {why} 7"),
        "dialog3 out 2".to_owned(),
    ] {
        assert!(logs.contains(&line), "{line}: {logs:?}");
    }
    assert!(cluster.hosts(&dialog(1)).is_empty());
    assert_eq!(cluster.hosts(&dialog(3)), [0]);
    cluster.kill(0);
    pass(2_000).await;
    let logs = cluster.logs();
    let why = "TakenOver { may_live: false, epoch: 2 }";
    assert!(
        logs.contains(&format!("call restored {why} 40")),
        "{logs:?}"
    );
    assert!(
        logs.contains(&format!("dialog3 restored {why} 7")),
        "{logs:?}"
    );
    assert!(cluster.hosts(&dialog(1)).is_empty());
}

/// What brings a copy is all there is of it: a disk that refuses the copy does not end that. Seed 95195.
#[tokio::test(start_paused = true)]
async fn a_copy_that_could_not_be_written_is_gone_on_with_later() {
    let cluster = Cluster::of(1).await;
    let end = [Step::End { gate: true }, Step::Stop(call())];
    cluster.say(0, &call(), act([Step::Add(1), PUT])).await;
    cluster.say(0, &call(), act(end)).await;
    assert!(cluster.hosts(&call()).is_empty());
    let disk = &cluster.nodes[0].disk;
    disk.set(Mode::Held);
    let copy = Step::Adopt(vec![(call(), 40), (dialog(3), 7)]);
    cluster.say(0, &call(), act([copy])).await;
    // The claim is taken, the copy is not.
    disk.answer(true);
    settle().await;
    assert_eq!(disk.held(), 1, "the copy is written");
    disk.answer(false);
    settle().await;
    cluster.say(0, &dialog(3), act([Step::Out(2)])).await;
    disk.set(Mode::AtOnce);
    pass(2_000).await;
    let logs = cluster.logs();
    let is_adopted =
        |line: &String| line.starts_with("call restored Adopted") && line.ends_with(" 40");
    assert!(logs.iter().any(is_adopted), "{logs:?}");
    assert!(logs.contains(&"dialog3 out 2".to_owned()), "{logs:?}");
    assert_eq!(cluster.hosts(&dialog(3)), [0]);
}

/// The same of a call that goes on here: what it had is found again first.
#[tokio::test(start_paused = true)]
async fn a_call_that_has_its_record_goes_on_with_the_copy_later() {
    let cluster = Cluster::of(1).await;
    cluster.say(0, &call(), act([Step::Add(1), PUT])).await;
    let disk = &cluster.nodes[0].disk;
    disk.set(Mode::Full);
    let copy = Step::Adopt(vec![(call(), 40), (dialog(3), 7)]);
    cluster.say(0, &call(), act([copy])).await;
    disk.set(Mode::AtOnce);
    pass(2_000).await;
    let log = of(cluster.logs(), "call");
    let why = "call restored Adopted { epoch: 1 } 40";
    assert_eq!(log.last().map(String::as_str), Some(why), "{log:?}");
    assert_eq!(cluster.hosts(&dialog(3)), [0]);
}

#[tokio::test(start_paused = true)]
async fn messages_from_every_node_reach_the_one_actor() {
    let cluster = Cluster::of(3).await;
    for at in 0..3 {
        cluster.say(at, &reg("a"), act([Step::Add(1), PUT])).await;
    }
    let hosts = cluster.hosts(&reg("a"));
    assert_eq!(hosts.len(), 1, "it runs once");
    let row = cluster.nodes[hosts[0]].row(&reg("a")).unwrap();
    assert_eq!(row.state, "3");
    assert_eq!(of(cluster.logs(), "a"), ["a do", "a do", "a do"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_comes_back_from_wherever_it_was_asked() {
    let cluster = Cluster::of(3).await;
    for at in 0..3 {
        cluster.say(at, &reg("nobody"), note("hello")).await;
        let log = cluster.nodes[at].log();
        assert_eq!(log, ["lane0 Absent from nobody"]);
        assert!(cluster.hosts(&reg("nobody")).is_empty());
    }
}

/// I4: an effect leaves when two have the commit, not before.
#[tokio::test(start_paused = true)]
async fn i4_an_effect_waits_for_a_second_copy() {
    let cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let others: Vec<usize> = (0..3).filter(|at| *at != host).collect();
    for at in &others {
        cluster.nodes[*at].disk.set(Mode::Held);
    }
    cluster
        .say(host, &reg("a"), act([Step::Add(1), PUT, Step::Out(7)]))
        .await;
    assert!(cluster.nodes[host].outs().is_empty(), "one copy only");
    cluster.nodes[others[0]].answer(true).await;
    assert_eq!(cluster.nodes[host].outs(), ["a out 7"]);
}

/// `available`: a node that finds nobody goes on alone, after 150 ms, and says so in the record.
#[tokio::test(start_paused = true)]
async fn a_commit_that_only_one_has_is_marked_and_mended() {
    let cluster = Cluster::of(2).await;
    cluster.say(0, &reg("a"), act([PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let other = &cluster.nodes[1 - host];
    other.disk.set(Mode::Held);
    cluster
        .say(host, &reg("a"), act([Step::Add(1), PUT, Step::Out(7)]))
        .await;
    assert!(cluster.nodes[host].outs().is_empty());
    pass(200).await;
    assert_eq!(cluster.nodes[host].outs(), ["a out 7"]);
    assert!(
        header(&cluster.nodes[host], "a").degraded || {
            // The mark is written with the next commit.
            cluster.say(host, &reg("a"), act([PUT])).await;
            header(&cluster.nodes[host], "a").degraded
        }
    );
    other.disk.set(Mode::AtOnce);
    while other.disk.held() > 0 {
        other.answer(true).await;
    }
    pass(3_000).await;
    assert!(!header(&cluster.nodes[host], "a").degraded);
    assert_eq!(
        header(other, "a").version,
        header(&cluster.nodes[host], "a").version
    );
}

/// Its next life has only the header to know by what nobody else has: simulator, 3 nodes, seed 513.
#[tokio::test(start_paused = true)]
async fn what_a_cut_off_node_writes_is_marked_until_the_others_have_it() {
    let cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let lives: Vec<NodeInst> = cluster.nodes.iter().map(|node| node.fabric.me()).collect();
    let fabric = &cluster.nodes[host].fabric;
    for (at, life) in lives.iter().enumerate().filter(|(at, _)| *at != host) {
        fabric.set_lost(*life);
        cluster.nodes[at].fabric.set_lost(lives[host]);
    }
    // With the first commit, not the next one.
    cluster.say(host, &reg("a"), act([Step::Add(1), PUT])).await;
    assert!(header(&cluster.nodes[host], "a").degraded);
    let mut own = member(lives[host].node.0);
    own.peer.inst = lives[host];
    fabric.set_view(vec![own]);
    for (_, life) in lives.iter().enumerate().filter(|(at, _)| *at != host) {
        fabric.set_down(*life, false);
    }
    // It looks at its records several times meanwhile.
    pass(8_000).await;
    assert!(header(&cluster.nodes[host], "a").degraded);
    cluster.show();
    pass(5_000).await;
    assert!(!header(&cluster.nodes[host], "a").degraded);
}

pub(super) fn header(node: &Node, name: &str) -> cluster::Header {
    let ids = contract::IdHasher::new([3; 16]);
    let loaded = cluster::load(node.disk.as_ref(), &ids, &reg(name)).unwrap();
    loaded.expect("a record").header
}

#[tokio::test(start_paused = true)]
async fn another_node_goes_on_with_what_a_dead_one_had() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([Step::Add(5), PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    cluster.kill(host);
    cluster.logs();
    cluster
        .say(1, &reg("a"), act([Step::Add(1), PUT, Step::Out(1)]))
        .await;
    pass(200).await;
    let log = of(cluster.logs(), "a");
    assert_eq!(
        log,
        [
            "a restored TakenOver { may_live: false, epoch: 2 } 5",
            "a do",
            "a out 1"
        ]
    );
    let host = cluster.hosts(&reg("a"));
    assert_eq!(host.len(), 1);
    assert_eq!(cluster.nodes[host[0]].row(&reg("a")).unwrap().epoch, 2);
}

/// A call that begins between the death of a node and the news of it: it waits for the news, not for
/// the 10 s that an answer may take.
#[tokio::test(start_paused = true)]
async fn what_begins_while_a_node_dies_waits_for_no_answer_of_it() {
    let mut cluster = Cluster::of(3).await;
    cluster.nodes[2].disk.set(Mode::Held);
    cluster
        .say(0, &call(), act([Step::Add(1), PUT, Step::Out(1)]))
        .await;
    pass(100).await;
    let outs = cluster.nodes[0].outs();
    assert!(outs.is_empty(), "the third node may know of it");
    cluster.kill(2);
    pass(200).await;
    assert_eq!(cluster.nodes[0].outs(), ["call out 1"]);
}

/// As membership tells it: the view without a node first, then that it is gone. A majority goes on
/// with the calls of a node that is merely silent.
#[tokio::test(start_paused = true)]
async fn two_of_three_go_on_with_a_call_of_a_silent_node() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(2, &call(), act([Step::Add(5), PUT])).await;
    let node = cluster.nodes.remove(2);
    let life = node.fabric.me();
    node.fabric.kill();
    cluster.wire.fabrics.lock().unwrap().remove(&life);
    for other in &cluster.nodes {
        other.fabric.set_lost(life);
    }
    cluster.show();
    for other in &cluster.nodes {
        other.fabric.set_down(life, false);
    }
    pass(1_100).await;
    assert!(cluster.hosts(&call()).is_empty(), "it may be back yet");
    pass(1_000).await;
    assert_eq!(cluster.hosts(&call()).len(), 1);
}

/// Both others are gone for a moment, as when one of them comes back under another name: the call of
/// the one that stays away is gone on with by whichever has it.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_silent_node_is_gone_on_with_though_another_was_gone_for_a_moment() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(2, &call(), act([Step::Add(5), PUT])).await;
    let node = cluster.nodes.remove(2);
    let silent = node.fabric.me();
    node.fabric.kill();
    cluster.wire.fabrics.lock().unwrap().remove(&silent);
    let lives = [cluster.nodes[0].fabric.me(), cluster.nodes[1].fabric.me()];
    for (at, other) in [(0, lives[1]), (1, lives[0])] {
        let fabric = &cluster.nodes[at].fabric;
        fabric.set_lost(silent);
        fabric.set_lost(other);
        let mut own = member(lives[at].node.0);
        own.peer.inst = lives[at];
        fabric.set_view(vec![own]);
        fabric.set_down(silent, false);
        fabric.set_down(other, false);
    }
    pass(5).await;
    cluster.show();
    pass(1_000).await;
    assert!(cluster.hosts(&call()).is_empty(), "it may be back yet");
    pass(1_000).await;
    assert_eq!(cluster.hosts(&call()).len(), 1);
}

/// A node that is cut off hears of one that is gone before the other: it takes no call meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_has_no_majority_though_it_has_not_heard_of_all() {
    let cluster = Cluster::of(3).await;
    cluster.say(2, &call(), act([Step::Add(5), PUT])).await;
    let lives: Vec<NodeInst> = cluster.nodes.iter().map(|node| node.fabric.me()).collect();
    for at in [1, 2] {
        cluster.nodes[0].fabric.set_lost(lives[at]);
        cluster.nodes[at].fabric.set_lost(lives[0]);
    }
    let view = lives[..2].iter().map(|life| {
        let mut member = member(life.node.0);
        member.peer.inst = *life;
        member
    });
    cluster.nodes[0].fabric.set_view(view.collect());
    cluster.nodes[0].fabric.set_down(lives[2], false);
    pass(8_000).await;
    assert_eq!(cluster.hosts(&call()), [2]);
    for life in &lives[1..] {
        cluster.nodes[0]
            .fabric
            .set_connected(*life, contract::SchemaVersion::OLDEST);
    }
    cluster.show();
    pass(5_000).await;
    assert_eq!(cluster.hosts(&call()), [2]);
    assert_eq!(cluster.nodes[2].row(&call()).unwrap().epoch, 1);
}

/// What begins a call waits until the holders have said that there is none. Meanwhile another node
/// that asks is not told that it is nowhere: a copy of its INVITE would be challenged, and its phone
/// would make a second call.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_about_to_begin_is_not_nowhere() {
    let cluster = Cluster::of(3).await;
    let lives: Vec<NodeInst> = cluster.nodes.iter().map(|node| node.fabric.me()).collect();
    *cluster.wire.torn.lock().unwrap() = Some((lives[0], lives[2]));
    cluster.say(0, &call(), act([Step::Add(5), PUT])).await;
    assert!(cluster.hosts(&call()).is_empty(), "it waits for an answer");
    cluster.say(1, &dialog(1), note("copy")).await;
    assert_eq!(cluster.nodes[1].log(), ["lane0 Busy from dialog1"]);
    *cluster.wire.torn.lock().unwrap() = None;
    pass(2_000).await;
    assert_eq!(cluster.hosts(&call()), [0]);
}

/// Nobody has to ask for it: the records of a dead node are taken over by their heirs.
#[tokio::test(start_paused = true)]
async fn a_dead_nodes_records_are_taken_over_unasked() {
    let mut cluster = Cluster::of(3).await;
    for number in 0..30 {
        let id = reg(&format!("a{number}"));
        cluster.say(0, &id, act([Step::Add(number), PUT])).await;
    }
    // Long enough that all of them are passive.
    pass(5_000).await;
    cluster.kill(0);
    pass(3_000).await;
    let lives = [cluster.nodes[0].fabric.me(), cluster.nodes[1].fabric.me()];
    for number in 0..30 {
        let name = format!("a{number}");
        let owners = cluster.nodes.iter().map(|node| header(node, &name).owner);
        let owners: Vec<NodeInst> = owners.collect();
        assert_eq!(owners[0], owners[1], "{name}");
        assert!(lives.contains(&owners[0]), "{name}: {}", owners[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_has_its_own_again() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([Step::Add(5), PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let life = cluster.nodes[host].fabric.me();
    let again = NodeInst {
        boot: Boot(life.boot.0 + 1),
        ..life
    };
    let node = cluster.nodes.remove(host);
    node.fabric.kill();
    cluster.wire.fabrics.lock().unwrap().remove(&life);
    cluster.add(again, node.disk).await;
    cluster.logs();
    cluster.say(0, &reg("a"), act([PUT, Step::Out(1)])).await;
    pass(2_000).await;
    let log = of(cluster.logs(), "a");
    assert_eq!(log, ["a restored NodeStart 5", "a do", "a out 1"]);
}

/// A node that starts again takes nothing back that another one goes on with, whatever its number.
#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_late_leaves_its_calls_where_they_are() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(2, &call(), act([Step::Add(5), PUT])).await;
    assert_eq!(cluster.hosts(&call()), [2], "it begins where it came");
    let disk = cluster.kill(2);
    pass(1_000).await;
    let heir = cluster.hosts(&call());
    assert_eq!(heir.len(), 1);
    cluster.logs();
    let again = NodeInst {
        boot: Boot(inst(3).boot.0 + 1),
        ..inst(3)
    };
    cluster.add(again, disk).await;
    pass(3_000).await;
    assert_eq!(cluster.hosts(&call()), heir);
    assert_eq!(cluster.nodes[heir[0]].row(&call()).unwrap().epoch, 2);
    assert!(
        of(cluster.logs(), "call").is_empty(),
        "nobody starts it again"
    );
    // What comes to the node that is back reaches it.
    cluster.say(2, &call(), act([Step::Add(1), PUT])).await;
    assert_eq!(cluster.nodes[heir[0]].row(&call()).unwrap().state, "6");
}

/// A call ends while one of its holders is gone, and its tombstone's time passes: who comes back then has the
/// copy from before, and brings no call back to life. Simulator, 3 nodes, 10 minutes, seed 95008.
#[tokio::test(start_paused = true)]
async fn a_tombstone_waits_for_a_holder_that_is_away() {
    let mut cluster = Cluster::of(3).await;
    cluster.say(0, &call(), act([Step::Add(5), PUT])).await;
    pass(1_000).await;
    let life = cluster.nodes[2].fabric.me();
    let disk = cluster.kill(2);
    let end = [Step::End { gate: true }, Step::Stop(call())];
    cluster.say(0, &call(), act(end)).await;
    // Long after the two that are left have compared what they have.
    pass(180_000).await;
    let again = NodeInst {
        boot: Boot(life.boot.0 + 1),
        ..life
    };
    cluster.add(again, disk).await;
    pass(30_000).await;
    let ids = contract::IdHasher::new([3; 16]);
    for node in &cluster.nodes {
        let loaded = cluster::load(node.disk.as_ref(), &ids, &call()).unwrap();
        let is_over = loaded.is_none_or(|loaded| loaded.header.is_ended());
        assert!(is_over, "at {}", node.fabric.me());
    }
}

/// I3, I9: whoever has lost a record does and says nothing more; what it had not read goes after.
#[tokio::test(start_paused = true)]
async fn i3_a_loser_is_silent_and_sends_its_inbox_after_the_winner() {
    let cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([Step::Add(5), PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let thief = (host + 1) % 3;
    let fabric = &cluster.nodes[host].fabric;
    // Its next commit cannot become safe; then a higher epoch is seen.
    for node in &cluster.nodes {
        node.disk.set(Mode::Held);
    }
    cluster
        .say(host, &reg("a"), act([Step::Add(1), PUT, Step::Out(9)]))
        .await;
    cluster.logs();
    let winner = cluster.nodes[thief].fabric.me();
    let claim = Frame::Ask {
        number: 99_999,
        request: HolderRequest::Claim {
            id: reg("a"),
            epoch: Epoch {
                n: 50,
                by: winner.node,
            },
        },
    };
    assert!(fabric.on_frame(
        winner,
        &claim.write(contract::SchemaVersion::NEWEST).unwrap()
    ));
    settle().await;
    let outs = cluster.nodes[host].outs();
    assert!(outs.is_empty(), "{outs:?}");
    while cluster.nodes.iter().any(|node| node.disk.held() > 0) {
        for node in cluster.nodes.iter().filter(|node| node.disk.held() > 0) {
            node.answer(true).await;
        }
    }
    // The steps that were not safe were sent to where the record is claimed now, and done once.
    let log: Vec<String> = of(cluster.logs(), "a");
    let done: Vec<&String> = log.iter().filter(|line| line.ends_with("out 9")).collect();
    assert_eq!(done.len(), 1, "{log:?}");
}

/// A claim takes a record from its owner; if nothing follows it, because its node has died, the owner
/// goes on above it.
#[tokio::test(start_paused = true)]
async fn what_a_claim_has_taken_that_nothing_followed_is_taken_back() {
    let cluster = Cluster::of(3).await;
    cluster.say(0, &call(), act([Step::Add(5), PUT])).await;
    assert_eq!(cluster.hosts(&call()), [0]);
    let claimant = cluster.nodes[1].fabric.me();
    let claim = Frame::Ask {
        number: 99_999,
        request: HolderRequest::Claim {
            id: call(),
            epoch: Epoch {
                n: 50,
                by: claimant.node,
            },
        },
    };
    let octets = claim.write(contract::SchemaVersion::NEWEST).unwrap();
    assert!(cluster.nodes[0].fabric.on_frame(claimant, &octets));
    settle().await;
    pass(4_000).await;
    assert!(cluster.hosts(&call()).is_empty(), "its winner may be slow");
    pass(2_000).await;
    assert_eq!(cluster.hosts(&call()), [0]);
    let row = cluster.nodes[0].row(&call()).unwrap();
    assert_eq!((row.epoch, row.state.as_str()), (51, "5"));
    let logs = cluster.logs();
    let back = "call restored StartedAlone 5".to_owned();
    assert!(logs.contains(&back), "its winner may have sent: {logs:?}");
}

/// Two of three holders die. Both may start again and go on with a call, as a majority that leaves no room
/// for anybody, before the third hears of that: it begins behind them. Seed 97043.
#[tokio::test(start_paused = true)]
async fn who_goes_on_with_a_call_alone_leaves_room_for_those_it_has_not_heard() {
    for (count, why) in [
        // The other one of two is no majority: it looks for a rival itself.
        (2, "TakenOver { may_live: false, epoch: 2 }"),
        (3, "Adopted { epoch: 2 }"),
    ] {
        let mut cluster = Cluster::of(count).await;
        cluster.say(0, &call(), act([Step::Add(5), PUT])).await;
        assert_eq!(cluster.hosts(&call()), [0]);
        cluster.logs();
        while cluster.nodes.len() > 1 {
            cluster.kill(0);
        }
        // No answer of the dead is waited for longer.
        pass(12_000).await;
        let log = of(cluster.logs(), "call");
        assert_eq!(log, [format!("call restored {why} 5")]);
    }
}

/// A node that joins becomes a holder of what was there before it.
#[tokio::test(start_paused = true)]
async fn records_that_were_begun_alone_are_given_more_holders() {
    let mut cluster = Cluster::of(1).await;
    cluster.say(0, &reg("a"), act([Step::Add(5), PUT])).await;
    assert_eq!(header(&cluster.nodes[0], "a").conf.nodes(), [NodeId(1)]);
    cluster.add(inst(2), Disk::new()).await;
    cluster.add(inst(3), Disk::new()).await;
    pass(2_000).await;
    for node in &cluster.nodes {
        let header = header(node, "a");
        assert_eq!(header.conf.nodes(), [NodeId(1), NodeId(2), NodeId(3)]);
        assert!(matches!(header.conf, cluster::Conf::Settled(_)));
    }
    cluster.kill(0);
    cluster.logs();
    cluster.say(0, &reg("a"), act([])).await;
    assert_eq!(
        of(cluster.logs(), "a")[0],
        "a restored TakenOver { may_live: false, epoch: 2 } 5"
    );
}

/// I12: a node whose shards were not compared does not say that there is none.
#[tokio::test(start_paused = true)]
async fn i12_who_has_not_compared_does_not_say_that_there_is_none() {
    let wire = Arc::new(Wire::default());
    let mut cluster = Cluster {
        nodes: Vec::new(),
        wire,
    };
    for node in 1..=3 {
        cluster.add(inst(node), Disk::new()).await;
    }
    cluster.logs();
    cluster.say(0, &reg("nobody"), note("hello")).await;
    assert_eq!(cluster.nodes[0].log(), ["lane0 Busy from nobody"]);
    pass(10_000).await;
    cluster.logs();
    cluster.say(0, &reg("nobody"), note("hello")).await;
    assert_eq!(cluster.nodes[0].log(), ["lane0 Absent from nobody"]);
}

/// A node that comes when another has fallen silent does not miss that one, but asks who does: a call
/// may be only there. Simulator, 3 nodes, 2 minutes, seed 766.
#[tokio::test(start_paused = true)]
async fn who_misses_a_node_does_not_say_that_there_is_no_such_call() {
    let mut cluster = Cluster::of(3).await;
    let node = cluster.nodes.remove(2);
    let silent = node.fabric.me();
    node.fabric.kill();
    cluster.wire.fabrics.lock().unwrap().remove(&silent);
    for other in &cluster.nodes {
        other.fabric.set_lost(silent);
    }
    cluster.show();
    for other in &cluster.nodes {
        other.fabric.set_down(silent, false);
    }
    let disk = cluster.kill(1);
    let again = NodeInst {
        boot: Boot(inst(2).boot.0 + 1),
        ..inst(2)
    };
    cluster.add(again, disk).await;
    pass(10_000).await;
    for (id, answer) in [
        (call(), "lane0 Busy from call"),
        (reg("nobody"), "lane0 Absent from nobody"),
    ] {
        cluster.logs();
        cluster.say(1, &id, note("hello")).await;
        assert_eq!(cluster.nodes[1].log(), [answer]);
    }
    // It is not missed for ever.
    pass(60_000).await;
    cluster.logs();
    cluster.say(1, &call(), note("hello")).await;
    assert_eq!(cluster.nodes[1].log(), ["lane0 Absent from call"]);
}

/// A node that starts and hears nobody is not the only one: whoever has records here may have the
/// call. Without any it is a cluster's first. Simulator, 7 nodes, 2 minutes, seed 90583.
#[tokio::test(start_paused = true)]
async fn who_has_found_nobody_since_its_start_does_not_say_that_there_is_no_such_call() {
    let mut cluster = Cluster::of(3).await;
    for number in 0..30 {
        let id = reg(&format!("a{number}"));
        cluster.say(0, &id, act([Step::Add(number), PUT])).await;
    }
    pass(1_000).await;
    let disk = cluster.kill(1);
    for (disk, later) in [
        (disk, "lane0 Busy from call"),
        (Disk::new(), "lane0 Absent from call"),
    ] {
        let mut alone = Cluster {
            nodes: Vec::new(),
            wire: Arc::new(Wire::default()),
        };
        let again = NodeInst {
            boot: Boot(inst(2).boot.0 + 1),
            ..inst(2)
        };
        alone.add(again, disk).await;
        for (after, answer) in [(0, "lane0 Busy from call"), (7_000, later)] {
            pass(after).await;
            alone.logs();
            alone.say(0, &call(), note("hello")).await;
            assert_eq!(of(alone.logs(), "lane0"), [answer], "after {after} ms");
        }
    }
}

/// A node that holds nothing of a call, and was told that it is on one that is silent by now, claims
/// nothing: the call may be alive there, and would be fenced. Simulator, 3 nodes, 10 minutes, seed
/// 91138.
#[tokio::test(start_paused = true)]
async fn who_only_heard_of_a_silent_nodes_call_does_not_say_that_there_is_none() {
    let mut cluster = Cluster::of(4).await;
    cluster.say(0, &call(), act([Step::Add(5), PUT])).await;
    let node = cluster.nodes.remove(0);
    let silent = node.fabric.me();
    node.fabric.kill();
    cluster.wire.fabrics.lock().unwrap().remove(&silent);
    for other in &cluster.nodes {
        other.fabric.set_lost(silent);
    }
    cluster.show();
    for other in &cluster.nodes {
        other.fabric.set_down(silent, false);
    }
    let ids = contract::IdHasher::new([3; 16]);
    let holds = |node: &Node| {
        let loaded = cluster::load(node.disk.as_ref(), &ids, &call()).unwrap();
        loaded.is_some()
    };
    // The one that holds nothing asks those that do.
    let mut nodes = cluster.nodes.iter();
    let stranger = nodes.position(|node| !holds(node)).expect("one of four");
    cluster.say(stranger, &call(), note("hello")).await;
    for _ in 0..2 {
        let holder = cluster.nodes.iter().position(holds).expect("a holder");
        cluster.kill(holder);
    }
    settle().await;
    cluster.logs();
    let kept = cluster.nodes[0].disk.len();
    cluster.say(0, &call(), note("hello")).await;
    let log = of(cluster.logs(), "lane0");
    assert_eq!(log, ["lane0 Busy from call"]);
    assert_eq!(cluster.nodes[0].disk.len(), kept, "nothing is claimed");
    // What makes a call is served by whoever hears it.
    cluster.say(0, &call(), act([Step::Add(1)])).await;
    assert_eq!(cluster.hosts(&call()), [0]);
}

/// What an actor of one node tells one that runs on another is answered, and that one hears it.
#[tokio::test(start_paused = true)]
async fn an_actor_answers_one_of_another_node() {
    let cluster = Cluster::of(3).await;
    cluster.say(0, &reg("a"), act([PUT])).await;
    let host = cluster.hosts(&reg("a"))[0];
    let asker = (host + 1) % 3;
    let node = cluster.nodes[asker].fabric.me().node.0;
    let answer = act([tell(lane_of(node), "answer")]);
    cluster.say(asker, &reg("a"), answer).await;
    assert_eq!(cluster.nodes[asker].log(), ["lane0 answer"]);
    let event = Event::Message {
        from: lane(),
        message: note("octets of nobody"),
    };
    assert_eq!(
        cluster.nodes[asker].fabric.deliver(&lane_of(node), event),
        crate::Delivery::Accepted
    );
}
