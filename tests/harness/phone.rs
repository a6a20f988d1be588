//! A small SIP phone of the harness's own: text in, text out, nothing of Weft's parser or
//! dialog rules, so that the two cannot be wrong together. UDP only; the suite drives it step by
//! step from one thread.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use crate::wait::PATIENCE;
use crate::wire::Wire;

/// A request or response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// First line.
    pub start: String,
    /// Header fields in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
    /// Where it came from, if it came to a phone.
    pub source: Option<SocketAddr>,
}

impl Message {
    /// Reads a datagram.
    #[must_use]
    pub fn read(octets: &[u8]) -> Message {
        let text = String::from_utf8_lossy(octets);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        Message {
            start,
            headers,
            body: body.to_owned(),
            source: None,
        }
    }

    /// Returns the first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the status of a response; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        let rest = self.start.strip_prefix("SIP/2.0 ").unwrap_or_default();
        rest.split(' ')
            .next()
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// Returns the method of a request, or of a response's CSeq.
    #[must_use]
    pub fn method(&self) -> &str {
        if self.status() == 0 {
            self.start.split(' ').next().unwrap_or_default()
        } else {
            self.header("CSeq")
                .and_then(|cseq| cseq.split(' ').nth(1))
                .unwrap_or_default()
        }
    }

    /// Returns the number of the CSeq.
    #[must_use]
    pub fn cseq(&self) -> u32 {
        let cseq = self.header("CSeq").unwrap_or_default();
        cseq.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    }

    /// Returns the port of the SDP's audio line.
    #[must_use]
    pub fn audio_port(&self) -> Option<u16> {
        let line = self
            .body
            .lines()
            .find(|line| line.starts_with("m=audio "))?;
        line.split(' ').nth(1)?.parse().ok()
    }

    /// Returns where the SDP wants audio: its address and the port of its audio line.
    #[must_use]
    pub fn media(&self) -> Option<SocketAddr> {
        let line = self.body.lines().find(|line| line.starts_with("c=IN "))?;
        let ip: IpAddr = line.split(' ').nth(2)?.trim().parse().ok()?;
        Some(SocketAddr::new(ip, self.audio_port()?))
    }

    /// Returns where this goes over UDP, if it says so itself: a response to where its top Via came
    /// from (RFC 3261 §18.2.2, RFC 3581 §4), a request of a dialog to its target (§12.2.1.1).
    #[must_use]
    pub fn next_hop(&self) -> Option<SocketAddr> {
        if self.status() > 0 {
            let mut parts = self.header("Via")?.split(' ').nth(1)?.split(';');
            let mut to: SocketAddr = parts.next()?.parse().ok()?;
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name {
                    "received" => to.set_ip(value.parse().ok()?),
                    "rport" => to.set_port(value.parse().ok()?),
                    _ => {}
                }
            }
            return Some(to);
        }
        self.tag("To")?;
        let uri = self.start.split(' ').nth(1)?;
        let host = uri.split('@').next_back()?.split(';').next()?;
        host.trim_start_matches("sip:").parse().ok()
    }

    /// Returns the URI of its Contact.
    #[must_use]
    pub fn contact(&self) -> Option<String> {
        self.header("Contact").map(|_| contact_of(self))
    }

    /// Returns the branch of the first Via.
    #[must_use]
    pub fn branch(&self) -> &str {
        let via = self.header("Via").unwrap_or_default();
        let branch = via.split("branch=").nth(1).unwrap_or_default();
        branch.split([';', ',', ' ']).next().unwrap_or_default()
    }

    fn tag(&self, name: &str) -> Option<String> {
        let value = self.header(name)?;
        let tag = value.split(";tag=").nth(1)?;
        Some(tag.split(';').next().unwrap_or_default().to_owned())
    }
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// One phone.
#[derive(Debug)]
pub struct Phone {
    socket: UdpSocket,
    server: SocketAddr,
    /// Account.
    pub user: String,
    password: String,
    waiting: VecDeque<Message>,
    /// What the node takes for the phone's address.
    advertised: SocketAddr,
    /// ACKs sent, by Call-ID and CSeq: a final response that comes again gets its ACK again.
    acknowledged: BTreeMap<(String, u32), String>,
    /// Whether it sends where a message itself says, not always to the same server.
    roams: bool,
    /// Responses sent, by branch and method, if the phone repeats them by itself.
    answered: Option<BTreeMap<(String, String), String>>,
    /// Requests that came, repetitions too.
    pub seen: Vec<Seen>,
}

/// A request that came to a phone.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Call-ID.
    pub call_id: String,
    /// Number of its CSeq.
    pub cseq: u32,
    /// Method.
    pub method: String,
    /// Branch of its first Via: a repetition has the same.
    pub branch: String,
}

/// One side of a call, as the phone sees it.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    local: String,
    remote: String,
    /// The far side's Contact.
    pub target: String,
    cseq: u32,
    /// Where the far side's SDP wants RTP.
    pub media: SocketAddr,
}

/// A call that has not been answered.
#[derive(Clone, Debug)]
pub struct Calling {
    call_id: String,
    from: String,
    to: String,
    branch: String,
    cseq: u32,
    text: String,
}

impl Phone {
    /// Makes a phone of one of the accounts 1000–1019 (password `weft-…`).
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn new(server: SocketAddr, user: &str) -> Phone {
        let ip = match server {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        Phone::of(ip, server, user)
    }

    fn of(ip: IpAddr, server: SocketAddr, user: &str) -> Phone {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        let advertised = socket.local_addr().expect("a bound socket");
        Phone {
            advertised,
            acknowledged: BTreeMap::new(),
            roams: false,
            answered: None,
            socket,
            server,
            user: user.to_owned(),
            password: format!("weft-{user}"),
            waiting: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// Makes a phone at the end of a wire. It answers a repeated request as before by itself, as
    /// transactions do (RFC 3261 §17.2): the suite sees each request once.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn behind(wire: &Wire, user: &str) -> Phone {
        Phone {
            advertised: wire.far,
            answered: Some(BTreeMap::new()),
            ..Phone::new(wire.near, user)
        }
    }

    /// Makes a phone of a cluster: it answers who asked it and follows the Contact of the far side.
    /// It repeats its answers by itself, as one [`Phone::behind`] a wire.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn roaming(server: SocketAddr, user: &str) -> Phone {
        Phone {
            roams: true,
            answered: Some(BTreeMap::new()),
            ..Phone::new(server, user)
        }
    }

    /// The same at an address of this machine that is not the loopback.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn roaming_at(ip: IpAddr, server: SocketAddr, user: &str) -> Phone {
        Phone {
            roams: true,
            answered: Some(BTreeMap::new()),
            ..Phone::of(ip, server, user)
        }
    }

    /// Turns to another node with what begins from now on.
    pub fn turn_to(&mut self, server: SocketAddr) {
        self.server = server;
    }

    /// Returns the address at which the node finds the phone.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.advertised
    }

    fn unique(&mut self, what: &str) -> String {
        // Ports are used again by later phones: the number is of all phones of the process.
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        format!(
            "{what}{}x{}x{next}",
            self.address().port(),
            std::process::id()
        )
    }

    /// Sends text to the node.
    ///
    /// # Panics
    /// If the socket refuses.
    pub fn send(&self, text: &str) {
        let hop = self
            .roams
            .then(|| Message::read(text.as_bytes()).next_hop());
        let to = hop.flatten().unwrap_or(self.server);
        // A node that is down answers with ICMP: the datagram is lost, as on any network.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    /// Sends text from another socket than the phone's own: an attacker.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn send_from_elsewhere(&self, text: &str) -> Option<Message> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        socket
            .send_to(text.as_bytes(), self.server)
            .expect("a datagram");
        let mut octets = [0; 4096];
        socket
            .recv_from(&mut octets)
            .ok()
            .map(|(count, _)| Message::read(&octets[..count]))
    }

    /// Takes the next message that `wanted` accepts; others wait their turn.
    pub fn take(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Message) -> bool,
    ) -> Option<Message> {
        if let Some(at) = self.waiting.iter().position(&mut wanted) {
            return self.waiting.remove(at);
        }
        let end = Instant::now() + limit;
        let mut octets = [0; 8192];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            let Ok((count, from)) = self.socket.recv_from(&mut octets) else {
                continue;
            };
            if octets[..count].first().is_some_and(|first| *first >= 0x80) {
                // RTCP for the port before this one, which is another phone's for its RTP.
                continue;
            }
            let mut message = Message::read(&octets[..count]);
            message.source = Some(from);
            if message.status() == 0 {
                self.seen.push(Seen {
                    call_id: message.header("Call-ID").unwrap_or_default().to_owned(),
                    cseq: message.cseq(),
                    method: message.method().to_owned(),
                    branch: message.branch().to_owned(),
                });
            }
            if self.has_repeated(&message) {
                continue;
            }
            if wanted(&message) {
                return Some(message);
            }
            self.waiting.push_back(message);
        }
        None
    }

    /// Sends once more what was said to an earlier copy of this message, if it had one.
    fn has_repeated(&self, message: &Message) -> bool {
        let said = if message.status() >= 200 && message.method() == "INVITE" {
            let call_id = message.header("Call-ID").unwrap_or_default().to_owned();
            self.acknowledged.get(&(call_id, message.cseq()))
        } else if message.status() == 0 {
            let transaction = (message.branch().to_owned(), message.method().to_owned());
            let answered = self.answered.as_ref();
            answered.and_then(|answered| answered.get(&transaction))
        } else {
            None
        };
        if let Some(text) = said {
            self.send(text);
        }
        said.is_some()
    }

    /// Sends an ACK, and remembers it.
    fn send_ack(&mut self, text: String) {
        let ack = Message::read(text.as_bytes());
        let call_id = ack.header("Call-ID").unwrap_or_default().to_owned();
        self.send(&text);
        self.acknowledged.insert((call_id, ack.cseq()), text);
    }

    /// No CSeq of the node's was used for two requests of a dialog: one with an older or equal
    /// number has the branch of an earlier one, which makes it a repetition.
    ///
    /// # Panics
    /// If one was.
    pub fn no_number_was_used_twice(&self) {
        let mut calls: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for seen in &self.seen {
            let earlier = calls.entry(&seen.call_id).or_default();
            if seen.method == "ACK" || seen.method == "CANCEL" {
                // These have the number of the INVITE that they belong to (§13.2.2.4, §9.1).
                let invited = |one: &&Seen| one.method == "INVITE" && one.cseq == seen.cseq;
                assert!(earlier.iter().any(invited), "{seen:?} for no INVITE");
                continue;
            }
            let highest = earlier.iter().map(|one| one.cseq).max().unwrap_or(0);
            let is_repetition = earlier.iter().any(|one| {
                (one.cseq, &one.branch, &one.method) == (seen.cseq, &seen.branch, &seen.method)
            });
            assert!(
                seen.cseq > highest || is_repetition,
                "{seen:?} after CSeq {highest}: {earlier:?}"
            );
            earlier.push(seen);
        }
    }

    /// Sends a request again and again, as RFC 3261 §17.1.2 says, until a final response.
    pub fn exchange(&mut self, text: &str, limit: Duration) -> Option<Message> {
        let request = Message::read(text.as_bytes());
        let (call_id, cseq) = (
            request.header("Call-ID").unwrap_or_default(),
            request.cseq(),
        );
        let end = Instant::now() + limit;
        let mut wait = Duration::from_millis(250);
        while Instant::now() < end {
            self.send(text);
            let answer = self.take(wait, |message| {
                message.status() >= 200
                    && message.header("Call-ID") == Some(call_id)
                    && message.cseq() == cseq
                    && message.method() == request.method()
            });
            if answer.is_some() {
                return answer;
            }
            wait = (wait * 2).min(Duration::from_secs(1));
        }
        None
    }

    /// Registers and returns the final response.
    ///
    /// # Panics
    /// If there is none within 30 s.
    pub fn register(&mut self, expires: u32) -> Message {
        let call_id = self.unique("reg");
        let contact = format!("<sip:{}@{}>", self.user, self.address());
        let mut credentials = String::new();
        for cseq in 1..=2 {
            let text = self.request(
                "REGISTER",
                "sip:weft.test",
                &format!("<sip:{}@weft.test>;tag=r", self.user),
                &format!("<sip:{}@weft.test>", self.user),
                &call_id,
                cseq,
                &format!("Contact: {contact}\r\nExpires: {expires}\r\n{credentials}"),
                "",
            );
            let answer = self.exchange(&text, PATIENCE).expect("an answer");
            if answer.status() != 401 || cseq == 2 {
                return answer;
            }
            credentials = self.credentials(&answer, "REGISTER", "sip:weft.test");
        }
        unreachable!("the second round returns");
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a request")]
    fn request(
        &mut self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        call_id: &str,
        cseq: u32,
        more: &str,
        body: &str,
    ) -> String {
        let branch = self.unique("z9hG4bK");
        let mut text = format!("{method} {uri} SIP/2.0\r\n");
        let _ = write!(
            text,
            "Via: SIP/2.0/UDP {};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
             To: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{more}\
             Content-Length: {}\r\n\r\n{body}",
            self.address(),
            body.len()
        );
        text
    }

    fn credentials(&self, challenge: &Message, method: &str, uri: &str) -> String {
        credentials((&self.user, &self.password), challenge, method, uri)
    }

    /// Calls a number, answers the challenge, and returns while it is being set up.
    ///
    /// # Panics
    /// If the node does not challenge the first INVITE.
    pub fn call(&mut self, number: &str, rtp_port: u16) -> Calling {
        let call_id = self.unique("call");
        let tag = self.unique("t");
        let uri = format!("sip:{number}@weft.test");
        let from = format!("<sip:{}@weft.test>;tag={tag}", self.user);
        let to = format!("<{uri}>");
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.user, self.address());
        let body = self.sdp(rtp_port, 1, "sendrecv");
        let more = format!("{contact}Content-Type: application/sdp\r\n");
        let text = self.request("INVITE", &uri, &from, &to, &call_id, 1, &more, &body);
        let challenge = self.exchange(&text, PATIENCE).expect("a challenge");
        assert_eq!(challenge.status(), 407, "{challenge:?}");
        self.send_ack(ack_refusal(&text, &challenge));
        let more = format!("{more}{}", self.credentials(&challenge, "INVITE", &uri));
        let text = self.request("INVITE", &uri, &from, &to, &call_id, 2, &more, &body);
        let branch = Message::read(text.as_bytes()).branch().to_owned();
        self.send(&text);
        Calling {
            call_id,
            from,
            to,
            branch,
            cseq: 2,
            text,
        }
    }

    /// Waits for a response to a call with a status of at least `least`.
    pub fn progress(&mut self, calling: &Calling, least: u16, limit: Duration) -> Option<Message> {
        self.take(limit, |message| {
            message.status() >= least
                && message.method() == "INVITE"
                && message.header("Call-ID") == Some(&calling.call_id)
                && message.cseq() == calling.cseq
        })
    }

    /// Waits for the final response to a call and sends its INVITE again and again until some
    /// response has come, as RFC 3261 §17.1.1.2 says.
    pub fn outcome(&mut self, calling: &Calling, limit: Duration) -> Option<Message> {
        let end = Instant::now() + limit;
        let mut wait = Duration::from_millis(500);
        while Instant::now() < end {
            let last = self.progress(calling, 200, wait);
            if last.is_some() {
                return last;
            }
            let is_heard = self.waiting.iter().any(|message| {
                message.status() >= 100
                    && message.header("Call-ID") == Some(&calling.call_id)
                    && message.cseq() == calling.cseq
            });
            if !is_heard {
                self.repeat(calling);
                wait *= 2;
            }
        }
        None
    }

    /// Reads what comes, and answers what is repeated, until told to stop.
    pub fn attend(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.attend_once();
        }
    }

    /// Reads what comes in a moment, and answers what is repeated.
    pub fn attend_once(&mut self) {
        let mut kept = std::mem::take(&mut self.waiting);
        let _ = self.take(Duration::from_millis(10), |_| false);
        kept.append(&mut self.waiting);
        self.waiting = kept;
    }

    /// Sends the INVITE of a call once more.
    pub fn repeat(&self, calling: &Calling) {
        self.send(&calling.text);
    }

    /// Gives a call up.
    pub fn cancel(&mut self, calling: &Calling) {
        let uri = calling.to.trim_matches(['<', '>']);
        let text = format!(
            "CANCEL {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={};rport\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
            self.address(),
            calling.branch,
            calling.from,
            calling.to,
            calling.call_id,
            calling.cseq
        );
        self.send(&text);
    }

    /// Takes the 200 of a call and acknowledges it.
    ///
    /// # Panics
    /// If the answer has no SDP.
    pub fn established(&mut self, calling: &Calling, answer: &Message) -> Dialog {
        let dialog = Dialog {
            call_id: calling.call_id.clone(),
            local: calling.from.clone(),
            remote: answer.header("To").unwrap_or_default().to_owned(),
            target: contact_of(answer),
            cseq: calling.cseq,
            media: answer.media().expect("SDP"),
        };
        self.acknowledge(&dialog, calling.cseq);
        dialog
    }

    fn acknowledge(&mut self, dialog: &Dialog, cseq: u32) {
        let text = self.request(
            "ACK",
            &dialog.target,
            &dialog.local,
            &dialog.remote,
            &dialog.call_id,
            cseq,
            "",
            "",
        );
        self.send_ack(text);
    }

    /// Waits for an INVITE.
    pub fn ringing(&mut self, limit: Duration) -> Option<Message> {
        self.take(limit, |message| {
            message.method() == "INVITE" && message.status() == 0
        })
    }

    /// Answers a request with a status and, perhaps, SDP.
    pub fn respond(&mut self, request: &Message, status: &str, rtp_port: Option<u16>) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        let mut source = request.source.filter(|_| self.roams);
        for (name, value) in &request.headers {
            if name.eq_ignore_ascii_case("via")
                && let Some(source) = source.take()
            {
                let port = format!(";rport={}", source.port());
                let via = value.replacen(";rport", &port, 1);
                let _ = write!(text, "{name}: {via};received={}\r\n", source.ip());
                continue;
            }
            let copied = ["via", "from", "call-id", "cseq", "record-route"];
            if copied.contains(&name.to_ascii_lowercase().as_str()) {
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        let to = request.header("To").unwrap_or_default();
        let to = if to.contains(";tag=") || status.starts_with("100") {
            to.to_owned()
        } else {
            format!("{to};tag=u{}", self.address().port())
        };
        let _ = write!(
            text,
            "To: {to}\r\nContact: <sip:{}@{}>\r\n",
            self.user,
            self.address()
        );
        let body = rtp_port
            .map(|port| self.sdp(port, 1, answer_to(request)))
            .unwrap_or_default();
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        self.send(&text);
        if let Some(answered) = &mut self.answered {
            let transaction = (request.branch().to_owned(), request.method().to_owned());
            answered.insert(transaction, text);
        }
    }

    /// Answers an INVITE with 200 and waits for the ACK.
    ///
    /// # Panics
    /// If no ACK comes.
    pub fn answer(&mut self, invite: &Message, rtp_port: u16) -> Dialog {
        let call_id = invite.header("Call-ID").unwrap_or_default().to_owned();
        let local = format!(
            "{};tag=u{}",
            invite.header("To").unwrap_or_default(),
            self.port()
        );
        let mut acknowledged = false;
        for _ in 0..20 {
            self.respond(invite, "200 OK", Some(rtp_port));
            let ack = self.take(Duration::from_millis(500), |message| {
                message.method() == "ACK" && message.header("Call-ID") == Some(&call_id)
            });
            if ack.is_some() {
                acknowledged = true;
                break;
            }
        }
        assert!(acknowledged, "no ACK for {call_id}");
        Dialog {
            local,
            remote: invite.header("From").unwrap_or_default().to_owned(),
            target: contact_of(invite),
            cseq: 100,
            media: invite.media().expect("SDP in the INVITE"),
            call_id,
        }
    }

    fn sdp(&self, port: u16, version: u32, direction: &str) -> String {
        let ip = self.address().ip();
        let family = if ip.is_ipv6() { 6 } else { 4 };
        format!(
            "v=0\r\no=h 7 {version} IN IP{family} {ip}\r\ns=-\r\nc=IN IP{family} {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na={direction}\r\n"
        )
    }

    fn port(&self) -> u16 {
        self.address().port()
    }

    /// Returns the text of a request in a dialog, with the next CSeq.
    pub fn inside(&mut self, dialog: &mut Dialog, method: &str, more: &str, body: &str) -> String {
        dialog.cseq += 1;
        let (target, local) = (dialog.target.clone(), dialog.local.clone());
        let (remote, call_id) = (dialog.remote.clone(), dialog.call_id.clone());
        self.request(
            method,
            &target,
            &local,
            &remote,
            &call_id,
            dialog.cseq,
            more,
            body,
        )
    }

    /// Ends a call and returns the status of the answer (0: none came).
    pub fn bye(&mut self, dialog: &mut Dialog) -> u16 {
        let text = self.inside(dialog, "BYE", "", "");
        self.exchange(&text, PATIENCE)
            .map_or(0, |answer| answer.status())
    }

    /// Offers new SDP (`sendrecv`, `sendonly`, …) and acknowledges the answer.
    pub fn reinvite(
        &mut self,
        dialog: &mut Dialog,
        rtp_port: u16,
        direction: &str,
    ) -> Option<Message> {
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.user, self.address());
        let more = format!("{contact}Content-Type: application/sdp\r\n");
        let body = self.sdp(rtp_port, dialog.cseq + 1, direction);
        let text = self.inside(dialog, "INVITE", &more, &body);
        let answer = self.exchange(&text, PATIENCE)?;
        if answer.status() < 300 {
            let cseq = dialog.cseq;
            self.acknowledge(&dialog.clone(), cseq);
        } else {
            self.send_ack(ack_refusal(&text, &answer));
        }
        Some(answer)
    }

    /// Waits for a request of a method in a dialog and answers 200 (with SDP if a port is given).
    pub fn serve(
        &mut self,
        dialog: &Dialog,
        method: &str,
        rtp_port: Option<u16>,
        limit: Duration,
    ) -> Option<Message> {
        let request = self.take(limit, |message| {
            message.status() == 0
                && message.method() == method
                && message.header("Call-ID") == Some(&dialog.call_id)
        })?;
        self.respond(&request, "200 OK", rtp_port);
        Some(request)
    }
}

/// Answers a challenge with MD5 (RFC 2617).
pub(crate) fn credentials(
    (user, password): (&str, &str),
    challenge: &Message,
    method: &str,
    uri: &str,
) -> String {
    let is_proxy = challenge.status() == 407;
    let name = if is_proxy {
        "Proxy-Authenticate"
    } else {
        "WWW-Authenticate"
    };
    let offered = challenge
        .headers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .find(|(_, value)| value.contains("algorithm=MD5") || !value.contains("algorithm"));
    let value = &offered.expect("a challenge for MD5").1;
    let part = |key: &str| {
        let rest = value.split(&format!("{key}=\"")).nth(1).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let (realm, nonce) = (part("realm"), part("nonce"));
    let one = md5_hex(&format!("{user}:{realm}:{password}"));
    let two = md5_hex(&format!("{method}:{uri}"));
    let response = md5_hex(&format!("{one}:{nonce}:00000001:0a4f113b:auth:{two}"));
    let header = if is_proxy {
        "Proxy-Authorization"
    } else {
        "Authorization"
    };
    format!(
        "{header}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc=00000001\r\n"
    )
}

/// Returns the ACK for a final response that is no 2xx (RFC 3261 §17.1.1.3).
#[must_use]
pub fn ack_refusal(invite: &str, response: &Message) -> String {
    let invite = Message::read(invite.as_bytes());
    let uri = invite.start.split(' ').nth(1).unwrap_or_default();
    format!(
        "ACK {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
        invite.header("Via").unwrap_or_default(),
        invite.header("From").unwrap_or_default(),
        response.header("To").unwrap_or_default(),
        invite.header("Call-ID").unwrap_or_default(),
        invite.cseq()
    )
}

/// Returns the direction that answers an offer's (RFC 3264 §6.1).
fn answer_to(request: &Message) -> &'static str {
    if request.body.contains("a=sendonly") {
        "recvonly"
    } else if request.body.contains("a=inactive") {
        "inactive"
    } else {
        "sendrecv"
    }
}

fn contact_of(message: &Message) -> String {
    let contact = message.header("Contact").unwrap_or_default();
    let inner = contact.split('<').nth(1).unwrap_or(contact);
    inner.split('>').next().unwrap_or_default().to_owned()
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, octet| {
            let _ = write!(hex, "{octet:02x}");
            hex
        })
}

/// Tells whether a dialog's remote tag is there: a response to the initial INVITE must carry one.
#[must_use]
pub fn has_tag(message: &Message) -> bool {
    message.tag("To").is_some()
}
