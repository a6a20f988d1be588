//! Streams cut at every octet, pipelined and interleaved with keep-alives (threats.md 9).

mod common;

use bytes::Bytes;
use common::{data, messages};
use sip::{Frame, FrameError, Framer, Message};

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut framer, mut list) = (Framer::new(), Vec::new());
    for piece in pieces {
        framer.push(piece);
        while let Some(step) = framer.next() {
            match step {
                Ok(frame) => list.push(frame),
                Err(error) => return (list, Some(error)),
            }
        }
    }
    (list, None)
}

/// A message as a stream carries it: with a Content-Length that fits.
fn request(body: &str) -> Vec<u8> {
    format!(
        "MESSAGE sip:a@example.org SIP/2.0\r\nVia: SIP/2.0/TCP c.example.org;branch=z9hG4bK1\r\n\
         From: <sip:b@example.org>;tag=1\r\nTo: <sip:a@example.org>\r\nCall-ID: 1@c\r\n\
         CSeq: 1 MESSAGE\r\nL\t: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_message_cut_at_any_octet_is_the_same_message() {
    let mut cases = 0;
    for (name, octets) in messages() {
        let whole = frames(&[&octets]);
        for at in 0..=octets.len() {
            let (head, tail) = octets.split_at(at);
            assert_eq!(frames(&[head, tail]), whole, "{name} cut at {at}");
            cases += 1;
        }
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        assert_eq!(frames(&single), whole, "{name} octet by octet");
    }
    println!("{cases} cuts");
}

#[test]
fn pipelined_messages_come_out_in_order() {
    let bodies = ["", "one", "two\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"];
    let stream: Vec<u8> = bodies.iter().flat_map(|body| request(body)).collect();
    let wanted: Vec<Frame> = bodies
        .iter()
        .map(|body| Frame::Message(Bytes::from(request(body))))
        .collect();
    for size in 1..stream.len() {
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(frames(&pieces), (wanted.clone(), None), "pieces of {size}");
    }
}

#[test]
fn two_empty_lines_are_a_ping_however_they_are_cut() {
    let mut stream = b"\r\n\r\n".to_vec();
    stream.extend(request("x"));
    stream.extend(b"\r\n\r\n\r\n");
    let message = Frame::Message(Bytes::from(request("x")));
    let wanted = vec![
        Frame::Pong,
        Frame::Ping,
        message,
        Frame::Pong,
        Frame::Ping,
        Frame::Pong,
    ];
    for size in 1..=stream.len() {
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(frames(&pieces), (wanted.clone(), None), "pieces of {size}");
    }
}

#[test]
fn dblreq_is_two_requests_on_a_stream_and_one_in_a_datagram() {
    let Some(octets) = data("sip-rfc4475/dblreq.dat") else {
        return;
    };
    let (list, error) = frames(&[&octets]);
    // Five octets follow the second body: not a message, and nobody guesses.
    assert_eq!(error, Some(FrameError::NoLength));
    let methods: Vec<String> = list
        .iter()
        .filter_map(|frame| match frame {
            Frame::Message(octets) => Message::read(octets.clone()).ok(),
            Frame::Ping | Frame::Pong => None,
        })
        .map(|message| message.method().to_string())
        .collect();
    assert_eq!(methods, ["REGISTER", "INVITE"]);
    let datagram = Message::read(Bytes::from(octets)).expect("a valid datagram");
    assert_eq!(
        (datagram.method().as_str(), datagram.body()),
        ("REGISTER", &b""[..])
    );
}

#[test]
fn a_stream_that_cannot_be_trusted_stops() {
    let long = format!("A: {}\r\n", "x".repeat(8 * 1024));
    let many = "A: b\r\n".repeat(300);
    let table: &[(&str, FrameError)] = &[
        (
            "A B SIP/2.0\r\nContent-Length: 1\r\nl: 1\r\n\r\n",
            FrameError::TwoLengths,
        ),
        (
            "A B SIP/2.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            FrameError::TwoLengths,
        ),
        (
            "A B SIP/2.0\r\nContent-Length: -1\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nContent-Length: +1\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nContent-Length: 1, 2\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nContent-Length:\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nContent-Length 5\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nL: 99999999999999999999999\r\n\r\n",
            FrameError::BadLength,
        ),
        (
            "A B SIP/2.0\r\nL: 18446744073709551615\r\n\r\n",
            FrameError::TooLarge,
        ),
        ("A B SIP/2.0\r\nL: 65536\r\n\r\n", FrameError::TooLarge),
        ("A B SIP/2.0\r\n\r\n", FrameError::NoLength),
        ("A B SIP/2.0\nL: 0\r\n\r\n", FrameError::BareLineFeed),
        (&long, FrameError::LineTooLong),
        (&many, FrameError::TooManyHeaders),
    ];
    for (text, error) in table {
        let mut framer = Framer::new();
        framer.push(text.as_bytes());
        assert_eq!(framer.next(), Some(Err(*error)), "{text:.60}");
        framer.push(&request("after"));
        assert_eq!(framer.next(), None, "nothing is read after an error");
        assert!(matches!(error.status(), 400 | 513));
    }
}

#[test]
fn a_broken_request_can_be_answered() {
    let text = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\n\
                From: <sip:c@b>;tag=1\r\n\
                To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: -5\r\n\r\nabc";
    let mut framer = Framer::new();
    framer.push(text.as_bytes());
    assert_eq!(framer.next(), Some(Err(FrameError::BadLength)));
    let request = Message::read_for_error(framer.offending()).expect("an answerable request");
    let answer = sip::respond(&request, 400, Some("t"))
        .finish()
        .expect("an answer");
    assert!(
        answer.starts_with(b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\n")
    );
}

#[test]
fn a_slow_stream_is_seen_as_partial() {
    let mut framer = Framer::new();
    assert!(!framer.is_partial());
    framer.push(b"INV");
    assert_eq!(framer.next(), None);
    assert!(framer.is_partial());
    let mut framer = Framer::new();
    framer.push(&request("whole"));
    assert!(matches!(framer.next(), Some(Ok(Frame::Message(_)))));
    assert!(!framer.is_partial());
}
