//! A place, event by event: who has it, who waits, what becomes of it when who has it is gone.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use contract::{Action, ActorId, CallKey, Core, Event, Restored, Store, Undelivered};

use super::*;
use crate::call;
use crate::script::{Actions, Stage, told};

const FIRST: CallKey = CallKey::from_bits(1 << 100);
const SECOND: CallKey = CallKey::from_bits(2 << 100);
const THIRD: CallKey = CallKey::from_bits(3 << 100);

fn id() -> ActorId {
    ActorId::Parking("5901@example.org".into())
}

/// A place that the first call has.
fn held() -> Stage<Parking> {
    let mut stage = Stage::new(Parking::default(), id());
    let actions = stage.tell(Message::Take { call: FIRST });
    assert!(
        matches!(
            actions[..],
            [
                Action::Store(Store::Put { gate: true }),
                Action::Tell { .. }
            ]
        ),
        "it is safe before anybody hears of it: {actions:?}"
    );
    assert_eq!(said(&actions), [(FIRST, Word::Yours)]);
    stage
}

fn said(actions: &Actions) -> Vec<(CallKey, Word)> {
    let words = told(actions).into_iter().map(|(to, message)| {
        let (ActorId::Call(call), crate::Message::Call(call::Message::Park { place, word })) =
            (to, message)
        else {
            panic!("not for a call");
        };
        assert_eq!(place, id());
        (call, word)
    });
    words.collect()
}

fn back(stage: &mut Stage<Parking>, to: CallKey, word: Word, why: Undelivered) -> Actions {
    let message = call::Message::Park { place: id(), word }.into();
    let to = ActorId::Call(to);
    stage.event(Event::Undelivered { to, message, why })
}

#[test]
fn who_comes_second_hears_who_has_it_once_that_one_has_said_so() {
    let mut stage = held();
    let asked = stage.tell(Message::Take { call: SECOND });
    assert_eq!(said(&asked), [(FIRST, Word::AreYouThere)]);
    assert!(!asked.iter().any(|one| matches!(one, Action::Store(_))));
    let there = stage.tell(Message::Take { call: FIRST });
    assert!(!there.iter().any(|one| matches!(one, Action::Store(_))));
    let taken = Word::Taken { by: FIRST };
    assert_eq!(said(&there), [(FIRST, Word::Yours), (SECOND, taken)]);
    // It has been answered.
    let again = stage.tell(Message::Take { call: FIRST });
    assert_eq!(said(&again), [(FIRST, Word::Yours)]);
}

#[test]
fn who_leaves_makes_room_for_one_of_those_who_wait() {
    let mut stage = held();
    stage.tell(Message::Take { call: SECOND });
    stage.tell(Message::Take { call: THIRD });
    let left = stage.tell(Message::Leave { call: FIRST });
    let words = said(&left);
    assert_eq!(
        words,
        [(SECOND, Word::Yours), (SECOND, Word::AreYouThere)],
        "the other one hears it when that one has said that it is there"
    );
    let there = stage.tell(Message::Take { call: SECOND });
    let taken = Word::Taken { by: SECOND };
    assert_eq!(said(&there), [(SECOND, Word::Yours), (THIRD, taken)]);
    // One that does not have it frees nothing.
    assert!(stage.tell(Message::Leave { call: FIRST }).is_empty());
    assert_eq!(stage.core.state(), "held");
    let left = stage.tell(Message::Leave { call: SECOND });
    assert!(matches!(
        left[..],
        [Action::Store(Store::End { gate: false, .. })]
    ));
    assert_eq!(stage.core.state(), "empty");
    assert!(stage.core.passivates_after().is_some());
}

#[test]
fn a_call_that_is_gone_has_no_place() {
    let mut stage = held();
    stage.tell(Message::Take { call: SECOND });
    // Its node has too much to do: nothing is known of it.
    assert!(back(&mut stage, FIRST, Word::AreYouThere, Undelivered::Busy).is_empty());
    let gone = back(&mut stage, FIRST, Word::AreYouThere, Undelivered::Absent);
    assert_eq!(said(&gone), [(SECOND, Word::Yours)]);
    // What another answer says that comes back is no word of who has it now.
    assert!(back(&mut stage, SECOND, Word::Yours, Undelivered::Absent).is_empty());
    assert_eq!(stage.core.state(), "held");
}

/// A call that was lost with its node, and nobody asks for the place.
#[test]
fn nothing_heard_for_a_minute_is_asked_for() {
    let mut stage = held();
    assert!(stage.pass(Duration::from_secs(59)).is_empty());
    stage.tell(Message::Take { call: FIRST });
    assert!(stage.pass(Duration::from_secs(59)).is_empty());
    let asked = stage.pass(Duration::from_secs(2));
    assert_eq!(said(&asked), [(FIRST, Word::AreYouThere)]);
    back(&mut stage, FIRST, Word::AreYouThere, Undelivered::Absent);
    assert_eq!(stage.core.state(), "empty");
    assert_eq!(stage.core.next_deadline(), None);
}

#[test]
fn a_place_of_another_node_asks_at_once() {
    let stage = held();
    let snapshot = stage.core.snapshot(stage.now);
    let core = Parking::restore(snapshot, stage.now).expect("a place");
    let mut stage = Stage::new(core, id());
    let why = Restored::TakenOver {
        may_live: false,
        epoch: 2,
    };
    let asked = stage.event(Event::Restored(why));
    assert_eq!(said(&asked), [(FIRST, Word::AreYouThere)]);
}

#[test]
fn only_who_wants_a_place_begins_one_and_only_some_wait() {
    assert!(Parking::create(&Message::Leave { call: FIRST }).is_none());
    assert!(Parking::create(&Message::Take { call: FIRST }).is_some());
    let mut stage = held();
    let most = u128::try_from(contract::limits::PARKING_WAITERS_MAX).expect("a small number");
    for number in 0..most + 3 {
        let call = CallKey::from_bits((number + 9) << 100);
        let is_asked = !stage.tell(Message::Take { call }).is_empty();
        assert_eq!(is_asked, number < most);
    }
    let there = stage.tell(Message::Take { call: FIRST });
    assert_eq!(u128::try_from(said(&there).len()), Ok(most + 1));
}
