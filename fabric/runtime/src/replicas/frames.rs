//! Frames about records, each to the machine that it is for.
//!
//! In: a frame of another node. Out: inputs of the machines, answers. What is for actors, sockets and
//! the event log went elsewhere before (`mesh.rs`).

use cluster::Frame;
use contract::core::Roster;
use contract::{FrameClass, NodeInst};

use super::Turn;

impl<R: Roster> Turn<'_, R> {
    pub(super) fn frame(&mut self, from: NodeInst, frame: Frame) {
        match frame {
            Frame::Ask { number, request } => self.ask(from, number, request),
            Frame::Reply { number, reply } => self.reply(from, number, reply),
            Frame::Where { number, id } => {
                let whereabouts = self.where_is(&id);
                let frame = Frame::Found {
                    number,
                    whereabouts,
                };
                self.send(from, FrameClass::InDialog, &frame);
            }
            Frame::Found {
                number,
                whereabouts,
            } => {
                let found = self
                    .state
                    .directory
                    .found(self.now, from.node, number, whereabouts);
                self.direct(found);
            }
            Frame::Redirect { id, version, owner } => {
                let learned = self.state.directory.learn(&id, owner, version);
                self.direct(learned);
            }
            Frame::Repair { number, exchange } => {
                let actions = self
                    .state
                    .repair
                    .frame(self.now, from.node, number, exchange);
                self.repair(actions);
            }
            Frame::Take { number, id, epoch } => self.take_in(from, number, id, epoch),
            Frame::Taken { number, epoch } => self.taken(from, number, epoch),
            Frame::Kept { number, why } => self.kept(from, number, why),
            Frame::Left { number } => self.has_left(from, number),
            Frame::Tell { .. }
            | Frame::Returned { .. }
            | Frame::Send { .. }
            | Frame::EventsHeld(_)
            | Frame::Events(_) => {
                tracing::error!("a frame that is not for records");
            }
        }
    }
}
