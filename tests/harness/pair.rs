//! Two phones in a call with sound both ways.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::media::Pump;
use crate::phone::{Dialog, Phone};
use crate::wait::{self, PATIENCE};

/// Caller and callee.
#[derive(Debug)]
pub struct Pair {
    /// Caller.
    pub alice: Phone,
    /// Callee.
    pub bob: Phone,
    /// The caller's side of the call.
    pub alice_side: Dialog,
    /// The callee's side of the call.
    pub bob_side: Dialog,
    /// Numbers of their sockets in the pump: caller's, callee's.
    pub sockets: (usize, usize),
    ports: (u16, u16),
}

impl Pair {
    /// Registers `called` and connects a call to it from `caller`.
    ///
    /// # Panics
    /// If the call is not answered.
    #[must_use]
    pub fn connect(server: SocketAddr, pump: &Pump, caller: &str, called: &str) -> Pair {
        let (alice, mut bob) = (Phone::new(server, caller), Phone::new(server, called));
        assert_eq!(bob.register(3600).status(), 200);
        Pair::of(alice, bob, pump)
    }

    /// Connects a call between two phones; the callee is registered.
    ///
    /// # Panics
    /// If the call is not answered.
    #[must_use]
    pub fn of(mut alice: Phone, mut bob: Phone, pump: &Pump) -> Pair {
        let ip = alice.address().ip();
        let ((a, a_port), (b, b_port)) = (pump.add_at(ip), pump.add_at(ip));
        let number = bob.user.clone();
        let is_up = AtomicBool::new(false);
        let (alice_side, bob_side) = std::thread::scope(|scope| {
            let called = scope.spawn(|| {
                let invite = bob.ringing(PATIENCE).expect("an INVITE");
                bob.respond(&invite, "180 Ringing", None);
                let side = bob.answer(&invite, b_port);
                bob.attend(&is_up);
                side
            });
            let calling = alice.call(&number, a_port);
            let answer = alice.outcome(&calling, PATIENCE);
            is_up.store(true, Ordering::Relaxed);
            let answer = answer.expect("an answer");
            assert_eq!(answer.status(), 200, "{answer:?}");
            let side = alice.established(&calling, &answer);
            (side, called.join().expect("the callee"))
        });
        pump.aim(a, Some(alice_side.media));
        pump.aim(b, Some(bob_side.media));
        Pair {
            alice,
            bob,
            alice_side,
            bob_side,
            sockets: (a, b),
            ports: (a_port, b_port),
        }
    }

    /// The caller offers anew; the callee is asked and both agree.
    ///
    /// # Panics
    /// If they do not.
    pub fn reinvite_from_caller(&mut self) {
        let (caller, callee) = (self.ports.0, self.ports.1);
        let one = (&mut self.alice, &mut self.alice_side, caller);
        reinvite(one, (&mut self.bob, &self.bob_side, callee));
    }

    /// The callee offers anew; the caller is asked and both agree.
    ///
    /// # Panics
    /// If they do not.
    pub fn reinvite_from_callee(&mut self) {
        let (caller, callee) = (self.ports.0, self.ports.1);
        let one = (&mut self.bob, &mut self.bob_side, callee);
        reinvite(one, (&mut self.alice, &self.alice_side, caller));
    }

    /// The caller hangs up and the callee is told.
    ///
    /// # Panics
    /// If one of them is not answered or not told.
    pub fn end_from_caller(&mut self) {
        let one = (&mut self.alice, &mut self.alice_side);
        end(one, (&mut self.bob, &self.bob_side));
    }

    /// The callee hangs up and the caller is told.
    ///
    /// # Panics
    /// If one of them is not answered or not told.
    pub fn end_from_callee(&mut self) {
        let one = (&mut self.bob, &mut self.bob_side);
        end(one, (&mut self.alice, &self.alice_side));
    }

    /// Both phones go on listening, and answer what is repeated, until a state has come.
    ///
    /// # Panics
    /// If it does not come.
    pub fn attend_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        wait::until(what, PATIENCE * 2, || {
            self.alice.attend_once();
            self.bob.attend_once();
            ready().then_some(())
        });
    }

    /// No CSeq of the node's was used twice towards either phone.
    ///
    /// # Panics
    /// If one was.
    pub fn no_number_was_used_twice(&self) {
        self.alice.no_number_was_used_twice();
        self.bob.no_number_was_used_twice();
    }

    /// What both hear comes from where the node's SDP said.
    ///
    /// # Panics
    /// If it does not.
    pub fn hears_from_where_it_was_told(&self, pump: &Pump) {
        let (a, b) = self.sockets;
        assert_eq!(pump.heard(a).source, Some(self.alice_side.media));
        assert_eq!(pump.heard(b).source, Some(self.bob_side.media));
    }
}

/// One phone acts while the other serves the request that comes of it, and goes on listening: what
/// was lost on the way is repeated.
fn act(
    one: impl FnOnce() -> u16,
    other: (&mut Phone, &Dialog),
    method: &str,
    rtp_port: Option<u16>,
) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let request = other.0.serve(other.1, method, rtp_port, PATIENCE);
            other.0.attend(&is_done);
            request
        });
        let status = one();
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(status, 200, "{method}");
        let served = served.join().expect("the far side");
        assert!(served.is_some(), "no {method} at the far side");
    });
}

fn reinvite(one: (&mut Phone, &mut Dialog, u16), other: (&mut Phone, &Dialog, u16)) {
    let offer = || {
        let answer = one.0.reinvite(one.1, one.2, "sendrecv");
        answer.map_or(0, |answer| answer.status())
    };
    act(offer, (other.0, other.1), "INVITE", Some(other.2));
}

fn end(one: (&mut Phone, &mut Dialog), other: (&mut Phone, &Dialog)) {
    act(|| one.0.bye(one.1), other, "BYE", None);
}

/// Waits until every phone of `pairs` has got `more` packets.
///
/// # Panics
/// If one stays silent; what `explain` says is printed first.
pub fn all_hear(pump: &Pump, pairs: &[Pair], more: u64, explain: impl Fn() -> String) {
    let sockets = pairs
        .iter()
        .flat_map(|pair| [pair.sockets.0, pair.sockets.1]);
    let goals: Vec<_> = sockets
        .map(|number| (number, pump.heard(number).packets + more))
        .collect();
    let ready = || {
        let is_silent = |goal: &&(usize, u64)| pump.heard(goal.0).packets < goal.1;
        let silent: Vec<_> = goals.iter().filter(is_silent).collect();
        if silent.is_empty() {
            Ok(())
        } else {
            Err(silent)
        }
    };
    wait::until_or("packets at every phone", PATIENCE, ready, |silent| {
        format!("silent: {silent:?}\n{}", explain())
    });
}
