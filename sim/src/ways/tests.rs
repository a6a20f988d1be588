//! Where a phone's datagrams and connections go.

use super::*;

fn nodes() -> Vec<SocketAddr> {
    [1, 2, 3]
        .map(|number| SocketAddr::from(([10, 0, 0, number], 5_060)))
        .to_vec()
}

fn ways(is_balanced: bool) -> Ways {
    Ways {
        is_balanced,
        ..Ways::draw(nodes(), 0, Entropy::from_seed([1; 32]))
    }
}

fn message(start: &str, via: &str, to: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: {to}\r\n\
         Call-ID: c\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_response_goes_where_the_request_came_from() {
    let text = message("SIP/2.0 200 OK", "10.0.0.2:5060", "<sip:c@d>;tag=2");
    for is_balanced in [false, true] {
        assert_eq!(ways(is_balanced).datagram(text.as_bytes()), nodes()[1]);
    }
}

#[test]
fn a_request_within_a_dialog_goes_to_the_remote_target() {
    let start = "BYE sip:token@10.0.0.3:5060;transport=udp SIP/2.0";
    let text = message(start, "10.1.0.1:5060", "<sip:c@d>;tag=2");
    assert_eq!(ways(false).datagram(text.as_bytes()), nodes()[2]);
}

#[test]
fn behind_a_balancer_a_request_goes_to_any_node() {
    let text = message(
        "BYE sip:x@10.0.0.3:5060 SIP/2.0",
        "10.1.0.1:5060",
        "<sip:c@d>;tag=2",
    );
    let mut ways = ways(true);
    let mut seen: Vec<_> = (0..50).map(|_| ways.datagram(text.as_bytes())).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, nodes());
}

#[test]
fn a_node_that_stays_away_is_left_for_another() {
    let mut ways = ways(false);
    let start = Time::from_micros(1_000_000);
    let mut homes = vec![ways.home()];
    for seconds in 0..10 {
        let now = start + Duration::from_secs(seconds);
        ways.lost(now);
        ways.connecting(now);
        homes.push(ways.home());
    }
    homes.dedup();
    assert!(homes.len() > 2, "{homes:?}");
}

#[test]
fn what_was_its_own_node_is_known_later() {
    let second = |number: u64| Time::from_micros(number * 1_000_000);
    let mut ways = ways(false);
    ways.former = vec![(second(10), 1), (second(20), 2)];
    let stays = |from, until| {
        let stays = ways.stays((second(from), second(until)));
        let known = stays.iter().map(|stay| (stay.node, stay.from, stay.until));
        known.collect::<Vec<_>>()
    };
    let [home, first, then] = [nodes()[0], nodes()[1], nodes()[2]];
    assert_eq!(
        stays(5, 25),
        [
            (first, second(5), second(10)),
            (then, second(10), second(20)),
            (home, second(20), second(25)),
        ]
    );
    assert_eq!(stays(12, 15), [(then, second(12), second(15))]);
    assert_eq!(stays(21, 25), [(home, second(21), second(25))]);
}
