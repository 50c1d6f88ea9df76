// A JsSIP client that lives until it is told to stop (SIGTERM: it signs
// out), and prints a line for whatever happens to it:
//
//   identity IMPU LEASE | renewed LEASE | retry STATUS | denied STATUS
//   registered | unregistered | failed STATUS | disconnected CODE | closed
//
//   node life.mjs --base https://localhost:8443 [--user NAME]

import { ImsAccess, jssip } from '../../wic/ims-access.js';
import { JsSIP, browserFetch, browserSocket, options } from './lib.mjs';

const o = options();
const origin = new URL(o.base).origin;
const say = (...words) => console.log(words.join(' '));

globalThis.WebSocket = browserSocket(origin);

const access = new ImsAccess({
    url: `${o.base}/ims/identity`,
    fetch: browserFetch(origin, o.user ?? 'carol'),
});

let ua = null;

access.addEventListener('renewed', ({ detail }) =>
    say('renewed', detail.identity.lease));
access.addEventListener('retry', ({ detail }) =>
    say('retry', detail.error.status));
access.addEventListener('denied', ({ detail }) =>
    say('denied', detail.error.status));
access.addEventListener('closed', () => say('closed'));

access.addEventListener('identity', ({ detail: { identity } }) => {
    say('identity', identity.impu, identity.lease);
    ua?.stop();
    ua = new JsSIP.UA({
        sockets: [new JsSIP.WebSocketInterface(identity.ws_uri)],
        uri: identity.impu, connection_recovery_min_interval: 1,
        connection_recovery_max_interval: 2,
    });
    ua.on('registered', () => say('registered'));
    ua.on('unregistered', () => say('unregistered'));
    ua.on('registrationFailed', ({ response }) =>
        say('failed', response?.status_code ?? 0));
    ua.on('disconnected', ({ code }) => say('disconnected', code));
    access.attach(jssip(ua));
    ua.start();
});

process.on('SIGTERM', () => {
    access.close().then(() => process.exit(0));
});

await access.open();
