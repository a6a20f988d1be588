//! What an actor is asked to do that answers itself: settings of a registration, orders to a call.
//!
//! In: requests of the HTTP door, answers of actors. Out: one message to the actor, one `Http` action.

use std::time::Duration;

use contract::limits::API_WAIT_S;
use contract::{ActorId, CallKey};

use super::core::{Console, Context, Pending, Ticket, Want};
use super::gather::Part;
use super::reply::{refuse, reply};
use crate::call::{Order, Steer};
use crate::registration::settings::{Change, Fault, Set, Settings};
use crate::wire::FORM_3_SINCE;
use crate::{call, registration};

impl Console {
    pub(super) fn on_settings(
        &mut self,
        ticket: u64,
        dn: &str,
        set: Option<Box<Settings>>,
        ctx: &mut Context<'_>,
    ) {
        let (user, host) = dn.rsplit_once('@').unwrap_or((dn, ""));
        let Some(aor) = ctx.site().aor(user, host) else {
            return refuse(ticket, 400, "no user part", ctx);
        };
        let set = Set {
            change: set.map_or(Change::Nothing, Change::Replace),
            reply: ctx.me().clone(),
            echo: self.await_actor(ticket, Want::Settings, ctx),
        };
        let to = ActorId::Registration(aor.as_str().into());
        ctx.tell(to, registration::Message::Set(Box::new(set)).into());
    }

    /// Keeps a request that an actor will answer; returns what its answer carries back.
    fn await_actor(&mut self, ticket: u64, want: Want, ctx: &Context<'_>) -> String {
        let site = ctx.site();
        let pending = Pending {
            ticket: Ticket::Http(ticket),
            due: ctx.now().mono + Duration::from_secs(API_WAIT_S),
            want,
            first: None,
            parts: vec![Part::new(site.node, site.name.clone())],
        };
        self.requests += 1;
        self.pending.insert(self.requests, pending);
        self.requests.to_string()
    }

    /// Returns the request that an actor answers.
    fn answered(&mut self, echo: &str) -> Option<(u64, Want)> {
        let pending = self.pending.remove(&echo.parse().ok()?)?;
        match pending.ticket {
            Ticket::Http(ticket) => Some((ticket, pending.want)),
            Ticket::Console(..) => None,
        }
    }

    pub(super) fn on_steer(
        &mut self,
        ticket: u64,
        call: CallKey,
        command: Option<String>,
        order: Order,
        ctx: &mut Context<'_>,
    ) {
        if ctx.health().schema < FORM_3_SINCE {
            let detail = "a node of an earlier release does not know orders";
            return refuse(ticket, 503, detail, ctx);
        }
        let steer = Steer {
            reply: ctx.me().clone(),
            echo: self.await_actor(ticket, Want::Steered(call), ctx),
            command,
            order,
        };
        let message = call::Message::Steer(Box::new(steer));
        ctx.tell(ActorId::Call(call), message.into());
    }

    /// A call does what is ordered, or says why not.
    pub(super) fn on_steered(
        &mut self,
        echo: &str,
        result: Result<(), Fault>,
        ctx: &mut Context<'_>,
    ) {
        match (self.answered(echo), result) {
            (Some((ticket, Want::Steered(call))), Ok(())) => {
                reply(
                    ticket,
                    202,
                    &serde_json::json!({ "call": call.to_string() }),
                    ctx,
                );
            }
            (Some((ticket, _)), Ok(())) => refuse(ticket, 500, "it was no order", ctx),
            (Some((ticket, _)), Err(Fault { status, why })) => refuse(ticket, status, &why, ctx),
            (None, _) => ctx.ignore("nobody waits for it"),
        }
    }

    /// A registration says what is set, or why nothing is.
    pub(super) fn on_set(
        &mut self,
        echo: &str,
        result: Result<Settings, Fault>,
        ctx: &mut Context<'_>,
    ) {
        let Some((ticket, _)) = self.answered(echo) else {
            return ctx.ignore("nobody waits for it");
        };
        match result {
            Ok(settings) => reply(ticket, 200, &serde_json::json!(settings), ctx),
            Err(Fault { status, why }) => refuse(ticket, status, &why, ctx),
        }
    }
}
