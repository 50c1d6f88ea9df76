// Bundles the page into dist/: one script, nothing fetched from elsewhere.

import { build } from 'esbuild';
import { cp, mkdir, rm } from 'node:fs/promises';

const here = new URL('.', import.meta.url).pathname;
const dist = `${here}dist`;

await rm(dist, { recursive: true, force: true });
await mkdir(dist);

await build({
    absWorkingDir: here, entryPoints: ['app.js'], outfile: `${dist}/app.js`,
    bundle: true, format: 'esm', target: 'es2022', minify: true,
    legalComments: 'eof', logLevel: 'warning',
});

for (const name of ['index.html', 'style.css']) {
    await cp(`${here}${name}`, `${dist}/${name}`);
}
