//! What must not end a node: published torture messages and generated attacks on every transport,
//! floods of connections, a full disk.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use weft_tests::node::{Node, Setup};
use weft_tests::phone::{Message, Phone};
use weft_tests::root;
use weft_tests::wait::{self, PATIENCE};

/// Folder of the public test data, if it is there.
fn data() -> Option<PathBuf> {
    let named = std::env::var_os("WEFT_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared/data"));
    folder.is_dir().then_some(folder)
}

/// Every SIP input: whole files, and the generated cases.
fn cases() -> Vec<Vec<u8>> {
    let Some(folder) = data() else {
        return Vec::new();
    };
    let mut cases = Vec::new();
    for name in [
        "sip-rfc4475",
        "sip-rfc5118",
        "sip-jsip-torture",
        "sip-seeds",
    ] {
        let Ok(entries) = fs::read_dir(folder.join(name)) else {
            continue;
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.retain(|path| !path.ends_with("MANIFEST.jsonl"));
        cases.extend(paths.iter().filter_map(|path| fs::read(path).ok()));
    }
    if let Ok(packed) = fs::read(folder.join("sip-protos-style/cases.jsonl.gz")) {
        let mut text = String::new();
        let mut reader = flate2::read::GzDecoder::new(packed.as_slice());
        reader
            .read_to_string(&mut text)
            .expect("the generated cases");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a case");
            let octets = line.as_object().and_then(|fields| {
                let mut texts = fields.values().filter_map(|value| value.as_str());
                texts.find_map(|text| {
                    let decoded = base64::engine::general_purpose::STANDARD
                        .decode(text)
                        .ok()?;
                    (decoded.len() > 40).then_some(decoded)
                })
            });
            cases.extend(octets);
        }
    }
    cases
}

/// The next valid OPTIONS is answered.
fn answers(node: &Node, phone: &mut Phone, number: usize) {
    let text = format!(
        "OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKh{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:h@weft.test>;tag=h\r\nTo: <sip:weft.test>\r\n\
         Call-ID: hostile{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        phone.address()
    );
    let answer = phone.exchange(&text, PATIENCE);
    let log = node.folder.join("log");
    assert_eq!(
        answer.map(|a| a.status()),
        Some(200),
        "after case {number}, see {}",
        log.display()
    );
}

#[test]
fn torture_messages_over_udp_are_survived() {
    let node = Node::start("");
    let mut phone = Phone::new(node.sip, "1000");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        let _ = socket.send_to(&case[..case.len().min(65_000)], node.sip);
        if number % 50 == 0 {
            answers(&node, &mut phone, number);
        }
    }
    answers(&node, &mut phone, cases.len());
    node.must_be_unharmed();
    println!("{} cases over UDP", cases.len());
}

#[test]
fn torture_messages_over_tcp_are_survived() {
    let node = Node::start("");
    let mut phone = Phone::new(node.sip, "1000");
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        let mut stream = TcpStream::connect(node.sip).expect("a connection");
        // A connection that is refused for what came before is what we want to see survived.
        let _ = stream.write_all(case);
        if number % 50 == 0 {
            answers(&node, &mut phone, number);
        }
    }
    answers(&node, &mut phone, cases.len());
    node.must_be_unharmed();
    println!("{} cases over TCP", cases.len());
}

#[test]
fn a_started_message_must_end_and_broken_framing_is_answered_with_400() {
    let node = Node::start("");
    let mut broken = TcpStream::connect(node.sip).expect("a connection");
    broken
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    broken
        .write_all(
            b"OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKb\r\n\
              From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: b\r\nCSeq: 1 OPTIONS\r\n\
              Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
        )
        .expect("written");
    let mut text = Vec::new();
    let _ = broken.read_to_end(&mut text);
    assert_eq!(
        Message::read(&text).status(),
        400,
        "{}",
        String::from_utf8_lossy(&text)
    );
    let mut slow = TcpStream::connect(node.sip).expect("a connection");
    slow.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    slow.write_all(b"OPTIONS sip:weft.test SIP/2.0\r\n")
        .expect("written");
    let mut octets = [0; 64];
    // The far end closes; nothing is said to half a message.
    assert!(matches!(slow.read(&mut octets), Ok(0) | Err(_)));
}

#[test]
fn calls_and_registrations_work_over_ipv6() {
    let port = weft_tests::ports::free_port();
    let address: SocketAddr = format!("[::1]:{port}").parse().expect("an address");
    let node = Node::start(&format!(
        "[[profile]]\nname = \"six\"\nudp = [\"{address}\"]\ntcp = [\"{address}\"]\nauth = \"digest\"\n"
    ));
    let socket = UdpSocket::bind("[::1]:0").expect("IPv6 on the loopback");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let local = socket.local_addr().expect("bound");
    let text = format!(
        "REGISTER sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKsix;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1000@weft.test>;tag=6\r\nTo: <sip:1000@weft.test>\r\n\
         Call-ID: six\r\nCSeq: 1 REGISTER\r\nContact: <sip:1000@{local}>\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(text.as_bytes(), address).expect("sent");
    let mut octets = [0; 4096];
    let (count, from) = socket.recv_from(&mut octets).expect("an answer");
    assert_eq!(
        (Message::read(&octets[..count]).status(), from),
        (401, address)
    );
    drop(node);
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let mount = std::env::temp_dir().join(format!("weft-disk-{}", std::process::id()));
    fs::create_dir_all(&mount).expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=600m", "tmpfs"])
        .arg(&mount)
        .status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "a small disk needs root"
    );
    let data = mount.join("data");
    let node = Node::set_up(&Setup {
        data: Some(&data),
        ..Setup::default()
    });
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(alice.register(600).status(), 200);
    assert_eq!(bob.register(600).status(), 200);
    let filler = mount.join("filler");
    Command::new("fallocate")
        .args(["-l", "330m"])
        .arg(&filler)
        .status()
        .expect("fallocate");
    let says = |word: &str| node.get("/api/v1/nodes").to_string().contains(word);
    wait::until("the node to see it", PATIENCE, || {
        says("low on disk").then_some(())
    });
    let refusal = Phone::new(node.sip, "1002").register(600);
    assert_eq!(refusal.status(), 503, "{refusal:?}");
    assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    let text = format!(
        "INVITE sip:1001@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKfull;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1000@weft.test>;tag=f\r\nTo: <sip:1001@weft.test>\r\n\
         Call-ID: full\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
        alice.address()
    );
    let refusal = alice.exchange(&text, PATIENCE).expect("an answer");
    assert_eq!(refusal.status(), 503, "{refusal:?}");
    assert_eq!(alice.register(700).status(), 200, "a renewal is kept");
    fs::remove_file(&filler).expect("the filler goes");
    wait::until("the node to see it", PATIENCE, || {
        says("\"up\"").then_some(())
    });
    assert_eq!(Phone::new(node.sip, "1002").register(600).status(), 200);
    drop(node);
    let _ = Command::new("umount").arg(&mount).status();
    let _ = fs::remove_dir(&mount);
}
