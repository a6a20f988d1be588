//! A callee rings, and its connection is gone: its phone hears of the end over the next one.

use super::*;

/// A callee that has rung over a connection.
fn rings() -> (Stage<Dialog>, Actions) {
    let mut order = order_invite();
    if let Message::Invite(invite) = &mut order {
        invite.target.flow = stream(1);
    }
    let (mut stage, actions) = on_stage(2, order);
    let (response, flow) = (answer(&actions, 180), stream(1));
    stage.tell(Message::Response { response, flow });
    assert_eq!(stage.core.state(), "proceeding");
    (stage, actions)
}

fn branch(stage: &Stage<Dialog>) -> String {
    let birth = stage.core.data.birth.as_ref().expect("an INVITE");
    birth.branch.clone()
}

fn unreachable(stage: &mut Stage<Dialog>) -> Actions {
    let (branch, why) = (branch(stage), RequestFailure::Unreachable);
    stage.tell(Message::RequestFailed { branch, why })
}

fn end() -> Message {
    Message::End {
        status: 487,
        cause: "NORMAL_CLEARING".to_owned(),
    }
}

/// Contact of the phone, as it has registered it: without what only its INVITE's URI has.
const CONTACT: &str = "sip:1001@192.0.2.10:5062";

fn words_to_call(actions: &Actions) -> Vec<String> {
    let messages = told(actions).into_iter();
    let words = messages.filter_map(|(_, message)| match message {
        crate::Message::Call(call::Message::Failed { status, .. }) => Some(status.to_string()),
        crate::Message::Call(call::Message::Ended { .. }) => Some("ended".to_owned()),
        _ => None,
    });
    words.collect()
}

#[test]
fn a_callee_that_loses_its_connection_while_it_rings_is_cancelled_over_the_next_one() {
    let (mut stage, actions) = rings();
    let lost = unreachable(&mut stage);
    assert_eq!(words_to_call(&lost), ["480"], "the others ring on");
    assert_eq!((requests(&lost), locates(&lost)), (Vec::new(), 1));
    assert_eq!(stage.core.state(), "cancelling");
    assert_eq!(
        locates(&stage.pass(Duration::from_secs(2))),
        2,
        "once a second"
    );
    for wrong in [
        located(CONTACT, stream(9), true),
        located("sip:1001@192.0.2.11:5062", stream(9), false),
        located(CONTACT, datagram(crate::script::OPEN, PEER), false),
    ] {
        assert_eq!(requests(&stage.tell(wrong)), Vec::new());
    }
    let back = stage.tell(located(CONTACT, stream(9), false));
    let (cancel, bye) = ("CANCEL".to_owned(), "BYE".to_owned());
    assert_eq!(
        requests(&back),
        [(stream(9), cancel), (stream(9), bye)],
        "some phones forget the INVITE with its connection"
    );
    let sent = told(&back)
        .into_iter()
        .find_map(|(_, message)| match message {
            crate::Message::Lane(lane::Message::Request { request, .. }) => {
                Some(read_bytes(request))
            }
            _ => None,
        });
    let via = sent.expect("a CANCEL").via().expect("Via").to_string();
    assert!(via.contains(&branch(&stage)), "{via}");
    // Its answer to the INVITE tells nothing any more; that to the BYE ends it.
    let (response, flow) = (answer(&actions, 487), stream(9));
    stage.tell(Message::Response { response, flow });
    assert_eq!(stage.core.state(), "ending");
    assert_eq!(locates(&stage.pass(Duration::from_secs(9))), 0);
}

#[test]
fn a_callee_that_stays_away_is_given_up_after_eight_seconds() {
    let (mut stage, _) = rings();
    unreachable(&mut stage);
    let actions = stage.pass(Duration::from_secs(9));
    assert!((6..=8).contains(&locates(&actions)));
    assert_eq!(words_to_call(&actions), ["ended"]);
    assert_eq!(stage.core.state(), "ended");
}

#[test]
fn a_callee_whose_phone_is_known_only_by_what_was_called_is_cancelled() {
    let mut order = order_invite();
    if let Message::Invite(invite) = &mut order {
        invite.target.flow = stream(1);
    }
    let (mut stage, actions) = on_stage(2, order);
    let (response, flow) = (answer(&actions, 100), stream(1));
    stage.tell(Message::Response { response, flow });
    unreachable(&mut stage);
    let back = stage.tell(located(CONTACT, stream(9), false));
    assert_eq!(requests(&back), [(stream(9), "CANCEL".to_owned())]);
    let (response, flow) = (answer(&actions, 487), stream(9));
    let ended = stage.tell(Message::Response { response, flow });
    assert_eq!(words_to_call(&ended), ["ended"]);
}

/// Whoever restarts, is cancelled or not, and knows of the loss or not.
#[test]
fn a_callee_that_rang_before_a_crash_is_cancelled_when_it_is_back() {
    for is_cancelled in [false, true] {
        let (mut stage, _) = rings();
        if is_cancelled {
            let cancelled = stage.tell(end());
            assert_eq!(requests(&cancelled), [(stream(1), "CANCEL".to_owned())]);
        }
        let (mut stage, actions) = started_again(stage);
        let news: &[&str] = match is_cancelled {
            true => &[],
            false => &["480", "480"],
        };
        assert_eq!(words_to_call(&actions), news);
        assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
        // Once more, before it is back; the call may not have heard it.
        let (mut again, actions) = started_again(stage);
        assert_eq!(words_to_call(&actions), &news[..news.len() / 2]);
        let back = again.tell(located(CONTACT, stream(9), false));
        let methods: Vec<_> = requests(&back).into_iter().map(|(_, word)| word).collect();
        assert_eq!(methods, ["CANCEL", "BYE"]);
        stage = again;
        assert_eq!(stage.core.state(), "ending");
    }
}

#[test]
fn an_heir_cancels_a_callee_whose_connection_ended_at_the_former_node() {
    let (stage, _) = rings();
    let (mut stage, actions) = taken_over(&stage);
    assert_eq!(words_to_call(&actions), ["480", "480"]);
    assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
    let back = stage.tell(located(CONTACT, stream(9), false));
    let methods: Vec<_> = requests(&back).into_iter().map(|(_, word)| word).collect();
    assert_eq!(methods, ["CANCEL", "BYE"]);
}

/// Its old connection is dead, and nobody has noticed.
#[test]
fn a_cancel_that_nobody_answers_is_sent_where_the_phone_has_registered_since() {
    let (mut stage, actions) = rings();
    let cancelled = stage.tell(end());
    assert_eq!(requests(&cancelled), [(stream(1), "CANCEL".to_owned())]);
    assert_eq!(locates(&cancelled), 0, "most answer at once");
    assert_eq!(locates(&stage.pass(Duration::from_secs(1))), 1);
    assert_eq!(
        requests(&stage.tell(located(CONTACT, stream(1), false))),
        Vec::new()
    );
    let elsewhere = stage.tell(located(CONTACT, stream(9), false));
    let methods: Vec<_> = requests(&elsewhere)
        .into_iter()
        .map(|(_, word)| word)
        .collect();
    assert_eq!(methods, ["CANCEL", "BYE"]);
    assert_eq!(locates(&stage.pass(Duration::from_secs(9))), 0);
    let (response, flow) = (answer(&actions, 200), stream(9));
    stage.tell(Message::Response { response, flow });
    assert_eq!(stage.core.state(), "ending");
}

#[test]
fn a_callee_over_datagrams_is_not_looked_for() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let (response, flow) = (answer(&actions, 180), datagram(DIGEST, PEER));
    stage.tell(Message::Response { response, flow });
    stage.tell(end());
    assert_eq!(locates(&stage.pass(Duration::from_secs(9))), 0);
}
