//! Working through the shards that have differed each time: page by page, within the octets that may be
//! taken.
//!
//! In: pages, records. Out: what is to be compared, fetched and stored next.

use std::time::Duration;

use contract::limits::{REPAIR_BYTES_PER_S, REPAIR_FETCH_MAX, REPAIR_IMAGES_BYTES_MAX};
use contract::{NodeId, Now};

use super::{BUDGET_MAX, Repair, deadline};
use crate::Image;
use crate::comparison::{Doing, RepairAction};
use crate::exchange::{Exchange, Page};
use crate::listing::size;

/// What an entry of a page counts.
const ENTRY_BYTES: i64 = 64;
/// Set aside for an answer until it comes.
const RESERVE: i64 = REPAIR_IMAGES_BYTES_MAX as i64;

impl Repair {
    pub(super) fn on_listed(&mut self, now: Now, from: NodeId, number: u64, page: Page) {
        let own = self.last_number + 1;
        let Some(work) = self.work(from) else {
            return;
        };
        if work.doing != (Doing::List { number }) {
            return;
        }
        let range = work.range();
        let is_forward = |until: u128| range.after.is_none_or(|after| until > after);
        if !page.until.is_none_or(is_forward) {
            work.fail();
            work.next = None;
        } else {
            work.next = page.until;
        }
        work.doing = Doing::Compare { number: own };
        work.deadline = deadline(now);
        self.last_number = own;
        self.own.insert(own, from);
        self.counts.pages += 1;
        self.budget -= i64::try_from(page.entries.len()).unwrap_or(0) * ENTRY_BYTES;
        self.out.push(RepairAction::Compare {
            number: own,
            peer: from,
            range,
            page,
        });
    }

    pub(super) fn on_images(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        images: Vec<Image>,
        passed: u32,
    ) {
        let bytes: usize = images.iter().map(size).sum();
        let Some(work) = self.work(from) else {
            return;
        };
        if work.doing != (Doing::Fetch { number }) {
            return;
        }
        if passed == 0 {
            self.give_up(now, from);
            return;
        }
        let mut fresh = Vec::new();
        let mut images = images.into_iter().peekable();
        let count = work.wanted.len().min(passed as usize);
        for wanted in work.wanted.drain(..count).collect::<Vec<_>>() {
            let image = images.next_if(|image| image.header.id == wanted.id);
            match image.filter(|image| image.header.version > wanted.than) {
                Some(image) => fresh.push(Box::new(image)),
                None if wanted.is_check => {}
                None => work.fail(),
            }
        }
        let first = self.last_number + 1;
        self.last_number += fresh.len() as u64;
        if let Some(work) = self.work(from) {
            let left = (first..first + fresh.len() as u64).collect();
            work.doing = Doing::Store { left };
            work.deadline = deadline(now);
        }
        let taken = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_add(RESERVE).saturating_sub(taken);
        self.counts.bytes += bytes as u64;
        if fresh.is_empty() {
            self.go_on(now, from);
            return;
        }
        for (number, image) in (first..).zip(fresh) {
            self.own.insert(number, from);
            self.out.push(RepairAction::Store { number, image });
        }
    }

    /// Does the next step of a comparison: fetches what is left of the page, or asks for the next.
    pub(super) fn go_on(&mut self, now: Now, node: NodeId) {
        self.fill(now);
        let (budget, number) = (self.budget, self.last_number + 1);
        let Some(work) = self.work(node) else {
            return;
        };
        work.deadline = deadline(now);
        if budget <= 0 {
            let missing = budget.unsigned_abs() + 1;
            let micros = (missing * 1_000_000).div_ceil(REPAIR_BYTES_PER_S);
            work.doing = Doing::Wait;
            work.deadline = now.mono + Duration::from_micros(micros);
            return;
        }
        let exchange = if work.wanted.is_empty() {
            let in_step = work.advance();
            let is_over = work.is_over();
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.is_in_step(in_step);
            }
            self.settle();
            if is_over {
                self.end_round(now, node);
                return;
            }
            let Some(work) = self.work(node) else {
                return;
            };
            work.doing = Doing::List { number };
            Exchange::List(work.range())
        } else {
            work.doing = Doing::Fetch { number };
            let wanted = work.wanted.iter().take(REPAIR_FETCH_MAX).cloned();
            let wanted = wanted.collect();
            self.budget -= RESERVE;
            Exchange::Fetch(wanted)
        };
        self.last_number = number;
        self.send(node, number, exchange);
    }

    fn fill(&mut self, now: Now) {
        let micros = now.mono.since(self.filled).as_micros();
        let more = micros * u128::from(REPAIR_BYTES_PER_S) / 1_000_000;
        // What is less than an octet stays for the next time.
        if more > 0 {
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            self.budget = self.budget.saturating_add(more).min(BUDGET_MAX);
            self.filled = now.mono;
        }
    }
}
