//! The far end is put through to somebody else, or joined with the far end of another call.
//!
//! In: the client's wish, what the call says of it. Out: an order for the call; how it goes, for the
//! client. Once it is done the call ends this side, which says `hangup`.

use contract::SideKey;
use doors::json::ServerMessage;
use sip::{Host, Uri};

use super::core::{DialogCtx, JsonDialog, State};
use crate::call;
use crate::door_session::About;

impl JsonDialog {
    /// The client wants the far end put through.
    pub(super) fn on_transfer(
        &mut self,
        id: Option<String>,
        to: Uri,
        replaces: Option<call::Replaces>,
    ) {
        if self.data.state != State::Confirmed {
            return self.error(id, 481, "nobody talks");
        }
        if self.transfer.is_some() {
            return self.error(id, 491, "a transfer is open");
        }
        let refer = Box::new(call::Refer {
            to,
            listener: self.data.flow.listener(),
            is_proven: true,
            replaces,
        });
        self.transfer = Some(id);
        let side = self.number();
        self.out.call(call::Message::Refer { side, refer });
    }

    /// The client wants the far end joined with that of another call of its own.
    pub(super) fn on_join(&mut self, id: Option<String>, dialog: SideKey, name: String) {
        // A JSON dialog has no tags: its name is its client's, and whose it is the call knows.
        let replaces = call::Replaces {
            dialog,
            call_id: name,
            our_tag: String::new(),
            peer_tag: String::new(),
            early_only: false,
        };
        self.on_transfer(id, self.data.account.uri(), Some(replaces));
    }

    /// The call puts the far end through, or says how that goes.
    pub(super) fn say_transfer(&mut self, code: u16) {
        let message = ServerMessage::TransferProgress {
            call_id: self.data.name.clone(),
            code,
            text: sip::reason(code).to_owned(),
        };
        match self.transfer.take() {
            Some(id) => self.reply(id, message),
            None => self.say(message, About::News),
        }
    }

    /// The call does not.
    pub(super) fn refuse_transfer(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        match self.transfer.take() {
            Some(id) => self.error(id, status, sip::reason(status)),
            None => ctx.ignore("no transfer is open"),
        }
    }
}

/// Returns the address that a client means.
pub(crate) fn address(to: &str, domain: &str) -> Option<Uri> {
    if let Ok(uri) = to.parse::<Uri>()
        && uri.user_raw().is_some()
    {
        return Some(uri);
    }
    let (user, host) = to.rsplit_once('@').unwrap_or((to, domain));
    let host: Host = host.parse().ok()?;
    (!user.is_empty()).then(|| Uri::sip(Some(user), host, None))
}
