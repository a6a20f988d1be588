/**
 * The client of Weft's JSON signalling: registration, calls, and a connection that comes back.
 *
 *     import { Weft } from '/weft.js';
 *     const weft = new Weft({ url: 'wss://host/ws' });
 *     weft.addEventListener('incoming', ({ detail: call }) => call.answer({ track }));
 *     await weft.register({ dn: '1000', password: 'secret' });
 *     const call = weft.call('1001', { track });   // the offer leaves at once, candidates follow
 *
 * An ES module without dependencies. `WebSocket`, `RTCPeerConnection` and the storage are arguments, so
 * that it runs with others than the browser's. What a user waits for survives the end of the socket: it
 * comes back by itself, says again what was not answered, and calls keep their media meanwhile. Pages
 * play the sound: a call has `stream`, and is given a microphone's track (or the promise of one).
 */
const SUBPROTOCOL = 'weft.json.v1';
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
const CONNECT_MS = 5_000;
const PING_MS = 20_000;
const PONG_MS = 5_000;
const REPLY_MS = 10_000;
const GLARE_MS = 2_000;
const GLARE_TRIES = 6;
const DISCONNECTED_MS = 3_000;
const RESTART_AGAIN_MS = 5_000;
const REPORT_MS = 10_000;
const QUEUE_MAX = 256;
const SEEN_MAX = 256;
const TIMER_MAX_MS = 2 ** 31 - 1;
const ACKNOWLEDGED = new Set(['incoming', 'cancelled', 'hangup', 'reoffer']);
const TRANSIENT = new Set([408, 429, 500, 503]);

const random = () => Math.random().toString(36).slice(2, 10).padEnd(8, '0');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** A request failed: `code` as SIP and HTTP number it, 0 if the connection was lost. */
export class WeftError extends Error {
  constructor(code, reason) {
    super(reason || `error ${code}`);
    this.name = 'WeftError';
    this.code = code;
  }
}

class Emitter extends EventTarget {
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * One account on one server. Events, each with its `detail`:
 * `socket` {state: connecting|open|waiting|closed, retryAt, why} · `registration` {state:
 * none|registered|failed, dn, server, code, reason} · `incoming` Call · `restored` Call (after a reload) ·
 * `calls` (a call began, changed or ended) · `replaced` {dn} (the account is used in another window).
 */
export class Weft extends Emitter {
  #options;
  #socket = null;
  #isReady = false;
  #isWanted = false;
  #account = {};
  #session = null;
  #tries = 0;
  #timers = {};
  #pending = new Map();
  #queue = [];
  #closing = new Map();
  #spare = null;
  #seen = new Set();
  #waiting = [];
  #calls = new Map();
  #prefix = random();
  #number = 0;

  /**
   * `url`; `WebSocket`, `RTCPeerConnection` (the browser's); `storage` (sessionStorage; null: a reload
   * forgets); `key` in it; `iceServers`; `log(text, detail)`.
   */
  constructor(options) {
    super();
    this.#options = {
      WebSocket: globalThis.WebSocket,
      RTCPeerConnection: globalThis.RTCPeerConnection,
      storage: globalThis.sessionStorage ?? null,
      key: 'weft.session',
      iceServers: [],
      log: () => {},
      ...options,
    };
    this.socket = { state: 'closed' };
    this.registration = { state: 'none' };
    this.iceServers = this.#options.iceServers;
  }

  /** Calls that are not over, oldest first. */
  get calls() {
    return [...this.#calls.values()];
  }

  /** Tells whether requests leave at once. */
  get isReady() {
    return this.#isReady;
  }

  /** Number of the session that a reload left behind, or null. */
  get storedDn() {
    return this.#read()?.account ?? null;
  }

  /**
   * Registers and stays registered until `unregister`. Without a password it takes up the session that
   * a reload of the page left behind; with one it does so if the number is the same. `instance`: a
   * second registration of the same instance replaces the first. Rejects with the code of a refusal
   * that trying again does not mend (401, 403, 410, 423).
   */
  register({ dn, password, displayName, instance, expires } = {}) {
    const stored = this.#session ?? this.#read();
    const isSame = stored?.token && (!dn || dn === stored.account);
    if (!isSame && !password) return Promise.reject(new WeftError(401, 'no session and no password'));
    const isElse = this.#session && !isSame;
    this.#account = { dn: dn ?? stored.account, password, displayName, instance, expires };
    if (!isSame) this.#session = { account: dn, lastSeq: 0 };
    else if (!this.#session) this.#restore(stored);
    this.#isWanted = true;
    const done = new Promise((ok, no) => this.#waiting.push({ ok, no }));
    if (this.#socket && isElse) this.#drop(this.#socket, 'another number', 0);
    else if (!this.#socket) this.#connect();
    else if (this.#socket.readyState === 1 && !this.#isAsking()) this.#hello();
    return done;
  }

  /** Hangs up, removes the binding, forgets the session and closes the socket. */
  async unregister() {
    for (const call of this.calls) call.hangup();
    const { dn } = this.registration;
    if (this.#isReady) await this.request('unregister', { dn }).catch(() => {});
    this.#stop(1000);
    this.#registration({ state: 'none' });
  }

  /** Calls `to`. `track`, or the first audio track of `stream`, may be a promise: nothing waits for it. */
  call(to, { track, stream, displayName } = {}) {
    const call = new Call(this, {
      id: `${this.#prefix}-${random()}`, direction: 'out', peer: to, name: '', state: 'calling',
    });
    this.#add(call);
    call.offered = call._dial({ track: track ?? audioOf(stream), displayName });
    return call;
  }

  /** Sends a request and resolves with the payload of the reply. Said again after a lost connection. */
  request(type, payload, { isRepeatable = true } = {}) {
    return new Promise((ok, no) => {
      const id = this._id();
      const request = { text: JSON.stringify({ type, payload, id }), ok, no, isRepeatable };
      this.#pending.set(id, request);
      if (this.#isReady) this.#sendRequest(id, request);
    });
  }

  /** Asks the server: `calls`, `dn` or `server`. */
  info(query) {
    return this.request('info', { query });
  }

  /**
   * What the user has set for the calls to it: {doNotDisturb, callWaiting, always, busy, noAnswer, unreachable:
   * numbers or null, noAnswerSeconds}. With `set` all of it is replaced. Rejects with 400 for a number no route takes.
   */
  settings(set) {
    return this.request('settings', { set });
  }

  /** Makes the next call's peer connection before it is wanted, which saves the caller some 10 ms. */
  prepare() {
    this.#spare ??= this.#make();
  }

  /** Tries at once instead of waiting: the network is back, or the user is. */
  reconnect() {
    if (this.#isWanted && !this.#socket) this.#connect();
    else if (this.#isReady) this.#ping();
  }

  // ---- the socket

  #connect() {
    clearTimeout(this.#timers.retry);
    this.#state({ state: 'connecting' });
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url, SUBPROTOCOL);
    } catch (error) {
      return this.#retry(error.message);
    }
    this.#socket = socket;
    this.#timers.open = setTimeout(() => this.#drop(socket, 'no answer'), CONNECT_MS);
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => this.#drop(socket, reason || `closed (${code})`);
  }

  #opened() {
    clearTimeout(this.#timers.open);
    this.#seen.clear();
    this.#state({ state: 'open' });
    this.#timers.ping = setInterval(() => this.#ping(), PING_MS);
    this.#hello();
  }

  #ping() {
    const socket = this.#socket;
    this.#write({ type: 'ping', payload: { ts: Date.now() }, id: this._id() });
    clearTimeout(this.#timers.pong);
    this.#timers.pong = setTimeout(() => this.#drop(socket, 'server is silent'), PONG_MS);
  }

  /** Forgets a socket; a close that would hang in a dead network is not waited for. */
  #drop(socket, why, delay) {
    if (!socket || socket !== this.#socket) return;
    this.#detach();
    for (const [id, request] of this.#pending) {
      clearTimeout(request.timer);
      if (request.isHello || (request.isSent && !request.isRepeatable)) {
        this.#pending.delete(id);
        request.no(new WeftError(0, 'connection lost'));
      }
    }
    if (this.#isWanted) this.#retry(why, delay);
    else this.#state({ state: 'closed', why });
  }

  #detach(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isReady = false;
    for (const name of ['open', 'pong', 'refresh']) clearTimeout(this.#timers[name]);
    clearInterval(this.#timers.ping);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      socket.close(code);
    } catch (error) {
      this.log('close', error);
    }
  }

  #retry(why, delay) {
    const full = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#tries++);
    const wait = delay ?? full * (0.5 + Math.random() / 2);
    this.#state({ state: 'waiting', retryAt: Date.now() + wait, tries: this.#tries, why });
    clearTimeout(this.#timers.retry);
    this.#timers.retry = setTimeout(() => this.#connect(), wait);
  }

  #state(state) {
    this.socket = state;
    this.log('socket', state);
    this.emit('socket', state);
  }

  #write(message) {
    this.#writeText(JSON.stringify(message));
  }

  #writeText(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  #sendRequest(id, request) {
    request.isSent = true;
    this.#writeText(request.text);
    request.timer = setTimeout(() => this.#settle(id, new WeftError(408, 'no reply')), REPLY_MS);
  }

  #settle(id, error, payload) {
    const request = this.#pending.get(id);
    if (!request) return false;
    this.#pending.delete(id);
    clearTimeout(request.timer);
    if (error) request.no(error);
    else request.ok(payload);
    return true;
  }

  // ---- the session

  /** Says who we are: the old session if there is one, else number and password. */
  #hello() {
    const session = this.#session;
    const { password } = this.#account;
    if (session.token) {
      const calls = this.calls.map((call) => call.id);
      const payload = { token: session.token, lastSeq: session.lastSeq, calls };
      this.#askHello('resumeSession', payload, (error) => {
        session.token = null;
        if (password) this.#hello();
        else this.#refused(error);
      });
    } else {
      this.#askHello('register', this.#credentials(), (error) => this.#refused(error));
    }
  }

  #credentials() {
    const { dn, password, displayName, instance, expires } = this.#account;
    return { dn, password, displayName, instance, expires };
  }

  #isAsking() {
    return [...this.#pending.values()].some(({ isHello }) => isHello);
  }

  #askHello(type, payload, refused) {
    const id = this._id();
    const socket = this.#socket;
    const no = (error) => {
      if (socket !== this.#socket) return;
      if (TRANSIENT.has(error.code)) this.#drop(socket, error.message);
      else refused(error);
    };
    const request = { text: JSON.stringify({ type, payload, id }), ok: (p) => this.#registered(p), no };
    request.isHello = true;
    this.#pending.set(id, request);
    this.#sendRequest(id, request);
  }

  #registered(payload) {
    const isNew = !this.#isReady;
    this.#tries = 0;
    this.#isReady = true;
    const session = this.#session;
    if (isNew && !payload.resumed) session.lastSeq = 0;
    session.token = payload.sessionToken ?? session.token;
    this.iceServers = [...this.#options.iceServers, ...(payload.iceServers ?? [])];
    this._save();
    const wait = Math.max(1, payload.expires * 0.75) * 1000;
    clearTimeout(this.#timers.refresh);
    this.#timers.refresh = setTimeout(() => this.#refresh(), Math.min(wait, TIMER_MAX_MS));
    const { dn, expires, server } = payload;
    this.#registration({ state: 'registered', dn, expires, server, resumed: payload.resumed });
    if (isNew) this.#goOn(payload);
    for (const { ok } of this.#waiting.splice(0)) ok(payload);
  }

  /** The server knows us again: everything that waited goes. */
  #goOn({ calls }) {
    for (const call of this.calls) {
      const known = calls?.find(({ callId }) => callId === call.id);
      call._resumed(calls ? (known?.state ?? 'gone') : undefined);
    }
    for (const text of this.#queue.splice(0)) this.#writeText(text);
    for (const [id, request] of this.#pending) {
      if (!request.isHello) this.#sendRequest(id, request);
    }
    for (const text of this.#closing.values()) this.#writeText(text);
  }

  #refused(error) {
    this.#stop(1000, error);
    this.#registration({ state: 'failed', code: error.code, reason: error.message });
    for (const call of this.calls) call._ended({ code: 410, cause: 'session lost', by: 'remote' });
  }

  /** Before the binding ends: the password again, or the token over a new socket. */
  #refresh() {
    if (!this.#isReady) return;
    if (this.#account.password) {
      this.#askHello('register', this.#credentials(), (error) => this.#refused(error));
    } else {
      this.#drop(this.#socket, 'refresh', 0);
    }
  }

  #stop(code, error = new WeftError(0, 'signed out')) {
    this.#isWanted = false;
    clearTimeout(this.#timers.retry);
    this.#detach(code);
    this.#session = null;
    this.#spare?.close();
    this.#spare = null;
    this.#queue = [];
    this.#closing.clear();
    for (const id of [...this.#pending.keys()]) this.#settle(id, error);
    for (const { no } of this.#waiting.splice(0)) no(error);
    this.#options.storage?.removeItem(this.#options.key);
    this.#state({ state: 'closed' });
  }

  #registration(state) {
    this.registration = state;
    this.emit('registration', state);
  }

  #read() {
    try {
      return JSON.parse(this.#options.storage?.getItem(this.#options.key) ?? 'null');
    } catch (error) {
      this.log('the stored session cannot be read', error);
      return null;
    }
  }

  /** Takes up what the page before the reload left. */
  #restore({ calls = [], ...session }) {
    this.#session = session;
    for (const kept of calls) {
      const call = new Call(this, kept);
      call.isRestored = true;
      this.#add(call);
      this.emit('restored', call);
    }
  }

  /** Keeps the session for a reload. Internal. */
  _save() {
    if (!this.#session) return;
    const session = { ...this.#session, calls: this.calls.map((call) => call._kept()) };
    try {
      this.#options.storage?.setItem(this.#options.key, JSON.stringify(session));
    } catch (error) {
      this.log('the session cannot be stored', error);
    }
  }

  // ---- messages

  #heard(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      return this.log('not JSON', error);
    }
    clearTimeout(this.#timers.pong);
    const { type, id, seq, payload = {} } = message;
    this.log('<', message);
    if (seq > this.#session?.lastSeq) this.#session.lastSeq = seq;
    if (ACKNOWLEDGED.has(type) && id?.startsWith('srv-')) {
      this.#write({ type: 'ack', payload: {}, id });
      if (this.#seen.has(id)) return;
      this.#seen.add(id);
      if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.values().next().value);
    }
    if (type === 'error') return this.#failed(payload.ref ?? id, payload);
    if (type === 'registerFailed') {
      return void this.#settle(id, new WeftError(payload.code, payload.reason));
    }
    if (this.#settle(id, null, payload)) return;
    this.#told(type, payload);
  }

  #told(type, payload) {
    if (type === 'replaced') {
      const calls = this.calls;
      this.#stop(1000);
      for (const call of calls) call._ended({ code: 410, cause: 'another window', by: 'remote' });
      this.#registration({ state: 'none' });
      return this.emit('replaced', payload);
    }
    if (type === 'expiring' || type === 'unregistered') return this.#refresh();
    if (!payload.callId) return;
    if (['hangup', 'cancelled', 'callRejected'].includes(type)) this.#closing.delete(payload.callId);
    const call = this.#calls.get(payload.callId);
    if (call) return call._told(type, payload);
    if (type === 'incoming' && !this.#closing.has(payload.callId)) this.#incoming(payload);
    // A node has it still that did not hear of its end.
    if (type === 'reoffer') this._tell('hangup', { callId: payload.callId });
  }

  #incoming({ callId, from, displayName, to, sdp, headers }) {
    const call = new Call(this, {
      id: callId, direction: 'in', peer: from, name: displayName ?? '', to, state: 'incoming', offer: sdp,
    });
    call.headers = headers ?? {};
    this.#add(call);
    this._tell('ringing', { callId });
    this.emit('incoming', call);
  }

  #failed(reference, { code, message }) {
    if (this.#settle(reference, new WeftError(code, message))) return;
    for (const call of this.calls) {
      if (call.requestId === reference) return call._failed(code, message);
    }
    for (const [callId, text] of this.#closing) {
      if (JSON.parse(text).id === reference) this.#closing.delete(callId);
    }
    this.log('error', { code, message, reference });
  }

  #add(call) {
    this.#calls.set(call.id, call);
    this._changed();
  }

  // ---- for calls (internal)

  _id() {
    this.#number += 1;
    return `${this.#prefix}.${this.#number}`;
  }

  /** Sends what has no reply; waits for the connection unless it is worth nothing later. */
  _tell(type, payload, { isKept = true, id = this._id() } = {}) {
    const text = JSON.stringify({ type, payload, id });
    if (this.#isReady) this.#writeText(text);
    else if (isKept && this.#queue.length < QUEUE_MAX) this.#queue.push(text);
  }

  /** Ends a call at the server, over the next connection too. */
  _close(type, payload) {
    const text = JSON.stringify({ type, payload, id: this._id() });
    this.#closing.set(payload.callId, text);
    if (this.#isReady) this.#writeText(text);
    if (type === 'reject') setTimeout(() => this.#isReady && this.#closing.delete(payload.callId), REPLY_MS);
  }

  _remove(call) {
    this.#calls.delete(call.id);
    this._changed();
  }

  _changed() {
    this._save();
    this.emit('calls');
  }

  _peerConnection() {
    const spare = this.#spare;
    this.#spare = null;
    return spare ?? this.#make();
  }

  #make() {
    return new this.#options.RTCPeerConnection({
      iceServers: this.iceServers, bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require',
    });
  }

  log(text, detail) {
    this.#options.log(text, detail);
  }
}

/**
 * One call. `id`, `direction` (in, out), `peer`, `name`, `state` (calling, ringing, incoming, active,
 * ended), `since` (ms of UTC when it became active), `held` {local, remote}, `isMuted`, `stream`, `pc`;
 * `offered` of an outgoing call resolves when its offer has left.
 * Events: `state`, `track` (`stream` is there), `media` (detail: connectionState), `dtmf` (detail: digit),
 * `transfer` (detail: {code, text}: how far the one is whom the far end is put through to),
 * `ended` (detail: {code, cause, reason, by}).
 */
export class Call extends Emitter {
  #weft;
  #track = null;
  #early = null;
  #offer;
  #answer;
  #lastOffer = null;
  #isTold = false;
  #isKnown = false;
  #unsent = [];
  #candidates = [];
  #round = 0;
  #lock = Promise.resolve();
  #answering = null;
  #restarts = 0;
  #isRestarting = false;
  #transfer = null;
  #timers = {};

  constructor(weft, { id, direction, peer, name, to, state, since, held, isMuted, offer, dialled }) {
    super();
    this.#weft = weft;
    Object.assign(this, { id, direction, peer, name, to, state, since, pc: null, stream: null });
    this.held = held ?? { local: false, remote: false };
    this.isMuted = Boolean(isMuted);
    this.headers = {};
    this.isRestored = false;
    this.#offer = offer;
    this.dialled = dialled;
  }

  /** Answers an incoming call; `track` as in `Weft.call`. */
  async answer({ track, stream } = {}) {
    if (this.state !== 'incoming') return;
    this.#enter('active');
    const offer = this.#offer;
    this.#offer = undefined;
    try {
      const pc = this.#build();
      await pc.setRemoteDescription({ type: 'offer', sdp: offer });
      [this.transceiver] = pc.getTransceivers();
      this.transceiver.direction = 'sendrecv';
      this.setTrack(track ?? audioOf(stream));
      await pc.setLocalDescription();
      this.#answer = pc.localDescription.sdp;
      this.#sayAnswer();
      this.#flush();
    } catch (error) {
      this.#broken(error);
    }
  }

  /** Refuses an incoming call: 486 busy, 603 declined, 480 not now. */
  reject(code = 486, reason = '') {
    if (this.state !== 'incoming') return;
    this.#weft._close('reject', { callId: this.id, code, reason });
    this._ended({ code, cause: 'rejected', by: 'local' });
  }

  /** Ends the call in any state; at the server as soon as it is reached. */
  hangup(reason = 'user_hangup') {
    if (this.state === 'ended') return;
    if (this.state === 'incoming') return this.reject();
    this.#weft._close('hangup', { callId: this.id, reason });
    this._ended({ code: 200, cause: 'hung up', by: 'local' });
  }

  /** Puts the far end on hold; what we say does not leave meanwhile. */
  hold() {
    return this.#hold(true);
  }

  /** Goes on talking. */
  resume() {
    return this.#hold(false);
  }

  /** Sends digits to the far end; resolves when the server has them. `method`: rfc4733 or info. */
  dtmf(digits, { method, duration } = {}) {
    const payload = { callId: this.id, digits: String(digits), method, duration };
    return this.#weft.request('dtmf', payload, { isRepeatable: false });
  }

  /**
   * Puts the far end through to somebody else: to a number, or to the far end of another call of ours, which
   * ends as well. The call ends here when it talks there. Resolves then; rejects with the SIP status if nobody
   * is reached: the call goes on as it was.
   */
  transfer(to) {
    const target = to instanceof Call ? { with: to.id } : { to: String(to) };
    return new Promise((ok, no) => {
      this.#transfer = { ok, no };
      this.#weft.request('transfer', { callId: this.id, ...target }, { isRepeatable: false })
        .then((progress) => this.#transferring(progress), (error) => this.#transferred(error));
    });
  }

  /** Silences our microphone. */
  mute(on = true) {
    this.isMuted = on;
    this.#gate();
    this.#changed();
  }

  /** Gives the call a microphone, or another one; a promise of one is waited for, nothing else is. */
  async setTrack(track) {
    const wanted = (this.wantedTrack = track);
    let found = null;
    try {
      found = (await track) ?? null;
    } catch (error) {
      this.#weft.log('no microphone', error);
    }
    if (this.wantedTrack !== wanted || this.state === 'ended') return;
    this.#track = found;
    this.#gate();
    await this.transceiver?.sender.replaceTrack(found);
  }

  /** Makes a new media path (RFC 8445 §2.4); the library does so by itself when the path fails. */
  restartIce() {
    return this.#locked(() => this.#negotiate('reoffer', true));
  }

  /** What `getStats` knows, in one flat object; times in ms. */
  async stats() {
    return this.pc ? summary(await this.pc.getStats()) : null;
  }

  // ---- for Weft (internal)

  _kept() {
    const { id, direction, peer, name, to, state, since, held, isMuted, dialled } = this;
    return { id, direction, peer, name, to, state, since, held, isMuted, dialled, offer: this.#offer };
  }

  async _dial({ track, displayName }) {
    try {
      const pc = this.#build();
      this.transceiver = pc.addTransceiver('audio', { direction: 'sendrecv' });
      this.setTrack(track);
      await pc.setLocalDescription();
      if (this.state === 'ended') return;
      const { sdp } = pc.localDescription;
      this.dialled = { to: this.peer, callId: this.id, sdp, displayName };
      if (this.#weft.isReady) this.#sayCall();
      setTimeout(() => this.#weft._save());
    } catch (error) {
      this.#broken(error);
    }
  }

  /** The connection is back; `known` is the server's word for the call, undefined if it said none. */
  _resumed(known) {
    const isUnheard = this.direction === 'out' && this.state !== 'active' && !this.#isKnown;
    if (known === 'gone' && !(isUnheard && !this.isRestored)) {
      return this._ended({ code: 410, cause: 'gone', by: 'remote' });
    }
    if (this.direction === 'out' && this.state !== 'active') {
      if (known === undefined || known === 'gone') this.#sayCall();
      return;
    }
    if (this.state !== 'active') return;
    if (this.#answer && ['incoming', 'ringing'].includes(known)) return this.#sayAnswer();
    if (!this.pc) return this.#renew();
    this.#report();
    this.#watch(1_000);
  }

  _told(type, payload) {
    switch (type) {
      case 'trying': this.#isKnown = true; break;
      case 'ringing': return this.#rings(payload);
      case 'callAccepted': return this.#accepted(payload);
      case 'callRejected': return this._ended({ ...payload, by: 'remote' });
      case 'cancelled': return this._ended({ code: 487, cause: payload.reason, by: 'remote' });
      case 'hangup': return this._ended({ ...payload, by: 'remote' });
      case 'held': case 'resumed':
        if (payload.by === 'remote') this.#heldByRemote(type === 'held');
        break;
      case 'reoffer': return this.#reoffered(payload);
      case 'transferProgress': return this.#transferring(payload);
      case 'dtmf': if (payload.digit) this.emit('dtmf', payload.digit); break;
      case 'iceCandidate': return this.#candidate(payload);
      default: this.#weft.log('not understood', type);
    }
  }

  /** The server refused the call or the answer. */
  _failed(code, reason) {
    if (this.state === 'active' && this.#answer === undefined) return;
    this._ended({ code, cause: reason, reason, by: 'remote' });
  }

  _ended(detail) {
    if (this.state === 'ended') return;
    this.end = detail;
    this.#transferred(detail.code === 200 ? null : new WeftError(detail.code, detail.cause));
    this.#round += 1;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#shut();
    this.state = 'ended';
    this.#weft._remove(this);
    this.emit('state', 'ended');
    this.emit('ended', detail);
  }

  // ---- transfer

  #transferring({ code, text }) {
    this.emit('transfer', { code, text });
    if (code >= 200) this.#transferred(code < 300 ? null : new WeftError(code, text));
  }

  #transferred(error) {
    const waiting = this.#transfer;
    this.#transfer = null;
    if (error) waiting?.no(error);
    else waiting?.ok();
  }

  // ---- beginning

  #build() {
    const pc = this.#weft._peerConnection();
    this.pc = pc;
    this.#isTold = false;
    this.#unsent = [];
    pc.onicecandidate = ({ candidate }) => {
      if (pc === this.pc) this.#trickle(candidate);
    };
    pc.ontrack = ({ track, streams }) => {
      this.stream = streams[0] ?? new MediaStream([track]);
      this.emit('track', this.stream);
    };
    pc.onconnectionstatechange = () => {
      if (pc === this.pc) this.#watch(DISCONNECTED_MS);
    };
    return pc;
  }

  #shut() {
    const pc = this.pc;
    if (!pc) return;
    pc.onicecandidate = pc.ontrack = pc.onconnectionstatechange = null;
    pc.close();
  }

  #sayCall() {
    if (!this.dialled) return;
    this.requestId = this.#weft._id();
    this.#weft._tell('call', this.dialled, { isKept: false, id: this.requestId });
    this.#flush();
  }

  #sayAnswer() {
    this.requestId = this.#weft._id();
    const payload = { callId: this.id, sdp: this.#answer };
    this.#weft._tell('answer', payload, { isKept: false, id: this.requestId });
    this.#flushLocal();
  }

  #rings({ sdp }) {
    this.#isKnown = true;
    if (this.state === 'calling') this.#enter('ringing');
    if (!sdp || this.#early || !this.pc) return;
    this.#early = sdp;
    this.#describe('pranswer', sdp);
  }

  #accepted({ sdp }) {
    this.#isKnown = true;
    if (this.state === 'active') return this.#report();
    this.#enter('active');
    // After a reload the peer connection that offered is gone: a new one offers.
    if (!this.pc) return this.#renew();
    this.#describe('answer', sdp ?? this.#early);
  }

  async #describe(type, sdp) {
    try {
      await this.pc.setRemoteDescription({ type, sdp });
      this.#flush();
    } catch (error) {
      this.#broken(error);
    }
  }

  #broken(error) {
    if (this.state === 'ended') return;
    this.#weft.log('media failed', error);
    this.#weft._close('hangup', { callId: this.id, reason: 'media failed' });
    this._ended({ code: 488, cause: 'media failed', reason: error.message, by: 'local' });
  }

  #enter(state) {
    this.state = state;
    if (state === 'active') {
      this.since ??= Date.now();
      this.#timers.report = setTimeout(() => this.#report(), 2_000);
    }
    this.#changed();
  }

  #changed() {
    this.emit('state', this.state);
    this.#weft._changed();
  }

  // ---- candidates

  #trickle(candidate) {
    const { candidate: text, sdpMid, sdpMLineIndex } = candidate ?? {};
    const message = text
      ? ['iceCandidate', { callId: this.id, candidate: text, sdpMid, sdpMLineIndex }]
      : ['iceComplete', { callId: this.id }];
    if (this.#isTold) this.#weft._tell(...message);
    else this.#unsent.push(message);
  }

  #flushLocal() {
    this.#isTold = true;
    for (const message of this.#unsent.splice(0)) this.#weft._tell(...message);
  }

  #flush() {
    if (this.#weft.isReady || this.state === 'active') this.#flushLocal();
    if (!this.pc?.remoteDescription) return;
    for (const candidate of this.#candidates.splice(0)) this.#addCandidate(candidate);
  }

  #candidate({ candidate, sdpMid, sdpMLineIndex }) {
    const found = { candidate, sdpMid, sdpMLineIndex };
    if (this.pc?.remoteDescription) this.#addCandidate(found);
    else this.#candidates.push(found);
  }

  #addCandidate(candidate) {
    this.pc.addIceCandidate(candidate).catch((error) => this.#weft.log('candidate', error));
  }

  // ---- new offers

  #locked(work) {
    const done = this.#lock.then(work);
    this.#lock = done.catch(() => {});
    return done;
  }

  async #hold(on) {
    if (this.state !== 'active' || this.held.local === on) return;
    this.#setHeld(on);
    try {
      await this.#locked(() => this.#negotiate(on ? 'hold' : 'resume', false));
    } catch (error) {
      if (this.state !== 'ended') this.#setHeld(!on);
      throw error;
    }
  }

  #setHeld(on) {
    this.held.local = on;
    this.#gate();
    this.#changed();
  }

  #heldByRemote(on) {
    this.held.remote = on;
    this.#changed();
  }

  #gate() {
    if (this.#track) this.#track.enabled = !this.isMuted && !this.held.local;
  }

  /** Offers anew until there is an answer; a glare is waited out (RFC 3261 §14.1). */
  async #negotiate(type, isRestart) {
    for (let tries = 0; tries < GLARE_TRIES && this.state !== 'ended'; tries += 1) {
      await this.#answering;
      const pc = this.pc;
      this.#round += 1;
      const round = this.#round;
      if (isRestart) pc.restartIce();
      this.transceiver.direction = this.held.local ? 'sendonly' : 'sendrecv';
      await pc.setLocalDescription();
      const payload = { callId: this.id, sdp: pc.localDescription.sdp };
      if (type === 'reoffer') payload.iceRestart = isRestart;
      const isOurs = () => round === this.#round && pc.signalingState === 'have-local-offer';
      try {
        const asked = this.#weft.request(type, payload);
        this.#flushLocal();
        const { sdp } = await asked;
        if (isOurs()) {
          await pc.setRemoteDescription({ type: 'answer', sdp });
          return this.#flush();
        }
      } catch (error) {
        if (isOurs()) await pc.setLocalDescription({ type: 'rollback' });
        if (error.code !== 491) throw error;
      }
      await sleep(GLARE_MS * (0.75 + Math.random() / 2));
    }
    if (this.state !== 'ended') throw new WeftError(491, 'the far end offers all the time');
  }

  /** The server offers: ours, if one is open, gives way. The same offer has the same answer. */
  #reoffered(payload) {
    const known = this.#lastOffer;
    if (known?.sdp === payload.sdp) {
      this.#weft._tell('reanswer', { callId: this.id, sdp: known.answer });
    } else if (this.pc) {
      this.#round += 1;
      this.#answering = this.#reanswer(payload);
    }
  }

  async #reanswer({ sdp, why }) {
    const pc = this.pc;
    try {
      await pc.setRemoteDescription({ type: 'offer', sdp });
      await pc.setLocalDescription();
      const answer = pc.localDescription.sdp;
      this.#lastOffer = { sdp, answer };
      this.#weft._tell('reanswer', { callId: this.id, sdp: answer });
      this.#flush();
      if (why === 'hold' || why === 'resume') this.#heldByRemote(why === 'hold');
    } catch (error) {
      this.#weft.log('reoffer', error);
      this.#renew();
    }
  }

  // ---- the media path

  /** Looks whether media flows; after `patience` ms of interruption there is a new path. */
  #watch(patience) {
    const state = this.pc?.connectionState;
    this.emit('media', state);
    clearTimeout(this.#timers.lost);
    if (state === 'connected') this.#restarts = 0;
    const wait = { failed: 0, disconnected: patience }[state];
    if (wait !== undefined) this.#timers.lost = setTimeout(() => this.#restart(), wait);
  }

  async #restart() {
    const isWanted = this.state === 'active' && this.pc?.connectionState !== 'connected';
    if (!isWanted || this.#isRestarting || !this.#weft.isReady) return;
    this.#isRestarting = true;
    this.#restarts += 1;
    try {
      // A node that lost our keys is met with a new certificate.
      if (this.#restarts > 2) await this.#renew();
      else await this.restartIce();
    } catch (error) {
      this.#weft.log('ice restart', error);
    }
    this.#isRestarting = false;
    clearTimeout(this.#timers.lost);
    if (this.state === 'active') this.#timers.lost = setTimeout(() => this.#again(), RESTART_AGAIN_MS);
  }

  #again() {
    if (['failed', 'disconnected', 'connecting', 'new'].includes(this.pc?.connectionState)) this.#restart();
  }

  /** Offers with a new peer connection: after a reload, or when the old one is beyond repair. */
  async #renew() {
    this.#shut();
    this.#lastOffer = null;
    const track = this.wantedTrack;
    this.#build();
    this.transceiver = this.pc.addTransceiver('audio', { direction: 'sendrecv' });
    if (track) this.setTrack(track);
    try {
      await this.#locked(() => this.#negotiate('reoffer', true));
    } catch (error) {
      this.#weft.log('renew', error);
      if ([404, 410, 481].includes(error.code)) this._ended({ code: 410, cause: 'gone', by: 'remote' });
    }
    this.isRestored = false;
  }

  async #report() {
    clearTimeout(this.#timers.report);
    if (this.state !== 'active') return;
    this.#timers.report = setTimeout(() => this.#report(), REPORT_MS);
    const report = await this.stats().catch(() => null);
    if (report && this.state === 'active') {
      this.#weft._tell('stats', { callId: this.id, report }, { isKept: false });
    }
  }
}

function audioOf(stream) {
  return stream?.getAudioTracks?.()[0] ?? null;
}

const ms = (seconds) => (seconds === undefined ? undefined : Math.round(seconds * 10_000) / 10);
const end = (one) => one && {
  type: one.candidateType, protocol: one.relayProtocol ?? one.protocol, address: one.address, port: one.port,
};

/** Makes one flat object of a stats report (W3C webrtc-stats). */
function summary(report) {
  const all = [...report.values()];
  const one = (type) => all.find((stat) => stat.type === type && (stat.kind ?? 'audio') === 'audio') ?? {};
  const inbound = one('inbound-rtp');
  const outbound = one('outbound-rtp');
  const remote = one('remote-inbound-rtp');
  const transport = one('transport');
  const nominated = all.find((stat) => stat.type === 'candidate-pair' && stat.nominated);
  const pair = report.get(transport.selectedCandidatePairId) ?? nominated ?? {};
  const codec = report.get(inbound.codecId) ?? report.get(outbound.codecId) ?? {};
  return {
    codec: codec.mimeType?.split('/')[1],
    clockRate: codec.clockRate,
    packetsReceived: inbound.packetsReceived ?? 0,
    packetsLost: inbound.packetsLost ?? 0,
    bytesReceived: inbound.bytesReceived ?? 0,
    packetsSent: outbound.packetsSent ?? 0,
    bytesSent: outbound.bytesSent ?? 0,
    remoteLost: remote.packetsLost,
    remoteFractionLost: remote.fractionLost,
    jitterMs: ms(inbound.jitter),
    roundTripMs: ms(remote.roundTripTime ?? pair.currentRoundTripTime),
    iceRoundTripMs: ms(pair.currentRoundTripTime),
    concealedSamples: inbound.concealedSamples,
    levelIn: inbound.audioLevel,
    levelOut: one('media-source').audioLevel,
    local: end(report.get(pair.localCandidateId)),
    remote: end(report.get(pair.remoteCandidateId)),
    dtlsState: transport.dtlsState,
    srtpCipher: transport.srtpCipher,
    dtlsCipher: transport.dtlsCipher,
    tlsVersion: transport.tlsVersion,
  };
}
