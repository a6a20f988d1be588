//! A store with a disk that can be slow, full, torn by a crash, or broken.
//!
//! In: batches. Out: acknowledgements, later, in order. What a crash leaves is exactly what was
//! acknowledged, and perhaps some of what came next: whole batches, never parts of one. Damage takes
//! of that, too: values that rot are met when they are read, a cut tail at the next start, both as
//! the real store notices them (`cluster.md` §9).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use contract::env::Store;
use contract::{Batch, Boot, Space, StoreFault, Time};

use crate::planted;
use crate::world::World;

/// How long checkers can still see a value that is no longer on disk: what is on disk may be said that
/// much later. A session that resumes holds what dialogs say, while its registration (8 s) and then the
/// dialogs of all its calls (8 s) are asked, and its node may stall meanwhile.
const RECENT_FOR: Duration = Duration::from_secs(20);

/// The last so many they see however old they are, and never more than so many.
const RECENT_MIN: usize = 256;
const RECENT_MAX: usize = 4_096;

/// Batches that a cut tail may take.
const TAIL_MAX: usize = 64;

/// What happens to what lies on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// So many values are not what was written.
    Rot(u32),
    /// The last so many batches are gone.
    CutTail(u32),
    /// Nothing is left.
    Wipe,
}

/// Sees each value that becomes durable.
pub type OnDurable = Box<dyn FnMut(&[u8], &Bytes) + Send>;

type Done = Box<dyn FnOnce(Result<(), StoreFault>) + Send>;

/// How badly the disk behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskMood {
    /// Longest time a flush takes, in microseconds, beyond 50.
    pub flush_us_max: u32,
    /// Refuses new entries.
    pub full: bool,
}

struct Disk {
    durable: BTreeMap<Vec<u8>, Bytes>,
    /// The last values that became durable, and when, for checkers. Bound: `RECENT_MAX`.
    recent: VecDeque<(Time, Bytes)>,
    /// What the last batches replaced, the newest last. Bound: `TAIL_MAX`.
    tail: VecDeque<Vec<(Vec<u8>, Option<Bytes>)>>,
    rotten: BTreeSet<Vec<u8>>,
    quarantined: bool,
    waiting: VecDeque<(Batch, Done)>,
    flushing: usize,
    mood: DiskMood,
    poisoned: bool,
    boot: u64,
    life: u64,
    /// Until then the process does not run, and hears of no flush.
    stalled_until: Time,
    commits: u64,
}

/// The disk of one node; it outlives the node's crashes.
pub struct SimStore {
    world: Arc<World>,
    disk: Mutex<Disk>,
    on_durable: Mutex<Option<OnDurable>>,
}

impl std::fmt::Debug for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimStore")
    }
}

impl SimStore {
    /// Makes an empty disk.
    #[must_use]
    pub fn new(world: &Arc<World>) -> Arc<SimStore> {
        let disk = Disk {
            durable: BTreeMap::new(),
            recent: VecDeque::new(),
            tail: VecDeque::new(),
            rotten: BTreeSet::new(),
            quarantined: false,
            waiting: VecDeque::new(),
            flushing: 0,
            mood: DiskMood {
                flush_us_max: 500,
                full: false,
            },
            poisoned: false,
            boot: 0,
            life: 0,
            stalled_until: Time::default(),
            commits: 0,
        };
        Arc::new(SimStore {
            world: Arc::clone(world),
            disk: Mutex::new(disk),
            on_durable: Mutex::new(None),
        })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk
            .lock()
            .expect("no holder of the disk's lock panics")
    }

    /// Shows every value to `visit` when it has become durable.
    ///
    /// # Panics
    /// If a former visitor panicked.
    pub fn watch(&self, visit: OnDurable) {
        *self.on_durable.lock().expect("no visitor panics") = Some(visit);
    }

    fn show(&self, batch: &Batch) {
        if let Some(visit) = self.on_durable.lock().expect("no visitor panics").as_mut() {
            for (key, value) in &batch.changes {
                if let Some(value) = value {
                    visit(key, &Bytes::copy_from_slice(value));
                }
            }
        }
    }

    /// Changes how the disk behaves.
    pub fn set_mood(&self, mood: DiskMood) {
        self.disk().mood = mood;
    }

    /// Tells the process of no flush until a time.
    pub fn stall(&self, until: Time) {
        let mut disk = self.disk();
        disk.stalled_until = until.max(disk.stalled_until);
    }

    /// A crash: what was not acknowledged is lost, or, as chance will have it, its first batches
    /// are there without anybody having been told.
    pub fn crash(&self) {
        let waiting = {
            let mut disk = self.disk();
            disk.life += 1;
            disk.stalled_until = Time::default();
            disk.flushing = 0;
            std::mem::take(&mut disk.waiting)
        };
        let kept = self
            .world
            .state()
            .chance
            .below(u32::try_from(waiting.len() + 1).unwrap_or(1));
        let now = self.world.now().mono;
        for (batch, _) in waiting.into_iter().take(kept as usize) {
            self.show(&batch);
            self.disk().apply(batch, now);
        }
    }

    /// Damages what lies here; tells whether anything was hit.
    pub fn damage(&self, damage: Damage) -> bool {
        let mut disk = self.disk();
        match damage {
            Damage::Rot(count) => {
                for _ in 0..count {
                    let many = u32::try_from(disk.durable.len()).unwrap_or(u32::MAX);
                    let at = self.world.state().chance.below(many.max(1)) as usize;
                    let Some(key) = disk.durable.keys().nth(at).cloned() else {
                        return false;
                    };
                    disk.durable.remove(&key);
                    disk.rotten.insert(key);
                }
            }
            Damage::CutTail(count) => {
                for _ in 0..count {
                    let Some(batch) = disk.tail.pop_back() else {
                        break;
                    };
                    disk.quarantined = true;
                    for (key, before) in batch.into_iter().rev() {
                        disk.rotten.remove(&key);
                        match before {
                            Some(value) => disk.durable.insert(key, value),
                            None => disk.durable.remove(&key),
                        };
                    }
                }
            }
            Damage::Wipe => {
                disk.quarantined = true;
                disk.durable.clear();
                disk.rotten.clear();
                disk.tail.clear();
            }
        }
        disk.quarantined || !disk.rotten.is_empty()
    }

    /// Tells whether it is known here that something is lacking.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.disk().quarantined
    }

    /// Tells whether it lacks something, known or not.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let disk = self.disk();
        disk.quarantined || !disk.rotten.is_empty()
    }

    /// A start of the node: counts it. All there is is read.
    pub fn start(&self) {
        let mut disk = self.disk();
        disk.quarantined |= !disk.rotten.is_empty();
        disk.boot = (disk.boot + 1).max(self.world.now().utc.0 / 1_000);
        disk.poisoned = false;
    }

    /// Returns a copy of a durable value.
    #[must_use]
    pub fn durable(&self, key: &[u8]) -> Option<Bytes> {
        self.disk().durable.get(key).cloned()
    }

    /// Tells whether a value that became durable a moment ago, or is, has something.
    #[must_use]
    pub fn has_been_durable(&self, has: impl Fn(&[u8]) -> bool) -> bool {
        let disk = self.disk();
        let recent = disk.recent.iter().rev();
        let recent = recent.map(|(_, value)| value);
        recent.chain(disk.durable.values()).any(|value| has(value))
    }

    fn flush(self: &Arc<Self>) {
        let (count, life, longest) = {
            let mut disk = self.disk();
            if disk.flushing > 0 || disk.waiting.is_empty() {
                return;
            }
            disk.flushing = disk.waiting.len();
            (disk.flushing, disk.life, disk.mood.flush_us_max)
        };
        let delay = 50 + self.world.state().chance.below(longest + 1);
        let store = Arc::clone(self);
        self.world.schedule(
            Duration::from_micros(u64::from(delay)),
            Box::new(move |_| store.flushed(count, life)),
        );
    }

    fn flushed(self: &Arc<Self>, count: usize, life: u64) {
        let stalled_until = self.disk().stalled_until;
        let now = self.world.now().mono;
        if now < stalled_until {
            let store = Arc::clone(self);
            let later = move |_: &Arc<World>| store.flushed(count, life);
            return self.world.schedule_at(stalled_until, Box::new(later));
        }
        let mut done = Vec::with_capacity(count);
        {
            let mut disk = self.disk();
            if disk.life != life {
                return;
            }
            for _ in 0..count {
                let Some((batch, acknowledge)) = disk.waiting.pop_front() else {
                    break;
                };
                let result = if disk.mood.full && !batch.essential {
                    Err(StoreFault::Full { free_bytes: 0 })
                } else {
                    self.show(&batch);
                    disk.apply(batch, now);
                    Ok(())
                };
                done.push((acknowledge, result));
            }
            disk.flushing = 0;
        }
        self.world.trace("flushed", &count.to_le_bytes());
        for (acknowledge, result) in done {
            acknowledge(result);
        }
        self.flush();
    }
}

impl Disk {
    fn apply(&mut self, batch: Batch, now: Time) {
        self.commits += 1;
        let mut replaced = Vec::new();
        for (key, value) in batch.changes {
            self.rotten.remove(&key);
            let Some(value) = value.map(Bytes::from) else {
                let before = self.durable.remove(&key);
                replaced.push((key, before));
                continue;
            };
            self.remember(value.clone(), now);
            let before = self.durable.insert(key.clone(), value);
            replaced.push((key, before));
        }
        self.tail.push_back(replaced);
        if self.tail.len() > TAIL_MAX {
            self.tail.pop_front();
        }
    }

    /// Keeps a value for checkers, and forgets those that nobody says any more.
    fn remember(&mut self, value: Bytes, now: Time) {
        self.recent.push_back((now, value));
        while let Some((since, _)) = self.recent.front() {
            let is_old = now.since(*since) > RECENT_FOR;
            let kept = self.recent.len();
            if kept <= RECENT_MIN || (kept <= RECENT_MAX && !is_old) {
                break;
            }
            self.recent.pop_front();
        }
    }
}

/// One life's handle on the disk: a crash takes it away.
pub struct Handle {
    store: Arc<SimStore>,
    life: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.life)
    }
}

impl Handle {
    /// Opens the disk for the current life of its node.
    #[must_use]
    pub fn open(store: &Arc<SimStore>) -> Arc<Handle> {
        let life = store.disk().life;
        Arc::new(Handle {
            store: Arc::clone(store),
            life,
        })
    }

    fn is_alive(&self) -> bool {
        self.store.disk().life == self.life
    }
}

impl Store for Handle {
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault> {
        let mut disk = self.store.disk();
        disk.quarantined |= disk.rotten.contains(key);
        Ok(disk.durable.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        let found: Vec<_> = {
            let mut disk = self.store.disk();
            let mut rotten = disk.rotten.range(prefix.to_vec()..);
            let is_met = rotten.next().is_some_and(|key| key.starts_with(prefix));
            disk.quarantined |= is_met;
            let from = disk.durable.range(prefix.to_vec()..);
            let inside = from.take_while(|(key, _)| key.starts_with(prefix));
            inside
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        for (key, value) in found {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: Batch, done: Done) {
        if !self.is_alive() {
            return;
        }
        let done = if planted::is_early() {
            let now = move |_: &Arc<World>| done(Ok(()));
            self.store.world.schedule(Duration::ZERO, Box::new(now));
            Box::new(|_| {})
        } else {
            done
        };
        self.store.disk().waiting.push_back((batch, done));
        self.store.flush();
    }

    fn boot(&self) -> Boot {
        Boot(self.store.disk().boot)
    }

    fn space(&self) -> (Space, u64) {
        if self.store.disk().mood.full {
            (Space::Low, 100 << 20)
        } else {
            (Space::Ample, 10 << 30)
        }
    }

    fn is_quarantined(&self) -> bool {
        self.store.disk().quarantined
    }

    fn lift_quarantine(&self) {
        let mut disk = self.store.disk();
        disk.quarantined = false;
        disk.rotten.clear();
    }

    fn is_poisoned(&self) -> bool {
        self.store.disk().poisoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    const START: Time = Time::from_micros(1_000_000);

    /// Writes so many values over each other, this far apart.
    fn overwrite(store: &SimStore, count: u32, apart: Duration, from: Time) -> Time {
        for number in 1..=count {
            write(store, &number.to_be_bytes(), from + apart * number);
        }
        from + apart * count
    }

    fn write(store: &SimStore, value: &[u8], now: Time) {
        let mut batch = Batch::default();
        batch.changes.push((b"key".to_vec(), Some(value.to_vec())));
        store.disk().apply(batch, now);
    }

    fn is_seen(store: &SimStore) -> bool {
        store.has_been_durable(|value| value == b"said")
    }

    fn store() -> Arc<SimStore> {
        let store = SimStore::new(&World::new(7, Trace::new(None)));
        write(&store, b"said", START);
        store
    }

    /// A session that resumes may say it as late as that, however much is written meanwhile.
    #[test]
    fn what_was_on_disk_is_seen_for_as_long_as_it_may_wait_to_be_said() {
        let store = store();
        let apart = Duration::from_millis(16);
        let later = overwrite(&store, 1_000, apart, START);
        assert!(is_seen(&store), "16 s");
        overwrite(&store, 400, apart, later);
        assert!(!is_seen(&store), "22 s");
    }

    #[test]
    fn few_values_are_seen_for_longer_and_many_no_longer_than_there_is_room() {
        let calm = store();
        overwrite(&calm, 200, Duration::from_secs(1), START);
        assert!(is_seen(&calm));
        let busy = store();
        overwrite(&busy, 5_000, Duration::from_millis(1), START);
        assert!(!is_seen(&busy));
        assert_eq!(busy.disk().recent.len(), RECENT_MAX);
    }
}
