//! One Weft node as a child process.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::ports::{RTP_PORTS, RtpRange, free_port};
use crate::{http, root, signal, wait};

/// A running node; it is killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    /// Folder with its configuration, data and log.
    pub folder: PathBuf,
    /// SIP listener, UDP and TCP.
    pub sip: SocketAddr,
    /// HTTP listener.
    pub http: SocketAddr,
    /// Its RTP ports.
    pub rtp: RtpRange,
    /// First of its two ports of WebRTC media.
    pub webrtc: u16,
    /// Network namespace that it runs in, if not this one.
    namespace: Option<String>,
}

/// What a node is told besides the usual.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Its name.
    pub name: &'a str,
    /// Address of its SIP and RTP.
    pub ip: Ipv4Addr,
    /// Port of its SIP; otherwise one that is free.
    pub sip_port: Option<u16>,
    /// Network namespace that it runs in, its HTTP at `ip` too; otherwise this one.
    pub namespace: Option<&'a str>,
    /// More keys of the profile.
    pub profile: &'a str,
    /// Folder of its data; otherwise one of its own.
    pub data: Option<&'a Path>,
    /// More keys of `[media]`.
    pub media: &'a str,
    /// More tables.
    pub extra: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup {
            name: "t",
            ip: Ipv4Addr::LOCALHOST,
            sip_port: None,
            namespace: None,
            profile: "",
            data: None,
            media: "",
            extra: "",
        }
    }
}

static FOLDERS: AtomicU32 = AtomicU32::new(0);
/// Returns the `weft` program under test, building it if the caller names none.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return PathBuf::from(path);
    }
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let status = Command::new("cargo")
            .args(["build", "--release", "--quiet", "-p", "weft"])
            .current_dir(root())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "weft does not build"
        );
    });
    root().join("target/release/weft")
}

impl Node {
    /// Starts a node with demo-like accounts 1000–1019 (password `weft-1000` …), extensions 9196
    /// and 9197, and what `extra` adds to its configuration, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(extra: &str) -> Node {
        Node::set_up(&Setup {
            extra,
            ..Setup::default()
        })
    }

    /// The same with more said.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn set_up(setup: &Setup<'_>) -> Node {
        let folder = std::env::temp_dir().join(format!(
            "weft-suite-{}-{}",
            std::process::id(),
            FOLDERS.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder");
        let sip = SocketAddr::from((setup.ip, setup.sip_port.unwrap_or_else(free_port)));
        let namespace = setup.namespace.map(str::to_owned);
        let door = namespace.as_ref().map_or(Ipv4Addr::LOCALHOST, |_| setup.ip);
        let http = SocketAddr::from((door, free_port()));
        let rtp = RtpRange::take();
        let own = folder.join("data");
        let data = setup.data.unwrap_or(&own);
        let webrtc = free_port();
        let config = config(setup, data, sip, http, (rtp.first, webrtc));
        fs::write(folder.join("weft.toml"), config).expect("a configuration file");
        let child = spawn(&folder, namespace.as_deref());
        let node = Node {
            child,
            folder,
            sip,
            http,
            rtp,
            webrtc,
            namespace,
        };
        node.wait_ready();
        node
    }

    /// Waits until `/readyz` says so.
    pub fn wait_ready(&self) {
        let log = self.folder.join("log");
        wait::until(
            &format!("readiness, see {}", log.display()),
            wait::PATIENCE,
            || http::ask(self.http, "GET", "/readyz", &[]).filter(|answer| answer.status == 200),
        );
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns the exit code of a process that has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.child
            .try_wait()
            .ok()
            .flatten()
            .map(|status| status.code().unwrap_or(-1))
    }

    /// Starts the process again on the same data; does not wait.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder, self.namespace.as_deref());
    }

    /// Ends the process politely and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// Every WebRTC leg that has ended was set up by a webrtc-ice agent, keyed by a DTLS handshake, and
    /// its packets went through webrtc-srtp; and there were some.
    ///
    /// # Panics
    /// If not.
    pub fn webrtc_legs_were_set_up_by_the_crates(&self) {
        let answer = http::ask(self.http, "GET", "/metrics", &[]).expect("metrics");
        let lines = answer.body.lines();
        let legs: Vec<&str> = lines
            .filter(|line| line.starts_with("weft_media_legs_ended_total"))
            .filter(|line| line.contains("transport=\"webrtc\""))
            .collect();
        assert!(!legs.is_empty(), "{}", answer.body);
        let signs = ["agent=\"true\"", "handshake=\"true\"", "srtp=\"true\""];
        for leg in legs {
            assert!(signs.iter().all(|sign| leg.contains(sign)), "{leg}");
        }
    }

    /// Returns the exit code once the process has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let ended = self.child.try_wait().ok().flatten();
        ended.and_then(|status| status.code())
    }

    /// Wants an actor moved to a node; returns the status of the answer and what it says.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn move_actor(&self, id: &str, to: &str) -> (u16, String) {
        self.post(
            &format!("/api/v1/actors/{id}/move"),
            &format!("{{\"to\":\"{to}\"}}"),
        )
    }

    /// Wants a node drained.
    ///
    /// # Panics
    /// If it is refused.
    pub fn drain(&self, name: &str, max_s: u32) {
        let (status, said) = self.post(
            &format!("/api/v1/nodes/{name}/drain"),
            &format!("{{\"max_s\":{max_s}}}"),
        );
        assert_eq!(status, 202, "{said}");
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.order("POST", path, body)
    }

    /// Gives an order over HTTP as the administrator; returns the status of the answer and what it says.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn order(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let token = format!("Authorization: Bearer {}", self.token());
        let headers = ["Content-Type: application/json", token.as_str()];
        let answer = http::ask_with(self.http, method, path, &headers, body);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {path}"));
        (answer.status, answer.body)
    }

    /// Returns the process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the API and returns JSON.
    ///
    /// # Panics
    /// If the answer is not 200.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask(path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Asks the API; `None` if nobody answers.
    #[must_use]
    pub fn ask(&self, path: &str) -> Option<http::Answer> {
        if self.http.ip().is_loopback() {
            return http::ask(self.http, "GET", path, &[]);
        }
        let token = format!("Authorization: Bearer {}", self.token());
        http::ask(self.http, "GET", path, &[&token])
    }

    /// Returns the rows of actors of one kind.
    #[must_use]
    pub fn actors(&self, kind: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/actors?kind={kind}&limit=1000"));
        answer["items"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the administrator's token.
    ///
    /// # Panics
    /// If the node has made none.
    #[must_use]
    pub fn token(&self) -> String {
        let path = self.folder.join("data/admin.token");
        fs::read_to_string(path).expect("a token").trim().to_owned()
    }

    /// Returns the records of calls that have ended, one line of the log each.
    #[must_use]
    pub fn call_records(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("\"weft::cdr\""));
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until no call is left.
    ///
    /// # Panics
    /// If one does not end.
    pub fn no_calls_left(&self) {
        wait::until("calls to end", wait::PATIENCE, || {
            self.actors("call").is_empty().then_some(())
        });
    }

    /// No actor restarted and no error was logged.
    ///
    /// # Panics
    /// If one was.
    pub fn must_be_unharmed(&self) {
        let answer = self.get("/api/v1/actors?limit=1000");
        for row in answer["items"].as_array().expect("rows") {
            assert_eq!(row["restarts"], 0, "{row}");
        }
        let log = self.log();
        let is_error = |line: &&str| line.contains("\"ERROR\"");
        let errors: Vec<_> = log.lines().filter(is_error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    /// Returns what the node has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs the program's command line against this node.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(program())
            .args(arguments)
            .args(["--url", &format!("http://{}", self.http)])
            .env("WEFT_TOKEN", self.token())
            .output()
            .expect("the program runs")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn spawn(folder: &Path, namespace: Option<&str>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"));
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program());
            command
        }
        None => Command::new(program()),
    };
    command
        .args(["run", "--log", "json", "--config"])
        .arg(folder.join("weft.toml"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log file"))
        .spawn()
        .expect("the program starts")
}

fn config(
    setup: &Setup<'_>,
    data: &Path,
    sip: SocketAddr,
    http: SocketAddr,
    (rtp_first, webrtc): (u16, u16),
) -> String {
    let Setup {
        name,
        media,
        extra,
        profile,
        ..
    } = setup;
    let mut text = format!(
        "[node]\nname = \"{name}\"\ndata = \"{}\"\n\
         [http]\nlisten = [\"{http}\"]\ntls = []\n\
         [media]\nrtp_ports = \"{rtp_first}-{}\"\nwebrtc_port = {webrtc}\nworkers = 2\n{media}\n\
         [[profile]]\nname = \"internal\"\nudp = [\"{sip}\"]\ntcp = [\"{sip}\"]\n\
         tls = []\nws = []\nwss = []\nauth = \"digest\"\n{profile}\
         [[domain]]\nname = \"weft.test\"\n",
        data.display(),
        rtp_first + RTP_PORTS - 1
    );
    for number in 1000..1020 {
        let _ = write!(
            text,
            "[[user]]\nname = \"{number}\"\npassword = \"weft-{number}\"\n"
        );
    }
    text.push_str(
        "[[route]]\nname = \"echo\"\nmatch = { destination = \"^9196$\" }\n\
         do = [{ answer = true }, { echo = true }]\n\
         [[route]]\nname = \"tone\"\nmatch = { destination = \"^9197$\" }\n\
         do = [{ answer = true }, { tone = { hertz = 1004, level_dbm0 = -16 } }]\n\
         [[route]]\nname = \"users\"\nmatch = { destination = '^(10[01]\\d)$' }\n\
         do = [{ bridge = \"user/$1\" }]\n",
    );
    text.push_str(extra);
    // What a suite that fails now and then did, in full.
    if let Ok(level) = std::env::var("WEFT_SUITE_LOG") {
        let _ = write!(text, "[log]\nlevel = \"{level}\"\n");
    }
    text
}
