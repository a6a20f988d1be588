//! What a client sets for the calls to it, and is told of them.
//!
//! In: `settings`, the registration's answer. Out: `Set` to the registration, `settings` or `error`. The
//! registration judges them.

use contract::{ActorId, Undelivered};
use doors::json::{self, CallSettings, Dialled, ServerMessage};

use super::core::{Context, DoorSession};
use crate::registration;
use crate::registration::settings::{Change, Fault, Set, Settings};

impl DoorSession {
    pub(super) fn on_settings(
        &mut self,
        id: Option<String>,
        wanted: json::Settings,
        ctx: &mut Context<'_>,
    ) {
        let Some(who) = &self.who else {
            return self.error(id.as_deref(), 401, "register first", ctx);
        };
        let to = ActorId::Registration(who.aor.as_str().into());
        let change = wanted.set.map_or(Change::Nothing, |set| {
            Change::Replace(Box::new(of_client(set)))
        });
        let set = Set {
            change,
            reply: ctx.me().clone(),
            echo: id.unwrap_or_default(),
        };
        ctx.tell(to, registration::Message::Set(Box::new(set)).into());
    }

    pub(super) fn on_set(
        &mut self,
        echo: &str,
        result: Result<Settings, Fault>,
        ctx: &mut Context<'_>,
    ) {
        let id = Some(echo).filter(|id| !id.is_empty());
        match result {
            Ok(settings) => {
                let settings = ServerMessage::Settings(for_client(&settings));
                self.reply(id, &settings, ctx);
            }
            Err(Fault { status, why }) => self.error(id, status, &why, ctx),
        }
    }

    /// The registration had no time.
    pub(super) fn on_not_set(&mut self, set: &Set, why: Undelivered, ctx: &mut Context<'_>) {
        let (status, why) = match why {
            Undelivered::Busy => (503, "too much to do"),
            Undelivered::Absent => (404, "no such user"),
        };
        let why = why.to_owned();
        self.on_set(&set.echo, Err(Fault { status, why }), ctx);
    }
}

fn of_client(set: CallSettings) -> Settings {
    let number = |number: Option<Dialled>| number.map(|number| number.to_string());
    Settings {
        do_not_disturb: set.do_not_disturb,
        always: number(set.always),
        busy: number(set.busy),
        no_answer: number(set.no_answer),
        unreachable: number(set.unreachable),
        no_answer_s: set.no_answer_seconds,
        call_waiting: set.call_waiting,
    }
}

fn for_client(settings: &Settings) -> CallSettings {
    // Whatever is set could be dialled.
    let number = |number: &Option<String>| number.as_ref().and_then(|number| number.parse().ok());
    CallSettings {
        do_not_disturb: settings.do_not_disturb,
        always: number(&settings.always),
        busy: number(&settings.busy),
        no_answer: number(&settings.no_answer),
        unreachable: number(&settings.unreachable),
        no_answer_seconds: settings.no_answer_s,
        call_waiting: settings.call_waiting,
    }
}
