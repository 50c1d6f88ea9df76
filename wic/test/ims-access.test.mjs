// The library against a site, a clock and a user agent made of objects.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ImsAccess, ImsAccessError, jssip, sipjs } from '../ims-access.js';


// a clock that moves when told to, and runs what falls due
class Clock {
    constructor() { this.time = 1e12; this.jobs = new Map(); this.last = 0; }

    now = () => this.time;

    timers = {
        setTimeout: (job, ms) => {
            this.jobs.set(++this.last, { at: this.time + ms, job });
            return this.last;
        },
        clearTimeout: (id) => { this.jobs.delete(id); },
    };

    async pass(seconds) {
        const end = this.time + seconds * 1000;

        for (;;) {
            const due = [...this.jobs].filter(([, j]) => j.at <= end)
                .sort((a, b) => a[1].at - b[1].at)[0];
            if (!due) {
                break;
            }
            this.jobs.delete(due[0]);
            this.time = Math.max(this.time, due[1].at);
            due[1].job();
            await settle();
        }

        this.time = end;
    }
}


const settle = () => new Promise((resolve) => setImmediate(resolve));


const identity = (n, more = {}) => ({
    impi: 'web-1@ims.example', impu: 'sip:web-1@ims.example',
    impus: ['sip:web-1@ims.example'], lease: '1-1', token: `t${n}`,
    token_type: 'Bearer', expires_in: 600, ws_uri: 'wss://x/ims/ws',
    home_domain: 'ims.example', ...more,
});


// a site that gives what a list says, then goes on with the last of it
function setup(answers, options = {}) {
    const clock = new Clock();
    const calls = [];

    const fetch = async (url, { method, headers }) => {
        calls.push({ url, method, headers, at: clock.time });
        const next = method === 'DELETE' ? { status: 204 }
            : answers.length > 1 ? answers.shift() : answers[0];
        if (next instanceof Error) {
            throw next;
        }
        const status = next.status ?? 200;
        return {
            status, ok: status < 300,
            headers: new Headers(next.headers ?? {}),
            json: async () => next.body ?? next,
        };
    };

    const access = new ImsAccess({ fetch, timers: clock.timers,
                                   now: clock.now, ...options });
    const events = [];

    for (const name of ['identity', 'renewed', 'retry', 'denied', 'closed']) {
        access.addEventListener(name, (e) => events.push([name, e.detail]));
    }

    const names = () => events.map(([name]) => name);
    const posts = () => calls.filter((c) => c.method === 'POST').length;

    return { clock, calls, access, events, names, posts };
}


function fakeAgent() {
    const seen = [];

    return {
        seen,
        attached: (by) => { seen.push(['attached', by]); },
        detach: () => { seen.push(['detach']); },
        token: (value) => { seen.push(['token', value]); },
        register: () => { seen.push(['register']); },
        stop: async () => { seen.push(['stop']); },
    };
}


test('open gives the identity and the header', async () => {
    const { access, calls, names } = setup([identity(1)],
                                           { headers: { A: 'b' } });

    assert.equal(access.authorization, '');

    const id = await access.open();

    assert.equal(id.impu, 'sip:web-1@ims.example');
    assert.equal(access.authorization, 'Bearer t1');
    assert.deepEqual(names(), ['identity']);
    assert.equal(calls[0].url, '/ims/identity');
    assert.deepEqual(calls[0].headers, { A: 'b' });
});


test('the token is renewed half-way and handed to the agent', async () => {
    const { access, clock, posts, names } =
        setup([identity(1), identity(2), identity(3)]);
    const agent = fakeAgent();

    await access.open();
    access.attach(agent);
    assert.deepEqual(agent.seen.pop(), ['token', 'Bearer t1']);

    await clock.pass(299);
    assert.equal(posts(), 1);

    await clock.pass(2);
    assert.equal(posts(), 2);
    assert.deepEqual(agent.seen.slice(-2), [['token', 'Bearer t2'],
                                            ['register']]);

    await clock.pass(300);
    assert.equal(posts(), 3);
    assert.deepEqual(names(), ['identity', 'renewed', 'renewed']);
    assert.equal(access.expiresAt, access.renewsAt + 300000);
});


test('a site that is down is asked again, slower and slower', async () => {
    const { access, clock, posts, names, events } =
        setup([identity(1), new TypeError('x'), { status: 503 },
               { status: 503, headers: { 'Retry-After': '20' } },
               identity(2)]);

    await access.open();
    await clock.pass(300);
    await settle();
    assert.equal(posts(), 2);

    await clock.pass(1.6);
    assert.equal(posts(), 3);

    await clock.pass(3.1);
    assert.equal(posts(), 4);

    await clock.pass(19);
    assert.equal(posts(), 4, 'Retry-After is kept to');

    await clock.pass(12);
    assert.equal(posts(), 5);
    assert.deepEqual(names(), ['identity', 'retry', 'retry', 'retry',
                               'renewed']);
    assert.equal(events[1][1].error.status, 0);
    assert.equal(events[2][1].error.status, 503);
    assert.ok(events[3][1].seconds >= 20 && events[3][1].seconds <= 30);
});


test('a refusal of the site is final', async () => {
    const { access, clock, posts, names } =
        setup([identity(1), { status: 401 }]);

    await access.open();
    await clock.pass(3600);
    access.refused(403);
    await clock.pass(3600);
    assert.equal(posts(), 2);
    assert.deepEqual(names(), ['identity', 'denied']);
});


test('the first answer may be an error', async () => {
    const { access, clock, posts } =
        setup([{ status: 503, body: { error: 'exhausted' },
                 headers: { 'Retry-After': '7' } }]);

    await assert.rejects(access.open(), (error) =>
        error instanceof ImsAccessError && error.status === 503
        && error.code === 'exhausted' && error.retryAfter === 7
        && !error.final);

    await clock.pass(3600);
    assert.equal(posts(), 1);
});


test('an answer without a token is none', async () => {
    const { access } = setup([{ body: { impu: 'x' } }]);

    await assert.rejects(access.open(), /no token/);
});


test('another identity takes the agent away', async () => {
    const other = identity(2, { impi: 'web-2@ims.example',
                                impu: 'sip:web-2@ims.example' });
    const { access, clock, events } = setup([identity(1), other]);
    const agent = fakeAgent();

    await access.open();
    access.attach(agent);
    await clock.pass(301);

    assert.deepEqual(agent.seen.at(-1), ['detach']);
    assert.equal(events[1][0], 'identity');
    assert.equal(events[1][1].previous.impu, 'sip:web-1@ims.example');
    assert.equal(access.agent, null);
});


test('what the edge refuses is renewed soon, not at once for ever',
    async () => {
        const { access, clock, posts } = setup([identity(1)]);

        await access.open();
        access.attach(fakeAgent());

        for (let i = 0; i < 6; i++) {
            access.refused(403);
            await clock.pass(46);
        }
        assert.equal(posts(), 7);

        access.refused(500);
        await clock.pass(60);
        assert.equal(posts(), 7, 'not for a fault of the core');

        // the back-off starts again when the registrar has taken one
        access.accepted();
        access.refused(401);
        await clock.pass(1.6);
        assert.equal(posts(), 8);
    });


test('refusals that come fast do not put the renewal off', async () => {
    const { access, clock, posts, names } = setup([identity(1)]);

    await access.open();
    access.attach(fakeAgent());

    for (let i = 0; i < 20; i++) {
        access.refused(403);
        await clock.pass(0.5);
    }

    assert.ok(posts() >= 3, `${posts()} requests in 10 s`);
    assert.ok(posts() <= 5, `${posts()} requests in 10 s`);
    assert.equal(names().filter((n) => n === 'renewed').length, posts() - 1);
});


test('a machine that slept renews when it wakes', async () => {
    const { access, clock, posts } = setup([identity(1), identity(2)]);

    await access.open();

    // its timers stood still: only the clock went on
    clock.time += 400 * 1000;
    await clock.pass(16);
    assert.equal(posts(), 2);
});


test('close de-registers, gives the lease back and stops', async () => {
    const { access, clock, calls, posts, names } = setup([identity(1)]);
    const agent = fakeAgent();

    await access.open();
    access.attach(agent);
    await access.close();

    assert.deepEqual(agent.seen.slice(-2), [['stop'], ['detach']]);
    assert.equal(calls.at(-1).method, 'DELETE');
    assert.equal(calls.at(-1).url, '/ims/identity?lease=1-1');
    assert.equal(access.identity, null);
    assert.equal(access.authorization, '');

    await clock.pass(3600);
    assert.equal(posts(), 1);
    assert.deepEqual(names(), ['identity', 'closed']);
});


test('two renewals at a time are one', async () => {
    const { access, posts } = setup([identity(1)]);

    await Promise.all([access.open(), access.renew()]);
    assert.equal(posts(), 1);
});


// JsSIP: what its UA offers

class FakeUa {
    constructor() { this.on_ = {}; this.log = []; this.up = true; }
    on(name, f) { (this.on_[name] ??= []).push(f); }
    removeListener(name, f) {
        this.on_[name] = this.on_[name].filter((g) => g !== f);
    }
    fire(name, data = {}) { (this.on_[name] ?? []).forEach((f) => f(data)); }
    set(name, value) { this.log.push(['set', name, value]); }
    isConnected() { return this.up; }
    isRegistered() { return this.up; }
    register() { this.log.push(['register']); }
    unregister() {
        this.log.push(['unregister']);
        queueMicrotask(() => this.fire('unregistered'));
    }
    stop() { this.log.push(['stop']); }
}


test('JsSIP: token, refusals, sign-out', async () => {
    const { access, clock, posts } = setup([identity(1), identity(2)]);
    const ua = new FakeUa();

    await access.open();
    access.attach(jssip(ua));
    assert.deepEqual(ua.log, [['set', 'authorization_jwt', 'Bearer t1']]);

    ua.fire('registrationFailed', { response: { status_code: 401 } });
    await clock.pass(2);
    assert.equal(posts(), 2);
    assert.deepEqual(ua.log.slice(1), [
        ['set', 'authorization_jwt', 'Bearer t2'], ['register']]);

    ua.fire('disconnected', { code: 1008 });
    await clock.pass(4);
    assert.equal(posts(), 3);

    ua.fire('disconnected', { code: 1006 });
    ua.fire('registrationFailed', {});
    await clock.pass(60);
    assert.equal(posts(), 3, 'a lost connection is no refusal');

    await access.close();
    assert.deepEqual(ua.log.slice(-2), [['unregister'], ['stop']]);
    assert.ok(Object.values(ua.on_).every((list) => list.length === 0));
});


test('SIP.js: each REGISTER has the token, the last one too', async () => {
    const { access, clock } = setup([identity(1), identity(2)]);
    const sent = [];

    const registerer = {
        register: async (o) => {
            sent.push(['register', o.requestOptions.extraHeaders[0]]);
            o.requestDelegate.onAccept();
        },
        unregister: async (o) => {
            sent.push(['unregister', o.requestOptions.extraHeaders[0]]);
            o.requestDelegate.onAccept();
        },
    };
    const userAgent = {
        isConnected: () => true, reconnect: async () => {
            sent.push(['reconnect']);
            userAgent.delegate.onConnect();
        },
        stop: async () => { sent.push(['stop']); },
    };

    await access.open();
    access.attach(sipjs(userAgent, registerer));

    userAgent.delegate.onConnect();
    assert.deepEqual(sent.pop(), ['register', 'Authorization: Bearer t1']);

    await clock.pass(301);
    assert.deepEqual(sent.pop(), ['register', 'Authorization: Bearer t2']);

    userAgent.delegate.onDisconnect(new Error('closed (code: 1006)'));
    await new Promise((resolve) => setTimeout(resolve, 1200));
    assert.deepEqual(sent.splice(0), [
        ['reconnect'], ['register', 'Authorization: Bearer t2']]);

    await access.close();
    assert.deepEqual(sent, [
        ['unregister', 'Authorization: Bearer t2'], ['stop']]);
    assert.equal(userAgent.delegate.onConnect, undefined);
});
