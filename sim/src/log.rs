//! The node's log in a run: an `error` line that no order of ours explains fails the seed. Warnings
//! are the coverage marks of rare branches: they are counted by what they say.

use std::fmt::Write as _;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::marks;
use crate::sabotage;
use crate::world::World;

struct Errors {
    world: Arc<World>,
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Rare branches of the runtime, and of a call of two nodes, are marks, however quietly it says so.
        let is_rare = ["runtime", "actors::call::bequest"];
        let is_rare = is_rare.iter().any(|one| metadata.target().starts_with(one));
        let is_mark = metadata.is_event() && is_rare;
        *metadata.level() <= Level::WARN || metadata.is_span() || is_mark
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        self.world.note(&format!("{level} {}", text.0));
        if level == Level::ERROR && !text.0.contains(sabotage::WORD) {
            self.world.broken("log", text.0);
            return;
        }
        let says = text.0.split("message=").nth(1).unwrap_or("?");
        let says = says.split('=').next().unwrap_or_default();
        // The word before `=` is the next field's name.
        let says = says.rsplit_once(' ').map_or(says, |(says, _)| says);
        if marks::SAID.contains(&says) {
            self.world.count(&format!("mark: {says}"));
        } else if level == Level::WARN {
            self.world.count(&format!("said: {says}"));
            if says.contains("is set aside") {
                self.world.state().set_aside.push(text.0);
            }
        }
    }
}

/// Watches the log of this thread until the guard is dropped.
#[must_use]
pub fn watch(world: &Arc<World>) -> DefaultGuard {
    let errors = Errors {
        world: Arc::clone(world),
    };
    tracing::subscriber::set_default(Registry::default().with(errors))
}
