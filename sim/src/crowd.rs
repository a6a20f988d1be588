//! Everybody who uses the nodes: phones and tabs, which node each begins with, plugs that are pulled.
//!
//! In: a plan. Out: stations, and what they believe, for the checkers.

use std::net::SocketAddr;
use std::sync::Arc;

use contract::Time;

use crate::checkers::kept_binding::Promised;
use crate::client::Client;
use crate::node::{sip_address, web_address};
use crate::phone::{Habits, Make, Phone};
use crate::plan::{Plan, Steady};
use crate::station::Station;
use crate::ways::Ways;
use crate::world::World;

/// A station and the place, counted from 0, of the node that it begins with.
type Placed<P> = (usize, Arc<Station<P>>);

/// Phones and tabs.
#[derive(Default)]
pub struct Crowd {
    handsets: Vec<Placed<Phone>>,
    tabs: Vec<Placed<Client>>,
    is_mixed: bool,
}

/// Whom a phone calls: each second one of the first is called by the one before it.
fn friend(number: u32, steady: Steady) -> Option<u32> {
    let calls = number / 2 < steady.calls && number.is_multiple_of(2);
    calls.then_some(1000 + number + 1)
}

impl Crowd {
    /// Puts the plan's phones into the world.
    pub fn place(&mut self, world: &Arc<World>, plan: &Plan) {
        self.is_mixed = plan.mixed;
        let is_joined = plan.steady.is_some_and(|steady| steady.is_joined);
        // Nobody begins with a node that is not there yet.
        let count = usize::from((plan.nodes - u16::from(is_joined)).max(1));
        let numbers = 1..=plan.nodes.max(1);
        let sip: Vec<_> = numbers.clone().map(sip_address).collect();
        let web: Vec<_> = numbers.map(web_address).collect();
        for number in 0..plan.phones {
            let at = number as usize % count;
            let mut rng = world.state().chance.split(&format!("phone {number}"));
            let mut habits = Habits::draw(&mut rng);
            let is_stream = rng.below(4) == 0;
            let host = u8::try_from(number % 200).unwrap_or(0);
            let net = u8::try_from(number / 200).unwrap_or(u8::MAX);
            let address = SocketAddr::from(([10, 1, net, host], 5060));
            let user = (1000 + number).to_string();
            let now = world.now().mono;
            if let Some(steady) = plan.steady {
                habits = Habits::steady(friend(number, steady));
            }
            let make = if plan.mixed {
                Make::draw(number, is_stream, &mut rng)
            } else {
                Make::plain(is_stream)
            };
            if plan.mixed && plan.steady.is_none() {
                habits.odd = 30;
            }
            if plan.forwards {
                habits.set_much();
            }
            if plan.transfers {
                habits.join_much();
            }
            if plan.groups {
                habits.group_much();
            }
            if plan.parks {
                habits.park_much();
            }
            world.count(make.name());
            let is_web = matches!(make, Make::Web | Make::Tab);
            let chance = world.state().chance.split(&format!("ways {number}"));
            let nodes = if is_web { &web } else { &sip };
            let ways = if plan.sticky {
                Ways::only(nodes[at], chance)
            } else {
                Ways::draw(nodes.clone(), at, chance)
            };
            if ways.is_balanced() && !make.is_stream() {
                world.count("phones behind a balancer");
            }
            if make == Make::Tab {
                let client = Client::new(&user, address, rng, habits, now);
                self.tabs.push((at, Station::place(world, client, ways)));
            } else {
                let phone = Phone::new(&user, address, make, rng, habits, now);
                self.handsets.push((at, Station::place(world, phone, ways)));
            }
        }
    }

    /// Returns the phones.
    pub fn handsets(&self) -> impl Iterator<Item = &Arc<Station<Phone>>> {
        self.handsets.iter().map(|(_, handset)| handset)
    }

    /// Returns the tabs.
    pub fn tabs(&self) -> impl Iterator<Item = &Arc<Station<Client>>> {
        self.tabs.iter().map(|(_, tab)| tab)
    }

    /// Returns the accounts of all.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        let phones = self.handsets().map(|one| one.with(|one| one.user.clone()));
        let tabs = self.tabs().map(|one| one.with(|one| one.user.clone()));
        phones.chain(tabs).collect()
    }

    /// Stops all from sending what nobody should.
    pub fn be_polite(&self) {
        for handset in self.handsets() {
            handset.with(Phone::be_polite);
        }
        for tab in self.tabs() {
            tab.with(Client::be_polite);
        }
    }

    /// From now on everybody accepts every call, and makes none.
    pub fn be_ready(&self) {
        for handset in self.handsets() {
            handset.with(Phone::be_ready);
        }
        for tab in self.tabs() {
            tab.with(Client::be_ready);
        }
    }

    /// Everybody hangs up.
    pub fn hang_up(&self, world: &Arc<World>) {
        for handset in self.handsets() {
            handset.drive(world, |phone, now, _| phone.hang_up(now));
        }
        for tab in self.tabs() {
            tab.drive(world, |client, now, _| client.hang_up(now));
        }
    }

    /// Returns what those who began at a place were promised.
    #[must_use]
    pub fn promised(&self, at: usize) -> Vec<Promised> {
        let of = |user: &str, contact: String, until: Option<Time>| Promised {
            user: user.to_owned(),
            contact,
            until,
        };
        let here = self.handsets.iter().filter(|(place, _)| *place == at);
        let phones = here.map(|(_, handset)| {
            handset.with(|phone| of(&phone.user, phone.contact(), phone.registered_until))
        });
        let here = self.tabs.iter().filter(|(place, _)| *place == at);
        let tabs = here.map(|(_, tab)| {
            tab.with(|client| of(&client.user, client.contact(), client.registered_until))
        });
        phones.chain(tabs).collect()
    }

    /// Networks change under phones: now and then a connection ends.
    pub fn pull_a_plug(&self, world: &Arc<World>) {
        let count = self.handsets.len() + self.tabs.len();
        if !self.is_mixed || count == 0 {
            return;
        }
        let at = {
            let mut state = world.state();
            let is_due = state.hits(400);
            let most = u32::try_from(count).unwrap_or(u32::MAX);
            is_due.then(|| state.chance.below(most) as usize)
        };
        let Some(at) = at else { return };
        world.count("plugs pulled");
        match self.handsets.get(at) {
            Some((_, handset)) => handset.unplug(world),
            None => self.tabs[at - self.handsets.len()].1.unplug(world),
        }
    }

    /// Returns how many calls were answered.
    #[must_use]
    pub fn talked(&self) -> u64 {
        let phones = self.handsets().map(|one| one.with(|phone| phone.talked));
        let tabs = self.tabs().map(|one| one.with(|client| client.talked));
        phones.chain(tabs).sum()
    }
}
