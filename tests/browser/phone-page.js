/** /phone behind the few words that the driver has for pages; put into the page after it has loaded. */
(() => {
  const phone = window.weftPhone;
  let last = null;
  /** The call before that, which may still be there. */
  let former = null;
  let outcome = null;
  const digits = [];
  const take = ({ detail }) => watch(detail);

  function watch(call) {
    former = last;
    last = call;
    call.addEventListener('dtmf', ({ detail }) => digits.push(detail));
  }

  phone.weft.calls.forEach(watch);
  phone.weft.addEventListener('incoming', take);
  phone.weft.addEventListener('restored', take);
  const named = () => {
    if (!last) throw new Error('there is no call');
    return last;
  };

  function join() {
    const card = phone.cards.get(former).element;
    former.addEventListener('ended', ({ detail }) => (outcome = detail.code === 200 ? 'done' : detail.code));
    former.addEventListener('transfer', ({ detail }) => detail.code >= 300 && (outcome = detail.code));
    card.querySelector('.transfer').click();
    card.querySelector('.transfer-calls button').click();
    return undefined;
  }

  window.peer = {
    register: async ({ user, password, hertz = 0 }) => {
      if (hertz) phone.useTone(hertz);
      await phone.signIn({ dn: user, password });
      return phone.weft.registration;
    },
    call: ({ to }) => {
      watch(phone.place(to));
      return last.id;
    },
    answer: () => phone.answer(),
    reject: ({ code }) => named().reject(code),
    hangup: () => named().hangup(),
    hold: () => named().hold(),
    resume: () => named().resume(),
    dtmf: ({ digits: keys, method }) => named().dtmf(keys, { method }),
    /** Does not wait; `details` tells how it went. Without `to`, the former call is joined with this one, by
     * the buttons of its card. */
    transfer: ({ to }) => {
      outcome = 'pending';
      if (!to) return join();
      named().transfer(to).then(() => (outcome = 'done'), ({ code }) => (outcome = code));
    },
    settings: ({ set }) => phone.weft.settings(set),
    mute: ({ on = true }) => named().mute(on),
    iceRestart: () => named().restartIce(),
    unregister: () => phone.signOut(),
    state: () => last?.state ?? 'none',
    details: () => ({
      registered: phone.weft.isReady, connected: phone.weft.socket.state === 'open',
      hold: last?.held ?? null, digits, from: last?.peer ?? null, end: last?.end ?? null,
      since: last?.since ?? null, id: last?.id ?? null, isSilent: phone.microphone.isSilent,
      socket: phone.weft.socket, registration: phone.weft.registration, transfer: outcome,
      headers: last?.headers ?? {},
    }),
  };
})();
