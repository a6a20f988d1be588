//! A plain SIP phone with sound: it sends a sine and tells which one it hears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::browser::Page;
use crate::capture::tone;
use crate::media::Pump;
use crate::phone::{Dialog, Phone};
use crate::wait::{self, PATIENCE};

/// A plain phone that sends a sine.
#[derive(Debug)]
pub struct Plain {
    /// Its signalling.
    pub phone: Phone,
    /// Its sound.
    pub pump: Pump,
    /// Its socket in the pump.
    pub socket: usize,
    /// Port of that.
    pub port: u16,
}

impl Plain {
    /// Registers a phone.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn new(server: SocketAddr, user: &str, hertz: f64) -> Plain {
        let mut phone = Phone::new(server, user);
        assert_eq!(phone.register(300).status(), 200);
        let pump = Pump::new();
        let (socket, port) = pump.add();
        pump.play(socket, hertz);
        Plain {
            phone,
            pump,
            socket,
            port,
        }
    }

    /// Takes the call that rings.
    ///
    /// # Panics
    /// If none does.
    #[must_use]
    pub fn take(&mut self) -> Dialog {
        let invite = self.phone.ringing(PATIENCE).expect("an INVITE");
        let side = self.phone.answer(&invite, self.port);
        self.pump.aim(self.socket, Some(side.media));
        side
    }

    /// Calls a page, which answers.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn call(&mut self, user: &str, page: &Page<'_>) -> Dialog {
        let calling = self.phone.call(user, self.port);
        page.wait("incoming");
        page.must("answer", json!({}));
        let answer = self.phone.outcome(&calling, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let side = self.phone.established(&calling, &answer);
        self.pump.aim(self.socket, Some(side.media));
        side
    }

    /// Answers what it is offered while `work` goes on.
    ///
    /// # Panics
    /// If `work` does.
    pub fn while_serving<T: Send>(&mut self, side: &Dialog, work: impl FnOnce() -> T + Send) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                done.store(true, Ordering::Relaxed);
                value
            });
            while !done.load(Ordering::Relaxed) {
                let (rtp, turn) = (Some(self.port), Duration::from_millis(50));
                let offer = self.phone.serve(side, "INVITE", rtp, turn);
                if let Some(media) = offer.and_then(|offer| offer.media()) {
                    self.pump.aim(self.socket, Some(media));
                }
            }
            let value = working.join().expect("it catches its own panics");
            value.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until it hears a sine.
    ///
    /// # Panics
    /// If it does not.
    pub fn hears(&self, hertz: f64) {
        self.pump.forget_sound(self.socket);
        wait::until(&format!("{hertz} Hz at the phone"), PATIENCE, || {
            let sound = self.pump.heard(self.socket).payload;
            if sound.len() < 4_000 {
                return None;
            }
            self.pump.forget_sound(self.socket);
            ((tone(&sound).0 - hertz).abs() < 4.0).then_some(())
        });
    }
}
