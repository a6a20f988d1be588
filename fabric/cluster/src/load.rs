//! Reading records from a store.
//!
//! In: a store. Out: records and headers. A part whose value is damaged, or is not of the version
//! the header lists, counts as missing: never an old part for a new one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use contract::env::Store;
use contract::{ActorId, IdHasher, Kind, RecordKey};

use crate::form::{HEADER_PREFIX, Stored, header_key, part_key, read_part, read_stored};
use crate::{Epoch, Header, Held, Image, RecordError};

/// A record as a store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its header.
    pub header: Header,
    /// Highest epoch seen for it; never below the version's.
    pub fence: Epoch,
    /// Its parts by the actor they are of.
    pub parts: BTreeMap<ActorId, Bytes>,
    /// Parts that the header lists but that were lost (rot).
    pub missing: Vec<ActorId>,
}

/// What a scan has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Headers visited.
    pub visited: usize,
    /// Headers that could not be read; they were passed over.
    pub unread: usize,
    /// Headers under keys that are not those of their IDs: written with another secret. They were
    /// passed over; only [`scan_placed`] looks.
    pub misplaced: usize,
}

/// Loads the record that an actor's part lies in: a call's for its sides.
///
/// Out: `None` if there is no record; a bare fence is found by [`hold`] only.
///
/// # Errors
/// `Store` if the store is poisoned, `Damaged` or `Newer` if the header cannot be read.
pub fn load(
    store: &dyn Store,
    ids: &IdHasher,
    id: &ActorId,
) -> Result<Option<Loaded>, RecordError> {
    let held = hold(store, ids, id)?;
    let missing = held.missing();
    Ok(held.image.map(|image| Loaded {
        header: image.header,
        fence: held.fence,
        parts: image.parts,
        missing,
    }))
}

/// Loads what this node holds of an ID, fence included, for [`crate::decide`].
///
/// # Errors
/// As [`load`].
pub fn hold(store: &dyn Store, ids: &IdHasher, id: &ActorId) -> Result<Held, RecordError> {
    let failed = |source| RecordError::Store {
        id: id.to_string(),
        source,
    };
    let key = ids.record_key(id);
    let Some(value) = store.read(&header_key(key)).map_err(failed)? else {
        return Ok(Held::default());
    };
    let stored = read_stored(&value).map_err(|unread| unread.of(id.to_string()))?;
    let Stored {
        fence,
        header,
        own_part_at,
    } = stored;
    let Some(header) = header else {
        return Ok(Held { fence, image: None });
    };
    let mut parts = BTreeMap::new();
    parts.extend(own_part_at.map(|at| (header.id.clone(), value.slice(at..))));
    for entry in &header.parts {
        let Some(place) = part_key(key, &entry.id) else {
            continue;
        };
        let Some(value) = store.read(&place).map_err(failed)? else {
            continue;
        };
        let (version, part) = read_part(&value).map_err(|unread| unread.of(id.to_string()))?;
        if version == entry.version && part.len() == entry.length as usize {
            parts.insert(entry.id.clone(), part);
        }
    }
    let image = Some(Image { header, parts });
    Ok(Held { fence, image })
}

/// Visits the headers of all records, in the order of their keys, until told to stop.
///
/// Out: how many were visited and how many could not be read. Parts are not read.
///
/// # Errors
/// `Store` if the store is poisoned.
pub fn scan(
    store: &dyn Store,
    visit: &mut dyn FnMut(&Header) -> ControlFlow<()>,
) -> Result<Scanned, RecordError> {
    let mut on_header = |_: &[u8], header: &Header| visit(header);
    scan_prefix(store, HEADER_PREFIX, &|_| true, &mut on_header)
}

/// The same, without those whose key is not their ID's under the secret of `ids`: nobody would find
/// them again.
///
/// # Errors
/// As [`scan`].
pub fn scan_placed(
    store: &dyn Store,
    ids: &IdHasher,
    visit: &mut dyn FnMut(&Header) -> ControlFlow<()>,
) -> Result<Scanned, RecordError> {
    let mut misplaced = 0;
    let mut on_header = |key: &[u8], header: &Header| {
        if key == header_key(ids.record_key(&header.id)) {
            return visit(header);
        }
        misplaced += 1;
        ControlFlow::Continue(())
    };
    let mut scanned = scan_prefix(store, HEADER_PREFIX, &|_| true, &mut on_header)?;
    scanned.visited -= misplaced;
    scanned.misplaced = misplaced;
    Ok(scanned)
}

/// Visits the headers of one shard of one kind, in the order of their keys, until told to stop.
///
/// In: `wants`, by the key, which headers to read at all. Out and errors: as of [`scan`].
pub fn scan_shard(
    store: &dyn Store,
    kind: Kind,
    shard: u8,
    wants: &dyn Fn(RecordKey) -> bool,
    visit: &mut dyn FnMut(RecordKey, &Header) -> ControlFlow<()>,
) -> Result<Scanned, RecordError> {
    let prefix = [HEADER_PREFIX, &[kind as u8, shard]].concat();
    let key_of = |key: &[u8]| {
        let hash = key.get(HEADER_PREFIX.len() + 1..)?;
        let hash = u128::from_be_bytes(hash.try_into().ok()?);
        Some(RecordKey { kind, hash })
    };
    let wants_key = |key: &[u8]| key_of(key).is_some_and(wants);
    let mut on_header = |key: &[u8], header: &Header| match key_of(key) {
        Some(key) => visit(key, header),
        None => ControlFlow::Continue(()),
    };
    scan_prefix(store, &prefix, &wants_key, &mut on_header)
}

fn scan_prefix(
    store: &dyn Store,
    prefix: &[u8],
    wants: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(&[u8], &Header) -> ControlFlow<()>,
) -> Result<Scanned, RecordError> {
    let mut scanned = Scanned::default();
    let mut on_value = |key: &[u8], value: &[u8]| {
        if !wants(key) {
            return ControlFlow::Continue(());
        }
        match read_stored(value) {
            Ok(Stored {
                header: Some(header),
                ..
            }) => {
                scanned.visited += 1;
                visit(key, &header)
            }
            Ok(Stored { header: None, .. }) => ControlFlow::Continue(()),
            Err(_) => {
                scanned.unread += 1;
                ControlFlow::Continue(())
            }
        }
    };
    let done = store.scan(prefix, &mut on_value);
    done.map_err(|source| RecordError::Store {
        id: "all actors".to_owned(),
        source,
    })?;
    Ok(scanned)
}
