// Two headless Chromium browsers with devices of their own making call each
// other by the page: messages, audio, mute, a reload of nginx, a lost
// connection, video, decline, cancel. Prints "ok - name" or "not ok - name:
// why" a check.
//
//   node browser_call.mjs --base https://localhost:8443 --shots DIR
//                         --nginx PID [--chromium FILE]
//
// --nginx: the master, which is told to reload in the middle of a call

import { mkdir, readdir, readFile } from 'node:fs/promises';

import {
    check, failed, load, must, options, sleep, until,
} from './lib.mjs';

const { chromium } = load('playwright-core');

const o = options();
const base = o.base ?? 'https://localhost:8443';
const shots = o.shots;
const errors = [];


// what the page is looked at through; nothing of it is in the page itself
function instrument() {
    globalThis.testSockets = [];
    globalThis.testPeers = [];
    globalThis.testStates = [];
    globalThis.WebSocket = class extends WebSocket {
        constructor(url, ...more) {
            // away, so long as a check wants it: nothing listens there
            super(globalThis.testAway ? 'wss://127.0.0.1:1/' : url, ...more);
            globalThis.testSockets.push(this);
        }
    };
    globalThis.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...args) {
            super(...args);
            globalThis.testPeers.push(this);
        }
    };
    addEventListener('DOMContentLoaded', () => {
        const state = document.getElementById('state');
        new MutationObserver(() => {
            globalThis.testStates.push(state.dataset.state);
        }).observe(state, { attributeFilter: ['data-state'] });
    });
}


class User {
    static async start(name, width) {
        const user = new User();

        user.name = name;
        user.browser = await chromium.launch({
            executablePath: o.chromium ?? '/usr/bin/chromium',
            args: ['--headless', '--no-sandbox', '--disable-gpu',
                   '--disable-quic', '--no-first-run',
                   '--disable-background-networking',
                   '--disable-component-update', '--disable-sync',
                   '--use-fake-device-for-media-stream',
                   '--use-fake-ui-for-media-stream',
                   '--allow-loopback-in-peer-connection',
                   '--autoplay-policy=no-user-gesture-required'],
        });

        const context = await user.browser.newContext({
            ignoreHTTPSErrors: true, viewport: { width, height: 800 },
            permissions: ['microphone', 'camera'],
        });

        user.page = await context.newPage();
        await user.page.addInitScript(instrument);
        user.page.on('pageerror',
                     (error) => errors.push(`${name}: ${error.message}`));
        user.page.setDefaultTimeout(30000);
        await user.page.goto(`${base}/`);
        await user.page.fill('#name', name);
        await user.page.click('#go');
        await user.state('good');
        user.impu = await user.text('impu');

        return user;
    }

    text(id) { return this.page.textContent(`#${id}`); }

    click(id) { return this.page.click(`#${id}`); }

    state(kind) {
        return this.page.waitForSelector(`#state[data-state="${kind}"]`);
    }

    phase(name) {
        return this.page.waitForSelector(`#call[data-phase="${name}"]`);
    }

    idle() { return this.page.waitForSelector('#call', { state: 'hidden' }); }

    sockets() {
        return this.page.evaluate(() => globalThis.testSockets.length);
    }

    // the last line among the messages
    async line(kind, fits) {
        const last = this.page.locator(`#messages li.${kind}`).last();

        await until(async () => await last.count()
                    && fits.test(await last.textContent()),
                    `a line like ${fits}`);
        return last.textContent();
    }

    write(to, text) {
        return this.page.fill('#to', to.impu)
            .then(() => this.page.fill('#text', text))
            .then(() => this.click('send'));
    }

    // (packets, energy, frames) received by the newest peer connection
    heard() {
        return this.page.evaluate(async () => {
            const all = { packets: 0, energy: 0, frames: 0 };
            const stats = await globalThis.testPeers.at(-1).getStats();

            for (const s of stats.values()) {
                if (s.type === 'inbound-rtp') {
                    all.packets += s.kind === 'audio' ? s.packetsReceived : 0;
                    all.energy += s.totalAudioEnergy ?? 0;
                    all.frames += s.framesDecoded ?? 0;
                }
            }

            return all;
        });
    }

    shot(name) {
        return this.page.screenshot({ path: `${shots}/${name}.png`,
                                      fullPage: true });
    }
}


// what b hears in a second that fits, of the next five; else in the last one
async function heardUntil(a, b, fits) {
    let now;

    for (let n = 0; n < 5; n++) {
        [, now] = await gain(a, b, 1);

        if (fits(now)) {
            break;
        }
    }

    return now;
}


// what both have heard since then
async function heardSince(before, ...users) {
    const now = await Promise.all(users.map((user) => user.heard()));

    return now.map((all, i) => ({
        packets: all.packets - before[i].packets,
        energy: all.energy - before[i].energy,
        frames: all.frames - before[i].frames,
    }));
}


// what both hear in a while
async function gain(a, b, seconds) {
    const before = [await a.heard(), await b.heard()];

    await sleep(seconds);
    return heardSince(before, a, b);
}


// media flow both ways: packets come 50 a second, on a busy machine fewer
async function flowing(a, b, more = () => true) {
    const before = [await a.heard(), await b.heard()];
    let both;

    await until(async () => {
        both = await heardSince(before, a, b);
        return both.every((now) => now.packets >= 20 && more(now));
    }, 'media on both sides', 20);

    return `${both[0].packets} and ${both[1].packets} audio packets`;
}


async function workers(master) {
    const found = [];

    for (const pid of (await readdir('/proc')).filter((d) => /^\d/.test(d))) {
        const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
            .catch(() => '');
        const cmd = await readFile(`/proc/${pid}/cmdline`, 'utf8')
            .catch(() => '');

        if (Number(stat.split(') ')[1]?.split(' ')[1]) === master) {
            found.push({ pid, old: /shutting down/.test(cmd) });
        }
    }

    return found;
}


async function messages(a, b, word) {
    await a.write(b, `${word} from ${a.name}`);
    await a.line('sent', /delivered/);

    const line = await b.line('received', new RegExp(`${word} from`));
    must(line.includes(a.impu), `not from ${a.impu}: ${line}`);
    await b.write(a, `${word} back`);
    await b.line('sent', /delivered/);
    await a.line('received', new RegExp(`${word} back`));
}


await mkdir(shots, { recursive: true });

const [alice, bob] = await Promise.all([User.start('alice', 900),
                                        User.start('bob', 360)]);

await check('messages in both directions, with who sent them', async () => {
    must(alice.impu !== bob.impu, 'the same identity');
    await messages(alice, bob, 'hello');
    return `${alice.impu} and ${bob.impu}`;
});

await check('a call comes in, by the identity that the network asserts',
async () => {
    await alice.page.fill('#to', bob.impu);
    await alice.click('dial');
    await bob.phase('incoming');
    must((await bob.text('peer-uri')).startsWith(alice.impu),
         await bob.text('peer-uri'));
    must(!await bob.page.isVisible('#answer-video'), 'offers video');
    must(/^Incoming call: /.test(await bob.text('announce')),
         'not announced');
    await alice.phase('ringing');
    await bob.shot('call-1-incoming');
    return bob.text('peer-uri');
});

await check('answered, audio on both sides', async () => {
    await bob.click('answer');
    await Promise.all([alice.phase('talking'), bob.phase('talking')]);
    must((await alice.text('peer-uri')).startsWith(bob.impu),
         await alice.text('peer-uri'));

    return flowing(alice, bob, ({ energy }) => energy > 0);
});

await check('mute silences one side, and is taken back', async () => {
    const [, before] = await gain(alice, bob, 1);

    await alice.click('mute');
    await alice.page.waitForSelector('#mute[aria-pressed="true"]');
    must(await alice.text('call-state') === 'In a call, muted',
         await alice.text('call-state'));
    await alice.shot('call-2-talking');

    // what is under way is heard first, for longer on a busy machine
    const muted = await heardUntil(
        alice, bob, (now) => now.energy < before.energy / 50);

    await alice.click('mute');

    const after = await heardUntil(
        alice, bob, (now) => now.energy > before.energy / 5);
    const seen = [before, muted, after].map((g) => g.energy.toExponential(1));

    must(muted.packets > 0, 'no packets at all');
    must(muted.energy < before.energy / 50
         && after.energy > before.energy / 5, `energies ${seen.join(', ')}`);

    return `energies ${seen.join(', ')}`;
});

await check('nginx reloads: nobody notices', async () => {
    const master = Number(o.nginx);
    const before = (await workers(master)).map(({ pid }) => pid);

    for (const user of [alice, bob]) {
        await user.page.evaluate(() => { globalThis.testStates.length = 0; });
    }

    process.kill(master, 'SIGHUP');
    await until(async () => {
        const now = await workers(master);
        return now.some(({ old }) => old)
               && now.some(({ pid }) => !before.includes(pid));
    }, 'new workers beside the old');

    const seen = await flowing(alice, bob);

    // by the old workers, between them and the core
    await messages(alice, bob, 'reloaded');

    for (const user of [alice, bob]) {
        must(await user.sockets() === 1, 'it connected again');
        must(await user.page.evaluate(
            () => globalThis.testStates.length) === 0, 'the state changed');
        must(!await user.page.isVisible('#notice'), 'a notice');
        await user.phase('talking');
    }

    return seen;
});

await check('a connection is lost: told, back, the call goes on', async () => {
    await alice.page.evaluate(() => globalThis.testSockets.at(-1).close());
    await alice.page.waitForFunction(() => /call goes on/.test(
        document.getElementById('notice').textContent));
    await alice.state('good');
    await alice.page.waitForFunction(() => /lost for \d+ s/.test(
        document.getElementById('notice').textContent));
    must(await alice.sockets() === 2, 'no second connection');
    await alice.phase('talking');
    await alice.shot('call-3-back');

    return `${await flowing(alice, bob)}; `
           + await alice.text('notice');
});

await check('another network: ICE starts again when it is back', async () => {
    const ufrag = () => bob.page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(
        globalThis.testPeers.at(-1).remoteDescription.sdp)[1]);
    const before = await ufrag();

    // what a browser says some seconds after the way of the media broke
    await alice.page.evaluate(() => {
        Object.defineProperty(globalThis.testPeers.at(-1),
                              'iceConnectionState',
                              { value: 'disconnected', configurable: true });
        globalThis.testPeers.at(-1).dispatchEvent(
            new Event('iceconnectionstatechange'));
    });
    must(/nothing is heard/.test(await alice.text('call-state')),
         'is not told');
    await alice.page.evaluate(() => {
        globalThis.testSockets.at(-1).close();
    });
    await until(async () => await ufrag() !== before, 'an offer');
    await alice.page.evaluate(() => {
        delete globalThis.testPeers.at(-1).iceConnectionState;
        globalThis.testPeers.at(-1).dispatchEvent(
            new Event('iceconnectionstatechange'));
    });
    await until(async () => await alice.text('call-state') === 'In a call',
                'the way again');
    return flowing(alice, bob);
});

await check('hung up by the other side, on the new connection', async () => {
    await bob.click('hang-up');
    await Promise.all([alice.idle(), bob.idle()]);
    return alice.line('event', /Ended after \d+:\d\d/);
});

await check('video, the other way round', async () => {
    await bob.page.fill('#to', alice.impu);
    await bob.click('dial-video');
    await alice.phase('incoming');
    await alice.click('answer-video');
    await Promise.all([alice.phase('talking'), bob.phase('talking')]);
    await Promise.all([alice, bob].map(
        (user) => user.page.waitForSelector('#remote:not([hidden])')));

    const seen = await flowing(alice, bob, ({ frames }) => frames > 0);

    await alice.shot('call-4-video');
    await bob.shot('call-5-video-phone');

    const [inner, outer] = await bob.page.evaluate(
        () => [document.documentElement.scrollWidth, innerWidth]);

    must(inner <= outer, `${inner} of ${outer} pixels`);
    await alice.click('hang-up');
    await Promise.all([alice.idle(), bob.idle()]);
    return `${seen}, and pictures`;
});

await check('hung up before it is answered', async () => {
    await bob.page.focus('#text');
    await alice.page.fill('#to', bob.impu);
    await alice.click('dial');
    await bob.phase('incoming');
    must(await bob.page.evaluate(() => document.activeElement.id) === 'text',
         'the call has taken the keyboard from who was writing');
    await alice.click('hang-up');
    await Promise.all([alice.idle(), bob.idle()]);
    return bob.line('event', /Cancel/);
});

await check('declined', async () => {
    await alice.click('dial');
    await bob.phase('incoming');
    await bob.click('hang-up');
    await Promise.all([alice.idle(), bob.idle()]);
    return alice.line('event', /603 Decline/);
});

await check('a message to nobody', async () => {
    await alice.page.fill('#to', 'web-000019');
    await alice.page.fill('#text', 'are you there?');
    await alice.click('send');
    return alice.line('sent', /not delivered: 480/);
});

await check('hung up without a connection: said when it is back', async () => {
    await alice.page.fill('#to', bob.impu);
    await alice.click('dial');
    await bob.phase('incoming');
    await bob.click('answer');
    await Promise.all([alice.phase('talking'), bob.phase('talking')]);
    await alice.page.evaluate(() => {
        globalThis.testAway = true;
        globalThis.testSockets.at(-1).close();
    });
    await alice.state('wait');
    await alice.click('hang-up');
    await alice.phase('leaving');
    await bob.phase('talking');
    await alice.page.evaluate(() => { globalThis.testAway = false; });
    await Promise.all([alice.idle(), bob.idle()]);
});

await check('signed out in a call: the other side is told', async () => {
    await alice.page.fill('#to', bob.impu);
    await alice.click('dial');
    await bob.phase('incoming');
    await bob.click('answer');
    await Promise.all([alice.phase('talking'), bob.phase('talking')]);
    await alice.click('out');
    await alice.page.waitForSelector('#sign-in:not([hidden])');
    await bob.idle();
});

await check('no script error', async () => {
    must(errors.length === 0, errors.join('; '));
});

await Promise.all([alice, bob].map((user) => user.browser.close()));
process.exit(failed() ? 1 : 0);
