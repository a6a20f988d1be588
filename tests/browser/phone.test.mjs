/** /phone in Chromium, two pages that talk through relay.mjs, steered by driver.mjs as the suites do it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { startRelay } from './relay.mjs';

const SHOTS = process.env.WEFT_SHOTS;
let relay;
let driver;
let asked = 0;
const waiting = new Map();

before(async () => {
  relay = await startRelay();
  const path = fileURLToPath(new URL('driver.mjs', import.meta.url));
  driver = spawn(process.execPath, [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  createInterface({ input: driver.stdout }).on('line', (line) => {
    const { id, ok, value, error } = JSON.parse(line);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (ok) resolve(value);
    else reject(new Error(error));
  });
  await ask('launch');
});

after(async () => {
  const ended = new Promise((done) => driver.on('exit', done));
  driver.stdin.end();
  await ended;
  relay.close();
});

function ask(what, given = {}) {
  asked += 1;
  const id = asked;
  driver.stdin.write(`${JSON.stringify({ ...given, id, do: what })}\n`);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

/** Pictures for people to look at, if somebody wants them. */
async function shoot(page, name) {
  if (!SHOTS) return;
  for (const [size, width, height] of [['wide', 1280, 800], ['narrow', 360, 740]]) {
    for (const theme of ['light', 'dark']) {
      await ask('screenshot', { page, path: `${SHOTS}/${name}-${size}-${theme}.png`, width, height, theme });
    }
  }
}

const phone = (page, user, query = '') => ask('phone', {
  page, base: relay.base, user, password: `weft-${user}`, hertz: user === '1000' ? 1000 : 600, query,
});

async function clean(page) {
  const lines = await ask('console', { page });
  const bad = lines.filter((line) => /^uncaught|Content Security|violates/.test(line));
  assert.deepEqual(bad, []);
}

async function talk() {
  await Promise.all([phone('a', '1000'), phone('b', '1001')]);
  await ask('call', { page: 'a', to: '1001' });
  await ask('wait', { page: 'b', state: 'incoming' });
  await ask('answer', { page: 'b' });
  for (const page of ['a', 'b']) {
    await ask('until', { page, code: 'weftPhone.weft.calls[0]?.pc?.connectionState === "connected"' });
  }
}

test('sign in by hand: a wrong password is told, the right one signs in', async () => {
  await ask('phone', { page: 'a', base: relay.base });
  await shoot('a', 'sign-in');
  await ask('fill', { page: 'a', selector: '#dn', text: '1000' });
  await ask('fill', { page: 'a', selector: '#password', text: 'no' });
  await ask('click', { page: 'a', selector: '#sign-in [type=submit]' });
  await ask('until', { page: 'a', code: '!document.querySelector("#sign-in-error").hidden' });
  assert.equal(await ask('text', { page: 'a', selector: '#sign-in-error' }), 'Wrong number or password.');
  await ask('fill', { page: 'a', selector: '#password', text: 'weft-1000' });
  await ask('press', { page: 'a', key: 'Enter' });
  await ask('until', { page: 'a', code: 'weftPhone.weft.isReady' });
  await ask('until', { page: 'a', code: 'document.querySelector("#link").textContent === "Online"' });
  await shoot('a', 'idle');
  await clean('a');
});

test('a call by keys: dial, answer, mute, hold, digits, hang up', async () => {
  await Promise.all([phone('a', '1000'), phone('b', '1001')]);
  for (const key of ['1', '0', '0', '1', 'Enter']) await ask('press', { page: 'a', key });
  await ask('wait', { page: 'b', state: 'incoming' });
  await ask('until', { page: 'a', code: 'document.querySelector(".call .state").textContent === "Ringing"' });
  await shoot('a', 'calling');
  await shoot('b', 'incoming');
  await ask('press', { page: 'b', key: 'Enter' });
  await ask('wait', { page: 'b', state: 'active' });
  await ask('until', { page: 'a', code: 'document.querySelector(".call .state").textContent === "Talking"' });
  const sound = await ask('heard', { page: 'b' });
  assert.ok(Math.abs(sound.hertz - 1000) < 5 && sound.rms > 0.05, JSON.stringify(sound));
  const back = await ask('heard', { page: 'a' });
  assert.ok(Math.abs(back.hertz - 600) < 5, JSON.stringify(back));
  await ask('until', { page: 'a', code: 'document.querySelector(".leg-there.flows") !== null' });
  await ask('until', { page: 'a', code: 'Number(document.querySelector(".meter.in").getAttribute("aria-valuenow")) > 40' });
  await ask('until', { page: 'a', code: '/udp/.test(document.querySelector(".f-pair").textContent)' });
  await shoot('a', 'talking');
  await ask('press', { page: 'a', key: '5' });
  await ask('until', { page: 'b', code: 'peer.details().digits.join() === "5"' });
  await ask('press', { page: 'a', key: 'm' });
  await new Promise((done) => setTimeout(done, 500));
  const muted = await ask('heard', { page: 'b' });
  assert.ok(muted.rms < 0.01, JSON.stringify(muted));
  await ask('press', { page: 'a', key: 'm' });
  await ask('press', { page: 'a', key: 'h' });
  await ask('until', { page: 'b', code: 'peer.details().hold.remote' });
  await shoot('a', 'held');
  await ask('press', { page: 'a', key: 'h' });
  await ask('until', { page: 'b', code: '!peer.details().hold.remote' });
  await ask('press', { page: 'a', key: 'Escape' });
  await ask('wait', { page: 'b', state: 'ended' });
  await ask('until', { page: 'a', code: 'document.querySelectorAll("#recent li").length === 1' });
  await shoot('a', 'ended');
  await clean('a');
  await clean('b');
});

test('the offer does not wait for a STUN server that is not there', async () => {
  await Promise.all([phone('a', '1000', '?stun=stun:192.0.2.1:3478'), phone('b', '1001')]);
  await ask('fill', { page: 'a', selector: '#to', text: '1001' });
  await ask('click', { page: 'a', selector: '#place' });
  await ask('wait', { page: 'b', state: 'incoming' });
  const { clickToSendMs, handledToSendMs } = await ask('timing', { page: 'a' });
  assert.ok(clickToSendMs !== null && clickToSendMs < 1000, `${clickToSendMs} ms`);
  console.log(`the offer left ${clickToSendMs.toFixed(1)} ms after the click, `
    + `${handledToSendMs.toFixed(1)} ms after the page got it`);
  await ask('press', { page: 'a', key: 'Escape' });
  await ask('wait', { page: 'b', state: 'ended' });
});

test('the socket dies: sound goes on, the page says so, hold and hang up work afterwards', async () => {
  await talk();
  await ask('pauseStart', { page: 'a' });
  relay.kill();
  await ask('until', { page: 'a', code: '!document.querySelector("#banner").hidden' });
  await new Promise((done) => setTimeout(done, 1500));
  await shoot('a', 'offline');
  relay.isUp = true;
  await ask('until', { page: 'a', code: 'weftPhone.weft.isReady' });
  await ask('until', { page: 'b', code: 'weftPhone.weft.isReady' });
  const pause = await ask('pauseStop', { page: 'a' });
  // Shorter than the socket was gone: a busy machine makes pauses of its own.
  assert.ok(pause.framesMs < 1500, JSON.stringify(pause));
  await ask('hold', { page: 'a' });
  await ask('until', { page: 'b', code: 'peer.details().hold.remote' });
  await ask('resume', { page: 'a' });
  await ask('dtmf', { page: 'a', digits: '42' });
  await ask('until', { page: 'b', code: 'peer.details().digits.join("") === "42"' });
  await ask('hangup', { page: 'a' });
  await ask('wait', { page: 'b', state: 'ended' });
});

test('an ICE restart keeps the sound', async () => {
  await talk();
  await ask('iceRestart', { page: 'a' });
  const sound = await ask('heard', { page: 'b' });
  assert.ok(Math.abs(sound.hertz - 1000) < 5, JSON.stringify(sound));
  await ask('hangup', { page: 'b' });
  await ask('wait', { page: 'a', state: 'ended' });
});

test('a reload registers again without the password, time goes on', async () => {
  await talk();
  const { since, id } = await ask('details', { page: 'a' });
  relay.heard = [];
  await ask('reload', { page: 'a' });
  await ask('until', { page: 'a', code: 'weftPhone.weft.isReady' });
  const after = await ask('details', { page: 'a' });
  assert.deepEqual([after.since, after.id], [since, id]);
  assert.ok(!relay.heard.some(({ type }) => type === 'register'), 'no password was needed');
  const reoffer = relay.heard.find(({ type }) => type === 'reoffer');
  assert.equal(reoffer.payload.iceRestart, true);
  await ask('hangup', { page: 'a' });
  await ask('wait', { page: 'b', state: 'ended' });
});

test('a second call waits, is answered, and the first is held', async () => {
  await talk();
  await phone('c', '1002');
  await ask('call', { page: 'c', to: '1000' });
  await ask('until', { page: 'a', code: 'weftPhone.weft.calls.length === 2' });
  await shoot('a', 'two-calls');
  await ask('answer', { page: 'a' });
  await ask('until', { page: 'b', code: 'peer.details().hold.remote' });
  const states = await ask('evaluate', { page: 'a', code: 'weftPhone.weft.calls.map((c) => [c.peer.split("@")[0], c.held.local])' });
  assert.deepEqual(states, [['1001', true], ['1002', false]]);
  await ask('hangup', { page: 'b' });
  await ask('hangup', { page: 'c' });
  await ask('until', { page: 'a', code: 'weftPhone.weft.calls.length === 0' });
  await clean('a');
});

test('a microphone that is refused leaves listening, and the page says so', async () => {
  await Promise.all([
    ask('phone', { page: 'a', base: relay.base, user: '1000', password: 'weft-1000' }), phone('b', '1001'),
  ]);
  await ask('evaluate', {
    page: 'a',
    code: 'void (weftPhone.microphone.make = async () => { throw new DOMException("no", "NotAllowedError"); })',
  });
  await ask('call', { page: 'a', to: '1001' });
  await ask('wait', { page: 'b', state: 'incoming' });
  await ask('answer', { page: 'b' });
  await ask('wait', { page: 'a', state: 'active' });
  const sound = await ask('heard', { page: 'a' });
  assert.ok(Math.abs(sound.hertz - 600) < 5, JSON.stringify(sound));
  const text = await ask('text', { page: 'a', selector: '#notice span' });
  assert.match(text, /not allowed.*do not hear you/);
  await ask('hangup', { page: 'a' });
});

test('a number that is not there is told in words', async () => {
  await phone('a', '1000');
  await ask('call', { page: 'a', to: '7777' });
  await ask('until', { page: 'a', code: 'document.querySelector(".call .state").textContent === "There is no such number"' });
});

test('a command that cannot be done is an error, not silence', async () => {
  await assert.rejects(ask('hangup', { page: 'nobody' }), /no page nobody/);
  await assert.rejects(ask('fly', {}), /no command fly/);
  await assert.rejects(ask('until', { page: 'a', code: 'false', timeoutMs: 300 }), /not true within/);
});
