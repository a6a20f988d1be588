//! Anti-entropy: what the comparing of shards wants read, sent and stored (`cluster.md` §8).
//!
//! In: actions of [`cluster::Repair`]. Out: frames of the bulk class, copies for the own desk. The
//! store is read here, a page at a time.

use cluster::{Exchange, Frame, Page, RepairAction};
use contract::core::Roster;
use contract::limits::STRAY_KEPT_MS;
use contract::{FrameClass, Kind, NodeId, UtcMillis};

use super::{Turn, Work};

impl<R: Roster> Turn<'_, R> {
    pub(super) fn repair(&mut self, actions: Vec<RepairAction>) {
        let work = actions.into_iter().map(Work::Repair);
        self.state.work.extend(work);
    }

    /// The members, or who of them is up, have changed.
    pub(super) fn repair_view(&mut self) {
        let me = self.me().node;
        let lives = self.state.lives.iter();
        let others: Vec<NodeId> = lives
            .map(|life| life.node)
            .filter(|node| *node != me)
            .collect();
        let actions = self.state.repair.view_changed(self.now, &others);
        self.repair(actions);
    }

    pub(super) fn on_repair(&mut self, action: RepairAction) {
        let (store, now) = (self.fabric.env().store(), self.now);
        let actions = match action {
            RepairAction::Send { to, frame } => {
                let life = self.fabric.inner.mesh.life(to);
                let reads = life.map(|life| self.fabric.schema_for(life));
                let lacks = |since| reads.is_some_and(|reads| reads < since);
                if let Some((number, kind)) = kind_listed(&frame)
                    && lacks(kind.since())
                {
                    // It holds none, and would not know what is asked.
                    let nothing = Exchange::Listed(Page {
                        entries: Vec::new(),
                        until: None,
                    });
                    self.state.repair.frame(now, to, number, nothing)
                } else if is_glance(&frame) && lacks(Frame::GLANCES_SINCE) {
                    self.state.repair.unread_glance(now, to)
                } else {
                    self.send_to(to, FrameClass::Bulk, &frame);
                    return;
                }
            }
            RepairAction::LoadShard(shard) => {
                match self.state.desk.digests(store.as_ref(), shard) {
                    Ok(digests) => self.state.repair.loaded(now, shard, &digests),
                    Err(error) => {
                        tracing::error!(%error, shard, "a shard cannot be read");
                        return;
                    }
                }
            }
            RepairAction::List { to, number, range } => {
                let page = self.state.desk.page(store.as_ref(), now.utc, to, &range);
                if let Ok(page) = page {
                    self.exchange(to, number, Exchange::Listed(page));
                }
                return;
            }
            RepairAction::Read { to, number, wanted } => {
                let images = self.state.desk.images(store.as_ref(), to, &wanted);
                return self.exchange(to, number, images);
            }
            RepairAction::Compare {
                number,
                peer,
                range,
                page,
            } => {
                let wanted = self
                    .state
                    .desk
                    .compare(store.as_ref(), now.utc, peer, &range, &page);
                self.state.repair.compared(now, number, wanted.ok())
            }
            RepairAction::Store { number, image } => {
                self.bequeath(&image);
                let keep_until = UtcMillis(now.utc.0 + STRAY_KEPT_MS);
                let desk = &mut self.state.desk;
                let actions = desk.copy(store.as_ref(), number, *image, keep_until);
                self.state.work.extend(actions.into_iter().map(Work::Desk));
                return;
            }
            RepairAction::Settled(shard) => return self.state.desk.shard_settled(shard),
            RepairAction::Unsettled => return self.state.desk.view_changed(true),
        };
        self.repair(actions);
    }

    fn exchange(&self, to: NodeId, number: u64, exchange: Exchange) {
        self.send_to(to, FrameClass::Bulk, &Frame::Repair { number, exchange });
    }
}

/// Returns the number of a question for a page, and of which kind that page is.
const fn kind_listed(frame: &Frame) -> Option<(u64, Kind)> {
    if let Frame::Repair {
        number,
        exchange: Exchange::List(range),
    } = frame
    {
        return Some((*number, range.kind));
    }
    None
}

const fn is_glance(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Repair {
            exchange: Exchange::Glance(_),
            ..
        }
    )
}
