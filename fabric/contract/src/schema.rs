//! One number for all that is stored or sent between nodes (`cluster.md` §12).
//!
//! In: nothing. Out: the numbers that this program knows. A form of a record's part, of a frame or
//! of a message belongs to the schema it came with; a program reads its own schema and the one
//! before, and writes what all nodes of its view read. Which that is, `weft-cluster` decides.
//!
//! | schema | parts of records | frames | messages of actors |
//! |---|---|---|---|
//! | 1 | registration 1, 2; call 1, 2; dialog 1, 2; JSON dialog 1; media leg 1, 2 | form 1 | form 1 |
//! | 2 | call 3: how many nodes have had it | form 2: a node that takes nothing says that it is loaded | form 2: the same; what a cut-off node bequeaths to the heir of its call |
//! | 3 | call 4, dialog 3: what a transfer or a forward has made of it, what the peer has referred to; registration 3: what the user has set; parking 1 | form 2 | form 3: REFER, settings, a lane says that it has a request, places where calls are parked |
//!
//! To change a form: add the new one and a schema, write it for that schema alone, keep the writer
//! of the one before for one release and its reader for two.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The schema of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaVersion(pub u16);

impl SchemaVersion {
    /// The oldest one that this program reads and writes.
    pub const OLDEST: SchemaVersion = SchemaVersion(1);
    /// The newest one.
    pub const NEWEST: SchemaVersion = SchemaVersion(3);

    /// Tells whether this program reads and writes it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        Self::OLDEST.0 <= self.0 && self.0 <= Self::NEWEST.0
    }
}

impl Default for SchemaVersion {
    /// What is assumed of a node that has said nothing: it reads the oldest only.
    fn default() -> Self {
        SchemaVersion::OLDEST
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
