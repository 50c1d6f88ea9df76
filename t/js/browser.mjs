// The page in a headless Chromium: sign in, be registered, renew, lose the
// connection and come back, sign out; and how it looks. Prints "ok - name"
// or "not ok - name: why" a check.
//
//   node browser.mjs --base https://localhost:8443 --shots DIR
//                    [--chromium FILE] [--user NAME] [--renew SECONDS]
//
// --renew: wait so long for a renewal of the token (a short lease is wanted)

import { mkdir } from 'node:fs/promises';

import { check, failed, load, must, options } from './lib.mjs';

const { chromium } = load('playwright-core');

const o = options();
const base = o.base ?? 'https://localhost:8443';
const user = o.user ?? 'alice';
const shots = o.shots;


await mkdir(shots, { recursive: true });

const browser = await chromium.launch({
    executablePath: o.chromium ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
           '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync'],
});

const context = await browser.newContext({
    ignoreHTTPSErrors: true, viewport: { width: 900, height: 800 },
    colorScheme: 'light',
});
const page = await context.newPage();

// the page's sockets, to cut one off behind JsSIP's back
await page.addInitScript(() => {
    globalThis.testSockets = [];
    globalThis.WebSocket = class extends WebSocket {
        constructor(...args) {
            super(...args);
            globalThis.testSockets.push(this);
        }
    };
});

const errors = [];
const foreign = [];
const sockets = [];

page.on('pageerror', (error) => errors.push(error.message));
page.on('console', (line) => {
    // a lost connection is told of there too, and is meant below
    if (line.type() === 'error' && !/WebSocket|ERR_/.test(line.text())) {
        errors.push(line.text());
    }
});
page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url())
        && new URL(request.url()).host !== new URL(base).host)
    {
        foreign.push(request.url());
    }
});
page.on('websocket', (socket) => sockets.push(socket));

const text = (id) => page.textContent(`#${id}`);
const state = (kind) =>
    page.waitForSelector(`#state[data-state="${kind}"]`, { timeout: 30000 });

await check('the page opens', async () => {
    await page.goto(`${base}/`);
    await page.screenshot({ path: `${shots}/1-sign-in.png` });
    return page.title();
});

await check('signed in and registered', async () => {
    await page.fill('#name', user);
    await page.click('#go');
    await state('good');
    return `${await text('impu')}, ${await text('state-text')}`;
});

await check('identity, lease and life are shown', async () => {
    must(/^sip:.+@/.test(await text('impu')), 'no IMPU');
    must(await text('impi'), 'no IMPI');
    must(/^[0-9a-f]+-[0-9a-f]+$/.test(await text('lease')), 'no lease');
    await page.waitForFunction(
        () => /^\d+ min \d\d s$/.test(
            document.getElementById('ends').textContent));
    must(await text('who') === user, 'not the user');

    for (const id of ['impu', 'state-text', 'lease', 'ends', 'renewed']) {
        must(await page.isVisible(`#${id}`), `${id} is folded away`);
    }
    must(!await page.isVisible('#log'), 'the log is not folded away');
    return `lease ${await text('lease')}, ends in ${await text('ends')}`;
});

await check('the log has the messages, without tokens', async () => {
    await page.click('#log-box summary');
    const log = await text('log');
    must(/REGISTER sip:/.test(log), 'no REGISTER');
    must(/SIP\/2\.0 200/.test(log), 'no 200');
    must(/Bearer \(masked\)/.test(log), 'the token is not masked');
    must(!/eyJ/.test(log), 'a token is in the log');
    await page.screenshot({ path: `${shots}/2-registered.png`,
                            fullPage: true });
});

const lease = await text('lease');

if (o.renew) {
    await check('token and lease are renewed', async () => {
        await page.waitForFunction(
            () => /^at /.test(document.getElementById('renewed').textContent),
            null, { timeout: Number(o.renew) * 1000 });
        must(await text('lease') === lease, 'another lease');
        await state('good');
        return `renewed ${await text('renewed')}`;
    });
}

await check('comes back by itself when the network does', async () => {
    const before = sockets.length;

    await page.evaluate(() => globalThis.testSockets.at(-1).close());
    await state('wait');
    await state('good');
    must(sockets.length > before, 'no new connection');
    must(await text('lease') === lease, 'another lease');
});

await check('at the width of a phone nothing sticks out', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    const [inner, outer] = await page.evaluate(
        () => [document.documentElement.scrollWidth, innerWidth]);
    must(inner <= outer, `${inner} of ${outer} pixels`);
    await page.screenshot({ path: `${shots}/3-phone.png`, fullPage: true });
});

await check('dark', async () => {
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${shots}/4-dark.png`, fullPage: true });
});

await check('signs out', async () => {
    await page.click('#out');
    await page.waitForSelector('#sign-in:not([hidden])');
    const log = await text('log');
    must(/Expires: 0/.test(log), 'no de-REGISTER');
});

await check('anonymous, by the keyboard alone', async () => {
    await page.focus('#name');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await state('good');
    must(/anonymous/.test(await text('who')), 'not anonymous');
    await page.click('#out');
    await page.waitForSelector('#sign-in:not([hidden])');
    return text('impu');
});

await check('no script error, nothing from elsewhere', async () => {
    must(errors.length === 0, errors.join('; '));
    must(foreign.length === 0, foreign.join('; '));
});

await browser.close();
process.exit(failed() ? 1 : 0);
