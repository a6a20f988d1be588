//! Every bound of the fabric, with its reason and what happens at it.

/// Octets of one encoded value: a record's parts (64 KiB) and a frame (1 MiB) fit; more is refused.
pub const CODEC_BYTES_MAX: usize = 1 << 20;

/// Events that wait in the inbox of a call, dialog, media leg or registration; more: `Busy`, the
/// edge answers 503 with Retry-After (`cluster.md` §11).
pub const INBOX_EVENTS_MAX: usize = 64;

/// Events that wait in the inbox of a lane: one burst of a full socket buffer; more are dropped,
/// as the network would, and counted.
pub const LANE_INBOX_EVENTS_MAX: usize = 65_536;

/// Events that wait in the inbox of a flow or the console; a flow's reader pauses at half of it.
pub const FLOW_INBOX_EVENTS_MAX: usize = 1_024;

/// Actions that wait behind a shut commit gate (`architecture.md` §2); at the bound the inbox stays
/// untouched until the commit is safe, so the bound passes on to the sender.
pub const GATE_ACTIONS_MAX: usize = 64;

/// Events and octets kept in an actor's trace ring (`architecture.md` §7); the oldest go.
pub const TRACE_EVENTS_MAX: usize = 256;
/// Octets of message text kept in an actor's trace ring.
pub const TRACE_BYTES_MAX: usize = 64 * 1024;

/// Restarts of one actor within `RESTART_WINDOW_S` before it backs off.
pub const RESTARTS_MAX: usize = 5;
/// Window of the restart intensity, in seconds.
pub const RESTART_WINDOW_S: u64 = 10;
/// Longest back-off between restarts, in milliseconds; past `RESTARTS_GIVE_UP` the actor ends.
pub const RESTART_BACKOFF_MS_MAX: u64 = 2_000;
/// Restarts within ten windows after which the actor is given up and its parent told.
pub const RESTARTS_GIVE_UP: usize = 20;

/// Quarantined events kept for the console, a node; the oldest go.
pub const QUARANTINE_MAX: usize = 128;

/// Octets of all parts of one record (`cluster.md` §8); a commit beyond it is a `Bug`.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Parts of one record: a call, its dialogs, their media legs.
pub const PARTS_PER_RECORD_MAX: usize = 64;

/// Sides of one call: forks of one INVITE included; more targets are not tried. Ends that several sides of
/// an heir send in one dialog have numbers of their own, five apart within a block of 128.
pub const SIDES_PER_CALL_MAX: u8 = 24;
/// Highest side that forks of a group take: others are left for transfers, and for who picks up. A member that
/// finds none is not called.
pub const HUNT_SIDES_MAX: u8 = SIDES_PER_CALL_MAX - 4;
/// Members of a group, and users that one `bridge` names; more are a fault of the configuration.
pub const GROUP_MEMBERS_MAX: usize = 16;
/// Calls of which a registration remembers that they have looked for it: the oldest is forgotten.
pub const RINGING_CALLS_MAX: usize = 16;
/// Characters of the name of a place where calls are parked: as of other names. A longer one is no number: 404.
pub const PLACE_BYTES_MAX: usize = 64;
/// Calls that wait whether who is parked in a place is still there; one more is not noted, and asks again.
pub const PARKING_WAITERS_MAX: usize = 16;
/// Calls that a registration keeps of a user who wants none beside another: those that are over go when they are
/// asked, and the oldest when there are more; then the user may count as free.
pub const ENGAGED_CALLS_MAX: usize = 32;
/// Seconds for which a group rings before the next one is called, as it may be set.
pub const GROUP_RING_S_MIN: u16 = 3;
/// The same, at most.
pub const GROUP_RING_S_MAX: u16 = 180;

/// Openings of a week that `[[hours]]` may have; more are a fault of the configuration: each call that asks for
/// them looks at all.
pub const HOURS_OPENINGS_MAX: usize = 64;
/// Holidays, and openings of one day, that `[[hours]]` may have: those of some years. The same.
pub const HOURS_DAYS_MAX: usize = 256;

/// Bindings of one AoR if the account says nothing (`max_contacts`); one more: 403.
pub const BINDINGS_PER_AOR: usize = 5;
/// Bindings an account may be allowed: what still fits a record of 64 KiB.
pub const BINDINGS_PER_AOR_MAX: usize = 32;

/// Octets of a number that a user diverts its calls to; a longer one is refused.
pub const DIVERT_TO_BYTES_MAX: usize = 64;
/// Seconds that phones ring before a call goes elsewhere, as the user sets it; else it is refused.
pub const NO_ANSWER_S_MIN: u16 = 3;
/// The same, at most; any call rings `limits.ring_timeout_s` at most.
pub const NO_ANSWER_S_MAX: u16 = 180;
/// How often one call is sent on; then it ends as if nobody had set anything.
pub const DIVERSIONS_MAX: usize = 5;

/// Bindings that went and are remembered, so that a copy of the record that was cut off does not
/// bring them back (`cluster.md` §8): all that an AoR may have. Those that would be forgotten first
/// go; such a copy could then bring one back until its own expiry.
pub const REMOVALS_PER_AOR_MAX: usize = 32;
/// Octets of them, beside `BINDINGS_PER_AOR_MAX` bindings in a record of 64 KiB; the same go.
pub const REMOVALS_BYTES_MAX: usize = 8 * 1024;

/// Server and client transactions of one lane; more requests get 503, from the oldest completed
/// ones the answers are forgotten first.
pub const TRANSACTIONS_PER_LANE_MAX: usize = 65_536;

/// Nonces of one lane whose counts are remembered; the oldest go, their users get stale=true.
pub const NONCES_PER_LANE_MAX: usize = 65_536;

/// Connections of one listener; more are closed at once.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one source address; more are closed at once (threats.md 8).
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Octets that wait to be written to one connection; more: the connection is closed.
pub const CONNECTION_WRITE_BYTES_MAX: usize = 1 << 20;
/// Seconds in which a started message must arrive whole on a connection (threats.md 8).
pub const HEADER_DEADLINE_S: u64 = 10;

/// Actors of one node; more new ones are refused as overload.
pub const ACTORS_MAX: usize = 2_000_000;

/// Failed log-ins of one source address in a minute before it gets 403 without a check.
pub const AUTH_FAILURES_PER_ADDRESS_MAX: u32 = 60;
/// Source addresses whose failures are counted, a lane; the oldest go.
pub const AUTH_SOURCES_MAX: usize = 16_384;

/// Rows of one page of the HTTP API.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Octets of the body of an API request.
pub const API_BODY_BYTES_MAX: usize = 64 * 1024;
/// Seconds an API request may wait for the console actor; then 504.
pub const API_WAIT_S: u64 = 5;

/// Octets of an SDP body: what the largest SIP message can carry; more: 413.
pub const SDP_BODY_BYTES_MAX: usize = 64 * 1024;
/// Octets of one SDP line, as of one SIP header line; more: the body is refused.
pub const SDP_LINE_BYTES_MAX: usize = 8 * 1024;
/// `m=` sections of one SDP body (threats.md 22); more: the body is refused.
pub const SDP_MEDIA_MAX: usize = 64;
/// Attributes of one SDP section (threats.md 22); more: the body is refused.
pub const SDP_ATTRIBUTES_PER_SECTION_MAX: usize = 256;
/// Codecs of one description of ours: all payload types there are; more are left out.
pub const SDP_CODECS_MAX: usize = 128;

/// Media legs of one relay table (one worker): every even port there is; more: refused.
pub const MEDIA_LEGS_MAX: usize = 32_768;
/// Events of a relay table that wait to be taken: one a leg; more digits are dropped and counted,
/// all other events are told again by the next packet or tick.
pub const MEDIA_EVENTS_MAX: usize = 32_768;
/// Packets of one source and SSRC after which a leg is locked to it (`architecture.md` §5).
pub const LATCH_PACKETS: u8 = 5;
/// Milliseconds after an offer or answer in which a better source may still take the latch, and,
/// with `nat`, any source (`architecture.md` §5).
pub const LATCH_WINDOW_MS: u64 = 5_000;
/// Sequence numbers of one reserve (`cluster.md` §7): a jump after a restart stays under 3,000.
pub const SEQUENCE_BLOCK: u16 = 2_048;
/// Blocks of numbers that a protected leg may take while its node is cut off: two minutes of sound. Who
/// took the call over meanwhile goes on behind them, under the same keys; more: no sound until the
/// node is back, or has lost the call.
pub const CUT_OFF_BLOCKS_MAX: u8 = 3;
/// SRTCP indices of one reserve: as many as sequence numbers (`cluster.md` §7).
pub const SRTCP_BLOCK: u32 = 2_048;
/// Candidates of a peer that are kept; browsers send about ten. Further ones are ignored.
pub const ICE_CANDIDATES_MAX: usize = 16;
/// Digits that wait to be played to one peer; further ones are dropped: a number has fewer.
pub const DIGITS_QUEUED_MAX: usize = 64;
/// Streams of one peer whose SRTP indices are recorded; further ones start from zero after a
/// restart. A phone has one, a browser that restarts its microphone a few.
pub const SRTP_STREAMS_MAX: usize = 8;
/// Keys of ours that a leg remembers the spent numbers of, should they come back: a call agrees on
/// new ones with each re-offer at most. The oldest go.
pub const SRTP_KEYS_REMEMBERED: usize = 32;
/// Former streams of one peer whose packets are not taken again; the oldest are forgotten, and then
/// what was recorded of them could be played once more.
pub const SRTP_RETIRED_MAX: usize = 256;
/// Roll-overs that a restored SRTP stream is walked through: a month of speech, some milliseconds. A
/// stream that a peer has driven further starts from zero after a restart; ours wants new keys.
pub const SRTP_ROLLOVERS_WALKED_MAX: u64 = 2_048;
/// SRTCP indices of ours that a restored context is walked through: 128 restarts, a fraction of a
/// second. Beyond them the leg wants new keys.
pub const SRTCP_INDICES_WALKED_MAX: u32 = 262_144;
/// Octets of one RTP or RTCP packet: a UDP datagram on Ethernet; larger ones are dropped.
pub const RTP_PACKET_BYTES_MAX: usize = 1_500;
/// RTCP packets read from one compound; more: the compound is dropped.
pub const RTCP_PACKETS_PER_COMPOUND_MAX: usize = 32;

/// Octets of one SIP message: what a datagram can hold; a larger one is answered 513.
pub const SIP_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one SIP message: four times the longest seen in traces; more: 513.
pub const SIP_HEADERS_MAX: usize = 128;
/// Octets of one line of a SIP message, folds included: a full Identity token fits; more: 513.
pub const SIP_LINE_BYTES_MAX: usize = 8 * 1024;
/// Proxies in a dialog's route set: more cannot be passed by a message with Max-Forwards 70 and a
/// Via each; a request with more is refused with 513.
pub const ROUTES_PER_DIALOG_MAX: usize = 32;

/// Nodes that hold one record (`cluster.md` §3): two may be lost without losing a safe commit's
/// last copy; a larger set is refused.
pub const HOLDERS_MAX: usize = 3;

/// Octets of the texts of one binding, so that `BINDINGS_PER_AOR_MAX` of them fit a record; more:
/// the REGISTER gets 400.
pub const BINDING_BYTES_MAX: usize = 1_536;

/// Registrations that one connection tells of its end: an outbound proxy's worth; further ones
/// find out when they send.
pub const FLOW_WATCHERS_MAX: usize = 65_536;
/// Seconds in which the first message must come on a new connection; then it is closed.
pub const FLOW_FIRST_MESSAGE_S: u64 = 60;
/// Seconds without an octet after which a connection is closed: longer than the longest expiry, so
/// that a phone that only refreshes its registration stays.
pub const FLOW_IDLE_S: u64 = 7_500;

/// Requests of the HTTP API that wait for the node's answers, a console; more: 503.
pub const CONSOLE_PENDING_MAX: usize = 256;
/// Rows of one page that carries the snapshot of each row.
pub const DETAIL_ROWS_MAX: usize = 200;

/// Connections that a lane remembers as gone, so that what is still sent there fails at once; the
/// oldest go, and what is sent there then fails by its own timer.
pub const GONE_FLOWS_MAX: usize = 4_096;
/// Requests of a lane that wait for another lane's word on their nonce: what phones send in the
/// tenth of a second that a busy node may need; one more is told `stale=true`.
pub const NONCE_CHECKS_MAX: usize = 4_096;
/// Requests that a lane gave to other nodes, whose connections they go over, and whose users it
/// tells if such a node dies: a minute of 128 calls a second. The oldest go, and end by the
/// timers of their users.
pub const HANDED_REQUESTS_MAX: usize = 8_192;
/// Due transactions that a lane handles in one go; the rest follows at once, after other events.
pub const TRANSACTIONS_PER_TICK_MAX: usize = 1_024;
/// Seconds after which a transaction that nobody has ended is forgotten: no INVITE rings longer.
pub const TRANSACTION_AGE_S_MAX: u64 = 3_600;

/// CSeq numbers of one recorded block (`cluster.md` §7): one record a block, a skip of at most 15.
pub const CSEQ_BLOCK: u32 = 16;
/// CSeq numbers that an heir has for itself in an epoch: half of them for what it does with the newest
/// copy, half for another one that it adopts. Who needs more goes on into the next node's, which only
/// matters if that one has the call under the same epoch.
pub const CSEQ_RANGE: u32 = 8 * CSEQ_BLOCK;
/// CSeq numbers of each side that ends a dialog of another copy: the same dialog may be handed over by
/// each node that has the copy, and is one for its peer. All sides stay within a range; a side that goes
/// on behind a block of its own after a restart meets no other's first number, as this is no part of one.
pub const CSEQ_PER_SIDE: u32 = 5;
/// The last CSeq number that follows from an epoch: 2^16 epochs of `NODES_MAX` ranges each. Behind it
/// heirs pass over blocks only.
pub const CSEQ_EPOCHS_END: u32 = 1 << 30;
/// Octets of a SIP message that a call keeps, so that both sides with their descriptions fit a
/// record; a larger INVITE or offer is answered 513, a larger 2xx is acknowledged and ended.
pub const CALL_MESSAGE_BYTES_MAX: usize = 6 * 1024;
/// Octets of a record that the forks of a call may fill; targets beyond it are not tried.
pub const FORKS_BYTES_MAX: usize = 32 * 1024;
/// Requests of one dialog that wait for their responses; an INFO beyond it is not relayed.
pub const DIALOG_REQUESTS_MAX: usize = 8;
/// Milliseconds of a digit that a client or application wants played, if it does not say how many.
pub const DIGIT_MS: u16 = 160;
/// The fewest that it may say: what detectors need (RFC 4733 §2.5.1.2 has no bound).
pub const DIGIT_MS_MIN: u16 = 40;
/// The most.
pub const DIGIT_MS_MAX: u16 = 6_000;
/// Commands of applications that a call remembers, so that a repeat does nothing; the oldest go.
pub const CALL_COMMANDS_KEPT_MAX: usize = 16;
/// Messages of a call that wait because an inbox of its own sides was full; more: the call ends.
pub const CALL_RETELLS_MAX: usize = 16;

/// Octets of one JSON message (`threats.md` 14); more: the connection is closed.
pub const JSON_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Octets of the id of a JSON message; more: 400.
pub const JSON_ID_BYTES_MAX: usize = 128;
/// Calls of one JSON connection; one more: 503. Nobody talks in so many.
pub const JSON_CALLS_MAX: usize = 32;
/// Messages of one JSON connection in a second; more: 429, twice as many: it is closed.
pub const JSON_MESSAGES_PER_S_MAX: u32 = 50;
/// Wrong passwords of one JSON connection; then it is closed.
pub const JSON_PASSWORDS_MAX: u32 = 3;
/// Seconds in which a JSON connection must register.
pub const JSON_REGISTER_S: u64 = 10;
/// Messages of ours that a JSON client has not acknowledged, a call; more: the oldest goes.
pub const JSON_UNACKNOWLEDGED_MAX: usize = 32;
/// Octets of the unacknowledged messages of one call that its part keeps beside the last one.
pub const JSON_UNACKNOWLEDGED_BYTES_MAX: usize = 12 * 1024;
/// Octets of a browser's statistics that are kept; a longer report is left out.
pub const JSON_STATS_BYTES_MAX: usize = 4 * 1024;

/// Attributes of one STUN message: a browser's check has ten; more: the message is refused.
pub const STUN_ATTRIBUTES_MAX: usize = 32;
/// Octets of a STUN message of ours: a check with two user fragments of 256 characters fits.
pub const STUN_MESSAGE_BYTES_MAX: usize = 768;
/// Unknown attributes that a 420 names: what keeps it smaller than the request; others are left out.
pub const STUN_UNKNOWN_MAX: usize = 4;

/// Sources of a WebRTC peer that are remembered, a path: its interfaces on both families. The
/// oldest that never answered a check of ours goes first, the selected one never.
pub const PATH_REMOTES_MAX: usize = 8;
/// Checks of one path that wait for an answer: the first second of a resume; the oldest go.
pub const PATH_PENDING_MAX: usize = 96;
/// Numbers of the peer's last checks, a path: one that comes again from elsewhere is a copy and
/// teaches nothing.
pub const PATH_SEEN_MAX: usize = 16;
/// Packets of a path that wait to be sent; further ones are dropped, as the network would.
pub const PATH_SENDS_MAX: usize = 64;
/// Checks with wrong or no credentials that a path answers in a second; others get nothing.
pub const PATH_REFUSALS_PER_S_MAX: u32 = 10;

/// Messages of a dialog that wait because an inbox was full; the oldest go, as a network's would.
pub const DIALOG_RETELLS_MAX: usize = 16;
/// Seconds in which checks with the credentials of before an ICE restart are still answered: as
/// long as consent lasts (RFC 7675 §5.1).
pub const PATH_PREVIOUS_S: u64 = 30;

/// STUN requests of one media worker whose responses are waited for: four checks of 4,096 legs at
/// once. The oldest are forgotten, and asked again by their paths.
pub const STUN_ASKED_MAX: usize = 16_384;
/// STUN requests that are kept for a leg until its peer's credentials are known: what a browser
/// sends in 100 ms. Further ones are dropped; it repeats them.
pub const STUN_EARLY_MAX: usize = 4;
/// User fragments that lead to one leg: the present one and those of ICE restarts whose checks are
/// still answered. The oldest go.
pub const PATH_FRAGMENTS_MAX: usize = 3;
/// Datagrams of one handshake that are read, a try: twenty repetitions of all its flights. More are
/// dropped: a handshake keeps what it cannot read yet.
pub const DTLS_DATAGRAMS_MAX: u32 = 256;
/// Handshakes of one leg beside the present one while no client has returned our cookie: each that
/// says hello may be the peer, or forged. The oldest goes.
pub const DTLS_RIVALS_MAX: usize = 8;

/// Octets of one frame between nodes (`cluster.md` §10). A longer one closes the connection.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Nodes of one cluster. One more is not let in.
pub const NODES_MAX: usize = 128;

/// Frames of one class that wait for one node: a burst of commits of a busy second. One more: `Busy`.
pub const PEER_QUEUE_FRAMES_MAX: usize = 4_096;
/// Octets of one class that wait for one node: four of the longest frames, 34 ms of 1 Gbit/s. One
/// more: `Busy`.
pub const PEER_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Connections from nodes that have not proven the cluster's secret yet; for one more, the oldest
/// goes: whoever knows the secret needs milliseconds.
pub const PEER_UNPROVEN_MAX: usize = 64;
/// The same of one source address; two connections of a few nodes behind one address.
pub const PEER_UNPROVEN_PER_ADDRESS_MAX: usize = 16;
/// Octets of a frame before a node has proven itself: a proof or a greeting. Longer: closed.
pub const PEER_HELLO_BYTES_MAX: usize = 256;
/// Seeds that are greeted at once; more are dropped: membership asks again.
pub const PEER_GREETS_MAX: usize = 16;
/// Source addresses of which is known when they were last complained of; more are not logged.
pub const PEER_COMPLAINTS_MAX: usize = 256;
/// Octets of one datagram of gossip, before it is sealed: fits an Ethernet frame with IPv6 and the
/// seal. A longer one is not sent, and not read.
pub const GOSSIP_BYTES_MAX: usize = 1_400;
/// Lives of nodes whose counters of gossip are remembered, two a node; those that have been silent
/// for longer than any datagram is fresh go first, else the new one is not heard.
pub const GOSSIP_SENDERS_MAX: usize = 2 * NODES_MAX;
/// Seconds by which the clock of a sender of gossip may differ from ours; its datagrams are dropped.
pub const GOSSIP_SKEW_S: u64 = 60;
/// Seconds that a console waits for those of other nodes; a node that says nothing is named.
pub const CLUSTER_WAIT_S: u64 = 1;
/// Rows up to the end of a page that several nodes are asked for: an answer stays well under
/// `FRAME_BYTES_MAX`. A page further on is refused with 400.
pub const ROWS_MERGED_MAX: usize = 2_000;
/// Octets of the name of a node: `node.name` allows no more.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Octets of the name of a node's zone: metadata of a node must fit a datagram many times. Longer
/// names are refused.
pub const ZONE_BYTES_MAX: usize = 32;
/// Addresses of seeds that a node keeps: as many as a cluster has nodes; further ones are left out.
pub const SEEDS_MAX: usize = NODES_MAX;
/// Commits of one record that wait for holders: one of each part, and as many holder changes. One
/// more is unsafe at once.
pub const REPLICATION_PER_RECORD_MAX: usize = 2 * PARTS_PER_RECORD_MAX;
/// Commits of a node that wait for holders: 150 ms of 100,000 a second. One more is unsafe at once.
pub const REPLICATION_PENDING_MAX: usize = 16_384;
/// Records of which it is remembered that a holder lacks the newest version; of one more it is
/// forgotten: comparing shards finds it.
pub const REPLICATION_RECORDS_MAX: usize = 65_536;
/// Commits that one holder has not answered; what comes then is sent as a whole, newest only, when
/// answers make room. A quarter of `PEER_QUEUE_FRAMES_MAX`: claims share that queue.
pub const REPLICATION_PER_PEER_MAX: usize = 1_024;
/// Records that this node has lost and remembers so, to acknowledge nothing more of them; the
/// oldest go: the runtime has dropped those long since.
pub const REPLICATION_FENCED_MAX: usize = 4_096;
/// Milliseconds after which a commit with fewer answers than wanted is judged (`cluster.md` §5).
pub const COMMIT_WAIT_MS: u64 = 150;
/// Milliseconds after which a holder is asked again: frames are lost only with their connection, so
/// this is for a holder that was too busy to answer.
pub const COMMIT_AGAIN_MS: u64 = 1_000;
/// Answers for one record that wait for a holder's own disk: twice what one owner may have waiting
/// would be two owners at war. One more request is not answered.
pub const DESK_PER_RECORD_MAX: usize = 2 * REPLICATION_PER_RECORD_MAX;
/// Answers of a holder that wait for its own disk. One more request is not answered.
pub const DESK_WAITING_MAX: usize = 16_384;
/// Octets that wait for a holder's own disk: a second of a slow one. What comes then is not
/// answered.
pub const DESK_BYTES_MAX: usize = 64 << 20;
/// Shards by which holders compare what they hold (`cluster.md` §8): an octet of the record's key.
pub const SHARDS: usize = 256;
/// Nodes for which digests are kept: members and as many that records still name. For one more,
/// shards are listed instead of compared.
pub const REPAIR_TABLES_MAX: usize = 2 * NODES_MAX;
/// Time after which a quarantined node that is alone goes on without what it has lost: who could have
/// it has had the time of a slow start, and phones that register are not kept waiting for ever.
pub const QUARANTINE_ALONE_MS: u64 = 30_000;

/// Milliseconds between two comparisons with one node (`cluster.md` §8), a fifth more or less.
pub const REPAIR_EVERY_MS: u64 = 5_000;
/// Milliseconds that a node keeps what others hold, to tell a claimant that still thinks it a holder.
/// That may be longer than their tombstone is kept: a claim asks them whether it is over.
pub const STRAY_KEPT_MS: u64 = 3_600_000;
/// Milliseconds that a tombstone is kept past its time while a node is away that may have an older copy of
/// the record (`cluster.md` §8): one that stays away for longer is not waited for.
pub const TOMBSTONE_AWAITS_MS: u64 = 3_600_000;
/// Times a shard must differ in a row before it is listed: commits that are under way make
/// differences that pass.
pub const REPAIR_LOOKS: u8 = 4;
/// Milliseconds between two such looks: longer than a commit is under way.
pub const REPAIR_LOOK_MS: u64 = 300;
/// Milliseconds that another node, or the own store, has for one step; then the comparison is given
/// up until the next one.
pub const REPAIR_WAIT_MS: u64 = 5_000;
/// Entries of one page of a listing: a few milliseconds of reading. The rest is another page.
pub const REPAIR_PAGE_MAX: usize = 1_024;
/// Octets of the IDs of one page, so that a frame carries it. The rest is another page.
pub const REPAIR_PAGE_BYTES_MAX: usize = 256 * 1024;
/// Records of a page's range that the other node did not list and is asked about, a page: it may
/// have moved them to other holders. Further ones wait for the next comparison.
pub const REPAIR_CHECKS_MAX: usize = 64;
/// Records that are asked for in one frame: what one answer takes of usual ones. The rest is asked
/// for next.
pub const REPAIR_FETCH_MAX: usize = 256;
/// Octets of the records of one answer; the last one may go beyond, and still fits a frame. The
/// rest is asked for again.
pub const REPAIR_IMAGES_BYTES_MAX: usize = 256 * 1024;
/// Octets a second that a node takes of others to repair its records (`cluster.md` §8), and at most
/// at once. More waits: calls first, then registrations.
pub const REPAIR_BYTES_PER_S: u64 = 2 << 20;
/// Milliseconds by which a node's own timer may be late before it sheds new calls and registrations
/// (`cluster.md` §11): a callee would hear of them too late.
pub const OVERLOAD_LAG_MS: u64 = 50;
/// Events in the lanes of a node above which it does the same: a second of what one lane gets done.
pub const OVERLOAD_EVENTS: usize = 4_096;
/// Milliseconds for which all nodes must have taken a newer schema before one writes it: a node of the
/// former release that restarts, or is started again by its supervisor, is back by then.
pub const SCHEMA_STEP_MS: u64 = 30_000;
/// Actors of which it is remembered where they are; the ones not asked for lately go.
pub const DIRECTORY_ENTRIES_MAX: usize = 65_536;
/// Actors that are looked for at once; one more counts as unknown at once.
pub const SEARCHES_MAX: usize = 4_096;
/// Milliseconds that one holder has to say where an actor is, before the next one is asked.
pub const SEARCH_WAIT_MS: u64 = 300;
/// Nodes beyond the holders that are asked where an actor is (`cluster.md` §3, R + 2).
pub const SEARCH_BEYOND: usize = 2;
/// Events of the media plane that are kept while a node starts: a few of each leg of 10,000 calls.
/// More are lost, and asked for again where packets wait for them.
pub const MEDIA_EARLY_MAX: usize = 65_536;
/// Frames about records, and messages for actors that move, that wait in a node. One more is not
/// taken: its sender asks again, or hears that the node is busy.
pub const NODE_INBOX_FRAMES_MAX: usize = 4_096;
/// Messages for actors that are looked for. One more comes back as busy.
pub const PARCELS_MAX: usize = 16_384;
/// The same for one actor: what its inbox would take.
pub const PARCELS_PER_ACTOR_MAX: usize = INBOX_EVENTS_MAX;
/// Records that another node has won, and whose owners cannot be told yet what only the copy here had: a
/// node that was cut off with a thousand calls under way, 8 MB as a rule, 64 MB at most. The oldest go.
pub const UNTOLD_MAX: usize = 1_024;
/// Claims of a take-over that are under way at once; further ones wait their turn.
pub const CLAIMS_MAX: usize = 256;
/// Calls of which it is remembered for a few seconds that another node has won them.
pub const CLAIMS_LOST_MAX: usize = 16_384;
/// Milliseconds that holders have to answer a claim before it goes on without them (`cluster.md` §4).
pub const CLAIM_WAIT_MS: u64 = 1_000;
/// The same for a call: to go on with an old state of it costs more than to wait.
pub const CLAIM_WAIT_CALL_MS: u64 = 10_000;
/// Actors that a node is handing over, and others that it is being handed, at once: a record, a
/// buffer and a timer each. One more is refused, and tried again by whoever drains.
pub const MOVES_MAX: usize = 256;
/// Actors that a drain hands over at once (`cluster.md` §6): more would queue behind one disk.
pub const MOVES_AT_ONCE: usize = 64;
/// Registrations that a node hands over at once because placement wants them elsewhere (`cluster.md` §3):
/// nobody waits for it.
pub const BALANCE_AT_ONCE: usize = 16;
/// How much of its share a node must lack before others hand it theirs, in per cent (`cluster.md` §3).
pub const BALANCE_PERCENT: usize = 20;
/// Registrations that one node must lack at another before they are handed over: fewer are no load.
pub const BALANCE_LEAST: usize = 100;
/// Seconds between two looks at whether nodes have come; the second one begins.
pub const BALANCE_EVERY_S: u64 = 15;
/// Milliseconds for which an actor may be held still while it is handed over: callers notice more.
pub const FREEZE_MS: u64 = 500;
/// Milliseconds after which whoever wanted a move is told that nothing came of it.
pub const MOVE_WAIT_MS: u64 = 2_000;
/// Milliseconds for which messages of others wait behind those that the former owner had not read.
pub const BUFFER_END_MS: u64 = 250;
/// Seconds for which a node passes packets of a call on that has moved: as long as an end may take to
/// answer the re-INVITE that tells it so (RFC 3261 §17.1.1.2, timer B). Then its ports are freed.
pub const LINGER_S_MAX: u64 = 32;
/// Seconds for which it does so in any case: three repetitions of that re-INVITE.
pub const LINGER_S_MIN: u64 = 4;
/// Milliseconds without a packet after which it is over before: both ends send to the other node.
pub const LINGER_QUIET_MS: u64 = 2_000;
/// Longest drain that may be asked for, in seconds: half an hour of calls; then the node ends.
pub const DRAIN_MAX_S: u32 = 1_800;
/// Records gone on with or mended in one turn of 20 ms: 3,200 a second.
pub const SWEEP_JOBS_PER_TURN: usize = 64;
/// Headers of records that are looked at in one go, before others get their turn: 5 ms.
pub const SWEEP_HEADERS_PER_TURN: usize = 4_096;
/// Floating addresses of a cluster: each is one per node and transport, and listed in each word of a
/// node about them.
pub const FLOATING_ADDRESSES_MAX: usize = 32;
/// Milliseconds that a hook of a floating address may take: the calls on it are silent meanwhile.
pub const ADDRESS_HOOK_MS: u64 = 5_000;
/// Milliseconds for which calls of a dead node wait for its address to be here: a hook that takes
/// longer costs them a re-INVITE, not their end.
pub const ADDRESS_WAIT_MS: u64 = 2_000;

/// Octets of one text of an event: a usual URI; what is longer is cut.
pub const EVENT_TEXT_BYTES_MAX: usize = 256;
/// Events kept of one life of a node: two minutes of a hundred calls a second. The oldest go, and
/// who wanted them is told of a gap.
pub const EVENTS_PER_LIFE_MAX: usize = 65_536;
/// Events kept of all lives: about 80 MB. The oldest of the life that has most go.
pub const EVENTS_MAX: usize = 262_144;
/// Milliseconds that an event is kept: as long as a reader may be away. It goes, as the oldest do.
pub const EVENTS_KEPT_MS: u64 = 3_600_000;
/// Lives of nodes whose events are kept or known to have been; of one more, the oldest that is over
/// is forgotten.
pub const EVENT_LIVES_MAX: usize = 2 * NODES_MAX;
/// Events of one stored value: with the longest texts it stays under the store's largest value.
pub const EVENTS_PER_BATCH_MAX: usize = 64;
/// Events of one frame: a quarter of `FRAME_BYTES_MAX` at most. The rest is asked for again.
pub const EVENTS_PER_FRAME_MAX: usize = 256;
/// Frames of events that answer one question. The rest is asked for again.
pub const EVENT_FRAMES_PER_ANSWER_MAX: usize = 8;
/// Milliseconds for which events wait to be written and sent together (`architecture.md` §7): what a
/// killed node may have told its own readers only.
pub const EVENT_BATCH_MS: u64 = 100;
/// Milliseconds between two comparisons of what nodes have of the log.
pub const EVENT_COMPARE_MS: u64 = 5_000;
/// Milliseconds after the end of a life in which others may still tell what they have of it, before
/// readers hear that its last events may be lost.
pub const EVENT_TAIL_MS: u64 = 2_000;
/// Readers of the event log at one node; one more: 503.
pub const EVENT_READERS_MAX: usize = 256;
/// Events read at once for one reader, before what was read is written: all that it ever holds.
pub const EVENTS_PER_READ_MAX: usize = 256;
/// Octets of a cursor: a life takes forty at most.
pub const CURSOR_BYTES_MAX: usize = 48 * 2 * EVENT_LIVES_MAX;
