// The network's word on who calls, in all forms that it may have.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { asserted } from '../asserted.js';

const of = (value) => asserted({
    getHeader: (name) =>
        (name === 'P-Asserted-Identity' ? value : '<sip:from@example.org>'),
});

const forms = [
    ['<sip:a@example.org>', '', 'sip:a@example.org'],
    ['sip:a@example.org', '', 'sip:a@example.org'],
    ['tel:+4930123;x=1', '', 'tel:+4930123'],
    ['Anna B <tel:+4930123>', 'Anna B', 'tel:+4930123'],
    ['"Anna, B" <sip:a@example.org;x=1>;y=2', 'Anna, B',
     'sip:a@example.org;x=1'],
    ['<sip:a@example.org>, <tel:+4930123>', '', 'sip:a@example.org'],
    // a name that looks like an identity is a name
    ['"<sip:police@example.org>" <sip:a@example.org>',
     '<sip:police@example.org>', 'sip:a@example.org'],
    ['"x\\" <sip:police@example.org>" <sip:a@example.org>',
     'x" <sip:police@example.org>', 'sip:a@example.org'],
];

for (const [value, name, uri] of forms) {
    test(`read: ${value}`, () => {
        assert.deepEqual(of(value), { name, uri });
    });
}

for (const value of [undefined, '', 'nobody', '"open <sip:a@example.org>',
                     '<sip:a@example.org', '<>', 'http://example.org'])
{
    test(`nobody: ${value}`, () => {
        assert.equal(of(value), null);
    });
}

test('no message, nobody', () => {
    assert.equal(asserted(undefined), null);
});
