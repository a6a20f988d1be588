/**
 * Runs in every page before its own scripts: keeps the peer connections it makes, listens to what they
 * receive, and notes when the page's first words of a call leave. The driver asks `window.probe`.
 */
(() => {
  const connections = [];
  const sent = [];
  let clickedAt = 0;
  let handledAt = 0;
  let context = null;

  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      connections.push(this);
    }
  };

  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    const found = typeof data === 'string' && /^(INVITE) |"type":"(call|answer|reoffer)"/.exec(data);
    if (found) sent.push({ what: found[1] ?? found[2], at: performance.now() });
    if (sent.length > 100) sent.shift();
    return send.call(this, data);
  };
  for (const type of ['click', 'keydown']) {
    addEventListener(type, (event) => {
      clickedAt = event.timeStamp;
      handledAt = performance.now();
    }, { capture: true });
  }

  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const audio = () => (context ??= new AudioContext());
  /** Those of calls: one that a page keeps ready for the next has no far end. */
  const live = () => connections.filter((pc) => pc.signalingState !== 'closed' && pc.remoteDescription);

  function receiver(index = -1) {
    const found = live().at(index)?.getReceivers().find(({ track }) => track.kind === 'audio');
    if (!found) throw new Error('nothing is received: there is no open peer connection');
    return found;
  }

  /** Chromium decodes a remote track for WebAudio only if an element plays it too. */
  function tap(index) {
    const stream = new MediaStream([receiver(index).track]);
    const element = new Audio();
    element.muted = true;
    element.srcObject = stream;
    element.play().catch(() => {});
    return { source: audio().createMediaStreamSource(stream), element };
  }

  /** Dominant frequency in Hz and RMS (0 to 1) of what comes in, over `ms`. */
  async function heard(ms = 500, index = -1) {
    await audio().resume();
    const { source, element } = tap(index);
    const analyser = new AnalyserNode(audio(), { fftSize: 8192, smoothingTimeConstant: 0 });
    source.connect(analyser);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    const samples = new Float32Array(2048);
    const power = new Float64Array(analyser.frequencyBinCount);
    let squares = 0;
    let count = 0;
    await sleep(200);
    for (let left = ms; left > 0; left -= 40) {
      await sleep(40);
      analyser.getFloatFrequencyData(spectrum);
      spectrum.forEach((decibel, bin) => (power[bin] += 10 ** (Math.max(decibel, -200) / 10)));
      analyser.getFloatTimeDomainData(samples);
      for (const sample of samples) squares += sample * sample;
      count += samples.length;
    }
    source.disconnect();
    element.srcObject = null;
    let peak = 2;
    for (let bin = 2; bin < power.length - 1; bin += 1) if (power[bin] > power[peak]) peak = bin;
    const rms = Math.sqrt(squares / count);
    const width = audio().sampleRate / analyser.fftSize;
    const [low, mid, high] = [-1, 0, 1].map((step) => Math.log(power[peak + step] + 1e-30));
    const shift = (low - high) / (2 * (low - 2 * mid + high) || 1);
    return { hertz: rms > 1e-5 ? (peak + shift) * width : 0, rms };
  }

  let watch = null;

  /** Begins to measure pauses of what comes in. */
  async function pauseStart() {
    await audio().resume();
    const { source, element } = tap(-1);
    const processor = audio().createScriptProcessor(512, 1, 1);
    const own = { isOn: true, source, element, processor, energy: gauge(), packets: gauge(), frames: gauge() };
    watch = own;
    processor.onaudioprocess = ({ inputBuffer }) => {
      const samples = inputBuffer.getChannelData(0);
      if (samples.some((sample) => Math.abs(sample) > 0.003)) own.energy.tick();
    };
    source.connect(processor).connect(audio().destination);
    own.loops = [countPackets(own), followFrames(own)];
  }

  function gauge() {
    const own = { last: 0, longest: 0 };
    own.tick = () => {
      const now = performance.now();
      if (own.last) own.longest = Math.max(own.longest, now - own.last);
      own.last = now;
    };
    own.end = () => {
      if (own.last) own.longest = Math.max(own.longest, performance.now() - own.last);
      return own.last ? Math.round(own.longest) : null;
    };
    return own;
  }

  /** The browser's own count; it refreshes that every 50 ms. */
  async function countPackets(own) {
    let known = 0;
    while (own.isOn) {
      let total = 0;
      for (const pc of live()) {
        for (const stat of (await pc.getStats()).values()) {
          if (stat.type === 'inbound-rtp') total += stat.packetsReceived;
        }
      }
      if (total !== known) own.packets.tick();
      known = total;
      await sleep(20);
    }
  }

  /** RTP timestamps as they reach the sound card: the finest, 10 to 20 ms. */
  async function followFrames(own) {
    let known = null;
    while (own.isOn) {
      const now = live().flatMap((pc) => pc.getReceivers().flatMap((one) => one.getSynchronizationSources()));
      const text = now.map(({ source, rtpTimestamp }) => `${source}:${rtpTimestamp}`).join();
      if (text && text !== known) own.frames.tick();
      known = text;
      await sleep(5);
    }
  }

  /** Longest pauses in ms since `pauseStart`: packets, frames played, audible sound; null: never any. */
  async function pauseStop() {
    const own = watch;
    if (!own) throw new Error('pauseStart comes first');
    watch = null;
    const result = {
      packetsMs: own.packets.end(), framesMs: own.frames.end(), silenceMs: own.energy.end(),
    };
    own.isOn = false;
    await Promise.all(own.loops);
    own.processor.disconnect();
    own.source.disconnect();
    own.element.srcObject = null;
    return result;
  }

  async function stats() {
    const found = live().at(-1);
    if (!found) throw new Error('there is no open peer connection');
    const all = [...(await found.getStats()).values()];
    const of = (type) => all.filter((stat) => stat.type === type).at(-1) ?? null;
    const transport = of('transport');
    const pair = all.find(({ id }) => id === transport?.selectedCandidatePairId) ?? null;
    const end = (id) => all.find((stat) => stat.id === id) ?? null;
    return {
      connectionState: found.connectionState,
      iceConnectionState: found.iceConnectionState,
      signalingState: found.signalingState,
      connections: live().length,
      inbound: of('inbound-rtp'),
      outbound: of('outbound-rtp'),
      remoteInbound: of('remote-inbound-rtp'),
      source: of('media-source'),
      codec: end(of('inbound-rtp')?.codecId) ?? end(of('outbound-rtp')?.codecId),
      transport, pair,
      local: end(pair?.localCandidateId),
      remote: end(pair?.remoteCandidateId),
    };
  }

  /** A track with a tone, as a microphone. */
  function tone(hertz, level = 0.4) {
    const destination = audio().createMediaStreamDestination();
    const oscillator = new OscillatorNode(audio(), { frequency: hertz });
    oscillator.connect(new GainNode(audio(), { gain: level })).connect(destination);
    oscillator.start();
    audio().resume();
    return destination.stream.getAudioTracks()[0];
  }

  window.probe = {
    connections, heard, pauseStart, pauseStop, stats, tone,
    /** Time from the last click or key, and from when the page got it, to the first words after it. */
    timing: () => {
      const first = sent.find(({ at }) => at >= clickedAt);
      const since = (start) => (first ? first.at - start : null);
      return { sent, clickToSendMs: since(clickedAt), handledToSendMs: since(handledAt) };
    },
  };
})();
