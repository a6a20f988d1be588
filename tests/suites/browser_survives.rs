//! `kill -9` of the node under calls of browsers and of phones with DTLS: the sound comes back by
//! itself, without a handshake, without an offer, and no SRTP index is used twice.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use weft_tests::baresip::{Baresip, Namespace, Setup};
use weft_tests::browser::{Browser, Page};
use weft_tests::capture::Capture;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::pair::{Pair, all_hear};
use weft_tests::phone::Dialog;
use weft_tests::plain::Plain;
use weft_tests::{http, lacks, wait};

/// Pages of each kind; the last of each is on hold.
const PAGES: u32 = 4;
/// Calls between plain phones.
const PLAIN: u32 = 20;

/// A call between a page and a plain phone.
struct WebCall<'a> {
    page: Page<'a>,
    plain: Plain,
    side: Dialog,
    /// Sines of the page and of the phone.
    hertz: (f64, f64),
    is_held: bool,
    ufrag: Value,
}

impl<'a> WebCall<'a> {
    fn place(node: &Node, page: Page<'a>, called: &str, hertz: (f64, f64), is_held: bool) -> Self {
        let mut plain = Plain::new(node.sip, called, hertz.1);
        page.call(called);
        let side = plain.take();
        page.wait("active");
        assert_eq!(plain.phone.register(0).status(), 200);
        let mut call = WebCall {
            page,
            plain,
            side,
            hertz,
            is_held,
            ufrag: Value::Null,
        };
        call.sounds();
        call.ufrag = call.fragment();
        if is_held {
            let page = call.page;
            call.plain.while_serving(&call.side, || {
                page.must("hold", json!({}));
            });
        }
        call
    }

    /// The browser's own user fragment: another one means that the path was negotiated anew.
    fn fragment(&self) -> Value {
        let stats = self.page.must("stats", json!({}));
        assert_eq!(stats["transport"]["dtlsState"], "connected", "{stats}");
        stats["transport"]["iceLocalUsernameFragment"].clone()
    }

    /// Both hear each other.
    fn sounds(&self) {
        self.page.hears(self.hertz.1);
        self.plain.hears(self.hertz.0);
    }

    /// After a kill: the same path, the same keys, the sound, or the hold.
    fn goes_on(&mut self) {
        if !self.is_held {
            self.sounds();
        }
        assert_eq!(self.fragment(), self.ufrag);
        assert!(
            self.plain.phone.ringing(Duration::ZERO).is_none(),
            "an offer came"
        );
    }

    /// Hold, digits and the end, over the connection that came back by itself.
    fn works(&mut self) {
        let page = self.page;
        page.until("the connection", |it| it["connected"] == json!(true));
        let turns: &[&str] = if self.is_held {
            &["resume"]
        } else {
            &["hold", "resume"]
        };
        for turn in turns {
            self.plain.while_serving(&self.side, || {
                page.must(turn, json!({}));
            });
        }
        self.sounds();
        page.must("dtmf", json!({ "digits": "7", "method": "rfc4733" }));
        let (pump, socket) = (&self.plain.pump, self.plain.socket);
        wait::until("a telephone event", wait::PATIENCE, || {
            (pump.heard(socket).events == [7]).then_some(())
        });
        page.must("hangup", json!({}));
        let bye = self
            .plain
            .phone
            .serve(&self.side, "BYE", None, wait::PATIENCE);
        assert!(bye.is_some(), "the phone is told");
    }
}

/// Counts the handshakes that the running process has completed.
fn handshakes(node: &Node) -> f64 {
    let answer = http::ask(node.http, "GET", "/metrics", &[]).expect("an answer");
    let lines = answer.body.lines();
    let counts = lines.filter(|line| line.starts_with("weft_media_handshakes_total"));
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// No (receiver, SSRC, index) comes twice. Roll-overs are counted as a receiver does: the index
/// nearest to the highest so far (RFC 3711 §3.3.1), as blocks skipped by many kills are more numbers
/// than there are.
fn no_index_came_twice(capture: Capture) {
    let mut seen = BTreeSet::new();
    let mut streams = BTreeMap::new();
    for packet in capture.packets() {
        let stream = (packet.to, packet.ssrc);
        let first = 0x1_0000 + i64::from(packet.sequence);
        let highest: &mut i64 = streams.entry(stream).or_insert(first);
        let ahead = packet.sequence.wrapping_sub(*highest as u16) as i16;
        let index = *highest + i64::from(ahead);
        *highest = index.max(*highest);
        let is_new = seen.insert((stream, index));
        assert!(is_new, "{stream:?} {index} came twice");
    }
    println!("{} SRTP packets of {} streams", seen.len(), streams.len());
    assert!(streams.len() >= 2 * PAGES as usize, "{streams:?}");
}

/// Kills to be survived in a row; `WEFT_KILLS` says another number.
fn kills() -> u32 {
    let said = std::env::var("WEFT_KILLS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn thirty_calls_of_which_ten_are_webrtc_outlive_kills() {
    if lacks(&["chromium", "node", "baresip", "tshark"]) {
        return;
    }
    let spaces = [Namespace::new(21), Namespace::new(22)];
    let outside = [0, 1].map(|index: usize| SocketAddr::from((spaces[index].ours, 5060)));
    let mut extra = format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{}\", \"{}\"]\nauth = \"digest\"\n\
         acl = [\"10.77.0.0/16\"]\n\
         [[route]]\nname = \"more\"\nmatch = {{ destination = '^([23]\\d\\d\\d)$' }}\n\
         do = [{{ bridge = \"user/$1\" }}]\n",
        outside[0], outside[1]
    );
    for number in (2000..2010).chain(3000..3010) {
        extra.push_str(&format!(
            "[[user]]\nname = \"{number}\"\npassword = \"weft-{number}\"\nmedia = \"{}\"\n",
            if number >= 3008 { "webrtc" } else { "auto" }
        ));
    }
    let mut node = Node::start(&extra);
    let filter = format!("udp and src portrange {}-{}", node.webrtc, node.webrtc + 1);
    let capture = Capture::start("lo", &filter);
    let browser = Browser::start();
    let url = format!("ws://{}/ws", node.http);
    let users: Vec<_> = (3000..3010).map(|number: u32| number.to_string()).collect();
    let mut calls = Vec::new();
    for index in 0..2 * PAGES {
        let user = &users[index as usize];
        let hertz = (
            400.0 + 50.0 * f64::from(index),
            900.0 + 50.0 * f64::from(index),
        );
        let page = if index < PAGES {
            browser.sip(node.http, &url, user, hertz.0)
        } else {
            browser.phone(node.http, user, hertz.0)
        };
        let called = (2000 + index).to_string();
        let is_held = index % PAGES == PAGES - 1;
        calls.push(WebCall::place(&node, page, &called, hertz, is_held));
    }
    // Two phones with DTLS that send back what they hear call two plain ones.
    let setup = |user| Setup {
        protection: "dtls_srtp",
        path: "ice",
        loops: true,
        ..Setup::plain(user)
    };
    let mut echoes = Vec::new();
    for (index, space) in spaces.iter().enumerate() {
        let (user, caller) = (&users[8 + index], (2008 + index).to_string());
        let hertz = [1_400.0, 1_450.0][index];
        let far = Baresip::with(space, &setup(user), outside[index], 440);
        let mut plain = Plain::new(node.sip, &caller, hertz);
        let calling = plain.phone.call(user, plain.port);
        let answer = plain.phone.outcome(&calling, wait::PATIENCE);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let side = plain.phone.established(&calling, &answer);
        plain.pump.aim(plain.socket, Some(side.media));
        plain.hears(hertz);
        echoes.push((plain, side, hertz, far));
    }
    let pump = Pump::new();
    let mut pairs: Vec<_> = (0..PLAIN)
        .map(|index| {
            let (caller, called) = (1000 + index % 10, 1010 + index % 10);
            let (caller, called) = (caller.to_string(), called.to_string());
            let mut pair = Pair::connect(node.sip, &pump, &caller, &called);
            assert_eq!(pair.bob.register(0).status(), 200);
            pair
        })
        .collect();
    let count = calls.len() + echoes.len() + pairs.len();
    assert_eq!(node.actors("call").len(), count);
    println!("{count} calls, {} handshakes", handshakes(&node));

    let mut outages: Vec<u64> = vec![0; kills() as usize];
    outages.extend([10, 20]);
    for outage in outages {
        pump.forget_pauses();
        let measured: Vec<_> = calls.iter().filter(|call| !call.is_held).collect();
        for call in &measured {
            call.page.must("pauseStart", json!({}));
            call.plain.pump.forget_pauses();
        }
        let killed = Instant::now();
        node.kill();
        std::thread::sleep(Duration::from_secs(outage));
        node.start_again();
        node.wait_ready();
        let down = killed.elapsed();
        all_hear(&pump, &pairs, 3, || String::from("plain calls"));
        for call in &mut calls {
            call.goes_on();
        }
        for (plain, _, hertz, _) in &echoes {
            plain.hears(*hertz);
        }
        let mut to_pages = Vec::new();
        let mut from_pages = Vec::new();
        for call in calls.iter().filter(|call| !call.is_held) {
            let pause = call.page.must("pauseStop", json!({}));
            to_pages.push(pause["framesMs"].as_u64().unwrap_or(u64::MAX));
            from_pages.push(call.plain.pump.heard(call.plain.socket).pause.as_millis());
        }
        to_pages.sort_unstable();
        from_pages.sort_unstable();
        println!(
            "down {down:?}: longest pause of a page {:?} ms, of a phone with a page {:?} ms",
            to_pages.last(),
            from_pages.last()
        );
        assert!(handshakes(&node).abs() < 0.5, "no handshake after a kill");
        assert_eq!(node.actors("call").len(), count);
    }
    for call in &mut calls {
        call.works();
    }
    for (mut plain, mut side, _, _far) in echoes {
        assert_eq!(plain.phone.bye(&mut side), 200);
    }
    for pair in &mut pairs {
        pair.end_from_caller();
        pair.no_number_was_used_twice();
    }
    node.no_calls_left();
    no_index_came_twice(capture);
}
