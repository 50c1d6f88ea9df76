/*
 * What a page does for IMS beyond SIP: it gets an identity and its token
 * from the site (POST), renews lease and token before they end, hands each
 * new token to the SIP user agent, and gives the identity back (DELETE).
 *
 * An ES module without dependencies, for JsSIP and SIP.js alike:
 *
 *     const access = new ImsAccess({ url: '/ims/identity' });
 *     const id = await access.open();
 *
 *     const ua = new JsSIP.UA({                       // JsSIP
 *         sockets: [new JsSIP.WebSocketInterface(id.ws_uri)],
 *         uri: id.impu, authorization_jwt: access.authorization,
 *     });
 *     access.attach(jssip(ua));
 *     ua.start();
 *     ...
 *     await access.close();                           // sign out
 *
 * With SIP.js the agent is made by sipjs(userAgent, registerer) instead, the
 * registerer with regId: 1, so that calls outlive a lost connection.
 *
 * Events (EventTarget; event.detail):
 *   identity   { identity, previous }  another identity than before (or the
 *              first): the user agent has to be made anew for it
 *   renewed    { identity }            same identity; fresh token, handed on
 *   retry      { error, seconds }      could not renew; tried again then
 *   denied     { error }               the site refuses: no more tries
 *   closed     {}                      signed out
 */

const RETRY_MIN = 1;        // seconds between tries, doubled up to
const RETRY_MAX = 30;
const SLICE = 15;           // a timer sleeps with the machine: look this often
const TIMEOUT = 10;         // for one request to the site


/** The site's answer to a request, where it was not a good one. */
export class ImsAccessError extends Error {
    /** status: of HTTP, 0 without an answer; code: of the site's JSON;
     *  retryAfter: seconds, undefined if the site named none */
    constructor(status, code, retryAfter) {
        super(status ? `the site answered ${status}${code ? ` (${code})` : ''}`
                     : `the site cannot be reached${code ? ` (${code})` : ''}`);
        this.name = 'ImsAccessError';
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** asking again will not help: the user, not the site, is the matter */
    get final() {
        return this.status >= 400 && this.status < 500
               && ![408, 409, 425, 429].includes(this.status);
    }
}


export class ImsAccess extends EventTarget {

    /**
     * options.url          of the site's identity endpoint
     * options.headers      more headers for it (Authorization, ...)
     * options.credentials  as of fetch(); 'include' for another site's
     * options.renewAt      share of the token's life after which it is
     *                      renewed (0.5)
     * options.fetch, options.timers, options.now   for tests
     */
    constructor(options = {}) {
        super();

        this.url = options.url ?? '/ims/identity';
        this.headers = options.headers ?? {};
        this.credentials = options.credentials ?? 'same-origin';
        this.renewAt = options.renewAt ?? 0.5;
        this.fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
        this.timers = options.timers ?? globalThis;
        this.now = options.now ?? Date.now;

        /** the site's last answer: impi, impu, impus, lease, token, ws_uri,
         *  home_domain, expires_in; null before open() and after close() */
        this.identity = null;

        /** when the token ends, by this machine's clock, in ms */
        this.expiresAt = 0;

        /** when it will be renewed */
        this.renewsAt = 0;

        this.agent = null;
        this.failures = 0;
        this.retrying = false;
        this.denied = false;
        this.timer = null;
        this.pending = null;

        // back from sleep or from no network: the timers may be late
        this.wake = () => this.#tick();
        globalThis.addEventListener?.('online', this.wake);
        globalThis.document?.addEventListener('visibilitychange', this.wake);
    }

    /** The value of a SIP Authorization header (RFC 8898). */
    get authorization() {
        return this.identity ? `Bearer ${this.identity.token}` : '';
    }

    /** Gets an identity; resolves to it, rejects with ImsAccessError. From
     *  then on it is renewed until close(). */
    async open() {
        return this.renew();
    }

    /** Asks for a fresh token now (a second call waits for the first one). */
    renew() {
        this.pending ??= this.#renew().finally(() => {
            this.pending = null;
        });

        return this.pending;
    }

    /** The user agent that is given each fresh token; see jssip(), sipjs(). */
    attach(agent) {
        this.agent?.detach();
        this.agent = agent;
        agent.attached(this);
        agent.token(this.authorization);
    }

    /** Signs out: de-registers, then gives the lease back. Never rejects for
     *  a site that cannot be reached: the lease then ends by itself. */
    async close() {
        const { agent, identity } = this;

        globalThis.removeEventListener?.('online', this.wake);
        globalThis.document?.removeEventListener('visibilitychange',
                                                 this.wake);
        this.agent = null;

        await this.pending?.catch(() => {});
        this.#sleep(0);
        await agent?.stop().catch(() => {});
        agent?.detach();

        this.identity = null;
        this.expiresAt = 0;

        if (identity) {
            const query = `lease=${encodeURIComponent(identity.lease)}`;
            await this.#request('DELETE', `${this.url}?${query}`)
                .catch(() => {});
        }

        this.#emit('closed', {});
    }

    /** The user agent was refused: by an old token if the status is 401, or
     *  the lease ended (403). Agents call this. */
    refused(status) {
        // one that comes while a try is due anyway must not put it off: a
        // user agent may come back, and be refused, faster than we ask
        if (this.identity && !this.retrying && !this.pending && !this.denied
            && (status === 401 || status === 403))
        {
            this.#again(new ImsAccessError(status, 'refused by the edge'));
        }
    }

    /** The registrar has taken the token. Agents call this. */
    accepted() {
        this.failures = 0;
    }

    async #renew() {
        const previous = this.identity;
        const asked = this.now();
        let identity;

        this.#sleep(0);
        this.retrying = this.denied = false;

        try {
            identity = await this.#request('POST', this.url);

        } catch (error) {
            if (!previous) {
                throw error;
            }

            if (error.final) {
                this.denied = true;
                this.#emit('denied', { error });

            } else {
                this.#again(error);
            }

            throw error;
        }

        // the token's life counts from when it was asked for: the safe side
        this.identity = identity;
        this.expiresAt = asked + identity.expires_in * 1000;
        this.renewsAt = asked + identity.expires_in * 1000 * this.renewAt;
        this.#sleep(this.renewsAt);

        if (!previous || previous.impi !== identity.impi
            || previous.impu !== identity.impu)
        {
            this.agent?.detach();
            this.agent = null;
            this.failures = 0;
            this.#emit('identity', { identity, previous });

        } else {
            this.agent?.token(this.authorization);
            this.agent?.register();
            this.#emit('renewed', { identity });
        }

        return identity;
    }

    async #request(method, url) {
        let response, body;

        try {
            response = await this.fetch(url, {
                method, headers: this.headers, credentials: this.credentials,
                cache: 'no-store', keepalive: method === 'DELETE',
                signal: AbortSignal.timeout(TIMEOUT * 1000),
            });

            body = response.status === 204 ? null
                : await response.json().catch(() => null);

        } catch (cause) {
            throw new ImsAccessError(0, cause.name);
        }

        if (!response.ok) {
            const after = Number(response.headers.get('Retry-After'));
            throw new ImsAccessError(response.status,
                                     body?.error ?? body?.code,
                                     after > 0 ? after : undefined);
        }

        if (method === 'POST' && !(body?.token && body.expires_in > 0)) {
            throw new ImsAccessError(response.status, 'no token in it');
        }

        return body;
    }

    /* once more after a while: 1 s, 2 s, 4 s ... 30 s, each made a little
     * longer by chance, so that a site that was down is not asked by all at
     * the same time */
    #again(error) {
        const backoff = Math.min(RETRY_MIN * 2 ** this.failures++, RETRY_MAX);
        const seconds = Math.max(backoff, error.retryAfter ?? 0)
                        * (1 + Math.random() / 2);

        this.retrying = true;
        this.renewsAt = this.now() + seconds * 1000;
        this.#sleep(this.renewsAt);
        this.#emit('retry', { error, seconds });
    }

    #sleep(until) {
        this.timers.clearTimeout(this.timer);
        this.timer = null;

        if (until) {
            const left = Math.max(until - this.now(), 0);
            this.timer = this.timers.setTimeout(
                () => this.#tick(), Math.min(left, SLICE * 1000));
        }
    }

    #tick() {
        if (!this.identity || this.pending || this.timer === null) {
            return;
        }

        if (this.now() >= this.renewsAt) {
            this.renew().catch(() => {});

        } else {
            this.#sleep(this.renewsAt);
        }
    }

    #emit(type, detail) {
        // (CustomEvent is missing from Node 18)
        this.dispatchEvent(Object.assign(new Event(type), { detail }));
    }
}


/** The agent for a JsSIP.UA (3.10 or newer). JsSIP sends the token with
 *  every request, and connects again by itself. */
export function jssip(ua) {
    let access = null;
    let stopping = null;

    const on = {
        registered: () => access?.accepted(),
        registrationFailed: ({ response }) => {
            access?.refused(response?.status_code);
        },
        disconnected: ({ code }) => {
            stopping?.();

            // policy violation: the edge has ended this flow for good
            if (code === 1008) {
                access?.refused(403);
            }
        },
        unregistered: () => stopping?.(),
    };

    for (const [name, handler] of Object.entries(on)) {
        ua.on(name, handler);
    }

    return {
        attached: (by) => { access = by; },

        detach: () => {
            access = null;
            for (const [name, handler] of Object.entries(on)) {
                ua.removeListener(name, handler);
            }
        },

        token: (authorization) => {
            ua.set('authorization_jwt', authorization);
        },

        register: () => {
            if (ua.isConnected()) {
                ua.register();
            }
        },

        stop: () => new Promise((resolve) => {
            const done = () => {
                clearTimeout(timer);
                ua.stop();
                resolve();
            };
            const timer = setTimeout(done, 3000);

            if (!ua.isRegistered()) {
                done();
                return;
            }

            stopping = done;
            ua.unregister();
        }),
    };
}


/** The agent for SIP.js (0.20 or newer): a UserAgent and its Registerer.
 *  SIP.js leaves the token to the page, de-registration included, and does
 *  not connect again by itself: both are done here, and the REGISTER that
 *  follows each connect too, so that a page has only to start the agent. */
export function sipjs(userAgent, registerer) {
    let access = null;
    let authorization = '';
    let attempt = 0;
    let stopped = false;
    let timer = null;

    const requestOptions = () => ({
        extraHeaders: authorization ? [`Authorization: ${authorization}`] : [],
    });

    const register = () => registerer.register({
        requestOptions: requestOptions(),
        requestDelegate: {
            onAccept: () => access?.accepted(),
            onReject: (response) => {
                access?.refused(response.message.statusCode);
            },
        },
    }).catch(() => {});     // one is under way already

    const reconnect = () => {
        clearTimeout(timer);

        if (stopped) {
            return;
        }

        const seconds = Math.min(2 ** attempt++, RETRY_MAX)
                        * (0.5 + Math.random() / 2);

        timer = setTimeout(() => {
            userAgent.reconnect().catch(reconnect);
        }, seconds * 1000);
    };

    const before = userAgent.delegate ?? {};

    userAgent.delegate = {
        ...before,
        onConnect: () => {
            before.onConnect?.();
            attempt = 0;
            register();
        },
        onDisconnect: (error) => {
            before.onDisconnect?.(error);
            if (error) {
                // closed by the edge for good (1008), or lost
                if (/\b1008\b/.test(error.message)) {
                    access?.refused(403);
                }
                reconnect();
            }
        },
    };

    return {
        attached: (by) => { access = by; },

        detach: () => {
            access = null;
            stopped = true;
            clearTimeout(timer);
            userAgent.delegate = before;
        },

        token: (value) => { authorization = value; },

        register: () => {
            if (userAgent.isConnected()) {
                register();
            }
        },

        stop: async () => {
            stopped = true;
            clearTimeout(timer);

            await new Promise((resolve) => {
                const limit = setTimeout(resolve, 3000);
                const done = () => { clearTimeout(limit); resolve(); };

                if (!userAgent.isConnected()) {
                    done();
                    return;
                }

                registerer.unregister({
                    requestOptions: requestOptions(),
                    requestDelegate: { onAccept: done, onReject: done },
                }).catch(done);
            });

            await userAgent.stop();
        },
    };
}
