//! baresip as a peer, in a network namespace of its own: it will not bind to the loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bridge::Bridge;
use crate::wait::PATIENCE;
use crate::{signal, wait};

/// A namespace joined to this one by a veth pair; it goes when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Name of the interface on our side.
    pub interface: String,
    /// Our address.
    pub ours: Ipv4Addr,
    /// Its address.
    pub theirs: Ipv4Addr,
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("ip is installed");
    assert!(status.success(), "ip {}", arguments.join(" "));
}

impl Namespace {
    /// Makes a namespace; `number` (1..=250) tells apart those of one test run.
    ///
    /// # Panics
    /// If this process may not make namespaces.
    #[must_use]
    pub fn new(number: u8) -> Namespace {
        // Numbers of processes come again, and one that was killed leaves its namespace behind.
        let begin = u8::try_from(std::process::id() % 200).unwrap_or(0);
        let subnet = (begin..250).chain(0..begin).find(|subnet| {
            let name = format!("weft{subnet}n{number}");
            Command::new("ip")
                .args(["netns", "add", &name])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        });
        let subnet = subnet.expect("this process may make namespaces");
        let name = format!("weft{subnet}n{number}");
        let interface = format!("wf{subnet}x{number}");
        let peer = format!("{interface}p");
        let ours = Ipv4Addr::new(10, 77, subnet, number.wrapping_mul(4).wrapping_add(1));
        let theirs = Ipv4Addr::new(10, 77, subnet, number.wrapping_mul(4).wrapping_add(2));
        let namespace = Namespace {
            name: name.clone(),
            interface: interface.clone(),
            ours,
            theirs,
        };
        ip(&[
            "link", "add", &interface, "type", "veth", "peer", "name", &peer,
        ]);
        ip(&["link", "set", &peer, "netns", &name]);
        ip(&["addr", "add", &format!("{ours}/30"), "dev", &interface]);
        ip(&["link", "set", &interface, "up"]);
        ip(&[
            "-n",
            &name,
            "addr",
            "add",
            &format!("{theirs}/30"),
            "dev",
            &peer,
        ]);
        ip(&["-n", &name, "link", "set", &peer, "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        namespace
    }
}

impl Namespace {
    /// Takes one that is there already, on a bridge: phones in it see all that is on that.
    #[must_use]
    pub fn of_bridge(bridge: &Bridge, number: u8) -> Namespace {
        Namespace {
            name: bridge.namespace(number),
            interface: bridge.cable(number),
            ours: bridge.ours(),
            theirs: bridge.at(number),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "del", &self.interface])
            .status();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// How a phone is to be set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// User of the account.
    pub user: &'a str,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'a str,
    /// Protection of media: baresip's `mediaenc`; empty for none.
    pub protection: &'a str,
    /// Finding of paths: baresip's `medianat`; empty for none.
    pub path: &'a str,
    /// Sends back what it hears; otherwise a sine of 440 Hz.
    pub loops: bool,
    /// Certificate that its TLS trusts.
    pub trusts: Option<&'a str>,
}

impl<'a> Setup<'a> {
    /// Returns a phone over UDP that protects nothing and sends a sine.
    #[must_use]
    pub const fn plain(user: &'a str) -> Self {
        Setup {
            user,
            transport: "udp",
            protection: "",
            path: "",
            loops: false,
            trusts: None,
        }
    }

    fn account(&self, server: SocketAddr) -> String {
        let user = self.user;
        let mut text = format!(
            "<sip:{user}@{server};transport={}>;auth_user={user};auth_pass=weft-{user};\
             answermode=auto;audio_codecs=pcmu;regint=60",
            self.transport
        );
        for (name, value) in [("mediaenc", self.protection), ("medianat", self.path)] {
            if !value.is_empty() {
                text.push_str(&format!(";{name}={value}"));
            }
        }
        text.push('\n');
        text
    }

    /// The folder of its own sounds has none: a ring-back tone would take the player that loops.
    fn config(&self, space: &Namespace, here: &str) -> String {
        let (source, player) = if self.loops {
            ("aubridge,loop".to_owned(), "aubridge,loop".to_owned())
        } else {
            (
                format!("aufile,{here}/tone.wav"),
                // A bridge whose other end nobody takes: this version's aufile cannot play.
                "aubridge,ear".to_owned(),
            )
        };
        let trusts = self
            .trusts
            .map_or_else(String::new, |file| format!("sip_cafile {file}\n"));
        format!(
            "sip_listen {0}:5060\n{trusts}audio_source {source}\naudio_player {player}\n\
             audio_alert aufile,{here}/alert.wav\nausrc_srate 8000\nauplay_srate 8000\n\
             audio_path {here}\nrtp_ports 20000-21000\nrtcp_mux yes\nmodule_path /usr/lib/baresip/modules\n\
             module ctrl_tcp.so\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\n\
             module srtp.so\nmodule dtls_srtp.so\nmodule ice.so\nmodule stun.so\n\
             module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n\
             ctrl_tcp_listen {0}:4444\n",
            space.theirs
        )
    }
}

/// A running baresip.
#[derive(Debug)]
pub struct Baresip {
    child: Child,
    folder: PathBuf,
    control: TcpStream,
    heard: String,
}

impl Baresip {
    /// Starts a phone for an account, with a sine of `hertz` as its microphone, and waits until it
    /// is registered.
    ///
    /// # Panics
    /// If it does not register.
    #[must_use]
    pub fn start(space: &Namespace, user: &str, server: SocketAddr, hertz: u32) -> Baresip {
        Baresip::with(space, &Setup::plain(user), server, hertz)
    }

    /// The same with a setup of one's own.
    ///
    /// # Panics
    /// If it does not register.
    #[must_use]
    pub fn with(space: &Namespace, setup: &Setup<'_>, server: SocketAddr, hertz: u32) -> Baresip {
        let folder = std::env::temp_dir().join(format!("weft-{}-{}", space.name, setup.user));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let here = folder.display().to_string();
        let (config, account) = (setup.config(space, &here), setup.account(server));
        fs::write(folder.join("tone.wav"), sine(hertz)).expect("a file");
        fs::write(folder.join("config"), config).expect("a file");
        fs::write(folder.join("accounts"), account).expect("a file");
        fs::write(folder.join("contacts"), "").expect("a file");
        let log = fs::File::create(folder.join("log")).expect("a file");
        let child = Command::new("ip")
            .args(["netns", "exec", &space.name, "baresip", "-v", "-f"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("baresip is installed by tests/run");
        let address = SocketAddr::from((space.theirs, 4444));
        let control = wait::until("baresip's control port", PATIENCE, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
        });
        control
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        let mut phone = Baresip {
            child,
            folder,
            control,
            heard: String::new(),
        };
        wait::until("baresip to register", PATIENCE, || {
            (phone.has_said("REGISTER_OK") || phone.log().contains("200 OK")).then_some(())
        });
        phone
    }

    /// Gives a command of its menu.
    ///
    /// # Panics
    /// If the control connection is gone.
    pub fn command(&mut self, command: &str, parameters: &str) {
        let json = serde_json::json!({"command": command, "params": parameters, "token": "t"});
        let json = json.to_string();
        let netstring = format!("{}:{json},", json.len());
        self.control
            .write_all(netstring.as_bytes())
            .expect("the control connection");
    }

    /// Tells whether an event of this type has come.
    pub fn has_said(&mut self, event: &str) -> bool {
        let mut octets = [0; 65_536];
        while let Ok(count) = self.control.read(&mut octets) {
            if count == 0 {
                break;
            }
            self.heard
                .push_str(&String::from_utf8_lossy(&octets[..count]));
        }
        self.heard.contains(&format!("\"type\":\"{event}\""))
    }

    /// Forgets the events so far.
    pub fn forget(&mut self) {
        let _ = self.has_said("");
        self.heard.clear();
    }

    /// Returns its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log"))
            .map(|octets| String::from_utf8_lossy(&octets).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        signal(&self.child, "TERM");
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A WAV file of 30 s of a sine at -10 dB of full scale: 8 kHz, 16 bit, one channel.
fn sine(hertz: u32) -> Vec<u8> {
    let count = 8_000 * 30_u32;
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + count * 2).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&8_000_u32.to_le_bytes());
    file.extend_from_slice(&16_000_u32.to_le_bytes());
    file.extend_from_slice(&[2, 0, 16, 0]);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(count * 2).to_le_bytes());
    for at in 0..count {
        let turn = 2.0 * std::f64::consts::PI * f64::from(hertz) * f64::from(at) / 8_000.0;
        let sample = (turn.sin() * 10_000.0) as i16;
        file.extend_from_slice(&sample.to_le_bytes());
    }
    file
}
