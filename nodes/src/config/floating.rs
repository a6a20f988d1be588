//! Rules of `cluster.floating`: addresses that move with the calls of a node.
//!
//! In: a typed configuration, the listeners planned so far. Out: one more listener for each UDP, TCP
//! and TLS port at each address, the same on every node, and what is said of each address. It binds
//! nothing: `addresses.rs` does when an address comes here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use contract::limits::FLOATING_ADDRESSES_MAX;

use super::rules::{Check, ListenerPlan, Protocol};
use super::{ConfigError, FloatingEntry};
use crate::addresses::AddressPlan;

const KEY: &str = "cluster.floating";

impl Check<'_> {
    /// Plans them; the listeners come after all others, so that no other one's number depends on them.
    pub(super) fn floating(
        &self,
        listeners: &mut Vec<ListenerPlan>,
    ) -> Result<BTreeMap<IpAddr, AddressPlan>, ConfigError> {
        let mut plans = BTreeMap::new();
        let mut entries: Vec<&FloatingEntry> = self.config.cluster.floating.iter().collect();
        entries.sort_by_key(|entry| entry.address);
        if entries.len() > FLOATING_ADDRESSES_MAX {
            let allowed = format!("at most {FLOATING_ADDRESSES_MAX} addresses");
            return self.refusal(KEY, &entries.len().to_string(), &allowed);
        }
        let own = listeners.len();
        for entry in entries {
            let shown = entry.address.to_string();
            if self.config.cluster.listen.is_none() {
                return self.refusal(KEY, &shown, "none without `cluster.listen`");
            }
            let plan = AddressPlan {
                home: entry.node.clone(),
                hook: entry.hook.clone(),
            };
            if plans.insert(entry.address, plan).is_some() {
                return self.refusal(KEY, &shown, "each address once");
            }
            let found = self.at_floating(entry, &listeners[..own])?;
            listeners.extend(found);
        }
        Ok(plans)
    }

    /// Plans the listeners at one address: each port that this node has anyway.
    fn at_floating(
        &self,
        entry: &FloatingEntry,
        own: &[ListenerPlan],
    ) -> Result<Vec<ListenerPlan>, ConfigError> {
        let shown = entry.address.to_string();
        let mut found: Vec<ListenerPlan> = Vec::new();
        for (number, base) in own.iter().enumerate() {
            let is_meant = match base.protocol {
                Protocol::Udp | Protocol::Tcp | Protocol::Tls => {
                    base.local.is_ipv6() == entry.address.is_ipv6()
                }
                Protocol::Ws | Protocol::Wss => false,
            };
            let local = SocketAddr::new(entry.address, base.local.port());
            let is_there = |one: &ListenerPlan| one.protocol == base.protocol && one.local == local;
            if !is_meant || found.iter().any(is_there) {
                continue;
            }
            if base.local.ip().is_unspecified() || base.local.port() == 0 {
                let allowed = "beside a floating address: listeners with an address and a port";
                return self.refusal(&base.key, &base.local.to_string(), allowed);
            }
            if base.local == local {
                let allowed = "an address that no listener of a node has for its own";
                return self.refusal(KEY, &shown, allowed);
            }
            found.push(ListenerPlan {
                local,
                advertise: (entry.address, None),
                rtp_advertise: entry.address,
                base: Some(number),
                key: KEY.to_owned(),
                file: self.origins.file(KEY).to_owned(),
                ..base.clone()
            });
        }
        if found.is_empty() {
            let allowed = "with a UDP, TCP or TLS listener of its family beside it";
            return self.refusal(KEY, &shown, allowed);
        }
        Ok(found)
    }
}
