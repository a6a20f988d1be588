//! The second form of frames: what the first one has no word for (`cluster.md` §12).
//!
//! In: a frame, or its second form. Out: the other. `frame.rs` says when it is written.

use contract::limits::{EVENT_LIVES_MAX, SHARDS};
use contract::{MoveFault, NodeId, SchemaVersion};
use serde::{Deserialize, Serialize};

use crate::ShardSet;
use crate::events::{EventBatchV1, EventsHeld};
use crate::exchange::{Exchange, Glance, check_count};
use crate::form::InstV1;
use crate::frame::{Frame, FrameError};

/// What form 1 has no word for.
#[derive(Serialize, Deserialize)]
pub(crate) enum FrameV2 {
    KeptLoaded(u64),
    EventsHeld(Option<u16>, Vec<(InstV1, u64)>),
    Events(EventBatchV1),
    Glance(u64, u64, [u64; SHARDS / 64], u64),
}

impl FrameV2 {
    /// The first schema whose programs read it.
    pub(crate) const SINCE: SchemaVersion = SchemaVersion(2);

    pub(crate) fn of(frame: &Frame) -> Option<FrameV2> {
        match frame {
            Frame::Kept {
                number,
                why: MoveFault::Loaded,
            } => Some(FrameV2::KeptLoaded(*number)),
            Frame::EventsHeld(held) => {
                let lives = held
                    .lives
                    .iter()
                    .map(|(life, last)| ((*life).into(), *last));
                let of = held.of.map(|node| node.0);
                Some(FrameV2::EventsHeld(of, lives.collect()))
            }
            Frame::Events(batch) => Some(FrameV2::Events(batch.into())),
            Frame::Repair {
                number,
                exchange: Exchange::Glance(glance),
            } => {
                let in_step = glance.in_step.words();
                Some(FrameV2::Glance(*number, glance.round, in_step, glance.sum))
            }
            Frame::Kept { .. }
            | Frame::Tell { .. }
            | Frame::Returned { .. }
            | Frame::Ask { .. }
            | Frame::Reply { .. }
            | Frame::Where { .. }
            | Frame::Found { .. }
            | Frame::Redirect { .. }
            | Frame::Send { .. }
            | Frame::Repair { .. }
            | Frame::Take { .. }
            | Frame::Taken { .. }
            | Frame::Left { .. } => None,
        }
    }

    pub(crate) fn read(self) -> Result<Frame, FrameError> {
        Ok(match self {
            FrameV2::KeptLoaded(number) => Frame::Kept {
                number,
                why: MoveFault::Loaded,
            },
            FrameV2::EventsHeld(of, lives) => read_held(of, lives)?,
            FrameV2::Events(batch) => Frame::Events(batch.read()?),
            FrameV2::Glance(number, round, in_step, sum) => Frame::Repair {
                number,
                exchange: Exchange::Glance(Glance {
                    round,
                    in_step: ShardSet::from_words(in_step),
                    sum,
                }),
            },
        })
    }
}

fn read_held(of: Option<u16>, lives: Vec<(InstV1, u64)>) -> Result<Frame, FrameError> {
    check_count(lives.len(), 2 * EVENT_LIVES_MAX)?;
    let lives = lives.into_iter().map(|(life, last)| (life.into(), last));
    Ok(Frame::EventsHeld(EventsHeld {
        of: of.map(NodeId),
        lives: lives.collect(),
    }))
}
