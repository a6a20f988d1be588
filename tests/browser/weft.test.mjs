/** weft.js against fakes of WebSocket and RTCPeerConnection, on a clock of the test's own. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { Clock, FakePeerConnection, FakeServer, FakeStorage } from './fakes.mjs';

const file = readFileSync(new URL('../../nodes/web/weft.js', import.meta.url));
// Older versions of Node take a file of that name for CommonJS.
const { Weft } = await import(`data:text/javascript;base64,${file.toString('base64')}`);

let clock;
let server;
let storage;
let made;

beforeEach(() => {
  clock = new Clock();
  clock.install();
  server = new FakeServer();
  storage = new FakeStorage();
  FakePeerConnection.all = [];
  made = [];
});

afterEach(async () => {
  for (const weft of made) weft.unregister();
  await settle();
  clock.restore();
});

/** Lets promises run; no time passes. */
async function settle() {
  for (let turn = 0; turn < 60; turn += 1) await Promise.resolve();
}

async function pass(ms) {
  clock.tick(ms);
  await settle();
}

function client(options = {}) {
  const weft = new Weft({
    url: 'ws://test/ws', WebSocket: server.WebSocket, RTCPeerConnection: FakePeerConnection, storage,
    ...options,
  });
  made.push(weft);
  return weft;
}

async function signedIn() {
  const weft = client();
  await weft.register({ dn: '1000', password: 'weft-1000', instance: 'here' });
  return weft;
}

async function talking(weft, track = { enabled: true }) {
  const call = weft.call('1001', { track });
  await settle();
  server.say('callAccepted', { callId: call.id, sdp: 'answer' });
  await settle();
  FakePeerConnection.last.become('connected');
  return call;
}

/** Ends the page without a word and starts another one with the same storage. */
async function reloaded(weft) {
  server.sockets.forEach((socket) => socket.end(1001));
  weft.reconnect = () => {};
  clock.clear();
  return client();
}

test('the file is small enough', () => {
  const { length } = gzipSync(file, { level: 9 });
  assert.ok(length <= 12_000, `${length} octets`);
});

test('register says who we are and resolves with what the server said', async () => {
  const weft = client();
  const states = [];
  weft.addEventListener('registration', ({ detail }) => states.push(detail.state));
  const answer = await weft.register({ dn: '1000', password: 'secret', displayName: 'A', instance: 'i' });
  assert.equal(server.socket.protocol, 'weft.json.v1');
  const { payload } = server.of('register')[0];
  assert.deepEqual(payload, { dn: '1000', password: 'secret', displayName: 'A', instance: 'i' });
  assert.equal(answer.dn, '1000@127.0.0.1');
  assert.deepEqual(states, ['registered']);
  assert.ok(!storage.getItem('weft.session').includes('secret'), 'the password is not stored');
});

test('a wrong password is refused once and not tried again', async () => {
  server.auto = false;
  const weft = client();
  const done = weft.register({ dn: '1000', password: 'no' });
  await settle();
  server.say('registerFailed', { code: 401, reason: 'wrong' }, { id: server.of('register')[0].id });
  await assert.rejects(done, { code: 401, message: 'wrong' });
  await pass(60_000);
  assert.equal(server.sockets.length, 1);
  assert.equal(weft.registration.state, 'failed');
});

test('a busy server is asked again', async () => {
  server.auto = false;
  const weft = client();
  const done = weft.register({ dn: '1000', password: 'x' });
  await settle();
  server.say('registerFailed', { code: 503, reason: 'busy' }, { id: server.of('register')[0].id });
  server.auto = true;
  await settle();
  await pass(200);
  await done;
  assert.equal(server.sockets.length, 2);
});

test('the offer leaves before candidates and without a microphone', async () => {
  const weft = await signedIn();
  let give;
  const call = weft.call('1001', { track: new Promise((ok) => (give = ok)) });
  await settle();
  const [sent] = server.of('call');
  assert.deepEqual(sent.payload, { to: '1001', callId: call.id, sdp: 'offer 1.1 sendrecv' });
  assert.match(call.id, /^[A-Za-z0-9._-]{1,64}$/);
  const pc = FakePeerConnection.last;
  pc.onicecandidate({ candidate: { candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: 0 } });
  pc.onicecandidate({ candidate: null });
  await settle();
  assert.equal(server.of('iceCandidate')[0].payload.candidate, 'candidate:1');
  assert.equal(server.of('iceComplete').length, 1);
  const track = { enabled: true };
  give(track);
  await settle();
  assert.equal(pc.transceivers[0].sender.track, track);
});

test('a call rings with early media, is answered and hung up', async () => {
  const weft = await signedIn();
  const call = weft.call('1001', {});
  const states = [];
  call.addEventListener('state', ({ detail }) => states.push(detail));
  await settle();
  const pc = FakePeerConnection.last;
  server.say('trying', { callId: call.id });
  server.say('iceCandidate', { callId: call.id, candidate: 'candidate:9', sdpMid: '0' });
  server.say('ringing', { callId: call.id, sdp: 'early' });
  await settle();
  assert.deepEqual(pc.remoteDescription, { type: 'pranswer', sdp: 'early' });
  assert.equal(pc.added.length, 1, 'a candidate waits for the description');
  server.say('callAccepted', { callId: call.id });
  await settle();
  assert.deepEqual(pc.remoteDescription, { type: 'answer', sdp: 'early' });
  call.hangup();
  await settle();
  assert.deepEqual(server.of('hangup')[0].payload, { callId: call.id, reason: 'user_hangup' });
  assert.ok(pc.isClosed);
  assert.deepEqual(states, ['ringing', 'active', 'ended']);
  assert.equal(weft.calls.length, 0);
});

test('a refused call says why', async () => {
  const weft = await signedIn();
  const call = weft.call('1001', {});
  await settle();
  server.say('callRejected', { callId: call.id, code: 486, cause: 'USER_BUSY', reason: 'Busy Here' });
  assert.equal(call.state, 'ended');
  assert.equal(call.end.code, 486);
  const other = weft.call('nobody', {});
  await settle();
  const { id } = server.of('call')[1];
  server.say('error', { code: 404, message: 'no such number', ref: id }, { id });
  assert.deepEqual([other.state, other.end.code], ['ended', 404]);
});

test('an incoming call is acknowledged, rings, is answered', async () => {
  const weft = await signedIn();
  let call;
  weft.addEventListener('incoming', ({ detail }) => (call = detail));
  const incoming = { callId: 'in-1', from: '1001@x', displayName: 'B', to: '1000@x', sdp: 'their offer' };
  const id = server.start('incoming', { ...incoming, headers: { 'X-A': '1' } });
  await settle();
  assert.equal(server.of('ack')[0].id, id);
  assert.equal(server.of('ringing')[0].payload.callId, 'in-1');
  assert.deepEqual([call.peer, call.name, call.headers['X-A']], ['1001@x', 'B', '1']);
  const track = { enabled: true };
  await call.answer({ track });
  await settle();
  const pc = FakePeerConnection.last;
  assert.equal(server.of('answer')[0].payload.sdp, 'answer 1.1 sendrecv');
  assert.equal(pc.transceivers[0].sender.track, track);
  server.start('hangup', { callId: 'in-1', cause: 'NORMAL_CLEARING', code: 200 });
  assert.equal(call.end.by, 'remote');
});

test('reject refuses and cancelled ends', async () => {
  const weft = await signedIn();
  const calls = [];
  weft.addEventListener('incoming', ({ detail }) => calls.push(detail));
  server.start('incoming', { callId: 'a', from: 'x', to: 'y', sdp: 's' });
  server.start('incoming', { callId: 'b', from: 'x', to: 'y', sdp: 's' });
  calls[0].reject(603, 'not now');
  server.start('cancelled', { callId: 'b', reason: 'answered elsewhere' });
  await settle();
  assert.deepEqual(server.of('reject')[0].payload, { callId: 'a', code: 603, reason: 'not now' });
  assert.equal(calls[1].end.cause, 'answered elsewhere');
  assert.equal(FakePeerConnection.all.length, 0);
});

test('a message that comes twice is acknowledged twice and counts once', async () => {
  const weft = await signedIn();
  let count = 0;
  weft.addEventListener('incoming', () => (count += 1));
  const incoming = { callId: 'in-1', from: 'x', to: 'y', sdp: 's' };
  server.start('incoming', incoming, 5);
  server.start('incoming', incoming, 5);
  server.start('incoming', incoming, 6);
  await settle();
  assert.equal(count, 1);
  assert.equal(server.of('ack').length, 3);
});

test('hold and resume offer, silence the microphone, and take the answer', async () => {
  const weft = await signedIn();
  const track = { enabled: true };
  const call = await talking(weft, track);
  const held = call.hold();
  await settle();
  const [hold] = server.of('hold');
  assert.match(hold.payload.sdp, /sendonly$/);
  assert.equal(track.enabled, false);
  server.say('held', { callId: call.id, by: 'local', sdp: 'held answer' }, { id: hold.id });
  await held;
  assert.equal(FakePeerConnection.last.remoteDescription.sdp, 'held answer');
  const resumed = call.resume();
  await settle();
  const [resume] = server.of('resume');
  assert.match(resume.payload.sdp, /sendrecv$/);
  server.say('resumed', { callId: call.id, by: 'local', sdp: 'x' }, { id: resume.id });
  await resumed;
  assert.deepEqual([call.held.local, track.enabled], [false, true]);
});

test('a refused hold is taken back', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const held = call.hold();
  await settle();
  const { id } = server.of('hold')[0];
  server.say('error', { code: 488, message: 'no', ref: id }, { id });
  await assert.rejects(held, { code: 488 });
  assert.equal(call.held.local, false);
  assert.equal(FakePeerConnection.last.signalingState, 'stable');
});

test('glare: 491 is tried again after about 2 s', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const held = call.hold();
  await settle();
  server.say('error', { code: 491, message: 'glare', ref: server.of('hold')[0].id });
  await settle();
  assert.equal(FakePeerConnection.last.signalingState, 'stable', 'rolled back');
  await pass(1_400);
  assert.equal(server.of('hold').length, 1);
  await pass(1_200);
  assert.equal(server.of('hold').length, 2);
  server.say('held', { callId: call.id, by: 'local', sdp: 'x' }, { id: server.of('hold')[1].id });
  await held;
});

test("glare: the server's offer is answered while ours is open", async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const held = call.hold();
  await settle();
  server.start('reoffer', { callId: call.id, sdp: 'theirs', why: 'session-refresh' });
  await settle();
  const [reanswer] = server.of('reanswer');
  assert.match(reanswer.payload.sdp, /^answer /);
  server.say('error', { code: 491, message: 'glare', ref: server.of('hold')[0].id });
  await settle();
  await pass(2_600);
  server.say('held', { callId: call.id, by: 'local', sdp: 'ok' }, { id: server.of('hold')[1].id });
  await held;
  assert.equal(FakePeerConnection.last.remoteDescription.sdp, 'ok');
});

test('the same offer again has the same answer', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const offer = { callId: call.id, sdp: 'theirs', why: 'hold' };
  server.start('reoffer', offer);
  await settle();
  server.start('reoffer', offer);
  await settle();
  const [first, second] = server.of('reanswer');
  assert.equal(first.payload.sdp, second.payload.sdp);
  assert.equal(call.held.remote, true);
  server.say('resumed', { callId: call.id, by: 'remote' });
  assert.equal(call.held.remote, false);
});

test('an offer for a call that is over here is answered with its end', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const { id } = call;
  server.start('hangup', { callId: id, cause: 'NORMAL_CLEARING', code: 480 });
  await settle();
  server.start('reoffer', { callId: id, sdp: 'theirs', why: 'migrate' });
  await settle();
  assert.deepEqual(server.of('hangup').map(({ payload }) => payload.callId), [id]);
  assert.equal(server.of('reanswer').length, 0);
});

test('digits go out and come in; mute silences', async () => {
  const weft = await signedIn();
  const track = { enabled: true };
  const call = await talking(weft, track);
  const digits = [];
  call.addEventListener('dtmf', ({ detail }) => digits.push(detail));
  const sent = call.dtmf('12#', { method: 'info' });
  await settle();
  const [dtmf] = server.of('dtmf');
  assert.deepEqual(dtmf.payload, { callId: call.id, digits: '12#', method: 'info' });
  server.say('dtmf', { callId: call.id, digits: '12#' }, { id: dtmf.id });
  await sent;
  server.say('dtmf', { callId: call.id, digit: '7' });
  assert.deepEqual(digits, ['7']);
  call.mute();
  assert.equal(track.enabled, false);
  call.mute(false);
  assert.equal(track.enabled, true);
});

test('the far end is put through, or comes back', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const heard = [];
  call.addEventListener('transfer', ({ detail }) => heard.push(detail.code));
  const busy = call.transfer('1002');
  await settle();
  const [asked] = server.of('transfer');
  assert.deepEqual(asked.payload, { callId: call.id, to: '1002' });
  server.say('transferProgress', { callId: call.id, code: 100, text: 'Trying' }, { id: asked.id });
  await settle();
  server.say('transferProgress', { callId: call.id, code: 180, text: 'Ringing' });
  server.say('transferProgress', { callId: call.id, code: 486, text: 'Busy Here' });
  await assert.rejects(busy, { code: 486, message: 'Busy Here' });
  assert.equal(call.state, 'active');
  assert.deepEqual(heard, [100, 180, 486]);

  const refused = call.transfer('1@elsewhere.example');
  await settle();
  const again = server.of('transfer').at(-1);
  server.say('error', { code: 403, message: 'Forbidden', ref: again.id }, { id: again.id });
  await assert.rejects(refused, { code: 403 });

  const done = call.transfer('1002');
  await settle();
  const last = server.of('transfer').at(-1);
  server.say('transferProgress', { callId: call.id, code: 100, text: 'Trying' }, { id: last.id });
  await settle();
  server.say('transferProgress', { callId: call.id, code: 200, text: 'OK' });
  await done;
  server.say('hangup', { callId: call.id, cause: 'NORMAL_CLEARING', code: 200 });
  assert.equal(call.state, 'ended');
});

test('the far ends of two calls are joined', async () => {
  const weft = await signedIn();
  const [one, other] = [await talking(weft), await talking(weft)];
  const joined = one.transfer(other);
  await settle();
  const asked = server.of('transfer').at(-1);
  assert.deepEqual(asked.payload, { callId: one.id, with: other.id });
  server.say('transferProgress', { callId: one.id, code: 100, text: 'Trying' }, { id: asked.id });
  await settle();
  server.say('transferProgress', { callId: one.id, code: 200, text: 'OK' });
  await joined;
});

test('the socket comes back by itself: 100 ms first, 5 s at most', async () => {
  const weft = await signedIn();
  const waits = [];
  weft.addEventListener('socket', ({ detail }) => {
    if (detail.state === 'waiting') waits.push(detail.retryAt - Date.now());
  });
  server.kill();
  for (let turn = 0; turn < 12; turn += 1) await pass(5_000);
  assert.ok(waits[0] >= 50 && waits[0] <= 100, `${waits[0]}`);
  assert.ok(waits.every((wait) => wait <= 5_000));
  assert.ok(waits.at(-1) >= 2_500, `${waits}`);
  server.isUp = true;
  await pass(5_000);
  assert.equal(weft.isReady, true);
  assert.equal(server.of('resumeSession').length, 1);
});

test('after kill -9 the call goes on: peer connection kept, hold and hangup work', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  server.start('dtmf', { callId: call.id, digit: '1' }, 9);
  server.states = [{ callId: call.id, state: 'talking' }];
  server.kill();
  const held = call.hold();
  await settle();
  assert.equal(server.of('hold').length, 0, 'it waits');
  server.isUp = true;
  await pass(200);
  const { payload } = server.of('resumeSession')[0];
  assert.deepEqual(payload, { token: 'token-1000', lastSeq: 9, calls: [call.id] });
  assert.equal(server.of('hold').length, 1);
  server.say('held', { callId: call.id, by: 'local', sdp: 'x' }, { id: server.of('hold')[0].id });
  await held;
  assert.equal(FakePeerConnection.all.length, 1);
  assert.ok(!FakePeerConnection.last.isClosed);
  const digits = call.dtmf('5');
  await settle();
  server.say('dtmf', { callId: call.id, digits: '5' }, { id: server.of('dtmf')[0].id });
  await digits;
  server.kill();
  call.hangup();
  server.isUp = true;
  await pass(200);
  assert.equal(server.of('hangup').length, 1, 'said over the new socket');
});

test('a numbered message of the new connection is not taken for one of the old', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  server.start('reoffer', { callId: call.id, sdp: 'one', why: 'hold' }, 1);
  await settle();
  server.states = [{ callId: call.id, state: 'held' }];
  server.kill();
  server.isUp = true;
  await pass(200);
  server.start('hangup', { callId: call.id, cause: 'NORMAL_CLEARING', code: 200 }, 1);
  assert.equal(call.state, 'ended');
});

test('digits that may have been heard are not said twice', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  server.states = [{ callId: call.id, state: 'talking' }];
  const sent = call.dtmf('1');
  await settle();
  server.kill();
  await assert.rejects(sent, { code: 0 });
  server.isUp = true;
  await pass(200);
  assert.equal(server.of('dtmf').length, 1);
});

test('a call that was not heard of is made again, with the same words', async () => {
  const weft = await signedIn();
  server.auto = false;
  const call = weft.call('1001', {});
  await settle();
  server.kill();
  server.auto = server.isUp = true;
  server.states = [{ callId: call.id, state: 'gone' }];
  await pass(200);
  const [first, second] = server.of('call');
  assert.deepEqual(first.payload, second.payload);
});

test('an answer that did not arrive is given again', async () => {
  const weft = await signedIn();
  let call;
  weft.addEventListener('incoming', ({ detail }) => (call = detail));
  server.start('incoming', { callId: 'in-1', from: 'x', to: 'y', sdp: 's' });
  server.socket.isDead = true;
  await call.answer({});
  server.states = [{ callId: 'in-1', state: 'ringing' }];
  server.kill();
  server.isUp = true;
  await pass(200);
  assert.equal(server.of('answer').length, 1);
});

test('a call that the server does not know any more ends', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  server.states = [{ callId: call.id, state: 'gone' }];
  server.kill();
  server.isUp = true;
  await pass(200);
  assert.deepEqual([call.state, call.end.code], ['ended', 410]);
});

test('a session that is over is replaced with the password, calls are kept', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  server.kill();
  server.auto = false;
  server.isUp = true;
  await pass(200);
  server.auto = true;
  const { id } = server.of('resumeSession')[0];
  server.say('registerFailed', { code: 410, reason: 'over' }, { id });
  await settle();
  assert.equal(server.of('register').length, 2);
  assert.equal(weft.isReady, true);
  assert.equal(call.state, 'active');
});

test('a reload takes the call up with a new peer connection', async () => {
  const before = await signedIn();
  const call = await talking(before);
  const { since } = call;
  const weft = await reloaded(before);
  server.states = [{ callId: call.id, state: 'talking' }];
  server.messages = [];
  const restored = [];
  weft.addEventListener('restored', ({ detail }) => restored.push(detail));
  const done = weft.register();
  assert.deepEqual([restored[0].id, restored[0].since], [call.id, since]);
  const track = { enabled: true };
  restored[0].setTrack(track);
  await done;
  await settle();
  assert.deepEqual(server.of('resumeSession')[0].payload.calls, [call.id]);
  assert.equal(server.of('register').length, 0);
  const [reoffer] = server.of('reoffer');
  assert.equal(reoffer.payload.iceRestart, true);
  const pc = FakePeerConnection.last;
  assert.equal(pc.transceivers[0].sender.track, track);
  server.say('reanswer', { callId: call.id, sdp: 'new answer' }, { id: reoffer.id });
  await settle();
  assert.equal(pc.remoteDescription.sdp, 'new answer');
  restored[0].hangup();
  await settle();
  assert.equal(server.of('hangup')[0].payload.callId, call.id);
});

test('a reload keeps a call that rings here, and one that rings there', async () => {
  const before = await signedIn();
  server.start('incoming', { callId: 'in-1', from: '1002@x', to: 'y', sdp: 'their offer' });
  const out = before.call('1001', {});
  await settle();
  server.say('ringing', { callId: out.id });
  const weft = await reloaded(before);
  server.states = [{ callId: 'in-1', state: 'ringing' }, { callId: out.id, state: 'ringing' }];
  await weft.register({ dn: '1000', password: 'weft-1000' });
  await settle();
  const [incoming, outgoing] = weft.calls;
  assert.deepEqual([incoming.state, outgoing.state], ['incoming', 'ringing']);
  await incoming.answer({});
  await settle();
  assert.equal(server.of('answer').length, 1);
  server.say('callAccepted', { callId: out.id, sdp: 'for the old one' });
  await settle();
  assert.equal(server.of('reoffer').length, 1);
});

test('another number does not get the session of the first', async () => {
  const before = await signedIn();
  const weft = await reloaded(before);
  server.messages = [];
  await weft.register({ dn: '1001', password: 'weft-1001' });
  assert.deepEqual([server.of('resumeSession').length, server.of('register').length], [0, 1]);
});

test('no session and no password is refused without a socket', async () => {
  const weft = client();
  await assert.rejects(weft.register(), { code: 401 });
  assert.equal(server.sockets.length, 0);
});

test('it registers again before the binding ends, and when told', async () => {
  const weft = await signedIn();
  for (let turn = 0; turn < 135; turn += 1) await pass(20_000);
  assert.equal(server.of('register').length, 2);
  server.start('expiring', { dn: '1000@127.0.0.1', in: 60 });
  await settle();
  assert.equal(server.of('register').length, 3);
  assert.equal(server.sockets.length, 1);
  assert.equal(weft.isReady, true);
});

test('a silent server is left after ping and 5 s', async () => {
  const weft = await signedIn();
  await pass(20_000);
  assert.equal(server.of('ping').length, 1);
  await pass(6_000);
  assert.equal(server.sockets.length, 1, 'it answered');
  server.socket.isDead = true;
  await pass(20_000);
  await pass(5_000);
  await pass(100);
  assert.equal(server.sockets.length, 2);
  assert.equal(weft.isReady, true);
});

test('a socket that does not open is given up', async () => {
  server.WebSocket = class {
    constructor() {
      server.sockets.push(this);
      this.readyState = 0;
    }

    close() {}
  };
  const weft = client();
  weft.register({ dn: '1000', password: 'x' }).catch(() => {});
  await pass(5_000);
  assert.equal(weft.socket.state, 'waiting');
  await pass(100);
  assert.equal(server.sockets.length, 2);
});

test('a media path that failed is made anew; the third time with new keys', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const pc = FakePeerConnection.last;
  pc.become('failed');
  await pass(0);
  const answer = async (number) => {
    const request = server.of('reoffer')[number];
    assert.equal(request.payload.iceRestart, true);
    server.say('reanswer', { callId: call.id, sdp: `answer ${number}` }, { id: request.id });
    await settle();
  };
  assert.equal(pc.restarts, 1);
  await answer(0);
  await pass(5_000);
  await answer(1);
  await pass(5_000);
  await answer(2);
  assert.equal(FakePeerConnection.all.length, 2);
  assert.ok(pc.isClosed);
  FakePeerConnection.last.become('connected');
  await pass(20_000);
  assert.equal(server.of('reoffer').length, 3);
});

test('a short interruption is left alone, one of 3 s is not, and none while the socket is down', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  const pc = FakePeerConnection.last;
  pc.become('disconnected');
  await pass(2_900);
  pc.become('connected');
  await pass(10_000);
  assert.equal(pc.restarts, 0);
  server.states = [{ callId: call.id, state: 'talking' }];
  server.kill();
  pc.become('disconnected');
  await pass(3_100);
  assert.equal(pc.restarts, 0);
  server.isUp = true;
  await pass(5_000);
  await pass(1_000);
  assert.equal(pc.restarts, 1);
});

test('another window takes over: this one ends its calls without a word and stays quiet', async () => {
  const weft = await signedIn();
  const call = await talking(weft);
  let told;
  weft.addEventListener('replaced', ({ detail }) => (told = detail));
  server.start('replaced', { dn: '1000@127.0.0.1' });
  await pass(30_000);
  assert.equal(told.dn, '1000@127.0.0.1');
  assert.equal(call.state, 'ended');
  assert.equal(server.of('hangup').length, 0);
  assert.equal(server.sockets.length, 1);
});

test('unregister hangs up, says so, forgets', async () => {
  const weft = await signedIn();
  await talking(weft);
  const done = weft.unregister();
  await settle();
  const [message] = server.of('unregister');
  server.say('unregistered', { dn: message.payload.dn, reason: '' }, { id: message.id });
  await done;
  assert.equal(server.of('hangup').length, 1);
  assert.equal(storage.getItem('weft.session'), null);
  assert.equal(weft.registration.state, 'none');
});

test('an answer that cannot be read ends the call at both ends', async () => {
  const weft = await signedIn();
  const call = weft.call('1001', {});
  await settle();
  server.say('callAccepted', { callId: call.id, sdp: 'broken' });
  await settle();
  assert.deepEqual([call.state, call.end.code], ['ended', 488]);
  assert.equal(server.of('hangup').length, 1);
});

test('what is not understood is ignored', async () => {
  const weft = await signedIn();
  server.socket.onmessage({ data: 'not json' });
  server.say('somethingNew', { callId: 'unknown', x: 1 });
  server.say('error', { code: 400, message: 'what?', ref: 'unknown' });
  server.say('info', { a: 1 });
  assert.equal(weft.isReady, true);
});
