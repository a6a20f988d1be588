//! What is a message, what is none, and that nothing hostile comes through either way.

use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> Request {
    read(text.as_bytes()).unwrap_or_else(|refused| panic!("{text}: {refused}"))
}

fn refused(text: &str) -> Refused {
    match read(text.as_bytes()) {
        Ok(request) => panic!("{text} was read: {request:?}"),
        Err(refused) => refused,
    }
}

#[test]
fn every_message_of_the_contract_is_read() {
    let table = [
        r#"{"type":"register","payload":{"dn":"5001","password":"***","displayName":"Agent 5001"},"id":"msg-1"}"#,
        r#"{"type":"register","payload":{"dn":"1000@example.org","password":"x","expires":60,"instance":"tab-1"}}"#,
        r#"{"type":"resumeSession","payload":{"token":"abc","lastSeq":7,"calls":["a","b"]},"id":"1"}"#,
        r#"{"type":"resumeSession","payload":{"token":"abc"}}"#,
        r#"{"type":"unregister","payload":{"dn":"1000"}}"#,
        r#"{"type":"call","payload":{"to":"1003","callId":"call-123","sdp":"v=0\r\no=..."},"id":"msg-2"}"#,
        r#"{"type":"ringing","payload":{"callId":"c"}}"#,
        r#"{"type":"answer","payload":{"callId":"c","sdp":"v=0"}}"#,
        r#"{"type":"reject","payload":{"callId":"c","code":486,"reason":"busy"}}"#,
        r#"{"type":"reject","payload":{"callId":"c"}}"#,
        r#"{"type":"cancel","payload":{"callId":"c"}}"#,
        r#"{"type":"hangup","payload":{"callId":"call-123","reason":"user_hangup"},"id":"msg-3"}"#,
        r#"{"type":"hold","payload":{"callId":"c","sdp":"v=0"}}"#,
        r#"{"type":"resume","payload":{"callId":"c","sdp":"v=0"}}"#,
        r#"{"type":"reoffer","payload":{"callId":"c","sdp":"v=0","iceRestart":true}}"#,
        r#"{"type":"reanswer","payload":{"callId":"c","sdp":"v=0"}}"#,
        r#"{"type":"iceCandidate","payload":{"callId":"c","candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}}"#,
        r#"{"type":"iceCandidate","payload":{"callId":"c","candidate":"","sdpMid":null,"sdpMLineIndex":null}}"#,
        r#"{"type":"iceComplete","payload":{"callId":"c"}}"#,
        r#"{"type":"dtmf","payload":{"callId":"c","digits":"12*#A","duration":100,"method":"info"}}"#,
        r#"{"type":"stats","payload":{"callId":"c","report":{"a":[1,2]}}}"#,
        r#"{"type":"info","payload":{"query":"calls"}}"#,
        r#"{"type":"ping","payload":{"ts":1700000000000.5}}"#,
        r#"{"type":"ack","payload":{},"id":"srv-1"}"#,
        r#"{"type":"ack","payload":{"later":"fields are ignored"},"id":"srv-1","also":1}"#,
        // The order of the envelope is the client's.
        r#"{"id":"x","payload":{"callId":"c"},"type":"ringing"}"#,
    ];
    for text in table {
        ok(text);
    }
    for kind in client::UNSUPPORTED {
        let text = format!(r#"{{"type":"{kind}","payload":{{"any":1}},"id":"u"}}"#);
        let request = ok(&text);
        assert_eq!(request.message, ClientMessage::Unsupported);
        assert_eq!(request.id.as_deref(), Some("u"));
    }
    let ClientMessage::Dtmf(dtmf) =
        ok(r#"{"type":"dtmf","payload":{"callId":"c","digits":"1"}}"#).message
    else {
        panic!("not read as dtmf");
    };
    assert_eq!(dtmf.method, DigitMethod::Rfc4733);
}

#[test]
fn what_is_served_is_what_has_a_variant() {
    for kind in client::SERVED {
        let refused = refused(&format!(r#"{{"type":"{kind}","payload":1,"id":"i"}}"#));
        assert!(
            matches!(refused.error, JsonError::Malformed { .. }),
            "{kind}"
        );
        assert_eq!(refused.id.as_deref(), Some("i"));
    }
}

#[test]
fn types_are_strict() {
    let table = [
        ("", None),
        ("[]", None),
        ("{}", None),
        (r#"{"type":1}"#, None),
        (r#"{"type":"ping","id":7}"#, None),
        (
            r#"{"type":"ping","payload":{"ts":"now"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":1000,"password":"x"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":"1000","password":1},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":"1000"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":"","password":"x"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":"1","password":"x","expires":-1},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"register","payload":{"dn":"1","dn":"2","password":"x"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"call","payload":{"to":"1","callId":"a b","sdp":""},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"call","payload":{"to":"1","callId":"","sdp":""},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"call","payload":{"to":"1","callId":"a","sdp":"v=0\u0000"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"dtmf","payload":{"callId":"c","digits":"1;2"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"dtmf","payload":{"callId":"c","digits":"1","method":"morse"},"id":"a"}"#,
            Some("a"),
        ),
        (
            r#"{"type":"ringing","payload":{"callId":"c"},"id":"a\nb"}"#,
            None,
        ),
        (r#"{"type":"ringing","payload":{"callId":"c"}} {}"#, None),
    ];
    for (text, id) in table {
        let refused = refused(text);
        assert_eq!(refused.id.as_deref(), id, "{text}");
        assert_eq!(refused.error.code(), 400);
        assert!(
            !refused.to_string().contains("password"),
            "no value is repeated"
        );
    }
    assert_eq!(
        refused(r#"{"type":"frobnicate","id":"a"}"#).error,
        JsonError::Unknown
    );
    let long = format!(
        r#"{{"type":"ping","payload":{{"ts":1}},"id":"{}"}}"#,
        "x".repeat(65_536)
    );
    assert_eq!(refused(&long).error, JsonError::TooLong);
    let deep = format!(
        r#"{{"type":"stats","payload":{{"callId":"c","report":{}{}}}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    assert!(matches!(refused(&deep).error, JsonError::Malformed { .. }));
}

#[test]
fn a_password_is_not_printed() {
    let request = ok(r#"{"type":"register","payload":{"dn":"1","password":"hunter2"}}"#);
    assert!(!format!("{request:?}").contains("hunter2"));
}

#[test]
fn nothing_that_ends_a_line_comes_through() {
    for hostile in [
        "a\r\nVia: x",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\u{7f}b",
        "a\u{2028}b",
        "a\u{85}b",
    ] {
        let hostile = serde_json::to_string(hostile).expect("a text");
        for text in [
            format!(r#"{{"type":"register","payload":{{"dn":{hostile},"password":"x"}}}}"#),
            format!(
                r#"{{"type":"register","payload":{{"dn":"1","password":"x","displayName":{hostile}}}}}"#
            ),
            format!(
                r#"{{"type":"register","payload":{{"dn":"1","password":"x","instance":{hostile}}}}}"#
            ),
            format!(r#"{{"type":"call","payload":{{"to":{hostile},"callId":"c","sdp":"v=0"}}}}"#),
            format!(r#"{{"type":"call","payload":{{"to":"1","callId":{hostile},"sdp":"v=0"}}}}"#),
            format!(r#"{{"type":"settings","payload":{{"set":{{"busy":{hostile}}}}}}}"#),
            format!(r#"{{"type":"reject","payload":{{"callId":"c","reason":{hostile}}}}}"#),
            format!(
                r#"{{"type":"iceCandidate","payload":{{"callId":"c","candidate":{hostile}}}}}"#
            ),
        ] {
            refused(&text);
        }
    }
}

/// Everything in a message that may reach a header field, a log line or a store key.
fn texts(message: &ClientMessage) -> Vec<String> {
    match message {
        ClientMessage::Register(one) => {
            let mut texts = vec![one.dn.to_string()];
            texts.extend(one.display_name.iter().map(ToString::to_string));
            texts.extend(one.instance.iter().map(ToString::to_string));
            texts
        }
        ClientMessage::ResumeSession(one) => one.calls.iter().map(ToString::to_string).collect(),
        ClientMessage::Unregister(one) => vec![one.dn.to_string()],
        ClientMessage::Transfer(one) => {
            let to = one.to.as_ref().map(ToString::to_string);
            let with = one.with.as_ref().map(ToString::to_string);
            let named = [to, with, Some(one.call_id.to_string())];
            named.into_iter().flatten().collect()
        }
        ClientMessage::Settings(one) => one.set.iter().flat_map(numbers).collect(),
        ClientMessage::Call(one) => {
            let mut texts = vec![one.to.to_string(), one.call_id.to_string()];
            texts.extend(one.display_name.iter().map(ToString::to_string));
            texts
        }
        ClientMessage::Ringing(one)
        | ClientMessage::Cancel(one)
        | ClientMessage::IceComplete(one) => {
            vec![one.call_id.to_string()]
        }
        ClientMessage::Answer(one)
        | ClientMessage::Hold(one)
        | ClientMessage::Resume(one)
        | ClientMessage::Reanswer(one) => vec![one.call_id.to_string()],
        ClientMessage::Reject(one) => {
            let mut texts = vec![one.call_id.to_string()];
            texts.extend(one.reason.iter().map(ToString::to_string));
            texts
        }
        ClientMessage::Hangup(one) => {
            let mut texts = vec![one.call_id.to_string()];
            texts.extend(one.reason.iter().map(ToString::to_string));
            texts
        }
        ClientMessage::Reoffer(one) => vec![one.call_id.to_string()],
        ClientMessage::IceCandidate(one) => {
            vec![one.call_id.to_string(), one.candidate.to_string()]
        }
        ClientMessage::Dtmf(one) => vec![one.call_id.to_string(), one.digits.to_string()],
        ClientMessage::Stats(one) => vec![one.call_id.to_string()],
        ClientMessage::Info(_)
        | ClientMessage::Ping(_)
        | ClientMessage::Ack(_)
        | ClientMessage::Unsupported => Vec::new(),
    }
}

fn numbers(set: &CallSettings) -> Vec<String> {
    let all = [&set.always, &set.busy, &set.no_answer, &set.unreachable];
    all.into_iter().flatten().map(ToString::to_string).collect()
}

/// Reads whatever it is; if it is a message, nothing in it ends a line.
fn survives(frame: &[u8]) -> bool {
    let Ok(request) = read(frame) else {
        return false;
    };
    for text in texts(&request.message).into_iter().chain(request.id) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    true
}

#[test]
fn hostile_data_is_survived() {
    let root = std::env::var("WEFT_DATA").map_or_else(
        |_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        std::path::PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(root.join("injection-own")) else {
        println!("no data: 0 cases");
        return;
    };
    let (mut cases, mut read) = (0, 0);
    for entry in entries.flatten() {
        let Ok(octets) = std::fs::read(entry.path()) else {
            continue;
        };
        let hostile = serde_json::to_string(&String::from_utf8_lossy(&octets)).expect("a text");
        read += usize::from(survives(&octets));
        for text in [
            format!(
                r#"{{"type":"register","payload":{{"dn":{hostile},"password":{hostile}}},"id":{hostile}}}"#
            ),
            format!(
                r#"{{"type":"register","payload":{{"dn":"1","password":"x","displayName":{hostile},"instance":{hostile}}}}}"#
            ),
            format!(
                r#"{{"type":"register","payload":{{"dn":"1","password":"x","displayName":{hostile}}}}}"#
            ),
            format!(
                r#"{{"type":"call","payload":{{"to":{hostile},"callId":"c","sdp":{hostile}}}}}"#
            ),
            format!(
                r#"{{"type":"call","payload":{{"to":"1","callId":{hostile},"sdp":{hostile}}}}}"#
            ),
            format!(r#"{{"type":"hangup","payload":{{"callId":"c","reason":{hostile}}}}}"#),
            format!(r#"{{"type":"dtmf","payload":{{"callId":"c","digits":{hostile}}}}}"#),
            format!(r#"{{"type":{hostile},"payload":{{"callId":"c"}}}}"#),
        ] {
            cases += 1;
            read += usize::from(survives(text.as_bytes()));
        }
    }
    println!("{cases} cases, {read} read");
    assert!(cases > 0, "the folder is there, so it has data");
}

#[test]
fn a_frame_of_ours_has_type_payload_id_and_seq() {
    let message = ServerMessage::Hangup {
        call_id: "c".to_owned(),
        cause: "NORMAL_CLEARING".to_owned(),
        code: 480,
    };
    let frame = Outbound {
        message: &message,
        id: Some("srv-9"),
        seq: Some(3),
    };
    assert_eq!(
        frame.write(),
        r#"{"type":"hangup","payload":{"callId":"c","cause":"NORMAL_CLEARING","code":480},"id":"srv-9","seq":3}"#
    );
    let message = ServerMessage::Error {
        code: 491,
        message: "later".to_owned(),
        reference: Some("m".to_owned()),
    };
    let frame = Outbound {
        message: &message,
        id: None,
        seq: None,
    };
    assert_eq!(
        frame.write(),
        r#"{"type":"error","payload":{"code":491,"message":"later","ref":"m"}}"#
    );
    let message = ServerMessage::Expiring {
        dn: "1000@example.org".to_owned(),
        in_s: 60,
    };
    let text = serde_json::to_string(&message).expect("JSON");
    assert_eq!(
        text,
        r#"{"type":"expiring","payload":{"dn":"1000@example.org","in":60}}"#
    );
    assert_eq!(
        serde_json::from_str::<ServerMessage>(&text).expect("read back"),
        message
    );
}

#[test]
fn registered_has_the_fields_of_the_contract() {
    let message = ServerMessage::Registered {
        dn: "5001@example.org".to_owned(),
        expires: 3_600,
        server: "192.168.210.54".to_owned(),
        session_token: "t".to_owned(),
        ice_servers: Vec::new(),
        resumed: false,
        calls: None,
    };
    let frame = Outbound {
        message: &message,
        id: Some("msg-1"),
        seq: None,
    };
    assert_eq!(
        frame.write(),
        r#"{"type":"registered","payload":{"dn":"5001@example.org","expires":3600,"server":"192.168.210.54","sessionToken":"t","iceServers":[],"resumed":false},"id":"msg-1"}"#
    );
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..512)) {
        survives(&octets);
    }

    #[test]
    fn any_payload_is_survived(kind in 0..client::SERVED.len(), name in "\\PC{0,16}|[ -~\r\n\0]{0,16}", text in any::<String>(), number in any::<i64>()) {
        let field = |value: &str| serde_json::to_string(value).expect("a text");
        let (name, text, kind) = (field(&name), field(&text), client::SERVED[kind]);
        let frame = format!(
            r#"{{"type":"{kind}","payload":{{"callId":{name},"dn":{text},"to":{text},"password":{text},"sdp":{text},"candidate":{text},"digits":{text},"reason":{text},"displayName":{text},"instance":{name},"token":{text},"expires":{number},"code":{number},"duration":{number},"ts":{number},"query":{name},"calls":[{name}],"report":{text}}},"id":{name}}}"#
        );
        survives(frame.as_bytes());
    }

    #[test]
    fn whatever_we_say_is_one_line(text in any::<String>()) {
        let message = ServerMessage::Incoming {
            call_id: text.clone(),
            from: text.clone(),
            display_name: text.clone(),
            to: text.clone(),
            sdp: text.clone(),
            headers: std::collections::BTreeMap::from([(text.clone(), text.clone())]),
        };
        let frame = Outbound { message: &message, id: Some(&text), seq: Some(1) }.write();
        prop_assert!(!frame.contains(['\r', '\n', '\0']));
        let value: serde_json::Value = serde_json::from_str(&frame).expect("JSON");
        prop_assert_eq!(value["payload"]["displayName"].as_str(), Some(text.as_str()));
    }
}
