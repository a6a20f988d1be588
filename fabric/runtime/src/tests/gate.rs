//! The commit gate: write before you speak.

use contract::limits::GATE_ACTIONS_MAX;

use super::kit::{PUT, PUT_LAZILY, Step, act, call, dialog, lane, note, reg};
use super::world::{Disk, Mode, Node, pass, settle};
use crate::Delivery;

#[tokio::test(start_paused = true)]
async fn later_actions_of_this_and_of_later_events_wait_in_order() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([Step::Out(1), PUT, Step::Out(2)]))
        .await;
    node.tell(&reg("a"), act([Step::Out(3)])).await;
    assert_eq!(node.outs(), ["a out 1"]);
    node.answer(true).await;
    assert_eq!(node.outs(), ["a out 2", "a out 3"]);
}

#[tokio::test(start_paused = true)]
async fn urgent_words_pass_a_shut_gate() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    let tell = |urgent: bool| {
        let word = Box::new(note(if urgent { "urgent" } else { "patient" }));
        if urgent {
            Step::TellUrgent(lane(), word)
        } else {
            Step::Tell(lane(), word)
        }
    };
    node.tell(&reg("a"), act([PUT, tell(false), tell(true)]))
        .await;
    assert_eq!(node.log(), ["a do", "lane0 urgent"]);
    node.answer(true).await;
    assert_eq!(node.log(), ["lane0 patient"]);
}

#[tokio::test(start_paused = true)]
async fn gated_stores_are_pipelined() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    for number in 1..=3 {
        node.tell(&reg("a"), act([PUT, Step::Out(number)])).await;
    }
    assert_eq!(node.disk.held(), 3);
    node.answer(true).await;
    assert_eq!(node.outs(), ["a out 1"]);
    node.answer(true).await;
    node.answer(true).await;
    assert_eq!(node.outs(), ["a out 2", "a out 3"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_the_inbox_waits() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    let held = u64::try_from(GATE_ACTIONS_MAX).unwrap();
    let steps: Vec<Step> = std::iter::once(PUT)
        .chain((0..held).map(Step::Out))
        .collect();
    node.tell(&reg("a"), act(steps)).await;
    assert_eq!(node.view(&reg("a")).await.unwrap().gated, GATE_ACTIONS_MAX);
    node.log();
    assert_eq!(
        node.give(&reg("a"), act([Step::Out(99)])),
        Delivery::Accepted
    );
    pass(10_000).await;
    assert_eq!(node.log(), Vec::<String>::new());
    node.answer(true).await;
    assert_eq!(node.outs().last().unwrap(), "a out 99");
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_drops_what_waited_and_goes_back_to_the_last_safe_part() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([Step::Add(10), PUT, Step::Out(1)]))
        .await;
    node.tell(&reg("a"), act([Step::Add(100), PUT, Step::Out(2)]))
        .await;
    node.log();
    node.answer(false).await;
    let log = node.log();
    assert_eq!(
        log.iter()
            .filter(|line| *line == "lane0 Busy from a")
            .count(),
        2
    );
    assert!(log.contains(&"a restored Panic 1".to_owned()), "{log:?}");
    // The second one succeeds on disk, but nobody was told: the way back is written after it.
    node.answer(true).await;
    node.answer(true).await;
    assert!(node.outs().is_empty());
    node.disk.set(Mode::AtOnce);
    node.tell(&reg("a"), act([Step::Add(1), PUT, Step::Out(3)]))
        .await;
    assert_eq!(node.outs(), ["a out 3"]);
    assert_eq!(node.row(&reg("a")).unwrap().state, "2");
}

#[tokio::test(start_paused = true)]
async fn versions_rise_over_a_failed_commit() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([PUT])).await;
    assert_eq!(node.row(&reg("a")).unwrap().sequence, 1);
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([PUT])).await;
    node.tell(&reg("a"), act([PUT])).await;
    node.answer(false).await;
    node.answer(false).await;
    // The fourth is the way back; no number is used twice.
    node.answer(true).await;
    node.disk.set(Mode::AtOnce);
    node.tell(&reg("a"), act([PUT])).await;
    assert_eq!(node.row(&reg("a")).unwrap().sequence, 5);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_commit_leaves_nothing_behind() {
    let node = Node::new().await;
    node.disk.set(Mode::Full);
    node.tell(&reg("a"), act([Step::Add(1), PUT, Step::Out(1)]))
        .await;
    let log = node.log();
    assert!(log.contains(&"lane0 Busy from a".to_owned()), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("out")));
    assert!(node.row(&reg("a")).is_none());
    node.disk.set(Mode::AtOnce);
    node.tell(&reg("a"), act([Step::Add(1), PUT, Step::Out(2)]))
        .await;
    assert_eq!(node.outs(), ["a out 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_sibling_s_part_survives_another_s_failed_commit() {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([PUT, side(1), side(2)])).await;
    node.disk.set(Mode::Held);
    node.tell(&dialog(1), act([Step::Add(10), PUT])).await;
    node.tell(&dialog(2), act([Step::Add(20), PUT])).await;
    node.answer(false).await;
    node.answer(true).await;
    while node.disk.held() > 0 {
        node.answer(true).await;
    }
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::AtOnce);
    let again = Node::start(disk, 2).await;
    let log = again.log();
    assert!(
        log.contains(&"dialog1 restored NodeStart 1".to_owned()),
        "{log:?}"
    );
    assert!(
        log.contains(&"dialog2 restored NodeStart 21".to_owned()),
        "{log:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ungated_commit_that_fails_is_made_again() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.disk.set(Mode::Full);
    node.tell(&reg("a"), act([Step::Add(1), PUT_LAZILY])).await;
    pass(10_000).await;
    assert!(
        node.row(&reg("a")).unwrap().live,
        "it must not leave before it is stored"
    );
    node.disk.set(Mode::AtOnce);
    pass(10_000).await;
    assert!(!node.row(&reg("a")).unwrap().live);
    node.tell(&reg("a"), act([])).await;
    assert!(node.log().contains(&"a restored Wake 2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stays_full_is_not_asked_all_the_time() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([PUT])).await;
    node.disk.set(Mode::Full);
    for _ in 0..100 {
        node.tell(&reg("a"), act([PUT])).await;
        pass(100).await;
    }
    let (_, refused) = node.disk.counts();
    assert!(refused < 120, "{refused} commits were refused");
    node.disk.set(Mode::AtOnce);
    pass(5_000).await;
    node.log();
    node.tell(&reg("a"), act([PUT, Step::Out(1)])).await;
    assert_eq!(node.outs(), ["a out 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_record_is_written_until_it_is_safe() {
    let node = Node::new().await;
    node.tell(&call(), act([PUT])).await;
    node.disk.set(Mode::Full);
    let end = [Step::End { gate: true }, Step::Out(1), Step::Stop(call())];
    node.tell(&call(), act(end)).await;
    pass(5_000).await;
    assert!(node.outs().is_empty(), "nobody is told before");
    node.disk.set(Mode::AtOnce);
    pass(5_000).await;
    assert_eq!(node.outs(), ["call out 1"]);
    assert!(node.row(&call()).is_none());
}

#[tokio::test(start_paused = true)]
async fn stop_waits_behind_the_gate() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&call(), act([PUT, Step::Out(1), Step::Stop(call())]))
        .await;
    assert!(node.row(&call()).is_some());
    node.answer(true).await;
    assert_eq!(node.outs(), ["call out 1"]);
    assert_eq!(node.fabric.live(contract::Kind::Call), 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_run_twice_gives_the_same_order_of_events() {
    async fn run() -> Vec<String> {
        let node = Node::start(Disk::new(), 1).await;
        let side = |number: u8| {
            let first = act([
                PUT,
                Step::Deadline(30),
                Step::Tell(call(), Box::new(note("up"))),
            ]);
            Step::Spawn(dialog(number), Box::new(first))
        };
        node.bomb(3);
        node.tell(
            &call(),
            act([PUT, side(1), side(2), side(3), Step::Deadline(20)]),
        )
        .await;
        for id in [reg("a"), reg("b"), dialog(2), lane()] {
            assert_eq!(
                node.give(&id, act([Step::Bomb, PUT, Step::Out(5)])),
                Delivery::Accepted
            );
        }
        pass(5_000).await;
        settle().await;
        node.log()
    }
    let first = run().await;
    assert!(first.len() > 20);
    assert_eq!(first, run().await);
}
