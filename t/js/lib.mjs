// What the drivers share: the clients' packages (installed in wic/), fetch
// with an Origin and cookies, a WebSocket with an Origin that tells of what
// passes. TLS is checked against the certificate in NODE_EXTRA_CA_CERTS.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(new URL('../../wic/package.json',
                                      import.meta.url));

export const JsSIP = require('jssip');
export const WebSocket = require('ws');
export const load = (name) => require(name);
export const loadModule = (name) => import(pathToFileURL(require.resolve(name)));


// --name value pairs, and --flag alone
export function options(argv = process.argv.slice(2)) {
    const o = {};

    for (let i = 0; i < argv.length; i++) {
        const name = argv[i].replace(/^--/, '');
        const next = argv[i + 1];
        o[name] = next === undefined || next.startsWith('--') ? true
                                                              : argv[++i];
    }

    return o;
}


// Each Set-Cookie. Debian 12's fetch (node 18 with its own undici) knows no
// getSetCookie() and joins them by commas, of which dates have one, too.
function setCookies(headers) {
    if (headers.getSetCookie) {
        return headers.getSetCookie();
    }

    return headers.get('Set-Cookie')?.split(/,\s*(?=[^\s=;,]+=)/) ?? [];
}


// a fetch for one user of one page
export function browserFetch(origin, user) {
    const jar = new Map();

    return async (url, init = {}) => {
        const headers = { ...init.headers };

        if (origin) {
            headers.Origin = origin;
        }
        if (user) {
            headers.Authorization = `Basic ${btoa(`${user}:`)}`;
        }
        if (jar.size) {
            headers.Cookie = [...jar].map(([k, v]) => `${k}=${v}`).join('; ');
        }

        const { credentials, keepalive, cache, ...rest } = init;
        const response = await fetch(url, { ...rest, headers });

        for (const line of setCookies(response.headers)) {
            const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
            jar.set(name, value);
        }

        return response;
    };
}


// a class to take the place of the browser's WebSocket
export function browserSocket(origin, tell = () => {}) {
    return class extends WebSocket {
        constructor(url, protocols) {
            super(url, protocols, { origin, perMessageDeflate: false });
            tell('open', url, this);
            this.on('message', (data) => tell('received', String(data)));
            this.on('close', (code) => tell('closed', code));
        }

        send(data, ...more) {
            tell('sent', String(data));
            return super.send(data, ...more);
        }
    };
}


// what an upgrade is answered: an HTTP status (101 for a WebSocket), or 0
export function upgradeStatus(url, origin, protocol = 'sip') {
    return new Promise((resolve) => {
        const socket = new WebSocket(url, protocol,
                                     { origin, perMessageDeflate: false });
        socket.on('open', () => { resolve(101); socket.terminate(); });
        socket.on('unexpected-response', (request, response) => {
            resolve(response.statusCode);
            request.destroy();
        });
        socket.on('error', () => resolve(0));
    });
}


export const header = (message, name) =>
    message.match(new RegExp(`^${name}\\s*:\\s*(.*?)\\r?$`, 'mi'))?.[1];


export const mask = (text) =>
    text.replace(/(Bearer\s+(?:access_token=)?"?)([^\s"]{6})[^\s"]+/gi,
                 '$1$2...');


export function within(seconds, promise, what) {
    let timer;

    return Promise.race([
        promise,
        new Promise((_, reject) => {
            timer = setTimeout(
                () => reject(new Error(`${what}: nothing in ${seconds} s`)),
                seconds * 1000);
        }),
    ]).finally(() => clearTimeout(timer));
}


export const sleep = (seconds) =>
    new Promise((resolve) => setTimeout(resolve, seconds * 1000));


// true at last, or an error after ten seconds
export function until(test, what, seconds = 10) {
    return within(seconds, (async () => {
        while (!await test()) {
            await sleep(0.05);
        }
    })(), what);
}


// one test: a line of what was seen, or of what is wrong

let bad = 0;

export const failed = () => bad;


export async function check(name, code) {
    try {
        const seen = await code();
        console.log(`ok - ${name}${seen ? `: ${seen}` : ''}`);
    } catch (error) {
        bad++;
        console.log(`not ok - ${name}: ${error.message.split('\n')[0]}`);
    }
}


export function must(good, why) {
    if (!good) {
        throw new Error(why);
    }
}
