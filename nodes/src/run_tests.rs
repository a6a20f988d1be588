//! A whole node on the operating system's sockets and disk.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::console::{Page, Request};
use actors::{AnyCore, Message, Site};
use contract::{Kind, Roster};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Ground, banner, environment, equipped, listen, node_parts, start_failure};
use crate::cli::{EXIT_INPUT, Failure};
use crate::config::{HttpPlan, Interfaces, Loaded, Sources, load};
use crate::doors::{ConsoleDoor, HttpParts, Tickets, serve};
use crate::env_os::{Clock, pause};
use crate::node::Node;

pub(crate) const WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn loaded(folder: &Path, extra: &str) -> Loaded {
    loaded_with(folder, extra, &[])
}

pub(crate) fn loaded_with(folder: &Path, extra: &str, sets: &[&str]) -> Loaded {
    let text = format!(
        "[node]\nname = \"t-7\"\ndata = {:?}\n[http]\nlisten = []\ntls = []\n\
         [media]\nworkers = 1\nrtp_ports = \"39000-39099\"\n\
         [[profile]]\nname = \"internal\"\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n\
         tls = []\nws = []\nwss = []\nauth = \"none\"\n\
         [[profile]]\nname = \"walled\"\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n\
         auth = \"none\"\nacl = [\"192.0.2.0/24\"]\n\
         [[domain]]\nname = \"weft.test\"\n[[user]]\nname = \"1000\"\npassword = \"p\"\n{extra}",
        folder.join("data")
    );
    let file = folder.join("weft.toml");
    std::fs::write(&file, text).expect("written");
    let sources = Sources {
        files: vec![file],
        demo: false,
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
    };
    load(&sources, &Interfaces::read()).expect("loads")
}

pub(crate) struct Running<R: Roster = AnyCore> {
    pub(crate) node: Arc<Node<R>>,
    tickets: Arc<Tickets>,
    ground: Ground,
    pub(crate) runtime: Runtime,
    pub(crate) loaded: Loaded,
}

pub(crate) fn start(loaded: Loaded) -> Result<Running, Failure> {
    start_as(loaded)
}

/// Starts a node of other cores.
pub(crate) fn start_as<R>(loaded: Loaded) -> Result<Running<R>, Failure>
where
    R: Roster<Message = Message, Site = Site>,
{
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let ground = Ground::prepare(&loaded, clock, 2, &runtime)?;
    let tickets = Arc::new(Tickets::default());
    let inside = runtime.enter();
    let http = listen(&loaded)?;
    drop(inside);
    let env = environment(&loaded, &ground, &runtime, clock, &http)?;
    let parts = node_parts(&loaded, &ground, Arc::clone(&env), tickets.clone());
    let node = runtime
        .block_on(Node::<R>::start(parts))
        .map_err(|error| start_failure(&loaded, &error))?;
    let doors = HttpParts::new(
        node.clone(),
        tickets.clone(),
        node.clone(),
        ground.token.clone(),
    );
    let doors = Arc::new(doors);
    for listener in equipped(&loaded, &ground, &env, http) {
        serve(runtime.handle(), listener, Arc::clone(&doors));
    }
    drop(env);
    Ok(Running {
        node,
        tickets,
        ground,
        runtime,
        loaded,
    })
}

impl<R> Running<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    pub(crate) fn ask(&self, request: Request) -> Value {
        let mut ticket = self.tickets.open().expect("a ticket");
        assert!(self.node.ask(ticket.number, request));
        let reply = self
            .runtime
            .block_on(async { ticket.wait().await })
            .expect("an answer");
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// Waits for a state, and not for ever.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            self.runtime.block_on(pause(WAIT / 1_000));
        }
        panic!("not in time: {what}");
    }

    pub(crate) fn ground_boot(&self) -> u64 {
        self.ground.me.boot.0
    }

    pub(crate) fn stop(self) {
        self.runtime
            .block_on(self.node.drain(Duration::from_secs(1)));
        drop(self.node);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        // Nobody else holds the store: dropping it writes what is queued and frees the folder.
        assert_eq!(Arc::strong_count(&self.ground.store), 1);
        drop(self.ground);
    }
}

fn register(transport: &str, from: SocketAddr, number: u32) -> String {
    format!(
        "REGISTER sip:weft.test SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {from};branch=z9hG4bKt{transport}{number};rport\r\n\
         From: <sip:1000@weft.test>;tag=f{number}\r\nTo: <sip:1000@weft.test>\r\n\
         Call-ID: {transport}-{number}\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n\
         Contact: <sip:1000@{from};transport={}>\r\nContent-Length: 0\r\n\r\n",
        transport.to_ascii_lowercase()
    )
}

fn over_udp(server: SocketAddr, wait: Duration) -> Option<String> {
    let phone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    phone.set_read_timeout(Some(wait)).expect("set");
    let request = register("UDP", phone.local_addr().expect("bound"), 1);
    phone.send_to(request.as_bytes(), server).expect("sent");
    let mut buffer = [0; 4_096];
    let (length, from) = phone.recv_from(&mut buffer).ok()?;
    assert_eq!(from, server);
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn over_tcp(server: SocketAddr) -> String {
    let mut phone = TcpStream::connect(server).expect("connected");
    phone.set_read_timeout(Some(WAIT)).expect("set");
    let request = register("TCP", phone.local_addr().expect("bound"), 2);
    let (first, second) = request.split_at(request.len() / 2);
    // A listener that lets nobody in closes at once: the answer is then empty.
    let _ = phone.write_all(first.as_bytes());
    let _ = phone.write_all(second.as_bytes());
    let mut text = Vec::new();
    let mut buffer = [0; 1_024];
    while !text.ends_with(b"\r\n\r\n") {
        match phone.read(&mut buffer) {
            Ok(length) if length > 0 => text.extend_from_slice(&buffer[..length]),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_node_registers_over_udp_and_tcp_answers_its_console_and_remembers() {
    let folder = Folder::new("node");
    let running = start(loaded(&folder.0, "")).expect("starts");
    let [udp, tcp, walled_udp, walled_tcp] = *running.node.listeners() else {
        panic!("four listeners")
    };
    assert!(udp.port() != 0 && tcp.port() != 0);
    let answer = over_udp(udp, WAIT).expect("an answer");
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let answer = over_tcp(tcp);
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    // Behind the wall nobody is heard: a datagram gets no answer, a connection no octet.
    assert_eq!(over_udp(walled_udp, Duration::from_millis(300)), None);
    assert_eq!(over_tcp(walled_tcp), "");
    let nodes = running.ask(Request::Nodes);
    assert_eq!(nodes["items"][0]["id"], 7);
    assert_eq!(
        nodes["items"][0]["listeners"].as_array().map(Vec::len),
        Some(4)
    );
    let page = Page {
        offset: 0,
        limit: 10,
    };
    let kind = Some(Kind::Registration);
    let actors = running.ask(Request::Actors {
        kind,
        node: None,
        contains: None,
        page,
    });
    assert_eq!(actors["items"][0]["id"], "registration:1000@weft.test");
    let user = running.ask(Request::User {
        dn: "1000".to_owned(),
    });
    assert_eq!(user["bindings"].as_array().map(Vec::len), Some(2), "{user}");
    let shown = banner(&running.loaded, running.node.listeners(), running.ground.me);
    assert!(
        shown.contains(&format!("udp {udp}")) && !shown.contains("demo"),
        "{shown}"
    );
    let first = running.ground.me;
    running.stop();
    let again = start(loaded(&folder.0, "")).expect("starts again");
    assert!(again.ground.me.boot > first.boot);
    let user = again.ask(Request::User {
        dn: "1000".to_owned(),
    });
    assert_eq!(user["registered"], true, "{user}");
    again.stop();
}

#[test]
fn a_node_that_cannot_start_names_file_key_and_value() {
    let folder = Folder::new("refused");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address))
        .expect("bound");
    let extra = format!("[[profile]]\nname = \"second\"\nudp = [\"{}\"]\n", taken.1);
    let failure = start(loaded(&folder.0, &extra))
        .err()
        .expect("the port is in use");
    assert_eq!(failure.code, EXIT_INPUT);
    for part in [
        "weft.toml",
        "profile.second.udp",
        &taken.1.to_string(),
        "in use",
    ] {
        assert!(failure.text.contains(part), "{part}: {}", failure.text);
    }
    let running = start(loaded(&folder.0, "")).expect("starts");
    let failure = start(loaded(&folder.0, ""))
        .err()
        .expect("the folder is in use");
    assert_eq!(failure.code, EXIT_INPUT);
    assert!(failure.text.contains("node.data"), "{}", failure.text);
    running.stop();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = busy.local_addr().expect("bound");
    let mut with_http = loaded(&folder.0, "");
    with_http.plan.http = vec![HttpPlan {
        local: address,
        is_tls: true,
        listener: 0,
        key: "http.tls",
    }];
    let runtime = Runtime::new().expect("runtime");
    let _inside = runtime.enter();
    let failure = listen(&with_http).expect_err("the port is in use");
    assert!(failure.text.contains("http.tls"), "{}", failure.text);
}
