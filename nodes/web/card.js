/** One call as the user sees it: state, time, levels, numbers, and the way of the sound. */
import { Level, isAwake, scale } from './sound.js';

const CAUSES = {
  404: 'There is no such number', 408: 'Nobody answered', 410: 'The server lost the call',
  480: 'Not reachable', 484: 'The number is incomplete', 486: 'Busy', 487: 'Given up',
  488: 'No common codec', 500: 'The server failed', 503: 'The server is busy', 603: 'Declined',
};
const PLACES = { host: 'direct', srflx: 'through NAT', prflx: 'through NAT', relay: 'relayed' };
const PROFILES = {
  SRTP_AES128_CM_HMAC_SHA1_80: 'AES-128-CM', SRTP_AES128_CM_HMAC_SHA1_32: 'AES-128-CM',
  AEAD_AES_128_GCM: 'AES-128-GCM', AEAD_AES_256_GCM: 'AES-256-GCM',
  SRTP_AEAD_AES_128_GCM: 'AES-128-GCM', SRTP_AEAD_AES_256_GCM: 'AES-256-GCM',
};
const MISSING = '–';

/** Tells in words why a call ended. */
export function whyEnded({ code, cause, reason, by }) {
  if (code === 200 || code === 0) return by === 'local' ? 'You hung up' : 'The far end hung up';
  if (cause === 'another window') return 'Goes on in another window';
  if (by === 'local' && cause === 'rejected') return 'You declined';
  return CAUSES[code] ?? `Failed (${[code, reason || cause].filter(Boolean).join(' ')})`;
}

/** `1000@127.0.0.1` is shown as `1000`. */
export const shortName = (address) => String(address ?? '').replace(/^sips?:/, '').split('@')[0];

/** Who has sent the call here: the newest Diversion (RFC 5806). */
function forwarder({ headers }) {
  const [, by] = /<sips?:([^@>;]+)/.exec(headers?.Diversion ?? '') ?? [];
  return by ? `, forwarded by ${by}` : '';
}

/** Seconds as `m:ss` or `h:mm:ss`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}

export class Card {
  #call;
  #levels = {};
  #before = null;
  #mood = '';
  #transfer = '';

  /** `server()` returns the node's name, `others()` the calls that this one may be joined with; the rest are
   * what the buttons do. */
  constructor(call, { server, isOnline, others, answer, keys, hold, transfer }) {
    this.#call = call;
    this.server = server;
    this.isOnline = isOnline;
    this.others = others;
    this.transferTo = transfer;
    const template = document.getElementById('call-template');
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.dataset.call = call.id;
    this.element.setAttribute('aria-label', `Call with ${shortName(call.peer)}`);
    this.sound = new Audio();
    this.sound.autoplay = true;
    this.#on('.answer', answer);
    this.#on('.end', () => call.hangup());
    this.#on('.mute', () => call.mute(!call.isMuted));
    this.#on('.hold', hold);
    this.#on('.keys', keys);
    this.#on('.transfer', () => this.askTransfer(this.#form.hidden));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const to = this.#form.querySelector('input').value.trim().replace(/\s+/g, '');
      if (!to) return;
      this.askTransfer(false);
      transfer(to);
    });
    this.#text('.transfer-who', shortName(call.peer));
    this.#text('.peer', call.name ? `${call.name} (${shortName(call.peer)})` : shortName(call.peer));
    this.#text('.path-peer', shortName(call.peer));
    this.update();
  }

  get #form() {
    return this.element.querySelector('.transfer-to');
  }

  /** Asks whom the far end is to be put through to, or asks no more. */
  askTransfer(isAsked) {
    this.#form.hidden = !isAsked;
    this.element.querySelector('.transfer').setAttribute('aria-expanded', String(isAsked));
    this.#offerCalls();
    if (isAsked) this.#form.querySelector('input').focus();
    else this.#form.reset();
  }

  /** A button for each other call whose far end this one's can be joined with. */
  #offerCalls() {
    const line = this.element.querySelector('.transfer-calls');
    const buttons = this.others().map((other) => {
      const button = document.createElement('button');
      Object.assign(button, { type: 'button', textContent: `Connect with ${shortName(other.peer)}` });
      button.addEventListener('click', () => {
        this.askTransfer(false);
        this.transferTo(other);
      });
      return button;
    });
    line.replaceChildren(...buttons);
    line.hidden = buttons.length === 0;
  }

  /** Says how far a transfer is, instead of the state; nothing: there is none. */
  transfers(text = '') {
    this.#transfer = text;
    this.update();
  }

  #on(selector, work) {
    this.element.querySelector(selector).addEventListener('click', work);
  }

  #text(selector, text) {
    const element = this.element.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
  }

  /** Plays the far end; resolves to false if the browser wants a touch first. */
  async listen() {
    const { stream } = this.#call;
    if (!stream) return true;
    if (this.sound.srcObject !== stream) this.sound.srcObject = stream;
    try {
      await this.sound.play();
      return true;
    } catch (error) {
      return error.name !== 'NotAllowedError';
    }
  }

  /** Writes what changes with events. */
  update() {
    const call = this.#call;
    const { dataset } = this.element;
    dataset.state = call.state;
    this.#text('.state', this.#state());
    dataset.mood = this.#mood;
    this.#press('.mute', call.isMuted, call.isMuted ? 'Unmute' : 'Mute');
    this.#press('.hold', call.held.local, call.held.local ? 'Resume' : 'Hold');
    const ends = { incoming: 'Decline', calling: 'Cancel', ringing: 'Cancel' };
    this.#text('.end span', ends[call.state] ?? 'Hang up');
    this.#text('.path-you', call.held.local ? 'on hold' : call.isMuted ? 'muted' : 'microphone');
    this.#text('.path-far', call.held.remote ? 'holds' : '');
    this.sound.muted = call.held.local;
    if (!this.#form.hidden) this.#offerCalls();
    this.clock();
  }

  /** Returns who it is and how the call stands, as a sentence. */
  spoken() {
    return `${shortName(this.#call.peer)}: ${this.element.querySelector('.state').textContent}`;
  }

  #press(selector, isOn, label) {
    this.element.querySelector(selector).setAttribute('aria-pressed', String(isOn));
    this.#text(`${selector} span`, label);
  }

  #state() {
    const call = this.#call;
    this.#mood = '';
    if (call.state === 'ended') {
      this.#mood = call.end.code === 200 ? '' : 'bad';
      return whyEnded(call.end);
    }
    if (call.state === 'incoming') return `Incoming call${forwarder(call)}`;
    const media = call.pc?.connectionState;
    const isBroken = call.state === 'active' && ['failed', 'disconnected'].includes(media);
    if (isBroken || !this.isOnline()) this.#mood = 'bad';
    if (isBroken) return 'The sound is interrupted, looking for a new way';
    if (!this.isOnline()) {
      return call.state === 'active' ? 'The server is away; the sound goes on' : 'Waiting for the server';
    }
    if (this.#transfer) return this.#transfer;
    if (call.state === 'calling') return 'Calling';
    if (call.state === 'ringing') return 'Ringing';
    if (media !== 'connected') return 'Connecting the sound';
    const { local, remote } = call.held;
    if (local) return remote ? 'On hold, at the far end too' : 'On hold';
    return remote ? 'The far end holds' : 'Talking';
  }

  clock() {
    const { since, state } = this.#call;
    if (since && state !== 'ended') this.#text('.clock', duration((Date.now() - since) / 1000));
  }

  digit(digits) {
    const line = this.element.querySelector('.digits');
    line.hidden = false;
    line.textContent = `${line.textContent || 'Keys: '}${digits}`;
  }

  /** Shows both levels; 20 times a second. */
  level() {
    this.#meter('out', this.#call.held.local ? null : this.#call.transceiver?.sender.track);
    this.#meter('in', this.#call.stream?.getAudioTracks()[0]);
  }

  #meter(side, track) {
    if (this.#levels[side]?.track !== track) {
      this.#levels[side]?.close();
      this.#levels[side] = track && isAwake() ? new Level(track) : null;
    }
    const fallback = scale(this.#before?.[side === 'in' ? 'levelIn' : 'levelOut'] ?? 0);
    const value = track?.enabled === false || !track ? 0 : (this.#levels[side]?.read() ?? fallback);
    const meter = this.element.querySelector(`.meter.${side}`);
    meter.firstElementChild.style.clipPath = `inset(0 ${Math.round((1 - value) * 100)}% 0 0)`;
    meter.setAttribute('aria-valuenow', String(Math.round(value * 100)));
  }

  /** Reads the statistics and shows what changed in the last second. */
  async measure() {
    this.clock();
    if (this.#call.state !== 'active') return;
    const now = await this.#call.stats().catch(() => null);
    if (!now) return;
    const before = this.#before ?? { packetsReceived: 0, packetsLost: 0, packetsSent: 0 };
    this.#before = now;
    const received = now.packetsReceived - before.packetsReceived;
    const lost = Math.max(0, now.packetsLost - before.packetsLost);
    const sent = now.packetsSent - before.packetsSent;
    const share = received + lost > 0 ? lost / (received + lost) : undefined;
    this.#numbers(now, share);
    this.#path(now, received, sent, share);
    this.update();
  }

  #numbers(now, lossIn) {
    this.#text('.f-codec', now.codec ? `${now.codec} ${now.clockRate / 1000} kHz` : MISSING);
    this.#text('.f-delay', unit(now.roundTripMs, 'ms'));
    this.#text('.f-jitter', unit(now.jitterMs, 'ms'));
    this.#text('.f-loss-in', percent(lossIn));
    this.#text('.f-loss-out', percent(now.remoteFractionLost));
    this.#text('.f-security', security(now));
    this.#text('.f-pair', now.remote ? pair(now) : MISSING);
  }

  #path(now, received, sent, lossIn) {
    const isUp = this.#call.pc?.connectionState === 'connected';
    const here = this.element.querySelector('.leg-here');
    const there = this.element.querySelector('.leg-there');
    here.classList.toggle('flows', isUp && received + sent > 0);
    here.classList.toggle('broken', !isUp);
    const isHeld = this.#call.held.local || this.#call.held.remote;
    there.classList.toggle('flows', isUp && received > 0 && !isHeld);
    this.#text('.path-security', now.dtlsState === 'connected' ? 'DTLS-SRTP' : 'no keys yet');
    const measured = [now.codec, now.roundTripMs === undefined ? '' : unit(now.roundTripMs, 'ms')];
    const flow = `↑${sent} ↓${received} packets/s`;
    this.#text('.path-delay', [...measured, place(now), flow].filter(Boolean).join(' · '));
    this.#text('.path-node', this.server());
    this.#text('.path-there', isHeld ? 'on hold' : received > 0 ? 'sound' : 'no sound');
    this.#text('.path-flow', lossIn === undefined ? '' : `${percent(lossIn)} lost`);
  }

  /** Lets go of the sound. */
  close() {
    for (const level of Object.values(this.#levels)) level?.close();
    this.#levels = {};
    this.sound.srcObject = null;
  }
}

const unit = (value, name) => (value === undefined ? MISSING : `${Math.round(value * 10) / 10} ${name}`);
const percent = (share) => (share === undefined ? MISSING : `${(share * 100).toFixed(1)} %`);
const place = ({ local }) => PLACES[local?.type] ?? '';

function security({ dtlsState, srtpCipher }) {
  if (dtlsState !== 'connected') return dtlsState ?? MISSING;
  return PROFILES[srtpCipher] ?? srtpCipher ?? 'DTLS-SRTP';
}

function pair({ local, remote }) {
  const host = (address) => (address?.includes(':') ? `[${address}]` : (address ?? 'hidden'));
  const name = (end) => `${end.type} ${host(end.address)}:${end.port}`;
  return `${name(local ?? {})} → ${name(remote)}, ${local?.protocol ?? 'udp'}`;
}
