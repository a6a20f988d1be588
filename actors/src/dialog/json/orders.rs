//! What the client wants: whose order it is, and which transition it means.
//!
//! In: orders. Out: the transitions of the other files; digits, candidates, statistics. An order
//! counts only from the account and the instance that the call is of (`threats.md` 24).

use std::time::Duration;

use bytes::Bytes;
use contract::limits::{DIALOG_REQUESTS_MAX, DIGIT_MS, DIGIT_MS_MAX, DIGIT_MS_MIN};
use doors::json::ServerMessage;

use super::core::{DialogCtx, JsonDialog, Role, State};
use super::transfer::address;
use super::{ClientCommand, ClientOrder};
use crate::call;
use crate::dialog::signal::{DTMF_RELAY, signal_of};
use crate::door_session::{self, About};

impl JsonDialog {
    /// Takes an order of a client.
    pub(super) fn on_order(&mut self, order: ClientOrder, ctx: &mut DialogCtx<'_>) {
        let is_owner = order.aor == self.data.account && order.contact == self.data.contact;
        if !is_owner {
            // No word of whether there is such a call.
            if let Some((to, refusal)) = super::refusal(&order, 404, "no such call") {
                self.out.other(to, refusal);
            }
            return;
        }
        let ClientOrder {
            flow,
            name,
            id,
            command,
            ..
        } = order;
        if command == ClientCommand::Inquire {
            return self.tell_state(flow, name);
        }
        let is_back = flow == self.data.flow && !self.data.is_flow_gone;
        self.rebind(flow, ctx);
        if command == ClientCommand::Resumed {
            if is_back {
                self.say_again();
            }
            return;
        }
        self.note_answer_known(&command);
        self.do_order(id, command, ctx);
    }

    fn tell_state(&mut self, flow: contract::FlowRef, name: String) {
        let state = self.word().to_owned();
        if let Some(to) = flow.actor() {
            self.out
                .other(to, door_session::Message::CallState { name, state });
        }
    }

    /// Whoever speaks of a call that is up knows that it is.
    fn note_answer_known(&mut self, command: &ClientCommand) {
        let tells = matches!(
            command,
            ClientCommand::Offer { .. }
                | ClientCommand::Reanswer { .. }
                | ClientCommand::Digits { .. }
                | ClientCommand::Stats { .. }
                | ClientCommand::Transfer { .. }
                | ClientCommand::Join { .. }
        );
        if tells && self.data.state == State::Confirmed && !self.data.knows_answer {
            self.data.knows_answer = true;
            self.out.save();
        }
    }

    fn do_order(&mut self, id: Option<String>, command: ClientCommand, ctx: &mut DialogCtx<'_>) {
        match command {
            ClientCommand::Ringing => self.on_ringing(ctx),
            ClientCommand::Answer { sdp } => self.on_answer(id, sdp, ctx),
            ClientCommand::Reject { status } => self.on_reject(id, status, ctx),
            ClientCommand::Hangup => self.on_hangup(ctx),
            ClientCommand::Offer { sdp, kind } => self.on_offer(id, sdp, kind, ctx),
            ClientCommand::Reanswer { sdp } => self.on_reanswer(id, sdp, ctx),
            ClientCommand::Candidate { candidate } => {
                let side = self.number();
                self.out.call(call::Message::Trickle { side, candidate });
            }
            ClientCommand::Digits {
                digits,
                duration_ms,
                is_info,
            } => {
                let length = duration_ms.unwrap_or(DIGIT_MS);
                let length = length.clamp(DIGIT_MS_MIN, DIGIT_MS_MAX);
                self.on_digits(id, digits, length, is_info);
            }
            ClientCommand::Transfer { to } => match address(&to, self.data.account.domain()) {
                Some(to) => self.on_transfer(id, to, None),
                None => self.error(id, 400, "no number or address"),
            },
            ClientCommand::Join { dialog, name } => self.on_join(id, dialog, name),
            ClientCommand::Stats { report } => self.data.stats = Some(report),
            ClientCommand::Ack { number } => self.on_ack(number, ctx),
            ClientCommand::Inquire | ClientCommand::Resumed => ctx.ignore("done already"),
        }
    }

    /// Sends the client's digits to the far end.
    fn on_digits(&mut self, id: Option<String>, digits: String, length_ms: u16, is_info: bool) {
        let is_up = self.data.state == State::Confirmed
            || (self.data.role == Role::Caller && self.data.state == State::Early);
        if !is_up {
            return self.error(id, 481, "nobody talks");
        }
        let side = self.number();
        if !is_info {
            let duration = Duration::from_millis(u64::from(length_ms));
            self.out.call(call::Message::Digits {
                side,
                digits: digits.clone(),
                duration,
            });
        } else if digits.len() > DIALOG_REQUESTS_MAX {
            return self.error(id, 400, "at most 8 digits by INFO");
        } else {
            for digit in digits.chars() {
                let body = Bytes::from(format!("Signal={digit}\r\nDuration={length_ms}\r\n"));
                self.out.call(call::Message::Info {
                    side,
                    content_type: DTMF_RELAY.to_owned(),
                    body,
                });
            }
        }
        let call_id = self.data.name.clone();
        let echo = ServerMessage::Dtmf {
            call_id,
            digits: Some(digits),
            digit: None,
        };
        self.reply(id, echo);
    }

    /// The far end sent a digit by INFO.
    pub(super) fn on_info(&mut self, body: &Bytes, ctx: &mut DialogCtx<'_>) {
        match signal_of(body) {
            Some(digit) => self.say_digit(digit),
            None => ctx.ignore("no digit"),
        }
    }

    pub(super) fn say_digit(&mut self, digit: char) {
        let call_id = self.data.name.clone();
        let message = ServerMessage::Dtmf {
            call_id,
            digits: None,
            digit: Some(digit),
        };
        self.say(message, About::News);
    }
}
