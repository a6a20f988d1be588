//! What a phone likes to do, drawn from the seed.

use std::time::Duration;

use contract::Entropy;

/// Chances are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Starts calls.
    pub calls: bool,
    /// Longest time between two calls of its own.
    pub idle: Duration,
    /// Calls that it lets ring for ever.
    pub ignores: u32,
    /// Calls that it refuses with 486.
    pub refuses: u32,
    /// Calls of its own that it gives up while they ring.
    pub gives_up: u32,
    /// Calls in which it holds and resumes.
    pub holds: u32,
    /// Calls to an extension instead of a user.
    pub extensions: u32,
    /// INVITEs without an offer.
    pub delays_offer: u32,
    /// Times it does what few phones do.
    pub odd: u32,
    /// Longest talk.
    pub talk: Duration,
}

impl Habits {
    /// Draws the habits of one phone.
    pub fn draw(rng: &mut Entropy) -> Habits {
        Habits {
            calls: rng.below(4) > 0,
            idle: Duration::from_secs(u64::from(4 + rng.below(20))),
            ignores: rng.below(15),
            refuses: rng.below(20),
            gives_up: rng.below(25),
            holds: rng.below(50),
            extensions: rng.below(30),
            delays_offer: rng.below(20),
            odd: 0,
            talk: Duration::from_secs(u64::from(5 + rng.below(40))),
        }
    }
    /// Accepts every call from now on, makes none, and does not put anybody on hold.
    pub fn be_ready(&mut self) {
        *self = Habits {
            calls: false,
            idle: self.idle,
            ignores: 0,
            refuses: 0,
            gives_up: 0,
            holds: 0,
            extensions: 0,
            delays_offer: 0,
            odd: 0,
            talk: Duration::from_secs(60),
        };
    }
}
