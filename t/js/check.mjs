// The call flow, walked by real SIP stacks over wss: registration by JsSIP,
// messages between it and SIP.js, calls between two users of SIP.js. One line
// a step, with what was seen on the wire; exit 1 at the first that fails.
//
// Node has no WebRTC: the calls' media are plain RTP over the loopback. Two
// browsers with audio and video are in t/browser_call.t.
//
//   node check.mjs --base https://localhost:8443 [--user NAME]
//                  [--origin URL] [--core-log FILE]
//
// NODE_EXTRA_CA_CERTS names the certificate. The core's log, where there is
// one, is Kamailio's with WITH_TRACE.

import { readFile } from 'node:fs/promises';

import { ImsAccess, jssip } from '../../wic/ims-access.js';
import {
    JsSIP, browserFetch, browserSocket, header, mask, must, options, sleep,
    until, upgradeStatus, within,
} from './lib.mjs';
import {
    SipUser, asserted, ended, established, received,
} from './sipjs_user.mjs';

const o = options();
const base = o.base ?? 'https://localhost:8443';
const origin = o.origin ?? new URL(base).origin;
const user = o.user ?? 'check';

let step = 'start';


function say(number, text) {
    console.log(`ok ${number} - ${text}`);
}


// the last request in the core's log that a test fits
async function coreGot(fits) {
    for (let i = 0; i < 50; i++) {
        const log = await readFile(o['core-log'], 'latin1');
        const all = [...log.matchAll(/got from \S+\n([^]*?\r\n\r\n)/g)]
            .map(([, text]) => text).filter(fits);

        if (all.length) {
            return all.at(-1);
        }

        await sleep(0.1);
    }

    throw new Error('it did not come to the core');
}


// a message by JsSIP, and one to it; who it is from is the network's word

async function messages(ua, id, second) {
    step = '7 message';

    const status = await within(10, new Promise((resolve, reject) => {
        ua.sendMessage(second.impu, 'hello', { eventHandlers: {
            succeeded: ({ response }) => resolve(response.status_code),
            failed: ({ response, cause }) =>
                reject(new Error(`answered ${response?.status_code ?? cause}`)),
        } });
    }), 'an answer to the message');
    const message = await second.wrote();

    must(message.body === 'hello', 'another text came');
    must(asserted(message) === `<${id.impu}>`, `from ${asserted(message)}`);

    say(7, `message of JsSIP to SIP.js: ${status}, came with `
           + `P-Asserted-Identity ${asserted(message)}`);

    step = '8 message back';

    const came = new Promise((resolve) => {
        ua.on('newMessage', ({ originator, request }) => {
            if (originator === 'remote') {
                resolve(request);
            }
        });
    });
    const answer = await second.write(id.impu, 'hello yourself');
    const back = await within(10, came, 'the message');

    must(answer.statusCode === 200, `answered ${answer.statusCode}`);
    must(back.body === 'hello yourself', 'another text came');
    must(asserted(back) === `<${second.impu}>`, `from ${asserted(back)}`);

    say(8, `message of SIP.js to JsSIP: ${answer.statusCode}, came with `
           + `P-Asserted-Identity ${asserted(back)}`);
}


// rung, answered, heard on both sides, hung up by one of them

async function call(number, from, to, byCaller) {
    step = `${number} call ${byCaller ? '' : 'back'}`.trim();

    const out = await from.call(to);
    const into = await to.called();
    const callId = out.request.callId;

    must(asserted(into.request) === `<${from.impu}>`,
         `from ${asserted(into.request)}`);
    await into.accept();
    await established(out, into);
    await until(() => Math.min(received(out), received(into)) >= 25,
                'media in both directions');

    const heard = [received(out), received(into)];

    await (byCaller ? out : into).bye();
    await ended(out, into);

    if (o['core-log']) {
        const got = await coreGot((text) => text.startsWith('INVITE')
                                  && header(text, 'Call-ID') === callId);

        must(/^<sip:orig@/.test(header(got, 'Route') ?? ''),
             `Route: ${header(got, 'Route')}`);
        must(!/Bearer/i.test(got), 'the token went on to the core');
    }

    say(number, `call by SIP.js: ${from.impu} to ${to.impu}, answers `
        + `${out.answers.map((m) => m.statusCode).join(' ')}, `
        + `P-Asserted-Identity ${asserted(into.request)}, ${heard[0]} and `
        + `${heard[1]} packets of plain RTP (no WebRTC in Node), `
        + `BYE by the ${byCaller ? 'caller' : 'called one'}`);
}


async function walk() {
    step = '1 identity';

    const fetch = browserFetch(origin, user);
    const access = new ImsAccess({ url: `${base}/ims/identity`, fetch });
    const id = await access.open();

    must(id.impu.startsWith('sip:') && id.impus.includes(id.impu),
         'no IMPU among its IMPUs');
    must(id.token_type === 'Bearer' && id.expires_in > 0, 'no Bearer token');

    const again = await (await fetch(`${base}/ims/identity`,
                                     { method: 'POST' })).json();

    must(again.lease === id.lease && again.impi === id.impi,
         'the same user got another lease');
    must(again.token !== id.token, 'the token is not fresh');

    say(1, `identity: ${user} holds ${id.impu} (IMPI ${id.impi}), `
           + `lease ${id.lease}, token for ${id.expires_in} s`);

    step = '2 upgrade';

    const foreign = 'https://evil.example';
    const statuses = [await upgradeStatus(id.ws_uri, origin),
                      await upgradeStatus(id.ws_uri, foreign),
                      await upgradeStatus(id.ws_uri, undefined)];

    must(statuses[0] === 101, `Origin ${origin} got ${statuses[0]}, not 101`);
    must(statuses[1] === 403, `Origin ${foreign} got ${statuses[1]}, not 403`);
    must(statuses[2] === 403, `without Origin it got ${statuses[2]}, not 403`);

    say(2, `upgrade of ${id.ws_uri}: Origin ${origin} 101, `
           + `${foreign} 403, none 403`);

    step = '3 REGISTER';

    const sent = [];
    const received = [];

    globalThis.WebSocket = browserSocket(origin, (what, text) => {
        if (what === 'sent') {
            sent.push(text);
        } else if (what === 'received') {
            received.push(text);
        }
    });

    const ua = new JsSIP.UA({
        sockets: [new JsSIP.WebSocketInterface(id.ws_uri)], uri: id.impu,
        register_expires: 300,
    });
    const done = new Promise((resolve, reject) => {
        ua.on('registered', ({ response }) => resolve(response));
        ua.on('registrationFailed', ({ response, cause }) => reject(new Error(
            response ? `answered ${response.status_code} `
                       + response.reason_phrase : cause)));
    });

    access.attach(jssip(ua));
    ua.start();

    const response = await within(10, done, '200 for the REGISTER')
        .finally(() => {
            if (sent.length) {
                say(3, `REGISTER sent: ${sent[0].split('\r\n')[0]}, `
                    + `To ${header(sent[0], 'To')}, `
                    + `Authorization: `
                    + mask(header(sent[0], 'Authorization') ?? '(none)'));
                step = '4-6 to the core and back';
            }
        });

    step = '4 what the core got';

    if (o['core-log']) {
        const callId = header(sent[0], 'Call-ID');
        const got = await coreGot((text) => text.startsWith('REGISTER')
                                  && header(text, 'Call-ID') === callId);
        const authorization = header(got, 'Authorization') ?? '(none)';

        must(/integrity-protected="auth-done"/.test(authorization),
             `Authorization: ${mask(authorization)}`);
        must(authorization.includes(`username="${id.impi}"`),
             'not this IMPI');
        must(!/Bearer/i.test(got), 'the token went on to the core');
        must(header(got, 'Path'), 'no Path');

        say(4, `the core got: ${got.split('\r\n')[0]}, `
               + `Authorization: ${authorization}, `
               + `Path: ${header(got, 'Path')}`);
    } else {
        say(4, 'the core is not ours: what it got is not seen');
    }

    step = '5 the answer of the core';

    const answer = received.find((text) => text.startsWith('SIP/2.0 200'));

    must(response.status_code === 200 && answer, 'no 200');
    must(header(answer, 'Service-Route'), 'no Service-Route in the 200');
    must(header(answer, 'P-Associated-URI')?.includes(id.impu),
         'P-Associated-URI does not have the IMPU');

    say(5, `the core answered 200: Service-Route `
           + `${header(answer, 'Service-Route')}, P-Associated-URI `
           + header(answer, 'P-Associated-URI'));

    step = '6 registered';

    const expires = Number(answer.match(/expires=(\d+)/i)?.[1]);

    must(ua.isRegistered(), 'JsSIP does not hold itself for registered');
    must(expires > 0 && expires <= id.expires_in + 1,
         `registered for ${expires} s, longer than the lease`);

    say(6, `registered: Contact ${header(answer, 'Contact')}`);

    step = '7 two more users';

    const second = await SipUser.start({ base, origin, user: `${user}-2` });
    const third = await SipUser.start({ base, origin, user: `${user}-3` });

    await messages(ua, id, second);
    await call(9, second, third, true);
    await call(10, third, second, false);

    step = 'sign-out';

    await access.close();
    await second.stop();
    await third.stop();

    must(sent.some((text) => /^Expires:\s*0\r$/mi.test(text)),
         'no de-REGISTER was sent');
    await sleep(0.1);
}


walk().then(() => process.exit(0), (error) => {
    const cause = error.cause ? ` (${error.cause.message})` : '';
    console.log(`not ok - step ${step}: ${error.message}${cause}`);
    process.exit(1);
});
