//! baresip, an independent phone: registers, calls the extensions and is called; the tone is read
//! from captured RTP.

use weft_tests::baresip::{Baresip, Namespace};
use weft_tests::capture::{Capture, tone};
use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::wait::{self, PATIENCE};

/// A node that listens on the namespace's side as well.
fn start(space: &Namespace) -> (Node, std::net::SocketAddr) {
    let outside = std::net::SocketAddr::from((space.ours, 5060));
    let profile = format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n"
    );
    (Node::start(&profile), outside)
}

fn listen(space: &Namespace, phone: &mut Baresip, number: &str, server: &str) -> (f64, f64) {
    let capture = Capture::start(
        &space.interface,
        &format!("udp and src host {}", space.ours),
    );
    phone.forget();
    phone.command("dial", &format!("sip:{number}@{server}"));
    wait::until("the call to be established", PATIENCE, || {
        phone.has_said("CALL_ESTABLISHED").then_some(())
    });
    // Two seconds of it, of which the last is measured: 100 packets of 200 octets and more.
    capture.wait_for(20_000);
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
    if lacks(&["baresip", "ip", "tshark"]) {
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
        .progress(&calling, 200, PATIENCE)
        .expect("baresip answers");
    let mut side = alice.established(&calling, &answer);
    pump.aim(a, Some(side.media));
    wait::until("baresip's sound", PATIENCE, || {
        (pump.heard(a).packets > 20).then_some(())
    });
    assert_eq!(alice.bye(&mut side), 200);
    wait::until("baresip to be told", PATIENCE, || {
        phone.has_said("CALL_CLOSED").then_some(())
    });
    node.no_calls_left();
}
