//! The checkers: one promise a file (`cluster.md` §14).
//!
//! In: what leaves the node, what becomes durable, what phones believe. Out: the first promise
//! that did not hold, in the world's `broken`. Promises kept elsewhere: I8 toward phones in
//! `phone/mod.rs`, I14 in `media.rs`, I20 in `main.rs` (two runs, two processes).

pub mod agree;
pub mod bounds;
pub mod console;
pub mod denied;
pub mod durable;
pub mod fence;
pub mod forwarding;
pub mod holders;
pub mod kept_binding;
pub mod kept_call;
pub mod mixed;
pub mod noticed;
pub mod order;
pub mod proven;
pub mod quarantined;
pub mod reached;
pub mod sequence;
pub mod taken_over;
pub mod told;

use std::ops::ControlFlow;

use bytes::Bytes;
use contract::env::Store;
use contract::{Batch, Boot, Space, StoreFault};

/// A store that has one value: what a checker sees the moment it becomes durable.
pub(crate) struct One {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Bytes,
}

impl Store for One {
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault> {
        Ok((key == self.key).then(|| self.value.clone()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        if self.key.starts_with(prefix) {
            let _ = visit(&self.key, &self.value);
        }
        Ok(())
    }

    fn commit(&self, _: Batch, done: Box<dyn FnOnce(Result<(), StoreFault>) + Send>) {
        done(Err(StoreFault::Full { free_bytes: 0 }));
    }

    fn boot(&self) -> Boot {
        Boot(0)
    }

    fn space(&self) -> (Space, u64) {
        (Space::Exhausted, 0)
    }

    fn is_quarantined(&self) -> bool {
        false
    }

    fn lift_quarantine(&self) {}

    fn is_poisoned(&self) -> bool {
        false
    }
}
