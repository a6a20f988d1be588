//! A call that rings while its node dies: how often its callee rings, who ends that, and whether the
//! caller is connected at last.
//!
//! In: a caller, a registered callee, what comes to them. Out: rings with their times. It answers when
//! it is told to.

use std::time::{Duration, Instant};

use crate::media::Pump;
use crate::phone::{Calling, Message, Phone};
use crate::roaming::Roaming;
use crate::wait::PATIENCE;

/// How long a phone listens before the next one has its turn.
const TURN: Duration = Duration::from_millis(1);

/// An INVITE that made a phone ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// It.
    pub invite: Message,
    /// When it came.
    pub since: Instant,
    /// When it was cancelled.
    pub ended: Option<Instant>,
}

/// A call that is not answered yet.
#[derive(Debug)]
pub struct Ringing {
    caller: Phone,
    callee: Phone,
    calling: Calling,
    sockets: [(usize, u16); 2],
    /// What made the callee ring, in order.
    pub rings: Vec<Ring>,
}

impl Ringing {
    /// Places a call to a phone that is registered, and returns when the caller hears it ring.
    ///
    /// # Panics
    /// If it does not ring.
    #[must_use]
    pub fn place(mut caller: Phone, mut callee: Phone, pump: &Pump) -> Ringing {
        let sockets = [&caller, &callee].map(|phone| pump.add_at(phone.address().ip()));
        let calling = caller.call(&callee.user, sockets[0].1);
        let invite = callee.ringing(PATIENCE).expect("an INVITE");
        callee.respond(&invite, "180 Ringing", None);
        let progress = caller.progress(&calling, 180, PATIENCE);
        assert!(progress.is_some_and(|progress| progress.status() == 180));
        let ring = Ring {
            invite,
            since: Instant::now(),
            ended: None,
        };
        Ringing {
            caller,
            callee,
            calling,
            sockets,
            rings: vec![ring],
        }
    }

    /// Lets the callee answer what has come; the caller waits.
    pub fn attend(&mut self) {
        while let Some(request) = self.callee.take(TURN, |message| message.status() == 0) {
            match request.method() {
                "INVITE" => {
                    self.callee.respond(&request, "180 Ringing", None);
                    self.rings.push(Ring {
                        invite: request,
                        since: Instant::now(),
                        ended: None,
                    });
                }
                "CANCEL" => {
                    self.callee.respond(&request, "200 OK", None);
                    let mut rings = self.rings.iter_mut();
                    let ring = rings.find(|ring| ring.invite.branch() == request.branch());
                    if let Some(ring) = ring {
                        ring.ended.get_or_insert_with(Instant::now);
                        let invite = ring.invite.clone();
                        self.callee.respond(&invite, "487 Request Terminated", None);
                    }
                }
                "BYE" => {
                    let gone = "481 Call/Transaction Does Not Exist";
                    self.callee.respond(&request, gone, None);
                }
                _ => {}
            }
        }
    }

    /// Returns the INVITE of the last ring that was not cancelled.
    #[must_use]
    pub fn open(&self) -> Option<&Ring> {
        self.rings.iter().rev().find(|ring| ring.ended.is_none())
    }

    /// Tells whether exactly one INVITE rings, and since when it does if that began after `since`.
    #[must_use]
    pub fn rings_anew(&self, since: Instant) -> bool {
        let open = self.rings.iter().filter(|ring| ring.ended.is_none());
        let open: Vec<_> = open.collect();
        open.len() == 1 && open[0].since > since
    }

    /// The callee answers what rings; returns the call that is up then, or what the caller was told.
    ///
    /// # Errors
    /// The status that the caller was refused with; 0 if it was told nothing.
    ///
    /// # Panics
    /// If nothing rings, or the answer is not acknowledged.
    pub fn answer(mut self, pump: &Pump) -> Result<Roaming, u16> {
        let invite = self.open().expect("it rings").invite.clone();
        let side = self.callee.answer(&invite, self.sockets[1].1);
        let answer = self.caller.progress(&self.calling, 200, PATIENCE);
        let status = answer.as_ref().map_or(0, Message::status);
        let Some(answer) = answer.filter(|_| status == 200) else {
            return Err(status);
        };
        let caller_side = self.caller.established(&self.calling, &answer);
        let [one, other] = self.sockets;
        Ok(Roaming::of(
            (self.caller, caller_side, one),
            (self.callee, side, other),
            pump,
        ))
    }
}
