//! How far a reader is, on whatever node it reads.
//!
//! In: text that a node gave out. Out: the same. Opaque to readers; for us the last number read of
//! each life: `v1_<node>.<boot>.<number>`, with `e` after it once the reader knows the life's end.
//! Letters, digits, `.` and `_` only, so that it stands in a URL and a header as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use contract::limits::{CURSOR_BYTES_MAX, EVENT_LIVES_MAX};
use contract::{Boot, FaultClass, NodeId, NodeInst};

/// How far a reader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(super) lives: BTreeMap<NodeInst, Place>,
}

/// How far it is in one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The last number read; 0: none.
    pub last: u64,
    /// The reader knows how the life ended: by its last event, or by a gap.
    pub is_ended: bool,
}

/// A text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Longer than any cursor is.
    #[error("a cursor has at most {CURSOR_BYTES_MAX} characters")]
    TooLong,
    /// Of a later version of the program.
    #[error("a cursor of a form that this node does not know")]
    Newer,
    /// Not what a node gives out.
    #[error("not a cursor that a node has given out")]
    Damaged,
}

impl CursorError {
    /// Tells whose fault it is: the reader's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

impl Cursor {
    /// Returns the place in a life. One that a later life of the same node has replaced counts as
    /// read: it was forgotten, or was over before the reader began.
    pub(super) fn place(&self, life: NodeInst) -> Option<Place> {
        if let Some(place) = self.lives.get(&life) {
            return Some(*place);
        }
        let last = NodeInst {
            node: life.node,
            boot: Boot(u64::MAX),
        };
        let has_later = self.lives.range(life..=last).next().is_some();
        (!has_later).then(Place::default)
    }

    pub(super) fn set(&mut self, life: NodeInst, place: Place) {
        self.lives.insert(life, place);
    }

    /// Returns how many lives it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    /// Tells whether it names none: the place before everything that is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }
}

const FORM: &str = "v1";

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)?;
        for (life, place) in &self.lives {
            let end = if place.is_ended { "e" } else { "" };
            write!(f, "_{life}.{}{end}", place.last)?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError::TooLong);
        }
        let mut parts = text.split('_');
        match parts.next() {
            Some(FORM) => {}
            Some(form) if is_newer(form) => return Err(CursorError::Newer),
            Some(_) | None => return Err(CursorError::Damaged),
        }
        let mut cursor = Cursor::default();
        for part in parts {
            let (life, place) = read_place(part).ok_or(CursorError::Damaged)?;
            let is_new = cursor.lives.insert(life, place).is_none();
            if !is_new || cursor.lives.len() > 2 * EVENT_LIVES_MAX {
                return Err(CursorError::Damaged);
            }
        }
        Ok(cursor)
    }
}

fn is_newer(form: &str) -> bool {
    let number = form.strip_prefix('v').and_then(number);
    number.is_some_and(|number| number > 1)
}

fn read_place(part: &str) -> Option<(NodeInst, Place)> {
    let mut fields = part.split('.');
    let (node, boot, last) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let (last, is_ended) = match last.strip_suffix('e') {
        Some(last) => (last, true),
        None => (last, false),
    };
    let life = NodeInst {
        node: NodeId(u16::try_from(number(node)?).ok()?),
        boot: Boot(number(boot)?),
    };
    let last = number(last)?;
    Some((life, Place { last, is_ended }))
}

/// Reads a number as it is written: digits, no sign, no zero before them.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|octet| octet.is_ascii_digit());
    let is_padded = text.len() > 1 && text.starts_with('0');
    (is_plain && !is_padded).then(|| text.parse().ok())?
}
