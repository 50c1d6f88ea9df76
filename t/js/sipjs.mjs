// SIP.js with ims-access.js: register, renew, lose the connection, sign
// out. SIP.js writes other REGISTERs than JsSIP: no Expires header, no
// reg-id unless told to, no token of its own. Prints "ok - name" or
// "not ok - name: why" a check.
//
//   node sipjs.mjs --base https://localhost:8443 [--user NAME]

import { ImsAccess, sipjs } from '../../wic/ims-access.js';
import {
    browserFetch, browserSocket, check, failed, header, loadModule, must,
    options, until,
} from './lib.mjs';

const o = options();
const base = o.base ?? 'https://localhost:8443';
const origin = o.origin ?? new URL(base).origin;

const sent = [];
const answers = [];
const sockets = [];

globalThis.WebSocket = browserSocket(origin, (what, text, socket) => {
    if (what === 'sent') {
        sent.push(text);
    } else if (what === 'received') {
        answers.push(text);
    } else if (what === 'open') {
        sockets.push(socket);
    }
});

const { Registerer, RegistererState, UserAgent } = await loadModule('sip.js');


const bearer = (text) => /^Bearer \S+$/.test(header(text, 'Authorization'));

const access = new ImsAccess({
    url: `${base}/ims/identity`,
    fetch: browserFetch(origin, o.user ?? 'bob'),
});

let id, userAgent, registerer;

await check('identity', async () => {
    id = await access.open();
    return id.impu;
});

await check('registered', async () => {
    userAgent = new UserAgent({
        uri: UserAgent.makeURI(id.impu), logLevel: 'error',
        transportOptions: { server: id.ws_uri },
    });
    registerer = new Registerer(userAgent, { logConfiguration: false });

    access.attach(sipjs(userAgent, registerer));
    await userAgent.start();
    await until(() => registerer.state === RegistererState.Registered,
                'registration');

    must(bearer(sent[0]), 'no token in it');
    must(!/reg-id/.test(sent[0]), 'a reg-id: not the case that is meant');
    return header(answers[0], 'Contact');
});

await check('registered again with a fresh token', async () => {
    const before = answers.length;
    const token = access.authorization;

    await access.renew();
    await until(() => answers.length > before, 'an answer');

    must(access.authorization !== token, 'the same token');
    must(header(sent.at(-1), 'Authorization') === access.authorization,
         'not the fresh token');
    must(answers.at(-1).startsWith('SIP/2.0 200'), answers.at(-1));
});

await check('comes back when the connection is lost', async () => {
    const before = answers.length;

    sockets.at(-1).terminate();
    await until(() => answers.length > before, 'an answer');

    must(sockets.length === 2, 'no second connection');
    must(answers.at(-1).startsWith('SIP/2.0 200'), answers.at(-1));
    must(registerer.state === RegistererState.Registered, registerer.state);
});

await check('signed out, the de-REGISTER with a token', async () => {
    await access.close();

    const last = sent.at(-1);

    must(/expires=0/.test(last), 'no de-REGISTER');
    must(bearer(last), 'no token in it');
    must(answers.at(-1).startsWith('SIP/2.0 200'), answers.at(-1));
});

process.exit(failed() ? 1 : 0);
