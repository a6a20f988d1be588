//! Certificates on disk and on the wire.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use contract::{CloseCode, Door, FlowRef, ListenerId, NodeId, StreamKind};
use futures_util::SinkExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

use super::super::tests::{Recorder, Seen, WAIT, runtime};
use super::super::{Network, Streams};
use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-tls-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn plan(&self, name: &str) -> TlsPlan {
        TlsPlan {
            certificate: self.0.join(name).join("certificate.pem"),
            key: self.0.join(name).join("key.pem"),
            is_self_made: true,
            authorities: None,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names() -> Vec<String> {
    ["localhost", "127.0.0.1", "Weft.local", "weft-1"]
        .map(str::to_owned)
        .to_vec()
}

struct World {
    runtime: Runtime,
    network: Arc<Network>,
    sink: Arc<Recorder>,
    seen: Receiver<Seen>,
}

impl World {
    fn new(certificates: &Arc<Certificates>, authorities: Option<&Path>) -> Self {
        let runtime = runtime();
        let streams = Streams {
            acceptor: Some(certificates.acceptor()),
            connector: Some(connector(authorities).expect("a connector")),
            ..Streams::default()
        };
        let network = Arc::new(Network::new(runtime.handle().clone(), streams));
        let (sink, seen) = Recorder::new();
        World {
            runtime,
            network,
            sink,
            seen,
        }
    }

    fn bind(&self, number: u16, kind: StreamKind) -> std::net::SocketAddr {
        let local = "127.0.0.1:0".parse().expect("an address");
        self.network
            .bind_stream(ListenerId(number), local, kind, self.sink.clone())
            .expect("bound")
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(WAIT * 2).expect("something")
    }
}

/// Shakes hands as a client and returns the stream.
async fn client(
    bound: std::net::SocketAddr,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(bound)
        .await
        .expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = connector(None).expect("a connector");
    connector.connect(name, stream).await.expect("hands shaken")
}

async fn shown(bound: std::net::SocketAddr) -> Vec<u8> {
    let stream = client(bound).await;
    let chain = stream.get_ref().1.peer_certificates().expect("shown");
    chain[0].to_vec()
}

#[test]
fn the_first_start_makes_a_certificate_and_later_ones_keep_it() {
    let folder = Folder::new("made");
    let plan = folder.plan("own");
    Certificates::open(&plan, &names()).expect("made");
    let mode = fs::metadata(&plan.key).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(&plan.certificate).expect("there");
    Certificates::open(&plan, &["other".to_owned()]).expect("read");
    assert_eq!(fs::read(&plan.certificate).expect("there"), before);
    // Its names are in it, addresses as addresses: a client that checks takes it for one of them.
    let roots = certificates(&plan.certificate).expect("read");
    let mut store = RootCertStore::empty();
    store.add(roots[0].clone()).expect("added");
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .expect("a verifier");
    for (name, is_in) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("weft.local", true),
        ("weft-1", true),
        ("evil.example", false),
        ("127.0.0.2", false),
    ] {
        let name = ServerName::try_from(name).expect("a name");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let verified = verifier.verify_server_cert(&roots[0], &[], &name, &[], at);
        assert_eq!(verified.is_ok(), is_in, "{name:?}: {verified:?}");
    }
}

#[test]
fn a_wrong_file_is_named_with_its_key() {
    let folder = Folder::new("wrong");
    let (one, two) = (folder.plan("one"), folder.plan("two"));
    Certificates::open(&one, &names()).expect("made");
    Certificates::open(&two, &names()).expect("made");
    let absent = folder.0.join("absent.pem");
    let junk = folder.0.join("junk.pem");
    fs::write(&junk, "junk").expect("written");
    fs::set_permissions(&junk, fs::Permissions::from_mode(0o600)).expect("set");
    let open = folder.0.join("open.pem");
    fs::copy(&one.key, &open).expect("copied");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("set");
    let table = [
        (&absent, &one.key, "tls.certificate", "No such file"),
        (&one.certificate, &absent, "tls.key", "No such file"),
        (&junk, &one.key, "tls.certificate", "no certificate in PEM"),
        (&one.certificate, &junk, "tls.key", "no private key in PEM"),
        (
            &one.certificate,
            &two.key,
            "tls.key",
            "not the key of the certificate",
        ),
        (&one.certificate, &open, "tls.key", "0644"),
    ];
    for (certificate, key, named, why) in table {
        let error = read(certificate, key).expect_err(why);
        assert_eq!(error.key, named, "{error}");
        assert!(error.why.contains(why), "{error}");
        assert_eq!(error.class(), FaultClass::Config);
    }
    assert_eq!(
        connector(Some(&junk)).err().map(|error| error.key),
        Some("tls.authorities")
    );
    let mut named = one.clone();
    (named.is_self_made, named.certificate) = (false, absent);
    assert!(
        Certificates::open(&named, &names()).is_err(),
        "none is made in the operator's place"
    );
}

#[test]
fn a_certificate_is_read_again_when_it_changes_and_kept_if_it_is_bad() {
    let folder = Folder::new("again");
    let (plan, other) = (folder.plan("own"), folder.plan("other"));
    let certificates = Certificates::open(&plan, &names()).expect("made");
    Certificates::open(&other, &names()).expect("made");
    let world = World::new(&certificates, None);
    let bound = world.bind(0, StreamKind::Tls);
    world.runtime.block_on(async {
        let first = shown(bound).await;
        // The new certificate with the old key: not yet.
        fs::copy(&other.certificate, &plan.certificate).expect("copied");
        assert_eq!(shown(bound).await, first);
        fs::copy(&other.key, &plan.key).expect("copied");
        let second = shown(bound).await;
        assert_ne!(second, first);
        fs::write(&plan.certificate, "junk").expect("written");
        assert_eq!(shown(bound).await, second);
        fs::remove_file(&plan.key).expect("removed");
        assert_eq!(shown(bound).await, second);
    });
}

#[test]
fn tls_carries_both_ways_from_either_side() {
    let folder = Folder::new("carries");
    let certificates = Certificates::open(&folder.plan("own"), &names()).expect("made");
    let world = World::new(&certificates, None);
    let bound = world.bind(3, StreamKind::Tls);
    world.runtime.block_on(async {
        let mut peer = client(bound).await;
        peer.write_all(b"hello").await.expect("written");
        peer.flush().await.expect("flushed");
        assert_eq!(world.next(), Seen::Accepted);
        let Seen::Bytes(flow, octets) = world.next() else {
            panic!("octets")
        };
        assert_eq!(octets, "hello");
        world.network.send(&flow, Bytes::from_static(b"back"));
        world.network.close(&flow, CloseCode::Normal, "enough");
        let mut text = String::new();
        peer.read_to_string(&mut text)
            .await
            .expect("ended in order");
        assert_eq!(text, "back");
        assert_eq!(world.next(), Seen::Closed(flow, "enough".to_owned()));
    });
    // The other way round: a connection of ours to the same listener.
    let ours = FlowRef::Stream {
        node: NodeId(1),
        number: 77,
        listener: ListenerId(3),
        remote: bound,
        door: Door::Sip,
    };
    world.network.connect(ours, world.sink.clone());
    let mut seen = vec![world.next(), world.next()];
    assert!(seen.contains(&Seen::Opened(ours)), "{seen:?}");
    world.network.send(&ours, Bytes::from_static(b"to myself"));
    seen.push(world.next());
    assert!(matches!(seen.last(), Some(Seen::Bytes(_, octets)) if octets == "to myself"));
}

#[test]
fn peers_are_checked_if_the_operator_says_so() {
    let folder = Folder::new("checked");
    let (own, other) = (folder.plan("own"), folder.plan("other"));
    let certificates = Certificates::open(&own, &names()).expect("made");
    Certificates::open(&other, &names()).expect("made");
    for (authorities, is_taken) in [(&own.certificate, true), (&other.certificate, false)] {
        let world = World::new(&certificates, Some(authorities));
        let remote = world.bind(0, StreamKind::Tls);
        let flow = FlowRef::Stream {
            node: NodeId(1),
            number: 5,
            listener: ListenerId(0),
            remote,
            door: Door::Sip,
        };
        world.network.connect(flow, world.sink.clone());
        let is_opened = loop {
            match world.next() {
                Seen::Opened(_) => break true,
                Seen::Closed(gone, why) if gone == flow => {
                    assert!(why.contains("certificate"), "{why}");
                    break false;
                }
                Seen::Accepted | Seen::Bytes(..) | Seen::Closed(..) | Seen::Datagram(..) => {}
            }
        };
        assert_eq!(is_opened, is_taken);
    }
}

#[test]
fn websockets_run_under_tls_and_are_not_opened_by_us() {
    let folder = Folder::new("wss");
    let certificates = Certificates::open(&folder.plan("own"), &names()).expect("made");
    let world = World::new(&certificates, None);
    let bound = world.bind(6, StreamKind::Wss);
    world.runtime.block_on(async {
        let stream = client(bound).await;
        let url = format!("wss://{bound}/");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream)
            .await
            .expect("101");
        socket.send(Message::text("{}")).await.expect("sent");
        assert_eq!(world.next(), Seen::Accepted);
        assert!(matches!(world.next(), Seen::Bytes(flow, octets)
            if octets == "{}" && flow.listener() == ListenerId(6)));
    });
    let ours = FlowRef::Stream {
        node: NodeId(1),
        number: 9,
        listener: ListenerId(6),
        remote: bound,
        door: Door::Sip,
    };
    world.network.connect(ours, world.sink.clone());
    loop {
        if let Seen::Closed(gone, why) = world.next()
            && gone == ours
        {
            assert!(why.contains("by its client only"), "{why}");
            break;
        }
    }
}

#[test]
fn half_a_tls_handshake_is_cut_off_and_none_is_bound_without_a_certificate() {
    let folder = Folder::new("loris");
    let certificates = Certificates::open(&folder.plan("own"), &names()).expect("made");
    let world = World::new(&certificates, None);
    world.runtime.block_on(async {
        let mut all = Vec::new();
        for (number, kind) in [(0, StreamKind::Tls), (1, StreamKind::Wss)] {
            let bound = world.bind(number, kind);
            let mut stream = tokio::net::TcpStream::connect(bound)
                .await
                .expect("connected");
            stream
                .write_all(&[0x16, 0x03, 0x01])
                .await
                .expect("written");
            all.push(stream);
        }
        for mut stream in all {
            let mut rest = Vec::new();
            let ended =
                crate::env_os::within(Duration::from_secs(15), stream.read_to_end(&mut rest));
            assert!(ended.await.is_some(), "ended within the deadline of 10 s");
        }
    });
    let bare = Arc::new(Network::new(
        world.runtime.handle().clone(),
        Streams::default(),
    ));
    let local = "127.0.0.1:0".parse().expect("an address");
    let error = bare
        .bind_stream(ListenerId(0), local, StreamKind::Tls, world.sink.clone())
        .expect_err("no certificate");
    assert_eq!(
        (error.what, error.why.as_str()),
        ("tls", "there is no certificate")
    );
}
