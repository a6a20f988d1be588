//! A store in memory for the tests of this crate: every batch is durable at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use bytes::Bytes;
use contract::env::Store;
use contract::{Batch, Boot, Space, StoreFault};

#[derive(Debug, Default)]
pub(crate) struct TestStore {
    pub(crate) values: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl TestStore {
    pub(crate) fn apply(&self, batch: Batch) {
        let mut values = self.values.lock().unwrap();
        for (key, value) in batch.changes {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
    }
}

impl Store for TestStore {
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault> {
        let value = self.values.lock().unwrap().get(key).cloned();
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        let values = self.values.lock().unwrap();
        let found = values.range(prefix.to_vec()..);
        for (key, value) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: Batch, done: Box<dyn FnOnce(Result<(), StoreFault>) + Send>) {
        self.apply(batch);
        done(Ok(()));
    }

    fn boot(&self) -> Boot {
        Boot(1)
    }

    fn space(&self) -> (Space, u64) {
        (Space::Ample, u64::MAX)
    }

    fn is_quarantined(&self) -> bool {
        false
    }

    fn lift_quarantine(&self) {}

    fn is_poisoned(&self) -> bool {
        false
    }
}
