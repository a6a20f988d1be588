//! Writes a session description from the model.
//!
//! In: `Session`. Out: text with CRLF line ends. It cannot fail and cannot write a line that the
//! model does not hold: every string in the model was checked when it was made.

use std::fmt::Write;

use super::attribute::{Attribute, Net};
use super::model::{Direction, Format, Formats, Media, Session};

/// Writes a description (RFC 8866 §5).
#[must_use]
pub fn write(session: &Session) -> String {
    let mut out = String::with_capacity(512);
    let origin = &session.origin;
    line(
        &mut out,
        format_args!(
            "v=0\r\no={} {} {} {}\r\ns={}",
            origin.username,
            origin.session_id,
            origin.version,
            Net(&origin.host),
            session.name
        ),
    );
    if let Some(host) = &session.connection {
        line(&mut out, format_args!("c={}", Net(host)));
    }
    line(&mut out, format_args!("t=0 0"));
    write_direction(&mut out, session.direction);
    write_attributes(&mut out, &session.attributes);
    for media in &session.media {
        write_media(&mut out, media);
    }
    out
}

fn write_media(out: &mut String, media: &Media) {
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "m={} {} {}",
        media.kind.as_str(),
        media.port,
        media.protocol.as_str()
    );
    match &media.formats {
        Formats::Rtp(formats) if !formats.is_empty() => {
            for format in formats {
                let _ = write!(out, " {}", format.payload);
            }
        }
        Formats::Opaque(words) if !words.is_empty() => {
            for word in words {
                let _ = write!(out, " {word}");
            }
        }
        // The grammar wants a format, also in a refused section.
        Formats::Rtp(_) | Formats::Opaque(_) => out.push_str(" 0"),
    }
    out.push_str("\r\n");
    if let Some(host) = &media.connection {
        line(out, format_args!("c={}", Net(host)));
    }
    if let Formats::Rtp(formats) = &media.formats {
        for format in formats {
            write_format(out, format);
        }
    }
    write_direction(out, media.direction);
    write_attributes(out, &media.attributes);
}

fn write_format(out: &mut String, format: &Format) {
    let payload = format.payload;
    if let Some(map) = &format.map {
        let (name, clock_rate) = (&map.name, map.clock_rate);
        if map.channels == 1 {
            line(out, format_args!("a=rtpmap:{payload} {name}/{clock_rate}"));
        } else {
            line(
                out,
                format_args!("a=rtpmap:{payload} {name}/{clock_rate}/{}", map.channels),
            );
        }
    }
    if let Some(parameters) = &format.parameters {
        line(out, format_args!("a=fmtp:{payload} {parameters}"));
    }
}

fn write_direction(out: &mut String, direction: Option<Direction>) {
    if let Some(direction) = direction {
        line(out, format_args!("a={}", direction.as_str()));
    }
}

fn write_attributes(out: &mut String, attributes: &[Attribute]) {
    for attribute in attributes {
        out.push_str("a=");
        attribute.write(out);
        out.push_str("\r\n");
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push_str("\r\n");
}
