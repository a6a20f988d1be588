//! Kamailio as a second client side: a record-routing proxy in front of us, phones behind it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weft_tests::node::Node;
use weft_tests::ports::free_port;
use weft_tests::sipp::{self, Sipp};
use weft_tests::wait::{self, PATIENCE};
use weft_tests::{lacks, root, signal};

struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(node: &Node) -> Proxy {
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let text = fs::read_to_string(root().join("tests/suites/kamailio/front.cfg"))
            .expect("a configuration")
            .replace("@LISTEN@", &address.to_string())
            .replace("@WEFT_PORT@", &node.sip.port().to_string())
            .replace("@WEFT@", &node.sip.to_string());
        let file = node.folder.join("kamailio.cfg");
        fs::write(&file, text).expect("a file");
        let log = fs::File::create(node.folder.join("kamailio.log")).expect("a file");
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
            .arg(&node.folder)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("kamailio is installed by tests/run");
        let proxy = Proxy { child, address };
        wait::until("kamailio to relay", PATIENCE, || {
            let probe = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
            probe
                .set_read_timeout(Some(Duration::from_millis(200)))
                .ok()?;
            let local = probe.local_addr().ok()?;
            let text = format!(
                "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKk{}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:k@k>;tag=k\r\nTo: <sip:k@k>\r\nCall-ID: k{}\r\n\
                 CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
                local.port(),
                local.port()
            );
            probe.send_to(text.as_bytes(), address).ok()?;
            let mut octets = [0; 2048];
            let (count, _) = probe.recv_from(&mut octets).ok()?;
            octets[..count].starts_with(b"SIP/2.0 200").then_some(())
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        signal(&self.child, "TERM");
        let _ = self.child.wait();
    }
}

#[test]
fn phones_behind_a_record_routing_proxy_register_and_call() {
    if lacks(&["kamailio", "sipp"]) {
        return;
    }
    let node = Node::start("");
    let proxy = Proxy::start(&node);
    let callee = sipp::callee(proxy.address, "answer.xml");
    assert_eq!(node.actors("registration").len(), 1);
    let ended = Sipp::new("call.xml", proxy.address)
        .key("called", "1001")
        .lines(&["1000;[authentication username=1000 password=weft-1000];".to_owned()])
        .calls(1, 1)
        .run();
    ended.must_succeed();
    assert!(
        ended.messages.contains("Record-Route"),
        "the proxy stays in the path"
    );
    callee.wait().must_succeed();
    node.no_calls_left();
}
