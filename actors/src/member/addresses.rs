//! Floating addresses, as the member of a node sees to them (`cluster.md` §7).
//!
//! In: views, nodes that are gone, words of other members, how orders went. Out: orders, words, whose
//! calls go where. Who has what is decided in `cluster::floating`.

use cluster::membership::View;
use cluster::{Floating, FloatingAction, Neighbour};
use contract::{Action, ActorId, AddressOrder, Emitted, NodeInst, Now};

use super::Message;
use super::core::{Context, Member, Timer};

impl Member {
    /// Gives the addresses an input, and does what comes of it.
    pub(super) fn with_addresses(
        &mut self,
        ctx: &mut Context<'_>,
        what: impl FnOnce(&mut Floating, Now) -> Vec<FloatingAction>,
    ) {
        let now = ctx.now();
        let cluster = ctx.site().cluster.as_ref();
        let Some(cluster) = cluster.filter(|cluster| !cluster.floating.is_empty()) else {
            return;
        };
        let begun = || Floating::new(cluster.instance, cluster.floating.clone(), now);
        let addresses = self.addresses.get_or_insert_with(begun);
        let actions = what(addresses, now);
        let next = addresses.next_deadline();
        for action in actions {
            carry_out(action, cluster.instance, ctx);
        }
        match next {
            Some(at) => self.timers.set_at(Timer::Addresses, at, at.since(now.mono)),
            None => {
                self.timers.clear(Timer::Addresses);
            }
        }
    }

    pub(super) fn on_addresses(&mut self, from: &ActorId, message: Message, ctx: &mut Context<'_>) {
        let is_own = *from == ActorId::Member(ctx.site().node);
        match message {
            Message::Tenures { of, tenures } if *from == ActorId::Member(of.node) => {
                self.with_addresses(ctx, |it, now| it.told(of, &tenures, now));
            }
            Message::Taken { address, is_here } if is_own => {
                self.with_addresses(ctx, |it, now| it.taken(address, is_here, now));
            }
            Message::GivenBack { address, is_gone } if is_own => {
                self.with_addresses(ctx, |it, now| it.given_back(address, is_gone, now));
            }
            Message::Tenures { .. }
            | Message::Taken { .. }
            | Message::GivenBack { .. }
            | Message::Connected(_)
            | Message::Lost(..)
            | Message::Word { .. }
            | Message::Drain
            | Message::Leave => ctx.ignore("a word of somebody else"),
        }
    }
}

fn carry_out(action: FloatingAction, me: NodeInst, ctx: &mut Context<'_>) {
    let emitted = match action {
        FloatingAction::Take(address) => Emitted::Address {
            address,
            order: AddressOrder::Take,
        },
        FloatingAction::GiveBack { address, at_once } => Emitted::Address {
            address,
            order: if at_once {
                AddressOrder::Leave
            } else {
                AddressOrder::Return
            },
        },
        FloatingAction::Heir { of, node } => Emitted::Heir { of, node },
        FloatingAction::Say { to, tenures } => {
            let word = Message::Tenures { of: me, tenures };
            return ctx.tell(ActorId::Member(to.node), word.into());
        }
    };
    ctx.act(Action::Emit(emitted));
}

/// Returns the members, as far as addresses are concerned.
pub(super) fn neighbours(view: &View) -> Vec<Neighbour> {
    let neighbour = |member: &cluster::membership::Member| Neighbour {
        inst: member.inst,
        name: member.meta.name.clone(),
        state: member.state,
    };
    view.members.iter().map(neighbour).collect()
}
