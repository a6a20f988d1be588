//! Planned moves between living nodes (`cluster.md` §6): what moves, what stays, what follows.

use std::sync::{Arc, Mutex};

use cluster::{Epoch, Frame};
use contract::{ActorId, Boot, MemberState, MoveFault, NodeId, NodeInst, Space};

use super::kit::{PUT, PUT_LAZILY, Step, act, call, dialog, note, reg};
use super::mesh::{inst, lane_of, member};
use super::replicas::{Cluster, header, of};
use super::world::{Mode, pass, settle};

/// What came of a move, once it is known.
type Outcome = Arc<Mutex<Option<Result<(), MoveFault>>>>;

impl Cluster {
    /// Wants an actor moved; does not wait.
    fn start_move(&self, at: usize, id: &ActorId, to: NodeInst, epoch: Option<u64>) -> Outcome {
        let outcome = Outcome::default();
        let noted = Arc::clone(&outcome);
        self.nodes[at].fabric.move_to(id, to, epoch, move |result| {
            let former = noted.lock().unwrap().replace(result);
            assert_eq!(former, None, "told once");
        });
        outcome
    }

    /// Wants it and waits, at most as long as the answer may take.
    async fn shift(&self, at: usize, id: &ActorId, to: NodeInst) -> Result<(), MoveFault> {
        let outcome = self.start_move(at, id, to, None);
        for _ in 0..220 {
            settle().await;
            if let Some(result) = *outcome.lock().unwrap() {
                return result;
            }
            pass(10).await;
        }
        panic!("no answer in 2.2 s");
    }

    fn life(&self, at: usize) -> NodeInst {
        self.nodes[at].fabric.me()
    }

    /// Lets the others see a node in another state.
    fn show_as(&self, at: usize, state: MemberState) {
        let changed = self.life(at);
        for node in &self.nodes {
            let view = self.nodes.iter().map(|of| {
                let mut member = member(of.fabric.me().node.0);
                member.peer.inst = of.fabric.me();
                if of.fabric.me() == changed {
                    member.state = state;
                }
                member
            });
            node.fabric.set_view(view.collect());
        }
    }

    fn number(&self, at: usize, id: &ActorId) -> Option<String> {
        let row = self.nodes[at].row(id).filter(|row| row.live);
        row.map(|row| row.state)
    }

    /// Takes what was heard since the last move but one, in the order of time: first where the
    /// actor was, then where it is.
    fn heard_over_move(&self, host: usize) -> Vec<String> {
        let log = |at: usize| of(self.nodes[at].log(), "a ");
        let former = log((host + 2) % 3);
        let now = log(host);
        assert!(log((host + 1) % 3).is_empty(), "nobody else hears anything");
        let all = former.into_iter().chain(now);
        let texts = all.filter(|line| !line.contains("restored"));
        texts.map(|line| line["a ".len()..].to_owned()).collect()
    }

    /// Lets every disk answer what it holds until nothing is held any more.
    async fn answer_all(&self) {
        while self.nodes.iter().any(|node| node.disk.held() > 0) {
            for node in self.nodes.iter().filter(|node| node.disk.held() > 0) {
                node.answer(true).await;
            }
        }
        settle().await;
    }
}

/// Three nodes and an actor with a number, and where it is.
async fn of_three(number: i64) -> (Cluster, usize, usize) {
    let cluster = Cluster::of(3).await;
    cluster
        .say(0, &reg("a"), act([Step::Add(number), PUT]))
        .await;
    let host = cluster.hosts(&reg("a"))[0];
    cluster.logs();
    (cluster, host, (host + 1) % 3)
}

#[tokio::test(start_paused = true)]
async fn an_actor_moves_with_what_it_had_not_stored() {
    let (cluster, host, target) = of_three(5).await;
    cluster.say(host, &reg("a"), act([Step::Add(2)])).await;
    let moved = cluster.shift(host, &reg("a"), cluster.life(target)).await;
    assert_eq!(moved, Ok(()));
    settle().await;
    let log = of(cluster.logs(), "a");
    assert!(
        log.contains(&"a restored Moved { epoch: 2 } 7".to_owned()),
        "{log:?}"
    );
    assert_eq!(cluster.hosts(&reg("a")), [target], "it runs once");
    let row = cluster.nodes[target].row(&reg("a")).unwrap();
    assert_eq!((row.epoch, row.state.as_str()), (2, "7"));
    for node in &cluster.nodes {
        assert_eq!(header(node, "a").owner, cluster.life(target));
    }
}

#[tokio::test(start_paused = true)]
async fn a_passive_record_moves_without_being_woken_where_it_was() {
    let (cluster, host, target) = of_three(5).await;
    pass(5_000).await;
    assert!(cluster.hosts(&reg("a")).is_empty(), "it is passive");
    let moved = cluster.shift(host, &reg("a"), cluster.life(target)).await;
    assert_eq!(moved, Ok(()));
    assert_eq!(cluster.nodes[host].log(), Vec::<String>::new());
    assert_eq!(
        of(cluster.nodes[target].log(), "a"),
        ["a restored Moved { epoch: 2 } 5"]
    );
}

/// Who has handed it over remembers where it went; its tombstone says that it is not there any more.
#[tokio::test(start_paused = true)]
async fn what_has_ended_where_it_was_moved_to_begins_again_where_it_was() {
    let (cluster, host, target) = of_three(5).await;
    let moved = cluster.shift(host, &reg("a"), cluster.life(target)).await;
    assert_eq!(moved, Ok(()));
    settle().await;
    let end = act([Step::End { gate: true }]);
    cluster.say(target, &reg("a"), end).await;
    pass(5_000).await;
    assert!(cluster.hosts(&reg("a")).is_empty(), "it has ended");
    cluster.logs();
    let again = act([Step::Add(3), PUT]);
    cluster.say(host, &reg("a"), again).await;
    pass(50).await;
    assert_eq!(cluster.hosts(&reg("a")), [host], "placement says so");
    assert_eq!(cluster.number(host, &reg("a")), Some("3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_call_moves_with_its_sides() {
    let cluster = Cluster::of(3).await;
    let side = act([Step::Add(3), PUT]);
    let first = act([
        Step::Add(1),
        PUT,
        Step::Spawn(dialog(1), Box::new(side.clone())),
        Step::Spawn(dialog(2), Box::new(side)),
    ]);
    cluster.say(0, &call(), first).await;
    // The last change of a side is not stored.
    cluster.say(0, &dialog(2), act([Step::Add(4)])).await;
    cluster.logs();
    assert_eq!(
        cluster.shift(0, &call(), cluster.life(2)).await,
        Ok(()),
        "it moves"
    );
    pass(50).await;
    let mut log = cluster.nodes[2].log();
    log.sort();
    let restored = [
        "call restored Moved { epoch: 2 } 1",
        "dialog1 restored Moved { epoch: 2 } 3",
        "dialog2 restored Moved { epoch: 2 } 7",
    ];
    assert_eq!(log, restored);
    for id in [call(), dialog(1), dialog(2)] {
        assert_eq!(cluster.hosts(&id), [2], "{id}");
    }
    cluster.say(1, &dialog(1), note("hello")).await;
    assert_eq!(cluster.nodes[2].log(), ["dialog1 hello"]);
}

/// I10: each message is handled once, and those of one sender in their order, however often the
/// actor moves meanwhile.
#[tokio::test(start_paused = true)]
async fn i10_a_thousand_messages_during_moves_are_each_handled_once_and_in_order() {
    const MESSAGES: usize = 1_000;
    let (cluster, mut host, _) = of_three(0).await;
    let texts: Vec<&'static str> = (0..MESSAGES)
        .map(|number| &*format!("{}-{number:04}", number % 3).leak())
        .collect();
    let mut outcome: Option<Outcome> = None;
    let (mut moves, mut heard) = (0, Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let at = number % 3;
        let from = lane_of(cluster.life(at).node.0);
        // Some are told before anybody has had time to do anything.
        cluster.nodes[at].fabric.tell(&from, reg("a"), note(text));
        for _ in 0..number % 7 {
            tokio::task::yield_now().await;
        }
        if number % 20 == 10 {
            if let Some(former) = outcome.take() {
                pass(300).await;
                assert_eq!(*former.lock().unwrap(), Some(Ok(())), "move {moves}");
                heard.extend(cluster.heard_over_move(host));
            }
            let target = (host + 1) % 3;
            let to = cluster.life(target);
            outcome = Some(cluster.start_move(host, &reg("a"), to, None));
            host = target;
            moves += 1;
        }
    }
    pass(500).await;
    heard.extend(cluster.heard_over_move(host));
    assert_eq!(moves, 50);
    assert_eq!(cluster.hosts(&reg("a")), [host]);
    assert_eq!(heard.len(), MESSAGES, "each is handled once");
    for sender in 0..3 {
        let is_of = |text: &&str| text.starts_with(&format!("{sender}-"));
        let told: Vec<String> = texts
            .iter()
            .copied()
            .filter(is_of)
            .map(String::from)
            .collect();
        let of_sender: Vec<String> = heard
            .iter()
            .filter(|text| is_of(&text.as_str()))
            .cloned()
            .collect();
        assert_eq!(of_sender, told, "in the order of sender {sender}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_sender_keep_their_order_over_a_move() {
    for sender in 0..3 {
        let (cluster, host, target) = of_three(0).await;
        let from = lane_of(cluster.life(sender).node.0);
        let tell = |text: &'static str| {
            cluster.nodes[sender]
                .fabric
                .tell(&from, reg("a"), note(text));
        };
        let to = cluster.life(target);
        let outcome = cluster.start_move(host, &reg("a"), to, None);
        let mut told = Vec::new();
        for number in 0..200_u32 {
            let text: &'static str = format!("{number:03}").leak();
            tell(text);
            told.push(format!("a {text}"));
            tokio::task::yield_now().await;
        }
        pass(400).await;
        assert_eq!(*outcome.lock().unwrap(), Some(Ok(())));
        let mut heard = of(cluster.nodes[host].log(), "a ");
        let there = of(cluster.nodes[target].log(), "a ");
        heard.extend(there.into_iter().filter(|line| !line.contains("restored")));
        assert_eq!(heard, told, "told at node {sender}");
    }
}

/// What waits for a commit is done before the actor leaves.
#[tokio::test(start_paused = true)]
async fn effects_that_wait_for_a_commit_leave_before_the_actor_does() {
    let (cluster, host, target) = of_three(5).await;
    for node in &cluster.nodes {
        node.disk.set(Mode::Held);
    }
    let work = act([Step::Add(1), PUT, Step::Out(9)]);
    cluster.say(host, &reg("a"), work).await;
    let to = cluster.life(target);
    let outcome = cluster.start_move(host, &reg("a"), to, None);
    settle().await;
    assert!(cluster.nodes[host].outs().is_empty());
    cluster.answer_all().await;
    pass(20).await;
    cluster.answer_all().await;
    assert_eq!(*outcome.lock().unwrap(), Some(Ok(())));
    let log: Vec<Vec<String>> = cluster
        .nodes
        .iter()
        .map(|node| of(node.log(), "a"))
        .collect();
    assert_eq!(log[host], ["a out 9"]);
    assert_eq!(log[target], ["a restored Moved { epoch: 2 } 6"]);
}

/// A disk that does not answer: the actor stays and goes on within half a second.
#[tokio::test(start_paused = true)]
async fn an_actor_that_cannot_come_to_rest_goes_on_where_it_is() {
    let (cluster, host, target) = of_three(5).await;
    for node in &cluster.nodes {
        node.disk.set(Mode::Held);
    }
    cluster
        .say(host, &reg("a"), act([Step::Add(1), PUT_LAZILY]))
        .await;
    let to = cluster.life(target);
    let outcome = cluster.start_move(host, &reg("a"), to, None);
    settle().await;
    cluster.say(host, &reg("a"), note("meanwhile")).await;
    // Alone it would be safe after 150 ms, but its own disk is silent, too.
    pass(400).await;
    assert_eq!(*outcome.lock().unwrap(), None);
    assert!(!cluster.logs().contains(&"a meanwhile".to_owned()));
    pass(150).await;
    assert_eq!(*outcome.lock().unwrap(), Some(Err(MoveFault::Restless)));
    assert_eq!(cluster.logs(), ["a meanwhile"]);
    assert_eq!(cluster.number(host, &reg("a")).as_deref(), Some("6"));
    for node in &cluster.nodes {
        node.disk.set(Mode::AtOnce);
    }
    cluster.answer_all().await;
    assert_eq!(cluster.shift(host, &reg("a"), to).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_move_is_refused_and_stays() {
    let (cluster, host, target) = of_three(5).await;
    let (here, there) = (cluster.life(host), cluster.life(target));
    let third = (host + 2) % 3;
    let nobody = inst(9);
    let former = NodeInst {
        boot: Boot(there.boot.0 - 1),
        ..there
    };
    let table = [
        (host, reg("nobody"), there, MoveFault::Unknown),
        (third, reg("a"), there, MoveFault::Unknown),
        (host, lane_of(here.node.0), there, MoveFault::Fixed),
        (host, dialog(1), there, MoveFault::Fixed),
        (host, reg("a"), here, MoveFault::There),
        (host, reg("a"), nobody, MoveFault::NoNode),
        (host, reg("a"), former, MoveFault::NoNode),
    ];
    for (at, id, to, why) in table {
        assert_eq!(cluster.shift(at, &id, to).await, Err(why), "{id} to {to}");
    }
    cluster.nodes[host].fabric.set_lost(there);
    let lost = cluster.shift(host, &reg("a"), there).await;
    assert_eq!(lost, Err(MoveFault::Unreachable));
    cluster.nodes[host]
        .fabric
        .set_connected(there, contract::SchemaVersion::OLDEST);
    let first = cluster.start_move(host, &reg("a"), there, None);
    let second = cluster.start_move(host, &reg("a"), cluster.life(third), None);
    assert_eq!(*second.lock().unwrap(), Some(Err(MoveFault::Moving)));
    pass(100).await;
    assert_eq!(*first.lock().unwrap(), Some(Ok(())));
}

/// The asker's epoch is of an ownership that is over: nothing moves.
#[tokio::test(start_paused = true)]
async fn a_stale_epoch_moves_nothing() {
    let (cluster, host, target) = of_three(5).await;
    let third = (host + 2) % 3;
    assert_eq!(
        cluster.shift(host, &reg("a"), cluster.life(target)).await,
        Ok(())
    );
    let to = cluster.life(third);
    let stale = cluster.start_move(target, &reg("a"), to, Some(1));
    assert_eq!(*stale.lock().unwrap(), Some(Err(MoveFault::Stale)));
    // A frame of the former owner that comes late, too.
    let take = Frame::Take {
        number: 77,
        id: reg("a"),
        epoch: Epoch {
            n: 1,
            by: cluster.life(host).node,
        },
    };
    let late = take.write(contract::SchemaVersion::NEWEST).unwrap();
    let fabric = &cluster.nodes[third].fabric;
    assert!(fabric.on_frame(cluster.life(host), &late));
    pass(200).await;
    assert_eq!(cluster.hosts(&reg("a")), [target]);
    assert_eq!(cluster.nodes[target].row(&reg("a")).unwrap().epoch, 2);
    let right = cluster.start_move(target, &reg("a"), to, Some(2));
    pass(100).await;
    assert_eq!(*right.lock().unwrap(), Some(Ok(())));
    assert_eq!(cluster.hosts(&reg("a")), [third]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_takes_nothing() {
    let (cluster, host, target) = of_three(5).await;
    let there = cluster.life(target);
    // It knows it before the others do.
    cluster.nodes[target].fabric.set_health(Space::Ample, true);
    let moved = cluster.shift(host, &reg("a"), there).await;
    assert_eq!(moved, Err(MoveFault::NotUp));
    cluster.show_as(target, MemberState::Draining);
    let moved = cluster.shift(host, &reg("a"), there).await;
    assert_eq!(moved, Err(MoveFault::NotUp));
    cluster.say(host, &reg("a"), note("still here")).await;
    assert_eq!(of(cluster.nodes[host].log(), "a"), ["a still here"]);
    assert_eq!(cluster.nodes[host].row(&reg("a")).unwrap().epoch, 1);
}

/// T dies before it has claimed anything, and after its claim is known and before it has written.
#[tokio::test(start_paused = true)]
async fn a_node_that_dies_while_it_takes_leaves_the_actor_where_it_was() {
    for is_claimed in [false, true] {
        let (mut cluster, host, target) = of_three(5).await;
        let (here, there) = (cluster.life(host), cluster.life(target));
        for (at, node) in cluster.nodes.iter().enumerate() {
            if is_claimed || at == target {
                node.disk.set(Mode::Held);
            }
        }
        let outcome = cluster.start_move(host, &reg("a"), there, None);
        settle().await;
        cluster.say(host, &reg("a"), note("meanwhile")).await;
        if is_claimed {
            // Its fence is durable, others have heard of it; its first commit never is.
            cluster.nodes[target].answer(true).await;
            let row = cluster.nodes[host].row(&reg("a"));
            assert!(row.is_none_or(|row| !row.live), "fenced");
        }
        assert_eq!(*outcome.lock().unwrap(), None);
        cluster.kill(target);
        settle().await;
        let answer = *outcome.lock().unwrap();
        assert_eq!(answer, Some(Err(MoveFault::Unreachable)));
        for node in &cluster.nodes {
            node.disk.set(Mode::AtOnce);
        }
        cluster.answer_all().await;
        pass(1_500).await;
        let log = of(cluster.logs(), "a");
        let heard = log.iter().filter(|line| *line == "a meanwhile").count();
        assert_eq!(heard, 1, "{is_claimed}: {log:?}");
        let owners = cluster.nodes.iter().map(|node| header(node, "a").owner);
        let owners: Vec<NodeInst> = owners.collect();
        assert_eq!(owners, [here, here], "{is_claimed}");
        cluster.say(0, &reg("a"), act([Step::Out(1)])).await;
        let outs: usize = cluster.nodes.iter().map(|node| node.outs().len()).sum();
        assert_eq!(outs, 1, "it lives on, once");
    }
}

/// S dies after it has given leave: T goes on with what was safe, as after any death.
#[tokio::test(start_paused = true)]
async fn a_node_that_dies_while_it_hands_over_has_handed_over() {
    let (mut cluster, host, target) = of_three(5).await;
    let there = cluster.life(target);
    cluster.nodes[target].disk.set(Mode::Held);
    cluster.start_move(host, &reg("a"), there, None);
    settle().await;
    cluster.kill(host);
    cluster.logs();
    for node in &cluster.nodes {
        node.disk.set(Mode::AtOnce);
    }
    cluster.answer_all().await;
    pass(1_200).await;
    cluster.say(0, &reg("a"), act([Step::Out(1)])).await;
    let log = cluster.logs();
    assert!(log.contains(&"a out 1".to_owned()), "{log:?}");
    let restored: Vec<&String> = log.iter().filter(|l| l.contains("restored")).collect();
    assert_eq!(
        restored,
        ["a restored TakenOver { may_live: false, epoch: 2 } 5"]
    );
    assert_eq!(cluster.hosts(&reg("a")).len(), 1);
}

/// The other node says nothing at all: the actor goes on at once, its asker hears after 2 s.
#[tokio::test(start_paused = true)]
async fn a_silent_node_costs_half_a_second() {
    let (cluster, host, target) = of_three(5).await;
    cluster.nodes[target].disk.set(Mode::Held);
    let there = cluster.life(target);
    let outcome = cluster.start_move(host, &reg("a"), there, None);
    settle().await;
    cluster.say(host, &reg("a"), note("meanwhile")).await;
    pass(510).await;
    assert_eq!(of(cluster.nodes[host].log(), "a"), ["a meanwhile"]);
    assert_eq!(*outcome.lock().unwrap(), None);
    pass(1_500).await;
    let answer = *outcome.lock().unwrap();
    assert!(
        matches!(answer, Some(Err(MoveFault::Silent | MoveFault::NotTaken))),
        "{answer:?}"
    );
    // Its claim is not given up while its disk says nothing; what it wins then is a take-over.
    assert_eq!(cluster.nodes[host].row(&reg("a")).unwrap().epoch, 1);
    cluster.say(host, &reg("a"), note("still here")).await;
    assert_eq!(of(cluster.nodes[host].log(), "a"), ["a still here"]);
}

/// A drain: all go, to both others, and the node that took them has them.
#[tokio::test(start_paused = true)]
async fn everything_moves_away_and_is_spread() {
    let cluster = Cluster::of(3).await;
    for number in 0..150 {
        let id = reg(&format!("a{number}"));
        cluster.say(0, &id, act([Step::Add(number), PUT])).await;
    }
    cluster.say(1, &call(), act([PUT])).await;
    let fabric = cluster.nodes[1].fabric.clone();
    let count = |at: usize| {
        let kinds = [contract::Kind::Registration, contract::Kind::Call];
        let rows = kinds.map(|kind| cluster.nodes[at].fabric.rows(Some(kind)).len());
        rows.iter().sum::<usize>()
    };
    let before = [count(0), count(1), count(2)];
    assert!(before.iter().all(|count| *count > 20), "{before:?}");
    fabric.set_health(Space::Ample, true);
    cluster.show_as(1, MemberState::Draining);
    let until = fabric.now().mono + std::time::Duration::from_secs(60);
    assert_eq!(fabric.move_away(until).await, 0);
    settle().await;
    let after = [count(0), count(1), count(2)];
    assert_eq!(after[1], 0);
    assert_eq!(after.iter().sum::<usize>(), 151);
    assert!(
        after[0] > before[0] + 10 && after[2] > before[2] + 10,
        "{after:?}"
    );
    // Nobody is there for the next one to drain: what is left stays, and the drain says so.
    cluster.show_as(0, MemberState::Draining);
    cluster.nodes[2].fabric.set_health(Space::Ample, true);
    let last = cluster.nodes[0].fabric.clone();
    cluster.nodes[0].fabric.set_lost(cluster.life(2));
    cluster.nodes[0].fabric.set_lost(cluster.life(1));
    let until = last.now().mono + std::time::Duration::from_secs(60);
    assert_eq!(last.move_away(until).await, after[0]);
}

/// What an operator wants by its console's question comes back as its answer.
#[tokio::test(start_paused = true)]
async fn the_nodes_own_actors_can_ask_for_a_move() {
    let (cluster, host, target) = of_three(5).await;
    let node = &cluster.nodes[host];
    let from = lane_of(cluster.life(host).node.0);
    let ask = |to: NodeId, epoch| contract::Lookup::Move {
        id: reg("a"),
        to,
        epoch,
    };
    node.fabric.look_up(&from, 1, ask(NodeId(9), None));
    node.fabric
        .look_up(&from, 2, ask(cluster.life(host).node, None));
    node.fabric
        .look_up(&from, 3, ask(cluster.life(target).node, Some(7)));
    node.fabric
        .look_up(&from, 4, ask(cluster.life(target).node, Some(1)));
    pass(100).await;
    let answers = std::mem::take(&mut *node.site.answers.lock().unwrap());
    let mut results = Vec::new();
    for answer in answers {
        let contract::Answer::Moved(result) = answer else {
            panic!("{answer:?}")
        };
        results.push(result);
    }
    let expected = [
        Err(MoveFault::NoNode),
        Err(MoveFault::There),
        Err(MoveFault::Stale),
        Ok(()),
    ];
    assert_eq!(results, expected);
}
