//! What a phone does that puts others through: it refers who talks to it to a number, or to somebody
//! whom it calls for that and talks to (RFC 3515, RFC 3891, RFC 5589).
//!
//! In: a call that is up. Out: another call, a REFER. Who transfers waits for the node's BYE, or hangs up
//! a while later; half of them as soon as they have asked.

use std::time::Duration;

use contract::Time;

use super::call::CallState;
use super::{Out, Phone};
use crate::node::PLACES;

/// How long it waits for the end of a transfer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Phone {
    /// Perhaps puts the far end through, or asks whom it is to be put through to; tells whether it does.
    pub(super) fn puts_through(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) -> bool {
        let joins = self.habits.joins;
        let Some(call) = self.calls.get_mut(call_id).filter(|_| joins > 0) else {
            return false;
        };
        if call.is_unsure || call.is_offering || call.held || call.is_extension {
            return false;
        }
        if let Some(former) = call.consults_for.take() {
            return self.join(call_id, &former, now, out);
        }
        let is_alone = self.calls.values().filter(|call| call.goes_on()).count() == 1;
        if !is_alone || !self.draw(joins) {
            return false;
        }
        let parks = self.habits.parks;
        if parks > 0 && self.draw(parks) {
            let place = PLACES[self.rng.below(3) as usize];
            let target = format!("<sip:{place}@weft.test>");
            self.refer(call_id, &target, now, out);
            return true;
        }
        let number = (1000 + self.rng.below(12)).to_string();
        if self.draw(40) {
            let target = format!("<sip:{number}@weft.test>");
            self.refer(call_id, &target, now, out);
            return true;
        }
        let second = self.dial(&number, false, now, out);
        if let Some(call) = self.calls.get_mut(&second) {
            call.consults_for = Some(call_id.to_owned());
        }
        if let Some(call) = self.calls.get_mut(call_id) {
            call.step_at = Some(now + 2 * PATIENCE);
        }
        true
    }

    /// Joins the far ends of two calls.
    fn join(&mut self, second: &str, former: &str, now: Time, out: &mut Vec<Out>) -> bool {
        let is_up = |id: &str| {
            let call = self.calls.get(id);
            call.is_some_and(|call| call.state == CallState::Confirmed && !call.is_unsure)
        };
        if !is_up(second) || !is_up(former) {
            return false;
        }
        let Some(call) = self.calls.get_mut(second) else {
            return false;
        };
        call.step_at = Some(now + PATIENCE);
        let tag = |field: &str| field.split(";tag=").nth(1).unwrap_or_default().to_owned();
        let (theirs, ours) = (tag(&call.remote), tag(&call.local));
        let target = format!(
            "<sip:1000@weft.test?Replaces={second}%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{ours}>"
        );
        self.refer(former, &target, now, out);
        if self.draw(50) {
            for id in [second, former] {
                let wait = self.up_to(Duration::from_secs(2));
                if let Some(call) = self.calls.get_mut(id) {
                    call.step_at = Some(now + wait);
                }
            }
        }
        true
    }

    fn refer(&mut self, call_id: &str, target: &str, now: Time, out: &mut Vec<Out>) {
        let contact = self.fields().contact();
        if let Some(call) = self.calls.get_mut(call_id) {
            // Its next step is the end.
            call.is_unsure = true;
            call.step_at = Some(now + PATIENCE);
        }
        let more = format!("{contact}Refer-To: {target}\r\n");
        self.in_dialog(call_id, "REFER", &more, now, out);
    }
}
