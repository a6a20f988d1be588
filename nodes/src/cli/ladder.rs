//! A call's trace as a ladder: the caller on the left, Weft, the callees on the right.
//!
//! In: lines of the rings of a call and its sides. Out: text. Signalling of a dialog becomes an
//! arrow between its end and Weft; with `all`, every other line becomes a note. A trace without
//! signalling becomes a plain list.
//!
//! ```text
//!  time     caller                      weft                    callee 2
//!     0.0      |---------INVITE--------->|                         |
//!     1.2      |                         |---------INVITE--------->|
//! ```

use contract::{ActorId, Time, TraceLine};

use super::table::{Paint, clean};

/// A line as the API gives it.
pub(super) type Line = TraceLine;

/// Characters between two columns.
const GAP: usize = 30;
/// Characters before the first column.
const MARGIN: usize = 15;
/// Characters of a note or a list's text.
const NOTE_CHARACTERS: usize = 100;

/// One arrow: a side of the call, its direction, what is said.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    side: u8,
    inward: bool,
    label: String,
}

/// Renders a trace.
#[must_use]
pub(super) fn render(lines: &[Line], all: bool, paint: Paint) -> String {
    let mut lines: Vec<&Line> = lines.iter().collect();
    lines.sort_by_key(|line| line.mono);
    let Some(start) = lines.first().map(|line| line.mono) else {
        return "nothing is traced\n".to_owned();
    };
    let mut sides: Vec<u8> = lines
        .iter()
        .filter_map(|line| arrow(line).map(|arrow| arrow.side))
        .collect();
    if sides.is_empty() {
        return list(&lines, start);
    }
    // The caller keeps its place on the left even when its own ring has ended with it.
    sides.push(CALLER);
    sides.sort_unstable();
    sides.dedup();
    let mut text = heads(&lines, &sides, paint);
    for line in lines {
        let time = format!(
            "{:>10.1} ms",
            line.mono.since(start).as_secs_f64() * 1_000.0
        );
        match arrow(line) {
            Some(arrow) => {
                let drawn = draw(&arrow, &sides);
                let is_refusal = arrow.label.starts_with(['4', '5', '6']);
                let drawn = if is_refusal { paint.bad(&drawn) } else { drawn };
                text.push_str(&format!("{}  {}\n", paint.faint(&time), drawn.trim_end()));
            }
            None if all => {
                let note = format!("{}  {}", rails(&sides), note(line));
                text.push_str(&format!("{}  {}\n", paint.faint(&time), note.trim_end()));
            }
            None => {}
        }
    }
    text
}

/// Column of a side: the caller stands left of Weft, all others right of it.
fn column(side: u8, sides: &[u8]) -> usize {
    match sides.iter().position(|known| *known == side) {
        Some(0) | None => 0,
        Some(at) => at + 1,
    }
}

const WEFT: usize = 1;
/// Side of the one who called.
const CALLER: u8 = 1;

fn position(column: usize) -> usize {
    column * GAP
}

fn heads(lines: &[&Line], sides: &[u8], paint: Paint) -> String {
    let mut names = vec!["caller".to_owned(), "weft".to_owned()];
    names.extend(sides.iter().skip(1).map(|side| format!("callee {side}")));
    let mut addresses = vec![String::new(); names.len()];
    for side in sides {
        let of_side = lines.iter().filter(|line| side_of(line) == Some(*side));
        if let Some(address) = of_side.filter_map(|line| address(&line.text)).next() {
            addresses[column(*side, sides)] = address;
        }
    }
    let row = |cells: &[String]| {
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let wanted = (MARGIN + position(at)).saturating_sub(cell.chars().count() / 2);
            text.push_str(&" ".repeat(wanted.saturating_sub(text.chars().count())));
            text.push_str(cell);
        }
        text.trim_end().to_owned()
    };
    format!(
        "{}\n{}\n",
        paint.bold(&row(&names)),
        paint.faint(&row(&addresses))
    )
}

fn rails(sides: &[u8]) -> String {
    let mut rails = vec![' '; position(sides.len().max(1)) + 1];
    for at in 0..=sides.len().max(1) {
        rails[position(at)] = '|';
    }
    rails.into_iter().collect()
}

fn draw(arrow: &Arrow, sides: &[u8]) -> String {
    let mut row: Vec<char> = rails(sides).chars().collect();
    let (side, weft) = (position(column(arrow.side, sides)), position(WEFT));
    let (left, right) = (side.min(weft), side.max(weft));
    for place in &mut row[left + 1..right] {
        *place = '-';
    }
    // Toward Weft from the left, or from Weft to the right: the head is on the right.
    let is_rightward = arrow.inward == (side < weft);
    if is_rightward {
        row[right - 1] = '>';
    } else {
        row[left + 1] = '<';
    }
    let room = GAP - 6;
    let label: Vec<char> = arrow.label.chars().take(room).collect();
    // The label stands beside its end, where no other column's rail is crossed.
    let near = if side < weft { left } else { right - GAP };
    let from = near + 1 + (GAP - 1 - label.len()) / 2;
    for (at, letter) in label.iter().enumerate() {
        row[from + at] = *letter;
    }
    row.into_iter().collect()
}

fn side_of(line: &Line) -> Option<u8> {
    match line.actor {
        ActorId::Dialog(side) => Some(side.number()),
        ActorId::Registration(_)
        | ActorId::Call(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => None,
    }
}

/// Reads what a dialog got from a lane, or gave one, as its ring has it.
fn arrow(line: &Line) -> Option<Arrow> {
    let side = side_of(line)?;
    let text = line.text.as_str();
    let label = if line.inward {
        inward(text)?
    } else {
        outward(text)?
    };
    Some(Arrow {
        side,
        inward: line.inward,
        label: clean(&label),
    })
}

fn inward(text: &str) -> Option<String> {
    for (word, mark) in [
        ("request ", ""),
        ("serve ", ""),
        ("cancelled by ", ""),
        ("again ", " (again)"),
    ] {
        if let Some(rest) = text.strip_prefix(word) {
            let (method, _) = rest.split_once(" on ")?;
            return is_method(method).then(|| format!("{method}{mark}"));
        }
    }
    let (status, rest) = text.split_once(" to ")?;
    let (method, _) = rest.split_once(" on ")?;
    let is_status = status.len() == 3 && status.bytes().all(|octet| octet.is_ascii_digit());
    (is_status && is_method(method)).then(|| format!("{status} ({method})"))
}

fn outward(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("SIP/2.0 ")
        && text.starts_with("respond ")
    {
        return Some(rest.to_owned());
    }
    if text.starts_with("ACK to ") {
        return Some("ACK".to_owned());
    }
    let request = text.strip_prefix("request of ")?;
    let (_, line) = request
        .split_once(": ")
        .filter(|(head, _)| head.contains(" to "))?;
    let method = line.split(' ').next()?;
    is_method(method).then(|| method.to_owned())
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.len() <= 20 && text.bytes().all(|octet| octet.is_ascii_alphabetic())
}

/// Returns the peer's address if the text names a flow: `udp/0/192.0.2.1:5060`, `flow:1/7/…`.
fn address(text: &str) -> Option<String> {
    let flow = text
        .split(" on ")
        .nth(1)
        .or_else(|| text.split(" to ").nth(1))?;
    let flow = flow.split(' ').next()?.trim_end_matches(':');
    let address = flow.rsplit('/').next()?;
    let is_address = address.parse::<std::net::SocketAddr>().is_ok();
    (flow.contains('/') && is_address).then(|| address.to_owned())
}

fn note(line: &Line) -> String {
    let way = if line.inward { "<-" } else { "->" };
    let text = format!(
        "{} {way} {}: {}",
        line.actor.kind().word(),
        line.peer,
        line.text
    );
    clean(&text).chars().take(NOTE_CHARACTERS).collect()
}

fn list(lines: &[&Line], start: Time) -> String {
    let mut text = String::new();
    for line in lines {
        let time = line.mono.since(start).as_secs_f64() * 1_000.0;
        text.push_str(&format!("{time:>10.1} ms  {}\n", note(line)));
    }
    text
}
