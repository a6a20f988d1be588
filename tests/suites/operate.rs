//! What an operator does with a node: looks at it, stops things, makes mistakes.

#![allow(clippy::disallowed_methods, reason = "a start is timed, and printed")]

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use weft_tests::http;
use weft_tests::node::{Node, program};
use weft_tests::phone::{Phone, ack_refusal};
use weft_tests::ports::free_port;
use weft_tests::wait::{self, PATIENCE};

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_command_line_lists_inspects_traces_and_stops() {
    let node = Node::start("");
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let calling = alice.call("1001", 40_000);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    let bob_side = bob.answer(&invite, 40_002);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("200");
    let alice_side = alice.established(&calling, &answer);

    let calls = node.actors("call");
    assert_eq!(calls.len(), 1, "{calls:?}");
    let id = calls[0]["id"].as_str().expect("an ID").to_owned();
    for (kind, rows) in [
        ("dialog", 2),
        ("media_leg", 2),
        ("registration", 1),
        ("console", 1),
    ] {
        let listed = node.cli(&["actors", "--kind", kind]);
        assert!(listed.status.success(), "{}", text(&listed));
        assert_eq!(
            text(&listed).matches(&format!("{kind}:")).count(),
            rows,
            "{}",
            text(&listed)
        );
    }
    let inspected = node.cli(&["inspect", &id]);
    assert!(text(&inspected).contains("dialog:"), "{}", text(&inspected));
    let traced = text(&node.cli(&["trace", &id]));
    for word in ["INVITE", "180", "200", "ACK"] {
        assert!(traced.contains(word), "no {word} in the ladder:\n{traced}");
    }
    let nodes = text(&node.cli(&["nodes"]));
    assert!(nodes.contains("up"), "{nodes}");

    let stopped = node.cli(&["stop", &id]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert!(alice.serve(&alice_side, "BYE", None, PATIENCE).is_some());
    assert!(bob.serve(&bob_side, "BYE", None, PATIENCE).is_some());

    let call = id.trim_start_matches("call:");
    let log = node.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(call)).collect();
    assert!(lines.len() >= 3, "one grep tells the call: {lines:?}");
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        for field in ["node", "epoch", "actor", "call"] {
            assert!(line.get(field).is_some(), "no {field} in {line}");
        }
    }
}

#[test]
fn passive_registrations_are_listed_and_inspected() {
    let node = Node::start("");
    let mut phone = Phone::new(node.sip, "1000");
    assert_eq!(phone.register(300).status(), 200);
    wait::until("the registration to passivate", PATIENCE, || {
        let rows = node.actors("registration");
        (rows.len() == 1 && rows[0]["live"] == false).then_some(())
    });
    let inspected = node.cli(&["inspect", "registration:1000@weft.test"]);
    assert!(text(&inspected).contains("1000"), "{}", text(&inspected));
    assert!(
        !text(&inspected).contains("weft-1000"),
        "a password is printed"
    );
}

#[test]
fn acting_needs_the_token_and_foreign_origins_are_refused() {
    let node = Node::start("");
    let path = "/api/v1/actors/registration:1000@weft.test/stop";
    let ask = |headers: &[&str]| http::ask(node.http, "POST", path, headers).expect("an answer");
    assert_eq!(ask(&[]).status, 401);
    assert_eq!(ask(&["Authorization: Bearer wrong"]).status, 401);
    let bearer = format!("Authorization: Bearer {}", node.token());
    let absent = ask(&[&bearer]);
    assert_eq!(absent.status, 404, "{}", absent.body);
    assert!(
        absent
            .head
            .to_ascii_lowercase()
            .contains("application/problem+json")
    );
    assert_eq!(ask(&[&bearer, "Origin: https://evil.example"]).status, 403);
    let health = http::ask(node.http, "GET", "/healthz", &[]).expect("an answer");
    assert_eq!(health.status, 200);
    let metrics = http::ask(node.http, "GET", "/metrics", &[]).expect("an answer");
    assert!(
        metrics.body.contains("weft_calls_active"),
        "{}",
        metrics.body
    );
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .output()
        .expect("the program runs")
}

#[test]
fn wrong_input_ends_the_start_and_is_named() {
    let folder = std::env::temp_dir().join(format!("weft-operate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("bad.toml");
    let cases = [
        ("[node]\nnam = \"a\"\n", "nam"),
        ("[media]\nrtp_ports = \"9-5\"\n", "rtp_ports"),
        ("[limits]\nring_timeout_s = 0\n", "ring_timeout_s"),
        ("[limits]\npark_timeout_s = 4\n", "park_timeout_s"),
        ("[[profile]]\nname = \"internal\"\nudp = [\"x:y\"]\n", "udp"),
        (
            "[[route]]\nname = \"r\"\nmatch = { destination = \"(\" }\ndo = [{ echo = true }]\n",
            "r",
        ),
    ];
    for (config, key) in cases {
        std::fs::write(&file, config).expect("a file");
        let output = run(&["check", "--config", file.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{config}: {}", text(&output));
        assert!(text(&output).contains(key), "{config}: {}", text(&output));
        assert!(
            text(&output).contains("bad.toml"),
            "{config}: {}",
            text(&output)
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_port_in_use_and_a_folder_that_cannot_be_written_end_the_start() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = std::env::temp_dir().join(format!("weft-refused-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("weft.toml");
    let config = |data: &str, udp: &str| {
        format!(
            "[node]\ndata = \"{data}\"\n[http]\nlisten = [\"127.0.0.1:{}\"]\n[[profile]]\n\
             name = \"internal\"\nudp = [\"{udp}\"]\n[[domain]]\nname = \"weft.test\"\n",
            free_port()
        )
    };
    let data = folder.join("data");
    std::fs::write(&file, config(&data.display().to_string(), &address)).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let output = run(&["run", "--config", path]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains(&address), "{}", text(&output));
    // A file where the folder should be: also root cannot write there.
    let blocked = folder.join("blocked");
    std::fs::write(&blocked, "x").expect("a file");
    std::fs::write(&file, config(&blocked.display().to_string(), "127.0.0.1:0")).expect("a file");
    let output = run(&["run", "--config", path]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("data"), "{}", text(&output));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_node_is_ready_soon_and_leaves_politely() {
    let mut node = Node::start("");
    node.kill();
    let start = Instant::now();
    node.start_again();
    node.wait_ready();
    println!("start to ready: {:?}", start.elapsed());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

fn options(phone: &Phone, number: &str) -> String {
    format!(
        "OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKo{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1000@weft.test>;tag=o\r\nTo: <sip:weft.test>\r\n\
         Call-ID: options{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        phone.address()
    )
}

#[test]
fn requests_without_credentials_are_answered_as_the_policy_says() {
    let node = Node::start("");
    let methods = [
        ("REGISTER", 401),
        ("INVITE", 407),
        ("MESSAGE", 407),
        ("SUBSCRIBE", 407),
        ("REFER", 407),
        ("PUBLISH", 407),
        ("INFO", 407),
        ("NOTIFY", 407),
        ("UPDATE", 407),
        ("PRACK", 407),
        ("BYE", 481),
        ("OPTIONS", 200),
        ("FROBNICATE", 407),
        ("invite", 407),
    ];
    let mut phone = Phone::new(node.sip, "1000");
    for (at, (method, status)) in methods.iter().enumerate() {
        let to = if *method == "BYE" { ";tag=none" } else { "" };
        let request = format!(
            "{method} sip:1001@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKp{at};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1000@weft.test>;tag=p{at}\r\nTo: <sip:1001@weft.test>{to}\r\n\
             Call-ID: policy{at}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n",
            phone.address()
        );
        let answer = phone.exchange(&request, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), *status, "{method}: {answer:?}");
        if *method == "INVITE" {
            phone.send(&ack_refusal(&request, &answer));
        }
    }
    for method in ["ACK", "CANCEL"] {
        let request = format!(
            "{method} sip:1001@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKq{method};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1000@weft.test>;tag=q\r\nTo: <sip:1001@weft.test>\r\n\
             Call-ID: policy{method}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n",
            phone.address()
        );
        phone.send(&request);
        // Whatever was said to it comes before the answer to what is sent next.
        let next = phone.exchange(&options(&phone, method), PATIENCE);
        assert_eq!(next.map(|answer| answer.status()), Some(200));
        let call_id = format!("policy{method}");
        let answer = phone.take(Duration::ZERO, |message| {
            message.header("Call-ID") == Some(&call_id)
        });
        assert!(
            answer.is_none() || answer.as_ref().is_some_and(|a| a.status() == 481),
            "{method}: {answer:?}"
        );
    }
    // An actor that was asked and has nothing to keep leaves in a moment; the store kept nothing.
    wait::until("nothing to be left", PATIENCE, || {
        let left = [node.actors("call"), node.actors("registration")].concat();
        left.is_empty().then_some(())
    });
}
