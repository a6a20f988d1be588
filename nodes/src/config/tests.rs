//! Default, schema and types say the same keys; layers lie as written; what is unsafe is refused.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use actors::site::{Credential, Step as SiteStep};
use contract::{Entropy, FabricKeys, FaultClass, NodeId, NodeInst, Secret};

use super::route::STEPS;
use super::schema::{Key, Kind, ROOT};
use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "weft-config-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn interfaces() -> Interfaces {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    Interfaces::of(vec![
        ("lo".to_owned(), address("127.0.0.1")),
        ("lo".to_owned(), address("::1")),
        ("eth0".to_owned(), address("192.0.2.7")),
        ("eth0".to_owned(), address("fe80::7")),
        ("eth0".to_owned(), address("2001:db8::7")),
    ])
}

fn load_texts(texts: &[&str], sets: &[&str], demo: bool) -> Result<Loaded, ConfigError> {
    let folder = Folder::new();
    let files = texts.iter().enumerate();
    let files = files
        .map(|(at, text)| folder.write(&format!("{at}.toml"), text, 0o600))
        .collect();
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    load(&Sources { files, demo, sets }, &interfaces())
}

const DOMAIN: &str = "[[domain]]\nname = \"a.example\"\n";

/// The default with every `#key = value` line taken as set.
fn uncommented() -> String {
    let lines = DEFAULT.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => rest,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn schema_keys(keys: &[Key], path: &str, found: &mut BTreeSet<String>) {
    for key in keys {
        let path = if path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{path}.{}", key.name)
        };
        match key.kind {
            Kind::Table(inner) | Kind::Named(inner) => schema_keys(inner, &path, found),
            Kind::Number(..)
            | Kind::Truth
            | Kind::Text(..)
            | Kind::Secret(..)
            | Kind::TextOrNumber(..)
            | Kind::Texts(..)
            | Kind::Rows(_)
            | Kind::Steps(_) => {
                found.insert(path);
            }
        }
    }
}

fn value_keys(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(table) => {
            for (name, inner) in table {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                value_keys(inner, &path, found);
            }
        }
        serde_json::Value::Array(list)
            if path != "route.do" && list.iter().any(serde_json::Value::is_object) =>
        {
            // The first entry of an array of tables documents all its keys.
            value_keys(&list[0], path, found);
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_) => {
            assert!(
                !value.is_null(),
                "{path} is in Config but not in default.toml"
            );
            found.insert(path.to_owned());
        }
    }
}

/// What `cluster.schema` may say is what the program reads.
#[test]
fn a_node_can_be_kept_at_every_schema_that_it_reads_and_at_no_other() {
    let told = |schema: u16| {
        load_texts(
            &[&format!("{DOMAIN}[cluster]\nschema = {schema}\n")],
            &[],
            false,
        )
    };
    let known = contract::SchemaVersion::OLDEST.0..=contract::SchemaVersion::NEWEST.0;
    for schema in 0..5 {
        let loaded = told(schema).map(|loaded| loaded.config.cluster.schema);
        assert_eq!(loaded.ok(), known.contains(&schema).then_some(Some(schema)));
    }
}

#[test]
fn default_schema_and_types_have_the_same_keys() {
    let table: Table = uncommented()
        .parse()
        .expect("the default reads with all its keys set");
    schema::check(&table, "default").expect("all values shown are allowed");
    let config: Config = table.try_into().expect("the types take all keys");
    let mut in_types = BTreeSet::new();
    value_keys(
        &serde_json::to_value(&config).expect("serializes"),
        "",
        &mut in_types,
    );
    let mut in_schema = BTreeSet::new();
    schema_keys(ROOT, "", &mut in_schema);
    assert_eq!(in_types, in_schema);
    assert!(in_types.len() > 40, "{}", in_types.len());
}

#[test]
fn every_key_of_the_default_is_documented() {
    let mut seen = BTreeSet::new();
    let (mut section, mut comment) = (String::new(), String::new());
    for (at, line) in DEFAULT.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
            comment.clear();
        } else if line.is_empty() || line.starts_with("#=") {
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ").or((line == "#").then_some("")) {
            comment.push_str(text);
            comment.push(' ');
        } else {
            let name = line
                .trim_start_matches('#')
                .split(" =")
                .next()
                .unwrap_or_default();
            let is_new = seen.insert(format!("{section}.{name}"));
            let words = comment.split_whitespace().count();
            assert!(
                !is_new || words >= 5,
                "line {}: {section}.{name} is not documented",
                at + 1
            );
            comment.clear();
        }
    }
    let routes = defaults(Some("route.do")).expect("documented");
    for step in STEPS {
        assert!(
            routes.contains(&format!("{{{} = ", step.name)),
            "step {} is not shown",
            step.name
        );
    }
}

#[test]
fn ranges_in_comments_are_those_that_are_checked() {
    fn walk(keys: &[Key], path: &str) {
        for key in keys {
            let path = if path.is_empty() {
                key.name.to_owned()
            } else {
                format!("{path}.{}", key.name)
            };
            match key.kind {
                Kind::Table(inner) | Kind::Named(inner) | Kind::Rows(inner) => walk(inner, &path),
                Kind::Number(low, high) => {
                    let shown = path.strip_suffix(".calls").unwrap_or(&path);
                    let shown = if path.starts_with("domain") {
                        shown
                    } else {
                        &path
                    };
                    let text = defaults(Some(shown)).unwrap_or_else(|| panic!("{path} is shown"));
                    assert!(
                        text.contains(&format!("{low}-{high}")),
                        "{path}: {low}-{high}\n{text}"
                    );
                }
                Kind::Truth
                | Kind::Text(..)
                | Kind::Secret(..)
                | Kind::TextOrNumber(..)
                | Kind::Texts(..)
                | Kind::Steps(_) => {}
            }
        }
    }
    walk(ROOT, "");
}

#[test]
fn every_file_of_cluster_config_loads() {
    fn visit(folder: &Path, count: &mut usize) {
        for entry in fs::read_dir(folder).expect("the folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                visit(&path, count);
            } else if path.extension().is_some_and(|end| end == "toml") {
                let files = vec![path.clone()];
                let loaded = load(
                    &Sources {
                        files,
                        demo: true,
                        sets: Vec::new(),
                    },
                    &interfaces(),
                );
                assert!(loaded.is_ok(), "{}: {:?}", path.display(), loaded.err());
                *count += 1;
            }
        }
    }
    let mut count = 0;
    visit(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster-config"),
        &mut count,
    );
    assert!(count >= 1);
}

#[test]
fn the_demo_is_complete_and_loads_only_where_it_may() {
    let demo = load_texts(&[], &[], false).expect("the embedded default");
    assert_eq!(demo.config.user.len(), 20);
    let shown: Vec<_> = demo
        .plan
        .listeners
        .iter()
        .map(|plan| format!("{} {}", plan.protocol.word(), plan.local))
        .collect();
    assert_eq!(
        shown,
        [
            "udp 127.0.0.1:5060",
            "tcp 127.0.0.1:5060",
            "tls 127.0.0.1:5061",
            "ws 127.0.0.1:5066",
            "wss 127.0.0.1:7443",
            "ws 127.0.0.1:8080",
            "wss 127.0.0.1:8443",
        ]
    );
    assert_eq!(demo.plan.http[1].listener, 6);
    assert_eq!(
        (demo.plan.webrtc_port, demo.plan.tls.is_self_made),
        (16_300, true)
    );
    let marks: Vec<u8> = demo.plan.listeners.iter().map(|one| one.dscp).collect();
    assert_eq!((marks, demo.config.media.dscp), (vec![24; 7], 46));
    assert_eq!(demo.plan.node, NodeId(1));
    let site = to_site(
        &demo,
        &SiteKeys {
            keys: &FabricKeys::new([1; 32]),
            me: NodeInst::default(),
            lanes: 2,
            media_fingerprint: "sha-256 AB",
        },
    );
    let account = site
        .account(&site.aor("1019", "127.0.0.1").expect("an AoR"))
        .expect("known");
    assert!(matches!(&account.credential, Credential::Password(p) if p.expose() == "weft-1019"));
    assert_eq!(
        site.domains[0].routes[1].steps[1],
        SiteStep::Tone {
            hertz: 1_004,
            level_dbm0: -16
        }
    );
    assert_eq!(
        site.listeners[1].advertise,
        "127.0.0.1:5060".parse::<SocketAddr>().expect("address")
    );
    let own = load_texts(&[DOMAIN], &[], false).expect("a domain is enough");
    assert!(own.config.user.is_empty() && own.config.route.is_empty());
    let both = load_texts(&[DOMAIN], &[], true).expect("with the demo");
    assert_eq!((both.config.user.len(), both.config.domain.len()), (20, 2));
}

#[test]
fn layers_lie_over_one_another() {
    let first = "[media]\nworkers = 3\n[http]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
                 [[domain]]\nname = \"a.example\"\n\
                 [[user]]\nname = \"7\"\npassword = \"p\"\ndisplay = \"Seven\"\n\
                 [[user]]\nname = \"8\"\npassword = \"p\"\n\
                 [[route]]\nname = \"mine\"\nmatch = { destination = \"^1\" }\ndo = [{ echo = true }]\n\
                 [[route]]\nname = \"next\"\nmatch = { destination = \"^2\" }\ndo = [{ echo = true }]\n";
    let second = "[http]\nlisten = [\"127.0.0.1:3\"]\n\
                  [[user]]\nname = \"7\"\nha1 = \"0123456789abcdef0123456789abcdef\"\n\
                  [[user]]\nname = \"8\"\nremove = true\n\
                  [[route]]\nname = \"next\"\nmedia = \"bypass\"\n\
                  [[route]]\nname = \"tone\"\nremove = true\n\
                  [[route]]\nname = \"late\"\nmatch = { destination = \"^3\" }\ndo = [{ answer = true }]\n";
    let sets = [
        "media.rtp_timeout_s=5",
        "user.7.display=7",
        "profile.internal.udp=[\"127.0.0.1:9\"]",
        "domain.\"a.example\".limits.calls=3",
    ];
    let loaded = load_texts(&[first, second], &sets, true).expect("loads");
    let config = &loaded.config;
    assert_eq!((config.media.workers, config.media.rtp_timeout_s), (3, 5));
    assert_eq!(config.media.rtp_hold_timeout_s, 300);
    assert_eq!(config.http.listen, ["127.0.0.1:3"]);
    let seven = config
        .user
        .iter()
        .find(|user| user.name == "7")
        .expect("user 7");
    assert_eq!(seven.display.as_deref(), Some("7"));
    assert!(seven.password.is_none() && seven.ha1.is_some());
    assert!(!config.user.iter().any(|user| user.name == "8"));
    let routes: Vec<_> = config
        .route
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(routes[..4], ["late", "mine", "next", "echo"]);
    assert_eq!(routes.last(), Some(&"users"));
    assert_eq!(config.route[2].media, RouteMedia::Bypass);
    assert_eq!(config.profile[0].udp, ["127.0.0.1:9"]);
    assert_eq!(config.profile[0].tcp, ["127.0.0.1:5060"]);
    let own = config
        .domain
        .iter()
        .find(|domain| domain.name == "a.example")
        .expect("the domain");
    assert_eq!(own.limits.calls, 3);
    assert!(loaded.origins.file("media.rtp_timeout_s").contains("--set"));
    assert!(loaded.origins.file("media.workers").ends_with("0.toml"));
    assert_eq!(loaded.origins.file("limits.calls"), DEFAULT_NAME);
}

#[test]
fn refusals_name_file_key_value_and_range() {
    let user = |credential: &str| format!("{DOMAIN}[[user]]\nname = \"1\"\n{credential}\n");
    let route = |rest: &str| format!("{DOMAIN}[[route]]\nname = \"r\"\n{rest}\n");
    let hours = |rest: &str| format!("{DOMAIN}[[hours]]\nname = \"h\"\n{rest}\n");
    let profile = |rest: &str| format!("{DOMAIN}[[profile]]\nname = \"p\"\n{rest}\n");
    let group = |rest: &str| {
        let user = user("password = \"p\"");
        format!("{user}[[group]]\nname = \"g\"\n{rest}\n")
    };
    let table = [
        (
            "[media]\nrtp_timeout = 5".to_owned(),
            "unknown key `media.rtp_timeout`; allowed: rtp_ports",
        ),
        (
            "[medium]".to_owned(),
            "unknown key `medium`; allowed: node, cluster",
        ),
        (
            "[media]\ndscp = 64".to_owned(),
            "`media.dscp` = 64 is not allowed; allowed: a whole number, 0 to 63",
        ),
        (profile("dscp = -1"), "`profile."),
        (
            "[media]\nworkers = 65".to_owned(),
            "`media.workers` = 65 is not allowed; allowed: a whole number, 0 to 64",
        ),
        (
            "[media]\nworkers = \"two\"".to_owned(),
            "allowed: a whole number, 0 to 64",
        ),
        (
            "[media]\nrtp_ports = \"16385-20000\"".to_owned(),
            "`media.rtp_ports` = \"16385-20000\"",
        ),
        (
            "[media]\ncodecs = [\"mp3\"]".to_owned(),
            "opus, g722, pcmu or pcma",
        ),
        (
            "[media]\nsrtp = [\"AES_256\"]".to_owned(),
            "AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32, AEAD_AES_128_GCM",
        ),
        (
            format!("{DOMAIN}[media]\nsrtp = []"),
            "`media.srtp` = [] is not allowed; allowed: one suite at least, each once",
        ),
        (
            format!("{DOMAIN}[media]\nsrtp = [\"AEAD_AES_128_GCM\", \"AEAD_AES_128_GCM\"]"),
            "each once",
        ),
        ("[node]\nid = 65536".to_owned(), "\"auto\" or 0-65535"),
        (
            "[cluster]\nlisten = \":7946\"".to_owned(),
            "`cluster.listen` = \":7946\" is not allowed; allowed: `address:port` or",
        ),
        (
            format!("{DOMAIN}[node]\nname = \"n-2\"\n[cluster]\nlisten = \"0.0.0.0:7946\""),
            "an address that other nodes can reach",
        ),
        (
            format!("{DOMAIN}[cluster]\nlisten = \"192.0.2.7:7946\""),
            "`node.name` = weft-1 is not allowed; allowed: in a cluster: a name of its own",
        ),
        (
            format!("{DOMAIN}[node]\nname = \"east\"\n[cluster]\nlisten = \"192.0.2.7:7946\""),
            "ends in its number, or `node.id` too",
        ),
        (
            "[cluster]\nseeds = [\"10.0.0.2\"]".to_owned(),
            "`address:port` or `host:port`",
        ),
        (
            format!("{DOMAIN}[cluster]\nseeds = [\"10.0.0.2:7946\"]"),
            "none without `cluster.listen`",
        ),
        ("[log]\nlevel = \"loud,,=\"".to_owned(), "`log.level`"),
        (
            "[http]\norigins = [\"console.example\"]".to_owned(),
            "an origin as",
        ),
        (
            "[limits]\nexpires_max_s = 100".to_owned() + "\n" + DOMAIN,
            "`limits.expires_max_s` = 100 is not allowed; allowed: 3600",
        ),
        ("[node".to_owned(), "(line 1)"),
        (String::new(), "`domain` = (nothing)"),
        (
            user("password = \"p\"\npassword_file = \"f\""),
            "exactly one of password, password_file, ha1",
        ),
        (user(""), "exactly one of password, password_file, ha1"),
        (user("password = \"\""), "`user.1.password` = (a secret)"),
        (user("password_file = \"absent\""), "a file of mode 0600"),
        (
            user("password = \"p\"\ndomain = \"b.example\""),
            "`user.1.domain` = b.example",
        ),
        (
            user("password = \"p\"\n[[user]]\nname = \"1\"\npassword = \"q\""),
            "each name once a file",
        ),
        (user("remove = true"), "a name that an earlier layer has"),
        (
            route("match = { destination = \"(\" }\ndo = [{ echo = true }]"),
            "`route.r.match.destination`",
        ),
        (
            route("match = { destination = \"(a{1000}){1000}\" }\ndo = [{ echo = true }]"),
            "linear time",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = []"),
            "a list of 1-32 steps",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ sing = true }]"),
            "allowed: answer, bridge, echo, tone, hangup, log",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ bridge = \"user/$1\" }]"),
            "$0 to $0",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ park = \"$1\" }]"),
            "`route.r.do.park`",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ park = \"a b\" }]"),
            "the name of a place",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ tone = { hertz = 9 } }]"),
            "20 to 3900",
        ),
        (
            route("match = { destination = \"^1\" }"),
            "`route.r.do` = (nothing)",
        ),
        (
            route("profile = \"q\"\nmatch = { destination = \"^1\" }\ndo = [{ echo = true }]"),
            "the name of a [[profile]]",
        ),
        (
            route("match = { destination = \"^1\" }\ndo = [{ bridge = \"group/none\" }]"),
            "`route.r.do` = none is not allowed; allowed: the name of a [[group]] of the route's domain",
        ),
        (
            group("members = [\"1\"]")
                + "[[route]]\nname = \"r\"\nmatch = { destination = \"^1\" }\n\
                   do = [{ pickup = \"user/1,group/g@b.example\" }]",
            "`route.r.do` = g is not allowed",
        ),
        (
            group("members = [\"1\", \"2\"]"),
            "`group.g.members` = 2 is not allowed; allowed: names of users of the group's domain",
        ),
        (group("members = []"), "allowed: 1 to 16 members"),
        (
            group(&format!("members = {:?}", ["1"; 17])),
            "`group.g.members` = 17 of them",
        ),
        (
            group("members = [\"1\"]\ndomain = \"b.example\""),
            "`group.g.domain` = b.example",
        ),
        (
            group("members = [\"1\"]\nring_s = 2"),
            "a whole number, 3 to 180",
        ),
        (
            group("members = [\"1\"]\norder = \"loud\""),
            "`all`, `in_turn` or `random`",
        ),
        (profile("udp = [\"5060\"]"), "`address:port`"),
        (
            profile("udp = [\"wlan7:5060\"]"),
            "an interface of this machine",
        ),
        (
            profile("udp = [\"127.0.0.1:5060\"]"),
            "an address that no other listener has",
        ),
        (
            profile("udp = [\":5062\"]"),
            "a profile.advertise or node.advertise",
        ),
        (
            profile("udp = [\"0.0.0.0:5062\"]"),
            "a profile.advertise or node.advertise",
        ),
        (
            profile("udp = [\"eth0:5062\"]\nauth = \"none\""),
            "with auth = \"none\": a loopback address",
        ),
        (profile("acl = [\"10.0.0.0/33\"]"), "a network as"),
        (
            profile("ws = [\"127.0.0.1:5060\"]"),
            "an address that no other listener has",
        ),
        (
            profile("wss = [\"127.0.0.1:8443\"]"),
            "`http.tls` = 127.0.0.1:8443 is not allowed; allowed: an address that no other",
        ),
        (
            profile("ws = [\":5067\"]"),
            "a profile.advertise or node.advertise",
        ),
        (
            DOMAIN.to_owned() + "[tls]\ncertificate = \"c.pem\"",
            "`tls.key` = (nothing)",
        ),
        (
            DOMAIN.to_owned() + "[tls]\nverify_peers = true",
            "true beside `tls.authorities`",
        ),
        (
            DOMAIN.to_owned() + "[media]\nwebrtc_port = 16384",
            "with the 64 ports from it outside 16384-32768",
        ),
        (
            DOMAIN.to_owned() + "[http]\ntrusted_proxies = [\"nginx one\"]",
            "a network as",
        ),
        (user("password = \"p\"\nmedia = \"dtls\""), "\"webrtc\""),
        (
            hours("zone = \"Europe/Nowhere\"\nopen = [\"mo 08:00-09:00\"]"),
            "`hours.h.zone` = \"Europe/Nowhere\" is not allowed; allowed: the name of a time zone",
        ),
        (
            hours("zone = \"UTC\"\nopen = [\"mo 08:00-25:00\"]"),
            "days and times as `mo-fr 08:00-12:30`",
        ),
        (
            hours("zone = \"UTC\"\nopen = [\"mo 08:00-09:00\"]\nholidays = [\"2026-02-29\"]"),
            "`hours.h.holidays`",
        ),
        (
            hours("zone = \"UTC\"\nalso = [\"mo 10:00-16:00\"]"),
            "a day and times as `2026-12-19 10:00-16:00`",
        ),
        (
            hours("zone = \"UTC\"\nholidays = [\"12-25\"]"),
            "`hours.h.open` = (nothing) is not allowed; allowed: at least one opening",
        ),
        (
            hours(&format!(
                "zone = \"UTC\"\nopen = {:?}",
                ["mo 08:00-09:00"; 65]
            )),
            "`hours.h.open` = 65 of them is not allowed; allowed: at most 64",
        ),
        (
            hours("zone = \"UTC\"\nopen = [\"mo 08:00-09:00\"]\ndomain = \"b.example\""),
            "`hours.h.domain` = b.example",
        ),
        (hours("open = [\"mo 08:00-09:00\"]"), "missing field `zone`"),
        (
            route("match = { destination = \"^1$\", hours = \"!h\" }\ndo = [{answer = true}]"),
            "`route.r.match.hours` = !h is not allowed; allowed: the name of an [[hours]]",
        ),
        (
            route("match = { destination = \"^1$\", hours = \"a b\" }\ndo = [{answer = true}]"),
            "the name of an [[hours]], or `!` and its name",
        ),
        (
            // Those of another domain.
            hours("zone = \"UTC\"\nopen = [\"mo 08:00-09:00\"]\n[[domain]]\nname = \"b.example\"")
                + "\n[[route]]\nname = \"r\"\ndomain = \"b.example\"\n\
                   match = { destination = \"^1$\", hours = \"h\" }\ndo = [{answer = true}]",
            "`route.r.match.hours` = h",
        ),
        (
            user("password = \"weft-1\"") + "[[profile]]\nname = \"p\"\nudp = [\"192.0.2.7:5062\"]",
            "with the demo password of user 1",
        ),
    ];
    for (text, wanted) in &table {
        let error = load_texts(&[text], &[], false).expect_err(text);
        let said = error.to_string();
        assert!(said.contains(wanted), "{text}\n-> {said}\nwanted {wanted}");
        assert!(
            said.contains("0.toml")
                || said.contains("built-in")
                || said.contains("the configuration"),
            "{said}"
        );
        assert_eq!(error.class(), FaultClass::Config);
    }
    for outside in [
        "profile.internal.udp=[\"eth0:5060\"]",
        "profile.internal.wss=[\"eth0:7443\"]",
        "http.tls=[\":8443\"]",
    ] {
        let demo_outside = load_texts(&[], &[outside], false);
        let said = demo_outside
            .expect_err("the demo stays on the loopback")
            .to_string();
        assert!(
            said.contains("--set") && said.contains("demo password of user 1000"),
            "{said}"
        );
    }
    for bad in ["media.workers", "=3", "media..x=3", "media.sheep=3"] {
        assert!(load_texts(&[], &[bad], false).is_err(), "{bad}");
    }
}

#[test]
fn what_an_acl_or_an_address_makes_safe_is_taken() {
    let table = [
        (
            "udp = [\"eth0:5062\"]\nauth = \"none\"\nacl = [\"10.0.0.0/8\"]",
            2,
        ),
        ("udp = [\":5062\"]\nadvertise = \"203.0.113.1:6000\"", 2),
        ("udp = [\"[::]:5062\"]\nadvertise = \"2001:db8::1\"", 1),
        ("udp = [\"0.0.0.0:5062\"]\nadvertise = \"eth0\"", 1),
        ("tcp = [\"[::1]:5062\", \"127.0.0.1:5062\"]", 2),
    ];
    for (rest, count) in table {
        let text = format!("{DOMAIN}[[profile]]\nname = \"p\"\n{rest}\n");
        let loaded =
            load_texts(&[&text], &[], false).unwrap_or_else(|error| panic!("{rest}: {error}"));
        let own = loaded
            .plan
            .listeners
            .iter()
            .filter(|plan| plan.profile == "p");
        assert_eq!(own.count(), count, "{rest}");
    }
}

#[test]
fn secret_files_are_private_or_refused() {
    let folder = Folder::new();
    let text = format!("{DOMAIN}[[user]]\nname = \"1\"\npassword_file = \"1.password\"\n");
    let file = folder.write("c.toml", &text, 0o600);
    let sources = Sources {
        files: vec![file],
        demo: false,
        sets: Vec::new(),
    };
    folder.write("1.password", "secret\n", 0o644);
    let said = load(&sources, &interfaces())
        .expect_err("others may read it")
        .to_string();
    assert!(
        said.contains("1.password") && said.contains("0644"),
        "{said}"
    );
    folder.write("1.password", "secret\n", 0o600);
    let loaded = load(&sources, &interfaces()).expect("now it is private");
    assert_eq!(
        loaded.plan.passwords[0].as_ref().map(Secret::expose),
        Some("secret")
    );
    let key = folder.0.join("new/cluster.key");
    let made = cluster_key(&key, &|| [7; 32]).expect("made");
    let read = cluster_key(&key, &|| [8; 32]).expect("read again");
    assert_eq!(made.nonces(), read.nonces());
    assert_eq!(fs::read(&key).expect("there"), [7; 32]);
    let mode = fs::metadata(&key).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("mode");
    assert!(cluster_key(&key, &|| [8; 32]).is_err());
    folder.write("short.key", "short", 0o600);
    assert!(cluster_key(&folder.0.join("short.key"), &|| [8; 32]).is_err());
    let token = administrator_token(&folder.0, &|| [9; 32]).expect("made");
    assert_eq!(token, read_token(&folder.0).expect("read"));
}

#[test]
fn printing_shows_everything_but_secrets() {
    let text = format!(
        "{DOMAIN}[[user]]\nname = \"1\"\npassword = \"canary-1\"\n\
         [[user]]\nname = \"2\"\nha1 = \"0123456789abcdef0123456789abcdef\"\n"
    );
    let loaded = load_texts(&[&text], &[], true).expect("loads");
    let shown = effective(&loaded);
    let debug = format!("{:?} {:?}", loaded.config, loaded.plan);
    for secret in ["canary-1", "0123456789abcdef0123456789abcdef", "weft-1000"] {
        assert!(
            !shown.contains(secret) && !debug.contains(secret),
            "{secret}"
        );
    }
    let again: Table = shown.parse().expect("TOML");
    assert_eq!(again["media"]["workers"].as_integer(), Some(0));
    let bad = format!("{DOMAIN}[[user]]\nname = \"1\"\npassword = \"canary-2\n");
    assert!(
        !load_texts(&[&bad], &[], false)
            .expect_err("no TOML")
            .to_string()
            .contains("canary")
    );
}

#[test]
fn defaults_prints_all_a_table_or_a_key() {
    assert_eq!(defaults(None).as_deref(), Some(DEFAULT));
    let media = defaults(Some("media")).expect("a table");
    assert!(
        media.starts_with("[media]\n") && media.contains("rtp_ports") && !media.contains("[http]")
    );
    let key = defaults(Some("media.workers")).expect("a key");
    assert!(
        key.starts_with("# Threads") && key.ends_with("workers = 0\n"),
        "{key}"
    );
    assert!(
        defaults(Some("profile.advertise"))
            .expect("not set, but shown")
            .contains("#advertise")
    );
    assert_eq!(defaults(Some("sheep")), None);
    assert_eq!(defaults(Some("media.sheep")), None);
}

#[test]
fn a_first_configuration_loads_and_has_passwords_of_its_own() {
    let mut entropy = Entropy::from_seed([4; 32]);
    let made = initial("192.0.2.7", Some("Example.org"), &mut entropy).expect("made");
    let loaded = load_texts(&[&made.file], &[], false).expect("loads, off the loopback too");
    assert_eq!(
        (loaded.config.user.len(), loaded.config.route.len()),
        (20, 21)
    );
    assert_eq!(loaded.config.domain[0].name, "example.org");
    let mut passwords: Vec<_> = loaded
        .plan
        .passwords
        .iter()
        .flatten()
        .map(|secret| secret.expose().to_owned())
        .collect();
    assert!(
        passwords
            .iter()
            .all(|password| made.phones.contains(password.as_str()))
    );
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), 20);
    for (address, domain) in [
        ("0.0.0.0", None),
        ("phone", None),
        ("192.0.2.7", Some("a b")),
    ] {
        assert!(
            initial(address, domain, &mut entropy).is_err(),
            "{address} {domain:?}"
        );
    }
}

#[test]
fn networks_contain_their_addresses() {
    let table = [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.0/24", "::ffff:192.0.2.9", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "192.0.2.1", false),
    ];
    for (network, address, expected) in table {
        let network: Network = network.parse().expect("a network");
        assert_eq!(
            network.contains(address.parse().expect("an address")),
            expected,
            "{address}"
        );
    }
    for bad in ["10.0.0.0/33", "::/129", "ten", "10.0.0.0/"] {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}

const CLUSTERED: &str = "[[domain]]\nname = \"a.example\"\n[node]\nname = \"n-2\"\n\
     [cluster]\nlisten = \"192.0.2.7:7946\"\n";

#[test]
fn a_floating_address_has_a_listener_for_each_port_of_the_node() {
    let rows = "floating = [\
         { address = \"203.0.113.9\", node = \"n-1\", hook = \"/bin/true\" },\
         { address = \"203.0.113.8\", node = \"n-2\" }]\n";
    let acl = "[[profile]]\nname = \"internal\"\nacl = [\"203.0.113.0/24\"]\n";
    let text = format!("{CLUSTERED}{rows}{acl}");
    let loaded = load_texts(&[&text], &[], false).expect("fine");
    let plan = &loaded.plan;
    let hooks = plan.addresses.values().map(|said| said.hook.is_some());
    assert_eq!(hooks.collect::<Vec<_>>(), [false, true]);
    let floating: Vec<_> = plan
        .listeners
        .iter()
        .filter_map(|one| Some((one.local.to_string(), one.protocol, one.base?)))
        .collect();
    let at = |text: &str, protocol, base| (text.to_owned(), protocol, base);
    assert_eq!(
        floating,
        [
            at("203.0.113.8:5060", Protocol::Udp, 0),
            at("203.0.113.8:5060", Protocol::Tcp, 1),
            at("203.0.113.8:5061", Protocol::Tls, 2),
            at("203.0.113.9:5060", Protocol::Udp, 0),
            at("203.0.113.9:5060", Protocol::Tcp, 1),
            at("203.0.113.9:5061", Protocol::Tls, 2),
        ]
    );
    let first = plan.listeners.iter().position(|one| one.base.is_some());
    assert_eq!(first, Some(plan.listeners.len() - 6), "after all others");
}

#[test]
fn floating_addresses_that_cannot_be_are_refused() {
    let row = |rest: &str| format!("{CLUSTERED}floating = [{rest}]\n");
    let nine = "{ address = \"203.0.113.9\", node = \"n-1\" }";
    let demo = "[[profile]]\nname = \"internal\"\nudp = [\"127.0.0.1:0\"]\n";
    let table = [
        (
            row("{ address = \"over.there\", node = \"n-1\" }"),
            "`cluster.floating.address` = \"over.there\" is not allowed; allowed: an IP address",
        ),
        (
            row("{ address = \"203.0.113.9\", node = \"n-1\", via = \"eth0\" }"),
            "unknown key `cluster.floating.via`; allowed: address, node, hook",
        ),
        (row("5"), "a list of tables"),
        (row(&format!("{nine}, {nine}")), "each address once"),
        (
            row("{ address = \"127.0.0.1\", node = \"n-1\" }"),
            "an address that no listener of a node has for its own",
        ),
        (
            row("{ address = \"2001:db8::9\", node = \"n-1\" }"),
            "with a UDP, TCP or TLS listener of its family beside it",
        ),
        (
            format!("{}{demo}", row(nine)),
            "beside a floating address: listeners with an address and a port",
        ),
        (
            format!("{DOMAIN}[cluster]\nfloating = [{nine}]\n"),
            "none without `cluster.listen`",
        ),
    ];
    for (text, wanted) in table {
        let error = load_texts(&[&text], &[], false).expect_err(&text);
        let shown = error.to_string();
        assert!(shown.contains(wanted), "{text}\n{shown}");
    }
}
