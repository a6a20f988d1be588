//! Identities, tokens, deadlines and the codec keep their promises.

use std::time::Duration;

use crate::*;

#[test]
fn ids_parse_back_from_their_text() {
    let hasher = FabricKeys::new([7; 32]).ids();
    let call = hasher.call_key("abc@host", "tag1", "z9hG4bK77");
    let ids = [
        ActorId::Registration("al ice%/é@example.org".into()),
        ActorId::Call(call),
        ActorId::Dialog(call.side(1)),
        ActorId::MediaLeg(call.side(255)),
        ActorId::Gateway("tel:nyx".into()),
        ActorId::Parking("5901@example.org".into()),
        ActorId::Flow(NodeId(3), 99),
        ActorId::Lane(NodeId(3), 1),
        ActorId::Console(NodeId(0)),
        ActorId::Member(NodeId(65535)),
    ];
    for id in ids {
        assert_eq!(id.to_string().parse::<ActorId>(), Ok(id.clone()), "{id}");
    }
    for bad in [
        "",
        "call:",
        "call:xyz",
        "dialog:00000000-0000-8000-8000-000000000000",
        "pet:1",
    ] {
        assert!(bad.parse::<ActorId>().is_err(), "{bad}");
    }
}

#[test]
fn sides_mask_to_their_call() {
    let call = CallKey::from_bits(u128::MAX);
    assert_eq!(call.side(9).call(), call);
    assert_eq!(call.side(9).number(), 9);
    assert_eq!(call.to_string().chars().nth(14), Some('8'));
    let hasher = FabricKeys::new([1; 32]).ids();
    let leg = ActorId::MediaLeg(call.side(2));
    assert_eq!(
        hasher.record_key(&leg),
        hasher.record_key(&ActorId::Call(call))
    );
}

#[test]
fn tokens_are_read_back_and_forgeries_are_not() {
    let maker = FabricKeys::new([7; 32]).tokens();
    let side = CallKey::from_bits(0x1234_5678_9abc_def0_1234_5678_9abc_def0).side(2);
    let token = Token {
        hint: NodeId(5),
        lane: 3,
        side,
    };
    for used in [TokenUse::Tag, TokenUse::Branch, TokenUse::Contact] {
        let text = maker.write(used, token, 42);
        assert_eq!(maker.read(used, &text), Some(token));
        assert_eq!(
            maker
                .read(used, &text.replace("z9hG4bK", "Z9HG4bk"))
                .is_some(),
            used != TokenUse::Branch
        );
        for at in text.len() - 6..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert_eq!(maker.read(used, &forged), None, "{forged}");
        }
    }
    let other = FabricKeys::new([8; 32]).tokens();
    assert_eq!(
        other.read(TokenUse::Tag, &maker.write(TokenUse::Tag, token, 1)),
        None
    );
    let tag = maker.write(TokenUse::Tag, token, 1);
    assert_eq!(maker.read(TokenUse::Branch, &format!("z9hG4bK{tag}")), None);
    assert_eq!(maker.read(TokenUse::Tag, "é"), None);
}

#[test]
fn deadlines_survive_a_clock_that_jumps() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Name {
        A,
        B,
    }
    let now = Now {
        mono: Time::from_micros(5_000_000),
        utc: UtcMillis(1_000_000),
    };
    let mut deadlines = Deadlines::default();
    deadlines.set(Name::B, now.mono, Duration::from_secs(10));
    deadlines.set(Name::A, now.mono, Duration::from_secs(20));
    assert_eq!(deadlines.next().map(|(_, name)| name), Some(Name::B));
    let stored = deadlines.to_stored(now);
    for (utc, left) in [(1_003_000, 7), (1_500_000, 0), (3, 10)] {
        let then = Now {
            mono: Time::ZERO,
            utc: UtcMillis(utc),
        };
        let restored = Deadlines::from_stored(&stored, then);
        assert_eq!(
            restored.due(Name::B),
            Some(Time::from_micros(left * 1_000_000))
        );
    }
}

#[test]
fn generators_of_two_labels_do_not_disturb_each_other() {
    let root = Entropy::from_seed([3; 32]);
    let first = root.split("call").next_u64();
    let mut drawn = root.clone();
    drawn.next_u64();
    assert_eq!(drawn.split("call").next_u64(), first);
    assert_ne!(root.split("dialog").next_u64(), first);
}

#[test]
fn codec_refuses_bombs_and_leftovers() {
    let bomb = [0xff; 10];
    assert!(codec::decode::<Vec<u64>>(&bomb).is_err());
    let mut bytes = codec::encode(&7u32).expect("encodes");
    bytes.push(0);
    assert!(codec::decode::<u32>(&bytes).is_err());
}

#[test]
fn secrets_print_nothing_but_are_stored() {
    let secret = Secret::new("weft-1000");
    assert!(!format!("{secret:?}").contains("weft"));
    assert_eq!(serde_json::to_string(&secret).expect("json"), "\"***\"");
    let bytes = codec::encode(&secret).expect("encodes");
    assert_eq!(codec::decode::<Secret>(&bytes).expect("decodes"), secret);
    assert_eq!(Private("+15551234").to_string(), "…34");
}

#[test]
fn a_session_token_is_read_only_as_it_was_written() {
    let maker = FabricKeys::new([7; 32]).tokens();
    for (aor, instance) in [
        ("1000@example.org", "tab-1"),
        ("é@example.org", ""),
        ("a@b", "x"),
    ] {
        let token = SessionToken {
            aor: aor.to_owned(),
            instance: instance.to_owned(),
            expires: UtcMillis(1_700_000_000_000),
        };
        let text = maker.write_session(&token);
        assert_eq!(maker.read_session(&text), Some(token));
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("text");
            assert_eq!(maker.read_session(&forged), None, "letter {at}");
            assert_eq!(maker.read_session(&text[..at]), None, "cut at {at}");
        }
        let other = FabricKeys::new([8; 32]).tokens();
        assert_eq!(other.read_session(&text), None);
    }
}

#[test]
fn a_json_call_has_one_key_for_one_account() {
    let ids = FabricKeys::new([7; 32]).ids();
    let key = ids.json_call_key("1000@example.org", "call-1");
    assert_eq!(key, ids.json_call_key("1000@example.org", "call-1"));
    assert_ne!(key, ids.json_call_key("1001@example.org", "call-1"));
    assert_ne!(key, ids.call_key("1000@example.org", "call-1", ""));
    assert!(key.side(3).is_ours());
    let random = "550e8400-e29b-41d4-a716-446655440001"
        .parse::<SideKey>()
        .expect("a UUID");
    assert!(!random.is_ours());
}
