//! What `uri` promises, by example.

use crate::{Aor, Host, NameAddr, Scheme, Uri};

fn uri(text: &str) -> Uri {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// RFC 3261 §19.1.4, its own examples first.
const EQUAL: &[(&str, &str)] = &[
    (
        "sip:%61lice@atlanta.com;transport=TCP",
        "sip:alice@AtLanTa.CoM;Transport=tcp",
    ),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    (
        "sip:carol@chicago.com;newparam=5",
        "sip:carol@chicago.com;security=on",
    ),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:a@b;lr", "sip:a@b"),
    ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0:0:0:0:0:1]"),
    ("SIP:a@b", "sip:a@b"),
    ("sip:a%3b@b", "sip:a%3B@b"),
    ("tel:+1-201-555-0123", "tel:+12015550123"),
    ("mailto:a@b", "MAILTO:a@b"),
];

const DIFFERENT: &[(&str, &str)] = &[
    (
        "SIP:ALICE@AtLanTa.CoM;Transport=udp",
        "sip:alice@AtLanTa.CoM;Transport=UDP",
    ),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    (
        "sip:bob@biloxi.com",
        "sip:bob@biloxi.com:6000;transport=tcp",
    ),
    (
        "sip:carol@chicago.com",
        "sip:carol@chicago.com?Subject=next%20meeting",
    ),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    (
        "sip:carol@chicago.com;security=on",
        "sip:carol@chicago.com;security=off",
    ),
    ("sip:a@b", "sips:a@b"),
    ("sip:a@b", "sip:b"),
    ("sip:a@b;user=phone", "sip:a@b"),
    ("sip:a@b;maddr=192.0.2.1", "sip:a@b"),
    ("sip:a:x@b", "sip:a:y@b"),
    ("sip:a%3bx@b", "sip:a;x@b"),
    ("sip:a@192.0.2.1", "sip:a@[::ffff:192.0.2.1]"),
    ("sip:a%00@b", "sip:a@b"),
    ("tel:+1;phone-context=a", "tel:+1;phone-context=b"),
    ("tel:+1;phone-context=a", "tel:+1"),
];

#[test]
fn equivalence_follows_the_rfc() {
    for (one, two) in EQUAL {
        assert!(uri(one).equivalent(&uri(two)), "{one} = {two}");
        assert!(uri(two).equivalent(&uri(one)), "{two} = {one}");
    }
    for (one, two) in DIFFERENT {
        assert!(!uri(one).equivalent(&uri(two)), "{one} /= {two}");
        assert!(!uri(two).equivalent(&uri(one)), "{two} /= {one}");
    }
}

#[test]
fn a_uri_is_written_as_it_was_read() {
    for text in [
        "sip:user;par=u%40example.net@example.com",
        "sips:1212@gateway.com:5061;transport=tcp?subject=a&to=b",
        "sip:alice:secret@[2001:db8::10]:5070",
        "tel:+1-972-555-2222;phone-context=example.com",
        "urn:service:sos",
        "mailto:a@b.c",
        "nobodyKnowsThisScheme:totallyopaquecontent"
            .to_ascii_lowercase()
            .as_str(),
        "sip:example.com.",
    ] {
        assert_eq!(uri(text).to_string(), text);
    }
}

#[test]
fn malformed_uris_are_refused() {
    for text in [
        "",
        "sip",
        "sip:",
        ":a@b",
        "sip:@b",
        "sip:a@",
        "sip:a@b:",
        "sip:a@b:65536",
        "sip:a@b:-1",
        "sip:a@b;",
        "sip:a@b;;lr",
        "sip:a@b;=x",
        "sip:a b@c",
        "sip:a@b c",
        "sip:a%@b",
        "sip:a%4@b",
        "sip:a%zz@b",
        "sip:a@[::1",
        "sip:a@::1",
        "sip:a@[::g]",
        "sip:a@1.2.3",
        "sip:a@127.1",
        "sip:a@010.0.0.1",
        "sip:a@256.1.1.1",
        "sip:a@0x7f.1",
        "sip:a@b..c",
        "sip:a@b@c",
        "sip:a@<b>",
        "sip:a@b;x=\"y\"",
        "sip:ä@b",
        "tel:",
        "1sip:a",
    ] {
        assert!(text.parse::<Uri>().is_err(), "{text}");
    }
}

#[test]
fn the_user_is_unescaped_for_reading_and_kept_for_writing() {
    let uri = uri("sip:%61%20%2b%40%00%25%c3%a4%ff@b");
    assert_eq!(uri.user().as_deref(), Some("a +@%00%25ä%FF"));
    assert_eq!(uri.user_raw(), Some("%61%20%2b%40%00%25%c3%a4%ff"));
    assert_eq!(uri.scheme(), &Scheme::Sip);
    assert_eq!(uri.scheme().known(), Some(rsip::Scheme::Sip));
}

#[test]
fn an_aor_has_one_form() {
    let aor = Aor::of(&uri("sips:%61lice@EXAMPLE.org.:5061;transport=tls?x=y")).expect("an AoR");
    assert_eq!(aor.as_str(), "alice@example.org");
    assert_eq!((aor.user(), aor.domain()), ("alice", "example.org"));
    assert_eq!("sip:alice@example.org".parse::<Aor>().expect("an AoR"), aor);
    assert_eq!(aor.uri().to_string(), "sip:alice@example.org");
    let upper = Aor::of(&uri("sip:Alice@example.org")).expect("an AoR");
    assert_ne!(upper, aor, "the case of the user counts");
    let v6 = Aor::of(&uri("sip:1000@[2001:DB8::1]")).expect("an AoR");
    assert_eq!(v6.as_str(), "1000@[2001:db8::1]");
    let json = serde_json::to_string(&aor).expect("text");
    assert_eq!(serde_json::from_str::<Aor>(&json).expect("text"), aor);
}

#[test]
fn an_aor_survives_hard_users() {
    for text in [
        "sip:a%40b@c",
        "sip:a%00@c",
        "sip:a%25b@c",
        "sip:%ff@c",
        "sip:a;b=c@d",
        "sip:%20@c",
    ] {
        let aor = Aor::of(&uri(text)).expect(text);
        assert_eq!(aor.to_string().parse::<Aor>().expect(text), aor, "{text}");
        assert_eq!(Aor::of(&aor.uri()).expect(text), aor, "{text}");
    }
    let null = Aor::of(&uri("sip:null-%00-null@example.com")).expect("an AoR");
    let cut = Aor::of(&uri("sip:null-@example.com")).expect("an AoR");
    assert_ne!(null, cut, "RFC 4475 3.1.1.4");
    assert!(Aor::of(&uri("sip:example.org")).is_err());
    assert!(Aor::of(&uri("tel:+1")).is_err());
    assert!("alice".parse::<Aor>().is_err());
    assert!("a\nb@c".parse::<Aor>().is_err());
}

#[test]
fn params_are_set_and_removed_in_place() {
    let mut uri = uri("sip:a@b;transport=tcp;lr");
    uri.params_mut().set("Transport", Some("udp"));
    uri.params_mut().set("ob", None);
    assert_eq!(
        uri.to_string(),
        "sip:a@b;Transport=udp;lr;ob".replace("Transport", "transport")
    );
    uri.params_mut().remove("LR");
    assert_eq!(uri.to_string(), "sip:a@b;transport=udp;ob");
    uri.set_user(Some("x y"));
    uri.set_host(Host::V4([192, 0, 2, 1].into()), Some(5070));
    assert_eq!(uri.to_string(), "sip:x%20y@192.0.2.1:5070;transport=udp;ob");
    let name: NameAddr = format!("<{uri}>").parse().expect("a name");
    assert_eq!(
        serde_json::to_string(&name).expect("text"),
        format!("\"<{uri}>\"")
    );
}
