//! register, resumeSession, unregister: who is at the other end, and for how long.
//!
//! In: what the client says, answers of its registration, states of its calls. Out: `registered`
//! and its kin, questions. One question at a time; what dialogs say meanwhile follows
//! `registered`, as a client that comes back expects.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::limits::JSON_PASSWORDS_MAX;
use contract::{ActorId, CloseCode, SessionToken, Time, Undelivered};
use doors::json::{CallState, Register, Resume, ServerMessage, Unregister};

use super::core::{Context, DoorSession, State, Timer, Who};
use super::password::{self, Proven};
use crate::dialog::ClientCommand;
use crate::dialog::json::PARK;
use crate::registration;

/// How long a registration may take: its gate, and one more try of a full inbox.
const ANSWER_WAIT: Duration = Duration::from_secs(8);
/// How long dialogs may take: as long as they wait for a client, or it would be told `gone` of a call
/// that still waits for it at a node which is out of reach. Calls of a node that fell silent are gone
/// on with by then (`cluster.md` §5), and clients wait longer for an answer.
const STATES_WAIT: Duration = PARK;
/// When those that have not answered are asked again.
const STATES_AGAIN: Duration = Duration::from_millis(500);
/// How long before its end a client is told that its binding ends.
const EXPIRING_BEFORE: Duration = Duration::from_secs(60);

/// A question that is open.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) id: Option<String>,
    pub(super) who: Who,
    pub(super) purpose: Purpose,
}

/// What it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Purpose {
    Register,
    /// The registration is asked; then the dialogs of these calls.
    Resume {
        calls: Vec<String>,
        /// When it was asked first.
        since: Time,
    },
    /// The dialogs are asked.
    States {
        /// When the binding ends: what is told of it is told when they have answered. Counted from
        /// the question, as the answer may have been long on its way. What remained was rounded up:
        /// the last second is not to be relied on.
        ends: Time,
        waiting: BTreeSet<String>,
        states: Vec<CallState>,
        until: Time,
    },
    Unregister,
}

impl DoorSession {
    pub(super) fn on_register(
        &mut self,
        id: Option<String>,
        register: Register,
        ctx: &mut Context<'_>,
    ) {
        if self.asked.is_some() {
            return self.fail(id.as_deref(), 429, "one at a time", ctx);
        }
        let site = ctx.site();
        let aor = password::aor_of(register.dn.as_str(), site);
        let (is_right, _) = password::check(aor.as_ref(), &register.password, site);
        let Some(aor) = aor.filter(|_| is_right) else {
            self.wrong_passwords += 1;
            self.count_refused(401, "wrong password", ctx);
            self.fail(id.as_deref(), 401, "wrong number or password", ctx);
            if self.wrong_passwords >= JSON_PASSWORDS_MAX {
                self.close(CloseCode::Policy, "wrong passwords", ctx);
            }
            return;
        };
        let known = self.who.clone();
        if known.as_ref().is_some_and(|who| who.aor != aor) {
            return self.fail(id.as_deref(), 403, "registered as another", ctx);
        }
        let instance = match (register.instance, known) {
            (Some(instance), _) => instance.to_string(),
            (None, Some(who)) => who.instance,
            (None, None) => format!("{:032x}", ctx.rng().next_u128()),
        };
        let display = register.display_name.map(|name| name.to_string());
        let proven = Proven { aor, instance };
        let asked = asked(id, proven, display.unwrap_or_default(), Purpose::Register);
        let Some(client) = self.client(&asked.who, ctx) else {
            return;
        };
        let expires_s = register.expires;
        self.ask(
            asked,
            registration::Message::Bind { client, expires_s },
            ctx,
        );
    }

    pub(super) fn on_resume(&mut self, id: Option<String>, resume: Resume, ctx: &mut Context<'_>) {
        if self.asked.is_some() || self.who.is_some() {
            return self.fail(id.as_deref(), 429, "one at a time", ctx);
        }
        let proven = match password::resumed(&resume.token, ctx.now().utc, ctx.site()) {
            Ok(proven) => proven,
            Err(code) => {
                self.count_refused(code, "session token", ctx);
                if code == 401 {
                    self.wrong_passwords += 1;
                }
                self.fail(id.as_deref(), code, "that session is over", ctx);
                if self.wrong_passwords >= JSON_PASSWORDS_MAX {
                    self.close(CloseCode::Policy, "wrong tokens", ctx);
                }
                return;
            }
        };
        let calls = resume.calls.iter().map(ToString::to_string).collect();
        let since = ctx.now().mono;
        let asked = asked(id, proven, String::new(), Purpose::Resume { calls, since });
        let Some(client) = self.client(&asked.who, ctx) else {
            return;
        };
        self.ask(asked, registration::Message::Resume { client }, ctx);
    }

    pub(super) fn on_unregister(
        &mut self,
        id: Option<String>,
        unregister: &Unregister,
        ctx: &mut Context<'_>,
    ) {
        let aor = password::aor_of(unregister.dn.as_str(), ctx.site());
        let Some(who) = self
            .who
            .clone()
            .filter(|who| Some(&who.aor) == aor.as_ref())
        else {
            return self.error(id.as_deref(), 403, "not registered as that", ctx);
        };
        if self.asked.is_some() {
            return self.error(id.as_deref(), 429, "one at a time", ctx);
        }
        let Some(client) = self.client(&who, ctx) else {
            return;
        };
        let asked = Asked {
            id,
            who,
            purpose: Purpose::Unregister,
        };
        self.ask(asked, registration::Message::Unbind { client }, ctx);
    }

    fn client(&self, who: &Who, ctx: &Context<'_>) -> Option<registration::Client> {
        self.flow.map(|flow| registration::Client {
            instance: who.instance.clone(),
            flow,
            reply: ctx.me().clone(),
        })
    }

    fn ask(&mut self, asked: Asked, message: registration::Message, ctx: &mut Context<'_>) {
        let to = ActorId::Registration(asked.who.aor.as_str().into());
        self.asked = Some(asked);
        self.deadlines
            .set(Timer::Answer, ctx.now().mono, ANSWER_WAIT);
        ctx.tell(to, message.into());
    }

    fn fail(&mut self, id: Option<&str>, code: u16, reason: &str, ctx: &mut Context<'_>) {
        let reason = reason.to_owned();
        self.reply(id, &ServerMessage::RegisterFailed { code, reason }, ctx);
    }

    /// The binding is safe.
    pub(super) fn on_bound(&mut self, expires_s: u32, ctx: &mut Context<'_>) {
        let Some(asked) = self.asked.take() else {
            return ctx.ignore("nothing was asked");
        };
        self.deadlines.clear(Timer::Answer);
        match asked.purpose.clone() {
            Purpose::Register => self.be_registered(asked, expires_s, None, ctx),
            Purpose::Resume { calls, since } => {
                let ends = since + Duration::from_secs(u64::from(expires_s));
                self.ask_states(asked, &calls, ends, ctx);
            }
            Purpose::States { .. } | Purpose::Unregister => {
                self.asked = Some(asked);
                ctx.ignore("told once more");
            }
        }
    }

    /// Asks the dialogs of the client's calls how far they are.
    fn ask_states(&mut self, asked: Asked, calls: &[String], ends: Time, ctx: &mut Context<'_>) {
        for name in calls {
            self.order(&asked.who, name, None, ClientCommand::Inquire, ctx);
        }
        let purpose = Purpose::States {
            ends,
            waiting: calls.iter().cloned().collect(),
            states: Vec::new(),
            until: ctx.now().mono + STATES_WAIT,
        };
        self.asked = Some(Asked { purpose, ..asked });
        self.deadlines
            .set(Timer::Answer, ctx.now().mono, STATES_AGAIN);
        self.go_on_if_known(ctx);
    }

    /// Some dialogs have not answered: those of a node that died are somewhere else soon.
    fn ask_states_again(&mut self, ctx: &mut Context<'_>) {
        let Some(Asked {
            purpose:
                Purpose::States {
                    ends,
                    waiting,
                    until,
                    ..
                },
            who,
            ..
        }) = &self.asked
        else {
            return;
        };
        let now = ctx.now().mono;
        if *until <= now || left_s(*ends, now) == 0 {
            return self.resume(ctx);
        }
        let (who, waiting) = (who.clone(), waiting.clone());
        for name in &waiting {
            self.order(&who, name, None, ClientCommand::Inquire, ctx);
        }
        self.deadlines.set(Timer::Answer, now, STATES_AGAIN);
    }

    /// A dialog says how far its call is.
    pub(super) fn on_call_state(&mut self, name: String, state: String, ctx: &mut Context<'_>) {
        let Some(Asked {
            purpose: Purpose::States {
                waiting, states, ..
            },
            ..
        }) = &mut self.asked
        else {
            return ctx.ignore("nothing was asked");
        };
        if !waiting.remove(&name) {
            return ctx.ignore("told once more");
        }
        states.push(CallState {
            call_id: name,
            state,
        });
        self.go_on_if_known(ctx);
    }

    fn go_on_if_known(&mut self, ctx: &mut Context<'_>) {
        if let Some(Asked {
            purpose: Purpose::States { waiting, .. },
            ..
        }) = &self.asked
            && waiting.is_empty()
        {
            self.resume(ctx);
        }
    }

    /// All calls are known: `registered`, then what waited, then the dialogs say theirs again. Of a
    /// binding that has ended meanwhile nobody is told that it holds: the client registers anew.
    fn resume(&mut self, ctx: &mut Context<'_>) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let Purpose::States {
            ends,
            waiting,
            mut states,
            ..
        } = asked.purpose.clone()
        else {
            return;
        };
        self.deadlines.clear(Timer::Answer);
        let expires_s = left_s(ends, ctx.now().mono);
        if expires_s == 0 {
            self.asked = Some(asked);
            return self.on_refused(410, "no such binding", ctx);
        }
        for name in waiting {
            let state = "gone".to_owned();
            states.push(CallState {
                call_id: name,
                state,
            });
        }
        let who = asked.who.clone();
        self.be_registered(asked, expires_s, Some(states.clone()), ctx);
        self.say_held(ctx);
        for known in states.iter().filter(|known| known.state != "gone") {
            self.order(&who, &known.call_id, None, ClientCommand::Resumed, ctx);
        }
    }

    /// Says what dialogs wanted said before the client had its answer.
    fn say_held(&mut self, ctx: &mut Context<'_>) {
        for delivery in std::mem::take(&mut self.held) {
            if let Some(side) = self.calls.get(&delivery.name).copied() {
                self.say(side, &delivery, ctx);
            }
        }
    }

    /// Tells whether `registered` is still to come, after which dialogs may speak.
    pub(super) fn is_resuming(&self) -> bool {
        let purpose = self.asked.as_ref().map(|asked| &asked.purpose);
        matches!(
            purpose,
            Some(Purpose::Resume { .. } | Purpose::States { .. })
        )
    }

    fn be_registered(
        &mut self,
        asked: Asked,
        expires_s: u32,
        calls: Option<Vec<CallState>>,
        ctx: &mut Context<'_>,
    ) {
        let (now, site) = (ctx.now(), ctx.site());
        let lifetime = Duration::from_secs(u64::from(expires_s));
        let who = asked.who;
        let session_token = site.tokens.write_session(&SessionToken {
            aor: who.aor.to_string(),
            instance: who.instance.clone(),
            expires: now.utc.after(lifetime),
        });
        let listener = self.flow.and_then(|flow| site.listener(flow.listener()));
        let server = listener.map(|listener| listener.advertise.ip().to_string());
        let registered = ServerMessage::Registered {
            dn: who.aor.to_string(),
            expires: expires_s,
            server: server.unwrap_or_default(),
            session_token,
            ice_servers: Vec::new(),
            resumed: calls.is_some(),
            calls,
        };
        self.enter(State::Registered, ctx);
        self.who = Some(who);
        self.wrong_passwords = 0;
        let before = lifetime.saturating_sub(EXPIRING_BEFORE).max(lifetime / 2);
        self.deadlines.set(Timer::Expiring, now.mono, before);
        self.deadlines.set(Timer::Expired, now.mono, lifetime);
        self.reply(asked.id.as_deref(), &registered, ctx);
    }

    pub(super) fn on_unbound(&mut self, ctx: &mut Context<'_>) {
        let is_asked = |asked: &Asked| asked.purpose == Purpose::Unregister;
        let Some(asked) = self.asked.take_if(|asked| is_asked(asked)) else {
            return ctx.ignore("nothing was asked");
        };
        self.deadlines.clear(Timer::Answer);
        let unregistered = ServerMessage::Unregistered {
            dn: asked.who.aor.to_string(),
            reason: "unregistered".to_owned(),
        };
        self.enter(State::Open, ctx);
        self.reply(asked.id.as_deref(), &unregistered, ctx);
    }

    pub(super) fn on_refused(&mut self, status: u16, why: &str, ctx: &mut Context<'_>) {
        let Some(asked) = self.asked.take() else {
            return ctx.ignore("nothing was asked");
        };
        self.deadlines.clear(Timer::Answer);
        self.fail(asked.id.as_deref(), status, why, ctx);
        // Some of it is said only once, and the connection is still there.
        self.say_held(ctx);
    }

    pub(super) fn on_no_registration(&mut self, why: Undelivered, ctx: &mut Context<'_>) {
        let purpose = self.asked.as_ref().map(|asked| asked.purpose.clone());
        match (purpose, why) {
            (Some(Purpose::Unregister), Undelivered::Absent) => self.on_unbound(ctx),
            (Some(Purpose::Resume { .. }), Undelivered::Absent) => {
                self.on_refused(410, "no such binding", ctx);
            }
            (Some(_), _) => self.on_refused(503, "too much to do", ctx),
            (None, _) => ctx.ignore("nothing was asked"),
        }
    }

    /// Nobody answered in time.
    pub(super) fn on_no_answer(&mut self, ctx: &mut Context<'_>) {
        match self.asked.as_ref().map(|asked| &asked.purpose) {
            Some(Purpose::States { .. }) => self.ask_states_again(ctx),
            Some(Purpose::Register | Purpose::Resume { .. } | Purpose::Unregister) => {
                self.on_refused(503, "no answer", ctx);
            }
            None => ctx.ignore("nothing was asked"),
        }
    }

    pub(super) fn on_expiring(&mut self, ctx: &mut Context<'_>) {
        let Some(who) = &self.who else {
            return ctx.ignore("nobody is registered");
        };
        let dn = who.aor.to_string();
        let end = self.deadlines.due(Timer::Expired);
        let in_s = end.map_or(0, |end| left_s(end, ctx.now().mono));
        self.start(None, &ServerMessage::Expiring { dn, in_s }, ctx);
    }

    pub(super) fn on_expired(&mut self, ctx: &mut Context<'_>) {
        if let Some(who) = &self.who {
            let dn = who.aor.to_string();
            let reason = "expired".to_owned();
            self.start(None, &ServerMessage::Unregistered { dn, reason }, ctx);
            self.enter(State::Open, ctx);
        }
    }
}

/// Returns the whole seconds until then.
fn left_s(ends: Time, now: Time) -> u32 {
    u32::try_from(ends.since(now).as_secs()).unwrap_or(u32::MAX)
}

fn asked(id: Option<String>, proven: Proven, display: String, purpose: Purpose) -> Asked {
    let Proven { aor, instance } = proven;
    let contact = registration::contact(&aor, &instance);
    let who = Who {
        aor,
        instance,
        contact,
        display,
    };
    Asked { id, who, purpose }
}
