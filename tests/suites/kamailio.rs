//! Kamailio as a second client side: a record-routing proxy in front of us, phones behind it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weft_tests::is_left_out;
use weft_tests::node::{Node, free_port};
use weft_tests::root;
use weft_tests::sipp::Sipp;
use weft_tests::wait;

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
        wait::until("kamailio to relay", Duration::from_secs(20), || {
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
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

#[test]
fn phones_behind_a_record_routing_proxy_register_and_call() {
    if is_left_out("kamailio") {
        println!("left out: kamailio");
        return;
    }
    let node = Node::start("");
    let proxy = Proxy::start(&node);
    let callee = Sipp::new("answer.xml", proxy.address).args(&["-m", "1", "-rtp_echo"]);
    let contact = format!("@[local_ip]:{}", callee.port);
    let register = ["1001;[authentication username=1001 password=weft-1001];300;".to_owned()];
    Sipp::with(
        "register.xml",
        proxy.address,
        &[("@[local_ip]:[local_port]", &contact)],
    )
    .lines(&register)
    .calls(1, 1)
    .run()
    .must_succeed();
    assert_eq!(node.actors("registration").len(), 1);
    let callee = callee.start();
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
    wait::until("the call to end", Duration::from_secs(10), || {
        node.actors("call").is_empty().then_some(())
    });
}
