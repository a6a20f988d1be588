/** A SIP phone in a page: JsSIP behind the same few words that the driver has for /phone. */
import JsSIP from 'jssip';

const events = [];
const digits = [];
let ua = null;
let session = null;
/** The call before that, which may still be there. */
let former = null;
let tone = 0;
let outcome = null;

const note = (what, detail = '') => events.push(`${what} ${detail}`.trim());

/** Resolves with the first of the events, rejects with those that fail. */
function first(source, good, bad) {
  return new Promise((ok, no) => {
    for (const name of good) source.once(name, ok);
    for (const name of bad) {
      source.once(name, ({ cause, reason, response }) =>
        no(new Error(`${name}: ${[response?.status_code, cause, reason].filter(Boolean).join(' ')}`)));
    }
  });
}

function options() {
  const pcConfig = { iceServers: [] };
  if (!tone) return { mediaConstraints: { audio: true, video: false }, pcConfig };
  return { mediaStream: new MediaStream([window.probe.tone(tone)]), pcConfig };
}

function take(one) {
  former = session;
  session = one;
  for (const name of ['progress', 'accepted', 'confirmed', 'hold', 'unhold', 'reinvite', 'update']) {
    one.on(name, ({ originator } = {}) => note(name, originator));
  }
  for (const name of ['ended', 'failed']) one.on(name, ({ cause, originator }) => note(name, `${originator} ${cause}`));
  one.on('newDTMF', ({ originator, dtmf }) => originator === 'remote' && digits.push(dtmf.tone));
  // Host candidates are enough; what is gathered later is not waited for.
  one.on('icecandidate', ({ ready }) => ready());
}

const named = () => {
  if (!session) throw new Error('there is no call');
  return session;
};

function renegotiate(work, error) {
  return new Promise((ok, no) => {
    if (!work(() => ok(true))) no(new Error(error));
  });
}

window.peer = {
  async register({ user, domain, password, url, hertz = 0, expires = 300 }) {
    tone = hertz;
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)], uri: `sip:${user}@${domain}`, password,
      register: true, register_expires: expires, session_timers: false,
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 2,
    });
    for (const name of ['connected', 'disconnected', 'registered', 'unregistered', 'registrationFailed']) {
      ua.on(name, () => note(name));
    }
    ua.on('newRTCSession', ({ session: one, originator }) => {
      note('session', originator);
      take(one);
    });
    const done = first(ua, ['registered'], ['registrationFailed']);
    ua.start();
    const { response } = await done;
    return { status: response.status_code };
  },
  async call({ to, replaces }) {
    const extraHeaders = replaces ? ['Require: replaces', `Replaces: ${replaces}`] : [];
    const target = to.includes(':') ? to : `sip:${to}@${ua.configuration.uri.host}`;
    const one = ua.call(target, { ...options(), extraHeaders });
    return one.id;
  },
  answer: () => void named().answer(options()),
  reject: ({ code = 486 }) => void named().terminate({ status_code: code }),
  hangup: () => void named().terminate(),
  hold: () => renegotiate((done) => named().hold({}, done), 'hold is not possible now'),
  resume: () => renegotiate((done) => named().unhold({}, done), 'resume is not possible now'),
  /** Does not wait; `details` tells how it went. Without `to`, the former call is joined with this one. */
  transfer: ({ to }) => {
    outcome = 'pending';
    const one = to ? named() : former;
    const target = to ? `sip:${to}@${ua.configuration.uri.host}` : session.remote_identity.uri;
    one.refer(target, {
      replaces: to ? undefined : session,
      eventHandlers: {
        accepted: () => (outcome = 'done'),
        failed: ({ status_line: line }) => (outcome = line?.status_code),
        requestFailed: ({ response }) => (outcome = response?.status_code),
      },
    });
  },
  dtmf: ({ digits: keys, method = 'rfc4733' }) => {
    named().sendDTMF(keys, { transportType: method === 'info' ? 'INFO' : 'RFC2833' });
  },
  mute: ({ on = true }) => void (on ? named().mute({ audio: true }) : named().unmute({ audio: true })),
  iceRestart: () => renegotiate(
    (done) => named().renegotiate({ rtcOfferConstraints: { iceRestart: true } }, done), 'not possible now'),
  unregister: async () => {
    const done = first(ua, ['unregistered'], []);
    ua.unregister({ all: false });
    await done;
    ua.stop();
  },
  state: () => {
    if (!session) return 'none';
    if (session.isEnded()) return 'ended';
    if (session.isEstablished()) return 'active';
    return session.direction === 'incoming' ? 'incoming' : 'calling';
  },
  details: () => ({
    registered: ua?.isRegistered() ?? false, connected: ua?.isConnected() ?? false,
    hold: session?.isOnHold() ?? null, digits, events,
    from: session?.remote_identity?.uri.toString() ?? null, transfer: outcome,
    replaces: session && `${session._request?.call_id};to-tag=${session._to_tag};from-tag=${session._from_tag}`,
  }),
};
