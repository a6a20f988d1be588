//! Floating addresses, taken and given back (`cluster.md` §7).
//!
//! In: orders of the member actor. Out: runs of the operator's hooks, sockets bound and closed, the
//! site with what is here, word of how it went. Who has what is decided in `cluster::floating`.
//!
//! ```text
//! hook claim ADDRESS      before it is bound    WEFT_NODE    name of this node
//! hook release ADDRESS    after it is closed,   WEFT_HOME    name of the address's home
//!                         and at each start
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actors::site::Listener;
use actors::{Message, Site, member};
use contract::env::{BindError, Env, NetSink, Work};
use contract::limits::ADDRESS_HOOK_MS;
use contract::{ActorId, AddressOrder, Event, Kind, ListenerId, Roster};
use runtime::Fabric;

use crate::node::bind_one;

/// How often a listener is tried to be bound, and the pause: half a second.
const BIND_TRIES: u32 = 25;
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// What is said of an address on this node: its home, and the program that moves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPlan {
    /// Name of the node that has it as long as it is up.
    pub home: String,
    /// Program that is run with `claim` or `release` and the address.
    pub hook: Option<PathBuf>,
}

/// The floating addresses of this node.
pub(crate) struct Addresses {
    env: Arc<dyn Env>,
    plans: BTreeMap<IpAddr, AddressPlan>,
    /// The site is read, changed and written as a whole.
    site: Mutex<()>,
    /// Addresses that are being taken.
    taking: AtomicUsize,
}

impl Addresses {
    pub(crate) fn new(env: Arc<dyn Env>, plans: BTreeMap<IpAddr, AddressPlan>) -> Self {
        Addresses {
            env,
            plans,
            site: Mutex::new(()),
            taking: AtomicUsize::new(0),
        }
    }

    /// Releases what a former life of this node may have left on the machine: it was killed, and
    /// another node may have the address by now.
    pub(crate) async fn release_all(&self, node: &str) {
        for address in self.plans.keys() {
            if let Err(why) = self.run_hook(node, "release", *address).await {
                tracing::debug!(%address, why, "nothing to release");
            }
        }
    }

    /// Carries out an order; the member is told how it went.
    pub(crate) fn order<R>(
        self: &Arc<Self>,
        fabric: &Fabric<R>,
        sink: Option<&Arc<dyn NetSink>>,
        address: IpAddr,
        order: AddressOrder,
    ) where
        R: Roster<Message = Message, Site = Site>,
    {
        let (this, fabric, sink) = (Arc::clone(self), fabric.clone(), sink.cloned());
        if order == AddressOrder::Take {
            self.taking.fetch_add(1, Ordering::AcqRel);
        }
        let work: Work = Box::pin(async move {
            let news = match order {
                AddressOrder::Take => {
                    let is_here = this.take(&fabric, sink, address).await;
                    member::Message::Taken { address, is_here }
                }
                // Calls of this node may have legs there: it stays until the last one has ended.
                AddressOrder::Return if fabric.live(Kind::Call) > 0 => member::Message::GivenBack {
                    address,
                    is_gone: false,
                },
                AddressOrder::Return | AddressOrder::Leave => {
                    this.leave(&fabric, address).await;
                    member::Message::GivenBack {
                        address,
                        is_gone: true,
                    }
                }
            };
            let own = ActorId::Member(fabric.me().node);
            let message = Message::Member(news);
            let from = own.clone();
            fabric.deliver(&own, Event::Message { from, message });
            let is_take = order == AddressOrder::Take;
            // Calls may have legs at several.
            if is_take && this.taking.fetch_sub(1, Ordering::AcqRel) == 1 {
                fabric.set_address_settled();
            }
        });
        self.env.spawn("address", work);
    }

    async fn take<R>(
        &self,
        fabric: &Fabric<R>,
        sink: Option<Arc<dyn NetSink>>,
        address: IpAddr,
    ) -> bool
    where
        R: Roster<Message = Message, Site = Site>,
    {
        let Some(sink) = sink else { return false };
        if let Err(why) = self.run_hook(&fabric.site().name, "claim", address).await {
            alarm("a floating address could not be claimed", address, &why);
            return false;
        }
        for (id, listener) in at(&fabric.site(), address) {
            if let Err(error) = self.bind(id, &listener, &sink).await {
                alarm(
                    "a floating address could not be bound",
                    address,
                    &error.to_string(),
                );
                self.leave(fabric, address).await;
                return false;
            }
        }
        self.mark(fabric, address, true);
        metrics::gauge!("weft_floating_address_here", "address" => address.to_string()).set(1.0);
        tracing::info!(%address, "floating address is here");
        true
    }

    /// Binds a listener; the system may still be busy with the address for a moment.
    async fn bind(
        &self,
        id: ListenerId,
        listener: &Listener,
        sink: &Arc<dyn NetSink>,
    ) -> Result<(), BindError> {
        let mut tries = BIND_TRIES;
        loop {
            tries -= 1;
            match bind_one(self.env.as_ref(), id, listener, Arc::clone(sink)) {
                Ok(_) => return Ok(()),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {
                    let again = self.env.now().mono + BIND_AGAIN;
                    self.env.sleep_until(again).await;
                }
            }
        }
    }

    async fn leave<R>(&self, fabric: &Fabric<R>, address: IpAddr)
    where
        R: Roster<Message = Message, Site = Site>,
    {
        self.mark(fabric, address, false);
        let site = fabric.site();
        for (id, _) in at(&site, address) {
            self.env.unbind(id);
        }
        if let Err(why) = self.run_hook(&site.name, "release", address).await {
            alarm("a floating address could not be released", address, &why);
        }
        metrics::gauge!("weft_floating_address_here", "address" => address.to_string()).set(0.0);
        tracing::info!(%address, "floating address is given back");
    }

    async fn run_hook(&self, node: &str, verb: &str, address: IpAddr) -> Result<(), String> {
        let Some(plan) = self.plans.get(&address) else {
            return Err("it is not configured".to_owned());
        };
        let Some(hook) = plan.hook.clone() else {
            return Ok(());
        };
        let arguments = vec![verb.to_owned(), address.to_string()];
        let environment = vec![
            ("WEFT_NODE".to_owned(), node.to_owned()),
            ("WEFT_HOME".to_owned(), plan.home.clone()),
        ];
        let limit = Duration::from_millis(ADDRESS_HOOK_MS);
        self.env.run(hook, arguments, environment, limit).await
    }

    /// Writes into the site whether an address is here.
    fn mark<R>(&self, fabric: &Fabric<R>, address: IpAddr, is_here: bool)
    where
        R: Roster<Message = Message, Site = Site>,
    {
        let _held = self.site.lock().unwrap_or_else(PoisonError::into_inner);
        let mut site = Site::clone(&fabric.site());
        for listener in &mut site.listeners {
            if listener.local.ip() == address
                && let Some(floating) = &mut listener.floating
            {
                floating.is_here = is_here;
            }
        }
        fabric.set_site(Arc::new(site));
    }
}

/// Returns the listeners at a floating address.
fn at(site: &Site, address: IpAddr) -> Vec<(ListenerId, Listener)> {
    let listeners = (0..).map(ListenerId).zip(&site.listeners);
    listeners
        .filter(|(_, one)| one.floating.is_some() && one.local.ip() == address)
        .map(|(id, one)| (id, one.clone()))
        .collect()
}

fn alarm(what: &'static str, address: IpAddr, why: &str) {
    metrics::counter!("weft_floating_address_failures_total").increment(1);
    tracing::warn!(%address, why, what);
}
