/*
 * Calls and messages of the page: one call at a time, by JsSIP. Who calls is
 * what the network says (P-Asserted-Identity); From is the caller's own word
 * and is shown nowhere.
 */

import { asserted } from './asserted.js';

const KEPT = 100;           // messages shown, the oldest go
const GONE = 30;            // seconds without media until it is hung up

const $ = (id) => document.getElementById(id);

let agent = null;           // of JsSIP, that of the identity held
let session = null;         // the call
let call = null;            // what is known of it, see begin()


// who it is

const short = (uri) => uri.replace(/^(sips?|tel):/i, '');


function title(who) {
    return who ? who.name || short(who.uri) : 'Identity withheld';
}


const clock = (date) => date.toLocaleTimeString();


// nobody who is writing shall find that Enter has answered a call
function focus(id) {
    if (!['INPUT', 'TEXTAREA'].includes(document.activeElement?.tagName)) {
        $(id).focus();
    }
}


// what is shown of the call

const TEXT = {
    calling: 'Calling', ringing: 'It rings', incoming: 'Incoming call',
    answering: 'Answering', talking: 'In a call',
    leaving: 'Hangs up when the connection is back',
};


function show() {
    const phase = call?.phase;
    const talking = phase === 'talking';

    $('call').hidden = !call;
    $('dial').disabled = $('dial-video').disabled = Boolean(call);
    document.title = phase === 'incoming' ? 'Incoming call'
                                          : 'Web user on IMS';

    if (!call) {
        return;
    }

    $('call').dataset.phase = phase;
    $('peer').textContent = call.who ? title(call.who)
        : call.incoming ? 'Identity withheld' : short(call.target);
    $('peer-uri').textContent = call.who
        ? `${call.who.uri}, as the network says`
        : call.incoming ? 'The network does not tell who it is' : 'Dialled';
    $('answer').hidden = phase !== 'incoming';
    $('answer-video').hidden = phase !== 'incoming' || !call.video;
    $('hang-up').textContent = phase === 'incoming' ? 'Decline' : 'Hang up';
    $('hang-up').disabled = phase === 'leaving';
    $('mute').hidden = !talking;
    $('camera').hidden = !talking || !sends('video');
    showTime();
}


function showTime() {
    if (!call) {
        return;
    }

    const s = call.since ? Math.floor((Date.now() - call.since) / 1000) : 0;
    const time = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;

    $('call-time').textContent = call.phase === 'talking' ? time : '';

    const muted = call.phase === 'talking' && session.isMuted().audio;
    const broken = call.phase === 'talking' && call.broken;
    const text = TEXT[call.phase] + (muted ? ', muted' : '')
                 + (broken ? ', nothing is heard' : '');

    // not told anew each second to those who listen to the page
    if ($('call-state').textContent !== text) {
        $('call-state').textContent = text;
    }
}

setInterval(showTime, 500);


// the buttons keep their names: pressed or not says it
function showMuted() {
    const { audio, video } = session?.isMuted() ?? {};

    $('mute').setAttribute('aria-pressed', Boolean(audio));
    $('camera').setAttribute('aria-pressed', Boolean(video));
    showTime();
}


// a line among the messages: of a message, or of a call that ended

function line(kind, head, body) {
    const item = document.createElement('li');
    const small = document.createElement('small');
    const text = document.createElement('p');

    item.className = kind;
    small.textContent = `${clock(new Date())} ${head}`;
    text.textContent = body;
    item.append(small, text);
    $('messages').append(item);
    $('messages').hidden = false;

    while ($('messages').childElementCount > KEPT) {
        $('messages').firstChild.remove();
    }

    item.scrollIntoView({ block: 'nearest' });
    return small;
}


// sound and picture

function sends(kind) {
    return session?.connection?.getSenders()
        .some(({ track }) => track?.kind === kind);
}


// the way to the other side is broken: for a while, or it is gone for good,
// and whoever was there can say no goodbye

function watchWay(connection) {
    let timer;

    connection.addEventListener('iceconnectionstatechange', () => {
        const state = connection.iceConnectionState;

        clearTimeout(timer);

        if (session?.connection !== connection) {
            return;
        }

        call.broken = state === 'disconnected' || state === 'failed';
        showTime();

        if (call.broken) {
            timer = setTimeout(() => {
                if (session?.connection === connection) {
                    hangUp();
                }
            }, GONE * 1000);
        }
    });
}


function media(connection) {
    const stream = new MediaStream();

    watchWay(connection);

    connection.addEventListener('track', ({ track }) => {
        stream.addTrack(track);

        if (track.kind === 'audio') {
            $('sound').srcObject = stream;
            return;
        }

        // a picture has a track before, and without, anything in it
        const seen = () => { $('remote').hidden = track.muted; };

        $('remote').srcObject = stream;
        track.addEventListener('mute', seen);
        track.addEventListener('unmute', seen);
        seen();
    });
}


function showSelf() {
    const track = session?.connection?.getSenders()
        .map((sender) => sender.track).find((t) => t?.kind === 'video');

    $('local').srcObject = track ? new MediaStream([track]) : null;
    $('local').hidden = !track;
}


function silence() {
    for (const id of ['sound', 'remote', 'local']) {
        $(id).srcObject = null;
    }

    $('remote').hidden = $('local').hidden = true;
}


// a call's life

function phase(name) {
    call.phase = name;
    show();
}


function begin(what, known) {
    session = what;
    call = {
        since: 0, who: null, target: '', video: false, broken: false, ...known,
    };

    const on = (name, handler) => what.on(name, (data) => {
        if (what === session) {
            handler(data);
        }
    });

    on('progress', ({ originator, response }) => {
        if (originator === 'remote' && response.status_code > 100) {
            call.who ??= asserted(response);
            phase('ringing');
        }
    });
    on('accepted', ({ originator, response }) => {
        if (originator === 'remote') {
            call.who = asserted(response) ?? call.who;
        }
    });
    on('confirmed', () => {
        call.since ||= Date.now();
        showSelf();
        phase('talking');
        focus('mute');
    });
    on('muted', showMuted);
    on('unmuted', showMuted);
    on('ended', ({ cause }) => end(cause));
    on('failed', ({ cause, message }) => {
        end(message?.status_code
            ? `${message.status_code} ${message.reason_phrase}` : cause);
    });

    if (what.connection) {
        media(what.connection);
    } else {
        on('peerconnection', ({ peerconnection }) => media(peerconnection));
    }

    showMuted();
    show();
}


function end(cause) {
    const who = call.who ? title(call.who)
        : call.incoming ? 'identity withheld' : short(call.target);

    line('event', `${call.incoming ? 'Call from' : 'Call to'} ${who}`,
         call.since ? `Ended after ${$('call-time').textContent || '0:00'}`
                    : cause);
    silence();
    session = call = null;
    $('announce').textContent = '';
    show();
    focus('to');
}


function dial(video) {
    const target = $('to').value.trim();

    if (!target || call) {
        $('to').focus();
        return;
    }

    // the session is there before call() returns, by newRTCSession
    tried(() => agent.call(target, {
        mediaConstraints: { audio: true, video },
    }));
}


function answer(video) {
    phase('answering');
    session.answer({ mediaConstraints: { audio: true, video } });
}


// A BYE that cannot leave would leave the other one in the call: it waits.

function hangUp() {
    if (agent.isConnected()) {
        session.terminate(call.phase === 'incoming'
            ? { status_code: 603, reason_phrase: 'Decline' } : {});
        return;
    }

    session.mute({ audio: true, video: true });
    silence();
    phase('leaving');
}


function tried(code) {
    try {
        code();

    } catch (error) {
        line('event', 'Not possible', error.message);
    }
}


function sendMessage() {
    const target = $('to').value.trim();
    const text = $('text').value;

    if (!target || !text.trim()) {
        (target ? $('text') : $('to')).focus();
        return;
    }

    tried(() => {
        let head;

        agent.sendMessage(target, text, {
            contentType: 'text/plain;charset=utf-8',
            eventHandlers: {
                succeeded: () => { head.textContent += ', delivered'; },
                failed: ({ response, cause }) => {
                    head.textContent += `, not delivered: ${response
                        ? `${response.status_code} ${response.reason_phrase}`
                        : cause}`;
                },
            },
        });
        head = line('sent', `to ${target}`, text);
        $('text').value = '';
    });
}


// what the page calls

/** Calls and messages go by this agent from now on. */
export function startPhone(by) {
    agent = by;

    by.on('newRTCSession', ({ originator, session: what, request }) => {
        if (originator === 'local') {
            begin(what, { phase: 'calling', target: `${request.to.uri}` });
            return;
        }

        if (call || by !== agent) {
            what.terminate({ status_code: 486, reason_phrase: 'Busy Here' });
            return;
        }

        begin(what, {
            phase: 'incoming', incoming: true, who: asserted(request),
            video: /^m=video [1-9]/m.test(request.body ?? ''),
        });
        focus('answer');
        $('announce').textContent = `Incoming call: ${title(call.who)}`;
    });

    by.on('newMessage', ({ originator, request }) => {
        if (originator === 'remote') {
            const who = asserted(request);
            line('received', `from ${who ? who.uri : '(identity withheld)'}`,
                 request.body ?? '');
        }
    });

    // Registered again after a loss. What was to be said can be said now; and
    // if the loss was one of the network, the media's way is gone with it.
    by.on('registered', () => {
        if (by !== agent || !call) {
            return;
        }

        if (call.phase === 'leaving') {
            session.terminate();
            return;
        }

        if (call.phase === 'talking' && call.broken) {
            session.renegotiate({ rtcOfferConstraints: { iceRestart: true } });
        }
    });

    show();
}


/** Hangs up, before signing out. */
export function stopPhone() {
    if (session) {
        tried(() => session.terminate());
    }

    agent = null;
}


/** Is there a call? */
export const inCall = () => Boolean(call);


$('phone').addEventListener('submit', (event) => {
    event.preventDefault();

    // Enter in the text sends it; in the address it calls
    if (event.submitter?.id === 'send') {
        sendMessage();

    } else {
        dial(event.submitter?.id === 'dial-video');
    }
});

$('text').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        sendMessage();
    }
});

$('answer').addEventListener('click', () => answer(false));
$('answer-video').addEventListener('click', () => answer(true));
$('hang-up').addEventListener('click', hangUp);

$('mute').addEventListener('click', () => {
    session[session.isMuted().audio ? 'unmute' : 'mute']({ audio: true });
});

$('camera').addEventListener('click', () => {
    session[session.isMuted().video ? 'unmute' : 'mute']({ video: true });
});

// the other side shall not hear silence when this page is closed
addEventListener('pagehide', () => {
    if (session && agent?.isConnected()) {
        session.terminate();
    }
});
