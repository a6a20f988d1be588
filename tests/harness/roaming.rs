//! Two phones in a call that may change its node: what either is asked, it answers at once, and its
//! sound goes where it was told last.
//!
//! In: a caller and a callee, any two nodes. Out: the two sides of the call, what they were asked, who
//! hung up. One thread drives them all: [`attend`] lets each phone of a set read what has come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::media::Pump;
use crate::phone::{Dialog, Message, Phone};
use crate::wait::{self, PATIENCE};

/// How long a phone listens before the next one has its turn.
const TURN: Duration = Duration::from_millis(1);

/// One phone in a call.
#[derive(Debug)]
pub struct Party {
    /// The phone.
    pub phone: Phone,
    /// Its side of the call.
    pub side: Dialog,
    /// Number of its socket in the pump.
    pub socket: usize,
    /// Port of that socket.
    pub rtp_port: u16,
    /// Offers that it was made, with when they came.
    pub offers: Vec<(Instant, Message)>,
    /// Whether it was told that the call is over.
    pub is_ended: bool,
    /// CSeq of INVITEs that it has accepted and that were not acknowledged.
    unacknowledged: Vec<u32>,
}

impl Party {
    /// Makes a party of a phone and its side of a call.
    #[must_use]
    pub fn new(phone: Phone, side: Dialog, (socket, rtp_port): (usize, u16), pump: &Pump) -> Party {
        pump.aim(socket, Some(side.media));
        Party {
            phone,
            side,
            socket,
            rtp_port,
            offers: Vec::new(),
            is_ended: false,
            unacknowledged: Vec::new(),
        }
    }

    /// Answers what has come.
    ///
    /// # Panics
    /// If it is asked anything of another call.
    pub fn attend(&mut self, pump: &Pump) {
        while let Some(request) = self.phone.take(TURN, |message| message.status() == 0) {
            self.serve(&request, pump);
        }
    }

    fn serve(&mut self, request: &Message, pump: &Pump) {
        let call_id = request.header("Call-ID").unwrap_or_default();
        assert_eq!(
            call_id, self.side.call_id,
            "{}: {request:?}",
            self.phone.user
        );
        match request.method() {
            "INVITE" => {
                self.follow(request, pump);
                self.unacknowledged.push(request.cseq());
                self.phone.respond(request, "200 OK", Some(self.rtp_port));
            }
            "ACK" => self.unacknowledged.retain(|cseq| *cseq != request.cseq()),
            "BYE" => {
                self.is_ended = true;
                pump.aim(self.socket, None);
                self.phone.respond(request, "200 OK", None);
            }
            _ => self.phone.respond(request, "200 OK", None),
        }
    }

    /// Takes the far side's address and description from an offer (RFC 3261 §12.2.2).
    fn follow(&mut self, offer: &Message, pump: &Pump) {
        if let Some(target) = offer.contact() {
            self.side.target = target;
        }
        if let Some(media) = offer.media() {
            self.side.media = media;
            pump.aim(self.socket, Some(media));
        }
        self.offers.push((Instant::now(), offer.clone()));
    }

    /// Every INVITE that it accepted was acknowledged, and no CSeq came twice.
    ///
    /// # Panics
    /// If not.
    pub fn was_treated_well(&self) {
        assert!(
            self.unacknowledged.is_empty(),
            "no ACK for {:?}",
            self.unacknowledged
        );
        self.phone.no_number_was_used_twice();
    }
}

/// A call of two phones.
#[derive(Debug)]
pub struct Roaming {
    /// Caller.
    pub caller: Party,
    /// Callee.
    pub callee: Party,
}

impl Roaming {
    /// Connects a call between two phones; the callee is registered.
    ///
    /// # Panics
    /// If the call is not answered.
    #[must_use]
    pub fn connect(mut caller: Phone, mut callee: Phone, pump: &Pump) -> Roaming {
        let add = |phone: &Phone| pump.add_at(phone.address().ip());
        let (one, other) = (add(&caller), add(&callee));
        let calling = caller.call(&callee.user, one.1);
        let invite = callee.ringing(PATIENCE).expect("an INVITE");
        callee.respond(&invite, "180 Ringing", None);
        let callee_side = callee.answer(&invite, other.1);
        let answer = caller.progress(&calling, 200, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let caller_side = caller.established(&calling, &answer);
        Roaming::of(
            (caller, caller_side, one),
            (callee, callee_side, other),
            pump,
        )
    }

    /// Joins the two sides of a call that is up.
    #[must_use]
    pub fn of(
        (caller, caller_side, one): (Phone, Dialog, (usize, u16)),
        (callee, callee_side, other): (Phone, Dialog, (usize, u16)),
        pump: &Pump,
    ) -> Roaming {
        Roaming {
            caller: Party::new(caller, caller_side, one, pump),
            callee: Party::new(callee, callee_side, other, pump),
        }
    }

    /// Caller and callee.
    pub fn parties(&mut self) -> [&mut Party; 2] {
        [&mut self.caller, &mut self.callee]
    }

    /// Returns the numbers of their sockets.
    #[must_use]
    pub fn sockets(&self) -> [usize; 2] {
        [self.caller.socket, self.callee.socket]
    }

    /// One party offers anew; the other is asked and agrees.
    ///
    /// # Panics
    /// If the node refuses, or does not ask the other.
    pub fn reinvite(&mut self, is_by_caller: bool, direction: &str, pump: &Pump) {
        let (one, other) = self.ordered(is_by_caller);
        let before = other.offers.len();
        std::thread::scope(|scope| {
            let offered =
                scope.spawn(|| one.phone.reinvite(&mut one.side, one.rtp_port, direction));
            wait::until("an offer at the other", PATIENCE, || {
                other.attend(pump);
                (other.offers.len() > before && offered.is_finished()).then_some(())
            });
            let answer = offered.join().expect("the one").expect("an answer");
            assert_eq!(answer.status(), 200, "{answer:?}");
        });
    }

    /// One party hangs up; the other is told.
    ///
    /// # Panics
    /// If the node does not answer, or does not tell the other.
    pub fn end(&mut self, is_by_caller: bool, pump: &Pump) {
        let (one, other) = self.ordered(is_by_caller);
        assert_eq!(one.phone.bye(&mut one.side), 200, "BYE");
        one.is_ended = true;
        pump.aim(one.socket, None);
        wait::until("a BYE at the other", PATIENCE, || {
            other.attend(pump);
            other.is_ended.then_some(())
        });
        for party in self.parties() {
            party.was_treated_well();
        }
    }

    fn ordered(&mut self, is_caller_first: bool) -> (&mut Party, &mut Party) {
        if is_caller_first {
            (&mut self.caller, &mut self.callee)
        } else {
            (&mut self.callee, &mut self.caller)
        }
    }

    /// Digits of each arrive at the other.
    ///
    /// # Panics
    /// If one does not.
    pub fn digits_pass(&mut self, event: u8, pump: &Pump) {
        let [one, other] = self.sockets();
        for (from, to) in [(one, other), (other, one)] {
            let before = pump.heard(to).events.len();
            pump.press(from, event);
            attend_until("a digit", std::slice::from_mut(self), pump, || {
                pump.heard(to).events.get(before) == Some(&event)
            });
        }
    }
}

/// Lets all phones answer what has come.
///
/// # Panics
/// If one was told that its call is over.
pub fn attend(calls: &mut [Roaming], pump: &Pump) {
    for (number, call) in calls.iter_mut().enumerate() {
        for party in call.parties() {
            party.attend(pump);
            assert!(
                !party.is_ended,
                "call {number} was ended at {}",
                party.phone.user
            );
        }
    }
}

/// Lets all phones answer what comes while something else is done.
///
/// # Panics
/// If one was told that its call is over, or the work panics.
pub fn attend_while<T: Send>(
    calls: &mut [Roaming],
    pump: &Pump,
    work: impl FnOnce() -> T + Send,
) -> T {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            is_done.store(true, Ordering::Relaxed);
            value
        });
        while !is_done.load(Ordering::Relaxed) {
            attend(calls, pump);
            std::thread::sleep(TURN);
        }
        let value = working.join().expect("it catches its own panics");
        value.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Lets all phones answer what comes until a state has come.
///
/// # Panics
/// If it does not come, or a call ends.
pub fn attend_until(
    what: &str,
    calls: &mut [Roaming],
    pump: &Pump,
    mut ready: impl FnMut() -> bool,
) {
    wait::until(what, PATIENCE, || {
        attend(calls, pump);
        ready().then_some(())
    });
}

/// Waits until each phone has heard `more` packets from where it was told last.
///
/// # Panics
/// If one stays silent.
pub fn all_hear(calls: &mut [Roaming], pump: &Pump, more: u64) {
    let sockets = calls.iter().flat_map(Roaming::sockets);
    let goals: Vec<_> = sockets
        .map(|number| (number, pump.heard(number).packets + more))
        .collect();
    wait::until_or(
        "packets at every phone",
        PATIENCE,
        || {
            attend(calls, pump);
            let is_silent = |goal: &&(usize, u64)| pump.heard(goal.0).packets < goal.1;
            let silent: Vec<_> = goals.iter().filter(is_silent).collect();
            let lost: Vec<_> = calls
                .iter()
                .filter(|call| !call.is_heard_from(pump))
                .collect();
            if silent.is_empty() && lost.is_empty() {
                Ok(())
            } else {
                Err(format!(
                    "silent: {silent:?}; from elsewhere: {}",
                    lost.len()
                ))
            }
        },
        |silent| silent,
    );
}

impl Roaming {
    fn is_heard_from(&self, pump: &Pump) -> bool {
        [&self.caller, &self.callee]
            .into_iter()
            .all(|party| pump.heard(party.socket).source == Some(party.side.media))
    }
}
