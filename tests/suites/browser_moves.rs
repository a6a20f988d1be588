//! Calls of Chromium that move between living nodes (`cluster.md` §6): the sound stays, whoever has the
//! connection, and the node with the connection may be drained.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use weft_tests::browser::{Browser, Page};
use weft_tests::capture::tone;
use weft_tests::cluster::{NAMES, Three};
use weft_tests::crowd::percentile;
use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::phone::Phone;
use weft_tests::roaming::Party;
use weft_tests::wait::{self, PATIENCE};

/// Packet time of both ends.
const PACKET: Duration = Duration::from_millis(20);

/// A call of a page, whose connection ends at the first node, to a phone of the second one.
struct WebCall<'a> {
    page: Page<'a>,
    party: Party,
    /// Sines of the page and of the phone.
    hertz: (f64, f64),
}

impl<'a> WebCall<'a> {
    fn place(three: &Three, page: Page<'a>, called: &str, hertz: (f64, f64), pump: &Pump) -> Self {
        let mut phone = Phone::roaming(three.nodes[1].sip, called);
        assert_eq!(phone.register(3600).status(), 200);
        let at = pump.add();
        pump.play(at.0, hertz.1);
        page.call(called);
        let invite = phone.ringing(PATIENCE).expect("an INVITE");
        let side = phone.answer(&invite, at.1);
        page.wait("active");
        let party = Party::new(phone, side, at, pump);
        WebCall { page, party, hertz }
    }

    /// Does something with the page while the phone answers what it is asked.
    fn attending<T: Send>(&mut self, pump: &Pump, work: impl FnOnce(Page<'a>) -> T + Send) -> T {
        let (done, page) = (AtomicBool::new(false), self.page);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let work = std::panic::AssertUnwindSafe(|| work(page));
                let value = std::panic::catch_unwind(work);
                done.store(true, Ordering::Relaxed);
                value
            });
            while !done.load(Ordering::Relaxed) {
                self.party.attend(pump);
            }
            let value = working.join().expect("it catches its own panics");
            value.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Both hear each other.
    fn sounds(&mut self, pump: &Pump) {
        let (own, far) = self.hertz;
        self.attending(pump, |page| page.hears(far));
        let number = self.party.socket;
        pump.forget_sound(number);
        wait::until(&format!("{own} Hz at the phone"), PATIENCE, || {
            self.party.attend(pump);
            let sound = pump.heard(number).payload;
            if sound.len() < 4_000 {
                return None;
            }
            pump.forget_sound(number);
            ((tone(&sound).0 - own).abs() < 4.0).then_some(())
        });
        assert!(!self.party.is_ended);
    }

    /// The page hangs up.
    fn end(&mut self, pump: &Pump) {
        self.attending(pump, |page| page.must("hangup", json!({})));
        wait::until("a BYE at the phone", PATIENCE, || {
            self.party.attend(pump);
            self.party.is_ended.then_some(())
        });
        self.party.was_treated_well();
    }
}

/// A page of JSON signalling and one of SIP over WebSocket, both in a call.
fn pages<'a>(three: &Three, browser: &'a Browser, pump: &Pump) -> Vec<WebCall<'a>> {
    let http = three.nodes[0].http;
    let json = browser.phone(http, "1000", 500.0);
    let url = format!("ws://{http}/ws");
    let sip = browser.sip(http, &url, "1002", 600.0);
    let mut calls = vec![
        WebCall::place(three, json, "1001", (500.0, 1_000.0), pump),
        WebCall::place(three, sip, "1003", (600.0, 1_100.0), pump),
    ];
    for call in &mut calls {
        call.sounds(pump);
    }
    calls
}

/// Waits until the phone was offered something from `node`, and its sound goes there.
fn is_told(three: &Three, call: &mut WebCall<'_>, to: usize, pump: &Pump) {
    let ip = three.nodes[to].sip.ip();
    let what = format!("an offer of {}, see {:?}", NAMES[to], three.logs());
    wait::until(&what, PATIENCE, || {
        call.party.attend(pump);
        (call.party.side.media.ip() == ip).then_some(())
    });
}

#[test]
fn calls_of_pages_move_and_are_heard() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let rounds: usize = std::env::var("WEFT_MOVES_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let three = Three::start();
    let (browser, pump) = (Browser::start(), Pump::new());
    let mut calls = pages(&three, &browser, &pump);
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 2);
        let from = three.at(rows[0]["node"].as_str().expect("a node"));
        let to = (from + 1) % 3;
        pump.forget_pauses();
        for row in &rows {
            assert_eq!(row["node"], NAMES[from]);
            let id = row["id"].as_str().expect("an ID");
            let (status, said) = three.nodes[0].move_actor(id, NAMES[to]);
            assert_eq!(status, 200, "{said}");
        }
        for call in &mut calls {
            is_told(&three, call, to, &pump);
        }
        for call in &mut calls {
            call.sounds(&pump);
            let pause = pump.heard(call.party.socket).pause;
            gaps.push(pause.saturating_sub(PACKET));
        }
    }
    let (p50, _) = percentile(&mut gaps, 50);
    let (p99, longest) = percentile(&mut gaps, 99);
    println!(
        "{} moves of WebRTC calls: gaps at the phone p50 {p50:?}, p99 {p99:?}, longest {longest:?}",
        gaps.len()
    );
    for call in &mut calls {
        call.end(&pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 2);
    three.no_errors();
}

/// The node that the pages are connected with is drained and started again: their calls are heard all
/// the while, and they can end them afterwards.
#[test]
fn the_node_of_pages_is_drained_under_their_calls() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut three = Three::start();
    let (browser, pump) = (Browser::start(), Pump::new());
    let mut calls = pages(&three, &browser, &pump);
    pump.forget_pauses();
    three.nodes[1].drain(NAMES[0], 600);
    let code = wait::until("the node to end", Duration::from_secs(120), || {
        for call in &mut calls {
            call.party.attend(&pump);
        }
        three.nodes[0].exit_code()
    });
    assert_eq!(code, 0);
    for call in &mut calls {
        call.sounds(&pump);
        println!("no sound for {:?}", pump.heard(call.party.socket).pause);
    }
    three.start_again(0);
    for call in &mut calls {
        call.attending(&pump, |page| {
            page.until("the connection", |it| it["connected"] == json!(true));
        });
        call.sounds(&pump);
        call.end(&pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 2);
    three.no_errors();
}
