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
    /// Calls with which it sets where calls to it go, or that it is not to be disturbed.
    pub sets: u32,
    /// Calls in which it puts the far end through.
    pub joins: u32,
    /// Calls to groups instead of users.
    pub groups: u32,
    /// Calls to places where calls are parked instead of users; so many of those whom it puts through go there.
    pub parks: u32,
    /// Longest talk.
    pub talk: Duration,
    /// Whom it calls, if always the same.
    pub friend: Option<u32>,
    /// For how long it registers.
    pub expires: Duration,
    /// Sends no sound.
    pub is_silent: bool,
}

/// For how long phones register whose bindings are to be refreshed often.
const SHORT: Duration = Duration::from_secs(60);
/// For how long browsers and desk phones register by default.
const USUAL: Duration = Duration::from_secs(600);

/// Of a phone that accepts every call, makes none, and does nothing else.
const QUIET: Habits = Habits {
    calls: false,
    idle: Duration::ZERO,
    ignores: 0,
    refuses: 0,
    gives_up: 0,
    holds: 0,
    extensions: 0,
    delays_offer: 0,
    odd: 0,
    sets: 0,
    joins: 0,
    groups: 0,
    parks: 0,
    talk: Duration::from_secs(60),
    friend: None,
    expires: SHORT,
    is_silent: false,
};

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
            sets: 0,
            joins: 0,
            groups: 0,
            parks: 0,
            talk: Duration::from_secs(u64::from(5 + rng.below(40))),
            friend: None,
            expires: SHORT,
            is_silent: false,
        }
    }

    /// A phone that registers, and has at most one long call, without sound.
    #[must_use]
    pub fn steady(friend: Option<u32>) -> Habits {
        Habits {
            calls: friend.is_some(),
            idle: Duration::from_secs(4),
            friend,
            expires: USUAL,
            is_silent: true,
            talk: USUAL,
            ..QUIET
        }
    }

    /// Sets where calls to it go again and again, and calls in between.
    pub fn set_much(&mut self) {
        self.calls = true;
        self.sets = 40;
        self.idle = Duration::from_secs(2);
        self.talk = self.talk.min(Duration::from_secs(10));
    }

    /// Puts others through again and again.
    pub fn join_much(&mut self) {
        self.calls = true;
        self.joins = 60;
        self.idle = Duration::from_secs(2);
        self.talk = self.talk.min(Duration::from_secs(10));
    }

    /// Calls groups again and again.
    pub fn group_much(&mut self) {
        self.calls = true;
        self.groups = 60;
        self.idle = Duration::from_secs(4);
        self.talk = self.talk.min(Duration::from_secs(10));
    }

    /// Parks others, itself, and takes who is parked, again and again.
    pub fn park_much(&mut self) {
        self.join_much();
        self.joins = 40;
        self.parks = 50;
    }

    /// Accepts every call from now on, makes none, and does not put anybody on hold.
    pub fn be_ready(&mut self) {
        *self = Habits {
            idle: self.idle,
            friend: self.friend,
            expires: self.expires,
            is_silent: self.is_silent,
            ..QUIET
        };
    }
}
