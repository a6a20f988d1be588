/**
 * Chromium for the suites: reads one JSON command a line, `{"id":1,"do":"launch",…}`, and answers with
 * one line each, `{"id":1,"ok":true,"value":…}` or `{"id":1,"ok":false,"error":"…"}`. Commands of different
 * pages may overlap; each ends within its `timeoutMs` (15,000). The end of the input ends the browser.
 *
 *   launch {wav?, microphone?: true|false, args?}    the browser; wav: file for the fake microphone
 *   phone  {page, base, user?, password?, hertz?, query?}  opens base/phone; signs in if user is given
 *   sip    {page, base, user, password, domain?, url?, hertz?, expires?}  a JsSIP phone that registers
 *   open   {page, url}                        any page
 *   register call{to} answer reject{code} hangup hold resume dtmf{digits,method} mute{on} iceRestart
 *   unregister state details                  of a page, /phone and JsSIP alike
 *   wait   {page, state}                      until the page's call is `none calling ringing incoming active ended`
 *   heard  {page, ms?, index?}                {hertz, rms} of what the page receives
 *   pauseStart {page}, pauseStop {page}       longest pauses: {packetsMs, framesMs, silenceMs}
 *   stats  {page}, timing {page}              RTCStats; {clickToSendMs, handledToSendMs}
 *   evaluate {page, code}, until {page, code} value of an expression; waits until it is true
 *   click {page, selector}, fill {page, selector, text}, press {page, key}, text {page, selector}
 *   screenshot {page, path, width?, height?, theme?}
 *   reload {page}, console {page}, close {page}, quit
 */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const TIMEOUT_MS = 15_000;
const POLL_MS = 10;
const CONSOLE_MAX = 500;
const BROWSER = process.env.WEFT_CHROMIUM ?? '/usr/bin/chromium';
const PEER = [
  'register', 'call', 'answer', 'reject', 'hangup', 'hold', 'resume', 'dtmf', 'mute', 'iceRestart', 'transfer', 'settings',
  'unregister', 'state', 'details',
];
const PROBE = ['pauseStart', 'pauseStop', 'stats', 'timing'];
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

let browser = null;
const pages = new Map();

const commands = {
  async launch({ wav, microphone = true, args = [] }) {
    if (browser) throw new Error('launched already');
    const fake = microphone ? ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'] : [];
    if (wav) fake.push(`--use-file-for-fake-audio-capture=${wav}`);
    browser = await chromium.launch({
      executablePath: BROWSER,
      headless: true,
      args: [
        '--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--ignore-certificate-errors',
        '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
        '--disable-backgrounding-occluded-windows', '--allow-loopback-in-peer-connection',
        '--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets', ...fake, ...args,
      ],
    });
    return { version: browser.version() };
  },

  async open({ page, url }) {
    await pageOf(page, true).then((one) => one.goto(url));
  },

  async phone({ page, base, user, password, hertz, query = '' }) {
    const one = await pageOf(page, true);
    await one.goto(`${base}/phone${query}`);
    await dress(one);
    if (user) return peer(one, 'register', { user, password, hertz });
    return null;
  },

  async sip({ page, base, user, password, domain, url, hertz, expires }) {
    const one = await pageOf(page, true);
    // Of the node's own origin, as a page that an operator puts there would be.
    const address = `${base}/jssip-of-the-tests`;
    const script = await sipPage();
    const body = `<!doctype html><title>JsSIP</title><script>${script}</script>`;
    await one.route(address, (route) => route.fulfill({ contentType: 'text/html', body }));
    await one.goto(address);
    const socket = url ?? `${base.replace(/^http/, 'ws')}/ws`;
    const host = domain ?? new URL(base).hostname;
    return peer(one, 'register', { user, password, domain: host, url: socket, hertz, expires });
  },

  async wait({ page, state, timeoutMs = TIMEOUT_MS }) {
    const one = await pageOf(page);
    const look = () => one.evaluate(() => window.peer?.state()).catch(() => 'unknown');
    await poll(async () => (await look()) === state, timeoutMs).catch(async () => {
      throw new Error(`the call is ${await look()}, not ${state}, after ${timeoutMs} ms`);
    });
  },

  async heard({ page, ms = 500, index = -1 }) {
    const one = await pageOf(page);
    return one.evaluate(([length, which]) => window.probe.heard(length, which), [ms, index]);
  },

  async evaluate({ page, code }) {
    return (await pageOf(page)).evaluate(code);
  },

  async until({ page, code, timeoutMs = TIMEOUT_MS }) {
    const one = await pageOf(page);
    return poll(() => one.evaluate(code), timeoutMs).catch((error) => {
      throw new Error(`${code}: ${error.message}`);
    });
  },

  async click({ page, selector }) {
    await (await pageOf(page)).click(selector);
  },

  async fill({ page, selector, text }) {
    await (await pageOf(page)).fill(selector, text);
  },

  async press({ page, key }) {
    await (await pageOf(page)).keyboard.press(key);
  },

  async text({ page, selector }) {
    return (await pageOf(page)).textContent(selector);
  },

  async screenshot({ page, path, width = 1280, height = 800, theme = 'light' }) {
    const one = await pageOf(page);
    await one.setViewportSize({ width, height });
    await one.emulateMedia({ colorScheme: theme });
    await one.screenshot({ path });
    return path;
  },

  async reload({ page }) {
    const one = await pageOf(page);
    await one.reload();
    if (await one.evaluate(() => Boolean(document.getElementById('phone')))) await dress(one);
  },

  async console({ page }) {
    return (await pageOf(page)).lines;
  },

  async close({ page }) {
    await (await pageOf(page)).context().close();
    pages.delete(page);
  },

  async quit() {
    await browser?.close();
    browser = null;
    pages.clear();
  },
};

for (const name of PEER) {
  commands[name] = async ({ page, ...given }) => peer(await pageOf(page), name, given);
}
for (const name of PROBE) {
  commands[name] = async ({ page }) => (await pageOf(page)).evaluate((what) => window.probe[what](), name);
}

/** Finds a page, or opens an empty one with a storage of its own. */
async function pageOf(name, isNew = false) {
  const known = pages.get(name);
  if (known && !isNew) return known;
  if (!isNew) throw new Error(`no page ${name}`);
  if (!browser) throw new Error('launch comes first');
  if (known) await known.context().close();
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  await context.addInitScript({ path: here('probe.js') });
  const page = await context.newPage();
  page.lines = [];
  const note = (text) => page.lines.push(text) > CONSOLE_MAX && page.lines.shift();
  page.on('console', (message) => note(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => note(`uncaught: ${error.message}`));
  pages.set(name, page);
  return page;
}

/** Asks until the answer is true. The page's own policy forbids that it looks by itself. */
async function poll(look, timeoutMs) {
  const end = Date.now() + timeoutMs;
  for (let error = null; ; ) {
    const value = await look().catch((thrown) => ((error = thrown), null));
    if (value) return value;
    if (Date.now() > end) throw error ?? new Error(`not true within ${timeoutMs} ms`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

async function dress(page) {
  await poll(() => page.evaluate(() => Boolean(window.weftPhone)), TIMEOUT_MS);
  await page.evaluate(await readFile(here('phone-page.js'), 'utf8'));
}

function peer(page, name, given) {
  return page.evaluate(async ([word, argument]) => (await window.peer[word](argument)) ?? null, [name, given]);
}

let bundle = null;

/** JsSIP and our page around it as one script. */
function sipPage() {
  bundle ??= build({
    entryPoints: [here('sip-page.js')], bundle: true, format: 'iife', write: false, logLevel: 'silent',
  }).then(({ outputFiles }) => outputFiles[0].text.replaceAll('</script', '<\\/script'));
  return bundle;
}

async function obey(command) {
  const work = commands[command.do];
  if (!work) throw new Error(`no command ${command.do}`);
  const wait = command.timeoutMs ?? TIMEOUT_MS;
  let timer;
  const late = new Promise((_, no) => {
    timer = setTimeout(() => no(new Error(`${command.do}: nothing within ${wait} ms`)), wait + 250);
  });
  try {
    return await Promise.race([work(command), late]);
  } finally {
    clearTimeout(timer);
  }
}

function answer(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const input = createInterface({ input: process.stdin });
const open = new Set();
input.on('line', (line) => {
  if (!line.trim()) return;
  const done = take(line).finally(() => open.delete(done));
  open.add(done);
});
input.on('close', async () => {
  await Promise.allSettled([...open]);
  await commands.quit();
  process.exit(0);
});

async function take(line) {
  let command = {};
  try {
    command = JSON.parse(line);
    answer({ id: command.id, ok: true, value: (await obey(command)) ?? null });
  } catch (error) {
    answer({ id: command.id ?? null, ok: false, error: String(error.message ?? error) });
  }
}
