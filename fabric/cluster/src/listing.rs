//! What a desk reads from its store to compare and mend shards, for [`crate::Repair`].
//!
//! In: the store. Out: digests, pages, what is lacking, images. Everything is of what is durable
//! and was told by [`crate::DeskAction::Changed`], even where the store shows more already: call it
//! where requests are handed to the desk, not beside it. It changes nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use contract::env::Store;
use contract::limits::{
    REPAIR_CHECKS_MAX, REPAIR_IMAGES_BYTES_MAX, REPAIR_PAGE_BYTES_MAX, REPAIR_PAGE_MAX,
};
use contract::{NodeId, RecordKey, UtcMillis};

use crate::digest::{ShardDigests, names, names_both};
use crate::exchange::{Entry, Exchange, Mark, Page, REPAIR_ORDER, Range, Wanted};
use crate::load::scan_shard;
use crate::{Desk, Header, Image, RecordError, Version};

impl Desk {
    /// Reads the digests of one shard, for [`crate::RepairAction::LoadShard`].
    ///
    /// # Errors
    /// `Store` if the store is poisoned.
    pub fn digests(&self, store: &dyn Store, shard: u8) -> Result<ShardDigests, RecordError> {
        let mut digests = ShardDigests::default();
        for kind in REPAIR_ORDER {
            let after = None;
            let range = Range { kind, shard, after };
            self.visit(store, &range, &mut |key, header| {
                digests.add(self.me(), key, header);
                ControlFlow::Continue(())
            })?;
        }
        Ok(digests)
    }

    /// Reads a page of what this node holds that names another one too: the answer to its `List`
    /// ([`crate::RepairAction::List`]).
    ///
    /// # Errors
    /// `Store` if the store is poisoned.
    pub fn page(
        &self,
        store: &dyn Store,
        now: UtcMillis,
        peer: NodeId,
        range: &Range,
    ) -> Result<Page, RecordError> {
        let (mut entries, mut until, mut octets) = (Vec::new(), None, 0);
        let mut last = None;
        self.visit(store, range, &mut |key, header| {
            if !names_both(header, self.me(), peer) {
                return ControlFlow::Continue(());
            }
            octets += header.id.to_string().len();
            if entries.len() >= REPAIR_PAGE_MAX || octets > REPAIR_PAGE_BYTES_MAX {
                until = last;
                return ControlFlow::Break(());
            }
            last = Some(key.hash);
            entries.push(Entry {
                id: header.id.clone(),
                version: header.version,
                mark: mark(header, now),
            });
            ControlFlow::Continue(())
        })?;
        Ok(Page { entries, until })
    }

    /// Returns what to fetch after a page of another node's listing
    /// ([`crate::RepairAction::Compare`]): what this node lacks or has older; and up to
    /// `REPAIR_CHECKS_MAX` records that it thinks are the other's too, though they are not listed:
    /// the other may have a version with other holders.
    ///
    /// # Errors
    /// `Store` if the store is poisoned.
    pub fn compare(
        &self,
        store: &dyn Store,
        now: UtcMillis,
        peer: NodeId,
        range: &Range,
        page: &Page,
    ) -> Result<Vec<Wanted>, RecordError> {
        let mut theirs: BTreeMap<u128, &Entry> = BTreeMap::new();
        for entry in &page.entries {
            let key = self.ids().record_key(&entry.id);
            if range.contains(key, page.until) {
                theirs.insert(key.hash, entry);
            }
        }
        let (mut wanted, mut checks) = (Vec::new(), Vec::new());
        self.visit(store, range, &mut |key, header| {
            if page.until.is_some_and(|until| key.hash > until) {
                return ControlFlow::Break(());
            }
            let than = header.version;
            match theirs.remove(&key.hash) {
                Some(entry) if entry.version > than => wanted.push(Wanted {
                    id: header.id.clone(),
                    than,
                    is_check: false,
                }),
                Some(_) => {}
                None => {
                    let is_live = mark(header, now) != Mark::Expired;
                    let is_theirs = is_live && names_both(header, self.me(), peer);
                    if is_theirs && checks.len() < REPAIR_CHECKS_MAX {
                        checks.push(Wanted {
                            id: header.id.clone(),
                            than,
                            is_check: true,
                        });
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        // What is left is not here at all; a tombstone nobody needs any more stays away.
        let absent = theirs.into_values();
        let absent = absent.filter(|entry| entry.mark != Mark::Expired);
        wanted.extend(absent.map(|entry| Wanted {
            id: entry.id.clone(),
            than: Version::default(),
            is_check: false,
        }));
        wanted.extend(checks);
        Ok(wanted)
    }

    /// Reads the records that another node asks for: the answer to its `Fetch`
    /// ([`crate::RepairAction::Read`]), as many of the first ones as `REPAIR_IMAGES_BYTES_MAX`
    /// allows. Those that cannot be read, or have lost a part, are passed over; and those that name
    /// other holders only, as long as they are not durable here: a crash could leave them with
    /// nobody but a node that does not count.
    #[must_use]
    pub fn images(&self, store: &dyn Store, peer: NodeId, wanted: &[Wanted]) -> Exchange {
        let (mut images, mut passed, mut octets) = (Vec::new(), 0, 0);
        for one in wanted {
            if octets >= REPAIR_IMAGES_BYTES_MAX {
                break;
            }
            passed += 1;
            let Ok(held) = self.held(store, &one.id) else {
                continue;
            };
            let is_whole = held.missing().is_empty();
            let image = held.image.filter(|_| is_whole);
            let Some(image) = image.filter(|image| image.header.version > one.than) else {
                continue;
            };
            if !self.is_quiet(&one.id) && !names(&image.header, peer) {
                continue;
            }
            octets += size(&image);
            images.push(image);
        }
        Exchange::Images { images, passed }
    }

    /// Visits the durable headers of a range, in the order of their keys.
    fn visit(
        &self,
        store: &dyn Store,
        range: &Range,
        visit: &mut dyn FnMut(RecordKey, &Header) -> ControlFlow<()>,
    ) -> Result<(), RecordError> {
        let unfinished = self.unfinished(range.kind, range.shard);
        let unfinished = unfinished.filter(|(key, _)| range.contains(*key, None));
        let unfinished: BTreeMap<u128, Option<&Header>> =
            unfinished.map(|(key, header)| (key.hash, header)).collect();
        let mut pending = unfinished
            .iter()
            .filter_map(|(hash, header)| Some((*hash, (*header)?)))
            .peekable();
        let kind = range.kind;
        let wants =
            |key: RecordKey| range.contains(key, None) && !unfinished.contains_key(&key.hash);
        let mut is_over = false;
        let mut on_header = |key: RecordKey, header: &Header| {
            while let Some((hash, earlier)) = pending.next_if(|(hash, _)| *hash < key.hash) {
                if visit(RecordKey { kind, hash }, earlier).is_break() {
                    is_over = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = visit(key, header);
            is_over = flow.is_break();
            flow
        };
        scan_shard(store, kind, range.shard, &wants, &mut on_header)?;
        for (hash, header) in pending {
            if is_over || visit(RecordKey { kind, hash }, header).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Returns about how many octets a record takes on the wire.
pub(crate) fn size(image: &Image) -> usize {
    const HEADER: usize = 128;
    const PART: usize = 64;
    let id = image.header.id.to_string().len();
    HEADER + id + image.header.parts.len() * PART + image.header.bytes()
}

fn mark(header: &Header, now: UtcMillis) -> Mark {
    match header.is_ended() {
        false => Mark::Live,
        true if header.expires > now => Mark::Ended,
        true => Mark::Expired,
    }
}
