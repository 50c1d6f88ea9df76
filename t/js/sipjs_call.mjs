// SIP.js in both roles: messages and calls of two users through nginx and
// the core, with early media, PRACK, re-INVITE, INFO, CANCEL, refusals, and
// a lost connection. Prints "ok - name" or "not ok - name: why" a check.
//
//   node sipjs_call.mjs --base https://localhost:8443

import { check, failed, must, options, sleep, until } from './lib.mjs';
import {
    SipUser, asserted, ended, established, received,
} from './sipjs_user.mjs';

const o = options();
const base = o.base ?? 'https://localhost:8443';

const alice = await SipUser.start({ base, user: 'alice' });
const bob = await SipUser.start({ base, user: 'bob' });


async function media(a, b) {
    const before = [received(a), received(b)];
    let got;

    await until(() => {
        got = [received(a) - before[0], received(b) - before[1]];
        return Math.min(...got) >= 10;
    }, 'packets on both sides');

    return `${got[0]} and ${got[1]} packets of RTP`;
}


async function talk(from, to) {
    const out = await from.call(to);
    const into = await to.called();

    must(asserted(into.request) === `<${from.impu}>`,
         `it is from ${asserted(into.request)}`);
    await into.accept();
    await established(out, into);
    return [out, into];
}


await check('messages, both directions, by asserted identities', async () => {
    for (const [from, to] of [[alice, bob], [bob, alice]]) {
        const answer = await from.write(to, `from ${from.name}`);
        const message = await to.wrote();

        must(answer.statusCode === 200, `answered ${answer.statusCode}`);
        must(message.body === `from ${from.name}`, 'another body');
        must(asserted(message) === `<${from.impu}>`, asserted(message));
        must(!/Bearer/.test(message.data ?? ''), 'a token in it');
    }
});

let out, into;

await check('a call, reliably ringing (183, PRACK), answered', async () => {
    out = await alice.call(bob);
    into = await bob.called();
    must(asserted(into.request) === `<${alice.impu}>`,
         asserted(into.request));
    must(into.request.getHeader('Supported').includes('100rel'),
         'no 100rel offered');

    await into.progress({ statusCode: 183, rel100: true });
    await until(() => out.answers.some((m) => m.statusCode === 183), '183');

    const early = out.answers.find((m) => m.statusCode === 183);

    must(early.getHeader('RSeq') && early.getHeader('Require') === '100rel',
         'not reliable');
    must(asserted(early) === `<${bob.impu}>`, asserted(early));
    await into.accept();
    await established(out, into);
    return media(out, into);
});

await check('re-INVITE by either side', async () => {
    for (const [by, other] of [[out, into], [into, out]]) {
        let answer;
        const keep = ({ message }) => { answer = message; };

        // refused by SIP.js itself while the ACK of the one before is missing
        await until(() => by.invite({ requestDelegate: {
            onAccept: keep, onReject: keep,
        } }).then(() => true, () => false), 'another re-INVITE');
        await until(() => answer, 'an answer');

        must(answer.statusCode === 200, `answered ${answer.statusCode}`);
        must(other.reinvited, 'the other side got none');
    }

    return media(out, into);
});

await check('INFO in the dialog, both directions', async () => {
    for (const [by, other] of [[out, into], [into, out]]) {
        await by.info({ requestOptions: { body: {
            contentDisposition: 'render', contentType: 'text/plain',
            content: 'hello',
        } } });
        await until(() => other.infos.length, 'INFO');
        must(other.infos[0].body === 'hello', 'another body');
    }
});

await check('hung up by the called one', async () => {
    await into.bye();
    await ended(out, into);
});

await check('called back, hung up by the caller', async () => {
    const both = await talk(bob, alice);
    const seen = await media(...both);

    await both[0].bye();
    await ended(...both);
    return seen;
});

await check('cancelled', async () => {
    out = await alice.call(bob);
    into = await bob.called();
    await into.progress();
    await until(() => out.answers.some((m) => m.statusCode === 180), '180');
    await out.cancel();
    await ended(out, into);
    must(out.answers.at(-1).statusCode === 487,
         `answered ${out.answers.at(-1).statusCode}`);
});

await check('busy', async () => {
    out = await bob.call(alice);
    into = await alice.called();
    await into.reject({ statusCode: 486 });
    await ended(out, into);
    must(out.answers.at(-1).statusCode === 486,
         `answered ${out.answers.at(-1).statusCode}`);
});

await check('nobody registered there', async () => {
    out = await bob.call('sip:web-000019@ims.example');
    await ended(out);
    must(out.answers.at(-1).statusCode === 480,
         `answered ${out.answers.at(-1).statusCode}`);
});

await check('a call outlives the connection of either side', async () => {
    [out, into] = await talk(alice, bob);

    for (const user of [alice, bob]) {
        await user.cut();
        await until(() => user.connected, 'a connection');
    }

    const seen = await media(out, into);

    await out.bye();
    await ended(out, into);
    return seen;
});

await check('said goodbye while the other one had no connection',
async () => {
    [out, into] = await talk(alice, bob);
    await bob.cut();
    await out.bye();
    await ended(out, into);
});

await check('somebody who vanished: 480 at once', async () => {
    await until(() => bob.connected, 'bob');
    await bob.vanish();
    await sleep(0.2);

    const start = Date.now();

    out = await alice.call(bob);
    await ended(out);

    const answer = out.answers.at(-1);

    must(answer.statusCode === 480, `answered ${answer.statusCode}`);
    must(Date.now() - start < 2000, `after ${Date.now() - start} ms`);
    return `${answer.statusCode} ${answer.reasonPhrase}`;
});

await alice.stop();
process.exit(failed() ? 1 : 0);
