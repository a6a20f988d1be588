//! Which schema a node writes: what every node of its view reads (`cluster.md` §12).
//!
//! In: what the operator allows, what the other members say that they take, the schema of the
//! records here. Out: the schema of all that is written now. It reads no record and no frame.
//!
//! | event | what is written |
//! |---|---|
//! | a member takes less, or a node is connected of which nothing is known yet | less, at once |
//! | all members take more | more, after `SCHEMA_STEP_MS` without a change |
//! | the same, and records here are that new | more, at once: who reads less cannot be here |
//! | this node is alone in its cluster | as before: who is away may read less |
//!
//! So a node of the former release that restarts while others are upgraded finds nothing that it
//! cannot read. Records never get older: once one is of a schema, no node that reads less is let in
//! ([`Spoken::holds`] tells what to ask of others).

use std::time::Duration;

use contract::limits::SCHEMA_STEP_MS;
use contract::{SchemaVersion, Time};

/// Which schema this node writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The newest one that the operator allows.
    most: SchemaVersion,
    /// The newest one of the records here.
    held: SchemaVersion,
    now: SchemaVersion,
    rise: Option<(Time, SchemaVersion)>,
}

impl Spoken {
    /// Begins for a node whose operator allows `most`; alone, there is nobody to ask.
    #[must_use]
    pub fn new(most: SchemaVersion, is_alone: bool) -> Self {
        let most = most.clamp(SchemaVersion::OLDEST, SchemaVersion::NEWEST);
        Spoken {
            most,
            held: SchemaVersion::OLDEST,
            now: if is_alone {
                most
            } else {
                SchemaVersion::OLDEST
            },
            rise: None,
        }
    }

    /// Takes what the other members take, and whether there is a connection with a node that has
    /// not said it yet.
    pub fn seen(&mut self, now: Time, others: &[SchemaVersion], has_strangers: bool) {
        let current = self.at(now);
        let least = others.iter().copied().fold(self.most, SchemaVersion::min);
        let wanted = if has_strangers {
            SchemaVersion::OLDEST
        } else {
            least.max(SchemaVersion::OLDEST)
        };
        let pending = self.rise.take().filter(|(_, to)| *to == wanted);
        self.now = current;
        if wanted <= current || self.held >= wanted {
            self.now = wanted;
        } else if !others.is_empty() {
            let at = now + Duration::from_millis(SCHEMA_STEP_MS);
            self.rise = Some(pending.unwrap_or((at, wanted)));
        }
    }

    /// Returns what is written to one other node, which takes `theirs`, where nothing is stored.
    #[must_use]
    pub fn to(&self, theirs: SchemaVersion) -> SchemaVersion {
        theirs.clamp(SchemaVersion::OLDEST, self.most)
    }

    /// Takes that a record of a schema is here; true if none was so new.
    pub fn holds(&mut self, schema: SchemaVersion) -> bool {
        let is_newer = schema > self.held;
        self.held = self.held.max(schema);
        is_newer
    }

    /// Returns what is written now.
    #[must_use]
    pub fn at(&self, now: Time) -> SchemaVersion {
        match self.rise {
            Some((at, to)) if at <= now => to,
            Some(_) | None => self.now,
        }
    }

    /// Returns the newest schema of the records here: what another node must read.
    #[must_use]
    pub const fn held(&self) -> SchemaVersion {
        self.held
    }
}

#[cfg(test)]
#[path = "spoken_tests.rs"]
mod tests;
