/** A WebSocket, a server's side of it, a peer connection and a storage, as far as weft.js uses them. */

/** Node 18 has none. */
globalThis.CustomEvent ??= class extends Event {
  constructor(type, { detail = null } = {}) {
    super(type);
    this.detail = detail;
  }
};

/**
 * A clock that a test moves. Node's own loses timers where one that has fired is cleared (seen with
 * 20.20), and older ones have no date.
 */
export class Clock {
  #real = { setTimeout, clearTimeout, setInterval, clearInterval, Date };
  #timers = new Map();
  #last = 0;
  now = 1_800_000_000_000;

  install() {
    const clock = this;
    const add = (work, ms = 0, every = 0) => {
      this.#timers.set(++this.#last, { at: this.now + Math.max(ms, every), every, work });
      return this.#last;
    };
    const remove = (number) => this.#timers.delete(number);
    Object.assign(globalThis, {
      setTimeout: (work, ms) => add(work, ms),
      setInterval: (work, ms) => add(work, ms, Math.max(ms, 1)),
      clearTimeout: remove, clearInterval: remove,
      Date: class extends this.#real.Date {
        static now() {
          return clock.now;
        }
      },
    });
  }

  /** Forgets all timers and gives the real ones back. */
  restore() {
    this.#timers.clear();
    Object.assign(globalThis, this.#real);
  }

  /** Forgets all timers. */
  clear() {
    this.#timers.clear();
  }

  /** Fires what is due within `ms`, in order. */
  tick(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end);
      if (!due.length) break;
      const [number, timer] = due.reduce((first, one) => (one[1].at < first[1].at ? one : first));
      this.now = Math.max(this.now, timer.at);
      if (timer.every) timer.at += timer.every;
      else this.#timers.delete(number);
      timer.work();
    }
    this.now = end;
  }
}

/** The other end of every FakeSocket: keeps what came, says what a test wants said. */
export class FakeServer {
  constructor() {
    this.sockets = [];
    this.messages = [];
    this.isUp = true;
    this.auto = true;
    this.states = [];
    this.number = 0;
    const server = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocol) {
        super(server, url, protocol);
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Messages of a type, oldest first. */
  of(type) {
    return this.messages.filter((message) => message.type === type);
  }

  take(text) {
    const message = JSON.parse(text);
    this.messages.push(message);
    if (!this.auto) return;
    const { type, payload, id } = message;
    if (type === 'register') this.say('registered', registered(payload.dn), { id });
    if (type === 'resumeSession') {
      this.say('registered', { ...registered('1000'), resumed: true, calls: this.states }, { id });
    }
    if (type === 'ping') this.say('pong', payload, { id });
  }

  say(type, payload, { id } = {}) {
    this.socket.hear({ type, payload, id });
  }

  /** A message that the server starts, numbered. */
  start(type, payload, number = ++this.number) {
    this.socket.hear({ type, payload, id: `srv-${number}`, seq: number });
    return `srv-${number}`;
  }

  /** kill -9: every socket ends, new ones are refused. */
  kill() {
    this.isUp = false;
    this.number = 0;
    for (const socket of this.sockets) socket.end(1006);
  }
}

export const registered = (dn) => ({
  dn: `${dn}@127.0.0.1`, expires: 3600, server: '127.0.0.1', sessionToken: `token-${dn}`,
  iceServers: [], resumed: false,
});

class FakeSocket {
  constructor(server, url, protocol) {
    Object.assign(this, { server, url, protocol, readyState: 0 });
    server.sockets.push(this);
    queueMicrotask(() => {
      if (this.readyState !== 0) return;
      if (!server.isUp) return this.end(1006);
      this.readyState = 1;
      this.onopen?.({});
    });
  }

  send(text) {
    if (this.readyState !== 1) throw new Error('not open');
    if (!this.isDead) queueMicrotask(() => this.server.take(text));
  }

  hear(message) {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message) });
  }

  end(code, reason = '') {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }
}

export class FakePeerConnection {
  static all = [];

  constructor(configuration) {
    Object.assign(this, {
      configuration, number: FakePeerConnection.all.length + 1, signalingState: 'stable', connectionState: 'new', offers: 0,
      restarts: 0, transceivers: [], added: [], localDescription: null, remoteDescription: null,
    });
    FakePeerConnection.all.push(this);
  }

  static get last() {
    return FakePeerConnection.all.at(-1);
  }

  addTransceiver(kind, { direction }) {
    const transceiver = { kind, direction, sender: new FakeSender() };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return this.transceivers;
  }

  restartIce() {
    this.restarts += 1;
  }

  async setLocalDescription(description) {
    if (description?.type === 'rollback') {
      this.signalingState = 'stable';
      return;
    }
    const isAnswer = this.signalingState === 'have-remote-offer';
    this.offers += 1;
    const direction = this.transceivers[0]?.direction;
    const sdp = `${isAnswer ? 'answer' : 'offer'} ${this.number}.${this.offers} ${direction}`;
    this.localDescription = { type: isAnswer ? 'answer' : 'offer', sdp };
    this.signalingState = isAnswer ? 'stable' : 'have-local-offer';
  }

  async setRemoteDescription(description) {
    if (description.sdp === 'broken') throw new Error('cannot be read');
    this.remoteDescription = description;
    if (description.type === 'offer') {
      this.signalingState = 'have-remote-offer';
      if (!this.transceivers.length) this.addTransceiver('audio', { direction: 'recvonly' });
    } else {
      this.signalingState = description.type === 'answer' ? 'stable' : 'have-remote-pranswer';
    }
  }

  async addIceCandidate(candidate) {
    this.added.push(candidate);
  }

  async getStats() {
    return new Map();
  }

  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  close() {
    this.signalingState = 'closed';
    this.isClosed = true;
  }
}

class FakeSender {
  async replaceTrack(track) {
    this.track = track;
  }
}

export class FakeStorage {
  items = new Map();

  getItem(key) {
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.items.set(key, value);
  }

  removeItem(key) {
    this.items.delete(key);
  }
}
