//! Planted bugs: what a checker that sleeps would let pass. Each must be found.
//!
//! In: which one a plan names. Out: events, answers and copies that are not what they should be. A
//! run is one thread, so its bug is the thread's.

use std::cell::Cell;
use std::str::FromStr;

use actors::{Message, member};
use bytes::Bytes;
use cluster::{Frame, HolderReply, HolderRequest};
use contract::SchemaVersion;
use contract::core::Event;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Members do not hear that a connection is lost.
    Deaf,
    /// A claim counts other holders as granting it that were never asked: it is made from the
    /// claimant's own copy.
    LonelyClaim,
    /// A merge keeps the first copy and forgets what the others have.
    ForgetfulMerge,
    /// The store says that a batch is safe before it is.
    EarlyWord,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 4] = [
        Bug::Deaf,
        Bug::LonelyClaim,
        Bug::ForgetfulMerge,
        Bug::EarlyWord,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Bug::Deaf => "deaf",
            Bug::LonelyClaim => "lonely_claim",
            Bug::ForgetfulMerge => "forgetful_merge",
            Bug::EarlyWord => "early_word",
        }
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Bug::ALL.into_iter().find(|bug| bug.name() == text);
        found.ok_or_else(|| {
            let names = Bug::ALL.map(Bug::name).join(", ");
            format!("{text:?} is no planted bug; there are: {names}")
        })
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug into the runs of this thread from now on, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// `Deaf`: tells whether a core does not hear of an event.
#[must_use]
pub fn is_unheard(event: &Event<Message, ()>) -> bool {
    let is_loss = matches!(
        event,
        Event::Message {
            message: Message::Member(member::Message::Lost(..)),
            ..
        }
    );
    is_loss && is_planted(Bug::Deaf)
}

/// `LonelyClaim`: returns what the claimant takes for the answer to a frame that is never sent.
#[must_use]
pub fn answer(frame: &Bytes) -> Option<Bytes> {
    if !is_planted(Bug::LonelyClaim) {
        return None;
    }
    let Ok(Frame::Ask {
        number,
        request: HolderRequest::Claim { epoch, .. },
    }) = Frame::read(frame)
    else {
        return None;
    };
    let newest = None;
    let reply = HolderReply::Granted { epoch, newest };
    Frame::Reply { number, reply }
        .write(SchemaVersion::OLDEST)
        .ok()
}

/// `ForgetfulMerge`: returns the copies that a merge looks at.
#[must_use]
pub fn seen(copies: &[Bytes]) -> &[Bytes] {
    if is_planted(Bug::ForgetfulMerge) {
        &copies[..copies.len().min(1)]
    } else {
        copies
    }
}

/// `EarlyWord`: tells whether a batch counts as written as soon as it waits.
#[must_use]
pub fn is_early() -> bool {
    is_planted(Bug::EarlyWord)
}
