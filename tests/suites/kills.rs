//! `kill -9` of nodes under the calls and registrations of real peers: sipp, baresip, Chromium with
//! JsSIP and `/weft.js`. No answered call is dropped, no acknowledged registration is lost, what rings
//! rings on or anew (`cluster.md` §7). Prints how soon a death is noticed and how long calls are silent.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use weft_tests::baresip::{Baresip, Namespace, Setup};
use weft_tests::browser::{Browser, Page};
use weft_tests::cluster::Three;
use weft_tests::crowd::{Crowd, percentile, users};
use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::phone::Phone;
use weft_tests::ringing::Ringing;
use weft_tests::roaming::{Party, Roaming};
use weft_tests::sipp::{Running, Sipp};
use weft_tests::wait::{self, PATIENCE};

/// Phones that do nothing but register, and how often one of them does in a second.
const CROWD: (u32, u32) = (3000, 30);
const REGISTERS_PER_S: u32 = 15;
/// Calls of sipp that a kill hits, and how long they last after what they were offered last.
const SIPP_CALLS: u32 = 6;
const SIPP_HOLD_MS: &str = "5000";
/// Calls whose callee rings when every second node dies.
const RINGING: usize = 2;
/// A callee rings no longer for a call that is gone.
const GHOST_RINGS: Duration = Duration::from_secs(35);

/// Kills to be survived in a row; `WEFT_KILLS` says another number.
fn kills(usual: u32) -> u32 {
    let said = std::env::var("WEFT_KILLS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Chance that can be repeated (xorshift).
fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 33).unwrap_or(0)
}

/// Where the nodes are.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// On 127.0.0.1 to 127.0.0.3.
    Loopback,
    /// In three network namespaces.
    Apart,
    /// There, with floating addresses.
    Floating,
}

/// Times by what they are of.
#[derive(Default)]
struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    fn add(&mut self, what: &'static str, time: Duration) {
        self.0.entry(what).or_default().push(time);
    }

    fn print(&mut self) {
        for (what, times) in &mut self.0 {
            let ((half, most), (nearly, _)) = (percentile(times, 50), percentile(times, 99));
            println!(
                "{what}: p50 {half:?}, p99 {nearly:?}, max {most:?}, of {}",
                times.len()
            );
        }
    }
}

/// A party whose other side is no harness phone.
struct Single<'a> {
    party: Party,
    kind: &'static str,
    page: Option<Page<'a>>,
    /// Whether the node of its call was killed.
    is_hit: bool,
}

/// Everything that goes on.
struct World<'a> {
    place: Place,
    three: Three,
    pump: Pump,
    phones: IpAddr,
    calls: Vec<Roaming>,
    singles: Vec<Single<'a>>,
    ringing: Vec<Ringing>,
    crowd: Crowd,
    answering: Running,
    times: Times,
    /// Offers to parties.
    told: usize,
    /// Calls whose callee never stopped to ring.
    rang_on: usize,
}

fn start(place: Place) -> Option<Three> {
    let mut tables = users(CROWD.0, CROWD.1);
    tables.push_str("[[user]]\nname = \"2000\"\npassword = \"weft-2000\"\nmedia = \"webrtc\"\n");
    tables.push_str(
        "[[route]]\nname = \"webrtc\"\nmatch = { destination = '^(2000)$' }\n\
         do = [{ bridge = \"user/$1\" }]\n",
    );
    match place {
        Place::Loopback => Some(Three::start_with(&tables)),
        // The fourth and the fifth are of baresip.
        Place::Apart => Three::start_apart_with(5, false, &tables),
        Place::Floating => Three::start_apart_with(5, true, &tables),
    }
}

/// Where phones turn to that belong to a node.
fn door(three: &Three, place: Place, node: usize) -> SocketAddr {
    match place {
        Place::Loopback | Place::Apart => three.nodes[node].sip,
        Place::Floating => three.floating(node),
    }
}

impl<'a> World<'a> {
    fn start(place: Place) -> Option<Self> {
        let three = start(place)?;
        let bridge = three.bridge.as_ref();
        let ours = bridge.map_or(Ipv4Addr::LOCALHOST, |bridge| bridge.ours());
        let doors: Vec<_> = (0..3).map(|node| door(&three, place, node)).collect();
        let crowd = Crowd::start_at(ours, CROWD, doors.clone(), REGISTERS_PER_S);
        let answering = Sipp::at(&ours.to_string(), "answer_kept.xml", doors[1], &[]).args(&[
            "-rtp_echo",
            "-timeout",
            "3600",
        ]);
        let mut world = World {
            answering: register_sipp(answering, ours, doors[1]),
            place,
            pump: Pump::new(),
            phones: ours.into(),
            calls: Vec::new(),
            singles: Vec::new(),
            ringing: Vec::new(),
            crowd,
            times: Times::default(),
            told: 0,
            rang_on: 0,
            three,
        };
        for number in 0..6 {
            let node = number % 3;
            let mut bob = world.phone(&(1010 + number).to_string(), (node + number / 3) % 3);
            assert_eq!(bob.register(3600).status(), 200);
            let alice = world.phone(&(1000 + number).to_string(), node);
            let call = Roaming::connect(alice, bob, &world.pump);
            world.calls.push(call);
        }
        Some(world)
    }

    fn door(&self, node: usize) -> SocketAddr {
        door(&self.three, self.place, node)
    }

    fn phone(&self, user: &str, node: usize) -> Phone {
        Phone::roaming_at(self.phones, self.door(node), user)
    }

    /// A phone calls somebody who answers by itself.
    fn call(&mut self, user: &str, node: usize, called: &str, kind: &'static str) {
        let mut phone = self.phone(user, node);
        let at = self.pump.add_at(self.phones);
        let calling = phone.call(called, at.1);
        let answer = phone.progress(&calling, 200, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), 200, "{called}: {answer:?}");
        let side = phone.established(&calling, &answer);
        let party = Party::new(phone, side, at, &self.pump);
        self.singles.push(Single {
            party,
            kind,
            page: None,
            is_hit: false,
        });
    }

    /// A page calls a phone of a node.
    fn called_by(&mut self, page: Page<'a>, called: &str, node: usize, kind: &'static str) {
        let mut phone = self.phone(called, node);
        assert_eq!(phone.register(3600).status(), 200);
        let at = self.pump.add_at(self.phones);
        page.call(called);
        let invite = phone.ringing(PATIENCE).expect("an INVITE");
        let side = phone.answer(&invite, at.1);
        page.wait("active");
        let party = Party::new(phone, side, at, &self.pump);
        self.singles.push(Single {
            party,
            kind,
            page: Some(page),
            is_hit: false,
        });
    }

    /// Lets all phones answer what has come; none is told that its call is over.
    fn attend(&mut self) {
        let parties = self.calls.iter_mut().flat_map(Roaming::parties);
        let singles = self.singles.iter_mut().map(|single| &mut single.party);
        for party in parties.chain(singles) {
            party.attend(&self.pump);
            assert!(!party.is_ended, "{} was hung up on", party.phone.user);
        }
        self.ringing.iter_mut().for_each(Ringing::attend);
    }

    fn until(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> bool) {
        let logs = self.three.logs();
        let began = Instant::now();
        while !ready(self) {
            self.attend();
            if began.elapsed() > PATIENCE {
                let lost = self.parties().filter_map(|party| {
                    let heard = self.pump.heard(party.socket);
                    let is_silent = heard.last.is_none_or(|last| last.elapsed().as_secs() > 0);
                    let is_lost = is_silent || heard.source != Some(party.side.media);
                    is_lost.then_some((&party.phone.user, heard.source, is_silent, &party.side))
                });
                let lost: Vec<_> = lost.collect();
                panic!("waited for {what}; {logs:?}; lost {lost:#?}");
            }
        }
    }

    fn parties(&self) -> impl Iterator<Item = &Party> {
        let both = self
            .calls
            .iter()
            .flat_map(|call| [&call.caller, &call.callee]);
        both.chain(self.singles.iter().map(|single| &single.party))
    }

    /// Waits until each phone has heard some packets from where it was told last.
    fn all_hear(&mut self) {
        let goals: BTreeMap<usize, u64> = self
            .parties()
            .map(|party| (party.socket, self.pump.heard(party.socket).packets + 10))
            .collect();
        self.until("packets at every phone", |world| {
            world.parties().all(|party| {
                let heard = world.pump.heard(party.socket);
                heard.packets >= goals[&party.socket] && heard.source == Some(party.side.media)
            })
        });
    }

    fn crowd_is_known(&self, nodes: &[usize]) {
        let wanted: BTreeSet<String> = (CROWD.0..CROWD.0 + CROWD.1)
            .map(|user| format!("registration:{user}@weft.test"))
            .collect();
        let nodes = nodes.iter().map(|at| &self.three.nodes[*at]);
        self.three.agree(nodes, "registration", |rows| {
            let known = rows.iter().filter_map(|row| row["id"].as_str());
            let known: BTreeSet<String> = known.map(str::to_owned).collect();
            wanted.is_subset(&known)
        });
    }

    /// sipp calls sipp through a node; the calls are up.
    fn sipp_calls(&mut self, node: usize) -> Running {
        let began = self.answering.messages().matches("ACK sip").count();
        let line = "1008;[authentication username=1008 password=weft-1008];".to_owned();
        let hold = [("HOLD_MS", SIPP_HOLD_MS)];
        let running = Sipp::at(
            &self.phones.to_string(),
            "call_kept.xml",
            self.door(node),
            &hold,
        )
        .key("called", "1018")
        .lines(&[line])
        .calls(SIPP_CALLS, 20)
        .start();
        let wanted = began + SIPP_CALLS as usize;
        self.until("the calls of sipp", |world| {
            world.answering.messages().matches("ACK sip").count() >= wanted
        });
        running
    }

    fn ringing_calls(&mut self, node: usize) {
        for number in 0..RINGING {
            // One of the node itself, one of another node.
            let mut bob = self.phone(&(1016 + number).to_string(), (node + number) % 3);
            assert_eq!(bob.register(600).status(), 200);
            let alice = self.phone(&(1006 + number).to_string(), node);
            let call = Ringing::place(alice, bob, &self.pump);
            self.ringing.push(call);
            self.attend();
        }
    }

    /// What rang when its node was killed rings on or anew; it is answered.
    fn rings_on(&mut self, killed: Instant) -> Vec<Roaming> {
        if self.place != Place::Floating {
            self.until("all to ring anew", |world| {
                world.ringing.iter().all(|one| one.rings_anew(killed))
            });
        }
        self.until("one ring each", |world| {
            world.ringing.iter().all(|one| one.open().is_some())
        });
        let mut answered = Vec::new();
        for one in std::mem::take(&mut self.ringing) {
            for ring in &one.rings {
                let ended = ring.ended.map(|at| at.duration_since(killed));
                assert!(ended < Some(GHOST_RINGS), "rang for {ended:?}");
            }
            let open = one.open().expect("it rings").since;
            if open > killed {
                self.times.add("rings anew after", open - killed);
            } else {
                self.rang_on += 1;
            }
            let ended = one.rings.iter().filter(|ring| ring.ended.is_some());
            let ended: Vec<_> = ended.map(|ring| ring.invite.clone()).collect();
            let call = one.answer(&self.pump);
            let mut call = call.expect("the caller is connected");
            for invite in ended {
                // Said again where it came from, as soon as that node is there (RFC 3261 §17.2.1).
                let phone = &mut call.callee.phone;
                phone.respond(&invite, "487 Request Terminated", None);
            }
            answered.push(call);
            self.attend();
        }
        answered
    }

    /// One kill, at some moment.
    fn kill(&mut self, victim: usize, wait_ms: u64, with_ringing: bool) {
        self.all_hear();
        let sipp = self.sipp_calls((victim + wait_ms as usize) % 3);
        if with_ringing {
            self.ringing_calls(victim);
        }
        self.note_hit(victim);
        let at = Instant::now() + Duration::from_millis(wait_ms);
        self.until("the moment", |_| Instant::now() >= at);
        self.pump.forget_pauses();
        for page in self.singles.iter().filter_map(|single| single.page) {
            page.must("pauseStart", json!({}));
        }
        let before: usize = self.parties().map(|party| party.offers.len()).sum();
        let (killed, clock) = (Instant::now(), SystemTime::now());
        self.three.nodes[victim].kill();
        self.until("a death to be noticed", |world| {
            let noticed = world.three.noticed(victim, clock);
            for one in noticed.iter().flatten() {
                world.times.add("a death is noticed", *one);
            }
            noticed.is_some()
        });
        self.all_hear();
        let mut answered = self.rings_on(killed);
        self.note_gaps();
        self.told += self
            .parties()
            .map(|party| party.offers.len())
            .sum::<usize>()
            - before;
        let others: Vec<usize> = (0..3).filter(|at| *at != victim).collect();
        self.crowd_is_known(&others);
        self.three.nodes[victim].start_again();
        self.until("its return", |world| {
            let asked = world.three.nodes[victim].ask("/readyz");
            asked.is_some_and(|answer| answer.status == 200)
        });
        self.three.all_see_all();
        for call in &mut answered {
            weft_tests::roaming::all_hear(std::slice::from_mut(call), &self.pump, 5);
            call.end(with_ringing, &self.pump);
            assert_eq!(call.callee.phone.register(0).status(), 200);
            self.attend();
        }
        self.all_hear();
        let (done, ended) = std::thread::scope(|scope| {
            let ending = scope.spawn(|| sipp.wait());
            while !ending.is_finished() {
                self.attend();
            }
            (Instant::now(), ending.join().expect("sipp"))
        });
        assert!(done > killed);
        ended.must_succeed();
    }

    /// Returns the node that has an address of media.
    fn node_at(&self, ip: IpAddr) -> Option<usize> {
        let nodes = self.three.nodes.iter();
        let own = nodes.map(|node| node.sip.ip()).position(|one| one == ip);
        own.or_else(|| {
            let holders = self.three.holders(0);
            let (_, life) = holders.iter().find(|(one, _)| *one == ip.to_string())?;
            let number: usize = life.split('.').next()?.parse().ok()?;
            number.checked_sub(1)
        })
    }

    /// Returns the node of one of the calls with real peers.
    fn node_of_single(&self, number: usize) -> usize {
        let single = &self.singles[number % self.singles.len()];
        let node = self.node_at(single.party.side.media.ip());
        node.expect("one of them has it")
    }

    /// Notes the parties whose packets go to the node.
    fn note_hit(&mut self, node: usize) {
        let at = |single: &Single<'_>| self.node_at(single.party.side.media.ip());
        let hit: Vec<bool> = self
            .singles
            .iter()
            .map(|one| at(one) == Some(node))
            .collect();
        for (single, is_hit) in self.singles.iter_mut().zip(hit) {
            single.is_hit = is_hit;
        }
    }

    fn note_gaps(&mut self) {
        for call in &self.calls {
            for number in call.sockets() {
                let pause = self.pump.heard(number).pause;
                if pause > Duration::from_millis(60) {
                    self.times.add("no sound between plain phones", pause);
                }
            }
        }
        for single in &self.singles {
            let pause = self.pump.heard(single.party.socket).pause;
            if single.is_hit || pause > Duration::from_millis(100) {
                self.times.add(single.kind, pause);
            }
            if let Some(page) = single.page {
                let stopped = page.must("pauseStop", json!({}));
                let ms = stopped["framesMs"].as_u64().unwrap_or(u64::MAX);
                if single.is_hit {
                    self.times
                        .add("no sound at a page", Duration::from_millis(ms));
                }
            }
        }
    }

    fn ends_well(mut self) {
        self.times.print();
        println!(
            "offers to parties: {}, rang on: {}",
            self.told, self.rang_on
        );
        let all: Vec<usize> = (0..3).collect();
        self.crowd_is_known(&all);
        let tally = self.crowd.end();
        let mut took = tally.took.clone();
        let (nearly, most) = percentile(&mut took, 99);
        println!(
            "registrations: {} begun, {} granted, {} repeated, {:?} refused; p99 {nearly:?}, max {most:?}",
            tally.begun, tally.granted, tally.repeated, tally.refused
        );
        // Who is told to come back later does; nothing that was granted is lost.
        let is_put_off = |status: &u16| *status == 503;
        assert!(tally.refused.keys().all(is_put_off), "{:?}", tally.refused);
        assert!(
            tally.lost == 0 && tally.wrong.is_empty(),
            "{:#?}",
            tally.wrong
        );
        for (number, call) in self.calls.iter_mut().enumerate() {
            call.digits_pass(3, &self.pump);
            call.end(number % 2 == 0, &self.pump);
        }
        for single in &mut self.singles {
            let party = &mut single.party;
            assert_eq!(party.phone.bye(&mut party.side), 200, "{}", single.kind);
            party.was_treated_well();
        }
        wait::until("calls to end", Duration::from_secs(60), || {
            let mut nodes = self.three.nodes.iter();
            nodes
                .all(|node| node.actors("call").is_empty())
                .then_some(())
        });
        self.three.no_errors();
    }

    fn survives(mut self, count: u32) {
        let said = std::env::var("WEFT_KILLS_SEED").ok();
        let own = (u64::from(std::process::id()) << 8) | 1;
        let mut seed = said.and_then(|text| text.parse().ok()).unwrap_or(own);
        println!("seed {seed}");
        for turn in 0..count {
            let victim = match turn % 2 {
                // Calls that were gone on with stay: chance alone would seldom find them.
                1 => self.node_of_single(turn as usize / 2),
                _ => next(&mut seed) % 3,
            };
            let wait_ms = (next(&mut seed) % 700) as u64;
            self.kill(victim, wait_ms, turn % 2 == 0);
        }
        self.ends_well();
    }
}

/// Registers 1018 where a sipp answers, and starts that.
fn register_sipp(answering: Sipp, ours: Ipv4Addr, door: SocketAddr) -> Running {
    let contact = format!("@{ours}:{}", answering.port);
    let replaced = [("@[local_ip]:[local_port]", contact.as_str())];
    Sipp::at(&ours.to_string(), "register.xml", door, &replaced)
        .lines(&["1018;[authentication username=1018 password=weft-1018];3600;".to_owned()])
        .calls(1, 1)
        .run()
        .must_succeed();
    answering.start()
}

/// baresip that sends back what it hears, plain and with DTLS, each in a namespace of its own.
fn echoes(world: &World<'_>) -> Vec<Baresip> {
    let bridge = world.three.bridge.as_ref().expect("a bridge");
    let setups = [
        Setup {
            loops: true,
            ..Setup::plain("1009")
        },
        Setup {
            protection: "dtls_srtp",
            path: "ice",
            loops: true,
            ..Setup::plain("2000")
        },
    ];
    let started = setups.iter().zip([3, 4]).map(|(setup, number)| {
        let space = Namespace::of_bridge(bridge, number);
        let door = world.door(usize::from(number) % 3);
        let phone = Baresip::with(&space, setup, door, 440);
        // The bridge ends it.
        std::mem::forget(space);
        phone
    });
    started.collect()
}

fn with_phones(place: Place, usual: u32) {
    if lacks(&["sipp", "baresip", "ip"]) {
        return;
    }
    let Some(mut world) = World::start(place) else {
        return;
    };
    let phones = echoes(&world);
    world.call("1014", 0, "1009", "no sound of baresip");
    world.call("1015", 1, "2000", "no sound of baresip with DTLS");
    world.survives(kills(usual));
    drop(phones);
}

#[test]
fn calls_of_sipp_and_baresip_outlive_kills() {
    with_phones(Place::Apart, 1);
}

#[test]
fn calls_of_sipp_and_baresip_outlive_kills_at_addresses_that_move() {
    with_phones(Place::Floating, 1);
}

#[test]
fn calls_of_browsers_outlive_kills() {
    if lacks(&["sipp", "chromium", "node"]) {
        return;
    }
    let browser = Browser::start();
    let Some(mut world) = World::start(Place::Loopback) else {
        return;
    };
    let http = world.three.nodes[0].http;
    let sip = browser.sip(http, &format!("ws://{http}/ws"), "1009", 600.0);
    world.called_by(sip, "1019", 1, "no sound of a page with JsSIP");
    world.survives(kills(1));
}
