//! Network namespaces joined by a bridge, one a node: each has an address of its own, cables can be
//! pulled, and floating addresses move between them as between machines.
//!
//! In: how many. Out: namespaces that go when dropped, a hook that moves addresses, cuts: of a node
//! from everybody, or in silence from some. It starts no node.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The bridge, in this namespace, with the phones on it.
#[derive(Debug)]
pub struct Bridge {
    subnet: u8,
    count: u8,
}

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

/// The hook of the suites: as an operator would write it, but that it tells the neighbours by a
/// change of the card's address to itself: `arping` is not on every machine. Several run at once.
const HOOK: &str = "#!/bin/sh
case \"$1\" in
claim)
    ip addr add \"$2/24\" dev eth0 2>/dev/null
    echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify
    ip link set eth0 address \"$(cat /sys/class/net/eth0/address)\"
    ;;
release)
    ip addr del \"$2/24\" dev eth0 2>/dev/null
    ;;
esac
exit 0
";

impl Bridge {
    /// Makes it with `count` namespaces; `None`, said on the standard output, if this process may not.
    ///
    /// # Panics
    /// If it is begun and cannot be finished.
    #[must_use]
    pub fn new(count: u8) -> Option<Bridge> {
        let begin = u8::try_from(std::process::id() % 200).unwrap_or(0);
        // Names of namespaces tell who is first; a bridge of that name is made after that.
        let found = (begin..250)
            .chain(0..begin)
            .find(|subnet| ip(&format!("netns add wk{subnet}n0")));
        let Some(subnet) = found else {
            println!("left out: this process may not make network namespaces");
            return None;
        };
        let bridge = Bridge { subnet, count };
        must(&format!("link add wk{subnet} type bridge"));
        must(&format!("addr add {}/24 dev wk{subnet}", bridge.ours()));
        must(&format!("link set wk{subnet} up"));
        for at in 0..count {
            let (space, cable) = (bridge.namespace(at), bridge.cable(at));
            if at > 0 {
                must(&format!("netns add {space}"));
            }
            must(&format!(
                "link add {cable} type veth peer name eth0 netns {space}"
            ));
            must(&format!("link set {cable} master wk{subnet} up"));
            must(&format!(
                "-n {space} addr add {}/24 dev eth0",
                bridge.at(at)
            ));
            must(&format!("-n {space} link set eth0 up"));
            must(&format!("-n {space} link set lo up"));
        }
        Some(bridge)
    }

    /// Returns the address on this side.
    #[must_use]
    pub const fn ours(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.subnet, 254)
    }

    /// Returns the address of a node.
    #[must_use]
    pub const fn at(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.subnet, number + 1)
    }

    /// Returns the floating address that is at home at a node.
    #[must_use]
    pub const fn floating(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.subnet, number + 11)
    }

    /// Returns the network of all of them.
    #[must_use]
    pub fn network(&self) -> String {
        format!("10.78.{}.0/24", self.subnet)
    }

    /// Returns the name of a node's namespace.
    #[must_use]
    pub fn namespace(&self, number: u8) -> String {
        format!("wk{}n{number}", self.subnet)
    }

    /// Returns the name of a namespace's cable on this side.
    #[must_use]
    pub fn cable(&self, number: u8) -> String {
        format!("wk{}c{number}", self.subnet)
    }

    /// Pulls the cable of a node.
    pub fn cut(&self, number: u8) {
        must(&format!("link set {} down", self.cable(number)));
    }

    /// Plugs it in again.
    pub fn heal(&self, number: u8) {
        must(&format!("link set {} up", self.cable(number)));
    }

    /// Adds an address of phones on this side, which a node can be parted from.
    #[must_use]
    pub fn more_ours(&self, number: u8) -> Ipv4Addr {
        let address = Ipv4Addr::new(10, 78, self.subnet, 253 - number);
        must(&format!("addr add {address}/24 dev wk{}", self.subnet));
        address
    }

    /// From now on nothing passes between a node and some addresses, and nobody is told: as by a
    /// network that is parted. It replaces what the node was parted from before.
    ///
    /// # Panics
    /// If the rules are refused.
    pub fn part(&self, number: u8, from: &[Ipv4Addr]) {
        self.join(number);
        let set: Vec<_> = from.iter().map(ToString::to_string).collect();
        let set = set.join(", ");
        let rules = format!(
            "table ip parted {{\n\
             chain in {{ type filter hook input priority 0; ip saddr {{ {set} }} drop; }}\n\
             chain out {{ type filter hook output priority 0; ip daddr {{ {set} }} drop; }}\n}}\n"
        );
        let mut nft = self.nft(number, &["-f", "-"]);
        let mut nft = nft.stdin(Stdio::piped()).spawn().expect("nft is installed");
        let mut input = nft.stdin.take().expect("it is piped");
        input.write_all(rules.as_bytes()).expect("written");
        drop(input);
        assert!(nft.wait().is_ok_and(|status| status.success()), "{rules}");
    }

    /// Ends that a node is parted from anybody.
    pub fn join(&self, number: u8) {
        let mut nft = self.nft(number, &["delete", "table", "ip", "parted"]);
        let _ = nft.stderr(Stdio::null()).status();
    }

    fn nft(&self, number: u8, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        let space = self.namespace(number);
        command
            .args(["netns", "exec", &space, "nft"])
            .args(arguments);
        command
    }

    /// Writes the hook that moves addresses into a folder.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn hook(&self, folder: &Path) -> PathBuf {
        let file = folder.join("move-address");
        fs::write(&file, HOOK).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("mode");
        file
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for at in 0..self.count {
            let _ = ip(&format!("link del {}", self.cable(at)));
            let _ = ip(&format!("netns del {}", self.namespace(at)));
        }
        let _ = ip(&format!("link del wk{}", self.subnet));
    }
}
