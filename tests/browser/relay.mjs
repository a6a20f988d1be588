/**
 * A server for the page's own tests: the pages under the policy they have in life, and a JSON socket
 * (RFC 6455) that hands the words of one browser to the other, so that media flows between the two.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' "
  + "ws: wss:; media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const FORMS = { html: 'text/html', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' };
const web = new URL('../../nodes/web/', import.meta.url);

/** Starts it on a free port of the loopback. */
export async function startRelay() {
  const relay = new Relay();
  relay.http = createServer((request, response) => relay.serve(request, response));
  relay.http.on('upgrade', (request, socket) => relay.upgrade(request, socket));
  await new Promise((done) => relay.http.listen(0, '127.0.0.1', done));
  relay.base = `http://127.0.0.1:${relay.http.address().port}`;
  return relay;
}

class Relay {
  phones = new Map();
  sockets = new Set();
  calls = new Map();
  heard = [];
  isUp = true;

  async serve({ url }, response) {
    const path = new URL(url, 'http://x').pathname;
    const name = path === '/phone' ? 'phone.html' : path.slice(1);
    try {
      if (!/^[a-z]+\.[a-z]+$/.test(name)) throw new Error('no such page');
      const body = await readFile(new URL(name, web));
      const type = FORMS[name.split('.')[1]];
      response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }

  upgrade(request, socket) {
    if (!this.isUp) return socket.destroy();
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
    const protocol = request.headers['sec-websocket-protocol'];
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
      + `Sec-WebSocket-Accept: ${accept}\r\n${protocol ? `Sec-WebSocket-Protocol: ${protocol}\r\n` : ''}\r\n`);
    this.sockets.add(socket);
    let pending = Buffer.alloc(0);
    socket.on('data', (data) => {
      pending = Buffer.concat([pending, data]);
      for (let frame = parse(pending); frame; frame = parse(pending)) {
        pending = pending.subarray(frame.length);
        if (frame.code === 8) socket.end();
        else if (frame.code === 1) this.take(socket, JSON.parse(frame.text));
      }
    });
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  }

  /** Ends every connection without a word, and refuses others until `isUp`. */
  kill() {
    this.isUp = false;
    for (const socket of this.sockets) socket.destroy();
  }

  close() {
    this.kill();
    this.http.closeAllConnections();
    this.http.close();
  }

  say(dn, type, payload, id = `srv-${randomUUID()}`) {
    const socket = this.phones.get(dn);
    if (socket && !socket.destroyed) socket.write(frame(JSON.stringify({ type, payload, id })));
  }

  take(socket, { type, payload, id }) {
    this.heard.push({ type, payload, at: Date.now() });
    if (type === 'register') return this.register(socket, payload, id);
    if (type === 'resumeSession') return this.resume(socket, payload, id);
    const { dn } = socket;
    if (type === 'ping') return this.say(dn, 'pong', payload, id);
    if (type === 'info') return this.say(dn, 'info', { node: 'relay-1' }, id);
    if (type === 'unregister') return this.say(dn, 'unregistered', { dn, reason: '' }, id);
    if (type === 'call') return this.call(dn, payload, id);
    const call = this.calls.get(payload.callId);
    if (call) this.relay(call, dn, type, payload, id);
  }

  register(socket, { dn, password }, id) {
    socket.dn = dn;
    this.phones.set(dn, socket);
    if (password !== `weft-${dn}`) return this.say(dn, 'registerFailed', { code: 401, reason: 'wrong' }, id);
    this.greet(dn, id, { resumed: false });
  }

  resume(socket, { token, calls }, id) {
    socket.dn = token;
    this.phones.set(token, socket);
    const state = (callId) => (this.calls.get(callId)?.state ?? 'gone');
    this.greet(token, id, { resumed: true, calls: calls.map((callId) => ({ callId, state: state(callId) })) });
  }

  greet(dn, id, more) {
    const registered = { dn: `${dn}@127.0.0.1`, expires: 3600, server: '127.0.0.1', sessionToken: dn, iceServers: [] };
    this.say(dn, 'registered', { ...registered, ...more }, id);
  }

  call(dn, { to, callId, sdp }, id) {
    if (!this.phones.has(to)) {
      return this.say(dn, 'callRejected', { callId, code: 404, cause: 'UNALLOCATED_NUMBER', reason: 'Not Found' }, id);
    }
    this.calls.set(callId, { callId, from: dn, to, state: 'ringing' });
    this.say(dn, 'trying', { callId }, id);
    const from = `${dn}@127.0.0.1`;
    this.say(to, 'incoming', { callId, from, displayName: '', to: `${to}@127.0.0.1`, sdp, headers: {} });
  }

  relay(call, dn, type, payload, id) {
    const { callId } = call;
    const other = dn === call.from ? call.to : call.from;
    const { sdp } = payload;
    if (type === 'ringing') this.say(call.from, 'ringing', { callId });
    if (type === 'answer') {
      call.state = 'talking';
      this.say(call.from, 'callAccepted', { callId, sdp });
    }
    if (type === 'reject') {
      this.say(call.from, 'callRejected', { callId, code: payload.code, cause: 'USER_BUSY', reason: 'Busy' });
    }
    if (type === 'hangup') {
      const over = { callId, cause: 'NORMAL_CLEARING', code: 200 };
      this.say(dn, 'hangup', over, id);
      if (call.state === 'talking' || dn === call.to) this.say(other, 'hangup', over);
      else this.say(other, 'cancelled', { callId, reason: 'ORIGINATOR_CANCEL' });
      this.calls.delete(callId);
    }
    if (type === 'iceCandidate') this.say(other, type, payload);
    if (['hold', 'resume', 'reoffer'].includes(type)) {
      call.waiting = { dn, type, id };
      this.say(other, 'reoffer', { callId, sdp, why: type === 'reoffer' ? 'session-refresh' : type });
    }
    if (type === 'reanswer') {
      const { dn: asker, type: asked, id: request } = call.waiting;
      const reply = { hold: 'held', resume: 'resumed', reoffer: 'reanswer' }[asked];
      this.say(asker, reply, { callId, by: 'local', sdp }, request);
    }
    if (type === 'dtmf') {
      this.say(dn, 'dtmf', { callId, digits: payload.digits }, id);
      for (const digit of payload.digits) this.say(other, 'dtmf', { callId, digit });
    }
  }
}

/** Reads one masked frame of a client; null until all of it is there. */
function parse(buffer) {
  if (buffer.length < 6) return null;
  let size = buffer[1] & 127;
  let at = 2;
  if (size === 126) {
    size = buffer.readUInt16BE(2);
    at = 4;
  } else if (size === 127) {
    if (buffer.length < 10) return null;
    size = Number(buffer.readBigUInt64BE(2));
    at = 10;
  }
  const length = at + 4 + size;
  if (buffer.length < length) return null;
  const mask = buffer.subarray(at, at + 4);
  const text = Buffer.from(buffer.subarray(at + 4, length).map((octet, index) => octet ^ mask[index & 3]));
  return { code: buffer[0] & 15, text: text.toString(), length };
}

function frame(text) {
  const body = Buffer.from(text);
  const head = body.length < 126 ? Buffer.from([0x81, body.length]) : Buffer.from([0x81, 126, 0, 0]);
  if (body.length >= 126) head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}
