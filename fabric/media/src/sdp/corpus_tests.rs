//! The SDP corpora: everything is read or refused within bounds, and what is written again holds
//! only lines of the model.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

/// Returns the files of a corpus with their octets; none where the data is not there.
fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let root = std::env::var_os("WEFT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        println!("{folder}: no data, nothing run");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| !path.to_string_lossy().contains("MANIFEST"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(&path).expect("readable data"))
        })
        .collect()
}

#[test]
fn the_sdp_corpus_survives() {
    let files = corpus("sdp");
    let (mut accepted, mut negotiated) = (0, 0);
    for (name, body) in &files {
        #[expect(clippy::disallowed_methods, reason = "a test measures its own bound")]
        let start = Instant::now();
        if let Ok(session) = read(body) {
            accepted += 1;
            let written = write(&session);
            assert_eq!(read(written.as_bytes()).as_ref(), Ok(&session), "{name}");
            if let Ok(remote) = read_offer(&session, None, &|_| true) {
                negotiated += 1;
                answer_refuses_the_rest(name, &session, &remote);
            }
        }
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "{name} took too long"
        );
    }
    println!(
        "sdp corpus: {} cases, {accepted} accepted, {negotiated} taken",
        files.len()
    );
    assert!(files.is_empty() || accepted > 20, "{accepted} accepted");
}

fn answer_refuses_the_rest(name: &str, offer: &Session, remote: &RemoteMedia) {
    let local = LocalMedia {
        address: "192.0.2.1".parse().expect("address"),
        port: 4000,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        ptime: None,
        transport: LocalTransport::Plain,
    };
    let answer = LocalSdp::new(4)
        .answer(offer, remote, &local, &remote.all_codecs())
        .expect("codecs are there");
    assert_eq!(answer.media.len(), offer.media.len(), "{name}");
    for (index, media) in answer.media.iter().enumerate() {
        assert_eq!(media.port != 0, index == remote.index, "{name}");
        assert_eq!(media.kind, offer.media[index].kind, "{name}");
    }
    assert_eq!(read(write(&answer).as_bytes()), Ok(answer), "{name}");
}

#[test]
fn injected_values_add_no_line() {
    let files: Vec<_> = corpus("injection-own")
        .into_iter()
        .filter(|(name, _)| name.starts_with("crlf-") || name.starts_with("name-"))
        .collect();
    for (name, octets) in &files {
        let mut body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
            m=audio 9 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 "
            .to_vec();
        body.extend_from_slice(octets);
        // What is a line of its own in the peer's text stays an unused attribute; a value that
        // hides a line is left out.
        if let Ok(text) = std::str::from_utf8(octets) {
            if text.contains(['\r', '\n', '\0']) {
                assert!(Text::new(text).is_err(), "{name}");
            }
            if let Ok(text) = Text::new(text.trim()) {
                assert_eq!(text.as_str().lines().count().max(1), 1, "{name}");
            }
        }
        if let Ok(session) = read(&body) {
            let codecs = Codec::of_media(&session.media[0]);
            let mut local = LocalSdp::new(1);
            let media = LocalMedia {
                address: "192.0.2.1".parse().expect("address"),
                port: 4000,
                rtcp_mux: false,
                direction: Direction::SendRecv,
                ptime: Some(20),
                transport: LocalTransport::Plain,
            };
            let pcmu = Codec::from_static(0).expect("static");
            let offer: Vec<Codec> = codecs.into_iter().chain([pcmu]).collect();
            let written = write(&local.offer(&media, &offer).expect("a codec is there"));
            let candidates = written
                .split([
                    '\r', '\n', '\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{c}',
                ])
                .filter(|line| line.starts_with("a=candidate"));
            assert_eq!(candidates.count(), 0, "{name}: {written}");
        }
    }
    println!("injection corpus: {} cases", files.len());
    assert!(files.is_empty() || files.len() > 40);
}
