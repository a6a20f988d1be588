//! Chromium as a peer: pages of `/phone` and of JsSIP, driven through `tests/browser/driver.mjs`.
//!
//! In: commands, one JSON object a line. Out: values, sounds that a page hears. What the commands
//! are is written at the top of the driver.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::wait::PATIENCE;
use crate::{root, wait};

/// One browser, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    words: Mutex<Words>,
}

#[derive(Debug)]
struct Words {
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    last: u64,
}

/// A page of it.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    browser: &'a Browser,
    name: &'a str,
}

impl Browser {
    /// Starts Chromium with a microphone that makes sounds of its own.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Browser {
        let mut child = Command::new("node")
            .arg("driver.mjs")
            .current_dir(root().join("tests/browser"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let browser = Browser {
            child,
            words: Mutex::new(Words {
                input,
                output,
                last: 0,
            }),
        };
        browser.must(json!({ "do": "launch" }));
        browser
    }

    /// Gives a command and returns its value, or what went wrong.
    ///
    /// # Errors
    /// The driver's words.
    ///
    /// # Panics
    /// If the driver has ended.
    pub fn ask(&self, mut command: Value) -> Result<Value, String> {
        let mut words = self.words.lock().expect("nobody panics with it");
        words.last += 1;
        let number = words.last;
        command["id"] = json!(number);
        let input = words.input.as_mut().expect("it is open until the end");
        writeln!(input, "{command}").expect("the driver listens");
        loop {
            let line = words.output.next().expect("the driver runs");
            let line = line.expect("the driver's words are text");
            let reply: Value = serde_json::from_str(&line).expect("the driver speaks JSON");
            if reply["id"] != json!(number) {
                continue;
            }
            return if reply["ok"] == json!(true) {
                Ok(reply["value"].clone())
            } else {
                Err(format!(
                    "{command}: {}",
                    reply["error"].as_str().unwrap_or_default()
                ))
            };
        }
    }

    fn must(&self, command: Value) -> Value {
        self.ask(command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens `/phone` of a node and signs in as `user`; its microphone is a sine.
    ///
    /// # Panics
    /// If the node refuses.
    #[must_use]
    pub fn phone<'a>(&'a self, http: SocketAddr, user: &'a str, hertz: f64) -> Page<'a> {
        self.must(json!({
            "do": "phone", "page": user, "base": format!("http://{http}"),
            "user": user, "password": format!("weft-{user}"), "hertz": hertz,
        }));
        Page {
            browser: self,
            name: user,
        }
    }

    /// Opens a page with JsSIP that registers as `user` at the socket `url`; its microphone is a sine.
    ///
    /// # Panics
    /// If the node refuses.
    #[must_use]
    pub fn sip<'a>(&'a self, http: SocketAddr, url: &str, user: &'a str, hertz: f64) -> Page<'a> {
        self.sip_page(user, (http, url), user, hertz)
    }

    /// The same in a page of another name: one of several that a user has.
    ///
    /// # Panics
    /// If the node refuses.
    #[must_use]
    pub fn sip_page<'a>(
        &'a self,
        name: &'a str,
        (http, url): (SocketAddr, &str),
        user: &str,
        hertz: f64,
    ) -> Page<'a> {
        self.must(json!({
            "do": "sip", "page": name, "base": format!("http://{http}"), "url": url,
            "domain": "weft.test", "user": user, "password": format!("weft-{user}"), "hertz": hertz,
        }));
        Page {
            browser: self,
            name,
        }
    }
}

impl Page<'_> {
    /// Gives the page a command.
    ///
    /// # Errors
    /// The driver's words.
    pub fn ask(&self, what: &str, mut given: Value) -> Result<Value, String> {
        given["do"] = json!(what);
        given["page"] = json!(self.name);
        self.browser.ask(given)
    }

    /// Gives the page a command that it must carry out.
    ///
    /// # Panics
    /// With the driver's words and the page's console, if it does not.
    pub fn must(&self, what: &str, given: Value) -> Value {
        self.ask(what, given).unwrap_or_else(|error| {
            let console = self.ask("console", json!({}));
            let details = self.ask("details", json!({}));
            panic!("{}: {error}\n{details:?}\n{console:?}", self.name)
        })
    }

    /// Calls somebody.
    ///
    /// # Panics
    /// If the page cannot.
    pub fn call(&self, to: &str) {
        self.must("call", json!({ "to": to }));
    }

    /// Waits until the page's call is `calling`, `ringing`, `incoming`, `active` or `ended`.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait(&self, state: &str) {
        self.must(
            "wait",
            json!({ "state": state, "timeoutMs": PATIENCE.as_millis() as u64 }),
        );
    }

    /// Waits until the page hears a sine.
    ///
    /// # Panics
    /// If it does not.
    pub fn hears(&self, hertz: f64) {
        let name = self.name;
        let ready = || {
            let heard = self
                .ask("heard", json!({ "ms": 300 }))
                .unwrap_or_else(Value::String);
            let tone = heard["hertz"].as_f64().unwrap_or_default();
            let level = heard["rms"].as_f64().unwrap_or_default();
            let is_right = (tone - hertz).abs() < 6.0 && level > 0.01;
            if is_right { Ok(()) } else { Err(heard) }
        };
        wait::until_or(&format!("{hertz} Hz at {name}"), PATIENCE, ready, |heard| {
            let (details, stats) = (self.ask("details", json!({})), self.ask("stats", json!({})));
            format!("it hears {heard}\n{details:?}\n{stats:?}")
        });
    }

    /// Waits until the page hears nothing.
    ///
    /// # Panics
    /// If it goes on hearing.
    pub fn hears_nothing(&self) {
        wait::until(&format!("silence at {}", self.name), PATIENCE, || {
            let heard = self.ask("heard", json!({ "ms": 300 })).ok()?;
            (heard["rms"].as_f64()? < 0.003).then_some(())
        });
    }

    /// Returns what the page tells of itself and its call.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn details(&self) -> Value {
        self.must("details", json!({}))
    }

    /// Waits until the page's details satisfy a condition.
    ///
    /// # Panics
    /// If they do not.
    pub fn until(&self, what: &str, ready: impl Fn(&Value) -> bool) {
        let look = || {
            let details = self.ask("details", json!({})).unwrap_or_default();
            if ready(&details) {
                Ok(())
            } else {
                Err(details)
            }
        };
        let what = format!("{what} at {}", self.name);
        wait::until_or(&what, PATIENCE, look, |details| details.to_string());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends the driver, and that the browser.
        match self.words.get_mut() {
            Ok(words) => words.input = None,
            Err(poisoned) => poisoned.into_inner().input = None,
        }
        let _ = self.child.wait();
    }
}
