//! A frame between nodes as one line of a trace.
//!
//! In: its octets, who sends it to whom. Out: a line for the reader; the trace's hash has the octets.

use std::fmt::Write;

use actors::AnyCore;
use cluster::{Exchange, Frame, Header, HolderReply, HolderRequest, Image, Whereabouts};
use contract::NodeId;
use contract::core::Roster;

/// Longest text of a message; what is longer is cut.
const MESSAGE_MAX: usize = 160;

pub(super) fn describe(from: NodeId, to: NodeId, octets: &[u8]) -> String {
    let mut line = format!("{from}>{to} ");
    match Frame::read(octets) {
        Ok(frame) => add(&mut line, &frame),
        Err(error) => line.push_str(&error.to_string()),
    }
    line
}

fn add(line: &mut String, frame: &Frame) {
    // Writing to a string does not fail.
    let _ = match frame {
        Frame::Tell {
            from,
            to,
            hops,
            message,
            ..
        } => write!(line, "tell {to} from {from} hops {hops}: {}", text(message)),
        Frame::Returned {
            to, from, message, ..
        } => write!(line, "back to {from}, not {to}: {}", text(message)),
        Frame::Ask { number, request } => match request {
            HolderRequest::Commit(image) => write!(line, "#{number} commit {}", of_image(image)),
            HolderRequest::Claim { id, epoch } => write!(line, "#{number} claim {id} {epoch}"),
        },
        Frame::Reply { number, reply } => match reply {
            HolderReply::Stored(version) => write!(line, "#{number} stored {version}"),
            HolderReply::Incomplete { missing } => {
                write!(line, "#{number} lacks {} parts", missing.len())
            }
            HolderReply::Granted { epoch, newest } => {
                let newest = newest.as_ref().map(|image| of_image(image));
                let newest = newest.unwrap_or_else(|| "nothing".to_owned());
                write!(line, "#{number} granted {epoch}, has {newest}")
            }
            HolderReply::Fenced(epoch) => write!(line, "#{number} fenced {epoch}"),
        },
        Frame::Where { number, id } => write!(line, "#{number} where is {id}"),
        Frame::Found {
            number,
            whereabouts,
        } => match whereabouts {
            Whereabouts::At { owner, version } => write!(line, "#{number} at {owner} {version}"),
            Whereabouts::None => write!(line, "#{number} nowhere"),
            Whereabouts::Unsettled => write!(line, "#{number} unsettled"),
        },
        Frame::Redirect { id, version, owner } => write!(line, "redirect {id} {owner} {version}"),
        Frame::Send { flow, bytes } => write!(line, "send {} octets to {flow:?}", bytes.len()),
        Frame::Repair { number, exchange } => write!(line, "#{number} {}", of_exchange(exchange)),
        Frame::Take { number, id, epoch } => write!(line, "#{number} take {id} {epoch}"),
        Frame::Taken { number, epoch } => write!(line, "#{number} taken {epoch}"),
        Frame::Kept { number, why } => write!(line, "#{number} kept: {why:?}"),
        Frame::Left { number } => write!(line, "#{number} left"),
        Frame::EventsHeld(held) => write!(line, "has events {:?} of {:?}", held.lives, held.of),
        Frame::Events(batch) => write!(
            line,
            "events {} to {} of {}",
            batch.from, batch.until, batch.life
        ),
    };
}

fn of_exchange(exchange: &Exchange) -> String {
    match exchange {
        Exchange::Glance(glance) => format!("glance, comparison {}", glance.round),
        Exchange::Digests(look) => format!("digests, comparison {}", look.round),
        Exchange::Differing(shards) => format!("differing: {}", shards.iter().count()),
        Exchange::List(range) => format!("list {:?} of shard {}", range.kind, range.shard),
        Exchange::Listed(page) => {
            let entries = page.entries.iter();
            let entries =
                entries.map(|entry| format!("{} {} {:?}", entry.id, entry.version, entry.mark));
            format!("listed: {}", entries.collect::<Vec<_>>().join(", "))
        }
        Exchange::Fetch(wanted) => {
            let wanted = wanted
                .iter()
                .map(|one| format!("{} above {}", one.id, one.than));
            format!("fetch: {}", wanted.collect::<Vec<_>>().join(", "))
        }
        Exchange::Images { images, passed } => {
            let images: Vec<String> = images.iter().map(of_image).collect();
            format!("images of {passed}: {}", images.join(", "))
        }
    }
}

fn of_image(image: &Image) -> String {
    let Header {
        id,
        version,
        owner,
        state,
        conf,
        degraded,
        parts,
        ..
    } = &image.header;
    let sets: Vec<String> = conf
        .sets()
        .map(|set| {
            let nodes: Vec<String> = set.nodes().iter().map(ToString::to_string).collect();
            nodes.join(" ")
        })
        .collect();
    let degraded = if *degraded { " degraded" } else { "" };
    format!(
        "{id} {version} {state:?} of {owner} at [{}]{degraded}, {} of {} parts",
        sets.join(" -> "),
        image.parts.len(),
        parts.len()
    )
}

fn text(message: &[u8]) -> String {
    let message = <AnyCore as Roster>::decode(message);
    let mut text =
        message.map_or_else(|| "unreadable".to_owned(), |message| format!("{message:?}"));
    let end = text.floor_char_boundary(MESSAGE_MAX);
    text.truncate(end);
    text
}
