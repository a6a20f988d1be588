/** Everything one hears or is heard with: microphone, levels, ringing, key tones. */
let context = null;
let gain = null;
let pattern = null;

const RING = { hertz: [440, 480], on: 2, off: 4 };
const RINGBACK = { hertz: [425], on: 1, off: 4 };
const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477, 1633];
const KEYS = '123A456B789C*0#D';
const RATE_MS = 200;

/** The audio context; it may sleep until the user touches the page. */
export function audio() {
  context ??= new AudioContext();
  if (context.state === 'suspended') context.resume().catch(() => {});
  return context;
}

/** Tells whether the browser lets us make sound now. */
export const isAwake = () => context?.state === 'running';

/** One microphone for all calls; each call gets a clone, so that muting one leaves the others. */
export class Microphone {
  #source = null;
  /** `notify(text)` tells the user what is wrong, '' that nothing is. */
  constructor(notify) {
    this.notify = notify;
    this.make = () => userMedia();
    this.isSilent = false;
  }

  /** Returns a track of its own for one call; a silent one if the microphone is refused. */
  async track() {
    this.#source ??= this.#open();
    return (await this.#source).clone();
  }

  async #open() {
    try {
      const track = await this.make();
      this.isSilent = false;
      this.notify('');
      return track;
    } catch (error) {
      this.isSilent = true;
      this.notify(`${reason(error)} You hear the others, but they do not hear you.`);
      return silence();
    }
  }

  /** Lets go of it, so that the browser stops showing that it listens. */
  async close() {
    const source = this.#source;
    this.#source = null;
    (await source)?.stop();
  }
}

function reason(error) {
  const texts = {
    NotAllowedError: 'The microphone is not allowed.',
    NotFoundError: 'There is no microphone.',
    NotReadableError: 'The microphone is used by another program.',
  };
  return texts[error.name] ?? `The microphone does not work (${error.message}).`;
}

async function userMedia() {
  if (!navigator.mediaDevices) throw new Error('the page is not secure, use https');
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
  return stream.getAudioTracks()[0];
}

function silence() {
  return audio().createMediaStreamDestination().stream.getAudioTracks()[0];
}

/** Returns a track with a tone instead of a microphone, for tests of the sound's way. */
export function tone(hertz, level = 0.4) {
  const destination = audio().createMediaStreamDestination();
  const volume = new GainNode(audio(), { gain: level });
  const oscillator = new OscillatorNode(audio(), { frequency: hertz });
  oscillator.connect(volume).connect(destination);
  oscillator.start();
  return destination.stream.getAudioTracks()[0];
}

/** Measures the level of a track, 0 to 1 on a scale of 60 dB. */
export class Level {
  #samples = new Float32Array(1024);

  constructor(track) {
    this.track = track;
    this.source = audio().createMediaStreamSource(new MediaStream([track]));
    this.analyser = new AnalyserNode(audio(), { fftSize: 1024 });
    this.source.connect(this.analyser);
  }

  read() {
    this.analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return scale(Math.sqrt(sum / this.#samples.length));
  }

  close() {
    this.source.disconnect();
  }
}

/** Brings an amplitude of 0 to 1 to a scale of 60 dB. */
export function scale(amplitude) {
  return Math.min(1, Math.max(0, 1 + Math.log10(Math.max(amplitude, 1e-6)) / 3));
}

/** Rings (`in`), plays the caller's tone (`out`), or is quiet (null). */
export function ring(kind) {
  if (pattern?.kind === kind || (!pattern && !kind)) return;
  if (pattern) {
    clearInterval(pattern.timer);
    pattern.stop();
    pattern = null;
  }
  if (!kind) return;
  const { hertz, on, off } = kind === 'in' ? RING : RINGBACK;
  const play = () => burst(hertz, on, kind === 'in' ? 0.12 : 0.05);
  pattern = { kind, stop: () => {} };
  const again = () => (pattern.stop = play());
  again();
  pattern.timer = setInterval(again, (on + off) * 1000);
}

/** Lets the user hear which key was pressed (ITU-T Q.23). */
export function keyTone(key) {
  const at = KEYS.indexOf(key.toUpperCase());
  if (at >= 0) burst([ROWS[at >> 2], COLUMNS[at & 3]], RATE_MS / 1000, 0.05);
}

function burst(hertz, seconds, level) {
  const now = audio().currentTime;
  gain = new GainNode(audio(), { gain: 0 });
  const own = gain;
  own.connect(audio().destination);
  own.gain.setTargetAtTime(level, now, 0.01);
  own.gain.setTargetAtTime(0, now + seconds, 0.02);
  const oscillators = hertz.map((frequency) => new OscillatorNode(audio(), { frequency }));
  for (const oscillator of oscillators) {
    oscillator.connect(own);
    oscillator.start();
    oscillator.stop(now + seconds + 0.2);
  }
  return () => {
    own.gain.cancelScheduledValues(0);
    own.gain.setTargetAtTime(0, audio().currentTime, 0.02);
    for (const oscillator of oscillators) oscillator.stop(audio().currentTime + 0.2);
  };
}
