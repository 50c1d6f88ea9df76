/*
 * The page: sign in, show what is held and how it is registered, sign out.
 * The identity's life is ims-access.js' work, SIP is JsSIP's; calls and
 * messages are in phone.js.
 */

import JsSIP from 'jssip';
import { ImsAccess, jssip } from './ims-access.js';
import { inCall, startPhone, stopPhone } from './phone.js';

const KEPT = 200;           // messages shown, the oldest go

const $ = (id) => document.getElementById(id);

let access = null;
let ua = null;
let lost = 0;               // when the connection was lost, 0: it is there


// what is shown

function state(kind, text) {
    $('state').dataset.state = kind;
    $('state-text').textContent = text;
}


function problem(text) {
    $('problem').textContent = text ?? '';
    $('problem').hidden = !text;
}


function notice(text) {
    $('notice').textContent = text ?? '';
    $('notice').hidden = !text;
}


const clock = (date) => date.toLocaleTimeString();


function showIdentity(id) {
    $('impu').textContent = id.impu;
    $('impi').textContent = id.impi;
    $('home').textContent = id.home_domain;
    $('lease').textContent = id.lease;
    $('edge').textContent = id.ws_uri;

    const others = id.impus.filter((uri) => uri !== id.impu);
    $('more').textContent = others.join(', ');
    $('more-row').hidden = others.length === 0;
}


function showLife() {
    if (!access?.identity) {
        return;
    }

    const left = Math.max((access.expiresAt - Date.now()) / 1000, 0);
    const whole = Math.floor(left);

    $('ends').textContent = left === 0 ? 'ended'
        : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
    $('bar').value = left / access.identity.expires_in;
}

setInterval(showLife, 500);


// a message as it may be shown: tokens are worth an identity

function mask(text) {
    return text.replace(/(Bearer\s+(?:access_token=)?"?)[^\s"]+/gi,
                        '$1(masked)');
}


function note(direction, text) {
    const log = $('log');
    const head = document.createElement('h3');
    const body = document.createElement('pre');

    head.textContent = `${clock(new Date())} ${direction}`;
    body.textContent = mask(text.trim()) || '(keep-alive)';
    log.append(head, body);

    while (log.childElementCount > 2 * KEPT) {
        log.firstChild.remove();
    }

    $('count').textContent = Number($('count').textContent) + 1;
    log.scrollTop = log.scrollHeight;
}


// JsSIP tells of its messages nowhere but in its debug log: a socket that
// wraps its own tells of them here

class TellingSocket extends JsSIP.WebSocketInterface {
    send(message) {
        note('sent', String(message));
        return super.send(message);
    }

    set ondata(handler) {
        this.handler = (data) => {
            note('received', typeof data === 'string' ? data : '(binary)');
            handler(data);
        };
    }

    get ondata() {
        return this.handler;
    }
}


// one user agent for one identity

function startAgent(id) {
    ua?.stop();

    const agent = new JsSIP.UA({
        sockets: [new TellingSocket(id.ws_uri)], uri: id.impu,
        authorization_jwt: access.authorization, register_expires: 600,
        connection_recovery_min_interval: 1,
        connection_recovery_max_interval: 20,
    });

    ua = agent;
    lost = 0;

    // an agent that was stopped goes on for a while: it is not shown
    const on = (name, show) => agent.on(name, (data) => {
        if (agent === ua) {
            show(data);
        }
    });

    on('connecting', () => state('wait', 'Connecting to the edge'));
    on('connected', () => state('wait', 'Connected, registering'));
    on('registered', () => {
        state('good', `Registered since ${clock(new Date())}`);
        problem();

        if (lost) {
            const seconds = Math.max(Math.round((Date.now() - lost) / 1000),
                                     1);
            notice(`The connection was lost for ${seconds} s, and is back `
                   + `since ${clock(new Date())}.`);
            lost = 0;
        }
    });
    on('unregistered', () => state('wait', 'Not registered'));
    on('registrationFailed', ({ response, cause }) => {
        const why = response
            ? `${response.status_code} ${response.reason_phrase}` : cause;
        state('bad', `Registration refused: ${why}`);
    });
    on('disconnected', ({ code, reason }) => {
        lost ||= Date.now();
        notice(inCall() ? 'Connecting again. The call goes on meanwhile.'
                        : 'Connecting again.');
        state('wait', 'Connection lost, connecting again'
              + (code ? ` (${code}${reason ? ` ${reason}` : ''})` : ''));
    });

    startPhone(agent);
    access.attach(jssip(agent));
    agent.start();
}


function said({ error }) {
    return error.code === 'pool_exhausted'
        ? 'All identities of the pool are in use just now.' : error.message;
}


async function signIn(name) {
    // what basic authentication sends: this demo checks no password
    const bytes = new TextEncoder().encode(`${name}:`);
    const basic = `Basic ${btoa(String.fromCharCode(...bytes))}`;

    access = new ImsAccess({
        url: '/ims/identity', headers: name ? { Authorization: basic } : {},
    });

    access.addEventListener('identity', ({ detail }) => {
        if (detail.previous) {
            problem('The lease had ended: this is another identity.');
        }
        showIdentity(detail.identity);
        $('renewed').textContent = `not yet (got at ${clock(new Date())})`;
        startAgent(detail.identity);
    });
    access.addEventListener('renewed', ({ detail }) => {
        showIdentity(detail.identity);
        $('renewed').textContent = `at ${clock(new Date())}`;
        problem();
    });
    access.addEventListener('retry', ({ detail }) => {
        problem(`${said(detail)} Trying again in `
                + `${Math.ceil(detail.seconds)} s.`);
    });
    access.addEventListener('denied', ({ detail }) => problem(said(detail)));

    problem();
    $('go').disabled = $('anonymous').disabled = true;

    try {
        await access.open();
        $('who').textContent = name || 'nobody (anonymous)';
        $('sign-in').hidden = true;
        $('me').hidden = $('phone').hidden = false;
        $('to').focus();

    } catch (error) {
        problem(said({ error }));
        access.close();
        access = null;

    } finally {
        $('go').disabled = $('anonymous').disabled = false;
    }
}


async function signOut() {
    $('out').disabled = true;
    state('wait', 'Signing out');
    stopPhone();

    await access.close();

    access = ua = null;
    state('idle', 'Not registered');
    problem();
    notice();
    $('out').disabled = false;
    $('me').hidden = $('phone').hidden = true;
    $('messages').replaceChildren();
    $('messages').hidden = true;
    $('sign-in').hidden = false;
    $('name').focus();
}


$('sign-in').addEventListener('submit', (event) => {
    event.preventDefault();
    signIn(event.submitter?.id === 'anonymous' ? '' : $('name').value.trim());
});

$('out').addEventListener('click', signOut);
