// A user with SIP.js that calls and is called without a browser. Node has no
// WebRTC: the media are plain RTP of our own making over the loopback, which
// is what the SDP then says (RTP/AVP, no ICE, no DTLS). The signalling is
// SIP.js' and whole.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';

import { ImsAccess, sipjs } from '../../wic/ims-access.js';
import { browserFetch, browserSocket, loadModule, until } from './lib.mjs';

const {
    Inviter, Messager, Registerer, RegistererState, SessionState, UserAgent,
    UserAgentState,
} = await loadModule('sip.js');


// 50 packets a second of silence (PCMU), and how many came

class PlainRtp {
    socket = null;
    received = 0;
    version = 0;
    direction = 'sendrecv';

    async open() {
        if (this.socket) {
            return;
        }

        this.socket = createSocket('udp4');
        this.socket.on('message', (packet) => {
            if (packet.length === 172 && packet[0] === 0x80
                && this.direction === 'sendrecv')
            {
                this.received++;
            }
        });
        this.socket.bind(0, '127.0.0.1');
        await once(this.socket, 'listening');
    }

    // what SIP.js asks of a session description handler

    hasDescription(type) { return type === 'application/sdp'; }

    async getDescription() {
        await this.open();

        const body = [
            'v=0', `o=- 1 ${++this.version} IN IP4 127.0.0.1`, 's=-',
            'c=IN IP4 127.0.0.1', 't=0 0',
            `m=audio ${this.socket.address().port} RTP/AVP 0`,
            'a=rtpmap:0 PCMU/8000', `a=${this.direction}`, '',
        ].join('\r\n');

        return { body, contentType: 'application/sdp' };
    }

    async setDescription(sdp) {
        await this.open();

        const port = Number(/^m=audio (\d+) RTP\/AVP/m.exec(sdp)?.[1]);

        if (!port) {
            throw new Error('no audio in the SDP');
        }

        const packet = Buffer.alloc(172, 0xff);
        let sequence = 0;

        packet.writeUInt16BE(0x8000, 0);
        packet.writeUInt32BE(process.pid, 8);

        clearInterval(this.timer);
        this.timer = setInterval(() => {
            packet.writeUInt16BE(++sequence & 0xffff, 2);
            packet.writeUInt32BE(sequence * 160, 4);
            this.socket.send(packet, port, '127.0.0.1');
        }, 20);
    }

    sendDtmf() { return false; }

    close() {
        clearInterval(this.timer);
        this.socket?.close();
        this.socket = null;
    }
}


export class SipUser {

    /** Gets an identity and registers. o: base, origin, user */
    static async start(o) {
        const user = new SipUser();
        const origin = o.origin ?? new URL(o.base).origin;

        user.name = o.user;
        user.invitations = [];
        user.messages = [];
        globalThis.WebSocket = browserSocket(origin);

        user.access = new ImsAccess({
            url: `${o.base}/ims/identity`,
            fetch: browserFetch(origin, o.user),
        });
        user.id = await user.access.open();
        user.impu = user.id.impu;

        user.agent = new UserAgent({
            uri: UserAgent.makeURI(user.impu), logLevel: 'error',
            transportOptions: { server: user.id.ws_uri },
            sipExtension100rel: 'Supported',
            sessionDescriptionHandlerFactory: () => new PlainRtp(),
            delegate: {
                onInvite: (invitation) => {
                    watch(invitation);
                    user.invitations.push(invitation);
                },
                onMessage: (message) => {
                    user.messages.push(message.request);
                    message.accept();
                },
            },
        });

        // with a reg-id SIP.js names its instance too: that is what a new
        // connection takes over the old one's calls by
        user.registerer = new Registerer(user.agent, {
            logConfiguration: false, regId: 1,
        });
        user.binding = sipjs(user.agent, user.registerer);
        user.access.attach(user.binding);
        await user.agent.start();
        await until(() => user.registered, `registration of ${o.user}`);

        return user;
    }

    get registered() {
        return this.registerer.state === RegistererState.Registered;
    }

    /** Sends a message; its final answer, SIP.js' */
    write(to, text) {
        return new Promise((resolve, reject) => {
            new Messager(this.agent, UserAgent.makeURI(to.impu ?? to), text)
                .message({ requestDelegate: {
                    onAccept: ({ message }) => resolve(message),
                    onReject: ({ message }) => resolve(message),
                } }).catch(reject);
        });
    }

    /** Calls; the session, with answers: what was answered */
    async call(to) {
        const session = new Inviter(this.agent,
                                    UserAgent.makeURI(to.impu ?? to));

        watch(session);
        session.answers = [];

        const keep = ({ message }) => { session.answers.push(message); };

        await session.invite({ requestDelegate: {
            onProgress: keep, onAccept: keep, onReject: keep,
        } });

        return session;
    }

    /** The next call that comes in */
    async called() {
        await until(() => this.invitations.length,
                    `a call for ${this.name}`);
        return this.invitations.shift();
    }

    /** The next message that comes in */
    async wrote() {
        await until(() => this.messages.length,
                    `a message for ${this.name}`);
        return this.messages.shift();
    }

    get connected() { return this.registered && this.agent.isConnected(); }

    /** Cuts the connection behind SIP.js' back; it will connect again */
    async cut() {
        this.agent.transport.ws.terminate();
        await until(() => !this.agent.isConnected(), 'the loss');
    }

    /** Is gone, without a word */
    async vanish() {
        await this.cut();
        this.binding.detach();
    }

    async stop() { await this.access.close(); }

    get stopped() { return this.agent.state === UserAgentState.Stopped; }
}


function watch(session) {
    session.infos = [];
    session.delegate = {
        onInfo: (info) => {
            session.infos.push(info.request);
            info.accept();
        },
        onInvite: (request) => { session.reinvited = request; },
    };
}


export const established = (...sessions) => Promise.all(sessions.map(
    (s) => until(() => s.state === SessionState.Established, 'the call')));

export const ended = (...sessions) => Promise.all(sessions.map(
    (s) => until(() => s.state === SessionState.Terminated,
                 'the end of the call')));

/** packets that a session got */
export const received = (session) => session.sessionDescriptionHandler.received;

/** who it is, as the network says */
export const asserted = (request) =>
    request.getHeader('P-Asserted-Identity') ?? '(nobody)';
