/**
 * The softphone page. What is said to the server is in weft.js, a call's card in card.js, sound in
 * sound.js; here is who is signed in, the keypad, the keys, and which call is meant.
 *
 * `?dn=&password=&ws=&stun=` fill in the form, the socket's address and a STUN server. Tests use
 * `window.weftPhone`.
 */
import { Card, duration, shortName, whyEnded } from './card.js';
import { Microphone, audio, isAwake, keyTone, ring, tone } from './sound.js';
import { Weft } from './weft.js';

const KEYS = [
  ['1', ''], ['2', 'ABC'], ['3', 'DEF'], ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'],
  ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'], ['*', ''], ['0', '+'], ['#', ''],
];
const RECENT_MAX = 50;
const ENDED_SHOWN_MS = 4_000;
const LEVEL_MS = 50;
const MEASURE_MS = 1_000;

const query = new URLSearchParams(location.search);
const $ = (id) => document.getElementById(id);
const cards = new Map();
const microphone = new Microphone((text) => notice(text));
let node = '';
let wantsTouch = false;

const url = socketUrl();
const weft = new Weft({
  url,
  iceServers: query.get('stun') ? [{ urls: [query.get('stun')] }] : [],
});

function socketUrl() {
  const own = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
  const wanted = query.get('ws');
  return wanted && /^wss?:\/\//.test(wanted) ? wanted : own;
}

// ---- who is signed in

const MEMORY = 'weft.account';

function stored(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? fallback;
  } catch {
    return fallback;
  }
}

function store(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
  } catch (error) {
    notice(`The browser keeps nothing for this page (${error.name}).`);
  }
}

/** A name for this browser, so that a new window takes the place of the old one. */
function instance(dn) {
  const all = stored('weft.instances', {});
  all[dn] ??= crypto.getRandomValues(new Uint32Array(4)).reduce((text, n) => text + n.toString(36), 'phone-');
  store('weft.instances', all);
  return all[dn];
}

async function signIn({ dn, password, isRemembered = false } = {}) {
  $('sign-in-error').hidden = true;
  $('sign-in').querySelector('[type=submit]').disabled = true;
  const own = dn ?? weft.storedDn;
  try {
    await weft.register({ dn, password, instance: own ? instance(own) : undefined });
    if (password) store(MEMORY, isRemembered ? { dn, password } : null);
  } catch (error) {
    const wrong = error.code === 401 ? 'Wrong number or password.' : `Not registered: ${error.message}.`;
    show($('sign-in-error'), wrong);
    if (error.code === 401) store(MEMORY, null);
    throw error;
  } finally {
    $('sign-in').querySelector('[type=submit]').disabled = false;
  }
}

async function signOut() {
  store(MEMORY, null);
  await weft.unregister();
  $('password').value = '';
  $('dn').focus();
}

function showRegistration({ state, dn }) {
  const isIn = state === 'registered';
  if (isIn) {
    $('number').textContent = shortName(dn);
    weft.prepare();
    weft.info('server').then((server) => (node = server.node ?? ''), () => {});
    weft.settings().then(showSettings, () => {});
  }
  const wasHidden = $('phone').hidden;
  $('phone').hidden = !isIn;
  $('sign-in').hidden = isIn;
  $('account').hidden = !isIn;
  if (isIn && wasHidden && !cards.size && matchMedia('(pointer: fine)').matches) $('to').focus();
  showLink();
}

/** The socket as it is, with the seconds until the next try. */
function showLink() {
  const { state, retryAt, why } = weft.socket;
  const isIn = weft.registration.state === 'registered';
  const words = {
    connecting: 'Connecting', open: 'Registering', waiting: 'Offline', closed: 'Signed out',
  };
  const shown = state === 'open' && weft.isReady ? 'registered' : state;
  $('link').dataset.state = shown;
  $('link').textContent = shown === 'registered' ? 'Online' : words[state];
  const isOffline = isIn && (state === 'waiting' || state === 'connecting');
  $('banner').hidden = !isOffline;
  if (!isOffline) return;
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const next = state === 'waiting' ? `trying again in ${seconds} s` : 'trying now';
  const kept = weft.calls.some((call) => call.state === 'active') ? ' Calls keep their sound.' : '';
  const text = `No connection to the server${why ? `: ${why}` : ''}; ${next}.${kept}`;
  if ($('banner').firstElementChild.textContent !== text) $('banner').firstElementChild.textContent = text;
}

// ---- what the user has set for the calls to it

const NUMBERS = ['always', 'busy', 'noAnswer', 'unreachable'];

function showSettings(set) {
  $('s-dnd').checked = set.doNotDisturb;
  $('s-waiting').checked = set.callWaiting;
  for (const name of NUMBERS) $(`s-${name}`).value = set[name] ?? '';
  $('s-seconds').value = set.noAnswerSeconds ?? '';
  const some = NUMBERS.slice(1).some((name) => set[name]);
  const forwarded = set.always ? `forwarded to ${set.always}` : some ? 'partly forwarded' : '';
  $('settings-now').textContent = [set.doNotDisturb ? 'do not disturb' : '', set.callWaiting ? '' : 'one call', forwarded].filter(Boolean).join(', ');
}

async function saveSettings() {
  show($('settings-error'), '');
  const set = { doNotDisturb: $('s-dnd').checked, callWaiting: $('s-waiting').checked };
  set.noAnswerSeconds = $('s-seconds').valueAsNumber || null;
  for (const name of NUMBERS) set[name] = $(`s-${name}`).value.replace(/\s+/g, '') || null;
  try {
    showSettings(await weft.settings(set));
  } catch (error) {
    show($('settings-error'), `Not saved: ${error.message.replace(/^\w+: /, '')}.`);
  }
}

function show(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

function notice(text) {
  $('notice').firstElementChild.textContent = text;
  $('notice').hidden = !text;
}

// ---- calls

const active = () => weft.calls.filter((call) => call.state === 'active');
const talking = () => active().findLast((call) => !call.held.local) ?? active().at(-1);
const ringing = () => weft.calls.find((call) => call.state === 'incoming');
const dialling = () => weft.calls.findLast((call) => ['calling', 'ringing'].includes(call.state));

/** One talks to one: the others wait. */
function holdOthers(call) {
  for (const other of active()) {
    if (other !== call && !other.held.local) other.hold().catch(failed('Hold'));
  }
}

const failed = (what) => (error) => notice(`${what} did not work: ${error.message}.`);

function place(to) {
  const wanted = to.trim().replace(/\s+/g, '');
  if (!wanted) return null;
  // The offer first; whatever takes its time, the card too, comes after it has left.
  let giveTrack;
  const call = weft.call(wanted, { track: new Promise((done) => (giveTrack = done)) });
  call.offered.then(() => {
    audio();
    giveTrack(microphone.track());
    holdOthers(call);
    adopt(call);
    cards.get(call).element.focus();
  });
  $('to').value = '';
  return call;
}

function answer(call) {
  if (call?.state !== 'incoming') return;
  audio();
  call.answer({ track: microphone.track() });
  holdOthers(call);
  cards.get(call)?.element.focus();
}

function toggleHold(call) {
  if (call?.state !== 'active') return;
  if (call.held.local) holdOthers(call);
  (call.held.local ? call.resume() : call.hold()).catch(failed('Hold'));
}

/** Puts the far end of a call through to a number, or to another call's; it comes back if nobody is reached. */
async function transfer(call, target) {
  const card = cards.get(call);
  const to = target.peer ? shortName(target.peer) : target;
  const told = ({ detail: { code } }) => card?.transfers(`Transferring to ${to}${code === 180 ? ', ringing' : ''}`);
  card?.transfers(`Transferring to ${to}`);
  call.addEventListener('transfer', told);
  try {
    await call.transfer(target);
  } catch (error) {
    notice(`${shortName(call.peer)} was not put through to ${to}: ${error.message}.`);
  } finally {
    call.removeEventListener('transfer', told);
    card?.transfers();
  }
}

function sendKeys(call, digits) {
  cards.get(call)?.digit(digits);
  call.dtmf(digits).catch(failed('The key'));
}

/** Shows a call from now until it is over. */
function adopt(call) {
  const card = new Card(call, {
    server: () => node || weft.registration.server || 'node',
    isOnline: () => weft.isReady,
    answer: () => answer(call),
    keys: () => {
      $('pad').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
      $('pad').firstElementChild.focus();
    },
    hold: () => toggleHold(call),
    transfer: (to) => transfer(call, to),
    others: () => active().filter((other) => other !== call),
  });
  cards.set(call, card);
  $('calls').prepend(card.element);
  const began = Date.now();
  const refresh = () => {
    card.update();
    showCalls();
  };
  call.addEventListener('state', refresh);
  call.addEventListener('media', refresh);
  call.addEventListener('dtmf', ({ detail }) => card.digit(` ←${detail}`));
  call.addEventListener('track', async () => {
    if (!(await card.listen())) askTouch();
  });
  call.addEventListener('ended', () => finish(call, card, began));
  showCalls();
  if (call.state === 'ended') finish(call, card, began);
}

function finish(call, card, began) {
  card.close();
  call.transceiver?.sender.track?.stop();
  remember(call, began);
  setTimeout(() => {
    card.element.remove();
    cards.delete(call);
    showCalls();
  }, ENDED_SHOWN_MS);
  if (!weft.calls.length) microphone.close();
  if (weft.isReady) weft.prepare();
  if (document.activeElement === card.element) document.activeElement.blur();
}

/** Rings, titles, the hint over the keypad: what follows from all calls together. */
function showCalls() {
  const incoming = ringing();
  const call = talking();
  const outgoing = dialling();
  const hasEarlyMedia = outgoing?.stream && outgoing.pc?.connectionState === 'connected';
  if (incoming && !call) ring('in');
  else if (outgoing?.state === 'ringing' && !hasEarlyMedia) ring('out');
  else ring(null);
  if (incoming && !isAwake()) askTouch();
  $('idle').hidden = cards.size > 0;
  $('pad-hint').textContent = call && !call.held.local ? `Keys are sent to ${shortName(call.peer)}` : '';
  const words = incoming ? `☎ ${shortName(incoming.peer)} calls` : call ? `${shortName(call.peer)} · Weft` : '';
  document.title = words || 'Weft phone';
  for (const card of cards.values()) card.update();
  speak();
}

/** What a screen reader says: the newest call and how it stands, or that the server is away. */
function speak() {
  const offline = $('banner').hidden ? '' : 'No connection to the server';
  const text = [...cards.values()].at(-1)?.spoken() ?? offline;
  if ($('spoken').textContent !== text) $('spoken').textContent = text;
}

/** The browser plays nothing before the user touched the page. */
function askTouch() {
  if (wantsTouch || isAwake()) return;
  wantsTouch = true;
  notice('The browser is silent until you click or press a key.');
}

function touched() {
  if (cards.size) audio();
  if (!wantsTouch) return;
  wantsTouch = false;
  notice('');
  for (const card of cards.values()) card.listen();
}

// ---- calls of this session

const SESSION = 'weft.recent';
let recent = [];
try {
  recent = JSON.parse(sessionStorage.getItem(SESSION)) ?? [];
} catch {
  recent = [];
}

function remember(call, began) {
  const isMissed = call.direction === 'in' && !call.since && call.end.by === 'remote';
  const length = call.since ? duration((Date.now() - call.since) / 1000) : '';
  const text = length || (isMissed ? 'Missed' : whyEnded(call.end));
  recent.unshift({ peer: call.peer, direction: call.direction, isMissed, text, at: began });
  recent = recent.slice(0, RECENT_MAX);
  sessionStorage.setItem(SESSION, JSON.stringify(recent));
  showRecent();
}

function showRecent() {
  $('recent-none').hidden = recent.length > 0;
  $('recent').replaceChildren(...recent.map(recentRow));
}

function recentRow({ peer, direction, isMissed, text, at }) {
  const button = element('button', { type: 'button', className: isMissed ? 'missed' : '' });
  const icon = document.querySelector('#erase svg').cloneNode(true);
  icon.firstElementChild.setAttribute('href', direction === 'in' ? '#i-in' : '#i-out');
  const clock = new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const name = shortName(peer);
  button.setAttribute('aria-label', `Call ${name} again; ${direction === 'in' ? 'incoming' : 'outgoing'}, ${text}`);
  button.append(icon, element('b', { textContent: name }), element('time', { textContent: clock }),
    element('small', { textContent: text }));
  button.addEventListener('click', () => place(name));
  const row = element('li', {});
  row.append(button);
  return row;
}

const element = (name, properties) => Object.assign(document.createElement(name), properties);

// ---- keys

function press(key) {
  const call = talking();
  keyTone(key);
  flash(key);
  if (call && !call.held.local) return sendKeys(call, key);
  $('to').value += key;
}

function flash(key) {
  const button = [...$('pad').children].find(({ value }) => value === key);
  if (!button) return;
  button.classList.add('pressed');
  setTimeout(() => button.classList.remove('pressed'), 120);
}

function onKey(event) {
  touched();
  if (event.ctrlKey || event.altKey || event.metaKey || $('phone').hidden) return;
  const { key, target } = event;
  if (key === 'Escape') {
    const call = ringing() ?? dialling() ?? talking();
    if (call) call.hangup();
    else $('to').value = '';
    return;
  }
  const isTyping = target.matches('input');
  if (key === 'Enter' && !target.closest('button')) {
    const isDialling = isTyping && $('to').value.trim();
    if (isDialling) return;
    event.preventDefault();
    if (ringing()) answer(ringing());
    else if ($('to').value.trim()) place($('to').value);
    return;
  }
  if (isTyping || event.repeat) return;
  if (/^[0-9*#]$/.test(key)) press(key);
  else if (key === '+') $('to').value += key;
  else if (key === 'Backspace') $('to').value = $('to').value.slice(0, -1);
  else if (key === 'm' || key === 'M') talking()?.mute(!talking().isMuted);
  else if (key === 'h' || key === 'H') toggleHold(talking());
}

function buildPad() {
  for (const [key, letters] of KEYS) {
    const button = element('button', { type: 'button', value: key, textContent: key });
    const names = { '*': 'star', '#': 'hash' };
    button.setAttribute('aria-label', names[key] ?? key);
    button.append(element('small', { textContent: letters }));
    button.addEventListener('click', () => press(key));
    $('pad').append(button);
  }
}

// ---- everything together

function listenToWeft() {
  weft.addEventListener('socket', () => {
    showLink();
    showCalls();
  });
  weft.addEventListener('registration', ({ detail }) => {
    showRegistration(detail);
    showCalls();
  });
  weft.addEventListener('incoming', ({ detail }) => adopt(detail));
  weft.addEventListener('restored', ({ detail: call }) => {
    adopt(call);
    if (call.state === 'active') call.setTrack(microphone.track());
  });
  weft.addEventListener('replaced', () => {
    show($('sign-in-error'), 'This number is used in another window now. Sign in to use it here.');
  });
}

function listenToUser() {
  $('sign-in').addEventListener('submit', (event) => {
    event.preventDefault();
    audio();
    const dn = $('dn').value.trim();
    signIn({ dn, password: $('password').value, isRemembered: $('remember').checked }).catch(() => {});
  });
  $('sign-out').addEventListener('click', signOut);
  for (const name of ['s-dnd', 's-waiting']) $(name).addEventListener('change', saveSettings);
  $('settings-form').addEventListener('submit', (event) => {
    event.preventDefault();
    saveSettings();
  });
  $('dial').addEventListener('submit', (event) => {
    event.preventDefault();
    if (!place($('to').value)) $('to').focus();
  });
  $('erase').addEventListener('click', () => ($('to').value = $('to').value.slice(0, -1)));
  $('banner').querySelector('button').addEventListener('click', () => weft.reconnect());
  $('notice').querySelector('button').addEventListener('click', () => notice(''));
  document.addEventListener('keydown', onKey);
  document.addEventListener('pointerdown', touched);
  window.addEventListener('online', () => weft.reconnect());
  document.addEventListener('visibilitychange', () => document.hidden || weft.reconnect());
}

function start() {
  buildPad();
  showRecent();
  listenToWeft();
  listenToUser();
  setInterval(() => cards.forEach((card) => card.level()), LEVEL_MS);
  setInterval(() => {
    showLink();
    cards.forEach((card) => card.measure());
  }, MEASURE_MS);
  const memory = stored(MEMORY, null);
  $('dn').value = query.get('dn') ?? weft.storedDn ?? memory?.dn ?? '';
  $('password').value = query.get('password') ?? '';
  $('remember').checked = Boolean(memory);
  show($('server-hint'), query.get('ws') ? `Server: ${url}` : '');
  const isForOther = query.get('dn') && query.get('dn') !== (weft.storedDn ?? memory?.dn);
  if (isForOther) return;
  const isSame = memory && (!weft.storedDn || memory.dn === weft.storedDn);
  if (isSame) signIn({ ...memory, isRemembered: true }).catch(() => {});
  else if (weft.storedDn) signIn().catch(() => {});
}

start();
window.weftPhone = {
  weft,
  signIn,
  signOut,
  place,
  answer: () => answer(ringing()),
  cards,
  microphone,
  /** Sends a tone instead of the microphone, in calls to come. */
  useTone: (hertz) => (microphone.make = async () => tone(hertz)),
};
