/*
 * Who sent a request or an answer, as the network says (RFC 3325). It is the
 * one thing about a caller that may be shown: From is his own word.
 */

/**
 * The first identity in P-Asserted-Identity of a message of JsSIP or SIP.js:
 * { name, uri }, the name empty where there is none; null where the network
 * tells nobody, or what it tells cannot be read.
 */
export function asserted(message) {
    const text = message?.getHeader('P-Asserted-Identity') ?? '';
    const quoted = /^\s*"((?:[^"\\]|\\.)*)"\s*<([^<>\s]+)>/.exec(text);
    const named = quoted ?? /^\s*([^<>",:]*)<([^<>\s]+)>/.exec(text);

    if (named) {
        return { name: named[1].replace(/\\(.)/g, '$1').trim(),
                 uri: named[2] };
    }

    const bare = /^\s*((?:sips?|tel):[^\s,;<>"]+)/i.exec(text);
    return bare ? { name: '', uri: bare[1] } : null;
}
