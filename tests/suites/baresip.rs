//! baresip, an independent phone: registers, calls the extensions and is called; the tone is read
//! from captured RTP.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::time::Duration;

use weft_tests::baresip::{Baresip, Namespace};
use weft_tests::capture::{Capture, tone};
use weft_tests::is_left_out;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::wait;

/// A node that listens on the namespace's side as well.
fn start(space: &Namespace) -> (Node, std::net::SocketAddr) {
    let outside = std::net::SocketAddr::from((space.ours, 5060));
    let profile = format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n"
    );
    (Node::start(&profile), outside)
}

fn listen(space: &Namespace, phone: &mut Baresip, number: &str, server: &str) -> (f64, f64) {
    let capture = Capture::start(&space.interface, &space.ours.to_string());
    phone.forget();
    phone.command("dial", &format!("sip:{number}@{server}"));
    wait::until(
        "the call to be established",
        Duration::from_secs(15),
        || phone.has_said("CALL_ESTABLISHED").then_some(()),
    );
    // Sound is measured over a second: as long as it takes for that many octets to come.
    let end = std::time::Instant::now() + Duration::from_millis(2_500);
    wait::until("sound", Duration::from_secs(5), || {
        (std::time::Instant::now() >= end).then_some(())
    });
    phone.command("hangup", "");
    let octets = capture.payload();
    assert!(
        octets.len() >= 8_000,
        "{} octets of sound from {number}\n{}",
        octets.len(),
        phone.log()
    );
    // The first packets may be from before the tone.
    tone(&octets[octets.len() - 8_000..])
}

#[test]
fn baresip_registers_calls_the_extensions_and_is_called() {
    if is_left_out("baresip") || is_left_out("tshark") {
        println!("left out: baresip or tshark");
        return;
    }
    let space = Namespace::new(1);
    let (node, outside) = start(&space);
    let server = outside.to_string();
    let mut phone = Baresip::start(&space, "1002", outside, 440);
    assert_eq!(node.actors("registration").len(), 1, "{}", phone.log());

    let (hertz, level) = listen(&space, &mut phone, "9197", &server);
    println!("9197: {hertz} Hz at {level:.2} dBm0");
    assert!((hertz - 1_004.0).abs() <= 1.0, "{hertz} Hz");
    assert!((level + 16.0).abs() < 0.5, "{level} dBm0");

    let (hertz, level) = listen(&space, &mut phone, "9196", &server);
    println!("9196: {hertz} Hz at {level:.2} dBm0");
    assert!(
        (hertz - 440.0).abs() <= 2.0,
        "the echo of 440 Hz is {hertz} Hz"
    );

    let pump = Pump::new();
    let mut alice = Phone::new(node.sip, "1000");
    let (a, port) = pump.add();
    phone.forget();
    let calling = alice.call("1002", port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(15))
        .expect("baresip answers");
    let mut side = alice.established(&calling, &answer);
    pump.aim(a, Some(side.media));
    wait::until("baresip's sound", Duration::from_secs(10), || {
        (pump.heard(a).packets > 20).then_some(())
    });
    assert_eq!(alice.bye(&mut side), 200);
    wait::until("baresip to be told", Duration::from_secs(10), || {
        phone.has_said("CALL_CLOSED").then_some(())
    });
    wait::until("calls to end", Duration::from_secs(10), || {
        node.actors("call").is_empty().then_some(())
    });
}
