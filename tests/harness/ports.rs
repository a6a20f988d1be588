//! Ports for nodes and peers. They lie below the range from which the kernel serves `bind(0)`, so
//! that nobody takes one between its choice here and its use by another process.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use crate::wait;

/// RTP ports a node of the suites gets.
pub const RTP_PORTS: u16 = 400;

/// Ranges of RTP ports; 40 of them end below 32,768, where `bind(0)` begins.
const RANGES: u16 = 40;
const RANGES_FIRST: u16 = 16_400;
/// Whoever listens on the port with a range's number owns the range.
const RANGE_OWNERS_FIRST: u16 = 10_000;

/// Blocks of other ports. A process owns those from which it serves, until it ends: no other takes
/// a port that was found free here and is not bound yet.
const BLOCKS: u16 = 31;
const BLOCK_OWNERS_FIRST: u16 = 10_040;
const BLOCKS_FIRST: u16 = 10_100;
const BLOCK_PORTS: u16 = 50;
/// Four at a time: sipp takes the ports after the one it is given, too.
const STEP: u16 = 4;

/// A range of RTP ports that no other test of this machine has; given back when dropped.
#[derive(Debug)]
pub struct RtpRange {
    /// First port.
    pub first: u16,
    _owner: TcpListener,
}

impl RtpRange {
    /// Takes a range that is free.
    #[must_use]
    pub fn take() -> RtpRange {
        wait::until(
            "a free range of RTP ports",
            Duration::from_secs(120),
            || {
                (0..RANGES).find_map(|number| {
                    let owner =
                        TcpListener::bind((Ipv4Addr::LOCALHOST, RANGE_OWNERS_FIRST + number))
                            .ok()?;
                    Some(RtpRange {
                        first: RANGES_FIRST + number * RTP_PORTS,
                        _owner: owner,
                    })
                })
            },
        )
    }
}

/// The blocks of this process, and how many ports it has served.
struct Blocks {
    owned: Vec<(u16, TcpListener)>,
    served: usize,
}

static OWN: Mutex<Blocks> = Mutex::new(Blocks {
    owned: Vec::new(),
    served: 0,
});

impl Blocks {
    fn take(&mut self) {
        let free = (0..BLOCKS).find_map(|number| {
            let owner = TcpListener::bind((Ipv4Addr::LOCALHOST, BLOCK_OWNERS_FIRST + number));
            Some((number, owner.ok()?))
        });
        self.owned.extend(free);
    }

    fn next(&mut self) -> Option<u16> {
        let size = usize::from(BLOCK_PORTS);
        if self.served == self.owned.len() * size {
            self.take();
            // With all blocks taken, its own begin anew.
            self.served %= (self.owned.len() * size).max(1);
        }
        let (block, _) = self.owned.get(self.served / size)?;
        let number = u16::try_from(self.served % size).ok()?;
        self.served += 1;
        Some(BLOCKS_FIRST + (block * BLOCK_PORTS + number) * STEP)
    }
}

/// Returns a port that is free for UDP and TCP on the loopback, of IPv4 and of IPv6, and that no
/// other process of the suites gets while this one lives.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    wait::until("a free port", Duration::from_secs(120), || {
        let port = OWN.lock().expect("nobody panics with it").next()?;
        let four = (Ipv4Addr::LOCALHOST, port);
        let six = (Ipv6Addr::LOCALHOST, port);
        let is_free = TcpListener::bind(four).is_ok()
            && UdpSocket::bind(four).is_ok()
            && TcpListener::bind(six).is_ok()
            && UdpSocket::bind(six).is_ok();
        is_free.then_some(port)
    })
}
