//! Descriptions are read back, and a repeated index is seen.

use super::*;

fn line(protection: Protection) -> Line {
    let mut rng = Entropy::from_seed([3; 32]);
    let local = "10.1.0.1:40000".parse().expect("an address");
    Line::new(protection, local, &mut rng)
}

#[test]
fn what_is_described_is_read() {
    let mut web = line(Protection::Web { is_passive: false });
    let read = Described::read(&web.describe("sendrecv", true)).expect("sound");
    assert_eq!(read.digest, Some(web.fingerprint.clone()));
    assert_eq!(read.setup.as_deref(), Some("actpass"));
    assert_eq!(read.ice.expect("credentials").ufrag, web.ice.ufrag);
    let mut sdes = line(Protection::Sdes(SrtpProfile::AeadAes128Gcm));
    let read = Described::read(&sdes.describe("sendrecv", true)).expect("sound");
    assert_eq!(read.cryptos, vec![sdes.ours.clone()]);
    assert_eq!(read.address, Some(sdes.local));
    assert!(Described::read("v=0\r\n").is_none());
}

#[test]
fn two_ends_with_keys_of_sdp_hear_each_other() {
    let now = Time::from_micros(1);
    let profile = SrtpProfile::AesCm128HmacSha1_80;
    let mut one = line(Protection::Sdes(profile));
    let local = "10.1.0.2:40000".parse().expect("an address");
    let mut rng = Entropy::from_seed([4; 32]);
    let mut two = Line::new(Protection::Sdes(profile), local, &mut rng);
    let offer = one.describe("sendrecv", true);
    two.learn(&offer, true, now);
    let answer = two.describe("sendrecv", false);
    one.learn(&answer, false, now);
    one.speak();
    let (to, packet) = one.poll().expect("a packet");
    assert_eq!(to, two.local);
    assert_eq!(two.datagram(one.local, &packet, now), Heard::Sound);
    assert_eq!(two.datagram(one.local, &packet, now), Heard::Nothing);
    assert!(
        two.complaints().is_empty(),
        "the same packet twice is no fault"
    );
}

#[test]
fn an_index_with_two_payloads_is_seen() {
    let mut seen = Seen::default();
    let packet = |number: u16, octet: u8| {
        let mut octets = super::super::phone::rtp(number, 7).to_vec();
        octets[20] = octet;
        octets
    };
    for number in [65_534, 65_535, 0, 1, 65_533] {
        assert!(!seen.is_repeated(&packet(number, 1)), "{number}");
        assert!(!seen.is_repeated(&packet(number, 1)), "{number}");
    }
    assert!(seen.is_repeated(&packet(0, 2)));
    assert!(seen.is_repeated(&packet(65_535, 2)));
    assert!(!seen.is_repeated(&packet(2, 2)));
}
