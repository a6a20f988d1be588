//! Header lines generated from the grammar: each is read, and what is written reads the same.

mod common;

use common::data;
use sip::{CSeq, Host, MethodOwned, NameAddr, Uri, Via};

/// Reads every line of a file; returns how many there were and which were refused.
fn run(file: &str, read: impl Fn(&str) -> Result<(), String>) -> usize {
    let Some(octets) = data(&format!("sip-abnf-valid/{file}")) else {
        return 0;
    };
    let text = String::from_utf8(octets).expect("a text file");
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| read(line).err().map(|error| format!("{line} => {error}")))
        .collect();
    let sample = wrong
        .iter()
        .take(12)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        wrong.is_empty(),
        "{file}: {} of {}\n{sample}",
        wrong.len(),
        lines.len()
    );
    println!("{file}: {} lines", lines.len());
    lines.len()
}

/// Reads a comma list and checks that what is written reads back equal.
fn read_list(line: &str) -> Result<(), String> {
    if line.trim() == "*" {
        return Ok(());
    }
    let text = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP b\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\n\
         Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nP-Asserted-Identity: {line}\r\n\r\n"
    );
    let message = sip::Message::read(text.into()).map_err(|error| error.to_string())?;
    let list = message
        .name_addrs(sip::HeaderName::PAssertedIdentity)
        .map_err(|error| error.to_string())?;
    list.iter().try_for_each(round_trip)
}

fn round_trip(value: &NameAddr) -> Result<(), String> {
    let back: NameAddr = value
        .to_string()
        .parse()
        .map_err(|error| format!("back: {error}"))?;
    if back.uri != value.uri || back.params != value.params {
        return Err(format!("written as {value}"));
    }
    Ok(())
}

#[test]
fn names_with_addresses_are_read() {
    run("contact.txt", read_list);
    run("from.txt", read_name_addr);
    run("refer-to.txt", read_name_addr);
    run("pai.txt", read_list);
}

fn read_name_addr(line: &str) -> Result<(), String> {
    round_trip(
        &line
            .parse()
            .map_err(|error: sip::SyntaxError| error.to_string())?,
    )
}

#[test]
fn uris_are_read_and_equal_themselves() {
    run("sip-uri.txt", |line| {
        let uri: Uri = line
            .parse()
            .map_err(|error: sip::SyntaxError| error.to_string())?;
        let back: Uri = uri
            .to_string()
            .parse()
            .map_err(|_| format!("written as {uri}"))?;
        (uri.equivalent(&back) && back == uri)
            .then_some(())
            .ok_or(format!("{uri} differs"))
    });
}

#[test]
fn request_lines_are_read() {
    run("request-line.txt", |line| {
        let method = line.split(' ').next().unwrap_or("");
        let text = format!(
            "{line}\r\nVia: SIP/2.0/UDP b\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n\
             CSeq: 1 {method}\r\n\r\n"
        );
        let message = sip::Message::read(text.into()).map_err(|error| error.to_string())?;
        message.uri().map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn vias_are_read() {
    run("via.txt", |line| {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: {line}\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\n\
             Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        let message = sip::Message::read(text.into()).map_err(|error| error.to_string())?;
        message.check().map_err(|error| error.to_string())?;
        message.vias().try_for_each(|value| {
            let via: Via = value
                .parse()
                .map_err(|error: sip::SyntaxError| error.to_string())?;
            let back: Via = via
                .to_string()
                .parse()
                .map_err(|_| format!("written as {via}"))?;
            (back == via)
                .then_some(())
                .ok_or(format!("written as {via}"))
        })
    });
}

#[test]
fn numbers_with_methods_are_read() {
    run("cseq.txt", |line| {
        let cseq: CSeq = line
            .parse()
            .map_err(|error: sip::SyntaxError| error.to_string())?;
        cseq.to_string()
            .parse::<CSeq>()
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
    run("rack.txt", |line| {
        let (_, cseq) = line.split_once([' ', '\t']).ok_or("no space")?;
        cseq.trim()
            .parse::<CSeq>()
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
}

#[test]
fn replaces_has_a_call_id_and_parameters() {
    run("replaces.txt", |line| {
        let text = format!("<sip:b>{}", line.find(';').map_or("", |at| &line[at..]));
        let value: NameAddr = text
            .parse()
            .map_err(|error: sip::SyntaxError| error.to_string())?;
        let has_tags = value.params.has("to-tag") && value.params.has("from-tag");
        has_tags.then_some(()).ok_or("tags are missing".to_owned())
    });
}

#[test]
fn names_of_our_own_are_tokens() {
    assert!("a b".parse::<MethodOwned>().is_err());
    assert_eq!(
        "EXAMPLE.org".parse::<Host>(),
        Ok(Host::Name("example.org".to_owned()))
    );
}
