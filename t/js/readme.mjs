// The scripts that README.md shows, run as they stand: each has to register,
// and to sign out. Prints "ok - name" or "not ok - name: why" a check.
//
//   node readme.mjs --base https://localhost:8443

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import {
    browserFetch, browserSocket, header, options, sleep, within,
} from './lib.mjs';

const root = new URL('../../', import.meta.url);
const require = createRequire(new URL('wic/package.json', root));

const { base = 'https://localhost:8443' } = options();
const origin = new URL(base).origin;

const readme = await readFile(new URL('README.md', root), 'utf8');
const scripts = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map((m) => m[1]);
const { fetch } = globalThis;
const folder = await mkdtemp(join(tmpdir(), 'readme-'));

// SIP.js tells a lot
const print = console.log;
console.log = console.debug = console.warn = () => {};

let failed = 0;
let answers = [];
let sent = [];

globalThis.WebSocket = browserSocket(origin, (what, text) => {
    if (what === 'sent') {
        sent.push(text);
    } else if (what === 'received') {
        answers.push(text);
    }
});


// what a page's bundler does: names become files
function bundled(script) {
    return script.replace(/from '([^']+)'/g, (_, name) => {
        const url = name.startsWith('./')
            ? new URL(`wic/${name.slice(2)}`, root)
            : pathToFileURL(require.resolve(name));
        return `from '${url}'`;
    });
}


async function run(name, script) {
    const file = join(folder, `${name}.mjs`);
    const site = browserFetch(origin, `readme-${name}`);

    // browserFetch() ends in the global one itself, with a whole URL
    globalThis.fetch = (url, init) => (url instanceof URL
        ? fetch(url, init) : site(new URL(url, base), init));
    answers = [];
    sent = [];

    await writeFile(file, `${bundled(script)}\nexport { access };\n`);
    const { access } = await import(pathToFileURL(file));

    const ok = () => answers.some((text) => text.startsWith('SIP/2.0 200')
                                  && /REGISTER$/.test(header(text, 'CSeq')));
    await within(10, (async () => {
        while (!ok()) {
            await sleep(0.05);
        }
    })(), 'registration');

    await access.close();

    if (header(sent.at(-1), 'Expires') !== '0'
        && !/expires=0/.test(header(sent.at(-1), 'Contact')))
    {
        throw new Error('not signed out');
    }
}


for (const script of scripts) {
    const name = /sip\.js/.test(script) ? 'SIP.js' : 'JsSIP';

    try {
        await run(name, script);
        print(`ok - ${name} as README has it`);
    } catch (error) {
        failed++;
        print(`not ok - ${name}: ${error.stack}`.split('\n')[0]);
    }
}

await rm(folder, { recursive: true });
process.exit(failed ? 1 : 0);
