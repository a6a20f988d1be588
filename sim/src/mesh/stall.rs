//! A process that the system does not let run for a while.
//!
//! In: until when. Out: what would have happened meanwhile happens then, in the same order.

use std::sync::{Arc, Mutex};

use contract::Time;

use crate::world::{Happening, World};

/// Until when a process does not run.
#[derive(Debug, Default)]
pub struct Stall(Mutex<Time>);

impl Stall {
    /// Stalls the process until a time, or longer if it is stalled for longer already.
    ///
    /// # Panics
    /// If a holder of the lock panicked.
    pub fn stall(&self, until: Time) {
        let mut known = self.0.lock().expect("no holder of a stall panics");
        *known = until.max(*known);
    }

    /// Lets something happen in the process: now, or when it runs again.
    ///
    /// # Panics
    /// If a holder of the lock panicked.
    pub fn when_awake(self: &Arc<Self>, world: &Arc<World>, happening: Happening) {
        let until = *self.0.lock().expect("no holder of a stall panics");
        if until <= world.now().mono {
            return happening(world);
        }
        let stall = Arc::clone(self);
        let later = move |world: &Arc<World>| stall.when_awake(world, happening);
        world.schedule_at(until, Box::new(later));
    }
}
