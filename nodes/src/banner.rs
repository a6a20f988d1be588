//! What a node prints at its start: where to look, and one line to try each (`interfaces.md` §1).
//!
//! In: the configuration and the addresses that its listeners got. Out: text for people.

use std::fmt::Write as _;
use std::net::SocketAddr;

use contract::NodeInst;

use crate::config::{Loaded, Protocol};

/// Returns the banner; `bound` holds the address of each listener of the plan.
pub(crate) fn banner(loaded: &Loaded, bound: &[SocketAddr], me: NodeInst) -> String {
    let mut text = format!(
        "Weft {} - node {} ({me})\n",
        env!("CARGO_PKG_VERSION"),
        loaded.config.node.name
    );
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<10}{value}");
    };
    let urls = urls(loaded, bound);
    for url in &urls {
        line(
            "Phone",
            &format!(
                "{url}/phone  WebSocket {}/ws",
                url.replacen("http", "ws", 1)
            ),
        );
    }
    for url in &urls {
        line(
            "API",
            &format!("{url}/api/v1/nodes  /metrics  /healthz  /readyz"),
        );
    }
    let sip = own_listeners(loaded, bound);
    let sip: Vec<String> = sip
        .map(|(protocol, address)| format!("{} {address}", protocol.word()))
        .collect();
    line("SIP", &sip.join(", "));
    line("RTP", &format!("udp {}", loaded.config.media.rtp_ports));
    if let Some(cluster) = &loaded.plan.cluster {
        line("Cluster", &format!("udp+tcp {}", cluster.listen));
    }
    line(
        "Data",
        &format!("{} (admin.token is there)", loaded.plan.data.display()),
    );
    if has_demo(loaded) {
        let domain = loaded.config.domain.first();
        let domain = domain.map_or("", |domain| domain.name.as_str());
        let shown = "1000 ... 1019, password weft-1000 ... weft-1019, domain";
        line("Accounts", &format!("{shown} {domain} (demo)"));
        line(
            "Call",
            "9196 echo, 9197 tone, 1000 ... 1019 each other, 2000 a group",
        );
    }
    if let Some(url) = urls.first() {
        line(
            "Try",
            &format!("curl {url}/api/v1/actors?kind=registration"),
        );
        line("", &format!("weft nodes --url {url}"));
        line("", &format!("weft actors --url {url}"));
    }
    line("End", "Ctrl-C");
    text
}

/// Returns the addresses of the HTTP ports, those without TLS first.
fn urls(loaded: &Loaded, bound: &[SocketAddr]) -> Vec<String> {
    let http = loaded.plan.http.iter();
    let urls = http.filter_map(|http| {
        let scheme = if http.is_tls { "https" } else { "http" };
        Some(format!("{scheme}://{}", bound.get(http.listener)?))
    });
    urls.collect()
}

/// Returns the listeners that are not the HTTP ports.
fn own_listeners<'a>(
    loaded: &'a Loaded,
    bound: &'a [SocketAddr],
) -> impl Iterator<Item = (Protocol, SocketAddr)> + 'a {
    let plan = &loaded.plan;
    let shared = plan.http.iter().map(|http| http.listener).min();
    let own = shared.unwrap_or(plan.listeners.len());
    let listeners = plan.listeners.iter().zip(bound).take(own);
    listeners.map(|(plan, address)| (plan.protocol, *address))
}

/// Tells whether the accounts of the embedded default are there, with the passwords that it says.
fn has_demo(loaded: &Loaded) -> bool {
    let accounts = || loaded.plan.passwords.iter().zip(&loaded.config.user);
    (1000..1020).all(|number| {
        accounts().any(|(password, user)| {
            let said = password.as_ref().map(|password| password.expose());
            user.name == number.to_string() && said == Some(&*format!("weft-{number}"))
        })
    })
}
