//! sipp as a peer: scenarios of `tests/suites/sipp`, their exit codes and statistics.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::capture::{Capture, sine, tone};
use crate::node::Node;
use crate::ports::{RTP_PORTS, free_port};
use crate::root;

/// One run of sipp, being put together.
#[derive(Debug)]
pub struct Sipp {
    command: Command,
    folder: PathBuf,
    /// Port it sends and receives SIP on.
    pub port: u16,
}

/// A run that goes on beside the test.
#[derive(Debug)]
pub struct Running {
    child: Child,
    folder: PathBuf,
    /// Port it sends and receives SIP on.
    pub port: u16,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// 0 if every call went as the scenario says.
    pub code: i32,
    /// Errors and the last screen.
    pub said: String,
    /// Messages sent and received, if they were traced.
    pub messages: String,
}

static RUNS: AtomicU32 = AtomicU32::new(0);

impl Sipp {
    /// Prepares a run of `scenario` (a file of `tests/suites/sipp`) against `server`: one call,
    /// UDP, at most 120 s.
    #[must_use]
    pub fn new(scenario: &str, server: SocketAddr) -> Sipp {
        Sipp::with(scenario, server, &[])
    }

    /// The same with texts of the scenario replaced: for what sipp takes no key for, such as the
    /// status that a response must have.
    ///
    /// # Panics
    /// If there is no such scenario.
    #[must_use]
    pub fn with(scenario: &str, server: SocketAddr, replaced: &[(&str, &str)]) -> Sipp {
        let local = if server.is_ipv6() { "::1" } else { "127.0.0.1" };
        Sipp::at(local, scenario, server, replaced)
    }

    /// The same at an address of this machine.
    ///
    /// # Panics
    /// If there is no such scenario.
    #[must_use]
    pub fn at(local: &str, scenario: &str, server: SocketAddr, replaced: &[(&str, &str)]) -> Sipp {
        let folder = std::env::temp_dir().join(format!(
            "weft-sipp-{}-{}",
            std::process::id(),
            RUNS.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder");
        let file = root().join("tests/suites/sipp").join(scenario);
        let mut text = read(&file);
        assert!(!text.is_empty(), "no scenario {}", file.display());
        for (from, to) in replaced {
            text = text.replace(from, to);
        }
        if server.is_ipv6() {
            // sipp writes IPv6 in brackets, which SDP does not have (RFC 8866 §5.7).
            text = text.replace("IP[local_ip_type] [local_ip]", "IP6 ::1");
            text = text.replace("IP[media_ip_type] [media_ip]", "IP6 ::1");
        }
        let file = folder.join("scenario.xml");
        fs::write(&file, text).expect("a scenario");
        let port = free_port();
        let media = free_port();
        let mut command = Command::new("sipp");
        command
            .arg(server.to_string())
            .args(["-sf".as_ref(), file.as_os_str()])
            .args(["-i", local, "-p", &port.to_string(), "-mi", local])
            .args(["-mp", &media.to_string(), "-nostdin"])
            .args([
                "-trace_err",
                "-error_file",
                "errors",
                "-trace_msg",
                "-message_file",
                "messages",
            ])
            .args(["-timeout", "120", "-timeout_error"])
            .current_dir(&folder);
        Sipp {
            command,
            folder,
            port,
        }
    }

    /// Adds command-line arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Sipp {
        self.command.args(arguments);
        self
    }

    /// Puts a file beside the scenario, where the scenario finds it by its name.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(self, name: &str, octets: &[u8]) -> Sipp {
        fs::write(self.folder.join(name), octets).expect("a file");
        self
    }

    /// Sets the number of calls.
    #[must_use]
    pub fn calls(self, count: u32, rate: u32) -> Sipp {
        self.args(&["-m", &count.to_string(), "-r", &rate.to_string()])
    }

    /// Sets a key that the scenario uses as `[name]`.
    #[must_use]
    pub fn key(self, name: &str, value: &str) -> Sipp {
        self.args(&["-key", name, value])
    }

    /// Gives the lines of an injection file (`-inf`, sequential).
    #[must_use]
    pub fn lines(self, lines: &[String]) -> Sipp {
        let text = format!("SEQUENTIAL\n{}\n", lines.join("\n"));
        fs::write(self.folder.join("lines.csv"), text).expect("an injection file");
        self.args(&["-inf", "lines.csv"])
    }

    /// Uses TCP, all calls on one connection.
    #[must_use]
    pub fn tcp(self) -> Sipp {
        self.args(&["-t", "t1"])
    }

    /// Starts the run and returns at once.
    ///
    /// # Panics
    /// If sipp is not installed.
    #[must_use]
    pub fn start(mut self) -> Running {
        let screen = fs::File::create(self.folder.join("screen")).expect("a file");
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(screen.try_clone().expect("a file"))
            .stderr(screen)
            .spawn()
            .expect("sipp is installed by tests/run");
        Running {
            child,
            folder: self.folder,
            port: self.port,
        }
    }

    /// Runs to the end.
    #[must_use]
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

/// Registers 1001 with a contact.
///
/// # Panics
/// If the registration fails.
pub fn register(registrar: SocketAddr, contact: &str) {
    let contact = format!("@{contact}");
    let replaced = [("@[local_ip]:[local_port]", contact.as_str())];
    Sipp::with("register.xml", registrar, &replaced)
        .lines(&["1001;[authentication username=1001 password=weft-1001];300;".to_owned()])
        .calls(1, 1)
        .run()
        .must_succeed();
}

/// Registers 1001 with `registrar` where a sipp will take one call by a scenario and send its RTP
/// back, and starts that sipp.
///
/// # Panics
/// If the registration fails.
#[must_use]
pub fn callee(registrar: SocketAddr, scenario: &str) -> Running {
    let callee = Sipp::new(scenario, registrar).args(&["-m", "1", "-rtp_echo"]);
    // The contact names the callee's port, not the port the REGISTER is sent from.
    register(registrar, &format!("[local_ip]:{}", callee.port));
    callee.start()
}

/// A call of 1000 by sipp, which sends a second of 440 Hz again and again to somebody who sends it
/// back. Returns by how many decibels what came back is louder.
///
/// # Panics
/// If the call fails, or what came back is another sound.
pub fn hears_itself(node: &Node, called: &str) -> f64 {
    let last = node.rtp.first + RTP_PORTS - 1;
    let filter = format!("udp and portrange {}-{last}", node.rtp.first);
    let capture = Capture::start("lo", &filter);
    let sound = sine(440.0, 10_000.0, 8_000);
    let ended = Sipp::new("call_rtp.xml", node.sip)
        .file("tone.ul", &sound)
        .key("called", called)
        .lines(&["1000;[authentication username=1000 password=weft-1000];".to_owned()])
        .calls(1, 1)
        .run();
    ended.must_succeed();
    let port = ended.messages.split("m=audio ").nth(1);
    let port = port.and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
    let port = port.expect("an offer");
    let packets = capture.packets();
    let sent = packets.iter().filter(|one| one.from == port).count();
    let back: Vec<_> = packets.iter().filter(|one| one.to == port).collect();
    println!("{called}: {sent} packets sent, {} came back", back.len());
    assert!(sent >= 75, "{sent} packets sent: {}", ended.said);
    assert!(back.len() * 10 > sent * 8, "{} of {sent}", back.len());
    let octets: Vec<_> = back.iter().flat_map(|one| one.payload.clone()).collect();
    assert!(octets.len() >= 8_000, "{} octets", octets.len());
    let (hertz, level) = tone(&octets[octets.len() - 8_000..]);
    let (_, own_level) = tone(&sound);
    assert!((hertz - 440.0).abs() <= 1.0, "{hertz} Hz");
    level - own_level
}

impl Running {
    /// Waits for the end.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let code = self
            .child
            .wait()
            .ok()
            .and_then(|status| status.code())
            .unwrap_or(-1);
        let ended = self.ended(code);
        let _ = fs::remove_dir_all(&self.folder);
        ended
    }

    /// Returns the messages traced so far.
    #[must_use]
    pub fn messages(&self) -> String {
        read(&self.folder.join("messages"))
    }

    fn ended(&self, code: i32) -> Ended {
        let screen = read(&self.folder.join("screen"));
        let from = screen.len().saturating_sub(3_000);
        let from = (from..=screen.len())
            .find(|at| screen.is_char_boundary(*at))
            .unwrap_or(0);
        let said = format!("{}\n{}", read(&self.folder.join("errors")), &screen[from..]);
        Ended {
            code,
            said,
            messages: self.messages(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Requires that every call went as the scenario says.
    ///
    /// # Panics
    /// With what sipp said, if one did not.
    pub fn must_succeed(&self) -> &Ended {
        assert_eq!(
            self.code, 0,
            "sipp failed:\n{}\n{}",
            self.said, self.messages
        );
        self
    }
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
